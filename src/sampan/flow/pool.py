"""Worker processes as the engine sees them: start, hand over jobs, wait, watch limits, notice deaths.

One thread uses a pool, the one that drives the run; it may be any thread of any process. Limits are enforced from
outside: past its time a worker is killed, and past its memory too, measured as what the process really occupies
(a limit on address space would refuse mapped files and the reserves that DuckDB and Arrow make).
"""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.errors import SampanError
from sampan.flow.interpreter import Interpreter, running
from sampan.flow.job import Done, Job, receive, send

_MEMORY_EVERY: Final = 0.02 if sys.platform == "linux" else 0.5  # elsewhere another process has to be asked
WAIT_POLICY: Final = "passive"
"""OpenMP's threads sleep while they wait; spinning, they take the processor from the step beside them."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Task:
    """A job with its limits; ``tag`` is the engine's own."""

    def __init__(self, job: Job, tag: Any, timeout: float | None = None, memory: int | None = None) -> None:
        self.job, self.tag, self.timeout, self.memory = job, tag, timeout, memory


class Lost:
    """What is known of a worker that ended without an answer."""

    def __init__(self, reason: str, advice: str, memory: int = 0) -> None:
        self.reason, self.advice, self.memory = reason, advice, memory


class Worker:
    """One worker process, known by its socket."""

    def __init__(self, number: int, channel: socket.socket) -> None:
        self.number, self.channel = number, channel
        self.pid = 0
        self.tasks: deque[Task] = deque()
        self.began = 0.0
        self.killed: Lost | None = None
        self.peak = 0
        self.ended: tuple[int, int] | None = None


class Pool:
    """The workers of one run."""

    def __init__(self, root: Path, log: Path, interpreter: Interpreter | None = None) -> None:
        """``interpreter``: what they run in, if not what this process does."""
        self._root = root
        self._interpreter = interpreter or running(None)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._rest = b""
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, Worker] = {}
        self._count = 0
        self._preloaded: set[str] = set()
        self._limited = False
        self._measured = 0.0

    def start(self) -> None:
        """Start the process that workers are forked from; returns at once."""
        if self._process is not None:
            return
        mine, theirs = socket.socketpair()
        environment = {"OMP_WAIT_POLICY": WAIT_POLICY, **self._interpreter.variables()}
        environment |= {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "0"}
        command = f"from sampan.flow.forkserver import main; main({theirs.fileno()})"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._interpreter.executable, "-P", "-c", command],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        theirs.close()
        self._control = mine
        self._selector.register(mine, selectors.EVENT_READ, None)

    def preload(self, modules: Sequence[str]) -> None:
        """Import modules before the next fork."""
        fresh = [name for name in modules if name not in self._preloaded]
        if fresh:
            self.start()
            self._preloaded.update(fresh)
            self._tell(f"preload {' '.join(fresh)}\n")

    def spawn(self) -> Worker:
        self.start()
        mine, theirs = socket.socketpair()
        self._count += 1
        worker = Worker(self._count, mine)
        self._workers[worker.number] = worker
        self._tell(f"fork {worker.number}\n", theirs.fileno())
        theirs.close()
        self._selector.register(mine, selectors.EVENT_READ, worker)
        return worker

    def submit(self, worker: Worker, task: Task) -> None:
        """Hand a task to a worker; several may queue."""
        worker.tasks.append(task)
        if len(worker.tasks) == 1:
            worker.began = time.monotonic()
        self._limited = self._limited or task.memory is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is reported by the fork server
            send(worker.channel, task.job)

    def release(self, worker: Worker) -> None:
        """Let a worker go: its socket's end is its end."""
        if self._workers.pop(worker.number, None) is not None:
            self._selector.unregister(worker.channel)
        worker.channel.close()

    def wait(self, timeout: float | None) -> list[tuple[Worker, Task, Done | Lost]]:
        """Answers and deaths, waiting for at least one up to ``timeout`` seconds."""
        found: list[tuple[Worker, Task, Done | Lost]] = []
        ready = self._selector.select(self._patience(timeout))
        # Deaths are read first and judged last: an answer may have been sent just before.
        for key, _ in ready:
            if key.data is None:
                self._hear()
        for key, _ in ready:
            worker = key.data
            if worker is not None and worker.number in self._workers:
                self._answer(worker, found)
        for worker in list(self._workers.values()):
            if worker.ended is not None:
                self._bury(worker, found)
        self._enforce()
        return found

    def close(self) -> None:
        """End everything that this pool started."""
        for worker in list(self._workers.values()):
            self._kill(worker)
            self.release(worker)
        if self._control is not None:
            self._selector.unregister(self._control)
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            if not self._log.stat().st_size:
                self._log.unlink()
        self._selector.close()

    # -- within

    def _tell(self, line: str, descriptor: int | None = None) -> None:
        assert self._control is not None
        try:
            if descriptor is None:
                self._control.sendall(line.encode())
            else:
                socket.send_fds(self._control, [line.encode()], [descriptor])
        except (BrokenPipeError, ConnectionResetError):
            raise self._gone() from None

    def _gone(self) -> SampanError:
        code = self._process.poll() if self._process is not None else None
        return SampanError(
            "Start a worker process",
            f"the process that forks workers is gone (exit code {code})",
            f"{self._log} may say why; the machine may be out of memory. Then `sampan resume`.",
        )

    def _hear(self) -> None:
        assert self._control is not None
        data = self._control.recv(65536)
        if not data:
            raise self._gone()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            verb, *words = line.decode().split(" ")
            worker = self._workers.get(int(words[0]))
            if worker is None:
                continue
            if verb == "started":
                worker.pid = int(words[1])
                worker.began = time.monotonic()  # what was imported before the fork is not the step's time
            else:
                worker.ended = (int(words[1]), int(words[2]))

    def _answer(self, worker: Worker, found: list[tuple[Worker, Task, Done | Lost]]) -> None:
        try:
            data = receive(worker.channel)
        except ConnectionResetError:
            data = None
        if data is None:  # it is ending; the fork server will say how
            self._selector.unregister(worker.channel)
            self._workers.pop(worker.number)
            self._await_end(worker, found)
            return
        task = worker.tasks.popleft()
        worker.began = time.monotonic()
        found.append((worker, task, msgspec.msgpack.decode(data, type=Done)))

    def _await_end(self, worker: Worker, found: list[tuple[Worker, Task, Done | Lost]]) -> None:
        self._workers[worker.number] = worker
        limit = time.monotonic() + 30
        while worker.ended is None and time.monotonic() < limit:
            self._hear()
        self._report(worker, found)
        self._workers.pop(worker.number, None)
        worker.channel.close()

    def _bury(self, worker: Worker, found: list[tuple[Worker, Task, Done | Lost]]) -> None:
        worker.channel.setblocking(False)
        while worker.tasks:
            try:
                waiting = worker.channel.recv(1, socket.MSG_PEEK)
            except (BlockingIOError, ConnectionResetError):
                break
            if not waiting:
                break
            self._answer(worker, found)
            if worker.number not in self._workers:
                return
        self._report(worker, found)
        self.release(worker)

    def _report(self, worker: Worker, found: list[tuple[Worker, Task, Done | Lost]]) -> None:
        code, memory = worker.ended or (0, 0)
        lost = worker.killed or Lost(*_how(code))
        lost.memory = max(lost.memory, memory)
        if worker.tasks:
            found.append((worker, worker.tasks.popleft(), lost))

    def _patience(self, timeout: float | None) -> float | None:
        limits = [] if timeout is None else [timeout]
        now = time.monotonic()
        for worker in self._workers.values():
            if worker.tasks and worker.pid and worker.killed is None and worker.tasks[0].timeout is not None:
                limits.append(max(worker.began + worker.tasks[0].timeout - now, 0.001))
        if self._limited and any(worker.tasks for worker in self._workers.values()):
            limits.append(_MEMORY_EVERY)
        return min(limits) if limits else None

    def _enforce(self) -> None:
        now = time.monotonic()
        measure = self._limited and now - self._measured >= _MEMORY_EVERY / 2
        for worker in self._workers.values():
            if not worker.tasks or worker.killed is not None or not worker.pid:
                continue
            task = worker.tasks[0]
            if task.timeout is not None and now - worker.began > task.timeout:
                self._kill(worker, Lost(f"it did not end within {task.timeout:g} s", "Raise timeout=, or do less."))
            elif measure and task.memory is not None:
                used = occupied(worker.pid)
                worker.peak = max(worker.peak, used)
                if used > task.memory:
                    said = f"it took {megabytes(used)} of memory, and memory= allows {megabytes(task.memory)}"
                    self._kill(worker, Lost(said, "Raise memory=, or read and keep less at a time.", used))
        if measure:
            self._measured = now

    def _kill(self, worker: Worker, why: Lost | None = None) -> None:
        worker.killed = why or worker.killed
        if worker.pid and worker.ended is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(worker.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(worker.pid, signal.SIGKILL)


def occupied(pid: int) -> int:
    """Bytes of memory that a process occupies for itself; pages of mapped files and shared ones do not count."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * _PAGE
    except OSError:
        pass
    if sys.platform == "darwin":
        said = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
        return int(said.strip() or 0) * 1024
    return 0


def megabytes(count: int) -> str:
    """``512 MB``, ``2.0 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _how(code: int) -> tuple[str, str]:
    if code == -signal.SIGKILL:
        return (
            "its process was killed (SIGKILL), most likely because the machine ran out of memory",
            "Declare memory= so that fewer steps run beside it, or read less at a time.",
        )
    if code < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            return f"its process crashed ({name})", "Native code did this; its log may hold the place."
        return f"its process ended with signal {-code}", "Its log may say why."
    return (
        f"its process ended by itself with exit code {code}",
        "A step returns: it must not call os._exit, nor close files that it did not open.",
    )
