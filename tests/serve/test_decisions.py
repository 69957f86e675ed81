"""A decision is a plain function with a declaration: callable in a test, its thresholds and values are data."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan import Action, decision
from sampan.base.errors import BadWorkspace, Usage
from sampan.serve.decisions import expected_value, merge_thresholds, outcome_key

VALUES = {"reserve": {True: 2.0, False: -1.2}, "wait": {True: 0.0, False: 0.0}}


@decision(model="reorder", currency="GBP", entity="customer_id", values=VALUES, default="wait")
def reserve(prediction, context, likely: float = 0.6, *, strict: bool = False):
    """Reserve for those who come back."""
    if prediction >= likely and not (strict and context.get("new")):
        return Action("reserve", rule="likely to return")
    return Action("wait")


def test_calling_it_returns_an_action():
    assert reserve(0.7, {}) == Action("reserve", "likely to return")
    assert reserve(0.5, {}) == Action("wait", "wait")
    assert reserve(0.5, {}, likely=0.4).name == "reserve"
    assert reserve(0.7, {"new": True}, strict=True).name == "wait"


def test_it_says_what_it_declares():
    assert reserve.thresholds == {"likely": 0.6, "strict": False}
    assert reserve.values == {"reserve": {"true": 2.0, "false": -1.2}, "wait": {"true": 0.0, "false": 0.0}}
    assert (reserve.model, reserve.currency, reserve.entity) == ("reorder", "GBP", "customer_id")
    assert reserve.__doc__ == "Reserve for those who come back." and reserve.__name__ == "reserve"


def test_replay_says_what_the_rules_would_have_done():
    cases = [(0.7, {}), (0.2, {})]
    assert [action.name for action in reserve.replay(cases)] == ["reserve", "wait"]
    assert [action.name for action in reserve.replay(cases, likely=0.1)] == ["reserve", "reserve"]


@pytest.mark.parametrize(
    ("returned", "said"), [(None, "returned None"), ("wait", "returned 'wait'"), (Action("sell"), "'sell' is not in")]
)
def test_anything_but_a_declared_action_is_refused(returned, said):
    wrong = decision(model="m", values=VALUES)(lambda prediction, context: returned)
    with pytest.raises(BadWorkspace, match=said):
        wrong(0.5, {})


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: decision(model="m")(lambda prediction: None), "takes 1 parameters"),
        (lambda: decision(model="m")(lambda p, c, cut: None), "threshold 'cut' has no default"),
        (lambda: decision(model="m")(lambda p, c, cut=[1]: None), r"threshold 'cut' has \[1\]"),
        (lambda: decision(model="m", values=VALUES, default="sell")(lambda p, c: None), "default action 'sell'"),
        (lambda: decision(model="m", values={"a": {True: "much"}})(lambda p, c: None), "'much', not a number"),
        (lambda: decision(model="m", values={"a": {1: 1.0}, "b": {2: 1.0}})(lambda p, c: None), "different outcomes"),
    ],
)
def test_a_wrong_declaration_is_refused_where_it_stands(declare, said):
    with pytest.raises(BadWorkspace, match=said):
        declare()


def test_thresholds_keep_their_names_and_types():
    assert merge_thresholds("d", {"cut": 0.5, "n": 3}, {"cut": 1}) == {"cut": 1.0, "n": 3}
    with pytest.raises(Usage, match="no threshold 'cutt'"):
        merge_thresholds("d", {"cut": 0.5}, {"cutt": 0.4})
    with pytest.raises(Usage, match="expected a number, got a text"):
        merge_thresholds("d", {"cut": 0.5}, {"cut": "high"})
    with pytest.raises(Usage, match="expected a whole number, got true or false"):
        merge_thresholds("d", {"n": 3}, {"n": True})


@given(st.floats(0, 1), st.floats(-100, 100), st.floats(-100, 100))
def test_the_expected_value_lies_between_those_of_the_outcomes(p, good, bad):
    found = expected_value(p, {"true": good, "false": bad})
    assert min(good, bad) - 1e-9 <= found <= max(good, bad) + 1e-9
    assert expected_value({"a": p, "b": 1 - p}, {"a": good, "b": bad}) == pytest.approx(found)


def test_the_expected_value_of_a_number_is_not_defined():
    assert expected_value(3.5, {"3": 1.0}) is None
    assert expected_value(0.5, {}) is None


def test_outcomes_have_one_spelling():
    assert [outcome_key(value) for value in (True, False, 1, 1.0, 2.5, "late")] == [
        "true", "false", "1", "1", "2.5", "late"
    ]  # fmt: skip


def test_importing_decisions_imports_next_to_nothing():
    code = "import sys; from sampan import Action, decision; print(*sorted(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False, env={
        "PYTHONPATH": ":".join(sys.path)
    }).stdout.split()  # fmt: skip
    assert "sampan" in loaded
    assert not {"msgspec", "numpy", "pyarrow", "duckdb", "asyncio", "inspect", "dataclasses"} & set(loaded)
