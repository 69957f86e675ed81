"""The stock client of MLflow's against a real hub: what it logs it reads back, and what is wrong it is told as ever."""

import hashlib
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.hub.conftest import Hub, make_workspace

API = "/api/2.0/mlflow"
#: What the client and what it logs warn of is their own affair; made an error, it would stop autologging.
THEIRS = ("UserWarning", "FutureWarning", "DeprecationWarning")
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in THEIRS]
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    running = Hub(make_workspace(tmp_path_factory.mktemp("mlflow") / "shop"))
    yield running
    assert running.stop() == 0


def ask(hub: Hub, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    response, answer = hub.ask(method, path, raw, **headers)
    return response.status, json.loads(answer)


def test_a_run_is_logged_and_read_back(mlflow: ModuleType, client: Any, experiment: str) -> None:
    with mlflow.start_run(run_name="one", tags={"a": "1"}) as run:
        mlflow.log_params({"depth": 4, "loss": "l2"})
        mlflow.log_metric("rmse", 0.5, step=1)
        mlflow.log_metrics({"rmse": 0.25, "val/rmse": 0.75}, step=2)
        mlflow.set_tags({"b": "2", "mlflow.note.content": "# A note"})
        with mlflow.start_run(nested=True, run_name="child"):
            mlflow.log_metric("x", 1)
    found = client.get_run(run.info.run_id)
    assert found.data.params == {"depth": "4", "loss": "l2"}
    assert found.data.metrics == {"rmse": 0.25, "val/rmse": 0.75}
    assert found.data.tags["a"] == "1" and found.data.tags["b"] == "2"
    assert (found.info.status, found.info.run_name, found.info.experiment_id) == ("FINISHED", "one", experiment)
    assert found.info.end_time >= found.info.start_time > 1_600_000_000_000
    history = client.get_metric_history(run.info.run_id, "rmse")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.25)]
    (child,) = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    assert child.info.run_name == "child"
    client.delete_tag(run.info.run_id, "a")
    client.update_run(run.info.run_id, name="renamed")
    assert "a" not in client.get_run(run.info.run_id).data.tags
    assert client.get_run(run.info.run_id).info.run_name == "renamed"


def test_numbers_that_json_has_not_survive(mlflow: ModuleType, client: Any, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    given = [math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 0.0]
    for step, value in enumerate(given):
        client.log_metric(run, "m", value, step=step)
        client.log_metric(run, f"m{step}", value)
    found = [point.value for point in client.get_metric_history(run, "m")]
    assert str(found) == str(given)
    assert str([client.get_run(run).data.metrics[f"m{step}"] for step in range(6)]) == str(given)


def test_runs_are_searched_page_by_page(mlflow: ModuleType, client: Any, experiment: str) -> None:
    entities = mlflow.entities
    for number in range(12):
        run = client.create_run(experiment, run_name=f"r{number}").info.run_id
        metrics = [entities.Metric("m", float(number), 1, 0)]
        client.log_batch(run, metrics, [entities.Param("p", str(number % 3))], [entities.RunTag("t", "x")])
        client.set_terminated(run)
    names, token = [], None
    while True:
        page = client.search_runs(
            [experiment], "metrics.m > 2 and params.p != '1'", 1, 3, ["metrics.m DESC"], page_token=token
        )
        names += [run.info.run_name for run in page]
        token = page.token
        if not token:
            break
    assert names == ["r11", "r9", "r8", "r6", "r5", "r3"]
    frame = mlflow.search_runs([experiment], "attributes.run_name LIKE 'r1%'", order_by=["start_time ASC"])
    assert list(frame["tags.mlflow.runName"]) == ["r1", "r10", "r11"]
    with pytest.raises(mlflow.exceptions.MlflowException, match="at character 11 is no name") as caught:
        client.search_runs([experiment], "metrics.m ; 1")
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    client.delete_run(run)
    assert len(client.search_runs([experiment])) == 11
    assert [one.info.run_id for one in client.search_runs([experiment], run_view_type=2)] == [run]
    client.restore_run(run)
    assert len(client.search_runs([experiment])) == 12


def test_experiments_are_made_found_changed_and_deleted(mlflow: ModuleType, client: Any) -> None:
    id = client.create_experiment("made", tags={"team": "a"})
    assert client.get_experiment_by_name("made").tags == {"team": "a"}
    assert client.get_experiment_by_name("unmade") is None
    client.set_experiment_tag(id, "team", "b")
    client.rename_experiment(id, "made anew")
    assert [one.name for one in client.search_experiments(filter_string="tags.team = 'b'")] == ["made anew"]
    client.delete_experiment(id)
    assert client.get_experiment(id).lifecycle_stage == "deleted"
    with pytest.raises(mlflow.exceptions.MlflowException) as caught:
        client.create_experiment("made anew")
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"
    client.restore_experiment(id)
    assert client.get_experiment(id).lifecycle_stage == "active"
    with pytest.raises(mlflow.exceptions.MlflowException, match="the hub keeps all artifacts itself"):
        client.create_experiment("elsewhere", artifact_location="s3://bucket/prefix")
    assert client.get_experiment("0").name == "Default"


def test_artifacts_go_through_the_hub_and_back(
    mlflow: ModuleType, client: Any, hub: Hub, experiment: str, tmp_path: Path
) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "50% off.bin").write_bytes(bytes(range(256)) * 9000)
    (tmp_path / "in" / "empty").write_bytes(b"")
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(tmp_path / "in"), "all")
        mlflow.log_text("hallo", "notes/a.txt")
        mlflow.log_dict({"a": 1}, "a.json")
        mlflow.log_table({"x": [1, 2]}, "t.json")
    id = run.info.run_id
    assert [(one.path, one.is_dir) for one in client.list_artifacts(id)] == [
        ("a.json", False),
        ("all", True),
        ("notes", True),
        ("t.json", False),
    ]
    assert [(one.path, one.file_size) for one in client.list_artifacts(id, "all/deep")] == [
        ("all/deep/50% off.bin", 2_304_000)
    ]
    fetched = Path(mlflow.artifacts.download_artifacts(run_id=id, dst_path=str(tmp_path / "out")))
    assert (fetched / "all" / "deep" / "50% off.bin").read_bytes() == bytes(range(256)) * 9000
    assert (fetched / "all" / "empty").read_bytes() == b""
    assert mlflow.artifacts.load_text(f"runs:/{id}/notes/a.txt") == "hallo"
    assert list(mlflow.load_table("t.json", run_ids=[id])["x"]) == [1, 2]
    assert not list((hub.folder / ".sampan" / "tmp").glob("artifact-*"))
    repository = mlflow.store.artifact.artifact_repository_registry.get_artifact_repository(run.info.artifact_uri)
    repository.delete_artifacts("all")
    assert [one.path for one in client.list_artifacts(id)] == ["a.json", "notes", "t.json"]


def test_a_large_artifact_comes_in_parts(
    mlflow: ModuleType, client: Any, experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1000")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", "700000")
    if mlflow.__version__ < "3":  # newer ones ask the hub whether it can
        monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    data = os.urandom(2_000_000)
    (tmp_path / "large.bin").write_bytes(data)
    run = client.create_run(experiment).info.run_id
    client.log_artifact(run, str(tmp_path / "large.bin"), "models")
    found = Path(client.download_artifacts(run, "models/large.bin", str(tmp_path)))
    assert hashlib.sha256(found.read_bytes()).digest() == hashlib.sha256(data).digest()


TRAVERSALS = [
    "..",
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "%252e%252e%252fetc%252fpasswd",
    "..%5c..%5cwindows%5cwin.ini",
    "%2fetc%2fpasswd",
    "a/../../b",
    "a%00b",
    "....//....//etc/passwd",
    "a//b",
    "C:%5cwindows",
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_a_path_that_leads_elsewhere_is_refused_as_mlflow_refuses_it(hub: Hub, client: Any, path: str) -> None:
    run = client.create_run("0").info
    before = {file for file in hub.folder.rglob("*") if "artifacts" in file.parts and file.is_file()}
    root = f"{ARTIFACTS}/0/{run.run_id}/artifacts"
    for method in ("PUT", "GET", "DELETE"):
        status, answer = ask(hub, method, f"{root}/{path}", b"x" if method == "PUT" else None)
        assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), method
        assert "Invalid path" in answer["message"]
    status, answer = ask(hub, "GET", f"{API}/artifacts/list?run_id={run.run_id}&path={path}")
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert client.list_artifacts(run.run_id) == []
    assert {file for file in hub.folder.rglob("*") if "artifacts" in file.parts and file.is_file()} == before


def test_every_refusal_has_mlflow_s_own_code(hub: Hub) -> None:
    _, made = ask(hub, "POST", f"{API}/runs/create", {"experiment_id": "0", "start_time": "17"})
    run = made["run"]["info"]["run_id"]
    cases: list[tuple[str, str, Any, int, str]] = [
        ("GET", f"{API}/runs/get?run_id=none", None, 404, "RESOURCE_DOES_NOT_EXIST"),
        ("GET", f"{API}/experiments/get?experiment_id=99", None, 404, "RESOURCE_DOES_NOT_EXIST"),
        ("GET", f"{API}/experiments/get?experiment_id=x", None, 400, "INVALID_PARAMETER_VALUE"),
        ("POST", f"{API}/experiments/create", {"name": "Default"}, 400, "RESOURCE_ALREADY_EXISTS"),
        ("POST", f"{API}/experiments/create", {"name": " "}, 400, "INVALID_PARAMETER_VALUE"),
        ("POST", f"{API}/runs/log-metric", {"run_id": run, "key": "m"}, 400, "INVALID_PARAMETER_VALUE"),
        ("POST", f"{API}/runs/log-metric", b'{"run_id": ', 400, "INVALID_PARAMETER_VALUE"),
        ("POST", f"{API}/runs/log-batch", b"[]", 400, "INVALID_PARAMETER_VALUE"),
        ("POST", f"{API}/runs/log-batch", b" " * 1_000_001, 413, "INVALID_PARAMETER_VALUE"),
        ("POST", f"{API}/runs/search", {"max_results": 0}, 400, "INVALID_PARAMETER_VALUE"),
        ("POST", f"{API}/runs/search", {"page_token": "bm9uZQ"}, 400, "INVALID_PARAMETER_VALUE"),
        ("POST", f"{API}/runs/update", {"run_id": run, "status": "DONE"}, 400, "INVALID_PARAMETER_VALUE"),
        ("GET", f"{API}/logged-models/m-none", None, 404, "RESOURCE_DOES_NOT_EXIST"),
        ("GET", f"{API}/webhooks", None, 404, "ENDPOINT_NOT_FOUND"),
        ("GET", f"{API}/runs/create", None, 405, "ENDPOINT_NOT_FOUND"),
    ]
    for method, path, body, status, code in cases:
        found, answer = ask(hub, method, path, body)
        assert (found, answer["error_code"]) == (status, code), (path, answer)
        assert answer["message"]
    metric = {"run_id": run, "key": "<script>", "value": 1, "timestamp": 1}
    assert "invalid name '<script>'" in ask(hub, "POST", f"{API}/runs/log-metric", metric)[1]["message"]


def test_who_may_not_log_is_told_so(hub: Hub, mlflow: ModuleType) -> None:
    def token(role: str) -> str:
        _, made = ask(hub, "POST", "/v1/tokens", {"name": f"a_{role}", "role": role}, content_type="application/json")
        return f"Bearer {made['secret']}"

    create = ("POST", f"{API}/runs/create", {"experiment_id": "0"})
    response, answer = hub.ask("POST", f"{API}/runs/create", b"{}", token=False)
    assert (response.status, json.loads(answer)["error_code"]) == (401, "UNAUTHENTICATED")
    assert "Set MLFLOW_TRACKING_TOKEN" in json.loads(answer)["message"]
    assert ask(hub, *create, authorization=token("viewer"))[1]["error_code"] == "PERMISSION_DENIED"
    trainer = token("trainer")
    status, made = ask(hub, *create, authorization=trainer)
    assert status == 200
    run = made["run"]["info"]["run_id"]
    assert ask(hub, "POST", f"{API}/runs/delete", {"run_id": run}, authorization=trainer)[0] == 403
    assert ask(hub, "POST", f"{API}/runs/delete", {"run_id": run}, authorization=token("editor"))[0] == 200


def test_many_threads_log_into_one_run_and_nothing_is_lost(mlflow: ModuleType, client: Any, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id

    def log(worker: int) -> None:
        for step in range(40):
            client.log_metric(run, f"w{worker}", float(step), step=step)

    threads = [threading.Thread(target=log, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for worker in range(6):
        assert len(client.get_metric_history(run, f"w{worker}")) == 40
    assert client.get_run(run).data.metrics == {f"w{worker}": 39.0 for worker in range(6)}


def test_logging_asynchronously_loses_nothing(mlflow: ModuleType, client: Any, experiment: str) -> None:
    with mlflow.start_run() as run:
        for step in range(200):
            mlflow.log_metric("m", step, step=step, synchronous=False)
        mlflow.flush_async_logging()
    assert len(client.get_metric_history(run.info.run_id, "m")) == 200


def test_a_history_that_is_long_comes_whole(mlflow: ModuleType, client: Any, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    for first in range(0, 3000, 1000):
        client.log_batch(run, [mlflow.entities.Metric("m", n / 7, 1, n) for n in range(first, first + 1000)])
    assert [point.value for point in client.get_metric_history(run, "m")] == [n / 7 for n in range(3000)]


def test_scikit_learn_logs_by_itself(mlflow: ModuleType, client: Any, experiment: str) -> None:
    import numpy
    from sklearn.linear_model import LogisticRegression

    mlflow.sklearn.autolog(log_models=True, silent=True)
    try:
        features = numpy.arange(40.0).reshape(20, 2)
        with mlflow.start_run() as run:
            fitted = LogisticRegression(C=0.5).fit(features, numpy.arange(20) % 2)
    finally:
        mlflow.sklearn.autolog(disable=True)
    found = client.get_run(run.info.run_id)
    assert found.data.params["C"] == "0.5"
    assert "training_accuracy_score" in found.data.metrics
    assert found.inputs.dataset_inputs[0].dataset.digest
    loaded = mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/model")
    assert list(loaded.predict(features)) == list(fitted.predict(features))
    if mlflow.__version__ >= "3":  # older ones know no logged models
        (output,) = found.outputs.model_outputs
        model = client.get_logged_model(output.model_id)
        assert (model.status, model.source_run_id) == ("READY", run.info.run_id)
        assert (
            mlflow.search_logged_models([experiment], "name = 'model'", output_format="list")[0].model_id
            == output.model_id
        )


def test_lightgbm_logs_by_itself(mlflow: ModuleType, client: Any, experiment: str) -> None:
    import lightgbm
    import numpy

    mlflow.lightgbm.autolog(silent=True)
    try:
        data = lightgbm.Dataset(numpy.arange(200.0).reshape(100, 2), numpy.arange(100) % 2, free_raw_data=False)
        with mlflow.start_run() as run:
            lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 5, valid_sets=[data])
    finally:
        mlflow.lightgbm.autolog(disable=True)
    found = client.get_run(run.info.run_id)
    assert found.data.params["objective"] == "binary"
    (metric,) = [name for name in found.data.metrics if name.endswith("binary_logloss")]
    assert len(client.get_metric_history(run.info.run_id, metric)) == 5
    assert "feature_importance_split.json" in [one.path for one in client.list_artifacts(run.info.run_id)]


@pytest.mark.slow
def test_what_was_logged_is_there_after_the_hub_was_killed(mlflow: ModuleType, tmp_path: Path) -> None:
    hub = Hub(make_workspace(tmp_path / "shop"))
    client = mlflow.MlflowClient(hub.url)
    os.environ["MLFLOW_TRACKING_TOKEN"], kept = hub.token, os.environ["MLFLOW_TRACKING_TOKEN"]
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(hub.url)
    try:
        run = client.create_run("0").info.run_id
        client.log_text(run, "hallo", "a.txt")
        for step in range(20):
            client.log_metric(run, "m", step, step=step)
        assert hub.stop(signal.SIGKILL) == -signal.SIGKILL
        hub = Hub(hub.folder, "--port", str(hub.port))
        assert len(client.get_metric_history(run, "m")) == 20
        assert [one.path for one in client.list_artifacts(run)] == ["a.txt"]
        assert hub.stop() == 0
    finally:
        mlflow.set_tracking_uri(before)
        os.environ["MLFLOW_TRACKING_TOKEN"] = kept
        hub.stop()


def test_the_client_under_test_is_a_real_one() -> None:
    assert "site-packages" in str(sys.modules["mlflow"].__file__)
