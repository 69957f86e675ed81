"""What is logged is kept as it was sent: once, however often it comes, with every number that a float can be."""

import math
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.base.clock import ManualClock
from sampan.base.errors import Busy, Conflict, NotFound, SampanError, Usage
from sampan.track.experiments import DEFAULT
from sampan.track.records import Dataset, Input, Link, Metric
from sampan.track.tracking import Tracking
from sampan.track.writer import WINDOW

POINTS = st.lists(
    st.builds(
        Metric,
        st.sampled_from(["a", "b"]),
        st.sampled_from([0.0, -1.0, 2.5, math.inf, -math.inf, math.nan]),
        st.integers(0, 3),
        st.integers(-2, 3),
    ),
    max_size=12,
)


def rank(point: Metric) -> tuple[int, int, bool, float]:
    nan = math.isnan(point.value)
    return point.step, point.time, nan, 0.0 if nan else point.value


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(POINTS, max_size=3), again=st.booleans())
def test_every_point_is_kept_once_and_the_newest_is_the_metric(
    tracking: Tracking, batches: list[list[Metric]], again: bool
) -> None:
    run = tracking.runs.create(0, tags={}).id
    for batch in [*batches, *(batches if again else [])]:
        tracking.logging.log(run, batch).result()
    sent = [point for batch in batches for point in batch]
    shown = {one.key: one for one in tracking.runs.get(run).metrics}
    assert set(shown) == {point.key for point in sent}
    for key in ("a", "b"):
        kept = tracking.runs.history(run, key, 1000)
        assert [rank(point) for point in kept] == sorted({rank(point) for point in sent if point.key == key})
        if kept:
            assert rank(shown[key]) == rank(kept[-1])


def test_a_history_is_read_page_by_page(tracking: Tracking) -> None:
    run = tracking.runs.create(0, tags={}).id
    points = [Metric("m", value, 1, step) for step in range(4) for value in (0.5, math.inf, math.nan)]
    tracking.logging.log(run, points).result()
    found: list[Metric] = []
    while page := tracking.runs.history(
        run, "m", 1, (found[-1].step, found[-1].time, found[-1].value) if found else None
    ):
        found += page
    assert [rank(point) for point in found] == [rank(point) for point in points]


def test_an_interval_has_its_first_and_last_point_and_not_too_many(tracking: Tracking) -> None:
    run = tracking.runs.create(0, tags={}).id
    tracking.logging.log(run, [Metric("m", float(step), 1, step) for step in range(1000)]).result()
    for most in (2, 7, 100, 2500):
        found = tracking.runs.interval(run, "m", 10, 900, most)
        assert len(found) <= most + 1
        assert (found[0].step, found[-1].step) == (10, 900)


def test_a_parameter_may_be_said_twice_but_not_changed(tracking: Tracking) -> None:
    run = tracking.runs.create(0, tags={}).id
    tracking.logging.log(run, params=[("depth", "4")]).result()
    tracking.logging.log(run, params=[("depth", "4")]).result()
    with pytest.raises(Usage, match="Changing param values is not allowed"):
        tracking.logging.log(run, [Metric("m", 1.0, 1)], [("new", "1"), ("depth", "5")]).result()
    found = tracking.runs.get(run)
    assert (found.params, found.metrics) == ({"depth": "4"}, []), "half of a batch is there"


def test_a_tag_may_be_changed_and_taken_away(tracking: Tracking) -> None:
    run = tracking.runs.create(0, name="one", tags={"a": "1"}).id
    tracking.logging.log(run, tags=[("a", "2"), ("mlflow.runName", "two")]).result()
    found = tracking.runs.get(run)
    assert (found.name, found.tags) == ("two", {"a": "2", "mlflow.runName": "two"})
    tracking.logging.delete_tag(run, "a")
    with pytest.raises(NotFound, match="no tag with name 'a'"):
        tracking.logging.delete_tag(run, "a")


LONG = "x" * 251
BAD: list[tuple[dict[str, Any], str]] = [
    ({"metrics": [Metric("", 1.0, 1)]}, "its name is empty"),
    ({"metrics": [Metric("<script>", 1.0, 1)]}, "invalid name '<script>'"),
    ({"metrics": [Metric(LONG, 1.0, 1)]}, "251 characters"),
    ({"metrics": [Metric("ok", 1.0, 1), Metric("../a", 1.0, 1)]}, r"metrics\[1\]: invalid name '../a'"),
    ({"metrics": [Metric("m\n", 1.0, 1)]}, "invalid name"),
    ({"metrics": [Metric("m", 1.0, -1)]}, "invalid value -1 for timestamp"),
    ({"metrics": [Metric("m", 1.0, 2**63)]}, "invalid value"),
    ({"metrics": [Metric("m", 1.0, 1, -(2**70))]}, "invalid value"),
    ({"metrics": [Metric("m", 1.0, 1)] * 1001}, "at most 1000 metrics, got 1001"),
    ({"params": [("p", "x" * 6001)]}, "exceeds the maximum length of 6000"),
    ({"params": [(str(number), "") for number in range(101)]}, "at most 100 params"),
    ({"tags": [("t", "x" * 8001)]}, "exceeds the maximum length of 8000"),
    ({"tags": [("/t", "x")]}, "invalid name"),
    (
        {"metrics": [Metric("m", 1.0, 1)] * 950, "params": [(str(n), "") for n in range(51)]},
        "metrics, params, and tags",
    ),
]


@pytest.mark.parametrize(("batch", "said"), BAD)
def test_what_mlflow_would_not_take_is_refused_whole(tracking: Tracking, batch: dict[str, Any], said: str) -> None:
    run = tracking.runs.create(0, tags={}).id
    before = tracking.runs.get(run)
    with pytest.raises(Usage, match=said):
        tracking.logging.log(run, **batch)
    assert tracking.runs.get(run) == before


def test_nothing_is_logged_into_a_run_that_is_deleted_or_unknown(tracking: Tracking) -> None:
    run = tracking.runs.create(0, tags={}).id
    tracking.runs.delete(run)
    with pytest.raises(Usage, match="must be in the 'active' state"):
        tracking.logging.log(run, [Metric("m", 1.0, 1)]).result()
    tracking.runs.restore(run)
    tracking.logging.log(run, [Metric("m", 1.0, 1)]).result()
    with pytest.raises(NotFound, match="Run with id='nobody' not found"):
        tracking.logging.log("nobody", [Metric("m", 1.0, 1)]).result()


def test_a_job_that_fails_is_taken_back_alone(tracking: Tracking) -> None:
    """Many jobs share a commit: those beside one that fails stay, and names that it brought mean nothing else."""
    run = tracking.runs.create(0, tags={}).id
    tracking.logging.log(run, params=[("p", "1")]).result()
    held = threading.Event()
    blocking = tracking.writer.submit(lambda connection: held.wait(10))
    waiting = []
    for number in range(20):
        params = [(f"new{number}", "1"), ("p", "2" if number % 2 else "1")]
        waiting.append(tracking.logging.log(run, [Metric(f"m{number}", 1.0, 1)], params))
    held.set()
    blocking.result()
    for number, future in enumerate(waiting):
        if number % 2:
            with pytest.raises(SampanError):
                future.result()
        else:
            future.result()
    found = tracking.runs.get(run)
    assert {one.key for one in found.metrics} == {f"m{number}" for number in range(0, 20, 2)}
    assert set(found.params) == {"p", *(f"new{number}" for number in range(0, 20, 2))}


def test_metrics_are_synced_soon_after_and_at_once_when_the_run_ends(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tracking.runs.create(0, tags={}).id
    done, real = threading.Event(), tracking.db.sync
    monkeypatch.setattr(tracking.db, "sync", lambda: (real(), done.set()))

    def mode() -> int:
        """As the last commit left it: 1 did not wait for the disk, 2 did."""
        assert tracking.db._writer is not None
        found: int = tracking.db._writer.execute("PRAGMA synchronous").fetchone()[0]
        return found

    tracking.logging.log(run, [Metric("m", 1.0, 1)]).result()
    assert mode() == 1
    assert done.wait(10 * WINDOW)
    done.clear()
    tracking.logging.log(run, [Metric("m", 2.0, 2)]).result()
    tracking.runs.update(run, status="FINISHED")
    assert mode() == 2
    assert not done.wait(2 * WINDOW), "what a synced commit covers was synced once more"


def test_all_is_there_when_it_is_opened_again(tracking: Tracking, clock: ManualClock) -> None:
    run = tracking.runs.create(0, name="kept", tags={"t": "v"}).id
    tracking.logging.log(run, [Metric("m", math.nan, 1, 2)], [("p", "1")])
    tracking.close()  # nobody waited for the batch
    again = Tracking(tracking.db.path.parent, clock)
    found = again.runs.get(run)
    assert (found.name, found.params, found.tags["t"]) == ("kept", {"p": "1"}, "v")
    assert math.isnan(found.metrics[0].value)
    assert again.experiments.named(DEFAULT).id == 0
    again.close()


def test_another_process_reads_what_is_logged_and_logs_nothing(tracking: Tracking, clock: ManualClock) -> None:
    run = tracking.runs.create(0, tags={}).id
    reading = Tracking(tracking.db.path.parent, clock, writable=False)
    tracking.logging.log(run, [Metric("m", 1.0, 1)]).result()
    assert [one.value for one in reading.runs.get(run).metrics] == [1.0]
    with pytest.raises(Busy, match="only reads what was logged"):
        reading.logging.log(run, [Metric("m", 2.0, 1)])
    reading.close()


def test_where_nothing_was_logged_nothing_is_found(tmp_path: Path, clock: ManualClock) -> None:
    reading = Tracking(tmp_path / "empty", clock, writable=False)
    assert reading.search.experiments().found == reading.search.runs([0]).found == []
    with pytest.raises(NotFound):
        reading.runs.get("none")
    assert not (tmp_path / "empty").exists()
    reading.close()


def test_datasets_and_models_are_kept_with_the_run(tracking: Tracking) -> None:
    run = tracking.runs.create(0, tags={}).id
    model = tracking.models.create(0, "net", "sklearn", run, {"p": "1"}, {"t": "v"}).id
    data = Dataset("orders", "abc", "local", "{}", "{}", None)
    tracking.logging.inputs(run, [Input(data, {"mlflow.data.context": "training"})], [Link(model)])
    tracking.logging.inputs(run, [Input(data, {"mlflow.data.context": "training"})], [Link(model)])
    tracking.logging.outputs(run, [Link(model, 3)])
    tracking.logging.log(run, [Metric("auc", 0.5, 1, 3, model, "orders", "abc")]).result()
    found = tracking.runs.get(run)
    assert [one.dataset for one in found.inputs] == [data]
    assert (found.used, found.made) == ([Link(model)], [Link(model, 3)])
    (measured,) = tracking.models.get(model).metrics
    assert (measured.key, measured.value, measured.dataset, measured.run) == ("auc", 0.5, "orders", run)
    assert tracking.search.datasets([0]) == [(0, "orders", "abc", "training")]
    with pytest.raises(NotFound, match="logged model with ID 'm-none'"):
        tracking.logging.outputs(run, [Link("m-none")])
    with pytest.raises(Usage, match="a dataset's digest is empty"):
        tracking.logging.inputs(run, [Input(Dataset("a", "", "local", "{}"), {})])


def test_an_experiment_s_name_is_its_own_even_while_it_is_deleted(tracking: Tracking, clock: ManualClock) -> None:
    id = tracking.experiments.create("one", {})
    gone = tracking.runs.create(id, tags={}).id
    tracking.runs.delete(gone)
    living = tracking.runs.create(id, tags={}).id
    clock.set(clock.micros() + 5_000_000)
    with pytest.raises(Conflict, match="already exists"):
        tracking.experiments.create("one", {})
    tracking.experiments.delete(id)
    with pytest.raises(Conflict, match="in deleted state"):
        tracking.experiments.create("one", {})
    with pytest.raises(Usage, match="must be in the 'active' state"):
        tracking.runs.create(id, tags={})
    tracking.experiments.restore(id)
    assert tracking.runs.get(living).deleted is None
    assert tracking.runs.get(gone).deleted is not None, "a run that was deleted before came back"


def test_logged_models_are_found_by_what_is_known_of_them(tracking: Tracking) -> None:
    names = {}
    for name, auc in (("a", 0.9), ("b", 0.5), ("c", 0.7)):
        model = tracking.models.create(0, name, "sklearn", "", {"depth": name}, {"team": "x"}).id
        run = tracking.runs.create(0, tags={}).id
        tracking.logging.log(run, [Metric("auc", auc, 1, 0, model)]).result()
        names[model] = name
    tracking.models.change(next(iter(names)), status="LOGGED_MODEL_READY", tags={"team": "y"})

    def found(filter: str, *orders: tuple[str, bool]) -> list[str]:
        return [one.name for one in tracking.models.search([0], filter, orders=orders).found]

    assert found("", ("metrics.auc", False)) == ["a", "c", "b"]
    assert found("metrics.auc > 0.6 AND params.depth != 'a'") == ["c"]
    assert found("status = 'READY'") == found("tags.team = 'y'") == ["a"]
    tracking.models.delete(next(iter(names)))
    assert found("name = 'a'") == []
    with pytest.raises(NotFound):
        tracking.models.get(next(iter(names)))
