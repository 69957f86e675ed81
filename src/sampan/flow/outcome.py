"""What a run tells while it goes on, and what became of it: plain records for commands, pages and scripts."""

from pathlib import Path
from typing import Any

import msgspec

from sampan.base.digests import digest_bytes
from sampan.flow.graph import CHECK
from sampan.flow.plan import FAILED
from sampan.lake.history import MAIN
from sampan.runs.records import SUCCEEDED


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something happened in a run. ``step`` is empty where it concerns the run as a whole; ``state`` is one of
    ``started``, ``running``, ``ran``, ``cached``, ``warned``, ``failed``, ``blocked``, ``retrying``, ``publishing``,
    ``succeeded``, ``interrupted``."""

    run: str
    step: str
    state: str
    part: str = ""
    why: str = ""
    seconds: float = 0.0
    message: str = ""
    done: int = 0
    total: int = 0


class StepResult(msgspec.Struct, frozen=True):
    """What became of one step."""

    name: str
    kind: str
    state: str
    why: str
    digest: str = ""
    seconds: float = 0.0
    memory: int = 0
    cost: float = 0.0
    error: str = ""
    parts: int = 0
    parts_ran: int = 0
    needs: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


class RunResult(msgspec.Struct, frozen=True):
    """What became of a run. ``state`` is ``succeeded``, ``failed`` or ``interrupted``."""

    run: str
    state: str
    commit: str | None
    git: str | None
    steps: tuple[StepResult, ...]
    versions: tuple[str, ...]
    error: str
    seconds: float
    cost: float
    currency: str
    position: str
    root: str
    branch: str = MAIN

    @property
    def exit_code(self) -> int:
        """0: good; 1: a check said no; 3: something failed."""
        if self.state == SUCCEEDED:
            return 0
        failed = [step for step in self.steps if step.state == FAILED]
        return 1 if failed and all(step.kind == CHECK and not step.error.startswith("!") for step in failed) else 3

    def json(self) -> dict[str, Any]:
        """The form of ``sampan run --json``."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        for step in found["steps"]:
            step["digest"] = step["digest"] or None
            step["error"] = step["error"].removeprefix("!")
        return found


def log_path(data: Path, run: str, step: str, part: str) -> Path:
    """Where a step's output is kept."""
    name = step
    if part:
        plain = all(c.isascii() and (c.isalnum() or c in "-_") for c in part)
        name = f"{step}.{part if plain and len(part) <= 60 else digest_bytes(part.encode())[:16]}"
    return data / "runs" / run / f"{name}.log"
