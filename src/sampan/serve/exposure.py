"""How much an endpoint's decisions put at risk in a day, and the cap on it.

The process that answers is the only writer of its stream, and adds up as it answers: the total stands in each event, so
that whoever takes the stream over goes on where it was. Days are those of UTC. While a candidate answers too, the caps
of both hold for what either decides, over one total.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sampan.base.clock import iso

if TYPE_CHECKING:
    from sampan.serve.bundle import CapFacts, DecisionFacts


class Kept(Protocol):
    """A stream that knows what its newest events of a day say."""

    def exposed(self, day: str) -> float: ...


class Risk(NamedTuple):
    """What an action puts at risk with one record; ``said``: why that cannot be told, if it cannot."""

    amount: float
    said: str = ""


def risk_of(cap: "CapFacts", action: str, record: Mapping[str, Any], value: Mapping[str, Any] | None) -> Risk:
    """What ``cap`` declares for an action: an amount, or the field of the record that holds it. Of an action that it
    does not know, which a candidate may take, the worst that its values name."""
    declared = cap.risks.get(action)
    if declared is None:
        return Risk(worst((value or {}).get("outcomes") or {}))
    if not isinstance(declared, str):
        return Risk(declared)
    amount = record.get(declared)
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < float("inf"):
        return Risk(0.0, f"{declared!r} says what {action!r} puts at risk, and is {amount!r}, no amount")
    return Risk(float(amount))


def worst(outcomes: Mapping[str, float]) -> float:
    """The most that can be lost by a table of outcomes."""
    return max(0.0, -min(outcomes.values(), default=0.0))


class Ledger:
    """The running total of a day, as the one process that answers keeps it."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._day = ""
        self.total = 0.0

    def day(self, now: int) -> str:
        """The day of an instant, begun with what the stream says of it."""
        day = iso(now)[:10]
        if day != self._day:
            self._day, self.total = day, self._kept.exposed(day)
        return day

    def take(self, amount: float, cap: float) -> bool:
        """Add an amount, if that stays within the cap."""
        if amount > 0 and self.total + amount > cap:
            return False
        self.total += amount
        return True


class Caps:
    """The caps of the bundles that answer on an endpoint, and the total that both are held against."""

    def __init__(self, own: "DecisionFacts | None") -> None:
        self._own = own
        self._other: DecisionFacts | None = None
        self._kept: Kept | None = None
        self.ledger: Ledger | None = None
        #: The rules whose cap is the lowest: what it holds back takes their safe action.
        self.strictest: DecisionFacts | None = None

    def resume(self, kept: Kept, now: int) -> None:
        """Count from now on, on top of what the stream that was taken says."""
        self._kept, self.ledger = kept, None
        self._look(now)

    def beside(self, other: "DecisionFacts | None", now: int) -> None:
        """Rules that decide about a part of the records beside one's own from now on; None if none do."""
        self._other = other
        self._look(now)

    def risk(self, action: str, record: Mapping[str, Any], value: Mapping[str, Any] | None, theirs: bool) -> Risk:
        """What an action puts at risk, by whichever cap says more. ``theirs``: it is the other rules' action.

        Where the other rules' cap cannot say it of an action that is not theirs, it is the worst that the action's
        values name: clients know nothing of a candidate's fields yet.
        """
        found = Risk(0.0)
        for facts, foreign in ((self._own, False), (self._other, not theirs)):
            if facts is None or facts.cap is None:
                continue
            one = risk_of(facts.cap, action, record, value)
            if one.said and foreign:
                one = Risk(worst((value or {}).get("outcomes") or {}))
            if one.said or one.amount > found.amount:
                found = one
            if one.said:
                break
        return found

    def _look(self, now: int) -> None:
        capped = [facts for facts in (self._own, self._other) if facts is not None and facts.cap is not None]
        self.strictest = min(capped, key=_strictness, default=None)
        if self.strictest is None:
            self.ledger = None
        elif self.ledger is None and self._kept is not None:
            self.ledger = Ledger(self._kept)
            self.ledger.day(now)


def _strictness(facts: "DecisionFacts") -> tuple[float, bool]:
    """Of two caps of the same amount the one that asks nobody."""
    assert facts.cap is not None
    return facts.cap.amount, facts.cap.over == "review"
