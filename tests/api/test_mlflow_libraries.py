"""What else the stock client of MLflow's logs by itself: XGBoost, figures, the machine, runs in runs."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.hub.conftest import Hub, make_workspace

#: What the client and what it logs warn of is their own affair; made an error, it would stop autologging.
THEIRS = ("UserWarning", "FutureWarning", "DeprecationWarning")
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in THEIRS]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    running = Hub(make_workspace(tmp_path_factory.mktemp("mlflow") / "shop"))
    yield running
    assert running.stop() == 0


def test_xgboost_logs_by_itself(mlflow: ModuleType, client: Any, experiment: str) -> None:
    xgboost = pytest.importorskip("xgboost")
    import numpy

    features, target = numpy.arange(200.0).reshape(100, 2), numpy.arange(100) % 2
    mlflow.xgboost.autolog(silent=True, importance_types=["weight", "gain"])
    try:
        data = xgboost.DMatrix(features, target, feature_names=["a", "b"])
        with mlflow.start_run() as run:
            options = {"objective": "binary:logistic", "max_depth": 2, "nthread": 1}
            fitted = xgboost.train(options, data, 5, evals=[(data, "seen")], verbose_eval=False)
    finally:
        mlflow.xgboost.autolog(disable=True)
    found = client.get_run(run.info.run_id)
    assert (found.data.params["objective"], found.data.params["max_depth"]) == ("binary:logistic", "2")
    history = client.get_metric_history(run.info.run_id, "seen-logloss")
    assert [point.step for point in history] == [0, 1, 2, 3, 4]
    logged = [one.path for one in client.list_artifacts(run.info.run_id)]
    assert {"feature_importance_weight.json", "feature_importance_gain.json"} <= set(logged)
    loaded = mlflow.xgboost.load_model(f"runs:/{run.info.run_id}/model")
    assert list(loaded.predict(data)) == list(fitted.predict(data))


def test_an_xgboost_classifier_logs_by_itself_and_is_registered(
    mlflow: ModuleType, client: Any, experiment: str
) -> None:
    xgboost = pytest.importorskip("xgboost")
    import numpy

    features, target = numpy.arange(200.0).reshape(100, 2), numpy.arange(100) % 2
    mlflow.xgboost.autolog(silent=True, registered_model_name="trees")
    try:
        with mlflow.start_run() as run:
            fitted = xgboost.XGBClassifier(n_estimators=3, n_jobs=1).fit(features, target)
    finally:
        mlflow.xgboost.autolog(disable=True)
    assert client.get_run(run.info.run_id).data.params["num_boost_round"] == "3"
    version = client.get_model_version("trees", "1")
    assert version.run_id == run.info.run_id
    assert list(mlflow.xgboost.load_model("models:/trees/1").predict(features)) == list(fitted.predict(features))


def test_a_figure_is_kept_as_a_page_of_its_own(
    mlflow: ModuleType, client: Any, hub: Hub, experiment: str, tmp_path: Path
) -> None:
    import plotly.graph_objects as plots

    with mlflow.start_run() as run:
        mlflow.log_figure(plots.Figure(plots.Scatter(y=[1, 3, 2], name="<b>odd</b>")), "plots/curve.html")
    (kept,) = client.list_artifacts(run.info.run_id, "plots")
    assert kept.path == "plots/curve.html" and kept.file_size > 1000
    fetched = Path(client.download_artifacts(run.info.run_id, "plots/curve.html", str(tmp_path)))
    assert "plotly" in fetched.read_text("utf-8")


def test_a_table_grows_with_each_call_and_is_read_over_runs(mlflow: ModuleType, client: Any, experiment: str) -> None:
    runs = []
    for number in range(2):
        with mlflow.start_run() as run:
            mlflow.log_table({"asked": ["a", "b"], "answer": [number, None]}, "answers.json")
            mlflow.log_table({"asked": ["c"], "answer": [7]}, "answers.json")
        runs.append(run.info.run_id)
    whole = mlflow.load_table("answers.json", run_ids=runs, extra_columns=["run_id"])
    assert sorted(whole["asked"]) == ["a", "a", "b", "b", "c", "c"]
    assert set(whole["run_id"]) == set(runs)
    assert "answers.json" in json.loads(client.get_run(runs[0]).data.tags["mlflow.loggedArtifacts"])[0]["path"]


def test_runs_in_runs_are_found_from_the_outermost(mlflow: ModuleType, client: Any, experiment: str) -> None:
    with mlflow.start_run(run_name="search") as outer:
        for depth in (2, 3):
            with mlflow.start_run(nested=True, run_name=f"depth {depth}") as inner:
                mlflow.log_metric("loss", 1 / depth)
                with mlflow.start_run(nested=True, run_name="fold"):
                    mlflow.log_metric("loss", depth)
    below = f"tags.`mlflow.parentRunId` = '{outer.info.run_id}'"
    found = client.search_runs([experiment], below, order_by=["metrics.loss"])
    assert [one.info.run_name for one in found] == ["depth 3", "depth 2"]
    (fold,) = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{inner.info.run_id}'")
    assert client.get_parent_run(client.get_parent_run(fold.info.run_id).info.run_id).info.run_id == outer.info.run_id


def test_what_the_machine_does_is_logged_beside(mlflow: ModuleType, client: Any, experiment: str) -> None:
    pytest.importorskip("psutil")
    mlflow.set_system_metrics_sampling_interval(0.1)
    mlflow.set_system_metrics_samples_before_logging(2)
    try:
        with mlflow.start_run(log_system_metrics=True) as run:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and not client.get_run(run.info.run_id).data.metrics:
                time.sleep(0.1)
    finally:
        mlflow.set_system_metrics_sampling_interval(None)
        mlflow.set_system_metrics_samples_before_logging(None)
    logged = client.get_run(run.info.run_id).data.metrics
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(logged)
    assert client.get_metric_history(run.info.run_id, "system/cpu_utilization_percentage")
