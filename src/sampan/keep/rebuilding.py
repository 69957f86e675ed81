"""How often the hub tries whether versions in use can still be made: ``[reproduce]`` in ``sampan.toml``."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sampan.base.errors import BadSetting
from sampan.keep.retention import NEVER, seconds

_LEAST: Final = 3_600


class Often(msgspec.Struct, frozen=True):
    """``every``: seconds from one attempt at a version to the next, ``NEVER`` if nobody has asked for it;
    ``tolerance``: by which share of itself each metric may differ."""

    every: int = NEVER
    tolerance: float = 0.0


#: What each is for.
MEANINGS: Final[Mapping[str, str]] = {
    "every": "How often the hub makes each version in use anew, to see whether it still can; at least an hour.",
    "tolerance": "By which share of itself each metric may differ in these attempts.",
}


def read_often(config: Mapping[str, Any]) -> Often:
    """The schedule of a parsed ``sampan.toml``. Raises BadSetting."""
    section = config.get("reproduce", {})
    attempted = "Read [reproduce] in sampan.toml"
    if not isinstance(section, Mapping):
        raise BadSetting(attempted, f"it is {section!r}", 'Write it as a table: every = "30 days".')
    for name in section:
        if name not in MEANINGS:
            raise BadSetting(attempted, f"unknown name {name!r}", f"Known: {', '.join(MEANINGS)}.")
    every = seconds(attempted, "every", section["every"]) if "every" in section else NEVER
    if NEVER < every < _LEAST:
        raise BadSetting(attempted, f"every is {section['every']!r}", 'At least "1 hour", or "never".')
    tolerance = section.get("tolerance", 0.0)
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < 1:
        raise BadSetting(attempted, f"tolerance is {tolerance!r}", "A share from 0 up to 1: 0.001 is a thousandth.")
    return Often(every, float(tolerance))
