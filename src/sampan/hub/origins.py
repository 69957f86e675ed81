"""The way back to the raw events as the page shows it: an address for each thing, and boxes to draw."""

from collections.abc import Iterator
from typing import Any

import msgspec

from sampan.base.words import some
from sampan.flow.lineage import Origin
from sampan.hub.urls import Urls

_RESULTS = ("table", "step", "model", "check")
_LAST = ("endpoint", "rule")  # nothing is made of them, and they may be called like a model


class Node(msgspec.Struct):
    """A box of the drawing: ``name`` tells it from others, ``label`` and ``note`` stand in it."""

    name: str
    label: str
    kind: str
    note: str
    needs: list[str]
    address: str


def address(origin: Origin) -> str:
    """The page of one thing on the way back; empty if it has none."""
    kind, name, facts = origin.kind, origin.name, origin.facts
    if kind == "prediction":
        return Urls.prediction(name)
    if kind == "decision":
        return Urls.endpoint(facts["endpoint"]) if facts.get("endpoint") else "/endpoints"
    if kind == "version":
        return Urls.version(name)
    if kind == "run":
        return Urls.run(name)
    if kind in ("column", "field"):
        return Urls.lineage(facts["table"], column=facts["column"])
    if kind == "events":
        return Urls.log(subject=facts["entity"]) if "known_by" in facts else Urls.log(type=name)
    if kind == "table" or facts.get("snapshot"):
        return Urls.table(name, snapshot=facts.get("snapshot"))
    if kind in _RESULTS:
        return f"{Urls.run(facts['run'])}#step-{name}" if facts.get("run") else ""
    return Urls.event(facts["position"]) if facts.get("position") else ""


def nodes(origin: Origin) -> list[Node]:
    """What is drawn: results and events, not the runs that made them nor single events. Each thing once."""
    found: dict[str, Node] = {}
    for one in _walk(origin):
        name = _name(one)
        needs = [_name(below) for below in one.made_from if _drawn(below)]
        if one.kind == "prediction":  # it was made by the version, and the decision by it
            found[f"decision {one.name}"] = _decided(one, name)
            needs = [_name(below) for below in one.made_from if _drawn(below) and below.kind != "decision"]
        if one.kind != "decision" and (name not in found or not one.seen):
            found[name] = Node(name, _label(one), one.kind, _note(one), needs, address(one))
    return [*found.values(), *_reached(origin, found)]


def _reached(origin: Origin, above: dict[str, Node]) -> list[Node]:
    """What is made of a column's values; what only has its rows decided by them is told in words."""
    start, made = _name(origin), [one for one in origin.facts.get("reaches", ()) if one["how"] == "value"]
    own = {one["name"]: f"reached {one['kind']} {one['name']}" for one in made if one["kind"] not in _LAST}
    boxes = []
    for one in made:
        columns = one["columns"]
        label = f"{one['name']}.{columns[0]}" if len(columns) == 1 else one["name"]
        note = f"{len(columns)} columns" if len(columns) > 1 else one["kind"]
        needs = list(dict.fromkeys(own.get(name, start) for name in one["via"])) or [start]
        boxes.append(Node(f"reached {one['kind']} {one['name']}", label, one["kind"], note, needs, _page(one)))
    return boxes


def _page(reached: dict[str, Any]) -> str:
    """The page of something that a column reaches."""
    name, kind, columns = reached["name"], reached["kind"], reached["columns"]
    if kind in ("table", "step") and columns:
        return Urls.lineage(name, column=columns[0]) if len(columns) == 1 else Urls.table(name)
    return {"model": Urls.models(model=name), "endpoint": Urls.endpoint(name)}.get(kind, "")


def story(origin: Origin) -> list[str]:
    """The way back in a few sentences, for those who do not read trees."""
    everything = list(_all(origin))
    told = []
    facts = origin.facts
    if origin.kind in ("column", "field"):
        return _column_story(origin)
    if origin.kind == "prediction":
        rule = next((one for one in origin.made_from if one.kind == "decision"), None)
        about = f" about {facts['entity']}" if facts.get("entity") else ""
        told.append(f"{facts.get('endpoint') or 'An endpoint'} was asked{about} and {_note(origin)}.")
        if rule is not None and rule.facts.get("rule"):
            told.append(f"A rule of the business made “{rule.name}” of it: {rule.facts['rule']}.")
    versions = [one.name for one in everything if one.kind == "version"]
    tables = {one.name: one.facts["rows"] for one in everything if one.facts.get("rows") is not None}
    learned = next((one for one in everything if one.kind == "model" and not one.seen), None)
    if learned is not None:
        read = [f"{tables[one.name]:,} rows of {one.name}" for one in learned.made_from if one.name in tables]
        who = versions[0] if versions else f"The model {learned.name}"
        told.append(
            f"{who} learned from {' and '.join(read)}." if read else f"{who} learned from what stands below it."
        )
    elif origin.kind == "table":
        told.append(f"{origin.name} has {facts.get('rows', 0):,} rows.")
    raw = {
        one.name: one.facts.get("events", 0)
        for one in everything
        if one.kind == "events" and "known_by" not in one.facts
    }
    if raw:
        listed = " and ".join(f"{count:,} events of the kind {name}" for name, count in raw.items())
        told.append(f"Everything began as {listed}, kept in the log as they were sent.")
    known = next((one for one in everything if "known_by" in one.facts), None)
    if known is not None and known.facts.get("entity"):
        more = " or more" if known.facts.get("more") else ""
        told.append(
            f"{known.facts.get('events', 0):,}{more} events about {known.facts['entity']} were known at that moment."
        )
    return told


def _column_story(origin: Origin) -> list[str]:
    facts, told = origin.facts, []
    if origin.kind == "column":
        if facts["fields"]:
            told.append(f"The values of {origin.name} are made of {_listed(facts['fields'])}.")
        else:
            told.append(f"The values of {origin.name} are made of no field: they count rows, or stand in the query.")
        if facts["deciding"]:
            told.append(f"Which rows it has is decided by {_listed(facts['deciding'])} besides.")
    made = [one for one in facts["reaches"] if one["how"] == "value"]
    named = [f"the {one['kind']} {one['name']}" for one in made if one["kind"] in ("model", "endpoint", "rule")]
    if named:
        told.append(f"It goes into {_listed(named)}.")
    elif not made:
        told.append("Nothing is made of its values.")
    return told


def _listed(names: list[str]) -> str:
    if len(names) > 8:
        return some(names, 8)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _all(origin: Origin) -> Iterator[Origin]:
    yield origin
    for one in origin.made_from:
        yield from _all(one)


def _decided(prediction: Origin, name: str) -> Node:
    one = next(below for below in prediction.made_from if below.kind == "decision")
    return Node(
        f"decision {prediction.name}", one.name, "decision", str(one.facts.get("rule") or ""), [name], address(one)
    )


def _walk(origin: Origin) -> Iterator[Origin]:
    if _drawn(origin) or origin.kind == "run":
        if origin.kind != "run":
            yield origin
        for one in origin.made_from:
            yield from _walk(one)


def _drawn(origin: Origin) -> bool:
    return origin.kind in ("prediction", "decision", "version", "events", "column", "field", *_RESULTS)


def _label(origin: Origin) -> str:
    if origin.kind == "field":
        return str(origin.facts["column"])
    return f"about {origin.facts['entity']}" if "known_by" in origin.facts else origin.name


def _name(origin: Origin) -> str:
    return f"{origin.kind} {origin.name} {origin.facts.get('digest', '')}"


def _note(origin: Origin) -> str:
    facts = origin.facts
    if origin.kind == "events":
        return f"{facts.get('events', 0):,}{'+' if facts.get('more') else ''} events"
    if origin.kind == "column":
        return "taken whole" if facts.get("whole") else facts["path"]
    if origin.kind == "field":
        return f"of {facts['table']}"
    if facts.get("rows") is not None:
        return f"{origin.kind}, {facts['rows']:,} rows"
    if origin.kind == "prediction":
        said = facts.get("prediction")
        return f"said {said:.4f}" if isinstance(said, float) else f"said {said}"
    return str(facts.get("kind") or origin.kind) + (" model" if origin.kind == "version" else "")
