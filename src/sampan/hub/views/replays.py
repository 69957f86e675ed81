"""Replays: what would have been different, had other code been in force since the first event."""

from typing import Any

import msgspec

from sampan.hub.parts import Parts, Query, as_of, may
from sampan.hub.remarks import Remarks, remarks
from sampan.runs.replays import DONE, Replay, ReplayRequest, Replays
from sampan.serve.replayed import ReplayPlan, ReplayReport, sentence
from sampan.team.roles import RUN


class ReplayLine(msgspec.Struct):
    """A replay in the list."""

    id: str
    branch: str
    state: str
    code: str
    reason: str
    actor: str
    started: int
    finished: int | None
    sentence: str


class ReplayList(msgspec.Struct):
    """Context of ``replays.html``."""

    replays: list[ReplayLine]
    as_of: int | None = None


class ReplayPage(msgspec.Struct, kw_only=True):
    """Context of ``replay.html``."""

    id: str
    branch: str
    state: str
    request: ReplayRequest
    plan: ReplayPlan
    report: ReplayReport | None
    error: str
    actor: str
    started: int
    finished: int | None
    sentence: str
    can_decide: bool
    remarks: Remarks
    as_of: int | None = None


def replays(parts: Parts, query: Query) -> ReplayList:
    """The newest replays; as of a time, those that had begun, in the state that they were in."""
    then = as_of(query)
    return ReplayList([_line(one) for one in Replays(parts.db).list(by=then)], then)


def _line(one: Replay) -> ReplayLine:
    return ReplayLine(
        one.id,
        one.branch,
        one.state,
        one.request.code or "working tree",
        one.request.reason,
        one.actor,
        one.started,
        one.finished,
        _said(one),
    )


def _said(one: Replay) -> str:
    return one.error.splitlines()[0] if one.error and not one.report else sentence(one.report)


def replay(parts: Parts, query: Query) -> ReplayPage:
    """One replay, as it is or as it was at a time. Raises NotFound."""
    then = as_of(query)
    found = Replays(parts.db).get(str(query["replay"]), then)
    report: Any = found.report
    return ReplayPage(
        id=found.id,
        branch=found.branch,
        state=found.state,
        request=found.request,
        plan=msgspec.convert(found.plan, ReplayPlan),
        report=msgspec.convert(report, ReplayReport) if report else None,
        error=found.error,
        actor=found.actor,
        started=found.started,
        finished=found.finished,
        sentence=_said(found),
        can_decide=found.state == DONE and may(query, RUN) and then is None,
        remarks=remarks(parts, query, "replay", found.id),
        as_of=then,
    )
