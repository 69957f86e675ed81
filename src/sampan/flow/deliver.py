"""Handing a step its arguments, in the form that its annotations ask for. Runs in the worker.

Rows come in an order that does not depend on how a table was stored or built: that of ``order_by``, else the
frame's own where a Python step made it, else sorted by all columns (events: by time, source and id). A DuckDB
relation is a set of rows and comes unsorted unless ``order_by`` says otherwise.
"""

import typing
from pathlib import Path
from types import FunctionType, UnionType
from typing import Any, Final

import msgspec

from sampan.base.errors import BadStep
from sampan.flow.job import Input, Slice
from sampan.flow.values import as_arrow, convert, decode
from sampan.lake.query import ARROW, TableSource
from sampan.store.blobs import Blobs

_EVENT_ORDER: Final = ("_time", "_source", "_id")
_FORMS: Final = {
    ("pandas", "DataFrame"): "pandas",
    ("polars", "DataFrame"): "polars",
    ("polars", "LazyFrame"): "lazy",
    ("pyarrow", "Table"): "arrow",
    ("pyarrow", "RecordBatchReader"): "reader",
    ("duckdb", "DuckDBPyRelation"): "relation",
    ("_duckdb", "DuckDBPyRelation"): "relation",
}


class Desk:
    """Delivers the inputs of one job."""

    def __init__(self, step: str, data: Path, order_by: list[str], threads: int, memory: int) -> None:
        self._step, self._data = step, data
        self._order_by = order_by
        self._unmatched = set(order_by)
        self._limits: dict[str, Any] = {"threads": threads}
        if memory:
            self._limits["memory"] = memory

    def deliver(self, given: Input, annotation: Any) -> Any:
        """One argument. Raises BadStep if it cannot be had in the form that is asked for."""
        if given.element is not None:
            return self._plain(given.name, decode(given.element), annotation)
        if given.slice is not None:
            return self._table(given.name, self._slice(given.slice), annotation)
        if given.table is not None and given.held is not None:
            from sampan.flow.heldout import seen

            return self._table(given.name, seen(self.arrow(given.table), given.held), annotation)
        if given.table is not None:
            return self._source(given.name, given.table, annotation)
        if given.stored is None:
            from sampan.log.log import LogSource

            return self._source(given.name, msgspec.msgpack.decode(given.log, type=LogSource), annotation)
        if given.stored.model is not None:
            from sampan.models.formats import load

            return load(given.stored.model, Blobs(self._data / "blobs"))
        return self._plain(given.name, decode(self.content(given)), annotation)

    def check_order(self) -> None:
        """Refuse an ``order_by`` that named no column of any table delivered. Raises BadStep."""
        if self._unmatched:
            raise BadStep(
                f"Sort what {self._step} gets",
                f"no table that it needs has a column {min(self._unmatched)!r}",
                "order_by= names columns of the tables that arrive.",
            )

    def content(self, given: Input) -> bytes:
        """The bytes of a plain value."""
        stored = given.stored
        assert stored is not None
        if stored.inline is not None:
            return stored.inline
        assert stored.blob is not None
        return Blobs(self._data / "blobs").get(stored.blob)

    def _source(self, name: str, source: Any, annotation: Any) -> Any:
        form = form_of(annotation)
        if form == "relation":
            from sampan.lake.read import relation

            return relation(source, self._wanted(source) if self._order_by else None, **self._limits)
        return self._table(name, self.arrow(source), annotation)

    def arrow(self, source: Any) -> Any:
        """A source as an Arrow table in its canonical order."""
        from sampan.lake.read import arrow

        return arrow(source, self._wanted(source), **self._limits)

    def _wanted(self, source: Any) -> list[str] | str | None:
        columns = [name for name, _ in source.fields] if isinstance(source, TableSource) else None
        chosen = [name for name in self._order_by if columns is None or name in columns]
        self._unmatched -= set(chosen)
        if isinstance(source, TableSource):
            return chosen or (None if source.format == ARROW else "all")
        return chosen or list(_EVENT_ORDER)

    def _slice(self, one: Slice) -> Any:
        from sampan.lake.arrow import open_ipc

        table = open_ipc(Path(one.file)).slice(one.start, one.length)
        chosen = [(name, "ascending") for name in self._order_by if name in table.column_names]
        self._unmatched -= {name for name, _ in chosen}
        return table.sort_by(chosen) if chosen else table

    def _table(self, name: str, table: Any, annotation: Any) -> Any:
        form = form_of(annotation)
        if form in ("", "arrow"):
            return table
        if form == "pandas":
            return table.to_pandas()  # a copy: columns that share the mapped file could not be assigned to
        if form in ("polars", "lazy"):
            import polars as pl

            frame = pl.from_arrow(table)
            return frame.lazy() if form == "lazy" else frame  # type: ignore[union-attr]
        if form == "reader":
            return table.to_reader()
        if form == "relation":
            import duckdb

            return duckdb.connect(config={"threads": self._limits["threads"] or 1}).from_arrow(table)
        if form == "rows":
            rows = table.to_pylist()
            try:
                return convert(rows, annotation)
            except (msgspec.ValidationError, NotImplementedError) as error:
                raise BadStep(f"Hand {name} to {self._step}", f"its rows are no {shown(annotation)}: {error}") from None
        raise BadStep(
            f"Hand {name} to {self._step}",
            f"it is a table, and {shown(annotation)} is asked for",
            "Annotate it as duckdb.DuckDBPyRelation, pyarrow.Table, polars.DataFrame, pandas.DataFrame or "
            "list[YourStruct].",
        )

    def _plain(self, name: str, value: Any, annotation: Any) -> Any:
        form = form_of(annotation)
        if form == "":
            return value
        if form in ("pandas", "polars", "lazy", "arrow", "reader", "relation"):
            return self._table(name, rows_as_arrow(name, self._step, value), annotation)
        try:
            return convert(value, annotation)
        except msgspec.ValidationError as error:
            raise BadStep(
                f"Hand {name} to {self._step}",
                f"it is no {shown(annotation)}: {error}",
                "Change the annotation, or what the step before returns.",
            ) from None
        except (TypeError, NotImplementedError):
            return value  # an annotation that says nothing about plain values


def rows_as_arrow(name: str, step: str, value: Any) -> Any:
    """A list of mappings as a table. Raises BadStep for anything else."""
    import pyarrow as pa

    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return pa.Table.from_pylist(value)
    raise BadStep(
        f"Hand {name} to {step}",
        f"it is a {type(value).__name__}, not a table",
        f"Let {name} return a frame or a list of mappings.",
    )


def annotations(function: Any) -> dict[str, Any]:
    """Parameter annotations as objects; one that cannot be resolved counts as absent."""
    try:
        return typing.get_type_hints(function)
    except Exception:  # noqa: BLE001 - an annotation is the user's code: what it raises is theirs to see elsewhere
        target = function
        while not isinstance(target, FunctionType) and hasattr(target, "__wrapped__"):
            target = target.__wrapped__
        found = getattr(target, "__annotations__", {})
        return {name: hint for name, hint in found.items() if not isinstance(hint, str)}


def form_of(annotation: Any) -> str:
    """The form that an annotation asks for: a kind of frame, ``rows``, ``other``, or nothing in particular."""
    if annotation is None or annotation is Any:
        return ""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, UnionType):
        forms = [form_of(arg) for arg in typing.get_args(annotation) if arg is not type(None)]
        return forms[0] if forms else ""
    if origin is typing.Annotated:
        return form_of(typing.get_args(annotation)[0])
    kind = origin or annotation
    if not isinstance(kind, type):
        return "other"
    for one in kind.__mro__[:-1]:
        form = _FORMS.get((one.__module__.partition(".")[0], one.__name__))
        if form:
            return form
    return "rows" if kind is list else "other"


def shown(annotation: Any) -> str:
    return (
        annotation.__qualname__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation)
    )


__all__ = ["Desk", "annotations", "as_arrow", "form_of", "rows_as_arrow"]
