"""What the hub tells a serving process to serve, and where it is asked directly."""

import msgspec

from sampan.models.signing import Signed
from sampan.serve.bundle import Bundle


class Door(msgspec.Struct, frozen=True):
    """Where a serving process is asked directly (``sampan.serve.doors``).

    The first three are file descriptors that it inherits: the socket that listens; where to leave connections that are
    open; where to find those that were left. ``hosts``: further names that it is called by. ``body``: bytes of a
    request; ``queue``: requests under way; ``patience``: seconds for an answer. ``entry``: the module to begin with.
    """

    listener: int
    left: int
    found: int
    host: str
    port: int
    hosts: str
    body: int
    queue: int
    patience: float
    instance: str
    entry: str

    @property
    def files(self) -> tuple[int, int, int]:
        return self.listener, self.left, self.found


class Order(msgspec.Struct, frozen=True):
    """What a serving process is told to serve."""

    root: str
    endpoint: str
    bundle: Bundle
    door: Door | None = None
    without_model: bool = False
    """Where the model does not load, what is declared for that is to answer all the same."""
    signatures: tuple[Signed, ...] = ()
    """Those of the bundle's version, for the process to look at itself."""


class Before(msgspec.Struct, frozen=True):
    """What is to answer where the model in force does not, with the signatures of its version."""

    bundle: Bundle
    signatures: tuple[Signed, ...] = ()
