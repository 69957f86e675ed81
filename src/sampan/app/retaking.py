"""Taking past decisions again: by the model that would have been in force, the rules of this code, and the features
that were known then. What would use the future is not answered, and says why.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.base.errors import NotFound, Refused, SampanError
from sampan.base.ids import whole
from sampan.serve.again import Again, Case, answer_again
from sampan.serve.bundle import Bundle, DecisionFacts
from sampan.serve.counterfactual import Counterfactual, compare
from sampan.serve.decisions import merge_thresholds
from sampan.serve.keyed import looked_up, otherwise_later
from sampan.serve.past import Past

if TYPE_CHECKING:
    from pathlib import Path

    from sampan.app.workplace import Workplace
    from sampan.base.settings import Folder
    from sampan.flow.engine import Engine
    from sampan.flow.outcome import RunResult
    from sampan.flow.workspace import Workspace
    from sampan.lake.query import TableSource
    from sampan.store.blobs import Blobs


class Candidate(msgspec.Struct, frozen=True):
    """What would have decided: a state of the code, what it gave on a branch, and what holds beside it.

    ``models`` are versions by endpoint and the version that decided; ``earlier`` the runs that made them, on the log of
    their time; ``changed`` the definitions that are others than at ``base``.
    """

    code: "Folder"
    workspace: "Workspace"
    base: str
    branch: str
    models: Mapping[tuple[str, str], str]
    earlier: "Sequence[RunResult]"
    thresholds: Mapping[str, dict[str, Any]]
    changed: Iterable[str]


class Retaking:
    """Takes the past decisions of a workspace's endpoints again. ``bundles``: those that took them."""

    def __init__(
        self,
        app: "Workplace",
        engine: "Engine",
        candidate: Candidate,
        past: Sequence[Past],
        bundles: Mapping[str, Bundle],
    ) -> None:
        self._app, self._engine = app, engine
        self._past, self._bundles = past, bundles
        self._code, self._workspace = candidate.code, candidate.workspace
        self._base, self._branch = candidate.base, candidate.branch
        self._models, self._earlier = candidate.models, candidate.earlier
        self._thresholds, self._changed = candidate.thresholds, set(candidate.changed)

    def decisions(self, endpoint: str) -> Counterfactual:
        """Every past decision of an endpoint, taken again by what would have been in force."""
        past = [one for one in self._past if one.endpoint == endpoint]
        asked: list[tuple[Bundle, list[Case]]] = []
        versions: dict[str, str] = {}
        failed: dict[str, Again] = {}
        try:
            for digest in dict.fromkeys(one.bundle for one in past):
                mine = [one for one in past if one.bundle == digest]
                try:
                    bundle = self._bundle(endpoint, digest)
                except SampanError as error:  # these cannot be taken again; others may
                    failed |= {one.id: Again(one.id, None, "", "", None, error.obstacle) for one in mine}
                    continue
                was = self._bundles[digest]
                table = self._table(bundle.decision, was.decision)
                if table is not None and (leak := self._leak(bundle, table)):
                    if not _moved(was.decision, bundle.decision):
                        raise Refused(f"Take decisions of {endpoint} again", leak)
                    failed |= {one.id: Again(one.id, None, "", "", None, leak) for one in mine}
                    continue
                versions[was.version] = bundle.version
                asked.append((bundle, self._cases(bundle, mine, table)))
            again = {**failed, **answers(self._app.blobs, asked, self._code.data / "tmp")}
        except SampanError as error:
            obstacle = f"{error.obstacle}. {error.advice}".strip()
            return Counterfactual(
                endpoint=endpoint, decisions=len(past), answered=0, known=0, differ=0, obstacle=obstacle
            )
        return compare(endpoint, past, again, versions)

    def _bundle(self, endpoint: str, digest: str) -> Bundle:
        """What would have been in force instead of a bundle: the model of the time, and the rules of this code, with
        the thresholds that somebody had set."""
        endpoints = self._app.endpoints
        was = self._bundles[digest]
        model = was.version.partition("@")[0]
        if (
            (endpoint, was.version) not in self._models
            and model in self._workspace.graph.nodes
            and self._made(was.version)
        ):
            raise Refused(f"Derive {model} again", f"it did not come off on the log as it was for {was.version}")
        ref = self._models.get((endpoint, was.version), was.version)
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

    def _leak(self, bundle: Bundle, now: "TableSource") -> str:
        """In words, how the features of this code use the future; nothing if they do not."""
        facts = bundle.decision
        assert facts is not None
        looked = False
        for made in self._earlier:
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
            f"{facts.features} gives other features, and no earlier state of it was derived that could show whether it"
            " uses the future: let the model need it"
        )

    def _cases(self, bundle: Bundle, asked: list[Past], table: "TableSource | None") -> list[Case]:
        """The requests, with the inputs that this code would have given for them."""
        facts = bundle.decision
        inputs = list(bundle.model.signature.inputs)
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
            cases.append(case_of(bundle, one, features))
        return cases

    def _table(self, facts: DecisionFacts | None, was: DecisionFacts | None) -> "TableSource | None":
        """The table that holds the features; none where it is the one of then, and as it was, so that what was kept is
        what it gives."""
        lake = self._app.lake
        if facts is None or not facts.features:
            return None
        graph = self._workspace.graph
        if facts.features not in graph.nodes or facts.features not in lake.names(self._branch):
            raise NotFound(
                f"Look up the features of {facts.name}",
                f"there is no table {facts.features!r}, which its decision names",
                "Mend features= in decisions.py.",
            )
        above = {facts.features, *graph.ancestors(facts.features)}
        types = {f"contract {need}" for name in above for need in graph.nodes[name].needs if need in graph.events}
        same = lake.names(self._branch).get(facts.features) == lake.names(self._base).get(facts.features)
        if not _moved(was, facts) and (same or not (above | types) & self._changed):
            return None
        return lake.source(facts.features, self._branch)


def _moved(was: DecisionFacts | None, now: DecisionFacts | None) -> bool:
    """Whether features would have been looked up elsewhere than they were."""
    if was is None or now is None or not was.features:
        return False
    return (was.features, was.key) != (now.features, now.key)


def answers(blobs: "Blobs", asked: list[tuple[Bundle, list[Case]]], folder: "Path") -> dict[str, Again]:
    """What bundles answer. The log keeps the text of whom a decision was about; a rule may want a number."""
    again = answer_again(blobs, asked, folder)
    numbers = [
        (bundle, [numbered for case in cases if again[case.id].error and (numbered := _numbered(bundle, case))])
        for bundle, cases in asked
    ]
    better = answer_again(blobs, [pair for pair in numbers if pair[1]], folder)
    return {**again, **{id: one for id, one in better.items() if not one.error}}


def case_of(bundle: Bundle, one: Past, features: Mapping[str, Any]) -> Case:
    """The request that a past decision was made for, with what is given of its features in the place of what was."""
    record = {**one.context, **one.features, **features}
    facts = bundle.decision
    if facts is not None and facts.entity and facts.entity not in record:
        record[facts.entity] = one.entity or None
    return Case(one.id, one.time, record)


def _numbered(bundle: Bundle, case: Case) -> Case | None:
    """The same case with a number for whom it is about, if the text may have been one."""
    entity = bundle.decision.entity if bundle.decision is not None else ""
    text = case.record.get(entity)
    number = whole(text) if entity and isinstance(text, str) else None
    if number is None or str(number) != text:
        return None
    return Case(case.id, case.time, {**case.record, entity: number})


def _key(facts: DecisionFacts, one: Past) -> Any:
    if facts.key == facts.entity:
        return one.entity
    return one.context.get(facts.key, one.features.get(facts.key))
