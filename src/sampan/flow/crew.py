"""The part of a run that runs something: nodes become jobs, jobs go to workers, answers come back.

A run in which nothing has changed never loads this module.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from sampan.base.errors import SampanError
from sampan.flow.fanout import FanOut
from sampan.flow.incremental import increment
from sampan.flow.job import Done
from sampan.flow.jobs import Jobs
from sampan.flow.ledger import Ledger
from sampan.flow.plan import Planner
from sampan.flow.pool import Lost, Pool, Task, Worker
from sampan.flow.slots import Slots
from sampan.flow.state import Ends, Means, NodeState, Order


class Crew:
    """The workers of one run, and who does what."""

    def __init__(
        self,
        means: Means,
        order: Order,
        states: Mapping[str, NodeState],
        planner: Planner,
        slots: Slots,
        ledger: Ledger,
        ends: Ends,
    ) -> None:
        self._id, self._states, self._planner = order.id, states, planner
        self._slots, self._ledger, self._ends = slots, ledger, ends
        self._jobs = Jobs(means, order, states, slots)
        log = means.folder.data / "runs" / order.id / "workers.log"
        self._pool = Pool(means.folder.root, log, order.workspace.interpreter)
        self._fans: dict[str, FanOut] = {}
        self._pool.start()

    def start(self, state: NodeState) -> None:
        """Give a node to a fresh worker, or begin to split it into parts."""
        node = state.node
        assert state.decision is not None
        modules = self._jobs.modules(node)
        self._pool.preload(modules)
        try:
            if node.each:
                fan = FanOut(
                    state, self._id, self._planner, self._jobs, self._pool, self._slots, self._ledger, self._ends
                )
                self._fans[node.name] = fan
                fan.start()
                return
            job = self._jobs.job(node, self._jobs.inputs_of(node), state.decision.key)
            if node.incremental:
                feeds = {name: self._jobs.table_of(name) for name in node.needs}
                found = increment(self._planner, node, state.decision.parts, feeds)
                job = msgspec.structs.replace(job, increment=found)
        except SampanError as error:
            self._fans.pop(node.name, None)
            self._ends.fail(state, f"!{error.obstacle}", error.advice)
            return
        self._pool.submit(self._pool.spawn(), self._jobs.task(node, job))

    def feed(self) -> None:
        """Give waiting parts to workers that have room."""
        for fan in list(self._fans.values()):
            fan.feed()

    def wait(self, patience: float | None) -> None:
        """Wait for answers and deaths, and pass on what they mean."""
        for worker, task, answer in self._pool.wait(patience):
            state = self._states[task.tag[0]]
            fan = self._fans.get(task.tag[0])
            if fan is None:
                self._answered(state, worker, task, answer)
            else:
                fan.answered(worker, task, answer)

    def close(self) -> None:
        """End every worker."""
        self._pool.close()

    def _answered(self, state: NodeState, worker: Worker, task: Task, answer: Done | Lost) -> None:
        self._pool.release(worker)
        log = Path(task.job.log)
        if log.exists() and not log.stat().st_size:
            log.unlink()
        state.memory = max(state.memory, answer.memory)
        if isinstance(answer, Lost):
            self._ends.fail(state, f"!{answer.reason}", answer.advice, retry=True)
            return
        state.seconds += answer.seconds
        state.warnings += answer.warnings
        state.why += f"; built {answer.built}" if answer.built else ""
        if answer.error is not None or answer.stored is None:
            _, obstacle, advice = answer.error or ("", "no answer", "")
            self._ends.fail(state, f"!{obstacle}", advice, retry=True)
        elif answer.stored.message and not state.node.warns:
            self._ends.fail(state, answer.stored.message, "")
        else:
            self._ends.succeed(state, answer.stored, answer.seen)
