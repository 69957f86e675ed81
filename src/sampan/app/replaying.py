"""A replay from end to end: plan, derive everything again beside main, take every past decision again, report.

Models are derived as they would have been: for each time when another bundle came into force, on the log as it was
when the version in it was made. So no candidate has learned from what it is then asked about. Nothing reaches the
world: runs on a branch tell nobody, and nothing is deployed; what would have been is part of the report.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.clock import iso
from sampan.base.digests import digest_bytes
from sampan.base.errors import NotFound, SampanError, Usage
from sampan.base.ids import new_id
from sampan.flow.engine import Engine
from sampan.flow.forecast import forecast
from sampan.flow.plan import CACHED, Plan
from sampan.flow.publish import definitions
from sampan.flow.slots import Slots
from sampan.flow.workspace import Workspace
from sampan.log.position import Position
from sampan.money.prices import read_prices
from sampan.runs.records import FAILED as RUN_FAILED
from sampan.runs.records import SUCCEEDED
from sampan.runs.replays import APPROVED, DISCARDED, DONE, FAILED, RUNNING, Replay, ReplayRequest, Replays
from sampan.serve.again import Case
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
    from sampan.app import App
    from sampan.base.settings import Folder
    from sampan.flow.outcome import RunResult
    from sampan.lake.query import TableSource

Told = Callable[[Any], None]
_PER_SECOND: Final = 2_000.0  # decisions taken again, until a replay has measured it
_PER_BUNDLE: Final = 3.0  # seconds to load what takes them
_NOTE: Final = (
    "Outcomes are those of what was done. Where another action would have been taken, its value is that of the outcome"
    " that followed the action that was; if the action itself changes what happens, no replay can tell."
)


class Replaying:
    """One replay of one workspace, with one state of its code."""

    def __init__(self, app: "App", request: ReplayRequest, code: "Folder") -> None:
        self._app, self._request, self._code = app, request, code
        self._log = app.log_of(code)
        self._engine = Engine(code, app.db, app.lake, self._log, app.models, app.clock, app.settings)
        self._sets, self._thresholds = self._split()
        until = request.until
        self._position = self._log.position() if until is None else self._log.position_at(until)
        if until is not None and not self._position:
            raise NotFound(
                f"Replay until {iso(until)}", "no event had been received by then", "Choose a later time, or none."
            )
        self._past = past_decisions(app.lake, self._log, self._position, request.since, until)
        base = app.lake.head() if until is None else app.lake.at(until)
        self._base = f"@{base}" if base else "main"

    def _split(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Values for parameters of steps, and values for thresholds of rules: what no step has is a rule's."""
        nodes = Workspace(self._code).graph.nodes
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
        seconds *= self._learned()
        steps = [step for plan in plans for step in plan.steps]
        prices = read_prices(self._code.config())
        main = self._app.lake.commit_at(self._base)
        workspace = Workspace(self._code, self._sets)
        here = definitions(
            {name: msgspec.to_builtins(workspace.parts(node, {})) for name, node in workspace.graph.nodes.items()}
        )
        there = main.code if main else {}
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
            changed=tuple(
                [name for name in sorted({*here, *there}) if here.get(name) != there.get(name)] + self._rules_changed()
            ),
        )

    def _rules_changed(self) -> list[str]:
        """The files of rules that are others than those that decided last."""
        last = {one.endpoint: one.bundle for one in self._past}
        here = {path: digest_bytes(text) for path, text in collect(self._code.root).items()}
        there = [self._app.endpoints.bundle(digest).sources for digest in last.values()]
        changed = {path for one in there if one for path in {*here, *one} if here.get(path) != one.get(path)}
        return sorted(changed)

    def _plan_of(self, moment: Moment) -> Plan:
        return self._engine.plan(moment.model, self._sets, Position.parse(moment.position))

    def _moments(self) -> list[Moment]:
        """When which version came into force, of those that decided; only models that this code still has."""
        nodes = Workspace(self._code).graph.nodes
        found: dict[tuple[str, str], Moment] = {}
        for one in self._past:
            model = one.version.partition("@")[0]
            if (one.endpoint, one.version) not in found and model in nodes:
                run = self._app.models.get(one.version).run
                if run is not None and (position := self._engine.runs.get(run).position):
                    found[one.endpoint, one.version] = Moment(one.endpoint, one.version, one.time, position, model)
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
            if made.state != SUCCEEDED:
                return self._refused(made, plan, began)
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
            return self._refused(whole, plan, began)
        told({"step": "", "state": "deciding", "message": f"taking {len(self._past):,} decisions again"})
        deciding = time.perf_counter()
        decisions = [
            self._decisions(name, branch, models, earlier) for name in dict.fromkeys(p.endpoint for p in self._past)
        ]
        took = time.perf_counter() - deciding
        told({"step": "", "state": "comparing", "message": "comparing the tables"})
        return ReplayReport(
            run=whole.run,
            state=SUCCEEDED,
            seconds=time.perf_counter() - began,
            expected=plan.seconds,
            steps=_counted(whole),
            tables=self._tables(branch),
            figures=self._figures(branch),
            decisions=tuple(decisions),
            effects=(*self._deployments(plan, models), *_refusals(whole)),
            newer=self._newer(),
            deciding=took,
            notes=(_NOTE,) if decisions else (),
        )

    def _refused(self, made: "RunResult", plan: ReplayPlan, began: float) -> ReplayReport:
        return ReplayReport(
            run=made.run,
            state=RUN_FAILED,
            seconds=time.perf_counter() - began,
            expected=plan.seconds,
            steps=_counted(made),
            error=made.error,
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
            made = models[moment.endpoint, moment.version]
            if made != moment.version:
                said = f"{moment.endpoint} would have served {made} instead of {moment.version}"
                yield Effect("deployment", moment.endpoint, said, moment.time)

    def _newer(self) -> int:
        """Events that the base has not seen."""
        base = self._app.lake.commit_at(self._base)
        run = self._engine.runs.get(base.run) if base is not None and base.run else None
        seen = Position.parse(run.position) if run is not None else Position()
        return sum(max(0, count - seen[name]) for name, count in self._position.items()) if run else 0

    # -- decisions

    def _decisions(
        self, endpoint: str, branch: str, models: Mapping[tuple[str, str], str], earlier: "list[RunResult]"
    ) -> Counterfactual:
        """Every past decision of an endpoint, taken again by what would have been in force."""
        past = [one for one in self._past if one.endpoint == endpoint]
        asked: list[tuple[Bundle, list[Case]]] = []
        versions: dict[str, str] = {}
        obstacle = ""
        try:
            for digest in dict.fromkeys(one.bundle for one in past):
                mine = [one for one in past if one.bundle == digest]
                bundle = self._bundle(endpoint, digest, models)
                versions[mine[0].version] = bundle.version
                obstacle = obstacle or self._leak(bundle, branch, earlier)
                asked.append((bundle, [] if obstacle else self._cases(bundle, branch, mine)))
            again = answer_again(self._app.blobs, asked, self._code.data / "tmp") if not obstacle else {}
        except SampanError as error:
            obstacle = f"{error.obstacle}. {error.advice}".strip()
        if obstacle:
            return Counterfactual(
                endpoint=endpoint, decisions=len(past), answered=0, known=0, differ=0, obstacle=obstacle
            )
        return compare(endpoint, past, again, versions)

    def _bundle(self, endpoint: str, digest: str, models: Mapping[tuple[str, str], str]) -> Bundle:
        """What would have been in force instead of a bundle: the model of the time, and the rules of this code, with
        the thresholds that somebody had set."""
        endpoints = self._app.endpoints
        was = endpoints.bundle(digest)
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
        if facts is None or not facts.features or facts.features not in self._app.lake.names(branch):
            return ""
        now = self._app.lake.source(facts.features, branch)
        for made in earlier:
            then = self._engine.sources(made.run).get(facts.features)
            if then is None:
                continue
            if found := otherwise_later(then, now, facts.key, list(bundle.model.signature.inputs)):
                listed = ", ".join(f"{name} in {count:,} rows" for name, count in list(found.items())[:4])
                return (
                    f"{facts.features} uses the future: values that were known earlier came out otherwise on later"
                    f" events ({listed}). With them no past decision can be taken again honestly."
                )
        return ""

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
            record = {**one.context, **features}
            if facts is not None and facts.entity:
                record[facts.entity] = one.entity or None
            cases.append(Case(one.id, one.time, record))
        return cases

    def _table(self, facts: DecisionFacts | None, branch: str) -> "TableSource | None":
        """The table that holds the features; none where it is as it was, so that what was kept is what it gives."""
        lake = self._app.lake
        if facts is None or not facts.features or facts.features not in lake.names(branch):
            return None
        same = lake.names(branch).get(facts.features) == lake.names(self._base).get(facts.features)
        return None if same else lake.source(facts.features, branch)


def begin(app: "App", request: ReplayRequest, actor: str, told: Told, id: str = "") -> Replay:
    """Replay, on a branch of its own, and keep the report; with the ``id`` of one that was interrupted, go on."""
    replays = Replays(app.db)
    before = replays.get(id) if id else None
    request = before.request if before else request
    with checked_out(app, request.code) as code:
        replaying = Replaying(app, request, code)
        plan = replaying.plan()
        made = before or Replay(
            new_id(app.clock), "", RUNNING, request, msgspec.to_builtins(plan), {}, "", actor, app.clock.micros()
        )
        branch = made.branch or f"replay-{made.id}"
        if not before:
            app.lake.branch(branch, actor=actor, reason=request.reason or f"replay with {plan.code}")
        made = replays.put(msgspec.structs.replace(made, branch=branch, state=RUNNING, error=""))
        told({"run": made.id, "step": "", "state": "started", "message": f"replay {made.id} on {branch}"})
        try:
            report = replaying.run(made.id, branch, plan, actor, told)
        except BaseException as error:
            said = error.obstacle if isinstance(error, SampanError) else type(error).__name__
            text = f"{said}; `sampan replay resume {made.id}` goes on"
            replays.put(msgspec.structs.replace(made, state=FAILED, error=text, finished=app.clock.micros()))
            raise
    state = DONE if report.state == SUCCEEDED else FAILED
    found = msgspec.to_builtins(report)
    return replays.put(
        msgspec.structs.replace(made, state=state, report=found, error=report.error, finished=app.clock.micros())
    )


def approve(app: "App", id: str, reason: str, actor: str, told: Told) -> tuple[Replay, "RunResult"]:
    """Merge a replay's branch into main. Raises Usage for one that has no report, and what a merge raises."""
    replays = Replays(app.db)
    found = replays.get(id)
    if found.state != DONE:
        raise Usage(f"Approve replay {found.id}", f"it is {found.state}", "Only one that is done can be approved.")
    result = app.engine.merge(found.branch, on_event=told, actor=actor, reason=reason or f"replay {found.id}")
    if result.state == SUCCEEDED:
        app.lake.delete_branch(found.branch)
        found = replays.put(msgspec.structs.replace(found, state=APPROVED))
    return found, result


def discard(app: "App", id: str, actor: str) -> Replay:
    """Drop a replay's branch; its report stays. Raises Usage for one that was approved."""
    replays = Replays(app.db)
    found = replays.get(id)
    if found.state in (APPROVED, DISCARDED):
        raise Usage(f"Discard replay {found.id}", f"it is {found.state}", "`sampan replay list` shows the others.")
    if found.branch in app.lake.branches():
        app.lake.delete_branch(found.branch)
    return replays.put(msgspec.structs.replace(found, state=DISCARDED))


@contextmanager
def checked_out(app: "App", ref: str) -> "Iterator[Folder]":
    """The workspace's code at a git ref, in a folder of its own for as long as it is needed; the working tree for "".

    Raises NotFound for an unknown ref, or one at which there is no workspace.
    """
    import shutil
    import subprocess

    from sampan.base.settings import Folder

    if not ref:
        yield app.folder
        return
    root = app.folder.root
    attempted = f"Replay with the code of {ref!r}"

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["git failed"])[-1]
            raise NotFound(attempted, said, "Name a commit, branch or tag of the workspace's repository.")
        return done.stdout.strip()

    if ref.startswith("-"):
        raise NotFound(attempted, "that is no git ref", "Name a commit, branch or tag.")
    commit = git("rev-parse", "--verify", "--end-of-options", f"{ref}^{{commit}}")
    prefix = git("rev-parse", "--show-prefix")
    tree = app.folder.data / "tmp" / f"code-{commit[:16]}-{new_id(app.clock)}"
    git("worktree", "add", "--detach", "--quiet", str(tree), commit)
    try:
        code = Folder(Path(tree) / prefix, root)
        if not (code.root / "sampan.toml").is_file():
            raise NotFound(attempted, "there is no sampan.toml at that commit", "Name one at which there is.")
        yield code
    finally:
        subprocess.run(
            ["git", "-C", str(root), "worktree", "remove", "--force", str(tree)], capture_output=True, check=False
        )
        shutil.rmtree(tree, ignore_errors=True)


def _refusals(made: "RunResult") -> Iterator[Effect]:
    """The checks that would have kept it from being published."""
    for step in made.steps:
        if step.state == RUN_FAILED:
            text = step.error.removeprefix("!")
            yield Effect("refusal", step.name, f"the check {step.name} would have refused it: {text}")


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
