"""Why metrics of models differ between two runs: one factor after the other as in the second run, all else as in the
first, through the cache; and whose share of the change is what.

Factors are the code (with the files that steps declare), the data (the events up to the run's position), the
parameters, and the environment (Python and packages), which is made anew where it is not the running one. What cannot
be swapped, such as the machine, is said and left out: its share is the rest, which is measured all the same, since both
runs are trained again, too.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.app.environments import NotRebuilt
from sampan.app.surroundings import Surroundings, few, shown
from sampan.app.worktrees import checked_out, patched
from sampan.base.digests import digest_value
from sampan.base.errors import NotFound, Refused, SampanError, Usage
from sampan.base.ids import new_id
from sampan.flow.engine import Engine
from sampan.flow.forecast import beside, span
from sampan.flow.graph import MODEL
from sampan.flow.interpreter import Interpreter
from sampan.flow.plan import RAN, Planner, stored_of
from sampan.flow.slots import Slots
from sampan.flow.workspace import Workspace
from sampan.hub.differences import numbers
from sampan.log.position import Position
from sampan.money.prices import read_prices
from sampan.runs.explanations import (
    CHANCE,
    CODE,
    DATA,
    ENVIRONMENT,
    PARAMETERS,
    Combination,
    ExplainedMetric,
    ExplainRequest,
    Explanation,
    ExplanationPlan,
    ExplanationReport,
    Explanations,
    Factor,
    Share,
)
from sampan.runs.records import Run
from sampan.runs.shapley import Coalition, from_first, from_second, shares

if TYPE_CHECKING:
    from sampan.app.workplace import Workplace
    from sampan.base.settings import Folder

_CODE: Final = ("code", "files", "options", "node")
_TIMES: Final = ("seconds", "_time", "_ms")  # of metrics that measure time, and say nothing of a model
Metrics = dict[str, dict[str, float]]


class Explaining:
    """One explanation of one workspace; to be used within ``opened``."""

    def __init__(self, app: "Workplace", request: ExplainRequest) -> None:
        """Raises NotFound for a run or model that is not there, Usage for a run that did not come to its end."""
        self._app, self._runs = app, app.runs
        self._pair = pair = (app.runs.get(request.before), app.runs.get(request.after))
        self._attempted = f"Explain what differs from run {pair[0].id} to {pair[1].id}"
        for run in pair:
            if not run.manifest.get("steps") or "prefix" not in run.manifest:
                said = f"run {run.id} ({run.state}) did not record all it was made from"
                raise Usage(self._attempted, said, "Name runs that came to their end; `sampan runs list` shows them.")
        self._recorded = (self._metrics_of(pair[0].id), self._metrics_of(pair[1].id))
        self.models = self._differing(request.model)
        self._folders: list[Folder] = []
        self._spaces: list[Workspace] = []
        self._events = [(Position.parse(run.position), run.manifest.get("known_by")) for run in pair]
        self._parameters = [
            {name: step.get("parameters") or {} for name, step in run.manifest["steps"].items()} for run in pair
        ]
        self._interpreters: list[Interpreter] = []
        self.factors: tuple[Factor, ...] = ()
        self.notes: list[str] = []

    def _differing(self, model: str) -> tuple[str, ...]:
        one, other = self._recorded
        both = [name for name in one if name in other]
        if model and model not in both:
            there = f"Models in both: {', '.join(both) or 'none'}."
            raise NotFound(self._attempted, f"{model} is not a model that both of them have", there)
        return tuple(name for name in both if model in ("", name) and one[name] != other[name])

    def _metrics_of(self, run: str) -> Metrics:
        """Metrics of the models in a run of the flow, by model, that are finite and do not measure time."""
        steps = [step for step in self._runs.steps(run) if step.kind == MODEL and step.key]
        results = self._runs.results([step.key for step in steps])
        versions = {one.key: one.metrics for one in self._app.models.list() if one.key} if steps else {}
        found: Metrics = {}
        for step in steps:
            stored = stored_of(results[step.key]) if step.key in results else None
            metrics = stored.model.metrics if stored is not None and stored.model is not None else None
            plain = numbers("", versions.get(step.key, {}) if metrics is None else metrics)
            kept = {name.lstrip("."): float(value) for name, value in plain.items() if math.isfinite(value)}
            if step.digest:
                found[step.name] = {name: value for name, value in kept.items() if not name.endswith(_TIMES)}
        return found

    # -- the two states

    @contextmanager
    def opened(self) -> Iterator["Explaining"]:
        """With the code of both runs checked out. Raises Refused where that of neither is to be had."""
        with ExitStack() as stack:
            states = [(run.git, run.manifest.get("patch"), run.manifest["prefix"]) for run in self._pair]
            found: list[Folder | None] = []
            said = ""
            for at, run in enumerate(self._pair):
                if at and states[0] == states[1]:
                    found.append(found[0])
                    continue
                try:
                    folder = stack.enter_context(self._code(run))
                    Workspace(folder)
                    found.append(folder)
                except SampanError as error:
                    found.append(None)
                    said = f"the code of run {run.id} is not to be had: {error.obstacle}"
            there = [one for one in found if one is not None]
            if not there:
                raise Refused(self._attempted, said, "Fetch its commit, or restore a backup.")
            self._folders = [one or there[0] for one in found]
            self._spaces = [Workspace(one) for one in self._folders]
            self.factors = tuple(self._found(said, [str(run.git or "")[:12] or "no commit" for run in self._pair]))
            self.notes += self._noted()
            yield self

    @contextmanager
    def _code(self, run: Run) -> "Iterator[Folder]":
        digest = run.manifest.get("patch")
        patch = self._app.blobs.path(str(digest)) if digest else None
        if patch is not None and not patch.exists():
            raise NotFound(self._attempted, f"its uncommitted changes ({patch.name[:12]}) are gone", "")
        if run.git is not None:
            with checked_out(self._app, run.git, patch) as folder:
                yield folder
        elif patch is not None:
            with patched(self._app, patch, str(run.manifest["prefix"])) as folder:
                yield folder
        else:
            raise NotFound(self._attempted, "none was recorded", "")

    def _steps(self) -> list[str]:
        """The models and all that they need, in either code."""
        found: dict[str, None] = {}
        for space in self._spaces:
            for model in self.models:
                if model in space.graph.nodes:
                    found |= dict.fromkeys([*sorted(space.graph.ancestors(model)), model])
        return list(found)

    def _found(self, lost: str, commits: Sequence[str]) -> Iterator[Factor]:
        steps = self._steps()
        a, b = (self._recipes(run, steps) for run in self._pair)
        changed = [name for name in steps if _section(a.get(name), _CODE) != _section(b.get(name), _CODE)]
        contracts = [space.event_code(type) for space in self._spaces for type in sorted(space.graph.events)]
        half = len(contracts) // 2
        if changed or lost or contracts[:half] != contracts[half:]:
            named = changed or (["contracts"] if not lost else [" → ".join(commits)])
            yield Factor(CODE, few(named), not lost, lost)
        yield from self._data()
        differing = [
            f"{name}.{key}: {shown(one.get(key))} → {shown(other.get(key))}"
            for name in steps
            for one, other in [[side.get(name, {}) for side in self._parameters]]
            for key in sorted({*one, *other})
            if one.get(key) != other.get(key)
        ]
        if differing:
            yield Factor(PARAMETERS, few(differing))
        self._surroundings = Surroundings(self._pair, (a, b), self._spaces[0].interpreter)
        yield from self._surroundings.factors()

    def _recipes(self, run: Run, steps: Sequence[str]) -> dict[str, Any]:
        recipes = run.manifest.get("recipes") or {}
        return {name: recipes[name] for name in steps if name in recipes}

    def _data(self) -> Iterator[Factor]:
        log = self._app.log
        needed = {need for space in self._spaces for name in self._steps() if name in space.graph.nodes
                  for need in space.graph.nodes[name].needs}  # fmt: skip
        read = [
            {type: one for type, one in (run.manifest.get("inputs") or {}).items() if type in needed}
            for run in self._pair
        ]
        if read[0] == read[1] and (self._events[0][1] == self._events[1][1] or not read[0]):
            self._events[1] = self._events[0]
            return
        gone = ""
        for at, (position, _) in enumerate(self._events):
            for type, then in read[at].items():
                state = log.state(type, position)
                if (state.count, state.digest) != (then["count"], then["digest"]):
                    gone = f"the events of {type} that run {self._pair[at].id} read are not there any more"
                    self._events[at] = self._events[1 - at]
        empty = {"count": 0, "digest": ""}
        told = [
            f"{type}: {one['count']:,} → {other['count']:,} events"
            for type in sorted({*read[0], *read[1]})
            for one, other in [[side.get(type, empty) for side in read]]
            if one != other
        ]
        if self._pair[0].manifest.get("known_by") != self._pair[1].manifest.get("known_by"):
            told.append("what was known by then")
        yield Factor(DATA, few(told), not gone, gone)

    def _noted(self) -> Iterator[str]:
        for model in self.models:
            nodes = [space.graph.nodes[model] for space in self._spaces if model in space.graph.nodes]
            if any(node.options.get("seed") is None for node in nodes):
                yield (
                    f"{model} declares no seed: each training draws its own from what it is made of, and chance is a"
                    " part of each share. `@model(seed=1)` takes it out."
                )
        if any(one.name == PARAMETERS for one in self.factors):
            for side, space in enumerate(self._spaces):
                for step, given in self._parameters[1 - side].items():
                    node = space.graph.nodes.get(step)
                    known = {one.name for one in node.parameters if one.has_default} if node is not None else set()
                    if step in self._steps() and (lost := sorted(given.keys() - known)):
                        which = self._pair[side].id
                        yield f"{step} has no parameter {', '.join(lost)} in the code of run {which}: left out there."

    # -- combinations

    @property
    def swappable(self) -> list[str]:
        return [one.name for one in self.factors if one.swapped]

    def _coalitions(self) -> list[Coalition]:
        names = self.swappable
        return [frozenset(one) for size in range(len(names) + 1) for one in combinations(names, size)]

    def _side(self, factor: str, coalition: Coalition) -> int:
        """Of which run a factor is taken. One that is not swapped is as it was, if that is all the same to all."""
        return int(factor in coalition)

    def _sets(self, coalition: Coalition, model: str) -> tuple[int, dict[str, Any]]:
        """Which code, and the values of its parameters."""
        code = self._side(CODE, coalition)
        given, graph = self._parameters[self._side(PARAMETERS, coalition)], self._spaces[code].graph
        nodes = [graph.nodes[name] for name in graph.select(model)]
        return code, {
            f"{node.name}.{one.name}": given[node.name][one.name]
            for node in nodes
            for one in node.parameters
            if one.has_default and not one.file and one.name in given.get(node.name, {})
        }

    def plan(self) -> ExplanationPlan:
        """What it would do and take; nothing is run."""
        workers = Slots(self._app.settings).total
        seen: set[str] = set()
        seconds, trainings = 0.0, 0
        notes = [*self.notes, *self._surroundings.lacking()]
        self._interpreters = self._surroundings.planned()
        for coalition in self._coalitions():
            for model in self.models:
                try:
                    new = self._new(coalition, model, seen)
                except SampanError as error:
                    notes.append(f"{model} with {_said(coalition)}: {error.obstacle}.")
                    continue
                if new:
                    trainings += model in new
                    takes = {name: took for name, (took, _) in new.items()}
                    seconds += span(takes, {name: needs for name, (_, needs) in new.items()}, workers)
                    seconds += beside(self._runs, workers)
        prices = read_prices(self._app.folder.config())
        return ExplanationPlan(
            before=self._pair[0].id,
            after=self._pair[1].id,
            models=self.models,
            factors=self.factors,
            combinations=len(self._coalitions()),
            trainings=trainings,
            seconds=seconds,
            cost=prices.cost(seconds),
            currency=prices.currency,
            notes=tuple(notes),
        )

    def _new(self, coalition: Coalition, model: str, seen: set[str]) -> dict[str, tuple[float, tuple[str, ...]]]:
        """The steps that would run and that no combination before has run: seconds, and what they need."""
        code, sets = self._sets(coalition, model)
        folder, (position, known_by) = self._folders[code], self._events[self._side(DATA, coalition)]
        space = Workspace(folder, sets, self._interpreters[self._side(ENVIRONMENT, coalition)])
        planner = Planner(space, self._runs, folder.data, self._app.log_of(folder), position, known_by)
        made: dict[str, str] = {}
        new: dict[str, tuple[float, tuple[str, ...]]] = {}
        for step in planner.plan(model, None, None, str(position)).steps:
            node = space.graph.nodes[step.name]
            made[step.name] = digest_value(msgspec.to_builtins(space.parts(node, planner.inputs(node, made))))
            if step.state == RAN and made[step.name] not in seen:
                new[step.name] = (step.seconds or 1.0, step.needs)
            seen.add(made[step.name])
        return new

    def run(self, actor: str, tell: Callable[[Any], None]) -> Explanation:
        """Train what is not there yet, share the change out, and keep the explanation."""
        id, began = new_id(self._app.clock), time.perf_counter()
        cost = 0.0
        found: list[Combination] = []

        def moment(message: str) -> None:
            tell({"step": "", "state": "moment", "message": message})

        self._make_environments(moment)
        wanted = self._coalitions()
        for at, coalition in enumerate(wanted, start=1):
            moment(f"{at} of {len(wanted)}: {_said(coalition)}")
            one, took = self._combination(coalition, id, actor, tell)
            cost += took
            found.append(one)
        report = ExplanationReport(
            factors=self.factors,
            combinations=tuple(found),
            metrics=tuple(self._explained(found)),
            notes=tuple(self.notes),
        )
        made = Explanation(
            id=id,
            before=self._pair[0].id,
            after=self._pair[1].id,
            report=report,
            seconds=time.perf_counter() - began,
            cost=cost,
            currency=read_prices(self._app.folder.config()).currency,
            actor=actor,
            created=self._app.clock.micros(),
        )
        return Explanations(self._app.db).put(made)

    def _make_environments(self, tell: Callable[[str], object]) -> None:
        """If one of them is not to be had, everything is trained in the running one."""
        code = [folder.root for folder in self._folders]
        try:
            self._interpreters, left = self._surroundings.made(self._app.folder.data, code, lambda: False, tell)
            self.notes += left
        except NotRebuilt as error:
            lost = self._surroundings.lost(error.said)
            self.factors = (*(one for one in self.factors if one.name != ENVIRONMENT), lost)
            self._interpreters = [self._spaces[0].interpreter] * 2

    def _combination(
        self, coalition: Coalition, id: str, actor: str, tell: Callable[[Any], None]
    ) -> tuple[Combination, float]:
        app, cost = self._app, 0.0
        runs: list[str] = []
        metrics: Metrics = {}
        errors: dict[str, str] = {}
        for model in self.models:
            try:
                code, sets = self._sets(coalition, model)
                folder, (position, known_by) = self._folders[code], self._events[self._side(DATA, coalition)]
                parts = (folder, app.db, app.lake, app.log_of(folder), app.models, app.clock, app.settings)
                engine = Engine(*parts, app.tells)
                made = engine.derive(
                    model,
                    sets,
                    on_event=lambda event: tell(msgspec.to_builtins(event)),
                    actor=actor,
                    reason=f"explanation {id}: {_said(coalition)}",
                    label=f"explain-{id}",
                    position=position,
                    known_by=known_by,
                    interpreter=self._interpreters[self._side(ENVIRONMENT, coalition)],
                )
            except SampanError as error:
                errors[model] = error.obstacle
                continue
            cost += made.cost
            runs.append(made.run)
            if (got := self._metrics_of(made.run).get(model)) is not None:
                metrics[model] = got
            else:
                failed = [step for step in made.steps if step.error and step.state == "failed"]
                lines = [f"{step.name}: {step.error.removeprefix('!').splitlines()[0]}" for step in failed]
                errors[model] = "; ".join(lines) or made.error or "it gave no model"
        swapped = tuple(name for name in self.swappable if name in coalition)
        return Combination(swapped, tuple(runs), metrics, errors), cost

    # -- shares

    def _explained(self, found: Sequence[Combination]) -> Iterator[ExplainedMetric]:
        for model in self.models:
            one, other = (side[model] for side in self._recorded)
            for metric in sorted(one.keys() & other.keys()):
                if one[metric] != other[metric]:
                    values = {
                        frozenset(each.swapped): each.metrics[model][metric]
                        for each in found
                        if metric in each.metrics.get(model, {})
                    }
                    yield self._shared(model, metric, one[metric], other[metric], values)

    def _shared(
        self, model: str, metric: str, before: float, after: float, values: Mapping[Coalition, float]
    ) -> ExplainedMetric:
        names = self.swappable
        each, orders = shares(names, values)
        told = [
            Share(name, each.get(name), from_first(name, values), from_second(name, names, values)) for name in names
        ]
        ends = values.get(frozenset()), values.get(frozenset(names))
        rest = None if ends[0] is None else ends[0] - before, None if ends[1] is None else after - ends[1]
        left = [one.name for one in self.factors if not one.swapped]
        whole = rest[0] + rest[1] if rest[0] is not None and rest[1] is not None else None
        if left or whole is None or abs(whole) > 1e-12 * max(abs(before), abs(after)):
            told.append(Share(", ".join(left) or CHANCE, whole if orders else None, *rest))
        return ExplainedMetric(
            model, metric, before, after, after - before, tuple(told), orders, math.factorial(len(names))
        )


def _said(coalition: Coalition) -> str:
    """A combination in words."""
    named = sorted(coalition)
    return f"the first run with the {' and '.join(named)} of the second" if named else "the first run, as it was"


def _section(recipe: Mapping[str, Any] | None, names: Sequence[str]) -> Any:
    return None if recipe is None else {name: recipe[name] for name in names if recipe.get(name)}
