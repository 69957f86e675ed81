"""What a run writes down while it goes on: its row, its steps' rows, results by key; and what it tells."""

import time
from typing import Any

import msgspec

from sampan.flow.graph import Node
from sampan.flow.job import Stored
from sampan.flow.outcome import Progress, StepResult
from sampan.flow.plan import BLOCKED, CACHED, FAILED, RAN, WARNED
from sampan.flow.slots import Slots
from sampan.flow.state import Means, NodeState, Order
from sampan.money.prices import Prices
from sampan.runs.records import RUNNING, Result, Run, StepRun

_GROUP_SECONDS = 0.05
"""Parts of a fan-out are committed together that end within this time."""


class Ledger:
    """The records of one run. What has been told has been committed."""

    def __init__(self, means: Means, order: Order, slots: Slots, prices: Prices) -> None:
        self._means, self._order, self._slots, self._prices = means, order, slots, prices
        self.runs = means.runs
        self.begun = False
        self._results: list[Result] = []
        self._rows: list[StepRun] = []
        self._flushed = time.monotonic()

    # -- the run

    def begin(self, states: list[NodeState], manifest: dict[str, Any], git: str | None, root: str) -> None:
        order = self._order
        row = Run(
            order.id,
            RUNNING,
            order.target or "",
            order.branch,
            str(order.position or ""),
            root,
            None,
            git,
            order.actor,
            manifest,
            "",
            0.0,
            order.before.started if order.before else self._means.clock.micros(),
        )
        with self._means.db.transaction():
            self.runs.start(row, self._means.clock.micros())
            self.runs.put_steps([self.row(state) for state in states])
        self.begun = True

    def finish(self, state: str, commit: str | None, error: str, cost: float, manifest: dict[str, Any]) -> None:
        self.runs.finish(
            self._order.id,
            state,
            commit=commit,
            error=error,
            cost=cost,
            manifest=manifest,
            at=self._means.clock.micros(),
        )

    # -- its steps

    def row(self, state: NodeState) -> StepRun:
        """A node's row as it stands."""
        node = state.node
        return StepRun(
            self._order.id,
            node.name,
            "",
            node.kind,
            state.state,
            state.why,
            state.decision.key if state.decision else "",
            state.digest,
            state.seconds,
            state.memory,
            self.cost(state),
            state.error.removeprefix("!"),
            node.needs,
            state.started,
            self.ended(state.state),
        )

    def ended(self, state: str) -> int | None:
        """The time, for what has come to its end."""
        return self._means.clock.micros() if state in (RAN, CACHED, WARNED, FAILED, BLOCKED) else None

    def cost(self, state: NodeState) -> float:
        return self._prices.cost(state.seconds, self._slots.part_of_machine(state.node))

    def outcome(self, state: NodeState, flags: list[str]) -> StepResult:
        """What became of a node."""
        return StepResult(
            state.node.name,
            state.node.kind,
            state.state,
            state.why,
            state.digest,
            state.seconds,
            state.memory,
            self.cost(state),
            state.error,
            state.parts,
            state.parts_ran,
            state.node.needs,
            tuple(state.warnings),
            tuple(flags),
        )

    def result(
        self,
        key: str,
        node: Node,
        part: str,
        stored: Stored,
        parts: Any,
        seen: dict[str, str],
        seconds: float,
        memory: int,
    ) -> Result:
        """A result to be kept under its key."""
        return Result(
            key,
            node.name,
            part,
            self._order.id,
            stored.kind,
            stored.digest,
            msgspec.msgpack.encode(stored),
            msgspec.to_builtins(parts),
            seen,
            seconds,
            memory,
            self._means.clock.micros(),
        )

    def record(self, state: NodeState) -> None:
        """Queue a node's row."""
        self._rows.append(self.row(state))

    def record_part(self, result: Result | None, row: StepRun) -> None:
        """Queue a part's result and row; parts are committed in groups."""
        if result is not None:
            self._results.append(result)
        self._rows.append(row)

    def record_result(self, state: NodeState, stored: Stored, seen: dict[str, str]) -> None:
        """Commit a node's result, its table and its row together."""
        assert state.decision is not None
        node, key = state.node, state.decision.key
        result = self.result(key, node, "", stored, state.decision.parts, seen, state.seconds, state.memory)
        with self._means.db.transaction():
            if stored.table is not None:
                self._means.lake.add(stored.table, node.name, self._order.id, key)
            self.record_part(result, self.row(state))
            self.flush()

    @property
    def queued(self) -> bool:
        return bool(self._results or self._rows)

    def flush_if_due(self) -> None:
        if self.queued and time.monotonic() - self._flushed > _GROUP_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Commit what is queued, in one transaction."""
        if self.queued:
            with self._means.db.transaction():
                if self._results:
                    self.runs.put_results(self._results)
                self.runs.put_steps(self._rows)
            self._results, self._rows = [], []
        self._flushed = time.monotonic()

    # -- telling

    def tell(self, step: str, state: str, **facts: Any) -> None:
        if self._order.on_event is not None:
            self._order.on_event(Progress(self._order.id, step, state, **facts))
