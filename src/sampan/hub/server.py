"""One server process: binds its socket first, serves until told to stop, lets requests in flight finish.

uvicorn with uvloop and httptools.
"""

import asyncio
import errno
import gc
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as until
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final, TypeVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sampan.base.errors import BadSetting, Busy
from sampan.hub.joined import Joined

#: Seconds that requests in flight may take to finish after SIGTERM.
GRACE: Final = 7
#: And then their threads, which cannot be stopped: who reads gigabytes of log for a page that nobody waits for any more
#: must not hold the hub up. What is written is whole or not at all, as if the process had been killed.
LAST: Final = 5.0
T = TypeVar("T")
Asgi = Callable[[Any, Any, Any], Awaitable[None]]


class Protocol(HttpToolsProtocol):
    """HTTP/1.1 that does not forget the authority of an absolute request target.

    ``GET http://evil.example/ HTTP/1.1`` overrules ``Host``. It is handed on as one more Host header, and the guard
    refuses a request with two. ``sampan.abort`` in the scope cuts a connection off, however much waits to be read.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Joined(transport, self.loop.call_soon))

    def on_headers_complete(self) -> None:
        self.scope["sampan.abort"] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        if not self.url.startswith((b"/", b"*")):
            self.headers.append((b"host", self.url.partition(b"://")[2].partition(b"/")[0] or self.url))
        super().on_headers_complete()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises Busy if the port is taken, BadSetting if the address is not this machine's."""
    attempted = f"Listen on {host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        number = error.errno if isinstance(error, OSError) else None
        if number == errno.EADDRINUSE:
            raise Busy(
                attempted, "the port is taken", "Choose another: `sampan up --port 0` takes a free one."
            ) from None
        if number == errno.EACCES:
            raise BadSetting(attempted, "this port needs more rights than you have", "Choose one above 1023.") from None
        raise BadSetting(attempted, str(error), "Give an address of this machine, or 127.0.0.1.") from None
    return listener


class Threads(ThreadPoolExecutor):
    """Those of a loop; at its end they are waited for, but not for ever. Whoever ends the process must not wait either
    (``os._exit``)."""

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="asyncio")
        self._under_way: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        made = super().submit(fn, *args, **kwargs)
        self._under_way.add(made)
        made.add_done_callback(self._under_way.discard)
        return made

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more; what has not begun is not done."""
        super().shutdown(wait=False, cancel_futures=True)
        if wait:
            until(list(self._under_way), timeout=LAST)


async def apart(work: Callable[[], T]) -> T:
    """Have something done in a thread of its own, however busy the others are."""
    with ThreadPoolExecutor(1) as alone:
        return await asyncio.get_running_loop().run_in_executor(alone, work)


class _Server(uvicorn.Server):
    """Says when it begins to stop: streams without an end would hold it up otherwise."""

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping()
        await super().shutdown(sockets)


def config(app: Asgi, grace: int) -> uvicorn.Config:
    """How an application is served; ``grace``: seconds that requests have to end once it stops."""
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=grace,
        timeout_keep_alive=75,
    )


def serve(
    build: Callable[[], AbstractAsyncContextManager[Asgi]],
    listener: socket.socket,
    started: Callable[[], None],
    stopping: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT what ``build`` makes inside the loop and takes down afterwards.

    ``started`` is called once requests are answered, ``stopping`` in the loop when they shall end.
    """

    async def run() -> None:
        asyncio.get_running_loop().set_default_executor(Threads())
        async with build() as app:
            server = _Server(
                config(app, GRACE),
                stopping,
            )
            chores = [asyncio.ensure_future(_collect_garbage()), asyncio.ensure_future(_announce(server, started))]
            try:
                await server.serve(sockets=[listener])
            finally:
                for chore in chores:
                    chore.cancel()
                    with suppress(asyncio.CancelledError):
                        await chore

    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    # uvicorn raises the signal again after its own shutdown, which would turn exit 0 into death by signal
    kept = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(run())
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _announce(server: uvicorn.Server, started: Callable[[], None]) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    started()


async def _collect_garbage() -> None:
    """Collect on a schedule: a collection in the middle of a burst cost 50 to 110 ms at the 99th percentile."""
    gc.freeze()
    gc.disable()
    try:
        for beat in range(2**62):
            await asyncio.sleep(1)
            gc.collect(2 if beat % 300 == 299 else 1 if beat % 10 == 9 else 0)
    finally:
        gc.enable()
        gc.unfreeze()
