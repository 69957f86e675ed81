"""Rows of a table by key, beside requests of the past: what they would have brought, and what has changed since."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from sampan.base.errors import Usage
from sampan.lake.query import TableSource, open_sources, quote_name
from sampan.serve.lookup import FLOATS, as_sent

_ALIKE: Final = 1e-9  # floats that differ by a smaller part are the same


def looked_up(source: TableSource, key: str, columns: Sequence[str], keys: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """Rows of a table by the text of the key that was asked for: those of the columns that it has, as a request would
    send them. Raises Usage if the key names several rows."""
    import pyarrow as pa

    types = dict(source.fields)
    wanted = [name for name in columns if name in types]
    asked = sorted({str(one) for one in keys if one is not None})
    if key not in types or not wanted:
        raise Usage(
            f"Look features up in {source.name}",
            f"it has no column {key!r}" if key not in types else "it has none of the model's inputs",
            f"Its columns: {', '.join(types)}.",
        )
    connection = open_sources({"it": source})
    try:
        connection.register("asked", pa.table({"k": pa.array(asked, pa.string())}))
        packed = ", ".join(f"{quote_name(name)} := {as_sent(f'it.{quote_name(name)}', types[name])}" for name in wanted)
        found = connection.execute(
            f"SELECT asked.k, to_json(struct_pack({packed}))::VARCHAR FROM asked"
            f" JOIN it ON it.{quote_name(key)} = try_cast(asked.k AS {types[key]})"
        ).fetchall()
    finally:
        connection.close()
    rows = {asked: msgspec.json.decode(row) for asked, row in found}
    if len(rows) < len(found):
        raise Usage(f"Look features up in {source.name}", f"its column {key!r} names several rows", "Name a key.")
    return rows


def otherwise_later(then: TableSource, now: TableSource, key: str, columns: Sequence[str]) -> dict[str, int]:
    """In how many rows that a table had at an earlier position each column came out otherwise since, by column.

    Features that know no future do not change: rows are only added. Floats may differ in their last digits.
    """
    before, after = dict(then.fields), dict(now.fields)
    compared = [name for name in columns if name in before and name in after]
    if key not in before or key not in after or not compared:
        return {}
    connection = open_sources({"a": then, "b": now})
    try:
        differ = {name: f"a.{quote_name(name)} IS DISTINCT FROM b.{quote_name(name)}" for name in compared}
        for name in compared:
            if before[name] in FLOATS and after[name] in FLOATS:
                x, y = f"a.{quote_name(name)}", f"b.{quote_name(name)}"
                differ[name] += f" AND NOT coalesce(abs({x} - {y}) <= {_ALIKE} * greatest(1, abs({x})), false)"
        counts = ", ".join(f"count(*) FILTER ({differ[name]})" for name in compared)
        row = connection.execute(f"SELECT {counts} FROM a JOIN b USING ({quote_name(key)})").fetchone() or ()
    finally:
        connection.close()
    return {name: count for name, count in zip(compared, row, strict=False) if count}
