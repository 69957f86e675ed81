"""Shadows that follow the log and do not get on, since their process ends over and over."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from sampan.watch.alerts import Breach
from sampan.watch.limits import Limits
from sampan.watch.look import Memory, Signal


class Follows(Protocol):
    """How one shadow is doing; ``crashing``: that its process ends over and over, and how."""

    @property
    def shadow(self) -> str: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def crashing(self) -> str: ...
    @property
    def steady(self) -> bool: ...
    @property
    def behind(self) -> int: ...
    @property
    def restarts(self) -> int: ...


class Sees(Protocol):
    """What is looked at here."""

    def followers(self) -> Sequence[Any]: ...


def crashing(sight: Sees, limits: Limits, memory: Memory) -> Iterator[Signal]:
    """Shadows whose process ends over and over. One that has just begun, with a new hub say, has not got on."""
    followed: Sequence[Follows] = sight.followers() if limits.shadows else ()
    for one in followed:
        if one.steady:
            continue
        breach = Breach(
            kind="shadow",
            about=one.shadow,
            title=f"A shadow of {one.endpoint} crashes over and over: {one.version}",
            reason=one.crashing[:300],
            cause="its model or its rules end the process or hang, or it cannot be loaded; the endpoint is not touched",
            evidence=f"/shadows/{one.shadow}",
            action=f"Mend it and start another; end this one: `sampan shadow end {one.shadow} --reason …`.",
            example=one.shadow,
            value=float(one.restarts),
        )
        yield Signal.of(breach, bool(one.crashing))
