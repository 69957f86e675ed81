"""Records of runs, steps and results in a real database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.base.errors import NotFound
from sampan.runs.records import FAILED, INTERRUPTED, RUNNING, SUCCEEDED, Result, Run, Runs, StepRun
from sampan.store.database import Database


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    db = Database(tmp_path / "records.db", writable=True)
    yield Runs(db)
    db.close()


def run(id: str, started: int = 1, target: str = "") -> Run:
    return Run(id, RUNNING, target, "main", "intake:3", "r", None, None, "me", {"sets": {"a.n": 1}}, "", 0.0, started)


def result(key: str, step: str, digest: str, created: int) -> Result:
    return Result(key, step, "", "r1", "value", digest, b"\x01", {"code": {"a": "1"}}, {"f": "2"}, 0.5, 10, created)


def test_a_run_comes_back_as_it_was_written(runs: Runs) -> None:
    runs.start(run("aaaa1"))
    assert runs.get("aaaa1") == run("aaaa1")
    runs.finish("aaaa1", SUCCEEDED, commit="c", error="", cost=0.5, manifest={"x": 1}, at=9)
    found = runs.get("aaaa1")
    assert (found.state, found.commit_id, found.cost, found.manifest, found.finished) == (
        SUCCEEDED,
        "c",
        0.5,
        {"x": 1},
        9,
    )


def test_a_run_is_found_by_the_beginning_of_its_id_or_as_the_last(runs: Runs) -> None:
    runs.start(run("aaaa1", 1))
    runs.start(run("aaaa2", 2, target="t"))
    assert runs.get("last").id == "aaaa2"
    assert runs.get("aaaa2").id == "aaaa2"
    with pytest.raises(NotFound, match="more than one"):
        runs.get("aaaa")
    with pytest.raises(NotFound, match="none"):
        runs.get("zzzz")
    assert [one.id for one in runs.list()] == ["aaaa2", "aaaa1"]
    assert [one.id for one in runs.list(target="t")] == ["aaaa2"]


def test_a_run_whose_process_is_gone_is_marked(runs: Runs) -> None:
    runs.start(run("aaaa1"))
    runs.start(run("aaaa2"))
    assert runs.interrupt({"aaaa2"}, 5) == ["aaaa1"]
    assert runs.get("aaaa1").state == INTERRUPTED
    assert "sampan resume aaaa1" in runs.get("aaaa1").error
    assert runs.get("aaaa2").state == RUNNING


def test_a_run_as_of_an_instant_has_the_state_that_it_had_then(runs: Runs) -> None:
    runs.start(run("aaaa1", 10), 10)
    runs.finish("aaaa1", FAILED, commit=None, error="no", cost=0.5, manifest={"sets": {}, "seconds": 9}, at=20)
    runs.start(run("aaaa1", 10), 30)
    runs.finish("aaaa1", SUCCEEDED, commit="c", error="", cost=0.25, manifest={"sets": {}, "seconds": 12}, at=40)

    def then(by: int) -> tuple[str, str | None, str, float, int | None, object]:
        one = runs.get("aaaa1", by)
        assert one == runs.list(by=by)[0]
        return one.state, one.commit_id, one.error, one.cost, one.finished, one.manifest.get("seconds")

    assert then(10) == then(19) == (RUNNING, None, "", 0.0, None, None)
    assert then(20) == then(29) == (FAILED, None, "no", 0.5, 20, None)
    assert then(30) == (RUNNING, None, "", 0.0, None, None)
    assert then(40) == (SUCCEEDED, "c", "", 0.75, 40, 12)
    assert runs.list(by=9) == []
    with pytest.raises(NotFound, match="it began at"):
        runs.get("aaaa1", 9)


def test_a_run_from_before_states_were_written_down_was_going_on_until_it_ended(runs: Runs) -> None:
    runs.start(run("aaaa1", 10), 10)
    runs.finish("aaaa1", SUCCEEDED, commit="c", error="", cost=0.5, manifest={}, at=20)
    with runs.db.transaction() as records:
        records.execute("DELETE FROM states")
    assert (runs.get("aaaa1", 19).state, runs.get("aaaa1", 20).state) == (RUNNING, SUCCEEDED)


def test_steps_as_of_an_instant_are_planned_running_or_done(runs: Runs) -> None:
    runs.start(run("aaaa1", 0), 0)
    steps = [
        StepRun("aaaa1", "done", "", "step", "ran", "new", "k", "d", 1.0, started=1_000_000),
        StepRun("aaaa1", "long", "", "step", "failed", "new", "k", "", 9.0, error="no", started=2_000_000),
        StepRun("aaaa1", "late", "", "step", "ran", "new", "k", "d", 1.0, started=8_000_000),
        StepRun("aaaa1", "same", "", "step", "cached", "nothing changed", "k", "d", ended=500_000),
        StepRun("aaaa1", "slow", "", "step", "ran", "new", "k", "d", 1.0, started=1_000_000, ended=4_000_000),
        StepRun("aaaa1", "old", "", "step", "cached", "nothing changed", "k", "d"),
    ]
    runs.put_steps(steps)
    runs.finish("aaaa1", FAILED, commit=None, error="no", cost=0.0, manifest={}, at=11_000_000)
    then = runs.steps("aaaa1", by=3_000_000)
    assert [(one.name, one.state, one.digest, one.error, one.seconds) for one in then] == [
        ("done", "ran", "d", "", 1.0),
        ("long", "running", "", "", 0.0),
        ("late", "planned", "", "", 0.0),
        ("same", "cached", "d", "", 0.0),
        ("slow", "running", "", "", 0.0),
        ("old", "planned", "", "", 0.0),
    ]
    assert runs.steps("aaaa1", by=11_000_000) == steps


def test_steps_keep_their_order_and_take_new_states(runs: Runs) -> None:
    runs.start(run("aaaa1"))
    steps = [StepRun("aaaa1", name, "", "step", "waiting", "", needs=("x",)) for name in ("b", "a")]
    runs.put_steps(steps)
    runs.put_steps([StepRun("aaaa1", "b", "", "step", "ran", "why", "k", "d", 1.5, 7, needs=("x",))])
    runs.put_steps([StepRun("aaaa1", "b", "part", "step", "ran", "")])
    assert [(one.name, one.state) for one in runs.steps("aaaa1")] == [("b", "ran"), ("a", "waiting")]
    assert len(runs.steps("aaaa1", parts=True)) == 3
    assert runs.steps("aaaa1")[0].needs == ("x",)


def test_results_are_found_by_key_and_the_newest_by_step(runs: Runs) -> None:
    runs.put_results([result("k1", "s", "d1", 1), result("k2", "s", "d2", 2)])
    assert runs.result("k1") == result("k1", "s", "d1", 1)
    assert runs.result("k3") is None
    assert runs.latest("s") == result("k2", "s", "d2", 2)
    assert runs.with_digest("s", "d1") == result("k1", "s", "d1", 1)
    assert set(runs.results(["k1", "k2", "k3"])) == {"k1", "k2"}
