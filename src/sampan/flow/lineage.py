"""Where something comes from, as a tree: prediction, rule, version, run, code, tables, and the raw events below.

It is read from records alone: a result's key names the digests of all that went into it, so the way back follows
what was really used, also through results that an earlier run made. What is shown once is not expanded again.
"""

from typing import TYPE_CHECKING, Any

import msgspec

from sampan.base.clock import iso
from sampan.base.errors import NotFound
from sampan.flow.plan import stored_of
from sampan.runs.records import Result, Run, Runs

if TYPE_CHECKING:
    from sampan.lake.lake import Lake
    from sampan.log.log import Log
    from sampan.log.read import StoredEvent
    from sampan.models.registry import Models

_EVENTS_SHOWN = 50
_OWN_EVENTS = ("prediction", "outcome")


class Origin(msgspec.Struct, omit_defaults=True):
    """One thing and what it was made from. ``kind``: prediction, decision, version, model, table, step, check, run,
    events, event. ``seen``: it is expanded elsewhere in the tree."""

    kind: str
    name: str
    facts: dict[str, Any] = {}
    made_from: "list[Origin]" = []
    seen: bool = False

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

    def lines(self, indent: str = "") -> list[str]:
        """The tree as text, one line per thing."""
        facts = ", ".join(
            f"{name} {_short(value)}" for name, value in self.facts.items() if value not in (None, "", {})
        )
        more = " (see above)" if self.seen else ""
        text = [f"{indent}{self.kind} {self.name}{': ' if facts else ''}{facts}{more}"]
        for one in self.made_from:
            text += one.lines(indent + "  ")
        return text


class Lineage:
    """Walks back through the records of a workspace."""

    def __init__(self, runs: Runs, lake: "Lake", models: "Models | None", log: "Log | None") -> None:
        self._runs, self._lake, self._models, self._log = runs, lake, models, log
        self._seen: set[str] = set()

    def of(self, name: str) -> Origin:
        """The origin of a prediction (its id), a version (``reorder@3``), a table, a step or a model by name.

        Raises NotFound.
        """
        self._seen = set()
        event = self._log.find(name, type="prediction") if self._log is not None else None
        if event is not None:
            return self.prediction(event)
        if "@" in name:
            return self.version(name)
        tables = self._lake.tables()
        if name in tables:
            return self.result(self._made(name, tables[name].id, tables[name].key))
        latest = self._runs.latest(name)
        if latest is None:
            raise NotFound(
                f"Find where {name} comes from",
                "it is no prediction, version, table or step with a result",
                "Give a prediction's id, MODEL@NUMBER, or the name of a table or step.",
            )
        return self.result(latest)

    def prediction(self, event: "StoredEvent") -> Origin:
        """From a prediction to its rule, its version, and what was known of its entity by then."""
        data = msgspec.json.decode(event.data)
        facts = {
            "prediction": data.get("prediction"),
            "entity": data.get("entity"),
            "time": iso(event.time or 0),
            "endpoint": data.get("endpoint"),
            "position": event.position,
        }
        origin = Origin("prediction", event.id or "", facts)
        decided = {"rule": data.get("rule"), "bundle": data.get("bundle"), "expected": data.get("value")}
        origin.made_from.append(Origin("decision", data.get("action") or "none", decided))
        if data.get("version"):
            origin.made_from.append(self.version(data["version"]))
        origin.made_from.append(self._entity(data.get("entity") or "", event))
        return origin

    def version(self, ref: str) -> Origin:
        """From a version to the result that it is, and on from there."""
        if self._models is None:
            raise NotFound(f"Find version {ref}", "there are no models")
        version = self._models.get(ref)
        facts = {"format": version.format, "digest": version.digest, "metrics": version.metrics}
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
            key=result.key,
            code=parts.get("code", {}),
            parameters=parts.get("parameters", {}),
            files=parts.get("files", {}),
        )
        origin = Origin(kind, name, facts)
        run = self._run(result.run)
        if run is not None:
            origin.made_from.append(self._run_origin(run))
        for needed, digest in parts.get("inputs", {}).items():
            origin.made_from.append(self._input(needed, digest, run))
        return origin

    # -- within

    def _input(self, name: str, digest: str, run: Run | None) -> Origin:
        events = run.manifest.get("inputs", {}) if run is not None else {}
        if run is not None and name in events:
            facts = {"events": events[name]["count"], "digest": events[name]["digest"], "position": run.position}
            return Origin("events", name, facts)
        return self.result(self._made(name, digest, None))

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
        if run.id in self._seen:
            return Origin("run", run.id, {"git": run.git}, seen=True)
        self._seen.add(run.id)
        facts = {
            "git": run.git,
            "patch": run.manifest.get("patch"),
            "by": run.actor,
            "started": iso(run.started),
            "position": run.position,
            "root": run.root,
            "commit": run.commit_id,
            "python": run.manifest.get("python"),
            "mixed": run.manifest.get("mixed") or None,
        }
        return Origin("run", run.id, facts)

    def _entity(self, entity: str, event: "StoredEvent") -> Origin:
        """The raw events of an entity that were known when the prediction was made, the newest ones."""
        origin = Origin("events", f"of {entity or 'nobody'}", {"known by": iso(event.time or 0)})
        if self._log is None or not entity:
            return origin
        known = [
            one
            for one in self._log.events(subject=entity, newest_first=True, limit=_EVENTS_SHOWN * 4)
            if one.type not in _OWN_EVENTS and (one.known_at or one.received) <= (event.time or event.received)
        ]
        for one in known[:_EVENTS_SHOWN]:
            data = msgspec.json.decode(one.data) if one.data else None
            facts = {"time": iso(one.time or 0), "position": one.position, "data": data}
            origin.made_from.append(Origin(one.type or "event", one.id or "", facts))
        origin.facts["events"] = len(known)
        return origin


def _short(value: Any) -> str:
    if isinstance(value, str):
        return value[:24]
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_short(one)}" for name, one in list(value.items())[:6]) + "}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
