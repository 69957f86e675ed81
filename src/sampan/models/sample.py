"""The rows that a model was fitted on, as far as freezing needs them: column types and what a client would send."""

from typing import Any

import pyarrow as pa

from sampan.base.errors import BadStep
from sampan.models.version import InputType, Signature


def to_arrow(sample: Any) -> pa.Table | None:
    """A training sample (pandas, Polars, Arrow, DuckDB relation) as Arrow, decimals as floats; None stays None."""
    if sample is None:
        return None
    table = _table(sample)
    exact = [place for place, field in enumerate(table.schema) if pa.types.is_decimal(field.type)]
    for place in exact:  # which frames hold as objects, and no estimator takes
        table = table.set_column(place, table.column_names[place], table.column(place).cast(pa.float64()))
    return table


def _table(sample: Any) -> pa.Table:
    if isinstance(sample, pa.Table):
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
