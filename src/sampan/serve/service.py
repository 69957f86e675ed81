"""Requests of one serving process: read, predict together, decide, keep, answer. No sockets here.

Requests that arrive in the same moment are predicted in one call and share one sync of the log. An answer leaves
only when its events are durable.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from sampan.base.errors import Busy, Conflict, Damaged, SampanError
from sampan.serve.answer import Answered, Answerer, Asked
from sampan.serve.faces import NATIVE, face, pack, unpack

_REMEMBERED: Final = 16_384  # answers kept for clients that send ids, so that asking again finds them without the log
_encode = msgspec.json.Encoder().encode


class Sink(Protocol):
    """The part of a stream's writer that serving needs."""

    async def keep(self, events: Sequence[bytes]) -> None:
        """Return when the events are durable; raise a SampanError if they will not be."""

    def stored(self, identity: str) -> dict[str, Any] | None:
        """The data of a prediction that the stream already holds."""

    @property
    def broken(self) -> bool:
        """Whether nothing can be kept any more until the process starts anew."""

    def close(self) -> None: ...


class Service:
    """Answers requests by calling ``send(request, status, body)``, each exactly once."""

    def __init__(self, answerer: Answerer, sink: Sink, send: Callable[[int, int, bytes], None]) -> None:
        self._answerer = answerer
        self._sink = sink
        self._send = send
        self._waiting: list[tuple[int, bytes, int]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._given = Given(answerer, sink)

    def ask(self, request: int, body: bytes, number: int = NATIVE) -> None:
        """Take a request in the words of a face; all that arrive before the loop comes round are predicted together.

        Through any face but our own, headers go with the bodies of request and answer (``faces.pack``).
        """
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._drain)
        self._waiting.append((request, body, number))

    async def finish(self) -> None:
        """Wait until everything asked has been answered."""
        while self._waiting or self._tasks:
            await (asyncio.wait(self._tasks) if self._tasks else asyncio.sleep(0))

    def _drain(self) -> None:
        waiting, self._waiting = self._waiting, []
        fresh: list[tuple[int, Asked]] = []
        for request, body, number in waiting:
            try:
                if number == NATIVE:
                    asked = self._answerer.read(body)
                else:
                    headers, rest = unpack(body)
                    asked = self._answerer.read(rest, number, headers)
                told = self._given.find(asked) if asked.chosen_ids else None
                if told is not None:
                    self._spawn(self._repeat(request, asked, told))
                elif asked.chosen_ids and any(not asked.chosen.isdisjoint(other.chosen) for _, other in fresh):
                    raise Busy("Predict", "another request with the same id is under way", "Ask again in a second.")
                else:
                    fresh.append((request, asked))
            except SampanError as error:
                self._refuse(request, error, number)
        if not fresh:
            return
        try:
            outputs = self._answerer.predict([record for _, asked in fresh for record in asked.records])
        except Exception:  # noqa: BLE001 - one request's fault must not become another's
            for request, asked in fresh:
                self._alone(request, asked)
            return
        place = 0
        for request, asked in fresh:
            end = place + len(asked.records)
            self._decide(request, asked, outputs[place:end])
            place = end

    def _alone(self, request: int, asked: Asked) -> None:
        try:
            outputs = self._answerer.predict(asked.records)
        except SampanError as error:
            self._refuse(request, error, asked.face)
        except Exception as error:  # noqa: BLE001 - the model's own fault, told as such
            self._refuse(request, Damaged("Predict", f"the model raised {type(error).__name__}: {error}"), asked.face)
        else:
            self._decide(request, asked, outputs)

    def _decide(self, request: int, asked: Asked, outputs: Sequence[Any]) -> None:
        answered = self._answerer.decide(asked, outputs)
        self._spawn(self._keep(request, asked, answered))

    async def _keep(self, request: int, asked: Asked, answered: Answered) -> None:
        entry = self._given.begin(asked, answered) if asked.chosen_ids else None
        try:
            await self._sink.keep(answered.events)
        except SampanError as error:
            if entry is not None:
                self._given.drop(asked, entry, error)
            self._refuse(request, error, asked.face)
        else:
            if entry is not None:
                entry.set_result(None)
            self._send(request, *self._answerer.say(asked, answered.answers))

    async def _repeat(self, request: int, asked: Asked, told: "list[Told]") -> None:
        try:
            for one in told:
                if one.durable is not None:
                    await asyncio.shield(one.durable)
        except SampanError as error:
            self._refuse(request, error, asked.face)
            return
        self._send(request, *self._answerer.say(asked, [one.answer for one in told]))

    def _refuse(self, request: int, error: SampanError, number: int) -> None:
        body, headers = face(number).refuse(error)
        self._send(request, error.status, body if number == NATIVE else pack(headers, body))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Told(NamedTuple):
    """An answer given under an id that the client chose; ``durable`` is done when its event is."""

    record: bytes
    answer: dict[str, Any]
    durable: "asyncio.Future[None] | None"


class Given:
    """Answers by the ids that clients chose: asking again with the same id gives the first answer again."""

    def __init__(self, answerer: Answerer, sink: Sink) -> None:
        self._answerer = answerer
        self._sink = sink
        self._told: OrderedDict[str, Told] = OrderedDict()

    def find(self, asked: Asked) -> list[Told] | None:
        """The earlier answers; None if no id is known. Raises Conflict if an id stands for another record."""
        found = []
        for identity, record in zip(asked.ids, asked.records, strict=True):
            told = self._told.get(identity)
            if told is not None:
                same = told.record == _encode(record)
            elif (data := self._sink.stored(identity)) is not None:
                same = self._answerer.same(record, data)
                told = Told(b"", self._answerer.retell(identity, data), None)
            else:
                continue
            if not same:
                raise Conflict("Predict", f"the id {identity!r} already names another prediction", "Send another id.")
            found.append(told)
        if found and len(found) < len(asked.ids):
            raise Conflict(
                "Predict", f"{len(found)} of the {len(asked.ids)} ids already name predictions", "Ask for them apart."
            )
        return found or None

    def begin(self, asked: Asked, answered: Answered) -> "asyncio.Future[None]":
        """Note answers whose events are on their way to the disk."""
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for record, answer in zip(asked.records, answered.answers, strict=True):
            self._told[answer["id"]] = Told(_encode(record), answer, durable)
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        return durable

    def drop(self, asked: Asked, durable: "asyncio.Future[None]", error: SampanError) -> None:
        """Forget answers that did not become durable."""
        for identity in asked.ids:
            self._told.pop(identity, None)
        durable.set_exception(error)
        durable.exception()  # whether anybody waits for it or not, it has been seen
