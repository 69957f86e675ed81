"""The value of an endpoint: money per 1,000 decisions by slice, with its uncertainty; what is at risk by the day."""

from typing import Any

import msgspec

from sampan.base.clock import iso
from sampan.base.errors import NotFound
from sampan.hub.parts import Parts, Query, as_of
from sampan.hub.valued import OWN, Slice, valued
from sampan.money.prices import read_prices
from sampan.runs.records import Runs
from sampan.serve.endpoints import Endpoints
from sampan.serve.exposed import Day, days

_DAY = 86_400_000_000
_DAYS = 14


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
    """Context of ``value.html``. ``made``: what the runs cost that made the versions it has served, by the price book;
    None where nothing has a price. ``reach``: how far intervals are from 0 at most."""

    endpoint: str
    currency: str
    values: dict[str, dict[str, float]]
    whole: Slice
    slices: list[Slice]
    more: int
    by: str
    fields: dict[str, str]
    reach: float
    made: float | None
    made_in: str
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
    fields |= dict.fromkeys([*bundle.model.signature.inputs, *((facts.context or ()) if facts else ())], "")
    by = str(query.get("by", "")) or "action"
    found = valued(parts.log, now.name, by, then)
    fields |= dict.fromkeys((name for name in found.fields if name not in fields), "")
    fields.setdefault(by, "")
    instant = parts.clock.micros() if then is None else then
    shown = days(parts.log, now.name, instant - instant % _DAY - (_DAYS - 1) * _DAY, then)
    cap = None
    if facts is not None and facts.cap is not None:
        today = next((one for one in shown if one.day == iso(instant)[:10]), Day("", 0.0, 0))
        told = facts.cap
        lower = today.cap if today.cap is not None and today.cap < told.amount else None
        cap = CapLine(told.amount, told.over, told.hours, dict(told.risks), today.total, today.held, lower)
    made, made_in = _made(parts, {one.spec.version for one in endpoints.history(now.name, then)})
    ends = [abs(end) for one in found.slices for end in (one.low, one.high, one.value) if end is not None]
    return ValuePage(
        endpoint=now.name,
        currency=facts.currency if facts else "",
        values=facts.values if facts else {},
        whole=found.whole,
        slices=found.slices,
        more=found.more,
        by=by,
        fields=fields,
        reach=max(ends, default=0.0),
        made=made,
        made_in=made_in,
        cap=cap,
        days=shown,
        as_of=then,
    )


def _made(parts: Parts, versions: set[str]) -> tuple[float | None, str]:
    """What the runs cost that made versions."""
    prices = read_prices(parts.folder.config())
    if not prices.this_machine_per_hour:
        return None, ""
    found: dict[str, float] = {}
    for ref in versions:
        try:
            run = parts.models.get(ref).run
            if run is not None:
                found[run] = Runs(parts.db).get(run).cost
        except NotFound:
            continue
    return sum(found.values()), prices.currency
