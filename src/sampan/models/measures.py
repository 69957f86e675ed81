"""The names of figures: what people call them, which is better when it is higher, and which come first of each kind.

The one place that says so. Figures are computed in ``sampan.models.metrics``; a step may return others of its own.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple


class Measure(NamedTuple):
    """A figure. ``higher``: whether more of it is better, None if that cannot be said."""

    title: str
    higher: bool | None


MEASURES: Final[Mapping[str, Measure]] = {
    "auc": Measure("AUC", True),
    "roc_auc": Measure("AUC", True),
    "pr_auc": Measure("Average precision", True),
    "average_precision": Measure("Average precision", True),
    "accuracy": Measure("Accuracy", True),
    "balanced_accuracy": Measure("Balanced accuracy", True),
    "precision": Measure("Precision", True),
    "recall": Measure("Recall", True),
    "f1": Measure("F1", True),
    "macro_f1": Measure("F1, mean over classes", True),
    "weighted_f1": Measure("F1, weighted by cases", True),
    "log_loss": Measure("Log loss", False),
    "brier": Measure("Brier score", False),
    "calibration_error": Measure("Calibration error", False),
    "rmse": Measure("Root mean squared error", False),
    "mse": Measure("Mean squared error", False),
    "mae": Measure("Mean absolute error", False),
    "medae": Measure("Median absolute error", False),
    "mape": Measure("Mean absolute error, as a share", False),
    "r2": Measure("R²", True),
    "ndcg": Measure("NDCG", True),
    "mrr": Measure("Mean reciprocal rank", True),
    "map": Measure("Mean average precision", True),
    "kendall_tau": Measure("Kendall’s τ", True),
    "spearman": Measure("Spearman’s ρ", True),
    "loss": Measure("Loss", False),
    "base_rate": Measure("Share of positives", None),
    "mean_prediction": Measure("Mean prediction", None),
    "cases": Measure("Cases", None),
}

#: The figures of each kind, the main one first.
FIRST: Final[Mapping[str, tuple[str, ...]]] = {
    "binary": ("auc", "pr_auc", "log_loss", "brier", "calibration_error", "accuracy", "precision", "recall", "f1"),
    "multiclass": ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "log_loss"),
    "regression": ("rmse", "mae", "medae", "mape", "r2"),
    "ranking": ("ndcg", "mrr", "map"),
}
_PART: Final = re.compile(r"^(train|training|test|valid|validation|val|eval|holdout|cv)[_-]")


def title(name: str) -> str:
    """What people call a figure: ``NDCG at 10``; its own name, if it is none that is known."""
    base, at, k = name.partition("@")
    known = MEASURES.get(base)
    return name if known is None else f"{known.title} at {k}" if at else known.title


def higher(name: str) -> bool | None:
    """Whether more of a figure is better (``auc``, ``ndcg@10``, ``test_rmse``); None if nobody can say."""
    base = _PART.sub("", name.partition("@")[0])
    return MEASURES[base].higher if base in MEASURES else None


def sorted_for(kind: str, names: Iterable[str]) -> list[str]:
    """Names of figures in the order in which readers want them: those of the kind, others that say better or worse,
    what a step made up, and what only describes the data."""
    first, known = FIRST.get(kind, ()), list(MEASURES)

    def place(name: str) -> tuple[int, int, str]:
        base = name.partition("@")[0]
        if base in first:
            return 0, first.index(base), name
        if base in MEASURES:
            return (1 if MEASURES[base].higher is not None else 3), known.index(base), name
        return 2, 0, name

    return sorted(names, key=place)
