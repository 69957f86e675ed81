"""Bounds on a walk of chance: they solve their equation, and no more walks pass them than declared."""

import math

import numpy as np
import pytest
from scipy import stats

from sampan.release.boundary import reach, tuning


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
@pytest.mark.parametrize("variance", [1e-6, 1.0, 37.0, 1e9])
def test_the_bound_is_where_the_mixture_reaches_one_over_alpha(alpha: float, variance: float) -> None:
    tuned = 3.0
    bound, spread = reach(variance, tuned, alpha), variance + tuned
    mixture = math.log(4 * tuned / spread) / 2 + bound**2 / (2 * spread) + stats.norm.logcdf(bound / math.sqrt(spread))
    assert mixture == pytest.approx(-math.log(alpha), rel=1e-9)


def test_no_more_walks_pass_it_at_any_time_than_declared_and_nearly_as_many() -> None:
    steps = np.random.default_rng(3).standard_normal((3_000, 2_000)).cumsum(axis=1)
    bounds = np.array([reach(float(time), tuning(100.0, 0.05), 0.05) for time in range(1, 2_001)])
    passed = (steps >= bounds).any(axis=1).mean()
    assert 0.02 < passed < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 3_000)


def test_it_is_about_lowest_where_it_is_tuned_to() -> None:
    for alpha in (0.05, 0.01):
        tuned = reach(1_000.0, tuning(1_000.0, alpha), alpha)
        least = min(reach(1_000.0, r, alpha) for r in np.geomspace(1, 1e5, 400))
        assert tuned <= least * 1.01
