"""A model's suite: what a version must do on slices of the data, when inputs change, and in cases that are remembered.

It is data, a TOML file that anybody can read. Conditions and changes in it are SQL over tables of the workspace, run
where no file can be opened. What does not parse is told with its line; a key that is not known is never passed over.
"""

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, Final, Literal, NoReturn, TypeAlias

import msgspec

from sampan.base.errors import BadWorkspace
from sampan.models.measures import MEASURES, higher

Minimum: TypeAlias = dict[str, float]
Change: TypeAlias = dict[str, str | int | float | bool]
Plain: TypeAlias = str | int | float | bool

MINIMUM: Final = "minimum"
KINDS: Final = ("slice", "perturbation", "invariance", "direction", "case")
ENOUGH: Final = 50
"""Rows that a test needs, where the suite does not say how many."""


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the file that knows its keys."""


class Slice(Strict, frozen=True, kw_only=True):
    """``[[slice]]``: metrics on the rows where a condition holds."""

    name: str
    where: str
    minimum: Minimum
    min_rows: int | None = None


class Changed(Strict, frozen=True, kw_only=True):
    """What perturbations, invariances and directions share. ``set``: column → SQL for its new value; ``share``: of the
    rows that a change makes different, how many must hold."""

    name: str
    set: Change
    where: str = ""
    share: float = 1.0
    min_rows: int | None = None


class Perturbation(Changed, frozen=True, kw_only=True):
    """``[[perturbation]]``: the prediction may move by ``max_change`` at most."""

    max_change: float


class Invariance(Changed, frozen=True, kw_only=True):
    """``[[invariance]]``: the prediction must stay what it is, up to ``tolerance``."""

    tolerance: float = 1e-9


class Direction(Changed, frozen=True, kw_only=True):
    """``[[direction]]``: the prediction must not ``fall``, or must not ``rise``, by more than ``tolerance``. ``of``:
    the class whose probability is meant, of a model that has several."""

    must_not: Literal["fall", "rise"]
    of: Plain | None = None
    tolerance: float = 1e-9


class Case(Strict, frozen=True, kw_only=True):
    """``[[case]]``: features, and what must come of them. ``nan`` stands for a value that is missing. ``class_``: the
    label that must be predicted; ``reason``, ``source``, ``by`` and ``when`` say why it is here."""

    features: dict[str, Plain]
    reason: str
    name: str = ""
    at_least: float | None = None
    at_most: float | None = None
    equals: float | None = None
    tolerance: float = 1e-6
    class_: Plain | None = msgspec.field(default=None, name="class")
    of: Plain | None = None
    source: str = ""
    by: str = ""
    when: Any = ""  # a text or a TOML date


class Suite(Strict, frozen=True, kw_only=True):
    """The whole file. Without a ``table`` it is asked of the one that the version was trained on, as it is now; without
    a ``target`` of the one that @model names. ``unseen``: only of rows that the version was not trained on."""

    table: str = ""
    target: str = ""
    where: str = ""
    unseen: bool = False
    min_rows: int = ENOUGH
    minimum: Minimum = {}
    slice: tuple[Slice, ...] = ()
    perturbation: tuple[Perturbation, ...] = ()
    invariance: tuple[Invariance, ...] = ()
    direction: tuple[Direction, ...] = ()
    case: tuple[Case, ...] = ()

    @property
    def changes(self) -> tuple[Perturbation | Invariance | Direction, ...]:
        return (*self.perturbation, *self.invariance, *self.direction)

    @property
    def measured(self) -> bool:
        """Whether it asks for metrics, so that the truth must be known."""
        return bool(self.minimum or self.slice)

    @property
    def on_rows(self) -> bool:
        """Whether it asks anything of rows of a table; cases need none."""
        return self.measured or bool(self.changes)


def parse(data: bytes, path: str) -> Suite:
    """Read a suite. Raises BadWorkspace with the line and the key that is wrong."""
    try:
        text = data.decode()
        given = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise BadWorkspace(f"Read {path}", f"it is no UTF-8 text at byte {error.start}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadWorkspace(f"Read {path}", str(error), "Mend that line and try again.") from None
    place = _Place(path, text)
    try:
        suite = msgspec.convert(given, Suite)
    except msgspec.ValidationError as error:
        _explain(place, given, str(error))
    names: dict[str, str] = {}
    for where, name in _names(suite):
        if not name.strip():
            place.refuse(where, "name", "it is empty", "A test is spoken of by its name.")
        if name in names:
            place.refuse(where, "name", f"{name!r} is also the name of a [[{names[name]}]]", "Give each its own.")
        names[name] = where.partition("[")[0]
    _check_numbers(place, suite)
    if not names and not suite.minimum:
        raise BadWorkspace(f"Read {path}", "there is no test in it", f"[minimum], [[{']], [['.join(KINDS)}]].")
    return suite


def case_name(case: Case, at: int) -> str:
    """What a case is called."""
    return case.name or f"case {at + 1}"


def _names(suite: Suite) -> Iterator[tuple[str, str]]:
    for kind in KINDS:
        for at, one in enumerate(getattr(suite, kind)):
            yield f"{kind}[{at}]", case_name(one, at) if kind == "case" else one.name


def _check_numbers(place: "_Place", suite: Suite) -> None:
    _check_minimum(place, MINIMUM, suite.minimum)
    _check_rows(place, "", suite.min_rows)
    for at, part in enumerate(suite.slice):
        where = f"slice[{at}]"
        _check_minimum(place, f"{where}.minimum", part.minimum)
        _check_rows(place, where, part.min_rows)
        if not part.minimum:
            place.refuse(where, "minimum", "it names no metric", "For instance: minimum = { auc = 0.7 }")
        if not part.where.strip():
            place.refuse(where, "where", "it is empty", "What holds for all rows stands in [minimum].")
    for kind in ("perturbation", "invariance", "direction"):
        for at, one in enumerate(getattr(suite, kind)):
            where = f"{kind}[{at}]"
            _check_rows(place, where, one.min_rows)
            if not one.set:
                place.refuse(where, "set", "it changes nothing", 'For instance: set = { goods = "goods * 1.01" }')
            if not 0 < one.share <= 1:
                place.refuse(where, "share", f"{one.share} is no share of the rows", "Above 0, up to 1: 0.95.")
            for key in ("max_change", "tolerance"):
                value = getattr(one, key, 0.0)
                if not (math.isfinite(value) and value >= 0):
                    place.refuse(where, key, f"{value} is no distance", "A number from 0 on.")
    for at, case in enumerate(suite.case):
        _check_case(place, f"case[{at}]", case)


def _check_minimum(place: "_Place", where: str, minimum: Minimum) -> None:
    for name, value in minimum.items():
        if higher(name) is None:
            place.refuse(where, name, "it is no metric that says better or worse", _known_metrics())
        if not math.isfinite(value):
            place.refuse(where, name, f"{value} is no bound", "Write a number.")


def _known_metrics() -> str:
    more, less = (sorted(name for name, one in MEASURES.items() if one.higher is way) for way in (True, False))
    return f"At least: {', '.join(more)}. At most: {', '.join(less)}."


def _check_rows(place: "_Place", where: str, rows: int | None) -> None:
    if rows is not None and rows < 1:
        place.refuse(where, "min_rows", f"{rows} rows show nothing", "At least 1.")


def _check_case(place: "_Place", where: str, case: Case) -> None:
    bounds = {"at_least": case.at_least, "at_most": case.at_most, "equals": case.equals}
    given = {key: value for key, value in bounds.items() if value is not None}
    if not given and case.class_ is None:
        advice = "Give at_least, at_most, equals or class."
        place.refuse(where, "features", "nothing is expected of this case", advice)
    for key, value in {**given, "tolerance": case.tolerance}.items():
        if not math.isfinite(value):
            place.refuse(where, key, f"{value} is no bound", "Write a number.")
    if case.at_least is not None and case.at_most is not None and case.at_least > case.at_most:
        place.refuse(where, "at_least", f"{case.at_least} is more than at_most, {case.at_most}", "Nothing holds both.")
    if not case.reason.strip():
        place.refuse(where, "reason", "it is empty", "Say why this case must never come back.")
    if not isinstance(case.when, str | date):
        place.refuse(where, "when", f"{case.when!r} is no date", "For instance: 2026-11-26")
    if not case.features:
        place.refuse(where, "features", "there are none", "Name the features and their values.")


# -- where something stands


class _Place:
    """Finds the line of a key, for messages. It need not understand TOML: what it reads has been parsed."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self._lines = path, text.splitlines()

    def refuse(self, where: str, key: str, obstacle: str, advice: str) -> NoReturn:
        """Raises BadWorkspace for a key of ``slice[1]``, of ``slice[1].minimum``, or of the file itself."""
        line = self._line(where, key)
        part = re.sub(r"(\w+)\[(\d+)\]", lambda found: f"[[{found[1]}]] {int(found[2]) + 1}", where)
        part = f"[{part}]" if part == MINIMUM else part.replace(".", ", ")
        said = f"{part}{', ' if part else ''}{key}: {obstacle}" if key else f"{part}: {obstacle}"
        raise BadWorkspace(f"Read {self.path}", f"line {line}: {said}", advice, line=line)

    def _line(self, where: str, key: str) -> int:
        first, *inner = where.split(".")
        name, _, number = first.partition("[")
        begin, end = self._part(name, int(number.rstrip("]") or 0)) if name else (0, self._first_part())
        names = [one for one in (key, *reversed(inner)) if one]
        if not name and f"[{key}" in "".join(line.replace(" ", "") for line in self._lines):
            end = len(self._lines)  # a part of a name that is not known
        for wanted in names:
            found = re.compile(rf"""(^|[\s{{,.\["'])["']?{re.escape(wanted)}["']?\s*[\].=]""")
            for at in range(begin, end):
                if found.search(self._lines[at].split("#")[0]):
                    return at + 1
        return begin + 1

    def _part(self, name: str, number: int) -> tuple[int, int]:
        """The lines of the n-th part of a name, its header among them."""
        opens = re.compile(rf"\s*\[\[?\s*{re.escape(name)}\s*\]\]?")
        starts = [at for at, line in enumerate(self._lines) if opens.match(line)]
        if number >= len(starts):
            return 0, len(self._lines)  # written as an array in one line
        begin = starts[number]
        sub = re.compile(rf"\s*\[\[?\s*(?!{re.escape(name)}\s*\.)")
        after = [at for at in range(begin + 1, len(self._lines)) if sub.match(self._lines[at])]
        return begin, after[0] if after else len(self._lines)

    def _first_part(self) -> int:
        opens = re.compile(r"\s*\[")
        return next((at for at, line in enumerate(self._lines) if opens.match(line)), len(self._lines))


_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`")
_LACKS: Final = re.compile(r"Object missing required field `(?P<key>[^`]*)`")
_SHOWN: Final[Mapping[str, type[msgspec.Struct]]] = {
    "": Suite,
    "slice": Slice,
    "perturbation": Perturbation,
    "invariance": Invariance,
    "direction": Direction,
    "case": Case,
}


def _explain(place: _Place, given: Any, error: str) -> NoReturn:
    """What msgspec found, with the line, the key and what it may be."""
    text, _, path = error.partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    parts = path.split(".") if path else []
    name = parts[0].partition("[")[0] if parts else ""
    known = _SHOWN.get(name, Suite)
    listed = f"Known: {', '.join(known.__struct_encode_fields__)}."
    if found := _UNKNOWN.match(text):
        place.refuse(path, found["key"], "this key is not known", listed)
    if found := _LACKS.match(text):
        place.refuse(path, found["key"], "it is missing", listed)
    if path.endswith("[...]"):  # a value of a table whose keys are free
        path = path.removesuffix("[...]")
        key, value = next(pair for pair in _at(given, path).items() if not _fits(path, pair[1]))
        place.refuse(path, key, f"{value!r} is no {'number' if path.endswith(MINIMUM) else 'plain value'}", "")
    if name in KINDS and parts == [name]:
        place.refuse("", name, "it is no list", f"Write [[{name}]] above each, in double brackets.")
    where, _, key = path.rpartition(".")
    place.refuse(where, key, text[:1].lower() + text[1:], listed)


def _at(given: Any, path: str) -> dict[str, Any]:
    """The table at a path: ``slice[1].minimum``."""
    for part in path.split("."):
        name, _, number = part.partition("[")
        given = given[name][int(number.rstrip("]"))] if number else given[name]
    found: dict[str, Any] = given
    return found


def _fits(path: str, value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number or (not path.endswith(MINIMUM) and isinstance(value, str | bool))
