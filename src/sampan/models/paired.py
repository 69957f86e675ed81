"""Two models on the same rows: how far their figures differ, and how sure that is. In numpy alone.

What is asked: does a change of the data make the trained model better? Training is repeated under K seeds, each with a
split of its own; base and candidate of a seed share both. d is the mean over the seeds of the difference
candidate - base. Two things make it uncertain, and their variances are added:

- which rows happened to be judged: R, the variance of d over ``DRAWS`` bootstrap resamples (Efron and Tibshirani, "An
  Introduction to the Bootstrap", 1993, chapter 6: 200 are enough for a variance). In each, every unit (a row, or all
  rows with one key) is drawn as often as chance has it, with replacement, and counts that often under *every* seed that
  holds it out, since one row is held out under several;
- which seeds happened to be used: S²/K, S² the variance of the K differences.

The interval is d ± t √(R + S²/K), t the 0.975 quantile of Student's distribution with the degrees of freedom of
Satterthwaite, "An Approximate Distribution of Estimates of Variance Components", Biometrics Bulletin 2 (1946):
(R + S²/K)² / ((S²/K)² / (K - 1)), R counting as known. S² holds some of R already, so the interval is a little too
wide rather than too narrow (docs/decisions/data-impact.md has it measured).

It covers the rows and the seeds: it is about these two states of the data, not about what another year of data would
have brought. Where a change is as good as another throw of dice, the models still differ in a way that all seeds share;
figures that a model is not fitted for, such as the absolute error of one fitted to squares, may show that.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sampan.models import metrics
from sampan.models.measures import higher

DRAWS: Final = 200
MOST_SEEDS: Final = 30
METRICS: Final[Mapping[str, tuple[str, ...]]] = {
    "binary": ("auc", "brier", "log_loss"),
    "multiclass": ("accuracy", "log_loss", "macro_f1"),
    "regression": ("rmse", "mae", "r2"),
    "ranking": ("ndcg@10", "map"),
}
"""Figures that say better or worse, of each kind of model; the first is the main one."""
HIGHER: Final = frozenset(name for names in METRICS.values() for name in names if higher(name))
"""Figures of which more is better; of all others less is."""

_NORMAL: Final = 1.96

# Student's t, 0.975 quantile for 1, 2, 3, … degrees of freedom
_T: Final = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045),
)

Floats = NDArray[np.float64]


class Pair(NamedTuple):
    """A figure of both models, and their difference (candidate - base) in each resample; NaN where undefined."""

    base: float | None
    candidate: float | None
    draws: Floats


class Estimate(NamedTuple):
    """A difference with its 95 % interval; None where too few seeds define it."""

    base: float | None
    candidate: float | None
    difference: float | None
    low: float | None
    high: float | None


def compare(
    kind: str,
    truth: NDArray[Any],
    base: NDArray[Any],
    candidate: NDArray[Any],
    unit: NDArray[np.int64],
    units: int,
    parts: Sequence[NDArray[np.bool_]],
) -> list[dict[str, Pair]]:
    """Both models' figures on some parts of the rows, under one seed.

    ``truth``: per row 0 or 1, the place of its class, a number, or its relevance; ``base`` and ``candidate``: per row a
    probability, one per class, a number, or a score; ``unit``: which of all ``units`` of the table a row belongs to,
    for a ranking its group.
    """
    if kind == "ranking":
        return [_ranked(truth[part], base[part], candidate[part], unit[part], units) for part in parts]
    names = METRICS[kind]
    draws = [{name: np.full(DRAWS, np.nan) for name in names} for _ in parts]
    rows = np.arange(len(truth))
    for number in range(DRAWS):
        drawn = np.random.default_rng((7, number)).integers(0, units, units)
        again = np.repeat(rows, np.bincount(drawn, minlength=units)[unit])
        for part, found in zip(parts, draws, strict=True):
            chosen = again[part[again]]
            first, second = (figures(kind, truth[chosen], one[chosen]) for one in (base, candidate))
            for name in names:
                one, other = first[name], second[name]
                if one is not None and other is not None:
                    found[name][number] = other - one
    made = []
    for part, found in zip(parts, draws, strict=True):
        first, second = (figures(kind, truth[part], one[part]) for one in (base, candidate))
        made.append({name: Pair(first[name], second[name], found[name]) for name in names})
    return made


def _ranked(
    truth: NDArray[Any], base: NDArray[Any], candidate: NDArray[Any], unit: NDArray[np.int64], units: int
) -> dict[str, Pair]:
    """Figures of a ranking are means over groups, so groups are drawn, and each counts as often as it was drawn."""
    names = METRICS["ranking"]
    order = np.argsort(unit, kind="stable")
    groups, starts = np.unique(unit[order], return_index=True)
    parts = np.split(order, starts[1:])
    found = np.full((2, len(names), len(groups)), np.nan)
    for side, scores in enumerate((base, candidate)):
        for at, rows in enumerate(parts if len(groups) else ()):
            told = figures("ranking", truth[rows], scores[rows])
            found[side, :, at] = [np.nan if told[name] is None else told[name] for name in names]
    pairs = {}
    for place, name in enumerate(names):
        first, second = found[:, place]
        known = ~np.isnan(first)  # whether something is relevant in a group is the same for both
        draws = np.full(DRAWS, np.nan)
        if not known.any():
            pairs[name] = Pair(None, None, draws)
            continue
        for number in range(DRAWS):
            drawn = np.random.default_rng((7, number)).integers(0, units, units)
            times = np.bincount(drawn, minlength=units)[groups[known]]
            if times.any():
                draws[number] = np.average((second - first)[known], weights=times)
        pairs[name] = Pair(float(first[known].mean()), float(second[known].mean()), draws)
    return pairs


def figures(kind: str, truth: NDArray[Any], predicted: NDArray[Any]) -> dict[str, float | None]:
    """The figures of ``METRICS``; None where one is not defined. Of a ranking: of one group."""
    if kind == "ranking":
        told = metrics.ranking(truth, predicted)
        return {name: told[name] for name in METRICS[kind]}
    if kind == "binary":
        return {
            "auc": metrics.auc(truth, predicted),
            "brier": metrics.brier(truth, predicted),
            "log_loss": metrics.log_loss(truth, predicted),
        }
    if kind == "multiclass":
        told = metrics.multiclass(truth.tolist(), predicted, range(predicted.shape[1]))
        return {name: told[name] for name in METRICS[kind]}
    return {
        "rmse": metrics.rmse(truth, predicted),
        "mae": metrics.mae(truth, predicted),
        "r2": metrics.r2(truth, predicted),
    }


def estimate(pairs: Sequence[Pair]) -> Estimate:
    """A figure over the seeds: its means, the mean difference, and the interval of the module's text."""
    whole = [one for one in pairs if one.base is not None and one.candidate is not None]
    if not whole:
        return Estimate(None, None, None, None, None)
    base = float(np.mean([one.base for one in whole]))
    candidate = float(np.mean([one.candidate for one in whole]))
    difference = candidate - base
    if len(whole) < 2:
        return Estimate(base, candidate, difference, None, None)
    draws = np.stack([one.draws for one in whole])
    means = draws[:, ~np.isnan(draws).any(axis=0)].mean(axis=0)
    if len(means) < DRAWS // 2:
        return Estimate(base, candidate, difference, None, None)
    rows = float(means.var(ddof=1))
    found = [one.candidate - one.base for one in whole if one.base is not None and one.candidate is not None]
    seeds = float(np.var(found, ddof=1)) / len(whole)
    reach = _quantile(rows + seeds, seeds, len(whole)) * math.sqrt(rows + seeds)
    return Estimate(base, candidate, difference, difference - reach, difference + reach)


def _quantile(whole: float, seeds: float, count: int) -> float:
    """Student's t for the degrees of freedom of a variance of which ``seeds`` comes from so many seeds."""
    if seeds <= 0:
        return _NORMAL
    degrees = whole**2 / (seeds**2 / (count - 1))
    # beyond the table, the first term of its expansion in 1 / degrees, right to two digits
    return _T[int(degrees) - 1] if degrees < len(_T) + 1 else _NORMAL + 2.4 / degrees


def verdict(metric: str, one: Estimate) -> str:
    """``better``, ``worse``, ``no difference shown`` where the interval includes 0, ``not known`` without one."""
    if one.low is None or one.high is None:
        return "not known"
    if one.low <= 0 <= one.high:
        return "no difference shown"
    return "better" if (one.low > 0) == (metric in HIGHER) else "worse"
