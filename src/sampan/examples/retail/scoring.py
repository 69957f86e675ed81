"""How well a probability separates and how honest it is. Plain NumPy; used by the evaluation and its tests."""

import numpy as np


def auc(truth: np.ndarray, score: np.ndarray) -> float | None:
    """The chance that a random positive scores above a random negative, ties counting half (Hanley and McNeil,
    "The meaning and use of the area under a ROC curve", Radiology 143, 1982). None where one class is missing."""
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if positives == 0 or negatives == 0:
        return None
    _, group, size = np.unique(score, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(size)
    rank = (last_rank - (size - 1) / 2)[group]  # ties share the mean of their ranks
    return float((rank[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def brier(truth: np.ndarray, score: np.ndarray) -> float:
    """Mean squared distance of the probability from what happened (Brier, Monthly Weather Review 78, 1950)."""
    return float(np.mean((score - truth) ** 2))
