"""Where clients ask a serving process directly: the hub's guard, routes and faces, without the hub.

``main`` is that of ``sampan.serve.process`` with this in front. Who may ask is what the hub
has told; a token that was taken back is refused from the moment that it says so.
"""

import asyncio
import itertools
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from typing import Any, Final

import msgspec

from sampan.api.connection import Connection
from sampan.api.guard import Hosts, Judge, Response
from sampan.api.handover import find, leave
from sampan.api.heads import Head, read_head
from sampan.api.policies import ANYBODY, Policies
from sampan.api.predict import Asked, Reader, answered, check_size, refusal, refused
from sampan.api.predict_paths import ROUTES
from sampan.api.readiness import Alive, Check, Readiness
from sampan.base.clock import SystemClock
from sampan.base.errors import SampanError
from sampan.serve.bundle import Bundle
from sampan.serve.order import Door
from sampan.serve.overload import OVERDUE, retry_after, too_many, too_slow, unknown
from sampan.team.passes import Passes
from sampan.team.roles import PREDICT
from sampan.team.tokens import Pass

_HEALTH: Final = ("/healthz", "/readyz")
POLICIES: Final[Mapping[tuple[str, str], str]] = {
    **{("GET", path): ANYBODY for path in _HEALTH},
    **dict.fromkeys(ROUTES, PREDICT),
}
_EVER: Final = 1 << 62
_WAYS: Final = 4_096  # heads that are remembered
_LONG: Final = 2_048  # bytes of the longest one
_BACKLOG: Final = 2_048
_FILES: Final = 65_536
_FLUSH: Final = 1.0  # seconds in which clients have to read what they were answered before their connection is left


class Way:
    """What becomes of requests with the same head: ``asked`` of the service, or answered with ``response``."""

    __slots__ = ("asked", "expects", "keep", "length", "made", "mute", "response", "until")

    def __init__(self, what: Asked | Response, head: Head, made: int, until: int) -> None:
        self.asked = what if isinstance(what, Asked) else None
        self.response = what if isinstance(what, Response) else None
        self.length, self.keep, self.expects = head.length, head.keep, head.expects
        self.mute = head.scope["method"] == "HEAD"
        self.made, self.until = made, until


class Entrance:
    """The clients of one endpoint's process. ``first``: the number from which on it may ask; ``count`` takes the status
    of each answer."""

    def __init__(
        self, door: Door, endpoint: str, bundle: Bundle, first: int, count: Callable[[int], None] = lambda status: None
    ) -> None:
        for file in door.files:
            os.set_inheritable(file, False)
        self._door, self._endpoint, self._bundle = door, endpoint, bundle
        self._passes = Passes([], SystemClock())
        hosts = Hosts(door.host, door.port, door.hosts)
        self._judge = Judge(policies=Policies(POLICIES), gate=self._passes, hosts=hosts, cookie="", refusal=_refusal)
        self._reader = Reader(self._look, lambda: True)
        self._ways: dict[bytes, Way] = {}
        self._numbers = itertools.count(first)
        self._pending: dict[int, tuple[Connection, int, float]] = {}
        self._connections: set[Connection] = set()
        self._ask: Callable[[int, bytes, int], None] = lambda request, body, number: None
        self._server: asyncio.Server | None = None
        self._generation = 0
        self._left = False
        self._beat: asyncio.TimerHandle | None = None
        self._watching = False
        self.resting = True
        #: Takes the status of each answer.
        self.count = count
        self.now = 0.0
        self.date = b""
        with suppress(OSError, ValueError):
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES if most == resource.RLIM_INFINITY else most, most))

    # -- the process's calls

    def admit(self, passes: bytes) -> None:
        """Let in who has one of these tokens, and nobody else."""
        self._passes.take(msgspec.json.decode(passes, type=list[Pass]))
        self._ways.clear()
        self._generation += 1

    async def open(self, ask: Callable[[int, bytes, int], None]) -> None:
        """Take up the connections that were left, and all that come."""
        self._ask, self.resting, self._left = ask, False, False
        self._tick()
        if not self._watching:
            self._watching = True
            threading.Thread(target=self._watch, daemon=True, name="overdue").start()
        loop = asyncio.get_running_loop()
        for file, read in find(self._door.found):
            connection = socket.socket(fileno=file)
            connection.setblocking(False)
            await loop.connect_accepted_socket(partial(Connection, self, read), connection)
        listener = socket.socket(fileno=os.dup(self._door.listener))
        listener.setblocking(False)
        self._server = await loop.create_server(partial(Connection, self), sock=listener, backlog=_BACKLOG)

    def answered(self, request: int, status: int, body: bytes) -> None:
        """The answer to what was asked."""
        if (found := self._pending.pop(request, None)) is not None:
            found[0].answer(answered(found[1], status, body, retry_after(status)))

    def rest(self) -> None:
        """Take up nothing more, and read no further."""
        self.resting = True
        if self._server is not None:
            self._server.close()
            self._server = None
        for one in self._connections:
            one.pause()

    async def leave(self) -> None:
        """Leave all connections to the next process. What has been asked is answered."""
        until = time.monotonic() + _FLUSH
        while any(one.unsent for one in self._connections) and time.monotonic() < until:
            await asyncio.sleep(0.005)
        if self._beat is not None:
            self._beat.cancel()
        self._left = True
        self._leave(list(self._connections))
        await asyncio.sleep(0)

    def _leave(self, connections: list[Connection]) -> None:
        leave(self._door.left, [one for one in (each.leave() for each in connections) if one is not None])

    # -- the connections'

    def came(self, connection: Connection) -> None:
        self._connections.add(connection)
        if self._left:  # it was on its way in when the others went
            connection.pause()
            asyncio.get_running_loop().call_soon(self._leave, [connection])
        elif self.resting:
            connection.pause()
        else:
            connection.go_on()

    def went(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def way(self, head: bytes) -> Way:
        """What becomes of a request with this head. Raises Malformed."""
        known = self._ways.get(head)
        if known is not None and known.until > self._passes.clock.micros():
            return known
        read = read_head(head)
        scope = read.scope
        what: Asked | Response | None = self._judge.refuses(scope)
        if what is None:
            what = self._health(scope["path"]) if scope["path"] in _HEALTH else self._reader.read(scope)
        if isinstance(what, Asked):
            if what.name != self._endpoint:
                what = refused(what.number, unknown(what.name, [self._endpoint]))
            elif read.length is not None and read.length > self._door.body:
                what = self._large(what.number, read.length) or what
        until = _EVER
        if isinstance(what, Asked):
            sent = next(value for name, value in scope["headers"] if name == b"authorization")
            until = self._passes.until(sent)
        way = Way(what, read, self._generation, until)
        if way.asked is not None and len(head) <= _LONG:  # who is refused now may be let in a moment later
            if len(self._ways) >= _WAYS:
                self._ways.clear()
            self._ways[head] = way
        return way

    def holds(self, way: Way) -> bool:
        """Whether that is still what becomes of it: bodies may take their time."""
        return way.made == self._generation and way.until > self._passes.clock.micros()

    def ask(self, connection: Connection, asked: Asked, body: bytes) -> Response | None:
        """Have a request answered; gives the answer at once where there can be no other."""
        if len(self._pending) >= self._door.queue:
            error = too_many(self._endpoint, len(self._pending))
            return refused(asked.number, error, retry_after(error.status))
        request = next(self._numbers)
        self._pending[request] = connection, asked.number, time.monotonic()
        self._ask(request, asked.before + body if asked.before else body, asked.number)
        return None

    def too_large(self, way: Way, size: int) -> Response | None:
        """The answer to a body that has grown to so many bytes, if that is too many."""
        return self._large(way.asked.number if way.asked is not None else 0, size)

    # -- its own

    def _large(self, number: int, size: int) -> Response | None:
        try:
            check_size(size, self._door.body)
        except SampanError as error:
            return refused(number, error)
        return None

    def _look(self, name: str) -> tuple[Bundle, bool] | None:
        return (self._bundle, True) if name == self._endpoint else None

    def _health(self, path: str) -> Response:
        instance = self._door.instance
        alive, ready = Alive("alive", instance), Readiness(True, instance, [Check("serving", True)])
        body = msgspec.json.encode(alive if path == "/healthz" else ready)
        length = str(len(body)).encode()
        kind = (b"content-type", b"application/json")
        return Response(200, [kind, (b"content-length", length), (b"cache-control", b"no-store")], body)

    def _tick(self) -> None:
        """Once a second: what time it is, and who has been silent for too long."""
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        self.date = f"date: {formatdate(usegmt=True)}\r\n".encode()
        for one in list(self._connections):
            if one.stale(self.now):
                one.close()
        self._beat = loop.call_later(1.0, self._tick)

    def _watch(self) -> None:
        """End the process when a request takes too long. In a thread: a rule that hangs holds up the loop."""
        patience = self._door.patience
        while True:
            time.sleep(min(1.0, patience / 4))
            try:
                oldest = next(iter(self._pending.values()), None)
            except RuntimeError:  # it changed while it was looked at
                continue
            if oldest is not None and time.monotonic() - oldest[2] > patience:
                self._give_up()

    def _give_up(self) -> None:
        """Tell those who wait, leave the other connections to the next process, and end this one."""
        sys.stderr.write(f"A request took more than {self._door.patience:g} s.\n")
        sys.stderr.flush()
        error = too_slow(self._endpoint, self._door.patience)
        waiting = {connection: number for connection, number, _ in self._pending.values()}
        others = []
        for one in list(self._connections):
            with suppress(OSError):
                if (file := one.file) is None:
                    continue
                if one in waiting:
                    os.write(file, one.last(refused(waiting[one], error, retry_after(error.status))))
                else:
                    others.append((os.dup(file), one.read))
        leave(self._door.left, others)
        os._exit(OVERDUE)


def _refusal(scope: Any, status: int, error: SampanError) -> tuple[bytes, bytes]:
    return refusal(scope, status, error) or (b"application/json", msgspec.json.encode(error.body()))


def main() -> None:
    """Be the serving process of an endpoint that is asked directly."""
    from sampan.serve.process import main as serve

    serve(Entrance)
