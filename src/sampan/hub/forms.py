"""What a page can set going: a run, or the rest of one; and a silence that it can end.

The guard has seen to it that the page was ours.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, quote

from litestar import Response, post
from litestar.handlers import BaseRouteHandler

from sampan.base.errors import SampanError, Usage
from sampan.base.ids import whole
from sampan.base.reports import report
from sampan.hub.doors import Ask, refuse, response
from sampan.hub.render import Answer, Frame
from sampan.hub.urls import Urls
from sampan.models.aliases import NEVER
from sampan.serve.claims import MINUTES
from sampan.team.roles import PRINCIPAL, Principal

_PATIENCE: Final = 10.0  # seconds until a run has begun; it goes on whether or not somebody waits
_LONGEST: Final = 4_000
Told = Callable[[Any], None]


class Works(Protocol):
    """Who does what is asked for. Runs block until their end and tell what happens."""

    def run(self, target: str, sets: dict[str, Any], actor: str, report: Told) -> Any: ...
    def resume(self, run: str, rebase: bool, actor: str, report: Told) -> Any: ...
    def merge(self, branch: str, reason: str, actor: str, report: Told) -> Any: ...
    def approve_replay(self, id: str, reason: str, actor: str, report: Told) -> Any: ...
    def discard_replay(self, id: str, actor: str) -> Any: ...
    def unsilence(self, silence: str, actor: str) -> Any: ...
    def approve(self, ref: str, alias: str, verdict: str, reason: str, actor: str) -> Any: ...
    def move_alias(
        self, model: str, alias: str, version: str | None, reason: str, token: int | None, actor: str
    ) -> Any: ...
    def rollback(self, name: str, to: str, reason: str, actor: str) -> Any: ...
    def tell_rollout(self, endpoint: str, verb: str, reason: str, actor: str, rollout: str = "") -> Any: ...
    def begin_shadow(
        self,
        endpoint: str,
        model: str,
        decision: str,
        thresholds: dict[str, Any],
        sample: float,
        reason: str,
        actor: str,
    ) -> Any: ...
    def end_shadow(self, id: str, reason: str, actor: str) -> Any: ...
    def close_incident(self, id: str, finding: str, actor: str) -> Any: ...
    def begin_trial(self, endpoint: str, thresholds: dict[str, Any], days: int, actor: str) -> Any: ...
    def ask_proposal(self, id: str, reason: str, actor: str) -> Any: ...
    def decide_proposal(self, id: str, verdict: str, reason: str, actor: str) -> Any: ...
    def withdraw_proposal(self, id: str, reason: str, actor: str) -> Any: ...
    def ship_proposal(self, id: str, reason: str, actor: str) -> Any: ...
    def answer_review(self, prediction: str, answer: dict[str, Any], actor: str) -> Any: ...
    def claim_review(self, prediction: str, minutes: float, over: bool, actor: str) -> Any: ...
    def release_review(self, prediction: str, actor: str) -> Any: ...


def forms(works: Works, frame: Callable[[], Frame]) -> list[BaseRouteHandler]:
    """The routes of the forms on pages; each answers with the page that shows what it did."""

    @post("/plan/go", status_code=303)
    async def run(request: Ask, body: bytes) -> Response[bytes]:
        target, who = _field(body, "target"), _who(request)
        return await _set_going(request, lambda told: works.run(target, {}, who, told), frame)

    @post("/runs/{run:str}/go-on", status_code=303)
    async def resume(request: Ask, run: str, body: bytes) -> Response[bytes]:
        rebase, who = _field(body, "rebase") == "yes", _who(request)
        return await _set_going(request, lambda told: works.resume(run, rebase, who, told), frame)

    @post("/branches/{branch:str}/merge", status_code=303)
    async def merge(request: Ask, branch: str, body: bytes) -> Response[bytes]:
        reason, who = _field(body, "reason"), _who(request)
        return await _set_going(request, lambda told: works.merge(branch, reason, who, told), frame)

    @post("/replays/{replay:str}/approve", status_code=303)
    async def approve(request: Ask, replay: str, body: bytes) -> Response[bytes]:
        reason, who = _field(body, "reason"), _who(request)
        return await _set_going(request, lambda told: works.approve_replay(replay, reason, who, told), frame)

    @post("/replays/{replay:str}/discard", status_code=303)
    async def discard(request: Ask, replay: str) -> Response[bytes]:
        try:
            await asyncio.to_thread(works.discard_replay, replay, _who(request))
        except SampanError as error:
            return _refuse(request, error, frame)
        return response(Answer(303, "text/plain", b""), {"location": "/replays"})

    @post("/alerts/silences/{silence:str}/end", status_code=303)
    async def unsilence(request: Ask, silence: str) -> Response[bytes]:
        try:
            await asyncio.to_thread(works.unsilence, silence, _who(request))
        except SampanError as error:
            return _refuse(request, error, frame)
        return response(Answer(303, "text/plain", b""), {"location": "/alerts"})

    @post("/models/{model:str}/{number:str}/alias", status_code=303)
    async def name_it(request: Ask, model: str, number: str, body: bytes) -> Response[bytes]:
        alias, reason = _field(body, "alias"), _field(body, "reason")
        given = (model, alias, number, reason, _seen(body, alias), _who(request))
        try:
            await asyncio.to_thread(works.move_alias, *given)
        except SampanError as error:
            return _refuse(request, error, frame)
        return response(Answer(303, "text/plain", b""), {"location": f"/models/{quote(model)}/{quote(number)}"})

    @post("/models/{model:str}/{number:str}/decide", status_code=303)
    async def decide(request: Ask, model: str, number: str, body: bytes) -> Response[bytes]:
        ref, alias, verdict, me = f"{model}@{number}", _field(body, "alias"), _field(body, "verdict"), _who(request)
        try:
            await asyncio.to_thread(works.approve, ref, alias, verdict, _field(body, "reason"), me)
        except SampanError as error:
            return _refuse(request, error, frame)
        return response(Answer(303, "text/plain", b""), {"location": Urls.promotion(ref, alias)})

    @post("/endpoints/{name:str}/back", status_code=303)
    async def roll_back(request: Ask, name: str, body: bytes) -> Response[bytes]:
        to, reason = _field(body, "to"), _field(body, "reason")
        try:
            await asyncio.to_thread(works.rollback, name, to, reason, _who(request))
        except SampanError as error:
            return _refuse(request, error, frame)
        return response(Answer(303, "text/plain", b""), {"location": Urls.endpoint(name)})

    @post("/rollouts/{rollout:str}/{verb:str}", status_code=303)
    async def tell(request: Ask, rollout: str, verb: str, body: bytes) -> Response[bytes]:
        given = ("", verb, _field(body, "reason"), _who(request), rollout)
        try:
            await asyncio.to_thread(works.tell_rollout, *given)
        except SampanError as error:
            return _refuse(request, error, frame)
        return response(Answer(303, "text/plain", b""), {"location": Urls.rollout(rollout)})

    @post("/shadows", status_code=303)
    async def begin_shadow(request: Ask, body: bytes) -> Response[bytes]:
        name = _field(body, "name")
        try:
            none: dict[str, Any] = {}
            given = (name, _field(body, "model"), "", none, _share(body), _field(body, "reason"), _who(request))
            await asyncio.to_thread(works.begin_shadow, *given)
        except SampanError as error:
            return _refuse(request, error, frame)
        return response(Answer(303, "text/plain", b""), {"location": Urls.shadows(name)})

    @post("/shadows/{shadow:str}/end", status_code=303)
    async def end_shadow(request: Ask, shadow: str, body: bytes) -> Response[bytes]:
        try:
            await asyncio.to_thread(works.end_shadow, shadow, _field(body, "reason"), _who(request))
        except SampanError as error:
            return _refuse(request, error, frame)
        return response(Answer(303, "text/plain", b""), {"location": Urls.shadow(shadow)})

    @post("/incidents/{incident:str}/end", status_code=303)
    async def close(request: Ask, incident: str, body: bytes) -> Response[bytes]:
        finding, me = _field(body, "finding"), _who(request)
        try:
            await asyncio.to_thread(works.close_incident, incident, finding, me)
        except SampanError as error:
            return _refuse(request, error, frame)
        return response(Answer(303, "text/plain", b""), {"location": Urls.incident(incident)})

    @post("/reviews/{prediction:str}/answer", status_code=303)
    async def answer(request: Ask, prediction: str, body: bytes) -> Response[bytes]:
        reason = _field(body, "reason").replace("\r\n", "\n")
        said: dict[str, Any] = {"action": _field(body, "action"), "reason": reason}
        if label := _field(body, "label"):
            said["label"] = {"true": True, "false": False}.get(label, label)
        where = Urls.reviews(endpoint=_field(body, "endpoint"), after=_field(body, "after"))
        try:
            await asyncio.to_thread(works.answer_review, prediction, said, _who(request))
        except SampanError as error:
            return _refuse(request, error, frame)
        return response(Answer(303, "text/plain", b""), {"location": where})

    @post("/reviews/{prediction:str}/claim", status_code=303)
    async def claim(request: Ask, prediction: str, body: bytes) -> Response[bytes]:
        given = (prediction, MINUTES, _field(body, "over") == "yes", _who(request))
        try:
            await asyncio.to_thread(works.claim_review, *given)
        except SampanError as error:
            return _refuse(request, error, frame)
        where = Urls.reviews(endpoint=_field(body, "endpoint"), after=_field(body, "after"))
        return response(Answer(303, "text/plain", b""), {"location": where})

    @post("/reviews/{prediction:str}/release", status_code=303)
    async def release(request: Ask, prediction: str, body: bytes) -> Response[bytes]:
        try:
            await asyncio.to_thread(works.release_review, prediction, _who(request))
        except SampanError as error:
            return _refuse(request, error, frame)
        where = Urls.reviews(endpoint=_field(body, "endpoint"), after=_field(body, "after"))
        return response(Answer(303, "text/plain", b""), {"location": where})

    known = [
        run,
        resume,
        merge,
        approve,
        discard,
        unsilence,
        name_it,
        decide,
        roll_back,
        tell,
        close,
        begin_shadow,
        end_shadow,
    ]
    known += [answer, claim, release]
    return [*known, *_proposing(works, frame)]


def _proposing(works: Works, frame: Callable[[], Frame]) -> list[BaseRouteHandler]:
    """The forms of thresholds and proposals."""

    @post("/endpoints/{name:str}/thresholds/try", status_code=303)
    async def try_out(request: Ask, name: str, body: bytes) -> Response[bytes]:
        asked = parse_qs(body[:_LONGEST].decode("utf-8", "replace"), keep_blank_values=True)
        given = {key[4:]: value[0].strip() for key, value in asked.items() if key.startswith("set.")}
        days = whole(_field(body, "days")) or 0
        try:
            made = await asyncio.to_thread(works.begin_trial, name, given, days, _who(request))
        except SampanError as error:
            return _refuse(request, error, frame)
        return response(Answer(303, "text/plain", b""), {"location": Urls.proposal(made["proposal"]["id"])})

    def form(verb: str, work: Callable[[str, bytes, str], Any]) -> BaseRouteHandler:
        @post(f"/proposals/{{proposal:str}}/{verb}", status_code=303, name=f"{verb} proposal")
        async def told(request: Ask, proposal: str, body: bytes) -> Response[bytes]:
            try:
                await asyncio.to_thread(work, proposal, body, _who(request))
            except SampanError as error:
                return _refuse(request, error, frame)
            return response(Answer(303, "text/plain", b""), {"location": Urls.proposal(proposal)})

        return told

    return [
        try_out,
        form("ask", lambda id, body, me: works.ask_proposal(id, _field(body, "reason"), me)),
        form("withdraw", lambda id, body, me: works.withdraw_proposal(id, _field(body, "reason"), me)),
        form("ship", lambda id, body, me: works.ship_proposal(id, _field(body, "reason"), me)),
        form(
            "decide",
            lambda id, body, me: works.decide_proposal(id, _field(body, "verdict"), _field(body, "reason"), me),
        ),
    ]


def _field(body: bytes, name: str) -> str:
    return parse_qs(body[:_LONGEST].decode("utf-8", "replace")).get(name, [""])[0].strip()


def _share(body: bytes) -> float:
    """Of the entities, those whose requests a shadow sees; all, where nothing is said. Raises Usage."""
    given = _field(body, "sample") or "1"
    try:
        return float(given)
    except ValueError:
        raise Usage("Begin a shadow", f"a sample of {given[:40]!r}", "A share: more than 0, at most 1.") from None


def _seen(body: bytes, alias: str) -> int:
    """The state of an alias that the page showed: another's change since then is not written over."""
    for one in parse_qs(body[:_LONGEST].decode("utf-8", "replace")).get("seen", []):
        name, _, token = one.partition("=")
        if name == alias:
            return whole(token) or NEVER
    return NEVER


def _who(request: Ask) -> str:
    principal: Principal = dict(request.scope)[PRINCIPAL]  # type: ignore[assignment]
    return principal.name


def _refuse(request: Ask, error: SampanError, frame: Callable[[], Frame]) -> Response[bytes]:
    around = frame()
    around.who = _who(request)
    return refuse(request, error.status, error, around)


async def _set_going(request: Ask, work: Callable[[Told], Any], frame: Callable[[], Frame]) -> Response[bytes]:
    """Begin in a thread of its own; answer once the run has an id, or with what kept it from beginning."""
    begun: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def settle(outcome: "str | SampanError") -> None:
        def set_it() -> None:
            if not begun.done():
                if isinstance(outcome, SampanError):
                    begun.set_exception(outcome)
                else:
                    begun.set_result(outcome)

        loop.call_soon_threadsafe(set_it)

    def told(event: Any) -> None:
        if event.get("run"):
            settle(str(event["run"]))

    def labour() -> None:
        try:
            done = work(told)
            settle(str(done.get("run") or ""))
        except SampanError as error:
            settle(error)
        except BaseException as error:
            settle(SampanError("Run the flow", type(error).__name__, f"Details: {report(error)}"))
            raise

    threading.Thread(target=labour, daemon=True, name="work").start()
    try:
        run = await asyncio.wait_for(asyncio.shield(begun), _PATIENCE)
    except TimeoutError:
        run = ""  # another run is going on; this one waits for it
    except SampanError as error:
        return _refuse(request, error, frame)
    where = f"/runs/{quote(run)}" if run else "/runs"
    return response(Answer(303, "text/plain", b""), {"location": where})
