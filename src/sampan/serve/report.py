"""What a serving process tells the hub of its work: what lies in its stream, and how clients were answered.

The hub would have to read each prediction back from the disk to count it. What was counted when it was written is sent
a few times a second, summed up.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from sampan.log.tally import Counts, Span, add

_EVERY: Final = 0.1  # seconds


Row = tuple[int, str, str, str, int, int, int]


class Stretch(msgspec.Struct, array_like=True):
    """Frames that lie one after the other, and what is in them: minute, producer, source, type; accepted, duplicate,
    quarantined."""

    segment: int
    start: int
    end: int
    rows: list[Row]

    @property
    def span(self) -> Span:
        return Span(self.segment, self.start, self.end)

    @property
    def counts(self) -> Counts:
        return {(minute, who, source, kind): [a, d, q] for minute, who, source, kind, a, d, q in self.rows}


class Report(msgspec.Struct, array_like=True):
    """What came since the last one. ``statuses``: of answers that did not go through the hub."""

    stretches: list[Stretch]
    statuses: dict[int, int]


class Reporter:
    """Sums up, and sends what it has soon after the first of it."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._spans: list[tuple[Span, Counts]] = []
        self._statuses: dict[int, int] = {}
        self._due: asyncio.TimerHandle | None = None

    def kept(self, stream: str, span: Span, counts: Counts) -> None:
        """Frames are durable."""
        last = self._spans[-1] if self._spans else None
        if last is not None and (last[0].segment, last[0].end) == (span.segment, span.start):
            for key, row in counts.items():
                add(last[1], key, row)
            self._spans[-1] = Span(span.segment, last[0].start, span.end), last[1]
        else:
            self._spans.append((span, counts))
        self._soon()

    def answered(self, status: int) -> None:
        """A client was answered directly."""
        self._statuses[status] = self._statuses.get(status, 0) + 1
        self._soon()

    def flush(self) -> None:
        """Send what there is, now."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._spans or self._statuses:
            stretches = [
                Stretch(
                    span.segment, span.start, span.end, [(*key, row[0], row[1], row[2]) for key, row in counts.items()]
                )
                for span, counts in self._spans
            ]
            self._send(msgspec.msgpack.encode(Report(stretches, self._statuses)))
            self._spans, self._statuses = [], {}

    def _soon(self) -> None:
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(_EVERY, self.flush)


def read_report(payload: bytes) -> Report:
    """What was sent."""
    return msgspec.msgpack.decode(payload, type=Report)
