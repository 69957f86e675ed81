"""From shadow to full, and back: what a rollout does next, as a function of what it is, what is known, and the time.

State is data, and so is everything that changes it: what was seen (``Seen``), and what people said (``Said``). Nothing
here asks a clock, a file or a network, so the history of a rollout, taken again, gives the same state: a hub that was
killed goes on where it was (``again``).

Into full use leads a verdict "better", or an urgent approval by somebody who gives a reason. Nothing else does: not
time, not silence, not a person's wish. A breach, a loss and arms of the wrong size are acted on in every phase but the
ends.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from sampan.base.clock import iso
from sampan.base.errors import Refused
from sampan.base.words import some
from sampan.release.evidence import BETTER, OPEN, WORSE, Look
from sampan.release.guardrails import BREACHED, HOLDS, Reading
from sampan.release.rollouts import Proof, Rollout, Stage, span

Phase: TypeAlias = Literal["running", "paused", "asking", "full", "reverted", "stopped", "done"]
RUNNING: Final = "running"
PAUSED: Final = "paused"
ASKING: Final = "asking"
FULL: Final = "full"
REVERTED: Final = "reverted"
STOPPED: Final = "stopped"
DONE: Final = "done"
ENDS: Final = (REVERTED, STOPPED, DONE)
_CLAUSES: Final = "; "  # some hold commas

Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]
Verb: TypeAlias = Literal["pause", "resume", "promote", "roll back", "urgent", "finish"]


class Seen(msgspec.Struct, frozen=True, kw_only=True, tag="seen"):
    """What is known at a time. ``look``: at the KPI, None where it could not be asked for; ``measured``: the
    guardrails; ``mismatch``: what is wrong with the sizes of the arms, empty if nothing is shown to be; ``failed``: why
    there is no look; ``crashing``: that the candidate's process ends over and over, and how."""

    at: int
    look: Look | None = None
    failed: str = ""
    measured: tuple[Reading, ...] = ()
    mismatch: str = ""
    crashing: str = ""


class Said(msgspec.Struct, frozen=True, kw_only=True, tag="said"):
    """What somebody wants. ``proofs``: what stands for patience in an urgent rollout."""

    at: int
    verb: Verb
    actor: Text
    reason: Text
    proofs: tuple[Proof, ...] = ()


class Urgent(msgspec.Struct, frozen=True, kw_only=True):
    """Who let a rollout go without waiting for evidence, why, and on which proofs."""

    actor: str
    reason: str
    proofs: tuple[Proof, ...]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rollout is. ``stage`` counts from 0, ``since`` is when that began; patience counts from ``patient``,
    which people move by letting it go on; ``last`` is what was last seen."""

    phase: Phase
    stage: int
    began: int
    since: int
    patient: int
    why: str = ""
    urgent: Urgent | None = None
    last: Seen | None = None


class Serve(msgspec.Struct, frozen=True, tag="serve"):
    """Let the candidate answer this share, from now on; 0: nobody."""

    share: float


class Shadow(msgspec.Struct, frozen=True, tag="shadow"):
    """Let the candidate see requests of this part of the entities without answering them."""

    sample: float = 1.0


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """Tell the people concerned that they have to decide."""

    says: str


class Incident(msgspec.Struct, frozen=True, tag="incident"):
    """Open one, with the requests that made it."""

    says: str


class Retire(msgspec.Struct, frozen=True, tag="retire"):
    """The bundle that was champion need not be kept warm any longer."""


Action: TypeAlias = Serve | Shadow | Ask | Incident | Retire
Entry: TypeAlias = Seen | Said


class Move(msgspec.Struct, frozen=True):
    """The state after, what to do, and why."""

    state: State
    actions: tuple[Action, ...] = ()
    why: str = ""


def begin(plan: Rollout, at: int) -> Move:
    """A rollout at its first stage."""
    state = State(phase=RUNNING, stage=0, began=at, since=at, patient=at, why="begun")
    return Move(state, standing(plan, state), "begun")


def standing(plan: Rollout, state: State) -> tuple[Action, ...]:
    """What must be in force in a state: what a hub does when it starts again."""
    if state.phase in (REVERTED, STOPPED):
        return (Serve(0.0),)
    stage = plan.stage[state.stage]
    return (Shadow(stage.sample),) if stage.shadow else (Serve(stage.share or 0.0),)


def step(plan: Rollout, state: State, seen: Seen) -> Move:
    """What follows from what is known."""
    if state.phase in ENDS:
        return Move(state, (), state.why)
    state = replace(state, last=seen)
    if danger := _danger(state, seen):
        return danger
    if state.phase == FULL:
        if seen.at - state.since >= span(plan.keep_warm):
            return _to(state, DONE, "the champion of before is not needed any longer", Retire())
        return Move(state, (), "in full use; the champion of before is kept warm")
    if state.phase == PAUSED:
        return Move(state, (), state.why)
    missing = _missing(plan, state, seen)
    if not missing:
        assert seen.look is not None
        return _onward(plan, state, seen.at, f"after {plan.stage[state.stage].shown}: {seen.look.why}")
    waits = f"waits: {some(missing, between=_CLAUSES)}"
    if state.phase == ASKING:
        return Move(state, (), waits)
    patience = span(plan.patience)
    if not patience or seen.at - state.patient < patience or plan.patience_over == "wait":
        return Move(replace(state, why=waits), (), waits)
    over = f"patience of {plan.patience} is over: {some(missing, between=_CLAUSES)}"
    if plan.patience_over == "ask":
        return _to(state, ASKING, over, Ask(over))
    return _to(state, REVERTED, over, Serve(0.0))


def tell(plan: Rollout, state: State, said: Said) -> Move:
    """What follows from what somebody wants. Raises Refused where it must not be."""
    attempted = f"{said.verb.capitalize()} the rollout" if said.verb != "urgent" else "Let the rollout go as urgent"
    if state.phase in ENDS:
        raise Refused(attempted, f"it is {state.phase}: {state.why}", "Begin another one.")
    if not (said.actor.strip() and said.reason.strip()):
        raise Refused(attempted, "nobody, or no reason, is named", "Say who and why: both stay in the history.")
    why = f"{said.actor}: {said.reason}"
    if said.verb == "roll back":
        return _to(state, REVERTED, why, Serve(0.0))
    if state.phase == FULL:
        if said.verb == "finish":
            return _to(state, DONE, why, Retire())
        raise Refused(attempted, "the candidate is in full use", "It can be rolled back, or finished.")
    if said.verb == "finish":
        raise Refused(attempted, "the candidate is not in full use yet", "It can be promoted, or rolled back.")
    if said.verb == "pause":
        return _to(state, PAUSED, why)
    if said.verb == "resume":
        return _to(replace(state, patient=said.at), RUNNING, why)
    if said.verb == "urgent":
        return _urgent(plan, state, said, attempted, why)
    return _wanted(plan, state, said, attempted, why)


def again(plan: Rollout, at: int, history: Iterable[Entry]) -> State:
    """The state that a history leads to; the same each time. What was refused then is no part of one."""
    state = begin(plan, at).state
    for one in history:
        state = (step(plan, state, one) if isinstance(one, Seen) else tell(plan, state, one)).state
    return state


# -- parts


def _danger(state: State, seen: Seen) -> Move | None:
    broken = [f"{one.name}: {one.says}" for one in seen.measured if one.standing == BREACHED]
    if broken:
        why = f"guardrail breached: {some(broken, between=_CLAUSES)}"
        return _to(state, REVERTED, why, Serve(0.0), Incident(why))
    if seen.crashing:
        why = f"the candidate crashes: {seen.crashing}"
        return _to(state, REVERTED, why, Serve(0.0), Incident(why))
    if seen.mismatch and state.phase != FULL:
        why = f"the arms are not as large as declared: {seen.mismatch}"
        return _to(state, STOPPED, why, Serve(0.0), Incident(why))
    if seen.look is not None and seen.look.verdict == WORSE:
        why = f"worse: {seen.look.why}"
        return _to(state, REVERTED, why, Serve(0.0), Incident(why))
    return None


def _missing(plan: Rollout, state: State, seen: Seen) -> list[str]:
    """Why the stage cannot end; nothing only where everything that is asked is there."""
    stage = plan.stage[state.stage]
    found = []
    if seen.at < state.since:
        found.append("it has not been looked at in this stage yet")
    elif seen.at - state.since < stage.micros:
        until = iso(state.since + stage.micros)[:16].replace("T", " ")
        found.append(f"the stage lasts {stage.at_least}, until {until} UTC")
    found += _unmeasured(plan, seen)
    if seen.look is None:
        return [*found, _unasked(seen)]
    units = stage.units or plan.units
    if min(seen.look.units) < units:
        found.append(f"{min(seen.look.units):,} of {units:,} entities in the smaller arm")
    if _decisive(plan, state, stage) and seen.look.verdict != BETTER:
        found.append(f"{OPEN}: {seen.look.why}")
    return found


def _unasked(seen: Seen) -> str:
    return f"the KPI could not be asked for{f': {seen.failed}' if seen.failed else ''}"


def _unmeasured(plan: Rollout, seen: Seen) -> list[str]:
    by_name = {one.name: one for one in seen.measured}
    found = []
    for rail in plan.guardrail:
        reading = by_name.get(rail.name)
        if reading is None or reading.standing != HOLDS:
            found.append(f"{rail.name} is not known: {reading.says if reading else 'not measured'}")
    return found


def _decisive(plan: Rollout, state: State, stage: Stage) -> bool:
    return stage.needs == "better" or plan.stage[state.stage + 1].share == 1


def _wanted(plan: Rollout, state: State, said: Said, attempted: str, why: str) -> Move:
    """A person may end a stage early, not decide that a candidate is better."""
    last = _last(state, attempted)
    if plan.stage[state.stage + 1].share == 1:
        lacking = _unmeasured(plan, last)
        if last.look is None or last.look.verdict != BETTER:
            lacking.append(f"{OPEN}: {last.look.why if last.look else _unasked(last)}")
        if lacking:
            advice = "Wait, or let somebody approve it as urgent." if plan.urgent else "Wait, or roll it back."
            raise Refused(attempted, some(lacking, between=_CLAUSES), advice)
    return _onward(plan, replace(state, patient=said.at), said.at, why)


def _urgent(plan: Rollout, state: State, said: Said, attempted: str, why: str) -> Move:
    _last(state, attempted)
    if not plan.urgent:
        raise Refused(attempted, "the rollout's file allows none", 'For instance: urgent = ["replay", "golden"].')
    if lacking := [one for one in plan.urgent if one not in said.proofs]:
        raise Refused(attempted, f"it lacks {', '.join(lacking)}", f"Asked are {', '.join(plan.urgent)}.")
    urgent = Urgent(actor=said.actor, reason=said.reason, proofs=said.proofs)
    last = len(plan.stage) - 1
    state = replace(state, phase=FULL, stage=last, since=said.at, urgent=urgent, why=f"urgent: {why}")
    return Move(state, standing(plan, state), state.why)


def _last(state: State, attempted: str) -> Seen:
    if state.last is None:
        raise Refused(attempted, "nothing has been seen of the candidate yet", "Wait for the first look.")
    return state.last


def _onward(plan: Rollout, state: State, at: int, why: str) -> Move:
    stage = state.stage + 1
    phase: Phase = FULL if plan.stage[stage].share == 1 else RUNNING
    state = replace(state, phase=phase, stage=stage, since=at, why=why)
    return Move(state, standing(plan, state), why)


def _to(state: State, phase: Phase, why: str, *actions: Action) -> Move:
    return Move(replace(state, phase=phase, why=why), actions, why)


def history_of(lines: Sequence[bytes]) -> list[Entry]:
    """A history as it was kept, one JSON object a line."""
    return [msgspec.json.decode(line, type=Seen | Said) for line in lines]
