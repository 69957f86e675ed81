"""How long things are kept: ``[retention]`` in ``sampan.toml``. What has a name is kept whatever its age."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sampan.base.errors import BadSetting

_SECONDS: Final = {
    "second": 1,
    "minute": 60,
    "hour": 3_600,
    "day": 86_400,
    "week": 7 * 86_400,
    "year": 365 * 86_400,
}
_SPAN: Final = re.compile(r"(\d{1,6}) ?(second|minute|hour|day|week|year)s?")
FOREVER: Final = 10_000 * 365 * 86_400


class Retention(msgspec.Struct, frozen=True):
    """Ages in seconds. ``grace``: how old a file must be that nothing names before it goes."""

    commits: int = 90 * 86_400
    runs: int = 90 * 86_400
    grace: int = 86_400


def read_retention(config: Mapping[str, Any]) -> Retention:
    """The retention of a parsed ``sampan.toml``. Raises BadSetting for what is no span of time."""
    section = config.get("retention", {})
    attempted = "Read [retention] in sampan.toml"
    if not isinstance(section, Mapping):
        raise BadSetting(attempted, f"it is {section!r}", 'Write it as a table: commits = "90 days".')
    for name in section:
        if name not in Retention.__struct_fields__:
            raise BadSetting(attempted, f"unknown name {name!r}", f"Known: {', '.join(Retention.__struct_fields__)}.")
    return Retention(**{name: _seconds(attempted, name, text) for name, text in section.items()})


def _seconds(attempted: str, name: str, text: Any) -> int:
    if text == "forever":
        return FOREVER
    match = _SPAN.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise BadSetting(attempted, f"{name} is {text!r}", 'For instance "90 days", "12 hours", "2 years", "forever".')
    return int(match[1]) * _SECONDS[match[2]]
