"""The same records in every protocol's words come to the same predictions, and each says what it cannot take."""

import json
import struct
from urllib.parse import unquote

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_shop import FEATURES, body, record

from sampan.base.clock import ManualClock
from sampan.base.errors import NotFound, SampanError, Usage
from sampan.models.formats import load
from sampan.models.version import Signature
from sampan.serve.answer import Answerer
from sampan.serve.bundle import OpenBundle, facts_of
from sampan.serve.decisions import Action, decision, review
from sampan.serve.faces import INFERENCE, INVOCATIONS, NATIVE, Said, face, unpack
from sampan.serve.inference import LENGTH, VERSION, metadata
from sampan.serve.saying import in_headers
from sampan.serve.tensors import Tensor, read_tensors, write_tensor

RECORDS = [record(), record(orders=-2, recency=1, spend=3.5, customer_id="c-2"), record(orders=7, customer_id=None)]
ROWS = [[one[name] for name in FEATURES] for one in RECORDS]
CSV = {"content-type": "text/csv; charset=utf-8"}
LINES = {"content-type": "application/jsonlines"}


def decided(prediction, context):
    return Action("reserve" if prediction > 0.5 else "wait", rule="by half")


@pytest.fixture
def ruled(shop):
    """With a decision that wants to know whom it is about."""
    return make(shop, decision(model="reorder", entity="customer_id")(decided))


@pytest.fixture
def bare(shop):
    """Without a decision."""
    return make(shop, None)


def make(shop, rules):
    bundle = shop.endpoints.bundle(shop.endpoints.get("reorder").bundle)
    bundle = msgspec.structs.replace(bundle, decision=rules and facts_of(rules))
    return Answerer("reorder", OpenBundle(bundle, load(bundle.model, shop.blobs), rules), ManualClock(0))


def ask(answerer, number, sent, **headers):
    """Status, headers and body of an answer."""
    sent = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = answerer.read(sent, number, given)
    answered = answerer.decide(asked, answerer.predict(asked.records))
    status, said = answerer.say(asked, answered.answers)
    return (status, *((unpack(said)) if number != NATIVE else ({}, said)))


def native(answerer, records=RECORDS):
    answers = json.loads(ask(answerer, NATIVE, body(*records))[2])["predictions"]
    return [one["prediction"] for one in answers], [one["action"] for one in answers]


def column(name):
    return [None if one[name] is None else str(one[name]) for one in RECORDS]


def csv_of(header=True):
    names = [*FEATURES, "customer_id"]
    cells = [",".join("" if one[name] is None else str(one[name]) for name in names) for one in RECORDS]
    return "\n".join([",".join(names)] * header + cells).encode()


FORMS = [
    {"dataframe_records": RECORDS},
    {
        "dataframe_split": {
            "columns": list(RECORDS[0]),
            "data": [list(one.values()) for one in RECORDS],
            "index": [1, 2, 3],
        }
    },
    {"instances": RECORDS},
    {"inputs": {name: [one[name] for one in RECORDS] for name in RECORDS[0]}},
    {"inputs": RECORDS, "params": None, "signature_name": "serving_default"},
]


@pytest.mark.parametrize("sent", FORMS, ids=lambda form: "+".join(form))
def test_every_form_of_invocations_comes_to_the_same(ruled, sent):
    predictions, actions = native(ruled)
    status, headers, said = ask(ruled, INVOCATIONS, sent, content_type="application/json")
    found = json.loads(said)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert found["predictions"] == predictions
    assert [one["action"] for one in found["decisions"]] == actions
    assert {one["rule"] for one in found["decisions"]} == {"by half"} and all(one["id"] for one in found["decisions"])


def test_invocations_take_lines_and_csv_with_and_without_a_header(ruled, bare):
    predictions, _ = native(ruled)
    lines = b"\n".join(json.dumps(one).encode() for one in RECORDS) + b"\n"
    assert json.loads(ask(ruled, INVOCATIONS, lines, **LINES)[2])["predictions"] == predictions
    assert json.loads(ask(ruled, INVOCATIONS, csv_of(), **CSV)[2])["predictions"] == predictions
    rows = "\r\n".join(",".join(map(str, row)) for row in ROWS).encode()
    assert json.loads(ask(bare, INVOCATIONS, rows, **CSV)[2]) == {"predictions": predictions}


def test_rows_without_names_are_in_the_order_of_the_models_inputs(bare):
    predictions, _ = native(bare)
    for sent in ({"instances": ROWS}, {"inputs": ROWS}, {"instances": [{"features": row} for row in ROWS]}):
        assert json.loads(ask(bare, INVOCATIONS, sent)[2])["predictions"] == predictions


def test_invocations_answer_in_the_form_that_is_asked_for(ruled):
    predictions, _ = native(ruled)
    _, headers, said = ask(ruled, INVOCATIONS, FORMS[0], accept="text/csv, */*;q=0.1")
    assert headers["content-type"] == "text/csv"
    assert [float(line) for line in said.decode().splitlines()] == predictions
    _, headers, said = ask(ruled, INVOCATIONS, FORMS[0], accept="application/jsonlines")
    assert [json.loads(line) for line in said.splitlines()] == predictions
    _, headers, _ = ask(ruled, INVOCATIONS, FORMS[0], accept="*/*")
    assert headers["content-type"] == "application/json"


def test_every_form_of_invocations_says_in_headers_what_predict_says(ruled):
    for accept in ("text/csv", "application/jsonlines", "application/json"):
        _, headers, _ = ask(ruled, INVOCATIONS, FORMS[0], accept=accept)
        assert headers["sampan-rule"] == "by half" and headers["sampan-version"] == "reorder@1"
        assert headers["sampan-action"] == ", ".join(dict.fromkeys(native(ruled)[1]))
        assert len(headers["sampan-id"].split(", ")) == len(RECORDS)


def test_a_header_holds_any_text_and_no_endless_list():
    one = {
        "rule": "zu groß, zu teuer\r\nX: y",
        "fallback": "",
        "review": {"due": "2026-03-02T16:00:00Z", "choices": []},
    }
    headers = in_headers([one])
    assert headers == {
        "sampan-rule": "zu gro%C3%9F%2C zu teuer%0D%0AX: y",
        "sampan-review": "2026-03-02T16:00:00Z",
    }
    assert unquote(headers["sampan-rule"]) == one["rule"]
    assert len(in_headers([{"rule": "x" * 5_000}])["sampan-rule"]) == 200
    assert in_headers([{"id": str(n), "rule": "a"} for n in range(21)]) == {"sampan-rule": "a"}


@pytest.mark.parametrize("number", [INVOCATIONS, INFERENCE])
def test_a_case_for_people_and_a_fallback_are_told_in_every_protocols_words(shop, number):
    def careful(prediction, context):
        return review("wait", rule="too much for a rule alone", hours=4, choices=("reserve", "wait"))

    answerer = make(shop, decision(model="reorder", entity="customer_id")(careful))
    sent = (
        FORMS[0] if number == INVOCATIONS else {"inputs": columns(), "outputs": [{"name": "review"}, {"name": "form"}]}
    )
    asked = answerer.read(json.dumps(sent).encode(), number, {})
    verdicts = answerer.judge(asked.records, answerer.predict(asked.records))
    verdicts[1] = msgspec.structs.replace(verdicts[1], fallback="the model raised", form="onnx")
    headers, said = unpack(answerer.say(asked, answerer.tell(asked, verdicts, counted=False).answers)[1])
    found = json.loads(said)
    if number == INVOCATIONS:
        told = {name.removeprefix("sampan-"): value for name, value in headers.items()}
        first, second, _ = found["decisions"]
        assert first["review"] == {"due": told["review"], "choices": ["reserve", "wait"]} and "fallback" not in first
        assert (second["fallback"], second["form"], second["version"]) == ("the model raised", "onnx", "reorder@1")
    else:
        told = found["parameters"]
        assert outputs(said) == {"review": [told["review"]] * 3, "form": ["", "onnx", ""]}
    assert (told["rule"], told["fallback"], told["form"]) == ("too much for a rule alone", "the model raised", "onnx")
    assert told["version"] == "reorder@1" and told["review"].startswith("1970-01-01T04:00:00")


def test_inference_says_in_parameters_what_predict_says(ruled, bare):
    told = json.loads(ask(ruled, INFERENCE, {"inputs": columns()})[2])["parameters"]
    assert told["rule"] == "by half" and told["version"] == "reorder@1" and len(told["id"].split(", ")) == 3
    assert all(isinstance(value, str) for value in told.values()), "the protocol has texts, numbers and booleans"
    told = json.loads(ask(bare, INFERENCE, {"inputs": columns()[:3]})[2])["parameters"]
    assert set(told) == {"id", "version", "bundle"}


WRONG = [
    (b"{", {}, "the body is not JSON"),
    ([1], {}, "it has none of the forms"),
    ({"records": []}, {}, "it has none of the forms"),
    ({"instances": [], "inputs": []}, {}, "it has instances, inputs"),
    ({"instances": [], "extra": 1}, {}, "unknown field 'extra' beside instances"),
    ({"instances": [], "params": {"t": 1}}, {}, "params were given"),
    ({"instances": "x"}, {}, 'instances: expected a list, got "x"'),
    ({"instances": []}, {}, "the list of records is empty"),
    ({"instances": [[1, 2]]}, {}, "a row of 2 values; the model takes 3"),
    ({"dataframe_split": {"columns": ["orders"]}}, {}, "columns or data is missing"),
    ({"dataframe_split": {"columns": ["a"], "data": [[1], [1, 2]]}}, {}, "row 1: expected 1 values, got [1,2]"),
    ({"inputs": {"orders": [1], "spend": [1, 2]}}, {}, "columns of different lengths (orders: 1, spend: 2)"),
    ({"dataframe_records": [{"orders": "many"}]}, {}, "field 'customer_id' is missing"),
    ({"dataframe_records": [record(orders="many")]}, {}, "field 'orders': expected a number or null"),
    (b"1,2", CSV, "row 0: 2 values, expected 3"),
    (b'1,"2', CSV, "the body is not CSV"),
    (b"\xff\xfe", CSV, "the body is not CSV"),
    (b"<x/>", {"content-type": "application/xml"}, "the body is 'application/xml'"),
]


@pytest.mark.parametrize(("sent", "headers", "said"), WRONG)
def test_what_invocations_cannot_take_is_told(ruled, sent, headers, said):
    with pytest.raises(Usage) as caught:
        ask(ruled, INVOCATIONS, sent, **{name.replace("-", "_"): value for name, value in headers.items()})
    assert said in caught.value.obstacle
    refused, _ = face(INVOCATIONS).refuse(caught.value)
    assert json.loads(refused)["error_code"] == "BAD_REQUEST" and said in json.loads(refused)["message"]


def tensor(name, values, datatype="FP64", shape=None, **parameters):
    found = {"name": name, "shape": shape or [len(values)], "datatype": datatype, "data": values}
    return found | ({"parameters": parameters} if parameters else {})


def columns():
    numbers = [tensor(name, [float(one[name]) for one in RECORDS]) for name in FEATURES]
    return [*numbers, tensor("customer_id", column("customer_id"), "BYTES")]


def outputs(said):
    return {one["name"]: one.get("data") for one in json.loads(said)["outputs"]}


def test_a_tensor_for_each_input_comes_to_the_same(ruled):
    predictions, actions = native(ruled)
    status, headers, said = ask(ruled, INFERENCE, {"id": "r-1", "inputs": columns()})
    found = outputs(said)
    assert (status, headers) == (200, {"content-type": "application/json"})
    assert (found["prediction"], found["action"]) == (predictions, actions) and set(found["rule"]) == {"by half"}
    answer = json.loads(said)
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("reorder", "1", "r-1")
    upright = [{**one, "shape": [3, 1], "data": [[value] for value in one["data"]]} for one in columns()]
    assert outputs(ask(ruled, INFERENCE, {"inputs": upright})[2])["prediction"] == predictions


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_one_tensor_holds_the_inputs_in_the_models_order(bare, datatype):
    predictions, _ = native(bare)
    for data in (ROWS, [value for row in ROWS for value in row]):
        sent = {"inputs": [tensor("input-0", data, datatype, [3, 3])]}
        assert outputs(ask(bare, INFERENCE, sent)[2]) == {"prediction": predictions}


def test_tensors_come_and_go_as_bytes(ruled):
    predictions, actions = native(ruled)
    raw = [np.array([one[name] for one in RECORDS], "<f4").tobytes() for name in FEATURES]
    names = ["" if text is None else text for text in column("customer_id")]
    raw.append(b"".join(struct.pack("<I", len(text)) + text.encode() for text in names))
    inputs = [
        {"name": one["name"], "shape": [3], "datatype": kind, "parameters": {"binary_data_size": len(data)}}
        for one, kind, data in zip(columns(), ["FP32"] * 3 + ["BYTES"], raw, strict=True)
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    _, headers, said = ask(ruled, INFERENCE, head + b"".join(raw), **{LENGTH: str(len(head))})
    size = int(headers[LENGTH])
    assert headers["content-type"] == "application/octet-stream"
    found, rest = json.loads(said[:size])["outputs"], said[size:]
    assert [one["name"] for one in found] == ["prediction", "id", "action", "rule"]
    assert np.frombuffer(rest[: 8 * 3], "<f8").tolist() == predictions
    assert sum(one["parameters"]["binary_data_size"] for one in found) == len(rest)
    assert rest.count(b"reserve") == actions.count("reserve")


def test_only_the_outputs_that_are_asked_for_are_given(ruled):
    _, actions = native(ruled)
    wanted = [{"name": "action"}, {"name": "prediction", "parameters": {"binary_data": True}}]
    _, headers, said = ask(ruled, INFERENCE, {"inputs": columns(), "outputs": wanted})
    found = json.loads(said[: int(headers[LENGTH])])["outputs"]
    assert [one["name"] for one in found] == ["action", "prediction"] and found[0]["data"] == actions
    assert found[1]["parameters"] == {"binary_data_size": 24}


def test_another_version_than_the_one_that_is_served_is_not_found(ruled):
    assert ask(ruled, INFERENCE, {"inputs": columns()}, **{VERSION: "1"})[0] == 200
    with pytest.raises(NotFound, match="version '2' is not served"):
        ask(ruled, INFERENCE, {"inputs": columns()}, **{VERSION: "2"})


def test_metadata_names_what_is_taken_and_given(ruled, bare):
    found = metadata("shop", ruled._bundle)
    assert (found["name"], found["versions"], found["platform"]) == ("shop", ["1"], "sampan_lightgbm")
    assert [(one["name"], one["datatype"]) for one in found["inputs"]] == [
        *((name, "FP64") for name in FEATURES),
        ("customer_id", "BYTES"),
    ]
    assert [one["name"] for one in found["outputs"]] == ["prediction", "id", "action", "rule"]
    assert [one["name"] for one in metadata("shop", bare._bundle)["outputs"]] == ["prediction"]


UNFIT = [
    ([], {}, "the body is not an object"),
    ({}, {}, "expected a list of tensors"),
    ({"inputs": [{"shape": [1]}]}, {}, "it is no tensor with a name"),
    ({"inputs": [tensor("orders", [1.0], shape=[-1])]}, {}, "shape: expected a list of whole numbers"),
    ({"inputs": [tensor("orders", [1.0], "COMPLEX")]}, {}, "got 'COMPLEX'"),
    ({"inputs": [tensor("orders", [1.0, 2.0], shape=[1])]}, {}, "its shape [1] has 1 elements, its data 2"),
    ({"inputs": [tensor("orders", ["x"])]}, {}, "data: 'x' is not of FP64"),
    ({"inputs": [tensor("orders", [1.5], "INT64")]}, {}, "data: 1.5 is not of INT64"),
    ({"inputs": [tensor("orders", "x", shape=[1])]}, {}, "data: expected a list"),
    ({"inputs": [tensor("orders", [1.0]), tensor("spend", [1.0, 2.0])]}, {}, "first dimensions differ"),
    ({"inputs": [tensor("x", [[1.0, 2.0]], shape=[1, 2])]}, {}, "expected the shape [1] or [1, 1], got [1, 2]"),
    ({"inputs": [tensor("orders", [1.0], binary_data_size=8)]}, {}, "binary_data_size is 8, and 0 bytes are left"),
    ({"inputs": columns(), "outputs": [{"name": "x"}]}, {}, "there is no output 'x'"),
    ({"inputs": columns()[:3]}, {}, "field 'customer_id' is missing"),
    ({"inputs": columns()}, {LENGTH: "9999999"}, f"{LENGTH} is '9999999'"),
    ({"inputs": columns()}, {LENGTH: "-1"}, f"{LENGTH} is '-1'"),
]


@pytest.mark.parametrize(("sent", "headers", "said"), UNFIT)
def test_tensors_that_do_not_fit_are_told(ruled, sent, headers, said):
    with pytest.raises(SampanError) as caught:
        ask(ruled, INFERENCE, sent, **headers)
    assert caught.value.status == 400 and said in caught.value.obstacle
    assert said in json.loads(face(INFERENCE).refuse(caught.value)[0])["error"]


def test_bytes_that_no_tensor_accounts_for_are_refused():
    with pytest.raises(Usage, match="8 bytes follow the JSON, the tensors account for 0"):
        read_tensors([tensor("orders", [1.0])], b"12345678")
    beyond = struct.pack("<I", 9) + b"short"
    with pytest.raises(Usage, match="ends beyond its data"):
        read_tensors([{"name": "t", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 9}}], beyond)


def test_what_a_rule_fails_on_is_a_failure_in_every_protocols_words(shop):
    def broken(prediction, context):
        raise KeyError("tier")

    answerer = make(shop, decision(model="reorder", entity="customer_id")(broken))
    status, _, said = ask(answerer, INVOCATIONS, FORMS[0])
    assert status == 500 and "KeyError: 'tier'" in json.loads(said)["message"]
    status, _, said = ask(answerer, INFERENCE, {"inputs": columns()})
    assert status == 500 and "KeyError: 'tier'" in json.loads(said)["error"]


def test_probabilities_go_in_the_order_of_the_classes(bare):
    signature = Signature(inputs={"x": "number"}, output="probabilities", classes=("low", "high", "odd"))
    bundle = msgspec.structs.replace(
        bare._bundle, model=msgspec.structs.replace(bare._bundle.model, signature=signature)
    )
    answers = [{"prediction": {"low": 0.1, "high": 0.7, "odd": 0.2}}, {"prediction": {"low": 1.0, "high": 0, "odd": 0}}]
    said = Said([{**one, "version": bundle.version} for one in answers], bundle, None)
    assert json.loads(face(INVOCATIONS).write(said, None)[0])["predictions"] == [[0.1, 0.7, 0.2], [1.0, 0, 0]]
    assert face(INVOCATIONS).write(said, "text/csv")[0] == b"0.1,0.7,0.2\n1.0,0,0\n"
    wanted = face(INFERENCE).read(json.dumps({"inputs": [tensor("x", [1.0, 2.0])]}).encode(), {}, bundle).wanted
    (made,) = json.loads(face(INFERENCE).write(said, wanted)[0])["outputs"]
    assert (made["name"], made["shape"]) == ("probabilities", [2, 3]) and made["data"] == [0.1, 0.7, 0.2, 1.0, 0, 0]


ELEMENTS = {
    "BOOL": st.booleans(),
    "INT8": st.integers(-128, 127),
    "INT64": st.integers(-(1 << 63), (1 << 63) - 1),
    "UINT64": st.integers(0, (1 << 64) - 1),
    "FP32": st.floats(width=32, allow_nan=False),
    "FP64": st.floats(allow_nan=False),
    "BYTES": st.text(st.characters(exclude_categories=["Cs"])),
}


@given(st.sampled_from(sorted(ELEMENTS)).flatmap(lambda t: st.tuples(st.just(t), st.lists(ELEMENTS[t], max_size=20))))
def test_a_tensor_comes_back_as_it_went(drawn):
    datatype, values = drawn
    sent = Tensor("t", (len(values),), datatype, values)
    for binary in (False, True):
        head, data = write_tensor(sent, binary=binary)
        if not all(value in (float("inf"), float("-inf")) for value in values if isinstance(value, float)):
            head = json.loads(json.dumps(head))
        (got,) = read_tensors([head], data)
        assert (got.name, got.shape, got.datatype, got.listed) == sent
