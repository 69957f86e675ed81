"""Figures of a month, and the telling of the demo around them."""

import io
from datetime import UTC, datetime

import pytest

from sampan.base.errors import Usage
from sampan.demo.figures import Decided, by_month
from sampan.demo.screen import Screen
from sampan.demo.story import _months_between
from sampan.demo.summary import Summary, lines, to_json
from sampan.demo.tell import choose_folder

VALUES = {"reserve": {"true": 2.0, "false": -1.2}, "wait": {"true": 0.0, "false": 0.0}}


def test_a_month_has_auc_brier_and_money_per_thousand():
    cases = [
        Decided("2011-05", 0.9, "reserve", True),
        Decided("2011-05", 0.6, "reserve", False),
        Decided("2011-04", 0.2, "wait", False),
    ]
    found = by_month(cases, VALUES)
    assert list(found) == ["2011-04", "2011-05"]
    assert found["2011-05"].auc == 1.0
    assert found["2011-05"].brier == pytest.approx((0.01 + 0.36) / 2)
    assert found["2011-05"].value == pytest.approx(400)
    assert found["2011-04"].auc is None  # one class only


def test_outcomes_of_a_month_are_whole_when_the_next_month_is_over():
    assert _months_between("2011-04", datetime(2011, 6, 1, tzinfo=UTC)) == 2
    assert _months_between("2011-12", datetime(2012, 1, 1, tzinfo=UTC)) == 1


def test_the_default_folder_is_the_next_free_one(tmp_path):
    assert choose_folder(None, tmp_path).name == "sampan-demo"
    (tmp_path / "sampan-demo").mkdir()
    assert choose_folder(None, tmp_path).name == "sampan-demo-2"


def test_a_folder_with_something_in_it_is_not_touched(tmp_path):
    (tmp_path / "mine").mkdir()
    assert choose_folder(tmp_path / "mine", tmp_path) == tmp_path / "mine"
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(Usage, match="exists and is not empty"):
        choose_folder(tmp_path / "mine", tmp_path)


def test_away_from_a_terminal_the_story_is_plain_lines():
    stream = io.StringIO()
    screen = Screen(stream)
    with screen.stage("count", "Count to three", 3) as stage:
        stage.advance(3)
    assert stream.getvalue() == "Count to three\n"
    assert screen.seconds["count"] >= 0


def test_at_a_terminal_a_stage_has_a_bar():
    stream = io.StringIO()
    with Screen(stream, "always").stage("count", "Count to three", 3) as stage:
        stage.advance(3)
    assert "Count to three" in stream.getvalue() and "3/3" in stream.getvalue()


def test_the_summary_says_the_same_to_people_and_to_machines():
    import json

    found = Summary(
        sent=4,
        accepted=2,
        duplicate=1,
        quarantined=1,
        refused=0,
        auc_by_month={"2011-04": 0.80432},
        brier_by_month={"2011-04": 0.175},
        value_by_month={"2011-04": 427.03333},
        versions=["reorder@1"],
        root="abc",
        seconds=1.23456,
        workspace="/tmp/demo",
        decisions=3,
        rules={"likely to return": 3},
        quarantine={"a reason": 1},
    )
    told = json.loads(to_json(found))
    assert told["auc_by_month"] == {"2011-04": 0.8043} and told["versions"] == ["reorder@1"]
    assert told["sent"] == told["accepted"] + told["duplicate"] + told["quarantined"] + told["refused"]
    assert "\n" not in to_json(found)
    text = "\n".join(lines(found))
    assert "a reason" in text and "likely to return" in text and "reorder@1" in text
