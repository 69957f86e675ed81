"""Requests on their way to the disk: what a group of them makes, before and after its frames are written."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from sampan.log.check import Bad, Batch
from sampan.log.frames import Repair
from sampan.log.tally import Counts as Tally
from sampan.log.tally import Span
from sampan.log.verdict import Answer

_FRAME_BYTES: Final = 4 << 20


class Counts(msgspec.Struct):
    """How many items of a stream met which end since its beginning."""

    accepted: int = 0
    duplicate: int = 0
    quarantined: int = 0
    refused: int = 0


class Request:
    """A batch on its way to the disk, or one event that is checked with others once it is its group's turn."""

    __slots__ = ("answer", "batch", "done", "item", "producer", "repairs", "size")

    batch: Batch

    def __init__(
        self,
        came: Batch | bytes,
        producer: str,
        repairs: tuple[Repair, ...],
        done: "asyncio.Future[Answer] | None",
    ) -> None:
        self.producer, self.repairs, self.done = producer, repairs, done
        self.item: bytes | None = None
        if isinstance(came, Batch):
            self.batch, self.size = came, came.size
        else:
            self.item, self.size = came, len(came)
        self.answer: Answer | None = None

    def __len__(self) -> int:
        return 1 if self.item is not None else len(self.batch)


class Placing:
    """A frame that is being filled."""

    __slots__ = ("answers", "bads", "codes", "duplicate", "first", "raws", "sources")

    def __init__(self, first: int) -> None:
        self.first = first
        self.raws: list[bytes] = []
        self.codes: list[int] = []
        self.sources: list[str] = []
        self.bads: list[list[Bad]] = []
        self.answers: list[tuple[Request, int, list[str], list[tuple[int, bool]] | None, list[Bad]]] = []
        self.duplicate = 0

    def take(self, request: Request) -> None:
        """Everything of a request, all of it new."""
        batch = request.batch
        self.answers.append((request, self.first + len(self.raws), batch.ids, None, batch.bads))
        self.raws += batch.raws
        self.codes += batch.codes
        self.sources += batch.sources
        if batch.bads:
            self.bads.append(batch.bads)


def frames_of(requests: list[Request]) -> Iterator[list[Request]]:
    """Requests that may share a frame: of one producer, together not too large. A repair has a frame of its own."""
    together: list[Request] = []
    size = 0
    for request in requests:
        alone = request.repairs or (together and together[0].repairs)
        if together and (alone or request.producer != together[0].producer or size + request.size > _FRAME_BYTES):
            yield together
            together, size = [], 0
        together.append(request)
        size += request.size
    if together:
        yield together


def doubtful(requests: Iterable[Request]) -> list[bytes]:
    """The keys under which earlier events may be known."""
    return [key for request in requests if not request.batch.drawn for key in request.batch.keys]


class Group:
    """Requests that share a sync."""

    __slots__ = ("counts", "first", "firsts", "frames", "last", "placed", "refused", "requests", "span", "tallied")

    def __init__(self, requests: list[Request], first: int) -> None:
        """``first``: the number that its first item gets."""
        self.requests, self.counts = requests, Counts()
        self.frames: list[bytes] = []
        self.firsts: list[int] = []
        self.placed: list[bytes] = []  # keys that were added to the recent ones
        self.refused = 0  # earlier refusals that its frames record
        self.first, self.last = first, first - 1
        self.tallied: Tally = {}
        self.span: Span | None = None  # where its frames lie, once they are durable
