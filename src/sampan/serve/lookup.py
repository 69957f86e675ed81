"""Features by key: a record that names a row and brings no features gets those of the table that its decision names.

The row is that of the newest commit of main, or, where a request says when it is asked, of the newest by then. A
snapshot never changes, so it is loaded once, with an index over its keys; the records say each time which one it is.
A newer one is loaded beside what answers, which goes on with the one before until that is done: nobody waits for it.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.clock import Clock, iso
from sampan.base.errors import Damaged, NotFound, SampanError, Usage
from sampan.serve.bundle import DecisionFacts

if TYPE_CHECKING:
    from sampan.lake.lake import Lake, Snapshot

_ATTEMPT: Final = "Predict"
_LOADED: Final = 2  # snapshots of the table that stay loaded
FLOATS: Final = ("DOUBLE", "FLOAT")


class Lookup:
    """Finds rows of one table. Opens nothing before it is warmed, or first needed."""

    def __init__(self, data: Path, facts: DecisionFacts, inputs: Sequence[str], clock: Clock) -> None:
        """``data``: the folder of the workspace's data; ``inputs``: those of the model."""
        self._data, self._clock = data, clock
        self._table, self._key = facts.features, facts.key
        self._inputs = tuple(inputs)
        self._also = _also(facts)
        self._lake: Lake | None = None
        self._loaded: OrderedDict[str, _Rows] = OrderedDict()
        self._newest, self._since = "", 0  # of those that are loaded, and an instant at which it was main's
        self._coming: Future[_Rows] | None = None

    def warm(self) -> None:
        """Load what would be looked up now, so that nobody waits for it. Why it does not load, who asks is told."""
        with suppress(SampanError):
            self._rows(self._snapshot(None), None, True)

    def complete(self, records: Sequence[Any], when: int | None, live: bool = False) -> tuple[list[Any], list[str]]:
        """The records, those without features with the row that they name; and for each the table and snapshot that it
        is from, empty for what came as it is. ``when``: as of then, instead of now; ``live``: then was now when it was
        asked, and nobody waits for what was new. Raises Usage."""
        places = [place for place, record in enumerate(records) if self._wants(record)]
        if not places:
            return list(records), []
        live = live or when is None
        rows = self._rows(self._snapshot(when), when, live)
        found = rows.find([_text(records[place][self._key], place, self._key) for place in places])
        made, told = list(records), [""] * len(records)
        for place in places:
            key = str(records[place][self._key])
            if key not in found:
                then = "" if live or when is None else f" as of {iso(when)}"
                raise Usage(
                    _ATTEMPT,
                    f"record {place}: no row of {self._table} has {self._key} {key!r}{then}",
                    "Send its features, or run the flow if it has come since.",
                    field=self._key,
                )
            made[place] = {**found[key], **records[place]}
            told[place] = f"{self._table} {rows.snapshot}"
        return made, told

    def _wants(self, record: Any) -> bool:
        """Whether a record names a row and brings none of the model's inputs."""
        if not isinstance(record, dict) or record.get(self._key) is None:
            return False
        return not any(name in record for name in self._inputs if name != self._key)

    def alike(self, whens: Collection[int]) -> dict[int, int]:
        """For each instant the last of those at which main was as it was then."""
        found: dict[int, int] = {}
        last, since = 0, None
        for when in sorted(whens, reverse=True):
            if since is None or when < since:
                last, since = when, self._made(when) if len(whens) > 1 else when
            found[when] = last
        return found

    def _made(self, when: int) -> int:
        """When the commit was made that main was at an instant; the instant itself where there was none."""
        from sampan.lake.history import MAIN

        lake = self._open()
        try:
            commit = lake.commit_at(lake.ref_at(MAIN, when))
        except NotFound:
            return when
        return when if commit is None else commit.created

    def _open(self) -> "Lake":
        from sampan.lake.lake import Lake
        from sampan.store.database import Database

        if self._lake is None:
            records = Database(self._data / "records.db", writable=False)
            self._lake = Lake(records, self._data / "lake", self._clock)
        return self._lake

    def _snapshot(self, when: int | None) -> "Snapshot":
        from sampan.lake.history import MAIN

        lake = self._open()
        try:
            names = lake.names(lake.ref_at(MAIN, when))
        except NotFound:
            names = {}
        if self._table not in names:
            then = "" if when is None else f" as of {iso(when)}"
            said = f"there is no table {self._table!r} on {MAIN}{then}, where features are looked up"
            raise Usage(_ATTEMPT, said, "Send features, or run the flow that makes it.", field=self._key)
        return lake.snapshot(names[self._table])

    def _rows(self, snapshot: "Snapshot", when: int | None, live: bool) -> "_Rows":
        """The rows of a snapshot; of the newest that is loaded, where this one is newer and not loaded yet."""
        self._settle()
        at = self._clock.micros() if when is None else when
        last = when is None or (live and when >= self._since)  # else what is loaded may be from its future
        if snapshot.id not in self._loaded:
            if last and self._newest in self._loaded:
                self._begin(snapshot)
                return self._loaded[self._newest]
            self._keep(self._load(snapshot))
        if last:
            self._newest, self._since = snapshot.id, at
        self._loaded.move_to_end(snapshot.id)
        return self._loaded[snapshot.id]

    def _load(self, snapshot: "Snapshot") -> "_Rows":
        assert self._lake is not None
        return _Rows(self._lake, snapshot, self._table, self._key, self._inputs, self._also)

    def _begin(self, snapshot: "Snapshot") -> None:
        if self._coming is None:
            self._coming = Future()
            threading.Thread(target=_into, args=(self._coming, self._load, snapshot), daemon=True).start()

    def _settle(self) -> None:
        """Take what has been loaded meanwhile. What does not load is tried again, by who asks for it."""
        if self._coming is None or not self._coming.done():
            return
        coming, self._coming = self._coming, None
        if coming.exception() is None:
            self._keep(coming.result())
        else:
            self._newest = ""

    def _keep(self, rows: "_Rows") -> None:
        self._loaded[rows.snapshot] = rows
        while len(self._loaded) > _LOADED:
            self._loaded.popitem(last=False)[1].close()


def _into(coming: "Future[_Rows]", load: "Callable[[Snapshot], _Rows]", snapshot: "Snapshot") -> None:
    try:
        coming.set_result(load(snapshot))
    except Exception as error:  # noqa: BLE001 - told to who asks next
        coming.set_exception(error)


class _Rows:
    """A snapshot's rows by key, in memory."""

    def __init__(
        self,
        lake: "Lake",
        snapshot: "Snapshot",
        table: str,
        key: str,
        inputs: Sequence[str],
        also: Sequence[str],
    ) -> None:
        import duckdb

        from sampan.lake.query import open_sources, quote_name

        self.snapshot = snapshot.id
        self._table, self._key = table, key
        types = dict(snapshot.fields)
        if missing := [name for name in (key, *inputs) if name not in types]:
            said = f"the table {table} has no column {missing[0]!r}"
            raise Usage(_ATTEMPT, said, f"Its columns: {', '.join(types)}.", field=missing[0])
        wanted = [*inputs, *(name for name in dict.fromkeys(also) if name in types and name not in inputs)]
        packed = ", ".join(f"{quote_name(name)} := {as_sent(quote_name(name), types[name])}" for name in wanted)
        self._connection: duckdb.DuckDBPyConnection = open_sources({"it": lake.source_of(snapshot, table)}, threads=1)
        try:
            self._connection.execute(
                f"CREATE TABLE kept AS SELECT CAST({quote_name(key)} AS VARCHAR) AS k,"
                f" to_json(struct_pack({packed}))::VARCHAR AS row FROM it WHERE {quote_name(key)} IS NOT NULL"
            )
            self._connection.execute("CREATE INDEX by_key ON kept (k)")
        except duckdb.Error as error:
            self._connection.close()
            raise Damaged(f"Look features up in {table}", str(error).splitlines()[0]) from error

    def find(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Rows by the text of their key. Raises Usage for a key that names several."""
        if len(keys) == 1:
            rows = self._connection.execute("SELECT k, row FROM kept WHERE k = ?", [keys[0]]).fetchall()
        else:
            asked = "SELECT k, row FROM kept WHERE k IN (SELECT unnest(?))"
            rows = self._connection.execute(asked, [list(dict.fromkeys(keys))]).fetchall()
        found: dict[str, dict[str, Any]] = {}
        for key, row in rows:
            if key in found:
                said = f"{self._key} {key!r} names several rows of {self._table}"
                raise Usage(_ATTEMPT, said, "Declare a key that names one: @decision(key=…).", field=self._key)
            found[key] = msgspec.json.decode(row)
        return found

    def close(self) -> None:
        self._connection.close()


def serves(facts: DecisionFacts | None, inputs: Sequence[str], other: DecisionFacts, others: Sequence[str]) -> bool:
    """Whether what is looked up for some rules and a model's inputs is what others want, too."""
    if facts is None or (facts.features, facts.key) != (other.features, other.key):
        return False
    return {*inputs, *_also(facts)} >= {*others, *_also(other)}


def _also(facts: DecisionFacts) -> tuple[str, ...]:
    """What else than inputs is looked up."""
    return tuple(name for name in (facts.entity, *(facts.context or ())) if name)


def as_sent(column: str, type_: str) -> str:
    """A column as a request would have sent it: what is no number is null, bytes are in base64."""
    if type_ == "BLOB":
        return f"CASE WHEN {column} IS NOT NULL THEN struct_pack(base64 := to_base64({column})) END"
    return f"CASE WHEN isfinite({column}) THEN {column} END" if type_ in FLOATS else column


def _text(key: Any, place: int, name: str) -> str:
    if isinstance(key, bool) or not isinstance(key, str | int):
        shown = msgspec.json.encode(key).decode()[:80]
        said = f"record {place}: field {name!r}: expected a text or a whole number, got {shown}"
        raise Usage(_ATTEMPT, said, "It names a row of a table.", field=name)
    return str(key)
