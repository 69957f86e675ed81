"""The history of clean-ups: when, who asked, what went, how many bytes, and what stood in the way."""

from collections.abc import Sequence
from typing import Final

import msgspec

from sampan.base.clock import Clock
from sampan.base.ids import new_id
from sampan.store.database import Database

SCHEDULE: Final = "schedule"
"""Who asked for a clean-up that ``[retention] every`` began."""


class Kind(msgspec.Struct, frozen=True):
    """How much of one kind stays and how much goes. ``young``: nothing names it, but it is too new to go."""

    kind: str
    kept: int
    kept_bytes: int
    gone: int
    gone_bytes: int
    young: int = 0


class Cleanup(msgspec.Struct, frozen=True):
    """One clean-up. ``gone``: files, ``finished`` is None while they go, and if its process was killed meanwhile;
    what was left then the next one takes."""

    id: str
    actor: str
    kinds: tuple[Kind, ...]
    gone: int
    gone_bytes: int
    error: str
    started: int
    finished: int | None


class Cleanups:
    """The clean-ups of a workspace. Writing needs the writable records."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    def began(self, actor: str, kinds: Sequence[Kind], gone: int, gone_bytes: int) -> Cleanup:
        """Write down what goes, in the transaction in which its records do."""
        return self._put(Cleanup(new_id(self._clock), actor, tuple(kinds), gone, gone_bytes, "", self._now(), None))

    def failed(self, actor: str, error: str) -> Cleanup:
        """Write down one that removed nothing, and why."""
        return self._put(Cleanup(new_id(self._clock), actor, (), 0, 0, error, self._now(), self._now()))

    def ended(self, cleanup: Cleanup) -> None:
        """All files have gone."""
        with self._db.transaction() as records:
            records.execute("UPDATE cleanups SET finished = ? WHERE id = ?", (self._now(), cleanup.id))

    def list(self, limit: int = 20) -> list[Cleanup]:
        """Newest first."""
        rows = self._db.rows("SELECT * FROM cleanups ORDER BY started DESC, rowid DESC LIMIT ?", (limit,))
        return [
            Cleanup(**{**dict(row), "kinds": msgspec.json.decode(row["kinds"], type=tuple[Kind, ...])}) for row in rows
        ]

    def due(self, every: int) -> bool:
        """Whether the last one began so many seconds ago, or there was none."""
        last = next(iter(self.list(1)), None)
        return last is None or self._now() - last.started >= every * 1_000_000

    def _put(self, made: Cleanup) -> Cleanup:
        row = [msgspec.json.encode(v).decode() if isinstance(v, tuple) else v for v in msgspec.structs.astuple(made)]
        with self._db.transaction() as records:
            records.execute(f"INSERT INTO cleanups VALUES ({', '.join('?' * len(row))})", row)
        return made

    def _now(self) -> int:
        return self._clock.micros()
