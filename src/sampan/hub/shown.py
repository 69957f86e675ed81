"""Bytes as a page shows them: every byte visible, nothing run, the place that is wrong marked."""

import json
import re
from typing import Any, Final

import msgspec

_MOST: Final = 60_000
_PARSED: Final = 4 * _MOST  # bytes; what is longer is not read as JSON
_HEX: Final = 2_048  # bytes of what is no text
_DEEP: Final = 60
_STEP: Final = re.compile(r"\[[^\]]*\]|[^.\[\]]+")


class Line(msgspec.Struct):
    """A line of JSON or text; ``wrong``: it is what the reason is about."""

    text: str
    wrong: bool = False


def as_text(raw: bytes, most: int = 100_000) -> str:
    """Bytes as text that shows every byte: what is not printable UTF-8 becomes an escape."""
    text = raw[:most].decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
    return text if len(raw) <= most else f"{text}\n… and {len(raw) - most:,} bytes more"


def lines(raw: bytes, path: str | None) -> tuple[str, list[Line]]:
    """What kind of bytes these are (json, text, bytes), and their lines with those at ``path`` marked."""
    value = _parsed(raw)
    if value is not None:
        found = _json(value, _STEP.findall((path or "$").removeprefix("$")))
        if found is not None:
            return "json", found
    try:
        plain = raw.decode("utf-8")[:_MOST]
        readable = sum(not (c.isprintable() or c in "\r\n\t") for c in plain) <= len(plain) // 20
    except UnicodeDecodeError:
        readable = False
    if readable:
        return "text", [Line(line) for line in as_text(raw, _MOST).split("\n")]
    return "bytes", [Line(line) for line in _dump(raw)]


def _parsed(raw: bytes) -> Any:
    if len(raw) > _PARSED:
        return None
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict | list) else None


class _TooLong(Exception):
    """More lines than a page has room for."""


def _json(value: Any, steps: list[str]) -> list[Line] | None:
    """Indented JSON, a line each; what ``steps`` leads to is marked whole, or the object in which it is missing. None
    if it is more than ``_MOST``."""
    found: list[Line] = []
    room = _MOST

    def put(text: str, wrong: bool) -> None:
        nonlocal room
        room -= len(text)
        if room < 0:
            raise _TooLong
        found.append(Line(text, wrong))

    def write(value: Any, depth: int, lead: str, tail: str, way: list[str] | None, wrong: bool) -> None:
        wrong = wrong or way == []
        margin = "  " * depth
        if isinstance(value, dict | list) and value and depth < _DEEP:
            pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
            missing = bool(way) and (way or [""])[0] not in {_step(name, value) for name, _ in pairs}
            opening, closing = "{}" if isinstance(value, dict) else "[]"
            put(f"{margin}{lead}{opening}", wrong or missing)
            for at, (name, part) in enumerate(pairs):
                here = way[1:] if way and _step(name, value) == way[0] else None
                label = f"{json.dumps(str(name), ensure_ascii=False)}: " if isinstance(value, dict) else ""
                write(part, depth + 1, label, "," if at < len(pairs) - 1 else "", here, wrong)
            put(f"{margin}{closing}{tail}", wrong)
        else:
            text = "…" if isinstance(value, dict | list) and value else json.dumps(value, ensure_ascii=False)
            put(f"{margin}{lead}{_visible(text)}{tail}", wrong)

    try:
        write(value, 0, "", "", steps or None, False)
    except _TooLong:
        return None
    return found


def _step(name: Any, value: Any) -> str:
    return str(name) if isinstance(value, dict) else f"[{name}]"


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _dump(raw: bytes) -> list[str]:
    """Offset, sixteen bytes in hexadecimal, what of them is a letter."""
    found = []
    for at in range(0, min(len(raw), _HEX), 16):
        part = raw[at : at + 16]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in part)
        found.append(f"{at:08x}  {part[:8].hex(' '):<23}  {part[8:].hex(' '):<23}  {letters}")
    return [*found, f"… and {len(raw) - _HEX:,} bytes more"] if len(raw) > _HEX else found


class Change(msgspec.Struct):
    """One field that a repair touches. ``kind``: changed, added, removed, same."""

    path: str
    kind: str
    before: str
    after: str


def changes(before: bytes, after: bytes) -> list[Change]:
    """What differs between two JSON texts, field by field; what is no JSON object is one field."""
    old, new = _flat(_parsed(before)), _flat(_parsed(after))
    if old is None or new is None:
        return [Change("$", "changed", as_text(before, 600), as_text(after, 600))]
    found = []
    for path in dict.fromkeys([*old, *new]):
        was, now = old.get(path), new.get(path)
        kind = "same" if was == now else "added" if was is None else "removed" if now is None else "changed"
        if kind != "same":
            found.append(Change(path, kind, was or "", now or ""))
    return found


def _flat(value: Any, path: str = "$", depth: int = 0) -> dict[str, str] | None:
    if value is None and depth == 0:
        return None
    if isinstance(value, dict | list) and value and depth < _DEEP:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        found: dict[str, str] = {}
        for name, part in pairs:
            found |= _flat(part, f"{path}.{name}" if isinstance(value, dict) else f"{path}[{name}]", depth + 1) or {}
        return found
    text = json.dumps(value, ensure_ascii=False)
    return {path: _visible(text if len(text) <= 300 else text[:299] + "…")}
