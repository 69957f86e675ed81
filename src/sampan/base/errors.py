"""Every error that Sampan raises on purpose.

    SampanError                      exit 3: something failed
    ├── No                           exit 1: the answer is no (a check failed, a digest differs, nothing found)
    │   ├── NotFound                 no object of that name
    │   ├── Refused                  allowed to ask, not allowed to have
    │   └── Conflict                 somebody else moved first; read again and retry
    │       └── Frozen               a registered version, or what it was registered from: nothing changes it
    ├── Usage                        exit 2: the command, setting or workspace is wrong
    │   ├── BadSetting
    │   ├── BadWorkspace             sampan.toml, a module or a query of the user's
    │   │   ├── BadContract
    │   │   ├── BadStep
    │   │   └── BadQuery
    │   └── NewerFormat              the data was written by a newer Sampan
    ├── Busy                         another process holds what only one may hold
    ├── DiskFull
    ├── Damaged                      bytes on disk are not those that were written
    ├── StepFailed                   a user's step raised, crashed, ran out of memory or time
    └── Unreachable                  the hub or a back end does not answer

A message has three parts: what was attempted, what stood in the way (with the value), what to do next.
"""

from collections.abc import Mapping
from typing import Any


class SampanError(Exception):
    """Base of all errors raised on purpose; carries its three parts and any objects concerned."""

    exit_code = 3
    status = 500

    def __init__(self, attempted: str, obstacle: str, advice: str = "", **about: Any) -> None:
        self.attempted = attempted
        self.obstacle = obstacle
        self.advice = advice
        self.about = about
        super().__init__(attempted, obstacle, advice)

    def __str__(self) -> str:
        text = f"{self.attempted}: {self.obstacle}"
        return f"{text}\n  {self.advice}" if self.advice else text

    def body(self) -> dict[str, dict[str, str]]:
        """As JSON answers carry it; ``kind`` lets a client raise the same error again."""
        kind = type(self).__name__
        return {"error": {"kind": kind, "attempted": self.attempted, "obstacle": self.obstacle, "advice": self.advice}}


class No(SampanError):
    exit_code = 1
    status = 409


class NotFound(No):
    status = 404


class Refused(No):
    status = 403


class Conflict(No):
    status = 409


class Frozen(Conflict):
    pass


class Usage(SampanError):
    exit_code = 2
    status = 400


class BadSetting(Usage):
    pass


class BadWorkspace(Usage):
    pass


class BadContract(BadWorkspace):
    pass


class BadStep(BadWorkspace):
    pass


class BadQuery(BadWorkspace):
    pass


class NewerFormat(Usage):
    pass


class Busy(SampanError):
    status = 503


class DiskFull(SampanError):
    status = 507


class Damaged(SampanError):
    pass


class StepFailed(SampanError):
    pass


class Unreachable(SampanError):
    status = 502


def revive(body: Mapping[str, str], otherwise: type[SampanError] = Damaged) -> SampanError:
    """The error that another process raised, of which ``body`` is the inner part of ``SampanError.body``; one that is
    not of this tree becomes an ``otherwise``."""
    kind = globals().get(body.get("kind", ""))
    if not (isinstance(kind, type) and issubclass(kind, SampanError)):
        kind = otherwise
    return kind(body.get("attempted", ""), body.get("obstacle", ""), body.get("advice", ""))
