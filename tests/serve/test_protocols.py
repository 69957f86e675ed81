"""Predictions over HTTP in the words of other protocols, asked of a real hub; with real clients where they are there.

`just test-clients` brings `tritonclient` and `kserve`.
"""

import asyncio
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from serving_shop import FEATURES, Shop, body, record
from tests.hub.conftest import Hub

RECORDS = [record(orders=number - 2, recency=number / 4, customer_id=f"c{number}") for number in range(4)]


@pytest.fixture(scope="module", params=["through the hub", "directly"])
def hub(request: Any, tmp_path_factory: pytest.TempPathFactory, fitted: Any) -> Iterator[Hub]:
    """A hub that serves `reorder`, with rules that want to know the customer; asked itself, or the process past it."""
    root: Path = tmp_path_factory.mktemp("protocols") / "shop"
    Shop.found(root, fitted(5)).close()
    made = Hub(root)
    assert made.predict("reorder", body(record()))[0] == 200
    if request.param == "directly":
        made.direct = made.port_of("reorder")
    yield made
    assert made.stop() == 0


@pytest.fixture(scope="module")
def expected(hub: Hub) -> list[dict[str, Any]]:
    """What our own words are answered with."""
    found: list[dict[str, Any]] = json.loads(hub.predict("reorder", body(*RECORDS))[1])["predictions"]
    return found


def tensors() -> list[dict[str, Any]]:
    numbers = [
        {"name": name, "shape": [4], "datatype": "FP64", "data": [float(one[name]) for one in RECORDS]}
        for name in FEATURES
    ]
    ids = [one["customer_id"] for one in RECORDS]
    return [*numbers, {"name": "customer_id", "shape": [4], "datatype": "BYTES", "data": ids}]


def test_the_server_and_its_model_describe_themselves(hub: Hub) -> None:
    assert hub.json("/v2")["extensions"] == ["binary_tensor_data"]
    assert hub.json("/v2/health/live") == {"live": True}
    assert hub.json("/v2/health/ready") == {"ready": True}
    assert hub.json("/v2/models/reorder/ready") == hub.json("/v2/models/reorder/versions/1/ready")
    assert hub.json("/v2/models/reorder/ready") == {"name": "reorder", "ready": True}
    found = hub.json("/v2/models/reorder")
    assert found == hub.json("/v2/models/reorder/versions/1")
    assert [one["name"] for one in found["inputs"]] == [*FEATURES, "customer_id"]


@pytest.mark.parametrize("path", ["/v2/models/reorder/infer", "/v2/models/reorder/versions/1/infer"])
def test_inference_is_answered_and_recorded_like_any_prediction(hub: Hub, expected: Any, path: str) -> None:
    response, said = hub.ask("POST", path, json.dumps({"id": "r", "inputs": tensors()}).encode())
    found = {one["name"]: one["data"] for one in json.loads(said)["outputs"]}
    assert response.status == 200 and response.headers["content-type"] == "application/json"
    for name in ("prediction", "action", "rule"):
        assert found[name] == [one[name] for one in expected]
    for id, asked in zip(found["id"], RECORDS, strict=True):
        kept = hub.json(f"/predictions/{id}")
        assert kept["prediction"] in found["prediction"] and asked["customer_id"] in json.dumps(kept)


def test_invocations_are_answered_and_recorded_like_any_prediction(hub: Hub, expected: Any) -> None:
    sent = json.dumps({"dataframe_records": RECORDS}).encode()
    response, said = hub.ask("POST", "/invocations/reorder", sent, content_type="application/json")
    found = json.loads(said)
    assert response.status == 200 and found["predictions"] == [one["prediction"] for one in expected]
    assert hub.ask("GET", f"/predictions/{found['decisions'][0]['id']}", accept="application/json")[0].status == 200
    response, said = hub.ask("POST", "/invocations/reorder", sent, content_type="application/json", accept="text/csv")
    assert response.headers["content-type"] == "text/csv"
    assert [float(line) for line in said.decode().split()] == found["predictions"]
    assert response.headers["Sampan-Rule"] == ", ".join(dict.fromkeys(one["rule"] for one in expected))
    assert response.headers["Sampan-Version"] == "reorder@1" and len(response.headers["Sampan-Id"].split(", ")) == 4


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("POST", "/v2/models/nobody/infer", 404, "there is no endpoint of that name"),
        ("POST", "/v2/models/reorder/versions/9/infer", 404, "version '9' is not served"),
        ("GET", "/v2/models/nobody", 404, "there is no endpoint of that name"),
        ("GET", "/v2/models/nobody/ready", 404, "there is no endpoint of that name"),
        ("GET", "/v2/models/reorder/versions/9", 404, "version '9' is not served"),
        ("POST", "/v2/models/reorder/infer", 400, "expected a list of tensors"),
        ("POST", "/invocations/nobody", 404, "there is no endpoint of that name"),
        ("POST", "/invocations/reorder", 400, "it has none of the forms"),
    ],
)
def test_what_goes_wrong_is_said_in_the_protocols_words(
    hub: Hub, method: str, path: str, status: int, said: str
) -> None:
    response, answer = hub.ask(method, path, b"{}" if method == "POST" else None)
    found = json.loads(answer)
    message = found["message"] if path.startswith("/invocations") else found["error"]
    assert (response.status, said in message) == (status, True), (response.status, message)


def test_who_has_no_token_hears_so_in_the_protocols_words(hub: Hub) -> None:
    response, answer = hub.ask("POST", "/v2/models/reorder/infer", b"{}", token=False)
    assert response.status == 401 and "token" in json.loads(answer)["error"]
    response, answer = hub.ask("POST", "/invocations/reorder", b"{}", token=False)
    assert response.status == 401 and "token" in json.loads(answer)["message"]


def test_a_body_beyond_the_limit_or_packed_is_refused_and_the_next_is_answered(hub: Hub) -> None:
    large = b'{"inputs": "' + b"x" * 17_000_000 + b'"}'
    response, answer = hub.ask("POST", "/v2/models/reorder/infer", large)
    assert response.status == 413 and "bytes" in json.loads(answer)["error"]
    response, answer = hub.ask("POST", "/invocations/reorder", b"x", content_encoding="gzip")
    assert response.status == 400 and "encoded as 'gzip'" in json.loads(answer)["message"]
    assert hub.predict("reorder", body(record()))[0] == 200


@pytest.mark.skipif(find_spec("tritonclient") is None, reason="no tritonclient: run `uv run just test-clients`")
@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_infers(hub: Hub, expected: Any, binary: bool) -> None:
    import numpy as np
    from tritonclient import http

    headers = {"Authorization": f"Bearer {hub.token}"}
    client = http.InferenceServerClient(f"127.0.0.1:{hub.direct or hub.port}")
    assert client.is_server_live(headers) and client.is_server_ready(headers)
    assert client.is_model_ready("reorder", "1", headers) and not client.is_model_ready("nobody", headers=headers)
    assert client.get_model_metadata("reorder", headers=headers)["name"] == "reorder"
    assert client.get_server_metadata(headers)["name"] == "sampan"
    inputs = []
    for one in tensors():
        array = np.array(one["data"], object if one["datatype"] == "BYTES" else np.float64)
        inputs.append(http.InferInput(one["name"], array.shape, one["datatype"]))
        inputs[-1].set_data_from_numpy(array, binary_data=binary)
    found = client.infer("reorder", inputs, headers=headers, request_id="t-1")
    assert found.get_response()["id"] == "t-1"
    assert found.get_response()["parameters"]["version"] == "reorder@1"
    named = client.infer(
        "reorder", inputs, outputs=[http.InferRequestedOutput("version", binary_data=binary)], headers=headers
    )
    assert {one if isinstance(one, str) else one.decode() for one in named.as_numpy("version")} == {"reorder@1"}
    assert found.as_numpy("prediction").tolist() == [one["prediction"] for one in expected]
    texts = [text if isinstance(text, str) else text.decode() for text in found.as_numpy("action").tolist()]
    assert texts == [one["action"] for one in expected]
    wanted = [http.InferRequestedOutput("prediction", binary_data=binary)]
    found = client.infer("reorder", inputs, outputs=wanted, headers=headers)
    assert found.as_numpy("prediction").tolist() == [one["prediction"] for one in expected]
    with pytest.raises(Exception, match="first dimensions differ"):
        short = http.InferInput("orders", (1,), "FP64")
        short.set_data_from_numpy(np.zeros(1))
        client.infer("reorder", [short, *inputs[1:]], headers=headers)


@pytest.mark.skipif(find_spec("kserve") is None, reason="no kserve: run `uv run just test-clients`")
@pytest.mark.parametrize("binary", [True, False])
def test_kserves_client_infers(hub: Hub, expected: Any, binary: bool) -> None:
    import numpy as np
    from kserve import InferenceRESTClient, InferInput, InferRequest
    from kserve.inference_client import RESTConfig

    headers = {"Authorization": f"Bearer {hub.token}"}
    url = f"http://127.0.0.1:{hub.direct or hub.port}"
    inputs = []
    for one in tensors():
        array = np.array(one["data"], object if one["datatype"] == "BYTES" else np.float64)
        inputs.append(InferInput(one["name"], list(array.shape), one["datatype"]))
        inputs[-1].set_data_from_numpy(array, binary_data=binary)

    async def story() -> Any:
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        try:
            assert await client.is_server_live(url, headers=headers)
            assert await client.is_server_ready(url, headers=headers)
            assert await client.is_model_ready(url, "reorder", headers=headers)
            asked = InferRequest("reorder", inputs, request_id="k-1")
            return await client.infer(url, asked, model_name="reorder", headers=dict(headers))
        finally:
            await client.close()

    found = asyncio.run(story())
    assert found.id == "k-1" and found.parameters["version"] == "reorder@1"
    made = {one.name: one.as_numpy() for one in found.outputs}
    assert made["prediction"].tolist() == [one["prediction"] for one in expected]
    assert [str(one) for one in made["action"].tolist()] == [one["action"] for one in expected]
