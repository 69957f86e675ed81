"""Caps on what an endpoint's decisions may put at risk in a day, where they are reached."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from sampan.base.words import counted
from sampan.watch.alerts import Breach
from sampan.watch.limits import Limits
from sampan.watch.look import Memory, Signal


class Holding(Protocol):
    """What a cap held back on one day."""

    @property
    def endpoint(self) -> str: ...
    @property
    def count(self) -> int: ...
    @property
    def newest(self) -> str: ...
    @property
    def total(self) -> float: ...
    @property
    def cap(self) -> float: ...
    @property
    def currency(self) -> str: ...
    @property
    def over(self) -> str: ...


class Sees(Protocol):
    """What is looked at here."""

    def held(self) -> Sequence[Holding]: ...


def capped(sight: Sees, limits: Limits, memory: Memory) -> Iterator[Signal]:
    """Endpoints whose cap holds decisions back today."""
    for one in sight.held() if limits.exposure else ():
        money = f"{one.cap:,.2f} {one.currency}".strip()
        reason = f"{counted(one.count, 'decision')} held back today; {one.total:,.2f} of {money} are at risk"
        done = "they are sent to people" if one.over == "review" else "the safe default is taken"
        breach = Breach(
            kind="exposure",
            about=one.endpoint,
            title=f"{one.endpoint} has reached its cap of {money} a day",
            reason=reason,
            cause=f"more would have been put at risk than decisions.py allows; {done} until midnight, UTC",
            evidence=f"/endpoints/{one.endpoint}/value",
            action="See whether the day is unlike others or a rule is wrong. The cap stands in decisions.py.",
            example=one.newest,
            value=one.total,
            bound=one.cap,
        )
        yield Signal.of(breach)
