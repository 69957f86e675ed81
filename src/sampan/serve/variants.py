"""Who answers a record in the champion's process: itself, or the candidate's; and what is counted of that."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from sampan.base.assigning import gets_candidate
from sampan.models.inputs import Numbers
from sampan.serve.answer import Answerer
from sampan.serve.apart import Named
from sampan.serve.assignment import CANDIDATE, CHAMPION, DOWN, LOADING, QUEUE, Assigned, News, count
from sampan.serve.link import Link, Records, Reply
from sampan.serve.lookup import serves
from sampan.serve.verdict import Arm, Asked, Author

_TELL: Final = 0.5  # seconds between what the hub is told


class Plan(NamedTuple):
    """A stage of a rollout, ready to be asked about each record."""

    assigned: Assigned
    champion: Arm
    candidate: Arm
    author: Author  # the champion's
    looks: bool  # whether the candidate's features by key are others than the champion's

    @property
    def shadow(self) -> bool:
        return self.assigned.assignment.shadow

    def instead(self, reason: str) -> Arm:
        """The champion's answer where the candidate's was due."""
        return Arm(self.author, {**self.candidate.told, "fallback": reason[:300]})

    def records(self, asked: Asked, places: Sequence[int]) -> Records:
        """What the candidate is asked in some places: where features were looked up, and it wants others, what came."""
        records = asked.records
        if isinstance(records, Numbers):
            return records.at(places)
        if not self.looks or not asked.looked_up or asked.sent is None:
            return [records[place] for place in places]
        sent, told = asked.sent, asked.looked_up
        when, live = asked.time, asked.as_of is None
        return [Named(sent[place], when, live) if told[place] else records[place] for place in places]


class Variants:
    """The rollout of one endpoint, if there is one. ``tell`` takes news of it to the hub."""

    def __init__(self, answerer: Answerer, tell: Callable[[News], None]) -> None:
        self._answerer = answerer
        self._tell = tell
        self._link: Link | None = None
        self._news = News()
        self._telling: asyncio.TimerHandle | None = None
        self.plan: Plan | None = None

    @property
    def connected(self) -> bool:
        return self._link is not None and self._link.connected

    async def take(self, assigned: Assigned | None) -> bool:
        """Go by an assignment from now on, or by none; whether the candidate's process is there. What was asked of the
        one before is answered first."""
        before = link = self._link
        if assigned is None:
            link = None
        elif assigned.socket:
            link = Link(lambda: self._changed(at_once=True))
            try:
                await link.connect(assigned.socket)
            except OSError:
                link = None
        if assigned is None or self._rollout != assigned.assignment.rollout:
            self._news = News()
        self._link, self.plan = link, None
        rules = assigned.rules if assigned is not None and assigned.assignment.share else None
        if rules is not None:
            self._answerer.beside(rules)
        if assigned is not None:
            self.plan = plan_of(assigned, self._answerer)
            self._answerer.alike.add(assigned.version)
            if link is not None:
                link.timeout, link.queue = assigned.timeout, assigned.queue
        if before is not None and before is not link:
            await _idle(before)
        if rules is None:
            self._answerer.beside(None)
        return self.connected

    @property
    def _rollout(self) -> str:
        return "" if self.plan is None else self.plan.assigned.assignment.rollout

    def end(self) -> None:
        """Go by none, at once."""
        self.plan = None
        self._answerer.beside(None)
        if self._link is not None:
            self._link.close()
            self._link = None

    def places(self, asked: Asked) -> Sequence[int]:
        """Which of a request's records are the candidate's to answer: by the entity, else by the prediction's id."""
        plan = self.plan
        if plan is None or asked.pinned or not plan.assigned.assignment.share:
            return ()
        return self._of(asked, range(len(asked.records)), plan, plan.assigned.assignment.share)

    def sampled(self, asked: Asked, places: Sequence[int], plan: Plan) -> Sequence[int]:
        """Which of some records a shadow sees; by what ``places`` goes by."""
        sample = plan.assigned.assignment.sample
        return places if sample == 1 else self._of(asked, places, plan, sample)

    def _of(self, asked: Asked, places: Sequence[int], plan: Plan, share: float) -> list[int]:
        salt, whom = plan.assigned.assignment.salt, self._answerer.whom(asked)
        return [at for at in places if gets_candidate(salt, whom[at] or asked.ids[at], share)]

    def ask(self, requests: Sequence[Records], *, unseen: bool = False) -> list[Reply]:
        """Have the candidate answer the records of some requests; ``unseen``: for nobody to be told."""
        if self._link is not None:
            return self._link.ask(requests, unseen=unseen)
        loop = asyncio.get_running_loop()
        replies: list[Reply] = [loop.create_future() for _ in requests]
        for one in replies:
            one.set_result(self._absent)
        return replies

    @property
    def _absent(self) -> str:
        """Why the candidate's process is not there."""
        return LOADING if self.plan is not None and self.plan.assigned.loading else DOWN

    @property
    def full(self) -> str:
        """Why nothing can be asked now; empty if something can."""
        if not self.connected:
            return self._absent
        return "" if self._link is not None and self._link.room else QUEUE

    def give_up(self, reason: str) -> None:
        """Wait for nothing of the candidate's any more."""
        if self._link is not None:
            self._link.give_up(reason)

    # -- what the hub is told

    def answered(self, reasons: Sequence[str]) -> None:
        """Count records that were the candidate's to answer: by why it did not, empty where it did."""
        for reason in reasons:
            if reason:
                count(self._news.fallbacks, reason)
            else:
                self._news.answered += 1
        self._changed()

    def seen(self, records: int, reason: str = "") -> None:
        """Count records that the shadow saw; or why it did not, or gave no answer."""
        if reason:
            count(self._news.missed, reason, records)
        else:
            self._news.shadowed += records
        self._changed()

    def _changed(self, *, at_once: bool = False) -> None:
        if at_once:
            self._say()
        elif self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(_TELL, self._say)

    def _say(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self.plan is not None:
            self._news.connected = self.connected
            self._news.stuck = self._link.stuck if self._link is not None else 0.0
            self._tell(self._news)


def plan_of(assigned: Assigned, answerer: Answerer) -> Plan:
    """What the events of a stage say, worked out once."""
    wanted, champion, theirs = assigned.assignment, answerer.author, assigned.rules
    looks = False
    if theirs is not None and theirs.features:
        looks = not serves(answerer.facts, champion.inputs, theirs, assigned.inputs)
    told: Mapping[str, object] = {"rollout": wanted.rollout, "stage": wanted.stage}
    if assigned.loading and wanted.share:  # of both arms: nobody's luck is to be asked at other times
        told = {**told, "aside": LOADING}
    author = Author(assigned.version, wanted.bundle, assigned.inputs)
    return Plan(
        assigned,
        Arm(champion, {"variant": CHAMPION, **told}),
        Arm(author, {"variant": CANDIDATE, **told}),
        champion,
        looks,
    )


async def _idle(link: Link) -> None:
    """Close a connection once nobody waits for it."""
    loop = asyncio.get_running_loop()
    until = loop.time() + link.timeout
    while link.connected and link.under_way and loop.time() < until:
        await asyncio.sleep(0.005)
    link.close()
