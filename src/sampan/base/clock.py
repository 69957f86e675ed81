"""The one source of time. Everything that asks for the time asks a ``Clock`` that it was given.

``SharedClock`` reads an instant from eight mapped bytes, so that a time-lapse drives the hub, the serving
processes and the commands of one workspace together. Durations use ``time.perf_counter`` directly: they measure
this machine, not the story being told.
"""

import mmap
import struct
import time
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from sampan.base.errors import Usage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT = struct.Struct("<q")
_DAY = 86_400_000_000  # microseconds


class Clock(Protocol):
    """Wall time in microseconds since 1970-01-01T00:00Z."""

    def micros(self) -> int: ...


class SystemClock:
    """The machine's clock."""

    def micros(self) -> int:
        return time.time_ns() // 1000


class ManualClock:
    """A clock that stands still until told; for tests."""

    def __init__(self, start: datetime | int) -> None:
        self._now = start if isinstance(start, int) else to_micros(start)

    def micros(self) -> int:
        return self._now

    def set(self, when: datetime | int) -> None:
        self._now = when if isinstance(when, int) else to_micros(when)

    def advance(self, by: timedelta) -> None:
        self._now += round(by.total_seconds() * 1_000_000)


class SharedClock:
    """A clock kept in a file of eight bytes, moved by one process and read by all (a time-lapse)."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:  # the mapping outlives it
            self._map = mmap.mmap(file.fileno(), _INSTANT.size)

    @classmethod
    def create(cls, path: Path, start: datetime | int) -> "SharedClock":
        """Make the file with its first instant and open it."""
        path.write_bytes(_INSTANT.pack(start if isinstance(start, int) else to_micros(start)))
        return cls(path)

    def micros(self) -> int:
        instant: int = _INSTANT.unpack_from(self._map)[0]
        return instant

    def set(self, when: datetime | int) -> None:
        _INSTANT.pack_into(self._map, 0, when if isinstance(when, int) else to_micros(when))


def to_micros(when: datetime) -> int:
    """Microseconds since the epoch; a naive time is taken as UTC."""
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return (when - _EPOCH) // timedelta(microseconds=1)


def past(text: str, now: int) -> int:
    """The instant that ``--as-of`` names: ISO text, UTC where it has no offset; a date alone is the whole of its day.

    Raises Usage for any other text, and for a time that is still to come; of today it is what is past.
    """
    attempted, text = f"See it as of {text[:60]!r}", text.strip()
    try:
        micros = to_micros(datetime.fromisoformat(text))
        from_micros(micros)  # with an offset it may be of no year that there is
    except (ValueError, OverflowError):
        raise Usage(attempted, "that is no time", "Write it as 2026-01-31, or as 2026-01-31T12:30 in UTC.") from None
    if micros > now:
        raise Usage(
            attempted, f"that is still to come; it is {iso(now)}", "Choose a time that is past, or leave it out."
        )
    return min(micros + _DAY - 1, now) if _is_date(text) else micros


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def from_micros(micros: int) -> datetime:
    """The UTC time of an instant in microseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=micros)


def iso(micros: int) -> str:
    """RFC 3339 text in UTC, e.g. ``2011-04-01T08:26:00Z``."""
    second, rest = divmod(micros, 1_000_000)
    return f"{_second(second)}.{rest:06d}Z" if rest else f"{_second(second)}Z"


def stamp(micros: int) -> str:
    """An instant to the second as commands print it, in UTC."""
    return f"{iso(micros)[:19]}Z"


@lru_cache(maxsize=64)
def _second(since: int) -> str:
    return from_micros(since * 1_000_000).replace(tzinfo=None).isoformat()
