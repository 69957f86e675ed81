"""From an object back to the raw events: prediction, rule, version, run, code, tables, log position."""

from typing import Any
from urllib.parse import quote

import msgspec

from sampan.base.clock import iso
from sampan.base.errors import NotFound
from sampan.hub.parts import Parts, Query
from sampan.hub.views import serving
from sampan.hub.views.events import MOST, about
from sampan.runs.records import Runs


class Link(msgspec.Struct):
    """One thing on the way back. ``facts`` are sentences about it, ``address`` its page."""

    kind: str
    name: str
    facts: list[str]
    address: str = ""


class Lineage(msgspec.Struct):
    """Context of ``lineage.html``. Each link was made from the next."""

    object: str
    chain: list[Link]


def lineage(parts: Parts, query: Query) -> Lineage:
    """Walk back from a prediction's id, a version (``MODEL@N``), a run or a table."""
    name = query["object"]
    for walk in (_prediction, _version, _table, _run):
        chain = walk(parts, name)
        if chain:
            return Lineage(name, chain)
    raise NotFound(
        f"Walk back from {name[:100]!r}",
        "no prediction, version, table or run has this name",
        "`sampan log tail --type prediction`, `sampan model list`, `sampan table list`, `sampan runs list` show them.",
    )


def _prediction(parts: Parts, id: str) -> list[Link]:
    try:
        found = serving.prediction(parts, {"prediction": id})
    except NotFound:
        return []
    said = f"{found.prediction:.4g}" if isinstance(found.prediction, float) else str(found.prediction)
    facts = [
        f"said {said} about {found.entity or 'nobody'} at {iso(found.time)}",
        f"event {found.position}, {len(found.features)} features kept with it",
    ]
    if found.outcome is not None:
        facts.append(f"it turned out: {found.outcome}")
    chain = [Link("prediction", found.id, facts, f"/predictions/{found.id}")]
    if found.action:
        worth = (found.value or {}).get("expected")
        money = f"expected {worth:.2f} {found.value.get('currency', '')}".rstrip() if worth is not None else ""
        rule = [f"rule: {found.rule}", *([money] if money else []), *_rules(parts, found.bundle)]
        chain.append(Link("decision", found.action, rule, "/endpoints"))
    return [*chain, *_version(parts, found.version), *_about(parts, found.entity, found.time)]


def _about(parts: Parts, entity: str, until: int) -> list[Link]:
    """The events of whom a prediction is about, as they were known when it was asked for."""
    found = about(parts, entity, until=until) if entity else []
    if not found:
        return []
    shown = [f"{one.type} {one.id}, {iso(one.time or 0)}, at {one.position}" for one in found[:5]]
    more = [f"and {len(found) - 5:,} more" if len(found) < MOST else "and more"] if len(found) > 5 else []
    return [Link("events about", entity, [*shown, *more], f"/log?subject={quote(entity)}")]


def _rules(parts: Parts, bundle: str) -> list[str]:
    """The thresholds and the frozen source of a bundle's rules."""
    from sampan.serve.bundle import decode

    facts = [f"bundle {bundle}"]
    try:
        opened = decode(parts.models.blobs.get(bundle))
    except NotFound:
        return facts
    if opened.decision is not None:
        given = ", ".join(f"{name} = {value}" for name, value in opened.decision.thresholds.items())
        facts.append(f"decisions.py: {opened.decision.name}({given})")
    return facts


def _version(parts: Parts, ref: str) -> list[Link]:
    try:
        found = parts.models.get(ref)
    except NotFound:
        return []
    plain = {n: v for n, v in found.metrics.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    facts = [f"{found.kind} model, {found.format}, content {found.digest}"]
    if plain:
        facts.append(", ".join(f"{name} {value:.4g}" for name, value in list(plain.items())[:6]))
    link = Link("version", found.ref, facts, f"/models/{found.model}/{found.number}")
    return [link, *_run(parts, found.run or "", found.model)]


def _table(parts: Parts, name: str) -> list[Link]:
    try:
        found = parts.lake.table(name)
    except NotFound:
        return []
    facts = [f"{found.rows:,} rows, content {found.id}"]
    return [Link("table", name, facts, f"/tables/{name}"), *_run(parts, found.run or "", name)]


def _run(parts: Parts, id: str, step: str = "") -> list[Link]:
    """A run, what of it led to a step, and the events that it began with."""
    if not id:
        return []
    records = Runs(parts.db)
    try:
        run = records.get(id)
    except NotFound:
        return []
    steps = {one.name: one for one in records.steps(run.id)}
    facts = [f"{run.state}, by {run.actor or 'somebody'} at {iso(run.started)}"]
    if run.commit_id:
        facts.append(f"published as commit {run.commit_id}")
    chain = [Link("run", run.id, facts, f"/runs/{run.id}"), Link("code", run.git or "not in git", _code(run.manifest))]
    wanted = _ancestors(steps, step) if step in steps else list(steps)
    for name in reversed([one for one in steps if one in wanted]):
        made = steps[name]
        source = f"from {', '.join(made.needs)}" if made.needs else "from nothing else"
        chain.append(Link(made.kind, name, [f"{source}: {made.digest or made.state}"], _address(made)))
    events = dict.fromkeys(need for one in wanted for need in steps[one].needs if need not in steps)
    inputs = run.manifest.get("inputs", {})
    told = [f"{name}{_count(inputs, name)}" for name in events]
    where = f"log position {run.position}, root {run.root}"
    chain.append(Link("events", ", ".join(events) or "none", [*told, where], "/log"))
    return chain


def _count(inputs: Any, name: str) -> str:
    found = inputs.get(name) if isinstance(inputs, dict) else None
    if isinstance(found, dict) and (count := found.get("count", found.get("rows"))) is not None:
        return f": {count:,} events"
    return ""


def _address(step: Any) -> str:
    return f"/tables/{step.name}?snapshot={step.digest}" if step.kind == "table" and step.digest else ""


def _code(manifest: dict[str, Any]) -> list[str]:
    facts = []
    if manifest.get("patch"):
        facts.append("with uncommitted changes; the run keeps the patch")
    for name in ("python", "sampan", "os", "cpu"):
        if isinstance(value := manifest.get(name), str | int | float):
            facts.append(f"{name} {value}")
    return facts


def _ancestors(steps: dict[str, Any], step: str) -> list[str]:
    found: dict[str, None] = {}
    waiting = [step]
    while waiting:
        name = waiting.pop()
        if name in steps and name not in found:
            found[name] = None
            waiting += steps[name].needs
    return list(found)
