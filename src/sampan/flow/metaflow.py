"""``sampan.metaflow``: a Metaflow flow file runs as one step, and what is plain of its artifacts is the step's result.

The flow runs as Metaflow runs it, in processes of its own, with a local datastore in the workspace's data. Its
artifacts are pickles: a process that ends with the question reads them (``metaflow_child``), and gives back what is
plain data. Everything else stays where it lies; no process of Sampan's own ever loads it.
"""

import getpass
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.errors import BadStep, Usage
from sampan.base.settings import find_folder
from sampan.track import spool

_STORE: Final = "metaflow"
_MOST_TASKS: Final = 200  # of steps with several tasks, that are logged one by one
_FAILED: Final = re.compile(r"<flow \w+ step (\w+)(?:\[[^>]*\])?> failed")
_ERROR: Final = re.compile(r"\] (?:[\w.]*(?:Error|Exception)\b.*|Parameter .*)")
_NAME: Final = re.compile(r"[A-Za-z_]\w*\Z")


class Task(msgspec.Struct, omit_defaults=True):
    """One task of a step that has several, as one that fans out has. ``artifacts``: those that are plain."""

    step: str
    number: int
    artifacts: dict[str, Any]


class Opaque(msgspec.Struct):
    """An artifact that is not plain data: the size and the SHA-1 of its pickle, by which Metaflow keeps it."""

    bytes: int
    sha1: str


class Ran(msgspec.Struct):
    """A run of a flow. ``artifacts``: those of its last step that are plain data; ``opaque``: the others."""

    flow: str
    parameters: dict[str, Any]
    artifacts: dict[str, Any]
    opaque: dict[str, Opaque]
    tasks: list[Task]


def metaflow(flow: str | Path, /, **parameters: Any) -> dict[str, Any]:
    """Run a Metaflow flow file, with these parameters, and give what came of it as plain data.

    Within a step: ``def trained(flow=File("flow.py")): return sampan.metaflow(flow, alpha=0.1)``. The dictionary has
    ``flow``, ``parameters``, ``artifacts`` (of the last step, as far as they are plain: numbers, texts, lists,
    dictionaries), ``opaque`` (size and SHA-1 of the others) and ``tasks`` (of steps that fan out). Parameters and
    numbers are logged into a run of the step. Raises BadStep for a flow that fails, Usage without Metaflow.
    """
    path = Path(flow).resolve()
    attempted = f"Run the Metaflow flow {path.name}"
    if find_spec("metaflow") is None:
        raise Usage(attempted, "Metaflow is not installed", 'Run `uv add "sampan[metaflow]"`.')
    if not path.is_file():
        raise BadStep(attempted, f"there is no file {str(path)!r}", "Name one that is: File('flow.py').")
    for name in parameters:
        if not _NAME.match(name):
            raise Usage(attempted, f"{name!r} names no parameter", "Use its name in the flow.")
    store = _data() / _STORE
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store) as scratch:
        environment = _environment(store, Path(scratch))
        noted = Path(scratch) / "run"
        given = [word for name, value in parameters.items() for word in (f"--{name}", _word(value))]
        command = [sys.executable, str(path), "--no-pylint", "run", "--run-id-file", str(noted), *given]
        _run(attempted, command, environment)
        ran = _read(attempted, path, noted.read_text().strip(), Path(scratch), environment)
    if os.environ.get(spool.STEP_VARIABLE):
        _log(ran[0], ran[1])
    found: dict[str, Any] = msgspec.to_builtins(ran[1])
    return found


def _data() -> Path:
    said = os.environ.get(spool.STEP_VARIABLE)
    return Path(msgspec.json.decode(said, type=spool.Step).data) if said else find_folder(None).data


def _environment(store: Path, scratch: Path) -> dict[str, str]:
    """Metaflow's own settings are these and no others: nothing leaves the machine because somebody's file says so."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("METAFLOW_")}
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = ""
    user = user if user not in ("", "root") else "sampan"  # Metaflow takes neither
    return kept | {
        "METAFLOW_HOME": str(scratch / "home"),
        "METAFLOW_DEFAULT_DATASTORE": "local",
        "METAFLOW_DEFAULT_METADATA": "local",
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(store),
        "METAFLOW_USER": user,
        "USERNAME": user,
        "PYTHONUNBUFFERED": "1",
    }


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _run(attempted: str, command: list[str], environment: Mapping[str, str]) -> None:
    """Run it, its output into the step's log. Raises BadStep, with the step that failed and what it raised."""
    where = error = ""
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as child:
        assert child.stdout is not None
        last = ""
        for line in child.stdout:
            print(line, end="")  # noqa: T201 - the step's log
            last = line.strip() or last
            where = found[1] if (found := _FAILED.search(line)) and not where else where
            error = found[0].removeprefix("] ") if (found := _ERROR.search(line)) else error
    if child.returncode:
        said = f"its step {where!r} failed: {error or last}" if where else f"it ended with {child.returncode}: {last}"
        raise BadStep(attempted, said, "The log of this step shows where.")


def _read(attempted: str, path: Path, run: str, scratch: Path, environment: Mapping[str, str]) -> tuple[str, Ran]:
    """What came of a run, asked in a process of its own. Raises BadStep."""
    out = scratch / "out.json"
    script = Path(__file__).with_name("metaflow_child.py")
    done = subprocess.run(
        [sys.executable, "-P", str(script), str(out), str(path), run],
        env={**environment, "PYTHONPATH": os.pathsep.join([str(path.parent), environment.get("PYTHONPATH", "")])},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    try:
        return run, msgspec.json.decode(out.read_bytes(), type=Ran)
    except (OSError, msgspec.MsgspecError):
        last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise BadStep(attempted, f"what came of its run {run} cannot be read: {last}", "") from None


def _log(run: str, ran: Ran) -> None:
    """Its parameters and numbers, into a run of the step; and of each task of steps that fan out, into a child."""
    with spool.logged_run(f"{ran.flow}/{run}") as logged:
        for name, value in ran.parameters.items():
            try:
                logged.log_params({name: _word(value)})
            except Usage:  # the step has a parameter of that name, with another value
                logged.log_params({f"{ran.flow}.{name}": _word(value)})
        _log_numbers(logged, ran.artifacts)
        for task in ran.tasks[:_MOST_TASKS]:
            with spool.logged_run(f"{task.step}[{task.number}]") as child:
                _log_numbers(child, task.artifacts)


def _log_numbers(logged: spool.LoggedRun, artifacts: Mapping[str, Any]) -> None:
    numbers = {
        name: float(value)
        for name, value in artifacts.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if numbers:
        logged.log(numbers)
