"""The flow of a workspace: its tables, steps, models and checks, and what each needs.

Made from source alone. Names are one space: a table, a step, a model, a check and a type of event may not share one.
"""

import heapq
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.errors import BadQuery, BadStep, BadWorkspace, NotFound
from sampan.base.ids import is_name
from sampan.flow.queries import Queries, Query
from sampan.flow.reach import Modules
from sampan.flow.source import EVENT, Parameter
from sampan.lake.partition import Partitioning

TABLE: Final = "table"
STEP: Final = "step"
MODEL: Final = "model"
CHECK: Final = "check"
BUILTIN_EVENTS: Final = ("prediction", "outcome", "shadow", "review")
_NOT_STEPS: Final = frozenset({"contracts", "decisions"})


class Node(msgspec.Struct, frozen=True):
    """One table, step, model or check."""

    name: str
    kind: str
    path: str
    line: int
    needs: tuple[str, ...]
    module: str = ""
    """Empty for SQL."""
    query: Query | None = None
    parameters: tuple[Parameter, ...] = ()
    options: dict[str, Any] = {}
    returns: str = ""
    sql: str = ""
    """The query, where the file at ``path`` is not one but makes it, as a dbt model's does."""

    def text(self, root: Path) -> str:
        """The query of a node that is one. ``root``: the workspace."""
        return self.sql or (root / self.path).read_text("utf-8-sig", "replace")

    @property
    def warns(self) -> bool:
        """Whether this is a check that holds nothing back when it fails."""
        return self.kind == CHECK and self.options.get("severity") == "warn"

    @property
    def each(self) -> str:
        return str(self.options.get("each") or "")

    @property
    def incremental(self) -> Partitioning | None:
        """How a table is cut that is built bit by bit."""
        return self.query.incremental if self.query else None

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}" if self.module else self.path


class Graph(msgspec.Struct, frozen=True):
    nodes: dict[str, Node]
    """In an order in which every node follows what it needs."""
    events: dict[str, str]
    """Type of event to the class in contracts.py; empty for a built-in one."""

    def select(self, target: str | None) -> list[str]:
        """The nodes to bring up to date: all, or a target with what it needs and the checks of these.

        Raises NotFound for a target that is not there.
        """
        if target is None:
            return list(self.nodes)
        if target not in self.nodes:
            raise NotFound(
                f"Run {target}", f"no table, step, model or check {target!r}", did_you_mean(target, self.nodes)
            )
        wanted = self.ancestors(target) | {target}
        for node in self.nodes.values():
            if node.kind == CHECK and all(name in wanted or name in self.events for name in node.needs):
                wanted.add(node.name)
        return [name for name in self.nodes if name in wanted]

    def ancestors(self, name: str) -> set[str]:
        """All nodes that a node needs, directly or not."""
        found: set[str] = set()
        todo = [name]
        while todo:
            for needed in self.nodes[todo.pop()].needs:
                if needed in self.nodes and needed not in found:
                    found.add(needed)
                    todo.append(needed)
        return found

    def dependants(self, name: str) -> list[Node]:
        """All nodes that need a name (of a node or of a type of event), directly or not, in the flow's order."""
        found = {name: None}
        below = []
        for node in self.nodes.values():
            if not found.keys().isdisjoint(node.needs):
                found[node.name] = None
                below.append(node)
        return below

    def gates(self, selected: Iterable[str]) -> dict[str, set[str]]:
        """The checks that each node waits for: those of its inputs, unless the check itself needs the node.

        Where two checks would wait for each other's inputs, the second by name does not hold back.
        """
        chosen = set(selected)
        above = {name: self.ancestors(name) for name in chosen}
        gates: dict[str, set[str]] = {name: set() for name in chosen}
        after: dict[str, set[str]] = {name: set(above[name]) for name in chosen}
        for name in sorted(chosen):
            check = self.nodes[name]
            if check.kind != CHECK:
                continue
            for other in sorted(chosen):
                node = self.nodes[other]
                if node.kind == CHECK or not set(node.needs) & set(check.needs) or other in above[name]:
                    continue
                if other in after[name]:
                    continue
                gates[other].add(name)
                for later in chosen:
                    if later == other or other in after[later]:
                        after[later] |= {name} | after[name]
        return gates


def build_graph(root: Path, modules: Modules, queries: Queries, others: Iterable[Node] = ()) -> Graph:
    """Read the whole flow. ``others``: nodes that neither its SQL files nor its modules declare.

    Raises BadStep or BadQuery for a name used twice, an unknown dependency or a cycle.
    """
    events = _events(modules)
    nodes: dict[str, Node] = {}
    for node in [
        *_sql(root, "tables", TABLE, queries),
        *_sql(root, "checks", CHECK, queries),
        *_python(modules),
        *others,
    ]:
        if node.name in nodes:
            raise BadStep(
                f"Read {node.where}",
                f"the name {node.name!r} is taken by {nodes[node.name].where}",
                "Give one of them another name.",
            )
        if node.name in events:
            raise BadStep(
                f"Read {node.where}", f"the name {node.name!r} is that of a type of event", "Give it another name."
            )
        nodes[node.name] = node
    nodes = {name: _linked(node, nodes, events) for name, node in nodes.items()}
    for node in nodes.values():
        if node.incremental and not any(need in events or nodes[need].incremental for need in node.needs):
            raise BadQuery(
                f"Read {node.path}",
                "it is declared incremental, and reads neither events nor a table that is",
                "Leave the line `-- incremental:` out: it is built anew when one of its inputs changes.",
            )
    return Graph(_ordered(nodes), events)


def _events(modules: Modules) -> dict[str, str]:
    events = dict.fromkeys(BUILTIN_EVENTS, "")
    contracts = modules.get("contracts")
    if contracts is None:
        return events
    newest: dict[str, int] = {}
    for one in contracts.facts.classes:
        if one.version >= newest.get(one.type, 0) and _is_event(modules, "contracts", one.name, set()):
            newest[one.type] = one.version
            events[one.type] = one.name
    return events


def _is_event(modules: Modules, module: str, name: str, seen: set[tuple[str, str]]) -> bool:
    """Whether a name of a module is an event: a class that is made from one, in this module or another."""
    found = modules.get(module)
    if found is None or (module, name) in seen:
        return False
    seen.add((module, name))
    known = {one.name: one.bases for one in found.facts.classes}
    leads = known.get(name) or (found.facts.renamed.get(name, ""),)
    imported = [f"{one.module}.{one.attribute}" for one in found.facts.aliases.get(name, ()) if one.attribute]
    for dotted in (*leads, *imported):
        if dotted in EVENT:
            return True
        home, _, own = dotted.lstrip(".").rpartition(".")
        if _is_event(modules, home or module, own, seen):
            return True
    return False


def _sql(root: Path, folder: str, kind: str, queries: Queries) -> list[Node]:
    found = []
    for path in sorted((root / folder).glob("*.sql")):
        shown = f"{folder}/{path.name}"
        if not is_name(path.stem):
            raise BadWorkspace(
                f"Read {shown}", f"{path.stem!r} cannot name a {kind}", "Use letters a to z, digits and underscores."
            )
        query = queries.read(path, shown)
        if query.incremental and kind == CHECK:
            raise BadQuery(f"Read {shown}", "a check is not built bit by bit", "Leave the line `-- incremental:` out.")
        options = {"incremental": str(query.incremental)} if query.incremental else {}
        found.append(Node(path.stem, kind, shown, 1, tuple(query.depends), query=query, options=options))
    return found


def _python(modules: Modules) -> list[Node]:
    found = []
    for module in modules:
        for one in module.facts.definitions:
            where = f"Read {module.path}:{one.line}"
            if module.name in _NOT_STEPS:
                raise BadStep(where, f"{module.path} declares no {one.kind}s", "Move it to a module of its own.")
            if not is_name(one.name):
                raise BadStep(
                    where, f"{one.name!r} cannot name a {one.kind}", "Use letters a to z, digits and underscores."
                )
            needs = tuple(p.name for p in one.parameters if not p.has_default)
            found.append(
                Node(
                    one.name,
                    one.kind,
                    module.path,
                    one.line,
                    needs,
                    module.name,
                    None,
                    one.parameters,
                    one.options,
                    one.returns,
                )
            )
    return found


def _linked(node: Node, nodes: dict[str, Node], events: dict[str, str]) -> Node:
    known = {*nodes, *events}
    needs = list(dict.fromkeys(node.needs))
    if node.each and node.each not in known:
        needs = [name for name in needs if name != node.each]  # a column of the tables that arrive
        if not needs:
            raise BadStep(
                f"Read {node.where}",
                f"each={node.each!r} names neither a dependency nor a column: {node.name!r} has no table to look in",
                did_you_mean(node.each, known),
            )
    elif node.each and node.each not in needs:
        needs.append(node.each)
    for name in needs:
        if name in nodes and nodes[name].kind == CHECK:
            raise BadStep(
                f"Read {node.where}",
                f"{node.name!r} needs the check {name!r}, and a check has no result",
                "Whatever needs a table waits for its checks anyway.",
            )
        if name in known:
            continue
        said = "named in its FROM" if node.query else "one of its parameters"
        raise BadStep(
            f"Read {node.where}",
            f"{node.name!r} needs {name!r} ({said}), and there is no such table, step, model or type of event",
            did_you_mean(name, known)
            or (
                f"Write tables/{name}.sql, or a contract of that name."
                if node.query
                else "A parameter that is no dependency needs a default value."
            ),
        )
    return msgspec.structs.replace(node, needs=tuple(needs))


def _ordered(nodes: dict[str, Node]) -> dict[str, Node]:
    waits = {name: {need for need in node.needs if need in nodes} for name, node in nodes.items()}
    dependants: dict[str, list[str]] = {}
    for name, needs in waits.items():
        for need in needs:
            dependants.setdefault(need, []).append(name)
    ready = [name for name, needs in waits.items() if not needs]
    heapq.heapify(ready)
    ordered: dict[str, Node] = {}
    while ready:
        name = heapq.heappop(ready)
        ordered[name] = nodes[name]
        for other in dependants.get(name, ()):
            waits[other].discard(name)
            if not waits[other]:
                heapq.heappush(ready, other)
    if len(ordered) < len(nodes):
        cycle = _cycle({name: needs for name, needs in waits.items() if needs})
        shown = " → ".join(f"{name} ({nodes[name].where})" for name in cycle)
        raise BadStep("Read the flow", f"a cycle: {shown}", "One of them must not need the next.")
    return ordered


def _cycle(waits: dict[str, set[str]]) -> list[str]:
    path = [min(waits)]
    while True:
        following = min(need for need in waits[path[-1]] if need in waits)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint with the nearest names; empty where none is near."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), 3, 0.6)
    return f"Did you mean {' or '.join(near)}?" if near else ""
