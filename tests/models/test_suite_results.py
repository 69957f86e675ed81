"""A result of a suite says what was asked on which data, and whether it still speaks of what is there now."""

from datetime import timedelta

import pytest

from sampan.base.clock import ManualClock
from sampan.models.tests import (
    FAILED,
    PASSED,
    SHORT,
    Outcome,
    Report,
    Shown,
    SuiteResults,
    suite_digest,
    suite_path,
    suite_state,
)
from sampan.store.database import Database

SUITE = "[minimum]\nauc = 0.8\n"


@pytest.fixture
def clock():
    return ManualClock(1_300_000_000_000_000)


@pytest.fixture
def results(tmp_path):
    db = Database(tmp_path / "records.db", writable=True)
    yield SuiteResults(db)
    db.close()


@pytest.fixture
def root(tmp_path):
    (tmp_path / "suites").mkdir()
    suite_path(tmp_path, "reorder").write_text(SUITE)
    return tmp_path


@pytest.fixture
def ask(results, root, clock):
    """Write down that a suite was run on t1, with a test in each of the given states."""

    def ask(*states: str, number: int = 1):
        clock.advance(timedelta(minutes=1))
        outcomes = tuple(
            Outcome(name=f"test {at}", kind="case", state=state, demand="at least 0.5", cases=(Shown({"a": 1}, 0.4),))
            for at, state in enumerate(states)
        )
        ref = f"reorder@{number}"
        report = Report(ref=ref, suite=suite_digest(root, "reorder"), path="", data={"orders": "t1"}, outcomes=outcomes)
        return results.add(report, actor="ann", clock=clock)

    return ask


def state(results, root, now=None, by=None):
    """Where reorder@1 stands; a list of many versions must say the same."""

    def tables():
        return {"orders": "t1"} if now is None else now

    found = suite_state(results, root, "reorder@1", tables, by)
    assert results.standings(root, ["reorder@1", "other@9"], tables, by) == {
        "reorder@1": found.state,
        "other@9": "none",
    }
    return found


def test_a_result_is_read_back_as_it_was_written_down(results, ask):
    made = ask(PASSED, FAILED)
    assert results.list("reorder", 1) == [made]
    assert (made.passed, made.failing, made.data, made.ref) == (False, ("test 1",), {"orders": "t1"}, "reorder@1")
    assert results.list("reorder", 2) == []


def test_results_are_listed_newest_first_and_as_of_an_instant(results, ask):
    first, second = ask(PASSED), ask(FAILED)
    assert [one.id for one in results.list("reorder", 1)] == [second.id, first.id]
    assert results.list("reorder", 1, first.created) == [first]
    assert results.list("reorder", 1, first.created - 1) == []


def test_a_model_without_a_suite_has_no_state(results, root):
    suite_path(root, "reorder").unlink()
    assert state(results, root).state == "none"


def test_a_version_that_nobody_tested_is_untested_whatever_others_did(results, root, ask):
    ask(PASSED, number=2)
    assert state(results, root).state == "untested"


def test_a_version_whose_tests_hold_has_passed(results, root, ask):
    made = ask(PASSED, PASSED)
    assert (state(results, root).state, state(results, root).result) == ("passed", made)


def test_too_little_evidence_is_no_pass(results, root, ask):
    ask(PASSED, SHORT)
    assert (state(results, root).state, state(results, root).names) == ("failed", ("test 1",))


def test_a_suite_without_tests_is_no_pass(results, root, ask):
    ask()
    assert state(results, root).state == "failed"


def test_another_suite_or_other_data_makes_a_result_stale_and_it_is_said_which(results, root, ask):
    ask(PASSED)
    assert state(results, root, {"orders": "t2", "other": "t9"}).names == ("orders",)
    assert state(results, root, {}).names == ("orders",)
    suite_path(root, "reorder").write_text(SUITE + "\n")
    found = state(results, root, {"orders": "t2"})
    assert (found.state, found.names) == ("stale", ("suite", "orders"))
    assert found.said == "The suite and the table orders changed since: `sampan model test reorder@1`."


def test_what_a_suite_and_data_came_to_counts_again_when_they_are_back(results, root, ask):
    made = ask(PASSED)
    suite_path(root, "reorder").write_text(SUITE + "\n")
    ask(FAILED)
    assert (state(results, root).state, state(results, root).names) == ("failed", ("test 0",))
    suite_path(root, "reorder").write_text(SUITE)
    assert (state(results, root).state, state(results, root).result) == ("passed", made)
    assert state(results, root, {"orders": "t2"}).state == "stale"


def test_a_failure_counts_until_the_same_is_asked_again(results, root, ask):
    ask(PASSED)
    ask(FAILED)
    assert state(results, root).state == "failed"
    ask(PASSED)
    assert state(results, root).state == "passed"


def test_the_past_knows_what_was_found_then_and_the_data_of_then(results, root, ask):
    first = ask(FAILED)
    ask(PASSED)
    suite_path(root, "reorder").unlink()
    assert state(results, root, by=first.created).state == "failed"
    assert state(results, root, {"orders": "t2"}, by=first.created).state == "stale"
