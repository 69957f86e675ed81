"""The life of a worker process: take jobs from a socket, run them, answer, until the socket ends.

The user's module is imported here and nowhere else. Output of the step, native code's included, goes to its log;
an exception leaves its traceback there, cut down to the workspace's own lines, and one line in the answer.
"""

import contextlib
import faulthandler
import os
import random
import resource
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from sampan.base.errors import BadStep, SampanError
from sampan.base.modules import import_by_text
from sampan.flow.deliver import Desk, annotations
from sampan.flow.fan import join, split
from sampan.flow.job import JOIN, JUDGE, PYTHON, SPLIT, SQL, SQL_CHECK, Done, Job, Stored, receive, send
from sampan.flow.values import as_arrow, is_frame, store
from sampan.flow.watch import Watch

#: Tells ``sampan.log`` which step it is called in (``sampan.track.spool``, which a step that does not log needs not).
STEP_VARIABLE = "SAMPAN_STEP"
_SHOWN_ROWS = 10
_SHOWN_LENGTH = 300


class CheckFailed(Exception):
    """Carries what a check found, as text."""


def main(channel: socket.socket) -> None:
    """Serve jobs until the engine closes its end."""
    watch: Watch | None = None
    me = os.getpid()
    if not sys.platform.startswith("linux"):
        _leave_with(channel)
    while (data := receive(channel)) is not None:
        job = msgspec.msgpack.decode(data, type=Job)
        if watch is None:
            _settle_in(job)
            watch = Watch(job.root)
        with _captured(job.log):
            done = _run(job, watch)
            if os.getpid() != me:  # a process that the step forked came back from it: the answer is the step's own
                print(f"{job.step}: a forked process returned from the step; what it returned is not used")  # noqa: T201
                sys.stdout.flush()
                os._exit(0)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            send(channel, done)


def _leave_with(channel: socket.socket) -> None:
    """Where the kernel does not kill orphans: a thread that looks whether the engine is still there."""

    def look() -> None:
        parent = os.getppid()
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()


def _settle_in(job: Job) -> None:
    os.chdir(job.root)
    import_by_text(Path(job.root))
    sys.path.insert(0, job.root)
    os.environ["SAMPAN_STEP_ROOT"] = job.root
    if job.cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, job.cpus)
    if job.cpus:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
            os.environ[name] = str(len(job.cpus))


@contextlib.contextmanager
def _captured(log: str) -> Any:
    """Standard output and error into the step's log, at the level of file descriptors."""
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)  # noqa: SIM115
    faulthandler.enable(2)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()


def _run(job: Job, watch: Watch) -> Done:
    began = time.perf_counter()
    seen: dict[str, str] = {}
    warnings: list[str] = []
    elements: list[Any] = []
    stored: Stored | None = None
    built = ""
    error: tuple[str, str, str] | None = None
    try:
        if job.kind == PYTHON:
            watch.start(job.files)
            try:
                value = _call(job)
            finally:
                seen, warnings = watch.stop()
            stored = _keep(job, value)
            if job.metrics and stored.model is not None:
                _log_metrics(stored.model.metrics)
        elif job.kind == SQL:
            stored, built = _build(job)
        elif job.kind == SQL_CHECK:
            stored = _query_check(job)
        elif job.kind == SPLIT:
            elements = split(job)
        elif job.kind == JOIN:
            stored = join(job)
        elif job.kind == JUDGE:
            from sampan.flow.judge import judge

            stored = judge(job)
    except CheckFailed as failed:
        stored = Stored("check", "failed", message=str(failed))
        print(failed)  # noqa: T201 - the step's log
    except SampanError as failed:
        error = (failed.attempted, failed.obstacle, failed.advice)
        print(failed)  # noqa: T201
    except BaseException as failed:  # noqa: BLE001 - the edge of a process: any end of the user's code is an answer
        error = _explain(job, failed)
        if stored is None and job.node == "check" and isinstance(failed, AssertionError):
            stored, error = Stored("check", "failed", message=str(failed) or error[1]), None
    if (spool := sys.modules.get("sampan.track.spool")) is not None:  # the step has logged
        spool.end_all("FAILED" if error else "FINISHED")
    if "mlflow.tracking.fluent" in sys.modules:
        _end_mlflow("FAILED" if error else "FINISHED")
    for warning in warnings:
        print(f"warning: {warning}")  # noqa: T201
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Done(stored, error, time.perf_counter() - began, memory, seen, warnings, elements, built)


def _step(job: Job, function: Any) -> str:
    """What ``sampan.log`` is told of the step, as ``sampan.track.spool.Step`` reads it."""
    import inspect

    given = {one.name for one in job.inputs}
    known = {name: one.default for name, one in inspect.signature(function).parameters.items() if name not in given}
    plain = {name: value for name, value in known.items() if isinstance(value, bool | int | float | str | None)}
    said = {"data": job.data, "run": Path(job.log).parent.name, "name": job.step, "part": job.part}
    return msgspec.json.encode({**said, "parameters": {**plain, **job.parameters}}, enc_hook=str).decode()


def _tell_mlflow(job: Job) -> None:
    """Let MLflow's client log to the workspace, into an experiment named after the step, tied to the flow's run."""
    if not job.environment:
        return
    os.environ.update(job.environment)
    if not os.environ.keys() & {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"}:
        os.environ["MLFLOW_EXPERIMENT_NAME"] = job.step
    about = {"sampan.run": Path(job.log).parent.name, "sampan.step": job.step, "sampan.part": job.part}
    os.environ["MLFLOW_RUN_CONTEXT"] = msgspec.json.encode({k: v for k, v in about.items() if v}).decode()


def _end_mlflow(status: str) -> None:
    """End what the step began and left open: the process ends without the hooks that would."""
    mlflow = sys.modules["mlflow"]
    try:
        while mlflow.active_run() is not None:
            mlflow.end_run(status)
        if mlflow.last_active_run() is not None:
            mlflow.flush_async_logging()
    except Exception as failed:  # noqa: BLE001 - what its client raises is its own; the step has its result
        print(f"warning: MLflow's run was not ended: {failed}")  # noqa: T201 - the step's log


def _log_metrics(metrics: Mapping[str, Any]) -> None:
    """Metrics of a model, into the run that its step has logged, or into one of its own."""
    numbers = {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if not numbers:
        return
    try:
        mlflow = sys.modules.get("mlflow") if "mlflow.tracking.fluent" in sys.modules else None
        run = (mlflow.active_run() or mlflow.last_active_run()) if mlflow is not None else None
        if mlflow is not None and run is not None:
            mlflow.log_metrics(numbers, run_id=run.info.run_id)
        else:
            from sampan.track import spool

            spool.log(numbers)
    except Exception as failed:  # noqa: BLE001 - the model is there; what keeps it from being compared is said
        print(f"warning: the model's metrics were not logged: {failed}")  # noqa: T201 - the step's log


def _call(job: Job) -> Any:
    _tell_mlflow(job)
    function = getattr(import_module(job.module), job.step)
    hints = annotations(function)
    options = job.options
    desk = Desk(job.step, Path(job.data), options.get("order_by") or [], job.threads, job.memory)
    arguments = {given.name: desk.deliver(given, hints.get(given.name)) for given in job.inputs}
    desk.check_order()
    for name, value in job.parameters.items():
        arguments[name] = value
    _seed(job)
    os.environ[STEP_VARIABLE] = _step(job, function)
    return function(*_positional(function, options.get("positional", ()), arguments), **arguments)


def _positional(function: Any, names: Sequence[str], arguments: dict[str, Any]) -> list[Any]:
    """Take out the arguments that must not be given by name; one that is not given keeps its default."""
    if not names:
        return []
    import inspect

    known = inspect.signature(function).parameters
    return [arguments.pop(name) if name in arguments else known[name].default for name in names]


def _seed(job: Job) -> None:
    random.seed(job.seed)
    for name in job.options.get("seeded", ()):
        with contextlib.suppress(ImportError):
            module = import_module(name)
            if name == "numpy":
                module.random.seed(job.seed % 2**32)
            elif name == "torch":
                _pin_torch(module, job)


def _pin_torch(torch: Any, job: Job) -> None:
    """A step that trains a network gives the same weights each time on one machine; where an operation has no form that
    repeats itself, PyTorch warns, and the run's manifest says so."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, matrix products on a GPU do not
    torch.manual_seed(job.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    if job.cpus:
        torch.set_num_threads(len(job.cpus))


def _keep(job: Job, value: Any) -> Stored:
    if job.node != "check":
        return store(value, job.step, Path(job.data), job.node, job.options.get("kind", "binary"))
    message = verdict(value, job.step)
    if message:
        raise CheckFailed(message)
    return Stored("check", "passed")


def verdict(value: Any, name: str) -> str:
    """Why a check's answer is a no; empty if it is a yes. Raises BadStep for an answer that is neither."""
    if value is None or value is True:
        return ""
    if value is False:
        return "it returned False"
    if isinstance(value, str):
        return value
    if is_frame(value):
        table = as_arrow(value)
        if not table.num_rows:
            return ""
        return _rows_text(table.num_rows, table.slice(0, _SHOWN_ROWS).to_pylist())
    if isinstance(value, list | tuple | set | dict):
        shown = "".join(f"\n  {item!r}" for item in list(value)[:_SHOWN_ROWS])
        return f"{len(value)} findings{shown}" if value else ""
    if type(value).__module__ == "numpy" and hasattr(value, "item") and isinstance(value.item(), bool):
        return "" if value.item() else "it returned False"
    raise BadStep(
        f"Read the answer of check {name}",
        f"it returned a {type(value).__qualname__}",
        "Return True or False, a text that says what is wrong, or a frame of the offending rows.",
    )


def _rows_text(count: int, rows: list[dict[str, Any]]) -> str:
    shown = "".join("\n  " + ", ".join(f"{key}={value}" for key, value in row.items()) for row in rows)
    return f"{count:,} offending {'row' if count == 1 else 'rows'}{shown}"


def _sources(job: Job) -> dict[str, Any]:
    from sampan.flow.fan import source_of

    return {given.name: source_of(given, job) for given in job.inputs}


def _build(job: Job) -> tuple[Stored, str]:
    """A table, and how much of it was built, if it is built bit by bit."""
    lake, memory = Path(job.data) / "lake", job.memory
    if job.increment is not None:
        from sampan.lake.increment import build

        draft, built = build(
            job.sql, _sources(job), lake, job.increment, threads=job.threads, memory=memory, name=job.path
        )
        return Stored("table", draft.id, table=draft), built
    from sampan.lake.write import write_query

    draft = write_query(job.sql, _sources(job), lake, threads=job.threads, memory=memory, name=job.path, path=job.path)
    return Stored("table", draft.id, table=draft), ""


def _query_check(job: Job) -> Stored:
    import duckdb

    from sampan.lake.query import open_sources
    from sampan.lake.write import explain

    spill = Path(job.data) / "tmp"
    connection = open_sources(_sources(job), threads=job.threads, memory=job.memory, spill=spill)
    try:
        body = job.sql.strip().rstrip(";")
        found = connection.execute(f"SELECT count(*) FROM (\n{body}\n)").fetchone()
        count = found[0] if found else 0
        if count:
            rows = connection.execute(f"SELECT * FROM (\n{body}\n) LIMIT {_SHOWN_ROWS}").to_arrow_table().to_pylist()
            raise CheckFailed(_rows_text(count, rows))
    except duckdb.Error as error:
        raise explain(f"Check {job.step}", error) from error
    finally:
        connection.close()
    return Stored("check", "passed")


def _explain(job: Job, error: BaseException) -> tuple[str, str, str]:
    """One line about an exception of the user's code; its traceback goes to the log."""
    whole = traceback.TracebackException.from_exception(error)
    place = _trim(whole, os.path.realpath(job.root) + os.sep)
    print("".join(whole.format()).rstrip())  # noqa: T201 - the step's log
    lines = "".join(whole.format_exception_only()).strip().splitlines() or [type(error).__name__]
    line = lines[-1] if isinstance(error, SyntaxError) else lines[0]
    line = line if len(line) <= _SHOWN_LENGTH else line[:_SHOWN_LENGTH] + "…"
    if isinstance(error, SystemExit):
        line = f"it called sys.exit({error.code!r})"
    if isinstance(error, MemoryError):
        line = "it ran out of memory (MemoryError)"
    return f"Run {job.step}", f"{line}{place}", "Its log shows where."


def _trim(error: traceback.TracebackException, root: str) -> str:
    """Keep only the workspace's frames, through all causes; return the innermost place as text."""
    own = f"{root}.sampan{os.sep}"
    seen: set[int] = set()
    todo: list[traceback.TracebackException | None] = [error]
    place = ""
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        kept = [
            frame
            for frame in one.stack
            if os.path.realpath(frame.filename).startswith(root)
            and not os.path.realpath(frame.filename).startswith(own)
            and f"{os.sep}site-packages{os.sep}" not in frame.filename
        ]
        if one is error and kept:
            place = f" ({os.path.relpath(os.path.realpath(kept[-1].filename), root)}:{kept[-1].lineno})"
        one.stack = traceback.StackSummary.from_list(kept)
        todo += [one.__cause__, one.__context__, *(getattr(one, "exceptions", None) or [])]
    return place
