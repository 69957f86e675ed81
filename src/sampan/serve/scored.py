"""Where scored rows are written: a Parquet or CSV file, which is there whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from sampan.base.errors import DiskFull, NotFound, Usage
from sampan.base.files import unfinished

_GROUP: Final = 50_000  # rows of a Parquet file that lie together
_ABOUT: Final = "sampan.score"
_encode = msgspec.json.Encoder().encode


class Writer(Protocol):
    """Takes rows in their order; ``finish`` puts the file in its place, ``drop`` leaves nothing behind."""

    def add(self, rows: list[dict[str, Any]]) -> None: ...
    def finish(self, about: Mapping[str, Any]) -> None: ...
    def drop(self) -> None: ...


def writer(path: Path) -> Writer:
    """By the ending of the name. Raises Usage, NotFound."""
    attempted = f"Write {path}"
    if not path.parent.is_dir():
        raise NotFound(attempted, f"there is no folder {path.parent}", "Make it first.")
    if path.is_dir():
        raise Usage(attempted, "that is a folder", "Name a file in it.")
    ending = path.suffix.lower()
    if ending == ".csv":
        return _Csv(path)
    if ending in (".parquet", ".pq"):
        return _Parquet(path)
    raise Usage(attempted, f"{path.name!r} is neither Parquet nor CSV", "End it in .parquet or .csv.")


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = unfinished(path)

    def _settle(self) -> None:
        with self._part.open("rb") as file:
            os.fsync(file.fileno())
        self._part.replace(self._path)

    def _full(self, error: OSError) -> DiskFull:
        return DiskFull(f"Write {self._path}", str(error), "Make room, and try again.")

    def drop(self) -> None:
        self._part.unlink(missing_ok=True)


class _Csv(_File):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        import csv

        try:
            self._file = self._part.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise self._full(error) from error
        self._csv = csv.writer(self._file)
        self._named = False

    def add(self, rows: list[dict[str, Any]]) -> None:
        if rows and not self._named:
            self._csv.writerow(rows[0])
            self._named = True
        self._csv.writerows([_cell(value) for value in row.values()] for row in rows)

    def finish(self, about: Mapping[str, Any]) -> None:
        self._file.close()
        self._settle()

    def drop(self) -> None:
        self._file.close()
        super().drop()


class _Parquet(_File):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._waiting: list[dict[str, Any]] = []
        self._writer: Any = None

    def add(self, rows: list[dict[str, Any]]) -> None:
        self._waiting += rows
        if len(self._waiting) >= _GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = None if self._writer is None else self._writer.schema
        try:
            table = pa.Table.from_pylist(self._waiting, schema=schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise Usage(f"Write {self._path}", f"its columns are of several types: {error}", "Write CSV.") from error
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._part, table.schema)
        self._writer.write_table(table)
        self._waiting = []

    def finish(self, about: Mapping[str, Any]) -> None:
        if self._waiting or self._writer is None:
            self._flush()
        self._writer.add_key_value_metadata({_ABOUT: _encode(about).decode()})
        self._writer.close()
        self._settle()

    def drop(self) -> None:
        if self._writer is not None:
            self._writer.close()
        super().drop()


def _cell(value: Any) -> Any:
    return _encode(value).decode() if isinstance(value, dict | list) else value
