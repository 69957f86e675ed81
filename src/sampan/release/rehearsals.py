"""A rollout over the past: what a candidate would have said to requests that the log holds, judged as a shadow is.

Only a shadow can be rehearsed. Who would have been given which arm is not known, and what an arm does to latencies
cannot be measured afterwards; but both models may be asked the same request, and that is the strongest evidence there
is. So a plan is rehearsed as a shadow that must show the candidate to be better, and then full use.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from sampan.base.clock import from_micros, iso, to_micros
from sampan.base.errors import Usage
from sampan.release.evidence import Look
from sampan.release.rollouts import Latency, Rollout, Stage, span

Retrain: TypeAlias = Literal["", "day", "week", "month"]
Time: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 57)]

LOOKS: Final = 2_000
"""As many looks a rehearsal has at most."""
_TURNS: Final = 400


class RehearsalRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is rehearsed: decisions of an endpoint from ``since`` until before ``until`` (microseconds; None: the last
    there is). ``retrain``: the candidate is the model as it would have been trained at the beginning of each day, week
    or month; else a version. ``thresholds``: of the candidate's rule; ``both``: of both sides'."""

    endpoint: str
    since: Time
    until: Time | None = None
    model: str = ""
    decision: str = ""
    thresholds: dict[str, Any] = {}
    both: dict[str, Any] = {}
    retrain: Retrain = ""
    every: str = "7 days"
    reason: str = ""


class Turn(msgspec.Struct, frozen=True):
    """Which candidate answered from when on."""

    since: int
    version: str
    bundle: str


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What was rehearsed, and when that was ``made``. ``left_out``: of the plan, what cannot be; ``figures``: KPI and
    metrics over all decisions of the span, with the outcomes of now."""

    made: int
    since: int
    until: int
    every: str
    retrain: Retrain
    decisions: int
    turns: tuple[Turn, ...]
    both: dict[str, Any] = {}
    left_out: tuple[str, ...] = ()
    figures: dict[str, Look] = {}


def rehearsed(plan: Rollout) -> tuple[Rollout, tuple[str, ...]]:
    """The plan as it can be rehearsed, and what was left out of it."""
    first = plan.stage[0]
    kept = tuple(one for one in plan.guardrail if not isinstance(one, Latency))
    left_out = [one.name for one in plan.guardrail if isinstance(one, Latency)]
    left_out += [f"stage {at + 1}, {one.shown}" for at, one in enumerate(plan.stage) if not one.shadow][:-1]
    shadow = Stage(shadow=True, at_least=first.at_least, units=first.units, needs="better")
    return replace(plan, guardrail=kept, stage=(shadow, Stage(share=1.0)), patience=""), tuple(left_out)


def turns(since: int, until: int, retrain: Retrain) -> list[int]:
    """When a candidate is trained anew: at the beginning, and where a day, week or month (UTC) begins. Raises Usage."""
    found, at = [since], from_micros(since)
    while retrain and (micros := to_micros(at := _next(at, retrain))) < until:
        found.append(micros)
        if len(found) > _TURNS:
            said = f"that would be more than {_TURNS} trainings"
            raise Usage("Rehearse a rollout", said, "Choose a shorter span, or train less often.")
    return found


def looks(since: int, last: int, every: str) -> Iterator[int]:
    """When it is looked: each ``every`` from the beginning, and at last when all is known. Raises Usage."""
    pause = span(every)
    if not pause:
        raise Usage("Rehearse a rollout", f"every is {every!r}", 'For instance "7 days".')
    if (last - since) // pause > LOOKS:
        said = f"from {iso(since)} to {iso(last)} that would be more than {LOOKS:,} looks"
        raise Usage("Rehearse a rollout", said, "Look less often: --every.")
    yield from range(since + pause, last, pause)
    yield last


def _next(at: datetime, unit: Retrain) -> datetime:
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "month":
        return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return day + timedelta(days=7 - day.weekday() if unit == "week" else 1)
