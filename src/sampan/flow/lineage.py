"""Where something comes from, as a tree: prediction, rule, version, run, code, tables, and the raw events below.

It is read from records alone: a result's key names the digests of all that went into it, so the way back follows
what was really used, also through results that an earlier run made. What is shown once is not expanded again.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.base.clock import iso
from sampan.base.errors import NotFound
from sampan.flow.plan import stored_of
from sampan.flow.told import tell
from sampan.lake.history import MAIN
from sampan.runs.records import SCORED, Result, Run, Runs

if TYPE_CHECKING:
    from sampan.lake.lake import Lake, Snapshot
    from sampan.log.log import Log
    from sampan.log.read import StoredEvent
    from sampan.models.registry import Models

_EVENTS_SHOWN = 50
_EVENTS_TOLD = 5
_OWN_EVENTS = ("prediction", "outcome", "shadow", "review")


class Origin(msgspec.Struct, omit_defaults=True):
    """One thing and what it was made from. ``kind``: prediction, decision, version, model, table, step, check, run,
    events, event; column and field (of an event) where the way of one column is asked for. ``seen``: it is expanded
    elsewhere in the tree."""

    kind: str
    name: str
    facts: dict[str, Any] = {}
    made_from: "list[Origin]" = []
    seen: bool = False

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

    def told(self) -> list[str]:
        """What is known of it, in sentences; what its parts tell themselves is left out."""
        return [] if self.seen else tell(self.kind, {**self.facts, "name": self.name})

    def lines(self) -> list[str]:
        """The tree as text."""
        return [self.title(), *(f"{'│' if self.made_from else ' '}   {fact}" for fact in self.told()), *self._below("")]

    def title(self) -> str:
        return f"{self.kind} {self.name}{' (see above)' if self.seen else ''}"

    def _below(self, margin: str) -> list[str]:
        text = []
        few = self.made_from[:_EVENTS_TOLD] if self.kind == "events" else self.made_from
        left = self.facts.get("events", 0) - len(few) if self.kind == "events" and few else 0
        for at, one in enumerate(few, 1):
            last = at == len(few) and not left
            bar = "│" if one.made_from else " "
            inner = f"{margin}{' ' if last else '│'}  "
            text.append(f"{margin}{'└' if last else '├'}─ {one.title()}")
            text += [f"{inner}{bar}   {fact}" for fact in one.told()]
            text += one._below(inner)
        return [*text, f"{margin}└─ and {left} more"] if left else text


class Lineage:
    """Walks back through the records of a workspace."""

    def __init__(
        self,
        runs: Runs,
        lake: "Lake",
        models: "Models | None",
        log: "Log | None",
        rules: Callable[[str, str, int], dict[str, Any]] | None = None,
        by: int | None = None,
    ) -> None:
        """``rules`` says what a bundle's decision function is called and which thresholds it had; ``by``: what a name
        meant at an instant (microseconds), instead of now."""
        self._runs, self._lake, self._models, self._log = runs, lake, models, log
        self._rules, self._by = rules or (lambda bundle, endpoint, at: {}), by
        self._seen: set[str] = set()

    def of(self, name: str) -> Origin:
        """The origin of a prediction (its id), a version (``reorder@3``), a table, step or model by name, or a run.

        Raises NotFound.
        """
        self._seen = set()
        event = self._log.find(name, type="prediction") if self._log is not None else None
        return self.prediction(event) if event is not None else self.named(name)

    def named(self, name: str) -> Origin:
        """As ``of``, for what is known to be no prediction."""
        if "@" in name:
            return self.version(name)
        tables = self._tables()
        if name in tables:
            return self.result(self._made(name, tables[name].id, tables[name].key))
        latest = self._runs.latest(name, by=self._by)
        if latest is not None:
            return self.result(latest)
        run = self._run(name)
        if run is None or self._later(run.started):
            then = "" if self._by is None else f" as of {iso(self._by)}"
            raise NotFound(
                f"Find where {name[:100]!r} comes from{then}",
                f"no prediction, version, table, step or run {'has' if self._by is None else 'had'} this name",
                "`sampan log tail --type prediction`, `sampan model list`, `sampan table list` and `sampan runs list`"
                " show them.",
            )
        return self.whole(run)

    def whole(self, run: Run) -> Origin:
        """From a run to all that it gave."""
        origin = self._run_origin(run)
        steps = [one for one in self._runs.steps(run.id) if one.key]
        needed = {need for one in steps for need in one.needs}
        for one in steps:
            result = self._runs.result(one.key) if one.name not in needed else None
            if result is not None:
                origin.made_from.append(self.result(result))
        return origin

    def prediction(self, event: "StoredEvent") -> Origin:
        """From a prediction to its rule, its version, and what was known of its entity by then."""
        if self._later(event.known_at or event.received):
            raise self._unknown(f"prediction {event.id}", event.known_at or event.received)
        data = msgspec.json.decode(event.data)
        facts = {
            "prediction": data.get("prediction"),
            "entity": data.get("entity"),
            "time": iso(event.time or 0),
            "endpoint": data.get("endpoint"),
            "position": event.position,
            "features": len(data.get("features") or ()),
        }
        origin = Origin("prediction", event.id or "", facts)
        decided = {
            "rule": data.get("rule"),
            "expected": data.get("value"),
            "bundle": data.get("bundle"),
            "endpoint": data.get("endpoint"),
            **self._rules(data.get("bundle") or "", data.get("endpoint") or "", event.received),
        }
        origin.made_from.append(Origin("decision", data.get("action") or "none", decided))
        if data.get("version"):
            origin.made_from.append(self.version(data["version"]))
        table, _, snapshot = str(data.get("looked_up") or "").partition(" ")
        if snapshot:
            with suppress(NotFound):
                origin.made_from.append(self.result(self._made(table, snapshot, None)))
        origin.made_from.append(self._entity(data.get("entity") or "", event))
        return origin

    def version(self, ref: str) -> Origin:
        """From a version to the result that it is, and on from there."""
        if self._models is None:
            raise NotFound(f"Find version {ref}", "there are no models")
        version = self._models.get(ref)
        if self._later(version.created):
            raise self._unknown(f"version {version.ref}", version.created)
        facts = {
            "kind": version.kind,
            "format": version.format,
            "digest": version.digest,
            "metrics": version.metrics,
        }
        result = self._runs.result(version.key) if version.key else None
        return Origin("version", version.ref, facts, [self.result(result)] if result is not None else [])

    def result(self, result: Result) -> Origin:
        """From one result to its run, its code and its inputs."""
        parts = result.parts
        kind, _, name = str(parts.get("node", f"step {result.step}")).partition(" ")
        facts: dict[str, Any] = {"digest": result.digest}
        stored = stored_of(result)
        if stored.table is not None:
            facts.update(snapshot=stored.table.id, rows=stored.table.rows)
        if result.key in self._seen:
            return Origin(kind, name, facts, seen=True)
        self._seen.add(result.key)
        facts.update(
            run=result.run,
            key=result.key,
            code=parts.get("code", {}),
            parameters=parts.get("parameters", {}),
            files=parts.get("files", {}),
        )
        origin = Origin(kind, name, facts)
        run = self._run(result.run)
        if run is not None and run.id not in self._seen:
            origin.made_from.append(self._run_origin(run))
        for needed, digest in parts.get("inputs", {}).items():
            origin.made_from.append(self._input(needed, digest, run))
        if SCORED in parts:
            origin.made_from.append(self.version(parts["parameters"]["version"]))
        return origin

    # -- within

    def _tables(self) -> "dict[str, Snapshot]":
        """Main's tables; none before its first commit."""
        try:
            return self._lake.tables(self._lake.ref_at(MAIN, self._by))
        except NotFound:
            return {}

    def _later(self, made: int) -> bool:
        return self._by is not None and made > self._by

    def _unknown(self, what: str, made: int) -> NotFound:
        attempted = f"Find where {what} comes from as of {iso(self._by or 0)}"
        return NotFound(attempted, f"it was made at {iso(made)}", "Choose a later time, or leave it out.")

    def _input(self, name: str, digest: str, run: Run | None) -> Origin:
        events = run.manifest.get("inputs", {}) if run is not None else {}
        if run is not None and name in events:
            facts = {
                "events": events[name]["count"],
                "digest": events[name]["digest"],
                "position": run.position,
                "root": run.root,
            }
            seen = f"events {name} {run.position}" in self._seen
            self._seen.add(f"events {name} {run.position}")
            return Origin("events", name, facts, seen=seen)
        used = run.manifest.get("steps", {}).get(name, {}) if run is not None else {}
        return self.result(self._made(name, digest, used.get("key") if used.get("output") == digest else None))

    def _made(self, name: str, digest: str, key: str | None) -> Result:
        found = self._runs.result(key) if key else None
        found = found or self._runs.with_digest(name, digest)
        if found is None:
            raise NotFound(
                f"Find where {name} comes from", f"no record of the result {digest}", "Run the flow to make it again."
            )
        return found

    def _run(self, id: str) -> Run | None:
        try:
            return self._runs.get(id)
        except NotFound:
            return None

    def _run_origin(self, run: Run) -> Origin:
        self._seen.add(run.id)
        facts = {
            "state": run.state,
            "by": run.actor,
            "started": iso(run.started),
            "commit": run.commit_id,
            "git": run.git,
            "patch": run.manifest.get("patch"),
            "position": run.position,
            "root": run.root,
            **{name: run.manifest.get(name) for name in ("python", "sampan", "os", "cpu")},
            "mixed": run.manifest.get("mixed") or None,
        }
        return Origin("run", run.id, facts)

    def _entity(self, entity: str, event: "StoredEvent") -> Origin:
        """The raw events of an entity that were known when the prediction was made, the newest ones."""
        time = event.time or event.received
        origin = Origin("events", f"of {entity or 'nobody'}", {"entity": entity, "known_by": iso(time)})
        if self._log is None or not entity:
            return origin
        found = self._log.events(subject=entity, known_by=time, newest_first=True, limit=_EVENTS_SHOWN * 4)
        known = [one for one in found if one.type not in _OWN_EVENTS]
        for one in known[:_EVENTS_SHOWN]:
            data = msgspec.json.decode(one.data) if one.data else None
            facts = {"time": iso(one.time or 0), "position": one.position, "data": data}
            origin.made_from.append(Origin(one.type or "event", one.id or "", facts))
        origin.facts["events"] = len(known)
        origin.facts["more"] = len(found) == _EVENTS_SHOWN * 4
        return origin
