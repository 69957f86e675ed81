"""Tests of counts that may be looked at any time: are the arms as large as declared, is a rate above its limit?

Both give the logarithm of an e-value: if all is as it should be, it ever passes log(1/α) with a probability of α at
most (Ville's inequality). They are exact at every sample size.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

_PRIOR: Final = 100.0  # units that the prior around the declared share is worth
_TIMES: Final = (1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)  # odds that are tried, against those of the limit


class Split(NamedTuple):
    """Units first seen in one stage: the share that was declared for the candidate, and how they fell."""

    share: float
    candidate: int
    champion: int


def mismatch(splits: Iterable[Split]) -> float:
    """Evidence, as log e, that units do not fall into the arms as declared.

    The Bayes factor of a Dirichlet prior around the declared shares against these shares: Lindon and Malek,
    "Anytime-valid inference for multinomial count data", NeurIPS 2022, section 3. Shares differ by stage, so the
    factors of the stages are multiplied; each stage begins with fresh units.
    """
    found = 0.0
    for share, one, other in splits:
        if not 0 < share < 1:
            if (one and share == 0) or (other and share == 1):
                return math.inf
            continue
        a, b = _PRIOR * share, _PRIOR * (1 - share)
        found += _log_beta(a + one, b + other) - _log_beta(a, b) - one * math.log(share) - other * math.log1p(-share)
    return found


def uneven(splits: Sequence[Split], level: float) -> str:
    """What is wrong with the sizes of the arms, in words; empty where nothing is shown to be, over all looks."""
    if mismatch(splits) < math.log(1 / level):
        return ""
    worst = max(splits, key=lambda one: mismatch([one]))
    whole = worst.candidate + worst.champion
    return f"{worst.candidate:,} of {whole:,} entities where {worst.share:.4g} of them is declared"


def above(bad: int, count: int, limit: float) -> float:
    """Evidence, as log e, that more than ``limit`` of all are bad, ``bad`` of ``count`` being so.

    A mixture of likelihood ratios: rates whose odds are so many times those of the limit, each as likely. A ratio of a
    higher rate to the limit is a supermartingale for every rate up to the limit (Wald, "Sequential Analysis", 1947,
    section 3.2); what counts is that no request's chance of being bad is above the limit, given all before it.
    """
    if limit >= 1 or count == 0:
        return 0.0
    if limit <= 0:
        return math.inf if bad else 0.0
    odds = limit / (1 - limit)
    ratios = []
    for times in _TIMES:
        rate = times * odds / (1 + times * odds)
        ratios.append(bad * math.log(rate / limit) + (count - bad) * (math.log1p(-rate) - math.log1p(-limit)))
    most = max(ratios)
    return most + math.log(math.fsum(math.exp(one - most) for one in ratios) / len(ratios))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
