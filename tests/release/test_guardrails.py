"""Guardrails: breached when shown to be, holding where enough was seen, else not known."""

import math
from typing import Any

import numpy as np
import pytest

from sampan.release.evidence import Lines, Terms, between_arms, gather
from sampan.release.guardrails import exposure, failed, floor, metric, rate


def test_a_rate_is_breached_when_it_is_shown_and_known_once_enough_was_seen() -> None:
    asked: dict[str, Any] = {"at_most": 0.01, "level": 0.01, "least": 100}
    assert rate("errors", 0, 0, "failed", **asked).standing == "not known"
    assert rate("errors", 0, 99, "failed", **asked).standing == "not known"
    assert rate("errors", 1, 100, "failed", **asked).standing == "holds"
    assert rate("errors", 3, 100, "failed", **asked).standing == "holds"
    assert rate("errors", 12, 300, "failed", **asked).standing == "breached"
    assert rate("errors", 8, 8, "failed", **asked).standing == "breached"
    assert rate("errors", 12, 300, "failed", **asked).says == "12 of 300 answers failed, 1 % at most"
    assert rate("errors", 0, 99, "failed", **asked).says == "99 of 100 answers that it takes to tell"


def values(mean: float, count: int = 1_000) -> Lines:
    found = np.random.default_rng(1).normal(mean, 1.0, count).tolist()
    return gather(range(count), [True] * count, [0] * count, found)


def test_a_floor_is_breached_where_the_mean_is_shown_to_lie_below() -> None:
    assert floor("kpi", values(0.7), at_least=1.0, level=0.01, units=100).standing == "breached"
    assert floor("kpi", values(1.0), at_least=1.0, level=0.01, units=100).standing == "holds"
    assert floor("kpi", values(0.7, 50), at_least=1.0, level=0.01, units=100).standing == "not known"
    assert floor("kpi", gather([], [], [], []), at_least=1.0, level=0.01, units=100).standing == "not known"


def money(chance: np.random.Generator, count: int) -> list[float]:
    """Three in ten earn, with a mean of 40 and as much deviation: skewed as what decisions earn is."""
    spread = math.sqrt(math.log(2.0))
    amounts = np.exp(chance.normal(math.log(40.0) - spread**2 / 2, spread, count))
    return [float(one) for one in np.where(chance.random(count) < 0.3, amounts, 0.0)]


def test_a_skewed_figure_that_lies_at_its_floor_is_not_called_below_it() -> None:
    chance, wrong = np.random.default_rng(5), 0
    for _ in range(400):
        found = money(chance, 400)
        lines = [gather(range(n), [True] * n, [0] * n, found[:n]) for n in (100, 140, 200, 280, 400)]
        wrong += any(floor("kpi", one, at_least=12.0, level=0.01, units=100).standing == "breached" for one in lines)
    assert wrong / 400 <= 0.01
    lost = [gather(range(n), [True] * n, [0] * n, [one / 4 for one in money(chance, n)]) for n in (150, 300)]
    assert [floor("kpi", one, at_least=12.0, level=0.01, units=100).standing for one in lost] == ["breached"] * 2


def test_another_figure_is_breached_where_it_loses_more_than_is_tolerated() -> None:
    terms = Terms(minimum=0.05, relative=False, higher=False, false_worse=0.01)
    chance = np.random.default_rng(2)
    arms = chance.random(4_000) < 0.5
    for loss, standing in ((0.0, "holds"), (0.05, "holds"), (0.2, "breached")):
        brier = chance.gamma(2.0, 0.1, 4_000) + loss * arms
        found = between_arms(gather(range(4_000), arms.tolist(), [0] * 4_000, brier.tolist()))
        assert metric("brier", found, terms).standing == standing
    assert metric("brier", between_arms(gather([], [], [], [])), terms).standing == "not known"


@pytest.mark.parametrize(
    ("amount", "standing"),
    [
        (100.0, "holds"),
        (100.01, "breached"),
        (math.inf, "breached"),
        (0, "holds"),
        (None, "not known"),
        (math.nan, "not known"),
        ("many", "not known"),
    ],
)
def test_a_cap_is_arithmetic_and_what_is_no_number_is_not_known(amount: Any, standing: str) -> None:
    assert exposure("cap", amount, at_most=100.0).standing == standing


def test_a_query_that_failed_is_not_known() -> None:
    assert failed("brier", "no table scored").standing == "not known"
