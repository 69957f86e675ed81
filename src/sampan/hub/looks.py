"""Looks into snapshots: their first rows and their profile. A snapshot never changes, so each is worked out once."""

import threading
from typing import Any, Final

from sampan.base.errors import SampanError
from sampan.hub.parts import Parts
from sampan.lake.lake import Snapshot
from sampan.lake.profile import Profile
from sampan.lake.query import open_sources

SAMPLE: Final = 20
_KEPT: Final = 64
_PATIENCE: Final = 0.05  # seconds that a page waits for a profile which is not there yet

_samples: dict[str, list[list[Any]]] = {}
_profiles: dict[str, Profile] = {}
_under_way: dict[str, threading.Thread] = {}
_lock = threading.Lock()


def sample(parts: Parts, snapshot: Snapshot) -> list[list[Any]]:
    """The first rows. Raises SampanError if they cannot be read."""
    with _lock:
        if (known := _samples.get(snapshot.id)) is not None:
            return known
    connection = open_sources({"it": parts.lake.source_of(snapshot)}, threads=1)
    try:
        found = [list(row) for row in connection.execute(f"SELECT * FROM it LIMIT {SAMPLE}").fetchall()]
    finally:
        connection.close()
    _keep(_samples, snapshot.id, found)
    return found


def profile(parts: Parts, snapshot: Snapshot) -> Profile | None:
    """Nulls, range, distinct values and a histogram per column. None while they are worked out, in a thread; a command
    does not begin to."""
    with _lock:
        if (known := _profiles.get(snapshot.id)) is not None:
            return known
    if (known := parts.lake.profiled(snapshot.id)) is not None:
        _keep(_profiles, snapshot.id, known)
        return known
    if parts.pulse is None:
        return None
    with _lock:
        thread = _under_way.get(snapshot.id)
        if thread is None:
            thread = threading.Thread(target=_work, args=(parts, snapshot.id), daemon=True, name="profile")
            _under_way[snapshot.id] = thread
            thread.start()
    thread.join(_PATIENCE)
    return _profiles.get(snapshot.id)


def _work(parts: Parts, id: str) -> None:
    try:
        _keep(_profiles, id, parts.lake.profile(id))
    except SampanError:
        pass  # the page tells it, since it cannot read the rows either
    finally:
        with _lock:
            _under_way.pop(id, None)


def _keep(where: dict[str, Any], id: str, value: Any) -> None:
    with _lock:
        where[id] = value
        while len(where) > _KEPT:
            del where[next(iter(where))]
