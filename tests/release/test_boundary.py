"""Bounds on a walk of chance: they solve their equation, and no more walks pass them than declared."""

import math

import numpy as np
import pytest
from scipy import stats

from sampan.release.boundary import reach, tuning


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
@pytest.mark.parametrize("variance", [1e-6, 1.0, 37.0, 1e9])
def test_the_bound_is_where_the_mixture_reaches_one_over_alpha(alpha: float, variance: float) -> None:
    bound, found = reach(variance, 3.0, alpha), 0.0
    for weight, tuned in ((0.6, 3.0), (0.2, 3.0 / 16), (0.2, 3.0 / 256)):
        spread = variance + tuned
        part = math.log(4 * tuned / spread) / 2 + bound**2 / (2 * spread) + stats.norm.logcdf(bound / math.sqrt(spread))
        found += weight * math.exp(part + math.log(alpha))
    assert found == pytest.approx(1.0, rel=1e-9)


def test_no_more_walks_pass_it_at_any_time_than_declared_and_nearly_as_many() -> None:
    steps = np.random.default_rng(3).standard_normal((3_000, 2_000)).cumsum(axis=1)
    bounds = np.array([reach(float(time), tuning(100.0, 0.05), 0.05) for time in range(1, 2_001)])
    passed = (steps >= bounds).any(axis=1).mean()
    assert 0.02 < passed < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 3_000)


def test_it_is_low_where_it_is_tuned_to_and_far_before() -> None:
    for alpha in (0.05, 0.01):
        tuned = tuning(1_000.0, alpha)
        assert reach(1_000.0, tuned, alpha) <= 1.06 * min(reach(1_000.0, r, alpha) for r in np.geomspace(1, 1e5, 400))
        for variance in (1.0, 10.0, 100.0, 10_000.0):
            assert reach(variance, tuned, alpha) <= 1.35 * reach(variance, tuning(variance, alpha), alpha)
