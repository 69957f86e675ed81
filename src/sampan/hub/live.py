"""Live pages: what changes, told to every open page as server-sent events (``GET /live?topics=log,runs``).

One task looks at what somebody listens to, at most twice a second, in a thread of its own; what it finds is encoded
once, whoever many listen. Intake does nothing for it: nothing happens per event, and nothing at all while nobody
listens. A reader that does not keep up is dropped; its browser comes back by itself and is told how things stand.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

import msgspec

from sampan.base.errors import Busy, SampanError, Usage
from sampan.base.reports import report

Scope = Any
#: Listeners at once; each is a connection and a few hundred bytes.
LISTENERS: Final = 1_000
TOPICS: Final = 12  # that one page may ask for
HEARTBEAT: Final = 15.0  # seconds without a word
TURN: Final = 0.5  # seconds between two looks
CROWD: Final = 100  # listeners that a second of it is for, at the least: two hundred are told every two seconds
BEHIND: Final = 16  # messages that may wait for a slow reader
PATIENCE: Final = 30.0  # seconds in which it must take one
PER_PAGE: Final = 0.2  # seconds: so long a page waits before it is fetched again, for each page that is open
_PAST: Final = 100
_START: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"connection", b"close"),
)
_ENCODE: Final = msgspec.json.Encoder().encode


class Topics(Protocol):
    """What can be listened to."""

    def known(self, topic: str) -> bool:
        """Whether there is such a topic; asked in the event loop."""

    def look(self, topic: str) -> dict[str, Any]:
        """How things stand; asked in a thread, always the same one."""


class _Topic:
    """One topic and who listens to it."""

    __slots__ = ("changed", "listeners", "message", "said")

    def __init__(self) -> None:
        self.listeners: set[_Listener] = set()
        self.said = b""  # JSON of what was seen last
        self.changed = 0  # milliseconds: when it was first seen
        self.message = b""


class _Listener:
    """One open page. ``abort`` cuts its connection off."""

    __slots__ = ("abort", "loop", "messages", "news", "open")

    def __init__(self, abort: Callable[[], None]) -> None:
        self.messages: list[bytes] = []
        self.news = asyncio.Event()
        self.open = True
        self.abort = abort

    def tell(self, message: bytes) -> bool:
        """Queue a message; False if it is too far behind."""
        if len(self.messages) >= BEHIND:
            return False
        self.messages.append(message)
        self.news.set()
        return True

    def end(self) -> None:
        self.open = False
        self.news.set()


class Live:
    """Answers ``GET /live``. ``admits`` says whether whoever listens still may: a token can be taken back meanwhile."""

    def __init__(self, topics: Topics, admits: Callable[[Scope], bool] = lambda scope: True) -> None:
        self.admits = admits
        self._topics = topics
        self._open: dict[str, _Topic] = {}
        self._past: dict[str, tuple[bytes, int]] = {}  # of topics that nobody listens to: what was said last, and when
        self._reported: dict[str, str] = {}
        self._listeners: set[_Listener] = set()
        self._watch: asyncio.Task[None] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    @property
    def listeners(self) -> int:
        """How many pages are open."""
        return len(self._listeners)

    # -- one page

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        try:
            names = self._asked(scope)
        except SampanError as error:
            await _refuse(send, error)
            return
        await send({"type": "http.response.start", "status": 200, "headers": _START})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body"})
            return
        listener = _Listener(scope.get("sampan.abort", lambda: None))
        gone = asyncio.ensure_future(_until_gone(receive, listener))
        try:
            self._join(listener, names)
            await self._speak(scope, send, listener)
        finally:
            self._leave(listener, names)
            gone.cancel()

    def _asked(self, scope: Scope) -> list[str]:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("topics", [""])[0]
        names = list(dict.fromkeys(filter(None, given.split(","))))
        if not names or len(names) > TOPICS:
            raise Usage("Listen", f"{len(names)} topics were named", f"Name 1 to {TOPICS}: /live?topics=log,runs")
        for name in names:
            if not self._topics.known(name):
                raise Usage("Listen", f"there is no topic {name[:60]!r}", "See docs/how-to/hub.md for those there are.")
        if self._closed or len(self._listeners) >= LISTENERS:
            raise Busy("Listen", f"{len(self._listeners)} pages do so already", "The page works without; try later.")
        return names

    async def _speak(self, scope: Scope, send: Any, listener: _Listener) -> None:
        await send({"type": "http.response.body", "body": b"retry: 2000\n\n", "more_body": True})
        while listener.open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await listener.news.wait()
            listener.news.clear()
            if not self.admits(scope):
                break
            body = b"".join(listener.messages) or b": still here\n\n"
            listener.messages.clear()
            try:
                async with asyncio.timeout(PATIENCE):
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            except TimeoutError:
                listener.abort()
                return
        await send({"type": "http.response.body"})

    def _join(self, listener: _Listener, names: list[str]) -> None:
        self._listeners.add(listener)
        for name in names:
            topic = self._open.setdefault(name, _Topic())
            topic.listeners.add(listener)
            if topic.message:
                listener.tell(topic.message)
        if self._watch is None:
            self._watch = asyncio.ensure_future(self._watching())

    def _leave(self, listener: _Listener, names: list[str]) -> None:
        self._listeners.discard(listener)
        for name in names:
            topic = self._open.get(name)
            if topic is not None:
                topic.listeners.discard(listener)
                if not topic.listeners:
                    del self._open[name]
                    self._past.pop(name, None)
                    self._past[name] = (topic.said, topic.changed)
                    if len(self._past) > _PAST:
                        del self._past[next(iter(self._past))]

    # -- all pages

    async def _watching(self) -> None:
        """Look and tell, until nobody listens any more."""
        loop = asyncio.get_running_loop()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="live")
        try:
            while self._listeners and not self._closed:
                for name, seen in await loop.run_in_executor(self._pool, self._look, list(self._open)):
                    if (topic := self._open.get(name)) is not None:
                        self._tell(name, topic, seen)
                await asyncio.sleep(max(TURN, len(self._listeners) / CROWD))
        finally:
            self._watch = None
            if self._listeners and not self._closed:  # somebody came while the last turn ended
                self._watch = asyncio.ensure_future(self._watching())

    def _look(self, names: list[str]) -> list[tuple[str, bytes]]:
        found = []
        for name in names:
            try:
                found.append((name, _ENCODE(self._topics.look(name))))
            except SampanError as error:
                found.append((name, _ENCODE({"trouble": str(error)})))
            except Exception as error:  # noqa: BLE001 - one topic that cannot be looked at must not silence the others
                if name not in self._reported:
                    self._reported[name] = report(error)
                found.append((name, _ENCODE({"trouble": f"{type(error).__name__}: {self._reported[name]}"})))
        return found

    def _tell(self, name: str, topic: _Topic, seen: bytes) -> None:
        if seen == topic.said:
            return
        said, changed = self._past.pop(name, (b"", 0))
        topic.said, topic.changed = seen, changed if seen == said else time.time_ns() // 1_000_000
        pace = max(1.0, PER_PAGE * len(self._listeners))
        frame = b'{"changed":%d,"pace":%.1f%s' % (topic.changed, pace, b"," if len(seen) > 2 else b"")
        topic.message = b"event: %s\ndata: %s%s\n\n" % (name.encode(), frame, seen[1:])
        for listener in list(topic.listeners):
            if not listener.tell(topic.message):
                listener.abort()
                listener.end()

    def close(self) -> None:
        """End every stream at once, so that a shutdown does not wait for them."""
        self._closed = True
        for listener in self._listeners:
            listener.end()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


async def _until_gone(receive: Any, listener: _Listener) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    listener.end()


async def _refuse(send: Any, error: SampanError) -> None:
    body = _ENCODE(error.body())
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if error.status == 503:
        headers.append((b"retry-after", b"30"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
