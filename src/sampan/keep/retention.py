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
NEVER: Final = 0
_LEAST: Final = 3_600  # seconds between two clean-ups of the hub


class Retention(msgspec.Struct, frozen=True):
    """Ages in seconds. ``grace``: how old a file must be that nothing names before it goes; ``every``: how long after
    one clean-up the hub begins the next, ``NEVER`` if nobody has asked for it."""

    commits: int = 90 * 86_400
    runs: int = 90 * 86_400
    grace: int = 86_400
    every: int = NEVER


#: What each is for.
MEANINGS: Final[Mapping[str, str]] = {
    "commits": "How long a commit keeps its tables that no branch, pin or publication names.",
    "runs": "How long a run keeps its results and logs that no kept commit needs.",
    "grace": "How old a file must be that nothing names before it goes.",
    "every": "How often the hub cleans up by itself, counted from the last clean-up; at least an hour.",
}


def read_retention(config: Mapping[str, Any]) -> Retention:
    """The retention of a parsed ``sampan.toml``. Raises BadSetting for what is no span of time."""
    section = config.get("retention", {})
    attempted = "Read [retention] in sampan.toml"
    if not isinstance(section, Mapping):
        raise BadSetting(attempted, f"it is {section!r}", 'Write it as a table: commits = "90 days".')
    for name in section:
        if name not in Retention.__struct_fields__:
            raise BadSetting(attempted, f"unknown name {name!r}", f"Known: {', '.join(Retention.__struct_fields__)}.")
    found = {name: seconds(attempted, name, text) for name, text in section.items()}
    if NEVER < found.get("every", _LEAST) < _LEAST:
        raise BadSetting(attempted, f"every is {section['every']!r}", 'At least "1 hour", or "never".')
    return Retention(**found)


def span(name: str, seconds: int) -> str:
    """A setting as one would write it: the largest unit in which it is whole."""
    if seconds >= FOREVER:
        return "forever"
    if name == "every" and seconds == NEVER:
        return "never"
    unit = next((unit for unit in reversed(_SECONDS) if seconds % _SECONDS[unit] == 0), "second")
    unit = "day" if seconds == 0 or unit == "week" else unit
    count = seconds // _SECONDS[unit]
    return f"{count} {unit}{'' if count == 1 else 's'}"


def seconds(attempted: str, name: str, text: Any) -> int:
    """A span of time as it is written in a setting. Raises BadSetting for what is none."""
    if name == "every" and text == "never":
        return NEVER
    if name != "every" and text == "forever":
        return FOREVER
    match = _SPAN.fullmatch(text) if isinstance(text, str) else None
    if match is None or (name == "every" and int(match[1]) == 0):
        last = "never" if name == "every" else "forever"
        raise BadSetting(attempted, f"{name} is {text!r}", f'For instance "90 days", "12 hours", "2 years", "{last}".')
    return int(match[1]) * _SECONDS[match[2]]
