"""What decisions earned: predictions joined to their outcomes, in money and in quality per month.

Each prediction event carries what its action earns under each outcome, as declared when it was made, so that later
changes of the values table do not rewrite history, and SQL can do the same sums (``EARNED_SQL``).
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from sampan.base.clock import from_micros, to_micros
from sampan.log.outcomes import KNOWN_SQL
from sampan.serve.decisions import outcome_key

# The last outcome received of a prediction counts, and what people made of it, where they were asked. Use it as a
# table: ``tables/earned.sql``.
EARNED_SQL: Final = f"""
WITH known AS (
    {KNOWN_SQL}
), settled AS (
    SELECT prediction_id, endpoint, action, value FROM review WHERE starts_with(_position, 'reviews:')
)
SELECT
    prediction._id AS prediction_id,
    prediction._time AS asked,
    prediction.endpoint,
    prediction.version,
    coalesce(settled.action, prediction.action) AS action,
    known.value AS outcome,
    CAST(coalesce(settled.value, prediction.value)->'outcomes'->>CAST(known.value AS VARCHAR) AS DECIMAL(18, 6))
        AS earned
FROM prediction
JOIN known ON known.prediction_id = prediction._id
LEFT JOIN settled ON settled.prediction_id = prediction._id AND settled.endpoint = prediction.endpoint
"""


class Decided(NamedTuple):
    """One decision and, once it is known, what turned out to be true."""

    id: str
    time: int
    version: str
    prediction: Any
    action: str
    value: Mapping[str, Any] | None
    outcome: Any = None


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions of one month. ``value_per_1000`` counts those whose outcome is known; None where there are none."""

    month: str
    decisions: int
    known: int
    actions: dict[str, int]
    currency: str
    value: float
    value_per_1000: float | None
    expected_per_1000: float | None
    base_rate: float | None
    auc: float | None
    brier: float | None


def earned(value: Mapping[str, Any] | None, outcome: Any) -> float | None:
    """What an action earned, given the outcome; None where the values table does not say."""
    if value is None or outcome is None:
        return None
    table: Mapping[str, float] = value.get("outcomes") or {}
    key = outcome_key(outcome)
    if key not in table and key in ("0", "1"):
        key = "true" if key == "1" else "false"
    return table.get(key)


def join(predictions: Any, outcomes: Any) -> list[Decided]:
    """Decisions with their outcomes. Takes Arrow tables or rows, with the log's column names or the events' own.

    A prediction without an outcome stays, with None; of several outcomes the last one given counts. They are joined by
    prediction id: where outcomes name their predictions otherwise, give the rows of ``KNOWN_SQL``.
    """
    known = {row["prediction_id"]: _outcome(row["value"]) for row in _rows(outcomes)}
    decided = []
    for row in _rows(predictions):
        identity = row["_id"] if "_id" in row else row["id"]
        decided.append(
            Decided(
                identity,
                _micros(row["_time"] if "_time" in row else row["time"]),
                row["version"],
                _json(row["prediction"]),
                row["action"],
                _json(row["value"]),
                known.get(identity),
            )
        )
    return decided


def by_month(decided: Iterable[Decided]) -> list[Month]:
    """Figures per calendar month (UTC) of the time asked about, in order.

    AUC, Brier and base rate are those of true-or-false outcomes (``sampan.models.metrics`` names their sources); a
    month with one class only has no AUC. The order of rows does not change a digit.
    """
    months: dict[str, list[Decided]] = {}
    for one in sorted(decided, key=lambda one: (one.time, one.id)):
        months.setdefault(f"{from_micros(one.time):%Y-%m}", []).append(one)
    return [_month(name, months[name]) for name in sorted(months)]


def _month(name: str, decided: list[Decided]) -> Month:
    from sampan.models import metrics

    sums = [amount for one in decided if (amount := earned(one.value, one.outcome)) is not None]
    expected = [one.value["expected"] for one in decided if one.value and one.value.get("expected") is not None]
    truth, scores = [], []
    for one in decided:
        if isinstance(one.outcome, bool) and isinstance(one.prediction, (int, float)):
            truth.append(one.outcome)
            scores.append(float(one.prediction))
    total = math.fsum(sums)
    return Month(
        month=name,
        decisions=len(decided),
        known=sum(one.outcome is not None for one in decided),
        actions=dict(sorted(Counter(one.action for one in decided).items())),
        currency=next((one.value["currency"] for one in decided if one.value), ""),
        value=total,
        value_per_1000=total / len(sums) * 1000 if sums else None,
        expected_per_1000=math.fsum(expected) / len(expected) * 1000 if expected else None,
        base_rate=metrics.base_rate(truth),
        auc=metrics.auc(truth, scores),
        brier=metrics.brier(truth, scores),
    )


def _rows(given: Any) -> Iterable[Mapping[str, Any]]:
    rows: Iterable[Mapping[str, Any]] = given.to_pylist() if hasattr(given, "to_pylist") else given
    return rows


def _micros(given: Any) -> int:
    if isinstance(given, str):
        given = datetime.fromisoformat(given)
    return to_micros(given) if isinstance(given, datetime) else int(given)


def _json(given: Any) -> Any:
    """A column that SQL keeps as JSON text, or the value itself."""
    if not isinstance(given, (str, bytes)):
        return given
    try:
        return msgspec.json.decode(given)
    except msgspec.DecodeError:
        return given


def _outcome(given: Any) -> Any:
    found = _json(given)
    return {"true": True, "false": False}.get(found, found) if isinstance(found, str) else found
