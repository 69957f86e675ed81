"""Many runs at once: read in few questions, told what is wrong with what was asked, curves that keep their extremes."""

import math
from typing import Any

import pytest

from sampan.base.errors import NotFound, Usage
from sampan.store.database import Database
from sampan.track.comparing import CURVES, MOST, Comparing
from sampan.track.keys import Keys
from sampan.track.records import Metric
from sampan.track.runs import Runs
from sampan.track.tracking import Tracking
from sampan.track.writer import NoWriter


class Counted(Database):
    """Counts the questions that it answers."""

    asked = 0

    def rows(self, sql: str, parameters: Any = ()) -> Any:
        self.asked += 1
        return super().rows(sql, parameters)


def log(tracking: Tracking, runs: int, steps: int = 3) -> list[str]:
    made = [tracking.runs.create(0, name=f"r{number}", tags={}).id for number in range(runs)]
    for number, run in enumerate(made):
        points = [Metric("loss", number + 1 / (step + 1), 1, step) for step in range(steps)]
        tracking.logging.log(run, points, params=[("depth", str(number % 4))]).result()
    return made


def test_however_many_runs_take_the_same_few_questions(tracking: Tracking, clock: Any) -> None:
    made = log(tracking, 60)
    db = Counted(tracking.db.path, writable=False)
    keys = Keys(db)
    comparing = Comparing(db, keys, Runs(db, NoWriter(), keys, clock))
    counts = []
    for some in (2, 60):
        db.asked = 0
        assert [run.params["depth"] for run in comparing.runs(made[:some])] == [str(at % 4) for at in range(some)]
        assert len(comparing.curves(made[:some], "loss")) == min(some, CURVES)
        counts.append(db.asked)
    assert counts[0] == counts[1] < 15
    db.close()


def test_runs_come_in_the_order_in_which_they_are_named_each_once(tracking: Tracking) -> None:
    a, b, c = log(tracking, 3)
    assert [run.id for run in tracking.comparing.runs([c, a, c, b])] == [c, a, b]


def test_too_few_too_many_and_unknown_runs_are_told(tracking: Tracking) -> None:
    a, _ = log(tracking, 2)
    with pytest.raises(Usage, match="Choose 2 to 500"):
        tracking.comparing.runs([a, a])
    with pytest.raises(Usage, match="Compare 501 runs: at most 500"):
        tracking.comparing.runs([str(number) for number in range(MOST + 1)])
    with pytest.raises(NotFound, match="id='nobody' not found"):
        tracking.comparing.runs([a, "nobody"])


def test_short_curves_are_whole_and_long_ones_keep_their_extremes(tracking: Tracking) -> None:
    short, long, odd, timed = log(tracking, 4)
    values = [math.sin(step / 50) for step in range(9000)]
    values[1234], values[8321] = 9.0, -9.0
    for first in range(0, 9000, 1000):
        batch = [Metric("acc", values[step], 1, step) for step in range(first, first + 1000)]
        tracking.logging.log(long, batch).result()
    tracking.logging.log(short, [Metric("acc", step / 2, 1, step) for step in range(4)]).result()
    tracking.logging.log(odd, [Metric("acc", math.nan, 1, 0), Metric("acc", 2.0, 1, 1)]).result()
    tracking.logging.log(timed, [Metric("acc", 1.0, at) for at in (5000, 5250, 6000)]).result()
    found = tracking.comparing.curves([timed, odd, long, short], "acc")
    assert list(found) == [timed, odd, long, short]
    assert found[short].drawn == [(0, 0.0), (1, 0.5), (2, 1.0), (3, 1.5)]
    assert found[odd].drawn == [(1, 2.0)]
    assert (found[timed].timed, [place for place, _ in found[timed].drawn]) == (True, [0, 250, 1000])
    assert len(found[long].drawn) < 4000
    assert {(1234, 9.0), (8321, -9.0), (0, values[0]), (8999, values[8999])} <= set(found[long].drawn)
    assert tracking.comparing.curves([short, long], "none") == {}


def test_a_run_is_found_by_the_beginning_of_its_id(tracking: Tracking) -> None:
    a, b = log(tracking, 2)
    assert tracking.comparing.beginning(a) == [a]
    assert tracking.comparing.beginning(a[:12]) == sorted([a, b])
    assert tracking.comparing.beginning("zz") == []
