"""Records of golden requests that were asked again: when, by whom, and whether the answers were those of training.

Rows are added and never changed.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sampan.base.clock import Clock
from sampan.base.ids import new_id
from sampan.store.database import Database

TOLERANCE: Final = 1e-6
"""How far an answer may lie from the one of then; of answers above 1, as a share of them."""
_EVER: Final = 1 << 62


class GoldenCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What came of asking again. ``worst``: the largest distance of an answer from the one of then, None if one cannot
    be compared (``sampan.models.golden.distance``); ``examples``: the first that differ, in words."""

    ref: str
    cases: int
    different: int
    worst: float | None
    tolerance: float = TOLERANCE
    examples: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        return self.different == 0


class GoldenChecked(msgspec.Struct, frozen=True):
    """One check as it was written down."""

    id: str
    model: str
    number: int
    report: GoldenCheck
    actor: str
    created: int


class GoldenChecks:
    """The checks of a workspace's versions. Writing needs the writable records."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, report: GoldenCheck, *, actor: str, clock: Clock) -> GoldenChecked:
        """Write a check of ``MODEL@NUMBER`` down."""
        model, _, number = report.ref.rpartition("@")
        made = GoldenChecked(new_id(clock), model, int(number), report, actor, clock.micros())
        text = msgspec.json.encode(report).decode()
        with self._db.transaction() as records:
            records.execute(
                "INSERT INTO golden_checks (id, model, number, report, actor, created) VALUES (?, ?, ?, ?, ?, ?)",
                (made.id, model, made.number, text, actor, made.created),
            )
        return made

    def list(self, model: str, number: int, by: int | None = None, limit: int = 20) -> Sequence[GoldenChecked]:
        """The checks of a version, the newest first; ``by``: those that there were at that instant."""
        rows = self._db.rows(
            "SELECT * FROM golden_checks WHERE model = ? AND number = ? AND created <= ?"
            " ORDER BY created DESC, rowid DESC LIMIT ?",
            (model, number, _EVER if by is None else by, limit),
        )
        return [_checked(row) for row in rows]


def _checked(row: Any) -> GoldenChecked:
    report = msgspec.json.decode(row["report"], type=GoldenCheck)
    return GoldenChecked(row["id"], row["model"], row["number"], report, row["actor"], row["created"])
