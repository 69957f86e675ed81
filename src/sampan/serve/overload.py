"""What a client is told when its endpoint cannot answer now, or is not there; the same from hub and serving process."""

from collections.abc import Iterable
from typing import Final

from sampan.base.errors import Busy, NotFound

#: The exit code of a process in which a request took too long.
OVERDUE: Final = 4
_TRY_AGAIN: Final = (503, 507)


class TooSlow(Busy):
    """A model or a rule took too long and was interrupted."""


def retry_after(status: int) -> int | None:
    """In how many seconds to try again."""
    return 1 if status in _TRY_AGAIN else None


def too_many(name: str, under_way: int) -> Busy:
    """No more requests can wait."""
    return Busy(f"Predict with {name}", f"{under_way} requests are under way already", "Send again in a second.")


def too_slow(name: str, patience: float) -> Busy:
    """A request took too long; the process is ended with it, as a rule that hangs holds up everybody behind it."""
    return Busy(f"Predict with {name}", f"no answer in {patience:g} s", "See what its rules do; send again.")


def interrupted(name: str, seconds: float) -> TooSlow:
    """A model or a rule took too long, alone or after others of the same moment."""
    return TooSlow(f"Predict with {name}", f"no answer in {seconds:g} s", "See what its rules do; send again.")


def unknown(name: str, known: Iterable[str]) -> NotFound:
    """There is no such endpoint."""
    there = ", ".join(sorted(known)) or "none yet"
    return NotFound(f"Predict with {name!r}", "there is no endpoint of that name", f"Endpoints: {there}.")
