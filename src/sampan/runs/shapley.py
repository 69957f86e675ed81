"""How much of a difference is due to each of several factors: their Shapley values, exact.

L. S. Shapley, "A value for n-person games", Contributions to the Theory of Games II, 1953: a factor's share is the
mean, over all orders in which the factors could have changed one after the other, of what it changed when its turn
came. The shares add up to the whole difference, whatever the factors do to each other; and a factor that changes
nothing in any order has a share of nothing.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import TypeAlias

#: The factors that are as in the second run; all others are as in the first.
Coalition: TypeAlias = frozenset[str]


def shares(factors: Sequence[str], values: Mapping[Coalition, float]) -> tuple[dict[str, float], int]:
    """Each factor's share of ``values[all] - values[none]``, and over how many orders it is the mean.

    A combination that has no value counts out the orders that go through it; over those that are left the shares still
    add up. Where none is left there are no shares.
    """
    sums = dict.fromkeys(factors, 0.0)
    whole = 0
    for order in permutations(factors):
        path = [frozenset(order[:length]) for length in range(len(order) + 1)]
        if any(one not in values for one in path):
            continue
        whole += 1
        for at, name in enumerate(order):
            sums[name] += values[path[at + 1]] - values[path[at]]
    return ({name: total / whole for name, total in sums.items()}, whole) if whole else ({}, 0)


def from_first(factor: str, values: Mapping[Coalition, float]) -> float | None:
    """What changes if in the first run this factor alone is as in the second; None if that was not to be had."""
    return _step(values, frozenset(), frozenset((factor,)))


def from_second(factor: str, factors: Sequence[str], values: Mapping[Coalition, float]) -> float | None:
    """What this factor changes last, when all others are as in the second run already; None if not to be had."""
    everything = frozenset(factors)
    return _step(values, everything - {factor}, everything)


def _step(values: Mapping[Coalition, float], before: Coalition, after: Coalition) -> float | None:
    return values[after] - values[before] if before in values and after in values else None
