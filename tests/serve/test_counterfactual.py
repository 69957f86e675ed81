"""Past decisions beside those that would have been: counts, money, intervals, against plain sums."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.serve.again import Again
from sampan.serve.counterfactual import compare
from sampan.serve.past import Past

VALUES = {"call": {"true": 3.0, "false": -1.0}, "wait": {"true": 0.0, "false": 0.0}}


def past(id: str, action: str, outcome: bool | None, prediction: float = 0.5) -> Past:
    value = {"currency": "EUR", "outcomes": VALUES[action]}
    return Past(
        id, 1_770_000_000_000_000, "buys", "buys@1", "b", "ann", {}, {}, prediction, action, action, value, outcome
    )


def again(id: str, action: str, prediction: float = 0.5) -> Again:
    return Again(id, prediction, action, action, {"currency": "EUR", "outcomes": VALUES[action]}, "")


ACTIONS = st.sampled_from(["call", "wait"])


@given(st.lists(st.tuples(ACTIONS, ACTIONS, st.sampled_from([True, False, None])), max_size=40))
def test_money_is_the_sum_over_known_outcomes_and_lies_in_its_bounds(rows) -> None:  # type: ignore[no-untyped-def]
    before = [past(str(n), was, outcome) for n, (was, _, outcome) in enumerate(rows)]
    after = {str(n): again(str(n), then) for n, (_, then, _) in enumerate(rows)}
    found = compare("buys", before, after, {})
    known = [row for row in rows if row[2] is not None]

    def worth(action: str, outcome: bool) -> float:
        return VALUES[action]["true" if outcome else "false"]

    assert (found.answered, found.known) == (len(rows), len(known))
    assert found.differ == sum(was != then for was, then, _ in rows)
    assert found.difference == pytest.approx(math.fsum(worth(b, o) - worth(a, o) for a, b, o in known))
    assert found.least - 1e-9 <= found.difference <= found.most + 1e-9
    assert found.low <= found.high
    assert sum(move.decisions for move in found.moves) == found.differ
    assert sum(move.difference for move in found.moves) == pytest.approx(found.difference)


def test_the_interval_holds_the_true_difference_about_as_often_as_it_says() -> None:
    import numpy as np

    chance, held = np.random.default_rng(1), 0
    for _ in range(60):
        outcomes = chance.random(300) < 0.4
        changed = chance.random(300) < 0.2
        before = [past(str(n), "wait", bool(outcomes[n])) for n in range(300)]
        after = {str(n): again(str(n), "call" if changed[n] else "wait") for n in range(300)}
        found = compare("buys", before, after, {})
        held += found.low <= 300 * 0.2 * (0.4 * 3.0 - 0.6) <= found.high
    assert 50 <= held <= 60  # 95 % of 60 is 57


def test_the_same_decisions_give_the_same_figures_whatever_their_order() -> None:
    rows = [(str(n), "call" if n % 3 else "wait", n % 2 == 0) for n in range(50)]
    before = [past(id, was, outcome) for id, was, outcome in rows]
    after = {id: again(id, "call") for id, _, _ in rows}
    assert compare("buys", before, after, {}) == compare("buys", before, dict(reversed(after.items())), {})


def test_what_could_not_be_answered_counts_apart() -> None:
    before = [past("a", "call", True), past("b", "call", True), past("c", "call", True)]
    broken = Again("b", None, "", "", None, "field 'x' is missing")
    found = compare("buys", before, {"a": again("a", "wait"), "b": broken}, {})
    assert (found.decisions, found.answered, found.differ, found.difference) == (3, 1, 1, -3.0)
    assert found.unanswered == {"field 'x' is missing": 1, "no row of features for it with this code": 1}


def test_another_prediction_with_the_same_action_is_no_other_decision() -> None:
    found = compare("buys", [past("a", "call", True, 0.7)], {"a": again("a", "call", 0.9)}, {})
    assert (found.differ, found.difference, found.worst, found.moves) == (0, 0.0, (), ())


def test_values_in_two_currencies_are_not_subtracted() -> None:
    pounds = Again("a", 0.5, "call", "call", {"currency": "GBP", "outcomes": VALUES["call"]}, "")
    assert "EUR and GBP" in compare("buys", [past("a", "call", True)], {"a": pounds}, {}).obstacle


def test_a_rule_that_failed_and_fell_back_is_told() -> None:
    fell = Again("a", 0.5, "wait", "safe default", {"currency": "EUR", "outcomes": VALUES["wait"]}, "KeyError: 'x'")
    found = compare("buys", [past("a", "call", True)], {"a": fell}, {})
    assert (found.fallbacks, found.differ, found.difference) == ({"KeyError: 'x'": 1}, 1, -3.0)
