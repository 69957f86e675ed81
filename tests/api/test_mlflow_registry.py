"""The stock client of MLflow's against the registry: what it registers is frozen, and found by number and by alias."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.api.test_mlflow import API, ARTIFACTS, ask, pytestmark  # noqa: F401
from tests.hub.conftest import Hub, make_workspace


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    running = Hub(make_workspace(tmp_path_factory.mktemp("registry") / "shop"))
    yield running
    assert running.stop() == 0


@pytest.fixture
def fitted() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.5).fit([[0.0, 1.0], [1.0, 0.0], [2.0, 5.0], [3.0, 2.0]], [0, 0, 1, 1])


@pytest.fixture
def log_model(mlflow: ModuleType, fitted: Any, experiment: str) -> Any:
    """Logs a model in a run of its own, and registers it; gives the run's id and the version."""
    import numpy

    flavour = mlflow.sklearn
    named = {"name" if mlflow.__version__ >= "3" else "artifact_path": "model"}

    def log(name: str, rmse: float = 0.5) -> tuple[str, Any]:
        with mlflow.start_run() as run:
            mlflow.log_metric("rmse", rmse)
            example = numpy.array([[0.0, 1.0]])
            made = flavour.log_model(fitted, registered_model_name=name, input_example=example, **named)
        client = mlflow.MlflowClient()
        version = made.registered_model_version or client.search_model_versions(f"name = '{name}'")[0].version
        return run.info.run_id, client.get_model_version(name, str(version))

    return log


def refused(call: Any, code: str) -> str:
    """What the client is told when it is refused."""
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as caught:
        call()
    assert caught.value.error_code == code, caught.value
    return str(caught.value)


def test_a_logged_model_is_registered_and_loaded_by_number_and_alias(
    mlflow: ModuleType, client: Any, log_model: Any, fitted: Any
) -> None:
    run, version = log_model("wine")
    assert (version.name, int(version.version), version.run_id, version.status) == ("wine", 1, run, "READY")
    _, second = log_model("wine", 0.4)
    assert int(second.version) == 2
    client.set_registered_model_alias("wine", "champion", "1")
    rows = [[0.5, 0.5], [3.0, 3.0]]
    for uri in ("models:/wine/1", "models:/wine@champion", "models:/wine/latest"):
        assert list(mlflow.sklearn.load_model(uri).predict(rows)) == list(fitted.predict(rows))
    found = client.get_model_version_by_alias("wine", "champion")
    assert (int(found.version), found.aliases) == (1, ["champion"])
    assert client.get_registered_model("wine").aliases == {"champion": "1"}
    client.set_registered_model_alias("wine", "champion", "2")
    assert int(client.get_model_version_by_alias("wine", "champion").version) == 2
    client.delete_registered_model_alias("wine", "champion")
    refused(lambda: client.get_model_version_by_alias("wine", "champion"), "RESOURCE_DOES_NOT_EXIST")


def test_what_a_version_came_from_stays_as_it_was(mlflow: ModuleType, client: Any, hub: Hub, log_model: Any) -> None:
    run, version = log_model("frozen")
    for change in (
        lambda: client.log_metric(run, "rmse", 0.1),
        lambda: client.log_param(run, "late", "1"),
        lambda: client.set_tag(run, "late", "1"),
        lambda: client.set_terminated(run, "FAILED"),
        lambda: client.update_run(run, status="RUNNING"),
        lambda: client.delete_run(run),
    ):
        assert "registered" in refused(change, "RESOURCE_CONFLICT")
    status, body = ask(hub, "POST", f"{API}/runs/log-metric", {"run_id": run, "key": "m", "value": 1, "timestamp": 1})
    assert (status, body["error_code"]) == (409, "RESOURCE_CONFLICT")
    status, body = ask(hub, "PUT", f"{ARTIFACTS}/{client.get_run(run).info.experiment_id}/{run}/artifacts/x.txt", b"x")
    assert (status, body["error_code"]) == (409, "RESOURCE_CONFLICT")
    status, body = ask(hub, "PUT", f"{ARTIFACTS}/versions/frozen/{version.version}/MLmodel", b"flavors: {}")
    assert (status, body["error_code"]) == (409, "RESOURCE_CONFLICT")
    assert client.get_run(run).data.metrics == {"rmse": 0.5}
    client.update_run(run, status="FINISHED")  # as it stands: sent again, and nothing changes


def test_a_logged_model_is_fast_once_it_is_registered(
    mlflow: ModuleType, client: Any, hub: Hub, log_model: Any
) -> None:
    if mlflow.__version__ < "3":
        pytest.skip("older ones know no logged models")
    run, version = log_model("fast")
    (output,) = client.get_run(run).outputs.model_outputs
    refused(lambda: client.set_logged_model_tags(output.model_id, {"late": "1"}), "RESOURCE_CONFLICT")
    refused(lambda: client.delete_logged_model(output.model_id), "RESOURCE_CONFLICT")
    experiment = client.get_run(run).info.experiment_id
    path = f"{ARTIFACTS}/{experiment}/models/{output.model_id}/artifacts/MLmodel"
    status, body = ask(hub, "PUT", path, b"flavors: {}")
    assert (status, body["error_code"]) == (409, "RESOURCE_CONFLICT")
    client.set_logged_model_tags(output.model_id, {"mlflow.modelVersions": "[]"})  # what clients write themselves
    assert "fast" in str(version)


def test_bytes_that_are_not_those_that_were_registered_are_not_handed_out(hub: Hub, log_model: Any) -> None:
    _, version = log_model("changed")
    path = f"{ARTIFACTS}/versions/changed/{version.version}/MLmodel"
    response, body = hub.ask("GET", path)
    assert response.status == 200
    digest = hashlib.sha256(body).hexdigest()
    file = hub.folder / ".sampan" / "blobs" / digest[:2] / digest[2:]
    file.chmod(0o644)
    file.write_bytes(body.replace(b"flavors", b"Flavors"))
    response, body = hub.ask("GET", path)
    said = json.loads(body)
    assert (response.status, said["error_code"]) == (409, "DATA_LOSS")
    assert "the bytes of 'MLmodel' are not those that were registered" in said["message"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "record",
    [
        b"flavors: !!python/object/apply:os.system ['touch /tmp/never']",
        b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a]\nflavors: [*b,*b,*b,*b,*b,*b,*b]",
        b"[" * 5000,
        b"\xff\xfe\x00",
        b"flavors: 7\nsignature: {inputs: '[[[['}",
        b"signature: {inputs: '[1, null, {}]'}",
        b"",
    ],
)
def test_a_record_that_is_no_record_is_kept_and_never_run(
    hub: Hub, client: Any, experiment: str, record: bytes
) -> None:
    run = client.create_run(experiment).info.run_id
    path = f"{ARTIFACTS}/{experiment}/{run}/artifacts/model/MLmodel"
    assert ask(hub, "PUT", path, record)[0] == 200
    made = hub.ask("POST", "/v1/models/odd/versions", f'{{"run": "{run}", "path": "model"}}'.encode())
    assert made[0].status == 201 and b'"unknown"' in made[1]
    assert not Path("/tmp/never").exists()
    assert hub.ask("GET", "/models/odd")[0].status == 200


def test_a_run_that_goes_on_may_finish_what_it_logs(mlflow: ModuleType, client: Any, fitted: Any) -> None:
    named = {"name" if mlflow.__version__ >= "3" else "artifact_path": "model"}
    with mlflow.start_run() as run:
        mlflow.sklearn.log_model(fitted, registered_model_name="going-on", **named)
        mlflow.log_metric("after", 1.0)
    assert client.get_run(run.info.run_id).data.metrics == {"after": 1.0}
    refused(lambda: client.log_metric(run.info.run_id, "late", 1.0), "RESOURCE_CONFLICT")


def test_artifacts_of_any_kind_are_registered_from_a_run(client: Any, experiment: str, tmp_path: Path) -> None:
    run = client.create_run(experiment).info.run_id
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "a.bin").write_bytes(b"\x00\x01")
    client.log_artifacts(run, str(tmp_path), "mine")
    client.create_registered_model("plain", tags={"team": "a"}, description="By hand")
    made = client.create_model_version("plain", f"runs:/{run}/mine", run, tags={"k": "v"}, description="First")
    assert (made.version, made.tags, made.description) in [("1", {"k": "v"}, "First"), (1, {"k": "v"}, "First")]
    again = client.create_model_version("plain", f"runs:/{run}/mine", run)
    assert int(again.version) == 1, "the same content keeps its number"
    client.create_registered_model("copy")
    assert int(client.create_model_version("copy", "models:/plain/1").version) == 1
    model = client.get_registered_model("plain")
    assert (model.description, model.tags) == ("By hand", {"team": "a"})


@pytest.mark.slow
def test_versions_are_tagged_described_and_searched(client: Any, log_model: Any) -> None:
    run, one = log_model("searched", 0.1)
    log_model("searched", 0.2)
    log_model("other")
    client.set_model_version_tag("searched", one.version, "stage", "canary")
    client.update_model_version("searched", one.version, "The first")
    client.set_registered_model_tag("searched", "owner", "ann")
    found = client.search_model_versions("name = 'searched'", order_by=["version_number ASC"])
    assert [int(each.version) for each in found] == [1, 2]
    assert [each.description for each in found] == ["The first", ""]
    assert [int(v.version) for v in client.search_model_versions("tags.stage = 'canary' AND name LIKE 'sea%'")] == [1]
    assert [v.name for v in client.search_model_versions(f"run_id = '{run}'")] == ["searched"]
    assert [m.name for m in client.search_registered_models("name ILIKE 'SEAR%'")] == ["searched"]
    assert [m.name for m in client.search_registered_models("tags.owner = 'ann'")] == ["searched"]
    first = client.search_registered_models(max_results=1)
    second = client.search_registered_models(max_results=1, page_token=first.token)
    assert first[0].name != second[0].name
    client.delete_model_version_tag("searched", one.version, "stage")
    assert client.search_model_versions("tags.stage = 'canary'") == []
    refused(lambda: client.delete_registered_model_tag("searched", "none"), "RESOURCE_DOES_NOT_EXIST")


def test_what_is_deleted_is_out_of_sight_and_its_number_stays_taken(client: Any, log_model: Any) -> None:
    log_model("gone", 0.1)
    log_model("gone", 0.2)
    client.set_registered_model_alias("gone", "prod", "1")
    assert "alias" in refused(lambda: client.delete_model_version("gone", "1"), "RESOURCE_CONFLICT")
    refused(lambda: client.delete_registered_model("gone"), "RESOURCE_CONFLICT")
    assert len(client.search_model_versions("name = 'gone'")) == 2, "all of it, or nothing"
    client.delete_registered_model_alias("gone", "prod")
    client.delete_model_version("gone", "2")
    refused(lambda: client.get_model_version("gone", "2"), "RESOURCE_DOES_NOT_EXIST")
    assert int(log_model("gone", 0.3)[1].version) == 3
    client.delete_registered_model("gone")
    refused(lambda: client.get_registered_model("gone"), "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(
    "source",
    [
        "file:/etc",
        "/etc",
        "s3://bucket/model",
        "http://example.org/model",
        "mlflow-artifacts:/1/../../etc",
        "mlflow-artifacts://host/1/r/artifacts",
        "models:/m-1/../../x",
        "dbfs:/x",
        "..",
        "",
    ],
)
def test_a_source_of_elsewhere_is_refused(hub: Hub, source: str) -> None:
    ask(hub, "POST", f"{API}/registered-models/create", {"name": "elsewhere"})
    status, body = ask(hub, "POST", f"{API}/model-versions/create", {"name": "elsewhere", "source": source})
    assert status in (400, 404) and body["error_code"] in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")
    assert ask(hub, "GET", f"{API}/model-versions/search?filter=name%3D%27elsewhere%27")[1]["model_versions"] == []


def test_bad_input_is_told_in_the_protocols_words(client: Any, hub: Hub, log_model: Any) -> None:
    log_model("told")
    refused(lambda: client.create_registered_model("told"), "RESOURCE_ALREADY_EXISTS")
    assert "alias" in refused(
        lambda: client.transition_model_version_stage("told", "1", "Production"), "INVALID_PARAMETER_VALUE"
    )
    assert "copy" in refused(lambda: client.rename_registered_model("told", "x"), "INVALID_PARAMETER_VALUE")
    for name in ("a/b", "a:b", "", "x" * 300, "a@b"):
        refused(lambda name=name: client.create_registered_model(name), "INVALID_PARAMETER_VALUE")
    refused(lambda: client.set_registered_model_alias("told", "champion", "9"), "RESOURCE_DOES_NOT_EXIST")
    for alias in ("v1", "latest", "a b"):
        status, body = ask(
            hub, "POST", f"{API}/registered-models/alias", {"name": "told", "alias": alias, "version": "1"}
        )
        assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    status, body = ask(hub, "POST", f"{API}/model-versions/create", {"name": "told", "source": "runs:/none/model"})
    assert (status, body["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    status, body = ask(hub, "GET", f"{API}/registered-models/search?max_results=5000")
    assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    first = ask(hub, "GET", f"{API}/model-versions/search?max_results=1")[1]
    token = first.get("next_page_token")
    status, body = ask(
        hub, "GET", f"{API}/model-versions/search?max_results=1&filter=name%3D%27x%27&page_token={token}"
    )
    assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE") and "another search" in body["message"]


def test_who_only_logs_may_register_and_not_move_an_alias(hub: Hub, log_model: Any) -> None:
    log_model("roles")
    _, made = ask(hub, "POST", "/v1/tokens", {"name": "laptop", "role": "trainer"}, content_type="application/json")
    token = made["secret"]
    body = {"name": "roles", "alias": "champion", "version": "1"}
    status, said = ask(hub, "POST", f"{API}/registered-models/alias", body, authorization=f"Bearer {token}")
    assert (status, said["error_code"]) == (403, "PERMISSION_DENIED")
    tag = {"name": "roles", "key": "a", "value": "b"}
    assert ask(hub, "POST", f"{API}/registered-models/set-tag", tag, authorization=f"Bearer {token}")[0] == 200


def test_of_fifty_clients_who_move_an_alias_at_once_one_wins(hub: Hub, log_model: Any) -> None:
    log_model("raced", 0.1)
    log_model("raced", 0.2)
    path, body = "/v1/models/raced/aliases/champion", {"number": 1, "token": 0}
    held = json.loads(hub.ask("PUT", path, json.dumps(body).encode())[1])
    moved = json.dumps({"number": 2, "token": held["token"]}).encode()
    with ThreadPoolExecutor(50) as pool:
        told = [response.status for response, _ in pool.map(lambda _: hub.ask("PUT", path, moved), range(50))]
    assert sorted(told) == [200, *[409] * 49]
    history = hub.json("/models/raced")["history"]
    assert len([one for one in history if one["refused"]]) == 49, "every attempt is in the history"
    assert hub.json("/models/raced")["aliases"][0]["number"] == 2
