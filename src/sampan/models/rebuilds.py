"""Records of rebuilds: each time that somebody made a version anew from what is kept of it, and what came of it.

Rows are added and never changed: that a version could be rebuilt last month stays true when it cannot be any more.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import Usage
from sampan.base.ids import new_id
from sampan.store.database import Database

IDENTICAL: Final = "bit-identical"
WITHIN: Final = "within tolerance"
DIFFERENT: Final = "different"
FAILED: Final = "failed"
LEVELS: Final = (IDENTICAL, WITHIN, DIFFERENT, FAILED)
GOOD: Final = (IDENTICAL, WITHIN)
SCHEDULE: Final = "schedule"
"""Who is named where nobody asked for it."""
_EVER: Final = 1 << 62

Figure: TypeAlias = float | int | None


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one attempt. ``level`` is one of ``LEVELS``; of a failed one ``cause`` names in a word what stood in
    the way, and ``said`` tells it. ``differences``: what was not as it had been. ``metrics``: name → as they were
    recorded, and as they came out. ``environment``: ``rebuilt``, or ``running``."""

    ref: str
    level: str
    cause: str = ""
    said: str = ""
    digest: str = ""
    differences: tuple[str, ...] = ()
    metrics: dict[str, tuple[Figure, Figure]] = {}
    tolerance: float = 0.0
    environment: str = "rebuilt"
    seconds: float = 0.0


class Rebuild(msgspec.Struct, frozen=True):
    """One attempt as it was written down."""

    id: str
    model: str
    number: int
    level: str
    report: Rebuilt
    seconds: float
    actor: str
    created: int

    @property
    def good(self) -> bool:
        return self.level in GOOD


class Rebuilds:
    """The rebuilds of a workspace's versions. Writing needs the writable records."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, report: Rebuilt, *, actor: str, clock: Clock) -> Rebuild:
        """Write an attempt down. Raises Usage for a level or a version that there is not."""
        model, _, number = report.ref.partition("@")
        if report.level not in LEVELS or not number.isdecimal():
            raise Usage("Keep a rebuild", f"{report.ref!r} {report.level!r}", f"MODEL@NUMBER; {', '.join(LEVELS)}.")
        made = Rebuild(new_id(clock), model, int(number), report.level, report, report.seconds, actor, clock.micros())
        row = [msgspec.json.encode(v).decode() if v is report else v for v in msgspec.structs.astuple(made)]
        with self._db.transaction() as records:
            records.execute(f"INSERT INTO rebuilds VALUES ({', '.join('?' * len(row))})", row)
        return made

    def list(self, model: str, number: int, by: int | None = None, limit: int = 20) -> Sequence[Rebuild]:
        """The attempts at a version, the newest first; ``by``: those that there were at that instant."""
        rows = self._db.rows(
            "SELECT * FROM rebuilds WHERE model = ? AND number = ? AND created <= ?"
            " ORDER BY created DESC, rowid DESC LIMIT ?",
            (model, number, _EVER if by is None else by, limit),
        )
        return [_rebuild(row) for row in rows]

    def last_good(self, model: str, number: int, by: int | None = None) -> Rebuild | None:
        """The newest attempt at a version that succeeded."""
        return next((one for one in self.list(model, number, by, limit=1000) if one.good), None)


def _rebuild(row: Any) -> Rebuild:
    values = {name: row[name] for name in Rebuild.__struct_fields__}
    values["report"] = msgspec.json.decode(row["report"], type=Rebuilt)
    return Rebuild(**values)
