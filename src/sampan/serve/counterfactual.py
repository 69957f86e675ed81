"""What other rules, or another model, would have decided in the past, and what that would have been worth.

Past requests stand in the log with the features and the context that were known when they were made. They are answered
again by a process that goes the way of serving; both answers are then held against what turned out to be true.

What it cannot know: whether another action would have led to another outcome. Outcomes are those of what was done.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from sampan.serve.again import Again
from sampan.serve.past import Past
from sampan.serve.value import Decided, by_month, earned

WORST: Final = 10
_RESAMPLES: Final = 2_000
_PATIENCE: Final = 120.0  # seconds, and a hundredth of one more for each request
_FLOATS: Final = ("DOUBLE", "FLOAT")
_ALIKE: Final = 1e-9  # predictions that differ by less are the same


class Month(msgspec.Struct, frozen=True):
    """A calendar month (UTC), as it was and as it would have been. Values are per 1,000 decisions whose outcome is
    known; None where there are none."""

    month: str
    decisions: int
    known: int
    differ: int
    auc_before: float | None
    auc_after: float | None
    brier_before: float | None
    brier_after: float | None
    value_before: float | None
    value_after: float | None


class Move(msgspec.Struct, frozen=True):
    """Decisions that went from one action to another, and what that changes, of those whose outcome is known."""

    before: str
    after: str
    decisions: int
    known: int
    difference: float


class ChangedDecision(msgspec.Struct, frozen=True):
    """One decision that would have been another."""

    id: str
    time: int
    entity: str
    prediction_before: Any
    prediction_after: Any
    action_before: str
    action_after: str
    rule_before: str
    rule_after: str
    outcome: Any
    earned_before: float | None
    earned_after: float | None
    difference: float | None


class Counterfactual(msgspec.Struct, frozen=True, kw_only=True):
    """Past decisions of one endpoint beside those that would have been.

    ``difference`` is what the known outcomes would have earned more, in ``currency``; ``low`` and ``high`` hold 95 % of
    its bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13); ``least`` and ``most``
    hold it whatever the outcomes of changed decisions would have been (Manski, "Nonparametric Bounds on Treatment
    Effects", 1990).
    """

    endpoint: str
    decisions: int
    answered: int
    known: int
    differ: int
    currency: str = ""
    value_before: float = 0.0
    value_after: float = 0.0
    difference: float = 0.0
    low: float = 0.0
    high: float = 0.0
    least: float = 0.0
    most: float = 0.0
    unanswered: dict[str, int] = {}
    fallbacks: dict[str, int] = {}
    """Why the rule failed and its safe default was taken, and how often."""
    months: tuple[Month, ...] = ()
    moves: tuple[Move, ...] = ()
    worst: tuple[ChangedDecision, ...] = ()
    best: tuple[ChangedDecision, ...] = ()
    versions: dict[str, str] = {}
    """Version that decided to the one that would have."""
    obstacle: str = ""
    """Why nothing was answered again, if nothing was."""


def in_words(effect: Counterfactual) -> str:
    """What it would have changed, in one sentence."""
    if effect.obstacle:
        return f"What it would have changed is not known: {effect.obstacle}."
    if not effect.answered:
        return "Nobody asked in that time: what it would change is not known."
    share = f"{effect.differ:,} of {effect.answered:,} decisions would have been others"
    if not effect.differ:
        return f"Not one of {effect.answered:,} decisions would have been another."
    if not effect.known or not effect.currency:
        return f"{share}; what that is worth is not known yet."
    sign = "+" if effect.difference > 0 else "−" if effect.difference < 0 else ""
    return f"{share}: {sign}{abs(effect.difference):,.2f} {effect.currency} over {effect.known:,} known outcomes."


def compare(
    endpoint: str, past: Sequence[Past], again: Mapping[str, Again], versions: Mapping[str, str]
) -> Counterfactual:
    """Both answers side by side. A decision that could not be answered again counts in ``unanswered`` alone."""
    unanswered: Counter[str] = Counter()
    fallbacks: Counter[str] = Counter()
    pairs: list[tuple[Past, Again]] = []
    for one in past:
        other = again.get(one.id)
        if other is None or (other.error and not other.action):
            unanswered[other.error if other else "no row of features for it with this code"] += 1
            continue
        if one.held and other.action == one.held:  # the cap would have held it back again
            other = msgspec.structs.replace(other, action=one.action, value=one.value, rule=one.rule)
        if one.reviewed and other.asks:  # people would have been asked again, and would have said the same
            other = msgspec.structs.replace(other, action=one.action, value=one.value)
        pairs.append((one, other))
        if other.error:
            fallbacks[other.error] += 1
    currencies = sorted({side.value["currency"] for pair in pairs for side in pair if side.value})
    if len(currencies) > 1:
        said = f"its values are in {' and '.join(currencies)}, which cannot be subtracted from each other"
        return Counterfactual(endpoint=endpoint, decisions=len(past), answered=0, known=0, differ=0, obstacle=said)
    changed = [_changed(one, other) for one, other in pairs if _differ(one, other)]
    moved = [one for one in changed if one.action_before != one.action_after]
    earned_before = {one.id: earned(one.value, one.outcome) for one, _ in pairs}
    earned_after = {one.id: earned(other.value, one.outcome) for one, other in pairs}
    known = [id for id, amount in earned_before.items() if amount is not None and earned_after[id] is not None]
    differences = [d for id in known if (d := (earned_after[id] or 0.0) - (earned_before[id] or 0.0))]
    low, high = _interval(differences, len(known))
    least, most = _bounds(pairs, earned_before, earned_after)
    ranked = sorted(
        (one for one in changed if one.difference), key=lambda one: (one.difference or 0.0, one.time, one.id)
    )
    return Counterfactual(
        endpoint=endpoint,
        decisions=len(past),
        answered=len(pairs),
        known=len(known),
        differ=len(moved),
        currency=currencies[0] if currencies else "",
        value_before=sum(earned_before[id] or 0.0 for id in known),
        value_after=sum(earned_after[id] or 0.0 for id in known),
        difference=sum(differences),
        low=low,
        high=high,
        least=least,
        most=most,
        unanswered=dict(unanswered.most_common(5)),
        fallbacks=dict(fallbacks.most_common(5)),
        months=_months(pairs, {one.id for one in moved}),
        moves=_moves(moved),
        worst=tuple(one for one in ranked[:WORST] if (one.difference or 0.0) < 0),
        best=tuple(one for one in ranked[::-1][:WORST] if (one.difference or 0.0) > 0),
        versions=dict(versions),
    )


def _differ(one: Past, other: Again) -> bool:
    if one.action != other.action or one.rule != other.rule:
        return True
    if isinstance(one.prediction, float) and isinstance(other.prediction, float):
        return abs(one.prediction - other.prediction) > _ALIKE
    return bool(one.prediction != other.prediction)


def _changed(one: Past, other: Again) -> ChangedDecision:
    before, after = earned(one.value, one.outcome), earned(other.value, one.outcome)
    return ChangedDecision(
        one.id,
        one.time,
        one.entity,
        one.prediction,
        other.prediction,
        one.action,
        other.action,
        one.rule,
        other.rule,
        one.outcome,
        before,
        after,
        None if before is None or after is None else after - before,
    )


def _moves(moved: Sequence[ChangedDecision]) -> tuple[Move, ...]:
    found: dict[tuple[str, str], list[ChangedDecision]] = {}
    for one in moved:
        found.setdefault((one.action_before, one.action_after), []).append(one)
    moves = [
        Move(*actions, len(all_), len(known := [o.difference for o in all_ if o.difference is not None]), sum(known))
        for actions, all_ in found.items()
    ]
    return tuple(sorted(moves, key=lambda move: -move.decisions))


def _months(pairs: Sequence[tuple[Past, Again]], moved: set[str]) -> tuple[Month, ...]:
    before = [Decided(a.id, a.time, a.version, a.prediction, a.action, a.value, a.outcome) for a, _ in pairs]
    after = [Decided(a.id, a.time, a.version, b.prediction, b.action, b.value, a.outcome) for a, b in pairs]
    ids: Counter[str] = Counter(_month(one.time) for one, _ in pairs if one.id in moved)
    return tuple(
        Month(
            one.month,
            one.decisions,
            one.known,
            ids[one.month],
            one.auc,
            other.auc,
            one.brier,
            other.brier,
            one.value_per_1000,
            other.value_per_1000,
        )
        for one, other in zip(by_month(before), by_month(after), strict=True)
    )


def _month(time: int) -> str:
    from sampan.base.clock import from_micros

    return f"{from_micros(time):%Y-%m}"


def _interval(differences: Sequence[float], known: int) -> tuple[float, float]:
    """95 % of the percentile bootstrap of the sum, over all known decisions; those that do not differ add nothing.

    How many of a resample differ is binomial, and which of them is drawn evenly: the same as drawing all of them.
    """
    if not differences:
        return 0.0, 0.0
    import numpy as np

    chance, values = np.random.default_rng(7), np.asarray(differences)
    resamples = max(200, min(_RESAMPLES, 20_000_000 // len(values)))
    sums = [
        values[chance.integers(0, len(values), n)].sum() for n in chance.binomial(known, len(values) / known, resamples)
    ]
    low, high = np.quantile(sums, [0.025, 0.975])
    return float(low), float(high)


def _bounds(
    pairs: Sequence[tuple[Past, Again]], before: Mapping[str, float | None], after: Mapping[str, float | None]
) -> tuple[float, float]:
    """The difference if changed actions had met the worst, or the best, of the outcomes that are declared."""
    least = most = 0.0
    for one, other in pairs:
        if before[one.id] is None or after[one.id] is None:
            continue
        outcomes = list(((other.value or {}).get("outcomes") or {}).values())
        if one.action == other.action or not outcomes:
            step = (after[one.id] or 0.0) - (before[one.id] or 0.0)
            least, most = least + step, most + step
        else:
            least += min(outcomes) - (before[one.id] or 0.0)
            most += max(outcomes) - (before[one.id] or 0.0)
    return least, most
