"""A Metaflow flow file as one step. `just test-metaflow` brings Metaflow; the rest runs without it."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.hub.conftest import make_workspace, sampan, visit

from sampan.flow.metaflow import metaflow
from sampan.flow.metaflow_child import NO, _plain

needs_metaflow = pytest.mark.skipif(
    find_spec("metaflow") is None, reason="Metaflow is not installed: run `uv run just test-metaflow`"
)
ODD = """
import os
from pathlib import Path


class Odd:
    def __reduce__(self):
        return (loaded, ())


def loaded():
    if place := os.environ.get("SAMPAN_TEST_LOADED"):
        with Path(place).open("a") as file:
            file.write(f"{os.getpid()}\\n")
    return Odd()
"""
FLOW = """
from metaflow import FlowSpec, Parameter, step

from odd import Odd


class TrainFlow(FlowSpec):
    alpha = Parameter("alpha", default=0.5)
    label = Parameter("label", default="x")

    @step
    def start(self):
        self.depths = [2, 3]
        self.next(self.fit, foreach="depths")

    @step
    def fit(self):
        self.depth = self.input
        self.score = self.alpha * self.depth
        self.next(self.join)

    @step
    def join(self, inputs):
        self.best = max(one.score for one in inputs)
        self.odd = Odd()
        self.table = {"a": [1, 2.5, None], "b": self.label}
        if self.alpha < 0:
            raise ValueError("alpha is negative")
        self.next(self.end)

    @step
    def end(self):
        print("that was it")


if __name__ == "__main__":
    TrainFlow()
"""
STEPS = """
import sampan
from sampan import File, step


@step
def trained(pages: list, flow=File("flow.py"), alpha: float = 0.25) -> dict:
    return sampan.metaflow(flow, alpha=alpha, label=f"{len(pages)} pages")


@step
def best(trained: dict) -> float:
    return trained["artifacts"]["best"]
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = make_workspace(tmp_path / "shop")
    (folder / "flow.py").write_text(FLOW)
    (folder / "odd.py").write_text(ODD)
    (folder / "steps.py").write_text(STEPS)
    file = folder / "visits.ndjson"
    file.write_text("".join(json.dumps(visit(id, page=f"/{id[0]}")) + "\n" for id in ("a1", "b1")))
    assert sampan(folder, "log", "load", str(file)).returncode == 0
    return folder


def run(folder: Path, *arguments: str, code: int = 0) -> Any:
    done = sampan(folder, "run", *arguments, "--json")
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout)


def value(folder: Path, step: str) -> Any:
    from sampan.app import App
    from sampan.flow.plan import stored_of
    from sampan.flow.values import decode

    app = App(folder)
    try:
        result = app.runs.latest(step)
        assert result is not None
        inline = stored_of(result).inline
        assert inline is not None
        return decode(inline)
    finally:
        app.close()


def logged(folder: Path) -> list[Any]:
    from sampan.app import App

    app = App(folder)
    try:
        found = app.tracking.search.runs([app.tracking.experiments.named("trained").id]).found
        return sorted(found, key=lambda one: one.name)
    finally:
        app.close()


@needs_metaflow
def test_a_flow_file_is_one_step_with_its_parameters_artifacts_and_tasks(shop: Path) -> None:
    made = run(shop)
    found = value(shop, "trained")
    assert (found["flow"], found["parameters"]) == ("TrainFlow", {"alpha": 0.25, "label": "2 pages"})
    assert found["artifacts"] == {"best": 0.75, "table": {"a": [1, 2.5, None], "b": "2 pages"}}
    assert list(found["opaque"]) == ["odd"] and len(found["opaque"]["odd"]["sha1"]) == 40
    assert [(one["step"], one["number"], one["artifacts"]["score"]) for one in found["tasks"]] == [
        ("fit", 0, 0.5),
        ("fit", 1, 0.75),
    ]
    assert value(shop, "best") == 0.75
    parent, first, second = logged(shop)
    assert parent.name.startswith("TrainFlow/") and parent.status == "FINISHED"
    assert parent.params == {"alpha": "0.25", "label": "2 pages"}
    assert {one.key: one.value for one in parent.metrics} == {"best": 0.75}
    assert [one.tags["mlflow.parentRunId"] for one in (first, second)] == [parent.id] * 2
    assert [{each.key: each.value for each in one.metrics} for one in (first, second)] == [
        {"depth": 2.0, "score": 0.5},
        {"depth": 3.0, "score": 0.75},
    ]
    assert {one.tags["sampan.run"] for one in (parent, first, second)} == {made["run"]}
    assert "that was it" in sampan(shop, "runs", "logs", "last", "trained").stdout
    assert {one["state"] for one in run(shop)["steps"]} == {"cached"}
    (shop / "flow.py").write_text(FLOW.replace("self.alpha * self.depth", "self.alpha + self.depth"))
    run(shop)
    assert value(shop, "best") == 3.25


@needs_metaflow
def test_a_flow_that_fails_is_told_with_its_step_and_what_it_raised(shop: Path) -> None:
    made = run(shop, "--set", "trained.alpha=-1", code=3)
    (failed,) = [one for one in made["steps"] if one["state"] == "failed"]
    assert "its step 'join' failed: ValueError: alpha is negative" in failed["error"]


@needs_metaflow
def test_pickles_are_loaded_by_a_process_that_ends_with_the_question(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    monkeypatch.syspath_prepend(str(shop))
    monkeypatch.setenv("SAMPAN_TEST_LOADED", str(tmp_path / "loaded"))
    found = metaflow("flow.py", alpha=1)
    assert found["artifacts"]["best"] == 3 and "odd" in found["opaque"]
    loaded = (tmp_path / "loaded").read_text().split()
    assert loaded and str(os.getpid()) not in loaded


def test_without_metaflow_or_a_file_it_says_what_to_do(shop: Path) -> None:
    if find_spec("metaflow") is None:
        made = run(shop, code=3)
        (failed,) = [one for one in made["steps"] if one["state"] == "failed"]
        assert "Metaflow is not installed" in failed["error"]
    else:
        (shop / "steps.py").write_text(STEPS.replace("metaflow(flow,", "metaflow('none.py',"))
        made = run(shop, code=3)
        (failed,) = [one for one in made["steps"] if one["state"] == "failed"]
        assert "there is no file" in failed["error"]


@pytest.mark.parametrize(
    "given", [None, True, 1, 1.5, "x", [1, ["x"]], {"a": {"b": [None]}}], ids=lambda given: repr(given)
)
def test_plain_data_is_taken_as_it_is(given: Any) -> None:
    assert _plain(given) == given


@pytest.mark.parametrize(
    "given",
    [float("nan"), float("inf"), 1 << 64, (1, 2), {1: 2}, {"a": {1, 2}}, b"x", [object()]],
    ids=lambda g: repr(g)[:20],
)
def test_what_json_would_change_is_no_plain_data(given: Any) -> None:
    assert _plain(given) is NO
