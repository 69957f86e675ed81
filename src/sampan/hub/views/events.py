"""The log: its newest events, filtered; one event and all that has been derived from it."""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from sampan.base.clock import to_micros
from sampan.base.errors import NotFound, Usage
from sampan.hub.parts import Parts, Query, as_of, begun
from sampan.hub.remarks import Remarks, remarks
from sampan.hub.shown import as_text
from sampan.hub.views.attached import AttachedLine, attached
from sampan.lake.history import MAIN
from sampan.log.held import Held
from sampan.log.log import StoredEvent
from sampan.log.position import Position, place
from sampan.log.repairs import RepairRecord, Repairs
from sampan.log.seek import Found, Wanted, seek
from sampan.runs.records import SUCCEEDED, Run, Runs
from sampan.serve.stream import PREFIX

_PAGE: Final = 50
_RELATED: Final = 5
BUILTIN: Final = frozenset({"outcome", "prediction", "review", "shadow"})
VERDICTS: Final = ("accepted", "quarantined", "any")


class EventLine(msgspec.Struct):
    """An event in the list."""

    position: str
    id: str | None
    type: str | None
    source: str | None
    subject: str | None
    time: int | None
    received: int
    verdict: str
    data: Any = None
    reason: str | None = None


class LogPage(msgspec.Struct):
    """Context of ``log.html``. ``next`` is where older events begin; ``looked_to``: how far back (received) the search
    came within its time, if it did not come to an end. ``stats`` and ``sources`` are those of now."""

    stats: dict[str, Any]
    types: list[str]
    sources: list[str]
    type: str
    source: str
    subject: str
    id: str
    text: str
    since: str
    until: str
    verdict: str
    after: str
    filtered: bool
    events: list[EventLine]
    next: str | None
    looked_to: int | None
    as_of: int | None = None


def log(parts: Parts, query: Query) -> LogPage:
    """The newest events: of a type, from a source, about a subject, with an id, saying a text, received in a time;
    as of a time, those that were known by then."""
    then = as_of(query)
    given = {
        name: str(query.get(name, "")).strip()[:300]
        for name in ("type", "source", "subject", "id", "text", "since", "until")
    }
    verdict = str(query.get("verdict", "")).strip() or "accepted"
    types = parts.contracts.types()
    if given["type"] and given["type"] not in types:
        known = f"There are: {', '.join(types)}."
        raise NotFound("Show events", f"no kind of event is named {given['type'][:100]!r}", known)
    if verdict not in VERDICTS:
        raise Usage("Show events", f"no verdict is named {verdict[:60]!r}", f"There are: {', '.join(VERDICTS)}.")
    after = str(query.get("after", "")) or None
    since, until = _instant(given["since"], "since"), _instant(given["until"], "until", end=True)
    searched = [given[name] for name in ("source", "subject", "id", "text", "since", "until") if given[name]]
    if given["id"] and len(searched) == 1 and verdict == "accepted":
        one = parts.log.find(given["id"], type=given["type"] or None)
        there = one is not None and (then is None or (one.known_at or one.received) <= then)
        found = Found([one] if one and there else [], None)
    else:
        plain = {name: given[name] for name in ("type", "source", "subject", "id", "text")}
        wanted = Wanted(**plain, since=since, until=until, known_by=then, verdict=verdict)
        found = seek(parts.log, wanted, after=after, limit=_PAGE)
    return LogPage(
        stats=parts.log.stats(),
        types=types,
        sources=sorted({rate.source for rate in parts.log.rates.by_hour() if rate.source}),
        **given,
        verdict=verdict,
        after=after or "",
        filtered=bool(searched or given["type"] or verdict != "accepted"),
        events=[_line(parts, event) for event in found.events],
        next=found.next,
        looked_to=found.looked_to,
        as_of=then,
    )


def _instant(text: str, name: str, *, end: bool = False) -> int | None:
    """A moment as a form field writes it; one without an offset is UTC, a whole minute or day counts to its end."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Usage("Show events", f"{name} is {text[:60]!r}", "Write it as 2026-01-31 or 2026-01-31T12:30.") from None
    micros = to_micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    width = 86_400_000_000 if len(text) <= 10 else 60_000_000 if len(text) <= 16 else 1_000_000
    return micros + width - 1 if end else micros


def _line(parts: Parts, event: StoredEvent) -> EventLine:
    data = msgspec.json.decode(event.data) if event.data else None
    return EventLine(
        event.position,
        event.id,
        event.type,
        event.source,
        parts.log.subject(event),
        event.time,
        event.received,
        event.verdict,
        data,
        event.reason,
    )


def older(after: str | None, found: list[StoredEvent], page: int) -> str | None:
    """The position from which the next page goes on, over all streams; None at the end."""
    if len(found) < page:
        return None
    seen = dict(Position.parse(after or ""))
    for event in found:
        stream, _, number = event.position.rpartition(":")
        seen[stream] = int(number)
    return str(Position(seen))


class Reader(msgspec.Struct):
    """A step that an event goes into. ``state``: read, when a run has read the log as far as it; else waiting."""

    name: str
    kind: str
    state: str
    run: str
    snapshot: str
    through: list[str]


class Related(msgspec.Struct):
    """Another event that has to do with this one."""

    position: str
    type: str | None
    id: str | None
    received: int
    says: str


class Spoken(msgspec.Struct):
    """A prediction about the event's subject."""

    id: str
    time: int
    endpoint: str
    version: str
    prediction: Any
    action: str


class Derived(msgspec.Struct):
    """What came of an event. ``run``: the last run that succeeded, from which the readers are known."""

    run: str
    readers: list[Reader]
    predictions: list[Spoken]
    conflicts: list[Related]
    about: list[Related]
    item: str | None
    repair: RepairRecord | None


class EventPage(msgspec.Struct):
    """Context of ``event.html``. ``raw`` is the event as it was sent, personal values encrypted."""

    position: str
    verdict: str
    id: str | None
    type: str | None
    version: int | None
    source: str | None
    subject: str | None
    producer: str
    time: int | None
    received: int
    known_at: int | None
    imported: bool
    data: Any
    raw: str
    reason: str | None
    path: str | None
    attached: list[AttachedLine] = []
    derived: Derived | None = None
    protocol: str | None = None  # whose message the bytes are, if they are no event's
    part: str | None = None  # which of its events the item is
    remarks: Remarks | None = None
    as_of: int | None = None


def event(parts: Parts, query: Query) -> EventPage:
    """One event, whole, with everything derived from it, or that had been at a time."""
    then = as_of(query)
    found = parts.log.at(query["event"])
    begun(f"the event {found.position}", found.known_at or found.received, then)
    shown = page(parts, found)
    if found.verdict == "accepted":
        shown.derived = _derived(parts, found, shown.subject, then)
    kind = "event" if found.verdict == "accepted" else "item"
    shown.remarks = remarks(parts, query, kind, found.position)
    shown.as_of = then
    return shown


def page(parts: Parts, found: StoredEvent) -> EventPage:
    """An item as it is."""
    try:
        data = msgspec.json.decode(found.data) if found.data else None
    except msgspec.DecodeError:
        data = None
    return EventPage(
        position=found.position,
        verdict=found.verdict,
        id=found.id,
        type=found.type,
        version=found.version,
        source=found.source,
        subject=parts.log.subject(found),
        producer=found.producer,
        time=found.time,
        received=found.received,
        known_at=found.known_at,
        imported=found.imported,
        data=data,
        raw=as_text(found.raw),
        reason=found.reason,
        path=found.path,
        attached=attached(parts, found, data),
        protocol=found.origin.protocol if found.origin is not None else None,
        part=found.origin.part if found.origin is not None else None,
    )


def _derived(parts: Parts, event: StoredEvent, subject: str | None, then: int | None) -> Derived:
    runs = Runs(parts.db)
    last = next((run for run in runs.list(50, branch=MAIN, by=then) if run.state == SUCCEEDED), None)
    repair = Repairs(parts.db, parts.clock).of(event.position)
    if repair is not None and then is not None and repair[2].created > then:
        repair = None
    own = event.type in BUILTIN
    return Derived(
        run=last.id if last else "",
        readers=_readers(parts, runs, last, event, then) if last else [],
        predictions=_spoken(parts, subject, then) if subject and not own else [],
        conflicts=_conflicts(parts, event, then),
        about=_about(parts, event, subject, then) if subject and not own else [],
        item=repair[0] if repair else None,
        repair=repair[2] if repair else None,
    )


def waiting(parts: Parts, then: int | None) -> list[Held]:
    """What waits in quarantine, or waited at a time, the newest first."""
    repaired = Repairs(parts.db, parts.clock).repaired(then) if then is not None else ()
    return parts.log.held.waiting(then, repaired)


def _readers(parts: Parts, runs: Runs, last: Run, event: StoredEvent, then: int | None) -> list[Reader]:
    """Every step of the last good run that reads the event's type, itself or through others."""
    stream, _, number = event.position.rpartition(":")
    covered = int(number) <= Position.parse(last.position)[stream]
    snapshots = parts.lake.tables(parts.lake.ref_at(MAIN, then))
    via: dict[str, list[str]] = {event.type or "": []}
    found = []
    for step in runs.steps(last.id):  # in the order in which they were planned: what is needed comes first
        through = [need for need in step.needs if need in via]
        if through:
            via[step.name] = through
            snapshot = snapshots[step.name].id if step.name in snapshots else ""
            state = "read" if covered and step.state in ("ran", "cached") else "waiting"
            direct = [] if event.type in through else through
            found.append(Reader(step.name, step.kind, state, last.id, snapshot, direct))
    return found


def _spoken(parts: Parts, subject: str, then: int | None) -> list[Spoken]:
    """The newest predictions about somebody."""
    events: list[StoredEvent] = []
    for stream in parts.log.position():
        if stream.startswith(PREFIX):
            events += parts.log.events(
                type="prediction",
                subject=subject,
                stream=stream,
                after=None if then is None else place(stream, parts.log.readers()[stream].number_at(then) + 1),
                limit=_RELATED,
                newest_first=True,
                known_by=then,
            )
    lines = []
    for event in sorted(events, key=lambda one: -one.received)[:_RELATED]:
        data = msgspec.json.decode(event.data)
        told = {name: str(data.get(name) or "") for name in ("endpoint", "version", "action")}
        lines.append(Spoken(id=event.id or "", time=event.time or 0, prediction=data.get("prediction"), **told))
    return lines


def _conflicts(parts: Parts, event: StoredEvent, then: int | None) -> list[Related]:
    """What came with its source and id and said something else: it waits in quarantine."""
    return [
        Related(one.position, one.complaint.type, one.complaint.id, one.received, one.complaint.reason)
        for one in waiting(parts, then)
        if one.complaint.id == event.id and one.complaint.source in (None, event.source)
    ][:_RELATED]


def _about(parts: Parts, event: StoredEvent, subject: str, then: int | None) -> list[Related]:
    """The newest other events about the same subject, as far as a moment's search finds them."""
    found = seek(parts.log, Wanted(subject=subject, known_by=then), limit=_RELATED + 1, seconds=0.05)
    return [
        Related(one.position, one.type, one.id, one.received, "")
        for one in found.events
        if one.position != event.position and one.type != "prediction"
    ][:_RELATED]
