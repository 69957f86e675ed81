"""``sampan run`` as people run it, killed with SIGKILL after each line that it says, then resumed."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

FILES = {
    "sampan.toml": "[settings]\nworkers = 1\n",  # one step at a time: the lines come in one order
    "steps.py": """
        import time
        import pyarrow as pa
        from sampan import step

        @step
        def first() -> pa.Table:
            return pa.table({"x": [1, 2, 3], "y": [0.1, 0.2, 0.3]})

        @step(each="x")
        def parts(first: pa.Table, x: int) -> int:
            time.sleep(0.05)
            return x * x

        @step
        def last(parts: list[int], total: pa.Table) -> float:
            time.sleep(0.2)
            return sum(parts) + total["total"][0].as_py()
        """,
    "tables/total.sql": "SELECT sum(y) AS total, count(*) AS n FROM first",
    "checks/some.sql": "SELECT * FROM total WHERE n = 0",
}
STEPS = 5


class Command:
    """A workspace and `sampan` in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in FILES.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(textwrap.dedent(text))
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("SAMPAN_")}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "sampan", *arguments],
            cwd=self.root,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def json(self, *arguments: str, code: int = 0) -> Any:
        process = self.start(*arguments, "--json")
        said, complained = process.communicate(timeout=60)
        assert process.returncode == code, complained
        return json.loads(said)

    def stop_after(self, lines: int, how: signal.Signals) -> tuple[int, list[str]]:
        """Run, and send a signal as soon as so many steps have been reported."""
        with self.start("run") as process:
            assert process.stderr is not None
            told = [process.stderr.readline() for _ in range(lines)]
            process.send_signal(how)
            return process.wait(60), told


def digests(result: Any) -> dict[str, str]:
    return {step["name"]: step["digest"] for step in result["steps"]}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Any]:
    """What a run gives that nobody kills, and the tables that it published."""
    command = Command(tmp_path_factory.mktemp("whole"))
    result = command.json("run")
    assert result["state"] == "succeeded"
    return digests(result), tables(command)


def tables(command: Command) -> dict[str, str]:
    return {table["name"]: table["snapshot"] for table in command.json("table", "list")["tables"]}


@pytest.mark.slow
@pytest.mark.parametrize("lines", range(1, STEPS + 1))
def test_a_command_killed_after_a_step_resumes_to_the_same_digests(
    tmp_path: Path, undisturbed: tuple[dict[str, str], Any], lines: int
) -> None:
    command = Command(tmp_path)
    code, told = command.stop_after(lines, signal.SIGKILL)
    reported = [line.split()[1] for line in told]
    if code == -signal.SIGKILL:
        (run,) = command.json("runs", "list")["runs"]
        if run["state"] != "succeeded":  # it may have published between its last line and the signal
            result = command.json("resume", "last")
            assert (result["run"], result["state"]) == (run["run"], "succeeded")
            states = {step["name"]: step["state"] for step in result["steps"]}
            assert [states[name] for name in reported] == ["cached"] * lines, "what was reported was kept"
    else:
        assert lines == STEPS
    again = command.json("run")
    assert {step["state"] for step in again["steps"]} == {"cached"}
    assert (digests(again), tables(command)) == undisturbed


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_command_that_is_stopped_says_how_to_go_on(
    tmp_path: Path, undisturbed: tuple[dict[str, str], Any], how: signal.Signals
) -> None:
    command = Command(tmp_path)
    code, _ = command.stop_after(1, how)
    assert code == 130
    (run,) = command.json("runs", "list")["runs"]
    assert run["state"] == "interrupted"
    assert run["error"] == f"it was stopped; `sampan resume {run['run']}` goes on"
    assert digests(command.json("resume", run["run"])) == undisturbed[0]
