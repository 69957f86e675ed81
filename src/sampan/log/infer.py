"""A contract for data that is there already: types, what may be absent, the few values that a text takes.

What the data cannot tell is left out and said in a comment: units, bounds, meaning. The contract that is written
accepts every row that it was made from.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any, Final

import msgspec

from sampan.log.declare import snake_case
from sampan.log.writing import Line, Shape, class_name, literal, module_text, python_name

_FEW: Final = 12  # values at most that a Literal lists …
_EACH: Final = 20  # … and rows for each of them that there must be
_INT: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_FLOAT: Final = re.compile(r"-?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?")
_WORD: Final = re.compile(r"[\w][\w .:/+-]{0,39}")
_TRUE: Final = frozenset({"true", "false", "yes", "no"})
_LARGEST: Final = 1 << 63
_TIMES: Final = ("time", "timestamp", "occurred_at", "happened_at", "event_time", "created_at", "date", "datetime")
_UNITS: Final = {
    "gbp": "GBP", "eur": "EUR", "usd": "USD", "kg": "kg", "g": "g", "km": "km", "m": "m", "cm": "cm", "mm": "mm",
    "s": "s", "sec": "s", "seconds": "s", "ms": "ms", "minutes": "min", "hours": "h", "days": "d", "c": "°C",
    "celsius": "°C", "f": "°F", "pct": "%", "percent": "%", "bytes": "B", "kb": "kB", "mb": "MB", "kwh": "kWh",
    "pence": "GBX", "cents": "ct",
}  # fmt: skip


class Column:
    """What a column's values have been so far. ``text``: they are cells of a CSV file, all of them text."""

    def __init__(self, name: str, *, text: bool) -> None:
        self.name, self._text = name, text
        self.given = 0
        self.kinds: set[str] = set()
        self.values: set[str] | None = set()
        self._inner: set[str] = set()
        self._least: float | None = None
        self._most: float | None = None
        self._may = {"bool", "int", "float", "datetime"}

    def add(self, value: Any) -> None:
        """Take up one value."""
        if value is None or (isinstance(value, float) and not isfinite(value)):
            return
        if self._text:
            if not (plain := str(value).strip()):
                return
            self.given += 1
            if self._may:
                self._may = {kind for kind in self._may if _reads(plain, kind)}
            if "float" in self._may:
                self._reach(float(plain))
            self._keep(value)
            return
        self.given += 1
        kind = _kind(value)
        self.kinds.add(kind)
        if isinstance(value, int | float | Decimal) and kind != "bool":
            self._reach(float(value))
        elif isinstance(value, str):
            if "datetime" in self._may and not _reads(value, "datetime"):
                self._may.discard("datetime")
            self._keep(value)
        elif isinstance(value, list | tuple):
            self._inner |= {_kind(one) for one in value}

    def _keep(self, value: str) -> None:
        if self.values is not None:
            self.values.add(value)
            if len(self.values) > _FEW or not _WORD.fullmatch(value):
                self.values = None

    def _reach(self, value: float) -> None:
        self._least = value if self._least is None else min(value, self._least)
        self._most = value if self._most is None else max(value, self._most)

    @property
    def is_time(self) -> bool:
        """Whether every value is an instant."""
        return self.given > 0 and self.annotation() == "dt.datetime"

    def annotation(self) -> str:
        """The type of its values."""
        if not self.given:
            return "Any"
        if self._text:
            for kind in ("bool", "int", "float", "datetime"):
                if kind in self._may:
                    return "dt.datetime" if kind == "datetime" else kind
            return self._words()
        kinds = set(self.kinds)
        if kinds == {"str"}:
            return "dt.datetime" if "datetime" in self._may else self._words()
        if {"int", "float"} <= kinds:
            kinds.discard("int")
        if "list" in kinds:
            inner = self._inner - ({"int"} if "float" in self._inner else set())
            plain = len(inner) == 1 and inner <= {"str", "int", "float", "bool"}
            kinds = kinds - {"list"} | {f"list[{inner.pop() if plain else 'Any'}]"}
        if "Any" in kinds or (len(kinds) > 1 and any(kind.startswith("dt.") for kind in kinds)):
            return "Any"
        return " | ".join(sorted("dict[str, Any]" if kind == "dict" else kind for kind in kinds))

    def _words(self) -> str:
        if self.values and self.given >= _EACH * len(self.values) and len(self.values) > 1:
            return f"Literal[{', '.join(map(literal, sorted(self.values)))}]"
        return "str"

    def remark(self) -> str:
        """What the data shows and the contract does not say."""
        if not self.given:
            return "never has a value in the file"
        if self._least is None or self.annotation() not in ("int", "float"):
            return ""
        unit = _UNITS.get(python_name(self.name).rpartition("_")[2])
        hint = f"; unit {unit}?" if unit and "_" in python_name(self.name) else "; unit?"
        return f"seen {self._least:.10g} to {self._most:.10g}{hint}"


class Inferred(msgspec.Struct, frozen=True):
    """A contract's text; ``columns`` maps fields to columns of another name, ``time`` is the column of the event's
    time, empty if there is none."""

    text: str
    type: str
    time: str
    columns: dict[str, str]


def infer(rows: Iterable[Mapping[str, Any]], name: str, *, text: bool, said: str = "") -> Inferred:
    """The contract of rows. ``name`` becomes the class's; ``text``: the rows come from a CSV file; ``said`` is where
    they come from."""
    columns: dict[str, Column] = {}
    count = 0
    for row in rows:
        count += 1
        for key, value in row.items():
            if key not in columns:
                columns[key] = Column(key, text=text)
            columns[key].add(value)
    moment = _time_of(columns, count)
    fields: dict[str, str] = {}
    lines = []
    for key, column in columns.items():
        if key == moment:
            continue
        field = python_name(key, fields)
        fields[field] = key
        kind = column.annotation()
        optional = column.given < count and kind != "Any"
        default = "None" if column.given < count or kind == "Any" else None
        lines.append(Line(field, f"{kind} | None" if optional else kind, default, column.remark()))
    cls = class_name(name)
    renamed = {field: key for field, key in fields.items() if field != key}
    head = [f"From {said or name}: {count:,} rows. What the data cannot tell, you can: units, bounds, meaning, owner."]
    shape = Shape(cls, tuple(lines), options=("version=1",))
    return Inferred(module_text([shape], head), snake_case(cls), moment, renamed)


def _time_of(columns: Mapping[str, Column], count: int) -> str:
    """The column that says when it happened: one of a usual name, else the first that is always an instant."""
    times = [key for key, column in columns.items() if column.is_time and column.given == count]
    usual = [key for wanted in _TIMES for key in times if python_name(key) in (wanted, f"{wanted}_")]
    return next(iter([*usual, *times]), "")


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case int():
            return "int" if -_LARGEST <= value < _LARGEST else "float"
        case float() | Decimal():
            return "float"
        case str() | bytes():
            return "str"
        case datetime():
            return "dt.datetime"
        case date():
            return "dt.date"
        case time():
            return "dt.time"
        case timedelta():
            return "dt.timedelta"
        case list() | tuple():
            return "list"
        case dict():
            return "dict"
        case _:
            return "Any"


def _reads(text: str, kind: str) -> bool:
    if kind == "bool":
        return text.lower() in _TRUE
    if kind == "int":
        return bool(_INT.fullmatch(text))
    if kind == "float":
        return bool(_FLOAT.fullmatch(text)) and text.strip("-")[:1] not in ("", "e", "E") and isfinite(float(text))
    if len(text) < 10 or "-" not in text:
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
