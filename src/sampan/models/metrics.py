"""Figures that say how good predictions were, in numpy alone. A figure that is not defined is None, never a guess.

Sources are named with each function. Weights are not supported: every case counts once.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from sampan.base.errors import Usage

Vector: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

_TINY = 1e-15  # probabilities are kept this far from 0 and 1, so that one certain miss does not make log loss infinite


class Bin(NamedTuple):
    """One bin of a calibration curve: cases whose prediction lies in [low, high) (the last bin includes 1)."""

    low: float
    high: float
    cases: int
    predicted: float | None
    observed: float | None


def base_rate(truth: ArrayLike) -> float | None:
    """Share of positives; None for no cases."""
    positive = _binary(truth)
    return float(positive.mean()) if positive.size else None


def auc(truth: ArrayLike, score: ArrayLike) -> float | None:
    """Area under the ROC curve; None if only one class is present.

    The Mann-Whitney statistic with average ranks for ties: Hanley and McNeil, "The Meaning and Use of the Area under
    a ROC Curve", Radiology 143 (1982).
    """
    positive, scores = _pair(_binary(truth), score)
    positives = int(positive.sum())
    negatives = positive.size - positives
    if positives == 0 or negatives == 0:
        return None
    ranks = _average_ranks(scores)
    rank_sum = float(ranks[positive > 0].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def brier(truth: ArrayLike, probability: ArrayLike) -> float | None:
    """Mean squared distance of probability and outcome: Brier, Monthly Weather Review 78 (1950), for two classes."""
    positive, probabilities = _pair(_binary(truth), probability)
    return float(np.mean((probabilities - positive) ** 2)) if positive.size else None


def log_loss(truth: ArrayLike, probability: ArrayLike) -> float | None:
    """Mean negative log-likelihood (Good, "Rational Decisions", 1952); probabilities are kept 1e-15 from 0 and 1."""
    positive, probabilities = _pair(_binary(truth), probability)
    if not positive.size:
        return None
    clipped = np.clip(probabilities, _TINY, 1 - _TINY)
    return float(-np.mean(positive * np.log(clipped) + (1 - positive) * np.log1p(-clipped)))


def calibration(truth: ArrayLike, probability: ArrayLike, bins: int = 10) -> list[Bin]:
    """Predicted against observed share in bins of equal width: Niculescu-Mizil and Caruana, ICML 2005, section 3."""
    positive, probabilities = _pair(_binary(truth), probability)
    places = np.clip((probabilities * bins).astype(int), 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    predicted = np.bincount(places, weights=probabilities, minlength=bins)
    observed = np.bincount(places, weights=positive, minlength=bins)
    return [
        Bin(
            place / bins,
            (place + 1) / bins,
            int(counts[place]),
            float(predicted[place] / counts[place]) if counts[place] else None,
            float(observed[place] / counts[place]) if counts[place] else None,
        )
        for place in range(bins)
    ]


def calibration_error(truth: ArrayLike, probability: ArrayLike, bins: int = 10) -> float | None:
    """Mean gap of predicted and observed share over the bins, by count: Naeini et al., AAAI 2015, equation 3."""
    filled = [part for part in calibration(truth, probability, bins) if part.predicted is not None]
    total = sum(part.cases for part in filled)
    if not total:
        return None
    gaps = sum(part.cases * abs((part.predicted or 0.0) - (part.observed or 0.0)) for part in filled)
    return gaps / total


def binary(truth: ArrayLike, probability: ArrayLike) -> dict[str, float | None]:
    """All figures of a binary model at once."""
    return {
        "cases": float(np.asarray(truth).size),
        "base_rate": base_rate(truth),
        "mean_prediction": _mean(probability),
        "auc": auc(truth, probability),
        "brier": brier(truth, probability),
        "log_loss": log_loss(truth, probability),
        "calibration_error": calibration_error(truth, probability),
    }


def multiclass(truth: Sequence[Any], probabilities: ArrayLike, classes: Sequence[Any]) -> dict[str, float | None]:
    """Accuracy, log loss and macro-F1 of a model that gives one probability per class, in the order of ``classes``.

    Macro-F1 is the mean over all ``classes`` of the harmonic mean of precision and recall, 0 for a class that is
    neither present nor predicted: Sokolova and Lapalme, Information Processing & Management 45 (2009), table 3.
    A true label outside ``classes`` raises Usage.
    """
    table = np.asarray(probabilities, dtype=np.float64)
    places = {label: place for place, label in enumerate(classes)}
    unknown = next((label for label in truth if label not in places), None)
    if unknown is not None:
        raise Usage("Measure a multiclass model", f"the outcome {unknown!r} is none of its classes", f"{list(classes)}")
    if not len(truth):
        return {"cases": 0.0, "accuracy": None, "log_loss": None, "macro_f1": None}
    if table.shape != (len(truth), len(classes)):
        raise Usage(
            "Measure a multiclass model",
            f"its probabilities have the shape {table.shape}, expected {(len(truth), len(classes))}",
        )
    true = np.array([places[label] for label in truth])
    chosen = table.argmax(axis=1)
    own = np.clip(table[np.arange(len(true)), true] / table.sum(axis=1), _TINY, 1.0)
    scores = []
    for place in range(len(classes)):
        hits = int(np.sum((true == place) & (chosen == place)))
        sizes = int(np.sum(true == place)) + int(np.sum(chosen == place))
        scores.append(2 * hits / sizes if sizes else 0.0)
    return {
        "cases": float(len(true)),
        "accuracy": float(np.mean(true == chosen)),
        "log_loss": float(-np.mean(np.log(own))),
        "macro_f1": float(np.mean(scores)),
    }


def regression(truth: ArrayLike, prediction: ArrayLike) -> dict[str, float | None]:
    """Mean absolute error, root mean squared error, and R²; R² is None where the truth does not vary.

    R² = 1 - (squared error) / (squared deviation from the mean): Draper and Smith, "Applied Regression Analysis",
    3rd edition, section 1.3.
    """
    true, predicted = _pair(np.asarray(truth, dtype=np.float64), prediction)
    if not true.size:
        return {"cases": 0.0, "mae": None, "rmse": None, "r2": None}
    errors = true - predicted
    spread = float(np.sum((true - true.mean()) ** 2))
    return {
        "cases": float(true.size),
        "mae": float(np.mean(np.abs(errors))),
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "r2": 1 - float(np.sum(errors**2)) / spread if spread > 0 else None,
    }


def ndcg(relevance: ArrayLike, score: ArrayLike, group: Sequence[Any] | None = None, k: int = 10) -> float | None:
    """Normalised discounted cumulative gain at k, averaged over groups that have anything relevant.

    Gain = relevance, discount = log2(rank + 1): Järvelin and Kekäläinen, ACM TOIS 20 (2002). Items with equal scores
    share the mean of their gains (McSherry and Najork, ECIR 2008).
    """
    found = []
    for relevances, scores in _groups(relevance, score, group):
        if np.any(relevances < 0):
            raise Usage("Measure a ranking", "a relevance is negative", "Relevance is 0 or more.")
        ideal = _discounted(np.sort(relevances)[::-1], k)
        if ideal > 0:
            found.append(_discounted(_tie_averaged(relevances, scores), k) / ideal)
    return float(np.mean(found)) if found else None


def average_precision(relevant: ArrayLike, score: ArrayLike, group: Sequence[Any] | None = None) -> float | None:
    """Mean average precision (MAP) over groups that have anything relevant.

    Mean of the precision at each relevant item; items with equal scores count as retrieved together, as one step of
    the precision-recall curve: Manning, Raghavan and Schütze, "Introduction to Information Retrieval", section 8.4.
    """
    found = []
    for truth, scores in _groups(relevant, score, group):
        hits = (truth > 0).astype(np.float64)
        if not hits.sum():
            continue
        order = np.argsort(-scores, kind="stable")
        ends = np.r_[np.flatnonzero(np.diff(scores[order])), len(order) - 1]
        retrieved = np.cumsum(hits[order])[ends]
        steps = np.diff(np.r_[0.0, retrieved])
        found.append(float(np.sum(steps * retrieved / (ends + 1)) / hits.sum()))
    return float(np.mean(found)) if found else None


def ranking(relevance: ArrayLike, score: ArrayLike, group: Sequence[Any] | None = None) -> dict[str, float | None]:
    """NDCG at 10 and mean average precision."""
    return {
        "cases": float(np.asarray(relevance).size),
        "ndcg@10": ndcg(relevance, score, group, 10),
        "map": average_precision(relevance, score, group),
    }


def _binary(truth: ArrayLike) -> Vector:
    given = np.asarray(truth)
    values = given.astype(np.float64)
    if values.size and not np.all((values == 0) | (values == 1)):
        odd = given[~((values == 0) | (values == 1))][0]
        raise Usage("Measure a binary model", f"the outcome {odd!r} is neither true nor false", "Give 0 or 1.")
    return values


def _pair(truth: Vector, prediction: ArrayLike) -> tuple[Vector, Vector]:
    predicted = np.asarray(prediction, dtype=np.float64)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise Usage("Measure predictions", f"outcomes have the shape {truth.shape}, predictions {predicted.shape}")
    if not np.all(np.isfinite(predicted)):
        raise Usage("Measure predictions", "a prediction is not a finite number")
    return truth, predicted


def _mean(values: ArrayLike) -> float | None:
    found = np.asarray(values, dtype=np.float64)
    return float(found.mean()) if found.size else None


def _average_ranks(values: Vector) -> Vector:
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ends = np.r_[starts[1:], len(ordered)]
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks


def _groups(truth: ArrayLike, score: ArrayLike, group: Sequence[Any] | None) -> list[tuple[Vector, Vector]]:
    true, scores = _pair(np.asarray(truth, dtype=np.float64), score)
    if group is None:
        return [(true, scores)] if true.size else []
    names = np.asarray(group)
    if len(names) != len(true):
        raise Usage("Measure a ranking", f"{len(names)} group names for {len(true)} items")
    return [(true[names == name], scores[names == name]) for name in dict.fromkeys(names.tolist())]


def _discounted(gains: Vector, k: int) -> float:
    top = gains[:k]
    return float(np.sum(top / np.log2(np.arange(2, len(top) + 2))))


def _tie_averaged(gains: Vector, scores: Vector) -> Vector:
    order = np.argsort(-scores, kind="stable")
    ordered, sorted_scores = gains[order], scores[order]
    starts = np.flatnonzero(np.r_[True, sorted_scores[1:] != sorted_scores[:-1]])
    sizes = np.diff(np.r_[starts, len(ordered)])
    return np.repeat(np.add.reduceat(ordered, starts) / sizes, sizes)
