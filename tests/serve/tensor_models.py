"""ONNX models of tensors and texts, made of a few operators."""

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, STRING, UINT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.UINT8
WEIGHTS = np.array([[2, -1, 0], [0, 1, -2], [-1, 0, 3]], np.float32)


def model(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], **constants: Any) -> bytes:
    """Inputs and outputs by name: (type, shape)."""
    given = [helper.make_tensor_value_info(name, *one) for name, one in inputs.items()]
    made = [helper.make_tensor_value_info(name, *one) for name, one in outputs.items()]
    known = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "m", given, made, known)
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)]
    data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return data


def images(side: int | str = 32, first: int | str = "n", softmax: bool = True) -> bytes:
    """Three classes of pictures [n, 3, side, side], by the means of their colours."""
    node = helper.make_node
    nodes = [node("GlobalAveragePool", ["image"], ["pooled"]), node("Flatten", ["pooled"], ["flat"])]
    nodes.append(node("MatMul", ["flat", "weights"], ["scores" if softmax else "out"]))
    if softmax:
        nodes.append(node("Softmax", ["scores"], ["out"], axis=1))
    sides = (side, side) if isinstance(side, int) else ("height", "width")
    return model(nodes, {"image": (FLOAT, [first, 3, *sides])}, {"out": (FLOAT, [first, 3])}, weights=WEIGHTS)


def expected_of(pictures: Any) -> Any:
    """What ``images`` says, made with NumPy."""
    scores = np.asarray(pictures, np.float32).mean(axis=(2, 3)) @ WEIGHTS
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def doubled() -> bytes:
    """Sequences [n, t, 2] to sequences of the same shape, twice as large."""
    nodes = [helper.make_node("Mul", ["steps", "two"], ["out"])]
    shape = (FLOAT, ["n", "t", 2])
    return model(nodes, {"steps": shape}, {"out": shape}, two=np.array([2], np.float32))


def attended() -> bytes:
    """Two inputs: the sum of tokens [n, t] where a mask [n, t] says 1."""
    node = helper.make_node
    nodes = [node("Cast", ["tokens"], ["numbers"], to=FLOAT), node("Mul", ["numbers", "mask"], ["kept"])]
    nodes.append(node("ReduceSum", ["kept", "axis"], ["out"], keepdims=1))
    inputs = {"tokens": (INT64, ["n", "t"]), "mask": (FLOAT, ["n", "t"])}
    return model(nodes, inputs, {"out": (FLOAT, ["n", 1])}, axis=np.array([1], np.int64))


def words(texts: bool = True) -> bytes:
    """A word [n] to another word, or to a number."""
    values = {"values_strings": ["up", "down"], "default_string": "?"}
    if not texts:
        values = {"values_floats": [1.0, -1.0], "default_float": 0.0}
    nodes = [
        helper.make_node("LabelEncoder", ["word"], ["out"], domain="ai.onnx.ml", keys_strings=["gut", "übel"], **values)
    ]
    return model(nodes, {"word": (STRING, ["n"])}, {"out": (STRING if texts else FLOAT, ["n"])})


def phrases() -> bytes:
    """Tensors of texts [n, 3] to the sum of what each is worth."""
    node = helper.make_node
    values = {"keys_strings": ["gut", "übel"], "values_floats": [1.0, -1.0], "default_float": 0.0}
    nodes = [node("LabelEncoder", ["words"], ["worth"], domain="ai.onnx.ml", **values)]
    nodes.append(node("ReduceSum", ["worth", "axis"], ["out"], keepdims=1))
    return model(nodes, {"words": (STRING, ["n", 3])}, {"out": (FLOAT, ["n", 1])}, axis=np.array([1], np.int64))


def brightness() -> bytes:
    """The bytes of a file [n, length] to their mean."""
    node = helper.make_node
    nodes = [
        node("Cast", ["file"], ["numbers"], to=FLOAT),
        node("ReduceMean", ["numbers"], ["out"], axes=[1], keepdims=1),
    ]
    return model(nodes, {"file": (UINT8, ["n", "length"])}, {"out": (FLOAT, ["n", 1])})


def spoken() -> bytes:
    """Tokens [n, t] of a vocabulary of three to the sum of what each is worth; any other fails."""
    node = helper.make_node
    nodes = [node("Gather", ["worth", "tokens"], ["found"]), node("ReduceSum", ["found", "axis"], ["out"], keepdims=1)]
    known = {"worth": np.array([1, 2, 4], np.float32), "axis": np.array([1], np.int64)}
    return model(nodes, {"tokens": (INT64, ["n", "t"])}, {"out": (FLOAT, ["n", 1])}, **known)


def turning() -> bytes:
    """Tokens [n, t] to their sum, after as many turns: with a large number it never comes back."""
    node = helper.make_node
    given = [
        helper.make_tensor_value_info(name, *one) for name, one in (("at", (INT64, [])), ("on", (TensorProto.BOOL, [])))
    ]
    more = [helper.make_tensor_value_info("kept", INT64, [])]
    made = [
        helper.make_tensor_value_info("still", TensorProto.BOOL, []),
        helper.make_tensor_value_info("next", INT64, []),
    ]
    body = helper.make_graph(
        [node("Identity", ["on"], ["still"]), node("Identity", ["kept"], ["next"])], "b", [*given, *more], made
    )
    nodes = [
        node("ReduceSum", ["tokens"], ["turns"], keepdims=0),
        node("Loop", ["turns", "", "zero"], ["last"], body=body),
        node("ReduceSum", ["tokens", "axis"], ["sums"], keepdims=1),
        node("Add", ["sums", "last"], ["whole"]),
        node("Cast", ["whole"], ["out"], to=FLOAT),
    ]
    known = {"zero": np.array(0, np.int64), "axis": np.array([1], np.int64)}
    return model(nodes, {"tokens": (INT64, ["n", "t"])}, {"out": (FLOAT, ["n", 1])}, **known)
