"""Figures that say how good predictions were, by kind of model, in numpy alone: ``from sampan import metrics``.

    metrics.measure("regression", truth, prediction)     all figures of a kind at once, for ``Fitted(..., metrics=...)``
    metrics.auc(truth, score)                            one of them

A figure that is not defined is None, never a guess: the AUC of one class, R² of a truth that does not vary, any figure
of no cases. Sources are named with each function. Weights are not supported: every case counts once. Which figure is
better when it is higher stands in ``sampan.models.measures``.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from sampan.base.errors import Usage
from sampan.models.orders import average_precision as average_precision
from sampan.models.orders import kendall_tau as kendall_tau
from sampan.models.orders import mean_average_precision as mean_average_precision
from sampan.models.orders import ndcg as ndcg
from sampan.models.orders import reciprocal_rank as reciprocal_rank
from sampan.models.orders import spearman as spearman
from sampan.models.vectors import average_ranks, numbers, outcomes, pair

Figures: TypeAlias = dict[str, Any]
"""Name to a number, or None; of a figure of each class, to one of these by class."""

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
    positive = outcomes(truth)
    return float(positive.mean()) if positive.size else None


def auc(truth: ArrayLike, score: ArrayLike) -> float | None:
    """Area under the ROC curve; None if only one class is present.

    The Mann-Whitney statistic with average ranks for ties: Hanley and McNeil, "The Meaning and Use of the Area under
    a ROC Curve", Radiology 143 (1982).
    """
    positive, scores = pair(outcomes(truth), score)
    positives = int(positive.sum())
    negatives = positive.size - positives
    if positives == 0 or negatives == 0:
        return None
    ranks = average_ranks(scores)
    rank_sum = float(ranks[positive > 0].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def brier(truth: ArrayLike, probability: ArrayLike) -> float | None:
    """Mean squared distance of probability and outcome: Brier, Monthly Weather Review 78 (1950), for two classes."""
    positive, probabilities = pair(outcomes(truth), probability)
    return float(np.mean((probabilities - positive) ** 2)) if positive.size else None


def log_loss(truth: ArrayLike, probability: ArrayLike) -> float | None:
    """Mean negative log-likelihood (Good, "Rational Decisions", 1952); probabilities are kept 1e-15 from 0 and 1."""
    positive, probabilities = pair(outcomes(truth), probability)
    if not positive.size:
        return None
    clipped = np.clip(probabilities, _TINY, 1 - _TINY)
    return float(-np.mean(positive * np.log(clipped) + (1 - positive) * np.log1p(-clipped)))


def calibration(truth: ArrayLike, probability: ArrayLike, bins: int = 10) -> list[Bin]:
    """Predicted against observed share in bins of equal width: Niculescu-Mizil and Caruana, ICML 2005, section 3."""
    positive, probabilities = pair(outcomes(truth), probability)
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


def accuracy(truth: ArrayLike, probability: ArrayLike, threshold: float = 0.5) -> float | None:
    """Share of cases that are called right, where a probability from ``threshold`` on says yes."""
    positive, probabilities = pair(outcomes(truth), probability)
    return float(np.mean((probabilities >= threshold) == (positive > 0))) if positive.size else None


def precision(truth: ArrayLike, probability: ArrayLike, threshold: float = 0.5) -> float | None:
    """Share of positives among the cases called so; None if none is: van Rijsbergen, "Information Retrieval", 1979."""
    hits, called, _ = _called(truth, probability, threshold)
    return hits / called if called else None


def recall(truth: ArrayLike, probability: ArrayLike, threshold: float = 0.5) -> float | None:
    """Share of the positives that are called so; None if there is none."""
    hits, _, positives = _called(truth, probability, threshold)
    return hits / positives if positives else None


def f1(truth: ArrayLike, probability: ArrayLike, threshold: float = 0.5) -> float | None:
    """Harmonic mean of precision and recall; None if there are no positives, and none is called so."""
    hits, called, positives = _called(truth, probability, threshold)
    return 2 * hits / (called + positives) if called + positives else None


def mae(truth: ArrayLike, prediction: ArrayLike) -> float | None:
    """Mean absolute error: Hyndman and Koehler, "Another look at measures of forecast accuracy", International Journal
    of Forecasting 22 (2006), as the figures below."""
    errors = _errors(truth, prediction)
    return float(np.mean(np.abs(errors))) if errors.size else None


def medae(truth: ArrayLike, prediction: ArrayLike) -> float | None:
    """Median absolute error, which a few large errors do not move."""
    errors = _errors(truth, prediction)
    return float(np.median(np.abs(errors))) if errors.size else None


def rmse(truth: ArrayLike, prediction: ArrayLike) -> float | None:
    """Root mean squared error."""
    errors = _errors(truth, prediction)
    with np.errstate(over="ignore"):
        return _defined(np.sqrt(np.mean(errors**2))) if errors.size else None


def mape(truth: ArrayLike, prediction: ArrayLike) -> float | None:
    """Mean absolute error as a share of the truth; None if a truth is 0, or so near that no number holds it.

    Truths near 0 weigh most in it, and a prediction that is too low is charged less than one that is too high: do not
    choose a model by it.
    """
    errors, true = _errors(truth, prediction), numbers(truth)
    with np.errstate(over="ignore"):
        return _defined(np.mean(np.abs(errors / true))) if errors.size and np.all(true != 0) else None


def r2(truth: ArrayLike, prediction: ArrayLike) -> float | None:
    """1 - (squared error) / (squared deviation from the mean); None where the truth does not vary: Draper and Smith,
    "Applied Regression Analysis", 3rd edition, section 1.3."""
    errors, true = _errors(truth, prediction), numbers(truth)
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.sum((true - true.mean()) ** 2) if true.size else 0.0
        return _defined(1 - np.sum(errors**2) / spread) if spread > 0 else None


# -- all figures of a kind


def measure(
    kind: str,
    truth: Any,
    prediction: ArrayLike,
    *,
    classes: Sequence[Any] | None = None,
    group: Sequence[Any] | None = None,
) -> Figures:
    """All figures of a kind: ``binary``, ``multiclass`` (with ``classes``), ``regression``, ``ranking`` (``group`` says
    within what), or ``ordered``, where only the order of the predictions counts. Raises Usage."""
    if kind == "multiclass":
        if classes is None:
            advice = "Give classes=estimator.classes_: what each column of probabilities is of."
            raise Usage("Measure a multiclass model", "its classes are not named", advice)
        return multiclass(list(truth), prediction, list(classes))
    if kind == "ranking":
        return ranking(truth, prediction, group)
    known = {"binary": binary, "regression": regression, "ordered": ordered}
    if kind not in known:
        raise Usage(
            "Measure a model", f"unknown kind {kind!r}", f"Known: {', '.join([*known, 'multiclass', 'ranking'])}."
        )
    return known[kind](truth, prediction)


def binary(truth: ArrayLike, probability: ArrayLike) -> Figures:
    """All figures of a binary model; those of calls are at a threshold of 0.5."""
    return {
        "cases": float(np.asarray(truth).size),
        "base_rate": base_rate(truth),
        "mean_prediction": _mean(probability),
        "auc": auc(truth, probability),
        "pr_auc": average_precision(outcomes(truth), probability),
        "brier": brier(truth, probability),
        "log_loss": log_loss(truth, probability),
        "calibration_error": calibration_error(truth, probability),
        "accuracy": accuracy(truth, probability),
        "precision": precision(truth, probability),
        "recall": recall(truth, probability),
        "f1": f1(truth, probability),
    }


def multiclass(truth: Sequence[Any], probabilities: ArrayLike, classes: Sequence[Any]) -> Figures:
    """All figures of a model that gives one probability per class, in the order of ``classes``; it calls a case what is
    most probable. ``recall_by_class`` has the share of each class that is called so, None for one without cases.

    F1 of a class is 0 if it is neither present nor called; ``macro_f1`` is its mean over all ``classes``,
    ``weighted_f1`` that by cases: Sokolova and Lapalme, Information Processing & Management 45 (2009), table 3.
    ``balanced_accuracy`` is the mean recall over the classes that are present: Brodersen et al., ICPR 2010.
    A true label outside ``classes`` raises Usage.
    """
    table = np.asarray(probabilities, dtype=np.float64)
    places = {label: place for place, label in enumerate(classes)}
    unknown = next((label for label in truth if label not in places), None)
    if unknown is not None:
        raise Usage("Measure a multiclass model", f"the outcome {unknown!r} is none of its classes", f"{list(classes)}")
    if not len(truth):
        names = ("accuracy", "balanced_accuracy", "log_loss", "macro_f1", "weighted_f1")
        none = dict.fromkeys((str(label) for label in classes), None)
        return {"cases": 0.0, **dict.fromkeys(names, None), "recall_by_class": none}
    if table.shape != (len(truth), len(classes)):
        raise Usage(
            "Measure a multiclass model",
            f"its probabilities have the shape {table.shape}, expected {(len(truth), len(classes))}",
        )
    true, count = np.array([places[label] for label in truth]), len(classes)
    chosen = table.argmax(axis=1)
    own = np.clip(table[np.arange(len(true)), true] / table.sum(axis=1), _TINY, 1.0)
    hits = np.bincount(true[true == chosen], minlength=count)
    cases, called = np.bincount(true, minlength=count), np.bincount(chosen, minlength=count)
    scores = 2 * hits / np.maximum(cases + called, 1)
    recalls = [int(hit) / int(of) if of else None for hit, of in zip(hits, cases, strict=True)]
    return {
        "cases": float(len(true)),
        "accuracy": float(np.mean(true == chosen)),
        "balanced_accuracy": float(np.mean([one for one in recalls if one is not None])),
        "log_loss": float(-np.mean(np.log(own))),
        "macro_f1": float(np.mean(scores)),
        "weighted_f1": float(np.average(scores, weights=cases)),
        "recall_by_class": {str(label): one for label, one in zip(classes, recalls, strict=True)},
    }


def regression(truth: ArrayLike, prediction: ArrayLike) -> Figures:
    """All figures of a model that gives a number."""
    figures = {"mae": mae, "medae": medae, "rmse": rmse, "mape": mape, "r2": r2}
    return {
        "cases": float(np.asarray(truth).size),
        **{name: figure(truth, prediction) for name, figure in figures.items()},
    }


def ranking(relevance: ArrayLike, score: ArrayLike, group: Sequence[Any] | None = None, k: int = 10) -> Figures:
    """All figures of a ranking: at ``k``, over groups that have anything relevant."""
    return {
        "cases": float(np.asarray(relevance).size),
        f"ndcg@{k}": ndcg(relevance, score, group, k),
        "mrr": reciprocal_rank(relevance, score, group),
        f"map@{k}": mean_average_precision(relevance, score, group, k),
        "map": average_precision(relevance, score, group),
    }


def ordered(truth: ArrayLike, prediction: ArrayLike) -> Figures:
    """All figures of predictions of which only the order counts."""
    return {
        "cases": float(np.asarray(truth).size),
        "kendall_tau": kendall_tau(truth, prediction),
        "spearman": spearman(truth, prediction),
    }


def _called(truth: ArrayLike, probability: ArrayLike, threshold: float) -> tuple[int, int, int]:
    """Positives called so, all that are called so, all positives."""
    positive, probabilities = pair(outcomes(truth), probability)
    called = probabilities >= threshold
    return int(np.sum(positive[called])), int(called.sum()), int(positive.sum())


def _errors(truth: ArrayLike, prediction: ArrayLike) -> Any:
    true, predicted = pair(numbers(truth), prediction)
    return true - predicted


def _defined(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _mean(values: ArrayLike) -> float | None:
    found = np.asarray(values, dtype=np.float64)
    return float(found.mean()) if found.size else None
