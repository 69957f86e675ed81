"""One run: nodes become ready, are decided about, run in workers, are recorded, and are published together.

The loop runs in one thread. A node is ready when its needs have results and the checks that hold it back have
passed; its key is computed only then, so that an equal output of a rerun step spares everything behind it.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.errors import SampanError
from sampan.flow.fanout import FanOut
from sampan.flow.graph import CHECK, TABLE, Node
from sampan.flow.job import PYTHON, SQL, SQL_CHECK, Done, Input, Job, Stored
from sampan.flow.manifest import GitState, opening
from sampan.flow.outcome import Progress, RunResult, StepResult, log_path
from sampan.flow.plan import BLOCKED, CACHED, FAILED, RAN, Decision, Planner
from sampan.flow.pool import Lost, Pool, Task, Worker
from sampan.flow.source import parse_bytes
from sampan.flow.workspace import Workspace, git_commit
from sampan.lake.query import TableSource
from sampan.money.prices import read_prices
from sampan.runs.records import FAILED as RUN_FAILED
from sampan.runs.records import INTERRUPTED, RUNNING, SUCCEEDED, Result, Run, StepRun
from sampan.store.blobs import Blobs

if TYPE_CHECKING:
    from sampan.flow.engine import Engine
    from sampan.log.position import Position

_SQL_MODULES: Final = ["duckdb", "pyarrow", "pyarrow.parquet", "sampan.lake.write", "sampan.lake.digest"]
_FRAME_MODULES: Final = ["pyarrow", "sampan.lake.write", "sampan.lake.read", "sampan.lake.digest", "duckdb"]
_FRAMES: Final = {"pandas", "pyarrow", "duckdb", "numpy", "polars"}
_PRELOADED: Final = {"pandas", "pyarrow", "duckdb", "numpy", "scipy", "sklearn", "lightgbm"}
"""Packages that may be imported before a fork; Polars, for one, starts threads that a fork would lose."""
_SEEDED: Final = ("numpy", "torch")


class _State:
    """A node on its way through a run."""

    def __init__(self, node: Node, waits: set[str]) -> None:
        self.node, self.waits = node, waits
        self.state = "waiting"
        self.why = ""
        self.decision: Decision | None = None
        self.fan: FanOut | None = None
        self.attempt = 0
        self.not_before = 0.0
        self.seconds = 0.0
        self.memory = 0
        self.error = ""
        self.started: int | None = None
        self.warnings: list[str] = []
        self.stored: Stored | None = None
        self.recorded = False


class Execution:
    """The state of one run and the loop that drives it."""

    def __init__(
        self,
        engine: "Engine",
        id: str,
        target: str | None,
        workspace: Workspace,
        position: "Position | None",
        on_event: Callable[[Progress], None] | None,
        actor: str,
        reason: str,
        mixed: list[str],
        before: Run | None,
    ) -> None:
        self.engine, self.id, self.target, self.workspace = engine, id, target, workspace
        self.data = engine.folder.data
        self.runs = engine.runs
        self.position = position
        self.on_event = on_event
        self.actor, self.reason, self.mixed, self.before = actor, reason, mixed, before
        self.prices = read_prices(engine.folder.config())
        self.planner = Planner(workspace, engine.runs, self.data, engine.log, position)
        self.pool = Pool(engine.folder.root, self.data / "runs" / id / "workers.log")
        selected = workspace.graph.select(target)
        gates = workspace.graph.gates(selected)
        nodes = workspace.graph.nodes
        self.states = {
            name: _State(nodes[name], {need for need in nodes[name].needs if need in nodes} | gates[name])
            for name in selected
        }
        self.digests: dict[str, str] = {}
        self.slots = engine.settings.get("workers") or _cpus()
        self.memory_total = _memory(str(engine.settings.get("memory")))
        self.running: dict[str, int] = {}
        self.manifest: dict[str, Any] = {}
        self.git = git_commit(engine.folder.root)
        self.root = ""
        self._recorded = False
        self._began = time.perf_counter()
        self._results: list[Result] = []
        self._rows: list[StepRun] = []
        self._flushed = time.monotonic()

    # -- the whole

    def run(self) -> RunResult:
        """Drive the run to its end."""
        git = GitState(self.engine.folder.root)
        if self.git:
            git.ask()
        self.root = self.engine.log.root(self.position) if self.engine.log is not None else ""
        self.manifest = opening(
            self.workspace,
            self.prices,
            sets={
                f"{step}.{name}": value for step, found in self.workspace.sets.items() for name, value in found.items()
            },
            mixed=self.mixed,
            resumed=(self.before.manifest.get("resumed", 0) + 1) if self.before else 0,
            recipes={
                name: msgspec.to_builtins(self.workspace.parts(state.node, {})) for name, state in self.states.items()
            },
        )
        self.manifest["inputs"] = self._events()
        try:
            self._begin()
            self.tell("", "started", total=len(self.states))
            self._loop()
            self.flush()
            return self._end(git)
        except BaseException as error:
            self.pool.close()
            with contextlib.suppress(Exception):
                self._abandon(error)
            raise
        finally:
            self.pool.close()
            git.stop()
            self.workspace.save()

    def _events(self) -> dict[str, Any]:
        """The types of event that this run reads: how many there are and their digest."""
        events = self.workspace.graph.events
        types = sorted({need for state in self.states.values() for need in state.node.needs if need in events})
        states = {type: self.planner.event_state(type) for type in types}
        return {type: {"count": count, "digest": digest} for type, (count, digest) in states.items()}

    def _begin(self) -> None:
        row = Run(
            self.id,
            RUNNING,
            self.target or "",
            "main",
            str(self.position or ""),
            self.root,
            None,
            self.git,
            self.actor,
            self.manifest,
            "",
            0.0,
            self.before.started if self.before else self.engine.clock.micros(),
        )
        with self.engine.db.transaction():
            self.runs.start(row)
            self.runs.put_steps([self._row(state) for state in self.states.values()])
        self._recorded = True

    def _abandon(self, error: BaseException) -> None:
        if self._recorded:
            said = error.obstacle if isinstance(error, SampanError) else type(error).__name__
            text = f"{said}; `sampan resume {self.id}` goes on"
            self.flush()
            self._finish(INTERRUPTED, None, text)
            self.tell("", INTERRUPTED, message=text)

    def _loop(self) -> None:
        while True:
            self._advance()
            if not self.running:
                later = [s.not_before for s in self.states.values() if s.state == "retrying"]
                if not later:
                    return
                time.sleep(max(0.0, min(later) - time.monotonic()))
                continue
            self.flush_if_due()
            retry = [s.not_before - time.monotonic() for s in self.states.values() if s.state == "retrying"]
            patience = max(0.0, min(retry)) if retry else (0.05 if self._results or self._rows else None)
            for worker, task, answer in self.pool.wait(patience):
                state = self.states[task.tag[0]]
                if state.fan is not None:
                    state.fan.answered(worker, task, answer)
                else:
                    self._answered(state, worker, task, answer)

    def _advance(self) -> None:
        moved = True
        while moved:
            moved = False
            for state in self.states.values():
                if state.state == "waiting" and self._settle(state):
                    moved = True
                if state.state in ("ready", "retrying") and self._room(state):
                    if state.state == "retrying" and state.not_before > time.monotonic():
                        continue
                    self._start(state)
                    moved = True
            for state in self.states.values():
                if state.fan is not None and state.state == RUNNING:
                    state.fan.feed()

    def _settle(self, state: _State) -> bool:
        """Decide about a waiting node if all that it waits for is done."""
        outcomes = {name: self.states[name].state for name in state.waits if name in self.states}
        bad = sorted(name for name, outcome in outcomes.items() if outcome in (FAILED, BLOCKED))
        if bad:
            state.state, state.why = BLOCKED, f"blocked by {', '.join(bad)}"
            self.record(state)
            self.tell(state.node.name, BLOCKED, why=state.why)
            return True
        if any(outcome not in (RAN, CACHED) for outcome in outcomes.values()):
            return False
        try:
            state.decision = self.planner.decide(state.node, self.digests)
        except SampanError as error:
            self.fail(state, f"!{error.obstacle}", error.advice)
            return True
        if state.decision.stored is not None and state.decision.result is not None:
            state.state, state.why = CACHED, "nothing changed"
            self.digests[state.node.name] = state.decision.result.digest
            state.stored = state.decision.stored
            self.record(state)
            self.tell(state.node.name, CACHED, why=state.why)
            return True
        state.state, state.why = "ready", state.decision.why
        self.pool.start()
        return True

    # -- running

    def _room(self, state: _State) -> bool:
        used = sum(self.running.values())
        if used and used + self._cpus_of(state) > self.slots:
            return False
        wanted = parse_bytes(state.node.options.get("memory")) or 0
        taken = sum(parse_bytes(self.states[name].node.options.get("memory")) or 0 for name in self.running)
        return not (wanted and taken and wanted + taken > self.memory_total)

    def _cpus_of(self, state: _State) -> int:
        return min(int(state.node.options.get("cpus") or 1), self.slots)

    def _start(self, state: _State) -> None:
        node = state.node
        state.state = RUNNING
        state.attempt += 1
        if state.started is None:
            state.started = self.engine.clock.micros()
            self.record(state)
        self.running[node.name] = self._cpus_of(state)
        self.tell(node.name, "running", why=state.why)
        self.preload(node)
        try:
            if node.each:
                state.fan = FanOut(self, state)
                state.fan.start()
                return
            assert state.decision is not None
            job = self.job(node, self.inputs_of(node), state.decision.key)
        except SampanError as error:
            self.fail(state, f"!{error.obstacle}", error.advice)
            return
        self.pool.submit(self.pool.spawn(), self.task(node, job))

    def task(self, node: Node, job: Job, part: str = "") -> Task:
        """A job with its limits."""
        wanted = parse_bytes(node.options.get("memory"))
        limit = wanted or self.memory_total
        return Task(job, (node.name, part), node.options.get("timeout"), limit or None)

    def preload(self, node: Node) -> None:
        """Have the modules imported, before the next fork, that a node's arguments and its module need."""
        if node.query:
            self.pool.preload(_SQL_MODULES)
            return
        named = {one.annotation.partition(".")[0] for one in node.parameters} | {node.returns.partition(".")[0]}
        if named & _FRAMES:
            self.pool.preload(_FRAME_MODULES)
        loads = self.workspace.reach(node).loads
        self.pool.preload([name for name in loads if name.partition(".")[0] in _PRELOADED])

    def job(self, node: Node, inputs: list[Input], key: str, part: str = "", kind: str = "") -> Job:
        """What a worker needs to know to run a node, or one part of it."""
        log = log_path(self.data, self.id, node.name, part)
        log.parent.mkdir(parents=True, exist_ok=True)
        common: dict[str, Any] = {
            "step": node.name,
            "part": part,
            "node": node.kind,
            "root": str(self.engine.folder.root),
            "data": str(self.data),
            "log": str(log),
            "inputs": inputs,
            "threads": int(node.options.get("cpus") or self.slots),
            "memory": parse_bytes(node.options.get("memory")) or 0,
            "cpus": self._affinity(node),
        }
        if kind:
            return Job(kind=kind, options={"each": node.each}, **common)
        if node.query:
            text = (self.engine.folder.root / node.path).read_text("utf-8-sig")
            return Job(kind=SQL if node.kind == TABLE else SQL_CHECK, sql=text, path=node.path, **common)
        packages = {name.lower() for name in self.workspace.packages.versions(self.workspace.reach(node).imports)}
        options = {
            "kind": node.options.get("kind", "binary"),
            "order_by": node.options.get("order_by") or [],
            "positional": [one.name for one in node.parameters if one.positional],
            "seeded": [name for name in _SEEDED if name in packages],
        }
        seed = node.options.get("seed")
        files = [*self.workspace.declared_files(node)]
        return Job(
            kind=PYTHON,
            module=node.module,
            parameters=self.workspace.parameters(node),
            options=options,
            seed=int(key[:8], 16) if seed is None else seed,
            files=files,
            **common,
        )

    def _affinity(self, node: Node) -> list[int]:
        wanted = node.options.get("cpus")
        if not wanted or not hasattr(os, "sched_getaffinity"):
            return []
        available = sorted(os.sched_getaffinity(0))
        start = sum(self.running.values()) - self.running.get(node.name, 0)
        count = min(wanted, len(available))
        return sorted({available[(start + i) % len(available)] for i in range(count)})

    def inputs_of(self, node: Node, without: str = "") -> list[Input]:
        """Where a node's arguments lie."""
        return [self.input_of(name) for name in node.needs if name != without]

    def input_of(self, name: str) -> Input:
        if name in self.workspace.graph.events:
            log = self.engine.log
            if log is None:
                raise SampanError(f"Read events of {name}", "there is no log")
            return Input(name, log=msgspec.Raw(msgspec.msgpack.encode(log.source(name, self.position))))  # type: ignore[arg-type]
        stored = self.states[name].stored
        assert stored is not None
        if stored.table is not None:
            return Input(name, table=self.source(name, stored))
        return Input(name, stored=stored)

    def source(self, name: str, stored: Stored) -> TableSource:
        assert stored.table is not None
        lake = Blobs(self.data / "lake")
        files = tuple(str(lake.path(file.sha256)) for file in stored.table.files)
        format = stored.table.files[0].format if stored.table.files else "parquet"
        return TableSource(name, files, format, stored.table.fields)

    def _answered(self, state: _State, worker: Worker, task: Task, answer: Done | Lost) -> None:
        self.pool.release(worker)
        log = Path(task.job.log)
        if log.exists() and not log.stat().st_size:
            log.unlink()
        state.memory = max(state.memory, answer.memory)
        if isinstance(answer, Done):
            state.seconds += answer.seconds
            state.warnings += answer.warnings
            if answer.stored is not None and not answer.stored.message and answer.error is None:
                self.succeed(state, answer.stored, answer.seen)
                return
            if answer.stored is not None and answer.stored.message:
                self.fail(state, answer.stored.message, "", retry=False)
                return
            _, obstacle, advice = answer.error or ("", "no answer", "")
            self.fail(state, f"!{obstacle}", advice, retry=True)
        else:
            self.fail(state, f"!{answer.reason}", answer.advice, retry=True)

    def succeed(self, state: _State, stored: Stored, seen: dict[str, str]) -> None:
        """Record a node's result durably; its dependants may go on."""
        node = state.node
        assert state.decision is not None
        self.running.pop(node.name, None)
        state.state, state.stored = RAN, stored
        self.digests[node.name] = stored.digest
        result = self.result(state.decision.key, node.name, "", stored, state.decision.parts, seen, state)
        with self.engine.db.transaction():
            if stored.table is not None:
                self.engine.lake.add(stored.table, node.name, self.id, state.decision.key)
            self._results.append(result)
            self.record(state)
            self.flush()
        self.tell(node.name, RAN, why=state.why, seconds=state.seconds, message="; ".join(state.warnings))

    def result(
        self, key: str, step: str, part: str, stored: Stored, parts: Any, seen: dict[str, str], state: Any
    ) -> Result:
        return Result(
            key,
            step,
            part,
            self.id,
            stored.kind,
            stored.digest,
            msgspec.msgpack.encode(stored),
            msgspec.to_builtins(parts),
            seen,
            state.seconds,
            state.memory,
            self.engine.clock.micros(),
        )

    def fail(self, state: _State, error: str, advice: str, retry: bool = False) -> None:
        """A node failed: try again if it may, else it and what needs it end here. ``!`` marks what is no verdict."""
        node = state.node
        self.running.pop(node.name, None)
        retries = int(node.options.get("retries") or 0)
        if retry and state.attempt <= retries:
            state.state = "retrying"
            state.not_before = time.monotonic() + min(0.1 * 2**state.attempt, 10.0)
            message = f"{error.removeprefix('!')}; attempt {state.attempt + 1} of {retries + 1} follows"
            self.tell(node.name, "retrying", message=message)
            return
        state.state = FAILED
        text = error
        if retries and retry:
            text += f" (after {state.attempt} attempts)"
        state.error = text + (f"\n  {advice}" if advice else "")
        self.record(state)
        self.flush()
        self.tell(node.name, FAILED, why=state.why, seconds=state.seconds, message=state.error.removeprefix("!"))

    # -- recording

    def _row(self, state: _State, part: str = "") -> StepRun:
        node = state.node
        return StepRun(
            self.id,
            node.name,
            part,
            node.kind,
            state.state,
            state.why,
            state.decision.key if state.decision else "",
            self.digests.get(node.name, ""),
            state.seconds,
            state.memory,
            self.prices.cost(state.seconds, min(1.0, self._cpus_of(state) / _cpus())),
            state.error.removeprefix("!"),
            node.needs,
            state.started,
        )

    def record(self, state: _State) -> None:
        self._rows.append(self._row(state))

    def record_part(self, result: Result | None, row: StepRun) -> None:
        """Queue a part's result; parts are committed in groups."""
        if result is not None:
            self._results.append(result)
        self._rows.append(row)

    def flush_if_due(self) -> None:
        if (self._results or self._rows) and time.monotonic() - self._flushed > 0.05:
            self.flush()

    def flush(self) -> None:
        """Commit what is queued, in one transaction."""
        if self._results or self._rows:
            with self.engine.db.transaction():
                if self._results:
                    self.runs.put_results(self._results)
                self.runs.put_steps(self._rows)
            self._results, self._rows = [], []
        self._flushed = time.monotonic()

    def tell(self, step: str, state: str, **facts: Any) -> None:
        if self.on_event is not None:
            self.on_event(Progress(self.id, step, state, **facts))

    # -- the end

    def _end(self, git: GitState) -> RunResult:
        self.manifest.update(git.collect(Blobs(self.data / "blobs")))
        before = self.before.manifest.get("seconds", 0.0) if self.before else 0.0
        self.manifest["seconds"] = before + time.perf_counter() - self._began
        self.manifest["steps"] = {
            name: {
                "state": state.state,
                "key": state.decision.key if state.decision else None,
                "code": self.workspace.code_digest(state.node),
                "inputs": dict(state.decision.parts.inputs) if state.decision else {},
                "parameters": self.workspace.parameters(state.node),
                "seed": _seed_of(state),
                "output": self.digests.get(name),
                "seconds": state.seconds,
                "memory": state.memory,
                "warnings": state.warnings,
                "flags": self._flags(state),
            }
            for name, state in self.states.items()
        }
        failed = [name for name, state in self.states.items() if state.state == FAILED]
        blocked = [name for name, state in self.states.items() if state.state == BLOCKED]
        if failed or blocked:
            checks = all(self.states[name].node.kind == CHECK for name in failed)
            error = (
                f"{'check ' if checks and len(failed) == 1 else ''}{', '.join(failed)} failed; nothing was published"
            )
            self._finish(RUN_FAILED, None, error)
            self.tell("", FAILED, message=error)
            return self._outcome(RUN_FAILED, None, (), error)
        self.tell("", "publishing")
        with self.engine.db.transaction():
            versions = self._register()
            commit = self._publish()
            self._finish(SUCCEEDED, commit, "")
        self.tell("", SUCCEEDED)
        return self._outcome(SUCCEEDED, commit, versions, "")

    def _register(self) -> tuple[str, ...]:
        models = self.engine.models
        found = []
        for name, state in self.states.items():
            if state.stored is not None and state.stored.model is not None and models is not None:
                assert state.decision is not None
                version = models.register(state.stored.model, name, run=self.id, key=state.decision.key)
                found.append(version.ref)
        return tuple(found)

    def _publish(self) -> str | None:
        """One commit with all tables of this run that are not on the branch already. Returns the branch's head."""
        lake = self.engine.lake
        head = lake.head()
        there = lake.commit_of(head).tables if head else {}
        changes: dict[str, str | None] = {}
        for name, state in self.states.items():
            table = state.stored.table if state.stored is not None else None
            if table is None:
                continue
            if there.get(name) != table.id or not lake.present(table.id):
                assert state.decision is not None
                lake.add(table, name, self.id, state.decision.key)
                changes[name] = table.id
        if self.target is None:
            changes.update({name: None for name in there if name not in self.workspace.graph.nodes})
        if not changes:
            return head
        reason = self.reason or f"run of {self.target or 'the flow'}"
        made = lake.commit(
            "main",
            changes,
            expected=head,
            run=self.id,
            actor=self.actor,
            reason=reason,
            request=f"run {self.id} {self.manifest.get('resumed', 0)}",
        )
        return made.id

    def _finish(self, state: str, commit: str | None, error: str) -> None:
        self.runs.finish(
            self.id,
            state,
            commit=commit,
            error=error,
            cost=self._cost(),
            manifest=self.manifest,
            at=self.engine.clock.micros(),
        )

    def _cost(self) -> float:
        return sum(self._row(state).cost for state in self.states.values())

    def _flags(self, state: _State) -> list[str]:
        table = state.stored.table if state.stored is not None else None
        return [*self.workspace.flags(state.node), *(table.flags if table is not None else ())]

    def _outcome(self, state: str, commit: str | None, versions: tuple[str, ...], error: str) -> RunResult:
        steps = []
        for name, one in self.states.items():
            row = self._row(one)
            steps.append(
                StepResult(
                    name,
                    one.node.kind,
                    one.state,
                    one.why,
                    row.digest,
                    one.seconds,
                    one.memory,
                    row.cost,
                    one.error,
                    one.fan.total if one.fan else 0,
                    one.fan.ran if one.fan else 0,
                    one.node.needs,
                    tuple(one.warnings),
                    tuple(self._flags(one)),
                )
            )
        return RunResult(
            self.id,
            state,
            commit if commit is not None else self.engine.lake.head(),
            self.git,
            tuple(steps),
            versions,
            error,
            time.perf_counter() - self._began,
            self._cost(),
            self.prices.currency,
            str(self.position or ""),
            self.root,
        )


def _seed_of(state: _State) -> int | None:
    if state.node.query or state.decision is None:
        return None
    declared = state.node.options.get("seed")
    return int(state.decision.key[:8], 16) if declared is None else declared


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory(text: str) -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if text.strip().endswith("%"):
        return int(total * float(text.strip().rstrip("%")) / 100)
    return parse_bytes(int(text) if text.isdigit() else text) or total
