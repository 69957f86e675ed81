"""Is a candidate better than the champion? What may be said of a KPI at any time, as often as anybody looks.

**What is counted.** Assignment is by entity, and the requests of one customer are not independent: the unit is the
entity. Its rows are added up per arm and stage (``gather``), its part of the variance is the square of its own sum
(Liang and Zeger, Biometrika 73, 1986: cluster-robust). The KPI is the mean per row; a query that gives one row per
entity makes it the mean per entity.

**The difference.** Shares grow with the stages and days differ, so arms are only compared within a stage (pooled they
would show Simpson's paradox). With n₁ and n₀ rows in a stage and means ȳ₁ and ȳ₀, its part of the information is
h = n₁n₀ / (n₁ + n₀), and

    D = Σ h,   M = Σ h (ȳ₁ - ȳ₀),   difference = M / D,
    V = Σ over units (Σ over its rows (A - n₁/n)(y - ȳ of its arm))²,   A: 1 in the candidate's arm, else 0

which is the least-squares difference with one level per stage, and its robust variance. A small arm without a single
sale would look certain, so V is never below what it is if both arms are alike. Of a shadow, both models have answered
the same request: M is the sum of differences, D the number of rows.

**Always valid.** M wanders around its expectation like a Brownian motion at time V; the bounds of ``boundary`` hold at
all V at once. So the interval holds at every look, and one verdict at any time over all stages has the declared error:
the stages need no correction. The error rates are asymptotic: below a minimum of units, or where one unit makes up much
of V, nothing is said.

**Late and revised outcomes.** A look takes all rows as known now and remembers no earlier look, so it is a function of
the data alone. An outcome that comes late comes equally late in both arms of a stage: what is known is a random part of
the whole. M need not have independent increments then, since a customer's rows come over weeks; but what a unit adds
later goes with what it has (rows of one customer are alike), so looks are more alike than those of a Brownian motion at
the same V, and by Slepian's inequality (Bell System Technical Journal 41, 1962) M crosses each bound less often, not
more. Where revisions take back what was counted (returned goods), this does not hold: let the KPI's query leave out
what is not yet final. docs/design/evidence.md has both measured.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from sampan.base.words import counted
from sampan.release.boundary import reach, tuning

Verdict: TypeAlias = Literal["better", "worse", "not enough evidence"]
BETTER: Final = "better"
WORSE: Final = "worse"
OPEN: Final = "not enough evidence"

HEAVIEST: Final = 0.25
"""Of the variance, what one unit may make up at most before anything is said."""
_CROSSED: Final = 0.01  # of the units, those that both arms answered in one stage
_DECIDES: Final = 9.0  # squared standard errors at which an effect as small as the minimum is about decided
_ROUNDING: Final = 1e-24

Floats = NDArray[np.float64]


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold of a KPI. ``minimum``: the least gain worth having, of the champion's mean where ``relative``;
    ``false_better``, ``false_worse``: the errors allowed over all looks; ``units``: in the smaller arm, before which
    nothing is said."""

    minimum: float
    relative: bool = True
    higher: bool = True
    false_better: float = 0.05
    false_worse: float = 0.05
    units: int = 100


class Lines(NamedTuple):
    """One line per unit, arm and stage: how many rows with a value, and their sum. Units and stages count from 0."""

    unit: NDArray[np.int64]
    candidate: NDArray[np.bool_]
    stage: NDArray[np.int64]
    rows: Floats
    total: Floats
    unknown: int = 0
    infinite: int = 0


class Contrast(NamedTuple):
    """D, M and V of the module's text. ``units``: with a value, of candidate and champion; ``heaviest``: the largest
    part of V that is one unit's; ``champion``: its mean, weighted as the difference is; ``flaw``: why nothing
    follows."""

    information: float
    sum: float
    variance: float
    units: tuple[int, int]
    heaviest: float
    champion: float
    flaw: str = ""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What is known now. ``gain``: candidate less champion, turned so that more is better; ``low`` and ``high`` bound
    it at all times at once, from below with the error ``false_better``, from above with ``false_worse``."""

    verdict: Verdict
    why: str
    units: tuple[int, int] = (0, 0)
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    champion: float | None = None


def gather(unit: Sequence[Any], candidate: Sequence[bool], stage: Sequence[int], value: Sequence[Any]) -> Lines:
    """Rows as a query gives them, added up. None and NaN: not known yet; infinite values are counted, a look's flaw."""
    values = np.array([np.nan if one is None else one for one in value], dtype=np.float64)
    arms, stages = np.asarray(candidate, dtype=np.bool_), np.asarray(stage, dtype=np.int64)
    names = np.asarray([str(one) for one in unit], dtype=np.str_) if len(unit) else np.empty(0, dtype=np.str_)
    infinite, known = np.isinf(values), np.isfinite(values)
    _, codes = np.unique(names[known], return_inverse=True)
    steps, places = np.unique(stages[known], return_inverse=True)
    width = 2 * max(len(steps), 1)
    keys, lines = np.unique(codes * width + places * 2 + arms[known], return_inverse=True)
    return Lines(
        unit=keys // width,
        candidate=keys % 2 == 1,
        stage=keys % width // 2,
        rows=np.bincount(lines, minlength=len(keys)).astype(np.float64),
        total=_sums(lines, values[known], len(keys)),
        unknown=int(np.isnan(values).sum()),
        infinite=int(infinite.sum()),
    )


def between_arms(lines: Lines) -> Contrast:
    """Candidate against champion, each with its own units, in the stages that have values of both."""
    for arm, missing in ((lines.candidate, "candidate"), (~lines.candidate, "champion")):
        if not arm.any():
            return _nothing((0, 0), f"no value of the {missing} is known")
    both = np.intersect1d(lines.stage[lines.candidate], lines.stage[~lines.candidate])
    here = np.isin(lines.stage, both)
    if not here.any():
        return _nothing((0, 0), "no stage has values of both")
    unit, arm, stage = lines.unit[here], lines.candidate[here], lines.stage[here]
    count, total = lines.rows[here], lines.total[here]
    units = (_different(unit[arm]), _different(unit[~arm]))
    cell = stage * 2 + arm
    cells = 2 * (int(stage.max()) + 1)
    with np.errstate(all="ignore"):
        rows, totals = (_sums(cell, one, cells).reshape(-1, 2) for one in (count, total))
        whole = np.maximum(rows.sum(axis=1), 1)
        share, level = rows[:, 1] / whole, totals.sum(axis=1) / whole
        means = totals / np.maximum(rows, 1)
        weight = rows[:, 1] * (1 - share)
        own = (arm - share[stage]) * (total - means.reshape(-1)[cell] * count)
        alike = np.sqrt(share * (1 - share))[stage] * (total - level[stage] * count)
        variance, heaviest = max(_spread(_sums(unit, one, 0)) for one in (own, alike))
        information = float(weight.sum())
        champion = float((weight * means[:, 0]).sum() / information)
        gathered = float((weight * (means[:, 1] - means[:, 0])).sum())
    return _contrast(lines, information, gathered, variance, units, heaviest, champion)


def paired(lines: Lines, champion: float) -> Contrast:
    """Of a shadow: ``lines`` hold per unit the rows that both answered, and the sum of candidate less champion;
    ``champion`` is its mean over these rows."""
    count = _different(lines.unit)
    if not count:
        return _nothing((0, 0), "no value is known yet")
    with np.errstate(all="ignore"):
        information, gathered = float(lines.rows.sum()), float(lines.total.sum())
        variance, heaviest = _spread(_sums(lines.unit, lines.total - gathered / information * lines.rows, 0))
    return _contrast(lines, information, gathered, variance, (count, count), heaviest, champion)


def judge(found: Contrast, terms: Terms) -> Look:
    """The verdict, and why. Whatever is missing, odd or too little is not enough evidence: never a pass."""
    units = found.units
    flaw = found.flaw or _too_little(found, terms)
    if flaw:
        return Look(verdict=OPEN, why=flaw, units=units)
    sign = 1.0 if terms.higher else -1.0
    least = terms.minimum * found.champion if terms.relative else terms.minimum
    noise = found.variance / found.information
    decides = max(_DECIDES * noise * noise / (least * least), noise * terms.units / 2)
    gain = sign * found.sum / found.information
    low, high = (
        reach(found.variance, tuning(decides, alpha), alpha) / found.information
        for alpha in (terms.false_better, terms.false_worse)
    )
    verdict, why = _verdict(gain - low, gain + high, least)
    return Look(
        verdict=verdict,
        why=f"{why}: {_shown(gain, found, terms)}, between {_shown(gain - low, found, terms)} and "
        f"{_shown(gain + high, found, terms)}, of {_of(units)}",
        units=units,
        gain=gain,
        low=gain - low,
        high=gain + high,
        champion=found.champion,
    )


def _of(units: tuple[int, int]) -> str:
    one, other = units
    return f"{one:,} entities" if one == other else f"{one:,} entities with the candidate, {other:,} with the champion"


def _verdict(low: float, high: float, least: float) -> tuple[Verdict, str]:
    if low > 0 and high >= least:
        return BETTER, "the gain is above 0"
    if low > 0:
        return OPEN, "the gain is above 0, but less than the minimum effect"
    if high < 0:
        return WORSE, "the candidate loses"
    if high < least:
        return OPEN, "a gain would be less than the minimum effect"
    return OPEN, "the gain may be 0"


def _too_little(found: Contrast, terms: Terms) -> str:
    few = min(found.units)
    if few < terms.units:
        return f"{few:,} of {terms.units:,} entities in the smaller arm"
    if not all(map(math.isfinite, (found.information, found.sum, found.variance, found.champion))):
        return "the values are too large to be added up"
    if found.variance <= 0:
        return "all values are the same"
    if found.heaviest > HEAVIEST:
        return f"too much hangs on one entity: it makes up {found.heaviest:.0%} of the variance, {HEAVIEST:.0%} at most"
    if terms.relative and found.champion <= 0:
        return (
            f"the champion's mean is {found.champion:.4g}: a share of it says nothing; give an absolute minimum effect"
        )
    return ""


def _contrast(
    lines: Lines,
    information: float,
    gathered: float,
    variance: float,
    units: tuple[int, int],
    heaviest: float,
    champion: float,
) -> Contrast:
    flaw = ""
    if lines.infinite:
        flaw = f"{counted(lines.infinite, 'value')} of the KPI infinite"
    crossed = _crossed(lines)
    if crossed > _CROSSED * sum(units):
        flaw = f"{counted(crossed, 'unit')} answered by both in one stage: assignment is not sticky"
    with np.errstate(all="ignore"):
        if variance <= _ROUNDING * float((lines.total**2).sum()):
            variance = 0.0  # what rounding left of values that are all the same
    fewest = min(units)
    variance *= fewest / (fewest - 1) if fewest > 1 else 1.0
    return Contrast(information, gathered, variance, units, heaviest, champion, flaw)


def _sums(places: NDArray[np.int64], values: Floats, count: int) -> Floats:
    return np.bincount(places, weights=values, minlength=count).astype(np.float64)


def _spread(scores: Floats) -> tuple[float, float]:
    """The sum of squares, and the largest part of it."""
    squares = scores * scores
    whole = float(squares.sum())
    return whole, float(squares.max()) / whole if whole > 0 else 0.0


def _crossed(lines: Lines) -> int:
    keys = lines.unit * (int(lines.stage.max(initial=0)) + 1) + lines.stage
    return len(keys) - _different(keys)


def _different(codes: NDArray[np.int64]) -> int:
    return len(np.unique(codes))


def _nothing(units: tuple[int, int], flaw: str) -> Contrast:
    return Contrast(0.0, 0.0, 0.0, units, 0.0, math.nan, flaw)


def _shown(gain: float, found: Contrast, terms: Terms) -> str:
    return f"{gain / found.champion:+.2%}" if terms.relative else f"{gain:+.4g}"
