"""Rules that ask people: what may be asked, and what a replay makes of what they answered."""

from typing import Any

import pytest

from sampan import Action, decision, review
from sampan.base.errors import BadWorkspace
from sampan.serve.again import Again
from sampan.serve.counterfactual import compare
from sampan.serve.decisions import Question
from sampan.serve.past import Past

VALUES = {"greet": {True: 2.0, False: -1.0}, "wait": {True: 0.0, False: 0.0}}


def rule(**asked: Any) -> Any:
    @decision(model="stay", values=VALUES, default="wait")
    def greet(prediction: float, context: dict[str, Any]) -> Action:
        return review(asked.pop("safe", "wait"), rule="asks", **asked)

    return greet


def test_people_choose_from_all_actions_that_have_values() -> None:
    assert rule(hours=2)(0.5, {}) == Action("wait", "asks", Question(7200.0, ("greet", "wait")))
    assert rule(choices=("wait", "greet"))(0.5, {}).question == Question(86400.0, ("wait", "greet"))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"hours": 0}, "it gives them 0 hours"),
        ({"hours": 1e6}, "hours"),
        ({"hours": float("nan")}, "hours"),
        ({"choices": ("greet", "sell")}, "'sell' is not in its values"),
        ({"choices": ("wait",)}, "1 actions to choose from"),
        ({"safe": "greet", "choices": ("wait", "wait")}, "1 actions"),
        ({"safe": "sell"}, "'sell' is not in its values"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(BadWorkspace, match=words):
        rule(**asked)(0.5, {})


def worth(action: str) -> dict[str, Any]:
    outcomes = {"greet": {"true": 2.0, "false": -1.0}, "wait": {"true": 0.0, "false": 0.0}}[action]
    return {"currency": "GBP", "outcomes": outcomes, "expected": None}


def test_a_replay_takes_it_that_people_would_have_said_the_same() -> None:
    told = ("p", 0, "stay", "stay@1", "b", "v", {}, {}, 0.7)
    past = Past(*told, "greet", "asks", worth("greet"), True, True)
    asks = Again("p", 0.7, "wait", "asks", worth("wait"), "", True)
    decides = Again("p", 0.7, "wait", "not likely", worth("wait"), "")

    same = compare("stay", [past], {"p": asks}, {})
    assert (same.differ, same.difference, same.value_before) == (0, 0.0, 2.0)
    other = compare("stay", [past], {"p": decides}, {})
    assert (other.differ, other.difference) == (1, -2.0), "a rule that decides alone takes the answer away"


def test_all_floors_know_the_same_built_in_events() -> None:
    from sampan.flow.graph import BUILTIN_EVENTS
    from sampan.hub.views import events
    from sampan.log.builtin import BUILTIN

    own = {one.__sampan_type__ for one in BUILTIN}
    assert set(BUILTIN_EVENTS) == own == events.BUILTIN


def test_an_action_is_a_pair_of_texts_whatever_people_are_asked() -> None:
    plain, asked = Action("wait", "not likely"), review("wait", "not likely", hours=2)
    assert plain == ("wait", "not likely") == asked
    name, rule = asked
    assert (name, rule, plain.question) == ("wait", "not likely", None)
    assert asked.question is not None and asked.question.seconds == 7200
