"""Endpoints whose models take tensors, texts and bytes, asked of a real hub through every face.

`just test-clients` brings `tritonclient` and `kserve`.
"""

import asyncio
import base64
import io
import json
import os
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tensor_models as made
from tests.hub.conftest import Hub, sampan
from tests.rollout_plan import plan

from sampan.base.clock import SystemClock
from sampan.log.attachments import Attachments
from sampan.serve.answer import Answerer
from sampan.serve.apart import Named, read_verdicts, weigh
from sampan.serve.bundle import decode, open_bundle
from sampan.store.blobs import Blobs

PICTURES = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
MODELS = {
    "colour": (made.images(), ["--classes", "red,green,blue"]),
    "steps": (made.doubled(), []),
    "attended": (made.attended(), ["--kind", "regression"]),
    "word": (made.words(), []),
    "bright": (made.brightness(), ["--kind", "regression", "--features", "file:bytes"]),
    "keyed": (made.brightness(), ["--kind", "regression", "--features", "file:bytes"]),
    "ruled": (made.images(), ["--classes", "red,green,blue"]),
    "spoken": (made.spoken(), ["--kind", "regression"]),
}
RULES = """
from sampan import Action, decision

@decision(model="ruled", entity="customer", default="wait", features="pictures", key="customer")
def paint(prediction, context, likely: float = 0.5):
    mean = context["image"].array.mean()
    shape = context["image"].shape
    return Action("paint" if prediction["red"] > likely else "wait", rule=f"{shape} {mean:.3f} {context.get('shop')}")

@decision(model="keyed", features="files", key="id")
def look(prediction, context):
    return Action("look", rule="it is there")

@decision(model="spoken", fallback=0.5)
def say(prediction, context):
    return Action("say", rule="always")
"""

TABLES = {
    "sequences": "SELECT 1 AS id, [[1.0, 2.0], [3.0, 4.5]] AS steps UNION ALL SELECT 2, [[0.5, 7.0]]",
    "files": "SELECT 1 AS id, '\\x01\\x02'::BLOB AS file UNION ALL SELECT 2, 'abc'::BLOB",
    "wrong": "SELECT [1.0, 2.0] AS steps",
    "pictures": "SELECT 'bea' AS customer, [[[c / 4 for x in range(32)] for y in range(32)] for c in range(3)] image",
}
QUERY = "SELECT _id AS prediction_id, 1.0 AS value FROM prediction UNION ALL SELECT _id, 1.0 FROM shadow"
PLAN = plan("colour", (0, "1 hour"), (0.5, "1 hour"), query=QUERY, top="units = 30")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with an endpoint for each model, adopted as files into a workspace that has nothing else."""
    root = tmp_path_factory.mktemp("tensors") / "shop"
    root.mkdir()
    (root / "sampan.toml").write_text("")
    (root / "tables").mkdir()
    (root / "decisions.py").write_text(RULES)
    for name, text in TABLES.items():
        (root / "tables" / f"{name}.sql").write_text(text)
    for name, (data, words) in MODELS.items():
        (root / f"{name}.onnx").write_bytes(data)
        done = sampan(root, "endpoint", "adopt", name, str(root / f"{name}.onnx"), *words)
        assert done.returncode == 0, done.stderr
    made_hub = Hub(root)
    for name in MODELS:
        made_hub.predict(name, b"{}")  # waits until it is there
    yield made_hub
    assert made_hub.stop() == 0


def predicted(hub: Hub, name: str, *records: Any, **more: Any) -> list[Any]:
    status, said = hub.predict(name, json.dumps({"records": list(records), **more}).encode())
    assert status == 200, said
    found: list[Any] = json.loads(said)["predictions"]
    return found


def inferred(hub: Hub, name: str, *inputs: dict[str, Any], binary: bytes = b"", **more: Any) -> tuple[int, Any]:
    head = json.dumps({"inputs": list(inputs), **more}).encode()
    headers = {"inference_header_content_length": str(len(head))} if binary else {}
    response, said = hub.ask("POST", f"/v2/models/{name}/infer", head + binary, **headers)
    return response.status, json.loads(said)


def invoked(hub: Hub, name: str, body: Any, content_type: str = "application/json", **more: str) -> Any:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    response, said = hub.ask("POST", f"/invocations/{name}", sent, content_type=content_type, **more)
    assert response.status == 200, said
    return json.loads(said)["predictions"] if response.headers["content-type"] == "application/json" else said


def kept(hub: Hub, id: str) -> Any:
    """What the log says of a prediction."""
    events = hub.json("/log?type=prediction")
    (one,) = [event for event in events["events"] if event["id"] == id]
    return hub.json(f"/log/{one['position']}")["data"]


def packed(array: Any, datatype: str = "FP32") -> dict[str, Any]:
    return {"datatype": datatype, "shape": list(array.shape), "base64": base64.b64encode(array.tobytes()).decode()}


def test_a_picture_is_answered_alike_through_every_face(hub: Hub) -> None:
    expected = made.expected_of(PICTURES)
    records = [{"image": one.tolist()} for one in PICTURES]
    native = [list(one["prediction"].values()) for one in predicted(hub, "colour", *records)]
    assert np.allclose(native, expected, atol=1e-6)
    assert list(predicted(hub, "colour", records[0])[0]["prediction"]) == ["red", "green", "blue"]
    short = [
        list(one["prediction"].values())
        for one in predicted(hub, "colour", *[{"image": packed(one)} for one in PICTURES])
    ]
    assert short == native
    tensor = {"name": "image", "shape": [4, 3, 32, 32], "datatype": "FP32"}
    for data in (PICTURES.ravel().tolist(), PICTURES.tolist()):
        status, said = inferred(hub, "colour", {**tensor, "data": data})
        (output,) = said["outputs"]
        assert (status, output["shape"]) == (200, [4, 3]) and np.ravel(native).tolist() == output["data"]
    raw = PICTURES.tobytes()
    status, said = inferred(hub, "colour", {**tensor, "parameters": {"binary_data_size": len(raw)}}, binary=raw)
    assert status == 200 and said["outputs"][0]["data"] == np.ravel(native).tolist()
    for form in (
        {"instances": PICTURES.tolist()},
        {"inputs": PICTURES.tolist()},
        {"instances": records},
        {"inputs": {"image": PICTURES.tolist()}},
        {"dataframe_records": records},
        {"dataframe_split": {"columns": ["image"], "data": [[one.tolist()] for one in PICTURES]}},
    ):
        assert invoked(hub, "colour", form) == native, next(iter(form))
    out = io.BytesIO()
    np.save(out, PICTURES)
    assert invoked(hub, "colour", out.getvalue(), "application/x-npy") == native
    said = invoked(hub, "colour", out.getvalue(), "application/x-npy", accept="application/x-npy")
    assert np.load(io.BytesIO(said)).tolist() == native
    lines = b"\n".join(json.dumps(one).encode() for one in records)
    assert invoked(hub, "colour", lines, "application/jsonlines") == native


def test_a_large_tensor_lies_beside_the_log_once_and_a_small_one_in_its_event(hub: Hub) -> None:
    first, second = predicted(hub, "colour", *[{"image": packed(PICTURES[1])}] * 2)
    data = kept(hub, first["id"])
    said = data["features"]["image"]
    assert (said["datatype"], said["shape"], said["size"]) == ("FP32", [3, 32, 32], 3 * 32 * 32 * 4)
    assert Attachments(hub.folder / ".sampan" / "attachments").get(said["digest"]) == PICTURES[1].tobytes()
    assert kept(hub, second["id"])["features"]["image"] == said
    (small,) = predicted(hub, "steps", {"steps": [[1, 2], [3, 4.5]]})
    data = kept(hub, small["id"])
    assert data["features"] == {"steps": [[1, 2], [3, 4.5]]} and small["prediction"] == [[2, 4], [6, 9]]
    assert data["prediction"] == {"datatype": "FP32", "shape": [2, 2], "data": [2, 4, 6, 9]}
    many = np.ones((400, 2), np.float32)
    (large,) = predicted(hub, "steps", {"steps": packed(many)})
    data = kept(hub, large["id"])["prediction"]
    assert large["prediction"] == (2 * many).tolist() and "data" not in data
    assert Attachments(hub.folder / ".sampan" / "attachments").get(data["digest"]) == (2 * many).tobytes()


def test_an_id_of_ones_own_gives_the_same_answer_again(hub: Hub) -> None:
    for name, record, other in (
        ("colour", {"image": PICTURES[2].tolist()}, {"image": PICTURES[3].tolist()}),
        ("steps", {"steps": np.ones((400, 2)).tolist()}, {"steps": [[1, 2]]}),
        ("bright", {"file": {"base64": base64.b64encode(PNG).decode()}}, {"file": {"base64": "AAEC"}}),
    ):
        first = predicted(hub, name, record, ids=[f"{name}-1"])
        assert predicted(hub, name, record, ids=[f"{name}-1"]) == first
        status, said = hub.predict(name, json.dumps({"records": [other], "ids": [f"{name}-1"]}).encode())
        assert status == 409, said


@pytest.mark.slow
def test_an_id_of_ones_own_is_known_to_the_next_process(hub: Hub) -> None:
    asked = {
        "colour": {"image": packed(PICTURES[2])},
        "steps": {"steps": np.ones((400, 2)).tolist()},
        "bright": {"file": {"base64": base64.b64encode(PNG).decode()}},
        "ruled": {"image": packed(PICTURES[0]), "customer": "ann"},
    }
    first = {name: predicted(hub, name, record, ids=["kept-1"]) for name, record in asked.items()}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if b"sampan.api.entrance" in path.read_bytes() and (path.parent / "cwd").readlink() == hub.folder:
                os.kill(int(path.parent.name), signal.SIGKILL)
    for name, record in asked.items():
        assert predicted(hub, name, record, ids=["kept-1"]) == first[name], name
    other = {"image": packed(PICTURES[1]), "customer": "ann"}
    assert hub.predict("ruled", json.dumps({"records": [other], "ids": ["kept-1"]}).encode())[0] == 409


def test_rules_read_tensors_and_what_comes_beside_them(hub: Hub) -> None:
    expected = f"(3, 32, 32) {PICTURES[0].mean():.3f} main"
    tensors = [
        {"name": "image", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": PICTURES[0].ravel().tolist()},
        {"name": "customer", "shape": [1], "datatype": "BYTES", "data": ["ann"]},
        {"name": "shop", "shape": [1], "datatype": "BYTES", "data": ["main"]},
    ]
    status, said = inferred(hub, "ruled", *tensors)
    found = {one["name"]: one["data"] for one in said["outputs"]}
    assert status == 200 and found["rule"] == [expected]
    data = kept(hub, found["id"][0])
    assert (data["entity"], data["context"]) == ("ann", {"shop": "main"}) and "digest" in data["features"]["image"]
    done = sampan(hub.folder, "lineage", found["id"][0], "--recompute", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["now"]["rule"] == expected, done.stderr
    status, said = inferred(hub, "ruled", tensors[0])
    assert status == 400 and "field 'customer' is missing" in said["error"]


@pytest.mark.slow
def test_a_picture_and_a_file_are_looked_up_by_their_keys(hub: Hub) -> None:
    done = sampan(hub.folder, "run")
    assert done.returncode == 0, done.stderr
    (one,) = predicted(hub, "ruled", {"customer": "bea"})
    picture = np.stack([np.full((32, 32), colour / 4, np.float32) for colour in range(3)])
    assert np.allclose(list(one["prediction"].values()), made.expected_of([picture])[0])
    data = kept(hub, one["id"])
    assert data["looked_up"].startswith("pictures ")
    store = Attachments(hub.folder / ".sampan" / "attachments")
    assert store.get(data["features"]["image"]["digest"]) == picture.tobytes()
    blobs = Blobs(hub.folder / ".sampan" / "blobs")
    opened = open_bundle(decode(blobs.get(data["bundle"])), blobs)
    candidate = Answerer("ruled", opened, SystemClock(), hub.folder / ".sampan")
    for unseen in (False, True):  # a candidate that looks it up itself names it as its champion would
        named = Named({"customer": "bea"}, SystemClock().micros(), live=True)
        (said,) = read_verdicts(msgspec.msgpack.encode(weigh(candidate, [named], unseen)))
        assert said.record == {"customer": "bea", **data["features"]} and said.looked_up == data["looked_up"]
        assert {at: one for at, (one, _) in (said.blobs or {}).items()} == {
            data["features"]["image"]["digest"]: picture.tobytes()
        }
    (one,) = predicted(hub, "keyed", {"id": 2})
    assert one["prediction"] == 98 and kept(hub, one["id"])["features"] == {"file": {"base64": "YWJj"}}


def test_a_bundle_that_takes_tensors_can_be_taken_elsewhere(hub: Hub, tmp_path: Path) -> None:
    from sampan.serve.exported import open_exported
    from sampan.serve.faces import INVOCATIONS, unpack

    for name, body in (("steps", b'{"inputs": [[[1, 2]]]}'), ("bright", b'{"inputs": ["AAEC"]}')):
        done = sampan(hub.folder, "bundle", "export", str(tmp_path / name), name)
        assert done.returncode == 0, done.stderr
        answerer = open_exported(tmp_path / name)
        asked = answerer.read(body, INVOCATIONS, {"content-type": "application/json"})
        status, said = answerer.say(asked, answerer.decide(asked, answerer.predict(asked.records)).answers)
        assert status == 200 and json.loads(unpack(said)[1])["predictions"] == invoked(hub, name, body)


def test_a_case_of_a_suite_holds_no_picture(hub: Hub) -> None:
    (one,) = predicted(hub, "colour", {"image": packed(PICTURES[0])})
    done = sampan(hub.folder, "model", "case", one["id"], "--expect", "class red", "--reason", "it is")
    assert done.returncode == 2 and "no plain value" in done.stderr and "in the shadow" in done.stderr, done.stderr


def test_texts_and_several_tensors_go_through_the_open_inference_protocol(hub: Hub) -> None:
    word = {"name": "word", "shape": [3], "datatype": "BYTES", "data": ["gut", "übel", "so"]}
    status, said = inferred(hub, "word", word)
    assert (status, said["outputs"][0]) == (
        200,
        {"name": "prediction", "datatype": "BYTES", "shape": [3], "data": ["up", "down", "?"]},
    )
    coded = [base64.b64encode("übel".encode()).decode()]
    status, said = inferred(
        hub, "word", {**word, "shape": [1], "data": coded, "parameters": {"content_type": "base64"}}
    )
    assert said["outputs"][0]["data"] == ["down"]
    tokens = {"name": "tokens", "shape": [2, 3], "datatype": "INT64", "data": [1, 2, 3, 4, 5, 6]}
    mask = {"name": "mask", "shape": [2, 3], "datatype": "FP32", "data": [[1, 1, 1], [0, 0, 1]]}
    status, said = inferred(hub, "attended", tokens, mask)
    assert said["outputs"][0]["data"] == [6, 6]
    steps = {"name": "steps", "shape": [1, 2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
    status, said = inferred(hub, "steps", steps)
    assert said["outputs"] == [{"name": "prediction", "datatype": "FP32", "shape": [1, 2, 2], "data": [2, 4, 6, 8]}]
    assert invoked(hub, "steps", {"inputs": {"steps": [[[1, 2], [3, 4]]]}}) == [[[2, 4], [6, 8]]]
    assert invoked(hub, "word", {"instances": [["gut"], ["so"]]}) == ["up", "?"]


def test_metadata_says_datatypes_and_shapes(hub: Hub) -> None:
    described = {name: hub.json(f"/v2/models/{name}") for name in MODELS}
    assert described["colour"]["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 32, 32]}]
    assert described["colour"]["outputs"] == [{"name": "probabilities", "datatype": "FP64", "shape": [-1, 3]}]
    assert described["steps"]["outputs"] == [{"name": "prediction", "datatype": "FP32", "shape": [-1, -1, 2]}]
    assert [one["datatype"] for one in described["attended"]["inputs"]] == ["INT64", "FP32"]
    assert described["word"]["inputs"] == [{"name": "word", "datatype": "BYTES", "shape": [-1]}]
    assert described["word"]["outputs"] == [{"name": "prediction", "datatype": "BYTES", "shape": [-1]}]
    assert described["bright"]["inputs"] == [{"name": "file", "datatype": "BYTES", "shape": [-1]}]


def test_bytes_come_as_they_are_as_base64_or_behind_their_length(hub: Hub) -> None:
    mean = [float(np.frombuffer(PNG, np.uint8).astype(np.float32).mean())]
    coded = base64.b64encode(PNG).decode()
    for type in ("application/octet-stream", "application/x-image", "image/png", "image/jpeg; q=1"):
        assert invoked(hub, "bright", PNG, type) == pytest.approx(mean)
    for form in ({"inputs": [coded]}, {"instances": [{"b64": coded}]}, {"dataframe_records": [{"file": coded}]}):
        assert invoked(hub, "bright", form) == pytest.approx(mean)
    (one,) = predicted(hub, "bright", {"file": {"base64": coded}})
    said = kept(hub, one["id"])["features"]["file"]
    assert (said["media_type"], said["size"]) == ("image/png", len(PNG))
    response, picture = hub.ask("GET", f"/v1/blobs/{said['digest']}?show=image")
    assert response.headers["content-type"] == "image/png" and picture == PNG
    tensor = {"name": "file", "shape": [2], "datatype": "BYTES"}
    raw = struct.pack("<I", len(PNG)) + PNG + struct.pack("<I", 2) + b"\xff\xff"
    status, answer = inferred(hub, "bright", {**tensor, "parameters": {"binary_data_size": len(raw)}}, binary=raw)
    assert (status, answer["outputs"][0]["data"]) == (200, pytest.approx([mean[0], 255]))
    status, answer = inferred(
        hub, "bright", {**tensor, "data": [coded, "//8="], "parameters": {"content_type": "base64"}}
    )
    assert (status, answer["outputs"][0]["data"]) == (200, pytest.approx([mean[0], 255]))
    status, answer = inferred(hub, "bright", {**tensor, "data": ["ab", "c"]})
    assert answer["outputs"][0]["data"] == [97.5, 99]


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        (
            "colour",
            {"shape": [1, 3, 32], "datatype": "FP32", "data": [0] * 96},
            "expected a tensor FP32 of the shape [3, 32, 32], got the shape [3, 32]",
        ),
        ("colour", {"shape": [1, 3, 8, 8], "datatype": "FP32", "data": [0] * 192}, "got the shape [3, 8, 8]"),
        (
            "steps",
            {"shape": [1, 1, 2], "datatype": "FP64", "data": [0, 0]},
            "expected FP32 of the shape [-1, -1, 2], got FP64",
        ),
        (
            "steps",
            {"shape": [1, 2, 2], "datatype": "FP32", "data": [[[0, 0], [0]]]},
            "its lists do not have the shape [1, 2, 2]",
        ),
        (
            "steps",
            {"shape": [1, 2, 2], "datatype": "FP32", "data": [[[0, 0]]]},
            "lists of the shape [1, 1, 2], expected [1, 2, 2]",
        ),
        (
            "steps",
            {"shape": [1, 2, 2], "datatype": "FP32", "data": [0, 0]},
            "its shape [1, 2, 2] has 4 elements, its data 2",
        ),
        ("steps", {"shape": [1, 1, 2], "datatype": "FP32", "data": [0, None]}, "an element that is NaN, at [0, 1]"),
        ("steps", {"shape": [1, 0, 2], "datatype": "FP32", "data": []}, "which holds nothing"),
        (
            "bright",
            {"shape": [1], "datatype": "BYTES", "data": ["*"], "parameters": {"content_type": "base64"}},
            "an element is not base64",
        ),
        ("bright", {"shape": [1], "datatype": "FP32", "data": [0]}, "expected BYTES of the shape [-1], got FP32"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_by_name(hub: Hub, name: str, tensor: Any, said: str) -> None:
    field = {"colour": "image", "steps": "steps", "bright": "file"}[name]
    status, answer = inferred(hub, name, {"name": field, **tensor})
    assert status == 400 and said in answer["error"] and f"'{field}'" in answer["error"], answer


@pytest.mark.parametrize(
    ("name", "body", "type", "said"),
    [
        ("colour", b"x", "image/png", "the model does not take bytes alone: image (tensor)"),
        ("colour", b"x", "application/x-npy", "no array in NumPy's format"),
        ("colour", b"x", "text/html", "the body is 'text/html'"),
        ("bright", b"", "application/octet-stream", "got none at all"),
        ("bright", b'{"inputs": ["*"]}', "application/json", "not base64"),
        ("steps", b'{"inputs": {"steps": [[[1, 2], [3]]]}}', "application/json", "lists of different lengths"),
        ("steps", b'{"instances": [1]}', "application/json", "got 1"),
    ],
)
def test_a_body_that_does_not_fit_is_refused(hub: Hub, name: str, body: bytes, type: str, said: str) -> None:
    response, answer = hub.ask("POST", f"/invocations/{name}", body, content_type=type)
    assert response.status == 400 and said in json.loads(answer)["message"], answer


def test_an_input_of_another_name_is_told_the_right_one(hub: Hub) -> None:
    tensor = {"name": "picture", "shape": [1, 1, 1], "datatype": "FP32", "data": [0]}
    status, said = inferred(hub, "colour", tensor)
    assert status == 400 and "'picture' of the shape [1, 1, 1] is none of the model's" in said["error"]
    assert "It takes image: FP32 [-1, 3, 32, 32]." in said["error"]


def test_an_array_of_another_type_is_refused(hub: Hub) -> None:
    out = io.BytesIO()
    np.save(out, PICTURES.astype(np.float64))
    response, answer = hub.ask("POST", "/invocations/colour", out.getvalue(), content_type="application/x-npy")
    assert (
        response.status == 400
        and "FP32 of the shape [3, 32, 32], got an array of float64" in json.loads(answer)["message"]
    )


def test_where_the_model_fails_on_what_fits_its_fallback_answers_and_a_misfit_is_the_clients(hub: Hub) -> None:
    one, other = predicted(hub, "spoken", {"tokens": [0, 2]}, {"tokens": [1]})
    assert (one["prediction"], other["prediction"]) == (5, 2) and "fallback" not in one
    (failed,) = predicted(hub, "spoken", {"tokens": [7]})
    assert failed["prediction"] == 0.5 and "the model failed on tokens [1]" in failed["fallback"]
    assert "the model failed" in kept(hub, failed["id"])["fallback"]
    record = {"tokens": [3, 4, 5], "mask": [1, 0]}
    status, said = hub.predict("attended", json.dumps({"records": [record]}).encode())
    assert status == 400 and b"t is 3 in tokens and 2 in mask" in said, said


def test_a_past_prediction_can_be_made_once_more(hub: Hub) -> None:
    for name, record in (("colour", {"image": packed(PICTURES[0])}), ("steps", {"steps": np.ones((400, 2)).tolist()})):
        (one,) = predicted(hub, name, record)
        done = sampan(hub.folder, "lineage", one["id"], "--recompute", "--json")
        assert done.returncode == 0, done.stderr
        again = json.loads(done.stdout)
        assert again["differs"] == [] and not again["error"], again


@pytest.mark.slow
def test_a_candidate_sees_pictures_in_the_shadow(hub: Hub) -> None:
    (hub.folder / "other.onnx").write_bytes(made.images("any"))
    words = ("--classes", "red,green,blue", "--register-only", "--json")
    done = sampan(hub.folder, "endpoint", "adopt", "colour", str(hub.folder / "other.onnx"), *words)
    assert done.returncode == 0, done.stderr
    (hub.folder / "rollouts.toml").write_text(PLAN)
    done = sampan(hub.folder, "rollout", "start", "colour", "--model", "colour@2", "--reason", "any size")
    assert done.returncode == 0, done.stderr
    asked, end = 0, time.monotonic() + 60
    while not (told := sampan_rows(hub, "SELECT prediction, error FROM shadow")):
        assert time.monotonic() < end
        predicted(hub, "colour", {"image": packed(PICTURES[asked % 4])})
        asked += 1
    assert {one["error"] for one in told} == {""} and len(json.loads(told[0]["prediction"])) == 3
    id = hub.json("/rollouts")["rollouts"][0]["id"]
    compared = hub.json(f"/rollouts/{id}/shadow")["compared"]
    assert compared["apart"][2] < 1e-6 and compared["answered"] >= 1
    while (done := sampan(hub.folder, "rollout", "promote", "colour", "--reason", "seen")).returncode:
        assert "Wait for the first look" in done.stderr and time.monotonic() < end, done.stderr
        time.sleep(0.5)
    versions: dict[str, str] = {}
    while len(versions) < 2:
        assert time.monotonic() < end
        for one in predicted(hub, "colour", *[{"image": packed(PICTURES[0])}] * 8):
            versions[one["version"]] = one["id"]
            assert np.allclose(list(one["prediction"].values()), made.expected_of(PICTURES[:1])[0], atol=1e-6)
    features = [kept(hub, id)["features"] for id in versions.values()]
    assert features[0] == features[1] and features[0]["image"]["size"] == 12_288
    done = sampan(hub.folder, "rollout", "back", "colour", "--reason", "seen")
    assert done.returncode == 0, done.stderr


def sampan_rows(hub: Hub, text: str) -> list[dict[str, Any]]:
    done = sampan(hub.folder, "sql", text, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return [dict(zip([one["name"] for one in found["columns"]], row, strict=True)) for row in found["rows"]]


@pytest.mark.skipif(find_spec("tritonclient") is None, reason="no tritonclient: run `uv run just test-clients`")
@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_sends_pictures_texts_and_files(hub: Hub, binary: bool) -> None:
    from tritonclient import http

    headers = {"Authorization": f"Bearer {hub.token}"}
    client = http.InferenceServerClient(f"127.0.0.1:{hub.port_of('colour')}")
    metadata = client.get_model_metadata("colour", headers=headers)
    assert metadata["inputs"][0]["shape"] == [-1, 3, 32, 32]
    image = http.InferInput("image", PICTURES.shape, "FP32")
    image.set_data_from_numpy(PICTURES, binary_data=binary)
    wanted = [http.InferRequestedOutput("probabilities", binary_data=binary)]
    found = client.infer("colour", [image], outputs=wanted, headers=headers).as_numpy("probabilities")
    assert np.allclose(found, made.expected_of(PICTURES), atol=1e-6)
    client = http.InferenceServerClient(f"127.0.0.1:{hub.port}")
    word = http.InferInput("word", [2], "BYTES")
    word.set_data_from_numpy(np.array(["gut", "übel"], object), binary_data=binary)
    texts = client.infer("word", [word], headers=headers).as_numpy("prediction").tolist()
    assert [one if isinstance(one, str) else one.decode() for one in texts] == ["up", "down"]
    steps = http.InferInput("steps", [1, 2, 2], "FP32")
    steps.set_data_from_numpy(np.ones((1, 2, 2), np.float32), binary_data=binary)
    wanted = [http.InferRequestedOutput("prediction", binary_data=binary)]
    assert client.infer("steps", [steps], outputs=wanted, headers=headers).as_numpy("prediction").tolist() == [
        [[2, 2], [2, 2]]
    ]
    if binary:
        file = http.InferInput("file", [1], "BYTES")
        file.set_data_from_numpy(np.array([PNG], object))
        found = client.infer("bright", [file], headers=headers).as_numpy("prediction")
        assert found.tolist() == pytest.approx([np.frombuffer(PNG, np.uint8).mean()])
    with pytest.raises(Exception, match=r"expected FP32 of the shape \[-1, -1, 2\], got FP64"):
        wrong = http.InferInput("steps", [1, 2, 2], "FP64")
        wrong.set_data_from_numpy(np.ones((1, 2, 2)), binary_data=binary)
        client.infer("steps", [wrong], headers=headers)


@pytest.mark.skipif(find_spec("kserve") is None, reason="no kserve: run `uv run just test-clients`")
@pytest.mark.parametrize("binary", [True, False])
def test_kserves_client_sends_pictures_and_texts(hub: Hub, binary: bool) -> None:
    from kserve import InferenceRESTClient, InferInput, InferRequest
    from kserve.inference_client import RESTConfig

    url, headers = f"http://127.0.0.1:{hub.port}", {"Authorization": f"Bearer {hub.token}"}

    async def asked(name: str, field: str, array: Any, datatype: str) -> Any:
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        sent = InferInput(field, list(array.shape), datatype)
        sent.set_data_from_numpy(array, binary_data=binary)
        try:
            request = InferRequest(name, [sent])
            return (await client.infer(url, request, model_name=name, headers=dict(headers))).outputs[0].as_numpy()
        finally:
            await client.close()

    found = asyncio.run(asked("colour", "image", PICTURES, "FP32"))
    assert np.allclose(found, made.expected_of(PICTURES), atol=1e-6)
    texts = asyncio.run(asked("word", "word", np.array(["gut", "übel"], object), "BYTES")).tolist()
    assert [one if isinstance(one, str) else one.decode() for one in texts] == ["up", "down"]


def test_pages_show_what_is_taken_how_it_is_asked_and_what_was_sent(hub: Hub) -> None:
    page = hub.json("/endpoints/colour")
    assert page["takes"] == {"image": "FP32, 3 × 32 × 32"}
    assert page["example"] == '{"records": [{"image": {"datatype": "FP32", "shape": [3, 32, 32], "base64": "…"}}]}'
    assert hub.json("/endpoints/bright")["example"] == '{"records": [{"file": {"base64": "…"}}]}'
    (one,) = predicted(hub, "bright", {"file": {"base64": base64.b64encode(PNG).decode()}})
    (line,) = hub.json(f"/predictions/{one['id']}")["attached"]
    assert (line["field"], line["media_type"], line["picture"], line["there"]) == ("file", "image/png", True, True)
    _, text = hub.ask("GET", f"/predictions/{one['id']}", accept="text/html")
    assert b"image/png, 2,056 bytes" in text and f"/v1/blobs/{line['digest']}?show=image".encode() in text
    (one,) = predicted(hub, "colour", {"image": packed(PICTURES[0])})
    _, text = hub.ask("GET", f"/predictions/{one['id']}", accept="text/html")
    assert b"FP32 [3, 32, 32], 12,288 bytes" in text
    _, text = hub.ask("GET", "/models/colour/1", accept="text/html")
    assert b"FP32 [3, 32, 32]; -1 is any size" in text
    events = hub.json("/log?type=prediction")["events"]
    assert hub.json(f"/log/{events[0]['position']}")["attached"][0]["media_type"] == "FP32 [3, 32, 32], little endian"


@pytest.mark.slow
def test_tables_of_lists_and_bytes_are_scored(hub: Hub) -> None:
    done = sampan(hub.folder, "run")
    assert done.returncode == 0, done.stderr
    done = sampan(hub.folder, "score", "steps", "sequences", "--out", "doubled", "--keep", "id")
    assert done.returncode == 0, done.stderr
    rows = sampan_rows(hub, "SELECT id, prediction::VARCHAR AS said FROM doubled ORDER BY id")
    assert [(one["id"], json.loads(one["said"])) for one in rows] == [(1, [[2, 4], [6, 9]]), (2, [[1, 14]])]
    done = sampan(hub.folder, "score", "bright", "files", "--json")
    assert done.returncode == 0, done.stderr
    expected = predicted(hub, "bright", {"file": {"base64": "AQI="}}, {"file": {"base64": "YWJj"}})
    from sampan.serve.score import Tally

    tally = Tally()
    tally.add(expected)
    assert json.loads(done.stdout)["digest"] == tally.digest
    for table, said in (
        ("files", "it has no column 'steps'"),
        ("wrong", "row 1: field 'steps': expected a tensor FP32"),
    ):
        done = sampan(hub.folder, "score", "steps", table)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    (hub.folder / "in.csv").write_text('steps\n"[[1, 2]]"\nx\n')
    done = sampan(hub.folder, "score", "steps", str(hub.folder / "in.csv"))
    assert done.returncode == 2 and "row 2: field 'steps'" in done.stderr, done.stderr
