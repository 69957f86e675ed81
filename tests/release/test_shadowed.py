"""What a shadow said beside what was answered: figures that can be worked out by hand."""

import math

import pytest
from tests.release.test_looking import Looked, looked

from sampan.release.shadowed import Compared, compare

__all__ = ["looked"]


def asked(one: Looked) -> Compared:
    return compare(one.begun().id, one.app.log)


def test_of_nothing_there_is_nothing_to_say(looked: Looked) -> None:
    looked.send(looked.answered(1, False))
    found = asked(looked)
    assert (found.asked, found.answered, found.same_action) == (0, 0, 0)
    assert (found.apart, found.latency, found.calibration, found.furthest) == (None, None, None, ())


def test_agreement_distance_latency_and_what_went_wrong(looked: Looked) -> None:
    looked.send(*(looked.answered(n, False, prediction=0.5, action="wait", latency_us=1000 * n) for n in range(1, 6)))
    looked.send(
        looked.shadow(1, prediction=0.5, latency_us=500),
        looked.shadow(2, prediction=0.6, latency_us=500),
        looked.shadow(3, prediction=0.9, action="reserve", rule="likely", latency_us=500),
        looked.shadow(4, prediction=None, action="", error="timeout", calls=["crm.example:443"]),
        looked.shadow(5, prediction=0.4, rollout="another"),
    )
    found = asked(looked)
    assert (found.asked, found.answered, found.same_action) == (4, 3, 2)
    assert found.apart is not None and found.apart == pytest.approx((0.1, 0.37, 0.4))
    assert found.latency == ((2500.0, 3970.0), (500.0, 500.0))
    assert found.changes == (("wait", "reserve", 1),)
    assert (found.errors, found.calls) == ((("timeout", 1),), (("crm.example:443", 1),))
    assert [(one.prediction_id, one.said, one.other, one.other_rule) for one in found.furthest] == [
        ("p3", 0.5, 0.9, "likely"),
        ("p2", 0.5, 0.6, ""),
    ]
    assert found.calibration is None, "no outcome is known"


def test_an_action_that_the_days_cap_held_back_is_compared_as_the_rules_had_said_it(looked: Looked) -> None:
    held = {"risk": 0.0, "day": "2026-03-01", "total": 60.0, "cap": 60.0, "held": "reserve", "rule": "likely"}
    looked.send(looked.answered(1, False, action="wait", rule="cap: 60 GBP a day", exposure=held))
    looked.send(looked.shadow(1, prediction=0.6, action="reserve", rule="likely"))
    found = asked(looked)
    assert (found.answered, found.same_action, found.changes) == (1, 1, ())
    assert [(one.action, one.rule) for one in found.furthest] == [("reserve", "likely")]


def test_calibration_is_of_the_newest_outcome_of_each_and_of_both_sides(looked: Looked) -> None:
    said = {1: (0.9, 0.8, True), 2: (0.9, 0.6, False), 3: (0.1, 0.3, False)}
    looked.send(*(looked.answered(n, False, prediction=x) for n, (x, _, _) in said.items()))
    looked.send(*(looked.shadow(n, prediction=y) for n, (_, y, _) in said.items()))
    looked.send(looked.outcome(1, False))
    looked.send(*(looked.outcome(n, true) for n, (_, _, true) in said.items() if n != 2))
    by_key = {"endpoint": "reorder", "entity": "e2", "value": False}
    looked.send({"id": "by key", "type": "outcome", "data": by_key})
    found = asked(looked).calibration
    assert found is not None and found.known == 3
    expected = [sum((each[side] - each[2]) ** 2 for each in said.values()) / 3 for side in (0, 1)]
    assert found.brier == pytest.approx(expected)
    champion, candidate = found.bins
    assert [(one.tenth, one.count, one.true) for one in champion] == [(1, 1, 0.0), (9, 2, 0.5)]
    assert [(one.tenth, one.count) for one in candidate] == [(3, 1), (6, 1), (8, 1)]
    assert all(math.isclose(one.said, said) for one, said in zip(champion, (0.1, 0.9), strict=True))


def test_tensors_differ_by_their_farthest_element_and_large_ones_by_their_digests(looked: Looked) -> None:
    small = {"datatype": "FP32", "shape": [1, 2]}
    large = {"datatype": "FP32", "shape": [400], "size": 1600}
    looked.send(looked.answered(1, False, prediction={**small, "data": [2.0, 5.0]}))
    looked.send(looked.answered(2, False, prediction={**large, "digest": "a" * 64}))
    looked.send(looked.shadow(1, prediction={**small, "data": [2.5, 4.0]}))
    looked.send(looked.shadow(2, prediction={**large, "digest": "b" * 64}))
    found = asked(looked)
    assert (found.answered, found.apart, found.correlation) == (2, (1.0, 1.0, 1.0), None)
    assert [(one.prediction_id, one.apart) for one in found.furthest] == [("p1", 1.0), ("p2", None)]


def test_classes_differ_by_one_of_their_shares_and_labels_agree_by_their_actions_alone(looked: Looked) -> None:
    looked.send(looked.answered(1, False, prediction=[0.2, 0.8]), looked.answered(2, False, prediction="red"))
    looked.send(looked.shadow(1, prediction=[0.3, 0.7]), looked.shadow(2, prediction="red", action="reserve"))
    looked.send(looked.outcome(1, "late"))
    found = asked(looked)
    assert (found.answered, found.same_action, found.correlation, found.calibration) == (2, 1, None, None)
    assert found.apart == pytest.approx((0.1, 0.1, 0.1))
    assert [(one.prediction_id, one.said, one.other) for one in found.furthest] == [("p1", [0.2, 0.8], [0.3, 0.7])]
