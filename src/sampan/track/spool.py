"""``sampan.log``: logging into a run without a client, a server or a set-up.

Every logged run is a file of lines in the workspace's spool until the hub, or the command that holds the workspace, has
taken it (``sampan.track.sync``); or in the outbox for the hub that SAMPAN_URL names (``sampan.track.outbox``). So
nothing waits for a hub, and nothing is lost without one. Within a step the run belongs to that step: its flow run, its
name and its parameters are known.
"""

import atexit
import fcntl
import getpass
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.clock import Clock, SystemClock
from sampan.base.errors import DiskFull, NotFound, Usage
from sampan.base.settings import Settings, find_folder
from sampan.track.experiments import millis, new_uuid
from sampan.track.limits import PARAM_VALUE, check_key, check_length, check_whole, shown
from sampan.track.records import NAME_TAG

if TYPE_CHECKING:
    from sampan.track.outbox import Sender

SPOOL: Final = "spool"
#: In a worker process: which step it does, as JSON of ``Step``.
STEP_VARIABLE: Final = "SAMPAN_STEP"
RUN_TAG: Final = "sampan.run"
STEP_TAG: Final = "sampan.step"
PART_TAG: Final = "sampan.part"
PARENT_TAG: Final = "mlflow.parentRunId"
FINISHED: Final = "FINISHED"
FAILED: Final = "FAILED"
_ATTEMPTED: Final = "Log into a run"


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """The step that a worker process does: of which flow run, in which data folder, with which parameters."""

    data: str
    run: str
    name: str
    part: str = ""
    parameters: dict[str, Any] = {}


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the spool. ``time``: milliseconds since 1970. The first begins a run, one with a status ends it."""

    time: int
    experiment: str = ""
    name: str = ""
    user: str = ""
    tags: dict[str, str] = {}
    params: dict[str, str] = {}
    metrics: dict[str, str] = {}
    """Numbers as text: JSON has no NaN and no infinity."""
    step: int = 0
    status: str = ""


class LoggedRun:
    """A run that is being logged. ``id`` is the one that it has in the hub, too."""

    def __init__(
        self,
        data: Path,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        clock: Clock,
        sender: "Sender | None" = None,
    ) -> None:
        """``sender``: who sends it to a hub elsewhere."""
        self.id = new_uuid(clock)
        self._clock = clock
        self._steps: dict[str, int] = {}
        self._params: dict[str, str] = {}
        self._lock = threading.Lock()
        folder = data / SPOOL
        folder.mkdir(parents=True, exist_ok=True)
        began = folder / f"{self.id}.begun"
        # the lock says that somebody still writes; it is there before the file has a name that is looked for
        self._fd = os.open(began, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._write(Line(millis(clock), experiment, name, _user(), dict(tags)))
        began.rename(folder / f"{self.id}.jsonl")
        self._sender = sender
        if sender is not None:
            sender.begin(self.id)
        if params:
            self.log_params(params)

    def log(self, values: Mapping[str, float] | None = None, /, *, step: int | None = None, **named: float) -> None:
        """Log values of metrics. Without ``step`` each metric counts its own. Raises Usage."""
        given = {**(values or {}), **named}
        kept: dict[str, str] = {}
        for name, value in given.items():
            check_key(_ATTEMPTED, name)
            kept[name] = repr(_number(name, value))
        if not kept:
            raise Usage(_ATTEMPTED, "no metric is named", "Name one: sampan.log(loss=0.3).")
        now = millis(self._clock)
        if step is not None:
            check_whole(_ATTEMPTED, "step", step)
        with self._lock:
            if step is not None:
                self._write(Line(now, metrics=kept, step=step))
                self._steps.update(dict.fromkeys(kept, step + 1))
                return
            for name, text in kept.items():
                number = self._steps.get(name, 0)
                self._write(Line(now, metrics={name: text}, step=number))
                self._steps[name] = number + 1

    def log_params(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        """Log parameters, as text. Raises Usage for one that was logged with another value."""
        given = {name: str(value) for name, value in {**(values or {}), **named}.items()}
        for name, value in given.items():
            check_key(_ATTEMPTED, name)
            check_length(_ATTEMPTED, f"Param value of {shown(name)}", value, PARAM_VALUE)
            known = self._params.get(name, value)
            if known != value:
                raise Usage(
                    _ATTEMPTED,
                    f"the parameter {name} was logged as {shown(known)}, not {shown(value)}",
                    "Log it under another name, or into another run.",
                )
        with self._lock:
            self._params |= given
            self._write(Line(millis(self._clock), params=given))

    def end(self, status: str = FINISHED) -> None:
        """Nothing more is logged. What was logged is on the disk."""
        with self._lock:
            if self._fd >= 0:
                self._write(Line(millis(self._clock), status=status))
                os.fsync(self._fd)
                os.close(self._fd)
                self._fd = -1
                if self._sender is not None:
                    self._sender.flush()

    def _write(self, line: Line) -> None:
        if self._fd < 0:
            raise Usage(_ATTEMPTED, f"the run {self.id} has ended", "Begin another: with sampan.logged_run() as run.")
        try:
            os.write(self._fd, msgspec.json.encode(line) + b"\n")
        except OSError as error:
            raise DiskFull(_ATTEMPTED, f"its file cannot be written: {error}", "Free some space.") from error


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Usage(_ATTEMPTED, f"{shown(value)} for {name} is no number", "Parameters: sampan.log_params().") from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


# -- the run of this process

_RUNS: list[LoggedRun] = []  # the innermost last


def log(values: Mapping[str, float] | None = None, /, *, step: int | None = None, **named: float) -> None:
    """Log values of metrics: ``sampan.log(loss=0.3)``, ``sampan.log({"val/loss": 0.4}, step=5)``.

    Within a step of a flow they go to a run of that step; elsewhere to a run of this process: in the hub of SAMPAN_URL
    if it is set, else in the workspace that holds the current folder. Raises Usage, NotFound outside of a workspace.
    """
    _current().log(values, step=step, **named)


def log_params(values: Mapping[str, Any] | None = None, /, **named: Any) -> None:
    """Log parameters of the run that ``log`` logs into: ``sampan.log_params(depth=4)``.

    Those of a step are logged already. Raises Usage, NotFound.
    """
    _current().log_params(values, **named)


@contextmanager
def logged_run(name: str = "", experiment: str = "") -> Iterator[LoggedRun]:
    """A run of its own for what is logged within: ``with sampan.logged_run("depth 4") as run``.

    Within another it is that one's child. Raises NotFound outside of a workspace.
    """
    parent = _RUNS[-1].id if _RUNS else ""
    run = _begin(name, experiment, {PARENT_TAG: parent} if parent else {})
    _RUNS.append(run)
    try:
        yield run
    except BaseException:
        run.end(FAILED)
        raise
    else:
        run.end()
    finally:
        if run in _RUNS:
            _RUNS.remove(run)


def _current() -> LoggedRun:
    if not _RUNS:
        atexit.register(_at_exit)  # a worker ends without it, and ends its runs itself; a process of a step's does not
        _RUNS.append(_begin("", "", {}))
    return _RUNS[-1]


def _at_exit() -> None:
    end_all(FAILED if hasattr(sys, "last_value") else FINISHED)


def end_all(status: str) -> None:
    """End what this process has begun: at its end, or that of the step that it does."""
    while _RUNS:
        _RUNS.pop().end(status)


def _begin(name: str, experiment: str, tags: dict[str, str]) -> LoggedRun:
    clock = SystemClock()
    said = os.environ.get(STEP_VARIABLE)
    if said:
        step = msgspec.json.decode(said, type=Step)
        about = {RUN_TAG: step.run, STEP_TAG: step.name, **({PART_TAG: step.part} if step.part else {})}
        title = name or (f"{step.name} {step.part}" if step.part else step.name)
        return LoggedRun(
            Path(step.data),
            experiment or step.name,
            title,
            {**tags, **about, NAME_TAG: title},
            step.parameters,
            clock,
        )
    title = name or Path(sys.argv[0] if sys.argv else "").stem.strip("-") or "session"
    try:
        folder = find_folder(None)
    except NotFound as error:
        if (sender := _sender(Settings())) is not None:
            about = {**tags, NAME_TAG: title}
            return LoggedRun(sender.data, experiment or Path.cwd().name or "logged", title, about, {}, clock, sender)
        advice = "Or name a hub: SAMPAN_URL and SAMPAN_TOKEN."
        raise NotFound(_ATTEMPTED, error.obstacle, f"{error.advice} {advice}".strip()) from None
    sender = _sender(folder.settings())
    data = folder.data if sender is None else sender.data
    return LoggedRun(data, experiment or folder.root.name, title, {**tags, NAME_TAG: title}, {}, clock, sender)


_SENDERS: dict[tuple[str, str, int], "Sender"] = {}


def _sender(settings: Settings) -> "Sender | None":
    """Who sends to the hub of SAMPAN_URL; None where none is named. A forked process has a thread of its own."""
    url, token = settings.get("url"), settings.get("token")
    if not url:
        return None
    from sampan.track.outbox import Outbox, Sender

    known = (url, token, os.getpid())
    if known not in _SENDERS:
        _SENDERS[known] = Sender(Outbox(url, token))
    return _SENDERS[known]
