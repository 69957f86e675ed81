"""One look at a rollout: the KPI's query, the guardrails, the sizes of the arms, all from the log and the tables.

Which arm a decision belongs to stands in its event (``rollout``, ``variant``, ``stage``), written when it was made; and
``aside``, if it is to count in neither, as the candidate was still being loaded. A look asks what is known now and
remembers nothing. A query that fails makes no number: the look says so.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from sampan.base.errors import SampanError, Usage
from sampan.base.words import counted
from sampan.release.counts import Split, uneven
from sampan.release.evidence import Contrast, Lines, Look, between_arms, gather, judge, paired
from sampan.release.guardrails import BREACHED, Reading, exposure, failed, floor, metric, rate
from sampan.release.records import Begun
from sampan.release.rollouts import VALUE_SQL, ErrorRate, Exposure, Floor, Guardrail, Latency, Metric
from sampan.release.stages import FULL, Seen, State

if TYPE_CHECKING:
    from sampan.lake.lake import Lake
    from sampan.lake.query import Source
    from sampan.log.log import Log

_DAY: Final = 86_400_000_000
KPI: Final = "KPI"
_OFFENDING: Final = 20  # predictions that an incident names at most


class Sees(Protocol):
    """What is asked here."""

    @property
    def lake(self) -> "Lake": ...
    @property
    def log(self) -> "Log": ...


class Then(NamedTuple):
    """An instant of the past that is looked at: what could be used by ``at``. ``given``: events, by their type, that
    stand in the place of those in the log."""

    at: int
    given: "Mapping[str, Source]"


class Looking:
    """Looks at one rollout in one state of it. Every method but ``try_out`` and ``figures`` tells failed queries in
    what it gives. ``then``: not as all is now."""

    def __init__(
        self, sees: Sees, begun: Begun, state: State, then: Then | None = None, *, shadows: Sequence[str] = ()
    ) -> None:
        """``shadows``: ids of those that are looked at in the place of the rollout, and of their pairs only what the
        champion has answered, where others have, too."""
        self._alone = f" AND bundle = '{begun.champion}'" if shadows else ""
        self._shadows = shadows or [begun.id]
        self._sees = sees
        self._then = then
        self._begun = begun
        self._plan = begun.plan
        self._state = state
        self._shadow = begun.plan.stage[state.stage].shadow

    def quick(self, at: int) -> Seen:
        """Only how the candidate answers: errors and latency, which need no KPI and must be acted on at once."""
        return Seen(at=at, measured=tuple(self._answers()))

    def whole(self, at: int) -> Seen:
        """All that there is to be seen now."""
        measured = {one.name: one for one in self._answers()}
        for rail in self._plan.guardrail:
            if rail.name not in measured:
                measured[rail.name] = self._measured(rail, at)
        look, why = None, ""
        try:
            look = self._look(self._plan.kpi.query)
        except SampanError as error:
            why = error.obstacle
        readings = tuple(measured[rail.name] for rail in self._plan.guardrail)
        return Seen(at=at, look=look, failed=why, measured=readings, mismatch=self._mismatch())

    def try_out(self) -> dict[str, tuple[int, int]]:
        """Ask each query of the plan once, over all decisions: how many rows it gives, and how many have a value.
        Raises what one fails with."""
        asked = {KPI: self._plan.kpi.query}
        for rail in self._plan.guardrail:
            if isinstance(rail, Metric | Exposure | Floor) and rail.query:
                asked[f"guardrail {rail.name}"] = rail.query
        found = {}
        for name, query in asked.items():
            try:
                self._valued("SELECT count(*)", query)
                rows, known = self._ask(f"SELECT count(*), count(value) FROM ({_given(query)}) AS worth")[0]
            except SampanError as error:
                raise Usage(error.attempted, f"{name}: {error.obstacle}", error.advice) from None
            found[name] = (rows, known)
        return found

    def figures(self) -> dict[str, Look]:
        """KPI and metrics, by their names. Raises what a query fails with."""
        metrics = [rail for rail in self._plan.guardrail if isinstance(rail, Metric)]
        found = {rail.name: judge(self._contrast(rail.query), self._plan.terms_of(rail)) for rail in metrics}
        return {KPI: self._look(self._plan.kpi.query), **found}

    def side_by_side(self) -> dict[str, Look]:
        """The KPI of each of the ``shadows``, by their ids. Raises what the query fails with."""
        found: dict[str, list[tuple[Any, ...]]] = {id: [] for id in self._shadows}
        for *row, id in self._valued(f"{_PAIRED}, rollout", self._plan.kpi.query, shadowed=True):
            found[id].append(tuple(row))
        for rows in found.values():
            _once(rows)
        return {id: judge(_paired(rows), self._plan.terms) for id, rows in found.items()}

    def offending(self, seen: Seen) -> list[str]:
        """Predictions of the candidate that show what is wrong, the newest first."""
        broken = {one.name for one in seen.measured if one.standing == BREACHED}
        rails = [rail for rail in self._plan.guardrail if rail.name in broken]
        bad = [_BAD] if seen.crashing or any(isinstance(one, ErrorRate) for one in rails) else []
        bad += [f"latency_us > {_micros(one)}" for one in rails if isinstance(one, Latency)]
        try:
            if bad:
                where = " OR ".join(bad)
                found = self._ask(f"SELECT id FROM answers WHERE {where} ORDER BY received DESC LIMIT {_OFFENDING}")
            else:
                lowest = "value" if self._plan.kpi.direction == "up" else "-value"
                found = self._valued(
                    f"SELECT id ORDER BY {lowest}, id LIMIT {_OFFENDING}", self._plan.kpi.query, candidate=True
                )
        except SampanError:
            return []
        return [str(row[0]) for row in found]

    # -- the KPI and other figures

    def _look(self, query: str) -> Look:
        return judge(self._contrast(query), self._plan.terms)

    def _contrast(self, query: str) -> Contrast:
        """Candidate against champion: between the arms, or of a shadow, request by request."""
        if self._shadow:
            rows = self._valued(_PAIRED, query, shadowed=True)
            _once(rows)
            found = _paired(rows)
            return self._left_out(found) if found.flaw else found
        rows = self._valued("SELECT id, unit, candidate, stage, value", query)
        _once(rows)
        return between_arms(_lines(rows))

    def _left_out(self, found: Contrast) -> Contrast:
        """A comparison that has nothing, with how much it leaves out as the day's cap had held something back."""
        ((count,),) = self._ask("SELECT count(*) FROM overruled")
        if not count:
            return found
        flaw = f"{counted(int(count), 'request')} came after the cap had held something back that day, and no other"
        return found._replace(flaw=f"{flaw} has a value that is known yet")

    def _measured(self, rail: Guardrail, at: int) -> Reading:
        plan = self._plan
        try:
            if isinstance(rail, Floor):
                rows = self._valued("SELECT id, unit, candidate, stage, value", rail.query, candidate=True)
                _once(rows)
                return floor(rail.name, _lines(rows), at_least=rail.at_least, level=plan.level, units=plan.units)
            if isinstance(rail, Metric):
                return metric(rail.name, self._contrast(rail.query), plan.terms_of(rail))
            if isinstance(rail, Exposure):
                last_day = f"SELECT coalesce(sum(value), 0) WHERE time_us >= {at - _DAY}"
                found = self._valued(last_day, rail.query, candidate=True)[0][0]
                return exposure(rail.name, None if found is None else float(found), at_most=rail.at_most)
        except SampanError as error:
            return failed(rail.name, f"its query failed: {error.obstacle}")
        return failed(rail.name, "nothing measures it")

    # -- how the candidate answers

    def _answers(self) -> list[Reading]:
        rails = [rail for rail in self._plan.guardrail if isinstance(rail, ErrorRate | Latency)]
        if not rails:
            return []
        bad = [_BAD if isinstance(rail, ErrorRate) else f"latency_us > {_micros(rail)}" for rail in rails]
        counts = "".join(f", count(*) FILTER (WHERE {one})" for one in bad)
        try:
            count, *found = self._ask(f"SELECT count(*){counts} FROM answers")[0]
        except SampanError as error:
            return [failed(rail.name, f"answers could not be counted: {error.obstacle}") for rail in rails]
        level, least = self._plan.level, self._plan.units
        return [
            rate(
                rail.name,
                number,
                count,
                "failed" if isinstance(rail, ErrorRate) else f"took longer than {rail.at_most_ms:g} ms",
                at_most=rail.at_most if isinstance(rail, ErrorRate) else 1 - rail.quantile,
                level=level,
                least=least,
            )
            for rail, number in zip(rails, found, strict=True)
        ]

    def _mismatch(self) -> str:
        """What is wrong with the sizes of the arms; empty if nothing is shown to be."""
        shares = {at: one.share for at, one in enumerate(self._plan.stage) if one.share is not None and one.share < 1}
        if not shares:
            return ""
        try:
            found = self._ask(
                "SELECT stage, count(*) FILTER (WHERE candidate), count(*) FILTER (WHERE NOT candidate) FROM ("
                "SELECT min_by(stage, (received, id)) AS stage, min_by(candidate, (received, id)) AS candidate"
                " FROM arms GROUP BY unit) GROUP BY stage ORDER BY stage"
            )
        except SampanError:
            return ""  # what cannot be counted is not shown to be wrong, and the KPI, asked of the same, is not known
        splits = [Split(shares[stage], one, other) for stage, one, other in found if stage in shares]
        return uneven(splits, self._plan.mismatch)

    # -- SQL

    def _valued(
        self, select: str, query: str, *, candidate: bool = False, shadowed: bool = False
    ) -> Sequence[tuple[Any, ...]]:
        """``select … [rest]`` over the decisions of the rollout, each with its ``value`` by a query of the plan."""
        head, clause, rest = select, "", ""
        for word in (" WHERE ", " ORDER BY "):
            if word in select:
                head, _, rest = select.partition(word)
                clause = word
                break
        of = "shadowed" if shadowed else "candidates" if candidate else "arms"
        joined = f"{of} JOIN ({_given(query)}) AS worth ON worth.prediction_id = {of}.id"
        return self._ask(f"{head} FROM {joined}{clause}{rest}")

    def _ask(self, text: str) -> Sequence[tuple[Any, ...]]:
        from sampan.lake.read import query

        parts, known_by, extra = self._parts(text), None, {}
        if self._then is not None:
            known_by, extra = self._then.at, {f"given_{name}": one for name, one in self._then.given.items()}
            by = f"_known_at <= make_timestamptz({known_by})"
            parts = [f"{name} AS (SELECT * FROM given_{name} WHERE {by})" for name in self._then.given] + parts
        text = f"WITH {', '.join(parts)} {text}" if parts else text
        answer = query(text, self._sees.lake, self._sees.log, extra=extra, known_by=known_by)
        try:
            return answer.fetchall()
        finally:
            answer.close()

    def _parts(self, text: str) -> list[str]:
        """What decisions there are, by the names that ``text`` uses. The ids stand in our own records."""
        from sampan.lake.query import quote_text

        begun = self._begun
        own = f"rollout IN ({', '.join(map(quote_text, self._shadows))})"
        full = (
            f" OR (rollout = '' AND endpoint = '{begun.endpoint}' AND bundle = '{begun.candidate}'"
            f" AND epoch_us(_received) >= {self._state.since})"
            if self._state.phase == FULL
            else ""
        )
        unit = "CASE WHEN entity = '' THEN prediction._id ELSE entity END AS unit"
        said = "_id AS id, _received AS received, latency_us, error"
        arm = f"{said}, fallback, {unit}, variant = 'candidate' AS candidate, stage, epoch_us(_time) AS time_us"
        ours = f"({own} AND aside = '' AND variant = 'candidate'){full}"
        # From the first request of a day that the champion's cap has held back, the cap decides, and it holds nothing
        # of a shadow's: that day's rest is no comparison of the two, until another bundle is in force with its own cap.
        asked = (
            f"WITH seen AS (SELECT _id, prediction_id, rollout FROM shadow WHERE {own}),"
            " holds AS (SELECT bundle, (exposure->>'day') AS day, min(_received) AS since FROM prediction"
            f" WHERE endpoint = '{begun.endpoint}' AND (exposure->>'held') <> '' GROUP BY ALL),"
            f" asked AS (SELECT _id, {unit}, EXISTS (FROM holds WHERE holds.bundle = prediction.bundle"
            " AND day = (exposure->>'day') AND _received >= since) AS capped"
            f" FROM prediction WHERE _id IN (SELECT prediction_id FROM seen){self._alone})"
        )
        parts = {
            "arms": f"SELECT {arm} FROM prediction WHERE {own} AND aside = ''",
            "candidates": f"SELECT {arm} FROM prediction WHERE {ours}",
            "answers": f"SELECT {said}, fallback FROM prediction WHERE {ours}"
            f" UNION ALL SELECT {said}, '' AS fallback FROM shadow WHERE {own}",
            "overruled": f"{asked} SELECT 1 FROM asked WHERE capped",
            "shadowed": f"{asked} SELECT seen._id AS id, prediction_id AS request, unit, true AS candidate, rollout"
            " FROM seen JOIN asked ON asked._id = prediction_id WHERE NOT capped"
            " UNION ALL SELECT _id, _id, unit, false, rollout FROM (SELECT DISTINCT prediction_id, rollout FROM seen)"
            " JOIN asked ON asked._id = prediction_id WHERE NOT capped",
        }
        return [f"{name} AS ({sql})" for name, sql in parts.items() if f"FROM {name}" in text]


def _given(query: str) -> str:
    return f"SELECT prediction_id, CAST(value AS DOUBLE) AS value FROM (\n{query or VALUE_SQL}\n) AS given"


_UNPAIRED: Final = "no request has a known value for both; a query gives rows for the _id of a row of shadow, too"
_PAIRED: Final = "SELECT id, request, unit, candidate, value"
_BAD: Final = "error <> '' OR fallback <> ''"


def _micros(rail: Latency) -> int:
    return round(rail.at_most_ms * 1000)


def _lines(rows: Sequence[tuple[Any, ...]]) -> Lines:
    _, unit, candidate, stage, value = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return gather(unit, candidate, stage, value)


def _paired(rows: Sequence[tuple[Any, ...]]) -> Contrast:
    """Of requests that both have answered and whose values are both known, the differences."""
    champion = {request: value for _, request, _, candidate, value in rows if not candidate and value is not None}
    both = [
        (unit, value, champion[request])
        for _, request, unit, candidate, value in rows
        if candidate and value is not None and request in champion
    ]
    lines = gather(
        [unit for unit, _, _ in both],
        [True] * len(both),
        [0] * len(both),
        [value - before for _, value, before in both],
    )
    found = paired(lines, math.fsum(before for _, _, before in both) / len(both) if both else math.nan)
    return found._replace(flaw=_UNPAIRED) if rows and not both else found


def _once(rows: Sequence[tuple[Any, ...]]) -> None:
    """A decision that comes twice would weigh double."""
    twice = len(rows) - len({row[0] for row in rows})
    if twice:
        raise SampanError("Ask for the KPI", f"the query gives {counted(twice, 'decision')} more than once")
