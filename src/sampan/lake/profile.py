"""What is in a table at a glance: a few rows, and per column nulls, range, distinct values and a small histogram.

For people to look at, never an input of a step: distinct counts are approximate where counting them
would take another pass. A snapshot never changes, so its
profile is computed once and kept under ``.sampan/cache``.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.files import write_cache
from sampan.lake.query import TableSource, open_sources, quote_name

if TYPE_CHECKING:
    import duckdb

BARS: Final = 12
TOP: Final = 8
_VERSION: Final = 2
_NUMBERS: Final = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_STRETCHED: Final = ("DOUBLE", "FLOAT", "DECIMAL", "DATE", "TIMESTAMP")  # bars of these are stretches of values
_NESTED: Final = ("STRUCT", "MAP", "UNION", "BLOB")


class Bar(msgspec.Struct, frozen=True):
    """A stretch of values, or one value, and how many rows have it."""

    label: str
    count: int


class ColumnProfile(msgspec.Struct, frozen=True):
    """One column. ``nulls`` is a share from 0 to 1; ``distinct`` is approximate unless ``exact``."""

    name: str
    type: str
    nulls: float
    distinct: int
    min: str | None
    max: str | None
    bars: tuple[Bar, ...] = ()
    exact: bool = False


class Profile(msgspec.Struct, frozen=True):
    """All columns of one snapshot."""

    rows: int
    columns: tuple[ColumnProfile, ...]


def sample(source: TableSource, n: int) -> list[dict[str, Any]]:
    """The first rows of a table's file, by column name."""
    connection = open_sources({"it": source}, threads=1)
    try:
        cursor = connection.execute(f"SELECT * FROM it LIMIT {int(n)}")
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    finally:
        connection.close()


def profile(source: TableSource, cached: Path | None = None) -> Profile:
    """The profile of a table, taken from its cache file if that is there and whole."""
    if cached is not None and (known := kept(cached)) is not None:
        return known
    connection = open_sources({"it": source}, threads=1)
    try:
        fresh = _profile(connection)
    finally:
        connection.close()
    if cached is not None:
        write_cache(cached, msgspec.json.encode((_VERSION, fresh)))
    return fresh


def kept(cached: Path) -> Profile | None:
    """A profile from its file; None if that is not there, not whole, or of another release."""
    try:
        version, known = msgspec.json.decode(cached.read_bytes(), type=tuple[int, Profile])
    except (OSError, msgspec.DecodeError):
        return None
    return known if version == _VERSION else None


def _profile(connection: "duckdb.DuckDBPyConnection") -> Profile:
    fields = [(row[0], row[1]) for row in connection.execute("DESCRIBE it").fetchall()]
    wanted = ["count(*)"]
    for name, type_ in fields:
        column = quote_name(name)
        wanted += [f"count({column})", f"approx_count_distinct({column})"]
        wanted += [f"min({column})::VARCHAR", f"max({column})::VARCHAR"] if _plain(type_) else ["NULL", "NULL"]
    figures = list(connection.execute(f"SELECT {', '.join(wanted)} FROM it").fetchone() or ())
    rows = figures[0]
    columns = []
    for number, (name, type_) in enumerate(fields):
        there, distinct, low, high = figures[1 + 4 * number : 5 + 4 * number]
        bars = _bars(connection, name, type_, distinct) if there and _plain(type_) else ()
        nulls = (rows - there) / rows if rows else 0.0
        counted = _counted(type_, bars, there)
        found = min(distinct, there) if counted is None else counted
        columns.append(ColumnProfile(name, type_, nulls, found, low, high, bars, exact=counted is not None))
    return Profile(rows, tuple(columns))


def _counted(type_: str, bars: tuple[Bar, ...], there: int) -> int | None:
    """How many values there are, where the most frequent ones tell: each is there once, or they are all."""
    if not bars or type_.startswith(_STRETCHED):
        return None
    if max(bar.count for bar in bars) == 1 and type_ not in _NUMBERS:
        return there
    return len(bars) if sum(bar.count for bar in bars) == there and type_ not in _NUMBERS else None


def _plain(type_: str) -> bool:
    return not type_.startswith(_NESTED) and not type_.endswith("]")


def _bars(connection: "duckdb.DuckDBPyConnection", name: str, type_: str, distinct: int) -> tuple[Bar, ...]:
    column = quote_name(name)
    if type_ in _NUMBERS and distinct <= BARS:
        values = f"SELECT {column}::VARCHAR, count(*) FROM it WHERE {column} IS NOT NULL GROUP BY {column}"
        return tuple(Bar(*row) for row in connection.execute(f"{values} ORDER BY {column} LIMIT {BARS}").fetchall())
    if type_ in _NUMBERS or type_.startswith(_STRETCHED[:3]):
        number = f"{column}::DOUBLE"
        return _stretches(connection, number, lambda at: f"{at:.6g}")
    if type_ == "DATE" or type_.startswith("TIMESTAMP"):
        seconds = f"CASE WHEN isfinite({column}) THEN epoch({column}::TIMESTAMP) END"
        return _stretches(connection, seconds, _day)
    found = connection.execute(
        f"SELECT {column}::VARCHAR, count(*) FROM it WHERE {column} IS NOT NULL GROUP BY ALL ORDER BY 2 DESC, 1"
        f" LIMIT {TOP}"
    ).fetchall()
    return tuple(Bar(text if len(text) <= 40 else text[:39] + "…", count) for text, count in found)


def _stretches(connection: "duckdb.DuckDBPyConnection", number: str, label: Any) -> tuple[Bar, ...]:
    value = f"SELECT {number} AS x FROM it"
    found = connection.execute(f"SELECT min(x), max(x) FROM ({value}) WHERE isfinite(x)").fetchone()
    if found is None or found[0] is None:
        return ()
    low, high = found
    width = (high - low) / BARS
    if width <= 0 or not math.isfinite(width):
        counted = connection.execute(f"SELECT count(*) FROM ({value}) WHERE isfinite(x)").fetchone()
        return (Bar(label(low), counted[0] if counted else 0),)
    bar = f"least(floor((x - {low!r}::DOUBLE) / {width!r}::DOUBLE), {BARS - 1})::INTEGER"
    counts = dict(
        connection.execute(f"SELECT {bar}, count(*) FROM ({value}) WHERE isfinite(x) GROUP BY ALL").fetchall()
    )
    return tuple(
        Bar(f"{label(low + at * width)} – {label(low + (at + 1) * width)}", counts.get(at, 0)) for at in range(BARS)
    )


def _day(seconds: float) -> str:
    from datetime import UTC, datetime, timedelta

    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).date().isoformat()
    except OverflowError:
        return f"{seconds:.6g} s"
