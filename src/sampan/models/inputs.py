"""From records as they were sent to the columns a model takes, with one clear message for what does not fit."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from sampan.base.errors import BadStep, Usage
from sampan.models.version import InputType, Label, Signature

Matrix: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float64]]

_EXPECTED: Final = {
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "text": "a text",
    "category": "one of the categories it was trained with, or any other text",
}
_ABSENT: Final = object()


class Inputs:
    """Reads a signature's inputs out of records."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._readers = [
            (name, _reader(kind, signature.categories.get(name, ()))) for name, kind in signature.inputs.items()
        ]

    def rows(self, records: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
        """One list of values per record, in the model's order; categories as codes, null as NaN (None for texts).

        Raises Usage naming record, field, what was expected and the value.
        """
        missing = self.signature.missing
        rows = []
        for index, record in enumerate(records):
            row = []
            for name, read in self._readers:
                value = record.get(name, _ABSENT)
                if value is None and missing:
                    row.append(math.nan)
                    continue
                try:
                    row.append(read(value))
                except (TypeError, ValueError, OverflowError):
                    raise self._explain(index, len(records), name, value) from None
            rows.append(row)
        return rows

    def matrix(self, records: Sequence[Mapping[str, Any]]) -> Matrix:
        """The records as float64, one row each. Raises Usage as ``rows`` does."""
        return np.array(self.rows(records), dtype=np.float64).reshape(len(records), len(self._readers))

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

    def _explain(self, index: int, count: int, name: str, value: Any) -> Usage:
        kind = self.signature.inputs[name]
        expected = _EXPECTED[kind] + (" or null" if self.signature.missing else "")
        where = f"record {index}, " if count > 1 else ""
        if value is _ABSENT:
            obstacle = f"{where}field {name!r} is missing; expected {expected}"
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
    codes = {(type(label), label): code for code, label in enumerate(categories)}

    def read_category(value: Any) -> float:
        if type(value) not in (str, int, bool, float):
            raise TypeError
        return codes.get((type(value), value), math.nan)

    return read_category


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


def to_arrow(sample: Any) -> pa.Table | None:
    """A training sample (pandas, Polars, Arrow, DuckDB relation) as Arrow; None stays None."""
    if sample is None or isinstance(sample, pa.Table):
        return sample
    if isinstance(sample, pa.RecordBatch):
        return pa.Table.from_batches([sample])
    if hasattr(sample, "to_arrow"):
        return sample.to_arrow()
    if hasattr(sample, "to_arrow_table"):
        return sample.to_arrow_table()
    if type(sample).__module__.startswith("pandas"):
        return pa.Table.from_pandas(sample, preserve_index=False)
    raise BadStep(
        "Freeze a model",
        f"its sample is a {type(sample).__module__}.{type(sample).__qualname__}",
        "Give a pandas or Polars DataFrame, an Arrow table or a DuckDB relation.",
    )


def input_type(name: str, type: pa.DataType) -> InputType:
    """The wire type of an Arrow column. Raises BadStep for one that cannot be sent as plain JSON."""
    if pa.types.is_dictionary(type):
        return "category"
    if pa.types.is_boolean(type):
        return "boolean"
    if pa.types.is_integer(type):
        return "integer"
    if pa.types.is_floating(type) or pa.types.is_decimal(type) or pa.types.is_null(type):
        return "number"
    if pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type):
        return "text"
    raise BadStep(
        "Freeze a model",
        f"the feature {name!r} has the type {type}",
        "Turn it into a number, a text, a bool or a category first.",
    )


def plain_records(table: pa.Table, signature: Signature) -> list[dict[str, Any]]:
    """Rows of a sample as the records a client would send: decimals as numbers, NaN as null."""
    records = []
    for row in table.select(list(signature.inputs)).to_pylist():
        for name, kind in signature.inputs.items():
            value = row[name]
            if kind == "number" and value is not None:
                row[name] = None if value != value else float(value)
        records.append(row)
    return records
