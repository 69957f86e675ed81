"""Contracts as things to look up: who answers for each, who sends it, what of it is refused, what is made of it."""

from typing import Any, Final

import msgspec

from sampan.base.clock import iso
from sampan.base.errors import NotFound, SampanError
from sampan.base.ids import whole
from sampan.flow.columns import Reached, brief
from sampan.hub.parts import Dependant, Parts, Query, as_of, begun
from sampan.hub.remarks import Remarks, remarks
from sampan.hub.served import serving
from sampan.hub.uses import Uses
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
    as_of: int | None = None


def contracts(parts: Parts, query: Query) -> ContractsPage:
    """The shapes that events must have, those first that need a person; or those that were registered at a time."""
    then = as_of(query)
    (rates, until), compared = _rates(parts, then), _compared(parts, then)
    lines = []
    for type, versions in _declared(parts, then).items():
        spec = versions[max(versions)]
        sent = [rate for rate in rates if rate.type == type]
        accepted, quarantined = sum(rate.accepted for rate in sent), sum(rate.quarantined for rate in sent)
        line = ContractLine(
            type=type,
            version=spec.version,
            versions=sorted(versions),
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
    return ContractsPage(DAYS, until, lines, then)


def _declared(parts: Parts, then: int | None) -> dict[str, dict[int, ContractSpec]]:
    """The versions of each type: those that contracts.py can read, or those that were registered at a time."""
    if then is None:
        every = ((type, parts.contracts.contract(type)) for type in parts.contracts.types())
        return {type: {**dict.fromkeys(one.versions, one.spec), one.version: one.spec} for type, one in every}
    return {
        type: {one.spec.version: one.spec for one in history} for type, history in registered(parts.db, by=then).items()
    }


def _compared(parts: Parts, then: int | None) -> dict[str, Conformity]:
    """How the sources of each type compared the last time, if that was before the time that is asked for."""
    found = recorded(parts.db)
    return found if then is None else {type: one for type, one in found.items() if one.checked <= then}


def _attention(found: Conformity | None, quarantined: int) -> str:
    if found is not None and found.differs:
        return f"{', '.join(dict.fromkeys(source for one in found.differs for source in one.sources))} differs"
    return f"{quarantined:,} in quarantine" if quarantined else ""


def _rates(parts: Parts, then: int | None) -> tuple[list[ProducerRate], int | None]:
    """What was sent in the last days; of a log to which nothing was sent lately, in its own last days, up to when."""
    if then is not None:
        return parts.log.rates.by_hour(max(0, then - DAYS * 24 * HOUR), then), then
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
    remarks: Remarks
    as_of: int | None = None


def contract(parts: Parts, query: Query) -> ContractPage:
    """One contract: its fields, its history, who sends it, and everything that is made of it.

    As of a time: what was registered, and what the runs until then had made of it.
    """
    type, then = query["type"], as_of(query)
    history = registered(parts.db, type, then).get(type, [])
    known = _known(parts, type, history, then)
    spec = _spec(parts, type, query.get("version"), history, known, then)
    rates, until = _rates(parts, then)
    producers = _producers(rates, type)
    dependants, trouble = _dependants(parts, type, then)
    accepted, quarantined = sum(line.accepted for line in producers), sum(line.quarantined for line in producers)
    return ContractPage(
        type=type,
        version=spec.version,
        newest=known.version,
        owner=spec.owner,
        description=spec.description,
        builtin=type in _OWN,
        fields=_fields(spec),
        versions=_versions(parts, type, history, known, dependants, then),
        days=DAYS,
        until=until,
        accepted=accepted,
        quarantined=quarantined,
        rejected=_share(accepted, quarantined),
        producers=producers,
        dependants=dependants,
        reaches={} if trouble or then is not None or spec.version != known.version else _reaches(parts, spec),
        conformity=_compared(parts, then).get(type),
        trouble=trouble,
        remarks=remarks(parts, query, "contract", type),
        as_of=then,
    )


def _known(parts: Parts, type: str, history: list[Registered], then: int | None) -> ContractSpec:
    """What is in force. Raises NotFound."""
    if then is None:
        return parts.contracts.contract(type).spec
    if not history:
        parts.contracts.contract(type)  # raises where there is none to this day
        first = registered(parts.db, type).get(type)
        begun(f"the contract {type}", first[0].registered if first else then + 1, then)
    return history[-1].spec


def _spec(
    parts: Parts, type: str, version: Any, history: list[Registered], known: ContractSpec, then: int | None
) -> ContractSpec:
    """What a version says: as it is declared, else as it was registered. Raises NotFound."""
    wanted = known.version if version in (None, "") else whole(str(version)) or -1
    if wanted == known.version:
        return known
    for one in history:
        if one.spec.version == wanted:
            return one.spec
    found = parts.contracts.get(type, wanted)
    if then is not None:
        attempted = f"See version {wanted} of {type} as of {iso(then)}"
        raise NotFound(attempted, "it was not registered by then", f"Version {known.version} was in force.")
    return found


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


def _dependants(parts: Parts, type: str, then: int | None) -> tuple[list[Dependant], str]:
    if then is not None:
        return _dependants_then(parts, type, then), ""
    try:
        return parts.dependants(type), ""
    except SampanError as error:  # a flow that does not read is no reason not to show the contract
        return [], str(error)


def _dependants_then(parts: Parts, type: str, then: int) -> list[Dependant]:
    """What the runs until then had made of a type, and what served it."""
    uses = Uses(parts.db, then)
    below = {type, *(name for name in uses.steps if type in uses.above([name]))}
    found = [
        Dependant(name, step.kind, "", () if type in step.needs else tuple(one for one in step.needs if one in below))
        for name, step in uses.steps.items()
        if name in below
    ]
    models = {one.name for one in found if one.kind == "model"}
    served = serving(parts, then).items()
    return found + [Dependant(name, "endpoint", "", (ref,)) for name, ref in served if ref.partition("@")[0] in models]


def _reaches(parts: Parts, spec: ContractSpec) -> dict[str, FieldReach]:
    columns, found = parts.columns(), {}
    for field in spec.fields:
        reached = columns.reached([(spec.type, field.name)])
        found[field.name] = FieldReach(brief(reached), reached)
    return found


def _versions(
    parts: Parts, type: str, history: list[Registered], known: ContractSpec, below: list[Dependant], then: int | None
) -> list[VersionLine]:
    """The versions, newest first; those only declared, not registered yet, among them."""
    readable = {} if type not in parts.contracts.types() else parts.contracts.contract(type).versions
    models = {one.name for one in below if one.kind == "model"}
    made = sorted(
        (
            (version.created, version.ref)
            for name in sorted(models)
            for version in parts.models.list(name)
            if then is None or version.created <= then
        ),
    )
    registered_ones = {one.spec.version: one for one in history}
    specs = {one.spec.version: one.spec for one in history} | {known.version: known}
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
                readable=number in readable,
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
