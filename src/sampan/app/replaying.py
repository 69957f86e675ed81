"""A replay from end to end: plan, derive everything again beside main, take every past decision again, report.

Models are derived as they would have been: for each time when another bundle came into force, on the log as it was
when the version in it was made. So no candidate has learned from what it is then asked about. Nothing reaches the
world: runs on a branch tell nobody, and nothing is deployed; what would have been is part of the report.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.clock import iso
from sampan.base.digests import digest_bytes, digest_value
from sampan.base.errors import NotFound, Refused, SampanError, Usage
from sampan.base.ids import whole
from sampan.flow.engine import Engine
from sampan.flow.forecast import forecast
from sampan.flow.graph import CHECK
from sampan.flow.plan import CACHED, Plan
from sampan.flow.publish import definitions
from sampan.flow.slots import Slots
from sampan.flow.workspace import Workspace
from sampan.lake.history import MAIN
from sampan.log.position import Position
from sampan.money.prices import read_prices
from sampan.runs.records import FAILED as RUN_FAILED
from sampan.runs.records import SUCCEEDED
from sampan.runs.replays import APPROVED, DISCARDED, DONE, ReplayRequest, Replays
from sampan.serve.again import Again, Case
from sampan.serve.bundle import Bundle, DecisionFacts
from sampan.serve.counterfactual import (
    Counterfactual,
    Past,
    answer_again,
    compare,
    looked_up,
    otherwise_later,
    past_decisions,
)
from sampan.serve.decisions import merge_thresholds
from sampan.serve.replayed import Effect, Figure, Moment, ReplayPlan, ReplayReport, ReplayStep
from sampan.serve.sources import collect

if TYPE_CHECKING:
    from sampan.app.workplace import Workplace
    from sampan.base.settings import Folder
    from sampan.flow.outcome import RunResult
    from sampan.lake.query import TableSource

Told = Callable[[Any], None]
_PER_SECOND: Final = 2_000.0  # decisions taken again, until a replay has measured it
_RUNS: Final = 200  # of main, that are looked at
_PER_BUNDLE: Final = 3.0  # seconds to load what takes them
_NOTE: Final = (
    "Outcomes are those of what was done. Where another action would have been taken, its value is that of the outcome"
    " that followed the action that was; if the action itself changes what happens, no replay can tell."
)


class Replaying:
    """One replay of one workspace, with one state of its code."""

    def __init__(
        self, app: "Workplace", request: ReplayRequest, code: "Folder", begun: Mapping[str, Any] | None = None
    ) -> None:
        """``begun``: the plan of a replay that was interrupted, whose events and base are kept."""
        self._app, self._request, self._code = app, request, code
        self._log = app.log_of(code)
        self._engine = Engine(code, app.db, app.lake, self._log, app.models, app.clock, app.settings)
        self._workspace = Workspace(code)
        self._sets, self._thresholds = self._split()
        until = request.until
        if begun is not None:
            self._position = Position.parse(begun["position"])
        else:
            self._position = self._log.position() if until is None else self._log.position_at(until)
        if until is not None and not self._position:
            raise NotFound(
                f"Replay until {iso(until)}", "no event had been received by then", "Choose a later time, or none."
            )
        found = past_decisions(app.lake, self._log, self._position, request.since, until)
        served = {row["bundle"] for row in app.db.rows("SELECT DISTINCT bundle FROM endpoints")}
        self._past = [one for one in found if one.bundle in served]  # anybody may send events, of predictions too
        self._strange = len(found) - len(self._past)
        self._bundles = {digest: app.endpoints.once_served(digest) for digest in {one.bundle for one in self._past}}
        if begun is not None:
            self._base = f"@{begun['base']}" if begun["base"] != MAIN else MAIN
        else:
            base = app.lake.head() if until is None else app.lake.at(until)
            self._base = f"@{base}" if base else MAIN
        self._changed = self._definitions_changed()
        self._check_thresholds()

    def _check_thresholds(self) -> None:
        rules = {one.decision.name for one in self._bundles.values() if one.decision is not None}
        for name in sorted(self._thresholds.keys() - rules):
            raise Usage(
                f"Set {name}.{next(iter(self._thresholds[name]))}",
                f"{name!r} is neither a rule that has decided nor a step with that parameter",
                f"Rules: {', '.join(sorted(rules)) or 'none'}.",
            )

    def _here(self) -> dict[str, str]:
        """Every definition of this code."""
        workspace = Workspace(self._code, self._sets) if self._sets else self._workspace
        parts = {name: msgspec.to_builtins(workspace.parts(node, {})) for name, node in workspace.graph.nodes.items()}
        return definitions(workspace, parts)

    def _definitions_changed(self) -> set[str]:
        main = self._app.lake.commit_at(self._base)
        here, there = self._here(), main.code if main else {}
        return {name for name in {*here, *there} if here.get(name) != there.get(name)}

    def rules(self) -> dict[str, str]:
        """The files of rules and their digests."""
        return {path: digest_bytes(text) for path, text in collect(self._code.root).items()}

    def definition(self) -> str:
        """A digest of all of this code."""
        return digest_value([self._here(), self.rules(), self._request.sets])

    def _split(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Values for parameters of steps, and values for thresholds of rules: what no step has is a rule's."""
        nodes = self._workspace.graph.nodes
        flow: dict[str, Any] = {}
        rules: dict[str, dict[str, Any]] = {}
        for name, value in self._request.sets.items():
            step, _, parameter = name.rpartition(".")
            node = nodes.get(step)
            if node is not None and any(one.name == parameter and one.has_default for one in node.parameters):
                flow[name] = value
            else:
                rules.setdefault(step, {})[parameter] = _number(value)
        return flow, rules

    # -- before

    def plan(self) -> ReplayPlan:
        """What it will do, how much of it is there already, how long it will take and what that costs."""
        runs, slots = self._engine.runs, Slots(self._app.settings)
        whole = self._engine.plan(None, self._sets, self._position)
        moments = self._moments()
        plans = [whole, *(self._plan_of(moment) for moment in moments)]
        seconds = sum(forecast(plan, runs, slots.total) for plan in plans) + self._deciding()
        learned = self._learned()
        seconds *= learned
        steps = [step for plan in plans for step in plan.steps]
        prices = read_prices(self._code.config())
        return ReplayPlan(
            code=self._request.code or "the working tree",
            position=str(self._position),
            base=self._base.removeprefix("@"),
            events=sum(self._position.values()),
            decisions=len(self._past),
            steps=tuple(ReplayStep(s.name, s.kind, s.state, s.why, s.seconds, s.certain) for s in whole.steps),
            moments=tuple(moments),
            cached=sum(step.state == CACHED for step in steps) / len(steps) if steps else 1.0,
            seconds=seconds,
            cost=prices.cost(seconds),
            currency=prices.currency,
            changed=(*sorted(self._changed), *self._rules_changed()),
            learned=learned,
            definition=self.definition(),
        )

    def _rules_changed(self) -> list[str]:
        """The files of rules that are others than those that decided last."""
        last = {one.endpoint: self._bundles[one.bundle] for one in self._past}
        here = self.rules()
        there = [one.sources for one in last.values() if one.decision is not None]
        return sorted({path for one in there for path in {*here, *one} if here.get(path) != one.get(path)})

    def _plan_of(self, moment: Moment) -> Plan:
        return self._engine.plan(moment.model, self._sets, Position.parse(moment.position))

    def _moments(self) -> list[Moment]:
        """When which version came into force, of those that decided; only models that this code still has."""
        nodes = self._workspace.graph.nodes
        found: dict[tuple[str, str], Moment] = {}
        for one in self._past:
            version = self._bundles[one.bundle].version
            model = version.partition("@")[0]
            if (one.endpoint, version) not in found and model in nodes:
                run = self._app.models.get(version).run
                if run is not None and (position := self._engine.runs.get(run).position):
                    found[one.endpoint, version] = Moment(one.endpoint, version, one.time, position, model)
        return sorted(found.values(), key=lambda moment: moment.time)

    def _deciding(self) -> float:
        """Seconds for taking all past decisions again: as many as the last replay took for one, or a guess."""
        for replay in Replays(self._app.db).list(10):
            if (took := replay.report.get("deciding")) and (count := replay.plan.get("decisions")):
                return float(took) * len(self._past) / float(count)
        return _PER_BUNDLE * len({one.bundle for one in self._past}) + len(self._past) / _PER_SECOND

    def _learned(self) -> float:
        """By how much replays on record took longer than their steps promised; the last three that ran something."""
        ratios = [
            r.report["seconds"] / r.plan["seconds"] * r.plan.get("learned", 1.0)
            for r in Replays(self._app.db).list(10)
            if r.state in (DONE, APPROVED, DISCARDED) and r.report.get("seconds") and r.plan.get("seconds", 0) > 1
        ][:3]
        return min(3.0, max(0.5, sorted(ratios)[len(ratios) // 2])) if ratios else 1.0

    # -- the whole

    def run(self, id: str, branch: str, plan: ReplayPlan, actor: str, told: Told) -> ReplayReport:
        """Derive, decide, compare. A check that refuses ends it with a report; anything else that fails is raised."""
        began = time.perf_counter()
        say = f"replay {id}" + (f": {self._request.reason}" if self._request.reason else "")
        models: dict[tuple[str, str], str] = {}
        earlier: list[RunResult] = []
        effects: list[Effect] = []
        for moment in plan.moments:
            told({"step": "", "state": "moment", "message": f"{moment.model} as by {iso(moment.time)[:10]}"})
            made = self._engine.run(
                moment.model,
                self._sets,
                on_event=told,
                actor=actor,
                reason=f"{say}, as by {iso(moment.time)[:10]}",
                branch=branch,
                position=Position.parse(moment.position),
                noting=True,
            )
            effects += _refusals(made)
            if made.state != SUCCEEDED:
                continue  # what it would have decided is not known
            earlier.append(made)
            models[moment.endpoint, moment.version] = next(
                (ref for ref in made.versions if ref.partition("@")[0] == moment.model), moment.version
            )
        whole = self._engine.run(
            None,
            self._sets,
            on_event=told,
            actor=actor,
            reason=say,
            branch=branch,
            position=self._position,
            noting=True,
        )
        if whole.state != SUCCEEDED:
            return self._failed(whole, plan, began)
        told({"step": "", "state": "deciding", "message": f"taking {len(self._past):,} decisions again"})
        derived = deciding = time.perf_counter()
        decisions = [
            self._decisions(name, branch, models, earlier) for name in dict.fromkeys(p.endpoint for p in self._past)
        ]
        took = time.perf_counter() - deciding
        told({"step": "", "state": "comparing", "message": "comparing the tables"})
        tables, figures = self._tables(branch), self._figures(branch)
        return ReplayReport(
            run=whole.run,
            state=SUCCEEDED,
            seconds=time.perf_counter() - began,
            expected=plan.seconds,
            steps=_counted(whole),
            tables=tables,
            figures=figures,
            decisions=tuple(decisions),
            effects=(*self._deployments(plan, models), *_distinct([*effects, *_refusals(whole)])),
            newer=self._newer(),
            deriving=derived - began,
            deciding=took,
            notes=tuple(self._notes(decisions)),
        )

    def _notes(self, decisions: list[Counterfactual]) -> Iterator[str]:
        if decisions:
            yield _NOTE
        if self._strange:
            yield f"{self._strange:,} events of predictions come from no endpoint of this workspace; they do not count."

    def _failed(self, made: "RunResult", plan: ReplayPlan, began: float) -> ReplayReport:
        return ReplayReport(
            run=made.run,
            state=RUN_FAILED,
            seconds=time.perf_counter() - began,
            expected=plan.seconds,
            steps=_counted(made),
            effects=tuple(_refusals(made)),
            error="\n".join(_errors(made)) or made.error,
        )

    # -- tables and figures

    def _tables(self, branch: str) -> tuple[Any, ...]:
        lake = self._app.lake
        before, after = lake.names(self._base), lake.names(branch)
        return tuple(
            lake.diff(name, before.get(name), after.get(name))
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        )

    def _figures(self, branch: str) -> tuple[Figure, ...]:
        lake, models = self._app.lake, self._app.models
        before, after = lake.versions(self._base), lake.versions(branch)
        found = []
        for name in sorted({*before, *after}):
            if before.get(name) == after.get(name):
                continue
            sides = [models.get(f"{name}@{side[name]}").metrics if name in side else {} for side in (before, after)]
            for metric in sorted({*sides[0], *sides[1]}):
                pair = [_figure(side.get(metric)) for side in sides]
                if pair[0] != pair[1]:
                    found.append(Figure(name, metric, *pair))
        return tuple(found)

    def _deployments(self, plan: ReplayPlan, models: Mapping[tuple[str, str], str]) -> Iterator[Effect]:
        for moment in plan.moments:
            made = models.get((moment.endpoint, moment.version), "")
            if not made:
                said = f"{moment.version} has no counterpart: {moment.model} did not come off on the log of its time"
                yield Effect("deployment", moment.endpoint, said, moment.time)
            elif made != moment.version:
                said = f"{moment.endpoint} would have served {made} instead of {moment.version}"
                yield Effect("deployment", moment.endpoint, said, moment.time)

    def _newer(self) -> int:
        """Events that the base has not seen."""
        base = self._app.lake.commit_at(self._base)
        if base is None:
            return 0
        runs = self._engine.runs.list(_RUNS, branch=MAIN)
        run = next(
            (one for one in runs if one.commit_id == base.id and one.state == SUCCEEDED and not one.target), None
        )
        if run is None:
            return 0
        seen = Position.parse(run.position)
        return sum(
            max(0, count - seen[name]) for name, count in self._position.items() if not name.startswith("serve-")
        )

    # -- decisions

    def _decisions(
        self, endpoint: str, branch: str, models: Mapping[tuple[str, str], str], earlier: "list[RunResult]"
    ) -> Counterfactual:
        """Every past decision of an endpoint, taken again by what would have been in force."""
        past = [one for one in self._past if one.endpoint == endpoint]
        asked: list[tuple[Bundle, list[Case]]] = []
        versions: dict[str, str] = {}
        failed: dict[str, Again] = {}
        try:
            for digest in dict.fromkeys(one.bundle for one in past):
                mine = [one for one in past if one.bundle == digest]
                try:
                    bundle = self._bundle(endpoint, digest, models)
                except SampanError as error:  # these cannot be taken again; others may
                    failed |= {one.id: Again(one.id, None, "", "", None, error.obstacle) for one in mine}
                    continue
                versions[self._bundles[digest].version] = bundle.version
                if leak := self._leak(bundle, branch, earlier):
                    raise Refused(f"Take decisions of {endpoint} again", leak)
                asked.append((bundle, self._cases(bundle, branch, mine)))
            again = {**failed, **self._answers(asked)}
        except SampanError as error:
            obstacle = f"{error.obstacle}. {error.advice}".strip()
            return Counterfactual(
                endpoint=endpoint, decisions=len(past), answered=0, known=0, differ=0, obstacle=obstacle
            )
        return compare(endpoint, past, again, versions)

    def _answers(self, asked: list[tuple[Bundle, list[Case]]]) -> dict[str, Again]:
        """What the bundles answer. The log keeps the text of whom a decision was about; a rule may want a number."""
        folder = self._code.data / "tmp"
        again = answer_again(self._app.blobs, asked, folder)
        numbers = [
            (bundle, [numbered for case in cases if again[case.id].error and (numbered := _numbered(bundle, case))])
            for bundle, cases in asked
        ]
        better = answer_again(self._app.blobs, [pair for pair in numbers if pair[1]], folder)
        return {**again, **{id: one for id, one in better.items() if not one.error}}

    def _bundle(self, endpoint: str, digest: str, models: Mapping[tuple[str, str], str]) -> Bundle:
        """What would have been in force instead of a bundle: the model of the time, and the rules of this code, with
        the thresholds that somebody had set."""
        endpoints = self._app.endpoints
        was = self._bundles[digest]
        model = was.version.partition("@")[0]
        if (endpoint, was.version) not in models and model in self._workspace.graph.nodes and self._made(was.version):
            raise Refused(f"Derive {model} again", f"it did not come off on the log as it was for {was.version}")
        ref = models.get((endpoint, was.version), was.version)
        name = was.decision.name if was.decision else None
        root = self._code.root
        bundle = endpoints.make_bundle(ref, workspace=root, decision=name, rules_only=True)
        if bundle.decision is None:
            return bundle
        chosen = self._chosen(was, bundle.decision)
        thresholds = merge_thresholds(bundle.decision.name, bundle.decision.thresholds, chosen)
        facts = msgspec.structs.replace(bundle.decision, thresholds=thresholds)
        return msgspec.structs.replace(bundle, decision=facts)

    def _made(self, version: str) -> bool:
        """Whether a run made a version, from a position of the log that is known."""
        run = self._app.models.get(version).run
        return run is not None and bool(self._engine.runs.get(run).position)

    def _chosen(self, was: Bundle, now: DecisionFacts) -> dict[str, Any]:
        """Thresholds that were set when the bundle was deployed, as far as the rule still has them; those of --set."""
        found: dict[str, Any] = {}
        if was.decision is not None:
            declared = next(
                (one.thresholds for one in self._app.endpoints.declared(was) if one.name == was.decision.name), {}
            )
            found = {
                name: value
                for name, value in was.decision.thresholds.items()
                if name in now.thresholds and value != declared.get(name, value)
            }
        return {**found, **self._thresholds.get(now.name, {})}

    def _leak(self, bundle: Bundle, branch: str, earlier: "list[RunResult]") -> str:
        """In words, how the features of this code use the future; nothing if they do not."""
        facts = bundle.decision
        now = self._table(facts, branch)
        if facts is None or now is None:
            return ""
        looked = False
        for made in earlier:
            then = self._engine.sources(made.run).get(facts.features)
            if then is None:
                continue
            looked = True
            if found := otherwise_later(then, now, facts.key, list(bundle.model.signature.inputs)):
                listed = ", ".join(f"{name} in {count:,} rows" for name, count in list(found.items())[:4])
                return (
                    f"{facts.features} uses the future: values that were known earlier came out otherwise on later"
                    f" events ({listed}). With them no past decision can be taken again honestly"
                )
        if looked:
            return ""
        return (
            f"{facts.features} comes out otherwise, and no earlier state of it was derived that could show whether it"
            " uses the future: let the model need it"
        )

    def _cases(self, bundle: Bundle, branch: str, asked: list[Past]) -> list[Case]:
        """The requests, with the inputs that this code would have given for them."""
        facts = bundle.decision
        inputs = list(bundle.model.signature.inputs)
        table = self._table(facts, branch)
        rows: dict[str, dict[str, Any]] = {}
        if facts is not None and table is not None:
            rows = looked_up(table, facts.key, inputs, (_key(facts, one) for one in asked))
        cases = []
        for one in asked:
            features = {name: one.features[name] for name in inputs if name in one.features}
            if facts is not None and table is not None:
                row = rows.get(str(_key(facts, one)))
                if row is None:
                    continue
                features.update(row)
            record = {**one.context, **one.features, **features}
            if facts is not None and facts.entity and facts.entity not in record:
                record[facts.entity] = one.entity or None
            cases.append(Case(one.id, one.time, record))
        return cases

    def _table(self, facts: DecisionFacts | None, branch: str) -> "TableSource | None":
        """The table that holds the features; none where it is as it was, so that what was kept is what it gives."""
        lake = self._app.lake
        if facts is None or not facts.features:
            return None
        graph = self._workspace.graph
        if facts.features not in graph.nodes or facts.features not in lake.names(branch):
            raise NotFound(
                f"Look up the features of {facts.name}",
                f"there is no table {facts.features!r}, which its decision names",
                "Mend features= in decisions.py.",
            )
        above = {facts.features, *graph.ancestors(facts.features)}
        types = {f"contract {need}" for name in above for need in graph.nodes[name].needs if need in graph.events}
        same = lake.names(branch).get(facts.features) == lake.names(self._base).get(facts.features)
        if same or not (above | types) & self._changed:
            return None
        return lake.source(facts.features, branch)


def _numbered(bundle: Bundle, case: Case) -> Case | None:
    """The same case with a number for whom it is about, if the text may have been one."""
    entity = bundle.decision.entity if bundle.decision is not None else ""
    text = case.record.get(entity)
    number = whole(text) if entity and isinstance(text, str) else None
    if number is None or str(number) != text:
        return None
    return Case(case.id, case.time, {**case.record, entity: number})


def _distinct(effects: list[Effect]) -> list[Effect]:
    return list({(one.kind, one.about): one for one in effects}.values())


def _refusals(made: "RunResult") -> Iterator[Effect]:
    """The checks that would have kept it from being published."""
    for step in made.steps:
        if step.state == RUN_FAILED and step.kind == CHECK and not step.error.startswith("!"):
            yield Effect("refusal", step.name, f"the check {step.name} would have refused it: {step.error}")


def _errors(made: "RunResult") -> Iterator[str]:
    """What went wrong in the steps that failed."""
    for step in made.steps:
        if step.state == RUN_FAILED and step.error and not (step.kind == CHECK and not step.error.startswith("!")):
            yield f"{step.name} failed: {step.error.removeprefix('!')}"


def _key(facts: DecisionFacts, one: Past) -> Any:
    if facts.key == facts.entity:
        return one.entity
    return one.context.get(facts.key, one.features.get(facts.key))


def _counted(made: "RunResult") -> dict[str, int]:
    found: dict[str, int] = {}
    for step in made.steps:
        found[step.state] = found.get(step.state, 0) + 1
    return found


def _figure(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _number(value: Any) -> Any:
    """The value of a threshold as JSON writes it; text otherwise."""
    try:
        return msgspec.json.decode(value) if isinstance(value, str) else value
    except msgspec.DecodeError:
        return value
