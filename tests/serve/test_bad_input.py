"""What clients should not send, past the hub and through it: it is refused by name, and the next is answered."""

import json
import os
import pickle
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from serving_shop import Shop, body, record
from test_direct import begin, pid_of, raw_head, read_answer
from tests.hub.conftest import Hub, sampan

BODY = body(record())
NAN = BODY.replace(b"10.25", b"NaN")
V2 = "/v2/models/reorder/infer"
INVOKE = "/invocations/reorder"


def tensors(**changed: Any) -> bytes:
    """A request of the Open Inference Protocol that fits, with one tensor changed."""
    names = {"orders": 2.0, "recency": 0.5, "spend": 10.25}
    inputs = [{"name": name, "datatype": "FP64", "shape": [1], "data": [value]} for name, value in names.items()]
    inputs.append({"name": "customer_id", "datatype": "BYTES", "shape": [1], "data": ["17850"]})
    for one in inputs:
        if one["name"] == changed.get("name"):
            one |= changed
    return json.dumps({"inputs": [one for one in inputs if one.get("data") is not None]}).encode()


def frame(columns: list[str], row: list[Any]) -> bytes:
    return json.dumps({"dataframe_split": {"columns": columns, "data": [row]}}).encode()


COLUMNS = ["orders", "recency", "spend", "customer_id"]
BAD = {
    "no JSON": ("/predict/reorder", b"{", 400, "JSON"),
    "an empty body": ("/predict/reorder", b"", 400, "JSON"),
    "no records": ("/predict/reorder", b'{"records": []}', 400, "record"),
    "a list of numbers": ("/predict/reorder", b"[[2, 0.5, 10.25]]", 400, "record 0"),
    "a wrong type": ("/predict/reorder", body(record(orders="many")), 400, "'orders'"),
    "a list for a number": ("/predict/reorder", body(record(orders=[2])), 400, "'orders'"),
    "a missing feature": ("/predict/reorder", body(record(spend=...)), 400, "'spend'"),
    "a missing entity": ("/predict/reorder", body(record(customer_id=...)), 400, "'customer_id'"),
    "NaN": ("/predict/reorder", NAN, 400, "JSON"),
    "infinity": ("/predict/reorder", NAN.replace(b"NaN", b"1e999"), 400, ""),
    "an unknown endpoint": ("/predict/nobody", BODY, 404, "no endpoint of that name"),
    "an unknown version": ("/v2/models/reorder/versions/9/infer", tensors(), 404, "9"),
    "a wrong shape": (V2, tensors(name="orders", shape=[2], data=[2.0]), 400, "orders"),
    "more columns than one": (V2, tensors(name="orders", shape=[1, 2], data=[2.0, 3.0]), 400, "orders"),
    "a missing tensor": (V2, tensors(name="spend", data=None), 400, "spend"),
    "a tensor of texts": (V2, tensors(name="orders", datatype="BYTES", data=["many"]), 400, "orders"),
    "a datatype that is none": (V2, tensors(name="orders", datatype="FP65"), 400, "FP65"),
    "a missing column": (INVOKE, frame(COLUMNS[:2] + COLUMNS[3:], [2, 0.5, 17850]), 400, "spend"),
    "a short row": (INVOKE, frame(COLUMNS, [2, 0.5]), 400, ""),
    "a column of texts": (INVOKE, frame(COLUMNS, ["many", 0.5, 10.25, 17850]), 400, "orders"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, fitted: Any) -> Path:
    made = tmp_path_factory.mktemp("bad") / "shop"
    Shop.found(made, fitted(5)).close()
    return made


@pytest.fixture(scope="module")
def hub(root: Path) -> Iterator[Hub]:
    made = begin(root)
    yield made
    assert made.stop() == 0


@pytest.fixture(params=["past the hub", "through the hub"])
def asked(hub: Hub, request: pytest.FixtureRequest) -> Iterator[Hub]:
    port, hub.direct = hub.direct, hub.direct if request.param == "past the hub" else 0
    yield hub
    response, said = hub.ask("POST", "/predict/reorder", BODY)
    assert response.status == 200 and json.loads(said)["predictions"][0]["version"] == "reorder@1"
    hub.direct = port


@pytest.mark.parametrize("what", BAD)
def test_it_is_refused_with_what_is_wrong_and_the_next_is_answered(asked: Hub, what: str) -> None:
    path, sent, status, says = BAD[what]
    response, said = asked.ask("POST", path, sent, content_type="application/json")
    assert response.status == status, said
    assert says in said.decode() and b"Traceback" not in said


def test_what_fits_is_answered_in_each_face(asked: Hub) -> None:
    """Or the refusals above might be for another reason."""
    for path, sent in (("/predict/reorder", BODY), (V2, tensors()), (INVOKE, frame(COLUMNS, [2, 0.5, 10.25, 17850]))):
        response, said = asked.ask("POST", path, sent, content_type="application/json")
        assert response.status == 200, said


@pytest.mark.parametrize("path", ["/predict/reorder", INVOKE, V2])
def test_a_body_of_a_gigabyte_is_refused_before_it_is_sent_or_kept(asked: Hub, path: str) -> None:
    pids = [asked.pid, pid_of(asked.folder)]
    before = [memory(pid) for pid in pids]
    port = asked.direct or asked.port
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(raw_head(asked, 1 << 30, path=path).replace(b":0\r\n", f":{port}\r\n".encode()))
        part = b"x" * (1 << 20)
        with suppress(OSError):  # nobody reads all of it
            connection.settimeout(0.5)
            for _ in range(64):
                connection.sendall(part)
        connection.settimeout(20)
        with suppress(ConnectionResetError):
            status, _, said = read_answer(connection)
            assert status == 413 and b"more than" in said
    response, _ = asked.ask("POST", path, BODY, content_length=str(1 << 30))
    assert response.status == 413
    assert all(memory(pid) < was + (48 << 20) for pid, was in zip(pids, before, strict=True)), "it was kept"


def memory(pid: int) -> int:
    (line,) = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


class Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return open, (str(self.canary), "w")


@pytest.mark.parametrize(
    "kind",
    [
        "application/vnd.bentoml+pickle",
        "application/x-python-pickle",
        "application/octet-stream",
        "application/x-npy",
        "application/x-yaml",
        "application/json",
    ],
)
def test_no_content_type_has_a_pickle_read(asked: Hub, tmp_path: Path, kind: str) -> None:
    canary = tmp_path / "canary"
    for protocol in (0, pickle.HIGHEST_PROTOCOL):
        sent = pickle.dumps(Payload(canary), protocol=protocol)
        for path in ("/predict/reorder", INVOKE, V2):
            response, said = asked.ask("POST", path, sent, content_type=kind, payload_container="PickleContainer")
            assert response.status in (400, 415), said
    assert not canary.exists(), "the payload ran"


def flip(path: Path) -> bytes:
    good = path.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bad)
    return good


@pytest.mark.slow
def test_a_changed_byte_in_any_file_of_a_version_is_never_served_and_what_is_in_force_goes_on(
    shop: Shop, fitted: Any
) -> None:
    """R37: a deploy is refused with the reason; where it is in force, nothing answers, and an alert is open."""
    version = shop.register(fitted(9))
    files, in_force = (
        [shop.blobs.path(digest) for digest in one.files.values()] for one in (version, shop.models.get("reorder@1"))
    )
    shop.close()
    hub = begin(shop.root, SAMPAN_WATCH_EVERY="1")
    direct = hub.direct
    try:
        for path in files:
            good = flip(path)
            done = sampan(shop.root, "endpoint", "deploy", "reorder", "--model", version.ref, "--reason", "new")
            assert done.returncode in (1, 3) and "does not match its digest" in done.stderr, done.stderr
            assert "Traceback" not in done.stderr
            path.write_bytes(good)
            for hub.direct in (direct, 0):
                response, said = hub.ask("POST", "/predict/reorder", BODY)
                assert response.status == 200 and json.loads(said)["predictions"][0]["version"] == "reorder@1"
        for path in in_force:
            good = flip(path)
            os.kill(pid_of(shop.root), signal.SIGKILL)
            until = time.monotonic() + 60
            for hub.direct in (0, direct):
                while b"does not match its digest" not in (found := hub.ask("POST", "/predict/reorder", BODY))[1]:
                    assert found[0].status == 503 and time.monotonic() < until, found
                    time.sleep(0.2)
            while not any(one["alert"]["kind"] == "endpoint_down" for one in hub.json("/alerts")["open"]):
                assert time.monotonic() < until
                time.sleep(0.2)
            path.write_bytes(good)
            assert hub.predict("reorder", BODY)[0] == 200
    finally:
        assert hub.stop() == 0


@pytest.mark.slow
def test_a_rollout_of_an_unknown_kpi_is_refused_and_what_is_in_force_goes_on(asked: Hub, root: Path) -> None:
    plan = '[reorder]\n[reorder.kpi]\n{}\nminimum_effect = 0.1\n[[reorder.stage]]\nshadow = true\nat_least = "1 day"\n'
    plan += "[[reorder.stage]]\nshare = 1.0\n"
    for kpi, says in (
        ('query = "SELECT prediction_id, value FROM profits"', "profits"),
        ('query = "SELECT _id AS prediction_id, profit AS value FROM prediction"', "profit"),
        ('kind = "profit"', "kind"),
    ):
        (root / "rollouts.toml").write_text(plan.format(kpi))
        done = sampan(root, "rollout", "start", "reorder", "--set", "likely=0.7", "--reason", "new")
        assert done.returncode in (1, 2) and says in done.stderr and "Traceback" not in done.stderr, done.stderr
    (root / "rollouts.toml").unlink()
