"""A step that runs once per element: split, run the parts that have no result yet, join.

Parts of one step share warm workers, since they run the same code; a step whose code changes globals gets a fresh
worker per part. Each part has its own key, so a failed or new part costs that part only.
"""

import contextlib
import os
from collections import deque
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.digests import digest_bytes, digest_value
from sampan.base.errors import BadStep
from sampan.flow.job import JOIN, SPLIT, Done, Input, Slice, Stored
from sampan.flow.jobs import SPLITTING, Jobs
from sampan.flow.ledger import Ledger
from sampan.flow.plan import Planner, stored_of
from sampan.flow.pool import Lost, Pool, Task, Worker
from sampan.flow.slots import Slots
from sampan.flow.state import Ends, NodeState
from sampan.flow.values import INLINE_LIMIT
from sampan.runs.records import StepRun

_QUEUED: Final = 2  # jobs that a warm worker holds: one runs while the next waits in the socket
_TOLD: Final = 20
_SMALL_MESSAGE: Final = 32_768


class _Part:
    def __init__(self, number: int, label: str, value: bytes, slices: dict[str, Slice]) -> None:
        self.number, self.label, self.value, self.slices = number, label, value, slices
        self.key = ""
        self.stored: Stored | None = None
        self.attempt = 0
        self.seconds = 0.0
        self.memory = 0


class FanOut:
    """The parts of one step in one run."""

    def __init__(
        self,
        state: NodeState,
        run: str,
        planner: Planner,
        jobs: Jobs,
        pool: Pool,
        slots: Slots,
        ledger: Ledger,
        ends: Ends,
    ) -> None:
        self._state, self._node, self._id = state, state.node, run
        self._planner, self._jobs, self._pool, self._slots = planner, jobs, pool, slots
        self._ledger, self._ends = ledger, ends
        self._parts: list[_Part] = []
        self._pending: deque[_Part] = deque()
        self._by_label: dict[str, _Part] = {}
        self._workers: dict[Worker, int] = {}
        self._failed: list[tuple[str, str]] = []
        self._base: Any = None
        self._done = 0
        self._seen: dict[str, str] = {}
        self._joining = False
        self._warm = not planner.workspace.reach(self._node).changes
        self._queues = True
        self._last_cause = ""

    def start(self) -> None:
        """Find the elements, in this process where they are a plain list, else in a worker."""
        each = self._node.each
        stored = self._jobs.elements_of(each)
        if stored is None:
            self._job(SPLIT, self._jobs.inputs_of(self._node))
            return
        if stored.kind != "value":
            raise BadStep("Fan out", f"each={each!r} is a {stored.kind}, not a list", "Fan out over a list.")
        data = stored.inline if stored.inline is not None else self._jobs.blobs.get(stored.blob or "")
        try:
            raw = msgspec.msgpack.decode(data, type=list[msgspec.Raw])
        except msgspec.ValidationError:
            raise BadStep("Fan out", f"each={each!r} gave no list", "Let it return a list.") from None
        from sampan.flow.fan import labelled

        values = msgspec.msgpack.decode(data)
        labels = [label for label, _ in labelled(values)]
        self._split([(label, bytes(value), {}) for label, value in zip(labels, raw, strict=True)])

    def feed(self) -> None:
        """Give waiting parts to workers, as far as there is room."""
        while self._pending:
            room = max(1, self._slots.share(self._node) // int(self._node.options.get("cpus") or 1))
            worker = self._idle()
            if worker is None:
                if len(self._workers) >= room:
                    return
                worker = self._pool.spawn()
                self._workers[worker] = 0
                self._slots.hold(self._node, len(self._workers))
            part = self._pending.popleft()
            self._workers[worker] += 1
            inputs = self._inputs(part)
            # A message that does not fit into the socket would hold up the whole run behind a busy worker.
            self._queues = sum(len(one.stored.inline or b"") for one in inputs if one.stored) < _SMALL_MESSAGE
            job = self._jobs.job(self._node, inputs, part.key, part.label)
            self._pool.submit(worker, self._jobs.task(self._node, job, part.label))

    def _idle(self) -> Worker | None:
        if not self._warm:
            return None
        limit = _QUEUED if self._queues and len(self._pending) > len(self._workers) else 1
        free = [worker for worker, held in self._workers.items() if held < limit and not worker.killed]
        empty = [worker for worker in free if self._workers[worker] == 0]
        if not empty and len(self._workers) < self._slots.share(self._node):
            return None  # a fresh worker first, a queue behind a busy one second
        return min(empty or free, key=lambda worker: self._workers[worker], default=None)

    def answered(self, worker: Worker, task: Task, answer: Done | Lost) -> None:
        """Take in what a worker said, or how it ended."""
        kind = task.job.kind
        if kind in (SPLIT, JOIN):
            self._pool.release(worker)
            self._settled(kind, answer)
            return
        part = self._by_label[task.tag[1]]
        self._take_from(worker, isinstance(answer, Lost))
        _drop_empty(task.job.log)
        part.seconds += answer.seconds if isinstance(answer, Done) else 0.0
        part.memory = answer.memory
        self._state.memory = max(self._state.memory, answer.memory)
        if isinstance(answer, Done) and answer.stored is not None and answer.error is None:
            self._state.seconds += answer.seconds
            self._state.warnings += [w for w in answer.warnings if w not in self._state.warnings]
            self._seen.update(answer.seen)
            self._succeeded(part, answer.stored, answer.seen)
        else:
            if isinstance(answer, Done):
                _, obstacle, advice = answer.error or ("", "no answer", "")
            else:
                obstacle, advice = answer.reason, answer.advice
            self._lost(part, obstacle, advice)
        self._finish_if_done()

    # -- within

    def _job(self, kind: str, inputs: list[Input]) -> None:
        assert self._state.decision is not None
        job = self._jobs.job(self._node, inputs, self._state.decision.key, "", kind)
        job = msgspec.structs.replace(job, part=self._state.decision.key)
        if any(given.table is not None or given.stored is None for given in inputs):
            self._pool.preload(SPLITTING)
        self._pool.submit(self._pool.spawn(), self._jobs.task(self._node, job))

    def _settled(self, kind: str, answer: Done | Lost) -> None:
        if isinstance(answer, Lost):
            self._ends.fail(self._state, f"!{answer.reason}", answer.advice)
        elif answer.error is not None:
            self._ends.fail(self._state, f"!{answer.error[1]}", answer.error[2])
        elif kind == SPLIT:
            self._split(answer.elements)
        elif answer.stored is not None:
            self._ends.succeed(self._state, answer.stored, self._seen)

    def _split(self, elements: list[tuple[str, bytes, dict[str, Slice]]]) -> None:
        node = self._node
        assert self._state.decision is not None
        sliced = {name for _, _, slices in elements for name in slices}
        whole = {
            name: digest
            for name, digest in self._state.decision.parts.inputs.items()
            if name not in sliced and name != node.each
        }
        self._base = self._planner.workspace.parts(node, whole).key()
        for number, (label, value, slices) in enumerate(elements):
            part = _Part(number, label, value, slices)
            stretches = {name: found.digest for name, found in slices.items()}
            part.key = digest_value(["part", self._base, digest_bytes(value), stretches])
            self._parts.append(part)
            self._by_label[label] = part
        self._state.parts = len(self._parts)
        known = self._ledger.runs.results([part.key for part in self._parts])
        for part in self._parts:
            result = known.get(part.key)
            stored = stored_of(result) if result is not None else None
            if stored is not None and not self._planner.missing(stored):
                part.stored = stored
                self._done += 1
                self._ledger.record_part(None, self._row(part, "cached", "nothing changed"))
            else:
                self._pending.append(part)
        if self._pending and len(self._pending) < len(self._parts):
            self._state.why += f" ({len(self._pending)} of {len(self._parts)} parts)"
        self._finish_if_done()

    def _inputs(self, part: _Part) -> list[Input]:
        node = self._node
        named = {one.name for one in node.parameters}
        found = []
        for name in node.needs:
            if name == node.each:
                continue
            if name in part.slices:
                found.append(Input(name, slice=part.slices[name]))
            else:
                found.append(self._jobs.input_of(name))
        if node.each in named:
            found.append(Input(node.each, element=part.value))
        return found

    def _take_from(self, worker: Worker, lost: bool) -> None:
        if worker not in self._workers:
            return
        if lost:
            # what was queued behind the part that ended it starts again elsewhere
            for task in worker.tasks:
                self._pending.appendleft(self._by_label[task.tag[1]])
            worker.tasks.clear()
            del self._workers[worker]
        else:
            self._workers[worker] -= 1
            if self._workers[worker] == 0 and (not self._warm or not self._pending):
                del self._workers[worker]
                self._pool.release(worker)
        self._slots.hold(self._node, len(self._workers))

    def _succeeded(self, part: _Part, stored: Stored, seen: dict[str, str]) -> None:
        part.stored = stored
        self._done += 1
        self._state.parts_ran += 1
        parts = {"node": f"{self._node.kind} {self._node.name}", "engine": "", "part": part.label, "step": self._base}
        result = self._ledger.result(part.key, self._node, part.label, stored, parts, seen, part.seconds, part.memory)
        self._ledger.record_part(result, self._row(part, "ran", ""))
        if self._done == len(self._parts) or self._done % max(1, len(self._parts) // _TOLD) == 0:
            self._ledger.tell(
                self._node.name,
                "running",
                part=part.label,
                seconds=part.seconds,
                done=self._done,
                total=len(self._parts),
            )

    def _lost(self, part: _Part, obstacle: str, advice: str) -> None:
        part.attempt += 1
        if part.attempt <= int(self._node.options.get("retries") or 0):
            self._ledger.tell(self._node.name, "retrying", part=part.label, message=obstacle)
            self._pending.append(part)
            return
        self._failed.append((part.label, obstacle))
        self._last_cause = advice
        self._ledger.record_part(None, self._row(part, "failed", "", obstacle))

    def _row(self, part: _Part, state: str, why: str, error: str = "") -> StepRun:
        return StepRun(
            self._id,
            self._node.name,
            part.label,
            self._node.kind,
            state,
            why,
            part.key,
            part.stored.digest if part.stored else "",
            part.seconds,
            part.memory,
            0.0,
            error,
            ended=self._ledger.ended(state),
        )

    def _finish_if_done(self) -> None:
        if self._joining or self._done + len(self._failed) < len(self._parts):
            return
        self._joining = True
        for worker in list(self._workers):
            self._pool.release(worker)
        self._workers.clear()
        for file in {one.file for part in self._parts for one in part.slices.values()}:
            Path(file).unlink(missing_ok=True)
        if self._failed:
            label, obstacle = self._failed[0]
            count = f"{len(self._failed)} of {len(self._parts)} parts failed; " if len(self._failed) > 1 else ""
            self._ends.fail(self._state, f"!{count}part {label!r}: {obstacle}", self._last_cause)
            return
        stored = [part.stored for part in self._parts if part.stored is not None]
        if stored and all(one.table is not None for one in stored):
            inputs = [Input(f"p{n}", table=self._jobs.source(f"p{n}", one)) for n, one in enumerate(stored)]
            self._job(JOIN, inputs)
            return
        kinds = {one.kind for one in stored}
        if kinds - {"value"}:
            self._ends.fail(
                self._state,
                f"!its parts gave {' and '.join(sorted(kinds))}",
                "Let every part return a frame, or every part a plain value.",
            )
            return
        self._ends.succeed(self._state, self._list(stored), self._seen)

    def _list(self, stored: list[Stored]) -> Stored:
        blobs = self._jobs.blobs
        items = [msgspec.Raw(one.inline if one.inline is not None else blobs.get(one.blob or "")) for one in stored]
        data = msgspec.msgpack.encode(items)
        digest = "v1-" + digest_value(["list", [one.digest for one in stored]])[:32]
        if len(data) <= INLINE_LIMIT:
            return Stored("value", digest, inline=data)
        return Stored("value", digest, blob=blobs.put(data))


def _drop_empty(log: str) -> None:
    with contextlib.suppress(OSError):
        if os.stat(log).st_size == 0:  # noqa: PTH116 - once per part
            os.unlink(log)  # noqa: PTH108
