"""Which cases of a test with many of them the quick tests run."""

from collections.abc import Iterable
from typing import Any

import pytest


def mostly_slow(cases: Iterable[Any], *quick: Any) -> list[Any]:
    """The cases, all of them but ``quick`` marked slow."""
    found = list(cases)
    assert all(one in found for one in quick), f"not among the cases: {[one for one in quick if one not in found]}"
    return [
        one if one in quick else pytest.param(*(one if isinstance(one, tuple) else (one,)), marks=pytest.mark.slow)
        for one in found
    ]
