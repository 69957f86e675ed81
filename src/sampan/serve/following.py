"""A shadow that follows the log: the predictions of an endpoint, one after the other, and what it would have said.

It touches no request, is asked nothing by anybody, and may be late: what it has not come to lies in the log until it
does. So there may be any number of them, and none misses a request. Each writes a stream of its own; where it had come
to, that stream says.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from sampan.base.assigning import gets_candidate
from sampan.base.clock import Clock, iso
from sampan.base.errors import Busy, DiskFull, SampanError
from sampan.base.ids import whole
from sampan.base.settings import Folder, Settings
from sampan.log.contracts import Contracts
from sampan.log.log import Log
from sampan.log.position import Position, place
from sampan.log.read import StoredEvent
from sampan.serve.alarm import Alarm
from sampan.serve.answer import SOURCE, Answerer
from sampan.serve.apart import Named, weigh
from sampan.serve.assignment import Assignment, News, count
from sampan.serve.noted import Blobs
from sampan.serve.shadow import Behind, shadow_event
from sampan.serve.stream import PREFIX, Told
from sampan.serve.verdict import Verdict

_MOST: Final = 1_000  # predictions that are answered at once
_QUICK, _SLOW = 0.1, 0.5  # seconds that so many may take before fewer are asked at once
_CAREFUL: Final = _MOST  # one after the other, after a process has died over some
_GATHER: Final = 0.5  # seconds in which more may come, so that few writes keep them: nobody waits
_PAUSE: Final = 5.0  # seconds after which it looks by itself whether there are more
_TELL: Final = 0.5
_AGAIN: Final = 1.0  # seconds after which what the disk did not take is tried again


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is told to follow. ``stream``: what it writes; ``after``: the item of the endpoint's stream that
    it begins behind. ``careful``: a process before this one died over something; ``blamed``: over which prediction, and
    what is to be said of it."""

    endpoint: str
    assignment: Assignment
    stream: str
    after: int
    careful: bool = False
    blamed: dict[str, str] = {}


class Asked(msgspec.Struct):
    """Of a prediction's event what it takes to ask again."""

    features: dict[str, Any]
    context: dict[str, Any] = {}
    entity: str = ""
    looked_up: str = ""


class Overdone(Exception):
    """A model or a rule was interrupted: what is half done must not be built upon."""


_asked = msgspec.json.Decoder(Asked).decode


class Following:
    """One shadow. ``tell`` takes how it does, ``told`` what frames of its stream hold that are durable now."""

    def __init__(
        self,
        answerer: Answerer,
        followed: Followed,
        folder: Folder,
        settings: Settings,
        clock: Clock,
        alarm: Alarm,
        tell: Callable[[News], None],
        told: Told = None,
    ) -> None:
        """Raises Busy while another process writes the stream."""
        self._answerer, self._followed, self._alarm, self._tell = answerer, followed, alarm, tell
        answerer.recall_from(folder.data)
        self._log = Log(folder.data / "log", Contracts(), clock, settings)
        self._writer = self._log.writer(followed.stream, told=told)
        self._stream = PREFIX + followed.endpoint
        self._behind = Behind(followed.endpoint, followed.assignment, answerer.author, answerer.split)
        self._stirred = asyncio.Event()
        self._news, self._told = News(connected=True), 0.0
        self._careful = _CAREFUL if followed.careful else 0
        self._size = 1
        self._at = followed.after

    def stir(self) -> None:
        """There may be more to answer."""
        self._stirred.set()

    async def run(self) -> None:
        """Until it is cancelled. Raises Overdone where another process must go on, SampanError."""
        self._at = max(self._at, self._reached())
        while True:
            self._stirred.clear()
            events = self._log.events(
                type="prediction", stream=self._stream, after=place(self._stream, self._at), limit=self._size
            )
            if not events:
                self._say()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_PAUSE):
                        await self._stirred.wait()
                        await asyncio.sleep(_GATHER)
                continue
            last = await self._answer([one for one in events if self._sampled(one)]) or events[-1]
            self._at = Position.parse(last.position)[self._stream]
            if self._alarm.rang:
                raise Overdone
            if time.monotonic() - self._told > _TELL:
                self._say()
            await asyncio.sleep(0)

    def close(self) -> None:
        self._writer.close()
        self._log.keys.close()

    def _reached(self) -> int:
        """The prediction that it answered last; 0 for none."""
        for event in self._log.events(type="shadow", stream=self._followed.stream, newest_first=True, limit=1):
            said = msgspec.json.decode(event.data)
            if said["rollout"] == self._followed.assignment.rollout:
                of = self._log.find(said["prediction_id"], "prediction", SOURCE + self._followed.endpoint)
                return Position.parse(of.position)[self._stream] if of is not None else 0
        return 0

    def _sampled(self, event: StoredEvent) -> bool:
        one = self._followed.assignment
        return one.sample == 1 or gets_candidate(one.salt, event.subject or event.id or "", one.sample)

    async def _answer(self, events: Sequence[StoredEvent]) -> StoredEvent | None:
        """Say something to each, durably. The last of them where it is not the end; None where it is."""
        begun = time.perf_counter()
        verdicts = await self._one_by_one(events) if self._careful else self._at_once(events)
        if not verdicts:
            return None
        took = time.perf_counter() - begun
        self._adapt(took)
        each = round(took / len(verdicts) * 1e6)
        blobs: Blobs = {}
        made = [self._event(event, verdict, each, blobs) for event, verdict in zip(events, verdicts, strict=False)]
        refused = await self._kept(made, blobs)
        for verdict in verdicts:
            if verdict.error and verdict.output is None:
                count(self._news.missed, verdict.error)
            else:
                self._news.shadowed += 1
        if refused:
            count(self._news.missed, "its answer fits no event", refused)
        return events[len(verdicts) - 1] if len(verdicts) < len(events) else None

    async def _one_by_one(self, events: Sequence[StoredEvent]) -> list[Verdict]:
        """What it says to each, up to one that it is interrupted over. The hub knows which it is at: should the process
        die, it is over that one."""
        said: list[Verdict] = []
        for event in events:
            self._news.asking = event.id or ""
            self._say()
            await asyncio.sleep(0)  # so that it is told before
            said += self._weighed([event])
            self._careful = max(0, self._careful - 1)
            if self._alarm.rang:
                break
        self._news.asking = ""
        return said

    def _at_once(self, events: Sequence[StoredEvent]) -> list[Verdict]:
        """What it says to each. Raises Overdone if it was interrupted over one of several: another process finds out
        over which."""
        said = self._weighed(events)
        if self._alarm.rang and len(events) > 1:
            raise Overdone
        return said

    def _weighed(self, events: Sequence[StoredEvent]) -> list[Verdict]:
        blamed = self._followed.blamed
        found: dict[int, Verdict] = {}
        records: dict[int, Any] = {}
        for at, event in enumerate(events):
            if event.id in blamed:
                found[at] = Verdict(None, error=blamed[event.id])
                continue
            try:
                records[at] = self._record(event)
            except SampanError as error:
                found[at] = Verdict(None, error=error.obstacle.removeprefix("record 0: "))
        with self._alarm:
            said = weigh(self._answerer, list(records.values()), unseen=True)
        for at, verdict in zip(records, said, strict=True):
            found[at] = self._unless_told(verdict, events[at])
        return [found[at] for at in range(len(events))]

    def _record(self, event: StoredEvent) -> dict[str, Any] | Named:
        """What was asked; where features are looked up, without those, for this bundle to look up its own. Raises
        SampanError."""
        asked = _asked(event.data)
        facts = self._answerer.facts
        record = {**asked.features, **asked.context}
        if facts is not None and facts.entity:
            number = whole(asked.entity)  # of whom it was about the log keeps the text
            record.setdefault(facts.entity, number if str(number) == asked.entity else asked.entity or None)
        if asked.looked_up and facts is not None and facts.features:
            known = {facts.key, facts.entity, *asked.context}
            sent = {name: value for name, value in record.items() if name in known}
            return Named(sent, event.time or event.received, live=False)
        return self._answerer.recalled(record)

    def _unless_told(self, verdict: Verdict, event: StoredEvent) -> Verdict:
        """A verdict without what it was said to, where the prediction's event says just that."""
        if verdict.record is None:
            return verdict
        asked = _asked(event.data)
        theirs = {**asked.features, **asked.context}
        features, context = self._answerer.split(verdict.record, self._answerer.author.inputs)
        if verdict.looked_up != asked.looked_up or any(
            theirs.get(name) != value for name, value in (*features.items(), *context.items())
        ):
            return verdict
        return msgspec.structs.replace(verdict, record=None, looked_up="", blobs=None)

    def _event(self, event: StoredEvent, verdict: Verdict, took: int, blobs: Blobs) -> bytes:
        when = iso(event.time or event.received)
        return shadow_event(self._behind, event.id or "", event.subject or "", when, verdict, took, blobs)

    async def _kept(self, events: Sequence[bytes], blobs: Blobs) -> int:
        """Return when they are durable: how many of them fit no event. What is in the stream already is left out."""
        while True:
            batch = self._writer.checker.batch(events, ours=True)
            if blobs:
                batch.blobs = blobs
            try:
                answer = await self._writer.submit(batch, self._followed.stream)
            except (Busy, DiskFull):
                self._say()
                await asyncio.sleep(_AGAIN)
                continue
            return sum(one.verdict not in ("accepted", "duplicate") for one in answer.verdicts())

    def _adapt(self, took: float) -> None:
        """Ask about more at once, or fewer, by the seconds that the last ones took."""
        if took < _QUICK:
            self._size = min(2 * self._size, _MOST)
        elif took > _SLOW:
            self._size = max(1, self._size // 2)

    def _say(self) -> None:
        self._told = time.monotonic()
        reader = self._log.readers().get(self._stream)
        self._news.behind = max(0, reader.last() - self._at) if reader is not None else 0
        self._tell(self._news)
