"""One look at a rollout: what the log and the tables say of both arms, and what a failing query does not say."""

import asyncio
import json
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sampan.app import App
from sampan.base.clock import iso
from sampan.base.errors import SampanError
from sampan.release.evidence import OPEN
from sampan.release.looking import Looking
from sampan.release.records import Begun
from sampan.release.rollouts import Rollout
from sampan.release.stages import FULL, RUNNING, Seen, State

BEGAN = 1_700_000_000_000_000
VALUES = {"currency": "GBP", "outcomes": {"true": 2.0, "false": -1.0}, "expected": 0.0}
STAGES = [{"shadow": True, "at_least": "1 day"}, {"share": 0.5, "at_least": "1 day"}, {"share": 1.0}]


class Looked:
    """A workspace whose log holds what a rollout has answered."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        (root / "sampan.toml").write_text("")
        self.app = App(root)
        self.plan: dict[str, Any] = {"kpi": {"minimum_effect": 0.05}, "stage": STAGES, "units": 30}
        self.phase, self.stage = RUNNING, 1
        self.numbers = count()

    def settle(self, numbers: Iterable[int], due: str) -> None:
        """People have said that something be reserved in these cases."""
        said = {"endpoint": "reorder", "action": "reserve", "due": due, "author": "bea", "value": VALUES}
        about = ({"id": f"r{n}", "type": "review", "data": {**said, "prediction_id": f"p{n}"}} for n in numbers)
        self.send(*about, stream="reviews")

    def send(self, *events: dict[str, Any], stream: str = "told") -> None:
        with self.app.writing("Send"):
            writer, now = self.app.log.writer(stream), iso(self.app.clock.micros())
            lines = [msgspec.json.encode({"source": "test", "time": now, **event}) for event in events]

            async def submit() -> Any:
                return await writer.submit(writer.checker.batch(lines), "test")

            answer = asyncio.run(submit())
            writer.close()
            assert answer.accepted == len(events), [one for one in answer.verdicts() if one.verdict != "accepted"][:1]

    def answered(self, number: int, candidate: bool, **more: Any) -> dict[str, Any]:
        data = {
            "endpoint": "reorder",
            "version": "reorder@2" if candidate else "reorder@1",
            "bundle": "c" * 64 if candidate else "b" * 64,
            "entity": f"e{number}",
            "features": {},
            "prediction": 0.5,
            "action": "reserve",
            "rule": "",
            "value": VALUES,
            "variant": "candidate" if candidate else "champion",
            "rollout": "r1",
            "stage": 1,
            "latency_us": 1_000,
            **more,
        }
        return {"id": f"p{number}", "type": "prediction", "data": data}

    def outcome(self, number: int, value: Any) -> dict[str, Any]:
        return {
            "id": f"o{number}-{next(self.numbers)}",
            "type": "outcome",
            "data": {"prediction_id": f"p{number}", "value": value},
        }

    def shadow(self, number: int, **more: Any) -> dict[str, Any]:
        data = {"prediction_id": f"p{number}", "endpoint": "reorder", "rollout": "r1", "stage": 0} | {
            "version": "reorder@2",
            "bundle": "c" * 64,
            "prediction": 0.4,
            "action": "wait",
            "value": {"currency": "GBP", "outcomes": {"true": 0.0, "false": 0.0}},
            **more,
        }
        return {"id": f"p{number}~r1", "type": "shadow", "subject": f"e{number}", "data": data}

    def begun(self) -> Begun:
        plan = msgspec.convert(self.plan, Rollout)
        spec = {"version": "reorder@1"}
        return Begun(
            id="r1",
            endpoint="reorder",
            champion="b" * 64,
            candidate="c" * 64,
            champion_spec=spec,
            candidate_spec={"version": "reorder@2"},
            plan=plan,
            file="",
            golden="",
            actor="ann",
            reason="",
            began=BEGAN,
        )

    def looking(self) -> Looking:
        state = State(phase=self.phase, stage=self.stage, began=BEGAN, since=BEGAN, patient=BEGAN)
        return Looking(self.app, self.begun(), state)

    def whole(self) -> Seen:
        return self.looking().whole(self.app.clock.micros())


@pytest.fixture
def looked(tmp_path: Path) -> Looked:
    return Looked(tmp_path / "shop")


def arms(looked: Looked, size: int = 80, good: int = 10) -> None:
    """Even numbers are the champion's, of which half earn 2; of the candidate's all but every ``good``-th do."""
    looked.send(*(looked.answered(n, n % 2 == 1) for n in range(2 * size)))
    looked.send(*(looked.outcome(n, (n // 2) % 2 == 0 if n % 2 == 0 else n // 2 % good != 0) for n in range(2 * size)))


def test_what_decisions_earned_is_compared_between_the_arms(looked):
    arms(looked)
    look = looked.whole().look
    assert look is not None and look.units == (80, 80)
    assert look.champion == pytest.approx(0.5)  # half 2, half -1
    assert look.gain == pytest.approx(3 * 0.4)  # 72 of 80 instead of 40 of 80 earn 3 more
    assert look.verdict == "better"


def test_the_last_outcome_of_a_prediction_counts_and_an_unknown_one_does_not(looked):
    arms(looked, 40)
    looked.send(looked.answered(500, True), *(looked.outcome(n, False) for n in range(1, 80, 2)))
    look = looked.whole().look
    assert look is not None and look.units == (40, 40)
    assert look.gain == pytest.approx(-1.5)


def test_outcomes_by_entity_and_time_are_evidence_too(looked):
    arms(looked, 40)
    before = looked.whole().look
    keyed = {"endpoint": "reorder", "value": False}
    looked.send(
        *({"id": f"k{n}", "type": "outcome", "data": {**keyed, "entity": f"e{n}"}} for n in range(1, 80, 2)),
        {"id": "nobody", "type": "outcome", "data": {**keyed, "entity": "nobody"}},
    )
    look = looked.whole().look
    assert before is not None and before.gain > 0
    assert look is not None and look.units == (40, 40)
    assert look.gain == pytest.approx(-1.5)


def test_decisions_outside_the_rollout_are_none_of_its(looked):
    arms(looked)
    looked.send(*(looked.answered(n, True, rollout="another") for n in range(1_000, 1_050)))
    looked.send(*(looked.outcome(n, False) for n in range(1_000, 1_050)))
    look = looked.whole().look
    assert look is not None and look.units == (80, 80)


def test_a_shadow_is_compared_request_by_request(looked):
    looked.stage = 0
    numbers = range(60)
    looked.send(*(looked.answered(n, False, stage=0) for n in numbers), *(looked.shadow(n) for n in numbers))
    looked.send(*(looked.outcome(n, n % 3 == 0) for n in numbers))
    look = looked.whole().look
    assert look is not None and look.units == (60, 60)
    assert look.champion == pytest.approx(0.0)
    assert look.gain == pytest.approx(0.0)  # it earns 0 always; the champion 2 of a third and -1 of two thirds


def test_a_query_that_leaves_out_what_a_shadow_said_is_told_what_it_lacks(looked):
    looked.stage = 0
    numbers = range(40)
    looked.send(*(looked.answered(n, False, stage=0) for n in numbers), *(looked.shadow(n) for n in numbers))
    looked.plan["kpi"] = {"query": "SELECT _id AS prediction_id, 1.0 AS value FROM prediction", "minimum_effect": 0.1}
    look = looked.whole().look
    assert look.verdict == OPEN and "the _id of a row of shadow, too" in look.why


def test_a_shadow_that_failed_is_no_answer_but_an_error(looked):
    looked.stage = 0
    looked.plan["guardrail"] = [{"kind": "error_rate", "at_most": 0.01}]
    looked.send(*(looked.answered(n, False, stage=0) for n in range(60)))
    looked.send(*(looked.shadow(n, error="timeout") for n in range(60)))
    looked.send(*(looked.outcome(n, True) for n in range(60)))
    seen = looked.whole()
    assert seen.look is not None and seen.look.units == (0, 0)
    assert seen.measured[0].standing == "breached" and "60 of 60" in seen.measured[0].says


def test_errors_fallbacks_and_slow_answers_are_counted_at_once(looked):
    looked.plan["guardrail"] = [
        {"kind": "error_rate", "at_most": 0.05},
        {"kind": "latency", "at_most_ms": 50, "quantile": 0.9},
    ]
    looked.send(*(looked.answered(n, True, fallback="crash") for n in range(15)))
    looked.send(*(looked.answered(n, True, error="rule failed") for n in range(15, 30)))
    looked.send(*(looked.answered(n, True, latency_us=60_000) for n in range(30, 60)))
    looked.send(*(looked.answered(n, False, error="the champion's own", latency_us=10**6) for n in range(60, 90)))
    seen = looked.looking().quick(looked.app.clock.micros())
    assert [(one.name, one.standing) for one in seen.measured] == [("error rate", "breached"), ("latency", "breached")]
    assert "30 of 60 answers" in seen.measured[0].says and "30 of 60 answers" in seen.measured[1].says
    shown = looked.looking().offending(seen)
    assert len(shown) == 20 and all(int(one[1:]) < 60 for one in shown)


def test_what_was_answered_while_the_candidate_loaded_is_no_evidence_in_either_arm(looked):
    looked.plan["guardrail"] = [{"kind": "error_rate", "at_most": 0.05}]
    arms(looked)
    looked.send(*(looked.answered(n, True, fallback="loading", aside="loading") for n in range(1_000, 1_300)))
    looked.send(*(looked.answered(n, False, aside="loading") for n in range(1_300, 1_350)))
    looked.send(*(looked.outcome(n, False) for n in range(1_000, 1_350)))
    seen = looked.whole()
    assert seen.look is not None and seen.look.units == (80, 80) and seen.look.gain == pytest.approx(3 * 0.4)
    assert seen.measured[0].standing == "holds" and "0 of 80 answers" in seen.measured[0].says
    assert seen.mismatch == "", "those who were assigned then are in neither arm"


def test_in_full_use_what_the_new_bundle_answers_is_what_the_candidate_answers(looked):
    looked.plan["guardrail"] = [{"kind": "error_rate", "at_most": 0.05}]
    looked.phase, looked.stage = FULL, 2
    looked.send(*(looked.answered(n, True, rollout="", variant="champion", error="x") for n in range(40)))
    seen = looked.looking().quick(looked.app.clock.micros())
    assert seen.measured[0].standing == "breached"


def test_arms_of_the_wrong_size_are_noticed(looked):
    looked.send(*(looked.answered(n, n % 5 == 0) for n in range(300)))
    assert "60 of 300 entities where 0.5 of them is declared" in looked.whole().mismatch


def test_arms_of_about_the_right_size_are_no_mismatch(looked):
    looked.send(*(looked.answered(n, n % 2 == 0 or n % 10 == 1) for n in range(100)))
    assert looked.whole().mismatch == ""


def test_a_query_of_ones_own_decides(looked):
    arms(looked)
    looked.plan["kpi"] = {
        "query": "SELECT _id AS prediction_id, CASE WHEN variant = 'candidate' THEN 1.0 ELSE 0.0 END AS value"
        " FROM prediction -- one line of comment at the end",
        "minimum_effect": 0.1,
    }
    look = looked.whole().look
    assert (look is not None and look.why == "all values are the same") or look.gain == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT prediction_id, value FROM nowhere", "nowhere"),
        ("SELECT _id AS prediction_id, nothing AS value FROM prediction", "nothing"),
        ("SELECT _id AS prediction_id, 'much' AS value FROM prediction", "much"),
        ("SELECT _id AS prediction_id, 1.0 AS value FROM prediction, (VALUES (1), (2)) AS v(x)", "more than once"),
    ],
)
def test_a_query_that_fails_is_told_and_never_a_number(looked, query, said):
    arms(looked)
    looked.plan["kpi"] = {"query": query, "minimum_effect": 0.1}
    seen = looked.whole()
    assert seen.look is None and said in seen.failed


def test_queries_that_cannot_be_asked_are_refused_beforehand(looked):
    looked.looking().try_out()
    looked.plan["guardrail"] = [
        {"kind": "metric", "name": "brier", "query": "SELECT prediction_id, value FROM gone", "at_most_worse": 0.1}
    ]
    with pytest.raises(SampanError, match=r"guardrail brier: .*gone"):
        looked.looking().try_out()


def test_what_queries_give_is_counted_beforehand_and_a_value_that_is_no_number_refused(looked):
    arms(looked)
    looked.plan["kpi"] = {"query": EARNED, "minimum_effect": 0.1}
    rows, known = looked.looking().try_out()["KPI"]
    assert rows == known > 0
    looked.plan["kpi"] = {"query": "SELECT _id AS prediction_id, 'much' AS value FROM prediction", "minimum_effect": 1}
    with pytest.raises(SampanError, match=r"KPI: .*much"):
        looked.looking().try_out()


def test_a_floor_an_exposure_and_another_figure_are_measured(looked):
    arms(looked)
    staked = "SELECT _id AS prediction_id, 10.0 AS value FROM prediction"
    looked.plan["guardrail"] = [
        {"kind": "floor", "at_least": 2.5},
        {"kind": "exposure", "at_most": 500.0, "query": staked},
        {"kind": "metric", "name": "earned again", "query": "", "at_most_worse": 0.5} | {"query": EARNED},
    ]
    readings = {one.name: one for one in looked.whole().measured}
    assert readings["floor"].standing == "breached"  # it earns 1.7 on average
    assert readings["exposure"].standing == "breached" and "800.00, 500.00 at most" in readings["exposure"].says
    assert readings["earned again"].standing == "holds"


EARNED = (
    "SELECT prediction_id, CASE WHEN CAST(outcome.value AS VARCHAR) = 'true' THEN 2.0 ELSE -1.0 END AS value"
    " FROM outcome"
)


def test_the_plan_of_the_example_can_be_read_and_asked(looked):
    from sampan.release.rollouts import example, read_rollouts

    (looked.app.folder.root / "rollouts.toml").write_text(example("reorder"))
    plan = read_rollouts(looked.app.folder.root).of["reorder"]
    looked.plan = json.loads(msgspec.json.encode(plan))
    looked.looking().try_out()


def test_what_the_days_cap_held_back_is_no_evidence_of_a_shadow(looked):
    """The champion's approvals are held back, a shadow's are not: of the same rules one would look better."""
    looked.stage = 0
    safe = {"currency": "GBP", "outcomes": {"true": 0.0, "false": 0.0}}
    free = {"risk": 1.0, "day": "2026-03-01", "total": 60.0, "cap": 60.0}
    held = {**free, "risk": 0.0, "held": "reserve", "asked": 1.0, "rule": ""}
    same = {"stage": 0, "exposure": free}
    looked.send(*(looked.answered(n, False, **same) for n in range(60)))
    looked.send(*(looked.answered(n, False, stage=0, action="wait", value=safe, exposure=held) for n in range(60, 120)))
    looked.send(*(looked.answered(n, False, **same) for n in range(120, 130)))  # what is smaller still fits
    looked.send(*(looked.answered(n, False, stage=0, exposure={**free, "day": "2026-03-02"}) for n in range(130, 140)))
    looked.send(*(looked.shadow(n, action="reserve", value=VALUES if n % 2 or n > 59 else safe) for n in range(140)))
    looked.send(*(looked.outcome(n, True) for n in range(140)))
    look = looked.whole().look
    assert look is not None and look.units == (70, 70)
    assert look.gain == pytest.approx(-2 * 30 / 70), "of those that were held back nothing is seen"


def test_a_shadow_of_which_the_cap_leaves_nothing_says_so_and_another_bundle_has_its_own_cap(looked):
    looked.stage = 0
    free = {"risk": 1.0, "day": "2026-03-01", "total": 60.0, "cap": 60.0}
    held = {**free, "risk": 0.0, "held": "reserve", "asked": 1.0, "rule": ""}
    looked.send(looked.answered(0, False, stage=0, bundle="a" * 64, action="wait", value=VALUES, exposure=held))
    looked.send(*(looked.answered(n, False, stage=0, bundle="a" * 64, exposure=free) for n in range(1, 41)))
    looked.send(*(looked.shadow(n, action="reserve", value=VALUES) for n in range(41)))
    looked.send(*(looked.outcome(n, True) for n in range(41)))
    look = looked.whole().look
    assert look is not None and look.verdict == "not enough evidence"
    assert look.why.startswith("41 requests came after the cap had held something back that day"), look.why
    looked.send(*(looked.answered(n, False, stage=0, exposure=free) for n in range(41, 81)))
    looked.send(*(looked.shadow(n, action="reserve", value=VALUES) for n in range(41, 81)))
    looked.send(*(looked.outcome(n, True) for n in range(41, 81)))
    look = looked.whole().look
    assert look is not None and look.units == (40, 40)


def test_a_shadow_whose_rule_asks_people_too_is_taken_to_get_their_answer(looked):
    looked.stage = 0
    due, numbers = iso(looked.app.clock.micros() + 60_000_000), range(40)
    safe = {"currency": "GBP", "outcomes": {"true": 0.0, "false": 0.0}}
    asked = {"action": "wait", "rule": "large", "value": safe, "review": {"due": due, "choices": ["reserve", "wait"]}}
    looked.send(*(looked.answered(n, False, stage=0, **asked) for n in numbers))
    looked.send(*(looked.shadow(n, rule="large" if n % 2 else "small", value=safe) for n in numbers))
    looked.send(*(looked.outcome(n, True) for n in numbers))
    looked.settle(numbers, due)
    look = looked.whole().look
    assert look is not None and look.champion == pytest.approx(2.0)
    assert look.gain == pytest.approx(-1.0), "of every other case the shadow did what it would have done by itself"
