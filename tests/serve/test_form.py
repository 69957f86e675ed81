"""The ONNX form of a version answers in its place where it was verified, and the answer says so."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pandas as pd
import pytest
from onnx import TensorProto, helper
from serving_shop import FEATURES, Shop, body, record, told

from sampan.flow.declare import Fitted
from sampan.models.formats import freeze
from sampan.models.onnx_form import _same_with_nulls
from sampan.models.version import OnnxFile
from sampan.serve.bundle import decode
from sampan.serve.exported import laid_out


def constant(value: float, width: int = 3) -> bytes:
    """A model of ONNX's operators that says the same of everything: it cannot be taken for another."""
    nodes = [
        helper.make_node("Equal", ["x", "x"], ["there"]),
        helper.make_node("Cast", ["there"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers", "axes"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "value"], ["probabilities"]),
    ]
    facts = [
        helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("value", TensorProto.FLOAT, [1], [value]),
    ]
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])
    given = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph(nodes, "m", [taken], [given], facts)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8).SerializeToString()


def registered(shop: Shop, fitted: Fitted, **form: Any) -> str:
    """A version whose form says 0.875 of everything, which no comparison would have let through."""
    draft = freeze(fitted, "binary", shop.blobs)
    made = OnnxFile(shop.blobs.put(constant(0.875)), 0.0, 300, **{"nulls": True, **form})
    draft = msgspec.structs.replace(draft, onnx=made, digest=draft.digest)
    ref: str = shop.models.register(draft, "reorder").ref
    return ref


def asked(shop: Shop) -> dict[str, Any]:
    async def once() -> dict[str, Any]:
        async with shop.serving("reorder") as serving:
            answer = await serving.predict("reorder", body(record()))
            assert answer.status == 200, answer.body
            (one,) = told(answer)["predictions"]
            return dict(one)

    return asyncio.run(once())


def test_the_form_answers_and_answer_and_event_say_so(shop: Shop, fitted: Callable[[int], Fitted]) -> None:
    shop.deploy(registered(shop, fitted(9)))
    one = asked(shop)
    assert (one["prediction"], one["form"], one["action"]) == (0.875, "onnx", "reserve")
    (event,) = shop.predictions()
    assert json.loads(event.data)["form"] == "onnx" and json.loads(event.data)["prediction"] == 0.875
    bundle = decode(shop.blobs.get(shop.endpoints.get("reorder").bundle))
    assert "model/form.onnx" in dict(laid_out(bundle))


@pytest.mark.parametrize(
    ("settings", "form"),
    [({"serve_onnx": "no"}, {}), ({}, {"nulls": False}), ({}, {"digest": ""})],
    ids=["by the settings", "not compared where an input is null", "not kept"],
)
def test_else_the_model_itself_answers(
    make_shop: Callable[..., Shop], fitted: Callable[[int], Fitted], settings: dict[str, Any], form: dict[str, Any]
) -> None:
    shop = make_shop(**settings)
    given = fitted(9)
    draft = freeze(given, "binary", shop.blobs)
    made = msgspec.structs.replace(OnnxFile(shop.blobs.put(constant(0.875)), 0.0, 300, nulls=True), **form)
    shop.deploy(shop.models.register(msgspec.structs.replace(draft, onnx=made), "reorder").ref)
    one = asked(shop)
    expected = given.estimator.predict_proba(pd.DataFrame([record()])[FEATURES])[0, 1]
    assert one["prediction"] == pytest.approx(expected) and "form" not in one


def test_a_form_that_answers_otherwise_where_an_input_is_null_is_known(
    shop: Shop, fitted: Callable[[int], Fitted]
) -> None:
    from sampan.models.formats import load
    from sampan.models.onnx_form import load_onnx

    version = shop.models.get(registered(shop, fitted(9)))
    own, form = load(version, shop.blobs), load_onnx(version, shop.blobs)
    records = [dict.fromkeys(FEATURES, 0.5)]
    assert _same_with_nulls(own, own, records) and _same_with_nulls(form, form, records)
    assert not _same_with_nulls(own, form, records)
