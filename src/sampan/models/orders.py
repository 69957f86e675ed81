"""Figures where the order counts: of rankings in groups, and of two orders of the same things. In numpy alone.

Where items of a ranking have equal scores, a figure is its mean over all orders of these: McSherry and Najork,
"Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores", ECIR 2008.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sampan.base.errors import Usage
from sampan.models.vectors import Vector, average_ranks, groups, numbers, pair, runs


def ndcg(relevance: ArrayLike, score: ArrayLike, group: Sequence[Any] | None = None, k: int = 10) -> float | None:
    """Normalised discounted cumulative gain at k, averaged over groups that have anything relevant.

    Gain = relevance, discount = log2(rank + 1): Järvelin and Kekäläinen, ACM TOIS 20 (2002). Items with equal scores
    share the mean of their gains.
    """
    found = []
    for relevances, scores in groups(numbers(relevance), score, group):
        if np.any(relevances < 0):
            raise Usage("Measure a ranking", "a relevance is negative", "Relevance is 0 or more.")
        ideal = _discounted(np.sort(relevances)[::-1], k)
        if ideal > 0:
            found.append(_discounted(_tie_averaged(relevances, scores), k) / ideal)
    return float(np.mean(found)) if found else None


def mean_average_precision(
    relevant: ArrayLike, score: ArrayLike, group: Sequence[Any] | None = None, k: int = 10
) -> float | None:
    """Mean average precision at k (MAP@k), averaged over groups that have anything relevant.

    The sum of the precision at each relevant item among the first k, divided by how many there could be: k, or all
    relevant ones if these are fewer. Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 8.4.
    """
    found = []
    for truth, scores in groups(numbers(relevant), score, group):
        hits = (truth > 0).astype(np.float64)
        if not hits.sum():
            continue
        order = np.argsort(-scores, kind="stable")
        starts, sizes = runs(scores[order])
        within = np.add.reduceat(hits[order], starts)  # relevant ones in each stretch of equal scores
        before = np.cumsum(within) - within
        place = np.arange(len(order)) - np.repeat(starts, sizes)  # from 0, within its stretch
        share = np.repeat(within / sizes, sizes)
        among = np.repeat((within - 1) / np.maximum(sizes - 1, 1), sizes)  # of those before it, if it is relevant
        precision = share * (np.repeat(before, sizes) + 1 + place * among) / np.arange(1, len(order) + 1)
        found.append(float(precision[:k].sum() / min(k, hits.sum())))
    return float(np.mean(found)) if found else None


def reciprocal_rank(relevant: ArrayLike, score: ArrayLike, group: Sequence[Any] | None = None) -> float | None:
    """Mean reciprocal rank (MRR) of the first relevant item, over groups that have one: Voorhees, TREC-8, 1999."""
    found = []
    for truth, scores in groups(numbers(relevant), score, group):
        hits = truth > 0
        if not hits.any():
            continue
        best = scores[hits].max()
        before, tied = int(np.sum(scores > best)), scores == best
        found.append(_first(before, int(tied.sum()), int(np.sum(tied & hits))))
    return float(np.mean(found)) if found else None


def _first(before: int, tied: int, relevant: int) -> float:
    """The mean of 1 / rank of the first relevant one, over all orders of ``tied`` items of which some are relevant."""
    mean, none_yet = 0.0, 1.0  # the chance that none of the places so far has one
    for place in range(tied - relevant + 1):
        here = none_yet * relevant / (tied - place)
        mean += here / (before + place + 1)
        none_yet -= here
    return mean


def average_precision(relevant: ArrayLike, score: ArrayLike, group: Sequence[Any] | None = None) -> float | None:
    """Average precision, the area under the precision-recall curve as steps; the mean over groups that have any.

    Mean of the precision at each relevant item; items with equal scores count as retrieved together, as one step of
    the precision-recall curve: Manning, Raghavan and Schütze, "Introduction to Information Retrieval", section 8.4.
    """
    found = []
    for truth, scores in groups(numbers(relevant), score, group):
        hits = (truth > 0).astype(np.float64)
        if not hits.sum():
            continue
        order = np.argsort(-scores, kind="stable")
        ends = np.r_[np.flatnonzero(np.diff(scores[order])), len(order) - 1]
        retrieved = np.cumsum(hits[order])[ends]
        steps = np.diff(np.r_[0.0, retrieved])
        found.append(float(np.sum(steps * retrieved / (ends + 1)) / hits.sum()))
    return float(np.mean(found)) if found else None


def kendall_tau(truth: ArrayLike, prediction: ArrayLike) -> float | None:
    """Kendall's τ-b: how many more pairs both put in the same order than in opposite ones, as a share of those that
    either tells apart; None if one of them does not vary.

    Kendall, "The Treatment of Ties in Ranking Problems", Biometrika 33 (1945); counted in n log² n steps after Knight,
    "A Computer Method for Calculating Kendall's Tau with Ungrouped Data", JASA 61 (1966).
    """
    true, predicted = pair(numbers(truth), prediction)
    count = len(true)
    x, y = average_ranks(true), average_ranks(predicted)
    order = np.lexsort((y, x))
    pairs = count * (count - 1) // 2
    both = _tied(np.unique(np.column_stack([x, y]), axis=0, return_counts=True)[1]) if count else 0
    of_x, of_y = (_tied(np.unique(one, return_counts=True)[1]) for one in (x, y))
    told = (pairs - of_x) * (pairs - of_y)
    if not told:
        return None
    return (pairs - of_x - of_y + both - 2 * _inversions(y[order])) / math.sqrt(told)


def spearman(truth: ArrayLike, prediction: ArrayLike) -> float | None:
    """Spearman's ρ: the correlation of the ranks, equal values sharing the mean of theirs; None if one does not vary.

    Spearman, "The Proof and Measurement of Association between Two Things", American Journal of Psychology 15 (1904).
    """
    true, predicted = pair(numbers(truth), prediction)
    if not true.size:
        return None
    x, y = (ranks - ranks.mean() for ranks in (average_ranks(true), average_ranks(predicted)))
    spread = float(x @ x) * float(y @ y)
    return float(x @ y) / math.sqrt(spread) if spread else None


def _tied(counts: Any) -> int:
    return int(np.sum(counts.astype(np.int64) * (counts - 1) // 2))


def _inversions(values: Vector) -> int:
    """Pairs of which the earlier one is greater. Each is counted at the width of blocks at which its two places come to
    lie in one block, in different halves of it."""
    codes = np.unique(values, return_inverse=True)[1].astype(np.int64)
    places, span, found, width = np.arange(len(codes)), len(codes) + 1, 0, 1
    while width < len(codes):
        block, first = places // (2 * width), (places // width) % 2 == 0
        left = np.sort(block[first] * span + codes[first])
        end = np.searchsorted(left, (block[~first] + 1) * span)
        found += int(np.sum(end - np.searchsorted(left, block[~first] * span + codes[~first], side="right")))
        width *= 2
    return found


def _discounted(gains: Vector, k: int) -> float:
    top = gains[:k]
    return float(np.sum(top / np.log2(np.arange(2, len(top) + 2))))


def _tie_averaged(gains: Vector, scores: Vector) -> Vector:
    order = np.argsort(-scores, kind="stable")
    starts, sizes = runs(scores[order])
    return np.repeat(np.add.reduceat(gains[order], starts) / sizes, sizes)
