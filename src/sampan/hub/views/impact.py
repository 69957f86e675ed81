"""What changes were worth to each model: of data, as they were measured; of the model, as its versions say."""

import math
from itertools import pairwise
from typing import Any, Final

import msgspec

from sampan.base.errors import NotFound
from sampan.hub.parts import Parts, Query, as_of
from sampan.hub.remarks import Remarks, remarks
from sampan.models.paired import HIGHER, METRICS
from sampan.models.version import Version
from sampan.runs.impacts import DATA, Impact, ImpactReport, Impacts, sentence
from sampan.runs.records import Runs

MODEL: Final = "model"
NOT_PAIRED: Final = "not paired"


class Change(msgspec.Struct, kw_only=True):
    """A change and what it was worth. ``gain``: by how much the metric is better, whichever way it counts; ``low`` and
    ``high`` bound 95 % of it, where it was measured in pairs. ``kind``: data, or model for a version and the one
    before it, whose figures need not be of the same rows."""

    kind: str
    before: str
    after: str
    metric: str
    gain: float | None
    low: float | None
    high: float | None
    verdict: str
    created: int
    actor: str = ""
    reason: str = ""
    impact: str = ""
    run: str | None = None
    git: str | None = None
    tables: list[str] = []
    after_ref: str = ""
    before_ref: str = ""


class ModelChanges(msgspec.Struct):
    """A model's changes, what was worth most first. ``reach``: the largest gain, loss or bound among them;
    ``unmeasured``: versions that share no metric with the one before which says better or worse."""

    name: str
    metric: str
    changes: list[Change]
    reach: float
    unmeasured: int


class ImpactList(msgspec.Struct):
    """Context of ``impact.html``."""

    models: list[ModelChanges]
    as_of: int | None = None


class ImpactPage(msgspec.Struct, kw_only=True):
    """Context of ``measured.html``. ``branches``: which of base and candidate are still branches."""

    id: str
    step: str
    base: str
    candidate: str
    base_commit: str
    candidate_commit: str
    report: ImpactReport
    seconds: float
    cost: float
    currency: str
    actor: str
    reason: str
    created: int
    sentence: str
    branches: list[str]
    remarks: Remarks
    as_of: int | None = None


def impact(parts: Parts, query: Query) -> ImpactList:
    """All changes that were measured or registered, model by model, or those of one model."""
    only, then = query.get("model") or None, as_of(query)
    measured = [one for one in Impacts(parts.db).list(by=then) if only in (None, one.step)]
    versions: dict[str, list[Version]] = {}
    for version in parts.models.list(only):
        if then is not None and version.created > then:
            continue
        versions.setdefault(version.model, []).append(version)
    found = []
    for name in sorted({*versions, *(one.step for one in measured)}):
        own = [one for one in measured if one.step == name]
        kind = own[0].report.kind if own else versions[name][0].kind
        line = _model(parts, name, kind, own, sorted(versions.get(name, ()), key=lambda one: one.number))
        if line.changes or line.unmeasured:
            found.append(line)
    return ImpactList(found, then)


def measured(parts: Parts, query: Query) -> ImpactPage:
    """One measurement. Raises NotFound."""
    then = as_of(query)
    found = Impacts(parts.db).get(str(query["impact"]), then)
    there = parts.lake.branches() if then is None else {one.name for one in parts.lake.branches_at(then)}
    values = {name: getattr(found, name) for name in ImpactPage.__struct_fields__ if hasattr(found, name)}
    return ImpactPage(
        **values,
        sentence=sentence(found),
        branches=[one for one in (found.base, found.candidate) if one in there],
        remarks=remarks(parts, query, "impact", found.id),
        as_of=then,
    )


def _model(parts: Parts, name: str, kind: str, measured: list[Impact], versions: list[Version]) -> ModelChanges:
    metrics = METRICS.get(kind, ())
    changes = [_data(one) for one in measured]
    unmeasured = 0
    for before, after in pairwise(versions):
        both = [one for one in metrics if _figure(before, one) is not None and _figure(after, one) is not None]
        metric = next(iter(both), None)
        if metric is None:
            unmeasured += 1
        else:
            changes.append(_version(parts, before, after, metric))
    main = metrics[0] if metrics else ""
    # figures of different metrics do not compare: those of the main one are ranked, the others follow
    changes.sort(key=lambda one: (one.metric != main, one.gain is None, -(one.gain or 0.0), -one.created))
    bounds = [abs(x) for one in changes if one.metric == main for x in (one.gain, one.low, one.high) if x is not None]
    return ModelChanges(name, main, changes, max(bounds, default=0.0), unmeasured)


def _data(one: Impact) -> Change:
    figure = one.main
    low, high = (None, None) if figure is None else (figure.low, figure.high)
    if figure is not None and not figure.higher and low is not None and high is not None:
        low, high = -high, -low
    return Change(
        kind=DATA,
        before=one.base,
        after=one.candidate,
        metric=figure.metric if figure else METRICS[one.report.kind][0],
        gain=figure.gain if figure else None,
        low=low,
        high=high,
        verdict=figure.verdict if figure else "not known",
        created=one.created,
        actor=one.actor,
        reason=one.reason,
        impact=one.id,
        git=one.report.git,
        tables=[table.name for table in one.report.tables],
        after_ref=f"@{one.candidate_commit}",
        before_ref=f"@{one.base_commit}",
    )


def _version(parts: Parts, before: Version, after: Version, metric: str) -> Change:
    first, second = _figure(before, metric), _figure(after, metric)
    assert first is not None
    assert second is not None
    run: Any = None
    if after.run:
        try:
            run = Runs(parts.db).get(after.run)
        except NotFound:
            run = None
    return Change(
        kind=MODEL,
        before=before.ref,
        after=after.ref,
        metric=metric,
        gain=second - first if metric in HIGHER else first - second,
        low=None,
        high=None,
        verdict=NOT_PAIRED,
        created=after.created,
        actor=run.actor if run else "",
        run=run.id if run else None,
        git=run.git if run else None,
    )


def _figure(version: Version, metric: str) -> float | None:
    value: Any = version.metrics.get(metric)
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and math.isfinite(value) else None
