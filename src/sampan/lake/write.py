"""Making a table's files: a query's result as Parquet, a frame as Arrow. Runs in worker processes.

What comes back is a draft: durable files and their digests. No record is written here; ``Lake.add`` does that in
the one process that may.
"""

import os
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sampan.base.digests import digest_file
from sampan.base.errors import BadQuery, Damaged, DiskFull, SampanError, StepFailed
from sampan.base.files import make_folder, sync
from sampan.lake.draft import TableDraft, TableFile
from sampan.lake.query import ARROW, Source, open_sources, quote_name, quote_text
from sampan.lake.repeat import repeatable
from sampan.store.blobs import Blobs

if TYPE_CHECKING:
    import duckdb

# v2 is less to write and quicker to read: docs/decisions/lake-parquet.md
OPTIONS: Final = "FORMAT parquet, PARQUET_VERSION v2"
# DuckDB's Parquet has no 128-bit integers and would write them as DOUBLE
_NARROWER: Final = {"HUGEINT": "BIGINT", "UHUGEINT": "UBIGINT"}


def write_query(
    sql: str,
    sources: dict[str, Source],
    out_dir: Path,
    *,
    threads: int = 0,
    memory: int = 0,
    order_by: Sequence[str] | None = None,
    name: str = "query",
    path: str = "",
) -> TableDraft:
    """Run one SELECT over its sources and keep the result as a Parquet file.

    ``order_by`` sorts the rows of the file (it does not change the digest). ``name`` and ``path`` are for
    messages. Raises BadQuery for what DuckDB refuses, StepFailed if it runs out of memory, DiskFull.
    """
    import duckdb

    threads = threads or os.cpu_count() or 1
    temporary, older = temporary_path(out_dir, "parquet"), temporary_path(out_dir, "parquet")
    attempted = f"Build {name}"
    written, spill = [temporary, older], temporary.parent
    try:
        with (
            disk_full(attempted),
            closing(open_sources(sources, threads=threads, memory=memory, files=written, spill=spill)) as connection,
        ):
            body, flags = prepare(connection, sql, order_by, name)
            threading.Thread(target=import_module, args=("sampan.lake.marks",)).start()  # while the engine works
            with _early_sync(temporary):
                connection.execute(f"COPY ({body}\n) TO {quote_text(str(temporary))} ({OPTIONS})")
            fields = fields_of(connection, f"SELECT * FROM read_parquet({quote_text(str(temporary))})")
            try:
                return _finish(temporary, out_dir, fields, threads, flags)
            except Damaged:
                rewrite(connection, temporary, older)
                return _finish(older, out_dir, fields, threads, flags)
    except duckdb.Error as error:
        raise explain(attempted, error, path) from error
    finally:
        temporary.unlink(missing_ok=True)
        older.unlink(missing_ok=True)


def rewrite(connection: "duckdb.DuckDBPyConnection", path: Path, to: Path) -> None:
    """Write a file once more, in Parquet's first version: of the second, DuckDB writes for 32-bit numbers that lie more
    than 32 bits apart what Arrow cannot read."""
    rows = f"SELECT * FROM read_parquet({quote_text(str(path))}, hive_partitioning = false)"
    connection.execute(f"COPY ({rows}) TO {quote_text(str(to))} (FORMAT parquet)")


def write_arrow(data: Any, out_dir: Path, *, flags: Sequence[str] = (), name: str = "frame") -> TableDraft:
    """Keep a frame as an uncompressed Arrow IPC file, which readers map instead of reading.

    ``data`` is a pyarrow Table, RecordBatch or reader, or anything with ``__arrow_c_stream__`` (Polars, pandas).
    """
    import pyarrow as pa

    from sampan.lake.arrow import as_table
    from sampan.lake.digest import digest_arrow

    table = as_table(data)
    temporary = temporary_path(out_dir, "arrow")
    try:
        with disk_full(f"Keep {name}"):
            with ThreadPoolExecutor(1) as pool:
                digest = pool.submit(digest_arrow, table)
                with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                    writer.write_table(table)
                sha256 = settle(temporary)
                id = digest.result()
            size = temporary.stat().st_size
            _place(temporary, out_dir, sha256)
        file = TableFile(sha256=sha256, bytes=size, rows=table.num_rows, format=ARROW)
        return TableDraft(id, arrow_fields(table.schema), (file,), table.num_rows, size, tuple(flags))
    finally:
        temporary.unlink(missing_ok=True)


def arrow_fields(schema: Any) -> tuple[tuple[str, str], ...]:
    """Names and types of an Arrow schema as DuckDB would call them."""
    from sampan.lake.query import connect

    connection = connect(threads=1)
    try:
        connection.register("frame", schema.empty_table())
        return fields_of(connection, "SELECT * FROM frame")
    finally:
        connection.close()


def explain(attempted: str, error: "duckdb.Error", path: str = "") -> SampanError:
    """A DuckDB error as one of ours. The text that DuckDB ran had one line before the user's first."""
    import duckdb

    text = str(error).strip()
    if isinstance(error, duckdb.OutOfMemoryException):
        return StepFailed(attempted, text.split("\n")[0], "Give the step more memory, or let it read less.")
    if isinstance(error, duckdb.IOException) and "No space left" in text:
        return DiskFull(attempted, "the disk is full", "Free some space and try again.")
    text, line = _located(text)
    where = f"{path}:{line}: " if path and line else f"{path}: " if path else f"line {line}: " if line else ""
    advice = "Mend the query and run again."
    if isinstance(error, duckdb.PermissionException):
        advice = "A query reads the tables and events of its workspace, nothing else."
    elif "INT128" in text:
        advice = "Its sum is wider than BIGINT: cast it to DECIMAL(38, 0)."
    return BadQuery(attempted, where + text, advice, line=line)


def _located(text: str) -> tuple[str, int]:
    """A DuckDB message with its first lines and, under them, the user's line with the caret; and that line."""
    found = re.search(r"^LINE (\d+): ", text, re.MULTILINE)
    message = text[: found.start()] if found else text
    lines = [line for line in message.split("\n") if line.strip()]
    kept = "\n  ".join(lines[:3])
    if not found or int(found[1]) < 2:  # no place, or a place in what was put around the query
        return kept, 0
    shown, _, rest = text[found.end() :].partition("\n")
    caret = rest.split("\n")[0][len(found[0]) :]
    return f"{kept}\n    {shown}\n    {caret}", int(found[1]) - 1


@contextmanager
def disk_full(attempted: str) -> Iterator[None]:
    """Say it as an error of ours if the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno in (28, 122):  # ENOSPC, EDQUOT
            raise DiskFull(attempted, "the disk is full", "Free some space and try again.") from error
        raise


def prepare(
    connection: "duckdb.DuckDBPyConnection", sql: str, order_by: Sequence[str] | None, name: str
) -> tuple[str, tuple[str, ...]]:
    """The query as it is to be run, and the table's flags."""
    asked = sql.strip().rstrip(";")
    fields = fields_of(connection, asked)
    _check_names(fields, name)
    body, flags = repeatable(connection, asked, fields)
    narrow = [
        f"CAST({quote_name(column)} AS {_NARROWER[type_]}) AS {quote_name(column)}"
        for column, type_ in fields
        if type_ in _NARROWER
    ]
    if narrow or order_by or body != asked:
        replaced = f" REPLACE ({', '.join(narrow)})" if narrow else ""
        # an unnamed column is named after its text, which may have been edited
        names = ", ".join(quote_name(column) for column, _ in fields)
        ordered = f" ORDER BY {', '.join(quote_name(column) for column in order_by)}" if order_by else ""
        return f"SELECT *{replaced} FROM (\n{body}\n) AS it ({names}){ordered}", flags
    return f"\n{body}", flags


def _check_names(fields: Sequence[tuple[str, str]], name: str) -> None:
    seen: set[str] = set()
    for column, _ in fields:
        if column.lower() in seen:
            raise BadQuery(f"Build {name}", f"two of its columns are called {column!r}", "Rename one with AS.")
        seen.add(column.lower())


def fields_of(connection: "duckdb.DuckDBPyConnection", sql: str) -> tuple[tuple[str, str], ...]:
    described = connection.execute(f"DESCRIBE\n{sql}").fetchall()
    return tuple((str(row[0]), str(row[1])) for row in described)


def temporary_path(out_dir: Path, suffix: str) -> Path:
    folder = out_dir / "tmp"
    make_folder(folder)
    return folder / f"{os.getpid()}-{os.urandom(6).hex()}.{suffix}"


class _early_sync:  # noqa: N801 - used like a function
    """Let the disk write while the processor still computes, so that the final sync has little left to wait for."""

    def __init__(self, path: Path, every: float = 0.2) -> None:
        self._path, self._every = path, every
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._done.wait(self._every):
            try:
                fd = os.open(self._path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                os.fdatasync(fd)
            except OSError:
                return  # the sync that counts comes afterwards and reports its error
            finally:
                os.close(fd)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def settle(path: Path) -> str:
    """Sync a finished file and return its SHA-256, both at the same time."""
    with ThreadPoolExecutor(1) as pool:
        sha256 = pool.submit(digest_file, path)
        fd = os.open(path, os.O_RDONLY)
        try:
            sync(fd)
        finally:
            os.close(fd)
        return sha256.result()


def _finish(
    temporary: Path, out_dir: Path, fields: tuple[tuple[str, str], ...], threads: int, flags: tuple[str, ...]
) -> TableDraft:
    from sampan.lake.digest import digest_parquet
    from sampan.lake.marks import MarkWriter, folder_of

    with ThreadPoolExecutor(1) as pool, closing(MarkWriter(temporary.with_suffix(".marks"))) as marks:
        settled = pool.submit(settle, temporary)
        digest = digest_parquet([temporary], threads, marks.write)
        sha256 = settled.result()
        marks.place(folder_of(out_dir), sha256, digest)
    size = temporary.stat().st_size
    _place(temporary, out_dir, sha256)
    file = TableFile(sha256=sha256, bytes=size, rows=digest.rows)
    return TableDraft(digest.text(), fields, (file,), digest.rows, size, flags)


def _place(temporary: Path, out_dir: Path, sha256: str) -> None:
    Blobs(out_dir).place(temporary, sha256)


__all__ = ["TableDraft", "TableFile", "arrow_fields", "explain", "write_arrow", "write_query"]
