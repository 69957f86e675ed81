"""Rollouts that need somebody: taken back, or without enough evidence when their patience was over."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from sampan.watch.alerts import Breach
from sampan.watch.limits import Limits
from sampan.watch.look import Memory, Signal


class Trouble(msgspec.Struct, frozen=True):
    """What somebody has to look at, of one endpoint."""

    endpoint: str
    title: str
    reason: str
    cause: str
    evidence: str
    action: str
    example: str


class Sees(Protocol):
    """What is looked at here."""

    def troubles(self) -> Sequence[Trouble]: ...


def waiting(sight: Sees, limits: Limits, memory: Memory) -> Iterator[Signal]:
    """Open incidents, and rollouts that ask what is to become of them."""
    for one in sight.troubles() if limits.rollouts else ():
        breach = Breach(
            kind="rollout",
            about=one.endpoint,
            title=one.title,
            reason=one.reason[:300],
            cause=one.cause,
            evidence=one.evidence,
            action=one.action,
            example=one.example,
            value=1.0,
        )
        yield Signal.of(breach)
