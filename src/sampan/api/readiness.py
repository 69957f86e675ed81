"""Whether a process lives and is ready, as it says so."""

import msgspec


class Alive(msgspec.Struct, frozen=True):
    """The process answers. ``instance`` tells one start from another."""

    status: str
    instance: str


class Check(msgspec.Struct, frozen=True):
    """One thing that must be well, and why it is not."""

    name: str
    ready: bool
    reason: str = ""


class Readiness(msgspec.Struct, frozen=True):
    """Whether requests are answered as they should be."""

    ready: bool
    instance: str
    checks: list[Check]
