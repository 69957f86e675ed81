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

from sampan.base.files import write_cache
from sampan.lake.arrow import open_ipc
from sampan.lake.query import PARQUET, TableSource, open_sources, quote_name, quote_text

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import numpy.typing as npt

    from sampan.lake.marks import Places

    Counts = npt.NDArray[np.int64]
    Sums = npt.NDArray[np.float64]

SHOWN: Final = 5
_VERSION: Final = 1
_MOST_BUCKETS: Final = 1 << 20
_BATCH: Final = 4_000_000  # rows whose hashes are in memory at a time
_KEY_COLUMNS: Final = 8  # a key is looked for among so many first columns
_NO_KEY: Final = ("DOUBLE", "FLOAT", "BLOB", "STRUCT", "MAP", "UNION", "BOOLEAN")
_COUNTED: Final = 2_000_000  # up to so many rows values are counted exactly, beyond them
_FEW: Final = 20  # a twentieth of the rows that differ says nothing about whether the others have a key
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
    memory: int = 0,
    spill: Path | None = None,
    threads: int = 0,
    marks: Path | None = None,
) -> TableDiff:
    """Compare two states of a table; ``shown`` rows of each kind are given as samples. ``marks``: a folder with what is
    known of the rows of their files."""
    connection = open_sources({"a": before, "b": after}, threads=threads, memory=memory, spill=spill)
    try:
        return _Compared(connection, name, before, after, marks, threads or os.cpu_count() or 1).diff(shown)
    finally:
        connection.close()


def keep(file: Path, found: TableDiff) -> TableDiff:
    """Write what was found to a file of the cache; gives it as it will be read again."""
    try:
        data = msgspec.json.encode((_VERSION, found), enc_hook=str)
    except TypeError:  # a mapping with keys that JSON does not know
        bare: dict[str, Any] = dict.fromkeys(("sample_added", "sample_removed", "sample_changed"), ())
        data = msgspec.json.encode((_VERSION, msgspec.structs.replace(found, **bare)))
    write_cache(file, data)
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

    def __init__(
        self,
        connection: "duckdb.DuckDBPyConnection",
        name: str,
        before: TableSource,
        after: TableSource,
        marks: Path | None,
        threads: int,
    ) -> None:
        self._ask, self._name = connection, name
        self._before, self._after = before, after
        self._marks, self._threads = marks, threads
        self._difference: tuple[int, ...] = ()
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
        if list(self._a.items()) == list(self._b.items()):
            self._near_by_marks()
            self._subtract()
            if self._adds_up():
                return
        self._near_by_hash(rows)
        self._subtract()

    def _near_by_marks(self) -> None:
        """Make ``near_a`` and ``near_b``: of each side the rows whose mark is not as often on the other."""
        from sampan.lake.marks import differing, marks_of

        sources = (self._before, self._after)
        a, b = (marks_of(source, self._marks, self._threads) for source in sources)
        for name, source, picked in zip(("near_a", "near_b"), sources, differing(a, b), strict=True):
            self._pick(name, source, picked)
        self._difference = tuple(sum(file.sums[at] for file in b) - sum(file.sums[at] for file in a) for at in (0, 1))

    def _pick(self, name: str, source: TableSource, picked: "Sequence[Places]") -> None:
        """Rows of a table's files, by their numbers."""
        import numpy as np
        import pyarrow as pa

        columns = ", ".join(f"it.{quote_name(column)}" for column in self._common)
        chosen = [(file, rows) for file, rows in zip(source.files, picked, strict=True) if len(rows)]
        if source.format != PARQUET:
            tables = [open_ipc(Path(file)).take(rows) for file, rows in chosen] or [open_ipc(Path(source.files[0]))[:0]]
            self._ask.register("picked", pa.concat_tables(tables))
            self._ask.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT {columns} FROM picked AS it")
        else:
            files = np.repeat(np.arange(len(chosen)), [len(rows) for _, rows in chosen])
            numbers = np.concatenate([rows for _, rows in chosen] or [np.empty(0, np.int64)])
            self._ask.register("picked", pa.table({"file": files, "number": numbers}))
            listed = ", ".join(quote_text(file) for file, _ in chosen) or quote_text(source.files[0])
            self._ask.execute(
                f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT {columns} FROM read_parquet([{listed}]) AS it"
                " JOIN picked ON it.file_row_number = picked.number AND it.file_index = picked.file"
            )
        self._ask.unregister("picked")

    def _near_by_hash(self, rows: int) -> None:
        """The same, over the common columns and by DuckDB's hash of the rows in buckets: both sides are read twice."""
        import numpy as np
        import pyarrow as pa

        columns = ", ".join(quote_name(name) for name in self._common)
        buckets = 1 << max(4, min(_MOST_BUCKETS, rows).bit_length() - 1)
        a, b = (self._sums(side, columns, buckets) for side in ("a", "b"))
        suspects = np.flatnonzero((a[0] != b[0]) | (a[1] != b[1])).astype(np.uint64)
        self._ask.register("suspects", pa.table({"bucket": suspects}))
        for side in ("a", "b"):
            self._ask.execute(
                f"CREATE OR REPLACE TEMP TABLE near_{side} AS SELECT {columns} FROM {side}"
                f" WHERE hash({columns}) & {buckets - 1} IN (SELECT bucket FROM suspects)"
            )

    def _subtract(self) -> None:
        self._ask.execute("CREATE OR REPLACE TEMP TABLE lost AS FROM near_a EXCEPT ALL FROM near_b")
        self._ask.execute("CREATE OR REPLACE TEMP TABLE gained AS FROM near_b EXCEPT ALL FROM near_a")

    def _adds_up(self) -> bool:
        """Whether the rows that were found make up all of the difference between both sides' sums.

        They may not: a mark has 32 bits, so among very many changed rows some are alike by chance."""
        from sampan.lake.digest import TableDigest

        # files hold 16 bytes for what DuckDB hands over as text
        as_bytes = [f"unhex(replace({quote_name(n)}::VARCHAR, '-', '')) AS {quote_name(n)}" for n in self._of("UUID")]
        replaced = f" REPLACE ({', '.join(as_bytes)})" if as_bytes else ""
        sums = []
        for side in ("lost", "gained"):
            reader = self._ask.execute(f"SELECT *{replaced} FROM {side}").to_arrow_reader(_BATCH)
            digest = TableDigest(reader.schema)
            for batch in reader:
                digest.update(batch)
            sums.append(digest.sums)
        return all((new - old - whole) % 2**64 == 0 for old, new, whole in zip(*sums, self._difference, strict=True))

    def _of(self, type_: str) -> list[str]:
        return [name for name in self._common if self._a[name] == type_]

    def _sums(self, side: str, columns: str, buckets: int) -> "tuple[Counts, Sums]":
        """For each bucket of rows by their hash, how many there are, and the sum of other bits of their hashes.

        A float holds these sums exactly: 30 bits of each of fewer than 2 ** 23 rows.
        """
        import numpy as np

        counts, sums = np.zeros(buckets, np.int64), np.zeros(buckets, np.float64)
        batches = self._ask.execute(f"SELECT hash({columns}) AS h FROM {side}").to_arrow_reader(_BATCH)
        for batch in batches:
            hashes = batch.column(0).to_numpy()
            bucket = (hashes & np.uint64(buckets - 1)).astype(np.int64)
            counts += np.bincount(bucket, minlength=buckets)
            sums += np.bincount(bucket, (hashes >> np.uint64(34)).astype(np.float64), buckets)
        return counts, sums

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
                few = min(rows) > max(_COUNTED, _FEW * max(left))  # then both sides are nearly the same rows
                sides = ("a",) if few else ("a", "b")
                if all(self._names(columns, side, rows[side == "b"]) for side in sides):
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
