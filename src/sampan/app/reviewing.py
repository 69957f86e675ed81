"""What commands and the hub ask about cases that wait for people: answered, or settled when their time is over."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sampan.app.workplace import Workplace

if TYPE_CHECKING:
    from sampan.app.hub import RunningHub
    from sampan.serve.bundle import DecisionFacts
    from sampan.serve.reviews import Desk

_LOG: Final = logging.getLogger("sampan.review")
_PAUSE: Final = 1.0  # seconds between two looks at what waits; asks the log only where it has grown


class Reviewing(Workplace):
    """Settles cases that rules have sent to people."""

    @contextmanager
    def _desk(self, attempted: str) -> Iterator["Desk"]:
        """Where cases are settled: the hub's own, which stays open, else one under the lock."""
        if self._hub is not None:
            yield self._hub.desk()
            return
        from sampan.serve.claims import Claims
        from sampan.serve.reviews import STREAM, Desk

        with self.writing(attempted):
            writer = self.log.writer(STREAM)
            try:
                yield Desk(writer, self.endpoints.once_served, self.clock, Claims(self.db, self.clock))
            finally:
                writer.close()

    def answer_review(self, prediction: str, answer: dict[str, Any], actor: str) -> Any:
        """Settle a case as somebody says. Raises NotFound, Usage, Conflict with who was faster."""
        import msgspec

        from sampan.base.errors import Usage
        from sampan.serve.reviews import Answer, find

        attempted = f"Answer the case {prediction[:100]}"
        try:
            said = msgspec.convert(answer, Answer)
        except msgspec.ValidationError as error:
            raise Usage(attempted, str(error), "Give action, and reason or label if there are any.") from None
        case = find(self.log, prediction)
        with self._desk(attempted) as desk:
            settled = desk.answer(case, said, actor)
        return {"id": case.id, "endpoint": case.endpoint, **msgspec.to_builtins(settled)}

    def claim_review(self, prediction: str, minutes: float, over: bool, actor: str) -> Any:
        """Be at work on a case, so that nobody else answers it. Raises NotFound, Usage, Conflict with who is."""
        from sampan.serve.reviews import find

        case = find(self.log, prediction)
        with self._desk(f"Claim the case {prediction[:100]}") as desk:
            held = desk.claim(case, actor, minutes, over)
        return {"id": case.id, "endpoint": case.endpoint, "by": held.who, "until": held.until}

    def release_review(self, prediction: str, actor: str) -> Any:
        """Leave a case to others. Raises NotFound, Conflict."""
        from sampan.serve.reviews import find

        case = find(self.log, prediction)
        with self._desk(f"Release the case {prediction[:100]}") as desk:
            desk.release(case, actor)
        return {"id": case.id, "endpoint": case.endpoint, "by": "", "until": 0}

    def caps_in_force(self) -> "dict[str, list[DecisionFacts]]":
        """The rules with a cap of each endpoint that has some: those in force, and those of a candidate."""
        known: dict[str, DecisionFacts | None] = self._part("rules", dict)
        found: dict[str, list[DecisionFacts]] = {}
        for one in self.endpoints.list():
            going = self.rollouts.active(one.name)
            for bundle in (one.bundle, *([going.candidate] if going is not None else [])):
                if bundle not in known:
                    known[bundle] = self.endpoints.bundle(bundle).decision
                facts = known[bundle]
                if facts is not None and facts.cap is not None:
                    found.setdefault(one.name, []).append(facts)
        return found

    def may_ask(self) -> bool:
        """Whether any rule that has answered here could send a case to people, as far as its text tells."""
        known: dict[str, bool] = self._part("may_ask", dict)
        for row in self.db.rows("SELECT DISTINCT bundle FROM bundles"):
            if (digest := str(row["bundle"])) not in known:
                known[digest] = self._names_people(digest)
        return any(known.values())

    def _names_people(self, digest: str) -> bool:
        from sampan.base.errors import SampanError

        try:
            bundle = self.endpoints.bundle(digest)
            if bundle.decision is not None and bundle.decision.cap is not None:
                return True
            texts = [self.blobs.get(one) for one in bundle.sources.values()]
        except SampanError:
            return True  # what cannot be read may have asked
        return any(word in text for text in texts for word in (b"review", b"Question"))


async def keep_reviewing(hub: "RunningHub") -> None:
    """Until it is cancelled: settle by its safe default what nobody has answered in time."""
    from sampan.app.repeating import repeat

    doing, quiet = partial(settle_due, hub), partial(_quiet, hub)
    await repeat(doing, _LOG, "cases could not be settled", first=0.0, pause=_PAUSE, quiet=quiet)


def settle_due(hub: "RunningHub") -> None:
    """One look at what waits."""
    now = hub.app.clock.micros()
    for case in hub.cases.look():
        if case.due > now or hub.ending:
            break
        hub.desk().lapse(case)


def _quiet(hub: "RunningHub", error: Exception) -> bool:
    from sampan.app.repeating import when_busy

    return hub.ending or when_busy(error)
