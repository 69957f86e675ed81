"""Outcomes whose prediction nobody has made: what turned out to be true of them counts nowhere."""

from collections.abc import Iterator
from typing import Final, Protocol

import msgspec

from sampan.base.words import counted
from sampan.watch.alerts import Breach
from sampan.watch.limits import Limits
from sampan.watch.look import Memory, Signal

_LEAST: Final = 10  # outcomes; fewer are told of on pages alone
_SHOWN: Final = 60


class Strays(msgspec.Struct, frozen=True):
    """``count`` of so many outcomes that name a prediction by its id name none that there is. Most are from ``source``,
    whose newest (``example``) names ``named``."""

    count: int
    of: int
    source: str
    named: str
    example: str


class Sees(Protocol):
    """What is looked at here."""

    def strays(self) -> Strays | None: ...


def straying(sight: Sees, limits: Limits, memory: Memory) -> Iterator[Signal]:
    """Whether too many of a day's outcomes name predictions that there are not."""
    found = sight.strays() if limits.unknown_outcomes < 1 else None
    if found is None or not found.of:
        return
    share = found.count / found.of
    if share > limits.unknown_outcomes / 2:
        reason = f"{found.count:,} of {counted(found.of, 'outcome')} within a day ({100 * share:.3g} %)"
        breach = Breach(
            kind="outcomes",
            about="unknown predictions",
            title="Outcomes name predictions that there are not",
            reason=reason,
            cause=f"most are from {found.source or 'nobody'}; the newest of them names {found.named[:_SHOWN]!r}",
            evidence="/log?type=outcome",
            action="Send the id that the answer gave, or endpoint, entity and time; or load the predictions.",
            field="prediction_id",
            example=found.example,
            value=share,
            bound=limits.unknown_outcomes,
        )
        over = share > limits.unknown_outcomes and found.count >= _LEAST
        yield Signal.of(breach, over)
