"""What a candidate would have answered: asked once the answer has left, written down without anybody waiting.

An answer that was asked for and did not come is an event with its ``error``. Where the candidate was not asked, because
it is gone or has too much to do, that is counted alone: such events would be as many as requests.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from sampan.base.clock import iso
from sampan.base.errors import SampanError
from sampan.models.values import Packed
from sampan.serve.answer import Answerer
from sampan.serve.assignment import DOWN, ENDED, ERROR, LOADING, QUEUE, Assignment
from sampan.serve.noted import Blobs, noted_output
from sampan.serve.sink import Sink
from sampan.serve.variants import Plan, Variants
from sampan.serve.verdict import Asked, Author, Verdict

SOURCE: Final = "shadow/"  # followed by the endpoint's name; ids of predictions, which clients choose, have another
_ID_LIMIT: Final = 200
_LAST: Final = 0.1  # seconds for what is under way when the stream is let go of
_encode = msgspec.json.Encoder().encode


class _Seen(NamedTuple):
    asked: Asked
    places: Sequence[int]
    plan: Plan


class Shadow:
    """Has the candidate see what the champion has answered."""

    def __init__(self, endpoint: str, answerer: Answerer, variants: Variants, sink: Sink) -> None:
        self._endpoint = endpoint
        self._answerer = answerer
        self._variants = variants
        self._sink = sink
        self._waiting: list[_Seen] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def see(self, asked: Asked, places: Sequence[int], plan: Plan) -> None:
        """Take the records of a request, by their places, that the champion has answered; those that are sampled."""
        if not (places := self._variants.sampled(asked, places, plan)):
            return
        if reason := self._variants.full:
            self._variants.seen(len(places), reason)
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._drain)
        self._waiting.append(_Seen(asked, places, plan))

    async def finish(self) -> None:
        """Write down what there is, and what was not answered as such."""
        while self._waiting:
            await asyncio.sleep(0)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST)
            self._variants.give_up(ENDED)
            await asyncio.gather(*self._tasks)

    def _drain(self) -> None:
        waiting, self._waiting = self._waiting, []
        begun = time.perf_counter()
        records = [one.plan.records(one.asked, one.places) for one in waiting]
        replies = self._variants.ask(records, unseen=True)
        for one, reply in zip(waiting, replies, strict=True):
            if reply.done() and (reason := reply.result()) in (DOWN, LOADING, QUEUE):
                self._variants.seen(len(one.places), str(reason))
            else:
                self._spawn(self._keep(one, reply, begun))

    async def _keep(self, seen: _Seen, reply: "asyncio.Future[list[Verdict] | str]", begun: float) -> None:
        found = await reply
        took = round((time.perf_counter() - begun) * 1e6)
        if isinstance(found, str):
            found = [Verdict(None, error=found.removeprefix(ERROR)) for _ in seen.places]
            self._variants.seen(len(found), found[0].error if found else "")
        else:
            self._variants.seen(len(found))
        blobs: Blobs = {}
        events = [self._event(seen, place, one, took, blobs) for place, one in zip(seen.places, found, strict=True)]
        try:
            await self._sink.keep(events, (), blobs)
        except SampanError:
            self._variants.seen(len(events), "disk")  # the champion's own events meet the same, and say so

    def _event(self, seen: _Seen, place: int, verdict: Verdict, took: int, blobs: Blobs) -> bytes:
        asked, plan = seen.asked, seen.plan
        entity = self._answerer.about(asked.records[place])
        behind = Behind(self._endpoint, plan.assigned.assignment, plan.candidate.author, self._answerer.split)
        return shadow_event(behind, asked.ids[place], entity, iso(asked.time), verdict, took, blobs)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Behind(NamedTuple):
    """Whose shadow it is that says something: of which endpoint, by which assignment, and as whom; and what tells the
    model's inputs of a record from the rest."""

    endpoint: str
    assignment: Assignment
    author: Author
    split: Callable[[dict[str, Any], tuple[str, ...]], tuple[dict[str, Any], dict[str, Any]]]


def shadow_event(
    behind: Behind, identity: str, entity: str, when: str, verdict: Verdict, took: int, blobs: Blobs
) -> bytes:
    """What a shadow says to the prediction ``identity`` about ``entity``, as an event; ``took``: microseconds. Content
    that it names by digest is added to ``blobs``."""
    stage, output = behind.assignment, verdict.output
    event: dict[str, Any] = {"id": _id(identity, stage.rollout), "type": "shadow"}
    event |= {"source": SOURCE + behind.endpoint, "time": when}
    if entity:
        event["subject"] = entity
    data: Mapping[str, Any] = {
        "prediction_id": identity,
        "endpoint": behind.endpoint,
        "rollout": stage.rollout,
        "stage": stage.stage,
        "version": behind.author.version,
        "bundle": stage.bundle,
        "prediction": noted_output(output, blobs) if type(output) is Packed else output,
        "action": verdict.action,
        "rule": verdict.rule,
        "value": verdict.value,
        "latency_us": took,
        "error": verdict.error,
    }
    if verdict.calls:
        data = {**data, "calls": verdict.calls}
    if verdict.record is not None:
        blobs.update(verdict.blobs or ())
        features, context = behind.split(verdict.record, behind.author.inputs)
        data = {**data, "features": features, "context": context}
        if verdict.looked_up:
            data = {**data, "looked_up": verdict.looked_up}
    return _encode({**event, "data": data})


def _id(prediction: str, rollout: str) -> str:
    """Of the prediction and the rollout; where that is longer than an id may be, the first part as a digest."""
    plain = f"{prediction}~{rollout}"
    if len(plain) <= _ID_LIMIT:
        return plain
    return f"{blake2b(prediction.encode(), digest_size=16).hexdigest()}~{rollout}"
