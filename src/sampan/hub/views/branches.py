"""Branches: what is tried beside main, what it would change, and what stands in the way of a merge."""

from typing import Any, Final

import msgspec

from sampan.base.errors import SampanError
from sampan.base.ids import whole
from sampan.base.words import some
from sampan.flow.columns import Reached, sentences
from sampan.flow.graph import MODEL
from sampan.flow.merge import Definition, Merge, merging
from sampan.flow.workspace import Workspace
from sampan.hub.parts import Parts, Query, as_of, may
from sampan.hub.remarks import Remarks, remarks
from sampan.lake.diff import TableDiff
from sampan.lake.history import MAIN, Commit
from sampan.models.version import Version
from sampan.runs.records import Runs
from sampan.team.roles import RUN

_COMMITS: Final = 20


class BranchLine(msgspec.Struct, kw_only=True):
    """A branch in the list. ``tables`` and ``models``: those that are others than main's; ``run`` derived it last."""

    name: str
    head: str | None
    tables: list[str]
    models: list[str]
    changed: int | None
    run: str | None
    actor: str
    reason: str
    created: int


class Branches(msgspec.Struct):
    """Context of ``branches.html``."""

    branches: list[BranchLine]
    as_of: int | None = None


class CommitLine(msgspec.Struct):
    """One commit. ``changed`` names tables, models (``reorder@4``) and definitions that it changed."""

    id: str
    created: int
    changed: list[str]
    run: str | None
    actor: str
    reason: str
    branch: str


class MetricChange(msgspec.Struct):
    """A figure that was kept with a model's version, on main and on the branch."""

    model: str
    metric: str
    main: float | None
    branch: float | None
    difference: float | None


class ContractLine(msgspec.Struct):
    """A field of a contract that is another on the branch, and what it reaches, as the workspace stands."""

    type: str
    field: str
    how: str
    main: str | None
    branch: str | None
    reaches: list[Reached]
    told: list[str]


class BranchPage(msgspec.Struct, kw_only=True):
    """Context of ``branch.html``. ``obstacle``: why it cannot be merged now; empty if it can."""

    name: str
    sentence: str
    head: str | None
    base: str | None
    actor: str
    reason: str
    git: str | None
    run: str | None
    definitions: tuple[Definition, ...]
    contracts: list[ContractLine]
    tables: list[TableDiff]
    metrics: list[MetricChange]
    commits: list[CommitLine]
    obstacle: str
    advice: str
    can_merge: bool
    remarks: Remarks


def branches(parts: Parts, query: Query) -> Branches:
    """All branches, main first; as of a time, those that there were, as they stood."""
    then = as_of(query)
    there = parts.lake.list_branches() if then is None else parts.lake.branches_at(then)
    at = next((one.head for one in there if one.name == MAIN), None)
    main = parts.lake.commit_of(at) if at else None
    lines = []
    for one in there:
        head = parts.lake.commit_of(one.head) if one.head else None
        lines.append(
            BranchLine(
                name=one.name,
                head=one.head,
                tables=_others(main, head, "tables"),
                models=_others(main, head, "models"),
                changed=head.created if head else None,
                run=head.run if head else None,
                actor=one.actor or (head.actor if head else ""),
                reason=one.reason or (head.reason if head and one.name == MAIN else ""),
                created=one.created,
            )
        )
    return Branches(lines, then)


def branch(parts: Parts, query: Query) -> BranchPage:
    """One branch beside main. Raises NotFound."""
    name = str(query["branch"])
    limit = whole(str(query.get("limit") or "")) or _COMMITS
    only = str(query.get("table") or "")
    runs = Runs(parts.db)
    found = parts.lake.branch_of(name)
    commits = [_line(parts, one) for one in parts.lake.history(name, limit)]
    head = parts.lake.commit_of(found.head) if found.head else None
    if name == MAIN:
        merge, obstacle, advice = None, "", ""
    else:
        merge, obstacle, advice = _merge(parts, runs, name)
    ours, theirs = parts.lake.names(name), parts.lake.names()
    differing = [one for one in sorted({*ours, *theirs}) if ours.get(one) != theirs.get(one)]
    tables = [parts.lake.diff(one, theirs.get(one), ours.get(one)) for one in differing if only in ("", one)]
    metrics = [] if name == MAIN else _metrics(parts, name)
    contracts = _contracts(parts, merge) if merge and merge.contracts else []
    return BranchPage(
        name=name,
        sentence=_sentence(name, merge, differing, metrics, contracts),
        head=found.head,
        base=found.base,
        actor=found.actor,
        reason=found.reason,
        git=merge.git if merge else None,
        run=head.run if head else None,
        definitions=merge.definitions if merge else (),
        contracts=contracts,
        tables=tables,
        metrics=metrics,
        commits=commits,
        obstacle=obstacle,
        advice=advice,
        can_merge=name != MAIN and not obstacle and may(query, RUN),
        remarks=remarks(parts, query, "branch", name),
    )


def _merge(parts: Parts, runs: Runs, name: str) -> tuple[Merge | None, str, str]:
    """The comparison, and what stands in the way: of merging, or even of comparing."""
    try:
        merge = merging(parts.lake, runs, name, Workspace(parts.folder))
    except SampanError as error:
        return None, error.obstacle, error.advice
    try:
        merge.check()
    except SampanError as error:
        return merge, error.obstacle, error.advice
    return merge, "", ""


def _contracts(parts: Parts, merge: Merge) -> list[ContractLine]:
    """The fields that differ, with what each reaches; a field that is gone may still be named by a query."""
    before: dict[str, list[str]] = {}
    for one in merge.contracts:
        before.setdefault(one.type, []).append(one.field)
    try:
        columns = parts.columns(before)
    except SampanError:  # the flow does not read, which is told as the obstacle
        columns = None
    lines = []
    for one in merge.contracts:
        reached = columns.reached([(one.type, one.field)]) if columns else []
        lines.append(ContractLine(one.type, one.field, one.how, one.main, one.branch, reached, sentences(reached)))
    return lines


def _sentence(
    name: str,
    merge: Merge | None,
    differing: list[str],
    metrics: list[MetricChange],
    contracts: list[ContractLine],
) -> str:
    if name == MAIN:
        return "What is published, and what other branches are compared with."
    changed = [one.name for one in merge.definitions if one.where != MAIN] if merge else []
    if not changed and not differing and not contracts:
        return f"Nothing on {name} is another than on main."
    parts = [f"{name} changes {some(changed)}"] if changed else [f"{name} changes no definition"]
    parts.append(
        f"{len(differing)} of the tables come out otherwise"
        if len(differing) != 1
        else f"{differing[0]} comes out otherwise"
    )
    models = {one.model for one in metrics}
    if models:
        parts.append(f"{some(sorted(models))} is another version")
    if contracts:
        named = some([f"{one.type}.{one.field}" for one in contracts])
        hit = {one.name for line in contracts for one in line.reaches if one.kind == MODEL}
        parts.append(f"it changes what is sent ({named})" + (f", which hits {some(sorted(hit))}" if hit else ""))
    return "; ".join(parts) + "."


def _others(main: Commit | None, head: Commit | None, what: str) -> list[str]:
    one: dict[str, Any] = getattr(main, what) if main else {}
    other: dict[str, Any] = getattr(head, what) if head else {}
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]


def _line(parts: Parts, commit: Commit) -> CommitLine:
    before = parts.lake.commit_of(commit.parent) if commit.parent else None
    tables = _others(before, commit, "tables")
    models = [
        f"{name}@{commit.models[name]}" if name in commit.models else name for name in _others(before, commit, "models")
    ]
    code = [name for name in _others(before, commit, "code") if name not in tables]
    return CommitLine(
        commit.id,
        commit.created,
        [*tables, *models, *(f"{name} (definition)" for name in code)],
        commit.run,
        commit.actor,
        commit.reason,
        commit.branch,
    )


def _metrics(parts: Parts, name: str) -> list[MetricChange]:
    """Figures of the models that are other versions on the branch."""
    ours, theirs = parts.lake.versions(name), parts.lake.versions()
    found = []
    for model in sorted({*ours, *theirs}):
        if ours.get(model) == theirs.get(model):
            continue
        one, other = (_version(parts, model, side.get(model)) for side in (theirs, ours))
        was, now = (_plain(version) for version in (one, other))
        for metric in sorted({*was, *now}):
            a, b = was.get(metric), now.get(metric)
            found.append(MetricChange(model, metric, a, b, None if a is None or b is None else b - a))
        if not was and not now:
            found.append(MetricChange(model, "version", theirs.get(model), ours.get(model), None))
    return found


def _version(parts: Parts, model: str, number: int | None) -> Version | None:
    return None if number is None else parts.models.get(f"{model}@{number}")


def _plain(version: Version | None) -> dict[str, float]:
    metrics = version.metrics if version else {}
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


__all__ = ["BranchPage", "Branches", "branch", "branches"]
