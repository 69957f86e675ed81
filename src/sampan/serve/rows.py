"""Rows of a table or a file in their order, as the records that a client would send, a batch at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec

from sampan.base.errors import Damaged, NotFound, Usage
from sampan.models.values import Content
from sampan.models.version import Signature

if TYPE_CHECKING:
    import pyarrow as pa

Records: TypeAlias = list[dict[str, Any]]
FORMS: Final = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}


class Rows(NamedTuple):
    """``total`` is None where it is known only at the end; ``batches`` yields all columns of some rows."""

    columns: list[str]
    total: int | None
    batches: Iterator[Records]


def form_of(attempted: str, path: Path) -> str:
    """By the file's name. Raises Usage for one that is not known."""
    form = FORMS.get(path.suffix.lower())
    if form is None:
        raise Usage(attempted, f"{path.name!r} is no form of file that is known", f"Known: {', '.join(FORMS)}.")
    return form


def of_snapshot(paths: Sequence[Path], format: str, columns: Sequence[str], total: int, size: int) -> Rows:
    """The rows of a table's files, one file after the other."""
    read = _parquet if format == "parquet" else _arrow
    return Rows(list(columns), total, (batch for path in paths for batch in read(path, size)))


def of_file(path: Path, signature: Signature, named: str, size: int) -> Rows:
    """The rows of a file. Of CSV the inputs are read as the signature says, and whom it is about as text."""
    attempted = f"Score {path}"
    if not path.is_file():
        raise NotFound(attempted, "there is no such file", "A name without an ending is a table's.")
    form = form_of(attempted, path)
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            facts = pq.read_metadata(path)
        except (pa.ArrowException, OSError) as error:
            raise Damaged(attempted, f"it is not Parquet: {error}") from error
        return Rows(list(pq.read_schema(path).names), facts.num_rows, _parquet(path, size))
    return _csv(path, signature, named, size) if form == "csv" else _lines(path, size)


def _parquet(path: Path, size: int) -> Iterator[Records]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(size):
                yield _plain(batch)
    except (pa.ArrowException, OSError) as error:
        raise Damaged(f"Score {path.name}", str(error)) from error


def _arrow(path: Path, size: int) -> Iterator[Records]:
    from sampan.lake.arrow import open_ipc

    for batch in open_ipc(path).to_batches(max_chunksize=size):
        yield _plain(batch)


def _plain(batch: "pa.RecordBatch") -> Records:
    """Values as JSON has them: decimals are numbers; what is no number is written as null; bytes are in base64."""
    import pyarrow as pa

    for place, field in enumerate(batch.schema):
        if isinstance(field.type, pa.FixedShapeTensorType):
            batch = batch.set_column(place, field.name, _nested(batch.column(place)))
        elif pa.types.is_list(field.type) and (plain := _inexact(field.type)) != field.type:
            batch = batch.set_column(place, field.name, batch.column(place).cast(plain))
    records: Records = batch.to_pylist()
    for field in batch.schema:
        if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            for record in records:
                record[field.name] = None if record[field.name] is None else Content(record[field.name])
    exact = [field.name for field in batch.schema if pa.types.is_decimal(field.type)]
    for record in records if exact else ():
        for name in exact:
            if isinstance(value := record[name], Decimal):
                record[name] = float(value)
    return records


def _inexact(type: "pa.DataType") -> "pa.DataType":
    """A list's type with numbers in place of decimals."""
    import pyarrow as pa

    if pa.types.is_list(type):
        return pa.list_(_inexact(type.value_type))
    return pa.float64() if pa.types.is_decimal(type) else type


def _nested(tensors: "pa.ExtensionArray") -> "pa.Array":
    """Tensors of one shape as nested lists."""
    import pyarrow as pa

    flat, shape = tensors.storage.flatten(), tensors.type.shape
    for size in reversed(shape[1:]):
        flat = pa.FixedSizeListArray.from_arrays(flat, size)
    return pa.FixedSizeListArray.from_arrays(flat, shape[0])


def _csv(path: Path, signature: Signature, named: str, size: int) -> Rows:
    import pyarrow as pa
    from pyarrow import csv

    attempted = f"Score {path}"
    entity = [named] if named else []
    as_text = {name: pa.string() for name in [*signature.inputs, *entity]}
    options = csv.ConvertOptions(column_types=as_text, strings_can_be_null=True, null_values=[""])

    def mended(error: Exception) -> Usage:
        return Usage(attempted, " ".join(str(error).split()), "Mend that row.")

    try:
        reader = csv.open_csv(path, convert_options=options)
    except (pa.ArrowException, OSError) as error:
        raise mended(error) from error

    kinds = {name: signature.cell(name) for name in signature.inputs}
    readers = [(name, _READERS[kind]) for name, kind in kinds.items() if kind is not None and kind in _READERS]
    readers = [one for one in readers if one[0] in reader.schema.names]

    def batches() -> Iterator[Records]:
        try:
            for batch in reader:
                for start in range(0, batch.num_rows, size):
                    records = _plain(batch.slice(start, size))
                    for record in records:
                        for name, read in readers:
                            record[name] = read(record[name]) if record.get(name) is not None else None
                    yield records
        except pa.ArrowException as error:
            raise mended(error) from error

    return Rows(list(reader.schema.names), None, batches())


def _lines(path: Path, size: int) -> Rows:
    def records() -> Iterator[Mapping[str, Any]]:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        yield msgspec.json.decode(line, type=dict[str, Any])
                    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
                        raise Usage(f"Score {path}", f"line {number}: {error}", "Mend that line.") from error

    columns = list(dict.fromkeys(name for record in records() for name in record))

    def batches() -> Iterator[Records]:
        waiting: Records = []
        for record in records():
            waiting.append(dict(record))
            if len(waiting) == size:
                yield waiting
                waiting = []
        if waiting:
            yield waiting

    return Rows(columns, None, batches())


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # the check of requests says what is wrong with it


def _integer(text: str) -> int | float | str:
    try:
        return int(text)
    except ValueError:
        return _number(text)


def _nested_list(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _in_base64(text: str) -> dict[str, str]:
    return {"base64": text}


def _boolean(text: str) -> bool | str:
    return {"true": True, "false": False, "1": True, "0": False}.get(text.strip().lower(), text)


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "tensor": _nested_list,
    "bytes": _in_base64,
}
