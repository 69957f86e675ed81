"""How far a sum of chance may wander: bounds that hold at all times at once, so that anybody may look at any time.

M is a sum whose terms are 0 on average if there is no effect, V the variance gathered with it. Mixing the exponential
martingale exp(λM - λ²V/2) over half-normal λ > 0 gives one that M crosses with a probability of α at most, ever:
Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of
Statistics 49 (2021), section 3.2, the one-sided normal mixture (Robbins' mixture, 1970):

    √(4r / (V + r)) · exp(M² / (2(V + r))) · Φ(M / √(V + r))  <  1/α   for all times.

r says at which variance the bound is lowest; below it, the bound soon lies far out. So three of them are mixed, which
is a martingale again: the bound is 5 % higher where it is tuned to, and stays low down to a thousandth of that
variance, so that an effect much larger than expected is found early, too.

With the variance estimated the bound is asymptotic: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform
central limit theory and asymptotic confidence sequences", Annals of Statistics 52 (2024), theorem 2.2, and appendix B
for one side. It needs no bound on the values, as betting does (Waudby-Smith and Ramdas, JRSS-B 86, 2024), which money
does not have. docs/design/evidence.md measures what that costs.
"""

import math
from typing import Final

_ROOT: Final = math.sqrt(2.0)
_STEPS: Final = 50
_PARTS: Final = ((0.6, 1.0), (0.2, 1 / 16), (0.2, 1 / 256))  # weights, and shares of r


def reach(variance: float, tuned: float, alpha: float) -> float:
    """The least M that chance alone passes with a probability of ``alpha`` at most over all times, at this variance.

    ``tuned`` is r of the module's text, in units of the variance.
    """
    parts = [(weight, tuned * share, variance + tuned * share) for weight, share in _PARTS]
    # Newton, of the logarithm of the mixture, which is convex, from above: no part alone reaches 1/α later
    first = 0.5 * math.log(parts[0][2] / parts[0][1]) - math.log(2 * alpha * parts[0][0])
    found = math.sqrt(2 * (first + math.log(2)) * parts[0][2])
    for _ in range(_STEPS):
        logs, slopes = [], []
        for weight, r, spread in parts:
            z = found / math.sqrt(spread)
            below = 0.5 * math.erfc(-z / _ROOT)
            logs.append(math.log(weight) + 0.5 * math.log(4 * r / spread) + z * z / 2 + math.log(below))
            slopes.append((z + math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / below) / math.sqrt(spread))
        most = max(logs)
        shares = [math.exp(one - most) for one in logs]
        whole = math.fsum(shares)
        slope = math.fsum(share * one for share, one in zip(shares, slopes, strict=True)) / whole
        step = (most + math.log(whole) + math.log(alpha)) / slope
        found -= step
        if abs(step) <= 1e-12 * found:
            break
    return found


def tuning(variance: float, alpha: float) -> float:
    """r with which the bound is about lowest where so much variance has been gathered.

    Waudby-Smith et al. (2024), appendix B, on optimising ρ: ρ² = (-2 log α + log(-2 log α) + 1) / t; one side only, so
    2α in the place of α.
    """
    inner = -2 * math.log(min(2 * alpha, 0.5))
    return variance / (inner + math.log(inner) + 1)
