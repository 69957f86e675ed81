"""Where endpoints are asked directly: the listening sockets, one for each, which outlive the processes that answer.

The hub binds a socket and hands it to every process of the endpoint; the one in force takes what comes. While none
is, connections wait in the system's queue. Connections that are open when a process gives way go, through a second
pair of sockets, to the next one. So a switch closes nothing, and needs the hub for nothing that clients send.
"""

import asyncio
import hashlib
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from weakref import WeakSet

import msgspec

from sampan.base.errors import BadSetting, SampanError
from sampan.serve.bundle import Bundle
from sampan.serve.order import Door
from sampan.serve.worker import Worker
from sampan.store.database import Database
from sampan.team.tokens import Pass

NOWHERE: Final = "none"  # the value of `serve_host` with which there are no doors
_LOG: Final = logging.getLogger("sampan.serve")
_FIRST, _PORTS = 20_000, 12_000  # below those that systems give to outgoing connections
_TRIES: Final = 200
_BACKLOG: Final = 2_048
_TRIES_SOON, _SOON = 20, 0.1  # and seconds between them


class Most(NamedTuple):
    """``body``: bytes of a request; ``queue``: requests under way; ``patience``: seconds for an answer."""

    body: int
    queue: int
    patience: float


class Keeper(Protocol):
    """Answers the clients of an endpoint while no process does."""

    def admit(self, passes: bytes) -> None:
        """Let in who has one of these tokens (JSON), and nobody else."""

    async def begin(self) -> None:
        """Take up the connections that were left, and all that come."""

    async def end(self) -> None:
        """Leave all connections to the next process."""


#: Makes the keeper of an endpoint's door: why nobody answers; the last takes each answer's status.
Keeping = Callable[[Door, str, Bundle, Callable[[], SampanError], Callable[[int], None]], Keeper]


class _Open(NamedTuple):
    listener: socket.socket
    left: socket.socket
    found: socket.socket


class Ports:
    """The port of each endpoint: the one of the settings, else one that was free once, and is kept from then on."""

    def __init__(self, db: Database, root: Path, fixed: str = "") -> None:
        self._db = db
        self._root = root
        self._fixed = read_ports(fixed)

    def bind(self, host: str, name: str) -> socket.socket:
        """A socket that listens where the endpoint has always been. Raises OSError."""
        if (port := self._fixed.get(name)) is not None:
            return _listen(host, port)
        row = self._db.row("SELECT port FROM ports WHERE endpoint = ?", (name,))
        if row is not None:
            return _listen(host, row["port"])
        taken = {*self._fixed.values(), *(row["port"] for row in self._db.rows("SELECT port FROM ports"))}
        begin = int.from_bytes(hashlib.sha256(f"{self._root}/{name}".encode()).digest()[:4], "big")
        for step in range(_TRIES):
            port = _FIRST + (begin + step) % _PORTS
            if port in taken:
                continue
            try:
                listener = _listen(host, port)
            except OSError:
                if step == _TRIES - 1:
                    raise
                continue
            with self._db.transaction() as connection:
                connection.execute("INSERT INTO ports (endpoint, port) VALUES (?, ?)", (name, port))
            return listener
        raise OSError(f"no port of {_TRIES} is free")


def read_ports(text: str) -> dict[str, int]:
    """``reorder=9001, churn=9002``. Raises BadSetting."""
    found: dict[str, int] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, _, number = (one.strip() for one in part.partition("="))
        if not name or not (number.isascii() and number.isdecimal() and 0 < int(number) < 65_536):
            raise BadSetting("Read serve_ports", f"{part[:60]!r} is not NAME=PORT", "For instance: reorder=9001")
        if int(number) in found.values():
            raise BadSetting("Read serve_ports", f"port {number} stands for two endpoints", "Give each its own.")
        found[name] = int(number)
    return found


class Doors:
    """All of a hub's. ``entry``: the module that a serving process begins with, which knows HTTP; ``keeping``: who
    answers where there is no process, if anybody does."""

    def __init__(
        self,
        entry: str,
        ports: Ports,
        host: str,
        *,
        hosts: str,
        limits: Most,
        instance: str,
        passes: Sequence[Pass],
        keeping: Keeping | None = None,
    ) -> None:
        self._entry = entry
        self._keeping = keeping
        self._keepers: WeakSet[Keeper] = WeakSet()
        self._ports, self._host, self._hosts = ports, host, hosts
        self._limits, self._instance = limits, instance
        self._passes = msgspec.json.encode(passes)
        self._open: dict[str, _Open] = {}
        self._faults: dict[str, str] = {}
        self._workers: WeakSet[Worker] = WeakSet()

    def of(self, name: str) -> Door | None:
        """The door of an endpoint, opened when it is first asked for; None where it cannot be."""
        if name not in self._open and not self._try(name):
            return None
        opened = self._open[name]
        host, port = opened.listener.getsockname()[:2]
        return Door(
            opened.listener.fileno(),
            opened.left.fileno(),
            opened.found.fileno(),
            host,
            port,
            self._hosts,
            *self._limits,
            self._instance,
            self._entry,
        )

    async def soon(self, name: str) -> Door | None:
        """The same; the first time, what stands in the way may be a process of a hub that has just been killed."""
        tries = _TRIES_SOON if name not in self._faults else 1
        while (found := self.of(name)) is None and (tries := tries - 1):
            await asyncio.sleep(_SOON)
        return found

    def _try(self, name: str) -> bool:
        try:
            listener = self._ports.bind(self._host, name)
        except (OSError, SampanError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            reason = f"its own address cannot be had: {said or error}"
            if self._faults.get(name) != reason:
                _LOG.warning("endpoint %s answers through the hub only: %s", name, reason)
            self._faults[name] = reason
            return False
        self._faults.pop(name, None)
        left, found = socket.socketpair()
        for one in (left, found):
            one.setblocking(False)
        self._open[name] = _Open(listener, left, found)
        return True

    def address(self, name: str) -> str:
        """Where an endpoint is asked directly; empty for nowhere."""
        if name not in self._open:
            return ""
        host, port = self._open[name].listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def fault(self, name: str) -> str:
        """Why an endpoint cannot be asked directly; empty if nothing stands in the way."""
        return self._faults.get(name, "")

    def note(self, worker: Worker) -> None:
        """Tell a process who is let in, now and whenever that changes."""
        self._workers.add(worker)
        worker.admit(self._passes)

    def keeper(
        self, name: str, bundle: Bundle, why: Callable[[], SampanError], count: Callable[[int], None]
    ) -> Keeper | None:
        """Who answers an endpoint's clients while no process does; None where nobody can."""
        if self._keeping is None or (door := self.of(name)) is None:
            return None
        made = self._keeping(door, name, bundle, why, count)
        made.admit(self._passes)
        self._keepers.add(made)
        return made

    def admit(self, passes: Sequence[Pass]) -> None:
        """Let in who has one of these tokens, and nobody else, from now on."""
        self._passes = msgspec.json.encode(passes)
        for worker in self._workers:
            worker.admit(self._passes)
        for keeper in self._keepers:
            keeper.admit(self._passes)

    def shut(self, name: str) -> None:
        """Listen no more for an endpoint that nothing serves; what waits is hung up on. Not while a process of it is
        there, which may be about to."""
        if not any(one.endpoint == name and not one.lost.is_set() for one in self._workers):
            for one in self._open.pop(name, ()):
                one.close()

    def close(self) -> None:
        """Listen no more; what waits is hung up on."""
        for opened in self._open.values():
            for one in opened:
                one.close()
        self._open.clear()


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
