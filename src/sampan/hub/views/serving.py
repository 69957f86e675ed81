"""Endpoints, predictions, and what came of them."""

from typing import Any, Final

import msgspec

from sampan.base.errors import Damaged, NotFound
from sampan.hub.decided import Decided, decided
from sampan.hub.parts import Parts, Query, as_of, begun, may, who
from sampan.hub.remarks import Remarks, remarks
from sampan.hub.views.attached import AttachedLine, of_prediction
from sampan.hub.views.events import older
from sampan.hub.views.reviews import CaseLine, Lines
from sampan.hub.views.signed import in_words as said_of
from sampan.hub.views.signed import signed
from sampan.log.log import StoredEvent
from sampan.log.outcomes import MATCHED_SQL
from sampan.log.position import Position
from sampan.models.signing import OFF
from sampan.serve.endpoints import Endpoint, Endpoints
from sampan.serve.fallback import in_words
from sampan.serve.reviews import cases
from sampan.serve.stream import PREFIX
from sampan.serve.value import earned
from sampan.team.roles import REVIEW

_PAGE: Final = 50


class EndpointLine(msgspec.Struct):
    """An endpoint and what it serves. ``values``: what each action earns for each outcome; ``decided``: what came of
    its decisions, in lists that show it."""

    name: str
    version: str
    bundle: str
    decision: str
    thresholds: dict[str, Any]
    currency: str
    values: dict[str, dict[str, float]]
    entity: str
    actor: str
    reason: str
    created: int
    state: str
    history: list[Any]
    address: str = ""
    """Where its process is asked directly; empty if it is not known, or it is asked through the hub only."""
    fallback: str = ""
    """What answers where its model does not, in words."""
    decided: Decided | None = None
    signature: str = ""
    """Who has signed its version, or that nobody has whose key counts; empty where nobody asks for it."""
    unsigned: bool = False
    """That it should have been signed."""


class EndpointList(msgspec.Struct):
    """Context of ``endpoints.html``."""

    endpoints: list[EndpointLine]
    as_of: int | None = None


def endpoints(parts: Parts, query: Query) -> EndpointList:
    """What is served where, and what was before; or what was served at a time."""
    then = as_of(query)
    records = Endpoints(parts.db, parts.models, parts.clock)
    lines = [line_of(records, one, parts, then) for one in records.list(then)]
    if query.get("figures") != "no":
        for line in lines:
            line.decided = decided(parts.log, line.name, then)
    return EndpointList(lines, then)


def line_of(records: Endpoints, one: Endpoint, parts: Parts, then: int | None = None) -> EndpointLine:
    """An endpoint as lists show it. How it was doing at a time, nobody has written down."""
    bundle = records.bundle(one.bundle)
    decision, vouched = bundle.decision, signed(parts, bundle.version, bundle.model, then)
    return EndpointLine(
        name=one.name,
        version=one.spec.version,
        bundle=one.bundle,
        decision=one.spec.decision,
        thresholds=dict(one.spec.thresholds),
        currency=one.spec.currency,
        values=decision.values if decision else {},
        entity=decision.entity if decision else "",
        actor=one.actor,
        reason=one.reason,
        created=one.created,
        state=parts.serving_state(one.name) if then is None else "in force",
        history=[msgspec.to_builtins(earlier) for earlier in records.history(one.name, then)],
        address=parts.serving_address(one.name) if then is None else "",
        fallback=in_words(decision.fallback) if decision is not None else "",
        signature=said_of(vouched),
        unsigned=vouched.mode != OFF and not vouched.valid,
    )


class PredictionLine(msgspec.Struct):
    """A prediction in the list."""

    id: str
    time: int
    endpoint: str
    version: str
    entity: str
    prediction: Any
    action: str
    rule: str
    outcome: Any = None


class PredictionList(msgspec.Struct):
    """Context of ``predictions.html``. ``next`` is where older ones begin."""

    predictions: list[PredictionLine]
    entity: str
    endpoint: str
    endpoints: list[str]
    next: str | None
    as_of: int | None = None


def predictions(parts: Parts, query: Query) -> PredictionList:
    """The newest predictions, or those about one entity or of one endpoint; as of a time, what was known of them."""
    then = as_of(query)
    entity, after = str(query.get("entity", "")).strip(), str(query.get("after", "")) or None
    names = sorted({row["name"] for row in parts.db.rows("SELECT DISTINCT name FROM endpoints")})
    endpoint = str(query.get("endpoint", ""))
    if endpoint and endpoint not in names:
        raise NotFound(
            "Show predictions", f"no endpoint {endpoint[:100]!r}", f"There are: {', '.join(names) or 'none'}."
        )
    found = parts.log.events(
        type="prediction",
        subject=entity or None,
        stream=PREFIX + endpoint if endpoint else None,
        after=after or _begin(parts, then),
        limit=_PAGE,
        newest_first=True,
        known_by=then,
    )
    known = outcomes(parts, [event.id or "" for event in found], then)
    lines = []
    for event in found:
        lines.append(PredictionLine(**told(event), outcome=known.get(event.id or "", (None, None))[0]))
    return PredictionList(lines, entity, endpoint, names, older(after, found, _PAGE), then)


def told(event: StoredEvent) -> dict[str, Any]:
    """What a line says of a prediction's event, but for its outcome."""
    data = msgspec.json.decode(event.data)
    return {
        "id": event.id or "",
        "time": event.time or 0,
        "endpoint": data.get("endpoint", ""),
        "version": data.get("version", ""),
        "entity": str(data.get("entity", "")),
        "prediction": data.get("prediction"),
        "action": data.get("action", ""),
        "rule": data.get("rule", ""),
    }


def _begin(parts: Parts, then: int | None) -> str | None:
    """Where to begin to go backwards: what serving processes wrote states no other time than that of its arrival."""
    if then is None:
        return None
    streams = {name: reader for name, reader in parts.log.readers().items() if name.startswith(PREFIX)}
    return str(Position({name: reader.number_at(then) + 1 for name, reader in streams.items()}))


def outcomes(parts: Parts, ids: list[str], then: int | None = None) -> dict[str, tuple[Any, int]]:
    """What turned out to be true of predictions, and when; the newest word counts, or the newest by a time."""
    from sampan.lake.query import Source, open_sources, quote_text

    position = parts.log.position()
    if not ids or not parts.log.state("outcome", position).count:
        return {}
    sources: dict[str, Source] = {"outcome": parts.log.source("outcome", position, then)}
    asked = f"WHERE prediction_id IN ({', '.join(map(quote_text, ids))}) ORDER BY _received, _position"
    select = "SELECT prediction_id, value, epoch_us(_time) FROM"
    connection = open_sources(sources, threads=1)
    try:
        keyed = connection.execute("SELECT 1 FROM outcome WHERE prediction_id IS NULL LIMIT 1").fetchone()
        rows = [] if keyed else connection.execute(f"{select} outcome {asked}").fetchall()
    finally:
        connection.close()
    if keyed:  # else predictions, which are many, need not be opened
        sources["prediction"] = parts.log.source("prediction", position, then)
        connection = open_sources(sources, threads=1)
        try:
            rows = connection.execute(f"{select} ({MATCHED_SQL}) {asked}").fetchall()
        finally:
            connection.close()
    return {row[0]: (_plain(row[1]), row[2]) for row in rows}


def _plain(value: Any) -> Any:
    """An outcome as it was sent; the log's table keeps a union of types as JSON text."""
    if isinstance(value, str):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError:
            return value
    return value


class PredictionPage(msgspec.Struct, kw_only=True):
    """Context of ``prediction.html``. ``deployed``: how the bundle that decided had come into force."""

    id: str
    position: str
    time: int
    received: int
    endpoint: str
    version: str
    bundle: str
    entity: str
    prediction: Any
    action: str
    rule: str
    variant: str
    rollout: str
    """The one that it was made in; empty if none went on."""
    latency_us: int | None
    features: dict[str, Any]
    looked_up: str
    """The table and the snapshot that they are from; empty: they came with the request."""
    context: dict[str, Any]
    error: str
    value: Any
    outcome: Any
    outcome_time: int | None
    run: str | None
    earned: float | None
    thresholds: dict[str, Any]
    deployed: Endpoint | None = None
    as_of: int | None = None
    review: CaseLine | None = None
    """What people were asked about it, where a rule has sent it to them."""
    can_answer: bool = False
    attached: list[AttachedLine] = []
    """Its large tensors and files."""
    remarks: Remarks


def prediction(parts: Parts, query: Query) -> PredictionPage:
    """One prediction: rule, version, features, what turned out to be true, or what of that was known at a time."""
    then = as_of(query)
    event = parts.log.find(query["prediction"], type="prediction")
    if event is None:
        raise NotFound(
            "Open a prediction", f"none has the id {query['prediction'][:100]!r}", "/predictions lists the newest."
        )
    begun(f"the prediction {event.id}", event.received, then)
    data = msgspec.json.decode(event.data)
    outcome, known = outcomes(parts, [event.id or ""], then).get(event.id or "", (None, None))
    try:
        run = parts.models.get(data.get("version", "")).run
    except NotFound:
        run = None
    review = _review(parts, event.id or "", then, who(query)) if data.get("review") else None
    settled = review.case.settled if review is not None else None
    value = settled.value if settled is not None else data.get("value")
    return PredictionPage(
        id=event.id or "",
        position=event.position,
        time=event.time or 0,
        received=event.received,
        endpoint=data.get("endpoint", ""),
        version=data.get("version", ""),
        bundle=data.get("bundle", ""),
        entity=str(data.get("entity", "")),
        prediction=data.get("prediction"),
        action=data.get("action", ""),
        rule=data.get("rule", ""),
        variant=data.get("variant", ""),
        rollout=data.get("rollout", ""),
        latency_us=data.get("latency_us"),
        features=data.get("features") or {},
        looked_up=_place(data.get("looked_up")),
        context=data.get("context") or {},
        attached=of_prediction(parts, data),
        error=data.get("error", ""),
        value=value,
        outcome=outcome,
        outcome_time=known,
        run=run,
        earned=earned(value, outcome),
        thresholds=_thresholds(parts, data.get("bundle", "")),
        deployed=Endpoints(parts.db, parts.models, parts.clock).deployed(
            data.get("endpoint", ""), data.get("bundle", ""), event.received
        ),
        as_of=then,
        review=review,
        can_answer=then is None and may(query, REVIEW),
        remarks=remarks(parts, query, "prediction", event.id or ""),
    )


def _review(parts: Parts, id: str, then: int | None, me: str) -> CaseLine | None:
    found = next(iter(cases(parts.log, by=then, id=id)), None)
    return None if found is None else Lines(parts, parts.clock.micros() if then is None else then, me).line(found)


def _thresholds(parts: Parts, bundle: str) -> dict[str, Any]:
    """The thresholds that were in force when it was decided."""
    try:
        decision = Endpoints(parts.db, parts.models, parts.clock).bundle(bundle).decision if bundle else None
    except (NotFound, Damaged):
        return {}
    return dict(decision.thresholds) if decision is not None else {}


def _place(told: Any) -> str:
    """Where features were looked up; empty where an event, which anybody may send, does not say it as serving does."""
    return told if isinstance(told, str) and len(told.split(" ")) == 2 else ""
