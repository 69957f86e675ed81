"""Where a column comes from and what it reaches: from fields of events through tables to models, endpoints and rules.

It is read from the workspace as it stands: queries by ``sampan.lake.columns``, a Python step as one that may read every
column of its tables, a model by the features of its newest version, rules by the fields that they name.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from sampan.base.errors import NotFound
from sampan.base.words import some
from sampan.flow.column_cache import ColumnCache
from sampan.flow.graph import CHECK, MODEL, STEP, TABLE, Node, did_you_mean
from sampan.flow.lineage import Origin
from sampan.flow.rules import Rule, read_rules
from sampan.flow.workspace import Workspace
from sampan.lake.facts import ColumnFact, Ref

ALL: Final = "*"
VALUE: Final = "value"
ROWS: Final = "rows"


class Reached(msgspec.Struct, frozen=True):
    """Something that a column reaches. ``kind``: table, step, check, model, endpoint, rule; ``how``: its ``value`` is
    made of it, or only its ``rows`` are decided by it; ``columns`` are those of a table that are meant; ``via`` names
    what it reads to which the same is true."""

    name: str
    kind: str
    how: str
    columns: tuple[str, ...] = ()
    path: str = ""
    via: tuple[str, ...] = ()


class Columns:
    """The columns of one workspace. ``events``: fields of each type; ``fields``: columns of a table's newest state;
    ``features``: inputs of a model's newest version; ``endpoints``: name to version."""

    def __init__(
        self,
        workspace: Workspace,
        events: Mapping[str, Sequence[str]],
        fields: Callable[[str], Sequence[str] | None],
        features: Callable[[str], Sequence[str] | None],
        endpoints: Mapping[str, str],
    ) -> None:
        self._nodes, self._root = workspace.graph.nodes, workspace.folder.root
        self._events = {type: tuple(events.get(type, ())) for type in workspace.graph.events}
        self._fields, self._features, self._endpoints = fields, features, endpoints
        self.rules: list[Rule] = read_rules(self._root / "decisions.py")
        self._facts: dict[str, dict[str, ColumnFact]] = {}
        self._whole: dict[str, str] = {}
        version = workspace.packages.version("sqlglot")
        cache = ColumnCache(workspace.folder.data / "cache" / "source" / "columns", f"sqlglot {version}")
        for node in self._nodes.values():
            self._facts[node.name] = self._read(node, cache)
        cache.save()

    # -- facts

    def __contains__(self, name: object) -> bool:
        return name in self._facts

    def names(self, name: str) -> list[str] | None:
        """The columns of a table, or fields of a type of event; None where they are not known."""
        if name in self._events:
            return list(self._events[name])
        found = [one for one in self._facts.get(name, {}) if one != ALL]
        return found or None

    def whole(self, name: str) -> str:
        """Why the columns of something cannot be told apart; empty if they can."""
        return self._whole.get(name, "")

    def fact(self, name: str, column: str) -> ColumnFact:
        """What one column is made of, directly. A field of an event is made of nothing."""
        if name in self._events:
            return ColumnFact(column)
        facts = self._facts[name]
        return facts.get(column) or facts.get(ALL) or self._everything(self._nodes[name], (column,))[column]

    def _read(self, node: Node, cache: ColumnCache) -> dict[str, ColumnFact]:
        if node.query is None:
            return self._of_python(node)
        text = node.text(self._root)
        facts = cache.read(text, {need: self.names(need) for need in node.needs})
        known = self._fields(node.name) if node.kind == TABLE else None
        if facts.whole:
            self._whole[node.name] = facts.whole
            return self._everything(node, known)
        names = [one.name for one in facts.columns]
        if known is not None and not all(one.named for one in facts.columns):  # only the engine knows their names
            if len(known) != len(names):
                self._whole[node.name] = "it has columns that the text does not name"
                return self._everything(node, known)
            names = [one.name if one.named else name for one, name in zip(facts.columns, known, strict=True)]
        found = {
            name: ColumnFact(name, self._spread(one.of), self._spread(one.by))
            for name, one in zip(names, facts.columns, strict=True)
        }
        if node.kind == CHECK:
            of = {ref for one in found.values() for ref in one.of}
            by = {ref for one in found.values() for ref in one.by}
            return {ALL: ColumnFact(ALL, tuple(sorted(of)), tuple(sorted({*by, *self._spread(facts.rows)})))}
        return found

    def _of_python(self, node: Node) -> dict[str, ColumnFact]:
        if node.kind == MODEL and (features := self._features(node.name)):
            wanted = {*features, str(node.options.get("target") or "")}
            of = [ref for ref in self._inputs(node) if ref[1] in wanted]
            if {ref[1] for ref in of} >= set(features):  # else it makes features of its own
                return {ALL: ColumnFact(ALL, tuple(of))}
        self._whole[node.name] = "it is Python, which may read every column that it is given"
        return self._everything(node, self._fields(node.name) if node.kind not in (MODEL, CHECK) else None)

    def _everything(self, node: Node, known: Sequence[str] | None) -> dict[str, ColumnFact]:
        of = tuple(self._inputs(node))
        return {name: ColumnFact(name, of, of if node.query else ()) for name in (*(known or ()), ALL)}

    def _inputs(self, node: Node) -> Iterable[Ref]:
        for need in node.needs:
            yield from ((need, one) for one in self.names(need) or (ALL,))

    def _spread(self, refs: Iterable[Ref]) -> tuple[Ref, ...]:
        """The same with a star as the columns that it stands for, as far as they are known."""
        return tuple(
            sorted(
                {
                    (name, one)
                    for name, column in refs
                    for one in ((self.names(name) or (ALL,)) if column == ALL else (column,))
                }
            )
        )

    # -- ways

    def ref(self, name: str, column: str) -> Ref:
        """A column as it is written in the workspace, whatever its case. Raises NotFound."""
        attempted = f"Find column {column!r} of {name}"
        if name not in self._events and name not in self._nodes:
            raise NotFound(
                attempted,
                f"no table or type of event {name!r}",
                did_you_mean(name, (*self._nodes, *self._events)) or "See `sampan table list`, `sampan contract list`.",
            )
        known = self.names(name)
        if known is None:
            if self._nodes[name].kind in (CHECK, MODEL):
                kind = self._nodes[name].kind
                raise NotFound(attempted, f"it is a {kind}, which has no columns", "Name a table or a type of event.")
            why = f"its columns are not known{f': {self.whole(name)}' if self.whole(name) else ''}"
            raise NotFound(attempted, why, "Run the flow (`sampan run`): they are known once it was made.")
        lower = {one.lower(): one for one in known}
        if column.lower() in lower:
            return name, lower[column.lower()]
        fields = self._fields(name) if name in self._nodes else None
        if column in (fields or ()):  # the text does not tell of it, the engine knew it
            return name, column
        listed = ", ".join(known[:20]) + (" …" if len(known) > 20 else "")
        raise NotFound(attempted, "it has none of that name", did_you_mean(column, known) or f"It has: {listed}.")

    def origin(self, name: str, column: str) -> Origin:
        """The way back from a column to fields of events, and what it reaches. Raises NotFound."""
        ref = self.ref(name, column)
        of, by = self.fields_of(ref)
        found = self._origin(ref, set())
        found.facts.update(
            fields=[shown(one) for one in of],
            deciding=[shown(one) for one in by if one not in of],
            reaches=[msgspec.to_builtins(one) for one in self.reached([ref])],
        )
        return found

    def fields_of(self, ref: Ref) -> tuple[list[Ref], list[Ref]]:
        """The fields of events that a column is made of, and those that decide about its rows."""
        of = self._above({ref}, lambda fact: fact.of)
        every = self._above({ref}, lambda fact: (*fact.of, *fact.by))
        return _events_of(of, self._events), _events_of(every, self._events)

    def _above(self, start: set[Ref], of: Callable[[ColumnFact], Iterable[Ref]]) -> set[Ref]:
        found, todo = set(start), list(start)
        while todo:
            for ref in of(self.fact(*todo.pop())):
                if ref not in found:
                    found.add(ref)
                    todo.append(ref)
        return found

    def _origin(self, ref: Ref, seen: set[Ref]) -> Origin:
        name, column = ref
        if name in self._events:
            return Origin("field", shown(ref), {"table": name, "column": column})
        node, fact = self._nodes[name], self.fact(*ref)
        facts: dict[str, Any] = {
            "table": name,
            "column": column,
            "path": node.where,
            "whole": self.whole(name),
            "by": [],
        }
        origin = Origin("column", shown(ref), facts)
        facts["by"] = [shown(one) for one in fact.by]
        if ref in seen:
            origin.seen = True
            return origin
        seen.add(ref)
        origin.made_from = [self._origin(one, seen) for one in fact.of]
        return origin

    def reached(self, start: Iterable[Ref]) -> list[Reached]:
        """Everything that columns reach, in the flow's order; what is made of their values first."""
        how: dict[Ref, str] = dict.fromkeys(start, VALUE)
        found: list[Reached] = []
        for node in self._nodes.values():
            columns: dict[str, list[str]] = {VALUE: [], ROWS: []}
            via: dict[str, dict[str, None]] = {VALUE: {}, ROWS: {}}
            for column, fact in self._facts[node.name].items():
                ref = (node.name, column)
                reached = self._how(fact, how)
                if ref in how or not reached:
                    continue
                how[ref] = reached
                columns[reached].append(column)
                via[reached] |= dict.fromkeys(self._via(fact, how, reached))
            for kind, names in columns.items():
                named = tuple(one for one in names if one != ALL)
                if names:
                    found.append(Reached(node.name, node.kind, kind, named, node.where, tuple(via[kind])))
        return [*found, *self._served(how)]

    def _how(self, fact: ColumnFact, how: Mapping[Ref, str]) -> str:
        if any(self._at(ref, how) == VALUE for ref in fact.of):
            return VALUE
        return ROWS if any(self._at(ref, how) for ref in (*fact.of, *fact.by)) else ""

    def _via(self, fact: ColumnFact, how: Mapping[Ref, str], reached: str) -> list[str]:
        refs = fact.of if reached == VALUE else (*fact.of, *fact.by)
        return [ref[0] for ref in refs if self._at(ref, how) in ((VALUE,) if reached == VALUE else (VALUE, ROWS))]

    def _at(self, ref: Ref, how: Mapping[Ref, str]) -> str:
        """How a column is reached; one that its source does not tell of is reached with the whole of it."""
        told = ref[0] in self._events or ref[1] in self._facts[ref[0]]
        return how.get(ref) or ("" if told else how.get((ref[0], ALL), ""))

    def _served(self, how: Mapping[Ref, str]) -> list[Reached]:
        """Endpoints that serve a model that was reached, and rules that stand behind one or read a column by name."""
        models = {name: how[name, ALL] for name in self._nodes if (name, ALL) in how and self._is_model(name)}
        found = []
        for name, version in self._endpoints.items():
            if (reached := models.get(version.partition("@")[0])) is not None:
                found.append(Reached(name, "endpoint", reached, via=(version.partition("@")[0],)))
        for rule in self.rules:
            ways = {rule.model: models[rule.model]} if rule.model in models else {}
            if rule.model in self._nodes:
                for ref in self._inputs(self._nodes[rule.model]):
                    if ref in how and (rule.whole or ref[1] in rule.reads) and ways.get(ref[0]) != VALUE:
                        ways[ref[0]] = how[ref]
            if ways:
                way = VALUE if VALUE in ways.values() else ROWS
                via = tuple(name for name, one in ways.items() if one == way)
                found.append(Reached(rule.name, "rule", way, (), f"decisions.py:{rule.line}", via))
        return found

    def _is_model(self, name: str) -> bool:
        return self._nodes[name].kind == MODEL


def sentences(reached: Sequence[Reached]) -> list[str]:
    """What is reached, in a few sentences: columns, then what is decided with them, then whose rows alone."""
    values = [one for one in reached if one.how == VALUE]
    into = [f"{one.name}.{column}" for one in values for column in one.columns]
    hit = [f"{one.kind} {one.name}" for one in values if not one.columns]
    whole = {one.name for one in values}
    rows = [_named(one) for one in reached if one.how == ROWS and one.name not in whole]
    return [
        *([f"goes into {some(into, 6)}"] if into else []),
        *([f"hits {', '.join(hit)}"] if hit else []),
        *([f"decides about rows of {some(rows, 6)}"] if rows else []),
    ]


def brief(reached: Sequence[Reached]) -> str:
    """What is reached, in one line: how many columns and checks, and what is decided with them by name."""
    values = [one for one in reached if one.how == VALUE]
    tables = [one for one in values if one.columns]
    many = sum(len(one.columns) for one in tables)
    checks = sum(one.kind == CHECK for one in values)
    named = [f"{one.kind} {one.name}" for one in values if not one.columns and one.kind != CHECK]
    said = [
        *([f"{many} column{_s(many)} of {len(tables)} table{_s(len(tables))}"] if tables else []),
        *named,
        *([f"{checks} check{_s(checks)}"] if checks else []),
    ]
    rows = [_named(one) for one in reached if one.kind != CHECK]
    return ", ".join(said) or (f"only rows, of {some(rows, 6)}" if rows else "")


def _named(one: Reached) -> str:
    return one.name if one.kind in (TABLE, STEP) else f"{one.kind} {one.name}"


def _s(number: int) -> str:
    return "" if number == 1 else "s"


def shown(ref: Ref) -> str:
    """A column with its source: ``orders.goods``."""
    return ref[0] if ref[1] == ALL else ".".join(ref)


def _events_of(refs: Iterable[Ref], events: Mapping[str, Any]) -> list[Ref]:
    return sorted(ref for ref in refs if ref[0] in events)
