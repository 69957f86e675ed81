"""What a look at the workspace gives, and what it remembers of those before it."""

from collections.abc import Callable
from typing import Self

import msgspec

from sampan.watch.alerts import Breach


class Signal(msgspec.Struct, frozen=True):
    """A limit that is crossed, or nearly. ``make`` works out the rest of what is told, when it is needed."""

    kind: str
    about: str
    over: bool
    value: float
    reason: str
    make: Callable[[], Breach]

    @classmethod
    def of(cls, breach: Breach, over: bool = True) -> Self:
        """Of a breach that is worked out already."""
        return cls(breach.kind, breach.about, over, breach.value, breach.reason, lambda: breach)

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.about}"


class Memory:
    """What a look has to know of those before it."""

    def __init__(self) -> None:
        self.damage = ""  # what of the log could not be read in this look
        self.down: dict[str, float] = {}  # endpoint → since when, on the machine's own clock
