"""The serving process of one endpoint: loads one bundle, answers from it, writes its own stream of the log.

Started by ``sampan.serve.worker`` with one end of a socket pair; it reads no records, but for which
snapshot a table is where features are looked up by key. The candidate of a rollout is
such a process without the stream: it listens, where it is told to, for one connection from the champion's.

Clients that ask it directly come through an ``Entrance``, which knows HTTP and lies above: ``sampan.api.entrance`` is
this process with one.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec

from sampan.base.clock import Clock, SharedClock, SystemClock
from sampan.base.errors import Busy, Damaged, SampanError
from sampan.base.settings import Folder, Settings
from sampan.models.signing import Signed, read_trust
from sampan.serve.alarm import Alarm
from sampan.serve.answer import Answerer
from sampan.serve.apart import Apart
from sampan.serve.assignment import Assigned, News
from sampan.serve.bundle import Bundle, open_bundle
from sampan.serve.fallback import Silent
from sampan.serve.following import Followed, Following, Overdone
from sampan.serve.frames import Frame, Frames, Kind
from sampan.serve.live import outgoing
from sampan.serve.order import Before, Door, Order
from sampan.serve.overload import OVERDUE
from sampan.serve.report import Reporter
from sampan.serve.service import Service
from sampan.serve.stream import Stream
from sampan.serve.variants import Variants
from sampan.store.blobs import Blobs

_TURN: Final = 0.0005  # seconds for which the loop may compute while a thread waits to say that events are durable
_PATIENCE: Final = 5.0  # seconds in which the process before this one has to let go of the stream


T = TypeVar("T")
_DIRECT: Final = 1 << 32  # requests from this number on came through the entrance, the others from the hub


class Entrance(Protocol):
    """Where clients ask this process directly. It asks with numbers from ``_DIRECT`` on, each at most once."""

    def admit(self, passes: bytes) -> None:
        """Let in who has one of these tokens (JSON), and nobody else."""

    async def open(self, ask: Callable[[int, bytes, int], None]) -> None:
        """Take up the connections that were left, and all that come."""

    def answered(self, request: int, status: int, body: bytes) -> None:
        """The answer to what was asked."""

    def rest(self) -> None:
        """Take up nothing more, and read no further."""

    async def leave(self) -> None:
        """Leave all connections to the next process. What has been asked is answered."""


#: Makes the entrance of an endpoint: the number is the first that it may ask with; the last takes each answer's status.
Entering = Callable[[Door, str, Bundle, int, Callable[[int], None]], Entrance]


def main(entering: Entering | None = None) -> None:
    """Called by ``sampan.serve.begin``."""
    sys.setswitchinterval(_TURN)
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.setblocking(False)
    run: Callable[[Coroutine[Any, Any, int]], int]
    try:
        import uvloop
    except ImportError:
        run = asyncio.run
    else:
        run = uvloop.run
    code = run(_serve(connection, entering))
    if code == OVERDUE:  # a thread may be at it still
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


async def _serve(connection: socket.socket, entering: Entering | None) -> int:
    """Serve until told to stop or the hub is gone; returns the exit code."""
    loop = asyncio.get_running_loop()
    news: asyncio.Queue[Frame | None] = asyncio.Queue()
    service: Service | None = None
    answerer: Answerer | None = None
    beside: _Beside | None = None
    entrance: Entrance | None = None
    following: Following | None = None
    passes = b"[]"

    def on_frame(frame: Frame) -> None:
        if frame.kind is Kind.ASK and service is not None:
            service.ask(frame.request, frame.payload, frame.status)
        elif frame.kind is Kind.TRY and answerer is not None:
            link.send(Kind.ANSWER, frame.request, _tried(answerer, frame.payload), 200)
        elif frame.kind is Kind.LOOK:
            link.send(Kind.SEEN)
        elif frame.kind is Kind.ADMIT:
            nonlocal passes
            passes = frame.payload
            if entrance is not None:
                entrance.admit(passes)
        elif frame.kind in (Kind.LISTEN, Kind.ASSIGN) and beside is not None:
            beside.told(frame)
        elif frame.kind is Kind.STIR:
            if following is not None:
                following.stir()
        else:
            news.put_nowait(frame)

    link = Frames(on_frame, lambda: news.put_nowait(None))
    reporter = Reporter(lambda report: link.send(Kind.TOLD, payload=report))
    await loop.create_connection(lambda: link, sock=connection)
    loop.add_signal_handler(signal.SIGTERM, news.put_nowait, None)

    async def told_to(*kinds: Kind) -> Frame | None:
        frame = await news.get()
        return frame if frame is not None and frame.kind in kinds else None

    def fail(error: Exception) -> None:  # the edge of this process: the hub shows what it says
        known = error if isinstance(error, SampanError) else Damaged("Serve", f"{type(error).__name__}: {error}")
        link.send(Kind.FAILED, payload=msgspec.json.encode(known.body()["error"]))
        link.close()

    try:
        opening = await told_to(Kind.OPEN)
        if opening is None:
            return 0
        order = msgspec.json.decode(opening.payload, type=Order)
        folder = Folder(Path(order.root))
        settings = folder.settings()
        clock = _clock(settings, folder)
        blobs = Blobs(folder.data / "blobs")
        opened = open_bundle(
            order.bundle,
            blobs,
            outgoing(settings),
            without_model=order.without_model,
            demand=partial(_demand, folder, order.bundle, order.signatures),
        )
        answerer = Answerer(order.endpoint, opened, clock, folder.data)
        answerer.warm()
        answerer.guard(alarm := Alarm(order.endpoint))
        beside = _Beside(answerer, link)
        if entering is not None and order.door is not None:
            entrance = entering(order.door, order.endpoint, order.bundle, _DIRECT, reporter.answered)
            entrance.admit(passes)
        silent = opened.predictor.error.obstacle if isinstance(opened.predictor, Silent) else ""
        _calm_the_collector()  # before: whoever hears that it is ready expects it to listen within a second
        link.send(Kind.READY, payload=silent.encode())
    except Exception as error:  # noqa: BLE001
        fail(error)
        await asyncio.sleep(0.05)
        return 3

    def answer(request: int, status: int, body: bytes) -> None:
        if entrance is not None and request >= _DIRECT:
            entrance.answered(request, status, body)
        else:
            link.send(Kind.ANSWER, request, body, status)
        if stream.broken or alarm.rang:  # nothing may be acknowledged on top of bytes that may be lost: start anew
            news.put_nowait(None)

    alarm.start(settings.get("predict_timeout"))
    code, going_on = 0, True
    # and once more when it is gone back to
    while going_on and (taking := await told_to(Kind.TAKE, Kind.FOLLOW)) is not None:
        if taking.kind is Kind.FOLLOW:
            followed = msgspec.json.decode(taking.payload, type=Followed)
            parts = (answerer, followed, folder, settings, clock, alarm, beside.tell, reporter.kept)
            try:
                following = await _when_free(partial(Following, *parts))
                link.send(Kind.FOLLOWING)
                code = await _follow(following, news)
            except Exception as error:  # noqa: BLE001
                fail(error)
                await asyncio.sleep(0.05)
                return 3
            reporter.flush()
            break
        try:
            stream = await _when_free(partial(Stream, order.endpoint, folder, settings, clock, reporter.kept))
        except Exception as error:  # noqa: BLE001
            fail(error)
            await asyncio.sleep(0.05)
            return 3
        answerer.resume(stream)
        loading = asyncio.ensure_future(_fall_back(answerer, taking.payload, blobs, clock, settings, folder))
        if silent:
            await loading
        service = Service(answerer, stream, answer, beside.variants, order.endpoint)
        if entrance is not None:
            await entrance.open(service.ask)
        link.send(Kind.TAKEN)
        while (frame := await news.get()) is not None and frame.kind not in (Kind.STOP, Kind.GIVE):
            pass
        if entrance is not None:
            entrance.rest()
        await service.finish()
        await loading
        if entrance is not None:
            await entrance.leave()
        beside.variants.end()
        code = 3 if stream.broken else OVERDUE if alarm.rang else 0
        stream.close()
        reporter.flush()
        service.close()
        service = None
        going_on = frame is not None and frame.kind is Kind.GIVE and not code
        if going_on:
            link.send(Kind.GIVEN)
    link.close()
    await asyncio.sleep(0)
    return code


def _demand(folder: Folder, bundle: Bundle, signatures: Sequence[Signed]) -> None:
    """Raises Refused for a version that must not serve, as the workspace's own file says, whatever the hub found."""
    read_trust(folder).demand(bundle.version, bundle.model, signatures)


async def _fall_back(
    answerer: Answerer, told: bytes, blobs: Blobs, clock: Clock, settings: Settings, folder: Folder
) -> None:
    """Load the bundle that is to answer where the model does not, if one was told; until then none does."""
    if not told:
        return
    taken = msgspec.json.decode(told, type=Before)
    before, demand = taken.bundle, partial(_demand, folder, taken.bundle, taken.signatures)
    try:
        opened = await asyncio.to_thread(open_bundle, before, blobs, outgoing(settings), beside=True, demand=demand)
    except Exception as error:  # noqa: BLE001 - what is in force serves without it
        sys.stderr.write(f"The fallback {before.version} does not load: {error}\n")
    else:
        answerer.fall_back_to(Answerer(answerer.endpoint, opened, clock))


class _Beside:
    """What a process does beside answering: it listens for another, or goes by an assignment; one after the other."""

    def __init__(self, answerer: Answerer, link: Frames) -> None:
        self.variants = Variants(answerer, self.tell)
        self._apart = Apart(answerer)
        self._link = link
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def tell(self, news: News) -> None:
        """Let the hub know how a candidate, or a shadow, does."""
        self._link.send(Kind.NEWS, payload=msgspec.json.encode(news))

    def told(self, frame: Frame) -> None:
        task = asyncio.get_running_loop().create_task(self._do(frame))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(self, frame: Frame) -> None:
        async with self._turn:
            if frame.kind is Kind.ASSIGN:
                assigned = msgspec.json.decode(frame.payload, type=Assigned | None)
                there = await self.variants.take(assigned)
                self._link.send(Kind.ASSIGNED, status=int(there))
                return
            try:
                await self._apart.listen(frame.payload.decode())
            except OSError as error:
                sys.stderr.write(f"Listen for the champion's process: {error}\n")
            else:
                self._link.send(Kind.LISTENING)


def _tried(answerer: Answerer, records: bytes) -> bytes:
    from sampan.serve.scoring import answer_batch

    return msgspec.json.encode(answer_batch(answerer, records))


async def _when_free(take: Callable[[], T]) -> T:
    """Become the writer of a stream, once the process before this one has let go of it."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return take()
        except Busy:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.02)


async def _follow(following: Following, news: "asyncio.Queue[Frame | None]") -> int:
    """Until it is told to stop, or another process must go on; the exit code. Raises what it failed with."""
    work, told = asyncio.ensure_future(following.run()), asyncio.ensure_future(news.get())
    try:
        await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        told.cancel()
        work.cancel()
        ended = (await asyncio.gather(work, return_exceptions=True))[0]
        following.close()
    if isinstance(ended, Overdone):
        return OVERDUE
    if isinstance(ended, Exception):
        raise ended
    return 0


def _clock(settings: Settings, folder: Folder) -> Clock:
    file = settings.get("clock")
    return SharedClock(folder.root / file) if file else SystemClock()


def _calm_the_collector() -> None:
    """What is loaded stays; collecting it again and again costs tens of milliseconds a time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
