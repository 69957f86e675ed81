"""Does the candidate break what must hold whatever its KPI does? Every test is valid however often it is looked at.

A guardrail is breached when it is shown to be, at the level that the rollout gives each of them; it holds where enough
has been seen and nothing of the kind is shown; else it is not known, and no stage ends on that.
"""

import math
from typing import Any, Final, Literal, TypeAlias

import msgspec
import numpy as np

from sampan.base.words import counted
from sampan.release.boundary import reach, tuning
from sampan.release.counts import above
from sampan.release.evidence import Contrast, Lines, Terms, judge, paired

Standing: TypeAlias = Literal["holds", "breached", "not known"]
HOLDS: Final = "holds"
BREACHED: Final = "breached"
UNKNOWN: Final = "not known"

_TUNED: Final = 10.0  # times the least number of units: where the bound of a floor is lowest


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How one guardrail stands, in words too."""

    name: str
    standing: Standing
    says: str


def failed(name: str, why: str) -> Reading:
    """Of a guardrail whose query failed, or which nothing was measured for."""
    return Reading(name=name, standing=UNKNOWN, says=why)


def rate(name: str, bad: int, count: int, what: str, *, at_most: float, level: float, least: int) -> Reading:
    """Of answers: errors, or those slower than a limit that ``1 - at_most`` of them must keep. Exact. ``what``: what is
    bad of them, after a number."""
    says = f"{bad:,} of {counted(count, 'answer')} {what}, {100 * at_most:.4g} % at most"
    if above(bad, count, at_most) >= math.log(1 / level):
        return Reading(name=name, standing=BREACHED, says=says)
    if count < least:
        return failed(name, f"{count:,} of {least:,} answers that it takes to tell")
    return Reading(name=name, standing=HOLDS, says=says)


def floor(name: str, lines: Lines, *, at_least: float, level: float, units: int) -> Reading:
    """Of the candidate's mean alone: breached where its upper bound lies below the floor.

    Of a figure that is skewed to the right, mean and variance are too low together: the bound is raised by
    γs(1 + 2z²)/6n, z being its distance in standard errors, γ the skewness (Johnson, "Modified t tests and confidence
    intervals for asymmetrical populations", Journal of the American Statistical Association 73, 1978).
    """
    found = paired(lines, 1.0)
    look = judge(found, Terms(minimum=1.0, relative=False, units=units))
    if look.gain is None:
        return failed(name, look.why)
    noise = found.variance / found.information
    reached = reach(found.variance, tuning(noise * units * _TUNED, level), level)
    own = np.bincount(lines.unit, weights=lines.total - look.gain * lines.rows)
    skewed = max(0.0, float((own**3).sum())) / (own @ own)  # γs
    high = look.gain + (reached + skewed * (1 + 2 * reached**2 / found.variance) / 6) / found.information
    says = f"a mean of {look.gain:.4g}, {high:.4g} at most; the floor is {at_least:.4g}"
    return Reading(name=name, standing=BREACHED if high < at_least else HOLDS, says=says)


def metric(name: str, found: Contrast, terms: Terms) -> Reading:
    """Of a figure against the champion's: breached where even the upper bound loses more than ``terms.minimum``."""
    look = judge(found, terms)
    if look.high is None or look.champion is None:
        return failed(name, look.why)
    tolerated = terms.minimum * look.champion if terms.relative else terms.minimum
    return Reading(name=name, standing=BREACHED if look.high < -tolerated else HOLDS, says=look.why)


def exposure(name: str, amount: Any, *, at_most: float) -> Reading:
    """Of a cap: arithmetic, no statistics. An amount that is no number is not known."""
    if not isinstance(amount, int | float) or amount != amount:
        return failed(name, f"the amount is {amount!r}")
    says = f"{amount:,.2f}, {at_most:,.2f} at most"
    return Reading(name=name, standing=BREACHED if amount > at_most else HOLDS, says=says)
