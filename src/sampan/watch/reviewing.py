"""Cases that a rule sent to people and that nobody answered in time."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from sampan.base.words import counted
from sampan.watch.alerts import Breach
from sampan.watch.limits import Limits
from sampan.watch.look import Memory, Signal


class Unanswered(msgspec.Struct, frozen=True):
    """Of one endpoint the cases of the last day that nobody answered; ``newest`` is one of them, ``safe`` what was done
    with it."""

    endpoint: str
    count: int
    newest: str
    safe: str


class Sees(Protocol):
    """What is looked at here."""

    def unanswered(self) -> Sequence[Unanswered]: ...


def unanswered(sight: Sees, limits: Limits, memory: Memory) -> Iterator[Signal]:
    """Endpoints with more such cases within a day than the limit."""
    for one in sight.unanswered() if limits.reviews >= 0 else ():
        reason = f"{counted(one.count, 'case')} within a day; the newest: {one.newest}"
        breach = Breach(
            kind="review",
            about=one.endpoint,
            title=f"Nobody answered {counted(one.count, 'case')} of {one.endpoint} in time",
            reason=reason[:300],
            cause=f"people were asked and nobody answered before the deadline; {one.safe!r} was done, the safe default",
            evidence=f"/reviews?endpoint={one.endpoint}",
            action="Answer what waits: /reviews. If there is too much of it, have the rule ask less, or later.",
            example=one.newest,
            value=float(one.count),
            bound=limits.reviews,
        )
        yield Signal.of(breach, one.count > limits.reviews)
