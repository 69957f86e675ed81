"""One request from its records to its answer and its prediction events; no sockets, no disk.

Each record holds the model's inputs, the entity, and whatever else the rules read. How it is read: ``reader``; in which
words it comes and the answer goes: ``faces``.
"""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.clock import Clock, iso
from sampan.base.errors import SampanError
from sampan.log.attachments import Attachments
from sampan.models.inputs import Numbers
from sampan.models.values import Packed
from sampan.serve.alarm import BEFORE, MODEL, RULE, Alarm
from sampan.serve.assignment import CHAMPION
from sampan.serve.bundle import DecisionFacts, OpenBundle, place_of
from sampan.serve.decisions import MOST, Action, Prediction, Question, expected_value
from sampan.serve.exposure import Caps, Kept, Ledger
from sampan.serve.faces import NATIVE, Said, face, pack
from sampan.serve.live import Live
from sampan.serve.noted import Blobs, noted_output, restored, restored_output
from sampan.serve.overload import TooSlow
from sampan.serve.plain import plain_of
from sampan.serve.reader import Reader
from sampan.serve.verdict import Answered, Arm, Asked, Author, Data, Verdict, Written

if TYPE_CHECKING:
    from sampan.models.formats import Output

SOURCE: Final = "serve/"  # followed by the endpoint's name: the source of its prediction events
_REASON: Final = 300  # characters of why it is not the model that answers

_encode = msgspec.json.Encoder().encode


class Answerer(Reader):
    """Predicts and decides for one endpoint and one bundle, of which it reads what is asked."""

    def __init__(self, endpoint: str, opened: OpenBundle, clock: Clock, data: Path | None = None) -> None:
        """``data``: the folder of the workspace's data, where features may be looked up."""
        self.live = opened.predictor if isinstance(opened.predictor, Live) else None
        super().__init__(opened.bundle, clock, data, live=self.live is not None)
        self.endpoint = endpoint
        self._source = SOURCE + endpoint
        self._predict: Callable[[Sequence[Mapping[str, Any]]], list[Output]] = opened.predictor.predict
        self._decision: Callable[..., Action] | None = opened.decision
        self.alarm = Alarm()  # which rings nowhere
        self.author = Author(opened.bundle.version, opened.bundle.digest, self._inputs)
        self._own = Arm(self.author, {})
        #: Versions whose classes are known to be one's own: a candidate's, too.
        self.alike = {opened.bundle.version}
        self._substitute = opened.substitute
        self.before: Answerer | None = None  # that answers where the model does not
        self.free: bool = getattr(opened.predictor, "free", False)  # it computes without the interpreter's lock
        self._form = opened.form
        self._attachments = Attachments(data / "attachments") if data else None
        self._probable = opened.bundle.model.signature.output in ("probability", "probabilities")
        self._classes = tuple(str(label) for label in opened.bundle.model.signature.classes)
        facts = opened.bundle.decision
        self.facts = facts
        self._thresholds = facts.thresholds if facts else {}
        self._default = facts.default if facts else None
        self._caps = Caps(facts)

    def recall_from(self, data: Path) -> None:
        """Have large tensors and bytes of past records read from a workspace's data."""
        self._attachments = Attachments(data / "attachments")

    def recalled(self, record: dict[str, Any]) -> dict[str, Any]:
        """A record as it was sent, from what its event says. Raises NotFound, Damaged."""
        return restored(record, self.heavy, self._attachments) if self.heavy and self._attachments else record

    def predict(self, records: Sequence[Mapping[str, Any]]) -> "list[Output]":
        """Raw model output per record. Raises Usage for a record that does not fit the signature."""
        return self._predict(records)

    def instead(self, records: Sequence[Mapping[str, Any]], why: str) -> list[Verdict] | None:
        """What is declared for when the model does not answer; None if nothing is, or it does not answer either."""
        try:
            if self.before is not None:
                said = self.before.judge(records, self.before.predict(records))
                return self.in_place(said, why)
            if self._substitute is not None:
                said = self.judge(records, [self._substitute(record) for record in records])
            else:
                return None
        except Exception as error:  # noqa: BLE001 - the user's function, or another model
            sys.stderr.write(f"The fallback did not answer: {type(error).__name__}: {error}\n")
            return None
        return [msgspec.structs.replace(one, form="") for one in self.in_place(said, why)]

    @property
    def asks(self) -> "Live | None":
        """The live service that answers where the model does not, if one does: it is called, not computed."""
        return None if self.before is None else self.before.live

    @staticmethod
    def in_place(said: Sequence[Verdict], why: str) -> list[Verdict]:
        """What another than the model has said, told as such."""
        return [msgspec.structs.replace(one, fallback=why) for one in said]

    def guard(self, alarm: Alarm, stand_in: bool = False) -> None:
        """Have the model and the rules interrupted when they take too long; ``stand_in``: for another bundle's."""
        self.alarm = alarm
        if self.live is None:  # a service has a time-out of its own
            self._predict = alarm.guard(self._predict, BEFORE if stand_in else MODEL)
        if self._decision is not None:
            self._decision = alarm.guard(self._decision, BEFORE if stand_in else RULE)
        if self._substitute is not None:
            self._substitute = alarm.guard(self._substitute, RULE)

    def fall_back_to(self, before: "Answerer") -> None:
        """Where the model does not answer, another bundle does."""
        before.guard(self.alarm, stand_in=True)
        if self.asks is not None:
            self.asks.close()
        self.before = before
        self.alike.add(before.author.version)

    def decide(self, asked: Asked, outputs: "Sequence[Output]") -> Answered:
        """Apply the rules; one event and one answer per record."""
        return self.tell(asked, self.judge(asked.records, outputs), counted=False)

    def resume(self, kept: Kept) -> None:
        """Count from now on what decisions put at risk, on top of what the stream that it has taken says."""
        self._caps.resume(kept, self._clock.micros())

    def beside(self, facts: DecisionFacts | None) -> None:
        """Hold by the cap of these rules, too, which decide about a part of the records; None if none do."""
        self._caps.beside(facts, self._clock.micros())

    def judge(self, records: Sequence[Mapping[str, Any]], outputs: "Sequence[Output]") -> list[Verdict]:
        """Apply the rules."""
        if self.facts is None:
            return [Verdict(output, form=self._form) for output in outputs]
        verdicts = []
        for record, output in zip(records, outputs, strict=True):
            prediction = self._prediction(output)
            action, rule, error, question = self._act(prediction, record)
            value = self._value(prediction, action)
            verdicts.append(Verdict(output, action, rule, value, error, question, form=self._form))
        return verdicts

    def tell(
        self,
        asked: Asked,
        verdicts: Sequence[Verdict],
        arms: Sequence[Arm] | None = None,
        counted: bool = True,
    ) -> Answered:
        """One answer and one event per record; ``arms``: whose verdicts they are, where not all are one's own.
        ``counted``: whether they count towards the day's cap, whoever's verdicts they are."""
        whose = [self._own] * len(verdicts) if arms is None else arms
        if isinstance(asked.records, Numbers) and (plainly := self._plainly(asked, asked.records, verdicts, whose)):
            return plainly
        ledger = self._caps.ledger if counted else None
        answers: list[dict[str, Any]] = []
        events: list[Written] = []
        sure = True
        blobs: Blobs = {} if asked.blobs is None else asked.blobs
        when = iso(asked.time)
        latency = round((time.perf_counter() - asked.arrived) * 1e6)
        written = asked.written
        rows = zip(asked.records, asked.ids, verdicts, whose, strict=True)
        for place, (record, identity, verdict, arm) in enumerate(rows):
            author = arm.author
            entity = self.about(record)
            row, where = written[place], asked.looked_up[place] if asked.looked_up else ""
            if verdict.record is not None:
                record, row, where = verdict.record, verdict.record, verdict.looked_up
                blobs.update(verdict.blobs or ())
            if verdict.fallback and self.before is not None:
                author = self.before.author
            told = arm.told
            if ledger is not None:
                verdict, exposure = self._within(ledger, verdict, record, arm.author is not self.author)
                told = {**told, "exposure": exposure}
            answer = {
                "id": identity,
                "prediction": self._prediction(verdict.output),
                "action": verdict.action,
                "rule": verdict.rule,
                "version": author.version,
                "bundle": author.bundle,
            }
            if variant := told.get("variant"):
                answer["variant"] = variant
            if verdict.error:
                answer["error"] = verdict.error
            if verdict.question is not None:
                answer["review"] = asking = self._asking(verdict.question)
                told = {**told, "review": asking}
            if verdict.form:
                answer["form"] = verdict.form
                told = {**told, "form": verdict.form}
            if verdict.fallback:
                answer["fallback"] = verdict.fallback
                reasons = filter(None, (told.get("fallback"), verdict.fallback))
                told = {**told, "fallback": "; ".join(reasons)[:_REASON]}
            answers.append(answer)
            sure = sure and _sound(verdict)
            features: Any
            context: dict[str, Any]
            if isinstance(written, Numbers) and author.inputs == written.inputs:
                features, context = written.raws[place], {}
            else:
                features, context = self.split(row, author.inputs)
            output = verdict.output
            data: Any = Data(
                self.endpoint,
                author.version,
                author.bundle,
                entity,
                features,
                context,
                noted_output(output, blobs) if type(output) is Packed else output,
                verdict.action,
                verdict.rule,
                verdict.value,
                latency,
                verdict.error,
            )
            if where:
                told = {**told, "looked_up": where}
            if told:
                data = {**msgspec.structs.asdict(data), **told}
            events.append(Written(identity, "prediction", self._source, when, data, entity or msgspec.UNSET))
        return Answered(answers, list(map(_encode, events)), sure, blobs or None)

    def _plainly(
        self, asked: Asked, records: Numbers, verdicts: Sequence[Verdict], arms: Sequence[Arm]
    ) -> Answered | None:
        """As ``tell``, of records that are numbers alone, and of what models have said to them; None where more than
        that is to be told."""
        groups: dict[tuple[int, str], list[int]] = {}
        for place, (verdict, arm) in enumerate(zip(verdicts, arms, strict=True)):
            if verdict.fallback or verdict.error or verdict.action or arm.author.inputs != records.inputs:
                return None
            groups.setdefault((id(arm), verdict.form), []).append(place)
        answers: dict[int, dict[str, Any]] = {}
        events: dict[int, bytes] = {}
        latency, when = round((time.perf_counter() - asked.arrived) * 1e6), iso(asked.time)
        for (_, form), places in groups.items():
            arm = arms[places[0]]
            plain = plain_of(self.endpoint, self._source, arm.author, form, tuple(arm.told.items()))
            ids, raws = [asked.ids[at] for at in places], [records.raws[at] for at in places]
            outputs = [verdicts[at].output for at in places]
            said = zip(places, ids, outputs, strict=True)
            answers |= {at: {"id": id, "prediction": self._prediction(output), **plain.said} for at, id, output in said}
            events |= zip(places, plain.events(ids, when, raws, outputs, latency), strict=True)
        everywhere = range(len(verdicts))
        return Answered(
            [answers[at] for at in everywhere], [events[at] for at in everywhere], all(map(_sound, verdicts))
        )

    def say(self, asked: Asked, answers: Sequence[Mapping[str, Any]]) -> tuple[int, bytes]:
        """Status and body of the answer: 500 if a rule failed without a safe default, else 200."""
        said = Said(answers, self._bundle, self._failed(answers))
        body, headers = face(asked.face).write(said, asked.wanted)
        return 500 if said.error else 200, body if asked.face == NATIVE else pack(headers, body)

    def _failed(self, answers: Sequence[Mapping[str, Any]]) -> SampanError | None:
        for place, answer in enumerate(answers):
            if answer.get("error") and not answer["action"]:
                name = self.facts.name if self.facts else ""
                return SampanError(
                    f"Decide with {name!r}",
                    f"record {place}: {answer['error']}",
                    "Mend the rule, or declare a safe action: @decision(default=...).",
                )
        return None

    def same(self, record: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
        """Whether a stored prediction was made for this record, as it came."""
        if data.get("looked_up"):
            kept = {**data["features"], **data.get("context", {})}
            if self._entity:
                kept[self._entity] = data["entity"]
            return all(name in kept and _alike(value, kept[name]) for name, value in record.items())
        sent = {name: value for name, value in record.items() if name != self._entity}
        entity = self._name(record, 0) if self._entity else ""
        return entity == data["entity"] and sent == {**data["features"], **data.get("context", {})}

    def retell(self, identity: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """The answer that was given when a stored prediction was made."""
        same_version = data["version"] in self.alike  # else the classes may be others
        answer = {
            "id": identity,
            "prediction": self._prediction(data["prediction"]) if same_version else data["prediction"],
            **{name: data[name] for name in ("action", "rule", "version", "bundle")},
        }
        told = ["error", "review", "form", *(["fallback"] if data.get("variant", CHAMPION) == CHAMPION else [])]
        told += ["variant"] if data.get("rollout") else []
        return {**answer, **{name: data[name] for name in told if data.get(name)}}

    def split(self, record: dict[str, Any], inputs: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
        """A record's model inputs, and what else the rules can read."""
        if inputs == tuple(record) and not self._entity:
            return record, {}
        features = {name: record.get(name) for name in inputs}
        more = record.keys() - features.keys()
        more.discard(self._entity)
        return features, {name: value for name, value in record.items() if name in more} if more else {}

    def _prediction(self, output: Any) -> Prediction:
        if isinstance(output, list):
            return dict(zip(self._classes, output, strict=True))
        if type(output) is Packed or type(output) is dict:
            output = output.array.tolist() if type(output) is Packed else restored_output(output, self._attachments)
        prediction: Prediction = output
        return prediction

    def _within(
        self, ledger: Ledger, verdict: Verdict, record: Mapping[str, Any], theirs: bool
    ) -> tuple[Verdict, dict[str, Any]]:
        """A verdict, or a safe default where the day's cap holds it back; and what its event says of the day.
        ``theirs``: it is a candidate's."""
        facts = self._caps.strictest
        assert facts is not None and facts.cap is not None
        cap, safe = facts.cap, facts.default or ""
        day = ledger.day(self._clock.micros())
        risk = self._caps.risk(verdict.action, record, verdict.value, theirs)
        held = bool(risk.said) or not ledger.take(risk.amount, cap.amount)
        exposure: dict[str, Any] = {"risk": risk.amount, "day": day, "total": ledger.total, "cap": cap.amount}
        if not held:
            return verdict, exposure
        exposure |= {"risk": 0.0, "held": verdict.action, "asked": risk.amount, "rule": verdict.rule}
        rule = f"cap: {cap.amount:,.0f} {facts.currency} a day".replace("  ", " ")
        question = None
        if cap.over == "review" and not risk.said:
            choices = tuple(dict.fromkeys((verdict.action, *facts.values)))[: MOST - 1]
            question = Question(cap.hours * 3600, (*choices, *(() if safe in choices else (safe,))))
        value = worth(facts, self._prediction(verdict.output), safe, self._probable)
        changed = {"action": safe, "rule": rule, "value": value, "question": question}
        if risk.said:
            changed |= {"rule": "safe default: the risk is not known", "error": risk.said}
        return msgspec.structs.replace(verdict, **changed), exposure

    def _asking(self, question: Question) -> dict[str, Any]:
        """Until when people may choose, and from what."""
        due = self._clock.micros() + round(question.seconds * 1e6)
        return {"due": iso(due), "choices": list(question.choices)}

    def _act(self, prediction: Prediction, record: Mapping[str, Any]) -> tuple[str, str, str, Question | None]:
        """(action, rule, error, what people are asked) for one record."""
        if self._decision is None:
            return "", "", "", None
        try:
            action = self._decision(prediction, dict(record), **self._thresholds)
        except TooSlow as error:
            if self._default is None:
                raise
            reason = error.obstacle
        except SampanError as error:
            reason = error.obstacle
        except Exception as error:  # noqa: BLE001 - the rules are the user's, and one bad rule must not stop the rest
            reason = f"{place_of(error)}{type(error).__name__}: {error}"
        else:
            return action.name, action.rule, "", action.question
        if self._default is None:
            return "", "", reason, None
        return self._default, "safe default: the rule failed", reason, None

    def _value(self, prediction: Prediction, action: str) -> dict[str, Any] | None:
        """What the action earns under each outcome, and on average if the probabilities hold."""
        return None if self.facts is None else worth(self.facts, prediction, action, self._probable)


def worth(facts: DecisionFacts, prediction: Prediction, action: str, probable: bool) -> dict[str, Any] | None:
    """What an action earns under each outcome, and on average if the predicted probabilities hold. Of what is no
    probability (``probable``), a number or a score, nothing can be expected."""
    outcomes = facts.values.get(action)
    if not outcomes:
        return None
    expected = expected_value(prediction, outcomes) if probable else None
    return {"currency": facts.currency, "outcomes": outcomes, "expected": expected}


def _sound(verdict: Verdict) -> bool:
    """Whether an event can hold it as it is: models and rules may return anything."""
    output: Any = verdict.output
    kind = type(output)
    if kind is float:
        fits = math.isfinite(output)
    else:
        fits = (
            kind is str
            or kind is Packed
            or (kind is list and all(type(one) is float and math.isfinite(one) for one in output))
        )
    return fits and type(verdict.action) is str and type(verdict.rule) is str


def _alike(sent: Any, kept: Any) -> bool:
    """Whether two values name the same; of whom a decision was about the log keeps the text."""
    return bool(sent == kept or str(sent) == kept)
