"""Reading one stream without its writer: how far it is durable, its chain, its items, wherever they lie."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from sampan.base.clock import to_micros
from sampan.base.files import write_cache
from sampan.log.frames import Complaint, Frame, Origin, number_of, payloads, read_file_header
from sampan.log.position import place
from sampan.log.states import States, TypeState
from sampan.log.stream import Manifest, Stream, check_reached, read_mark

_RETRIES: Final = 20  # a segment may be sealed while it is being read
_STRETCH: Final = 256  # items read at first to find the newest of a kind, then twice as many …
_FURTHEST: Final = 65_536  # … up to so many
_SEARCHED: Final = 16_384  # items of the unsealed part that are searched at once
Read = TypeVar("Read")
ESCAPE: Final = b"\\u"  # how JSON may write a letter that need not be escaped


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One item of the log, as pages and lineage show it. Times in microseconds."""

    position: str
    verdict: str  # accepted | quarantined
    received: int
    producer: str
    raw: bytes  # as sent; personal values encrypted
    id: str | None = None
    type: str | None = None
    source: str | None = None
    version: int | None = None
    subject: str | None = None
    time: int | None = None
    known_at: int | None = None
    imported: bool = False  # whether known_at was stated by an import
    data: bytes = b""  # JSON of the data, personal values readable where their key exists
    reason: str | None = None
    path: str | None = None
    origin: Origin | None = None  # of bytes in quarantine that are a message of another protocol


class Item(msgspec.Struct, frozen=True, gc=False):
    """One item with what its frame says of it. ``label`` is ``type@version``, None in quarantine."""

    number: int
    received: int
    producer: str
    label: str | None
    raw: bytes
    complaint: Complaint | None = None  # why it is in quarantine


class Mark(Item, frozen=True, gc=False):
    """A place to which a search has come without finding anything since the last item or mark."""


class Tail(msgspec.Struct):
    """What a scan of the unsealed part of a stream has found so far; kept in the cache between processes."""

    begun: int  # first segment in it
    number: int  # last segment in it
    previous: str  # head in that segment's header: says that it is the same log
    offset: int
    last: int
    head: str
    anchor: str
    counts: list[int]  # accepted, duplicate, quarantined, refused
    states: dict[str, TypeState]
    repaired: list[str]  # positions of quarantined items that have been re-entered


class StreamReader:
    """One stream, read only."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.stream = Stream(folder)
        self.name = folder.name
        self._cache = cache / f"{self.name}.json"
        self._tail: Tail | None = None

    # -- how far

    def last(self) -> int:
        """Number of the last durable item."""
        mark, alive = read_mark(self.stream.folder)
        if mark is not None and (alive or self._settled(mark.number, mark.offset)):
            return mark.last
        self._sync()
        return self.tail().last

    def _settled(self, number: int, offset: int) -> bool:
        """Whether a stream without writer ends where its writer said."""
        try:
            size = self.stream.log_path(number).stat().st_size
        except FileNotFoundError:
            return False
        return size == offset and self.stream.unsealed()[-1:] == [number]

    def _sync(self) -> None:
        """Without a writer nobody else may have synced the last bytes."""
        for number in self.stream.unsealed()[-1:]:
            fd = os.open(self.stream.log_path(number), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def end(self, number: int) -> int | None:
        """Up to which byte an unsealed segment may be read; None: to its last whole frame."""
        mark, alive = read_mark(self.stream.folder)
        return mark.offset if alive and mark is not None and mark.number == number else None

    # -- the unsealed part

    def tail(self, upto: int | None = None) -> Tail:
        """Chain and states of the unsealed part, up to and with item ``upto``; each call reads only what is new."""
        return _anew(lambda: self._read_tail(upto))

    def _read_tail(self, upto: int | None) -> Tail:
        if self._tail is None:
            self._tail = self._kept()
        unsealed = self.stream.unsealed()
        manifests = self.stream.manifests()
        tail = self._tail
        begun = manifests[-1].number + 1 if manifests else 1
        if tail is None or tail.begun != begun or not (upto is None or tail.last <= upto):
            tail = self._begin(manifests)
        tail = msgspec.structs.replace(  # whoever holds what was given before keeps it as it was
            tail, counts=list(tail.counts), states=dict(tail.states), repaired=list(tail.repaired)
        )
        before = (tail.number, tail.offset)
        for number in unsealed:
            if number >= tail.number and not self._scan(tail, number, upto):
                break
        known = self._tail
        farther = known is None or known.begun != tail.begun or tail.last >= known.last
        if farther and (tail.number, tail.offset) != before:  # up to any item, it is a beginning to go on from
            self._tail = tail
            if upto is None:  # else the next process reads the frames itself, and notices what is damaged
                self._keep(tail)
        return tail

    def _begin(self, manifests: list[Manifest]) -> Tail:
        head, anchor = self.stream.head()
        last = manifests[-1].last if manifests else 0
        number = manifests[-1].number + 1 if manifests else 1
        return Tail(number, number, head.hex(), 0, last, head.hex(), anchor.hex(), [0, 0, 0, 0], {}, [])

    def _scan(self, tail: Tail, number: int, upto: int | None) -> bool:
        """Take up a segment's frames; whether there was none beyond ``upto``."""
        path = self.stream.log_path(number)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = read_file_header(fd, path)
            if found is None:
                return True
            header, start = found
            if number > tail.number or not tail.offset:
                tail.number, tail.previous, tail.offset = number, header.head, start
            head, whole = bytes.fromhex(tail.head), True
            known, end = self.stream.synced(fd, number), self.end(number)
            for offset, payload in payloads(fd, tail.offset, end):
                frame = Frame(payload)
                if upto is not None and frame.last > upto:
                    whole = False
                    break
                head = sha256(head + payload).digest()
                tail.offset = offset + 8 + len(payload)
                if frame.items:
                    tail.last, tail.anchor = frame.last, head.hex()
                self._add(tail, frame)
            else:
                check_reached(path, tail.offset, known if end is None else min(known, end))
            tail.head = head.hex()
            return whole
        finally:
            os.close(fd)

    def _add(self, tail: Tail, frame: Frame) -> None:
        for at, value in enumerate((frame.accepted, frame.duplicate, frame.held, frame.refused)):
            tail.counts[at] += value
        tail.repaired.extend(repair.of for repair in frame.notes.repairs)
        states = States()
        states.add(frame, frame.raws())
        for label, state in states.of().items():
            tail.states[label] = tail.states.get(label, TypeState()) + state

    def _kept(self) -> Tail | None:
        try:
            tail = msgspec.json.decode(self._cache.read_bytes(), type=Tail)
            fd = os.open(self.stream.log_path(tail.number), os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        try:
            found = read_file_header(fd, self._cache)
            fits = found is not None and found[0].head == tail.previous and os.fstat(fd).st_size >= tail.offset
            return tail if fits else None
        finally:
            os.close(fd)

    def _keep(self, tail: Tail) -> None:
        write_cache(self._cache, msgspec.json.encode(tail))

    # -- the chain

    def anchor(self, last: int) -> str:
        """Chain head after the frame that ends with item ``last``."""
        if last >= self._sealed():
            mark, alive = read_mark(self.stream.folder)
            if alive and mark is not None and mark.last == last:
                return mark.anchor.hex()
            found = self.tail(last).anchor
            if last >= self._sealed():  # else it was sealed meanwhile, and the tail begins behind it
                return found
        for manifest in self.stream.manifests():
            if manifest.last == last:
                return manifest.anchor
            if manifest.first <= last < manifest.last:
                from sampan.log.sealed import anchor

                return anchor(self.stream, manifest, last)
        return self._begin([]).anchor

    # -- items

    def items(self, first: int = 1, last: int | None = None, *, labels: frozenset[str] | None = None) -> Iterator[Item]:
        """Items from number ``first`` to ``last``; with ``labels`` only accepted ones of these. In order."""
        last = self.last() if last is None else last
        at = first
        for _ in range(_RETRIES):
            try:
                for item in self._items(at, last, labels):
                    yield item
                    at = item.number + 1
            except FileNotFoundError:
                continue  # sealed while it was read: go on from there
            return

    def _items(self, first: int, last: int, labels: frozenset[str] | None) -> Iterator[Item]:
        sealed, unsealed = 0, self.stream.unsealed()  # these first: what is sealed meanwhile is among the manifests
        for manifest in self.stream.manifests():
            sealed = manifest.number
            wanted = labels is None or not labels.isdisjoint(manifest.types)
            if wanted and manifest.last >= first and manifest.first <= last:
                from sampan.log.sealed import items

                yield from items(self.stream, manifest, first, last, labels)
        for number in unsealed:
            if number > sealed:
                for frame in self.stream.frames(number, self.end(number), first=first):
                    if frame.first > last:
                        return
                    yield from _of(frame, first, last, labels)

    def _sealed(self) -> int:
        """The last item that is sealed by now."""
        manifests = self.stream.manifests()
        return manifests[-1].last if manifests else 0

    def has(self, labels: frozenset[str]) -> bool:
        """Whether any accepted item has one of these labels; what has none need not be searched for them."""

        def sealed() -> bool:
            return any(not labels.isdisjoint(manifest.types) for manifest in self.stream.manifests())

        return sealed() or not labels.isdisjoint(self.tail().states) or sealed()  # again: it may just have been

    def _reached(self, last: int | None) -> int:
        """The item to go backwards from: the one asked for, if there are so many."""
        return self.last() if last is None else min(last, self.last())

    def newest(
        self, last: int | None = None, *, labels: frozenset[str] | None = None, first: int = 1
    ) -> Iterator[Item]:
        """Items from number ``last`` (default: the end) backwards to ``first``."""
        last = self._reached(last)
        stretch = _STRETCH
        while last >= max(first, 1):
            begin = max(1, first, last - stretch + 1)
            yield from reversed(list(self.items(begin, last, labels=labels)))
            last, stretch = begin - 1, min(2 * stretch, _FURTHEST)

    def number_at(self, received: int) -> int:
        """Number of the last item that was received by an instant (microseconds); 0: there is none."""
        return _anew(lambda: self._number_at(received))

    def _number_at(self, received: int) -> int:
        found = sealed = 0
        unsealed = self.stream.unsealed()
        for manifest in self.stream.manifests():
            from sampan.log.sealed import number_at

            if (number := number_at(self.stream, manifest, received)) < manifest.last:
                return max(number, found)
            found, sealed = manifest.last, manifest.number
        for number in unsealed:
            if number <= sealed:
                continue
            at = self.stream.number_at(number, received)
            if at is None:
                return found
            found = at
            if at < 1 << 62:
                return found
        return min(found, self.last())

    def held(self, *, newest_first: bool = False) -> Iterator[Item]:
        """Quarantined items, those of sealed segments without their bytes (``some`` reads them)."""
        manifests = self.stream.manifests()
        stretches = [self._held(manifest) for manifest in manifests if manifest.quarantined]
        first = manifests[-1].last + 1 if manifests else 1
        stretches.append(item for item in self.items(first) if item.label is None)
        for found in reversed(stretches) if newest_first else stretches:
            yield from reversed(list(found)) if newest_first else found

    def _held(self, manifest: Manifest) -> Iterator[Item]:
        from sampan.log.sealed import held

        return held(self.stream, manifest)

    def some(self, numbers: Sequence[int]) -> Iterator[Item]:
        """The items of these numbers, in order."""
        wanted = sorted(numbers)
        for manifest in self.stream.manifests():
            if mine := [number for number in wanted if manifest.first <= number <= manifest.last]:
                from sampan.log.sealed import some

                yield from some(self.stream, manifest, mine)
                wanted = wanted[wanted.index(mine[-1]) + 1 :]
        for number in wanted:
            yield from self.items(number, number)

    def with_id(self, id: str, *, labels: frozenset[str] | None = None) -> Iterator[Item]:
        """Accepted items of an id, whatever their source; segments that have none of ``labels`` are not opened."""
        done = 0
        found: list[Item] | None = None
        while found is None:
            for manifest in self.stream.manifests():
                if manifest.last > done and (labels is None or not labels.isdisjoint(manifest.types)):
                    from sampan.log.sealed import numbers_of

                    yield from self.some(numbers_of(self.stream, manifest, id))
                done = max(done, manifest.last)
            found = self._searched(id, done + 1, self.last())
        for item in found:
            if item.label is not None and msgspec.json.decode(item.raw, type=_Told).id == id:
                yield item

    def containing(
        self, text: str, last: int | None = None, *, labels: frozenset[str] | None = None, marks: bool = False
    ) -> Iterator[Item]:
        """Items that may say ``text`` somewhere, from number ``last`` (default: the end) backwards; the caller looks
        where, and whether they are of ``labels``. Costs a search through the bytes, and nothing per event. With
        ``marks`` a Mark says now and then how far the search has come."""
        at = self._reached(last)
        while at > (sealed := self._sealed()):
            # a stretch at a time: what stands in every event must not be gathered from all of them
            first = max(sealed + 1, at - _SEARCHED + 1)
            found = self._searched(text, first, at)
            if found is None:
                continue
            yield from reversed(found)
            at = first - 1
            if marks:
                yield from (Mark(one.number, one.received, "", None, b"") for one in self.items(first, first))
        for manifest in reversed(self.stream.manifests()):
            if manifest.first <= at and (labels is None or not labels.isdisjoint(manifest.types)):
                from sampan.log.sealed import containing

                yield from containing(self.stream, manifest, _needle(text), at, marks)

    def _searched(self, text: str, first: int, last: int) -> list[Item] | None:
        """The same of a stretch of the unsealed part, in order; None if some of it was sealed meanwhile."""
        try:
            found = list(self._containing(text, first, last))
        except FileNotFoundError:
            return None
        return found if self._sealed() < first else None

    def _containing(self, text: str, first: int, last: int) -> Iterator[Item]:
        needle = _needle(text)

        def wanted(payload: bytes) -> bool:
            return _says(payload, needle) or number_of(payload) > last

        for number in self.stream.unsealed():
            for frame in self.stream.frames(number, self.end(number), first=first, holding=wanted):
                if frame.first > last:
                    return
                for item in _of(frame, first, last, None):
                    if _says(item.raw, needle):
                        yield item


def _anew(read: Callable[[], Read]) -> Read:
    """What a reading gives; it begins again when a segment was sealed under it."""
    for _ in range(_RETRIES):
        with suppress(FileNotFoundError):
            return read()
    return read()


def _needle(text: str) -> bytes:
    """What must stand in JSON that says ``text`` without escaping what need not be: its longest plain stretch."""
    return max(re.split(r'["\\/\x00-\x1f\x7f]', text), key=len).encode()


def _says(data: bytes, needle: bytes) -> bool:
    """Whether it stands in JSON, or may stand there behind an escape."""
    return needle in data or (b"\\" in data and ESCAPE in data)


def _of(frame: Frame, first: int, last: int, labels: frozenset[str] | None) -> Iterator[Item]:
    if frame.last < first or frame.first > last or (labels is not None and labels.isdisjoint(frame.labels)):
        return
    begin, end = max(first - frame.first, 0), min(last - frame.first + 1, frame.items)
    if begin >= end:
        return
    raws: Mapping[int, bytes] | Sequence[bytes] = frame.raws() if end - begin > 1 else {begin: frame.raw(begin)}
    accepted = frame.accepted
    for index in range(begin, end):
        label = frame.label(index) if index < accepted else None
        if labels is None or label in labels:
            complaint = frame.notes.complaints[index - accepted] if label is None else None
            yield Item(frame.first + index, frame.received, frame.producer, label, raws[index], complaint)


class _Told(msgspec.Struct, gc=False):
    id: str
    source: str
    time: object
    data: msgspec.Raw
    subject: str | None = None
    known_at: object = None


def stored(stream: str, item: Item, opened: bytes | None = None) -> StoredEvent:
    """An item as pages show it. ``opened``: its data with personal values readable."""
    where = place(stream, item.number)
    if item.label is None:
        complaint = item.complaint or Complaint("unknown")
        return StoredEvent(
            position=where,
            verdict="quarantined",
            received=item.received,
            producer=item.producer,
            raw=item.raw,
            id=complaint.id,
            type=complaint.type,
            source=complaint.source,
            reason=complaint.reason,
            path=complaint.path,
            origin=complaint.origin,
        )
    told = msgspec.json.decode(item.raw, type=_Told)
    kind, _, version = item.label.rpartition("@")
    known_at = instant(told.known_at) if told.known_at is not None else item.received
    return StoredEvent(
        position=where,
        verdict="accepted",
        received=item.received,
        producer=item.producer,
        raw=item.raw,
        id=told.id,
        type=kind,
        source=told.source,
        version=int(version),
        subject=told.subject,
        time=instant(told.time),
        known_at=known_at,
        imported=told.known_at is not None,
        data=bytes(told.data) if opened is None else opened,
    )


def instant(text: object) -> int:
    """Microseconds of an event's time as it stands in JSON; a time without offset is UTC."""
    from datetime import datetime

    return to_micros(msgspec.convert(text, datetime))
