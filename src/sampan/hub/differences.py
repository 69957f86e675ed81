"""What differs between two runs, in five sections: code, environment, data, parameters, metrics. Only differences."""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sampan.lake.diff import TableDiff

_PINNED: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*(.*)")
_PYTHON: Final = re.compile(r"^\s*(?:-\s*)?python\s*[:=]+\s*['\"]?([\d.]+)", re.MULTILINE)
#: What a manifest tells of where a run ran, beside its packages.
_PLACE: Final = (
    *("python", "sampan", "os", "machine", "cpu", "cpus", "gpus", "lock"),
    *("framework", "accelerator", "runtime"),
)


class Side(msgspec.Struct):
    """One of the two runs. ``kind``: flow or logged; ``started`` in microseconds since 1970."""

    id: str
    kind: str
    name: str
    state: str
    started: int
    address: str


class Change(msgspec.Struct):
    """A name with two values; None where there is none. ``difference`` is of numbers."""

    name: str
    before: Any = None
    after: Any = None
    difference: float | None = None


class CodeChange(msgspec.Struct, kw_only=True):
    """Commits; whether there were uncommitted changes; steps and files, by digest, that are others; the code as a
    unified diff, ``text``, as far as git has it; ``said``: why it has not."""

    before: str = ""
    after: str = ""
    uncommitted: tuple[bool, bool] = (False, False)
    steps: list[Change] = []
    files: list[Change] = []
    text: str = ""
    said: str = ""

    @property
    def differs(self) -> bool:
        return bool(self.before != self.after or self.steps or self.files or self.text)


class DataChange(msgspec.Struct, kw_only=True):
    """What was read or made under a name. ``kind``: events, file, table or dataset; ``before`` and ``after`` are
    digests, and ``rows`` compares them, if both are states of a table that are at hand."""

    name: str
    kind: str
    before: str | None
    after: str | None
    rows_before: int | None = None
    rows_after: int | None = None
    rows: TableDiff | None = None
    said: str = ""


class Differences(msgspec.Struct, kw_only=True):
    """All that differs between two runs. ``notes``: per section, what was not recorded."""

    before: Side
    after: Side
    code: CodeChange
    environment: list[Change]
    data: list[DataChange]
    parameters: list[Change]
    metrics: list[Change]
    notes: dict[str, str] = {}

    @property
    def sections(self) -> list[str]:
        """The sections in which something differs."""
        found = {"code": self.code.differs, "environment": self.environment, "data": self.data}
        found |= {"parameters": self.parameters, "metrics": self.metrics}
        return [name for name, one in found.items() if one]


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """The names whose values differ, in the order of names; NaN is like NaN."""
    found = []
    for name in sorted({*before, *after}):
        a, b = before.get(name), after.get(name)
        if a == b or (a != a and b != b):
            continue
        found.append(Change(name, a, b, _difference(a, b)))
    return found


def _difference(a: Any, b: Any) -> float | None:
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in (a, b)):
        return None
    found = float(b) - float(a)
    return found if math.isfinite(found) else None


def flat(name: str, value: Any) -> dict[str, Any]:
    """A value with all that lies within it, by dotted names."""
    if isinstance(value, Mapping):
        return {key: one for inner, of in value.items() for key, one in flat(f"{name}.{inner}", of).items()}
    return {name: value}


def environments(*manifests: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where runs of the flow ran: Python, system, device, each package with its version; of all else what each of them
    recorded, since older versions recorded less."""
    names = [name for name in _PLACE if all(name in one for one in manifests)]
    found = []
    for one in manifests:
        place = {key: value for name in names for key, value in flat(name, one[name]).items()}
        found.append(place | dict(one.get("packages") or {}))
    return found


def requirements(text: str) -> dict[str, str]:
    """Packages with what is required of each, as a requirements.txt has it."""
    found = {}
    for line in text.splitlines():
        plain = line.partition("#")[0].partition(";")[0].strip()
        named = _PINNED.match(plain)
        if named and not plain.startswith("-"):
            version = named[2].strip()
            found[re.sub(r"[-_.]+", "-", named[1]).lower()] = version.removeprefix("==").strip() or "any"
    return found


def python_of(text: str) -> str:
    """The version of Python that a python_env.yaml or conda.yaml names; empty if it names none."""
    found = _PYTHON.search(text)
    return found[1] if found else ""


def numbers(name: str, value: Any) -> dict[str, float]:
    """The numbers of a step's plain result, by dotted names."""
    found = flat(name, value)
    return {key: one for key, one in found.items() if isinstance(one, int | float) and not isinstance(one, bool)}
