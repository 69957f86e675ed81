"""Figures of a month of decisions: AUC, Brier score, money per 1,000. The demo's own arithmetic, from the answers
that it got; the workspace computes the same in SQL from the log, and the demo compares the two."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from sampan.models.metrics import auc, brier


class Decided(NamedTuple):
    """One decision whose outcome is known."""

    month: str
    probability: float
    action: str
    returned: bool


class Month(NamedTuple):
    """What a month of decisions came to; ``auc`` is None when all outcomes are the same."""

    decisions: int
    returned: float
    auc: float | None
    brier: float
    value: float


def by_month(decided: Iterable[Decided], values: dict[str, dict[str, float]]) -> dict[str, Month]:
    """The figures of each month, by the month of the order. ``values``: what an action earns per outcome."""
    months: dict[str, list[Decided]] = defaultdict(list)
    for case in decided:
        months[case.month].append(case)
    return {month: figures(cases, values) for month, cases in sorted(months.items())}


def figures(cases: list[Decided], values: dict[str, dict[str, float]]) -> Month:
    truth = np.array([case.returned for case in cases])
    score = np.array([case.probability for case in cases])
    earned = sum(values[case.action]["true" if case.returned else "false"] for case in cases)
    return Month(
        len(cases),
        float(truth.mean()),
        auc(truth, score),
        brier(truth, score) or 0.0,
        earned / len(cases) * 1000,
    )
