"""Sticky assignment: even, the same everywhere, only ever growing, and each rollout for itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sampan.base.assigning import gets_candidate, point

SHARES = st.floats(0, 1)
MANY = [f"customer {number}" for number in range(50_000)]


def test_points_of_many_entities_are_evenly_spread() -> None:
    for salt in ("a rollout", "another"):
        cells = np.bincount([point(salt, one) * 64 >> 64 for one in MANY], minlength=64)
        assert stats.chisquare(cells).pvalue > 1e-4
        assert sum(gets_candidate(salt, one, 0.05) for one in MANY) == pytest.approx(2_500, abs=200)


def test_two_rollouts_have_nothing_to_do_with_each_other() -> None:
    table = np.zeros((2, 2))
    for one in MANY:
        table[int(gets_candidate("first", one, 0.25)), int(gets_candidate("second", one, 0.25))] += 1
    assert stats.chi2_contingency(table).pvalue > 1e-4


@given(salt=st.text(), entity=st.text(), share=SHARES, more=SHARES)
def test_a_growing_share_takes_nobodys_candidate_away(salt: str, entity: str, share: float, more: float) -> None:
    less, more = sorted((share, more))
    assert gets_candidate(salt, entity, more) or not gets_candidate(salt, entity, less)


@given(salt=st.text(), entity=st.text())
def test_nobody_at_none_and_everybody_at_all(salt: str, entity: str) -> None:
    assert not gets_candidate(salt, entity, 0.0)
    assert gets_candidate(salt, entity, 1.0)


def test_the_same_entity_lies_where_it_lay_in_every_process_and_release() -> None:
    assert point("r1", "12345") == 0xAA5942B60EF5743C
    assert point("r1", "12345") != point("r1", "12346")
    assert point("", "r112345") != point("r1", "12345")
