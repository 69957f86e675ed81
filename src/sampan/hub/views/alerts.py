"""Alerts: what is open, what is over, one of them whole."""

from collections.abc import Sequence
from typing import Final

import msgspec

from sampan.hub import in_force
from sampan.hub.in_force import InForce
from sampan.hub.parts import Parts, Query, as_of
from sampan.hub.remarks import Remarks, remarks
from sampan.hub.urls import Urls
from sampan.watch.alerts import Alert, Alerts, Delivery, Silence

_PAGE: Final = 100


class AlertLine(msgspec.Struct):
    """An alert with what was told of it. ``example_address`` is where the example is shown, if it has a page."""

    alert: Alert
    example_address: str
    deliveries: list[Delivery]
    as_of: int | None = None


class AlertPage(AlertLine, kw_only=True):
    """Context of ``alert.html``."""

    remarks: Remarks


class AlertsPage(msgspec.Struct):
    """Context of ``alerts.html``: open ones, then those that are over, the newest first."""

    open: list[AlertLine]
    resolved: list[AlertLine]
    silences: Sequence[Silence]
    targets: list[str]
    as_of: int | None = None


def alerts(parts: Parts, query: Query) -> AlertsPage:
    """What is open, and what is over, or was at a time."""
    records, then = Alerts(parts.db, parts.clock), as_of(query)
    told: dict[str, list[Delivery]] = {}
    for one in records.deliveries(limit=1_000, by=then):
        told.setdefault(one.alert, []).append(one)
    lines = [_line(alert, told.get(alert.id, [])) for alert in records.list(_PAGE, then)]
    return AlertsPage(
        open=[line for line in lines if line.alert.resolved is None],
        resolved=[line for line in lines if line.alert.resolved is not None],
        silences=records.silences(then),
        targets=[name for name, _ in (in_force.then(parts, then) or InForce()).targets],
        as_of=then,
    )


def alert(parts: Parts, query: Query) -> AlertPage:
    """One alert with its timeline, or what of that there was at a time."""
    records, then = Alerts(parts.db, parts.clock), as_of(query)
    found = records.get(str(query["alert"]), then)
    line = _line(found, list(reversed(records.deliveries(found.id, by=then))))
    line.as_of = then
    return AlertPage(**msgspec.structs.asdict(line), remarks=remarks(parts, query, "alert", found.id))


def _line(alert: Alert, deliveries: list[Delivery]) -> AlertLine:
    address = ""
    if alert.kind == "quarantined" and alert.example:
        address = Urls.item(alert.example)
    elif alert.kind == "run_failed":
        address = Urls.run(alert.example)
    return AlertLine(alert, address, deliveries)
