"""Files that nobody keeps, of each kind: tables, bytes, artifacts, logs of runs, and what caches hold of what is gone.

The log, its attachments and the subjects' keys are not looked at: nothing here may ever remove them.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from sampan.keep.reach import Reach
from sampan.store.blobs import Blobs
from sampan.track import tracking
from sampan.track.artifacts import all_named

TABLES: Final = "table files"
BYTES: Final = "blobs"
ARTIFACTS: Final = "artifacts"
LOGS: Final = "logs of runs"
CACHES: Final = "cached files"
FILES: Final = (TABLES, BYTES, ARTIFACTS, LOGS, CACHES)
_FOLDERS: Final = {TABLES: "lake", BYTES: "blobs", ARTIFACTS: tracking.ARTIFACTS}
_UNUSED: Final = 30 * 86_400.0  # seconds after which an environment that nobody used may go
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_SNAPSHOT: Final = re.compile(r"t1-[0-9a-f]{32}")


class Found(NamedTuple):
    """A file, or a run's folder: its size, when it was last put there, and what keeps it, if anything does."""

    kind: str
    name: str
    path: Path
    bytes: int
    changed: float
    why: str | None


def look(data: Path, reach: Reach, known_snapshots: set[str]) -> Iterator[Found]:
    """Everything of these kinds that lies in a workspace's data."""
    yield from _digests(TABLES, data / "lake", reach.lake)
    yield from _digests(BYTES, data / "blobs", reach.bytes)
    yield from _digests(ARTIFACTS, data / tracking.ARTIFACTS, artifacts_of(data))
    for path in _inside(data / "runs"):
        yield _found(LOGS, path, reach.logs.get(path.name))
    cache = data / "cache"
    for folder in ("profiles", "diffs"):
        for path in _inside(cache / folder):
            named = set(_SNAPSHOT.findall(path.name))
            kept = named and named <= known_snapshots and path.suffix == ".json"
            yield _found(CACHES, path, "of kept tables" if kept else None)
    for path in _inside(cache / "marks"):
        yield _found(CACHES, path, "of kept tables" if path.name in reach.lake else None)
    for path in _inside(cache / "slices"):  # of no use to anybody but the run that made them
        yield _found(CACHES, path, None)
    for path in _inside(cache / "environments"):
        one = _found(CACHES, path, None)
        used = path.suffix == ".lock" or one.changed > time.time() - _UNUSED
        serves = reach.served_in.intersection(kept.name for kept in _inside(path / "serves"))
        why = "what is in force runs in it" if serves else "an environment used within a month" if used else None
        yield one._replace(why=why) if why else one
    yield from _projections(cache / "projections", data / "log")


def artifacts_of(data: Path) -> dict[str, str]:
    """Digest → who names it, for all artifacts of logged runs and models; of those that were put out of sight, too."""
    records = tracking.open_database(data, writable=False)
    try:
        return {name: f"artifact {owner}" for name, owner in all_named(records)}
    finally:
        records.close()


def _digests(kind: str, folder: Path, kept: dict[str, str]) -> Iterator[Found]:
    for home in _inside(folder):
        if len(home.name) == 2:
            for path in _inside(home):
                name = home.name + path.name
                yield _found(kind, path, kept.get(name) if _DIGEST.fullmatch(name) else None, name)


def _projections(folder: Path, log: Path) -> Iterator[Found]:
    """Typed copies of sealed segments. The newest of a segment is of use; older ones are of older contracts."""
    for type_ in _inside(folder):
        for stream in _inside(type_):
            newest: dict[str, float] = {}
            copies = [_found(CACHES, path, None) for path in _inside(stream)]
            for one in copies:
                newest[one.path.name[:8]] = max(newest.get(one.path.name[:8], 0.0), one.changed)
            for one in copies:
                number = one.path.name[:8]
                there = one.path.suffix == ".parquet" and (log / stream.name / f"{number}.json").exists()
                yield one._replace(why="of a segment" if there and one.changed == newest[number] else None)


def remove(one: Found, data: Path, before: float) -> bool:
    """Remove it, unless it has been put there anew since an instant (seconds). Whether it went."""
    if one.kind in _FOLDERS and _DIGEST.fullmatch(one.name):
        return Blobs(data / _FOLDERS[one.kind]).discard(one.name, before)
    if _changed(one.path) >= before:
        return False
    if one.path.is_dir():
        shutil.rmtree(one.path, ignore_errors=True)
    else:
        one.path.unlink(missing_ok=True)
    return True


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _found(kind: str, path: Path, why: str | None, name: str = "") -> Found:
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else _size(path)
    return Found(kind, name or path.name, path, size, _changed(path), why)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _changed(path: Path) -> float:
    """When a file, or the newest of a folder's files, was last put there."""
    try:
        times = [path.stat().st_mtime]
        if path.is_dir():
            times += [os.stat(file).st_mtime for file in path.iterdir()]  # noqa: PTH116 - many of them
        return max(times)
    except FileNotFoundError:
        return 0.0
