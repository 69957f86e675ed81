"""What figures are made of: outcomes and predictions as arrays, checked, in numpy alone."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from sampan.base.errors import Usage

Vector: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


def outcomes(truth: ArrayLike) -> Vector:
    """True-or-false outcomes as 1 and 0. Raises Usage for anything else."""
    given = np.asarray(truth)
    values = given.astype(np.float64)
    if values.size and not np.all((values == 0) | (values == 1)):
        odd = given[~((values == 0) | (values == 1))][0]
        raise Usage("Measure a binary model", f"the outcome {odd!r} is neither true nor false", "Give 0 or 1.")
    return values


def numbers(truth: ArrayLike) -> Vector:
    """Outcomes that are numbers. Raises Usage for one that is not finite."""
    values = np.asarray(truth, dtype=np.float64)
    if not np.all(np.isfinite(values)):
        raise Usage("Measure predictions", "an outcome is not a finite number", "Leave rows without an outcome out.")
    return values


def pair(truth: Vector, prediction: ArrayLike) -> tuple[Vector, Vector]:
    """Outcomes and predictions of one length. Raises Usage for other shapes, and for what is not finite."""
    predicted = np.asarray(prediction, dtype=np.float64)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise Usage("Measure predictions", f"outcomes have the shape {truth.shape}, predictions {predicted.shape}")
    if not np.all(np.isfinite(predicted)):
        raise Usage("Measure predictions", "a prediction is not a finite number")
    return truth, predicted


def average_ranks(values: Vector) -> Vector:
    """The rank of each value, from 1; equal ones share the mean of theirs."""
    order = np.argsort(values, kind="stable")
    starts, sizes = runs(values[order])
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(starts + (sizes + 1) / 2, sizes)
    return ranks


def runs(ordered: Vector) -> tuple[Any, Any]:
    """Where each stretch of equal values begins in sorted ones, and how long it is."""
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.empty(0, dtype=np.int64)
    return starts, np.diff(np.r_[starts, len(ordered)])


def groups(truth: Vector, score: ArrayLike, group: Sequence[Any] | None) -> list[tuple[Vector, Vector]]:
    """Outcomes and scores group by group, in the order in which groups come first. Raises Usage as ``pair`` does."""
    true, scores = pair(truth, score)
    if group is None:
        return [(true, scores)] if true.size else []
    if len(group) != len(true):
        raise Usage("Measure a ranking", f"{len(group)} group names for {len(true)} items")
    known: dict[Any, int] = {}
    codes = np.array([known.setdefault(name, len(known)) for name in np.asarray(group).tolist()], dtype=np.int64)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(known)))[:-1]
    parts = zip(np.split(true[order], ends), np.split(scores[order], ends), strict=True)
    return list(parts) if len(known) else []
