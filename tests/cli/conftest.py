"""Commands in a workspace of their own: as whole processes, or by the function that such a process calls.

``Shell`` starts a process for each command; ``Here`` calls ``run_command`` in this process, for tests of what a command
says where others see that it starts.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.conftest import Hub, environment, make_workspace, visit
from tests.within import within


class Shell:
    """A workspace and a way to type commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.extra: dict[str, str] = {}

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run a command that must end with ``code``; gives standard output."""
        done = self.run(*arguments)
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))

    def complaint(self, *arguments: str, code: int) -> str:
        """What a command that fails says: one message on standard error, no traceback."""
        done = self.run(*arguments)
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr + done.stdout
        return done.stderr

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sampan", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.folder,
            env=environment(**self.extra),
            check=False,
        )


class Here(Shell):
    """The same, within this process."""

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return within(self.folder, *arguments, variables=environment(**self.extra))


@pytest.fixture
def here(shell: Shell) -> Here:
    """The shell's workspace, with commands that run in this process."""
    return Here(shell.folder)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(make_workspace(tmp_path / "shop"))


@pytest.fixture
def hub(shell: Shell) -> Iterator[Hub]:
    """A hub of the shell's workspace."""
    running = Hub(shell.folder)
    yield running
    running.stop()


@pytest.fixture
def visits(tmp_path: Path) -> Path:
    """A file of three visits, one of which breaks the contract."""
    path = tmp_path / "visits.csv"
    path.write_text(
        "number,time,page,visitor,seconds\n1,2026-01-01 10:00,/a,joe,3.5\n2,2026-01-02,/b,,\n3,never,/c,ann,1\n"
    )
    return path


def git(folder: Path, *arguments: str) -> str:
    name = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    done = subprocess.run(["git", *name, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def load(here: Here, *ids: str) -> None:
    file = here.folder / "visits.ndjson"
    file.write_text("".join(json.dumps(visit(id, page=f"/{id[0]}")) + "\n" for id in ids))
    here("log", "load", str(file))


def run(here: Here, *arguments: str) -> str:
    return str(here.json("run", *arguments)["run"])


@pytest.fixture
def committed(here: Here, request: pytest.FixtureRequest) -> Here:
    """A workspace in a folder of a git repository, with three events and the STEPS of the test's module, committed."""
    (here.folder / "steps.py").write_text(request.module.STEPS)
    (here.folder / ".gitignore").write_text(".sampan/\n__pycache__/\n*.ndjson\n")
    git(here.folder.parent, "init", "-q")
    git(here.folder.parent, "add", "shop")
    git(here.folder.parent, "commit", "-qm", "first")
    load(here, "a1", "a2", "b1")
    return here
