"""Models and their versions."""

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from sampan.base.errors import NotFound
from sampan.base.ids import whole
from sampan.hub.charts import Chart, Mark, Series
from sampan.hub.decided import decided
from sampan.hub.parts import Parts, Query, as_of, begun
from sampan.hub.remarks import Remarks, remarks
from sampan.hub.served import serving
from sampan.hub.uses import Code, about, code_of
from sampan.hub.views.signed import SignedPart, signed
from sampan.hub.views.tested import Tested, standings, tested
from sampan.lake.history import MAIN
from sampan.models.approvals import Approval, Approvals
from sampan.models.damages import Damage, Damages
from sampan.models.golden_checks import GoldenChecked, GoldenChecks
from sampan.models.measures import higher, sorted_for, title
from sampan.models.rebuilds import Rebuild, Rebuilds
from sampan.models.version import GoldenFile, OnnxFile, Version
from sampan.runs.records import Runs

_SHOWN: Final = 100


class VersionLine(msgspec.Struct):
    """A version in the list. ``on_main``: it is the one that main names."""

    ref: str
    kind: str
    format: str
    metrics: dict[str, Any]
    run: str | None
    created: int
    digest: str
    serving: list[str]
    on_main: bool = False
    aliases: list[str] = []
    actor: str = ""
    tests: str = "none"


class ModelLine(msgspec.Struct):
    """A model with its versions, newest first. ``charts``: its measures over the versions; ``tested``: whether it has a
    suite, or had when it was asked."""

    name: str
    versions: list[VersionLine]
    measures: list[str]
    count: int = 0
    about: str = ""
    endpoints: list[str] = []
    charts: list[Chart] = []
    tested: bool = False


class Models(msgspec.Struct):
    """Context of ``models.html``."""

    models: list[ModelLine]
    as_of: int | None = None


def models(parts: Parts, query: Query) -> Models:
    """All models and their versions, or those that there were at a time."""
    then = as_of(query)
    found = lines(parts, query.get("model") or None, then)
    named = {line.name for line in found}
    bare = [ModelLine(one.name, [], []) for one in parts.models.registered(then) if one.name not in named]
    return Models([*found, *(bare if not query.get("model") else [])], then)


def lines(parts: Parts, model: str | None, then: int | None) -> list[ModelLine]:
    """Models that have versions, or had at an instant, with those; only one, if it is named."""
    found: dict[str, ModelLine] = {}
    served, main = serving(parts, then), _on_main(parts, then)
    aliases: dict[str, list[str]] = {}
    for alias in parts.models.aliases.list(model, then):
        aliases.setdefault(alias.ref, []).append(alias.alias)
    versions = parts.models.list(model, then)
    tests = standings(parts, [one.ref for one in versions], then)
    for version in versions:
        line = found.setdefault(version.model, ModelLine(version.model, [], _measures(version.kind, version.metrics)))
        line.count += 1
        line.versions.append(
            VersionLine(
                version.ref,
                version.kind,
                version.format,
                version.metrics,
                version.run,
                version.created,
                version.digest,
                [name for name, ref in served.items() if ref == version.ref],
                main.get(version.model) == version.number,
                aliases.get(version.ref, []),
                version.actor,
                tests[version.ref],
            )
        )
    for line in found.values():
        line.tested = any(version.tests != "none" for version in line.versions)
        line.about = about(code_of(parts.folder.root, line.name))
        line.endpoints = sorted({name for version in line.versions for name in version.serving})
        line.charts = _charts(line.versions[:_SHOWN], line.measures)
    return list(found.values())


def _on_main(parts: Parts, then: int | None) -> dict[str, int]:
    """The version of each model that main names; none before its first commit."""
    with suppress(NotFound):
        return parts.lake.versions(parts.lake.ref_at(MAIN, then))
    return {}


def _charts(versions: list[VersionLine], measures: list[str]) -> list[Chart]:
    """One chart per measure that at least two versions have; each has a scale of its own."""
    ordered = versions[::-1]
    charts = []
    for measure in measures[:3]:
        values = [_figure(version.metrics.get(measure)) for version in ordered]
        known = [value for value in values if value is not None]
        if len(known) >= 2:
            word = "rises" if known[-1] > known[0] else "falls" if known[-1] < known[0] else "stays"
            says = f"{measure} {word} from {_said(known[0])} to {_said(known[-1])} over {len(known)} versions."
            x = [version.ref.partition("@")[2] for version in ordered]
            marks = [Mark(x[at], "served") for at, version in enumerate(ordered) if version.serving]
            series = [Series(name=measure, y=values)]
            charts.append(Chart(title=measure, says=says, x=x, x_name="Version", series=series, marks=marks, digits=4))
    return charts


def _said(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def _figure(value: Any) -> float | None:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and math.isfinite(value) else None


def _measures(kind: str, metrics: dict[str, Any], most: int = 4) -> list[str]:
    """The metrics worth a column: plain figures, the usual ones first."""
    plain = [name for name, value in metrics.items() if isinstance(value, int | float) and not isinstance(value, bool)]
    return sorted_for(kind, plain)[:most]


class Measure(msgspec.Struct):
    """A metric of a version beside that of the version before, and over all versions, the oldest first. ``higher``:
    whether more of it is better, None if nobody can say."""

    name: str
    value: float
    before: float | None
    over: list[float | None]
    title: str
    higher: bool | None


class Service(msgspec.Struct):
    """A stretch of time in which an endpoint served a version."""

    endpoint: str
    since: int
    until: int | None
    decisions: int
    reason: str
    actor: str


class Source(msgspec.Struct):
    """What a version was fitted on: a table by its snapshot, or another result by its digest."""

    name: str
    digest: str
    table: bool


class Came(msgspec.Struct):
    """The logged run that a version was registered from; ``experiment`` is None where the run is gone."""

    run: str
    experiment: int | None
    model: str
    path: str


class Attempt(msgspec.Struct):
    """A time that somebody made the version anew from what is kept of it."""

    level: str
    cause: str
    said: str
    differences: list[str]
    environment: str
    tolerance: float
    seconds: float
    actor: str
    created: int


class Asked(msgspec.Struct):
    """A time that the golden requests were asked again."""

    cases: int
    different: int
    worst: float | None
    tolerance: float
    examples: list[str]
    actor: str
    created: int


class VersionPage(msgspec.Struct, kw_only=True):
    """Context of ``version.html``."""

    ref: str
    model: str
    number: int
    kind: str
    format: str
    digest: str
    signature: Any
    metrics: dict[str, Any]
    measures: list[Measure]
    files: dict[str, str]
    made_with: dict[str, str]
    run: str | None
    git: str | None
    created: int
    serving: list[str]
    services: list[Service]
    sources: list[Source]
    parameters: dict[str, Any]
    code: dict[str, str]
    text: Code | None
    others: list[int]
    origin: Came | None = None
    adopted: str = ""
    """The file or the address that it was brought in from; no run made it."""
    actor: str = ""
    aliases: list[str] = []
    all_aliases: dict[str, int] = {}
    rebuilt: int | None
    """When it was last made anew, and came out as it was or within the tolerance."""
    rebuilds: list[Attempt]
    golden: GoldenFile | None
    onnx: OnnxFile | None
    golden_checks: list[Asked]
    tests: Tested
    remarks: Remarks
    owner: str = ""
    cost: float = 0.0
    seconds: float = 0.0
    currency: str = ""
    approvals: list[Approval] = []
    signing: SignedPart
    """Who has signed it, and whether that counts."""
    damages: list[Damage] = []
    """What was refused because a file of it was damaged, or when that was seen while it served."""
    as_of: int | None = None


def version(parts: Parts, query: Query) -> VersionPage:
    """One frozen version: signature, metrics, what made it, where it is served, or was at a time."""
    then = as_of(query)
    number = whole(query["number"])
    if number is None:
        shown = f"{query['number'][:60]!r} is no version number"
        raise NotFound("Open a version", shown, "Write /models/MODEL/NUMBER.")
    found = parts.models.get(f"{query['model']}@{number}")
    begun(f"the version {found.ref}", found.created, then)
    others = parts.models.list(found.model, then)
    held = parts.models.aliases.list(found.model, then)
    records = Runs(parts.db)
    result = records.result(found.key) if found.key else None
    made: dict[str, Any] = result.parts if result is not None else {}
    rebuilds = Rebuilds(parts.db)
    cost, seconds, currency = _spent(records, found.run, found.model)
    good = rebuilds.last_good(found.model, found.number, then)
    return VersionPage(
        ref=found.ref,
        model=found.model,
        number=found.number,
        kind=found.kind,
        format=found.format,
        digest=found.digest,
        signature=msgspec.to_builtins(found.signature),
        metrics=found.metrics,
        measures=_measured(found, others),
        files=found.files,
        made_with=found.made_with,
        run=found.run,
        git=_git(records, found.run),
        created=found.created,
        serving=[name for name, ref in serving(parts, then).items() if ref == found.ref],
        services=_services(parts, found.ref, then),
        sources=[
            Source(name, digest, digest.startswith("t") and "-" in digest)
            for name, digest in made.get("inputs", {}).items()
        ],
        parameters=made.get("parameters", {}),
        code=made.get("code", {}),
        text=code_of(parts.folder.root, found.model),
        others=[one.number for one in others],
        origin=_origin(parts, found),
        adopted=found.origin.adopted if found.origin is not None else "",
        actor=found.actor,
        aliases=[one.alias for one in held if one.number == found.number],
        all_aliases={one.alias: one.token for one in held},
        rebuilt=good.created if good is not None else None,
        rebuilds=[_attempt(one) for one in rebuilds.list(found.model, found.number, then)],
        golden=found.golden,
        onnx=found.onnx,
        golden_checks=[_asked(one) for one in GoldenChecks(parts.db).list(found.model, found.number, then)],
        tests=tested(parts, found.ref, then),
        remarks=remarks(parts, query, "version", found.ref),
        owner=_owner(parts, found, then),
        cost=cost,
        seconds=seconds,
        currency=currency,
        signing=signed(parts, found.ref, found, then),
        approvals=Approvals(parts.db, parts.clock).list(found.model, found.number, then),
        damages=list(Damages(parts.db).list(found.ref, then)),
        as_of=then,
    )


def _owner(parts: Parts, version: Version, then: int | None) -> str:
    """Whom the tag ``owner`` names, of the version or else of its model."""
    for thing in (f"version {version.ref}", f"model {version.model}"):
        if owner := parts.models.labels.tags(thing, then).get("owner"):
            return owner
    return ""


def _spent(records: Runs, run: str | None, step: str) -> tuple[float, float, str]:
    """What making a version took in the run that made it: money, seconds, the currency of the price book."""
    if run is None:
        return 0.0, 0.0, ""
    try:
        made = next((one for one in records.steps(run) if one.name == step and not one.part), None)
        prices = records.get(run).manifest.get("prices", {})
    except NotFound:
        return 0.0, 0.0, ""
    return (made.cost, made.seconds, str(prices.get("currency", ""))) if made is not None else (0.0, 0.0, "")


def _origin(parts: Parts, version: Version) -> Came | None:
    if version.origin is None or version.origin.adopted:
        return None
    experiment = None
    with suppress(NotFound):
        experiment = parts.tracking.runs.get(version.origin.run).experiment
    return Came(version.origin.run, experiment, version.origin.model, version.origin.path)


def _attempt(one: Rebuild) -> Attempt:
    told = one.report
    return Attempt(
        one.level,
        told.cause,
        told.said,
        list(told.differences),
        told.environment,
        told.tolerance,
        one.seconds,
        one.actor,
        one.created,
    )


def _asked(one: GoldenChecked) -> Asked:
    told = one.report
    examples = list(told.examples)
    return Asked(told.cases, told.different, told.worst, told.tolerance, examples, one.actor, one.created)


def _git(records: Runs, run: str | None) -> str | None:
    try:
        return records.get(run).git if run else None
    except NotFound:
        return None


def _measured(found: Version, others: list[Version]) -> list[Measure]:
    ordered = sorted(others, key=lambda one: one.number)
    before = next((one for one in reversed(ordered) if one.number < found.number), None)
    return compared(found, before, ordered)


def compared(found: Version, before: Version | None, over: Sequence[Version] = ()) -> list[Measure]:
    """The figures of a version beside those of another, and of each over many."""
    measures = []
    for name in _measures(found.kind, found.metrics, len(found.metrics)):
        value = _figure(found.metrics[name])
        if value is not None:
            earlier = _figure(before.metrics.get(name)) if before is not None else None
            line = [_figure(one.metrics.get(name)) for one in over]
            measures.append(Measure(name, value, earlier, line, title(name), higher(name)))
    return measures


def _services(parts: Parts, ref: str, then: int | None) -> list[Service]:
    """When which endpoint served it, newest first, and how many decisions it made there in all."""
    rows = parts.db.rows("SELECT name, spec, actor, reason, created FROM endpoints ORDER BY created, rowid")
    found: list[Service] = []
    current: dict[str, Service] = {}
    for row in rows:
        if then is not None and row["created"] > then:
            break
        if row["name"] in current:
            current.pop(row["name"]).until = row["created"]
        if str(msgspec.json.decode(row["spec"]).get("version", "")) == ref:
            count = decided(parts.log, row["name"], then).versions.get(ref, 0)
            one = Service(row["name"], row["created"], None, count, row["reason"], row["actor"])
            current[row["name"]] = one
            found.append(one)
    return found[::-1]
