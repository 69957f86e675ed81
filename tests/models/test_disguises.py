"""A pickle never runs, whatever it is dressed up as (R36). Each payload would touch a canary file if it did."""

import contextlib
import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import skops.io
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tests.disguises import DISGUISES, OBJECT_ARRAY_SCHEMA, Payload, object_array, zip_of

from sampan.base.errors import BadStep, Damaged
from sampan.flow.declare import Fitted
from sampan.models.format_skops import TRUSTED, normalise, trusted
from sampan.models.formats import freeze, load
from sampan.models.version import Signature, VersionDraft, version_digest


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "the payload ran"


def dressed_as(format, files, blobs):
    """A version record that names a format and files of the attacker's choice, with all digests right."""
    kept = {name: blobs.put(data) for name, data in files.items()}
    signature = Signature(inputs={"a": "number"}, output="probability", classes=(False, True))
    digest = version_digest("binary", format, kept, signature)
    common = {"kind": "binary", "format": format, "files": kept, "signature": signature}
    return VersionDraft(digest=digest, metrics={}, made_with={}, **common)


FILES = {"skops": "model.skops", "onnx": "model.onnx", "lightgbm": "model.txt"}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("format", FILES)
def test_a_pickle_in_disguise_is_never_run(format, disguise, blobs, canary):
    data = DISGUISES[disguise](Payload(canary))
    with pytest.raises(Damaged):
        load(dressed_as(format, {FILES[format]: data}, blobs), blobs)


@pytest.mark.parametrize("format", ["pickle", "joblib", "cloudpickle", "torch", "os", ""])
def test_a_format_that_is_not_on_the_list_is_not_tried(format, blobs, canary):
    draft = dressed_as(format, {"model.pkl": pickle.dumps(Payload(canary))}, blobs)
    with pytest.raises(Damaged, match="unknown format"):
        load(draft, blobs)


@pytest.mark.parametrize("estimator", [pickle.dumps(LogisticRegression()), b"", b"\x80\x04", b"{}", b"PK\x03\x04"])
def test_bytes_that_are_no_onnx_model_are_not_frozen(estimator, blobs, canary):
    with pytest.raises(BadStep, match="not an ONNX model"):
        freeze(Fitted(estimator, ["a"]), "binary", blobs)


def test_a_skops_file_that_asks_for_trust_does_not_get_it(blobs, canary):
    data = skops.io.dumps(Payload(canary))
    assert skops.io.get_untrusted_types(data=data)  # what a careless loader would hand back as the list of the trusted
    with pytest.raises(Damaged, match="not on the list"):
        load(dressed_as("skops", {"model.skops": data}, blobs), blobs)


@pytest.mark.parametrize("function", [open, print, np.load, shutil.rmtree])
def test_a_function_inside_an_estimator_is_neither_frozen_nor_loaded(function, blobs, frame):
    estimator = FunctionTransformer(function).fit(frame[["recency"]].values)
    with pytest.raises(BadStep):
        freeze(Fitted(estimator, ["recency"]), "regression", blobs)
    with pytest.raises(Damaged):
        load(dressed_as("skops", {"model.skops": skops.io.dumps(estimator)}, blobs), blobs)


def test_functools_partial_is_not_on_the_list():
    assert not [name for name in TRUSTED if "partial" in name or "function" in name.lower()]


def test_normalising_reads_arrays_without_pickle(canary):
    fake = zip_of(
        **{
            "schema__json": json.dumps({**OBJECT_ARRAY_SCHEMA, "__id__": 1}).encode(),
            "1__npy": object_array(Payload(canary)),
        }
    )
    with pytest.raises(ValueError, match="allow_pickle"):
        normalise(fake)


def identity(**graph):
    given = helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 2])
    out = helper.make_tensor_value_info("Y", TensorProto.FLOAT, [None, 2])
    node = graph.pop("node", helper.make_node("Identity", ["X"], ["Y"]))
    made = helper.make_graph([node], "g", [given], [out], **graph)
    domains = {"", node.domain}
    return helper.make_model(made, opset_imports=[helper.make_opsetid(d, 15) for d in domains], ir_version=8)


def outside_tensor(location="../../etc/passwd"):
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [2], [0.0, 0.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def hidden_in_a_branch():
    inner = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["o"])],
        "inner",
        [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, [2])],
        [outside_tensor()],
    )
    return identity(node=helper.make_node("If", ["c"], ["Y"], then_branch=inner, else_branch=inner))


def hidden_in_a_function():
    model = identity()
    constant = helper.make_node("Constant", [], ["Y"], value=outside_tensor())
    model.functions.append(
        helper.make_function("", "F", ["X"], ["Y"], [constant], opset_imports=[helper.make_opsetid("", 15)])
    )
    return model


@pytest.mark.parametrize(
    "model",
    [
        identity(initializer=[outside_tensor()]),
        identity(initializer=[outside_tensor("weights.bin")]),
        identity(node=helper.make_node("Constant", [], ["Y"], value=outside_tensor())),
        hidden_in_a_branch(),
        hidden_in_a_function(),
    ],
    ids=["traversal", "beside", "constant", "branch", "function"],
)
def test_onnx_with_external_data_is_neither_frozen_nor_loaded(model, blobs):
    data = model.SerializeToString()
    assert onnx.load_from_string(data)  # it is a well-formed model
    with pytest.raises(BadStep, match="external data"):
        freeze(Fitted(data, ["a", "b"]), "regression", blobs)
    with pytest.raises(Damaged, match="external data"):
        load(dressed_as("onnx", {"model.onnx": data}, blobs), blobs)


def test_onnx_with_foreign_operators_is_refused(blobs):
    model = identity(node=helper.make_node("Anything", ["X"], ["Y"], domain="evil.example"))
    with pytest.raises(BadStep, match=r"domain 'evil\.example'"):
        freeze(Fitted(model, ["a", "b"]), "regression", blobs)


def test_cut_off_and_garbled_onnx_bytes_are_refused(blobs):
    data = identity().SerializeToString()
    rng = np.random.default_rng(0)
    for length in range(len(data)):
        with pytest.raises(BadStep):
            freeze(Fitted(data[:length], ["a", "b"]), "regression", blobs)
    for _ in range(200):
        garbled = bytearray(data)
        garbled[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        with contextlib.suppress(BadStep):  # refused in words, or still a valid model: never anything else
            freeze(Fitted(bytes(garbled), ["a", "b"]), "regression", blobs)


def test_of_scikit_learn_only_public_estimators_are_trusted():
    for name in (
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier",
        "sklearn.pipeline.Pipeline",
        *TRUSTED,
    ):
        assert trusted(name), name
    for name in (
        "os.system",
        "sklearn.os.system",
        "sklearn.linear_model.LogisticRegression",  # not where it is defined
        "sklearn.linear_model._logistic.LogisticRegressionX",
        "sklearn.no_such._module.Thing",
        "sklearn.base._Private",
        "sklearn.conftest.Anything",
        "sklearn.utils._bunch.Bunch",  # no estimator
        "sklearn",
        "",
    ):
        assert not trusted(name), name


LEAN = """
import json, sys
from pathlib import Path
from sampan.models import format_skops
from sampan.models.version import Signature
signature = Signature(inputs={{"a": "number", "b": "number"}}, output="probability", classes=(False, True))
{lean}
model = format_skops.load({{"model.skops": Path(sys.argv[1]).read_bytes()}}, "binary", signature)
said = model.predict([{{"a": 1.0, "b": 2.0}}, {{"a": -1.0, "b": 0.5}}])
print(json.dumps([said, "pandas" in sys.modules, "sklearn.manifold" in sys.modules]))
"""


def test_a_process_that_only_predicts_imports_less_and_says_the_same(tmp_path):
    file = tmp_path / "m.skops"
    x = np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 0.5], [3.0, 1.0]] * 5)
    file.write_bytes(
        skops.io.dumps(make_pipeline(FunctionTransformer(np.sinh), LogisticRegression()).fit(x, x[:, 0] > 1))
    )
    told = []
    for lean in ("", "format_skops.import_lean(signature)"):
        command = [sys.executable, "-c", LEAN.format(lean=lean), str(file)]
        told.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert told[0][0] == told[1][0]
    assert told[0][1] and not told[1][1]
