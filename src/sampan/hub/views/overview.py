"""The first page: what needs somebody, then how everything is doing."""

from typing import Any, Final

import msgspec

from sampan.hub.charts import Chart, Mark, Series
from sampan.hub.parts import Parts, Query
from sampan.hub.spark import filled, spark
from sampan.hub.urls import Urls
from sampan.hub.views import runs
from sampan.hub.views.held import share_limit
from sampan.lake.history import MAIN
from sampan.log.log import StoredEvent
from sampan.log.rates import HOUR
from sampan.money.prices import read_prices
from sampan.runs.records import FAILED, INTERRUPTED, Run, Runs, StepRun, refusing
from sampan.serve.endpoints import Endpoints
from sampan.serve.stream import PREFIX
from sampan.watch.alerts import open_alerts

_RUNS: Final = 12
_NEWEST: Final = 6
_DAY: Final = 24 * HOUR
_GROWN: Final = 20  # events: fewer are no growth to speak of


class Concern(msgspec.Struct):
    """Something that needs a person: what, what to do, where to look.

    ``kind``: bad is broken, refused was held back by a check, wait should be looked at."""

    kind: str
    text: str
    advice: str
    address: str


class Flow(msgspec.Struct):
    """Events as they come in: now (only a running hub knows) and by the hour of the last day in which any came."""

    total: int
    duplicates: int
    day: int
    day_quarantined: int
    since: int | None
    rate: float | None
    busiest: int
    line: str
    area: str


class Held(msgspec.Struct):
    """Quarantine: what waits, what came of it, its share within the last day and the limit of that."""

    waiting: int
    repaired: int
    share: float
    before: float
    limit: float
    line: str


class RunDot(msgspec.Struct):
    """A run, small."""

    run: str
    state: str
    target: str
    seconds: float | None
    cost: float
    started: int


class LastRun(msgspec.Struct):
    """The newest run and the steps of it that are worth a line: broken ones first."""

    run: str
    state: str
    actor: str
    seconds: float | None
    started: int
    ran: int
    steps: int
    told: list[StepRun]


class Served(msgspec.Struct):
    """An endpoint, small."""

    name: str
    state: str
    version: str
    reason: str
    created: int


class Said(msgspec.Struct):
    """A prediction, small."""

    id: str
    time: int
    endpoint: str
    entity: str
    prediction: Any
    action: str
    rule: str


class Seen(msgspec.Struct):
    """An event, small."""

    position: str
    type: str | None
    id: str | None
    source: str | None
    subject: str | None
    received: int


class Cost(msgspec.Struct):
    """What the last runs cost by the price book, and for how many of them that is."""

    total: float
    last: float
    runs: int
    currency: str
    per_hour: float


class Overview(msgspec.Struct):
    """Context of ``overview.html``."""

    concerns: list[Concern]
    flow: Flow
    held: Held
    runs: list[RunDot]
    run: LastRun | None
    tables: int
    rows: int
    versions: int
    endpoints: list[Served]
    predicted: int
    predictions: list[Said]
    newest: list[Seen]
    cost: Cost


def overview(parts: Parts, query: Query) -> Overview:
    """How the workspace is doing."""
    records = Runs(parts.db)
    last = list(records.list(_RUNS, branch=MAIN))
    run = _last(records, last[0]) if last else None
    tables = parts.lake.tables()
    endpoints = _endpoints(parts)
    flow, held = _flow(parts)
    counted = parts.db.row("SELECT count(*) AS n FROM versions")
    streams = [name for name in parts.log.position() if name.startswith(PREFIX)]
    return Overview(
        concerns=_concerns(parts, records, run, endpoints, held, flow),
        flow=flow,
        held=held,
        runs=[RunDot(one.id, one.state, one.target, runs.took(one), one.cost, one.started) for one in reversed(last)],
        run=run,
        tables=len(tables),
        rows=sum(table.rows for table in tables.values()),
        versions=counted["n"] if counted else 0,
        endpoints=endpoints,
        predicted=sum(parts.log.position()[name] for name in streams),
        predictions=_predictions(parts, streams),
        newest=[_seen(parts, one) for one in parts.log.events(newest_first=True, limit=3 * _NEWEST)][:_NEWEST],
        cost=_cost(parts, last),
    )


def _flow(parts: Parts) -> tuple[Flow, Held]:
    """Sums over the log's frames, all of it and the last day in which anything came, with the day before it."""
    rates = parts.log.rates.by_hour()
    newest = max((rate.hour for rate in rates), default=None)
    since = None if newest is None else newest + HOUR - _DAY
    sent, bad = [0] * 24, [0] * 24
    total = duplicates = before = before_bad = 0
    for rate in rates:
        total += rate.accepted
        duplicates += rate.duplicate
        if since is not None and rate.hour >= since:
            at = (rate.hour - since) // HOUR
            sent[at] += rate.accepted + rate.duplicate + rate.quarantined
            bad[at] += rate.quarantined
        elif since is not None and rate.hour >= since - _DAY:
            before += rate.accepted + rate.duplicate + rate.quarantined
            before_bad += rate.quarantined
    pulse = parts.pulse
    bars = pulse.bars() if pulse is not None else []
    held, repaired = parts.log.held.count()
    flow = Flow(
        total=total,
        duplicates=duplicates,
        day=sum(sent),
        day_quarantined=sum(bad),
        since=since,
        rate=pulse.now() if pulse is not None else None,
        busiest=pulse.most() if pulse is not None else 0,
        line=spark(bars),
        area=filled(bars),
    )
    share = sum(bad) / sum(sent) if sum(sent) else 0.0
    return flow, Held(
        held - repaired, repaired, share, before_bad / before if before else 0.0, share_limit(parts), spark(bad)
    )


def _last(records: Runs, run: Run) -> LastRun:
    steps = records.steps(run.id)
    told = sorted((one for one in steps if one.state != "cached"), key=lambda one: one.state != "failed")
    ran = sum(one.state == "ran" for one in steps)
    return LastRun(run.id, run.state, run.actor, runs.took(run), run.started, ran, len(steps), told[:8])


def _endpoints(parts: Parts) -> list[Served]:
    return [
        Served(one.name, parts.serving_state(one.name), one.spec.version, one.reason, one.created)
        for one in Endpoints(parts.db, parts.models, parts.clock).list()
    ]


def _predictions(parts: Parts, streams: list[str]) -> list[Said]:
    found: list[StoredEvent] = []
    for stream in streams:
        found += parts.log.events(type="prediction", stream=stream, newest_first=True, limit=_NEWEST)
    lines = []
    for event in sorted(found, key=lambda one: -one.received)[:_NEWEST]:
        data = msgspec.json.decode(event.data)
        told = {name: str(data.get(name) or "") for name in ("endpoint", "entity", "action", "rule")}
        lines.append(Said(id=event.id or "", time=event.time or 0, prediction=data.get("prediction"), **told))
    return lines


def _seen(parts: Parts, event: StoredEvent) -> Seen:
    return Seen(event.position, event.type, event.id, event.source, parts.log.subject(event), event.received)


def _cost(parts: Parts, last: list[Run]) -> Cost:
    prices = read_prices(parts.folder.config())
    newest = last[0].cost if last else 0.0
    return Cost(sum(run.cost for run in last), newest, len(last), prices.currency, prices.this_machine_per_hour)


def _concerns(
    parts: Parts, records: Runs, run: LastRun | None, endpoints: list[Served], held: Held, flow: Flow
) -> list[Concern]:
    """Open alerts first; then what nobody has been alerted to, or not yet."""
    alerts = open_alerts(parts.db)
    told = {name for alert in alerts for name in (alert.example, alert.about)}
    found = []
    for alert in alerts:
        refused = alert.kind == "run_failed" and refusing(records.steps(alert.example))
        kind, address = ("refused", Urls.run(alert.example)) if refused else ("bad", Urls.alert(alert.id))
        found.append(Concern(kind, f"{alert.title}.", alert.action, address))
    if run is not None and run.run not in told and run.state in (FAILED, INTERRUPTED):
        broken = [step.name for step in run.told if step.state == "failed"]
        what = "The last run failed" if run.state == FAILED else "The last run was interrupted"
        where = f" at {', '.join(broken)}" if broken else ""
        again = "The tables are as they were before." if run.state == FAILED else f"`sampan resume {run.run}` goes on."
        kind = "bad"
        if checks := refusing(run.told):
            kind, what, where = "refused", f"The last run was refused by {', '.join(checks)}", ""
        found.append(Concern(kind, f"{what}{where}.", again, Urls.run(run.run)))
    for one in endpoints:
        if one.state == "down" and one.name not in told:
            found.append(
                Concern("bad", f"The endpoint {one.name} does not answer.", "It is started again.", "/endpoints")
            )
    grown = flow.day_quarantined >= _GROWN and held.share > 2 * held.before and held.share > held.limit / 2
    if grown and held.waiting and not any(alert.kind == "quarantined" for alert in alerts):
        text = f"Quarantine grows: {flow.day_quarantined:,} events in a day, {held.share:.1%} of what came in."
        found.append(Concern("wait", text, f"The day before it was {held.before:.1%}.", Urls.quarantine()))
    if not parts.contracts.unchanged:
        text = "contracts.py has changed since this hub was started, and it goes on with what it read then."
        found.append(Concern("wait", text, "Stop it and start it again: `sampan up`.", "/contracts"))
    return found


class Patterns(msgspec.Struct):
    """Context of ``patterns.html``: steps and a chart to draw."""

    steps: list[runs.StepLine]
    chart: Chart


def patterns(parts: Parts, query: Query) -> Patterns:
    """Every component in every state, to look at when the look changes."""
    needs = {
        "orders": ("order_line",),
        "customers": ("orders", "country"),
        "labels": ("orders",),
        "features": ("orders", "customers"),
        "reorder": ("features", "labels"),
        "no_leak": ("features", "labels"),
    }
    states = ("ran", "cached", "cached", "ran", "failed", "blocked")
    kinds = ("table", "table", "table", "table", "model", "check")
    lines = [
        runs.StepLine(name, "", kind, state, "an example", "", 1.2, 0, 0.0, "", needs[name], "", "")
        for name, state, kind in zip(needs, states, kinds, strict=True)
    ]
    chart = Chart(
        title="A chart",
        says="Two made-up measures over four versions: the first rises from .70 to .81, the second falls.",
        x=["v1", "v2", "v3", "v4"],
        x_name="Version",
        series=[
            Series(name="auc", y=[0.7, 0.74, None, 0.81]),
            Series(name="<brier>", y=[0.2, 0.19, 0.17, 0.16], colour="violet"),
        ],
        marks=[Mark("v3", "champion")],
    )
    return Patterns(lines, chart)
