"""The key of a result: the digest of everything that the result may depend on, part by part.

The parts are kept beside the result, so that ``sampan why`` can name the one that differs.
"""

import sys
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sampan.base.digests import digest_value

KEY_VERSION: Final = 1
"""Raise it when the engine itself would give another result for the same parts."""


class KeyParts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a result depends on. ``environment`` holds digests of values, never the values."""

    node: str
    engine: str
    python: str = ""
    code: dict[str, str] = {}
    inputs: dict[str, str] = {}
    parameters: dict[str, Any] = {}
    packages: dict[str, str] = {}
    environment: dict[str, str] = {}
    files: dict[str, str] = {}
    options: dict[str, Any] = {}
    part: str = ""

    def key(self) -> str:
        return digest_value(self)


def python_version() -> str:
    """``cpython 3.11.7``."""
    return f"{sys.implementation.name} {sys.version.split()[0]}"


def seed_of(key: str, declared: int | None) -> int:
    """The seed of random, NumPy and torch: the one declared with ``seed=``, else one that the key gives."""
    return int(key[:8], 16) if declared is None else declared


_ENVIRONMENT: Final = "value"
_SECTIONS: Final = (
    ("code", "code"),
    ("inputs", "input"),
    ("parameters", "parameter"),
    ("packages", "package"),
    ("environment", "environment variable"),
    ("files", "file"),
    ("options", "option"),
)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In words, what differs between two results' key parts; the most telling first."""
    found: list[str] = []
    for section, word in _SECTIONS:
        before, after = old.get(section, {}), new.get(section, {})
        for name in sorted({*before, *after}):
            if name not in after:
                found.append(f"{word} {name} is no longer used")
            elif name not in before:
                found.append(f"{word} {name} is new")
            elif before[name] != after[name]:
                found.append(_changed(section, word, name, before[name], after[name]))
    if old.get("python", "") != new.get("python", ""):
        found.append(f"{old.get('python')} → {new.get('python')}")
    if old.get("engine") != new.get("engine"):
        found.append(f"{old.get('engine')} → {new.get('engine')}")
    if old.get("part") != new.get("part"):
        found.append("the element of this part changed")
    return found


def _changed(section: str, word: str, name: str, before: Any, after: Any) -> str:
    if section in ("parameters", "packages", "options"):
        return f"{word} {name}: {_short(before)} → {_short(after)}"
    if section == "files" and "missing" in (before, after):
        return f"file {name} {'is missing' if after == 'missing' else 'appeared'}"
    return f"{word} {name} changed"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 40 else text[:37] + "…"
