"""Who sends how much of what: counts per producer, source, type and hour, read from the log's own frames.

Nothing is counted on the way in. A sealed segment is counted once from its Parquet (the result is cached), the
unsealed part frame by frame as it grows. So the counts are those of the log: exact after a kill, over all streams,
whoever wrote them, and free for a writer. Inside they are kept by the minute, for limits over short windows.
"""

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.files import write_cache
from sampan.log.frames import Frame, payloads, read_file_header
from sampan.log.stream import Manifest, Stream, read_mark
from sampan.log.tally import MINUTE, Counts, Key, Span, add, tally

if TYPE_CHECKING:
    from sampan.log.log import Log

HOUR: Final = 60 * MINUTE
_RETRIES: Final = 20  # a segment may be sealed while it is being read
_WORK: Final = 0.0005  # seconds between two rests of who gives way
_REST: Final = 8  # times what the work took
_GIVING_WAY: Final = 2.0  # seconds after which whoever gives way has done so for long enough
_FOLLOWED: Final = 1.0  # seconds; what is durable is told within milliseconds
_WORTH_KEEPING: Final = 4 << 20  # bytes of an unsealed segment that the next process shall not count again
_KEPT: Final = 4  # sealed segments whose minutes stay in memory


class ProducerRate(msgspec.Struct, frozen=True):
    """What one producer sent of one type from one source, within one hour of the time received.

    ``source`` and ``type`` of what is in quarantine are as far as they could be read, else empty. Of duplicates only
    the producer is kept: they stand in the row without source and type.
    """

    producer: str
    source: str
    type: str
    hour: int  # its first microsecond
    accepted: int = 0
    duplicate: int = 0
    quarantined: int = 0


class _Kept(msgspec.Struct):
    """Counts of one segment, as the cache keeps them."""

    head: str  # of the chain: says that it is the same log
    rows: list[tuple[int, str, str, str, int, int, int]]
    offset: int = 0  # how far they go, of a segment that still grows

    def counts(self) -> Counts:
        return {(minute, who, source, kind): [a, d, q] for minute, who, source, kind, a, d, q in self.rows}


class _Sourced(msgspec.Struct, gc=False):
    source: str


_SOURCES: Final = msgspec.json.Decoder(list[_Sourced])


class _Growing:
    """The counts of an unsealed segment, and how far they go."""

    __slots__ = ("counts", "followed", "head", "kept", "offset")

    def __init__(self, head: str, offset: int, counts: Counts) -> None:
        self.head, self.offset, self.counts = head, offset, counts
        self.kept = offset  # how far they go in the cache
        self.followed = 0.0  # when they last went as far as the writer had told, who will tell what comes after


class _Said(msgspec.Struct):
    """Counts of the frames from one byte of a segment to another, as their writer has them."""

    start: int
    end: int
    counts: Counts


class _Writer:
    """What the writer of this process has told of a stream and nobody has taken up yet."""

    def __init__(self) -> None:
        self._said: dict[int, _Said] = {}
        self._lock = threading.Lock()  # held for microseconds: the writer waits for it

    def tell(self, span: Span, counts: Counts) -> None:
        with self._lock:
            known = self._said.get(span.segment)
            if known is None or known.end != span.start:
                self._said[span.segment] = _Said(span.start, span.end, counts)
            else:
                _sum(known.counts, counts.items(), MINUTE)
                known.end = span.end

    def said(self, number: int) -> _Said | None:
        with self._lock:
            return self._said.get(number)

    def take(self, number: int) -> _Said:
        with self._lock:
            return self._said.pop(number)

    def forget(self, number: int) -> None:
        with self._lock:
            self._said.pop(number, None)


class _StreamRates:
    """Counts of one stream. Hours of sealed segments are summed once and stay in memory; minutes are read again."""

    def __init__(self, folder: Path, cache: Path, writer: "_Writer") -> None:
        self.stream, self.writer = Stream(folder), writer
        self._cache = cache
        self._hours: Counts = {}
        self._last: dict[str, int] = {}
        self._summed: set[int] = set()
        self._growing: dict[int, _Growing] = {}
        self._newest: dict[int, tuple[int, Counts]] = {}  # last minute and counts of the newest sealed segments

    def refresh(self, until: float = inf) -> bool:
        """Take up what came since the last call; False if that was not all by ``until`` (``time.perf_counter``)."""
        for _ in range(_RETRIES):
            manifests = self.stream.manifests()
            for manifest in manifests:
                if manifest.number not in self._summed:
                    counts = self._sealed(manifest)
                    _sum(self._hours, counts.items(), HOUR)
                    _note_last(self._last, counts)
                    self._summed.add(manifest.number)
                    self._newest[manifest.number] = (max((key[0] for key in counts), default=0), counts)
                    while len(self._newest) > _KEPT:
                        del self._newest[min(self._newest)]
                    self._growing.pop(manifest.number, None)
                    self.writer.forget(manifest.number)
            try:
                unsealed = [number for number in self.stream.unsealed() if number not in self._summed]
                return all(self._grow(number, until) for number in unsealed)
            except FileNotFoundError:
                continue  # sealed while it was read
        return True

    def hours(self, begin: int) -> Iterator[tuple[Key, list[int]]]:
        """Counts of whole hours, and of the minutes since, from an instant on."""
        for counts in (self._hours, *(growing.counts for growing in self._growing.values())):
            yield from ((key, row) for key, row in counts.items() if key[0] >= begin)

    def last(self) -> dict[str, int]:
        total = dict(self._last)
        for growing in self._growing.values():
            _note_last(total, growing.counts)
        return total

    def minutes(self, since: int) -> Iterator[tuple[Key, list[int]]]:
        """Counts of whole minutes from an instant on."""
        manifests = self.stream.manifests()
        ends = [*(manifest.created for manifest in manifests[1:]), None]  # a segment ended where the next began
        for manifest, end in zip(manifests, ends, strict=False):
            last, counts = self._newest.get(manifest.number, (end, None))
            if last is None or last >= since:
                yield from (self._sealed(manifest) if counts is None else counts).items()
        for growing in self._growing.values():
            yield from growing.counts.items()

    def _sealed(self, manifest: Manifest) -> Counts:
        path = self._cache / f"{manifest.number:08d}.json"
        kept = _read(path)
        if kept is not None and kept.head == manifest.head:
            return kept.counts()
        growing = self._growing.get(manifest.number)
        if (said := self.writer.said(manifest.number)) is not None:
            growing = growing or _Growing(manifest.previous, said.start, {})
            if growing.offset == said.start:
                self._follow(manifest.number, growing)
        if growing is not None and growing.head == manifest.previous and _whole(growing.counts, manifest):
            counts = growing.counts
        else:
            from sampan.log.sealed import counted

            counts = {}
            for minute, producer, source, kind, *row in counted(self.stream, manifest, MINUTE):
                add(counts, (minute, producer, source, kind), row)
        _write(path, manifest.head, counts)
        with suppress(OSError):
            self._growing_path(manifest.number).unlink()
        return counts

    def _growing_path(self, number: int) -> Path:
        return self._cache / f"{number:08d}.growing.json"

    def _grow(self, number: int, until: float) -> bool:
        said = self.writer.said(number)
        known = self._growing.get(number)
        if known is not None and said is None and time.perf_counter() - known.followed < _FOLLOWED:
            return True  # the writer tells, and has told nothing new
        mark, alive = read_mark(self.stream.folder)
        end = mark.offset if alive and mark is not None and mark.number == number else None
        if known is not None and known.offset == end and said is None:
            self._keep(number, known)
            return True
        fd = os.open(self.stream.log_path(number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = read_file_header(fd, self.stream.log_path(number))
            if found is None:
                return True
            header, start = found
            if known is None or known.head != header.head:
                kept = _read(self._growing_path(number))
                if kept is not None and kept.head == header.head and start <= kept.offset <= os.fstat(fd).st_size:
                    known = _Growing(header.head, kept.offset, kept.counts())
                else:
                    known = _Growing(header.head, start, {})
                self._growing[number] = known
            behind = said is not None and known.offset > said.start
            if said is not None and behind:  # some of it is counted already: what is left is read
                end = self.writer.take(number).end
            elif said is not None:
                end = said.start
            for offset, payload in payloads(fd, known.offset, end):
                count(known.counts, Frame(payload))
                known.offset = offset + 8 + len(payload)
                if time.perf_counter() > until and known.offset != end:
                    return False
            if said is not None and not behind and known.offset == said.start:
                self._follow(number, known)
        finally:
            os.close(fd)
        self._keep(number, known)
        return True

    def _follow(self, number: int, known: _Growing) -> None:
        """Take up what the writer has told, where all before it is counted."""
        said = self.writer.take(number)
        _sum(known.counts, said.counts.items(), MINUTE)
        known.offset, known.followed = said.end, time.perf_counter()

    def _keep(self, number: int, known: _Growing) -> None:
        if known.offset - known.kept >= _WORTH_KEEPING:
            _write(self._growing_path(number), known.head, known.counts, known.offset)
            known.kept = known.offset


def _read(path: Path) -> _Kept | None:
    with suppress(FileNotFoundError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=_Kept)
    return None


def _write(path: Path, head: str, counts: Counts, offset: int = 0) -> None:
    rows: Any = [(*key, *row) for key, row in counts.items()]
    write_cache(path, msgspec.json.encode(_Kept(head, rows, offset)))


class Rates:
    """The counts of a log. One object serves all threads of a process."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self._folder, self._cache = folder, cache
        self._streams: dict[str, _StreamRates] = {}
        self._writers: dict[str, _Writer] = {}
        self._lock = threading.Lock()

    def catch_up(self) -> None:
        """Take up what came, and rest after every half millisecond: for threads on which nobody waits.

        A thread that computes keeps the interpreter for five milliseconds whenever another wants it, and an event loop
        wants it again for each of its callbacks: a tenth of a second of counting held requests up for far longer.
        Where more keeps coming than it takes up that way, it ends, and whoever asks for the counts takes up the rest.
        """
        end = time.perf_counter() + _GIVING_WAY
        while (began := time.perf_counter()) < end:
            with self._lock:
                if all(stream.refresh(began + _WORK) for stream in self._found()):
                    return
            time.sleep(_REST * (time.perf_counter() - began))

    def told(self, stream: str, span: Span, counts: Counts) -> None:
        """What a writer of this process says of frames that are durable now, so that nobody has to read them again."""
        self._writers.setdefault(stream, _Writer()).tell(span, counts)

    def by_hour(self, since: int = 0, until: int | None = None) -> list[ProducerRate]:
        """Counts by the hour, from the hour that holds ``since`` (microseconds) on, in order of time; ``until``: of the
        minutes that were over at that instant."""
        begin = since - since % HOUR
        with self._lock:
            total: Counts = {}
            for stream in self._refreshed():
                counts = stream.hours(begin) if until is None else _over(stream, begin, until)
                _sum(total, counts, HOUR)
        return _rows(total)

    def window(self, since: int) -> list[ProducerRate]:
        """Counts of everything received from the minute of ``since`` on, whose first microsecond ``hour`` says."""
        begin = since - since % MINUTE
        with self._lock:
            total: Counts = {}
            for stream in self._refreshed():
                for key, row in stream.minutes(begin):
                    if key[0] >= begin:
                        add(total, (begin, *key[1:]), row)
        return _rows(total)

    def last(self) -> dict[str, int]:
        """The minute in which each producer last sent anything."""
        with self._lock:
            total: dict[str, int] = {}
            for stream in self._refreshed():
                for producer, minute in stream.last().items():
                    total[producer] = max(minute, total.get(producer, 0))
            return total

    def _refreshed(self) -> list[_StreamRates]:
        streams = self._found()
        for stream in streams:
            stream.refresh()
        return streams

    def _found(self) -> list[_StreamRates]:
        if self._folder.is_dir():
            for path in sorted(self._folder.iterdir()):
                if path.is_dir() and path.name not in self._streams:
                    writer = self._writers.setdefault(path.name, _Writer())
                    self._streams[path.name] = _StreamRates(path, self._cache / path.name, writer)
        return list(self._streams.values())


def producer_rates(log: "Log", since: int = 0) -> list[ProducerRate]:
    """What each producer of a log sent, by source, type and hour, since an instant (microseconds)."""
    return log.rates.by_hour(since)


def count(counts: Counts, frame: Frame) -> None:
    """Take up one frame."""
    sources: list[str] = []
    if frame.accepted:
        sources = [event.source for event in _SOURCES.decode(b"[" + b",".join(frame.raws()[: frame.accepted]) + b"]")]
    complaints = frame.notes.complaints
    tally(counts, frame.received, frame.producer, frame.labels, frame.codes, sources, complaints, frame.duplicate)


def _over(stream: _StreamRates, begin: int, until: int) -> Iterator[tuple[Key, list[int]]]:
    """Counts of the hours that were over at an instant, and of the minutes of the hour in which it lies."""
    hour = until - until % HOUR
    yield from ((key, row) for key, row in stream.hours(begin) if key[0] < hour)
    yield from ((key, row) for key, row in stream.minutes(hour) if hour <= key[0] <= until + 1 - MINUTE)


def _sum(total: Counts, counts: Iterable[tuple[Key, list[int]]], width: int) -> None:
    for (when, producer, source, kind), row in counts:
        add(total, (when - when % width, producer, source, kind), row)


def _note_last(last: dict[str, int], counts: Counts) -> None:
    for minute, producer, _, _ in counts:
        last[producer] = max(minute, last.get(producer, 0))


def _whole(counts: Counts, manifest: Manifest) -> bool:
    told = tuple(sum(column) for column in zip(*counts.values(), strict=True)) if counts else (0, 0, 0)
    return told == (manifest.accepted, manifest.duplicate, manifest.quarantined)


def _rows(total: Counts) -> list[ProducerRate]:
    return [ProducerRate(who, source, kind, when, *row) for (when, who, source, kind), row in sorted(total.items())]
