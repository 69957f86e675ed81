"""A step that runs once per element: split, run the parts that have no result yet, join.

Parts of one step share warm workers, since they run the same code; a step whose code changes globals gets a fresh
worker per part. Each part has its own key, so a failed or new part costs that part only.
"""

import contextlib
import os
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.digests import digest_bytes, digest_value
from sampan.base.errors import BadStep
from sampan.flow.job import JOIN, SPLIT, Done, Input, Slice, Stored
from sampan.flow.plan import stored_of
from sampan.flow.pool import Lost, Task, Worker
from sampan.flow.values import INLINE_LIMIT
from sampan.runs.records import Result, StepRun
from sampan.store.blobs import Blobs

if TYPE_CHECKING:
    from sampan.flow.execution import Execution, _State

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

    def __init__(self, execution: "Execution", state: "_State") -> None:
        self._run, self._state, self._node = execution, state, state.node
        self._parts: list[_Part] = []
        self._pending: deque[_Part] = deque()
        self._by_label: dict[str, _Part] = {}
        self._workers: dict[Worker, int] = {}
        self._failed: list[tuple[str, str]] = []
        self._base: Any = None
        self._done = 0
        self._seen: dict[str, str] = {}
        self._joining = False
        self._warm = not execution.workspace.reach(self._node).changes
        self._queues = True
        self._last_cause = ""
        self.ran = 0

    @property
    def total(self) -> int:
        return len(self._parts)

    def start(self) -> None:
        """Find the elements, in this process where they are a plain list, else in a worker."""
        each = self._node.each
        stored = self._run.states[each].stored if each in self._run.states else None
        if stored is None or stored.table is not None:
            self._job(SPLIT, self._run.inputs_of(self._node))
            return
        if stored.kind != "value":
            raise BadStep("Fan out", f"each={each!r} is a {stored.kind}, not a list", "Fan out over a list.")
        data = stored.inline if stored.inline is not None else Blobs(self._run.data / "blobs").get(stored.blob or "")
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
        run = self._run
        while self._pending:
            share = max(1, run.slots - sum(run.running.values()) + run.running.get(self._node.name, 0))
            each = int(self._node.options.get("cpus") or 1)
            room = max(1, share // each)
            worker = self._idle()
            if worker is None:
                if len(self._workers) >= room:
                    return
                worker = run.pool.spawn()
                self._workers[worker] = 0
                run.running[self._node.name] = len(self._workers) * each
            part = self._pending.popleft()
            self._workers[worker] += 1
            inputs = self._inputs(part)
            # A message that does not fit into the socket would hold up the whole run behind a busy worker.
            self._queues = sum(len(one.stored.inline or b"") for one in inputs if one.stored) < _SMALL_MESSAGE
            job = run.job(self._node, inputs, part.key, part.label)
            run.pool.submit(worker, run.task(self._node, job, part.label))

    def _idle(self) -> Worker | None:
        if not self._warm:
            return None
        limit = _QUEUED if self._queues and len(self._pending) > len(self._workers) else 1
        free = [worker for worker, held in self._workers.items() if held < limit and not worker.killed]
        empty = [worker for worker in free if self._workers[worker] == 0]
        share = max(1, self._run.slots - sum(self._run.running.values()) + self._run.running.get(self._node.name, 0))
        if not empty and len(self._workers) < share:
            return None  # a fresh worker first, a queue behind a busy one second
        return min(empty or free, key=lambda worker: self._workers[worker], default=None)

    def answered(self, worker: Worker, task: Task, answer: Done | Lost) -> None:
        """Take in what a worker said, or how it ended."""
        kind = task.job.kind
        if kind in (SPLIT, JOIN):
            self._run.pool.release(worker)
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
        run = self._run
        assert self._state.decision is not None
        job = run.job(self._node, inputs, self._state.decision.key, "", kind)
        job = msgspec.structs.replace(job, part=self._state.decision.key)
        if any(given.table is not None or given.stored is None for given in inputs):
            run.pool.preload(["pyarrow", "pyarrow.compute", "duckdb", "sampan.lake.read", "sampan.lake.digest"])
        run.pool.submit(run.pool.spawn(), run.task(self._node, job))

    def _settled(self, kind: str, answer: Done | Lost) -> None:
        if isinstance(answer, Lost):
            self._run.fail(self._state, f"!{answer.reason}", answer.advice)
        elif answer.error is not None:
            self._run.fail(self._state, f"!{answer.error[1]}", answer.error[2])
        elif kind == SPLIT:
            self._split(answer.elements)
        elif answer.stored is not None:
            self._run.succeed(self._state, answer.stored, self._seen)

    def _split(self, elements: list[tuple[str, bytes, dict[str, Slice]]]) -> None:
        node, run = self._node, self._run
        assert self._state.decision is not None
        sliced = {name for _, _, slices in elements for name in slices}
        whole = {
            name: digest
            for name, digest in self._state.decision.parts.inputs.items()
            if name not in sliced and name != node.each
        }
        self._base = run.workspace.parts(node, whole).key()
        for number, (label, value, slices) in enumerate(elements):
            part = _Part(number, label, value, slices)
            stretches = {name: found.digest for name, found in slices.items()}
            part.key = digest_value(["part", self._base, digest_bytes(value), stretches])
            self._parts.append(part)
            self._by_label[label] = part
        known = run.runs.results([part.key for part in self._parts])
        for part in self._parts:
            result = known.get(part.key)
            stored = stored_of(result) if result is not None else None
            if stored is not None and not run.planner.missing(stored):
                part.stored = stored
                self._done += 1
                run.record_part(None, self._row(part, "cached", "nothing changed"))
            else:
                self._pending.append(part)
        if self._pending and len(self._pending) < len(self._parts):
            self._state.why += f" ({len(self._pending)} of {len(self._parts)} parts)"
        self._finish_if_done()

    def _inputs(self, part: _Part) -> list[Input]:
        node, run = self._node, self._run
        named = {one.name for one in node.parameters}
        found = []
        for name in node.needs:
            if name == node.each:
                continue
            if name in part.slices:
                found.append(Input(name, slice=part.slices[name]))
            else:
                found.append(run.input_of(name))
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
                self._run.pool.release(worker)
        if self._node.name in self._run.running:
            self._run.running[self._node.name] = max(1, len(self._workers)) * int(self._node.options.get("cpus") or 1)

    def _succeeded(self, part: _Part, stored: Stored, seen: dict[str, str]) -> None:
        part.stored = stored
        self._done += 1
        self.ran += 1
        parts = {"node": f"{self._node.kind} {self._node.name}", "engine": "", "part": part.label, "step": self._base}
        result: Result = self._run.result(part.key, self._node.name, part.label, stored, parts, seen, part)
        self._run.record_part(result, self._row(part, "ran", ""))
        if self._done == len(self._parts) or self._done % max(1, len(self._parts) // _TOLD) == 0:
            self._run.tell(
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
            self._run.tell(self._node.name, "retrying", part=part.label, message=obstacle)
            self._pending.append(part)
            return
        self._failed.append((part.label, obstacle))
        self._last_cause = advice
        self._run.record_part(None, self._row(part, "failed", "", obstacle))

    def _row(self, part: _Part, state: str, why: str, error: str = "") -> StepRun:
        run = self._run
        return StepRun(
            run.id,
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
        )

    def _finish_if_done(self) -> None:
        if self._joining or self._done + len(self._failed) < len(self._parts):
            return
        self._joining = True
        for worker in list(self._workers):
            self._run.pool.release(worker)
        self._workers.clear()
        for file in {one.file for part in self._parts for one in part.slices.values()}:
            Path(file).unlink(missing_ok=True)
        if self._failed:
            label, obstacle = self._failed[0]
            count = f"{len(self._failed)} of {len(self._parts)} parts failed; " if len(self._failed) > 1 else ""
            self._run.fail(self._state, f"!{count}part {label!r}: {obstacle}", self._last_cause)
            return
        stored = [part.stored for part in self._parts if part.stored is not None]
        if stored and all(one.table is not None for one in stored):
            inputs = [Input(f"p{n}", table=self._run.source(f"p{n}", one)) for n, one in enumerate(stored)]
            self._job(JOIN, inputs)
            return
        kinds = {one.kind for one in stored}
        if kinds - {"value"}:
            self._run.fail(
                self._state,
                f"!its parts gave {' and '.join(sorted(kinds))}",
                "Let every part return a frame, or every part a plain value.",
            )
            return
        self._run.succeed(self._state, self._list(stored), self._seen)

    def _list(self, stored: list[Stored]) -> Stored:
        blobs = Blobs(self._run.data / "blobs")
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
