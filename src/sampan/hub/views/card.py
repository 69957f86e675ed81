"""Cards for people who do not look at code: of a version, and of all that is derived."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sampan.base.errors import SampanError
from sampan.hub.claims import BROKEN, Held, claims
from sampan.hub.decided import decided
from sampan.hub.parts import Parts, Query
from sampan.hub.uses import Uses, about, code_of
from sampan.hub.views.models import Measure, Service, Source, version
from sampan.hub.views.tested import Tested
from sampan.lake.history import MAIN
from sampan.models.labels import NOTE
from sampan.release.cards import read_card
from sampan.runs.records import Runs
from sampan.serve.endpoints import Endpoint, Endpoints

NEW: Final = "new"
"""The state of a step that has never run."""


class Fitted(msgspec.Struct):
    """A table that a version was fitted on: rows and columns of that snapshot; ``current``: main still names it."""

    source: Source
    rows: int
    columns: int
    current: bool


class Earned(msgspec.Struct):
    """What an endpoint that serves the version has decided and earned, in all of its time. ``value`` and ``margin``:
    money per 1,000 decisions, and half of its 95 % interval."""

    endpoint: str
    decisions: int
    known: int
    value: float | None
    margin: float | None
    currency: str
    rules: list[str]


class Card(msgspec.Struct, kw_only=True):
    """Context of ``card.html``. ``broken``: how many claims do not hold any more."""

    ref: str
    model: str
    about: str
    purpose: str
    users: str
    limits: tuple[str, ...]
    note: str
    owner: str
    kind: str
    format: str
    created: int
    run: str | None
    cost: float
    currency: str
    seconds: float
    aliases: list[str]
    serving: list[str]
    services: list[Service]
    inputs: int
    claims: list[Held]
    broken: int
    measures: list[Measure]
    tests: Tested
    fitted: list[Fitted]
    parameters: dict[str, Any]
    earned: list[Earned]
    digest: str


class StepLine(msgspec.Struct, kw_only=True):
    """A step on the card of the flow. ``state``: what became of it in its last run. ``holds``: what is published is
    what the workspace, as it stands, would give; ``why`` says what is not so. ``behind``: nothing is wrong with it, and
    events have come since."""

    name: str
    kind: str
    about: str
    state: str
    seconds: float
    needs: tuple[str, ...]
    why: str
    rows: int | None
    holds: bool
    behind: bool = False


class FlowCard(msgspec.Struct, kw_only=True):
    """Context of ``flow_card.html``."""

    steps: list[StepLine]
    run: str
    finished: int | None
    events: list[str]
    broken: int
    problem: str


def card(parts: Parts, query: Query) -> Card:
    """One version for its stakeholders. Raises NotFound, BadSetting for a card that cannot be read."""
    page = version(parts, query)
    written = read_card(parts.folder.root, page.model)
    serving = [one for one in Endpoints(parts.db, parts.models, parts.clock).list() if one.name in page.serving]
    held = claims(parts, page, written)
    notes = [one.value for one in parts.models.labels.of(f"model {page.model}") if one.kind == NOTE]
    return Card(
        ref=page.ref,
        model=page.model,
        about=about(page.text),
        purpose=written.purpose,
        users=written.users,
        limits=written.limits,
        note=page.remarks.note or "".join(notes),
        owner=page.owner,
        kind=page.kind,
        format=page.format,
        created=page.created,
        run=page.run,
        cost=page.cost,
        currency=page.currency,
        seconds=page.seconds,
        aliases=page.aliases,
        serving=page.serving,
        services=page.services,
        inputs=len(page.signature["inputs"]),
        claims=held,
        broken=sum(one.state == BROKEN for one in held),
        measures=page.measures,
        tests=page.tests,
        fitted=[_fitted(parts, one) for one in page.sources if one.table],
        parameters=page.parameters,
        earned=[_earned(parts, one) for one in serving],
        digest=page.digest,
    )


def _fitted(parts: Parts, source: Source) -> Fitted:
    current = parts.lake.names(MAIN).get(source.name) == source.digest
    try:
        snapshot = parts.lake.snapshot(source.digest)
    except SampanError:  # gone by clean-up
        return Fitted(source, 0, 0, current)
    return Fitted(source, snapshot.rows, len(snapshot.fields), current)


def _earned(parts: Parts, endpoint: Endpoint) -> Earned:
    found = decided(parts.log, endpoint.name)
    rules = [f"{one.rule}: {one.action}, {one.count:,} times" for one in found.rules[:6]]
    facts = (found.decisions, found.known, found.value, found.margin, endpoint.spec.currency)
    return Earned(endpoint.name, *facts, rules)


def flow(parts: Parts, query: Query) -> FlowCard:
    """All that is derived, as it ran last, with a mark where it is not what the workspace would give now."""
    uses = Uses(parts.db)
    last = max((step.run for step in uses.steps.values()), default="")
    problem, planned = "", {}
    try:
        planned = {one["name"]: one for one in parts.plan("", {})["steps"]}
    except SampanError as error:
        problem = str(error)
    names = parts.lake.names(MAIN) if parts.lake.commit_at(MAIN) is not None else {}
    steps, late = [], _late(planned)
    for name in dict.fromkeys([*uses.steps, *planned]):
        ran, plan = uses.steps.get(name), planned.get(name)
        failed = ran is not None and ran.state == "failed"
        gone = plan is None and not problem
        why = ran.error.splitlines()[0] if failed and ran is not None and ran.error else ""
        if not why and gone:
            why = "the workspace has no such step any more"
        elif not why and plan is not None and plan["state"] != "cached":
            why = f"would run: {plan['why']}"
        found = parts.lake.snapshot(names[name]) if name in names else None
        steps.append(
            StepLine(
                name=name,
                kind=ran.kind if ran is not None else plan["kind"] if plan else "",
                about=about(code_of(parts.folder.root, name)),
                state=ran.state if ran is not None else NEW,
                seconds=ran.seconds if ran is not None else 0.0,
                needs=ran.needs if ran is not None else tuple(plan["needs"]) if plan else (),
                why=why,
                rows=found.rows if found is not None else None,
                holds=not why,
                behind=name in late and not failed,
            )
        )
    known = {one.name for one in steps}
    events = sorted({need for one in steps for need in one.needs} - known)
    finished = Runs(parts.db).get(last).finished if last else None
    return FlowCard(
        steps=steps,
        run=last,
        finished=finished,
        events=events,
        broken=sum(not one.holds and not one.behind and one.state != NEW for one in steps),
        problem=problem,
    )


def _late(planned: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The steps that would run for nothing but new events, their own or those of what they are made of."""
    late: set[str] = set()
    for name, one in planned.items():  # what is needed comes first
        if one["state"] == "cached":
            continue
        held = {need for need in one["needs"] if need in planned and planned[need]["state"] != "cached"}
        events = {f"input {need} changed" for need in one["needs"] if need not in planned}
        waits = bool(held) and one["why"] == f"{' and '.join(n for n in one['needs'] if n in held)} may change"
        if (waits and held <= late) or (not held and events.issuperset(one["why"].split("; "))):
            late.add(name)
    return late
