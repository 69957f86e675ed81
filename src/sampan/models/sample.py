"""The rows that a model was fitted on, as far as freezing needs them: column types and what a client would send."""

from typing import Any

import numpy as np
import pyarrow as pa

from sampan.base.errors import BadStep
from sampan.models.tensors import TensorReader, Unfit, packed
from sampan.models.values import BYTES, DATATYPES, Content, TensorType
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


def wire_type(name: str, type: pa.DataType) -> "InputType | TensorType":
    """The wire type of an Arrow column, for models that take tensors and bytes. Raises BadStep for any other."""
    if pa.types.is_binary(type) or pa.types.is_large_binary(type) or pa.types.is_fixed_size_binary(type):
        return "bytes"
    shape: list[int] = []
    if isinstance(type, pa.FixedShapeTensorType):
        shape, type = list(type.shape), type.value_type
    while pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type):
        shape.append(type.list_size if pa.types.is_fixed_size_list(type) else -1)
        type = type.value_type
    if not shape:
        return input_type(name, type)
    if pa.types.is_string(type) or pa.types.is_large_string(type):
        return TensorType(BYTES, tuple(shape))
    known = {pa.from_numpy_dtype(kind): datatype for datatype, kind in DATATYPES.items()}
    if type not in known:
        raise BadStep("Freeze a model", f"the feature {name!r} holds lists of {type}", "Give lists of numbers.")
    return TensorType(known[type], tuple(shape))


def plain_records(table: pa.Table, signature: Signature) -> list[dict[str, Any]]:
    """Rows of a sample as the records a client would send: decimals as numbers, NaN as null, tensors and bytes as
    what is sent in base64."""
    records = []
    heavy = {name: _whole(table.column(name), name, signature) for name in signature.heavy}
    light = [name for name in signature.inputs if name not in heavy]
    rows = table.select(light).to_pylist() if light else [{} for _ in range(table.num_rows)]
    for at, row in enumerate(rows):
        for name in light:
            value = row[name]
            if signature.inputs[name] == "number" and value is not None:
                row[name] = None if value != value else float(value)
        records.append({name: heavy[name][at] if name in heavy else row[name] for name in signature.inputs})
    return records


def _whole(column: pa.ChunkedArray, name: str, signature: Signature) -> list[Any]:
    """A column of tensors or bytes as values; what does not fit stays as it is, and is refused when it is sent."""
    if signature.inputs[name] == "bytes":
        return [None if one is None else Content(one) for one in column.to_pylist()]
    read, made = TensorReader(signature.tensor(name)), []
    shape = column.type.shape if isinstance(column.type, pa.FixedShapeTensorType) else None
    storage = column.cast(column.type.storage_type) if shape is not None else column
    for one in storage.to_pylist():
        try:
            array = read(
                np.array(one, read.type.numpy).reshape(shape) if shape is not None and one is not None else one
            )
            made.append(packed(array, read.type.datatype))
        except Unfit:
            made.append(one)
    return made
