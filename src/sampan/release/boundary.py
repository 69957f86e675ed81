"""How far a sum of chance may wander: bounds that hold at all times at once, so that anybody may look at any time.

M is a sum whose terms are 0 on average if there is no effect, V the variance gathered with it. Mixing the exponential
martingale exp(λM - λ²V/2) over half-normal λ > 0 gives one that M crosses with a probability of α at most, ever:
Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of
Statistics 49 (2021), section 3.2, the one-sided normal mixture (Robbins' mixture, 1970):

    √(4r / (V + r)) · exp(M² / (2(V + r))) · Φ(M / √(V + r))  <  1/α   for all times.

With the variance estimated the bound is asymptotic: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform
central limit theory and asymptotic confidence sequences", Annals of Statistics 52 (2024), theorem 2.2, and appendix B
for one side. It needs no bound on the values, as betting does (Waudby-Smith and Ramdas, JRSS-B 86, 2024), which money
does not have. docs/design/evidence.md measures what that costs.
"""

import math
from typing import Final

_ROOT: Final = math.sqrt(2.0)
_STEPS: Final = 50


def reach(variance: float, tuned: float, alpha: float) -> float:
    """The least M that chance alone passes with a probability of ``alpha`` at most over all times, at this variance.

    ``tuned`` is r of the module's text, in units of the variance.
    """
    spread = variance + tuned
    goal = 0.5 * math.log(spread / tuned) - math.log(2 * alpha)
    z = math.sqrt(2 * (goal + math.log(2)))  # not below the solution, as Φ(z) >= 1/2
    for _ in range(_STEPS):  # Newton, of z²/2 + log Φ(z) = goal
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        below = 0.5 * math.erfc(-z / _ROOT)
        step = (z * z / 2 + math.log(below) - goal) / (z + density / below)
        z -= step
        if abs(step) < 1e-12:
            break
    return z * math.sqrt(spread)


def tuning(variance: float, alpha: float) -> float:
    """r with which the bound is about lowest where so much variance has been gathered.

    Waudby-Smith et al. (2024), appendix B, on optimising ρ: ρ² = (-2 log α + log(-2 log α) + 1) / t; one side only, so
    2α in the place of α.
    """
    inner = -2 * math.log(min(2 * alpha, 0.5))
    return variance / (inner + math.log(inner) + 1)
