"""Runs: the list, one run with its flow, and the captured output of its steps."""

from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.errors import NotFound
from sampan.hub.parts import Parts, Query
from sampan.runs.records import Run, Runs, StepRun

_SHOWN: Final = 200_000
_VALUE: Final = 80


class RunLine(msgspec.Struct):
    """A run in the list. ``steps`` counts its steps by state."""

    run: str
    state: str
    target: str
    commit: str | None
    git: str | None
    actor: str
    error: str
    cost: float
    started: int
    seconds: float | None
    steps: dict[str, int]


class RunList(msgspec.Struct):
    """Context of ``runs.html``."""

    runs: list[RunLine]


def runs(parts: Parts, query: Query) -> RunList:
    """The newest runs."""
    records = Runs(parts.db)
    found = []
    for run in records.list(_limit(query), query.get("target") or None):
        counts: dict[str, int] = {}
        for step in records.steps(run.id):
            counts[step.state] = counts.get(step.state, 0) + 1
        found.append(
            RunLine(
                run.id,
                run.state,
                run.target,
                run.commit_id,
                run.git,
                run.actor,
                run.error,
                run.cost,
                run.started,
                _seconds(run),
                counts,
            )
        )
    return RunList(found)


def _limit(query: Query) -> int:
    text = str(query.get("limit", ""))
    return min(int(text), 1000) if text.isdecimal() and int(text) else 50


def _seconds(run: Run) -> float | None:
    """How long a run took: as it was measured, not by a clock that a time-lapse may hold still."""
    if run.finished is None:
        return None
    return float(run.manifest.get("seconds") or (run.finished - run.started) / 1_000_000)


class StepLine(msgspec.Struct):
    """A step of a run and what came of it."""

    name: str
    part: str
    kind: str
    state: str
    why: str
    digest: str
    seconds: float
    memory: int
    cost: float
    error: str
    needs: tuple[str, ...]
    log: str
    value: str
    """A plain result as JSON, shortened; empty for tables, models and checks."""


class RunPage(msgspec.Struct):
    """Context of ``run.html``."""

    run: str
    state: str
    target: str
    branch: str
    position: str
    root: str
    commit: str | None
    git: str | None
    actor: str
    error: str
    cost: float
    started: int
    finished: int | None
    seconds: float | None
    steps: list[StepLine]
    fan: list[StepLine]
    manifest: dict[str, Any]
    logs: list[str]
    published: dict[str, str]
    events: list[str]
    before: str | None


def _value(records: Runs, step: StepRun) -> str:
    if step.kind != "step" or not step.digest.startswith("v1-"):
        return ""
    from sampan.flow.plan import stored_of
    from sampan.flow.values import decode

    result = records.result(step.key)
    stored = stored_of(result) if result is not None else None
    if stored is None or stored.inline is None:
        return ""
    text = msgspec.json.encode(decode(stored.inline), enc_hook=str).decode()
    return text if len(text) <= _VALUE else f"{text[: _VALUE - 1]}…"


def run(parts: Parts, query: Query) -> RunPage:
    """One run: what ran and why, from what, and what it gave."""
    records = Runs(parts.db)
    found = records.get(query["run"])
    logs = [path.name for path in _logs(parts, found.id)]
    lines = [
        StepLine(
            step.name,
            step.part,
            step.kind,
            step.state,
            step.why,
            step.digest,
            step.seconds,
            step.memory,
            step.cost,
            step.error.removeprefix("!"),
            step.needs,
            _log_of(step.name, step.part, logs),
            _value(records, step),
        )
        for step in records.steps(found.id, parts=True)
    ]
    published: dict[str, str] = {}
    if found.commit_id:
        commit = parts.lake.commit_of(found.commit_id)
        before = parts.lake.commit_of(commit.parent).tables if commit.parent else {}
        published = {name: id for name, id in commit.tables.items() if before.get(name) != id}
    earlier = [one.id for one in records.list(200) if one.started < found.started]
    return RunPage(
        run=found.id,
        state=found.state,
        target=found.target,
        branch=found.branch,
        position=found.position,
        root=found.root,
        commit=found.commit_id,
        git=found.git,
        actor=found.actor,
        error=found.error,
        cost=found.cost,
        started=found.started,
        finished=found.finished,
        seconds=_seconds(found),
        steps=[line for line in lines if not line.part],
        fan=[line for line in lines if line.part],
        manifest=found.manifest,
        logs=logs,
        published=published,
        events=events_of(lines, parts.contracts.types()),
        before=earlier[0] if earlier else None,
    )


def events_of(lines: list[StepLine], types: list[str]) -> list[str]:
    """What a flow reads straight from the log."""
    return sorted({need for line in lines for need in line.needs if need in types})


def _logs(parts: Parts, run: str) -> list[Path]:
    folder = parts.folder.data / "runs" / run
    return sorted(path for path in folder.iterdir() if path.suffix == ".log") if folder.is_dir() else []


def _log_of(step: str, part: str, logs: list[str]) -> str:
    name = f"{step}.{part}.log" if part else f"{step}.log"
    return name if name in logs else ""


class LogPage(msgspec.Struct):
    """Context of ``run_log.html``."""

    run: str
    log: str
    text: str
    bytes: int
    cut: bool
    logs: list[str]


def log(parts: Parts, query: Query) -> LogPage:
    """What a step printed. The name is looked up among those that exist; it never becomes a path."""
    found = Runs(parts.db).get(query["run"])
    there = {path.name: path for path in _logs(parts, found.id)}
    path = there.get(query["log"])
    if path is None:
        names = ", ".join(there) or "none: no step printed anything"
        raise NotFound("Open a log", f"run {found.id} has none named {query['log'][:100]!r}", f"There are: {names}.")
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _SHOWN))
        data = file.read(_SHOWN)
    return LogPage(found.id, path.name, data.decode("utf-8", "backslashreplace"), size, size > _SHOWN, list(there))
