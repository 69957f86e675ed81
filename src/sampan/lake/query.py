"""DuckDB, locked down: a query reads the sources that it was given and nothing else.

No file but those named, no network, no extension that was not built in, no configuration from inside a query,
no Python variable as a table. The time zone is UTC everywhere.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from sampan.base.arrow import arrow_wanted
from sampan.base.clock import iso
from sampan.base.errors import BadQuery, Damaged
from sampan.lake.arrow import open_ipc

if TYPE_CHECKING:
    import duckdb

    from sampan.log.log import LogSource

PARQUET = "parquet"
ARROW = "arrow"
_UNCOUNTED = (
    400_000_000  # bytes that a process may take for what DuckDB does not count: itself, Arrow, buffers of files
)


class TableSource(msgspec.Struct, frozen=True):
    """The files of one snapshot, as a worker process needs them to read the table."""

    name: str
    files: tuple[str, ...]
    format: str = PARQUET
    fields: tuple[tuple[str, str], ...] = ()


Source: TypeAlias = "TableSource | LogSource"


def connect(
    *,
    threads: int = 0,
    memory: int = 0,
    files: Iterable[Path | str] = (),
    folders: Iterable[Path] = (),
    spill: Path | None = None,
) -> "duckdb.DuckDBPyConnection":
    """An in-memory database that can open only ``files``, and what is in ``folders``. ``memory`` is the most bytes
    that the process is to take.

    ``spill`` is a folder for what does not fit in memory; without it such a query fails instead. Each connection
    has a folder of its own in it: DuckDB's temporary files have the same names in every process.
    """
    import duckdb

    config: dict[str, Any] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "python_enable_replacements": False,
        "preserve_insertion_order": False,
        "temp_directory": str(spill / f"{os.getpid()}-{os.urandom(6).hex()}.spill") if spill else "",
    }
    if threads:
        config["threads"] = threads
    if memory:
        config["memory_limit"] = f"{max(memory // 2, memory - _UNCOUNTED)}B"
    connection = duckdb.connect(":memory:", config=config)
    connection.execute("SET TimeZone = 'UTC'")
    # of files and Arrow data in one view, DuckDB 1.5 hands what a join looks for down to Arrow, which cannot take it
    connection.execute("SET disabled_optimizers = 'join_filter_pushdown'")
    with suppress(duckdb.InvalidInputException):  # a notebook that cannot draw a bar will not have one taken away
        connection.execute("SET enable_progress_bar = false")  # no bar in an answer that is piped on
    allowed = ", ".join(quote_text(os.fspath(file)) for file in files)
    connection.execute(f"SET allowed_paths = [{allowed}]")
    if listed := ", ".join(quote_text(os.fspath(folder)) for folder in folders):
        connection.execute(f"SET allowed_directories = [{listed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET allowed_configs = ['current_transaction_invalidation_policy']")  # PIVOT sets it itself
    connection.execute("SET lock_configuration = true")
    return connection


def open_sources(
    sources: "dict[str, Source]",
    *,
    threads: int = 0,
    memory: int = 0,
    files: Iterable[Path | str] = (),
    folders: Iterable[Path] = (),
    spill: Path | None = None,
) -> "duckdb.DuckDBPyConnection":
    """A locked-down connection with one view per source; ``files`` and ``folders`` may be written besides."""
    arrow_wanted()
    opened = {name: _Opened(source) for name, source in sources.items()}
    allowed = [path for one in opened.values() for path in one.parquet] + [os.fspath(file) for file in files]
    connection = connect(threads=threads, memory=memory, files=allowed, folders=folders, spill=spill)
    try:
        for name, one in opened.items():
            one.attach(connection, name)
    except BaseException:
        connection.close()
        raise
    return connection


def attach(connection: "duckdb.DuckDBPyConnection", name: str, source: "Source") -> None:
    """Let queries say ``FROM name``. The connection must have been allowed the source's Parquet files."""
    _Opened(source).attach(connection, name)


class _Opened:
    """A source made ready: Parquet files to scan, and Arrow data in memory or mapped."""

    def __init__(self, source: "Source") -> None:
        self.parquet: list[str] = []
        self.arrow: list[Any] = []
        self.where = ""
        if isinstance(source, TableSource):
            missing = [file for file in source.files if not os.path.exists(file)]  # noqa: PTH110
            if missing:
                raise Damaged(
                    f"Open table {source.name}",
                    f"{missing[0]} is missing",
                    "Run the flow again: it builds what is not there.",
                )
            if source.format == PARQUET:
                self.parquet = list(source.files)
            else:
                self.arrow = [open_ipc(Path(file)) for file in source.files]
        else:
            from sampan.log.position import Position
            from sampan.log.project import open_source

            paths, tail = open_source(source)
            self.parquet = [os.fspath(path) for path in paths]
            if tail is not None and (tail.num_rows or not self.parquet):
                self.arrow = [tail]
            terms = [f"_known_at <= TIMESTAMPTZ '{iso(source.known_by)}'"] if source.known_by is not None else []
            terms += [_beyond(stream, count) for stream, count in Position.parse(source.after).items()]
            self.where = f" WHERE {' AND '.join(terms)}" if terms else ""

    def attach(self, connection: "duckdb.DuckDBPyConnection", name: str) -> None:
        selects = []
        if self.parquet:
            listed = ", ".join(quote_text(path) for path in self.parquet)
            selects.append(
                f"SELECT * FROM read_parquet([{listed}], union_by_name = {len(self.parquet) > 1}){self.where}"
            )
        for number, table in enumerate(self.arrow):
            part = f"__{name}_{number}"
            connection.register(part, table)
            selects.append(f"SELECT * FROM {quote_name(part)}{self.where}")
        if not selects:
            raise BadQuery(f"Open {name}", "it has neither files nor fields")
        import duckdb

        try:
            connection.execute(f"CREATE VIEW {quote_name(name)} AS {' UNION ALL BY NAME '.join(selects)}")
        except duckdb.Error as error:
            raise Damaged(
                f"Open table {name}",
                f"one of its files is not as it was written ({str(error).strip().splitlines()[0]})",
                f"Restore it, or delete it and run the flow, which builds what is not there: {', '.join(self.parquet)}",
            ) from error


def _beyond(stream: str, count: int) -> str:
    """SQL for events of all streams, of one stream those after its first ``count``."""
    number = "CAST(split_part(_position, ':', 2) AS BIGINT)"
    return f"(split_part(_position, ':', 1) <> {quote_text(stream)} OR {number} > {count})"


def quote_name(name: str) -> str:
    """An identifier as SQL."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """A text literal as SQL."""
    return "'" + text.replace("'", "''") + "'"
