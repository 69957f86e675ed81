"""What lies in a workspace, how large it is, why it stays, and what the next clean-up would remove.

Everything is measured when it is asked; what would go is not proven here, as it is before anything goes.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from sampan.base.clock import Clock
from sampan.flow.job import Stored
from sampan.keep.clean import Plan
from sampan.keep.cleanups import Kind
from sampan.keep.leftovers import BYTES, LOGS, TABLES, Found
from sampan.keep.retention import Retention
from sampan.lake.draft import TableFile
from sampan.lake.publish import FOLDER
from sampan.store.database import Database
from sampan.track.tracking import ARTIFACTS

_SHOWN: Final = 30
_NOBODY: Final = "no record names it"


class Store(msgspec.Struct, frozen=True):
    """One kind of what lies in the workspace's data: what it is, and what may remove it."""

    name: str
    about: str
    rule: str
    files: int
    bytes: int


class Holder(msgspec.Struct, frozen=True):
    """A table, model or branch: ``states`` snapshots or versions, or tables of a branch; ``bytes`` of all of them.
    ``now``: of a table what main has of it, of a branch what main does not have; None for a model."""

    name: str
    states: int
    bytes: int
    now: int | None = None


class Kept(msgspec.Struct, frozen=True):
    """Files that stay for one reason."""

    kind: str
    why: str
    files: int
    bytes: int


class Going(msgspec.Struct, frozen=True):
    """A file, or a run's logs, that would go. ``about``: what it held; ``changed``: when it was put there."""

    kind: str
    name: str
    about: str
    bytes: int
    changed: int


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. ``kept`` and ``going`` list the largest; ``more_*`` are files and bytes of the rest of each."""

    stores: tuple[Store, ...]
    tables: tuple[Holder, ...]
    models: tuple[Holder, ...]
    branches: tuple[Holder, ...]
    kinds: tuple[Kind, ...]
    kept: tuple[Kept, ...]
    more_kept: int
    more_kept_bytes: int
    going: tuple[Going, ...]
    more_going: int
    more_going_bytes: int


def storage(db: Database, data: Path, clock: Clock, retention: Retention) -> Storage:
    """Look at all of it. Raises Damaged for a bundle or a note of publications that cannot be read."""
    plan = Plan(db, data, retention, clock.micros())
    sizes = {one.name: one.bytes for one in plan.found if one.kind in (TABLES, BYTES)}
    files = _files(db)
    models, model_bytes = _models(db, sizes)
    kept = sorted(_kept(plan.found), key=lambda one: (-one.bytes, one.why))
    going = sorted(_going(db, plan, files), key=lambda one: (-one.bytes, one.name))
    return Storage(
        stores=tuple(_stores(data, model_bytes)),
        tables=tuple(_tables(db, files)),
        models=tuple(models),
        branches=tuple(_branches(db, files)),
        kinds=tuple(plan.kinds()),
        kept=tuple(kept[:_SHOWN]),
        more_kept=sum(one.files for one in kept[_SHOWN:]),
        more_kept_bytes=sum(one.bytes for one in kept[_SHOWN:]),
        going=tuple(going[:_SHOWN]),
        more_going=len(going[_SHOWN:]),
        more_going_bytes=sum(one.bytes for one in going[_SHOWN:]),
    )


# -- what lies where


def _stores(data: Path, models: tuple[int, int]) -> Iterator[Store]:
    blobs = _measure(data / "blobs")
    yield Store("log", "all events, as they came", "never removed", *_measure(data / "log"))
    yield Store("attachments", "texts and bytes of events", "never removed", *_measure(data / "attachments"))
    yield Store("tables", "every state of every table that is kept", "cleaned up", *_measure(data / "lake"))
    yield Store("models", "the files of all versions", "never removed", *models)
    rest = (blobs[0] - models[0], blobs[1] - models[1])
    yield Store("results", "values of steps, bundles, rules, changes not committed to git", "cleaned up", *rest)
    yield Store("artifacts", "files of logged runs and models", "cleaned up", *_measure(data / ARTIFACTS))
    yield Store("logs of runs", "what steps printed", "cleaned up", *_measure(data / "runs"))
    yield Store("caches", "what is worked out again if it is missing", "cleaned up", *_measure(data / "cache"))
    published = _measure(data / FOLDER)
    yield Store("published", "metadata of Iceberg tables in the workspace", "`sampan table unpublish`", *published)
    records = [path for path in data.glob("*.db*") if path.is_file()]
    size = sum(path.stat().st_size for path in records)
    yield Store(
        "records", "runs, commits, versions, keys, and what else has a name", "never removed", len(records), size
    )
    yield Store("unfinished", "what is being written, or was when it was killed", "at a start", *_measure(data / "tmp"))


def _measure(folder: Path) -> tuple[int, int]:
    """Files below a folder and their bytes; a file may go meanwhile."""
    files = size = 0
    for here, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(os.path.join(here, name)).st_size  # noqa: PTH118 - many of them
            except FileNotFoundError:
                continue
            files += 1
    return files, size


def _files(db: Database) -> dict[str, tuple[str, dict[str, int]]]:
    """Snapshot → its table's name, and its files with their bytes."""
    found = {}
    for row in db.rows("SELECT id, name, files FROM snapshots"):
        files = msgspec.json.decode(row["files"], type=tuple[TableFile, ...])
        found[row["id"]] = (row["name"], {file.sha256: file.bytes for file in files})
    return found


def _heads(db: Database) -> dict[str, dict[str, str]]:
    """Branch → its tables' snapshots."""
    sql = "SELECT branches.name, commits.tables FROM branches LEFT JOIN commits ON commits.id = branches.head"
    return {
        row["name"]: msgspec.json.decode(row["tables"], type=dict[str, str]) if row["tables"] else {}
        for row in db.rows(sql)
    }


def _of(files: dict[str, tuple[str, dict[str, int]]], ids: Iterable[str]) -> dict[str, int]:
    """The files of some snapshots: what two of them share counts once."""
    return {sha: size for id in ids if id in files for sha, size in files[id][1].items()}


def _tables(db: Database, files: dict[str, tuple[str, dict[str, int]]]) -> list[Holder]:
    main, states = _heads(db).get("main", {}), dict[str, list[str]]()
    for id, (name, _) in files.items():
        states.setdefault(name, []).append(id)
    found = [
        Holder(name, len(ids), sum(_of(files, ids).values()), sum(_of(files, [main.get(name, "")]).values()))
        for name, ids in states.items()
    ]
    return sorted(found, key=lambda one: (-one.bytes, one.name))


def _models(db: Database, sizes: dict[str, int]) -> tuple[list[Holder], tuple[int, int]]:
    """Each model's versions, and files and bytes of all of them."""
    versions: dict[str, int] = {}
    files: dict[str, set[str]] = {}
    for row in db.rows("SELECT model, files FROM versions"):
        versions[row["model"]] = versions.get(row["model"], 0) + 1
        files.setdefault(row["model"], set()).update(msgspec.json.decode(row["files"], type=dict[str, str]).values())
    holders = [Holder(name, versions[name], sum(sizes.get(one, 0) for one in own)) for name, own in files.items()]
    all = {one for own in files.values() for one in own if one in sizes}
    return sorted(holders, key=lambda one: (-one.bytes, one.name)), (len(all), sum(sizes[one] for one in all))


def _branches(db: Database, files: dict[str, tuple[str, dict[str, int]]]) -> list[Holder]:
    heads = _heads(db)
    main = _of(files, heads.get("main", {}).values())
    found = []
    for name, tables in heads.items():
        mine = _of(files, tables.values())
        own = sum(size for sha, size in mine.items() if sha not in main)
        found.append(Holder(name, len(tables), sum(mine.values()), own))
    return sorted(found, key=lambda one: (one.name != "main", -(one.now or 0), one.name))


# -- what stays and what goes


def _kept(found: Iterable[Found]) -> list[Kept]:
    sums: dict[tuple[str, str], list[int]] = {}
    for one in found:
        if one.why is not None:
            counted = sums.setdefault((one.kind, one.why), [0, 0])
            counted[0] += 1
            counted[1] += one.bytes
    return [Kept(kind, why, *counted) for (kind, why), counted in sums.items()]


def _going(db: Database, plan: Plan, files: dict[str, tuple[str, dict[str, int]]]) -> Iterator[Going]:
    held = _held(db, plan, files)
    for one in plan.going():
        about = "" if one.kind == LOGS else held.get(one.name, _NOBODY if one.kind in (TABLES, BYTES) else "")
        yield Going(one.kind, one.name, about, one.bytes, int(one.changed * 1_000_000))


def _held(db: Database, plan: Plan, files: dict[str, tuple[str, dict[str, int]]]) -> dict[str, str]:
    """What the files held that go, in words."""
    found: dict[str, str] = {}
    gone = set(plan.old_snapshots)
    for row in db.rows("SELECT id, run FROM snapshots"):
        if row["id"] in gone:
            name, own = files[row["id"]]
            found |= dict.fromkeys(own, f"table {name}" + (f" of run {row['run']}" if row["run"] else ""))
    keys = set(plan.old_results)
    for row in db.rows("SELECT key, step, run, value FROM results"):
        if row["key"] in keys:
            stored = msgspec.msgpack.decode(row["value"] or b"", type=Stored)
            digests = [stored.blob] if stored.blob else []
            digests += stored.model.held() if stored.model is not None else ()
            found |= dict.fromkeys(digests, f"the result of {row['step']} in run {row['run']}")
    for row in db.rows("SELECT id, json_extract(manifest, '$.patch') AS patch FROM runs"):
        if row["patch"]:
            found[row["patch"]] = f"changes not committed to git, of run {row['id']}"
    return found
