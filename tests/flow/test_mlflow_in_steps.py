"""MLflow's stock client within a step of a flow: nothing is set up, and what it logs lies with the flow's run."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.hub.conftest import Hub, make_workspace, sampan, visit

pytest.importorskip("mlflow")
STEPS = """
import mlflow
from sampan import Fitted, model, step


@step
def noted(pages: list, depth: int = 4) -> int:
    mlflow.log_params({"depth": depth})
    for at in range(3):
        mlflow.log_metric("loss", 1.0 / (at + 1), step=at)
    with mlflow.start_run(nested=True, run_name="child"):
        mlflow.log_text("what came to mind", "notes.txt")
    return len(pages)


@model(kind="regression", target="y")
def fitted(noted: int) -> Fitted:
    import numpy as np
    import pyarrow as pa
    from sklearn.linear_model import LinearRegression

    mlflow.sklearn.autolog(log_models=False, log_datasets=False)
    x = np.arange(8.0).reshape(-1, 1)
    made = LinearRegression().fit(x, x[:, 0])
    return Fitted(made, features=["x"], sample=pa.table({"x": x[:, 0]}), metrics={"rmse": 0.25, "told": "so"})
"""
PLAIN = """
from sampan import Fitted, model


@model(kind="regression", target="y")
def plain(pages: list, slope: float = 2.0) -> Fitted:
    import numpy as np
    import pyarrow as pa
    from sklearn.linear_model import LinearRegression

    x = np.arange(8.0).reshape(-1, 1)
    made = LinearRegression().fit(x, slope * x[:, 0])
    return Fitted(made, features=["x"], sample=pa.table({"x": x[:, 0]}), metrics={"rmse": 0.5, "bias": 0.0})
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = make_workspace(tmp_path / "shop")
    (folder / "steps.py").write_text(STEPS)
    file = folder / "visits.ndjson"
    file.write_text("".join(json.dumps(visit(id, page=f"/{id[0]}")) + "\n" for id in ("a1", "b1")))
    assert sampan(folder, "log", "load", str(file)).returncode == 0
    return folder


@pytest.fixture
def hub(shop: Path) -> Iterator[Hub]:
    running = Hub(shop)
    yield running
    assert running.stop() == 0


def run(folder: Path, *arguments: str, code: int = 0, **extra: str) -> Any:
    done = sampan(folder, "run", *arguments, "--json", **extra)
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout)


def logged(folder: Path, experiment: str) -> list[Any]:
    """The runs of an experiment as they are kept, the first one first."""
    from sampan.base.clock import SystemClock
    from sampan.track.tracking import Tracking

    tracking = Tracking(folder / ".sampan", SystemClock(), writable=False)
    try:
        id = tracking.experiments.named(experiment).id
        found = tracking.search.runs([id]).found
        return sorted((tracking.runs.get(one.id) for one in found), key=lambda one: one.started)
    finally:
        tracking.close()


def check(folder: Path, made: Any) -> None:
    """What two steps have logged, each into an experiment of its own name, and where it leads to."""
    parent, child = logged(folder, "noted")
    assert (parent.params, parent.status) == ({"depth": "4"}, "FINISHED")
    assert {one.key: (one.value, one.step) for one in parent.metrics} == {"loss": (1 / 3, 2)}
    assert child.tags["mlflow.parentRunId"] == parent.id and child.name == "child"
    for one, step in ((parent, "noted"), (child, "noted"), *((one, "fitted") for one in logged(folder, "fitted"))):
        assert (one.tags["sampan.run"], one.tags["sampan.step"]) == (made["run"], step)
    (fitted,) = logged(folder, "fitted")
    metrics = {one.key: one.value for one in fitted.metrics}
    assert metrics["rmse"] == 0.25 and "told" not in metrics
    assert fitted.params["fit_intercept"] == "True" and "training_r2_score" in metrics


def test_with_a_hub_steps_log_to_it_and_both_pages_lead_to_each_other(shop: Path, hub: Hub) -> None:
    made = run(shop)
    check(shop, made)
    (fitted,) = logged(shop, "fitted")
    assert fitted.id in json.dumps(hub.json(f"/runs/{made['run']}"))
    page = hub.json(f"/experiments/{fitted.experiment}/runs/{fitted.id}")
    assert made["run"] in json.dumps(page)


@pytest.mark.slow
def test_without_a_hub_they_log_all_the_same(shop: Path) -> None:
    check(shop, run(shop))


@pytest.mark.slow
def test_no_secret_is_left_behind_and_the_cache_does_not_know_of_it(shop: Path) -> None:
    run(shop)
    secret = re.compile(rb"smp_[0-9A-Za-z]{38}")
    for path in shop.rglob("*"):
        if path.is_file() and path.name != "token":
            assert not secret.search(path.read_bytes()), path
    hub = Hub(shop)
    try:
        assert {step["state"] for step in run(shop)["steps"]} == {"cached"}
    finally:
        hub.stop()


@pytest.mark.slow
def test_where_the_environment_names_a_server_that_one_is_meant(shop: Path, tmp_path: Path) -> None:
    (shop / "steps.py").write_text(
        "import mlflow, os\nfrom sampan import step\n\n\n@step\ndef told(pages: list) -> list:\n"
        "    return [mlflow.get_tracking_uri(), 'MLFLOW_TRACKING_TOKEN' in os.environ]\n"
    )
    elsewhere = f"sqlite:///{tmp_path}/other.db"
    made = run(shop, MLFLOW_TRACKING_URI=elsewhere)
    assert made["state"] == "succeeded"
    text = next(step for step in made["steps"] if step["name"] == "told")
    assert text["state"] == "ran"
    assert not (tmp_path / "shop" / ".sampan" / "tracking.db").exists()


@pytest.mark.slow
def test_a_step_that_fails_leaves_a_failed_run(shop: Path) -> None:
    (shop / "steps.py").write_text(
        "import mlflow\nfrom sampan import step\n\n\n@step\ndef broken(pages: list) -> int:\n"
        "    mlflow.log_metric('loss', 1.0)\n    raise ValueError('no')\n"
    )
    run(shop, code=3)
    assert [one.status for one in logged(shop, "broken")] == ["FAILED"]


@pytest.mark.slow
def test_metrics_of_a_model_are_logged_without_a_client_once_for_each_training(shop: Path) -> None:
    (shop / "steps.py").write_text(PLAIN)
    first = run(shop)
    run(shop)
    second = run(shop, "--set", "plain.slope=3")
    one, other = logged(shop, "plain")
    assert (one.params, other.params) == ({"slope": "2.0"}, {"slope": "3.0"})
    assert {metric.key: metric.value for metric in one.metrics} == {"rmse": 0.5, "bias": 0.0}
    assert [found.tags["sampan.run"] for found in (one, other)] == [first["run"], second["run"]]
