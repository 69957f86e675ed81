"""Requests of one serving process: read, predict together, decide, keep, answer. No sockets here.

Requests that arrive in the same moment are predicted in one call and share one sync of the log. An answer leaves
only when its events are durable. In a rollout some records are the candidate's to answer (``variants``); where it does
not, the champion does.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

from sampan.base.errors import Busy, Damaged, Refused, SampanError, Unreachable, Usage
from sampan.models.inputs import Numbers
from sampan.serve.answer import Answerer
from sampan.serve.assignment import ERROR
from sampan.serve.faces import NATIVE, face, pack, unpack
from sampan.serve.given import Given, Told
from sampan.serve.link import Reply
from sampan.serve.overload import TooSlow
from sampan.serve.shadow import Shadow
from sampan.serve.sink import Sink
from sampan.serve.variants import Plan, Variants
from sampan.serve.verdict import Answered, Asked, Records, Verdict

_SMALL: Final = 65_536  # bytes of a request's events; with more of them it pays for a task of its own
#: Records from which on it pays to predict in a thread, where the model lets go of the interpreter. One with a tensor
#: may take as long as thousands of others.
_MANY: Final = 32


class _Called(Exception):
    """What is declared for when the model does not answer has to be called, and waited for."""

    def __init__(self, error: SampanError) -> None:
        super().__init__(error.obstacle)
        self.error = error


class Fresh(NamedTuple):
    """A request that nobody has asked before. ``plan``: the rollout it falls under; ``places``: of the records that the
    candidate is to answer; ``told`` is done when its events are durable, where its sender chose its ids."""

    request: int
    asked: Asked
    told: "asyncio.Future[None] | None"
    plan: Plan | None
    places: Sequence[int] = ()

    @property
    def own(self) -> list[int]:
        """Places of the records that the champion is to answer."""
        theirs = frozenset(self.places)
        return [place for place in range(len(self.asked.records)) if place not in theirs]

    @property
    def theirs(self) -> Records:
        """What the candidate is asked."""
        assert self.plan is not None
        return self.plan.records(self.asked, self.places)

    def records(self, places: Sequence[int]) -> Records:
        records = self.asked.records
        return records.at(places) if isinstance(records, Numbers) else [records[place] for place in places]


class Service:
    """Answers requests by calling ``send(request, status, body)``, each exactly once."""

    def __init__(
        self,
        answerer: Answerer,
        sink: Sink,
        send: Callable[[int, int, bytes], None],
        variants: Variants | None = None,
        endpoint: str = "",
    ) -> None:
        self._answerer = answerer
        self._sink = sink
        self._send = send
        self._variants = variants or Variants(answerer, lambda news: None)
        self._shadow = Shadow(endpoint, answerer, self._variants, sink)
        self._waiting: list[tuple[int, bytes, int]] = []
        self._sure: list[tuple[Fresh, Answered]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._given = Given(answerer, sink)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._hangs: asyncio.Future[Any] | None = None  # done once it does
        self._alarm = answerer.alarm

    def ask(self, request: int, body: bytes, number: int = NATIVE) -> None:
        """Take a request in the words of a face; all that arrive before the loop comes round are predicted together.

        Through any face but our own, headers go with the bodies of request and answer (``faces.pack``).
        """
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._drain)
        self._waiting.append((request, body, number))

    async def finish(self) -> None:
        """Wait until everything asked has been answered."""
        while self._waiting or self._sure or self._tasks:
            await (asyncio.wait(self._tasks) if self._tasks else asyncio.sleep(0))
        await self._shadow.finish()

    def close(self) -> None:
        """Let go of its thread, once it has finished."""
        self._thread.shutdown(wait=False)

    def _drain(self) -> None:
        with self._alarm:
            self._answer()

    def _answer(self) -> None:
        fresh = self._read()
        theirs = [one for one in fresh if one.places]
        if theirs:
            fits = {one.request for one in theirs if self._fits(one)}
            theirs = [one for one in theirs if one.request in fits]
            fresh = [one for one in fresh if not one.places or one.request in fits]
        if not fresh:
            return
        replies: dict[int, Reply] = {}
        if theirs:
            asked = self._variants.ask([one.theirs for one in theirs])
            replies = {one.request: reply for one, reply in zip(theirs, asked, strict=True)}
        own = [one.records(one.own) if one.places else one.asked.records for one in fresh]
        if self._answerer.live is not None:
            self._spawn(self._call(fresh, own, replies))
            return
        records = _together(own)
        if self._answerer.free and (len(records) >= _MANY or (records and self._answerer.heavy)):
            self._spawn(self._compute(fresh, own, records, replies))
            return
        try:
            outputs = self._answerer.predict(records) if records else []
        except Exception:  # noqa: BLE001 - told by each request, alone
            outputs = None
        self._share(fresh, own, outputs, replies)

    async def _compute(
        self,
        fresh: Sequence[Fresh],
        own: Sequence[Records],
        records: Records,
        replies: Mapping[int, Reply],
    ) -> None:
        """Predict in a thread: meanwhile the loop reads the next requests and writes what the last ones were told.
        Where the model hangs there, all who wait for it or behind it are answered without it."""
        loop = asyncio.get_running_loop()
        if self._hangs is None:
            self._hangs = loop.create_future()
        predicted: asyncio.Future[Any] = loop.run_in_executor(self._thread, self._answerer.predict, records)
        await asyncio.wait({predicted, self._hangs}, timeout=self._alarm.limit, return_when=asyncio.FIRST_COMPLETED)
        if not predicted.done():
            predicted.cancel()
            error = self._alarm.too_slow()
            if not self._hangs.done():
                self._hangs.set_result(None)
            with self._alarm:
                for one, some in zip(fresh, own, strict=True):
                    self._without(one, some, error, replies.get(one.request))
            return
        try:
            outputs = predicted.result()
        except Exception:  # noqa: BLE001 - told by each request, alone
            outputs = None
        with self._alarm:
            self._share(fresh, own, outputs, replies)

    def _share(
        self,
        fresh: Sequence[Fresh],
        own: Sequence[Records],
        outputs: Sequence[Any] | None,
        replies: Mapping[int, Reply],
    ) -> None:
        """Give each request its part of what was predicted for all; None: that failed, and one request's fault must not
        become another's."""
        place = 0
        for one, some in zip(fresh, own, strict=True):
            if outputs is None:
                self._alone(one, some, replies.get(one.request))
                continue
            end = place + len(some)
            self._decide(one, some, outputs[place:end], replies.get(one.request))
            place = end

    async def _call(self, fresh: Sequence[Fresh], own: Sequence[Records], replies: Mapping[int, Reply]) -> None:
        """Have a live service predict, all requests in one call; where one of them does not fit, each by itself."""
        try:
            found = await self._called([record for some in own for record in some])
        except Exception as error:  # noqa: BLE001 - one request's fault must not become another's
            if len(fresh) > 1:
                await asyncio.gather(*(self._call([a], [b], replies) for a, b in zip(fresh, own, strict=True)))
                return
            known = error if isinstance(error, SampanError) else Damaged("Predict", f"{type(error).__name__}: {error}")
            self._fail(fresh[0], known)
            return
        place = 0
        for one, some in zip(fresh, own, strict=True):
            end = place + len(some)
            if isinstance(found, SampanError):
                self._fail(one, found)
            else:
                self._judged(one, found[place:end], replies.get(one.request))
            place = end

    async def _called(self, records: Records) -> "Sequence[Verdict] | SampanError":
        """What a live service says, or what was declared for when it does not answer; else why it does not.

        Raises Usage for records that do not fit."""
        assert self._answerer.live is not None
        found: Sequence[Any] | SampanError
        try:
            found = await self._answerer.live.call(records) if records else []
        except (Unreachable, Busy, Refused) as error:
            found = error
        if not isinstance(found, SampanError):
            try:
                with self._alarm:
                    return self._answerer.judge(records, found)
            except TooSlow as error:
                found = error
        return await self._in_place(records, found) or found

    def _read(self) -> list[Fresh]:
        """What has arrived and has not been asked before; the rest is answered as it was."""
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
        return [self._begun(request, asked) for request, asked in fresh]

    def _begun(self, request: int, asked: Asked) -> Fresh:
        told = self._given.begin(asked) if asked.chosen_ids else None
        plan = None if asked.pinned else self._variants.plan
        return Fresh(request, asked, told, plan, self._variants.places(asked) if plan is not None else ())

    def _fits(self, one: Fresh) -> bool:
        """Whether the champion could answer it; else it is refused, whoever's turn it was."""
        try:
            self._answerer.check(one.asked.records)
        except SampanError as error:
            self._fail(one, error)
            return False
        return True

    def _alone(self, one: Fresh, own: Records, reply: Reply | None) -> None:
        try:
            verdicts = self._own_verdicts(one, own)
        except _Called as called:
            self._spawn(self._later(one, own, called.error, reply))
            return
        if verdicts is not None:
            self._judged(one, verdicts, reply)

    async def _later(self, one: Fresh, own: Records, error: SampanError, reply: Reply | None) -> None:
        """As ``_alone``, where a service that was in force before has to be called."""
        verdicts = await self._in_place(own, error)
        if verdicts is None:
            self._fail(one, error)
            return
        with self._alarm:
            self._judged(one, verdicts, reply)

    async def _in_place(self, records: Records, error: SampanError) -> Sequence[Verdict] | None:
        """What is declared for when the model does not answer, a service that was in force before among it."""
        before, asks = self._answerer.before, self._answerer.asks
        if before is None or asks is None:
            with self._alarm:
                return self._answerer.instead(records, error.obstacle)
        try:
            outputs = await asks.call(records)
            with self._alarm:
                return self._answerer.in_place(before.judge(records, outputs), error.obstacle)
        except Exception as failed:  # noqa: BLE001 - another model, or its rules
            sys.stderr.write(f"The fallback did not answer: {type(failed).__name__}: {failed}\n")
            return None

    def _at_once(self, records: Records, error: SampanError) -> Sequence[Verdict] | None:
        """As ``_in_place``. Raises _Called where that takes a call."""
        if self._answerer.asks is not None:
            raise _Called(error)
        return self._answerer.instead(records, error.obstacle)

    def _own_verdicts(self, one: Fresh, records: Records) -> Sequence[Verdict] | None:
        """The champion's answers, or what is declared in place of them; None if there are none and the request has been
        answered with why. Raises _Called."""
        try:
            return self._answerer.judge(records, self._answerer.predict(records) if records else [])
        except Usage as error:
            self._fail(one, error)
            return None
        except SampanError as error:
            known = error
        except Exception as error:  # noqa: BLE001 - the model's own fault, told as such
            known = Damaged("Predict", f"the model raised {type(error).__name__}: {error}")
        instead = self._at_once(records, known)
        if instead is None:
            self._fail(one, known)
        return instead

    def _decide(self, one: Fresh, own: Records, outputs: Sequence[Any], reply: Reply | None) -> None:
        try:
            verdicts = self._answerer.judge(own, outputs)
        except TooSlow as error:
            self._without(one, own, error, reply)
        else:
            self._judged(one, verdicts, reply)

    def _without(self, one: Fresh, own: Records, error: SampanError, reply: Reply | None) -> None:
        """Answer with what is declared for when the model does not; with why it does not, where nothing is."""
        try:
            verdicts = self._at_once(own, error) if own else []
        except _Called:
            self._spawn(self._later(one, own, error, reply))
            return
        if verdicts is None:
            self._fail(one, error)
        else:
            self._judged(one, verdicts, reply)

    def _judged(self, one: Fresh, verdicts: Sequence[Verdict], reply: Reply | None) -> None:
        if reply is not None:
            self._spawn(self._join(one, verdicts, reply))
            return
        arms = None if one.plan is None else [one.plan.champion] * len(verdicts)
        answered = self._answerer.tell(one.asked, verdicts, arms)
        if one.told is not None or not answered.sure or sum(map(len, answered.events)) > _SMALL:
            self._spawn(self._keep(one, answered))
            return
        if not self._sure:
            asyncio.get_running_loop().call_soon(self._keep_sure)
        self._sure.append((one, answered))

    def _keep_sure(self) -> None:
        """Have what was told in one moment, and can only fail together, kept together."""
        some, self._sure = self._sure, []
        self._spawn(self._keep_all(some))

    async def _keep_all(self, some: Sequence[tuple[Fresh, Answered]]) -> None:
        events = [event for _, answered in some for event in answered.events]
        blobs = {digest: one for _, answered in some if answered.blobs for digest, one in answered.blobs.items()}
        try:
            await self._sink.keep(events, [id for one, _ in some for id in one.asked.ids], blobs, drawn=True)
        except SampanError as error:
            for one, _ in some:
                self._fail(one, error)
            return
        for one, answered in some:
            self._say(one, answered)

    async def _join(self, one: Fresh, own: Sequence[Verdict], reply: Reply) -> None:
        """Put the candidate's answers beside the champion's, and the champion's where the candidate has none."""
        assert one.plan is not None
        found = await reply
        verdicts = dict(zip(one.own, own, strict=True))
        arms = dict.fromkeys(one.own, one.plan.champion)
        reasons = []
        for at, place in enumerate(one.places):
            reason = found if isinstance(found, str) else found[at].error and ERROR + found[at].error
            if not reason and not isinstance(found, str):
                verdicts[place] = found[at]
            arms[place] = one.plan.instead(reason) if reason else one.plan.candidate
            reasons.append(reason)
        self._variants.answered(reasons)
        if lacking := [place for place in one.places if place not in verdicts]:
            said = await self._instead(one, one.records(lacking))
            if said is None:
                return
            verdicts.update(zip(lacking, said, strict=True))
        places = range(len(one.asked.records))
        told = self._answerer.tell(one.asked, [verdicts[n] for n in places], [arms[n] for n in places])
        await self._keep(one, told)

    async def _instead(self, one: Fresh, records: Records) -> Sequence[Verdict] | None:
        """The champion's answers where the candidate's were due; None if the request has been answered with why not."""
        if self._answerer.live is None:
            try:
                with self._alarm:
                    return self._own_verdicts(one, records)
            except _Called as called:
                said = await self._in_place(records, called.error)
                if said is None:
                    self._fail(one, called.error)
                return said
        found: Sequence[Verdict] | SampanError
        try:
            found = await self._called(records)
        except SampanError as error:
            found = error
        if isinstance(found, SampanError):
            self._fail(one, found)
            return None
        return found

    async def _keep(self, one: Fresh, answered: Answered) -> None:
        if one.told is not None:
            self._given.fill(one.asked, answered)
        try:
            ids = one.asked.ids if answered.sure else ()
            await self._sink.keep(answered.events, ids, answered.blobs, drawn=not one.asked.chosen_ids)
        except SampanError as error:
            self._fail(one, error)
            return
        if one.told is not None:
            one.told.set_result(None)
        self._say(one, answered)

    def _say(self, one: Fresh, answered: Answered) -> None:
        self._send(one.request, *self._answerer.say(one.asked, answered.answers))
        if one.plan is not None and one.plan.shadow and (own := one.own):
            self._shadow.see(one.asked, own, one.plan)

    async def _repeat(self, request: int, asked: Asked, told: list[Told]) -> None:
        try:
            for one in told:
                if one.durable is not None:
                    await asyncio.shield(one.durable)
        except SampanError as error:
            self._refuse(request, error, asked.face)
            return
        self._send(request, *self._answerer.say(asked, [one.answer for one in told]))

    def _fail(self, one: Fresh, error: SampanError) -> None:
        if one.told is not None:
            self._given.drop(one.asked, one.told, error)
        self._refuse(one.request, error, one.asked.face)

    def _refuse(self, request: int, error: SampanError, number: int) -> None:
        body, headers = face(number).refuse(error)
        self._send(request, error.status, body if number == NATIVE else pack(headers, body))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _together(own: Sequence[Records]) -> Records:
    """The records of several requests."""
    if len(own) == 1:
        return own[0]
    numbers = [some for some in own if isinstance(some, Numbers)]
    if len(numbers) == len(own):
        return Numbers.joined(numbers)
    return [record for some in own for record in some]
