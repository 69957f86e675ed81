"""Tests of counts: exact, looked at after every unit."""

import math

import pytest
from scipy import stats
from scipy.special import betaln

from sampan.release.counts import Split, above, mismatch, uneven


def test_the_mismatch_is_the_bayes_factor_of_a_prior_around_the_declared_share() -> None:
    expected = betaln(5 + 70, 95 + 930) - betaln(5, 95) - 70 * math.log(0.05) - 930 * math.log(0.95)
    assert mismatch([Split(0.05, 70, 930)]) == pytest.approx(expected)
    twice = mismatch([Split(0.05, 70, 930), Split(0.5, 400, 400)])
    assert twice == pytest.approx(expected + mismatch([Split(0.5, 400, 400)]))


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_of_arms_as_declared_the_evidence_is_one_on_average_so_that_it_seldom_grows(share: float) -> None:
    """What Ville's inequality needs, at a count of units that stands for all."""
    found = math.fsum(
        math.exp(stats.binom.logpmf(count, 200, share) + mismatch([Split(share, count, 200 - count)]))
        for count in range(201)
    )
    assert found == pytest.approx(1.0)


def test_arms_that_are_not_as_declared_are_found() -> None:
    assert mismatch([Split(0.5, 5_200, 4_800)]) >= math.log(1 / 0.01)
    assert mismatch([Split(0.05, 700, 9_300)]) >= math.log(1 / 0.001)
    assert mismatch([Split(0.5, 5_050, 4_950)]) < 0


def test_what_is_wrong_with_the_arms_is_said_in_words() -> None:
    good, bad = Split(0.5, 5_050, 4_950), Split(0.05, 700, 9_300)
    assert uneven([good, bad], 0.001) == "700 of 10,000 entities where 0.05 of them is declared"
    assert uneven([good], 0.001) == ""
    assert uneven([], 0.001) == ""


def test_nobody_may_be_in_an_arm_that_has_no_share() -> None:
    assert mismatch([Split(0.0, 1, 500)]) == math.inf
    assert mismatch([Split(1.0, 500, 1)]) == math.inf
    assert mismatch([Split(0.0, 0, 500), Split(1.0, 500, 0)]) == 0
    assert mismatch([]) == 0


@pytest.mark.parametrize(("rate", "average"), [(0.02, 1.0), (0.015, 0.9), (0.001, 0.5)])
def test_of_a_rate_up_to_its_limit_the_evidence_is_one_on_average_or_less(rate: float, average: float) -> None:
    found = math.fsum(math.exp(stats.binom.logpmf(bad, 300, rate) + above(bad, 300, 0.02)) for bad in range(301))
    assert found <= average + 1e-9
    if rate == 0.02:
        assert found == pytest.approx(1.0)


def test_a_rate_above_its_limit_is_found_and_one_below_is_not() -> None:
    assert above(40, 1_000, 0.02) >= math.log(1 / 0.01)
    assert above(10, 10, 0.02) >= math.log(1 / 0.001)
    assert above(5, 1_000, 0.02) < 0


def test_limits_at_the_ends() -> None:
    assert above(1, 1, 0.0) == math.inf
    assert above(0, 1_000, 0.0) == 0
    assert above(1_000, 1_000, 1.0) == 0
    assert above(0, 0, 0.01) == 0
