"""Reading snapshots: DuckDB relation, Arrow, Polars, pandas, and SQL asked by a person."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sampan.lake.arrow import open_ipc
from sampan.lake.query import ARROW, Source, TableSource, open_sources, quote_name

if TYPE_CHECKING:
    import duckdb

    from sampan.lake.lake import Lake
    from sampan.log.log import Log
    from sampan.log.position import Position

ALL = "all"


def relation(
    source: Source, order_by: Sequence[str] | str | None = None, *, threads: int = 0, memory: int | str = ""
) -> "duckdb.DuckDBPyRelation":
    """A lazy DuckDB relation. ``order_by``: columns (ties are broken by all others), or ``"all"``."""
    connection = open_sources({"it": source}, threads=threads, memory=memory)
    return connection.sql(f"SELECT * FROM it{_ordered(connection, order_by)}")


def arrow(
    source: Source, order_by: Sequence[str] | str | None = None, *, threads: int = 0, memory: int | str = ""
) -> Any:
    """A pyarrow Table; a frame kept as Arrow is mapped, not copied, unless it must be sorted."""
    import pyarrow as pa

    if isinstance(source, TableSource) and source.format == ARROW and not order_by:
        from pathlib import Path

        return pa.concat_tables([open_ipc(Path(file)) for file in source.files])
    connection = open_sources({"it": source}, threads=threads, memory=memory)
    try:
        connection.execute(f"SELECT * FROM it{_ordered(connection, order_by)}")
        return connection.to_arrow_table()
    finally:
        connection.close()


def df(source: Source, order_by: Sequence[str] | str | None = None, **limits: Any) -> Any:
    """A pandas DataFrame."""
    connection = open_sources({"it": source}, **limits)
    try:
        return connection.execute(f"SELECT * FROM it{_ordered(connection, order_by)}").df()
    finally:
        connection.close()


def polars(source: Source, order_by: Sequence[str] | str | None = None, **limits: Any) -> Any:
    """A Polars DataFrame."""
    import polars as pl

    return pl.from_arrow(arrow(source, order_by, **limits))


def query(
    text: str,
    lake: "Lake",
    log: "Log | None" = None,
    ref: str = "main",
    position: "Position | None" = None,
    extra: dict[str, Source] | None = None,
) -> "duckdb.DuckDBPyRelation":
    """SQL asked by a person: read-only, over the tables of a branch or commit and the events of the log.

    Only what the query names is opened. ``extra`` adds sources (a held candidate) and wins over both.
    """
    from sampan.lake.sql import names

    sources: dict[str, Source] = {}
    tables = lake.tables(ref)
    for name in names(text):
        if extra and name in extra:
            sources[name] = extra[name]
        elif name in tables:
            sources[name] = lake.source_of(tables[name], name)
        elif log is not None and name in log.types():
            sources[name] = log.source(name, position or log.position())
    connection = open_sources(sources)
    return connection.sql(text)


def _ordered(connection: "duckdb.DuckDBPyConnection", order_by: Sequence[str] | str | None) -> str:
    if not order_by:
        return ""
    if isinstance(order_by, str):
        if order_by == ALL:
            return " ORDER BY ALL"
        order_by = [order_by]
    columns = [row[0] for row in connection.execute("DESCRIBE it").fetchall()]
    rest = [name for name in columns if name not in order_by]
    return " ORDER BY " + ", ".join(quote_name(name) for name in [*order_by, *rest])
