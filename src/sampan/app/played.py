"""Rollouts over the past: what a candidate would have said to decisions that the log holds, and what its plan would
have made of that, look by look, each with what was known by then. Nothing is served, and no event is written.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.app.rehearsing import PREFIX
from sampan.app.retaking import answers, case_of
from sampan.app.workplace import Workplace
from sampan.base.clock import iso, to_micros
from sampan.base.errors import NotFound, Refused, Usage
from sampan.log.outcomes import MATCHED_SQL

if TYPE_CHECKING:
    from sampan.lake.query import TableSource
    from sampan.release.looking import Looking
    from sampan.release.records import Begun
    from sampan.release.rehearsals import RehearsalRequest, Turn
    from sampan.release.rollouts import Rollout
    from sampan.release.stages import Seen, State
    from sampan.serve.again import Again
    from sampan.serve.bundle import Bundle
    from sampan.serve.past import Past

_DAY: Final = 86_400_000_000


class Played:
    """One rehearsal."""

    def __init__(self, app: Workplace, asked: "RehearsalRequest", actor: str, report: Callable[[Any], None]) -> None:
        self._app, self._asked, self._actor, self._report = app, asked, actor, report
        self._attempted = f"Rehearse a rollout of {asked.endpoint[:100]}"
        now = app.clock.micros()
        self._until = now if asked.until is None else min(asked.until, now)
        if asked.since >= self._until:
            said = f"it would begin at {iso(asked.since)} and end at {iso(self._until)}"
            raise Usage(self._attempted, said, "Let it begin earlier.")

    def play(self) -> dict[str, Any]:
        """Train, answer, look; keep what came of it."""
        from sampan.base.ids import new_id
        from sampan.release.looking import Looking, Then
        from sampan.release.records import Begun
        from sampan.release.rehearsals import Rehearsal, looks, rehearsed
        from sampan.release.stages import begin

        app, asked = self._app, self._asked
        plan, file = self._plan()
        rehearsal, left_out = rehearsed(plan)
        past = self._past()
        decided, outcomes = self._events(past)
        known = max(_last(outcomes, self._until), asked.since + _DAY)
        times = list(looks(asked.since, known, asked.every))  # what is wrong with it is said before anything is done
        champion = self._champion(past)
        turns = self._turns(champion, past[-1].time)
        self._say("answering", f"asking {len(turns)} candidates about {len(past):,} decisions")
        theirs = self._answers(past, turns)
        ours = self._ours(past)
        last = turns[-1]
        begun = Begun(
            id=new_id(app.clock),
            endpoint=asked.endpoint,
            champion=champion.digest,
            candidate=last[1].digest,
            champion_spec=_spec(champion),
            candidate_spec=_spec(last[1]),
            plan=rehearsal,
            file=file,
            golden="",
            actor=self._actor,
            reason=asked.reason,
            began=asked.since,
        )
        said = [_shadow(begun, row, theirs[row["_id"]]) for row in decided.to_pylist() if row["_id"] in theirs]
        with self._given(_changed(decided, ours), outcomes, said) as given:
            self._say("looking", f"looking every {asked.every}, with what was known by then")

            def looking(state: "State", at: int) -> Looking:
                return Looking(app, begun, state, Then(at, given))

            looking(begin(rehearsal, asked.since).state, known).try_out()
            history = _played(rehearsal, asked.since, times, looking)
            figures = looking(begin(rehearsal, asked.since).state, app.clock.micros()).figures()
        facts = Rehearsal(
            made=app.clock.micros(),
            since=asked.since,
            until=self._until,
            every=asked.every,
            retrain=asked.retrain,
            decisions=len(past),
            turns=tuple(turn for turn, _ in turns),
            both=asked.both,
            left_out=left_out,
            figures=figures,
        )
        kept = app.rollouts.keep_rehearsal(msgspec.structs.replace(begun, rehearsal=facts), history)
        return _told(kept, history)

    def _say(self, state: str, message: str) -> None:
        self._report({"step": "", "state": state, "message": message})

    def _plan(self) -> "tuple[Rollout, str]":
        from sampan.release.rollouts import FILE, read_rollouts

        found, name = read_rollouts(self._app.folder.root), self._asked.endpoint
        if name not in found.of:
            known = f"It has {', '.join(found.of)}." if found.of else f"Write one: `sampan rollout plan {name[:80]}`."
            raise NotFound(self._attempted, f"{FILE} has no plan [{name[:80]}]", known)
        return found.of[name], found.digest

    # -- the past

    def _past(self) -> "list[Past]":
        """The decisions of the span that a bundle of this workspace made."""
        from sampan.serve.past import past_decisions

        app, asked = self._app, self._asked
        app.endpoints.get(asked.endpoint)
        served = {row["bundle"] for row in app.db.rows("SELECT DISTINCT bundle FROM bundles")}
        found = past_decisions(app.lake, app.log, app.log.position(), asked.since, self._until)
        past = [one for one in found if one.endpoint == asked.endpoint and one.bundle in served]
        if not past:
            said = f"it decided nothing from {iso(asked.since)} until {iso(self._until)}"
            raise NotFound(self._attempted, said, "Choose another span.")
        return past

    def _champion(self, past: "Sequence[Past]") -> "Bundle":
        """What made most of these decisions."""
        return self._app.endpoints.once_served(Counter(one.bundle for one in past).most_common(1)[0][0])

    # -- candidates

    def _turns(self, champion: "Bundle", last: int) -> "list[tuple[Turn, Bundle]]":
        """Which candidate answers from when on; the last decision was made at ``last``."""
        from sampan.release.rehearsals import Turn, turns

        asked = self._asked
        model = asked.model or champion.version.partition("@")[0]
        if asked.retrain and "@" in model:
            raise Usage(
                self._attempted, f"{model} is one version, and it is to be trained anew", "Name the model alone."
            )
        starts = turns(asked.since, last + 1, asked.retrain)
        refs = self._trained(model, starts) if asked.retrain else [model]
        found = []
        for since, ref in zip(starts, refs, strict=True):
            bundle = self._bundle(ref)
            if bundle.digest == champion.digest and not asked.retrain:
                said = f"{bundle.version} with these rules and thresholds is what decided then"
                raise Usage(self._attempted, said, "Name another version, --retrain, or a threshold: --set.")
            found.append((Turn(since, bundle.version, bundle.digest), bundle))
        return found

    def _bundle(self, ref: str) -> "Bundle":
        app, asked = self._app, self._asked
        thresholds = {**asked.both, **asked.thresholds}
        made = app.endpoints.make_bundle(
            ref, workspace=app.folder.root, decision=asked.decision or None, thresholds=thresholds, rules_only=True
        )
        app.blobs.put(made.encode())
        return made

    def _trained(self, model: str, starts: Sequence[int]) -> list[str]:
        """The model as it would have been trained at each of these times: by this code, on what was known by then."""
        from sampan.base.ids import new_id
        from sampan.runs.records import SUCCEEDED

        app, found = self._app, []
        app.contracts.check(app.db)
        branch = f"{PREFIX}{new_id(app.clock)}"
        with app.db.transaction():
            app.lake.branch(branch, actor=self._actor, reason=self._asked.reason or self._attempted)
        try:
            for since in starts:
                self._say("training", f"{model} as by {iso(since)[:10]}")
                said = f"rehearsal, as by {iso(since)[:10]}"
                made = app.engine.run(
                    model, {}, actor=self._actor, reason=said, branch=branch, known_by=since, noting=True
                )
                ref = next((one for one in made.versions if one.partition("@")[0] == model), "")
                if made.state != SUCCEEDED:
                    failed = [f"{step.name}: {step.error}" for step in made.steps if step.error] or [made.error]
                    said = f"{model} did not come off on what was known by {iso(since)}: {failed[0]}"
                    raise Refused(self._attempted, said, f"Run {made.run} has the logs.")
                found.append(ref or f"{model}@{app.lake.versions(branch)[model]}")
        finally:
            with app.db.transaction():
                app.lake.delete_branch(branch)
        return found

    # -- answers

    def _answers(self, past: "Sequence[Past]", turns: "Sequence[tuple[Turn, Bundle]]") -> "dict[str, Again]":
        """What the candidates say, each to the decisions of its time."""
        ends = [*(turn.since for turn, _ in turns[1:]), self._until]
        asked = [
            (bundle, [case_of(bundle, one, {}) for one in past if turn.since <= one.time < end])
            for (turn, bundle), end in zip(turns, ends, strict=True)
        ]
        return answers(self._app.blobs, [pair for pair in asked if pair[1]], self._app.folder.data / "tmp")

    def _ours(self, past: "Sequence[Past]") -> "dict[str, Again]":
        """What those who decided say with thresholds that are set for both sides; nothing where none are."""
        from sampan.serve.decisions import merge_thresholds

        if not self._asked.both:
            return {}
        asked = []
        for digest in dict.fromkeys(one.bundle for one in past):
            bundle = self._app.endpoints.once_served(digest)
            facts = bundle.decision
            if facts is None:
                raise Usage(self._attempted, f"{bundle.version} decided without a rule", "Leave out --both.")
            thresholds = merge_thresholds(facts.name, facts.thresholds, self._asked.both)
            changed = msgspec.structs.replace(facts, thresholds=thresholds)
            bundle = msgspec.structs.replace(bundle, decision=changed)
            asked.append((bundle, [case_of(bundle, one, {}) for one in past if one.bundle == digest]))
        return answers(self._app.blobs, asked, self._app.folder.data / "tmp")

    # -- what is looked at

    def _events(self, past: "Sequence[Past]") -> tuple[Any, Any]:
        """These decisions, and their outcomes as far as there are any, as the log has them, each with its prediction's
        id."""
        import pyarrow as pa
        import pyarrow.compute as pc

        ids = pa.array([one.id for one in past], pa.string())
        decided, outcomes = self._all("SELECT * FROM prediction"), self._all(MATCHED_SQL)
        decided = decided.filter(pc.is_in(decided["_id"], value_set=ids))
        return decided, outcomes.filter(pc.is_in(outcomes["prediction_id"], value_set=ids))

    def _all(self, text: str) -> Any:
        from sampan.lake.read import query

        answer = query(text, self._app.lake, self._app.log)
        try:
            return answer.arrow()
        finally:
            answer.close()

    @contextmanager
    def _given(self, decided: Any, outcomes: Any, said: list[dict[str, Any]]) -> "Iterator[dict[str, TableSource]]":
        """The events that are looked at, for as long as they are."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from sampan.lake.query import TableSource

        shadow = pa.Table.from_pylist(said, schema=self._all("SELECT * FROM shadow LIMIT 0").schema)
        with tempfile.TemporaryDirectory(dir=self._app.folder.data / "tmp", prefix=PREFIX) as scratch:
            given = {}
            for name, table in {"prediction": decided, "outcome": outcomes, "shadow": shadow}.items():
                file = Path(scratch) / f"{name}.parquet"
                pq.write_table(table, file)
                given[name] = TableSource(name, (str(file),))
            yield given


def _last(outcomes: Any, otherwise: int) -> int:
    """When all outcomes were known that are."""
    import pyarrow.compute as pc

    known = pc.max(outcomes["_known_at"]).as_py() if outcomes.num_rows else None
    return otherwise if known is None else to_micros(known)


def _shadow(begun: "Begun", row: Mapping[str, Any], said: "Again") -> dict[str, Any]:
    """What a shadow would have written about a decision: an event that was known when the decision was."""
    system = {name: value for name, value in row.items() if name.startswith("_")}
    version = begun.candidate_spec["version"]
    return {
        **system,
        "_id": f"{row['_id']}~{begun.id}",
        "prediction_id": row["_id"],
        "endpoint": begun.endpoint,
        "rollout": begun.id,
        "stage": 0,
        "version": version,
        "bundle": begun.candidate,
        "prediction": _json(said.prediction),
        "action": said.action,
        "rule": said.rule,
        "value": _json(said.value),
        "latency_us": 0,
        "error": said.error,
    }


def _changed(decided: Any, ours: "Mapping[str, Again]") -> Any:
    """Decisions as they would have been by other thresholds."""
    import pyarrow as pa

    if not ours:
        return decided
    ids = decided["_id"].to_pylist()
    columns = {
        "action": [ours[id].action for id in ids],
        "rule": [ours[id].rule for id in ids],
        "value": [_json(ours[id].value) for id in ids],
        "error": [ours[id].error for id in ids],
    }
    for name, values in columns.items():
        at = decided.schema.get_field_index(name)
        decided = decided.set_column(at, decided.schema.field(at), pa.array(values, decided.schema.field(at).type))
    return decided


def _json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _spec(bundle: "Bundle") -> dict[str, Any]:
    from sampan.serve.endpoints import EndpointSpec

    facts = bundle.decision
    if facts is None:
        return dict(msgspec.to_builtins(EndpointSpec(version=bundle.version)))
    spec = EndpointSpec(
        version=bundle.version, decision=facts.name, thresholds=facts.thresholds, currency=facts.currency
    )
    return dict(msgspec.to_builtins(spec))


def _played(
    plan: "Rollout", since: int, times: Sequence[int], looking: "Callable[[State, int], Looking]"
) -> "list[tuple[Seen, State]]":
    """What is seen at these times and where that leads, until the plan comes to an end."""
    from sampan.release.stages import ENDS, FULL, begin, step

    state = begin(plan, since).state
    history = []
    for at in times:
        seen = looking(state, at).whole(at)
        state = step(plan, state, seen).state
        history.append((seen, state))
        if state.phase == FULL or state.phase in ENDS:
            break
    return history


def _told(begun: "Begun", history: "Sequence[tuple[Seen, State]]") -> dict[str, Any]:
    """A rehearsal as a command shows it."""
    facts = begun.rehearsal
    assert facts is not None
    seen, state = history[-1]
    return {
        "id": begun.id,
        "endpoint": begun.endpoint,
        "champion": begun.versions[0],
        "candidates": [turn.version for turn in facts.turns],
        "decisions": facts.decisions,
        "since": facts.since,
        "until": facts.until,
        "phase": state.phase,
        "why": state.why,
        "at": seen.at,
        "looks": len(history),
        "look": msgspec.to_builtins(seen.look),
        "figures": msgspec.to_builtins(facts.figures),
        "guardrails": msgspec.to_builtins(seen.measured),
        "left_out": list(facts.left_out),
    }
