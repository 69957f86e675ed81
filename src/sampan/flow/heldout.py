"""Which rows of a table are held out: the same in every state of the table, for the same seed. Runs in the worker.

A row is chosen by what its key columns say, or by its time, not by its place: whatever else was changed about it, and
in whatever order it stands, it is held out of all states or of none.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sampan.flow.job import HeldOut
from sampan.lake.query import quote_name

_GOLDEN: Final = 0x9E3779B97F4A7C15
_NO_TIME: Final = -(1 << 63)


def seen(table: Any, held: HeldOut) -> Any:
    """The rows of an Arrow table that are left to train on, in their order."""
    import pyarrow as pa

    if held.time:
        found = times(table, held.time)
        return table.filter(pa.array((found <= held.since) & (found != _NO_TIME)))
    return table.filter(pa.array(~chosen(units(table, held.key), held)))


def judged(table: Any, held: HeldOut) -> NDArray[np.bool_]:
    """Which rows of an Arrow table are judged."""
    if held.time:
        found = times(table, held.time)
        return (found > held.since) & (found <= held.until)
    return chosen(units(table, held.key), held)


def times(table: Any, column: str) -> NDArray[np.int64]:
    """The time of each row in microseconds since 1970; the least there is where a row has none."""
    import duckdb

    with duckdb.connect() as db:
        db.register("given", table.select([column]))
        found = db.execute(f"SELECT coalesce({micros(column)}, {_NO_TIME + 1} - 1) AS time FROM given").fetchnumpy()
        return np.asarray(found["time"], dtype=np.int64)


def micros(column: str) -> str:
    """SQL for a column of days or instants as microseconds since 1970 (UTC)."""
    return f"epoch_us({quote_name(column)})::BIGINT"


def units(table: Any, key: Sequence[str]) -> NDArray[np.uint64]:
    """A number for each row, the same for rows with equal key columns: 64 bits of the MD5 of their values as text.

    Texts are compared, so the columns must have one type in all states of the table; whoever names the key sees to it.
    """
    import duckdb

    parts = ", ".join(f"coalesce({quote_name(name)}::VARCHAR, '')" for name in key)
    with duckdb.connect() as db:
        db.register("given", table.select(list(key)))
        found = db.execute(f"SELECT md5_number_lower(concat_ws(chr(31), {parts})) AS unit FROM given")
        numbers: NDArray[np.uint64] = found.fetchnumpy()["unit"]
        return np.asarray(numbers, dtype=np.uint64)


def chosen(units: NDArray[np.uint64], held: HeldOut) -> NDArray[np.bool_]:
    """Which units a seed holds out: those that SplitMix64 sends below the share.

    SplitMix64 is the mixing function of Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
    OOPSLA 2014; arithmetic is modulo 2 ** 64.
    """
    with np.errstate(over="ignore"):
        mixed = units + np.uint64(_GOLDEN * (held.seed + 1) % (1 << 64))
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    below: NDArray[np.bool_] = mixed < np.uint64(int(held.share * (1 << 64)))
    return below
