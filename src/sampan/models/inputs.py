"""From records as they were sent to the columns a model takes, with one clear message for what does not fit."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from struct import pack_into
from typing import Any, Final, Self, TypeAlias, overload

import msgspec
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
_FEW: Final = 100  # inputs; each name of a record is looked for among them, and with many that takes longest


class Numbers(Sequence[dict[str, Any]]):
    """Records that hold a number for each input and nothing else: ``matrix`` has them, ``raws`` the JSON that each came
    as. They are made into objects only for who looks at one."""

    __slots__ = ("_made", "inputs", "matrix", "raws")

    def __init__(self, inputs: tuple[str, ...], raws: Sequence[msgspec.Raw], matrix: Matrix) -> None:
        self.inputs, self.raws, self.matrix = inputs, raws, matrix
        self._made: list[dict[str, Any]] | None = None

    @classmethod
    def joined(cls, some: Sequence[Self]) -> Self:
        """Those of several requests to the same inputs."""
        raws = [raw for one in some for raw in one.raws]
        return cls(some[0].inputs, raws, np.concatenate([one.matrix for one in some]))

    def at(self, places: Sequence[int]) -> Self:
        """Those in some places."""
        return type(self)(self.inputs, [self.raws[place] for place in places], self.matrix[list(places)])

    def __len__(self) -> int:
        return len(self.raws)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if self._made is None:
            self._made = [_record(raw) for raw in self.raws]
        return self._made[place]


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
        self._names = tuple(signature.inputs)
        self._pick = itemgetter(*signature.inputs) if numbers else None
        self._typed = _typed(self._names) if numbers and len(self._names) <= _FEW else None

    def numbers(self, raws: Sequence[msgspec.Raw]) -> Numbers | None:
        """Records of numbers from their JSON; None for what is not surely that, or not written as plainly as it could
        be: with a key twice, or over several lines."""
        if self._typed is None:
            return None
        whole = b"".join(raws)
        # each name has two quotation marks, and is there: if there are no more, none is there twice
        if whole.count(b'"') != 2 * len(raws) * len(self._names) or b"\n" in whole or b"\r" in whole:
            return None
        try:
            rows = list(map(self._typed, raws))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        values = list(chain.from_iterable(map(msgspec.structs.astuple, rows)))
        matrix = np.empty((len(raws), len(self._names)))
        pack_into(f"{len(values)}d", matrix.data, 0, *values)  # np.array looks at each type, which takes as long again
        return Numbers(self._names, raws, matrix)

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
        if isinstance(records, Numbers) and records.inputs == self._names:
            return records.matrix
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


_record: Final = msgspec.json.Decoder(dict[str, Any]).decode


def _typed(names: tuple[str, ...]) -> Callable[[msgspec.Raw], Any] | None:
    """Reads a record that has a number under each of these names, and nothing else; None for names that JSON
    escapes."""
    if any(msgspec.json.encode(name) != f'"{name}"'.encode() for name in names):
        return None
    fields = {f"f{place}": name for place, name in enumerate(names)}
    made = msgspec.defstruct(
        "Row", [(one, float) for one in fields], rename=fields, forbid_unknown_fields=True, gc=False
    )
    return msgspec.json.Decoder(made).decode


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
