"""Shadows that follow the log: several candidates beside what an endpoint serves, and each by itself."""

from collections.abc import Sequence
from contextlib import suppress

import msgspec

from sampan.base.errors import SampanError
from sampan.hub.kept import Kept
from sampan.hub.parts import Parts, Query, as_of, begun, may
from sampan.hub.views.rollouts import changed
from sampan.hub.views.shadowed import ShadowedPage, charts
from sampan.lake.history import MAIN
from sampan.release.evidence import Look
from sampan.release.rollouts import Rollout, read_rollouts
from sampan.release.shadowed import Compared, Summary, compare, summarize
from sampan.release.shadows import ShadowRecord, ShadowRecords, advantages
from sampan.serve.endpoints import Endpoint, Endpoints
from sampan.team.roles import DEPLOY

_VERSIONS = 50


class ShadowLine(msgspec.Struct, kw_only=True):
    """One shadow in a list. ``changed``: in what it differs from what is served, beside the version; ``behind``:
    predictions that it has not come to, None where no hub says so; ``gain``: by the KPI of the endpoint's plan, beside
    what is served, or ``silent``: why that is not known."""

    id: str
    endpoint: str
    version: str
    bundle: str
    changed: list[str]
    sample: float
    actor: str
    reason: str
    began: int
    ended: int | None
    ended_by: str
    ended_why: str
    state: str
    behind: int | None = None
    error: str = ""
    summary: Summary | None = None
    gain: Look | None = None
    silent: str = ""


class Beside(msgspec.Struct, kw_only=True):
    """The shadows of one endpoint, and what it serves. ``versions``: those that could be one more; ``relative``: the
    plan's least gain is a share of the champion's mean."""

    endpoint: str
    champion: str
    bundle: str
    since: int
    planned: bool
    relative: bool
    unit: str
    shadows: list[ShadowLine]
    versions: list[str] = []


class ShadowsPage(msgspec.Struct):
    """Context of ``shadows.html``."""

    endpoints: list[Beside]
    endpoint: str = ""
    fault: str = ""
    """What is wrong with rollouts.toml."""
    can_deploy: bool = False
    as_of: int | None = None


class FollowedPage(ShadowedPage, kw_only=True):
    """Context of ``shadowed.html`` for a shadow that follows the log."""

    shadow: ShadowLine
    can_deploy: bool = False


def shadows(parts: Parts, query: Query) -> ShadowsPage:
    """Candidates that say what they would have said, by endpoint."""
    then, wanted = as_of(query), query.get("endpoint") or ""
    records, endpoints = ShadowRecords(parts.db, parts.clock), Endpoints(parts.db, parts.models, parts.clock)
    plans: dict[str, Rollout] = {}
    fault = ""
    if then is None:
        try:
            plans = read_rollouts(parts.folder.root).of
        except SampanError as error:
            fault = str(error)
    found = []
    for now in [endpoints.get(wanted, then)] if wanted else endpoints.list(then):
        known = records.list(now.name, then)
        if known or wanted:
            found.append(_beside(parts, now, known, plans.get(now.name), then))
    return ShadowsPage(found, wanted, fault, then is None and may(query, DEPLOY), then)


def shadow(parts: Parts, query: Query) -> FollowedPage:
    """One shadow: what it said beside what was answered, request by request."""
    then = as_of(query)
    records, endpoints = ShadowRecords(parts.db, parts.clock), Endpoints(parts.db, parts.models, parts.clock)
    found = records.get(query["shadow"])
    begun(f"the shadow {found.id}", found.began, then)
    one = next(other for other in records.list(found.endpoint, then) if other.id == found.id)
    now = endpoints.get(one.endpoint, then)
    which = one.id, then, now.bundle
    compared = _compared.ask(parts.log, which, lambda: compare(one.id, parts.log, then, now.bundle))
    plan = None
    if then is None:
        with suppress(SampanError):  # which the list says
            plan = read_rollouts(parts.folder.root).of.get(one.endpoint)
    gains = _gains(parts, [one], now, plan, _rivals(records.list(one.endpoint, then), now))
    return FollowedPage(
        rollout="",
        endpoint=one.endpoint,
        candidate=one.version,
        champion=now.spec.version,
        compared=compared,
        charts=charts(compared, now.spec.version, one.version),
        shadow=_line(parts, one, now, None, then, gains.get(one.id)),
        can_deploy=then is None and may(query, DEPLOY),
        as_of=then,
    )


def _beside(
    parts: Parts, now: Endpoint, known: Sequence[ShadowRecord], plan: Rollout | None, then: int | None
) -> Beside:
    ids = tuple(one.id for one in known)
    told = _told.ask(parts.log, (ids, then, now.bundle), lambda: summarize(ids, parts.log, then, now.bundle))
    gains = _gains(parts, [one for one in known if one.id in told], now, plan, _rivals(known, now))
    lines = [_line(parts, one, now, told.get(one.id), then, gains.get(one.id)) for one in known]
    lines.sort(key=lambda line: (line.ended is not None, -line.began))
    model = now.spec.version.partition("@")[0]
    versions = [one.ref for one in parts.models.list(model)[:_VERSIONS]] if then is None else []
    versions.sort(key=lambda ref: ref == now.spec.version)  # which is one only behind other rules
    return Beside(
        endpoint=now.name,
        champion=now.spec.version,
        bundle=now.bundle,
        since=now.created,
        planned=plan is not None,
        relative=plan is not None and isinstance(plan.kpi.minimum_effect, str),
        unit=now.spec.currency if plan is not None and not plan.kpi.query else "",
        shadows=lines,
        versions=versions,
    )


def _rivals(known: Sequence[ShadowRecord], now: Endpoint) -> int:
    """How many shadows there have been beside what is served: ended ones count, they may have been the worse."""
    return sum(one.ended is None or one.ended > now.created for one in known) or 1


def _line(
    parts: Parts,
    one: ShadowRecord,
    now: Endpoint,
    summary: Summary | None,
    then: int | None,
    gained: Look | str | None,
) -> ShadowLine:
    how = parts.followers().get(one.id) if then is None else None
    if one.ended is not None:
        state = "ended"
    elif how is not None:
        state = how.state if how.behind < _LATE else "behind"
    else:
        state = "going on" if then is not None else "waiting"
    return ShadowLine(
        id=one.id,
        endpoint=one.endpoint,
        version=one.version,
        bundle=one.bundle,
        changed=_otherwise(one, now),
        sample=one.sample,
        actor=one.actor,
        reason=one.reason,
        began=one.began,
        ended=one.ended,
        ended_by=one.ended_by,
        ended_why=one.ended_why,
        state=state,
        behind=how.behind if how is not None else None,
        error=(how.crashing or how.error) if how is not None else "",
        summary=summary,
        gain=gained if isinstance(gained, Look) else None,
        silent=gained if isinstance(gained, str) else "",
    )


def _otherwise(one: ShadowRecord, now: Endpoint) -> list[str]:
    if one.bundle == now.bundle:
        return []
    return [said for said in changed(msgspec.to_builtins(now.spec), one.spec) if not said.startswith("version ")]


def _gains(
    parts: Parts, asked: Sequence[ShadowRecord], now: Endpoint, plan: Rollout | None, rivals: int
) -> dict[str, Look | str]:
    """What the decisions of each would have gained, or why that is not known, where a plan says what counts."""
    others = [one for one in asked if one.bundle != now.bundle]
    if plan is None or not others:
        return {}
    ids = [one.id for one in others]

    def ask() -> dict[str, Look | str]:
        try:
            return {**advantages(parts, others, now.bundle, plan, rivals)}
        except SampanError as error:
            return dict.fromkeys(ids, error.obstacle)

    tables = parts.lake.commit_at(MAIN)  # which the KPI may ask, too
    which = (*ids, now.bundle, rivals, msgspec.json.encode(plan), tables.id if tables is not None else "")
    return _gained.ask(parts.log, which, ask)


_LATE = 100  # predictions that have not been come to, from which on it is said first
_compared: Kept[Compared] = Kept()
_told: Kept[dict[str, Summary]] = Kept()
_gained: Kept[dict[str, Look | str]] = Kept()
