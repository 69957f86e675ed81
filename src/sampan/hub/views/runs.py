"""Runs: the list, one run with its flow, and the captured output of its steps."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.errors import Damaged, NotFound
from sampan.base.ids import whole
from sampan.hub.parts import Parts, Query, as_of
from sampan.hub.remarks import Remarks, remarks
from sampan.hub.timeline import Timeline, timeline
from sampan.hub.uses import code_of
from sampan.lake.history import MAIN
from sampan.runs.provenance import Item, items
from sampan.runs.records import RUNNING, Run, Runs, StepRun, refusing
from sampan.track.spool import RUN_TAG, STEP_TAG

_SHOWN: Final = 100_000
_VALUE: Final = 80
_PATCH: Final = 40_000
CACHED: Final = "cached"


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
    changed: list[str]
    """What set it going: the steps that ran because of something other than what they read, each with the reason."""
    currency: str = ""
    refused: list[str] = []
    """The checks that refused what it made, if nothing else failed."""
    branch: str = MAIN


class RunList(msgspec.Struct):
    """Context of ``runs.html``. ``branches``: those that there are."""

    runs: list[RunLine]
    branches: list[str] = []
    as_of: int | None = None


def runs(parts: Parts, query: Query) -> RunList:
    """The newest runs; as of a time, those that had begun, in the state that they were in."""
    records, then = Runs(parts.db), as_of(query)
    found = []
    for run in records.list(_limit(query), query.get("target") or None, by=then):
        counts: dict[str, int] = {}
        steps = records.steps(run.id, by=then)
        for step in steps:
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
                took(run),
                counts,
                _changed(steps),
                str(run.manifest.get("prices", {}).get("currency", "")),
                list(refusing(steps)),
                run.branch,
            )
        )
    return RunList(found, list(parts.lake.branches()), then)


def _changed(steps: Sequence[StepRun]) -> list[str]:
    """What began it all: reasons other than that an input changed, the same reason once."""
    found: dict[str, str] = {}
    for step in steps:
        if step.state in (CACHED, "blocked", "planned") or step.why == "nothing changed":
            continue
        own = [one for one in step.why.split("; ") if one and not one.startswith("input ")]
        if own and own[0] not in found:
            found[own[0]] = step.name
    names = [step.name for step in steps]
    return [
        f"{name}: {reason}" if reason != "it has no result yet" else f"{name} is new"
        for reason, name in found.items()
        if name in names
    ]


def _limit(query: Query) -> int:
    return min(whole(str(query.get("limit", ""))) or 50, 1000)


def took(run: Run) -> float | None:
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


class Trouble(msgspec.Struct):
    """A step that failed: the first line of what it said, all of it, where it is written, and what to do."""

    name: str
    kind: str
    said: str
    error: str
    where: str
    log: str
    advice: list[str]


class Input(msgspec.Struct):
    """A kind of event that was read: how many there were up to the run's position, and their digest."""

    type: str
    count: int
    digest: str


class Output(msgspec.Struct):
    """A table or model version that the run gave. ``held``: it was not published."""

    name: str
    kind: str
    digest: str
    rows: int | None
    version: str
    held: bool


class Logged(msgspec.Struct):
    """What a step logged with ``sampan.log``; ``of``: the run that did, where this one took its result from there."""

    step: str
    id: str
    name: str
    experiment: int
    of: str


class RunPage(msgspec.Struct, kw_only=True):
    """Context of ``run.html``. ``branches``: those that there are."""

    run: str
    state: str
    target: str
    branch: str
    branches: list[str]
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
    after: str | None
    troubles: list[Trouble]
    timeline: Timeline | None
    inputs: list[Input]
    outputs: list[Output]
    parameters: dict[str, dict[str, Any]]
    patch: str
    made_from: list[Item]
    currency: str
    changed: list[str]
    logged: list[Logged]
    remarks: Remarks
    as_of: int | None = None


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
    """One run: what ran and why, from what, and what it gave; or how far it had come at a time."""
    records, then = Runs(parts.db), as_of(query)
    found = records.get(query["run"], then)
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
        for step in records.steps(found.id, parts=True, by=then)
    ]
    published: dict[str, str] = {}
    if found.commit_id:
        commit = parts.lake.commit_of(found.commit_id)
        before = parts.lake.commit_of(commit.parent).tables if commit.parent else {}
        published = {name: id for name, id in commit.tables.items() if before.get(name) != id}
    around = [one.id for one in records.list(200, by=then)]
    at = around.index(found.id) if found.id in around else -1
    steps = records.steps(found.id, by=then)
    now = parts.clock.micros() if then is None else then
    return RunPage(
        run=found.id,
        state=found.state,
        target=found.target,
        branch=found.branch,
        branches=list(parts.lake.branches()),
        position=found.position,
        root=found.root,
        commit=found.commit_id,
        git=found.git,
        actor=found.actor,
        error=found.error,
        cost=found.cost,
        started=found.started,
        finished=found.finished,
        seconds=took(found),
        steps=[line for line in lines if not line.part],
        fan=[line for line in lines if line.part],
        manifest=found.manifest,
        logs=logs,
        published=published,
        events=events_of(lines, parts.contracts.types()),
        before=around[at + 1] if 0 <= at < len(around) - 1 else None,
        after=around[at - 1] if at > 0 else None,
        troubles=[_trouble(parts, found.id, line) for line in lines if line.state == "failed" and not line.part],
        timeline=timeline(steps, now if found.state == RUNNING else None),
        inputs=[
            Input(type, one.get("count", 0), one.get("digest", ""))
            for type, one in found.manifest.get("inputs", {}).items()
        ],
        outputs=_outputs(parts, steps, published, found),
        parameters={
            name: one["parameters"] for name, one in found.manifest.get("steps", {}).items() if one.get("parameters")
        },
        patch=_patch(parts, found.manifest.get("patch")),
        made_from=items(found),
        currency=str(found.manifest.get("prices", {}).get("currency", "")),
        changed=_changed(steps),
        logged=_logged(parts, records, found.id, steps, then),
        remarks=remarks(parts, query, "run", found.id),
        as_of=then,
    )


def _logged(parts: Parts, records: Runs, run: str, steps: Sequence[StepRun], then: int | None) -> list[Logged]:
    """The logged runs of its steps, also of those whose result an earlier run computed."""
    makers = {step.name: run for step in steps}
    for step in steps:
        if step.state == CACHED and (result := records.result(step.key)) is not None:
            makers[step.name] = result.run
    return [
        Logged(name, one.id, one.name, one.experiment, maker if maker != run else "")
        for one in parts.tracking.runs.tagged(RUN_TAG, sorted({*makers.values()}))
        if makers.get(name := one.tags.get(STEP_TAG, "")) == (maker := one.tags[RUN_TAG])
        and (then is None or one.started * 1000 <= then)
    ]


def _trouble(parts: Parts, run: str, line: StepLine) -> Trouble:
    code = code_of(parts.folder.root, line.name)
    where = f"{code.path}:{code.line}" if code else ""
    if line.kind == "check":
        types = set(parts.contracts.types())
        table = next((need for need in line.needs if need not in types), "TABLE")
        look = f'sampan sql --run {run} "select … from {table}"'
        advice = [look, "sampan run"]
    else:
        advice = [f"sampan why {line.name}", "sampan run"]
    said = [text for text in line.error.splitlines() if text.strip()]
    # the last line of a traceback says what happened, the first line of anything else does
    first = said[-1] if said and said[0].startswith("Traceback") else said[0] if said else "It failed."
    return Trouble(line.name, line.kind, first, line.error, where, line.log, advice)


def _outputs(parts: Parts, steps: Sequence[StepRun], published: dict[str, str], run: Run) -> list[Output]:
    """What it made anew: tables, published or held back, and versions of models."""
    versions = {one.key: one.ref for one in parts.models.list() if one.key}
    found = []
    for step in steps:
        if step.kind == "model" and step.state == "ran":
            ref = versions.get(step.key, "")
            found.append(Output(step.name, "model", step.digest, None, ref, not ref))
        elif (
            step.kind in ("table", "step")
            and step.digest.startswith("t")
            and (step.name in published or (step.state == "ran" and run.commit_id is None))
        ):
            rows = None
            with suppress(NotFound):
                rows = parts.lake.snapshot(step.digest).rows
            found.append(Output(step.name, "table", step.digest, rows, "", step.name not in published))
    return found


def _patch(parts: Parts, digest: Any) -> str:
    """The uncommitted changes of the workspace when it ran."""
    if not digest:
        return ""
    try:
        text = parts.models.blobs.get(str(digest)).decode("utf-8", "replace")
    except (NotFound, Damaged):
        return ""
    return text if len(text) <= _PATCH else f"{text[:_PATCH]}\n… {len(text) - _PATCH:,} more characters"


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
    state: str
    going: bool


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
    logs, going = list(there), found.state == RUNNING
    text = data.decode("utf-8", "backslashreplace")
    return LogPage(found.id, path.name, text, size, size > _SHOWN, logs, found.state, going)
