"""How the types of a table's columns read in Apache Iceberg, format version 2, and what has no place in it.

Most files can be read as they lie. A column whose values Iceberg holds under another type than the file has (unsigned
numbers, JSON, milliseconds) needs a copy of the file in which it has that type.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sampan.base.errors import Refused

#: DuckDB's name of a type → Iceberg's, and the type to cast to where the file's own will not do.
_PLAIN: Final = {
    "boolean": ("boolean", ""),
    "tinyint": ("int", ""),
    "smallint": ("int", ""),
    "integer": ("int", ""),
    "bigint": ("long", ""),
    "utinyint": ("int", ""),
    "usmallint": ("int", ""),
    "uinteger": ("long", "BIGINT"),
    "ubigint": ("decimal(20, 0)", "DECIMAL(20,0)"),
    "hugeint": ("decimal(38, 0)", "DECIMAL(38,0)"),
    "float": ("float", ""),
    "double": ("double", ""),
    "varchar": ("string", ""),
    "enum": ("string", "VARCHAR"),
    "blob": ("binary", ""),
    "uuid": ("uuid", ""),
    "date": ("date", ""),
    "time": ("time", ""),
    "timestamp": ("timestamp", ""),
    "timestamp_s": ("timestamp", "TIMESTAMP"),
    "timestamp_ms": ("timestamp", "TIMESTAMP"),
    "timestamp with time zone": ("timestamptz", ""),
}
_NANOSECONDS: Final = "timestamp_ns"


class Shape(NamedTuple):
    """A type as Iceberg has it: ``kind`` is a primitive's name, or ``struct``, ``list`` or ``map`` with parts by name.

    ``sql`` is the type that the file must have for it, ``exact`` whether each value keeps all its digits by that.
    """

    kind: str
    sql: str
    parts: tuple[tuple[str, "Shape"], ...] = ()
    exact: bool = True


class Column(NamedTuple):
    """A column of a table: how Iceberg has it, and whether the file has it so already."""

    name: str
    shape: Shape
    fits: bool


def columns(table: str, fields: Sequence[tuple[str, str]]) -> tuple[Column, ...]:
    """A snapshot's fields for Iceberg. Raises Refused with the column and type that it cannot hold."""
    import duckdb

    found = []
    for name, text in fields:
        type_ = duckdb.sqltype(text)
        # deeper, in a list or struct, it would be hard to tell whether a digit is lost
        rounded = type_.id == _NANOSECONDS
        shape = Shape("timestamp", "TIMESTAMP", exact=False) if rounded else _shape(type_, table, name)
        found.append(Column(name, shape, shape.sql == str(type_)))
    return tuple(found)


def _shape(type_: Any, table: str, path: str) -> Shape:
    kind, text = type_.id, str(type_)
    if text == "JSON":
        return Shape("string", "VARCHAR")
    if kind == "decimal":
        digits = dict(type_.children)
        return Shape(f"decimal({digits['precision']}, {digits['scale']})", text)
    if kind == "struct":
        parts = tuple((name, _shape(inner, table, f"{path}.{name}")) for name, inner in type_.children)
        if not all(name for name, _ in parts):
            raise _no_place(table, path, text, "Name the fields of that struct.")
        return Shape("struct", f"STRUCT({', '.join(f'{_quoted(name)} {part.sql}' for name, part in parts)})", parts)
    if kind in ("list", "array"):
        inner = _shape(type_.children[0][1], table, f"{path}.element")
        return Shape("list", f"{inner.sql}[]", (("element", inner),))
    if kind == "map":
        parts = tuple((name, _shape(inner, table, f"{path}.{name}")) for name, inner in type_.children)
        return Shape("map", f"MAP({', '.join(part.sql for _, part in parts)})", parts)
    if kind not in _PLAIN:
        advice = "Cast it in the table: to TIMESTAMP for microseconds, to VARCHAR for text."
        raise _no_place(table, path, text, advice)
    name, cast = _PLAIN[kind]
    return Shape(name, cast or text)


def _no_place(table: str, path: str, type_: str, advice: str) -> Refused:
    return Refused(
        f"Publish table {table}", f"column {path} is {type_}, which Iceberg (version 2) does not have", advice
    )


def _quoted(name: str) -> str:
    """A field's name as DuckDB writes it in a type: quoted only where it must be."""
    import duckdb

    return str(duckdb.struct_type({name: "INTEGER"}))[len("STRUCT(") : -len(" INTEGER)")]
