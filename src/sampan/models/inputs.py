"""From records as they were sent to the columns a model takes, with one clear message for what does not fit."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Final, TypeAlias

import numpy as np

from sampan.base.errors import Usage
from sampan.models.tensors import TensorReader, Unfit, packed, read_content
from sampan.models.values import Content
from sampan.models.version import InputType, Label, Signature

Matrix: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float64]]

_EXPECTED: Final = {
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "text": "a text",
    "category": "a text, a number, true or false",
    "bytes": 'bytes as {"base64": "..."}',
}
_ABSENT: Final = object()
_NUMBERS: Final = frozenset({float, int})


class Inputs:
    """Reads a signature's inputs out of records."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._readers = [
            (
                name,
                TensorReader(signature.tensor(name))
                if kind == "tensor"
                else _reader(kind, signature.categories.get(name, ())),
            )
            for name, kind in signature.inputs.items()
        ]
        heavy = frozenset(signature.heavy)
        self._heavy = [(name, read) for name, read in self._readers if name in heavy]

        numbers = len(self._readers) > 1 and set(signature.inputs.values()) == {"number"}
        self._pick = itemgetter(*signature.inputs) if numbers else None

    def rows(self, records: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
        """One list of values per record, in the model's order; categories as codes, null as NaN (None for texts).

        Raises Usage naming record, field, what was expected and the value.
        """
        missing = self.signature.missing
        rows = []
        for index, record in enumerate(records):
            row: list[Any] = []
            for name, read in self._readers:
                value = record.get(name, _ABSENT)
                if value is None and missing:
                    row.append(math.nan)
                    continue
                try:
                    row.append(read(value))
                except (TypeError, ValueError, OverflowError) as error:
                    raise self._explain(index, len(records), name, value, error) from None
            rows.append(row)
        return rows

    def pack(self, records: Sequence[Any]) -> list[Any]:
        """The records with each tensor and all bytes as ``Packed`` and ``Content``, checked. Raises Usage as ``rows``
        does; what is missing, or is no record, stays as it is."""
        made = []
        for index, record in enumerate(records):
            one = dict(record) if isinstance(record, dict) else record
            for name, read in self._heavy:
                if not isinstance(one, dict) or name not in one:
                    continue
                try:
                    found: Any = read(one[name])
                except Unfit as error:
                    raise self._explain(index, len(records), name, one[name], error) from None
                tensor = self.signature.inputs[name] == "tensor"
                one[name] = packed(found, self.signature.tensor(name).datatype) if tensor else Content(found)
            made.append(one)
        return made

    def matrix(self, records: Sequence[Mapping[str, Any]]) -> Matrix:
        """The records as float64, one row each. Raises Usage as ``rows`` does."""
        if (plain := self._plain(records)) is not None:
            return plain
        return np.array(self.rows(records), dtype=np.float64).reshape(len(records), len(self._readers))

    def _plain(self, records: Sequence[Mapping[str, Any]]) -> Matrix | None:
        """The matrix of records that hold a finite number for each input; None if one does not, or not surely."""
        if (pick := self._pick) is None:
            return None
        try:
            values = list(chain.from_iterable(map(pick, records)))
            if not (_NUMBERS.issuperset(map(type, values)) and math.isfinite(sum(values))):
                return None
            return np.array(values, dtype=np.float64).reshape(len(records), len(self._readers))
        except (KeyError, OverflowError):
            return None

    def frame(self, records: Sequence[Mapping[str, Any]]) -> Any:
        """The records as a pandas DataFrame with the signature's column types. Raises Usage as ``rows`` does."""
        import pandas as pd

        rows = self.rows(records)
        columns: dict[str, Any] = {}
        for place, (name, kind) in enumerate(self.signature.inputs.items()):
            values = [row[place] for row in rows]
            if kind == "text":
                columns[name] = pd.Series([None if value != value else value for value in values], dtype=object)
            elif kind == "category":
                codes = [-1 if math.isnan(code) else int(code) for code in values]
                columns[name] = pd.Categorical.from_codes(codes, categories=list(self.signature.categories[name]))
            elif kind == "number" or any(value != value for value in values):
                columns[name] = np.array(values, dtype=np.float64)
            else:
                columns[name] = np.array(values, dtype=np.bool_ if kind == "boolean" else np.int64)
        return pd.DataFrame(columns, copy=False)

    def _explain(self, index: int, count: int, name: str, value: Any, error: Exception) -> Usage:
        kind = self.signature.inputs[name]
        if kind == "tensor":
            expected = f"a tensor {self.signature.tensor(name).words}"
        else:
            expected = _EXPECTED[kind] + (" or null" if self.signature.missing else "")
        if kind == "category" and (known := self.signature.categories.get(name)):
            expected = f"a category such as {_shown(known[0])}" + (" or null" if self.signature.missing else "")
        where = f"record {index}, " if count > 1 else ""
        if value is _ABSENT:
            obstacle = f"{where}field {name!r} is missing; expected {expected}"
        elif isinstance(error, Unfit):
            obstacle = f"{where}field {name!r}: {error}"
        else:
            obstacle = f"{where}field {name!r}: expected {expected}, got {_shown(value)}"
        return Usage("Predict", obstacle, f"The model takes {', '.join(self.signature.inputs)}.", field=name)


def _reader(kind: InputType, categories: tuple[Label, ...]) -> Callable[[Any], Any]:
    if kind == "number":
        return _number
    if kind == "integer":
        return _integer
    if kind == "boolean":
        return _boolean
    if kind == "text":
        return _text
    if kind == "bytes":
        return read_content
    types = {_kind_of(label) for label in categories} or {str, float, bool}
    codes = {(_kind_of(label), label): code for code, label in enumerate(categories)}

    def read_category(value: Any) -> float:
        if (kind := _kind_of(value)) not in types:
            raise TypeError
        return codes.get((kind, value), math.nan)

    return read_category


def _kind_of(value: Any) -> type:
    """Numbers that are equal are one category, whether or not a point was written."""
    return float if type(value) is int else type(value)


def _number(value: Any) -> float:
    if type(value) is float:
        if math.isfinite(value):
            return value
        raise ValueError
    if type(value) is int:
        return float(value)
    raise TypeError


def _integer(value: Any) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    raise TypeError


def _boolean(value: Any) -> bool:
    if type(value) is bool:
        return value
    raise TypeError


def _text(value: Any) -> str:
    if type(value) is str:
        return value
    raise TypeError


def _shown(value: Any) -> str:
    import msgspec

    text = msgspec.json.encode(value).decode() if value is not None else "null"
    return text if len(text) <= 80 else f"{text[:77]}..."
