"""Why an item is not an event: the slow, thorough half of ``sampan.log.check``."""

import json
import re
from collections import Counter
from typing import Any, Final

import msgspec

_ANY: Final = msgspec.json.Decoder()
_TOKEN: Final = re.compile(rb'"[ \t\r\n]*:')
_BLANKS_ALIKE: Final = bytes.maketrans(b"\t\r\n", b"   ")

BROKEN: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)  # what decoding hostile bytes raises
Wrong = tuple[str, str]  # reason, JSON path


def tokens(raw: bytes) -> int:
    """How many places of a JSON text look like the end of a key; never fewer than there are keys."""
    if b" :" in raw.translate(_BLANKS_ALIKE):
        return len(_TOKEN.findall(raw))
    return raw.count(b'":')


def distinct(value: Any) -> int:
    """How many keys a parsed JSON value has."""
    keys, values = 0, [value]
    while values:
        parts = values.pop()
        if type(parts) is dict:
            keys += len(parts)
            parts = parts.values()
        values += [part for part in parts if type(part) is dict or type(part) is list]
    return keys


def not_utf8(raw: bytes) -> Wrong | None:
    if raw.isascii():
        return None
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}", "$"
    return None


def not_json(raw: bytes, legible: dict[str, Any]) -> Wrong | None:
    try:
        value = _ANY.decode(raw)
    except msgspec.MsgspecError as error:
        return f"not JSON: {error}", "$"
    except RecursionError:
        return "not JSON: nested too deeply", "$"
    if not isinstance(value, dict):
        return f"not an object: {short(value)}", "$"
    legible.update(value)
    return repeated_key(raw) if tokens(raw) != distinct(value) else None


def repeated_key(raw: bytes) -> Wrong | None:
    """The key that stands twice in one object, if one does. Raises nothing: the text has been parsed before."""
    repeated: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            counts = Counter(name for name, _ in pairs)
            repeated.extend(name for name, count in counts.items() if count > 1)
        return made

    try:
        json.loads(raw, object_pairs_hook=note)
    except RecursionError:
        return "not JSON: nested too deeply", "$"
    except ValueError as error:
        return f"not JSON: {error}", "$"
    return (f"repeated key: {short(repeated[0])}", "$") if repeated else None


def explain(error: Exception, base: str = "$") -> Wrong:
    if isinstance(error, RecursionError):
        return "not JSON: nested too deeply", "$"
    reason, _, place = str(error).partition(" - at `")
    return f"invalid: {reason.replace('`', '')}", base + place[1:-1]


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
