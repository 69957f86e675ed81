"""Page tokens: where the page before ended, of which question, asked of which state.

A token is not read by clients. It carries a digest of its question, so that one from another question is refused, and
the newest row that its first page knew, so that what is added meanwhile moves nothing.
"""

import base64
import binascii
from typing import Any, Final

import msgspec

from sampan.base.digests import digest_value
from sampan.base.errors import Usage
from sampan.track.records import Metric

_ADVICE: Final = "Ask for the first page again, without a token."


class Place(msgspec.Struct, frozen=True, array_like=True):
    """``after``: how many rows, or the values of the row, that came before. ``newest``: 0 for all."""

    question: str
    after: list[Any]
    newest: int = 0


def question(*parts: Any) -> str:
    """What a question is known by."""
    return digest_value(parts)[:16]


def token(place: Place) -> str:
    """A place as clients carry it."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def place_of(token: str, asked: str) -> Place | None:
    """The place that a token names; None without a token. Raises Usage for one that is none, or of another question."""
    if not token:
        return None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
        place = msgspec.json.decode(raw, type=Place)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise Usage("Turn a page", f"invalid page token {token[:40]!r}", _ADVICE) from None
    if place.question != asked:
        raise Usage("Turn a page", "invalid page token: it belongs to another search", _ADVICE)
    return place


def number(value: Any) -> int:
    """A whole number that a token carries. Raises Usage for what somebody put in its stead."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise Usage("Turn a page", f"invalid page token: {str(value)[:40]!r} in it is no number", _ADVICE)
    return value


def after(asked: str, point: Metric) -> Place:
    """The place behind a point of a metric's history. Its value is a text: JSON has no infinity."""
    return Place(asked, [point.step, point.time, repr(point.value)])


def point(place: Place | None) -> tuple[int, int, float] | None:
    """The step, time and value behind which a page of a history begins. Raises Usage."""
    if place is None:
        return None
    try:
        step, time, value = place.after
        return int(step), int(time), float(value)
    except (TypeError, ValueError):
        raise Usage("Turn a page", "invalid page token: it names no point", _ADVICE) from None
