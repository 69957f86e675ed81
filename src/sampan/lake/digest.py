"""The digest of a table: equal for equal names, types and rows, whatever their order, files, encoding or engine.

Each cell becomes 64 bits, the cells of a row are folded in column order into 64 bits, and the rows are added up
twice, after two different finalisers: addition forgets the order of the rows, keeps how often each occurs, and can
be shared out over threads. Names, types, row count and both sums are the digest. The arithmetic is written down in
``docs/design/lake.md`` and pinned by golden values in the tests: it may never change under the prefix ``t1``.

It detects accidents, not forgers; against those each file carries its SHA-256.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sampan.base.errors import Damaged
from sampan.lake.cells import cells, finish, fold, kind

Words: TypeAlias = npt.NDArray[np.uint64]
Keep: TypeAlias = Callable[[int, Words], None]
"""Is given the number of a row, and what that row and those after it come to, 64 bits each."""

PREFIX: Final = "t1-"
CHUNK: Final = 1 << 15  # rows whose intermediate columns stay in the second-level cache
_MASK: Final = (1 << 64) - 1
_START: Final = np.uint64(0x243F6A8885A308D3)
_DICTIONARY: Final = {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}
_SECOND: Final = np.uint64(0xD6E8FEB86659FD93)


class TableDigest:
    """Adds up batches of one table; parts made by different threads are merged."""

    def __init__(self, schema: pa.Schema) -> None:
        self.fields = [(field.name, kind(field.type)) for field in schema]
        self.rows = 0
        self._sums = [0, 0]

    def update(self, batch: pa.RecordBatch, keep: Keep | None = None, first: int = 0) -> None:
        """Add the rows of a batch. Its columns must be those of the schema, in that order; ``first`` is the number of
        its first row, for ``keep``."""
        columns = batch.columns
        known = [cells(column.dictionary) if pa.types.is_dictionary(column.type) else None for column in columns]
        for start in range(0, batch.num_rows, CHUNK):
            length = min(CHUNK, batch.num_rows - start)
            state = np.full(length, _START)
            for column, dictionary in zip(columns, known, strict=True):
                fold(state, cells(column.slice(start, length), dictionary))
            finish(state)
            if keep is not None:
                keep(first + start, state)
            self._sums[0] += int(state.sum())
            np.multiply(state, _SECOND, out=state)
            finish(state)
            self._sums[1] += int(state.sum())
        self.rows += batch.num_rows

    @property
    def sums(self) -> tuple[int, int]:
        """What the rows add up to, in 64 bits each."""
        first, second = self._sums
        return first & _MASK, second & _MASK

    def merge(self, other: "TableDigest") -> None:
        """Add the rows that another digest of the same table has seen."""
        self.add(other.rows, other.sums)

    def add(self, rows: int, sums: Sequence[int]) -> None:
        """Add rows of which only the sums are known."""
        self.rows += rows
        self._sums = [mine + theirs for mine, theirs in zip(self._sums, sums, strict=True)]

    def text(self) -> str:
        """The digest: ``t1-`` and 128 bits in hexadecimal."""
        content = msgspec.json.encode([self.fields, self.rows, self.sums])
        return PREFIX + hashlib.sha256(content).hexdigest()[:32]


def digest_arrow(data: Any) -> str:
    """The digest of an Arrow table or record batch."""
    table = pa.Table.from_batches([data]) if isinstance(data, pa.RecordBatch) else data
    whole = TableDigest(table.schema)
    for batch in table.to_batches():
        whole.update(batch)
    return whole.text()


def digest_parquet(paths: Sequence[Path], threads: int = 1, keep: Keep | None = None) -> TableDigest:
    """The digest of one table's Parquet files, row groups shared out over threads. ``keep`` is called from these.

    Raises Damaged if a file is not Parquet that Arrow can read.
    """
    try:
        return _digest_parquet(paths, threads, keep)
    except (OSError, pa.ArrowException) as error:
        raise Damaged("Read a table's files", str(error), "Build the table again.") from error


def _digest_parquet(paths: Sequence[Path], threads: int, keep: Keep | None) -> TableDigest:
    groups: list[tuple[Path, int, int, tuple[str, ...]]] = []
    schema, rows = None, 0
    for path in paths:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow if schema is None else schema
            for group in range(file.num_row_groups):
                groups.append((path, group, rows, _in_dictionary(file, group)))
                rows += file.metadata.row_group(group).num_rows
    queue = iter(groups)
    lock = threading.Lock()

    def work() -> TableDigest:
        part = TableDigest(schema)
        opened: dict[tuple[Path, tuple[str, ...]], pq.ParquetFile] = {}
        try:
            while True:
                with lock:
                    item = next(queue, None)
                if item is None:
                    return part
                path, group, first, texts = item
                if (path, texts) not in opened:
                    opened[path, texts] = pq.ParquetFile(path, read_dictionary=list(texts))
                for batch in opened[path, texts].read_row_group(group, use_threads=False).to_batches():
                    part.update(batch, keep, first)
                    first += batch.num_rows
        finally:
            for file in opened.values():
                file.close()

    workers = max(1, min(threads, len(groups)))
    # the system's allocator gives the same pages to one row group after the other; Arrow's own returns them each time
    usual = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        with ThreadPoolExecutor(workers) as pool:
            parts = [future.result() for future in [pool.submit(work) for _ in range(workers)]]
    finally:
        pa.set_memory_pool(usual)
    whole = parts[0]
    for part in parts[1:]:
        whole.merge(part)
    return whole


def _in_dictionary(file: pq.ParquetFile, group: int) -> tuple[str, ...]:
    """Text columns that a row group stores as a dictionary: each distinct text is then read and mixed only once."""
    columns = file.metadata.row_group(group)
    found = []
    for index in range(file.metadata.num_columns):
        column = file.metadata.schema.column(index)
        if column.physical_type == "BYTE_ARRAY" and not column.max_repetition_level and "." not in column.path:
            encodings = set(columns.column(index).encodings)
            if encodings & _DICTIONARY and encodings <= _DICTIONARY | {"RLE"}:
                found.append(column.path)
    return tuple(found)
