"""``rollouts.toml``: how a candidate may take over an endpoint, and what it must show on the way.

``example`` gives one to begin with: stages, a KPI, guardrails, how long to be patient.

A query gives one row per decision: ``prediction_id``, whose arm, stage and entity are known, and ``value``, NULL as
long as it is not known. What a candidate said in a shadow is a row of ``shadow``: to count it, a query gives rows for
its ``_id`` too, as ``VALUE_SQL`` does, which is asked where a KPI has no query. Stages but the first may leave out
``at_least``. Only a gain that is shown leads into the last.
"""

import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from sampan.base.digests import digest_bytes
from sampan.base.errors import BadSetting, Usage
from sampan.base.ids import is_name
from sampan.log.outcomes import KNOWN_SQL
from sampan.release.evidence import Terms
from sampan.release.mistakes import Mistake, Place, mistake, told

FILE: Final = "rollouts.toml"
COLUMNS: Final = ("prediction_id", "value")

#: What decisions earned, by what people made of them where they were asked; those of a shadow by the outcome of what
#: was done: an action is taken to change no outcome. Where the shadow's rule is the one that asked people, they are
#: taken to have answered it alike.
VALUE_SQL: Final = f"""
WITH known AS (
    {KNOWN_SQL}
), settled AS (
    SELECT prediction_id, endpoint, value FROM review WHERE starts_with(_position, 'reviews:')
), answered AS (
    SELECT _id AS prediction_id, _id AS request, coalesce(settled.value, prediction.value) AS value
    FROM prediction LEFT JOIN settled ON settled.prediction_id = _id AND settled.endpoint = prediction.endpoint
    UNION ALL
    SELECT shadow._id AS prediction_id, shadow.prediction_id AS request,
        CASE WHEN shadow.action = case_.action AND shadow.rule = case_.rule AND settled.value IS NOT NULL
            THEN settled.value ELSE shadow.value END AS value
    FROM shadow
    LEFT JOIN settled ON settled.prediction_id = shadow.prediction_id AND settled.endpoint = shadow.endpoint
    LEFT JOIN (SELECT _id, action, rule FROM prediction WHERE review IS NOT NULL) AS case_
        ON case_._id = settled.prediction_id
    WHERE shadow.error = ''
)
SELECT
    answered.prediction_id,
    CAST(answered.value->'outcomes'->>CAST(known.value AS VARCHAR) AS DOUBLE) AS value
FROM answered JOIN known ON known.prediction_id = answered.request
"""

Error: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=0.25)]
Share: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=1)]
Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
Query: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=20_000)]
Units: TypeAlias = Annotated[int, msgspec.Meta(ge=30, le=10_000_000)]
Proof: TypeAlias = Literal["tests", "golden", "replay"]

_EFFECT: Final = re.compile(r"(\d+(?:\.\d+)?) ?%")
_SPAN: Final = re.compile(r"(\d{1,6}) ?(second|minute|hour|day|week)s?")
_MICROS: Final = {
    "second": 1_000_000,
    "minute": 60_000_000,
    "hour": 3_600_000_000,
    "day": 86_400_000_000,
    "week": 604_800_000_000,
}


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the file that knows its keys."""


class Kpi(_Part, frozen=True, kw_only=True):
    """What the rollout is decided by: the mean of ``value`` per decision. ``minimum_effect``: the least gain worth
    having, as a share of the champion's mean ("2 %") or in the KPI's own unit (0.05). Without a ``query``: what
    decisions earned, by the values that ``decisions.py`` declares (``VALUE_SQL``)."""

    query: Annotated[str, msgspec.Meta(max_length=20_000)] = ""
    minimum_effect: Positive | str
    direction: Literal["up", "down"] = "up"


class ErrorRate(_Part, frozen=True, kw_only=True, tag_field="kind", tag="error_rate"):
    """Of the candidate's answers, how many may be errors, fallbacks or time-outs."""

    at_most: Share

    name: str = "error rate"


class Latency(_Part, frozen=True, kw_only=True, tag_field="kind", tag="latency"):
    """The time within which ``quantile`` of the candidate's answers must come."""

    at_most_ms: Positive
    quantile: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.99

    name: str = "latency"


class Floor(_Part, frozen=True, kw_only=True, tag_field="kind", tag="floor"):
    """What the candidate's mean must not fall below, whatever the champion's is; of the KPI, or of another query."""

    at_least: float
    query: str = ""

    name: str = "floor"


class Metric(_Part, frozen=True, kw_only=True, tag_field="kind", tag="metric"):
    """Another figure by which the candidate must not be worse than the champion by more than ``at_most_worse``."""

    name: str
    query: Query
    at_most_worse: Positive | str
    direction: Literal["up", "down"] = "up"


class Exposure(_Part, frozen=True, kw_only=True, tag_field="kind", tag="exposure"):
    """A cap on what the candidate's decisions of the last 24 hours put at risk: the sum of ``value``."""

    at_most: Positive
    query: Query

    name: str = "exposure"


Guardrail: TypeAlias = ErrorRate | Latency | Floor | Metric | Exposure


class Stage(_Part, frozen=True, kw_only=True):
    """``sample``: of the entities, those whose requests a shadow sees; ``at_least``: how long it lasts; ``units``:
    entities with a value in the smaller arm before it ends; ``needs``: that nothing speaks against the candidate, or
    that it is shown to be better."""

    share: Share | None = None
    shadow: bool = False
    sample: Share = 1.0
    at_least: str = ""
    units: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] | None = None
    needs: Literal["safe", "better"] = "safe"

    @property
    def micros(self) -> int:
        return span(self.at_least)

    @property
    def shown(self) -> str:
        if self.shadow:
            return "shadow" if self.sample == 1 else f"shadow of {100 * self.sample:.4g} % of traffic"
        return f"{100 * (self.share or 0):.4g} % of traffic"


class Rollout(_Part, frozen=True, kw_only=True):
    """What holds for candidates of one endpoint. ``false_promotions``, ``false_rollbacks``: of candidates that are no
    better, or no worse, than the champion, how many may be promoted, or rolled back, over all looks."""

    kpi: Kpi
    stage: tuple[Stage, ...]
    guardrail: tuple[Guardrail, ...] = ()
    false_promotions: Error = 0.05
    false_rollbacks: Error = 0.05
    mismatch: Error = 0.001
    units: Units = 100
    patience: str = ""
    patience_over: Literal["wait", "ask", "roll back"] = "ask"
    keep_warm: str = "14 days"
    urgent: tuple[Proof, ...] = ()

    @property
    def level(self) -> float:
        """What each thing that can roll back may err: the errors of all of them add up to the declared one at most
        (Bonferroni). A cap on exposure is arithmetic and needs none."""
        kinds = len({stage.shadow for stage in self.stage if stage.share != 1})
        return self.false_rollbacks / (kinds + sum(not isinstance(one, Exposure) for one in self.guardrail))

    @property
    def terms(self) -> Terms:
        """What the KPI is judged by. One kind of evidence, that of the last stage but one, can promote, and it holds
        over all looks and stages: its error is the declared one, undivided."""
        least, relative = effect(self.kpi.minimum_effect)
        return Terms(
            minimum=least,
            relative=relative,
            higher=self.kpi.direction == "up",
            false_better=self.false_promotions,
            false_worse=self.level,
            units=self.units,
        )

    def terms_of(self, rail: Metric) -> Terms:
        """What another figure is judged by: the loss that is tolerated stands in the place of the least gain."""
        least, relative = effect(rail.at_most_worse)
        return Terms(
            minimum=least,
            relative=relative,
            higher=rail.direction == "up",
            false_better=self.level,
            false_worse=self.level,
            units=self.units,
        )


def effect(written: float | str) -> tuple[float, bool]:
    """The least gain, and whether it is a share of the champion's mean. 0 for a text that is none."""
    if not isinstance(written, str):
        return float(written), False
    found = _EFFECT.fullmatch(written.strip())
    return (float(found[1]) / 100 if found else 0.0), True


def span(written: str) -> int:
    """Microseconds; 0 for a text that is no span of time."""
    found = _SPAN.fullmatch(written.strip())
    return int(found[1]) * _MICROS[found[2]] if found else 0


class Rollouts(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file, by endpoint. ``digest`` is that of its bytes, empty where there is none."""

    of: dict[str, Rollout] = {}
    digest: str = ""


def read_rollouts(root: Path) -> Rollouts:
    """The rollouts of a workspace; none where there is no file. Raises BadSetting, and never takes a wrong file for
    none."""
    attempted = f"Read {FILE}"
    try:
        data = (root / FILE).read_bytes()
    except FileNotFoundError:
        return Rollouts()
    except OSError as error:
        raise BadSetting(attempted, f"it cannot be read: {error.strerror}") from None
    try:
        given = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadSetting(attempted, f"it is not TOML: {error}") from None
    found = {}
    text = data.decode()
    for endpoint, written in given.items():
        if not is_name(endpoint):
            raise BadSetting(attempted, f"{endpoint!r} names no endpoint", "Letters, digits, _ and -.")
        try:
            found[endpoint] = msgspec.convert(written, Rollout)
        except msgspec.ValidationError as error:
            one = mistake(endpoint, str(error), written, _PARTS)
            raise BadSetting(attempted, told(endpoint, one, text), one.advice) from None
        for one in _problems(found[endpoint]):
            raise BadSetting(attempted, told(endpoint, one, text), one.advice)
    return Rollouts(of=found, digest=digest_bytes(data))


def example(endpoint: str) -> str:
    """A plan to begin with, as text of the file. Raises Usage for what is no endpoint's name."""
    if not is_name(endpoint):
        raise Usage(f"Plan a rollout of {endpoint[:80]!r}", "it names no endpoint", "Letters, digits, _ and -.")
    return _EXAMPLE.replace("NAME", endpoint)


_EXAMPLE: Final = """\
[NAME]
patience = "8 weeks"     # without enough evidence by then, people are asked
patience_over = "ask"    # or "wait", "roll back"; never does it promote
urgent = ["golden"]      # what may stand for evidence, with somebody's name and reason

[NAME.kpi]               # no query: what decisions earned, by the values of decisions.py
minimum_effect = "2 %"   # the least gain worth having, of the champion's mean

[[NAME.guardrail]]
kind = "error_rate"
at_most = 0.01

[[NAME.guardrail]]
kind = "latency"
at_most_ms = 200

[[NAME.stage]]
shadow = true
at_least = "3 days"

[[NAME.stage]]
share = 0.05
at_least = "2 days"

[[NAME.stage]]
share = 0.5

[[NAME.stage]]
share = 1.0
"""


# -- what may be wrong

_PARTS: Final[dict[str, type[msgspec.Struct]]] = {
    "": Rollout,
    "kpi": Kpi,
    "stage": Stage,
    "guardrail error_rate": ErrorRate,
    "guardrail latency": Latency,
    "guardrail floor": Floor,
    "guardrail metric": Metric,
    "guardrail exposure": Exposure,
}


def _problems(one: Rollout) -> Iterator[Mistake]:
    yield from _effects(("kpi", "minimum_effect"), one.kpi.minimum_effect)
    if one.kpi.query:
        yield from _query(("kpi", "query"), one.kpi.query)
    parts: list[tuple[Place, msgspec.Struct]] = [(("kpi",), one.kpi)]
    parts += [(("guardrail", number), rail) for number, rail in enumerate(one.guardrail)]
    for place, part in parts:
        for name in part.__struct_fields__:
            number = getattr(part, name)
            if isinstance(number, float) and not math.isfinite(number):
                yield Mistake((*place, name), f"is {number}; write a number")
    names: set[str] = set()
    for at, rail in enumerate(one.guardrail):
        if rail.name in names:
            yield Mistake(("guardrail", at), f"another one is called {rail.name!r} too", "Give each a name of its own.")
        names.add(rail.name)
        if isinstance(rail, Metric):
            yield from _effects(("guardrail", at, "at_most_worse"), rail.at_most_worse)
        if isinstance(rail, Metric | Exposure) or (isinstance(rail, Floor) and rail.query):
            yield from _query(("guardrail", at, "query"), rail.query)
    for name, written in (("patience", one.patience), ("keep_warm", one.keep_warm)):
        if written and not span(written):
            yield Mistake((name,), f"is {written!r}", _SPANS)
    if not span(one.keep_warm):
        yield Mistake(("keep_warm",), "is empty: how long the champion stays ready after all", _SPANS)
    yield from _stages(one.stage)


_SPANS: Final = 'Write a number of seconds, minutes, hours, days or weeks: "2 days".'


def _stages(stages: tuple[Stage, ...]) -> Iterator[Mistake]:
    before = 0.0
    for number, stage in enumerate(stages):
        place = ("stage", number)
        if stage.shadow == (stage.share is not None):
            yield Mistake(place, "needs either shadow = true or a share")
            return
        if stage.sample != 1 and not stage.shadow:
            said = "is for a shadow: of the entities, those whose requests it sees"
            yield Mistake((*place, "sample"), said, "How many the candidate answers, share says.")
        if stage.shadow and number:
            yield Mistake((*place, "shadow"), "only the first stage can be a shadow")
        if stage.at_least and not stage.micros:
            yield Mistake((*place, "at_least"), f"is {stage.at_least!r}", _SPANS)
        if stage.share is not None:
            if stage.share <= before:
                said = f"is {stage.share:g}, that of the stage before it {before:g}: shares must grow"
                yield Mistake((*place, "share"), said)
            before = stage.share
    if before != 1:
        said = f"the last stage has the share {before:g}: without one of 1.0 no candidate is ever in full use"
        yield Mistake(("stage", len(stages) - 1), said)
    if len(stages) < 2:
        yield Mistake((), "there is but one stage: a candidate needs one in which it can show that it is better")
    elif not stages[0].micros:
        yield Mistake(("stage", 0), "at_least is missing: a candidate must be seen for a while", _SPANS)


def _effects(place: Place, written: float | str) -> Iterator[Mistake]:
    if not effect(written)[0] > 0:
        yield Mistake(place, f"is {written!r}", 'For instance "2 %" of the champion\'s mean, or 0.05.')


def _query(place: Place, text: str) -> Iterator[Mistake]:
    import sqlglot  # a sixth of a hub's start, and 16 MB, which most hubs never need
    from sqlglot import exp

    from sampan.lake.sql import analyse

    for refusal in analyse(text, str(place[0]), asked=True).refusals:
        said = f"line {refusal.line} of it: {refusal.reason}{f' in `{refusal.text}`' if refusal.text else ''}"
        yield Mistake(place, said, "`sampan sql` asks a query once, to try it.")
        return
    parsed = sqlglot.parse_one(text, read="duckdb")
    if not isinstance(parsed, exp.Query):
        yield Mistake(place, f"is no SELECT: {text[:60]!r}")
        return
    names = [name.lower() for name in parsed.named_selects]
    lacking = [name for name in COLUMNS if name not in names]
    if "*" not in names and lacking:
        advice = "A row for each decision; value is NULL as long as it is not known."
        yield Mistake(place, f"gives {', '.join(names) or 'no columns'}; it must give {' and '.join(COLUMNS)}", advice)
