"""Alerts: what is open, what is over, one of them whole; and the settings in force."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sampan.base.clock import SystemClock
from sampan.base.settings import SETTINGS
from sampan.hub.parts import Parts, Query, may
from sampan.hub.render import number
from sampan.hub.urls import Urls
from sampan.team.roles import ADMINISTER, ROLES
from sampan.team.tokens import Tokens
from sampan.watch.alerts import Alert, Alerts, Delivery, Silence
from sampan.watch.limits import LIMITS, Limits

_PAGE: Final = 100
_MASKED: Final = "••••••"


class AlertLine(msgspec.Struct):
    """An alert with what was told of it. ``example_address`` is where the example is shown, if it has a page."""

    alert: Alert
    example_address: str
    deliveries: list[Delivery]


class AlertsPage(msgspec.Struct):
    """Context of ``alerts.html``: open ones, then those that are over, the newest first."""

    open: list[AlertLine]
    resolved: list[AlertLine]
    silences: Sequence[Silence]
    targets: list[str]


def alerts(parts: Parts, query: Query) -> AlertsPage:
    """What is open, and what is over."""
    records = Alerts(parts.db, parts.clock)
    told: dict[str, list[Delivery]] = {}
    for one in records.deliveries(limit=1_000):
        told.setdefault(one.alert, []).append(one)
    lines = [_line(alert, told.get(alert.id, [])) for alert in records.list(_PAGE)]
    return AlertsPage(
        open=[line for line in lines if line.alert.resolved is None],
        resolved=[line for line in lines if line.alert.resolved is not None],
        silences=records.silences(),
        targets=[target.name for target in parts.alerting.targets],
    )


def alert(parts: Parts, query: Query) -> AlertLine:
    """One alert with its timeline."""
    records = Alerts(parts.db, parts.clock)
    found = records.get(str(query["alert"]))
    return _line(found, list(reversed(records.deliveries(found.id))))


def _line(alert: Alert, deliveries: list[Delivery]) -> AlertLine:
    address = ""
    if alert.kind == "quarantined" and alert.example:
        address = Urls.item(alert.example)
    elif alert.kind == "run_failed":
        address = Urls.run(alert.example)
    return AlertLine(alert, address, deliveries)


class SettingLine(msgspec.Struct):
    """A setting in force and where it came from."""

    name: str
    value: str
    origin: str
    help: str


class TargetLine(msgspec.Struct):
    """Whom alerts are told, without the address: it may hold a secret."""

    name: str
    kind: str
    state: str  # of its newest message; "ready" if there was none
    error: str
    waiting: int


class MemberLine(msgspec.Struct):
    """A token as it is listed: without its secret."""

    name: str
    role: str
    may: list[str]
    state: str
    created: int
    expires: int


class SettingsPage(msgspec.Struct):
    """Context of ``settings.html``. ``members``: only for whoever may administer."""

    settings: list[SettingLine]
    limits: list[SettingLine]
    targets: list[TargetLine]
    members: list[MemberLine]
    version: str
    folder: str


def settings(parts: Parts, query: Query) -> SettingsPage:
    """The settings in force, and where each came from."""
    from sampan import __version__

    return SettingsPage(
        settings=[_setting(parts, one.name, one.help) for one in SETTINGS],
        limits=_limits(parts),
        targets=_targets(parts),
        members=_members(parts) if may(query, ADMINISTER) else [],
        version=__version__,
        folder=parts.folder.root.name,
    )


def _setting(parts: Parts, name: str, help: str) -> SettingLine:
    value: Any = parts.settings.get(name)
    shown = _MASKED if name == "token" and value else str(value)
    return SettingLine(name, shown, parts.settings.origin(name), help)


def _limits(parts: Parts) -> list[SettingLine]:
    limits = parts.alerting.limits
    found = []
    for name, (meaning, _, _) in LIMITS.items():
        value = getattr(limits, name)
        told = value != getattr(Limits(), name)
        shown = ("yes" if value else "no") if isinstance(value, bool) else number(value)
        found.append(SettingLine(name, shown, "sampan.toml" if told else "default", meaning))
    return found


def _targets(parts: Parts) -> list[TargetLine]:
    told: dict[str, list[Delivery]] = {}
    for one in Alerts(parts.db, parts.clock).deliveries(limit=1_000):
        told.setdefault(one.target, []).append(one)
    lines = []
    for target in parts.alerting.targets:
        mine = told.get(target.name, [])
        failing = next((one for one in mine if one.error and one.delivered is None), None)
        state = "failing" if failing else "delivered" if mine else "ready"
        waiting = sum(one.state == "waiting" for one in mine)
        lines.append(TargetLine(target.name, target.kind, state, failing.error if failing else "", waiting))
    return lines


def _members(parts: Parts) -> list[MemberLine]:
    clock = SystemClock()
    now = clock.micros()
    lines = [MemberLine("owner", "admin", sorted(ROLES["admin"]), "living", 0, 0)]
    for token in Tokens(parts.db, clock).list():
        state = "revoked" if token.revoked is not None else "living" if token.expires > now else "expired"
        may = sorted(ROLES[token.role])
        lines.append(MemberLine(token.name, token.role, may, state, token.created, token.expires))
    return lines
