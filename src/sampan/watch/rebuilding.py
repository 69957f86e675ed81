"""Versions in use that could not be made anew."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from sampan.models.rebuilds import Rebuild
from sampan.watch.alerts import Breach
from sampan.watch.limits import Limits
from sampan.watch.look import Memory, Signal


class Sees(Protocol):
    """What is looked at here."""

    def rebuilds(self) -> Sequence[Rebuild]: ...


def failing(sight: Sees, limits: Limits, memory: Memory) -> Iterator[Signal]:
    """Those whose newest attempt failed, or gave another model than the one in use."""
    for one in sight.rebuilds() if limits.rebuilds else ():
        if not one.good:
            said = one.report.said or "it came out with other metrics than those that were recorded"
            reason = said.splitlines()[0][:300]
            yield Signal("rebuild_failed", one.report.ref, True, 1.0, reason, _breach(one, reason))


def _breach(one: Rebuild, reason: str) -> Callable[[], Breach]:
    ref = one.report.ref
    return lambda: Breach(
        kind="rebuild_failed",
        about=ref,
        title=f"{ref} is in use, and cannot be made anew as it was",
        reason=reason,
        cause=one.report.cause or one.level,
        evidence=f"/models/{one.model}/{one.number}",
        action=f"Run `sampan reproduce {ref}`: it says what is missing. Bring it back, or train one that lasts.",
        example=one.id,
        value=1.0,
    )
