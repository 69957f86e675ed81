"""Quarantine as a workbench: what broke its contract and who sends it, rules that repair it, what they did."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from sampan.base.errors import NotFound, SampanError
from sampan.hub.parts import Parts, Query, as_of, begun
from sampan.hub.remarks import remarks
from sampan.hub.rules import Rule, rules, starter
from sampan.hub.shown import Change, Line, as_text, changes, lines
from sampan.hub.views.events import EventPage, page
from sampan.hub.views.events import waiting as waiting_at
from sampan.log.held import Held
from sampan.log.log import StoredEvent
from sampan.log.position import Position
from sampan.log.quarantine import Proposal, Quarantine
from sampan.log.rates import HOUR
from sampan.log.repairs import RepairRecord, Repairs

_PAGE: Final = 25
_BARS: Final = 24
_CASES: Final = 12
_DAY: Final = 24 * HOUR


class ReasonLine(msgspec.Struct):
    """Items that have the same reason and come from the same place. ``bars``: how many in each stretch of time."""

    reason: str
    path: str | None
    type: str | None
    producer: str
    count: int
    first: int
    last: int
    example: str
    bars: list[int]
    contract: bool  # whether its type has one


class ProducerLine(msgspec.Struct):
    """What a producer sent within a day, and how much of it broke its contract."""

    producer: str
    sent: int
    quarantined: int
    share: float
    waiting: int
    over: bool


class ItemLine(msgspec.Struct):
    """One quarantined item in the list; ``excerpt`` is what is wrong with it."""

    position: str
    id: str | None
    type: str | None
    source: str | None
    producer: str
    received: int
    reason: str
    path: str | None
    excerpt: str


class Starter(msgspec.Struct):
    """The beginning of a rule for the chosen reason."""

    name: str
    text: str


class QuarantinePage(msgspec.Struct):
    """Context of ``quarantine.html``. ``limit``: the share from which a producer is told of; ``day``: the last one in
    which anything came, since its first microsecond."""

    total: int
    held: int
    repaired: int
    reason: str
    path: str
    producer: str
    type: str
    matching: int
    reasons: list[ReasonLine]
    producers: list[ProducerLine]
    limit: float
    day: int | None
    since: int | None
    until: int | None
    items: list[ItemLine]
    next: str | None
    rules: list[Rule]
    starter: Starter | None
    history: Sequence[RepairRecord]
    as_of: int | None = None


def quarantine(parts: Parts, query: Query) -> QuarantinePage:
    """What broke its contract, by reason and producer; with ``reason``, ``producer`` or ``type`` the items of these.

    As of a time: what waited then, without the rules, which are those of the workspace as it stands.
    """
    then = as_of(query)
    wanted = {name: str(query.get(name, "")) for name in ("reason", "path", "producer", "type")}
    after = str(query.get("after", "")) or None
    waiting = waiting_at(parts, then)
    held, repaired = parts.log.held.count()
    if then is not None:
        repaired = len(Repairs(parts.db, parts.clock).repaired(then))
        held = len(waiting) + repaired
    chosen = [one for one in waiting if _fits(one, wanted)]
    shown = _from(chosen, after)[:_PAGE]
    whole = {one.position: one for one in Quarantine(parts.log).these([one.position for one in shown])}
    items = [_line(one, whole[one.position]) for one in shown]
    first, last = (waiting[-1].received, waiting[0].received) if waiting else (None, None)
    producers, day = _producers(parts, waiting, then)
    return QuarantinePage(
        total=len(waiting),
        held=held,
        repaired=repaired,
        **wanted,
        matching=len(chosen),
        reasons=_reasons(waiting, first or 0, last or 0, parts.contracts.types()),
        producers=producers,
        limit=share_limit(parts),
        day=day,
        since=first,
        until=last,
        items=items,
        next=_older(after, shown) if len(shown) == _PAGE else None,
        rules=rules(parts.folder.root) if then is None else [],
        starter=_starter(chosen[0], items[0].excerpt) if chosen and items and wanted["reason"] and not then else None,
        history=Repairs(parts.db, parts.clock).list(20, then),
        as_of=then,
    )


def _fits(one: Held, wanted: dict[str, str]) -> bool:
    said = one.complaint
    return (
        wanted["reason"] in ("", said.reason)
        and wanted["path"] in ("", said.path)
        and wanted["producer"] in ("", one.producer)
        and wanted["type"] in ("", said.type)
    )


def _from(items: list[Held], after: str | None) -> list[Held]:
    if not after:
        return items
    seen = Position.parse(after)
    return [one for one in items if not seen[one.stream] or one.number < seen[one.stream]]


def _older(after: str | None, shown: Iterable[Held]) -> str:
    seen = dict(Position.parse(after or ""))
    for one in shown:
        seen[one.stream] = one.number
    return str(Position(seen))


def _reasons(waiting: list[Held], first: int, last: int, known: list[str]) -> list[ReasonLine]:
    found: dict[tuple[str, str, str | None, str], ReasonLine] = {}
    width = (last - first) / _BARS or 1
    for one in waiting:
        said = one.complaint
        line = found.get(key := (said.reason, said.path, said.type, one.producer))
        if line is None:
            line = found[key] = ReasonLine(
                *key, 0, one.received, one.received, one.position, [0] * _BARS, said.type in known
            )
        line.count += 1
        line.first = min(line.first, one.received)
        line.bars[min(int((one.received - first) / width), _BARS - 1)] += 1
    return sorted(found.values(), key=lambda line: -line.count)


def _producers(parts: Parts, waiting: list[Held], then: int | None) -> tuple[list[ProducerLine], int | None]:
    """Producers of the last day in which anything came, and those of what waits."""
    newest = max(parts.log.rates.last().values(), default=None) if then is None else then
    since = None if newest is None else newest - newest % HOUR - _DAY + HOUR
    limit = share_limit(parts)
    found: dict[str, ProducerLine] = {}
    for rate in parts.log.rates.by_hour(since, then) if since is not None else ():
        line = found.setdefault(rate.producer, ProducerLine(rate.producer, 0, 0, 0.0, 0, False))
        line.sent += rate.accepted + rate.duplicate + rate.quarantined
        line.quarantined += rate.quarantined
    for one in waiting:
        found.setdefault(one.producer, ProducerLine(one.producer, 0, 0, 0.0, 0, False)).waiting += 1
    for line in found.values():
        line.share = line.quarantined / line.sent if line.sent else 0.0
        line.over = line.share > limit
    lines = [line for line in found.values() if line.waiting or line.quarantined]
    return sorted(lines, key=lambda line: (-line.share, -line.waiting)), since


def share_limit(parts: Parts) -> float:
    """The share of quarantined events from which a producer is told of."""
    from sampan.watch.limits import Limits

    try:
        return parts.alerting.limits.quarantined_share
    except SampanError:  # /settings says what is wrong with it
        return Limits().quarantined_share


def _line(held: Held, whole: StoredEvent) -> ItemLine:
    said = held.complaint
    excerpt = _excerpt(whole)
    return ItemLine(
        held.position, said.id, said.type, said.source, held.producer, held.received, said.reason, said.path, excerpt
    )


def _excerpt(held: StoredEvent) -> str:
    """What is wrong with an item: the value at the place that its reason names, else how its bytes begin."""
    steps = (held.path or "$").removeprefix("$.").split(".")
    with suppress(msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        value = msgspec.json.decode(held.raw)
        for step in steps:
            value = value.get(step, msgspec.UNSET) if isinstance(value, dict) else msgspec.UNSET
        if value is not msgspec.UNSET:
            return f'"{steps[-1]}": {as_text(msgspec.json.encode(value)[:200])}'
    return as_text(held.raw[:200]).replace("\n", " ")


def _starter(one: Held, example: str) -> Starter:
    said = one.complaint
    return Starter(*starter(said.reason, said.path, said.type, example))


class ItemPage(EventPage, kw_only=True):
    """Context of ``item.html``. ``kind``: json, text or bytes; ``became``: the event that a repair made of it."""

    kind: str
    lines: list[Line]
    size: int
    same: int
    became: str | None
    repair: RepairRecord | None
    original: str | None
    contract: bool


def item(parts: Parts, query: Query) -> ItemPage:
    """One quarantined item with its bytes, and what became of it, or had at a time."""
    then = as_of(query)
    found = Quarantine(parts.log).show(query["item"])
    begun(f"the quarantined event {found.position}", found.received, then)
    kind, text = lines(found.raw, found.path)
    repair = Repairs(parts.db, parts.clock).of(found.position)
    if repair is not None and then is not None and repair[2].created > then:
        repair = None
    same = sum(
        one.complaint.reason == found.reason and one.complaint.path == found.path for one in waiting_at(parts, then)
    )
    original = None
    if found.id and found.source and (found.reason or "").startswith("conflict"):
        there = parts.log.find(found.id, source=found.source)
        original = there.position if there else None
    shown = page(parts, found)
    shown.remarks = remarks(parts, query, "item", found.position)
    shown.as_of = then
    return ItemPage(
        **msgspec.structs.asdict(shown),
        kind=kind,
        lines=text,
        size=len(found.raw),
        same=same,
        became=repair[1] if repair else None,
        repair=repair[2] if repair else None,
        original=original,
        contract=found.type in parts.contracts.types(),
    )


class Case(msgspec.Struct):
    """What a rule makes of one item."""

    position: str
    reason: str
    verdict: str  # repaired | left | wrong
    wrong: str | None
    before: str
    changes: list[Change]


class Trial(msgspec.Struct):
    """Context of ``trial.html``: a rule on real cases; nothing has been changed."""

    rule: Rule
    reason: str
    fits: int
    left: int
    wrong: int
    cases: list[Case]


def tried(rule: Rule, reason: str, proposals: list[Proposal]) -> Trial:
    """What a rule would do, with some cases of each kind."""
    groups: dict[str, list[Proposal]] = {"repaired": [], "wrong": [], "left": []}
    for one in proposals:
        groups["left" if one.after is None else "wrong" if one.wrong else "repaired"].append(one)
    shown = [*groups["repaired"][:_CASES], *groups["wrong"][: _CASES // 2], *groups["left"][:3]]
    return Trial(
        rule, reason, len(groups["repaired"]), len(groups["left"]), len(groups["wrong"]), [_case(one) for one in shown]
    )


def _case(one: Proposal) -> Case:
    before = one.before.encode()
    differs = changes(before, one.after.encode()) if one.after is not None else []
    verdict = "left" if one.after is None else "wrong" if one.wrong else "repaired"
    return Case(one.position, one.reason, verdict, one.wrong, as_text(before, 600), differs)


class RepairPage(msgspec.Struct):
    """Context of ``repair.html``."""

    repair: RepairRecord
    text: str
    events: dict[str, str]
    as_of: int | None = None


def repair(parts: Parts, query: Query) -> RepairPage:
    """One application of a rule: its text then, and which event came of which item."""
    records = Repairs(parts.db, parts.clock)
    found = records.get(query["repair"])
    begun(f"the repair {found.id}", found.created, as_of(query))
    try:
        text = parts.models.blobs.get(found.rule).decode("utf-8", "replace")
    except NotFound:
        text = ""
    return RepairPage(found, text, records.events(found.id), as_of(query))
