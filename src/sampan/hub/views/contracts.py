"""Contracts as things to look up: who answers for each, who sends it, what of it is refused, what is made of it."""

from typing import Any, Final

import msgspec

from sampan.base.errors import SampanError
from sampan.base.ids import whole
from sampan.flow.columns import Reached, brief
from sampan.hub.parts import Dependant, Parts, Query
from sampan.log.builtin import BUILTIN
from sampan.log.compare import Change, compare
from sampan.log.conform import Conformity, recorded
from sampan.log.rates import HOUR, ProducerRate
from sampan.log.registry import Registered, registered
from sampan.log.spec import ContractSpec

DAYS: Final = 30  # over which counts and rates are given
_OWN: Final = frozenset(cls.__sampan_type__ for cls in BUILTIN)


class ContractLine(msgspec.Struct, kw_only=True):
    """A type of event in its newest version. ``attention`` says what needs a person, if anything does."""

    type: str
    version: int
    versions: list[int]
    owner: str
    description: str
    fields: list[dict[str, Any]]
    builtin: bool
    accepted: int
    quarantined: int
    rejected: float | None
    sources: int
    last: int | None
    attention: str
    differs: bool = False


class ContractsPage(msgspec.Struct):
    """Context of ``contracts.html``. Counts are those of the ``days`` days up to ``until``."""

    days: int
    until: int | None  # None: now
    contracts: list[ContractLine]


def contracts(parts: Parts, query: Query) -> ContractsPage:
    """The shapes that events must have, those first that need a person."""
    (rates, until), compared = _rates(parts), recorded(parts.db)
    lines = []
    for type in parts.contracts.types():
        spec = parts.contracts.get(type)
        sent = [rate for rate in rates if rate.type == type]
        accepted, quarantined = sum(rate.accepted for rate in sent), sum(rate.quarantined for rate in sent)
        line = ContractLine(
            type=type,
            version=spec.version,
            versions=list(parts.contracts.contract(type).versions),
            owner=spec.owner,
            description=spec.description,
            fields=_fields(spec),
            builtin=type in _OWN,
            accepted=accepted,
            quarantined=quarantined,
            rejected=_share(accepted, quarantined),
            sources=len({rate.source for rate in sent if rate.accepted}),
            last=max((rate.hour for rate in sent), default=None),
            attention=_attention(compared.get(type), quarantined),
            differs=bool(type in compared and compared[type].differs),
        )
        lines.append(line)
    lines.sort(key=lambda line: (not line.differs, not line.attention, line.builtin, -line.quarantined, line.type))
    return ContractsPage(DAYS, until, lines)


def _attention(found: Conformity | None, quarantined: int) -> str:
    if found is not None and found.differs:
        return f"{', '.join(dict.fromkeys(source for one in found.differs for source in one.sources))} differs"
    return f"{quarantined:,} in quarantine" if quarantined else ""


def _rates(parts: Parts) -> tuple[list[ProducerRate], int | None]:
    """What was sent in the last days; of a log to which nothing was sent lately, in its own last days, up to when."""
    span, now = DAYS * 24 * HOUR, parts.clock.micros()
    newest = max(parts.log.rates.last().values(), default=now)
    until = newest if newest < now - span else None
    return parts.log.rates.by_hour(max(0, (now if until is None else until) - span)), until


def _share(accepted: int, quarantined: int) -> float | None:
    total = accepted + quarantined
    return quarantined / total if total else None


def _fields(spec: ContractSpec) -> list[dict[str, Any]]:
    return [msgspec.structs.asdict(field) for field in spec.fields]


class ProducerLine(msgspec.Struct):
    """What one producer sent of the type from one source. ``rate`` is events per hour in which it sent any."""

    producer: str
    source: str
    accepted: int
    quarantined: int
    rejected: float | None
    rate: float
    first: int
    last: int


class VersionLine(msgspec.Struct, kw_only=True):
    """One version in the registry: when it came and last changed, what changed since the one before, and the model
    versions that were made while it was in force."""

    version: int
    registered: int | None
    changed: int | None
    digest: str
    readable: bool
    changes: list[Change]
    models: list[str]


class FieldReach(msgspec.Struct):
    """What one field reaches: ``told`` in a line, and each thing."""

    told: str
    reached: list[Reached]


class ContractPage(msgspec.Struct, kw_only=True):
    """Context of ``contract.html``: one version of one type. ``newest`` is the version in force."""

    type: str
    version: int
    newest: int
    owner: str
    description: str
    builtin: bool
    fields: list[dict[str, Any]]
    versions: list[VersionLine]
    days: int
    until: int | None  # counts are those of the ``days`` days up to then; None: now
    accepted: int
    quarantined: int
    rejected: float | None
    producers: list[ProducerLine]
    dependants: list[Dependant]
    reaches: dict[str, FieldReach]  # by field, of the version in force
    conformity: Conformity | None  # how its sources compared the last time; None: not compared yet
    trouble: str = ""  # why it is not known what depends on it


def contract(parts: Parts, query: Query) -> ContractPage:
    """One contract: its fields, its history, who sends it, and everything that is made of it."""
    type = query["type"]
    known = parts.contracts.contract(type)
    history = registered(parts.db, type).get(type, [])
    spec = _spec(parts, type, query.get("version"), history)
    rates, until = _rates(parts)
    producers = _producers(rates, type)
    dependants, trouble = _dependants(parts, type)
    accepted, quarantined = sum(line.accepted for line in producers), sum(line.quarantined for line in producers)
    return ContractPage(
        type=type,
        version=spec.version,
        newest=known.version,
        owner=spec.owner,
        description=spec.description,
        builtin=type in _OWN,
        fields=_fields(spec),
        versions=_versions(parts, type, history, dependants),
        days=DAYS,
        until=until,
        accepted=accepted,
        quarantined=quarantined,
        rejected=_share(accepted, quarantined),
        producers=producers,
        dependants=dependants,
        reaches={} if trouble or spec.version != known.version else _reaches(parts, spec),
        conformity=recorded(parts.db).get(type),
        trouble=trouble,
    )


def _spec(parts: Parts, type: str, version: Any, history: list[Registered]) -> ContractSpec:
    """What a version says: as it is declared, else as it was registered. Raises NotFound."""
    if version in (None, ""):
        return parts.contracts.get(type)
    wanted = whole(str(version)) or -1
    for one in history:
        if one.spec.version == wanted and wanted != parts.contracts.contract(type).version:
            return one.spec
    return parts.contracts.get(type, wanted)


def _producers(every: list[ProducerRate], type: str) -> list[ProducerLine]:
    found: dict[tuple[str, str], list[ProducerRate]] = {}
    for rate in every:
        if rate.type == type:
            found.setdefault((rate.producer, rate.source), []).append(rate)
    lines = []
    for (producer, source), rates in found.items():
        accepted, quarantined = sum(rate.accepted for rate in rates), sum(rate.quarantined for rate in rates)
        hours = [rate.hour for rate in rates]
        share, hourly = _share(accepted, quarantined), accepted / len(set(hours))
        lines.append(ProducerLine(producer, source, accepted, quarantined, share, hourly, min(hours), max(hours)))
    return sorted(lines, key=lambda line: (-line.quarantined, -line.accepted, line.producer, line.source))


def _dependants(parts: Parts, type: str) -> tuple[list[Dependant], str]:
    try:
        return parts.dependants(type), ""
    except SampanError as error:  # a flow that does not read is no reason not to show the contract
        return [], str(error)


def _reaches(parts: Parts, spec: ContractSpec) -> dict[str, FieldReach]:
    columns, found = parts.columns(), {}
    for field in spec.fields:
        reached = columns.reached([(spec.type, field.name)])
        found[field.name] = FieldReach(brief(reached), reached)
    return found


def _versions(parts: Parts, type: str, history: list[Registered], below: list[Dependant]) -> list[VersionLine]:
    """The versions, newest first; those only declared, not registered yet, among them."""
    known = parts.contracts.contract(type)
    models = {one.name for one in below if one.kind == "model"}
    made = sorted(
        ((version.created, version.ref) for name in sorted(models) for version in parts.models.list(name)),
    )
    registered_ones = {one.spec.version: one for one in history}
    specs = {one.spec.version: one.spec for one in history} | {known.version: known.spec}
    lines: list[VersionLine] = []
    ends: int | None = None
    for number in sorted(specs, reverse=True):
        one = registered_ones.get(number)
        before = max((other for other in specs if other < number), default=None)
        since = one.registered if one else None
        lines.append(
            VersionLine(
                version=number,
                registered=since,
                changed=one.changed if one else None,
                digest=specs[number].digest,
                readable=number in known.versions,
                changes=compare(specs[before], specs[number]) if before is not None else [],
                models=[
                    ref
                    for created, ref in made
                    if since is not None and created >= since and (ends is None or created < ends)
                ],
            )
        )
        ends = since if since is not None else ends
    return lines
