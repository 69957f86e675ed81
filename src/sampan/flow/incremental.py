"""Tables that are built bit by bit: which result a build can go on from, what of it is late, whether it is right.

A result can be gone on from if all that its key holds is as it is now, but for events that have come since and for
tables that are themselves built bit by bit. That the events before are still the same is asked of the log, whose state
at the old position has to give the digest that the old key holds.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.errors import NotFound
from sampan.flow.graph import Node
from sampan.flow.key import KeyParts
from sampan.flow.plan import CACHED, Planner, stored_of
from sampan.lake.draft import TableDraft, TableFile
from sampan.lake.partition import Base, Feed, Increment, Partitioning, Touched, Unequal
from sampan.log.position import Position
from sampan.runs.records import Result

if TYPE_CHECKING:
    from sampan.lake.lake import Lake
    from sampan.lake.query import Source

_LOOKED_AT: Final = 20  # results that are tried, newest first


def increment(planner: Planner, node: Node, parts: KeyParts, tables: Mapping[str, TableDraft | None]) -> Increment:
    """How to build a node with these key parts, whose inputs lie in ``tables`` as far as they are tables."""
    assert node.incremental is not None
    nodes, events = planner.workspace.graph.nodes, planner.workspace.graph.events
    types = tuple(name for name in node.needs if name in events)
    cuts = {name: how for name in node.needs if name in nodes and (how := nodes[name].incremental)}
    found = _base(planner, node, parts, types, cuts)
    base, before = found if found else (None, {})
    feeds = {
        name: Feed(how, draft.files, before.get(name, ()))
        for name, how in cuts.items()
        if (draft := tables.get(name)) is not None
    }
    return Increment(node.incremental, types, feeds, base)


def _base(
    planner: Planner, node: Node, parts: KeyParts, types: tuple[str, ...], cuts: Mapping[str, Any]
) -> tuple[Base, dict[str, tuple[TableFile, ...]]] | None:
    """The newest result to go on from, and the files that its inputs had then."""
    now = planner.position or Position()
    mine = {**msgspec.to_builtins(parts), "inputs": {}}
    for result in planner.runs.recent(node.name, _LOOKED_AT):
        inputs: dict[str, str] = result.parts.get("inputs", {})
        if {**result.parts, "inputs": {}} != mine or inputs.keys() != parts.inputs.keys():
            continue
        if any(inputs[name] != parts.inputs[name] for name in inputs if name not in types and name not in cuts):
            continue
        stored = stored_of(result)
        if stored.table is None or planner.missing(stored):
            continue
        position = position_of(planner, result)
        if position is None or any(count > now[stream] for stream, count in position.items()):
            continue
        if any(planner.event_digest_at(type, position) != inputs[type] for type in types):
            continue
        before = {name: files_of(planner, name, inputs[name], how) for name, how in cuts.items()}
        if all(files is not None for files in before.values()):
            return Base(str(position), stored.table), {name: files or () for name, files in before.items()}
    return None


def position_of(planner: Planner, result: Result) -> Position | None:
    """How much of the log a result was made of; None if its run is no longer known."""
    try:
        return Position.parse(planner.runs.get(result.run).position)
    except NotFound:
        return None


def files_of(planner: Planner, name: str, digest: str, how: Partitioning) -> tuple[TableFile, ...] | None:
    """The files of a table that a node once gave, if it was cut as it is now."""
    result = planner.runs.with_digest(name, digest)
    if result is None or result.parts.get("options", {}).get("incremental") != str(how):
        return None
    table = stored_of(result).table
    return table.files if table is not None else None


# -- what is late


class Late(msgspec.Struct, frozen=True):
    """What the next run builds of a table. ``whole``: why it builds all of it; else the partitions that it builds."""

    table: str
    how: str
    built: int
    whole: str
    partitions: tuple[Touched, ...]

    @property
    def late(self) -> tuple[Touched, ...]:
        """Those that have been built before."""
        return tuple(one for one in self.partitions if one.there)


def late(planner: Planner, sources: "Mapping[str, Source]") -> list[Late]:
    """For each table that is built bit by bit, what the next run builds of it. ``sources``: the events by type."""
    from sampan.lake.increment import too_many, touched

    graph = planner.workspace.graph
    planned = {step.name: step for step in planner.plan(None, None, None, "").steps}
    found: dict[str, Late] = {}
    for node in graph.nodes.values():
        if node.incremental is None:
            continue
        latest = planner.runs.latest(node.name)
        table = stored_of(latest).table if latest is not None else None
        built = len({file.partition for file in table.files if file.partition}) if table is not None else 0
        whole, partitions = "", tuple[Touched, ...]()
        if planned[node.name].state != CACHED:
            plain = [
                need
                for need in node.needs
                if need in graph.nodes and not graph.nodes[need].incremental and planned[need].state != CACHED
            ]
            digests = {name: step.digest for name, step in planned.items()}
            feeds = {name: found[name] for name in node.needs if name in found}
            tables = {name: _latest(planner, name) for name in feeds}
            inputs = {need: digests[need] if need in graph.nodes else planner.event_digest(need) for need in node.needs}
            how = increment(planner, node, planner.workspace.parts(node, inputs), tables)
            if plain:
                whole = f"{' and '.join(plain)} may change"
            elif how.base is None:
                whole = planned[node.name].why
            elif again := [name for name, one in feeds.items() if one.whole]:
                whole = f"{' and '.join(again)} {'is' if len(again) == 1 else 'are'} built whole"
            else:
                pending = {name: [one.label for one in feed.partitions] for name, feed in feeds.items()}
                partitions = tuple(touched(how, sources, pending=pending))
                if too_many(how.base, {one.label for one in partitions}):
                    whole, partitions = "more than half of its partitions change", ()
        found[node.name] = Late(node.name, str(node.incremental), built, whole, partitions)
    return list(found.values())


def _latest(planner: Planner, name: str) -> TableDraft | None:
    latest = planner.runs.latest(name)
    return stored_of(latest).table if latest is not None else None


# -- whether it is right


class Proven(msgspec.Struct, frozen=True):
    """How partitions of a table compared with what its query gives over all that it reads. ``skipped``: why none
    were compared."""

    table: str
    snapshot: str
    partitions: int
    compared: tuple[str, ...] = ()
    unequal: tuple[Unequal, ...] = ()
    skipped: str = ""
    seed: int = 0


def prove(planner: Planner, lake: "Lake", table: str, snapshot: str, count: int, seed: int, threads: int) -> Proven:
    """Compare ``count`` partitions (0: all) of a table's snapshot, drawn by ``seed``, with the whole query."""
    from sampan.lake.cut import Builder

    node = planner.workspace.graph.nodes[table]
    assert node.incremental is not None
    how = node.incremental
    result = planner.runs.with_digest(table, snapshot)
    stored = stored_of(result) if result is not None else None
    position = position_of(planner, result) if result is not None else None
    if result is None or stored is None or stored.table is None or position is None:
        return Proven(table, snapshot, 0, skipped="what it was made of is no longer known")
    there = sorted({file.partition for file in stored.table.files if file.partition})
    recipe = msgspec.to_builtins(planner.workspace.parts(node, {}))
    if {**result.parts, "inputs": {}} != {**recipe, "inputs": {}}:
        return Proven(
            table, snapshot, len(there), skipped="its definition has changed since it was built: run it first"
        )
    inputs = result.parts["inputs"]
    types = [name for name in node.needs if name in planner.workspace.graph.events]
    if any(planner.event_digest_at(type, position) != inputs[type] for type in types):
        why = "its events, or how their contract reads them, have changed since it was built: run it first"
        return Proven(table, snapshot, len(there), skipped=why)
    sources: dict[str, Source] = {}
    for name in node.needs:
        if name in types:
            assert planner.log is not None
            sources[name] = planner.log.source(name, position)
        else:
            sources[name] = lake.source_of(lake.snapshot(inputs[name]), name)
    text = node.text(planner.workspace.folder.root)
    builder = Builder(text, sources, lake.folder, Increment(how), threads=threads, name=node.path)
    compared, unequal = builder.compare(stored.table.files, count, seed)
    return Proven(table, snapshot, len(there), compared, tuple(unequal), "", seed)
