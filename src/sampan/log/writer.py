"""The one writer of a stream. Requests that arrive while the disk is busy share the next sync.

A request's items are deduplicated, numbered and framed (``Numbering``), written and synced as a group (``_flush``, in
a thread), and only then answered. The first error of a sync poisons the writer: the kernel may have dropped the
bytes and will not say so twice. A full disk does not: the file is cut back and the next request tries again.
"""

import asyncio
import contextlib
import errno
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import Busy, DiskFull, SampanError
from sampan.base.histogram import Histogram
from sampan.base.settings import Settings
from sampan.log.attachments import Attachments
from sampan.log.check import Batch, Checker
from sampan.log.contracts import Contracts
from sampan.log.dedupe import Dedupe, Known
from sampan.log.frames import Repair, SegmentHeader
from sampan.log.group import Counts, Group, Request, doubtful, frames_of
from sampan.log.identity import key_of
from sampan.log.keys import SubjectKeys
from sampan.log.numbering import Numbering
from sampan.log.sealing import Sealing
from sampan.log.segment import Segment
from sampan.log.stream import Durable, Mark, Stream, read_mark
from sampan.log.tally import Counts as Tally
from sampan.log.tally import Span
from sampan.log.verdict import Answer
from sampan.store.lock import FileLock

FULL = (errno.ENOSPC, errno.EDQUOT)


_Made = TypeVar("_Made")


class Poisoned(SampanError):
    """The disk failed to sync; nothing is acknowledged until a restart has read the segment back."""

    status = 503


class Health(msgspec.Struct, frozen=True):
    """Whether a stream takes events, and why not."""

    ready: bool
    reason: str
    waiting: int  # bytes of events that wait for the disk


class StreamWriter:
    """Appends to one stream. Made by ``Log.writer``; holds the stream's lock until closed."""

    def __init__(
        self,
        folder: Path,
        contracts: Contracts,
        clock: Clock,
        settings: Settings,
        keys: SubjectKeys,
        *,
        dedupe: bool = True,
        told: Callable[[str, Span, Tally], None] = lambda stream, span, counts: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.stream = Stream(folder)
        self.name = folder.name
        self._attachments = Attachments(folder.parent.parent / "attachments")
        self.checker = Checker(contracts, keys, self._attachments)
        self.poisoned = ""
        self.syncs = Histogram()
        self._clock, self._keys, self._told = clock, keys, told
        self._limits = tuple(settings.get(f"segment_{name}") for name in ("bytes", "events", "seconds"))
        self._queue_limit: int = settings.get("queue_limit")
        self._lock = FileLock(folder / "lock", f"Write to log stream {self.name}", "Is the hub up? Send through it.")
        try:
            self._recover(dedupe)
        except OSError as error:
            self._lock.release()
            attempted = f"Open log stream {self.name}"
            if error.errno in FULL:
                raise DiskFull(attempted, "the disk is full", "Free some space and start again.") from error
            obstacle = f"{error.filename or folder}: {error.strerror}"
            raise SampanError(attempted, obstacle, "Check the disk and the folder's rights.") from error
        except BaseException:
            self._lock.release()
            raise
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"log-{self.name}")
        self._turn = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[Request] = []
        self._waiting_bytes = 0
        self._refused = 0
        self._full = ""
        self._closed = False

    # -- opening

    def _recover(self, dedupe: bool) -> None:
        mark, _ = read_mark(self.stream.folder)
        self._durable = Durable(self.stream.folder)
        self._begun = time.monotonic()
        manifests = self.stream.manifests()
        self.counts = Counts()
        for manifest in manifests:
            self.counts.accepted += manifest.accepted
            self.counts.duplicate += manifest.duplicate
            self.counts.quarantined += manifest.quarantined
            self.counts.refused += manifest.refused
        self._sealing = Sealing(self.stream, index=dedupe)
        self._sealing.clean()
        segments: list[Segment] = []
        for number in self.stream.unsealed():
            path = self.stream.log_path(number)
            segment = Segment.recover(path, mark.offset if mark and mark.number == number else 0)
            if segment is None:
                path.unlink()
            else:
                segments.append(segment)
        last = manifests[-1].last if manifests else 0
        head, anchor = self.stream.head()
        number = manifests[-1].number + 1 if manifests else 1
        if segments:
            self._segment = segments.pop()
        else:
            self._segment = self._create(number, last + 1, head, anchor)
        self._older = {segment.number: segment for segment in segments}
        self._dedupe = Dedupe(self.stream) if dedupe else None
        self._numbering = Numbering(self.name, self._dedupe, self.checker, self._stored)
        for segment in (*segments, self._segment):
            self._reread(segment)
        self._next = self._segment.last + 1
        self._tell()
        for segment in segments:
            self._sealing.add(segment.number)

    def _reread(self, segment: Segment) -> None:
        """Take up the keys and counts of an unsealed segment."""
        if self._dedupe is not None:
            self._dedupe.begin(segment.number)
        for frame in self.stream.frames(segment.number, segment.size):
            self.counts.accepted += frame.accepted
            self.counts.duplicate += frame.duplicate
            self.counts.quarantined += frame.held
            self.counts.refused += frame.refused
            if self._dedupe is not None:
                self._dedupe.learn(frame)

    def _create(self, number: int, first: int, head: bytes, anchor: bytes) -> Segment:
        header = SegmentHeader(self.name, number, first, head.hex(), anchor.hex(), self._clock.micros())
        return Segment.create(self.stream.log_path(number), header)

    def _tell(self) -> None:
        segment = self._segment
        self._durable.tell(Mark(segment.number, segment.size, segment.last, segment.anchor))

    # -- taking events

    def submit(self, came: Batch | bytes, producer: str, repairs: tuple[Repair, ...] = ()) -> "asyncio.Future[Answer]":
        """Append a checked batch, or one event that is still to be checked; answers when it is durable.

        Raises Busy if too much waits for the disk, DiskFull, Poisoned, now or in its answer. After any of them nothing
        was kept.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            with self._turn:  # work that began before a loop served this writer ends first
                self._loop = loop
        done: asyncio.Future[Answer] = loop.create_future()
        request = Request(came, producer, repairs, done)
        self._refuse_when_unwell(request)
        self._waiting.append(request)
        self._waiting_bytes += request.size
        if self._task is None:
            self._task = loop.create_task(self._drain())
        return done

    def append(self, batch: Batch, producer: str, repairs: tuple[Repair, ...] = ()) -> Answer:
        """``submit`` for commands and threads: blocks until the batch is durable."""

        async def submitted() -> Answer:
            return await self.submit(batch, producer, repairs)

        with self._turn:
            if (loop := self._serving_loop()) is None:
                return self._append(Request(batch, producer, repairs, None))
        return asyncio.run_coroutine_threadsafe(submitted(), loop).result()

    def alone(self, work: Callable[[], _Made]) -> _Made:
        """What ``work`` makes of this writer and its checker while nothing else touches them. For commands and
        threads; a loop that serves the writer waits, so it has to be quick."""

        async def turn() -> _Made:
            return work()

        with self._turn:
            if (loop := self._serving_loop()) is None:
                return work()
        return asyncio.run_coroutine_threadsafe(turn(), loop).result()

    def _serving_loop(self) -> asyncio.AbstractEventLoop | None:
        return self._loop if self._loop is not None and self._loop.is_running() else None

    def _append(self, request: Request) -> Answer:
        self._refuse_when_unwell(request)
        group = self._prepare([request])
        try:
            self._flush(group)
        except BaseException:
            self._take_back(group)
            raise
        self._count(group)
        assert request.answer is not None
        return request.answer

    def find(self, source: str, id: str) -> bytes | None:
        """The event of that source and id as it was sent; None if it is not in this stream, or not yet durable.
        Threads ask ``alone``."""
        if self._dedupe is None:
            return None
        key = key_of(source, id)
        number = self._dedupe.recent(key)
        if number is None:
            self._dedupe.refresh(self._sealing)
            number = self._dedupe.sealed([key]).get(key, (None, None))[0]
        if number is None or number >= self._next:
            return None
        return self._stored(number)

    def refuse(self, items: int) -> None:
        """Count items that were refused before they got here; the next frame records them."""
        self._refused += items
        self.counts.refused += items

    def health(self) -> Health:
        """Whether the stream takes events now."""
        reason = self.poisoned or self._full
        return Health(not reason, reason, self._waiting_bytes)

    @property
    def sealing(self) -> Sealing:
        """What seals this stream's segments: what waits, and why it failed, if it did."""
        return self._sealing

    def _refuse_when_unwell(self, request: Request) -> None:
        if self.poisoned:
            raise Poisoned(f"Append to log stream {self.name}", self.poisoned, "Check the disk, then restart the hub.")
        if self._waiting_bytes and self._waiting_bytes + request.size > self._queue_limit:
            self.refuse(len(request))
            raise Busy(
                f"Append to log stream {self.name}",
                f"{self._waiting_bytes} bytes of events wait for the disk already",
                "Send again in a second.",
            )

    async def _drain(self) -> None:
        """Flush group after group until nobody waits."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                requests, self._waiting = self._checked(self._waiting), []
                group = None
                if not requests:
                    continue
                try:
                    group = self._prepare(requests)
                    await loop.run_in_executor(self._pool, self._flush, group)
                except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it was
                    if group is not None:
                        self._take_back(group)
                    for request in requests:
                        self._settle(request, error)
                else:
                    self._count(group)
                    for request in requests:
                        self._settle(request, None)
        finally:
            self._task = None

    def _settle(self, request: Request, error: BaseException | None) -> None:
        self._waiting_bytes -= request.size
        done = request.done
        if done is None or done.done():  # the client went away
            return
        if error is None:
            assert request.answer is not None
            done.set_result(request.answer)
        else:
            done.set_exception(error)

    # -- making a group

    def _checked(self, requests: list[Request]) -> list[Request]:
        """Check what came unchecked. One that cannot even be checked fails alone."""
        alone = [(request, request.item) for request in requests if request.item is not None]
        if not alone:
            return requests
        try:
            batches = self.checker.singles([item for _, item in alone])
        except Exception:  # noqa: BLE001 - a mistake of ours about one event: whoever sent another must not pay for it
            return [request for request in requests if request.item is None or self._check(request, request.item)]
        for (request, _), batch in zip(alone, batches, strict=True):
            request.batch, request.item = batch, None
        return requests

    def _check(self, request: Request, item: bytes) -> bool:
        try:
            request.batch, request.item = self.checker.batch([item]), None
        except Exception as error:  # noqa: BLE001 - its sender is told
            self.refuse(1)
            self._settle(request, error)
            return False
        return True

    def _prepare(self, requests: list[Request]) -> Group:
        """Deduplicate, number and frame a group; nothing is on disk yet."""
        group = Group(requests, self._next)
        received = self._clock.micros()
        known: Known = {}
        try:
            if self._dedupe is not None:
                self._dedupe.refresh(self._sealing)
                known = self._dedupe.sealed(doubtful(requests))
            for together in frames_of(requests):
                self._numbering.place(group, together, received, known, self._refused)
                self._refused = 0
        except BaseException:
            self._take_back(group)
            raise
        return group

    def _stored(self, number: int) -> bytes:
        """The bytes of a durable item."""
        for segment in (self._segment, *self._older.values()):
            if segment.holds(number):
                frame = segment.frame_with(number)
                return frame.raw(number - frame.first)
        return self.stream.sealed_item(number)

    # -- the disk

    def _flush(self, group: Group) -> None:
        """Write and sync a group. Runs in a thread; nothing else touches the segment meanwhile."""
        attempted = f"Append to log stream {self.name}"
        self._keys.flush()
        self._attach(attempted, group)
        segment = self._segment
        try:
            segment.write(group.frames)
        except OSError as error:
            if error.errno in FULL:
                self._full = "the disk is full"
                raise DiskFull(attempted, self._full, "Free some space and send again.") from error
            raise self._poison(attempted, "write", error) from error
        began = time.perf_counter()
        try:
            segment.sync()
        except OSError as error:
            raise self._poison(attempted, "sync", error) from error
        self.syncs.add(time.perf_counter() - began)
        start = segment.size
        segment.commit(group.frames, group.firsts, group.last)
        group.span = Span(segment.number, start, segment.size)
        self._full = ""
        self._next = group.last + 1
        self._tell()
        self._rotate_if_due()

    def _attach(self, attempted: str, group: Group) -> None:
        """Make the bytes that a group's events carry durable, before the events name them."""
        for request in group.requests:
            for data, _ in request.batch.blobs.values():
                try:
                    self._attachments.put(data)
                except DiskFull:
                    self._full = "the disk is full"
                    raise
                except OSError as error:
                    raise self._poison(attempted, "write", error) from error

    def _poison(self, attempted: str, call: str, error: OSError) -> Poisoned:
        self.poisoned = f"a {call} of {self._segment.path.name} failed: {error.strerror}"
        return Poisoned(attempted, self.poisoned, "Check the disk, then restart the hub; it reads the segment back.")

    def _rotate_if_due(self) -> None:
        size, events, seconds = self._limits
        segment = self._segment
        age = time.monotonic() - self._begun  # of the machine's time: a time-lapse must not seal every second
        if segment.items and (segment.size >= size or segment.items >= events or age >= seconds):
            self._rotate()

    def _rotate(self) -> None:
        """Begin the next segment and have the last one sealed. A full disk leaves things as they are."""
        old = self._segment
        try:
            new = self._create(old.number + 1, self._next, old.head, old.anchor)
        except OSError as error:
            if error.errno in FULL:
                self._full = "the disk is full"
                return
            self._poison("Begin a segment", "sync", error)
            return
        self._older[old.number] = old
        self._segment = new
        self._begun = time.monotonic()
        if self._dedupe is not None:
            self._dedupe.begin(new.number)
        self._tell()
        self._sealing.add(old.number)

    def _take_back(self, group: Group) -> None:
        """Forget the keys of a group that did not reach the disk, and count its items as refused."""
        if self._dedupe is not None:
            for key in group.placed:
                self._dedupe.active.pop(key, None)
        self._refused += group.refused
        self.refuse(sum(len(request) for request in group.requests))

    def _count(self, group: Group) -> None:
        self.counts.accepted += group.counts.accepted
        self.counts.duplicate += group.counts.duplicate
        self.counts.quarantined += group.counts.quarantined
        if group.span is not None:
            self._told(self.name, group.span, group.tallied)
        self._release_sealed()

    def _release_sealed(self) -> None:
        for number in self._sealing.finished():
            if (segment := self._older.pop(number, None)) is not None:
                segment.close()

    # -- closing

    @property
    def unsealed(self) -> int:
        """Items in the segment that is being written."""
        return self._segment.items

    def seal(self) -> None:
        """Seal everything that is durable, now, and wait for it."""
        with self._turn:
            if self._segment.items:
                self._rotate()
            self._sealing.wait()
            if self._dedupe is not None:
                self._dedupe.refresh(self._sealing)
            self._release_sealed()

    async def drained(self) -> None:
        """Wait until every submitted batch has been answered."""
        while (task := self._task) is not None:
            await asyncio.shield(task)

    def close(self) -> None:
        """Let go of the stream; again is harmless. What was acknowledged is durable already."""
        if self._closed:
            return
        self._closed = True
        self._pool.shutdown()
        if self._refused and not self.poisoned:
            with contextlib.suppress(SampanError):  # on a full disk only the count of refused items goes missing
                self._flush(self._prepare([Request(Batch([]), "", (), None)]))
        self._sealing.close()
        if self._dedupe is not None:
            self._dedupe.close()
        for segment in (*self._older.values(), self._segment):
            segment.close()
        self._durable.close()
        self._lock.release()


__all__ = ["Counts", "Health", "Poisoned", "StreamWriter"]
