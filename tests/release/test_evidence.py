"""What may be said of a KPI: better, worse, or not enough evidence, and never a pass on silence."""

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sampan.release.evidence import BETTER, OPEN, WORSE, Look, Terms, between_arms, gather, judge, paired

TERMS = Terms(minimum=0.05, units=50)
Rows = tuple[list[Any], list[bool], list[int], list[Any]]


def shop(gain: float, count: int = 4_000, share: float = 0.5, seed: int = 1) -> Rows:
    """Orders of customers, one each, at a mean of 10 and a deviation of 10."""
    chance = np.random.default_rng(seed)
    arms = (chance.random(count) < share).tolist()
    values = [float(chance.gamma(1.0, 10.0)) * (1 + gain * arm) for arm in arms]
    return [f"c{at}" for at in range(count)], arms, [0] * count, values


def look(rows: Rows, terms: Terms = TERMS) -> Look:
    return judge(between_arms(gather(*rows)), terms)


def test_a_gain_is_better_and_a_loss_is_worse() -> None:
    assert look(shop(+0.3)).verdict == BETTER
    assert look(shop(-0.3)).verdict == WORSE
    assert look(shop(0.0)).verdict == OPEN


def test_where_less_is_better_a_fall_is_a_gain() -> None:
    fewer = replace(TERMS, higher=False)
    found = look(shop(-0.3), fewer)
    assert found.verdict == BETTER
    assert found.gain is not None
    assert found.gain > 0
    assert look(shop(+0.3), fewer).verdict == WORSE


def test_the_look_says_the_figures() -> None:
    found = look(shop(+0.3))
    assert found.gain is not None
    assert found.low is not None
    assert found.high is not None
    assert found.champion is not None
    assert 0 < found.low < found.gain < found.high
    assert found.gain == pytest.approx(3.0, abs=1.5)
    assert re.search(r"of [\d,]+ entities with the candidate, [\d,]+ with the champion$", found.why)
    assert f"{found.gain / found.champion:+.2%}" in found.why


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (([], [], [], []), "no value of the candidate is known"),
        ((["a"] * 3, [True] * 3, [0] * 3, [1.0, 2.0, 3.0]), "no value of the champion is known"),
        ((["a", "b"], [True, False], [0, 0], [None, math.nan]), "no value of the candidate is known"),
        (([1, 2, 3, 4], [True, False] * 2, [0] * 4, [1.0, 2.0, 3.0, 4.0]), "2 of 50 entities in the smaller arm"),
        ((list(range(200)), [True, False] * 100, [0] * 200, [5.0] * 200), "all values are the same"),
        ((list(range(200)), [True, False] * 100, [0] * 200, [0.1] * 200), "all values are the same"),
        ((list(range(200)), [True, False] * 100, [0] * 200, [2.0, 1.0] * 100), ""),
        ((list(range(200)), [True, False] * 100, [0] * 200, [math.inf] + [1.0] * 199), "1 value of the KPI infinite"),
        ((list(range(200)), [True, False] * 100, [0] * 200, [1e308, -1e308] * 100), "too large"),
        ((list(range(200)), [True] * 100 + [False] * 100, [0] * 100 + [1] * 100, list(range(200))), "no stage has"),
        (
            (list(range(200)), [True, False] * 100, [0] * 200, [1e6] + [1.0, 2.0, 3.0] * 66 + [1.0]),
            "too much hangs on one entity: it makes up",
        ),
        ((list(range(100)) * 2, [True] * 100 + [False] * 100, [0] * 200, list(range(200))), "not sticky"),
        ((list(range(200)), [True, False] * 100, [0] * 200, [-float(at % 7) for at in range(200)]), "absolute"),
    ],
)
def test_what_is_missing_odd_or_too_little_is_not_enough_evidence(rows: Rows, said: str) -> None:
    if not said:  # the arms differ in all their values: certain, and a pass it is only against what chance would do
        assert look(rows).verdict == BETTER
        return
    found = look(rows)
    assert found.verdict == OPEN
    assert said in found.why


def test_more_than_the_least_that_is_worth_having_must_be_possible() -> None:
    found = look(shop(+0.05, count=100_000), replace(TERMS, minimum=0.2))
    assert found.low is not None
    assert found.low > 0
    assert found.verdict == OPEN
    assert "less than the minimum effect" in found.why


def test_stages_with_another_share_and_another_level_do_not_make_a_difference() -> None:
    """Pooled, a candidate that grew into better days would look better: Simpson's paradox."""
    early, late = shop(0.0, 6_000, 0.05, seed=2), shop(0.0, 6_000, 0.5, seed=3)
    rows: Rows = (
        [*early[0], *(f"late {one}" for one in late[0])],
        early[1] + late[1],
        [0] * 6_000 + [1] * 6_000,
        early[3] + [2 * one for one in late[3]],
    )
    assert look(rows).verdict == OPEN
    pooled: Rows = (rows[0], rows[1], [0] * 12_000, rows[3])
    assert look(pooled).verdict == BETTER


def test_rows_of_one_customer_count_as_one_unit() -> None:
    """A customer's rows are alike: taken for independent they would pretend to be far more evidence than there is."""
    chance = np.random.default_rng(4)
    arms = chance.random(400) < 0.5
    levels = chance.gamma(1.0, 10.0, 400) + 2.0 * arms
    unit = [at for at in range(400) for _ in range(50)]
    rows: Rows = (unit, [bool(arms[at]) for at in unit], [0] * len(unit), [float(levels[at]) for at in unit])
    apart: Rows = (list(range(len(unit))), *rows[1:])
    together = look(rows)
    assert together.units == (int(arms.sum()), 400 - int(arms.sum()))
    assert together.verdict == OPEN
    assert look(apart).verdict == BETTER


def test_the_order_in_which_outcomes_come_does_not_matter() -> None:
    rows = shop(+0.1, 1_000)
    order = np.random.default_rng(0).permutation(1_000)
    mixed: Rows = tuple([column[at] for at in order] for column in rows)  # type: ignore[assignment]
    one, other = look(rows), look(mixed)
    assert one.verdict == other.verdict
    assert one.gain == pytest.approx(other.gain)
    assert one.low == pytest.approx(other.low)


def test_an_outcome_that_is_revised_is_as_if_it_had_always_been_so() -> None:
    rows = shop(0.0, 1_000)
    changed: Rows = (*rows[:3], [one + 20 * arm for one, arm in zip(rows[3], rows[1], strict=True)])
    assert look(rows).verdict == OPEN
    assert look(changed).verdict == BETTER
    assert look(rows).verdict == OPEN


def test_without_repetition_it_is_welch_with_a_wider_bound() -> None:
    from scipy import stats

    rows = shop(+0.3)
    found = between_arms(gather(*rows))
    values, arms = np.array(rows[3]), np.array(rows[1])
    t = stats.ttest_ind(values[arms], values[~arms], equal_var=False)
    assert found.sum / found.information == pytest.approx(values[arms].mean() - values[~arms].mean())
    assert found.sum / math.sqrt(found.variance) == pytest.approx(t.statistic, rel=0.02)


def test_of_a_shadow_each_request_is_compared_with_itself() -> None:
    chance = np.random.default_rng(6)
    base = chance.gamma(1.0, 10.0, 2_000)
    for gain, verdict in ((0.5, BETTER), (-0.5, WORSE), (0.0, OPEN)):
        difference = (gain + chance.standard_normal(2_000)).tolist()
        lines = gather([at // 2 for at in range(2_000)], [False] * 2_000, [0] * 2_000, difference)
        found = judge(paired(lines, float(base.mean())), replace(TERMS, minimum=0.01))
        assert found.verdict == verdict
        assert found.units == (1_000, 1_000)
    none = gather([], [], [], [])
    assert judge(paired(none, 1.0), TERMS).verdict == OPEN
    same = gather(range(500), [False] * 500, [0] * 500, [0.0] * 500)
    assert judge(paired(same, 1.0), TERMS).why == "all values are the same"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 30), st.booleans(), st.integers(0, 3), st.none() | st.floats(width=64, allow_nan=True)
        ),
        max_size=120,
    )
)
def test_no_rows_whatever_raise_and_few_units_never_pass(given_rows: list[tuple[int, bool, int, float | None]]) -> None:
    rows: Rows = tuple([one[at] for one in given_rows] for at in range(4))  # type: ignore[assignment]
    assert look(rows).verdict == OPEN
    assert judge(paired(gather(*rows), 1.0), replace(TERMS, units=200)).verdict == OPEN


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_looking_again_and_again_finds_no_more_than_declared(share: float) -> None:
    wrong = {BETTER: 0, WORSE: 0}
    for seed in range(60):
        rows = shop(0.0, 2_000, share, seed + 100)
        for count in range(200, 2_001, 200):
            verdict = look(tuple(column[:count] for column in rows)).verdict  # type: ignore[arg-type]
            if verdict != OPEN:
                wrong[verdict] += 1
                break
    assert wrong[BETTER] / 60 <= 0.05
    assert wrong[WORSE] / 60 <= 0.05
