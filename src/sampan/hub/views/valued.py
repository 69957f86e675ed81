"""The value of an endpoint: money per 1,000 decisions by slice, with its uncertainty; what is at risk by the day."""

from copy import deepcopy
from typing import Any

import msgspec

from sampan.base.clock import iso
from sampan.hub.costs import Costs, costs_of, subtract
from sampan.hub.kept import Kept
from sampan.hub.parts import Parts, Query, as_of
from sampan.hub.valued import OWN, Slice, Valued, valued
from sampan.serve.endpoints import Endpoints
from sampan.serve.exposed import Day, days

_DAY = 86_400_000_000
_DAYS = 14
_kept: Kept[Valued] = Kept()
_days: Kept[list[Day]] = Kept()


class CapLine(msgspec.Struct):
    """The cap in force and the day so far. ``risks``: by action, an amount or the field that holds it; ``lower``: the
    cap of a candidate that answered today, where that is lower."""

    amount: float
    over: str
    hours: float
    risks: dict[str, Any]
    today: float
    held: int
    lower: float | None = None


class ValuePage(msgspec.Struct, kw_only=True):
    """Context of ``value.html``. ``costs``: what its model has cost; ``reach``: how far intervals are from 0."""

    endpoint: str
    currency: str
    values: dict[str, dict[str, float]]
    whole: Slice
    slices: list[Slice]
    more: int
    unmatched: int
    unnamed: str
    """That the values of some outcomes are named by no action, and which; empty where there are none."""
    by: str
    fields: dict[str, str]
    reach: float
    costs: Costs
    cap: CapLine | None
    days: list[Day]
    as_of: int | None = None


def value(parts: Parts, query: Query) -> ValuePage:
    """What the decisions of an endpoint are worth; as of a time, by what was known then. Raises NotFound."""
    then = as_of(query)
    endpoints = Endpoints(parts.db, parts.models, parts.clock)
    now = endpoints.get(query["name"], then)
    bundle = endpoints.bundle(now.bundle)
    facts = bundle.decision
    fields = dict(OWN)
    plain = [name for name in bundle.model.signature.inputs if name not in bundle.model.signature.heavy]
    fields |= dict.fromkeys([*plain, *((facts.context or ()) if facts else ())], "")
    by = str(query.get("by", "")) or "action"
    found = deepcopy(_kept.ask(parts.log, (now.name, by, then), lambda: valued(parts.log, now.name, by, then)))
    fields |= dict.fromkeys((name for name in found.fields if name not in fields), "")
    fields.setdefault(by, "")
    instant = parts.clock.micros() if then is None else then
    since = instant - instant % _DAY - (_DAYS - 1) * _DAY
    shown = _days.ask(parts.log, (now.name, since, then), lambda: days(parts.log, now.name, since, then))
    cap = None
    if facts is not None and facts.cap is not None:
        today = next((one for one in shown if one.day == iso(instant)[:10]), Day("", 0.0, 0))
        told = facts.cap
        lower = today.cap if today.cap is not None and today.cap < told.amount else None
        cap = CapLine(told.amount, told.over, told.hours, dict(told.risks), today.total, today.holding, lower)
    costs = costs_of(parts, endpoints.history(now.name, then), facts.currency if facts else "", instant)
    subtract(costs, by, found.whole, found.slices)
    ends = [abs(end) for one in found.slices for end in (one.low, one.high, one.value) if end is not None]
    return ValuePage(
        endpoint=now.name,
        currency=facts.currency if facts else "",
        values=facts.values if facts else {},
        whole=found.whole,
        slices=found.slices,
        more=found.more,
        unmatched=found.unmatched,
        unnamed=found.unnamed.says,
        by=by,
        fields=fields,
        reach=max(ends, default=0.0),
        costs=costs,
        cap=cap,
        days=shown,
        as_of=then,
    )
