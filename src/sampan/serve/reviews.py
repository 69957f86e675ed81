"""Cases that rules have sent to people: what waits, until when, and what became of each. All of it stands in the log.

A prediction that says ``review`` opens a case; an event of the stream ``reviews`` settles it, once: the stream knows
its sources and ids, so a second word on a case is seen and refused. What nobody answers in time is settled by the
safe default, which the caller was told already.
"""

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.clock import Clock, iso, to_micros
from sampan.base.errors import Conflict, Damaged, NotFound, SampanError, Usage
from sampan.lake.query import Source, open_sources, quote_text
from sampan.serve.answer import worth
from sampan.serve.bundle import Bundle
from sampan.serve.claims import LONGEST, Claim, Claims

if TYPE_CHECKING:
    from sampan.log.log import Log
    from sampan.log.position import Position
    from sampan.log.writer import StreamWriter

STREAM: Final = "reviews"
_SOURCE: Final = "review/"  # followed by the endpoint's name
_REASON: Final = 2_000
_LABEL: Final = 200
_CASES: Final = """
WITH told AS (
    SELECT prediction_id AS id, endpoint AS whose, action, author, reason, label, lapsed, epoch_us(_time) AS done, value
    FROM review WHERE starts_with(_position, 'reviews:')
)
SELECT
    _id, prediction.endpoint, entity, epoch_us(_received), version, bundle, prediction.prediction::VARCHAR,
    prediction.action, rule, features::VARCHAR, context::VARCHAR, prediction.value::VARCHAR, review::VARCHAR,
    told.action, told.author, told.reason, told.label::VARCHAR, told.lapsed, told.done, told.value::VARCHAR
FROM prediction LEFT JOIN told ON told.id = _id AND whose = prediction.endpoint
"""
_REST: Final = 5.0  # times what a look took, it rests before the next
_DAY: Final = 86_400_000_000


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a case; ``lapsed``: nobody answered, the safe default stands. ``at``: by the clock of the log."""

    action: str
    by: str
    reason: str
    label: bool | float | str | None
    lapsed: bool
    at: int
    value: dict[str, Any] | None = None
    """What the action earns under each outcome."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction that people are asked about. Times in microseconds; ``safe`` stands until somebody answers."""

    id: str
    endpoint: str
    entity: str
    asked: int
    due: int
    version: str
    bundle: str
    prediction: Any
    safe: str
    rule: str
    choices: tuple[str, ...]
    features: dict[str, Any]
    context: dict[str, Any]
    value: dict[str, Any] | None
    settled: Settled | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody says of a case: the action to take, why, and, if he knows, what is true of it (``label``)."""

    action: str
    reason: str = ""
    label: bool | float | str | None = None


# -- what there is


def cases(
    log: "Log",
    *,
    by: int | None = None,
    waiting: bool | None = None,
    endpoint: str = "",
    since: int | None = None,
    id: str = "",
    limit: int = 0,
) -> list[Case]:
    """Cases, those due first before those settled last; ``by``: as known at an instant. ``waiting``: only those that
    wait (True) or do not (False); ``since``: only those settled from then on; ``limit``: of the settled so many."""
    position = log.position()
    if not log.state("prediction", position).count:
        return []
    where = ["prediction.review IS NOT NULL", "starts_with(prediction._position, 'serve-')"]
    if endpoint:
        where.append(f"prediction.endpoint = {quote_text(endpoint)}")
    if id:
        where.append(f"_id = {quote_text(id)}")
    if waiting is not None:
        where.append(f"told.id IS {'' if waiting else 'NOT '}NULL")
    if since is not None:
        where.append(f"told.done >= {since}")
    order = "told.done DESC, review->>'due', _received, _id"
    newest = f" QUALIFY told.id IS NULL OR row_number() OVER (PARTITION BY told.id IS NULL ORDER BY {order}) <= {limit}"
    rows = _ask(
        log,
        position,
        by,
        f"{_CASES} WHERE {' AND '.join(where)}{newest if limit else ''} ORDER BY told.done IS NOT NULL, {order}",
    )
    return [_case(row) for row in rows]


def _ask(log: "Log", position: "Position", by: int | None, sql: str) -> list[tuple[Any, ...]]:
    sources: dict[str, Source] = {name: log.source(name, position, by) for name in ("prediction", "review")}
    connection = open_sources(sources, threads=2)
    try:
        rows: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
        return rows
    finally:
        connection.close()


def _case(row: tuple[Any, ...]) -> Case:
    id, endpoint, entity, received, version, bundle, said, action, rule, *texts = row[:13]
    features, context, value, asking = (_json(text) for text in texts)
    chosen, who, reason, label, lapsed, at, value_then = row[13:]
    settled = None
    if at is not None:
        told = {"label": _json(label), "value": _json(value_then)}
        settled = Settled(action=chosen, by=who, reason=reason, lapsed=lapsed, at=at, **told)
    return Case(
        id=id,
        endpoint=endpoint,
        entity=entity,
        asked=received,
        due=_instant(asking["due"]),
        version=version,
        bundle=bundle,
        prediction=_json(said),
        safe=action,
        rule=rule,
        choices=tuple(asking["choices"]),
        features=features or {},
        context=context or {},
        value=value,
        settled=settled,
    )


def find(log: "Log", prediction: str) -> Case:
    """The case of a prediction, as its event opened it: whether it is settled, the stream's writer knows. Raises
    NotFound for a prediction that nobody is asked about."""
    attempted = f"Find the case {prediction[:100]!r}"
    event = log.find(prediction, type="prediction")
    if event is None or not event.position.startswith("serve-"):
        raise NotFound(attempted, "no prediction has this id", "`sampan review list` shows what waits.")
    data = msgspec.json.decode(event.data)
    if not (asking := data.get("review")):
        said = f"no rule has sent it to people; {data.get('rule') or 'none'!r} decided it"
        raise NotFound(attempted, said, "`sampan review list` shows what waits.")
    return Case(
        id=prediction,
        endpoint=data["endpoint"],
        entity=data["entity"],
        asked=event.received,
        due=_instant(asking["due"]),
        version=data["version"],
        bundle=data["bundle"],
        prediction=data["prediction"],
        safe=data["action"],
        rule=data["rule"],
        choices=tuple(asking["choices"]),
        features=data["features"],
        context=data.get("context") or {},
        value=data.get("value"),
    )


# -- what becomes of them


class Desk:
    """Settles cases, one at a time and each once; ``bundle`` opens what decided one, by its digest."""

    def __init__(self, writer: "StreamWriter", bundle: Callable[[str], Bundle], clock: Clock, claims: Claims) -> None:
        self._writer, self._bundle, self._clock, self._claims = writer, bundle, clock, claims
        self._turn = threading.Lock()

    def answer(self, case: Case, said: Answer, who: str) -> Settled:
        """Settle a case as somebody says. Raises Usage; Conflict where it is settled, with by whom, or where somebody
        else is at work on it."""
        attempted = f"Answer the case {case.id[:100]}"
        if said.action not in case.choices:
            raise Usage(
                attempted,
                f"{said.action[:60]!r} is none of its choices",
                f"One of {', '.join(case.choices)}.",
                field="action",
            )
        for field, text, most in (("reason", said.reason, _REASON), ("label", str(said.label), _LABEL)):
            if len(text) > most:
                raise Usage(attempted, f"{field}: {len(text):,} characters", f"Up to {most:,}.", field=field)
        with self._turn:
            now = self._clock.micros()
            if (done := self.settled(case)) is None and now >= case.due:
                done = self._write(case, case.safe, due=True)
            if done is not None:
                raise _settled(attempted, done)
            self._claims.check(attempted, case.endpoint, case.id, who)
            return self._write(case, said.action, by=who, reason=said.reason.strip(), label=said.label)

    def claim(self, case: Case, who: str, minutes: float, over: bool) -> Claim:
        """Be at work on a case, so that nobody else answers it; until its deadline at the latest. Raises Usage, and
        Conflict where it is settled, or somebody else is at work on it and is not to give it up (``over``)."""
        attempted = f"Claim the case {case.id[:100]}"
        if not 0 < minutes <= LONGEST:
            raise Usage(attempted, f"for {minutes:g} minutes", f"More than 0, up to {LONGEST:g}.", field="minutes")
        with self._turn:
            now = self._clock.micros()
            if (done := self.settled(case)) is not None:
                raise _settled(attempted, done)
            if now >= case.due:
                raise Conflict(attempted, f"its time was over at {iso(case.due)[:19]}Z", "The safe default stands.")
            until = min(now + round(minutes * 60_000_000), case.due)
            return self._claims.take(attempted, case.endpoint, case.id, who, until, over)

    def release(self, case: Case, who: str) -> None:
        """Leave a case to others. Raises Conflict where somebody else is at work on it."""
        with self._turn:
            self._claims.release(f"Release the case {case.id[:100]}", case.endpoint, case.id, who)

    def lapse(self, case: Case) -> bool:
        """Settle a case by its safe default, its time being over; False where somebody was faster."""
        with self._turn:
            if self._clock.micros() < case.due or self.settled(case) is not None:
                return False
            self._write(case, case.safe, due=True)
            return True

    def settled(self, case: Case) -> Settled | None:
        """What became of a case, as the stream has it."""
        raw = self._writer.alone(lambda: self._writer.find(_SOURCE + case.endpoint, case.id))
        if raw is None:
            return None
        event = msgspec.json.decode(raw)
        data = event["data"]
        return Settled(
            action=data["action"],
            by=data["author"],
            reason=data["reason"],
            label=data["label"],
            lapsed=data["lapsed"],
            at=_instant(event["time"]),
            value=data["value"],
        )

    def close(self) -> None:
        """Let nobody settle anything any more; what is under way ends first."""
        with self._turn:
            self._writer.close()

    def _write(
        self, case: Case, action: str, *, due: bool = False, by: str = "", reason: str = "", label: Any = None
    ) -> Settled:
        at = case.due if due else self._clock.micros()
        value = case.value if action == case.safe else self._worth(case, action)
        event: dict[str, Any] = {
            "id": case.id,
            "type": "review",
            "source": _SOURCE + case.endpoint,
            "time": iso(at),
            **({"subject": case.entity} if case.entity else {}),
            "data": {
                "prediction_id": case.id,
                "endpoint": case.endpoint,
                "action": action,
                "due": iso(case.due),
                "author": by,
                "reason": reason,
                "label": label,
                "lapsed": due,
                "value": value,
            },
        }
        batch = self._writer.alone(lambda: self._writer.checker.batch([msgspec.json.encode(event)], ours=True))
        answer = self._writer.append(batch, by or STREAM)
        if not answer.accepted:
            odd = next(iter(answer.verdicts()))
            raise Damaged(
                f"Settle the case {case.id[:100]}", f"its event was {odd.verdict}: {odd.reason}", "Try again."
            )
        return Settled(action=action, by=by, reason=reason, label=label, lapsed=due, at=at, value=value)

    def _worth(self, case: Case, action: str) -> dict[str, Any] | None:
        """What another action than the safe one earns, by the values of the bundle that decided."""
        try:
            bundle = self._bundle(case.bundle)
        except SampanError:
            return None  # an event may name any bundle
        return worth_of(bundle, case.prediction, action)


def worth_of(bundle: Bundle, output: Any, action: str) -> dict[str, Any] | None:
    """What an action earns under each outcome, by the values of the bundle that decided."""
    signature = bundle.model.signature
    if bundle.decision is None:
        return None
    if isinstance(output, list):
        output = dict(zip(map(str, signature.classes), output, strict=False))
    return worth(bundle.decision, output, action, signature.output in ("probability", "probabilities"))


class Watching:
    """Knows what waits, and what lapsed within a day, without reading everything again: it asks where the log has
    grown, and rests a while after a look that took long. ``may_ask``: whether any rule could send a case to people."""

    def __init__(self, log: Callable[[], "Log"], may_ask: Callable[[], bool], clock: Clock) -> None:
        self._log, self._may_ask, self._clock = log, may_ask, clock
        self._seen = ""
        self._next = 0.0
        self._turn = threading.Lock()
        self.waiting: list[Case] = []
        self.lapsed: list[Case] = []

    def look(self) -> list[Case]:
        """What waits now, the most urgent first."""
        with self._turn:
            began = time.monotonic()
            if began < self._next or not self._may_ask():
                return self.waiting
            log = self._log()
            streams = {name: last for name, last in log.position().items() if name.startswith(("serve-", STREAM))}
            day = self._clock.micros() - _DAY
            if (seen := str(sorted(streams.items()))) != self._seen:
                self.waiting = cases(log, waiting=True)
                self.lapsed = [
                    one for one in cases(log, waiting=False, since=day) if one.settled and one.settled.lapsed
                ]
                self._seen = seen
                ended = time.monotonic()
                self._next = ended + _REST * (ended - began)
            self.lapsed = [one for one in self.lapsed if one.settled is not None and one.settled.at >= day]
            return self.waiting


def _settled(attempted: str, done: Settled) -> Conflict:
    at = iso(done.at)[:19]
    if done.lapsed:
        said = f"its time was over at {at}Z; nobody had answered, so the safe default {done.action!r} stands"
        return Conflict(attempted, said, "Say what is true of it by an outcome.")
    return Conflict(attempted, f"{done.by or 'somebody'} has answered {done.action!r} at {at}Z", "One answer counts.")


def _instant(text: str) -> int:
    return to_micros(datetime.fromisoformat(text))


def _json(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
