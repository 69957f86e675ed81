"""Identifiers: short, sortable by the time they were made, safe in a path, a URL and a shell."""

import os
import re
from typing import Final

from sampan.base.clock import Clock

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_DIGITS: Final = _ALPHABET.encode() * 8  # of any byte: what its lowest five bits stand for
_MOST_DIGITS: Final = 18  # of a number that 64 bits hold; of thousands int() itself would raise
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]{0,99}\Z")


def _base32(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        digits.append(_ALPHABET[number & 31])
        number >>= 5
    return "".join(reversed(digits))


def new_id(clock: Clock) -> str:
    """20 characters: 10 of time (milliseconds), 10 random (50 bits)."""
    return new_ids(clock, 1)[0]


def new_ids(clock: Clock, count: int) -> list[str]:
    """As many of the same millisecond: a time and a system call for all of them."""
    time = _base32(clock.micros() // 1000, 10)
    random = os.urandom(10 * count).translate(_DIGITS).decode("ascii")
    return [time + random[at : at + 10] for at in range(0, 10 * count, 10)]


def is_name(text: str) -> bool:
    """Whether a text may name a type, table, step, model, endpoint or stream."""
    return _NAME.match(text) is not None


def whole(text: str) -> int | None:
    """The number of an item, version or the like that a text writes; None if it writes none that can be one."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None
