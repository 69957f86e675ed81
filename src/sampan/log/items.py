"""A request's body cut into its items, each with exactly the bytes that were sent."""

import re
from typing import Final

import msgspec

from sampan.log.explain import BROKEN

ITEM_LIMIT: Final = 50_000  # of one request

_RAW_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ANY: Final = msgspec.json.Decoder()


class TooMany(Exception):
    """More items than one request may have. ``count``: how many at least."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} in one request are too many")
        self.count = count


def not_more(count: int, most: int | None = ITEM_LIMIT) -> None:
    """Raises TooMany for so many items; to be asked before anything is made of them."""
    if most is not None and count > most:
        raise TooMany(count)


def split(body: bytes, *, lines: bool = False, most: int | None = None) -> list[bytes]:
    """The items of a body. One that cannot be told apart is one item, whole. Raises TooMany for more than ``most``."""
    body = body.strip(b" \t\r\n")
    if not lines and body[:1] == b"[":
        try:
            raws = _RAW_LIST.decode(body)
        except BROKEN:
            items, rest = split_broken_array(body, most)
            items += [rest] if rest else []
            not_more(len(items), most)
            return items
        not_more(len(raws), most)
        return list(map(bytes, raws))
    if not lines and b"\n" in body:
        try:
            _ANY.decode(body)
        except BROKEN:
            lines = body[:1] == b"{" and body.split(b"\n", 1)[0].strip()[-1:] == b"}"
    if lines:
        items = [item for line in body.split(b"\n") if (item := line.strip(b" \t\r"))]
        not_more(len(items), most)
        return items
    return [body] if body else []


#: A string, which without its end goes on to that of the body, or a token; never looks at a byte twice.
_STRUCTURE: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)


def split_broken_array(body: bytes, most: int | None = None) -> tuple[list[bytes], bytes]:
    """Items of an array that does not parse as a whole, cut at its own commas, so that the sound ones go on; and what
    follows its end. Raises TooMany when it comes to more than ``most``."""
    items, depth, start, rest = [], 0, 1, b""
    for match in _STRUCTURE.finditer(body):
        token = match.group()
        if token in (b"[", b"{"):
            depth += 1
        elif token in (b"]", b"}"):
            depth -= 1
            if depth == 0:
                items.append(body[start : match.start()])
                rest = body[match.end() :].strip(b" \t\r\n")
                break
        elif token == b"," and depth == 1:
            items.append(body[start : match.start()])
            start = match.end()
            not_more(len(items), most)
    else:
        items.append(body[start:])
    return [item for piece in items if (item := piece.strip(b" \t\r\n"))], rest
