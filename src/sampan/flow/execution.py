"""One run: nodes become ready, are decided about, run in workers, are recorded, and are published together.

The loop runs in one thread. A node is ready when its needs have results and the checks that hold it back have
passed; its key is computed only then, so that an equal output of a rerun step spares everything behind it.
"""

import contextlib
import time
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.base.errors import SampanError
from sampan.flow.code_state import CodeState, below
from sampan.flow.contract_fields import contract_fields
from sampan.flow.graph import CHECK
from sampan.flow.job import Stored
from sampan.flow.ledger import Ledger
from sampan.flow.manifest import closing, flags, opening
from sampan.flow.outcome import RunResult
from sampan.flow.plan import BLOCKED, CACHED, FAILED, RAN, WARNED, Planner
from sampan.flow.publish import publish, register
from sampan.flow.slots import Slots
from sampan.flow.state import READY, RETRYING, WAITING, Means, NodeState, Order
from sampan.flow.workspace import git_commit
from sampan.log.conform import Conformity, apart, due, record, recorded
from sampan.money.prices import read_prices
from sampan.runs.records import FAILED as RUN_FAILED
from sampan.runs.records import INTERRUPTED, RUNNING, SUCCEEDED

if TYPE_CHECKING:
    from sampan.flow.crew import Crew

_LONGEST_PAUSE = 10.0


class Execution:
    """The state of one run and the loop that drives it."""

    def __init__(self, means: Means, order: Order) -> None:
        self._began = time.perf_counter()
        self._means, self._order, self._workspace = means, order, order.workspace
        self._prices = read_prices(means.folder.config())
        self._planner = Planner(
            order.workspace, means.runs, means.folder.data, means.log, order.position, order.known_by
        )
        graph = order.workspace.graph
        selected = graph.select(order.target)
        gates = graph.gates(selected)
        self._states = {
            name: NodeState(graph.nodes[name], {need for need in graph.nodes[name].needs if need in graph.nodes})
            for name in selected
        }
        for name, state in self._states.items():
            state.waits |= gates[name]
        self._digests: dict[str, str] = {}
        self._slots = Slots(means.settings)
        self._ledger = Ledger(means, order, self._slots, self._prices)
        self._staff: Crew | None = None
        self._manifest: dict[str, Any] = {}
        self._noted: set[str] = set()  # checks that refused, and hold nothing up
        self._git: str | None = None
        self._root = ""

    # -- the whole

    def run(self) -> RunResult:
        """Drive the run to its end."""
        root = self._means.folder.root
        code = CodeState(root, git_commit(root))
        try:
            code.ask()
            self._root = self._means.log.root(self._order.position) if self._means.log is not None else ""
            self._manifest = self._opening()
            declared = [name for recipe in self._manifest["recipes"].values() for name in recipe.get("files", ())]
            needed = [*self._workspace.code_files(), *below(root, declared)]
            self._manifest.update(code.collect(self._means.folder.data / "blobs", needed))
            self._git = code.commit
            self._ledger.begin(list(self._states.values()), self._manifest, self._git, self._root)
            self._ledger.tell("", "started", total=len(self._states))
            self._loop()
            self._ledger.flush()
            return self._end()
        except BaseException as error:
            self._dismiss()
            with contextlib.suppress(Exception):
                self._abandon(error)
            raise
        finally:
            self._dismiss()
            code.stop()
            self._workspace.save()

    def _opening(self) -> dict[str, Any]:
        """The manifest as it is known before the first step."""
        workspace, before = self._workspace, self._order.before
        sets = {f"{step}.{name}": value for step, found in workspace.sets.items() for name, value in found.items()}
        types = {need for state in self._states.values() for need in state.node.needs if need in workspace.graph.events}
        events = {type: self._planner.event_state(type) for type in sorted(types)}
        return opening(
            workspace,
            [state.node for state in self._states.values()],
            self._prices,
            sets=sets,
            fields=None if self._means.log is None else contract_fields(self._means.log.contracts),
            mixed=list(self._order.mixed),
            resumed=(before.manifest.get("resumed", 0) + 1) if before else 0,
            recipes={
                name: msgspec.to_builtins(workspace.parts(state.node, {})) for name, state in self._states.items()
            },
            inputs={type: {"count": count, "digest": digest} for type, (count, digest) in events.items()},
            **({} if self._order.known_by is None else {"known_by": self._order.known_by}),
        )

    def _loop(self) -> None:
        while True:
            self._advance()
            pauses = [s.not_before - time.monotonic() for s in self._states.values() if s.state == RETRYING]
            if self._slots.busy:
                self._ledger.flush_if_due()
                # the wait ends with a step; what is queued for the records, and a step's next attempt, end it earlier
                self._crew.wait(max(0.0, min(pauses)) if pauses else (0.05 if self._ledger.queued else None))
            elif pauses:
                time.sleep(max(0.0, min(pauses)))
            else:
                return

    def _advance(self) -> None:
        moved = True
        while moved:
            moved = False
            for state in self._states.values():
                if state.state == WAITING and self._settle(state):
                    moved = True
                if self._may_start(state):
                    self._start(state)
                    moved = True
            if self._staff is not None:
                self._staff.feed()

    def _settle(self, state: NodeState) -> bool:
        """Decide about a waiting node if all that it waits for is done."""
        outcomes = {name: self._states[name].state for name in state.waits if name in self._states}
        outcomes = {name: outcome for name, outcome in outcomes.items() if name not in self._noted}
        bad = sorted(name for name, outcome in outcomes.items() if outcome in (FAILED, BLOCKED))
        if bad:
            self._settled(state, BLOCKED, f"blocked by {', '.join(bad)}")
            return True
        if any(outcome not in (RAN, CACHED, WARNED) for outcome in outcomes.values()):
            return False
        try:
            state.decision = decision = self._planner.decide(state.node, self._digests)
        except SampanError as error:
            self.fail(state, f"!{error.obstacle}", error.advice)
            return True
        if decision.stored is None or decision.result is None:
            state.state, state.why = READY, decision.why
            self._crew  # noqa: B018 - its process starts while the rest is decided about
            return True
        state.stored = decision.stored
        state.digest = self._digests[state.node.name] = decision.result.digest
        state.error = decision.stored.message
        self._settled(state, WARNED if state.error else CACHED, "nothing changed")
        return True

    def _settled(self, state: NodeState, outcome: str, why: str) -> None:
        state.state, state.why = outcome, why
        self._ledger.record(state)
        self._ledger.tell(state.node.name, outcome, why=why, message=state.error if outcome == WARNED else "")

    # -- running

    @property
    def _crew(self) -> "Crew":
        if self._staff is None:
            from sampan.flow.crew import Crew

            self._staff = Crew(
                self._means, self._order, self._states, self._planner, self._slots, self._ledger, ends=self
            )
        return self._staff

    def _dismiss(self) -> None:
        if self._staff is not None:
            self._staff.close()

    def _may_start(self, state: NodeState) -> bool:
        if state.state == RETRYING and state.not_before > time.monotonic():
            return False
        return state.state in (READY, RETRYING) and self._slots.fits(state.node)

    def _start(self, state: NodeState) -> None:
        state.state = RUNNING
        state.attempt += 1
        if state.started is None:
            state.started = self._means.clock.micros()
            self._ledger.record(state)
        self._slots.take(state.node)
        self._ledger.tell(state.node.name, RUNNING, why=state.why)
        self._crew.start(state)

    def succeed(self, state: NodeState, stored: Stored, seen: dict[str, str]) -> None:
        """Record a node's result durably; its dependants may go on."""
        self._slots.give_back(state.node)
        state.state, state.stored, state.error = WARNED if stored.message else RAN, stored, stored.message
        state.digest = self._digests[state.node.name] = stored.digest
        self._ledger.record_result(state, stored, seen)
        said = state.error or "; ".join(state.warnings)
        self._ledger.tell(state.node.name, state.state, why=state.why, seconds=state.seconds, message=said)

    def fail(self, state: NodeState, error: str, advice: str, retry: bool = False) -> None:
        """A node failed: try again if it may, else it and what needs it end here. ``!`` marks what is no verdict."""
        name, attempts = state.node.name, int(state.node.options.get("retries") or 0) + 1
        self._slots.give_back(state.node)
        if retry and state.attempt < attempts:
            state.state = RETRYING
            state.not_before = time.monotonic() + min(0.1 * 2**state.attempt, _LONGEST_PAUSE)
            message = f"{error.removeprefix('!')}; attempt {state.attempt + 1} of {attempts} follows"
            self._ledger.tell(name, RETRYING, message=message)
            return
        state.state = FAILED
        if self._order.noting and state.node.kind == CHECK and not error.startswith("!"):
            self._noted.add(name)
        text = f"{error} (after {state.attempt} attempts)" if retry and attempts > 1 else error
        state.error = text + (f"\n  {advice}" if advice else "")
        self._ledger.record(state)
        self._ledger.flush()
        said = state.error.removeprefix("!")
        self._ledger.tell(name, FAILED, why=state.why, seconds=state.seconds, message=said)

    # -- the end

    def _abandon(self, error: BaseException) -> None:
        """Leave a run that something other than a step brought down so that it can be resumed."""
        if self._ledger.begun:
            said = error.obstacle if isinstance(error, SampanError) else type(error).__name__
            said = "it was stopped" if isinstance(error, KeyboardInterrupt) else said
            text = f"{said}; `sampan resume {self._order.id}` goes on"
            self._ledger.flush()
            self._finish(INTERRUPTED, None, text)
            self._ledger.tell("", INTERRUPTED, message=text)

    def _end(self) -> RunResult:
        means, order = self._means, self._order
        self._manifest["steps"] = closing(self._workspace, self._states)
        failed = [name for name, state in self._states.items() if state.state == FAILED and name not in self._noted]
        if failed or any(state.state == BLOCKED for state in self._states.values()):
            checks = all(self._states[name].node.kind == CHECK for name in failed)
            what = f"{'check ' if checks and len(failed) == 1 else ''}{', '.join(failed)}"
            error = f"{what} failed; nothing was published"
            self._finish(RUN_FAILED, None, error)
            self._ledger.tell("", FAILED, message=error)
            return self._outcome(RUN_FAILED, None, (), error)
        if not order.publishing:
            self._finish(SUCCEEDED, None, "")
            self._ledger.tell("", SUCCEEDED)
            return self._outcome(SUCCEEDED, None, (), "")
        compared = self._compared()
        self._ledger.tell("", "publishing", message=self._warning(compared))
        for found in compared:
            record(means.db, found)
        with means.db.transaction():
            versions = register(means, order, self._states)
            request = f"run {order.id} {self._manifest.get('resumed', 0)}"
            commit = publish(means, order, self._states, versions, self._manifest["recipes"], request)
            self._finish(SUCCEEDED, commit, "")
        self._ledger.tell("", SUCCEEDED)
        return self._outcome(SUCCEEDED, commit, versions, "")

    def _types(self) -> list[str]:
        """The workspace's own types of event that the run reads."""
        events = self._workspace.graph.events
        return sorted({need for state in self._states.values() for need in state.node.needs if events.get(need)})

    def _compared(self) -> list[Conformity]:
        """How the sources of the run's events compare now, where that was not looked at since enough has come."""
        means, types = self._means, self._types()
        if means.log is None or not types or all(state.state == CACHED for state in self._states.values()):
            return []
        try:
            wanted = due(means.log, recorded(means.db), types)
            return apart(means.folder.root, wanted, means.clock.micros()) if wanted else []
        except SampanError:  # a comparison that does not come off holds no run up
            return []

    def _warning(self, compared: list[Conformity]) -> str:
        """What somebody should know before the tables are used: sources that do not mean the same."""
        latest = {**recorded(self._means.db), **{one.type: one for one in compared}}
        said = [
            f"warning: {type}.{one.field} from {', '.join(one.sources)} {one.text}"
            for type in self._types()
            if type in latest
            for one in latest[type].differs
        ]
        self._manifest["differs"] = said
        return "\n  ".join(said)

    def _finish(self, state: str, commit: str | None, error: str) -> None:
        before = self._order.before.manifest.get("seconds", 0.0) if self._order.before else 0.0
        self._manifest["seconds"] = before + self._seconds()  # measured: the clock of records may be a story's
        self._ledger.finish(state, commit, error, self._cost(), self._manifest)

    def _seconds(self) -> float:
        return time.perf_counter() - self._began

    def _cost(self) -> float:
        return sum(self._ledger.cost(state) for state in self._states.values())

    def _outcome(self, state: str, commit: str | None, versions: tuple[str, ...], error: str) -> RunResult:
        return RunResult(
            self._order.id,
            state,
            commit if commit is not None else self._means.lake.head(self._order.branch),
            self._git,
            tuple(self._ledger.outcome(one, flags(self._workspace, one)) for one in self._states.values()),
            versions,
            error,
            self._seconds(),
            self._cost(),
            self._prices.currency,
            str(self._order.position or ""),
            self._root,
            self._order.branch,
        )
