"""From shadow to full and back: what each step needs, what stops it, and that silence never promotes."""

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sampan.base.errors import Refused
from sampan.release.evidence import BETTER, OPEN, WORSE, Look
from sampan.release.guardrails import Reading
from sampan.release.rollouts import Rollout
from sampan.release.stages import (
    ENDS,
    FULL,
    Ask,
    Incident,
    Move,
    Retire,
    Said,
    Seen,
    Serve,
    Shadow,
    State,
    Verb,
    again,
    begin,
    history_of,
    standing,
    step,
    tell,
)

DAY = 86_400_000_000
PLAN = msgspec.convert(
    {
        "kpi": {"query": "SELECT * FROM earned", "minimum_effect": "2 %"},
        "guardrail": [{"kind": "error_rate", "at_most": 0.01}],
        "stage": [
            {"shadow": True, "at_least": "3 days"},
            {"share": 0.05, "at_least": "1 day"},
            {"share": 0.5},
            {"share": 1.0},
        ],
        "patience": "30 days",
        "urgent": ["replay", "golden"],
    },
    Rollout,
)
GOOD = Reading(name="error rate", standing="holds", says="0 of 900 answers")


def seen(day: float, verdict: Any = OPEN, units: int = 500, guard: Any = "holds", mismatch: str = "") -> Seen:
    look = None if verdict is None else Look(verdict=verdict, why=f"it is {verdict}", units=(units, units))
    measured = () if guard is None else (Reading(name="error rate", standing=guard, says="counted"),)
    return Seen(at=round(day * DAY), look=look, measured=measured, mismatch=mismatch)


def said(day: float, verb: Verb, proofs: tuple[Any, ...] = (), reason: str = "fraud") -> Said:
    return Said(at=round(day * DAY), verb=verb, actor="bea", reason=reason, proofs=proofs)


def after(*history: Seen | Said, plan: Rollout = PLAN) -> State:
    return again(plan, 0, history)


def last(*history: Seen | Said, plan: Rollout = PLAN) -> Move:
    state, final = again(plan, 0, history[:-1]), history[-1]
    return step(plan, state, final) if isinstance(final, Seen) else tell(plan, state, final)


TO_HALF = (seen(3), seen(4))


def test_it_grows_stage_by_stage_and_into_full_use_by_a_gain_alone() -> None:
    assert begin(PLAN, 0).actions == (Shadow(),)
    assert last(seen(2.9)).actions == ()
    assert last(seen(2.9)).why == "waits: the stage lasts 3 days, until 1970-01-04 00:00 UTC"
    assert last(seen(3)).actions == (Serve(0.05),)
    assert last(seen(3), seen(3.9)).actions == ()
    assert last(*TO_HALF).actions == (Serve(0.5),)
    waits = last(*TO_HALF, seen(5))
    assert (waits.actions, waits.state.stage) == ((), 2)
    assert waits.why == "waits: not enough evidence: it is not enough evidence"
    full = last(*TO_HALF, seen(5, BETTER))
    assert full.actions == (Serve(1.0),)
    assert full.state.phase == FULL
    assert "it is better" in full.why


def test_a_look_that_began_before_the_stage_did_says_that_it_waits_for_one_of_its_own() -> None:
    waits = last(*TO_HALF, seen(3.9))
    assert (waits.actions, waits.state.stage) == ((), 2)
    assert waits.why.startswith("waits: it has not been looked at in this stage yet; not enough evidence")


def test_the_old_champion_is_kept_warm_and_then_not_needed_any_longer() -> None:
    full = (*TO_HALF, seen(5, BETTER))
    assert last(*full, seen(18.9)).actions == ()
    assert last(*full, seen(19)).actions == (Retire(),)
    assert after(*full, seen(19)).phase == "done"
    assert after(*full, seen(19), seen(20, WORSE, guard="breached")).phase == "done"


@pytest.mark.parametrize("missing", [seen(9, None), seen(9, OPEN, 99), seen(9, guard=None), seen(9, guard="not known")])
def test_a_stage_does_not_end_on_what_is_not_known(missing: Seen) -> None:
    assert after(missing).stage == 0
    assert after(missing, seen(10)).stage == 1
    better = msgspec.structs.replace(missing, look=missing.look and Look(verdict=BETTER, why="", units=(99, 99)))
    assert after(*TO_HALF, better).phase == "running"


@pytest.mark.parametrize("before", [(), (seen(3),), TO_HALF, (*TO_HALF, seen(5, BETTER)), (said(1, "pause"),)])
def test_a_breach_or_a_loss_goes_back_in_every_phase_and_opens_an_incident(before: tuple[Any, ...]) -> None:
    for bad in (seen(6, OPEN, guard="breached"), seen(6, WORSE), seen(6, BETTER, guard="breached")):
        move = last(*before, bad)
        assert move.state.phase == "reverted"
        assert move.actions[0] == Serve(0.0)
        assert isinstance(move.actions[1], Incident)
        assert standing(PLAN, move.state) == (Serve(0.0),)


@pytest.mark.parametrize("before", [(), TO_HALF, (*TO_HALF, seen(5, BETTER)), (said(1, "pause"),)])
def test_a_candidate_that_crashes_over_and_over_is_taken_back_whatever_it_seems(before: tuple[Any, ...]) -> None:
    move = last(*before, msgspec.structs.replace(seen(6, BETTER), crashing="5 processes ended by signal 9"))
    assert (move.state.phase, move.why) == ("reverted", "the candidate crashes: 5 processes ended by signal 9")
    assert move.actions == (Serve(0.0), Incident(move.why))


def test_arms_of_the_wrong_size_stop_it_even_if_it_seems_better() -> None:
    move = last(*TO_HALF, seen(5, BETTER, mismatch="700 of 10,000 at 5 %"))
    assert move.state.phase == "stopped"
    assert move.actions == (Serve(0.0), Incident(move.why))


def test_when_patience_is_over_it_asks_waits_or_goes_back_and_never_promotes() -> None:
    asks = last(*TO_HALF, seen(30))
    assert asks.state.phase == "asking"
    assert isinstance(asks.actions[0], Ask)
    assert "patience of 30 days is over" in asks.why
    assert last(*TO_HALF, seen(30), seen(31)).actions == ()  # asked once
    assert after(*TO_HALF, seen(30), seen(31, BETTER)).phase == FULL
    longer = (*TO_HALF, seen(30), said(31, "resume"))
    assert after(*longer, seen(60.9)).phase == "running"
    assert after(*longer, seen(61)).phase == "asking"
    back = msgspec.structs.replace(PLAN, patience_over="roll back")
    assert last(*TO_HALF, seen(30), plan=back).actions == (Serve(0.0),)
    waits = msgspec.structs.replace(PLAN, patience_over="wait")
    assert after(*TO_HALF, seen(3_000), plan=waits).phase == "running"


def test_people_pause_go_on_and_roll_back() -> None:
    assert after(said(1, "pause"), seen(9, BETTER)).stage == 0
    assert after(said(1, "pause"), said(2, "resume"), seen(9)).stage == 1
    move = last(*TO_HALF, seen(5, BETTER), said(6, "roll back"))
    assert (move.state.phase, move.actions, move.why) == ("reverted", (Serve(0.0),), "bea: fraud")


def test_a_person_ends_a_stage_early_but_does_not_decide_that_it_is_better() -> None:
    assert last(seen(0.5), said(0.6, "promote")).actions == (Serve(0.05),)
    with pytest.raises(Refused, match="not enough evidence: it is not enough evidence"):
        last(*TO_HALF, seen(5), said(6, "promote"))
    with pytest.raises(Refused, match="error rate is not known"):
        last(*TO_HALF, seen(5, BETTER, guard=None), said(6, "promote"))
    with pytest.raises(Refused, match="nothing has been seen"):
        last(said(1, "promote"))
    assert last(*TO_HALF, seen(5, BETTER, 20), said(6, "promote")).state.phase == FULL


def test_an_urgent_rollout_needs_proofs_and_a_reason_and_stays_guarded_and_marked() -> None:
    proofs = ("golden", "replay")
    move = last(seen(0.1, None, guard=None), said(0.2, "urgent", proofs))
    assert (move.state.phase, move.actions) == (FULL, (Serve(1.0),))
    assert move.state.urgent is not None
    assert (move.state.urgent.actor, move.state.urgent.reason) == ("bea", "fraud")
    assert step(PLAN, move.state, seen(0.3, OPEN, guard="breached")).state.phase == "reverted"
    with pytest.raises(Refused, match="it lacks replay"):
        last(seen(0.1), said(0.2, "urgent", ("golden",)))
    with pytest.raises(Refused, match="no reason"):
        last(seen(0.1), said(0.2, "urgent", proofs, reason=" "))
    with pytest.raises(Refused, match="allows none"):
        last(seen(0.1), said(0.2, "urgent", proofs), plan=msgspec.structs.replace(PLAN, urgent=()))


def test_an_end_is_an_end() -> None:
    for verb in get_args(Verb):
        with pytest.raises(Refused, match="it is reverted"):
            last(seen(1, WORSE), said(2, verb, ("replay", "golden")))
    for verb in ("pause", "resume", "promote", "urgent"):
        with pytest.raises(Refused, match="in full use"):
            last(*TO_HALF, seen(5, BETTER), said(6, verb, ("replay", "golden")))  # type: ignore[arg-type]


class Rolls(RuleBasedStateMachine):
    """Anything at any time, with restarts: the state is written and read again, or taken from the history."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.history: list[Seen | Said] = []
        self.move = begin(PLAN, 0)
        self.served = 0.0

    @rule(
        days=st.floats(0, 40),
        verdict=st.sampled_from([None, OPEN, OPEN, BETTER, WORSE]),
        units=st.sampled_from([0, 99, 100, 10_000]),
        guard=st.sampled_from([None, "not known", "holds", "holds", "holds", "breached"]),
        mismatch=st.sampled_from(["", "", "", "wrong"]),
    )
    def look(self, days: float, verdict: Any, units: int, guard: Any, mismatch: str) -> None:
        self.now += round(days * DAY)
        found = msgspec.structs.replace(seen(0, verdict, units, guard, mismatch), at=self.now)
        self.take(found, step(PLAN, self.move.state, found))

    @rule(days=st.floats(0, 40), units=st.sampled_from([0, 100, 10_000]), guard=st.sampled_from([None, "holds"]))
    def silence(self, days: float, units: int, guard: Any) -> None:
        stage = self.move.state.stage
        self.look(days, OPEN, units, guard, "")
        assert self.move.state.phase != FULL or stage == len(PLAN.stage) - 1

    @rule(verb=st.sampled_from(get_args(Verb)), proofs=st.sets(st.sampled_from(["tests", "golden", "replay"])))
    def person(self, verb: Verb, proofs: set[Any]) -> None:
        wanted = Said(at=self.now, verb=verb, actor="bea", reason="so", proofs=tuple(sorted(proofs)))
        try:
            self.take(wanted, tell(PLAN, self.move.state, wanted))
        except Refused as refused:
            assert refused.advice

    def take(self, entry: Seen | Said, move: Move) -> None:
        self.history.append(entry)
        self.move = move
        for one in move.actions:
            self.served = one.share if isinstance(one, Serve) else self.served

    @rule()
    def restart(self) -> None:
        kept = msgspec.json.decode(msgspec.json.encode(self.move.state), type=State)
        assert kept == self.move.state
        told = history_of([msgspec.json.encode(one) for one in self.history])
        assert again(PLAN, 0, told) == kept
        self.move = Move(kept)

    @invariant()
    def everybody_has_it_only_after_a_gain_or_an_urgent_approval(self) -> None:
        if self.served == 1.0 or self.move.state.phase in (FULL, "done"):
            gain = any(isinstance(one, Seen) and one.look and one.look.verdict == BETTER for one in self.history)
            urgent = any(
                isinstance(one, Said) and one.verb == "urgent" and {"replay", "golden"} <= set(one.proofs)
                for one in self.history
            )
            assert gain or urgent
            assert (self.move.state.urgent is not None) <= urgent

    @invariant()
    def what_is_served_is_what_the_state_says(self) -> None:
        if self.move.state.phase in ENDS and self.move.state.phase != "done":
            assert self.served == 0.0
        shares = [one.share for one in standing(PLAN, self.move.state) if isinstance(one, Serve)]
        assert shares in ([], [self.served])


Rolls.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestRolls = Rolls.TestCase
