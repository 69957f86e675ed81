"""The champion's side of the connection to the candidate: asked within a bound, never waited for too long.

``ask`` raises nothing. What is asked gets its verdicts, or in their place a reason why there are none.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from sampan.serve.apart import Errand, read_verdicts
from sampan.serve.assignment import CRASH, DOWN, ERROR, QUEUE, TIMEOUT
from sampan.serve.frames import Frame, Frames, Kind
from sampan.serve.verdict import Verdict

_BYTES: Final = 8 << 20  # that the candidate's process has not taken; any more waits for nobody
_encode = msgspec.msgpack.Encoder().encode

Records: TypeAlias = Sequence[Any]
Reply: TypeAlias = asyncio.Future[list[Verdict] | str]


class _Sent(NamedTuple):
    """One frame: the requests whose records it holds. Done ones still count until the candidate has answered."""

    replies: list[Reply]
    sizes: list[int]
    at: float
    late: asyncio.TimerHandle


class Link:
    """One connection. ``on_lost`` is called once at its end."""

    def __init__(self, on_lost: Callable[[], None], timeout: float = 1.0, queue: int = 64) -> None:
        self.timeout = timeout
        self.queue = queue
        self.under_way = 0
        self._on_lost = on_lost
        self._frames: Frames | None = None
        self._sent: dict[int, _Sent] = {}
        self._numbers = itertools.count(1)

    async def connect(self, path: str) -> None:
        """Raises OSError."""
        frames = Frames(self._on_frame, self._lost)
        await asyncio.get_running_loop().create_unix_connection(lambda: frames, path)
        self._frames = frames

    @property
    def connected(self) -> bool:
        return self._frames is not None

    @property
    def room(self) -> int:
        """How many more requests may be asked now."""
        if self._frames is None or self.stuck > self.timeout or self._frames.waiting > _BYTES:
            return 0  # nobody need find out once more that it hangs
        return max(0, self.queue - self.under_way)

    @property
    def stuck(self) -> float:
        """For how many seconds what was asked first has not been answered."""
        return time.monotonic() - next(iter(self._sent.values())).at if self._sent else 0.0

    def ask(self, requests: Sequence[Records], *, unseen: bool = False) -> list[Reply]:
        """Have the records of some requests answered, in one frame; ``unseen``: for nobody to be told."""
        loop = asyncio.get_running_loop()
        replies: list[Reply] = [loop.create_future() for _ in requests]
        if self._frames is None:
            return _all(replies, DOWN)
        room = self.room
        taken = replies[:room]
        _all(replies[room:], QUEUE)
        if not taken:
            return replies
        errand = Errand(
            time.monotonic() + self.timeout, [one for records in requests[:room] for one in records], unseen
        )
        try:
            payload = _encode(errand)
        except (TypeError, ValueError, OverflowError) as error:
            _all(taken, f"{ERROR}{error}")
            return replies
        number = next(self._numbers) & 0xFFFFFFFF
        late = loop.call_later(self.timeout, _all, taken, TIMEOUT)
        self._sent[number] = _Sent(taken, [len(one) for one in requests[:room]], time.monotonic(), late)
        self.under_way += len(taken)
        self._frames.send(Kind.WEIGH, number, payload)
        return replies

    def give_up(self, reason: str) -> None:
        """Wait for no answer any more."""
        for sent in self._sent.values():
            sent.late.cancel()
            _all(sent.replies, reason)

    def close(self) -> None:
        if self._frames is not None:
            self._frames.close()

    def _on_frame(self, frame: Frame) -> None:
        sent = self._sent.pop(frame.request, None)
        if sent is None:
            return
        sent.late.cancel()
        self.under_way -= len(sent.replies)
        try:
            verdicts = read_verdicts(frame.payload)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            _all(sent.replies, f"{ERROR}its answer is none: {error}")
            return
        if len(verdicts) != sum(sent.sizes):  # it came to them too late
            _all(sent.replies, TIMEOUT)
            return
        place = 0
        for reply, size in zip(sent.replies, sent.sizes, strict=True):
            if not reply.done():
                reply.set_result(verdicts[place : place + size])
            place += size

    def _lost(self) -> None:
        self._frames = None
        self.give_up(CRASH)
        self._sent.clear()
        self.under_way = 0
        self._on_lost()


def _all(replies: list[Reply], reason: str) -> list[Reply]:
    for one in replies:
        if not one.done():
            one.set_result(reason)
    return replies
