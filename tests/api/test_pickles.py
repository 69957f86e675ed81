"""What is uploaded, adopted or registered never runs, whatever it is dressed as (R36): through the hub's HTTP."""

import base64
import io
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import joblib
import numpy as np
import pytest
import yaml
from tests.api.test_mlflow import API, ask
from tests.api.test_uploads import new_run
from tests.disguises import DISGUISES, Payload, joblib_bytes, legacy_torch, object_array, template
from tests.hub.conftest import Hub, make_workspace
from tests.slow import mostly_slow

NAMES = ("model.skops", "model.onnx", "model.json", "model.txt", "model.zip", "model.npy", "model.pt", "model.yaml")
#: What the bytes are said to be, of which none may lead to their being opened.
SAID = ("application/json", "application/x-python-pickle", "image/png", "application/x-yaml")
EVIL = "import pathlib\npathlib.Path({!r}).touch()\ndef _load_pyfunc(path):\n    return None\n"
DESCRIBED = ("metadata that is a template", "a model that names its loader")
TAGGED = "!!python/object/apply:builtins.open ['{}', 'w']"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    running = Hub(make_workspace(tmp_path_factory.mktemp("disguised") / "shop"))
    yield running
    assert running.stop() == 0


@pytest.fixture
def payload(tmp_path: Path) -> Iterator[Payload]:
    canary = tmp_path / "canary"
    yield Payload(canary)
    assert not canary.exists(), "the payload ran"


def legacy_load(data: bytes) -> None:
    file = io.BytesIO(data)
    for _ in range(4):
        pickle.load(file)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("make", "careless"),
    [
        (pickle.dumps, pickle.loads),
        (joblib_bytes, lambda data: joblib.load(io.BytesIO(data))),
        (object_array, lambda data: np.load(io.BytesIO(data), allow_pickle=True)),
        (legacy_torch, legacy_load),
        (lambda p: TAGGED.format(p.canary), yaml.unsafe_load),
        (template, lambda data: jinja2.Environment().from_string(data.decode()).render()),
    ],
    ids=["pickle", "joblib", "npy", "torch", "yaml", "template"],
)
def test_the_payloads_do_run_where_somebody_is_careless(
    make: Callable[[Payload], Any], careless: Callable[[Any], Any], tmp_path: Path
) -> None:
    """Or that none ran below would say nothing."""
    careless(make(Payload(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("disguise", mostly_slow(DISGUISES, "a bare pickle", "a legacy torch file", "a zip in a zip"))
def test_what_is_adopted_is_refused_and_never_run(hub: Hub, disguise: str, payload: Payload) -> None:
    """By its name and by what is said of it, the format; each in a process that reads it as data."""
    data = base64.b64encode(DISGUISES[disguise](payload)).decode()
    for name, said in (("model.skops", ""), ("model.onnx", ""), ("model.txt", "lightgbm"), ("model.bin", "skops")):
        asked = {"source": name, "data": data, "format": said, "kind": "binary", "features": "a,b"}
        status, told = ask(hub, "POST", "/v1/endpoints/live/adopt", asked, content_type="application/json")
        assert status in (400, 403), (name, told)
        assert told["error"]["obstacle"] and "Traceback" not in json.dumps(told)
    assert not hub.json("/models")["models"] or "live" not in [one["name"] for one in hub.json("/models")["models"]]


@pytest.mark.parametrize("disguise", mostly_slow(DISGUISES, "YAML with a python tag", *DESCRIBED))
def test_what_is_uploaded_shown_and_registered_is_never_run(hub: Hub, disguise: str, payload: Payload) -> None:
    """As artifacts of every name, as a model with its description; then each page that shows them is opened."""
    data = DISGUISES[disguise](payload)
    run, where = new_run(hub)
    described = data if disguise.startswith(("YAML", "metadata", "a model")) else b"flavors: {python_function: {}}\n"
    files = {f"model/{name}": data for name in NAMES}
    files |= {"model/MLmodel": described, "model/model.pkl": data, "model/python_env.yaml": data}
    files["model/code/evil.py"] = EVIL.format(str(payload.canary)).encode()
    for number, (path, sent) in enumerate(files.items()):
        said = SAID[number % len(SAID)]
        response, answer = hub.ask("PUT", f"{where}/{path}", sent, content_type=said)
        assert response.status == 200, answer
        response, back = hub.ask("GET", f"{where}/{path}")
        assert back == sent and response.headers["content-disposition"].startswith("attachment")
        page, _ = hub.ask("GET", f"/experiments/0/runs/{run}?path={path}", accept="text/html")
        assert page.status == 200
    tag = {"run_id": run, "key": "mlflow.log-model.history", "value": described.decode(errors="replace")}
    assert ask(hub, "POST", f"{API}/runs/set-tag", tag)[0] in (200, 400)
    name = disguise.replace(" ", "-")
    ask(hub, "POST", f"{API}/registered-models/create", {"name": name, "description": template(payload).decode()})
    made = {"name": name, "source": f"runs:/{run}/model", "run_id": run}
    status, told = ask(hub, "POST", f"{API}/model-versions/create", made)
    assert status in (200, 400), told
    if status == 200:
        for path in (f"/models/{name}", f"/models/{name}/1", f"/models/{name}/1/card", f"/experiments/0/runs/{run}"):
            response, page = hub.ask("GET", path, accept="text/html")
            assert response.status == 200, (path, page[-300:])
        given = {"name": "live", "model": f"{name}@1", "reason": "try"}
        status, told = ask(hub, "POST", "/v1/endpoints", given, content_type="application/json")
        assert status >= 400 and told["error"]["obstacle"], told
    assert hub.json("/endpoints")["endpoints"] == []
