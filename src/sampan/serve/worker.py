"""One serving process as the hub holds it: started, opened, asked, stopped."""

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.errors import SampanError, Unreachable, revive
from sampan.models.signing import Signed
from sampan.serve.assignment import Assigned, News
from sampan.serve.bundle import Bundle
from sampan.serve.environment import ONE_THREAD, variables
from sampan.serve.following import Followed
from sampan.serve.frames import Frame, Frames, Kind
from sampan.serve.order import Before, Door, Order
from sampan.serve.overload import OVERDUE
from sampan.serve.priority import lower, restore
from sampan.serve.report import Report, read_report
from sampan.serve.scoring import Batch

LOAD_PATIENCE: Final = 60.0  # seconds in which model and rules must have loaded
_BEGIN: Final = "sampan.serve.begin"
_ENTRY: Final = "sampan.serve.process"
_STOP_PATIENCE: Final = 10.0
_LISTEN_PATIENCE: Final = 1.0
_LOG_LIMIT: Final = 1 << 20
_TRIES, _TRY_AGAIN = 10, 0.1  # that a process's priority is set, and seconds between them


class Lost(Unreachable):
    """The serving process is gone; what was asked of it may or may not have been recorded."""


class Worker:
    """A child process and the requests under way in it. ``lost`` is set once it is gone; ``silent``: why its model does
    not answer, if ``without_model`` it answers all the same."""

    def __init__(
        self,
        root: Path,
        endpoint: str,
        bundle: Bundle,
        door: Door | None = None,
        python: str = sys.executable,
        without_model: bool = False,
        gently: bool = False,
        patience: float = LOAD_PATIENCE,
        signatures: tuple[Signed, ...] = (),
    ) -> None:
        """``python``: what it runs in, if not what this process does; ``gently``: others go first while it loads, and
        until it is told that somebody waits for it; ``patience``: seconds in which model and rules must have loaded,
        and a step of its is done."""
        self.endpoint = endpoint
        self.bundle = bundle
        self.door = door
        self.lost = asyncio.Event()
        self.error: SampanError | None = None
        self.answered = 0
        self.silent = ""
        self._without_model = without_model
        self._gently = gently
        self._patience = patience
        self._signatures = signatures
        self._passes = b"[]"
        self.on_report: Callable[[Report], None] = lambda report: None
        self.note = ""  # what is to be known of it while it serves
        self.on_news: Callable[[News], None] = lambda news: None
        self._root = root
        self._python = python
        self._process: subprocess.Popen[bytes] | None = None
        self._link = Frames(self._on_frame, self._on_lost)
        self._asked: dict[int, asyncio.Future[tuple[int, bytes]]] = {}
        self._numbers = itertools.count(1)
        self._steps: dict[Kind, asyncio.Future[int]] = {}

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def under_way(self) -> int:
        """Requests that wait for their answer."""
        return len(self._asked)

    async def open(self) -> None:
        """Start the process and have it load the bundle. Raises what it failed with, or Lost."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        log, door = self._log_file(), self.door
        entry = door.entry if door else _ENTRY
        try:
            with log.open("ab") as said:
                self._process = subprocess.Popen(
                    [self._python, "-P", "-m", _BEGIN, str(theirs.fileno()), str(os.getpid()), entry],
                    pass_fds=[theirs.fileno(), *(door.files if door else ())],
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    cwd=self._root,
                    env={**variables(self._python), **ONE_THREAD},
                    start_new_session=True,  # Ctrl-C in a terminal goes to the hub, which stops its children in order
                )
        finally:
            theirs.close()
        if self._gently:
            lower(self._process.pid)
        await asyncio.get_running_loop().create_connection(lambda: self._link, sock=ours)
        self._link.send(Kind.ADMIT, payload=self._passes)
        order = Order(
            str(self._root),
            self.endpoint,
            self.bundle,
            door,
            without_model=self._without_model,
            signatures=self._signatures,
        )
        await self._step(Kind.OPEN, Kind.READY, msgspec.json.encode(order))

    def admit(self, passes: bytes) -> None:
        """Have it let in who has one of these tokens, and nobody else."""
        self._passes = passes
        self._link.send(Kind.ADMIT, payload=passes)

    async def look(self, patience: float) -> None:
        """Raises Lost, or Unreachable if it does nothing any more."""
        await self._step(Kind.LOOK, Kind.SEEN, patience=patience)

    async def waited_for(self, somebody: bool) -> None:
        """Give it processors as soon as others get them; or, if nobody waits for it, after them."""
        if self._process is None or self._gently is not somebody:
            return
        self._gently = not somebody
        for _ in range(_TRIES):
            if self.lost.is_set() or (restore if somebody else lower)(self._process.pid):
                return
            await asyncio.sleep(_TRY_AGAIN)

    @property
    def overdue(self) -> bool:
        """Whether it has ended because a request took too long."""
        return self._process is not None and self._process.poll() == OVERDUE

    @property
    def how(self) -> str:
        """How it ended, in words that go on from "it ended"; empty where it was told to."""
        code = self._process.poll() if self._process is not None else None
        if not code:
            return ""
        return f" with code {code}" if code > 0 else f" by signal {-code} ({_named(-code)})"

    async def take(self, before: Before | None = None) -> None:
        """Have it take the endpoint's stream and answer from now on; where its model does not, ``before`` does."""
        await self.waited_for(True)
        await self._step(Kind.TAKE, Kind.TAKEN, b"" if before is None else msgspec.json.encode(before))

    async def ask(self, body: bytes, patience: float, number: int) -> tuple[int, bytes]:
        """Status and body of the answer. Raises Lost if the process dies first, TimeoutError if it takes too long."""
        return await self._answer(Kind.ASK, body, patience, number)

    async def try_out(self, records: list[dict[str, Any]]) -> Batch:
        """What it answers to records; nothing is kept. For a process that is loaded and does not answer yet."""
        try:
            _, body = await self._answer(Kind.TRY, msgspec.json.encode(records), self._patience)
        except TimeoutError:
            raise Unreachable(f"Try endpoint {self.endpoint}", f"no answer in {self._patience:g} s") from None
        return msgspec.json.decode(body, type=Batch)

    async def _answer(self, kind: Kind, body: bytes, patience: float, number: int = 0) -> tuple[int, bytes]:
        if self.lost.is_set():
            raise self._lost()
        request = next(self._numbers) & 0xFFFFFFFF
        answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._asked[request] = answer
        self._link.send(kind, request, body, number)
        try:
            async with asyncio.timeout(patience):
                return await answer
        finally:
            self._asked.pop(request, None)

    async def give(self) -> bool:
        """Have it answer what it has, let go of the stream, and stay loaded; whether it did. It may ``take`` again."""
        try:
            await self._step(Kind.GIVE, Kind.GIVEN, patience=_STOP_PATIENCE)
        except SampanError:
            return False
        return True

    async def listen(self, path: str) -> None:
        """Have it wait for the champion's process at a path. Raises Lost, Unreachable."""
        await self._step(Kind.LISTEN, Kind.LISTENING, path.encode(), _LISTEN_PATIENCE)

    async def assign(self, assigned: Assigned | None) -> bool:
        """Have it go by an assignment, or by none; whether it has reached the candidate's process. Raises Lost,
        Unreachable."""
        return bool(await self._step(Kind.ASSIGN, Kind.ASSIGNED, msgspec.json.encode(assigned), _STOP_PATIENCE))

    async def follow(self, followed: Followed) -> None:
        """Have it say what it would have said to the predictions in the log, those to come too. Raises Lost."""
        await self._step(Kind.FOLLOW, Kind.FOLLOWING, msgspec.json.encode(followed))

    def stir(self) -> None:
        """Let it know that there are more."""
        self._link.send(Kind.STIR)

    async def stop(self) -> None:
        """Let it answer what it has, then end it; end it anyway after a while."""
        self._link.send(Kind.STOP)
        await self._ended(_STOP_PATIENCE)

    def end(self) -> None:
        """Have it ended, without waiting for that."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)

    async def kill(self) -> None:
        """End it at once."""
        self.end()
        await self._ended(1.0)

    async def _ended(self, patience: float) -> None:
        process = self._process
        if process is None:
            return
        until = time.monotonic() + patience
        while process.poll() is None:  # not in a thread: those who wait for a switch may hold all that there are
            if time.monotonic() > until:
                process.kill()
            await asyncio.sleep(0.005)
        self._link.close()
        self._on_lost()  # now, and not once the loop notices: nobody may ask it any more

    async def _step(self, kind: Kind, wanted: Kind, payload: bytes = b"", patience: float | None = None) -> int:
        """The status with which it says that it has done so."""
        patience = self._patience if patience is None else patience
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._steps[wanted] = done
        self._link.send(kind, 0, payload)
        if self.lost.is_set():
            raise self._lost()
        try:
            async with asyncio.timeout(patience):
                return await done
        except TimeoutError:
            late = "model and rules did not load" if kind is Kind.OPEN else f"it did not {kind.name.lower()}"
            raise Unreachable(
                f"Start endpoint {self.endpoint}", f"{late} in {patience:g} s", f"See {self._log_file()}."
            ) from None
        finally:
            self._steps.pop(wanted, None)

    def _on_frame(self, frame: Frame) -> None:
        if frame.kind is Kind.ANSWER:
            answer = self._asked.get(frame.request)
            if answer is not None and not answer.done():
                self.answered += 1
                answer.set_result((frame.status, frame.payload))
        elif frame.kind is Kind.FAILED:
            self.error = revive(msgspec.json.decode(frame.payload))
            for step in self._steps.values():
                if not step.done():
                    step.set_exception(self.error)
        elif frame.kind is Kind.TOLD:
            report = read_report(frame.payload)
            self.answered += report.statuses.get(200, 0)  # past the hub
            self.on_report(report)
        elif frame.kind is Kind.NEWS:
            self.on_news(msgspec.json.decode(frame.payload, type=News))
        else:
            if frame.kind is Kind.READY:
                self.silent = frame.payload.decode()
            reached = self._steps.get(frame.kind)
            if reached is not None and not reached.done():
                reached.set_result(frame.status)

    def _on_lost(self) -> None:
        self.lost.set()
        waiting: list[asyncio.Future[Any]] = [*self._asked.values(), *self._steps.values()]
        for one in waiting:
            if not one.done():
                one.set_exception(self._lost())

    def _lost(self) -> Lost:
        return Lost(
            f"Predict with {self.endpoint}",
            "its serving process ended",
            f"It is started again; send again. The workspace's {self._log_file().relative_to(self._root)} says more.",
        )

    def _log_file(self) -> Path:
        """What the user's rules print; started afresh when it has grown large."""
        path = self._root / ".sampan" / "tmp" / f"serve-{self.endpoint}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > _LOG_LIMIT:
            path.unlink()
        return path


def _named(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "one of the system's"
