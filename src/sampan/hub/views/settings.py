"""The settings in force and who may do what, now or at a time."""

from typing import Final

import msgspec

from sampan.base.clock import SystemClock
from sampan.base.settings import SETTINGS
from sampan.hub import in_force
from sampan.hub.in_force import InForce
from sampan.hub.parts import Parts, Query, as_of, may
from sampan.keep import rebuilding, retention
from sampan.team.roles import ADMINISTER, ROLES
from sampan.team.tokens import Tokens
from sampan.watch.alerts import Alerts, Delivery
from sampan.watch.limits import LIMITS

_MEANINGS: Final = {
    **{f"retention.{name}": help for name, help in retention.MEANINGS.items()},
    **{f"reproduce.{name}": help for name, help in rebuilding.MEANINGS.items()},
}


class SettingLine(msgspec.Struct):
    """A setting in force and where it came from."""

    name: str
    value: str
    origin: str
    help: str = ""


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


class SettingsPage(msgspec.Struct, kw_only=True):
    """Context of ``settings.html``. ``members``: only for whoever may administer. ``since``: when what was in force at
    the time that is asked for had last changed; ``first``: from when on that is written down, where the time lies
    before."""

    settings: list[SettingLine]
    limits: list[SettingLine]
    others: list[SettingLine]
    targets: list[TargetLine]
    members: list[MemberLine]
    version: str
    folder: str
    since: int | None = None
    first: int | None = None
    as_of: int | None = None


def settings(parts: Parts, query: Query) -> SettingsPage:
    """The settings in force, where each came from, and who may do what; or as that was at a time."""
    then = as_of(query)
    written = in_force.then(parts, then)
    found = written or InForce()
    return SettingsPage(
        settings=[
            SettingLine(one.name, found.settings[one.name].shown, found.settings[one.name].origin, one.help)
            for one in SETTINGS
            if one.name in found.settings
        ],
        limits=[
            SettingLine(name, found.limits[name].shown, found.limits[name].origin, meaning)
            for name, (meaning, _, _) in LIMITS.items()
            if name in found.limits
        ],
        others=[
            SettingLine(name, one.shown, one.origin, _MEANINGS.get(name, "")) for name, one in found.others.items()
        ],
        targets=_targets(parts, found.targets, then),
        members=_members(parts, then) if may(query, ADMINISTER) else [],
        version=found.version,
        folder=parts.folder.root.name,
        since=found.since,
        first=in_force.first(parts) if written is None else None,
        as_of=then,
    )


def _targets(parts: Parts, targets: list[tuple[str, str]], then: int | None) -> list[TargetLine]:
    told: dict[str, list[Delivery]] = {}
    for one in Alerts(parts.db, parts.clock).deliveries(limit=1_000, by=then):
        told.setdefault(one.target, []).append(one)
    lines = []
    for name, kind in targets:
        mine = told.get(name, [])
        failing = next((one for one in mine if one.error and one.delivered is None), None)
        state = "failing" if failing else "delivered" if mine else "ready"
        waiting = sum(one.state == "waiting" for one in mine)
        lines.append(TargetLine(name, kind, state, failing.error if failing else "", waiting))
    return lines


def _members(parts: Parts, then: int | None) -> list[MemberLine]:
    clock = SystemClock()
    at = clock.micros() if then is None else then
    lines = [MemberLine("owner", "admin", sorted(ROLES["admin"]), "living", 0, 0)]
    for token in Tokens(parts.db, clock).list(then):
        may = sorted(ROLES[token.role])
        lines.append(MemberLine(token.name, token.role, may, token.state(at), token.created, token.expires))
    return lines
