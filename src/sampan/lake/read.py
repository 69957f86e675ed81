"""Reading snapshots: DuckDB relation, Arrow, Polars, pandas, and SQL asked by a person."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan.base.errors import NotFound
from sampan.lake.arrow import open_ipc
from sampan.lake.query import ARROW, Source, TableSource, open_sources, quote_name
from sampan.lake.write import explain

if TYPE_CHECKING:
    import duckdb

    from sampan.lake.lake import Lake
    from sampan.log.log import Log
    from sampan.log.position import Position

ALL = "all"


def relation(
    source: Source, order_by: Sequence[str] | str | None = None, *, threads: int = 0, memory: int = 0
) -> "duckdb.DuckDBPyRelation":
    """A lazy DuckDB relation. ``order_by``: columns (ties are broken by all others), or ``"all"``."""
    connection = open_sources({"it": source}, threads=threads, memory=memory)
    return connection.sql(f"SELECT * FROM it{_ordered(connection, order_by)}")


def arrow(source: Source, order_by: Sequence[str] | str | None = None, *, threads: int = 0, memory: int = 0) -> Any:
    """A pyarrow Table; a frame kept as Arrow is mapped, not copied, unless it must be sorted."""
    import pyarrow as pa

    if isinstance(source, TableSource) and source.format == ARROW and not order_by:
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


class Table:
    """One snapshot to hand to a notebook: ``Table(source).df()``. Each takes ``order_by`` (columns, or ``"all"``)."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def relation(self, order_by: Sequence[str] | str | None = None) -> "duckdb.DuckDBPyRelation":
        """A lazy DuckDB relation."""
        return relation(self.source, order_by)

    def arrow(self, order_by: Sequence[str] | str | None = None) -> Any:
        """A pyarrow Table."""
        return arrow(self.source, order_by)

    def df(self, order_by: Sequence[str] | str | None = None) -> Any:
        """A pandas DataFrame."""
        return df(self.source, order_by)

    def polars(self, order_by: Sequence[str] | str | None = None) -> Any:
        """A Polars DataFrame."""
        return polars(self.source, order_by)


class Answer:
    """The answer to a question in SQL, read once: column names and types, then rows. Errors are BadQuery."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection", text: str) -> None:
        self._connection = connection
        with self._explained():
            self._relation = connection.sql(f"\n{text}")  # one line before, as in built tables

    @property
    def columns(self) -> list[str]:
        return list(self._relation.columns)

    @property
    def types(self) -> list[str]:
        return [str(type_) for type_ in self._relation.types]

    def fetchmany(self, n: int) -> list[tuple[Any, ...]]:
        with self._explained():
            return list(self._relation.fetchmany(n))

    def fetchall(self) -> list[tuple[Any, ...]]:
        with self._explained():
            return list(self._relation.fetchall())

    def arrow(self) -> Any:
        with self._explained():
            return self._relation.to_arrow_table()

    def df(self) -> Any:
        with self._explained():
            return self._relation.df()

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            raise explain("Answer the question", error) from error


def query(
    text: str,
    lake: "Lake",
    log: "Log | None" = None,
    ref: str = "main",
    position: "Position | None" = None,
    extra: dict[str, Source] | None = None,
    known_by: int | None = None,
) -> Answer:
    """SQL asked by a person: read-only, over the tables of a branch or commit and the events of the log.

    Only what the query names is opened. ``extra`` adds sources (a held candidate) and wins over both. ``known_by``:
    what the branch stood at then, and what events could be used by then; before the first commit there are events
    alone. It may use what a table may not (``now()``, samples). Raises BadQuery, NotFound, Usage.
    """
    from sampan.lake.sql import analyse

    text = text.strip().rstrip(";")
    facts = analyse(text, "the question", asked=True)
    facts.check("the question")
    lake.commit_at(ref)  # a branch that is not there is said at once
    early: NotFound | None = None
    try:
        names = lake.names(lake.ref_at(ref, known_by))
    except NotFound as error:
        names, early = {}, error
    tables = {name.lower(): (name, id) for name, id in names.items()}
    held = {name.lower(): source for name, source in (extra or {}).items()}
    types = {type_.lower(): type_ for type_ in log.contracts.types()} if log is not None else {}
    sources: dict[str, Source] = {}
    for asked in facts.depends:
        name = asked.lower()
        if name in held:
            sources[asked] = held[name]
        elif name in tables:
            sources[asked] = lake.source_of(lake.snapshot(tables[name][1]), tables[name][0])
        elif log is not None and name in types:
            sources[asked] = log.source(types[name], log.position() if position is None else position, known_by)
        elif early is not None:
            raise early
        else:
            there = ", ".join(sorted({first for first, _ in tables.values()} | set(types.values()) | set(extra or {})))
            made = "A step makes a table if it returns a frame; `sampan runs show` shows a value."
            advice = f"There are: {there}. {made}"
            if log is not None and not log.contracts.unchanged:
                advice = f"contracts.py has changed since the hub was started: start it again. {advice}"
            raise NotFound("Answer the question", f"there is no table or event {asked!r}", advice)
    connection = open_sources(sources)
    try:
        return Answer(connection, text)
    except BaseException:
        connection.close()
        raise


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
