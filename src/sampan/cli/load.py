"""Events from files: rows of CSV, Parquet or NDJSON become events of one kind, in batches ready to be sent.

An id that is not given is made from the row's content and from how many equal rows came before it, so that a file
loaded twice is stored once and two equal rows in it stay two.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from sampan.base.errors import BadQuery, Damaged, NotFound, Usage
from sampan.log.spec import ContractSpec

BATCH: Final = 1_000
_ENCODE: Final = msgspec.json.Encoder().encode
_TRUTH: Final = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


class Columns(NamedTuple):
    """Which column gives what. ``fields`` maps a contract's field to a column of another name."""

    time: str = ""
    id: str = ""
    subject: str = ""
    known_at: str = ""
    fields: Mapping[str, str] = {}


class Batch(NamedTuple):
    """Events as NDJSON, and how much of the file they stand for."""

    body: bytes
    events: int
    progress: int


def form_of(path: Path) -> str:
    """``csv``, ``parquet`` or ``ndjson``, by the file's name. Raises Usage for any other."""
    if not path.is_file():
        raise NotFound(f"Load {path}", "there is no such file")
    suffix = path.suffix.lower().removeprefix(".")
    form = {"csv": "csv", "parquet": "parquet", "pq": "parquet", "ndjson": "ndjson", "jsonl": "ndjson"}.get(suffix)
    if form is None:
        raise Usage(
            f"Load {path}",
            f"{suffix or 'a name without ending'!r} is no form of file that is known",
            "Known: .csv, .parquet, .ndjson, .jsonl.",
        )
    return form


def total_of(path: Path) -> int:
    """How much there is to load: rows of a Parquet file, bytes of any other."""
    if form_of(path) == "parquet":
        import pyarrow.parquet as pq

        try:
            return int(pq.read_metadata(path).num_rows)
        except Exception as error:
            raise Damaged(f"Load {path}", f"it is not Parquet: {error}") from error
    return path.stat().st_size


def events(path: Path) -> Iterator[Batch]:
    """Batches of a file whose lines are whole events already; every line goes on as it is, broken ones too."""
    with path.open("rb") as file:
        lines: list[bytes] = []
        size = 0
        for line in file:
            size += len(line)
            if line.strip():
                lines.append(line if line.endswith(b"\n") else line + b"\n")
            if len(lines) >= BATCH or size > 4_000_000:
                yield Batch(b"".join(lines), len(lines), size)
                lines, size = [], 0
        if lines or size:
            yield Batch(b"".join(lines), len(lines), size)


def rows(path: Path, spec: ContractSpec, source: str, columns: Columns) -> Iterator[Batch]:
    """Batches of events of one kind, made from rows."""
    maker = _Maker(path, spec, source, columns)
    lines: list[bytes] = []
    progress = 0
    for row, size in read(path):
        lines.append(_ENCODE(maker.event(row)))
        progress += size
        if len(lines) >= BATCH:
            yield Batch(b"\n".join(lines), len(lines), progress)
            lines, progress = [], 0
    if lines:
        yield Batch(b"\n".join(lines), len(lines), progress)


def no_fields(path: Path, spec: ContractSpec, columns: Columns) -> list[str]:
    """Columns of the first row that neither a field nor the event itself takes; they are kept, but in no table."""
    row = next(read(path), ({}, 0))[0]
    taken = {columns.time or "time", columns.id, columns.subject, columns.known_at, *columns.fields.values()}
    return [column for column in row if column not in taken and spec.field(column) is None]


def read(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """The rows of a file, each with how much of the file it stands for."""
    form = form_of(path)
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(10_000):
                    yield from ((row, 1) for row in batch.to_pylist())
        except (pa.ArrowException, OSError) as error:
            raise Damaged(f"Load {path}", str(error)) from error
    elif form == "csv":
        yield from _read_csv(path)
    else:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        row = msgspec.json.decode(line)
                    except msgspec.DecodeError as error:
                        raise BadQuery(f"Load {path}", f"line {number}: {error}", "Mend that line.") from error
                    if not isinstance(row, dict):
                        raise BadQuery(f"Load {path}", f"line {number} is no object", "Mend that line.")
                    yield row, len(line)


def _read_csv(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    import csv

    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise BadQuery(
                        f"Load {path}",
                        f"line {reader.line_num} has {'more' if None in row else 'fewer'} columns than the heading",
                        "Mend that line; a text with a comma is put in quotes.",
                    )
                yield row, sum(map(len, row.values())) + len(row)
        except csv.Error as error:
            raise BadQuery(f"Load {path}", f"line {reader.line_num}: {error}", "Mend that line.") from error


class _Maker:
    """Makes an event of a row."""

    def __init__(self, path: Path, spec: ContractSpec, source: str, columns: Columns) -> None:
        self._path, self._spec, self._source, self._columns = path, spec, source, columns
        self._seen: Counter[str] = Counter()
        self._envelope = {columns.time or "time", columns.id, columns.known_at} - {""}
        self._renamed = {column: field for field, column in columns.fields.items()}
        for field in columns.fields:
            if spec.field(field) is None:
                known = ", ".join(one.name for one in spec.fields)
                raise Usage(f"Load {path}", f"{spec.type} has no field {field!r}", f"Its fields: {known}.")
        self._checked = False

    def event(self, row: dict[str, Any]) -> dict[str, Any]:
        columns = self._columns
        if not self._checked:
            self._check(row)
        data = {}
        for column, value in row.items():
            name = self._renamed.get(column, column)
            field = self._spec.field(name)
            if column in self._envelope and field is None:
                continue
            data[name] = _fit(value, field.type if field else "", required=bool(field and field.required))
        event = {
            "id": str(row[columns.id]) if columns.id else self._id(row),
            "type": self._spec.type,
            "source": self._source,
            "version": self._spec.version,
            "time": _instant(row[columns.time or "time"]),
            "data": {name: value for name, value in data.items() if value is not None},
        }
        if columns.subject and row[columns.subject] not in (None, ""):
            event["subject"] = str(row[columns.subject])
        if columns.known_at and row[columns.known_at] not in (None, ""):
            event["known_at"] = _instant(row[columns.known_at])
        return event

    def _check(self, row: dict[str, Any]) -> None:
        columns = self._columns
        named = (columns.time or "time", columns.id, columns.subject, columns.known_at, *columns.fields.values())
        for column in filter(None, named):
            if column not in row:
                what = "no column says when it happened" if column == "time" else f"there is no column {column!r}"
                names_it = " --time COLUMN names it." if column == named[0] else ""
                raise Usage(f"Load {self._path}", what, f"Its columns: {', '.join(row)}.{names_it}")
        self._checked = True

    def _id(self, row: dict[str, Any]) -> str:
        digest = hashlib.blake2b(_ENCODE({k: _plain(v) for k, v in row.items()}), digest_size=12).hexdigest()
        self._seen[digest] += 1
        number = self._seen[digest]
        return digest if number == 1 else f"{digest}-{number}"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return float(value) if isinstance(value, Decimal) else value


def _instant(value: Any) -> Any:
    """A time as an event carries it; without an offset it is UTC. What is no time goes on to be quarantined."""
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return value
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return value


def _fit(value: Any, type: str, *, required: bool) -> Any:
    """A cell as its field wants it, where that is plain; else as it is, and intake says what is wrong."""
    value = _plain(value)
    kinds = {{"text": "str"}.get(part.strip(), part.strip()) for part in type.split("|")}
    if isinstance(value, str) and "str" not in kinds and type:
        text = value.strip()
        if not text:
            return None
        try:
            if "int" in kinds:
                return int(text)
            if "float" in kinds:
                return float(text)
        except ValueError:
            return value
        if "bool" in kinds:
            return _TRUTH.get(text.lower(), value)
        return _instant(value) if "datetime" in kinds else value
    if value == "" and not required:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and "str" in kinds and "int" not in kinds:
        return str(value)
    return value
