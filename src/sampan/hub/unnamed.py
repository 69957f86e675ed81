"""Outcomes whose value no action's values name: they are known, and count for nothing in money."""

from typing import Any, Final

import msgspec

from sampan.base.words import counted
from sampan.serve.value import EARNED_SQL

#: Of a prediction ``p`` joined to ``earned``: whether its action has values, and what turned out is none of them.
UNNAMED_SQL: Final = (
    "(earned.outcome IS NOT NULL AND earned.earned IS NULL"
    " AND coalesce(CAST(p.value->'outcomes' AS VARCHAR), '{}') NOT IN ('{}', 'null'))"
)
_SHOWN: Final = 3
_LONGEST: Final = 40


class Unnamed(msgspec.Struct, frozen=True):
    """How many such outcomes there are, and ``says``: that in words, with the most frequent values; empty for none."""

    count: int = 0
    says: str = ""


def unnamed(connection: Any, count: int) -> Unnamed:
    """What is said of so many of the predictions of the view ``asked``."""
    if not count:
        return Unnamed()
    rows = connection.execute(
        f"WITH earned AS ({EARNED_SQL}) SELECT CAST(earned.outcome AS VARCHAR) FROM asked AS p JOIN earned"
        f" ON earned.prediction_id = p._id WHERE {UNNAMED_SQL} GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {_SHOWN + 1}"
    ).fetchall()
    names = [name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…" for (name,) in rows]
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    verb = "has a value" if count == 1 else "have values"
    return Unnamed(count, f"{counted(count, 'outcome')} {verb} that no action knows: {shown}")
