"""Answers by the ids that clients chose, so that asking again changes nothing."""

import asyncio
from collections import OrderedDict
from typing import Any, Final, NamedTuple

import msgspec

from sampan.base.errors import Conflict, SampanError
from sampan.serve.answer import Answerer
from sampan.serve.sink import Sink
from sampan.serve.verdict import Answered, Asked

_REMEMBERED: Final = 16_384  # answers; those before them are found in the stream
_encode = msgspec.json.Encoder().encode


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
        for identity, record in zip(asked.ids, asked.words, strict=True):
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

    def begin(self, asked: Asked) -> "asyncio.Future[None]":
        """Note that answers are on their way."""
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for identity, record in zip(asked.ids, asked.words, strict=True):
            self._told[identity] = Told(_encode(record), {}, durable)
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        return durable

    def fill(self, asked: Asked, answered: Answered) -> None:
        """Note what the answers are."""
        for identity, answer in zip(asked.ids, answered.answers, strict=True):
            if (told := self._told.get(identity)) is not None:
                told.answer.update(answer)

    def drop(self, asked: Asked, durable: "asyncio.Future[None]", error: SampanError) -> None:
        """Forget answers that did not become durable."""
        for identity in asked.ids:
            self._told.pop(identity, None)
        durable.set_exception(error)
        durable.exception()  # whether anybody waits for it or not, it has been seen
