"""The log: the newest events, one event, what is in quarantine."""

from contextlib import suppress
from typing import Any, Final

import msgspec

from sampan.base.errors import NotFound
from sampan.hub.parts import Parts, Query
from sampan.hub.views.attached import AttachedLine, attached
from sampan.log.log import StoredEvent
from sampan.log.position import Position
from sampan.log.quarantine import Quarantine

_PAGE: Final = 50
BUILTIN: Final = frozenset({"outcome", "prediction"})


class EventLine(msgspec.Struct):
    """An event in the list."""

    position: str
    id: str | None
    type: str | None
    source: str | None
    subject: str | None
    time: int | None
    received: int
    data: Any = None


class LogPage(msgspec.Struct):
    """Context of ``log.html``. ``next`` is where older events begin."""

    stats: dict[str, Any]
    types: list[str]
    type: str
    subject: str
    id: str
    events: list[EventLine]
    next: str | None


def log(parts: Parts, query: Query) -> LogPage:
    """The newest events, of a type, about a subject, or with an id."""
    type, subject, id = (str(query.get(name, "")).strip() for name in ("type", "subject", "id"))
    types = parts.contracts.types()
    if type and type not in types:
        raise NotFound("Show events", f"no kind of event is named {type[:100]!r}", f"There are: {', '.join(types)}.")
    after = str(query.get("after", "")) or None
    next = None
    if id:
        one = parts.log.find(id, type=type or None)
        lines = [_line(parts, one)] if one else []
    else:
        found = parts.log.events(
            type=type or None, subject=subject or None, after=after, limit=_PAGE, newest_first=True
        )
        lines, next = [_line(parts, one) for one in found], older(after, found, _PAGE)
    return LogPage(parts.log.stats(), types, type, subject, id, lines, next)


def _line(parts: Parts, event: StoredEvent) -> EventLine:
    data = msgspec.json.decode(event.data)
    return EventLine(
        event.position, event.id, event.type, event.source, parts.log.subject(event), event.time, event.received, data
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


def event(parts: Parts, query: Query) -> EventPage:
    """One event, whole."""
    return _page(parts, parts.log.at(query["event"]))


def _page(parts: Parts, found: StoredEvent) -> EventPage:
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
    )


class ReasonLine(msgspec.Struct):
    """Quarantined items that have the same reason and come from the same place."""

    reason: str
    path: str | None
    type: str | None
    producer: str
    count: int
    first: int
    last: int
    example: str


class ItemLine(msgspec.Struct):
    """One quarantined item in the list; ``excerpt`` is the beginning of its bytes."""

    position: str
    id: str | None
    type: str | None
    producer: str
    received: int
    reason: str
    path: str | None
    excerpt: str


class QuarantinePage(msgspec.Struct):
    """Context of ``quarantine.html``."""

    total: int
    reason: str
    reasons: list[ReasonLine]
    items: list[ItemLine]
    next: str | None


def quarantine(parts: Parts, query: Query) -> QuarantinePage:
    """What broke its contract, by reason; with ``reason``, the items themselves."""
    wanted, after = str(query.get("reason", "")), str(query.get("after", "")) or None
    held = Quarantine(parts.log)
    found = held.items(limit=None, newest_first=True, whole=False)
    reasons: dict[tuple[str, str | None, str | None, str], ReasonLine] = {}
    for one in found:
        reason = one.reason or "unknown"
        key = (reason, one.path, one.type, one.producer)
        line = reasons.get(key)
        if line is None:
            line = reasons[key] = ReasonLine(
                reason, one.path, one.type, one.producer, 0, one.received, one.received, one.position
            )
        line.count += 1
        line.first = min(line.first, one.received)
    lines = sorted(reasons.values(), key=lambda line: -line.count)
    chosen = [one for one in found if not wanted or one.reason == wanted]
    if after:
        seen = Position.parse(after)
        chosen = [one for one in chosen if _number(one) < seen[one.position.rpartition(":")[0]]]
    whole = {one.position: one for one in held.these([one.position for one in chosen[:_PAGE]])}
    items = [
        ItemLine(
            one.position,
            one.id,
            one.type,
            one.producer,
            one.received,
            one.reason or "",
            one.path,
            _excerpt(whole[one.position]),
        )
        for one in chosen[:_PAGE]
    ]
    return QuarantinePage(len(found), wanted, lines, items, older(after, chosen[:_PAGE], _PAGE))


def _excerpt(held: StoredEvent) -> str:
    """What is wrong with an item: the value at the place that its reason names, else how its bytes begin."""
    steps = (held.path or "$").removeprefix("$.").split(".")
    with suppress(msgspec.DecodeError):
        value = msgspec.json.decode(held.raw)
        for step in steps:
            value = value.get(step, msgspec.UNSET) if isinstance(value, dict) else msgspec.UNSET
        if value is not msgspec.UNSET:
            return f'"{steps[-1]}": {as_text(msgspec.json.encode(value)[:200])}'
    return as_text(held.raw[:200]).replace("\n", " ")


def _number(event: StoredEvent) -> int:
    return int(event.position.rpartition(":")[2])


def item(parts: Parts, query: Query) -> EventPage:
    """One quarantined item with its bytes."""
    return _page(parts, Quarantine(parts.log).show(query["item"]))


def as_text(raw: bytes, most: int = 100_000) -> str:
    """Bytes as text that shows every byte: what is not printable UTF-8 becomes an escape."""
    text = raw[:most].decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
    return text if len(raw) <= most else f"{text}\n… and {len(raw) - most:,} bytes more"
