"""What tells the rows of a table apart, in two states of it."""

from itertools import combinations
from typing import TYPE_CHECKING, Final

from sampan.lake.query import TableSource, open_sources, quote_name

if TYPE_CHECKING:
    import duckdb

_COLUMNS: Final = 8  # a key is looked for among so many first columns
_NO_KEY: Final = ("DOUBLE", "FLOAT", "BLOB", "STRUCT", "MAP", "UNION", "BOOLEAN")


def row_key(before: TableSource, after: TableSource, besides: str, *, threads: int = 0) -> tuple[str, ...]:
    """The first columns, one or two, of which no two rows have the same values, on either side; none if there are none.

    A column with another type on either side is passed over: ``1`` and ``1.0`` do not read the same.
    ``besides``: a column that is no part of a key, since it is what may have been changed.
    """
    connection = open_sources({"a": before, "b": after}, threads=threads)
    try:
        fields = [_fields(connection, side) for side in ("a", "b")]
        able = [
            name
            for name, type_ in fields[0].items()
            if fields[1].get(name) == type_ and _able(type_) and name != besides
        ]
        for number in (1, 2):
            for names in combinations(able[:_COLUMNS], number):
                if all(_tells_apart(connection, side, names) for side in ("a", "b")):
                    return names
        return ()
    finally:
        connection.close()


def _fields(connection: "duckdb.DuckDBPyConnection", side: str) -> dict[str, str]:
    return {str(row[0]): str(row[1]) for row in connection.execute(f"DESCRIBE {side}").fetchall()}


def _able(type_: str) -> bool:
    return not type_.startswith(_NO_KEY) and not type_.endswith("]")


def _tells_apart(connection: "duckdb.DuckDBPyConnection", side: str, names: tuple[str, ...]) -> bool:
    columns = ", ".join(quote_name(name) for name in names)
    found = connection.execute(f"SELECT count(*) = count(DISTINCT ({columns})) FROM {side}").fetchone()
    return bool(found and found[0])
