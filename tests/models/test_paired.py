"""Differences of two models with their intervals: known answers, and how often an interval is wrong."""

import numpy as np
import pytest

from sampan.models.metrics import ranking
from sampan.models.paired import DRAWS, METRICS, Estimate, Pair, compare, estimate, figures, verdict


def pair(base: float | None, candidate: float | None, draws: float = 0.0) -> Pair:
    return Pair(base, candidate, np.full(DRAWS, draws))


def test_the_interval_lies_around_the_mean_difference_of_the_seeds() -> None:
    found = estimate([pair(0.5, 0.6), pair(0.5, 0.7), pair(0.5, 0.8)])
    assert (found.base, found.candidate, found.difference) == pytest.approx((0.5, 0.7, 0.2))
    # no variance of rows: t with 2 degrees of freedom, times the standard error of the three
    assert found.high == pytest.approx(0.2 + 4.303 * 0.1 / np.sqrt(3))
    assert found.low == pytest.approx(0.2 - 4.303 * 0.1 / np.sqrt(3))


def test_without_variance_of_the_seeds_the_rows_alone_make_it_wide() -> None:
    draws = np.random.default_rng(1).normal(0.1, 0.02, DRAWS)
    found = estimate([Pair(0.5, 0.6, draws), Pair(0.5, 0.6, draws)])
    assert found.high is not None
    assert found.high - 0.1 == pytest.approx(1.96 * draws.std(ddof=1))


def test_where_a_figure_is_not_defined_there_is_no_interval() -> None:
    assert estimate([pair(None, 0.5)] * 3) == Estimate(None, None, None, None, None)
    assert estimate([pair(0.5, 0.6), pair(None, 0.6)])[:3] == pytest.approx((0.5, 0.6, 0.1))
    assert estimate([pair(0.5, 0.6), pair(None, 0.6)])[3:] == (None, None)
    assert estimate([Pair(0.5, 0.6, np.full(DRAWS, np.nan))] * 2).low is None


@pytest.mark.parametrize(
    ("metric", "low", "high", "said"),
    [
        ("auc", 0.1, 0.2, "better"),
        ("auc", -0.2, -0.1, "worse"),
        ("brier", 0.1, 0.2, "worse"),
        ("mae", -2.0, -1.0, "better"),
        ("r2", -0.1, 0.1, "no difference shown"),
        ("log_loss", 0.0, 0.0, "no difference shown"),
        ("auc", None, None, "not known"),
    ],
)
def test_the_verdict_knows_which_way_is_better(metric: str, low: float | None, high: float | None, said: str) -> None:
    assert verdict(metric, Estimate(0.5, 0.6, 0.1, low, high)) == said


@pytest.mark.parametrize("kind", METRICS)
def test_every_kind_of_model_is_compared_on_all_rows_and_on_parts(kind: str) -> None:
    chance = np.random.default_rng(2)
    truth = chance.integers(0, 2, 80).astype(float) if kind != "regression" else chance.normal(size=80)
    right, wrong = 0.8 * truth + 0.1, chance.random(80)
    if kind == "multiclass":
        right, wrong = (np.column_stack([1 - one, one]) for one in (right, wrong))
        truth = truth.astype(int)
    part = np.arange(80) < 40
    unit, units = (np.arange(80), 80) if kind != "ranking" else (np.arange(80) // 4, 20)
    whole, half = compare(kind, truth, wrong, right, unit, units, [np.ones(80, bool), part])
    assert tuple(whole) == METRICS[kind]
    for name in METRICS[kind]:
        grouped = ranking(truth[part], right[part], unit[part])[name] if kind == "ranking" else None
        assert half[name].candidate == (grouped or figures(kind, truth[part], right[part])[name])
        drawn = whole[name].draws[~np.isnan(whole[name].draws)]
        assert len(drawn) == DRAWS and drawn.std() > 0
        assert verdict(name, estimate([whole[name]] * 3)) == "better"


def test_rows_of_one_unit_are_drawn_together() -> None:
    truth, base = np.zeros(80), np.full(80, 0.5)
    candidate = np.repeat(np.random.default_rng(3).random(8), 10)
    alone, together = (
        compare("regression", truth, base, candidate, unit, units, [np.ones(80, bool)])[0]["rmse"].draws.std()
        for unit, units in ((np.arange(80), 80), (np.repeat(np.arange(8), 10), 8))
    )
    assert together > 1.5 * alone, "ten rows that are alike tell as much as one"


@pytest.mark.slow
def test_of_changes_that_change_nothing_few_seem_to() -> None:
    """Base and candidate differ in which labels chance got wrong; at most one interval in ten may miss 0."""
    missed = 0
    for number in range(30):
        chance = np.random.default_rng(5000 + number)
        x = chance.normal(size=(300, 3))
        labels = [(chance.random(300) < 1 / (1 + np.exp(-x[:, 0]))).astype(float) for _ in range(2)]
        pairs = []
        for _ in range(3):
            held = chance.random(300) < 0.25
            predicted = []
            for one in labels:
                fitted = np.linalg.lstsq(np.c_[np.ones((~held).sum()), x[~held]], one[~held], rcond=None)[0]
                predicted.append((np.c_[np.ones(held.sum()), x[held]] @ fitted).clip(0.01, 0.99))
            unit, every = np.flatnonzero(held), np.ones(held.sum(), bool)
            pairs.append(compare("binary", labels[1][held], *predicted, unit, 300, [every])[0]["brier"])
        missed += verdict("brier", estimate(pairs)) != "no difference shown"
    assert missed <= 3
