"""Time passing quickly: lines, decisions and outcomes go to the hub in the order of the story's clock.

The clock only moves forward. A window of the story (an hour, when the tills upload) is played as a whole: its
decisions and uploads are under way together, the clock stands at its end.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import groupby
from typing import Final, TypeVar

import msgspec

from sampan.base.clock import SharedClock, from_micros, iso
from sampan.base.errors import Busy, SampanError
from sampan.demo.figures import Decided
from sampan.demo.shop import STREAM, Line, Order, due, outcome
from sampan.demo.wire import Answer, Wire

T = TypeVar("T")

BATCH: Final = 2_000  # lines in a request of the history
HOUR: Final = 3_600_000_000
RESEND_EVERY: Final = 50  # uploads; the answer to one of so many is lost, and the till sends it again
PATIENCE: Final = 60.0  # seconds that a busy hub is asked again


class Verdict(msgspec.Struct):
    verdict: str
    reason: str | None = None


class Verdicts(msgspec.Struct):
    results: list[Verdict]


class Prediction(msgspec.Struct):
    id: str
    prediction: float
    action: str
    rule: str
    version: str


class Predictions(msgspec.Struct):
    predictions: list[Prediction]


_VERDICTS: Final = msgspec.json.Decoder(Verdicts)
_PREDICTIONS: Final = msgspec.json.Decoder(Predictions)


class Tally:
    """What became of the events that were sent, counted from the answers: sent is the sum of the verdicts and of
    ``untold``, what went by GA4's protocol, whose answers say nothing."""

    def __init__(self) -> None:
        self.sent = 0
        self.untold = 0
        self.verdicts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def count(self, verdicts: Iterable[Verdict]) -> None:
        for item in verdicts:
            self.verdicts[item.verdict] += 1
            if item.verdict == "quarantined":
                self.reasons[item.reason or "?"] += 1


class Timelapse:
    """Plays the shop's days to one hub."""

    def __init__(self, clock: SharedClock, endpoint: str) -> None:
        self.wire: Wire  # set while there are connections
        self.tally = Tally()
        self.decided: list[Decided] = []
        self.rules: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.last_prediction = ""
        self._clock, self._endpoint = clock, endpoint
        self._uploads = 0
        self._waiting: deque[tuple[Order, Prediction]] = deque()

    def move(self, micros: int) -> None:
        """Move the clock forward; it never goes back."""
        if micros > self._clock.micros():
            self._clock.set(micros)

    async def history(self, lines: Iterator[Line], advance: Callable[[int], None]) -> None:
        """What the shop has from before: the lines in large batches, one after the other."""
        for batch in _batches(lines, BATCH):
            self.move(batch[-1].at)
            await self.upload(batch)
            advance(sum(line.items or 1 for line in batch))

    async def year(
        self,
        lines: Iterator[Line],
        orders: list[Order],
        advance: Callable[[int], None],
        month_over: Callable[[datetime], None],
    ) -> None:
        """Hour by hour: a decision for each order, the tills' upload, the outcomes that became known."""
        queue = deque(orders)
        hour_before = None
        for hour, upload in groupby(lines, key=lambda line: line.at // HOUR):
            end = (hour + 1) * HOUR
            if hour_before is not None and _month(end) != _month(hour_before):
                month_over(from_micros(end))
            hour_before = end
            self.move(end)
            asking = []
            while queue and queue[0].at < end:
                asking.append(queue.popleft())
            await asyncio.gather(self.upload(list(upload)), self._outcomes(end), *map(self._decide, asking))
            advance(len(asking))

    async def upload(self, lines: list[Line]) -> None:
        """One upload of the shop; now and then its answer is lost on the way, and the shop sends it once more."""
        self._uploads += 1
        events = [line.body for line in lines if not line.items]
        for _ in range(1 + (self._uploads % RESEND_EVERY == 0)):
            work = [self._collect(line) for line in lines if line.items]
            if events:
                work.append(self._send(events))
            await asyncio.gather(*work)

    async def _send(self, events: list[bytes]) -> None:
        """Events as they are; the answer gives each one's verdict."""
        answer = await self._post("/v1/events", b"[" + b",".join(events) + b"]", len(events))
        self.tally.count(_VERDICTS.decode(answer.body).results)

    async def _collect(self, message: Line) -> None:
        """A message of GA4's protocol; the answer says only that it was taken."""
        await self._post(
            f"/mp/collect?measurement_id={STREAM}&api_secret={self.wire.token}", message.body, message.items
        )
        self.tally.untold += message.items

    async def _post(self, path: str, body: bytes, size: int) -> Answer:
        patience = time.monotonic() + PATIENCE
        while True:
            answer = await self.wire.post(path, body)
            self.tally.sent += size
            if 200 <= answer.status < 300:
                return answer
            self.tally.verdicts["refused"] += size
            if answer.status != 503 or time.monotonic() > patience:
                raise _unexpected(f"Send {size:,} events", answer.status, answer.body)
            await asyncio.sleep(float(answer.headers.get("retry-after", "1")))

    async def _decide(self, order: Order) -> None:
        body = msgspec.json.encode(
            {"records": [order.record], "ids": [f"order-{order.order_id}"], "time": iso(order.at)}
        )
        started = time.perf_counter()
        answer = await self.wire.post(f"/predict/{self._endpoint}", body)
        self.latencies.append(time.perf_counter() - started)
        if answer.status != 200:
            raise _unexpected(f"Ask for a decision on order {order.order_id}", answer.status, answer.body)
        made = _PREDICTIONS.decode(answer.body).predictions[0]
        self.rules[made.rule] += 1
        self.last_prediction = made.id
        if order.returned is not None:
            self._waiting.append((order, made))

    async def _outcomes(self, now: int) -> None:
        """Tell how orders of 30 days ago turned out."""
        known = []
        while self._waiting and due(self._waiting[0][0]) <= now:
            order, made = self._waiting.popleft()
            known.append(outcome(made.id, order))
            self.decided.append(Decided(_month(order.at), made.prediction, made.action, bool(order.returned)))
        if known:
            await self._send(known)

    async def finish(self, now: int) -> None:
        """The story's last moment: the outcomes known by then."""
        self.move(now)
        await self._outcomes(now)


def _batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _month(micros: int) -> str:
    return f"{from_micros(micros):%Y-%m}"


def _unexpected(attempted: str, status: int, body: bytes) -> SampanError:
    text = body[:500].decode("utf-8", "replace")
    kind = Busy if status == 503 else SampanError
    return kind(
        attempted, f"the hub answered {status}: {text}", "Its messages are in .sampan/demo.log of the workspace."
    )
