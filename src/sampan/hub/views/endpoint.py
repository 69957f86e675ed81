"""One endpoint: what it decides, what that earns, which rules fired, how fast, and what it served before."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from sampan.base.clock import iso
from sampan.base.errors import Damaged, NotFound
from sampan.hub.charts import Chart, Mark, Series
from sampan.hub.decided import Decided, decided
from sampan.hub.parts import THEN, Parts, Query, as_of, may
from sampan.hub.remarks import Remarks, remarks
from sampan.hub.traffic import Variant, traffic
from sampan.hub.views.rollouts import RolloutLine, newest
from sampan.hub.views.serving import EndpointLine, PredictionLine, line_of, predictions
from sampan.models.version import OnnxFile, Signature
from sampan.release.stages import ENDS
from sampan.serve.bundle import Bundle
from sampan.serve.decisions import ENTRY
from sampan.serve.endpoints import Endpoint, Endpoints
from sampan.serve.environment import told
from sampan.team.roles import DEPLOY

_COLOURS = ("water", "mute", "violet", "good", "wait", "bad")
_NEWEST = 12


class Served(msgspec.Struct):
    """One row of an endpoint's history. ``changed`` says in words what differs from the row before."""

    version: str
    bundle: str
    thresholds: dict[str, Any]
    decision: str
    actor: str
    reason: str
    created: int
    until: int | None
    changed: list[str]
    back_from: str = ""
    """The bundle that was left, where this one was gone back to."""
    golden: str = ""
    """What came of its golden requests when it was deployed."""


class Earlier(msgspec.Struct):
    """A bundle that can be gone back to; ``warm``: its process is still loaded."""

    bundle: str
    version: str
    until: int
    warm: bool


class EndpointPage(msgspec.Struct):
    """Context of ``endpoint.html``. ``rules`` is the text of the rules in force, as frozen with the bundle."""

    endpoint: EndpointLine
    decided: Decided
    charts: list[Chart]
    served: list[Served]
    newest: list[PredictionLine]
    rules: str
    inputs: list[str]
    example: str
    """A request for one prediction, as the model takes it."""
    takes: dict[str, str]
    """Its inputs that are tensors or bytes, in words."""
    context: list[str]
    remarks: Remarks
    earlier: list[Earlier] = []
    can_deploy: bool = False
    rollout: RolloutLine | None = None
    """The newest rollout on it."""
    traffic: list[Variant] = []
    """Who answers what while it goes on."""
    onnx: OnnxFile | None = None
    """The ONNX form that answers in its model's place."""
    environment: str = ""
    """In what its process runs, in words."""
    adopted: str = ""
    """The file or the address that its version was brought in from; empty for one that a run made."""
    as_of: int | None = None


def endpoint(parts: Parts, query: Query) -> EndpointPage:
    """An endpoint by its name, as it is or as it was at a time."""
    then = as_of(query)
    records = Endpoints(parts.db, parts.models, parts.clock)
    current = records.get(query["name"], then)
    figures = decided(parts.log, current.name, then)
    served = _served(records.history(current.name, then))
    bundle = records.bundle(current.bundle)
    line = line_of(records, current, parts, then)
    rollout = newest(parts, current.name, then)
    return EndpointPage(
        endpoint=line,
        decided=figures,
        charts=_charts(figures, served, line.currency),
        served=served,
        newest=predictions(parts, {"endpoint": current.name, THEN: then}).predictions[:_NEWEST],
        rules=_text(parts, bundle.sources.get(ENTRY, "")) if bundle.decision else "",
        inputs=list(bundle.model.signature.inputs),
        example=_example(bundle),
        takes=_takes(bundle.model.signature),
        context=sorted(bundle.decision.context or ()) if bundle.decision else [],
        remarks=remarks(parts, query, "endpoint", current.name),
        earlier=[] if then else _earlier(records, current.name, served, parts.warm_bundles(current.name)),
        can_deploy=may(query, DEPLOY),
        rollout=rollout,
        traffic=traffic(parts.log, rollout.id, then) if rollout is not None and rollout.phase not in ENDS else [],
        onnx=bundle.model.onnx,
        environment=told(bundle, parts.models.blobs),
        adopted=_adopted(parts, current.spec.version),
        as_of=then,
    )


def _example(bundle: Bundle) -> str:
    """What stands behind ``-d``; of many columns the first two."""
    signature = bundle.model.signature
    forms: dict[str, str] = {}
    for name, type in signature.inputs.items():
        if type == "bytes":
            forms[name] = '{"base64": "…"}'
        elif type == "tensor":
            tensor = signature.tensor(name)
            shape = ", ".join("…" if one == -1 else str(one) for one in tensor.shape)
            forms[name] = f'{{"datatype": "{tensor.datatype}", "shape": [{shape}], "base64": "…"}}'
        else:
            forms[name] = "…"
    if (not signature.heavy and len(forms) > 2) or not forms:
        shown = "".join(f'"{name}": {form}, ' for name, form in list(forms.items())[:2]) + "…"
    else:
        shown = ", ".join(f'"{name}": {form}' for name, form in forms.items())
    if bundle.decision is not None and bundle.decision.entity and shown[-1] != "…":
        shown += f', "{bundle.decision.entity}": …'
    return f'{{"records": [{{{shown}}}]}}'


def _takes(signature: Signature) -> dict[str, str]:
    told = {}
    for name in signature.heavy:
        told[name] = "bytes"
        if signature.inputs[name] == "tensor":
            tensor = signature.tensor(name)
            sizes = " × ".join("any" if one == -1 else str(one) for one in tensor.shape)
            told[name] = f"{tensor.datatype}, {sizes}"
    return told


def _adopted(parts: Parts, ref: str) -> str:
    try:
        version = parts.models.get(ref)
    except NotFound:
        return ""
    return version.origin.adopted if version.origin is not None else ""


def _earlier(records: Endpoints, name: str, served: list[Served], warm: Sequence[str]) -> list[Earlier]:
    """What was in force, that which one would go back to first."""
    found = {one.bundle: one for one in reversed(served) if one.bundle != served[0].bundle}
    lines = [Earlier(one.bundle, one.version, one.until or 0, one.bundle in warm) for one in found.values()]
    lines.sort(key=lambda one: -one.until)
    with suppress(NotFound):
        first = records.before(name).bundle
        lines.sort(key=lambda one: one.bundle != first)
    return lines


def _text(parts: Parts, digest: str) -> str:
    try:
        return parts.models.blobs.get(digest).decode("utf-8", "replace") if digest else ""
    except (NotFound, Damaged):
        return ""


def _served(history: list[Endpoint]) -> list[Served]:
    """The history, newest first, each with what it changed."""
    found = []
    for at, one in enumerate(history):
        before = history[at + 1] if at + 1 < len(history) else None
        found.append(
            Served(
                one.spec.version,
                one.bundle,
                dict(one.spec.thresholds),
                one.spec.decision,
                one.actor,
                one.reason,
                one.created,
                history[at - 1].created if at else None,
                _changed(one, before),
                one.back_from,
                one.golden,
            )
        )
    return found


def _changed(one: Endpoint, before: Endpoint | None) -> list[str]:
    if before is None:
        return ["first"]
    told = [f"back from {before.spec.version}"] if one.back_from else []
    if one.spec.version != before.spec.version:
        told.append(f"version {before.spec.version} → {one.spec.version}")
    if one.spec.decision != before.spec.decision:
        told.append(f"rule {before.spec.decision or 'none'} → {one.spec.decision or 'none'}")
    old, new = before.spec.thresholds, one.spec.thresholds
    told += [
        f"{name} {old.get(name, 'none')} → {new.get(name, 'none')}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]
    return told or ["the text of the rules"]


def _charts(figures: Decided, served: list[Served], currency: str) -> list[Chart]:
    if len(figures.stretches) < 2:
        return []
    x = [one.start for one in figures.stretches]
    marks = _marks(x, served)
    common: dict[str, Any] = {"x": x, "x_name": figures.by.capitalize(), "dated": True, "marks": marks}
    actions = list(dict.fromkeys(line.action for line in figures.rules))
    ruled = any(line.action or line.rule for line in figures.rules)
    word = "decisions" if ruled else "predictions"
    bars = [
        Series(
            name=action or ("no action" if ruled else "predictions"),
            y=[one.actions.get(action, 0) for one in figures.stretches],
            kind="bar",
            colour=_COLOURS[at % len(_COLOURS)],
        )
        for at, action in enumerate(actions)
    ]
    most = max(figures.stretches, key=lambda one: one.decisions)
    one = "an hour" if figures.by == "hour" else f"a {figures.by}"
    says = f"{figures.decisions:,} {word} from {x[0]} to {x[-1]}, at most {most.decisions:,} in {one}."
    title = "Decisions by action" if ruled else "Predictions"
    charts = [Chart(title=title, says=says, series=bars, stacked=True, digits=0, **common)]
    if any(one.value is not None for one in figures.stretches):
        charts.append(
            Chart(
                title="Value per 1,000 decisions",
                says="What decisions earned whose outcome is known, beside what was expected when they were made: "
                + _compared(figures, currency),
                series=[
                    Series(name="earned", y=[_round(one.value) for one in figures.stretches]),
                    Series(name="expected", y=[_round(one.expected) for one in figures.stretches], colour="violet"),
                ],
                unit=currency,
                digits=2,
                **common,
            )
        )
    timed = [one.latency for one in figures.stretches]
    if any(timed) and figures.latency:
        charts.append(
            Chart(
                title="How long an answer takes",
                says=f"Half of all within {figures.latency[0] / 1000:,.1f} ms, 99 of 100 within"
                f" {figures.latency[1] / 1000:,.1f} ms, from the request's arrival to the decision.",
                series=[
                    Series(name="half within", y=[pair and round(pair[0] / 1000, 3) for pair in timed]),
                    Series(name="99 % within", y=[pair and round(pair[1] / 1000, 3) for pair in timed], colour="wait"),
                ],
                unit="ms",
                digits=2,
                **common,
            )
        )
    return charts


def _compared(figures: Decided, currency: str) -> str:
    earned = "–" if figures.value is None else f"{figures.value:,.2f} {currency}"
    hoped = "–" if figures.expected is None else f"{figures.expected:,.2f} {currency}"
    return f"{earned} earned, {hoped} expected over all."


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _marks(x: list[str], served: list[Served]) -> list[Mark]:
    """The stretch in which each of the last few switches falls; the first one is where the chart begins."""
    marks = []
    for one in reversed(served[:-1][:5]):
        at = iso(one.created)[:16].replace("T", " ")
        inside = [start for start in x if start <= at]
        if inside:
            marks.append(Mark(inside[-1], one.version))
    return marks
