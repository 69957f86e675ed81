"""R18: the hub is killed again and again while the stock client logs: what returned is there, and nothing twice."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.hub.conftest import Hub, make_workspace

API = "/api/2.0/mlflow"
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("UserWarning", "FutureWarning", "DeprecationWarning")
]


class Victim:
    """A hub that can be killed, and comes up again at the same port."""

    def __init__(self, folder: Path) -> None:
        self.hub = Hub(make_workspace(folder))

    def again(self) -> None:
        assert self.hub.stop(signal.SIGKILL) == -signal.SIGKILL
        self.hub = Hub(self.hub.folder, "--port", str(self.hub.port))

    def create(self, **more: Any) -> str:
        body = {"experiment_id": "0", "user_id": "ann", "start_time": 1_700_000_000_000, **more}
        response, answer = self.hub.ask("POST", f"{API}/runs/create", json.dumps(body).encode())
        assert response.status == 200, answer
        return str(json.loads(answer)["run"]["info"]["run_id"])


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    made = Victim(tmp_path / "shop")
    yield made
    made.hub.stop()


def test_a_run_that_is_begun_again_because_nobody_answered_is_begun_once(victim: Victim) -> None:
    tags = [{"key": "a", "value": "1"}]
    first = victim.create(tags=tags)
    named = victim.create(run_name="one", tags=tags)
    victim.again()
    assert victim.create(run_name="one", tags=tags) == named
    assert victim.create(tags=tags) in (first, named)
    assert victim.create(run_name="two", tags=tags) not in (first, named)
    assert victim.create(tags=[]) not in (first, named)
    assert victim.create(tags=tags, start_time=1_700_000_000_001) not in (first, named)
    assert victim.create(tags=tags, user_id="bob") not in (first, named)


def test_two_who_begin_alike_at_once_have_a_run_each(victim: Victim) -> None:
    assert victim.create() != victim.create()


@pytest.mark.slow
@pytest.mark.parametrize("touch", ["metric", "param", "tag", "artifact", "end"])
def test_a_run_that_somebody_has_touched_is_not_given_to_another(victim: Victim, touch: str) -> None:
    first = victim.create()
    about: dict[str, Any] = {"run_id": first, "key": "k", "value": "1"}
    if touch == "metric":
        path, body = "runs/log-metric", {**about, "value": 1.0, "timestamp": 1}
    elif touch == "param":
        path, body = "runs/log-parameter", about
    elif touch == "tag":
        path, body = "runs/set-tag", about
    else:
        path, body = "runs/update", {"run_id": first, "status": "FINISHED", "end_time": 2}
    if touch == "artifact":
        address = f"{API}-artifacts/artifacts/0/{first}/artifacts/a.txt"
        assert victim.hub.ask("PUT", address, b"x")[0].status == 200
    else:
        assert victim.hub.ask("POST", f"{API}/{path}", json.dumps(body).encode())[0].status == 200
    time.sleep(0.5)
    victim.again()
    assert victim.create() != first


@pytest.mark.night
def test_what_returned_while_the_hub_was_killed_every_two_seconds_is_there_once(victim: Victim) -> None:
    import mlflow

    kept = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_HTTP_REQUEST_MAX_RETRIES")}
    os.environ["MLFLOW_TRACKING_TOKEN"] = victim.hub.token
    os.environ.pop("MLFLOW_HTTP_REQUEST_MAX_RETRIES", None)
    before, over, kills = mlflow.get_tracking_uri(), threading.Event(), []

    def kill() -> None:
        while len(kills) < 20:
            time.sleep(2)
            victim.again()
            kills.append(time.monotonic())
        over.set()

    mlflow.set_tracking_uri(victim.hub.url)
    client = mlflow.MlflowClient(victim.hub.url)
    client.create_registered_model("m")
    killer = threading.Thread(target=kill)
    killer.start()
    runs: list[str] = []
    versions: dict[str, str] = {}
    try:
        while not over.is_set():
            number = len(runs)
            run = client.create_run("0", tags={"number": str(number)}).info.run_id
            client.log_param(run, "p", number)
            for step in range(5):
                client.log_metric(run, "m", number + step / 10, step=step)
            client.log_text(run, f"weights {number}", "model/weights.txt")
            client.set_terminated(run)
            if number % 5 == 0:
                versions[run] = client.create_model_version("m", f"runs:/{run}/model", run).version
            runs.append(run)
        killer.join()
        assert len(kills) == 20 and len(runs) >= 20
        for number, run in enumerate(runs):
            found = client.get_run(run)
            assert (found.data.params, found.data.tags["number"]) == ({"p": str(number)}, str(number))
            points = [(one.step, one.value) for one in client.get_metric_history(run, "m")]
            assert points == [(step, number + step / 10) for step in range(5)]
            assert [one.path for one in client.list_artifacts(run, "model")] == ["model/weights.txt"]
            assert found.info.status == "FINISHED"
        every = []
        token = None
        while True:
            page = client.search_runs(["0"], max_results=1000, page_token=token)
            every += [one.data.tags["number"] for one in page]
            token = page.token
            if not token:
                break
        assert sorted(every, key=int) == [str(number) for number in range(len(runs))], "a run is there twice"
        made = client.search_model_versions("name='m'")
        assert {one.version for one in made} == set(versions.values())
        assert len(made) == len(versions)
    finally:
        over.set()
        killer.join()
        mlflow.set_tracking_uri(before)
        for name, value in kept.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
