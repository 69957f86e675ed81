"""Rollouts: where each stands and why it waits, its evidence over time, what was done and said; incidents."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from sampan.base.clock import iso
from sampan.hub.charts import Band, Chart, Level, Mark, Series
from sampan.hub.parts import Parts, Query, as_of, begun, may
from sampan.hub.remarks import Remarks, remarks
from sampan.hub.traffic import Variant, traffic
from sampan.hub.views.serving import PredictionLine, told
from sampan.lake.query import Source, open_sources, quote_text
from sampan.log.log import StoredEvent
from sampan.release.evidence import Look
from sampan.release.guardrails import Reading
from sampan.release.records import Begun, IncidentRecord, Line, RolloutRecords
from sampan.release.rehearsals import Rehearsal
from sampan.release.rollouts import effect
from sampan.release.stages import ASKING, DONE, ENDS, FULL, PAUSED, RUNNING, Said, Seen
from sampan.team.roles import DEPLOY

_DRAWN = 300  # looks that a chart shows at most


class RolloutLine(msgspec.Struct):
    """One rollout as it stands. ``stage`` counts from 0, ``of`` is how many there are."""

    id: str
    endpoint: str
    candidate: str
    champion: str
    phase: str
    stage: int
    of: int
    shown: str
    why: str
    actor: str
    reason: str
    began: int
    changed: int
    """When it was last brought to another phase or stage."""


class RolloutsPage(msgspec.Struct):
    """Context of ``rollouts.html``, the newest first."""

    rollouts: list[RolloutLine]
    planned: list[str]
    """Endpoints that ``rollouts.toml`` has a plan for; empty where the file is wrong, and then ``fault`` says why."""
    fault: str = ""
    rehearsals: list[RolloutLine] = []
    """Those that were played over the past alone; ``began`` is where their span begins."""
    as_of: int | None = None


class StageLine(msgspec.Struct):
    """One stage of a plan. ``state``: over, now, to come; ``since``: when it began."""

    number: int
    shown: str
    state: str
    at_least: str
    needs: str
    since: int | None


class Evidence(msgspec.Struct):
    """The newest look at the KPI. ``gain`` is candidate less champion, turned so that more is better; the bounds hold
    at all times at once."""

    at: int
    verdict: str
    says: str
    units: tuple[int, int]
    gain: float | None
    low: float | None
    high: float | None
    champion: float | None


class FigureLine(msgspec.Struct):
    """A figure over all decisions of a rehearsal, with what is known since."""

    name: str
    verdict: str
    says: str


class RehearsalFacts(msgspec.Struct):
    """What was rehearsed, and when. ``turns``: which version answered from when on; ``both``: thresholds that were set
    for both sides; ``left_out``: of the plan, what cannot be rehearsed."""

    made: int
    since: int
    until: int
    every: str
    retrain: str
    decisions: int
    turns: list[tuple[int, str]]
    both: list[str]
    left_out: list[str]
    figures: list[FigureLine]


class HistoryLine(msgspec.Struct):
    """Something that changed a rollout."""

    at: int
    what: str
    actor: str
    why: str


class RolloutPage(msgspec.Struct):
    """Context of ``rollout.html``. ``verbs``: what it can be told now."""

    rollout: RolloutLine
    stages: list[StageLine]
    evidence: Evidence | None
    charts: list[Chart]
    guardrails: list[Reading]
    history: list[HistoryLine]
    incidents: Sequence[IncidentRecord]
    changed: list[str]
    """What differs between the two bundles, in words."""
    bundles: tuple[str, str]
    golden: str
    patience: str
    kpi: str
    """The query that decides; empty: what decisions earned, by the values that ``decisions.py`` declares."""
    minimum_effect: str
    errors: tuple[float, float]
    remarks: Remarks
    mismatch: str = ""
    verbs: list[str] = []
    rehearsal: RehearsalFacts | None = None
    shadow: bool = False
    """Whether a stage of it is a shadow."""
    traffic: list[Variant] = []
    unit: str = ""
    """What the KPI is counted in, where that is money."""
    as_of: int | None = None


class IncidentsPage(msgspec.Struct):
    """Context of ``incidents.html``, the newest first."""

    incidents: Sequence[IncidentRecord]
    as_of: int | None = None


class Offence(PredictionLine):
    """A prediction that shows what went wrong."""

    error: str = ""
    fallback: str = ""
    latency_us: int = 0


class IncidentPage(msgspec.Struct):
    """Context of ``incident.html``. ``predictions``: those that made it, as far as the log has them."""

    incident: IncidentRecord
    predictions: list[Offence]
    remarks: Remarks
    can_deploy: bool = False
    as_of: int | None = None


def rollouts(parts: Parts, query: Query) -> RolloutsPage:
    """All rollouts, as they stand or stood."""
    from sampan.base.errors import SampanError
    from sampan.release.rollouts import read_rollouts

    then, records = as_of(query), RolloutRecords(parts.db, parts.clock)
    planned, fault = [], ""
    if then is None:
        try:
            planned = sorted(read_rollouts(parts.folder.root).of)
        except SampanError as error:
            fault = str(error)
    lines = [_line(one, records.lines(one, then)) for one in records.list(by=then)]
    rehearsals = [_line(one, records.lines(one)) for one in records.rehearsals(by=then)]
    return RolloutsPage(rollouts=lines, planned=planned, fault=fault, rehearsals=rehearsals, as_of=then)


def rollout(parts: Parts, query: Query) -> RolloutPage:
    """A rollout by its id, as it stands or stood."""
    then, records = as_of(query), RolloutRecords(parts.db, parts.clock)
    found = records.get(query["rollout"])
    played = found.rehearsal
    begun(f"the rollout {found.id}", found.began if played is None else played.made, then)
    lines = records.lines(found, then if played is None else None)
    line = _line(found, lines)
    going_on = played is None and then is None and line.phase not in ENDS
    last = parts.last_seen(found.id) if going_on else None
    seen = last or next((one.entry for one in reversed(lines) if isinstance(one.entry, Seen)), None)
    plan = found.plan
    return RolloutPage(
        rollout=line,
        stages=_stages(found, lines),
        evidence=_evidence(seen),
        charts=_charts(found, lines),
        guardrails=list(seen.measured) if seen else [],
        history=_history(found, lines),
        incidents=records.incidents(found.id, then),
        changed=changed(found.champion_spec, found.candidate_spec),
        bundles=(found.candidate, found.champion),
        golden=found.golden,
        patience=plan.patience,
        kpi=plan.kpi.query,
        minimum_effect=str(plan.kpi.minimum_effect),
        errors=(plan.false_promotions, plan.false_rollbacks),
        remarks=remarks(parts, query, "rollout", found.id),
        mismatch=seen.mismatch if seen else "",
        verbs=_verbs(line.phase, bool(plan.urgent)) if going_on and may(query, DEPLOY) else [],
        rehearsal=_facts(played) if played is not None else None,
        shadow=any(one.shadow for one in plan.stage),
        traffic=traffic(parts.log, found.id, then) if played is None else [],
        unit="" if plan.kpi.query else str(found.champion_spec.get("currency") or ""),
        as_of=then,
    )


def incidents(parts: Parts, query: Query) -> IncidentsPage:
    """What went wrong in rollouts."""
    then = as_of(query)
    return IncidentsPage(incidents=RolloutRecords(parts.db, parts.clock).incidents(by=then), as_of=then)


def incident(parts: Parts, query: Query) -> IncidentPage:
    """An incident by its id, with the predictions that made it."""
    then, records = as_of(query), RolloutRecords(parts.db, parts.clock)
    found = records.incident(query["incident"])
    begun(f"the incident {found.id}", found.at, then)
    found = next(one for one in records.incidents(found.rollout, then) if one.id == found.id)
    known = _events(parts, found.predictions)
    lines = [line for one in found.predictions if (line := _offence(known, one)) is not None]
    return IncidentPage(
        incident=found,
        predictions=lines,
        remarks=remarks(parts, query, "incident", found.id),
        can_deploy=then is None and may(query, DEPLOY),
        as_of=then,
    )


def newest(parts: Parts, endpoint: str, then: int | None) -> RolloutLine | None:
    """The newest rollout of an endpoint, or the newest that there was at a time."""
    records = RolloutRecords(parts.db, parts.clock)
    return next((_line(one, records.lines(one, then)) for one in records.list(endpoint, then)), None)


# -- parts


def _line(one: Begun, lines: Sequence[Line]) -> RolloutLine:
    last = lines[-1]
    changed = next(
        (
            line.at
            for before, line in reversed(list(pairwise(lines)))
            if (before.phase, before.stage) != (line.phase, line.stage)
        ),
        one.began,
    )
    return RolloutLine(
        id=one.id,
        endpoint=one.endpoint,
        candidate=one.versions[1],
        champion=one.versions[0],
        phase=last.phase,
        stage=last.stage,
        of=len(one.plan.stage),
        shown=one.plan.stage[last.stage].shown,
        why=last.why,
        actor=one.actor,
        reason=one.reason,
        began=one.began,
        changed=changed,
    )


def _facts(one: Rehearsal) -> RehearsalFacts:
    return RehearsalFacts(
        made=one.made,
        since=one.since,
        until=one.until,
        every=one.every,
        retrain=one.retrain,
        decisions=one.decisions,
        turns=[(turn.since, turn.version) for turn in one.turns],
        both=[f"{name} = {value}" for name, value in one.both.items()],
        left_out=list(one.left_out),
        figures=[FigureLine(name, look.verdict, look.why) for name, look in one.figures.items()],
    )


def _stages(one: Begun, lines: Sequence[Line]) -> list[StageLine]:
    last = lines[-1]
    since: dict[int, int] = {}
    for line in lines:
        since.setdefault(line.stage, line.at)
    found = []
    for number, stage in enumerate(one.plan.stage):
        over = number < last.stage or (number == last.stage and last.phase in ENDS)
        state = "over" if over and number in since else "now" if number == last.stage else "to come"
        if last.phase in ENDS and number == last.stage and last.phase != DONE:
            state = "ended here"
        if last.phase in ENDS and number > last.stage:
            state = "never"
        if over and number not in since:
            state = "left out"
        decides = number + 1 < len(one.plan.stage) and one.plan.stage[number + 1].share == 1
        needs = "shown to be better" if decides or stage.needs == "better" else "nothing against it"
        if stage.share == 1:
            needs = f"guardrails for {one.plan.keep_warm}"
        found.append(StageLine(number + 1, stage.shown, state, stage.at_least, needs, since.get(number)))
    return found


def _evidence(seen: Seen | None) -> Evidence | None:
    if seen is None or (seen.look is None and not seen.failed):
        return None
    if seen.look is None:
        said = f"the KPI could not be asked for: {seen.failed}"
        return Evidence(seen.at, "not known", said, (0, 0), None, None, None, None)
    look = seen.look
    return Evidence(seen.at, look.verdict, look.why, look.units, look.gain, look.low, look.high, look.champion)


def _charts(one: Begun, lines: Sequence[Line]) -> list[Chart]:
    """The evidence over time: the gain, and the bounds that hold at all looks at once."""
    looks: list[tuple[int, int, Look]] = [
        (line.at, line.stage, line.entry.look)
        for line in lines
        if isinstance(line.entry, Seen) and line.entry.look is not None and line.entry.look.gain is not None
    ]
    if len(looks) < 2:
        return []
    step = -(-len(looks) // _DRAWN)
    looks = [*looks[::-1][::step]][::-1]
    x = [iso(at)[:19].replace("T", " ") for at, _, _ in looks]
    relative = isinstance(one.plan.kpi.minimum_effect, str)

    def shown(value: float | None, look: Look) -> float | None:
        if value is None or (relative and not look.champion):
            return None
        return round(100 * value / look.champion if relative and look.champion else value, 4)

    marks = [
        Mark(at, one.plan.stage[stage].shown)
        for at, stage, before in zip(x[1:], [s for _, s, _ in looks][1:], [s for _, s, _ in looks], strict=False)
        if stage != before
    ]
    gain, low, high = ([shown(getattr(look, name), look) for _, _, look in looks] for name in ("gain", "low", "high"))
    least = effect(one.plan.kpi.minimum_effect)[0] * (100 if relative else 1)
    return [
        Chart(
            title="What the candidate gains",
            says=_told(x, low, high, looks[-1][2], "" if relative else _unit(one)),
            x=x,
            x_name="Looked",
            dated=True,
            unit="% of the champion's mean" if relative else _unit(one),
            series=[Series(name="gain", y=[*gain])],
            bands=[Band(low=[*low], high=[*high], names=("at least", "at most"))],
            levels=[Level(0.0, "no gain", below=True), Level(least, "least gain worth having")],
            within=_within(low, high, least),
            marks=marks,
            digits=2,
        )
    ]


def _unit(one: Begun) -> str:
    """What the gain is counted in; of a query nobody knows more than that it is a mean."""
    currency = "" if one.plan.kpi.query else str(one.champion_spec.get("currency") or "")
    return f"{currency} a decision".strip()


def _told(x: Sequence[str], low: Sequence[float | None], high: Sequence[float | None], last: Look, unit: str) -> str:
    """The band in words: where it is now, and since when it leaves 0 out."""
    counted = f" ({unit})" if unit else ""
    said = f"{last.why[:1].upper()}{last.why[1:]}{counted}."
    said = f"{said} Between the bounds lies the true gain, however often one looks."
    above = [value is not None and value > 0 for value in low]
    below = [value is not None and value < 0 for value in high]
    for outside, side in ((above, "above"), (below, "below")):
        if outside[-1]:
            since = len(outside) - next((at for at, one in enumerate(reversed(outside)) if not one), len(outside))
            return f"{said} They are both {side} 0 since {x[since][:10]}."
    return f"{said} 0 lies between them."


def _within(low: Sequence[float | None], high: Sequence[float | None], least: float) -> tuple[float, float]:
    """The part of the axis that is drawn: the first looks know so little that their bounds would hide the others."""
    known = [abs(value) for value in (*low[len(low) // 3 :], *high[len(high) // 3 :]) if value is not None]
    reach = 1.1 * max(*known, 2 * least) if known else 2 * least
    values = [value for value in (*low, *high, 0.0, least) if value is not None]
    return max(-reach, 1.1 * min(values)), min(reach, 1.1 * max(values))


def _history(one: Begun, lines: Sequence[Line]) -> list[HistoryLine]:
    """What people said, and each look that led to another phase or stage; the newest first."""
    found = [HistoryLine(lines[0].at, "begun", one.actor, one.reason)]
    for before, line in pairwise(lines):
        if isinstance(line.entry, Said):
            found.append(HistoryLine(line.at, line.entry.verb, line.entry.actor, line.entry.reason))
        elif (before.phase, before.stage) != (line.phase, line.stage):
            what = line.phase if line.phase != RUNNING else f"stage {line.stage + 1}"
            found.append(HistoryLine(line.at, what, "", line.why))
    return found[::-1]


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """In what the bundle of one spec differs from that of another, in words."""
    told = []
    if before["version"] != after["version"]:
        told.append(f"version {before['version']} → {after['version']}")
    if before.get("decision") != after.get("decision"):
        told.append(f"rule {before.get('decision') or 'none'} → {after.get('decision') or 'none'}")
    old: dict[str, Any] = before.get("thresholds") or {}
    new: dict[str, Any] = after.get("thresholds") or {}
    told += [
        f"{name} {old.get(name, 'none')} → {new.get(name, 'none')}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]
    return told or ["the text of the rules"]


def _verbs(phase: str, urgent: bool) -> list[str]:
    if phase in ENDS:
        return []
    if phase == FULL:
        return ["finish", "back"]
    first = ["resume"] if phase in (PAUSED, ASKING) else ["pause"]
    return [*first, "promote", *(["urgent"] if urgent else []), "back"]


def _events(parts: Parts, predictions: Sequence[str]) -> dict[str, StoredEvent]:
    """Predictions, and what a shadow said to them, by their ids; all are looked for at once."""
    position = parts.log.position()
    ids = {one for each in predictions for one in (each, each.partition("~")[0])}
    if not ids or not parts.log.state("prediction", position).count:
        return {}
    sources: dict[str, Source] = {name: parts.log.source(name, position) for name in ("prediction", "shadow")}
    listed = ", ".join(map(quote_text, sorted(ids)))
    connection = open_sources(sources, threads=2)
    try:
        rows = connection.execute(
            " UNION ALL ".join(f"SELECT _id, _position FROM {name} WHERE _id IN ({listed})" for name in sources)
        ).fetchall()
    finally:
        connection.close()
    return {id: parts.log.at(place) for id, place in rows}


def _offence(known: Mapping[str, StoredEvent], prediction: str) -> Offence | None:
    """A prediction as it was answered; of a shadow: what it said to the request that both have seen."""
    asked, _, shadow = prediction.partition("~")
    event = known.get(asked)
    if event is None:
        return None
    said = known.get(prediction) if shadow else event
    data = msgspec.json.decode(said.data) if said is not None else {}
    names = ("version", "prediction", "action", "rule", "error", "fallback", "latency_us")
    return Offence(**told(event) | {name: data[name] for name in names if name in data})
