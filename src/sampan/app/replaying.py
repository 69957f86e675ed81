"""A replay from end to end: plan, derive everything again beside main, take every past decision again, report.

Models are derived as they would have been: for each time when another bundle came into force, on the log as it was
when the version in it was made. So no candidate has learned from what it is then asked about. Nothing reaches the
world: runs on a branch tell nobody, and nothing is deployed; what would have been is part of the report.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.app.retaking import Candidate, Retaking
from sampan.base.clock import iso
from sampan.base.digests import digest_bytes, digest_value
from sampan.base.errors import NotFound, Usage
from sampan.base.sources import collect
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
from sampan.serve.counterfactual import Counterfactual
from sampan.serve.decisions import ENTRY
from sampan.serve.past import past_decisions
from sampan.serve.replayed import Effect, Figure, Moment, ReplayPlan, ReplayReport, ReplayStep

if TYPE_CHECKING:
    from sampan.app.workplace import Workplace
    from sampan.base.settings import Folder
    from sampan.flow.outcome import RunResult

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
        self._engine = Engine(code, app.db, app.lake, self._log, app.models, app.clock, app.settings, app.tells)
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
        served = {row["bundle"] for row in app.db.rows("SELECT DISTINCT bundle FROM bundles")}
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
        return {path: digest_bytes(text) for path, text in collect(self._code.root, ENTRY).items()}

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
        candidate = Candidate(
            self._code, self._workspace, self._base, branch, models, earlier, self._thresholds, self._changed
        )
        again = Retaking(self._app, self._engine, candidate, self._past, self._bundles)
        decisions = [again.decisions(name) for name in dict.fromkeys(p.endpoint for p in self._past)]
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
            versions=tuple(f"{model}@{number}" for model, number in sorted(self._app.lake.versions(branch).items())),
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
