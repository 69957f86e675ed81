"""How much an endpoint's decisions put at risk in a day, and the cap on it.

The process that answers is the only writer of its stream, and adds up as it answers: the total stands in each event, so
that whoever takes the stream over goes on where it was. Days are those of UTC.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sampan.base.clock import iso

if TYPE_CHECKING:
    from sampan.serve.bundle import CapFacts


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
