"""What differs between two states of a table: columns, and rows added, removed and changed.

Rows are found without a key. Both sides are hashed row by row into buckets, and each bucket is counted and summed;
only rows of buckets that differ are read again and subtracted from each other exactly. So two large tables that are
nearly alike cost little more than reading them, whatever the order of their rows. A key is then looked for among the
few rows that are left, to tell a changed row from one removed and one added.
"""

import os
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.lake.query import TableSource, open_sources, quote_name

if TYPE_CHECKING:
    import duckdb

SHOWN: Final = 5
_VERSION: Final = 1
_MOST_BUCKETS: Final = 1 << 19
_ROWS_TO_A_BUCKET: Final = 16
_KEY_COLUMNS: Final = 8  # a key is looked for among so many first columns
_NO_KEY: Final = ("DOUBLE", "FLOAT", "BLOB", "STRUCT", "MAP", "UNION", "BOOLEAN")
_COUNTED: Final = 2_000_000  # up to so many rows values are counted exactly, beyond them
_NEARLY: Final = 0.9  # of the rows must be distinct, by a count that is right within a few per cent


class ColumnChange(msgspec.Struct, frozen=True):
    """A column in which changed rows differ. The means are of those rows, of columns that are numbers."""

    name: str
    rows: int
    before: float | None = None
    after: float | None = None


class ChangedRow(msgspec.Struct, frozen=True):
    """One row that changed: what names it, and each value that differs, before and after."""

    key: dict[str, Any]
    values: dict[str, tuple[Any, Any]]


class TableDiff(msgspec.Struct, frozen=True, kw_only=True):
    """From one snapshot to another. Without a ``key``, a changed row counts as one removed and one added."""

    name: str
    how: str = "changed"
    """Or ``new``, ``gone``, ``same``."""
    before: str | None = None
    after: str | None = None
    rows_before: int = 0
    rows_after: int = 0
    new_columns: tuple[tuple[str, str], ...] = ()
    lost_columns: tuple[tuple[str, str], ...] = ()
    retyped: tuple[tuple[str, str, str], ...] = ()
    """Name, type before, type after; such a column is not compared by value."""
    added: int = 0
    removed: int = 0
    changed: int = 0
    key: tuple[str, ...] = ()
    columns: tuple[ColumnChange, ...] = ()
    sample_added: tuple[dict[str, Any], ...] = ()
    sample_removed: tuple[dict[str, Any], ...] = ()
    sample_changed: tuple[ChangedRow, ...] = ()


def diff(
    name: str,
    before: TableSource,
    after: TableSource,
    *,
    shown: int = SHOWN,
    memory: int | str = "",
    spill: Path | None = None,
    threads: int = 0,
) -> TableDiff:
    """Compare two states of a table; ``shown`` rows of each kind are given as samples."""
    connection = open_sources({"a": before, "b": after}, threads=threads, memory=memory, spill=spill)
    try:
        return _Compared(connection, name).diff(shown)
    finally:
        connection.close()


def keep(file: Path, found: TableDiff) -> TableDiff:
    """Write what was found to a file of the cache; gives it as it will be read again."""
    data = msgspec.json.encode((_VERSION, found))
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(file)
    return msgspec.json.decode(data, type=tuple[int, TableDiff])[1]


def kept(file: Path) -> TableDiff | None:
    """What was found before; None if that is not there, not whole, or of another release."""
    try:
        version, known = msgspec.json.decode(file.read_bytes(), type=tuple[int, TableDiff])
    except (OSError, msgspec.DecodeError):
        return None
    return known if version == _VERSION else None


class _Compared:
    """Two views, ``a`` and ``b``, of one locked-down connection."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection", name: str) -> None:
        self._ask, self._name = connection, name
        self._a, self._b = self._fields("a"), self._fields("b")
        self._common = [column for column, type_ in self._a.items() if self._b.get(column) == type_]

    def _fields(self, side: str) -> dict[str, str]:
        return {str(row[0]): str(row[1]) for row in self._ask.execute(f"DESCRIBE {side}").fetchall()}

    def _one(self, sql: str) -> tuple[Any, ...]:
        found = self._ask.execute(sql).fetchone()
        assert found is not None
        return tuple(found)

    def diff(self, shown: int) -> TableDiff:
        a, b = self._a, self._b
        rows = self._one("SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)")
        schema: dict[str, Any] = {
            "new_columns": tuple((name, type_) for name, type_ in b.items() if name not in a),
            "lost_columns": tuple((name, type_) for name, type_ in a.items() if name not in b),
            "retyped": tuple((name, a[name], b[name]) for name in a if name in b and a[name] != b[name]),
        }
        counts = {"name": self._name, "rows_before": rows[0], "rows_after": rows[1]}
        if not self._common:
            return TableDiff(**counts, **schema, removed=rows[0], added=rows[1])
        self._separate(max(rows))
        key = self._key(rows) if rows[0] and rows[1] else ()
        return TableDiff(**counts, **schema, **self._figures(key, shown))

    def _separate(self, rows: int) -> None:
        """Make ``lost`` and ``gained``: the rows, over the common columns, that only one side has."""
        columns = ", ".join(quote_name(name) for name in self._common)
        buckets = 1 << max(4, min(_MOST_BUCKETS, rows // _ROWS_TO_A_BUCKET + 1).bit_length() - 1)
        for side in ("a", "b"):
            self._ask.execute(
                f"CREATE TEMP TABLE sums_{side} AS SELECT h % {buckets} AS bucket, count(*) AS n,"
                f" sum((h >> 20)::HUGEINT) AS s FROM (SELECT hash({columns}) AS h FROM {side}) GROUP BY ALL"
            )
        self._ask.execute(
            "CREATE TEMP TABLE suspects AS SELECT bucket FROM sums_a FULL JOIN sums_b USING (bucket)"
            " WHERE sums_a.n IS DISTINCT FROM sums_b.n OR sums_a.s IS DISTINCT FROM sums_b.s"
        )
        for side in ("a", "b"):
            self._ask.execute(
                f"CREATE TEMP TABLE near_{side} AS SELECT {columns} FROM {side}"
                f" WHERE hash({columns}) % {buckets} IN (SELECT bucket FROM suspects)"
            )
        self._ask.execute("CREATE TEMP TABLE lost AS FROM near_a EXCEPT ALL FROM near_b")
        self._ask.execute("CREATE TEMP TABLE gained AS FROM near_b EXCEPT ALL FROM near_a")

    def _key(self, rows: Sequence[int]) -> tuple[str, ...]:
        """The first columns, one or two, that name a row: among the rows that differ exactly, in all as it seems."""
        able = [name for name in self._common[:_KEY_COLUMNS] if not self._a[name].startswith(_NO_KEY)]
        able = [name for name in able if not self._a[name].endswith("]")]
        left = self._one("SELECT (SELECT count(*) FROM lost), (SELECT count(*) FROM gained)")
        if not (left[0] and left[1]):
            return ()
        for number in (1, 2):
            for names in combinations(able, number):
                columns = ", ".join(quote_name(name) for name in names)
                exact = (
                    f"(SELECT count(DISTINCT ({columns})) FROM lost), (SELECT count(DISTINCT ({columns})) FROM gained)"
                )
                if self._one(f"SELECT {exact}") != left:
                    continue
                if self._names(columns, "a", rows[0]) and self._names(columns, "b", rows[1]):
                    return names
        return ()

    def _names(self, columns: str, side: str, rows: int) -> bool:
        """Whether columns name the rows of a side; of a large one, whether they seem to."""
        if rows <= _COUNTED:
            return bool(self._one(f"SELECT count(DISTINCT ({columns})) FROM {side}")[0] == rows)
        return bool(self._one(f"SELECT approx_count_distinct(hash({columns})) FROM {side}")[0] >= _NEARLY * rows)

    def _figures(self, key: tuple[str, ...], shown: int) -> dict[str, Any]:
        if not key:
            lost, gained = self._one("SELECT (SELECT count(*) FROM lost), (SELECT count(*) FROM gained)")
            return {
                "removed": lost,
                "added": gained,
                "sample_removed": self._rows(f"FROM lost ORDER BY ALL LIMIT {shown}"),
                "sample_added": self._rows(f"FROM gained ORDER BY ALL LIMIT {shown}"),
            }
        on = " AND ".join(f"lost.{quote_name(name)} IS NOT DISTINCT FROM gained.{quote_name(name)}" for name in key)
        order = ", ".join(quote_name(name) for name in key)
        only = {
            side: f"FROM {side} WHERE NOT EXISTS (FROM {other} WHERE {on})"
            for side, other in (("lost", "gained"), ("gained", "lost"))
        }
        changed = self._one(f"SELECT count(*) FROM lost JOIN gained ON {on}")[0]
        return {
            "key": key,
            "removed": self._one(f"SELECT count(*) {only['lost']}")[0],
            "added": self._one(f"SELECT count(*) {only['gained']}")[0],
            "changed": changed,
            "columns": self._columns(key, on) if changed else (),
            "sample_removed": self._rows(f"{only['lost']} ORDER BY {order} LIMIT {shown}"),
            "sample_added": self._rows(f"{only['gained']} ORDER BY {order} LIMIT {shown}"),
            "sample_changed": self._pairs(key, on, shown) if changed else (),
        }

    def _columns(self, key: tuple[str, ...], on: str) -> tuple[ColumnChange, ...]:
        others = [name for name in self._common if name not in key]
        wanted = []
        for name in others:
            differs = f"lost.{quote_name(name)} IS DISTINCT FROM gained.{quote_name(name)}"
            wanted.append(f"count(*) FILTER (WHERE {differs})")
            for side in ("lost", "gained"):
                mean = f"avg({side}.{quote_name(name)}::DOUBLE) FILTER (WHERE {differs})"
                wanted.append(mean if _number(self._a[name]) else "NULL")
        if not others:
            return ()
        found = self._one(f"SELECT {', '.join(wanted)} FROM lost JOIN gained ON {on}")
        changes = [ColumnChange(name, *found[3 * at : 3 * at + 3]) for at, name in enumerate(others)]
        return tuple(sorted((one for one in changes if one.rows), key=lambda one: -one.rows))

    def _rows(self, sql: str) -> tuple[dict[str, Any], ...]:
        cursor = self._ask.execute(sql)
        names = [column[0] for column in cursor.description or ()]
        return tuple(dict(zip(names, row, strict=True)) for row in cursor.fetchall())

    def _pairs(self, key: tuple[str, ...], on: str, shown: int) -> tuple[ChangedRow, ...]:
        columns = ", ".join(f"{side}.{quote_name(name)}" for side in ("lost", "gained") for name in self._common)
        order = ", ".join(f"lost.{quote_name(name)}" for name in key)
        width = len(self._common)
        pairs = []
        for row in self._ask.execute(
            f"SELECT {columns} FROM lost JOIN gained ON {on} ORDER BY {order} LIMIT {shown}"
        ).fetchall():
            old = dict(zip(self._common, row[:width], strict=True))
            new = dict(zip(self._common, row[width:], strict=True))
            values = {name: (old[name], new[name]) for name in old if _differ(old[name], new[name])}
            pairs.append(ChangedRow({name: old[name] for name in key}, values))
        return tuple(pairs)


def _differ(one: Any, other: Any) -> bool:
    return bool(one != other) and not (one != one and other != other)  # NaN is like NaN


def _number(type_: str) -> bool:
    return type_.endswith("INT") or type_ in ("INTEGER", "UINTEGER") or type_.startswith(("DOUBLE", "FLOAT", "DECIMAL"))


__all__ = ["ChangedRow", "ColumnChange", "TableDiff", "diff", "keep", "kept"]
