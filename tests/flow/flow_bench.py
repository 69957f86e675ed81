"""A workspace on disk with a real engine, real records and real worker processes."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sampan.base.clock import SystemClock
from sampan.base.settings import Folder
from sampan.flow.engine import Engine, Plan, Progress, RunResult
from sampan.lake.lake import Lake
from sampan.models.registry import Models
from sampan.store.blobs import Blobs
from sampan.store.database import Database


class Bench:
    """A workspace to write into, plan and run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = Folder(root)
        (root / "sampan.toml").write_text("[settings]\nworkers = 2\n")
        self.db = Database(self.folder.data / "records.db", writable=True)
        clock = SystemClock()
        self.lake = Lake(self.db, self.folder.data / "lake", clock)
        self.models = Models(self.db, Blobs(self.folder.data / "blobs"), clock)
        self.engine = Engine(self.folder, self.db, self.lake, None, self.models, clock, self.folder.settings())
        self.events: list[Progress] = []

    def write(self, **files: str) -> None:
        """``steps="…"`` writes steps.py, ``tables__a="…"`` tables/a.sql, ``pkg__init="…"`` pkg/__init__.py."""
        for name, text in files.items():
            self.file(_path(name), text)

    def file(self, path: str, text: str) -> None:
        where = self.root / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(textwrap.dedent(text).lstrip("\n"))

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text()
        assert old in text, f"{old!r} is not in {path}"
        (self.root / path).write_text(text.replace(old, new))

    def run(
        self, target: str | None = None, on_event: Callable[[Progress], None] | None = None, **sets: Any
    ) -> RunResult:
        self.events = []

        def note(event: Progress) -> None:
            self.events.append(event)
            if on_event is not None:
                on_event(event)

        return self.engine.run(target, _dotted(sets), on_event=note)

    def ran(self, target: str | None = None, **sets: Any) -> list[str]:
        """The names of the steps that a run really ran. The run must succeed."""
        result = self.run(target, **sets)
        assert result.state == "succeeded", [(step.name, step.error) for step in result.steps if step.error]
        return sorted(step.name for step in result.steps if step.state == "ran")

    def plan(self, target: str | None = None, **sets: Any) -> Plan:
        return self.engine.plan(target, _dotted(sets))

    def why(self, step: str, **sets: Any) -> str:
        return {one.name: one.why for one in self.plan(**sets).steps}[step]

    def value(self, step: str) -> Any:
        """A step's newest plain result."""
        import msgspec

        from sampan.flow.plan import stored_of

        result = self.engine.runs.latest(step)
        assert result is not None
        stored = stored_of(result)
        data = stored.inline if stored.inline is not None else Blobs(self.folder.data / "blobs").get(stored.blob or "")
        return msgspec.msgpack.decode(data)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """A published table's rows, sorted."""
        from sampan.lake.read import arrow

        return arrow(self.lake.source(table), "all").to_pylist()

    def log(self, result: RunResult, step: str, part: str = "") -> str:
        return self.engine.log_of(result.run, step, part)


def _path(name: str) -> str:
    if name.startswith(("tables__", "checks__")):
        return name.replace("__", "/", 1) + ".sql"
    if name.endswith("__init"):
        return name.removesuffix("__init").replace("__", "/") + "/__init__.py"
    return name.replace("__", "/") + ".py"


def _dotted(sets: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("__", "."): value for name, value in sets.items()}


def outcome(result: RunResult, step: str) -> Any:
    return next(one for one in result.steps if one.name == step)
