"""Identifiers: short, sortable by the time they were made, safe in a path, a URL and a shell."""

import os
import re
import threading
from functools import lru_cache
from typing import Final

from sampan.base.clock import Clock

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_DIGITS: Final = _ALPHABET.encode() * 8  # of any byte: what its lowest five bits stand for
_FETCHED: Final = 500  # random digits fetched at once
_MOST_DIGITS: Final = 18  # of a number that 64 bits hold; of thousands int() itself would raise
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]{0,99}\Z")


class _Random:
    """Digits that nobody can guess, fetched from the system a few hundred at a time. Each process fetches its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = ""
        os.register_at_fork(after_in_child=self.__init__)  # type: ignore[misc]

    def digits(self, count: int) -> str:
        with self._lock:
            if len(self._left) < count:
                self._left = os.urandom(_FETCHED + count).translate(_DIGITS).decode("ascii")
            taken, self._left = self._left[:count], self._left[count:]
        return taken


_random = _Random()


@lru_cache(maxsize=1)
def _time(milliseconds: int) -> str:
    digits = []
    for _ in range(10):
        digits.append(_ALPHABET[milliseconds & 31])
        milliseconds >>= 5
    return "".join(reversed(digits))


def new_id(clock: Clock) -> str:
    """20 characters: 10 of time (milliseconds), 10 random (50 bits)."""
    return new_ids(clock, 1)[0]


def new_ids(clock: Clock, count: int) -> list[str]:
    """As many of the same millisecond."""
    time = _time(clock.micros() // 1000)
    random = _random.digits(10 * count)
    return [time + random[at : at + 10] for at in range(0, 10 * count, 10)]


def is_name(text: str) -> bool:
    """Whether a text may name a type, table, step, model, endpoint or stream."""
    return _NAME.match(text) is not None


def whole(text: str) -> int | None:
    """The number of an item, version or the like that a text writes; None if it writes none that can be one."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None
