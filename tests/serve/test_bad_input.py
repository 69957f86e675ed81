"""What clients should not send, past the hub and through it: it is refused by name, and the next is answered."""

import json
import os
import pickle
import platform
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from serving_shop import Shop, body, record
from test_direct import begin, pid_of, raw_head, read_answer
from test_form import constant
from tests.hub.conftest import Hub, sampan

from sampan.app import App
from sampan.base.clock import iso
from sampan.base.errors import Damaged
from sampan.models.formats import freeze
from sampan.models.version import OnnxFile
from sampan.release.rollouts import example
from sampan.runs.records import Run, Runs

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


def made_by_a_run(shop: Shop, fitted: Any) -> Any:
    """A version with every kind of file: model, golden requests, ONNX form; its run recorded an environment."""
    manifest = {"python": f"CPython {platform.python_version()}", "packages": {"lightgbm": "4"}}
    run = Run("run1", "running", "reorder", "main", "", "", None, None, "ann", manifest, "", 0.0, 1, 2)
    Runs(shop.db).start(run)
    form = OnnxFile(shop.blobs.put(constant(0.875)), 0.0, 300)  # its converter need not be installed here
    draft = msgspec.structs.replace(freeze(fitted, "binary", shop.blobs), onnx=form)
    version = shop.models.register(draft, "reorder", run.id)
    assert version.golden is not None
    return version


def files_with(app: App, ref: str) -> dict[str, Path]:
    """Where each file lies that comes with a version, the rules' sources and the lock included."""
    _, files = app._files_of(ref)
    assert {"model.txt", "golden file", "ONNX form", "decisions.py", "shop/words.py", "lock"} == files.keys()
    return {name: app.blobs.path(digest) for name, digest in files.items()}


def test_a_changed_byte_in_any_file_refuses_what_would_load_it_and_leaves_a_record(shop: Shop, fitted: Any) -> None:
    """R37: without a hub. Each refusal names the version, the file and what to do, and stays on record."""
    version = made_by_a_run(shop, fitted(9))
    shop.endpoints.make_bundle(version.ref, workspace=shop.root)  # its sources and lock are kept
    shop.close()
    (shop.root / "rollouts.toml").write_text(example("reorder"))
    rows = shop.root / "rows.csv"
    rows.write_text("orders,recency,spend,customer_id\n2,0.5,10.25,17850\n")
    with closing(App(shop.root)) as app:
        asks: dict[str, Any] = {
            "deploy": lambda: app.deploy("reorder", version.ref, "", {}, "", "ann"),
            "rollout": lambda: app.begin_rollout("reorder", version.ref, "", {}, "", "ann"),
            "score": lambda: app.score(version.ref, str(rows), actor="ann"),
        }
        for name, path in files_with(app, version.ref).items():
            good = flip(path)
            for what, ask in asks.items():
                if what == "score" and name in ("decisions.py", "shop/words.py", "lock"):
                    continue  # a version alone is scored without them
                with pytest.raises(Damaged) as caught:
                    ask()
                said = str(caught.value)
                assert f"{name} of {version.ref} is damaged" in said and "does not match its digest" in said, said
                assert f"Restore blobs/{path.parent.name}/{path.name} from a backup" in said
                last = app.view("/models/reorder/2")["damages"][0]
                assert (last["file"], last["actor"], last["over"]) == (name, "ann", None)
                assert last["attempted"] == caught.value.attempted
            assert [one.file for one in app.damages({})] == [name]
            path.write_bytes(good)
            with app.writing("Look"):
                assert not app.damages({})
            assert app.view("/models/reorder/2")["damages"][0]["over"]
        assert app.endpoints.get("reorder").spec.version == "reorder@1"
        page = app.page_file("/models/reorder/2")
        assert "Files that were damaged" in page and "Deploy reorder@2 as reorder" in page
        before = app.view("/models/reorder/2")["created"]
        assert not app.view("/models/reorder/2", {"as-of": iso(before + 1)})["damages"]
        assert "refused" in sampan(shop.root, "model", "show", version.ref).stdout


def test_a_rollback_to_what_is_damaged_is_refused_and_leaves_a_record(shop: Shop, fitted: Any) -> None:
    version = shop.register(fitted(9))
    shop.deploy(version.ref)
    flip(shop.blobs.path(next(iter(shop.models.get("reorder@1").files.values()))))
    shop.close()
    with closing(App(shop.root)) as app:
        with pytest.raises(Damaged, match=r"Roll reorder back to reorder@1: model\.txt of reorder@1 is damaged"):
            app.rollback("reorder", "", "", "ann")
        (kept,) = app.view("/models/reorder/1")["damages"]
        assert (kept["attempted"], kept["actor"]) == ("Roll reorder back to reorder@1", "ann")
        assert app.endpoints.get("reorder").spec.version == version.ref


@pytest.mark.slow
def test_what_is_loaded_goes_on_from_memory_and_its_damage_is_told_before_it_starts_anew(
    shop: Shop, fitted: Any
) -> None:
    shop.register(fitted(9))
    paths = [shop.blobs.path(next(iter(shop.models.get(ref).files.values()))) for ref in ("reorder@1", "reorder@2")]
    shop.close()
    hub = begin(shop.root, SAMPAN_WATCH_EVERY="1")

    def told(about: str) -> Any:
        """The alert of a version's damage, once it is open."""
        until = time.monotonic() + 30
        while True:
            for one in hub.json("/alerts")["open"]:
                if one["alert"]["kind"] == "damaged" and one["alert"]["about"] == about:
                    return one["alert"]
            assert time.monotonic() < until, "nobody is told"
            time.sleep(0.2)

    try:
        good = flip(paths[0])
        alert = told("reorder@1")
        assert alert["reason"] == "Keep reorder ready to start anew: model.txt is damaged", alert
        paths[0].write_bytes(good)
        done = sampan(shop.root, "endpoint", "deploy", "reorder", "--model", "reorder@2", "--reason", "new")
        assert done.returncode == 0, done.stderr
        flip(paths[0])
        assert told("reorder@1")["field"] == "model.txt", "of what is kept ready to go back to"
        done = sampan(shop.root, "rollback", "reorder", "--reason", "back")
        assert done.returncode == 0 and "Beware: model.txt of reorder@1 is damaged" in done.stderr, done
        record = hub.json("/models/reorder/1")["damages"][0]
        assert record["attempted"] == "Roll reorder back to reorder@1" and record["over"] is None
        assert json.loads(hub.predict("reorder", BODY)[1])["predictions"][0]["version"] == "reorder@1"
    finally:
        assert hub.stop() == 0


@pytest.mark.slow
def test_a_changed_byte_in_any_file_of_a_version_is_never_served_and_what_is_in_force_goes_on(
    shop: Shop, fitted: Any
) -> None:
    """R37: a deploy is refused with the reason; where it is in force, nothing answers, and an alert is open."""
    version = made_by_a_run(shop, fitted(9))
    shop.endpoints.make_bundle(version.ref, workspace=shop.root)
    in_force = [shop.blobs.path(digest) for digest in shop.models.get("reorder@1").files.values()]
    shop.close()
    with closing(App(shop.root)) as app:
        files = files_with(app, version.ref)
    rows = shop.root / "rows.csv"
    rows.write_text("orders,recency,spend,customer_id\n2,0.5,10.25,17850\n")
    hub = begin(shop.root, SAMPAN_WATCH_EVERY="1")
    direct = hub.direct

    def told() -> list[Any]:
        found = [one["alert"] for one in hub.json("/alerts")["open"] if one["alert"]["kind"] == "damaged"]
        return [one for one in found if one["about"] == about]

    about = version.ref
    try:
        for name, path in files.items():
            good = flip(path)
            done = sampan(shop.root, "endpoint", "deploy", "reorder", "--model", version.ref, "--reason", "new")
            assert done.returncode == 3 and "does not match its digest" in done.stderr, done.stderr
            assert f"{name} of reorder@2 is damaged" in done.stderr and "Traceback" not in done.stderr
            until = time.monotonic() + 30
            while not (alerts := told()):
                assert time.monotonic() < until, "nobody is told"
                time.sleep(0.2)
            assert (alerts[0]["about"], alerts[0]["field"]) == (version.ref, name)
            assert f"Restore blobs/{path.parent.name}/{path.name}" in alerts[0]["action"]
            record = hub.json("/models/reorder/2")["damages"][0]
            assert record["file"] == name and record["over"] is None
            assert record["attempted"] == "Deploy reorder@2 as reorder"
            if name == "model.txt":  # scored by the command's own process, which may not write
                assert sampan(shop.root, "score", version.ref, str(rows)).returncode == 3
                assert hub.json("/models/reorder/2")["damages"][0]["attempted"].startswith("Score ")
            path.write_bytes(good)
            while told():
                assert time.monotonic() < until, "it does not clear"
                time.sleep(0.2)
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
            about = "reorder@1"
            while not (told() and any(one["alert"]["kind"] == "endpoint_down" for one in hub.json("/alerts")["open"])):
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
