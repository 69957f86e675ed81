"""What a run was made from, recorded before its first step and completed after its last.

Git is asked in a process of its own while the run goes on. The uncommitted patch, untracked files included by name
and digest, is a blob.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan import __version__
from sampan.base.digests import digest_file
from sampan.flow.key import python_version, seed_of
from sampan.flow.state import NodeState
from sampan.flow.workspace import Workspace
from sampan.money.prices import Prices
from sampan.store.blobs import Blobs

if TYPE_CHECKING:
    import subprocess


class GitState:
    """The commit and the uncommitted changes, collected beside the run."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._asked: list[subprocess.Popen[bytes]] = []

    def ask(self) -> None:
        """Start git; without git, or outside of a repository, there is nothing to record."""
        import subprocess

        environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
        for arguments in (["diff", "HEAD", "--binary", "--", "."], ["ls-files", "-o", "--exclude-standard", "-z"]):
            try:
                asked = subprocess.Popen(
                    ["git", *arguments],
                    cwd=self._root,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                )
            except OSError:
                return
            self._asked.append(asked)

    def collect(self, folder: Path) -> dict[str, Any]:
        """``patch``: blob of the uncommitted changes, if any; ``untracked``: digests of files git does not know."""
        answers = [asked.communicate()[0] if asked else b"" for asked in self._asked]
        codes = [asked.returncode for asked in self._asked]
        self._asked.clear()  # they have ended, and their pipes are closed
        if len(answers) < 2 or any(codes):
            return {"patch": None, "untracked": {}}
        names = [name for name in answers[1].decode("utf-8", "surrogateescape").split("\0") if name]
        untracked = {
            name.encode("utf-8", "replace").decode(): digest_file(self._root / name)
            for name in names
            if (self._root / name).is_file()
        }
        return {"patch": Blobs(folder).put(answers[0]) if answers[0] else None, "untracked": untracked}

    def stop(self) -> None:
        """End what is still asked, for a run that ends before its time."""
        for asked in self._asked:
            if asked.stdout is not None and not asked.stdout.closed:
                asked.kill()
                asked.communicate()


def opening(workspace: Workspace, prices: Prices, **facts: Any) -> dict[str, Any]:
    """The part of a manifest that is known before the first step."""
    root = workspace.folder.root
    lock = root / "uv.lock"
    system = os.uname()
    return {
        "sampan": __version__,
        "python": python_version(),
        "os": f"{system.sysname} {system.release}",
        "machine": system.machine,
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "executable": sys.executable,
        "lock": digest_file(lock) if lock.exists() else None,
        "packages": workspace.packages.all(),
        "prices": {"currency": prices.currency, "this_machine_per_hour": prices.this_machine_per_hour},
        **facts,
    }


def cpu_model() -> str:
    """The processor's name as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a system file, a few lines of it
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine()


def closing(workspace: Workspace, states: Mapping[str, NodeState]) -> dict[str, Any]:
    """The part of a manifest that tells what became of each step."""
    return {
        name: {
            "state": state.state,
            "key": state.decision.key if state.decision else None,
            "code": workspace.code_digest(state.node),
            "inputs": dict(state.decision.parts.inputs) if state.decision else {},
            "parameters": workspace.parameters(state.node),
            "seed": _seed(state),
            "output": state.digest or None,
            "seconds": state.seconds,
            "memory": state.memory,
            "warnings": state.warnings,
            "flags": flags(workspace, state),
        }
        for name, state in states.items()
    }


def flags(workspace: Workspace, state: NodeState) -> list[str]:
    """What makes a node's result less certain than it could be."""
    table = state.stored.table if state.stored is not None else None
    return [*workspace.flags(state.node), *(table.flags if table is not None else ())]


def _seed(state: NodeState) -> int | None:
    if state.node.query or state.decision is None:
        return None
    return seed_of(state.decision.key, state.node.options.get("seed"))
