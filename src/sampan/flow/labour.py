"""Pieces of work beside a run: each is looked up by its key, else done in a worker with its step's limits, and kept.

What is kept stands under a name that no step has, so that it never counts as a step's own latest result.
"""

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from sampan.base.errors import SampanError, StepFailed
from sampan.flow.files import Files
from sampan.flow.graph import Node
from sampan.flow.job import Job, Stored
from sampan.flow.outcome import Progress
from sampan.flow.plan import CACHED, FAILED, RAN, Planner, stored_of
from sampan.flow.pool import Lost, Pool, Task
from sampan.flow.slots import Slots, memory_of
from sampan.flow.state import Means
from sampan.runs.records import RUNNING, Result

_NAME: Final = "{} beside runs"


class Piece(NamedTuple):
    """One thing to do. ``parts`` explains the key; ``limited``: the step's own code, with the step's time limit and
    retries."""

    label: str
    key: str
    job: Job
    modules: Sequence[str]
    parts: Any
    limited: bool = False


class Labour:
    """The workers of one undertaking, and what their work has taken: ``seconds``, cached pieces included."""

    def __init__(
        self,
        means: Means,
        id: str,
        node: Node,
        slots: Slots,
        planner: Planner,
        tell: Callable[[Progress], None] | None,
    ) -> None:
        self._means, self._id, self._node, self._slots, self._planner = means, id, node, slots, planner
        self._tell = tell
        self._pool = Pool(means.folder.root, means.folder.data / "runs" / id / "workers.log")
        self._files = Files(means.folder.root, None)
        self.seconds = 0.0
        self.part_of_machine = slots.part_of_machine(node)

    def __enter__(self) -> "Labour":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def try_(self, pieces: Sequence[Piece]) -> list[Stored] | str:
        """The results, or what the first piece that has none says stood in its way."""
        try:
            return self.do(pieces)
        except SampanError as error:
            return error.obstacle

    def do(self, pieces: Sequence[Piece]) -> list[Stored]:
        """The results in the order of the pieces. Raises StepFailed for the first that fails."""
        found: dict[int, Stored] = {}
        waiting: deque[int] = deque()
        for at, piece in enumerate(pieces):
            result = self._kept(piece)
            if result is None:
                waiting.append(at)
            else:
                found[at] = stored_of(result)
                self.seconds += result.seconds
                self._said(piece, CACHED, why="nothing changed")
        running = 0
        attempts = dict.fromkeys(waiting, 0)
        while waiting or running:
            while waiting and running < self._at_once():
                self._start(waiting.popleft(), pieces)
                running += 1
            for worker, task, answer in self._pool.wait(None):
                self._pool.release(worker)
                running -= 1
                at = task.tag
                attempts[at] += 1
                obstacle, advice = _refusal(answer)
                if not obstacle:
                    found[at] = self._keep(pieces[at], answer)
                elif pieces[at].limited and attempts[at] <= int(self._node.options.get("retries") or 0):
                    waiting.append(at)
                else:
                    raise self._failed(pieces[at], obstacle, advice)
        return [found[at] for at in range(len(pieces))]

    def _at_once(self) -> int:
        many = max(1, self._slots.total // self._slots.wanted(self._node))
        memory = memory_of(self._node)
        return min(many, max(1, self._slots.memory // memory)) if memory else many

    def _start(self, at: int, pieces: Sequence[Piece]) -> None:
        piece = pieces[at]
        timeout = self._node.options.get("timeout") if piece.limited else None
        self._pool.preload(piece.modules)
        Path(piece.job.log).parent.mkdir(parents=True, exist_ok=True)
        memory = memory_of(self._node) if piece.limited else 0
        self._pool.submit(self._pool.spawn(), Task(piece.job, at, timeout, memory or self._slots.memory or None))
        self._said(piece, RUNNING)

    def _kept(self, piece: Piece) -> Result | None:
        result = self._means.runs.result(piece.key)
        if result is None or self._planner.missing(stored_of(result)):
            return None
        changed = any(self._files.digest(path) != digest for path, digest in result.seen.items())
        return None if changed else result

    def _keep(self, piece: Piece, answer: Any) -> Stored:
        stored: Stored = answer.stored
        self.seconds += answer.seconds
        result = Result(
            piece.key,
            _NAME.format(self._node.name),
            piece.label,
            self._id,
            stored.kind,
            stored.digest,
            msgspec.msgpack.encode(stored),
            msgspec.to_builtins(piece.parts),
            answer.seen,
            answer.seconds,
            answer.memory,
            self._means.clock.micros(),
        )
        self._means.runs.put_results([result])
        self._said(piece, RAN, seconds=answer.seconds)
        return stored

    def _failed(self, piece: Piece, obstacle: str, advice: str) -> StepFailed:
        self._said(piece, FAILED, message=obstacle)
        log = Path(piece.job.log)
        where = f" Its log: {log.relative_to(self._means.folder.root)}" if log.exists() and log.stat().st_size else ""
        return StepFailed(
            f"{self._node.name}, {piece.label}", obstacle, advice.replace("Its log shows where.", "") + where
        )

    def _said(self, piece: Piece, state: str, **facts: Any) -> None:
        if self._tell is not None:
            self._tell(Progress(self._id, piece.label, state, **facts))


def _refusal(answer: Any) -> tuple[str, str]:
    """What stood in the way, and what to do about it; empty if nothing did."""
    if isinstance(answer, Lost):
        return answer.reason, answer.advice
    if answer.error is not None or answer.stored is None:
        _, obstacle, advice = answer.error or ("", "no answer", "")
        return obstacle, advice
    return "", ""
