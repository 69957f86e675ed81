"""A flow beside main: what is tried there touches nothing, and comes over whole or not at all."""

import shutil
from collections.abc import Callable

import pytest
from flow_bench import Bench
from tests.killed import die, killed

from sampan.base.errors import Conflict, NotFound, Refused

FLOW = {
    "tables__numbers": "SELECT i AS id, i * 2 AS v FROM range(10) AS r (i)",
    "tables__large": "SELECT * FROM numbers WHERE v > 10",
    "steps": """
        import pyarrow as pa
        from sampan import check, step

        @step
        def total(large: pa.Table, factor: int = 1) -> dict:
            return {"total": sum(large["v"].to_pylist()) * factor}

        @check
        def not_empty(large: pa.Table) -> str | None:
            return None if large.num_rows else "it is empty"
        """,
}


@pytest.fixture
def shop(bench: Bench) -> Bench:
    """A flow that has been published."""
    bench.write(**FLOW)
    assert bench.run().state == "succeeded"
    return bench


def rows(bench: Bench, ref: str = "main") -> int:
    return bench.lake.table("large", ref).rows


@pytest.mark.slow
def test_a_run_on_a_branch_touches_nothing_on_main(shop: Bench) -> None:
    before = shop.lake.head()
    shop.lake.branch("try")
    shop.edit("tables/large.sql", "> 10", "> 14")
    made = shop.engine.run(branch="try")
    assert (made.state, made.branch, made.commit) == ("succeeded", "try", shop.lake.head("try"))
    assert (shop.lake.head(), rows(shop), rows(shop, "try")) == (before, 4, 2)
    assert shop.lake.names("try")["numbers"] == shop.lake.names()["numbers"]
    assert shop.engine.runs.get(made.run).branch == "try"


@pytest.mark.slow
def test_a_branch_that_is_not_there_ends_a_run_before_it_begins(shop: Bench) -> None:
    runs = len(shop.engine.runs.list())
    with pytest.raises(NotFound, match="no branch 'nope'"):
        shop.engine.run(branch="nope")
    assert len(shop.engine.runs.list()) == runs


def test_a_merge_brings_all_of_a_branch_and_the_next_run_does_not_undo_it(shop: Bench) -> None:
    shop.lake.branch("try")
    shop.edit("tables/large.sql", "> 10", "> 14")
    shop.edit("steps.py", "* factor", "* factor + 1")
    shop.engine.run(branch="try")
    made = shop.engine.merge("try", actor="ann", reason="better")
    assert made.state == "succeeded"
    assert {step.state for step in made.steps} == {"cached"}  # computed on the branch, found by their keys
    assert rows(shop) == 2
    commit = shop.lake.commit_of(shop.lake.head() or "")
    assert (commit.actor, commit.reason) == ("ann", "merge try: better")
    assert shop.lake.branch_of("try").head == shop.lake.branch_of("try").base == commit.id
    assert shop.ran() == []
    assert shop.lake.head() == commit.id


def test_a_definition_that_both_sides_changed_is_a_conflict_and_is_named(shop: Bench) -> None:
    shop.lake.branch("try")
    shop.edit("tables/large.sql", "> 10", "> 14")
    shop.engine.run(branch="try")
    shop.edit("tables/large.sql", "> 14", "> 12")
    shop.run()
    shop.edit("tables/large.sql", "> 12", "> 14")
    runs = len(shop.engine.runs.list())
    with pytest.raises(Conflict, match="main has changed large too"):
        shop.engine.merge("try")
    assert shop.engine.merging("try").conflicts == ["large"]
    assert (len(shop.engine.runs.list()), rows(shop)) == (runs, 3)  # refused before anything ran


@pytest.mark.slow
def test_the_same_change_on_both_sides_is_no_conflict(shop: Bench) -> None:
    shop.lake.branch("try")
    shop.edit("tables/large.sql", "> 10", "> 14")
    shop.engine.run(branch="try")
    shop.run()
    assert shop.engine.merging("try").conflicts == []
    assert shop.engine.merge("try").state == "succeeded"


def test_changes_in_different_places_go_together_if_the_workspace_holds_both(shop: Bench) -> None:
    shop.lake.branch("try")
    shop.edit("steps.py", "* factor", "* factor + 1")
    shop.engine.run(branch="try")
    shop.edit("steps.py", "* factor + 1", "* factor")
    shop.edit("tables/numbers.sql", "range(10)", "range(12)")
    shop.run()
    with pytest.raises(Refused, match=r"total is not as on the branch try: code steps\.total changed"):
        shop.engine.merge("try")
    shop.edit("steps.py", "* factor", "* factor + 1")
    shop.edit("tables/numbers.sql", "range(12)", "range(10)")
    with pytest.raises(Refused, match="numbers is not as on main, where it changed meanwhile"):
        shop.engine.merge("try")
    shop.edit("tables/numbers.sql", "range(10)", "range(12)")
    assert shop.engine.merge("try").state == "succeeded"
    assert rows(shop) == 6
    assert shop.ran() == []


@pytest.mark.slow
def test_what_came_and_went_on_a_branch_comes_and_goes_on_main(shop: Bench) -> None:
    shop.lake.branch("try")
    shop.write(tables__small="SELECT * FROM numbers WHERE v < 4")
    shop.edit("steps.py", "@step\ndef total(large: pa.Table, factor: int = 1) -> dict:", "def total(large, factor):")
    shop.engine.run(branch="try")
    found = {one.name: one.how for one in shop.engine.merging("try").definitions}
    assert found == {"small": "new", "total": "gone"}
    assert shop.engine.merge("try").state == "succeeded"
    assert sorted(shop.lake.names()) == ["large", "numbers", "small"]
    assert "total" not in shop.lake.commit_of(shop.lake.head() or "").code


@pytest.mark.slow
def test_a_check_that_fails_at_the_merge_leaves_main_and_the_branch(shop: Bench) -> None:
    shop.lake.branch("try")
    shop.edit("tables/large.sql", "> 10", "> 14")
    shop.engine.run(branch="try")
    head, tried = shop.lake.head(), shop.lake.head("try")
    shop.edit("tables/numbers.sql", "range(10)", "range(5)")
    shop.engine.run(branch="try")  # the check on `large` refuses it: the branch stays as it was
    assert shop.lake.head("try") == tried
    with pytest.raises(Refused, match="numbers is not as on main"):
        shop.engine.merge("try")
    assert shop.lake.head() == head


@pytest.mark.slow
def test_parameters_that_were_set_for_a_branch_must_be_written_down_to_be_merged(shop: Bench) -> None:
    shop.lake.branch("try")
    shop.engine.run(None, {"total.factor": 3}, branch="try")
    with pytest.raises(Refused, match="total is not as on the branch try: parameter factor: 3 → 1"):
        shop.engine.merge("try")
    shop.edit("steps.py", "factor: int = 1", "factor: int = 3")
    assert shop.engine.merge("try").state == "succeeded"


@pytest.mark.slow
def test_a_branch_on_which_nothing_is_another_has_nothing_to_merge(shop: Bench) -> None:
    shop.lake.branch("try")
    shop.engine.run(branch="try")
    with pytest.raises(Refused, match="nothing on it differs from where it began"):
        shop.engine.merge("try")
    with pytest.raises(Refused, match="it is what others are merged into"):
        shop.engine.merge("main")


@pytest.mark.slow
def test_a_run_of_a_target_keeps_what_else_the_branch_has(shop: Bench) -> None:
    shop.lake.branch("try")
    shop.edit("tables/large.sql", "> 10", "> 14")
    shop.engine.run("large", branch="try")
    assert sorted(shop.lake.names("try")) == ["large", "numbers"]
    head = shop.lake.commit_of(shop.lake.head("try") or "")
    main = shop.lake.commit_of(shop.lake.head() or "")
    assert {name for name in head.code if head.code[name] != main.code[name]} == {"large"}


@pytest.mark.slow
def test_an_interrupted_run_goes_on_on_its_branch(shop: Bench) -> None:
    shop.lake.branch("try")
    shop.edit("tables/large.sql", "> 10", "> 14")

    class Stop(Exception):
        pass

    def stop(event) -> None:  # type: ignore[no-untyped-def]
        if event.step == "large" and event.state == "ran":
            raise Stop

    with pytest.raises(Stop):
        shop.engine.run(branch="try", on_event=stop)
    made = shop.engine.resume("last")
    assert (made.state, made.branch, rows(shop), rows(shop, "try")) == ("succeeded", "try", 4, 2)


MODEL = """
    import numpy as np
    import pyarrow as pa
    from sklearn.linear_model import LogisticRegression
    from sampan import Fitted, model

    @model(kind="binary", target="big")
    def guess(training: pa.Table, strength: float = 1.0) -> Fitted:
        x = np.array(training["v"].to_pylist(), dtype=float).reshape(-1, 1)
        y = np.array(training["big"].to_pylist())
        return Fitted(LogisticRegression(C=strength).fit(x, y), features=["v"], sample=training.select(["v"]))
    """


@pytest.mark.slow
def test_a_version_made_on_a_branch_is_not_the_one_in_use_until_it_is_merged(bench: Bench) -> None:
    bench.write(tables__training="SELECT i AS v, i > 5 AS big FROM range(12) AS r (i)", models=MODEL)
    bench.models._published = bench.lake.versions
    assert bench.run().versions == ("guess@1",)
    bench.lake.branch("try")
    bench.edit("models.py", "strength: float = 1.0", "strength: float = 0.1")
    assert bench.engine.run(branch="try").versions == ("guess@2",)
    assert bench.lake.versions() == {"guess": 1}
    assert bench.models.get("guess").ref == "guess@1"
    assert bench.models.get("guess@2").ref == "guess@2"
    assert bench.engine.merge("try").versions == ("guess@2",)
    assert bench.models.get("guess").ref == "guess@2"
    merged = bench.lake.head() or ""
    bench.lake.revert(merged)
    assert bench.models.get("guess").ref == "guess@1"


CONTRACT = """
    from sampan import Event

    class Visit(Event, version=1):
        seconds: float
    """


@pytest.mark.slow
def test_a_changed_contract_is_a_definition_like_any_other(bench: Bench) -> None:
    bench.write(**FLOW, contracts=CONTRACT)
    bench.run()
    bench.lake.branch("try")
    bench.edit("contracts.py", "seconds: float", "seconds: float = 0.0")
    bench.engine.run(branch="try")
    bench.edit("contracts.py", "seconds: float = 0.0", "seconds: float")
    with pytest.raises(Refused, match="contract visit is not as on the branch try"):
        bench.engine.merge("try")
    bench.edit("contracts.py", "seconds: float", "seconds: float = 1.0")
    bench.run()
    with pytest.raises(Conflict, match="main has changed contract visit too"):
        bench.engine.merge("try")


def killed_at_statement(bench: Bench, at: int, work: Callable[[Bench], object]) -> bool:
    """Do something in a process that is killed before its ``at``-th statement to the records; whether it came to it."""
    bench.db.close()

    def counted() -> None:
        other, steps = Bench(bench.root), iter(range(100_000))
        assert other.db._writer is not None
        other.db._writer.set_trace_callback(lambda _: die() if next(steps) == at else None)
        work(other)

    return killed(counted)


@pytest.mark.slow
def test_a_merge_that_is_killed_anywhere_leaves_main_as_it_was_or_merged(shop: Bench) -> None:
    shop.lake.branch("try")
    shop.edit("tables/large.sql", "> 10", "> 14")
    shop.edit("tables/numbers.sql", "range(10)", "range(20)")
    assert shop.engine.run(branch="try").state == "succeeded"
    before, after = shop.lake.names(), shop.lake.names("try")
    assert before.keys() == after.keys() and not before.items() & after.items()
    shop.db.close()
    kept = shop.root.with_name("kept")
    shutil.copytree(shop.root, kept)
    seen, at = set(), 0
    while True:
        shutil.rmtree(shop.root)
        shutil.copytree(kept, shop.root)
        ended = not killed_at_statement(shop, at, lambda other: other.engine.merge("try"))
        left = Bench(shop.root)
        try:
            names = left.lake.names()
            assert names in (before, after), f"main is torn by a kill at statement {at}"
            seen.add(names == after)
            if left.lake.head("try") != left.lake.head():  # else it had come to its end
                assert left.engine.merge("try").state == "succeeded"
            assert left.lake.names() == after
            assert left.lake.head("try") == left.lake.head()
            assert left.ran() == [], "the next run undoes it"
        finally:
            left.db.close()
        if ended:
            break
        at += 1
    assert at > 10
    assert seen == {False, True}


FRAME = """
    import pandas as pd
    from sampan import step

    @step
    def framed(a: pd.DataFrame) -> pd.DataFrame:
        return a
    """


@pytest.mark.slow
def test_after_a_commit_was_undone_a_plan_says_that_a_run_would_bring_it_again(bench: Bench) -> None:
    bench.write(tables__a="SELECT 1 AS n", tables__b="SELECT n + 1 AS n FROM a", steps=FRAME)
    bench.run()
    assert bench.engine.plan().publishes == ()
    bench.edit("tables/b.sql", "+ 1", "+ 2")
    bench.run()
    bench.lake.revert(bench.lake.head() or "")
    plan = bench.engine.plan()
    assert ({step.state for step in plan.steps}, plan.publishes) == ({"cached"}, ("b",))
    bench.run()
    assert bench.engine.plan().publishes == ()
