"""Looking for events by what they say, the newest first, for as long as somebody waits.

A log of years cannot be looked through while a page loads. A search gives what it has found within its time, and the
position from which the next goes on.
"""

import time
from collections.abc import Iterator
from heapq import merge
from itertools import takewhile

import msgspec

from sampan.log.log import Log
from sampan.log.position import Position
from sampan.log.read import Item, Mark, StoredEvent, StreamReader

_OFTEN = 64  # items between two looks at the clock


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What an event must be like. ``since`` and ``until``: when it was received; ``text``: what its bytes say;
    ``known_by``: it could be used at that instant."""

    type: str = ""
    source: str = ""
    subject: str = ""
    id: str = ""
    text: str = ""
    since: int | None = None
    until: int | None = None
    known_by: int | None = None
    verdict: str = "accepted"  # accepted | quarantined | any


class Found(msgspec.Struct):
    """Events, where the search goes on, and up to when (received) it has looked if it ran out of time."""

    events: list[StoredEvent]
    next: str | None
    looked_to: int | None = None


def seek(log: Log, wanted: Wanted, *, after: str | None = None, limit: int = 50, seconds: float = 0.08) -> Found:
    """The newest events that fit, older than the position ``after``."""
    end = time.monotonic() + seconds
    seen = dict(Position.parse(after or ""))
    walks = [_walk(log, reader, wanted, seen.get(name, 0)) for name, reader in log.readers().items()]
    found: list[StoredEvent] = []
    for count, (name, item) in enumerate(merge(*walks, key=lambda pair: -pair[1].received)):
        if wanted.since is not None and item.received < wanted.since:
            return Found(found, None)
        event = None if isinstance(item, Mark) else _fits(log, wanted, name, item)
        seen[name] = item.number
        if event is not None:
            found.append(event)
            if len(found) >= limit:
                return Found(found, str(Position(seen)))
        if (count % _OFTEN == _OFTEN - 1 or isinstance(item, Mark)) and time.monotonic() > end:
            return Found(found, str(Position(seen)), item.received)
    return Found(found, None)


def _walk(log: Log, reader: StreamReader, wanted: Wanted, seen: int) -> Iterator[tuple[str, Item]]:
    """Items of one stream backwards, those left out that cannot fit where leaving them out is quick."""
    last = seen - 1 if seen else reader.last()
    if wanted.until is not None:
        last = min(last, reader.number_at(wanted.until))
    if wanted.verdict == "quarantined":
        held = (one for one in reader.held(newest_first=True) if one.number <= last)
        return ((reader.name, item) for item in held)
    labels = None
    if wanted.type and wanted.verdict == "accepted":
        labels = log.contracts.contract(wanted.type).labels
    needle = max(wanted.subject, wanted.id, wanted.text, key=len)
    if needle:
        found = reader.containing(needle, last, labels=labels, marks=True)
    elif wanted.known_by is not None:
        found = _known(reader, wanted.known_by, last, labels)
    else:
        found = reader.newest(last, labels=labels)
    return ((reader.name, item) for item in found if labels is None or item.label in labels or isinstance(item, Mark))


def _known(reader: StreamReader, by: int, last: int, labels: frozenset[str] | None) -> Iterator[Item]:
    """Items that may have been known by an instant: of those received later, only what states when it was known."""
    received = reader.number_at(by)
    later = reader.containing("known_at", last, labels=labels, marks=True) if received < last else iter(())
    yield from takewhile(lambda item: item.number > received, later)
    yield from reader.newest(min(received, last), labels=labels)


def _fits(log: Log, wanted: Wanted, name: str, item: Item) -> StoredEvent | None:
    if (item.label is None) != (wanted.verdict == "quarantined") and wanted.verdict != "any":
        return None
    if item.label is None and not item.raw:
        item = next(log.readers()[name].some([item.number]), item)
    event = log.stored(name, item)
    fits = (
        wanted.type in ("", event.type)
        and wanted.source in ("", event.source)
        and wanted.id in ("", event.id)
        and (wanted.known_by is None or (event.known_at or event.received) <= wanted.known_by)
        and (not wanted.subject or log.subject(event) == wanted.subject)
        and (not wanted.text or wanted.text in _text(event))
    )
    return event if fits else None


def _text(event: StoredEvent) -> str:
    return event.raw.decode("utf-8", "replace") + "\n" + event.data.decode("utf-8", "replace")
