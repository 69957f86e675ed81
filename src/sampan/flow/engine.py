"""The derivation engine's door: plan, run, resume, why. It may be used from any thread of a command or of the hub.

Only source is read here; the user's code runs in worker processes (``pool``, ``child``). Records are written by the
process that holds the workspace's lock.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.base.clock import Clock, iso
from sampan.base.errors import NotFound, Refused, Usage
from sampan.base.ids import new_id
from sampan.base.settings import Folder, Settings
from sampan.flow.execution import Execution
from sampan.flow.graph import TABLE, did_you_mean
from sampan.flow.incremental import Late, Proven, late, prove
from sampan.flow.interpreter import Interpreter
from sampan.flow.key import KeyParts, differences
from sampan.flow.lineage import Lineage, Origin
from sampan.flow.merge import Merge, merging
from sampan.flow.outcome import Progress, RunResult, log_path
from sampan.flow.plan import CACHED, Plan, PlannedStep, Planner, stored_of
from sampan.flow.slots import Slots
from sampan.flow.state import Means, Order, Tells
from sampan.flow.workspace import Workspace, git_commit
from sampan.lake.history import MAIN
from sampan.lake.query import TableSource
from sampan.runs.records import SUCCEEDED, Run, Runs
from sampan.store.database import Database

if TYPE_CHECKING:
    from sampan.lake.lake import Lake
    from sampan.lake.query import Source
    from sampan.log.log import Log
    from sampan.log.position import Position
    from sampan.models.registry import Models
    from sampan.runs.impacts import Impact, ImpactRequest


class Why(msgspec.Struct, frozen=True):
    """Why a step runs or does not: what differs from its last result, and what its key is made of."""

    step: str
    kind: str
    state: str
    why: str
    differs: tuple[str, ...]
    flags: tuple[str, ...]
    last_run: str | None
    key: KeyParts | None

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


class Engine:
    """Derives what a workspace declares. One run at a time and engine; other engines in other processes only read."""

    def __init__(
        self,
        folder: Folder,
        db: Database,
        lake: "Lake",
        log: "Log | None",
        models: "Models | None",
        clock: Clock,
        settings: Settings,
        tells: Tells | None = None,
    ) -> None:
        """``tells``: where MLflow's client in a step logs to."""
        self.folder, self.db, self.lake, self.log, self.models = folder, db, lake, log, models
        self.clock, self.settings, self.tells = clock, settings, tells
        self.runs = Runs(db)
        self._active: set[str] = set()
        self._lock = threading.Lock()

    def plan(
        self,
        target: str | None = None,
        sets: Mapping[str, Any] | None = None,
        position: "Position | None" = None,
    ) -> Plan:
        """What a run would do, and why. Reads source and records, imports nothing of the user's.

        ``position``: on the events up to there, instead of all of now.
        """
        workspace = Workspace(self.folder, sets)
        position = self._position() if position is None else position
        planner = Planner(workspace, self.runs, self.folder.data, self.log, position)
        if self.lake is None:
            return planner.plan(target or None, None, git_commit(self.folder.root), str(position or ""))
        found = planner.plan(target or None, self.lake.head(), git_commit(self.folder.root), str(position or ""))
        there = self.lake.names()
        tables = [one for one in found.steps if one.kind == TABLE and one.state == CACHED and one.name in there]
        anew = [one.name for one in tables if one.digest != there[one.name]]
        return msgspec.structs.replace(found, publishes=tuple(anew))

    def run(
        self,
        target: "str | Plan | None" = None,
        sets: Mapping[str, Any] | None = None,
        *,
        on_event: Callable[[Progress], None] | None = None,
        actor: str = "",
        reason: str = "",
        branch: str = MAIN,
        position: "Position | None" = None,
        noting: bool = False,
        known_by: int | None = None,
    ) -> "RunResult":
        """Bring the flow, or a target and what it needs, up to date, and publish it on a branch if its checks pass.

        Raises an error only for what keeps a run from starting (a workspace that does not read, a busy record
        store, a branch that is not there); a failing step is part of the result. ``position``: on the events up to
        there, instead of all of now. ``noting``: a check that refuses is noted and holds nothing up; not on main.
        ``known_by``: on what could be used at that instant (microseconds), which is no state for main: raises Usage.
        """
        if known_by is not None and branch == MAIN:
            raise Usage(
                f"Run the flow as of {iso(known_by)}",
                f"{MAIN} would go back to what was known then",
                "Name a branch for it: `sampan branch new then`, and --branch then.",
            )
        if isinstance(target, Plan):
            sets = {f"{step}.{name}": value for step, found in target.sets.items() for name, value in found.items()}
            target = target.target
        workspace = Workspace(self.folder, sets)
        at = self._position() if position is None else position
        order = Order(new_id(self.clock), target or None, workspace, at, on_event, actor, reason)
        return self._execute(replace(order, branch=branch, noting=noting and branch != MAIN, known_by=known_by))

    def derive(
        self,
        target: str,
        sets: Mapping[str, Any],
        *,
        on_event: Callable[[Progress], None] | None,
        actor: str,
        reason: str,
        label: str,
        position: "Position",
        known_by: int | None,
        interpreter: Interpreter | None = None,
    ) -> "RunResult":
        """Bring a target up to date for its results alone: no model gets a number, no table appears, and a check that
        refuses holds nothing up. ``label`` stands where other runs name their branch; ``interpreter``: what its steps
        run in, if not what this process does."""
        workspace = Workspace(self.folder, sets, interpreter)
        order = Order(new_id(self.clock), target, workspace, position, on_event, actor, reason)
        return self._execute(
            replace(order, branch=label, noting=True, known_by=known_by, publishing=False, logging=False)
        )

    def resume(
        self,
        run: str,
        rebase: bool = False,
        *,
        on_event: Callable[[Progress], None] | None = None,
        actor: str = "",
    ) -> "RunResult":
        """Go on with a run that was interrupted or failed, at the log position and with the parameters it had.

        Finished steps are found by their keys. Raises Refused if the code or the environment differs from what the
        run began with; ``rebase`` goes on with the present ones and marks the run as mixed.
        """
        self._tidy()
        found = self.runs.get(run)
        if found.state == SUCCEEDED:
            raise Refused(f"Resume run {found.id}", "it has succeeded", "Start a new one: `sampan run`.")
        workspace = Workspace(self.folder, found.manifest.get("sets", {}))
        target = found.target or None
        changed = self._changed(found, workspace, target)
        if changed and not rebase:
            shown = "".join(f"\n    {line}" for line in changed[:10])
            raise Refused(
                f"Resume run {found.id}",
                f"the workspace is not as the run began with it:{shown}",
                "Put it back, or go on with it as it is: --rebase (the run is then marked as mixed), or start anew.",
                changed=changed,
            )
        position = None
        if self.log is not None:
            from sampan.log.position import Position

            position = Position.parse(found.position)
        mixed = (*found.manifest.get("mixed", ()), *changed)
        return self._execute(
            Order(
                found.id,
                target,
                workspace,
                position,
                on_event,
                actor or found.actor,
                mixed=mixed,
                branch=found.branch,
                known_by=found.manifest.get("known_by"),
                before=found,
            )
        )

    def merging(self, branch: str) -> Merge:
        """What merging a branch into main would change, and what stands in its way. Raises NotFound."""
        return merging(self.lake, self.runs, branch, Workspace(self.folder))

    def merge(
        self,
        branch: str,
        *,
        on_event: Callable[[Progress], None] | None = None,
        actor: str = "",
        reason: str = "",
    ) -> "RunResult":
        """Derive main anew, on the events of now, with the definitions of a branch, which the workspace must hold.

        What the branch has computed is found by its key. All of it appears on main together, if its checks pass;
        the branch then stands where main does. Raises Conflict for a definition that changed on both sides, Refused
        for a workspace that is not the branch's: before anything runs.
        """
        workspace = Workspace(self.folder)  # what is checked is what is derived
        merging(self.lake, self.runs, branch, workspace).check()
        said = f"merge {branch}" + (f": {reason}" if reason else "")
        made = self._execute(Order(new_id(self.clock), None, workspace, self._position(), on_event, actor, said))
        if made.state == SUCCEEDED:
            self.lake.rebase(branch, made.commit)
        return made

    def measure(
        self, request: "ImpactRequest", *, on_event: Callable[[Progress], None] | None = None, actor: str = ""
    ) -> "Impact | None":
        """What a change of data is worth to a model, recorded; None where the refs hold the same of all it needs.

        Raises NotFound and Usage for what cannot be measured, StepFailed where a training fails.
        """
        from sampan.flow.impact import Measuring

        measuring = Measuring(self._means(), request, on_event)
        return None if measuring.same else measuring.run(actor)

    def why(self, step: str, sets: Mapping[str, Any] | None = None) -> Why:
        """Why a step would run, or that nothing changed since its last result."""
        workspace = Workspace(self.folder, sets)
        graph = workspace.graph
        if step not in graph.nodes:
            raise NotFound(
                f"Explain {step}", f"no table, step, model or check {step!r}", did_you_mean(step, graph.nodes)
            )
        planner = Planner(workspace, self.runs, self.folder.data, self.log, self._position())
        plan = planner.plan(step, None, None, "")
        planned = next(one for one in plan.steps if one.name == step)
        latest = self.runs.latest(step)
        digests = {one.name: one.digest for one in plan.steps if one.digest}
        node = graph.nodes[step]
        key = None
        differs: list[str] = []
        if all(name in digests or name in graph.events for name in node.needs):
            key = workspace.parts(node, planner.inputs(node, digests))
            if latest is not None and planned.state != CACHED:
                differs = differences(latest.parts, msgspec.to_builtins(key))
        return Why(
            step,
            node.kind,
            planned.state,
            planned.why,
            tuple(differs),
            planned.flags,
            None if latest is None else latest.run,
            key,
        )

    def late(self) -> list[Late]:
        """What the next run builds of each table that is built bit by bit, and because of what."""
        workspace = Workspace(self.folder)
        position = self._position()
        planner = Planner(workspace, self.runs, self.folder.data, self.log, position)
        sources = self._events(workspace, position)
        return late(planner, sources)

    def prove(self, table: str = "", count: int = 0, seed: int = 0) -> list[Proven]:
        """Hold ``count`` partitions (0: all) of a table that is built bit by bit (empty: of each such) against what its
        query gives over all the events that main's snapshot was made of. Raises NotFound, Usage."""
        workspace = Workspace(self.folder)
        planner = Planner(workspace, self.runs, self.folder.data, self.log, self._position())
        nodes, published = workspace.graph.nodes, self.lake.names(MAIN)
        if table and table not in nodes:
            raise NotFound(f"Verify {table}", f"no table {table!r}", did_you_mean(table, nodes))
        cut = [name for name, node in nodes.items() if node.incremental]
        if table and table not in cut:
            there = f"These are: {', '.join(cut)}." if cut else "No table is declared incremental."
            raise Usage(f"Verify {table}", "it is built whole, always", there)
        names = [name for name in ([table] if table else cut) if name in published]
        if table and not names:
            raise NotFound(f"Verify {table}", f"no table {table!r} on {MAIN}", "Build it first: `sampan run`.")
        threads = Slots(self.settings).total
        return [prove(planner, self.lake, name, published[name], count, seed, threads) for name in names]

    def _events(self, workspace: Workspace, position: "Position | None") -> "dict[str, Source]":
        """Every type of event that the flow reads."""
        if self.log is None or position is None:
            return {}
        nodes, events = workspace.graph.nodes, workspace.graph.events
        return {name: self.log.source(name, position) for one in nodes.values() for name in one.needs if name in events}

    def lineage(self, name: str) -> Origin:
        """Where a prediction, a version, a table or a step comes from."""
        return Lineage(self.runs, self.lake, self.models, self.log).of(name)

    def sources(self, run: str) -> dict[str, TableSource]:
        """The tables that a run has, published or held back, ready to be read."""
        found: dict[str, TableSource] = {}
        for step in self.runs.steps(self.runs.get(run).id):
            result = self.runs.result(step.key) if step.key else None
            table = stored_of(result).table if result is not None else None
            if table is not None and table.files:
                paths = tuple(str(self._lake_path(file.sha256)) for file in table.files)
                found[step.name] = TableSource(step.name, paths, table.files[0].format, table.fields)
        return found

    def log_of(self, run: str, step: str, part: str = "") -> str:
        """What a step wrote to its output in a run; empty if it wrote nothing."""
        path = log_path(self.folder.data, self.runs.get(run).id, step, part)
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def close(self) -> None:
        """Nothing is kept open between runs."""

    # -- within

    def _means(self) -> Means:
        parts = (self.folder, self.db, self.lake, self.log, self.models, self.clock, self.settings, self.runs)
        return Means(*parts, self.tells)

    def _lake_path(self, sha256: str) -> Any:
        return self.folder.data / "lake" / sha256[:2] / sha256[2:]

    def _position(self) -> "Position | None":
        return None if self.log is None else self.log.position()

    def _tidy(self) -> None:
        with self._lock:
            self.runs.interrupt(self._active, self.clock.micros())

    def _changed(self, found: Run, workspace: Workspace, target: str | None) -> list[str]:
        """What of the code, the parameters or the environment differs from what a run began with."""
        recipes: dict[str, Any] = found.manifest.get("recipes", {})
        selected = workspace.graph.select(target)
        changed = [f"{name} is gone" for name in recipes if name not in selected]
        for name in selected:
            if name not in recipes:
                changed.append(f"{name} is new")
                continue
            now = msgspec.to_builtins(workspace.parts(workspace.graph.nodes[name], {}))
            changed += [f"{name}: {what}" for what in differences(recipes[name], now)]
        return changed

    def _execute(self, order: Order) -> "RunResult":
        order.workspace.graph.select(order.target)  # an unknown target ends it before anything is recorded,
        if order.publishing:
            self.lake.branch_of(order.branch)  # and so does an unknown branch
        self._tidy()
        with self._lock:
            self._active.add(order.id)
        try:
            return Execution(self._means(), order).run()
        finally:
            with self._lock:
                self._active.discard(order.id)


__all__ = ["Engine", "Plan", "PlannedStep", "Progress", "RunResult", "Why"]
