"""``sampan gc``: remove what nothing keeps. Records first, in one transaction, then files.

A kill before the transaction leaves everything, one after it leaves files that nobody names, which the next clean-up
finds. While it decides, no record can change; whoever runs the flow waits until it has ended (``App.clean``). What was
put less than the grace time ago stays, even if nothing names it: whoever put it may be about to.
"""

import time
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import Damaged
from sampan.keep.cleanups import Cleanups, Kind
from sampan.keep.leftovers import ARTIFACTS, BYTES, FILES, TABLES, Found, artifacts_of, look, remove
from sampan.keep.proof import Witnesses
from sampan.keep.reach import Reach
from sampan.keep.retention import Retention
from sampan.lake.publish import FOLDER, Publications
from sampan.store.blobs import Blobs
from sampan.store.database import Database

_SHOWN: Final = 10


class Large(msgspec.Struct, frozen=True):
    """Something large that stays, and what keeps it."""

    kind: str
    name: str
    bytes: int
    why: str


class Proof(msgspec.Struct, frozen=True):
    """What the independent walk found: how many files it asked about, and what stands against removing them."""

    asked: int
    named: int
    agrees: bool
    objections: dict[str, str]


class Cleaned(msgspec.Struct, frozen=True):
    """What goes, or has gone if ``applied``. ``missing``: what is named but not there, with who names it."""

    applied: bool
    kinds: tuple[Kind, ...]
    gone: int
    gone_bytes: int
    largest: tuple[Large, ...]
    proof: Proof
    missing: dict[str, str]


class Step(msgspec.Struct, frozen=True):
    """One step of a clean-up as it is told: ``records`` are gone, or so many files."""

    what: str
    files: int = 0


class Plan:
    """What one look found: what stays and why, and what goes. What it says is not proven until ``proof`` is asked."""

    def __init__(self, db: Database, data: Path, retention: Retention, now: int) -> None:
        blobs = Blobs(data / "blobs")
        self.reach = reach = Reach(db, blobs, retention, now, Publications(data).list())
        self.before = time.time() - retention.grace
        self.snapshots = {row["id"]: row["bytes"] for row in db.rows("SELECT id, bytes FROM snapshots")}
        self.results = {row["key"] for row in db.rows("SELECT key FROM results")}
        self.found = list(look(data, reach, set(self.snapshots) & set(reach.snapshots)))
        self.old_snapshots = [id for id in self.snapshots if id not in reach.snapshots]
        self.old_results = [key for key in self.results if key not in reach.results]
        self._data = data
        self._witnessed = (db, blobs, retention, now, sorted((data / FOLDER).rglob("*.json")))

    @cached_property
    def witnesses(self) -> Witnesses:
        return Witnesses(*self._witnessed)

    def going(self) -> list[Found]:
        """The files that go."""
        return [one for one in self.found if one.why is None and one.changed < self.before]

    def proof(self) -> Proof:
        files = [one.name for one in self.found if one.kind in (TABLES, BYTES)]
        objections = self.witnesses.of([*(one.name for one in self.going()), *self.old_snapshots])
        named = len(self.witnesses.of(files))
        return Proof(len(files), named, not objections, dict(list(objections.items())[:_SHOWN]))

    def missing(self) -> dict[str, str]:
        there = {one.name for one in self.found if one.kind in (TABLES, BYTES, ARTIFACTS)}
        named = {**self.reach.lake, **self.reach.bytes, **artifacts_of(self._data)}
        absent = {name: why for name, why in named.items() if name not in there}
        known = {id: why for id, why in self.reach.snapshots.items() if id not in self.snapshots}
        return {**absent, **known}

    def kinds(self) -> list[Kind]:
        """How much of each kind stays and goes."""
        kinds = [
            Kind(
                "snapshots",
                len(self.snapshots) - len(self.old_snapshots),
                0,
                len(self.old_snapshots),
                0,
            ),
            Kind("results", len(self.results) - len(self.old_results), 0, len(self.old_results), 0),
        ]
        for kind in FILES:
            mine = [one for one in self.found if one.kind == kind]
            kept = [one for one in mine if one.why is not None]
            gone = [one for one in mine if one.why is None and one.changed < self.before]
            young = len(mine) - len(kept) - len(gone)
            kinds.append(Kind(kind, len(kept), _bytes(kept), len(gone), _bytes(gone), young))
        return kinds

    def told(self, applied: bool) -> Cleaned:
        """All of it, proven."""
        going = self.going()
        kept = sorted((one for one in self.found if one.why is not None), key=lambda one: -one.bytes)[:_SHOWN]
        largest = tuple(Large(one.kind, one.name, one.bytes, one.why or "") for one in kept)
        proof, missing = self.proof(), self.missing()
        return Cleaned(applied, tuple(self.kinds()), len(going), _bytes(going), largest, proof, missing)


class Cleaner:
    """Cleans up one workspace's data."""

    def __init__(self, db: Database, data: Path, clock: Clock, retention: Retention) -> None:
        self._db, self._data, self._clock, self._retention = db, data, clock, retention

    def preview(self) -> Cleaned:
        """What would go; changes nothing."""
        return self._plan().told(False)

    def apply(self, report: Callable[[Step], Any] = lambda step: None, actor: str = "") -> Cleaned:
        """Remove it, and write down that it went. Raises Damaged, having changed nothing, if the independent walk
        objects; what ``report`` raises ends it where it is, and the next clean-up goes on."""
        with self._db.transaction() as records:
            plan = self._plan()
            told = plan.told(True)
            if not told.proof.agrees:
                name, who = next(iter(told.proof.objections.items()))
                raise Damaged(
                    "Clean up", f"{name[:16]} would go, but is named by {who}", "Nothing was removed. Please report it."
                )
            now = self._clock.micros()
            gone = set(plan.old_snapshots)
            old = [row["id"] for row in self._db.rows("SELECT id, tables FROM commits") if _names(row, gone)]
            _each(records, "UPDATE commits SET cleaned = ? WHERE id = ?", [(now, id) for id in old])
            runs = [row["id"] for row in self._db.rows("SELECT id FROM runs WHERE cleaned IS NULL")]
            old = [id for id in runs if id not in plan.reach.runs]
            _each(records, "UPDATE runs SET cleaned = ? WHERE id = ?", [(now, id) for id in old])
            _each(records, "DELETE FROM snapshots WHERE id = ?", [(id,) for id in plan.old_snapshots])
            _each(records, "DELETE FROM results WHERE key = ?", [(key,) for key in plan.old_results])
            history = Cleanups(self._db, self._clock)
            record = history.began(actor, told.kinds, told.gone, told.gone_bytes)
        report(Step("records"))
        for number, one in enumerate(plan.going(), start=1):
            remove(one, self._data, plan.before)
            report(Step("files", number))
        history.ended(record)
        return told

    def _plan(self) -> Plan:
        return Plan(self._db, self._data, self._retention, self._clock.micros())


def _names(row: Any, gone: set[str]) -> bool:
    return not gone.isdisjoint(msgspec.json.decode(row["tables"], type=dict[str, str]).values())


def _each(records: Any, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
    records.executemany(sql, rows)


def _bytes(found: Iterable[Found]) -> int:
    return sum(one.bytes for one in found)
