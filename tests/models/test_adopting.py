"""Files that somebody else has made: frozen as they are, with what they say of themselves or what was said of them."""

from pathlib import Path

import lightgbm as lgb
import numpy as np
import onnx
import pandas as pd
import pytest
import skops.io
from onnx import TensorProto, helper
from sklearn.linear_model import LinearRegression, LogisticRegression

from sampan.base.errors import Refused, Usage
from sampan.models.adopting import Errand, features_of, format_of, freeze_file
from sampan.models.formats import load
from sampan.store.blobs import Blobs

NAMES = ["orders", "recency", "spend"]
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(RNG.normal(size=(200, 3)), columns=NAMES)
AGAIN = FRAME["orders"] + RNG.normal(size=200) > 0


@pytest.fixture
def adopted(tmp_path: Path):
    blobs = Blobs(tmp_path / "blobs")

    def adopt(file: str, data: bytes, **said):
        said["features"] = features_of("Adopt", said.get("features", ""))
        draft = freeze_file(Errand(file=file, digest=blobs.put(data), blobs=str(blobs.folder), **said))
        assert blobs.get(next(iter(draft.files.values()))) == data
        return draft, load(draft, blobs)

    return adopt


def written(estimator, to: Path) -> bytes:
    skops.io.dump(estimator, to)
    return to.read_bytes()


def onnx_of(width: int, outputs: int, *, labels: bool) -> bytes:
    """A linear model of ONNX's own operators: numbers in one matrix, and beside them labels, if it is a classifier."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [width, outputs], [0.1] * (width * outputs))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Sigmoid", ["product"], ["p"])]
    given = [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, outputs])]
    if labels:
        nodes.append(helper.make_node("ArgMax", ["p"], ["label"], axis=1, keepdims=0))
        given.insert(0, helper.make_tensor_value_info("label", TensorProto.INT64, [None]))
    taken = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])]
    graph = helper.make_graph(nodes, "m", taken, given, [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8).SerializeToString()


def mapped(model: bytes, labels: list[int]) -> bytes:
    """The same with its probabilities as a map by label for each record."""
    found = onnx.load_from_string(model)
    found.graph.node.append(helper.make_node("ZipMap", ["p"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=labels))
    kind = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    found.graph.output[1].CopyFrom(helper.make_value_info("maps", helper.make_sequence_type_proto(kind)))
    found.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    return found.SerializeToString()


def test_lightgbm_says_its_features_its_categories_and_its_kind(adopted) -> None:
    frame = FRAME.assign(land=pd.Categorical(RNG.choice(["de", "fr"], 200)))
    model = lgb.LGBMClassifier(n_estimators=4, verbose=-1, n_jobs=1).fit(frame, AGAIN)
    draft, predictor = adopted("m.txt", model.booster_.model_to_string().encode())
    assert draft.kind == "binary" and draft.signature.inputs == {**dict.fromkeys(NAMES, "number"), "land": "category"}
    assert draft.signature.categories == {"land": ("de", "fr")}
    records = [{**row, "land": str(row["land"])} for row in frame.head(20).to_dict("records")]
    assert predictor.predict(records) == model.predict_proba(frame.head(20))[:, 1].tolist()
    ranks = lgb.LGBMRanker(n_estimators=2, verbose=-1).fit(FRAME, AGAIN.astype(int), group=[100, 100])
    assert adopted("m.lgb", ranks.booster_.model_to_string().encode())[0].kind == "ranking"


def test_xgboost_without_names_is_told_its_features(adopted) -> None:
    xgboost = pytest.importorskip("xgboost")
    named = xgboost.XGBRegressor(n_estimators=2, n_jobs=1).fit(FRAME, FRAME["spend"])
    for form in ("ubj", "json"):
        draft, predictor = adopted(f"m.{form}", bytes(named.get_booster().save_raw(form)))
        assert (draft.kind, list(draft.signature.inputs)) == ("regression", NAMES)
        got = predictor.predict(FRAME.head(5).to_dict("records"))
        assert got == pytest.approx(named.predict(FRAME.head(5)).tolist())
    bare = bytes(xgboost.XGBClassifier(n_estimators=2).fit(FRAME.values, AGAIN).get_booster().save_raw("ubj"))
    with pytest.raises(Usage, match="takes 3 features") as told:
        adopted("m.ubj", bare)
    assert "--features" in told.value.advice
    draft, _ = adopted("m.ubj", bare, features="a,b,c", classes=("no", "yes"))
    assert (draft.kind, list(draft.signature.inputs), draft.signature.classes) == (
        "binary",
        ["a", "b", "c"],
        ("no", "yes"),
    )


def test_skops_reads_the_features_that_it_was_fitted_on_or_is_told(adopted, tmp_path: Path) -> None:
    draft, predictor = adopted("m.skops", written(LogisticRegression().fit(FRAME, AGAIN), tmp_path / "m"))
    assert (draft.kind, list(draft.signature.inputs), draft.signature.frame) == ("binary", NAMES, True)
    assert len(predictor.predict(FRAME.head(3).to_dict("records"))) == 3
    bare = written(LinearRegression().fit(FRAME.values, FRAME["spend"]), tmp_path / "m")
    with pytest.raises(Usage, match="names of its features are unknown"):
        adopted("m.skops", bare)
    assert adopted("m.skops", bare, features="a, b, c:integer")[0].signature.inputs == {
        **dict.fromkeys("ab", "number"),
        "c": "integer",
    }


def test_onnx_says_its_kind_where_it_has_classes(adopted) -> None:
    names = ",".join(NAMES)
    assert adopted("m.onnx", onnx_of(3, 2, labels=True), features=names)[0].kind == "binary"
    draft, predictor = adopted("m.onnx", onnx_of(3, 4, labels=True), features=names, classes=("a", "b", "c", "d"))
    assert (draft.kind, draft.signature.classes) == ("multiclass", ("a", "b", "c", "d"))
    assert len(predictor.predict([dict.fromkeys(NAMES, 1.0)])[0]) == 4
    with pytest.raises(Usage, match="does not say what it means"):
        adopted("m.onnx", onnx_of(3, 1, labels=False), features=names)
    assert adopted("m.onnx", onnx_of(3, 1, labels=False), features=names, kind="regression")[0].kind == "regression"
    with pytest.raises(Usage, match="names of its features are unknown"):
        adopted("m.onnx", onnx_of(3, 2, labels=True))
    with pytest.raises(Usage, match="it takes 3 features, 2 are listed"):
        adopted("m.onnx", onnx_of(3, 2, labels=True), features="a,b")


def test_a_map_of_two_classes_as_skl2onnx_gives_it_is_read_once_it_is_said_that_there_are_two(adopted) -> None:
    names = ",".join(NAMES)
    zipped = mapped(onnx_of(3, 2, labels=True), [0, 1])
    with pytest.raises(Usage, match="a map of probabilities by class") as told:
        adopted("m.onnx", zipped, features=names)
    assert "--kind binary" in told.value.advice
    _, plain = adopted("m.onnx", onnx_of(3, 2, labels=True), features=names)
    _, predictor = adopted("m.onnx", zipped, features=names, kind="binary")
    records = [dict.fromkeys(NAMES, float(number)) for number in range(3)]
    assert predictor.predict(records) == plain.predict(records) != [0.5] * 3
    with pytest.raises(Usage, match="it gives 3 classes, where a binary model has two"):
        adopted("m.onnx", mapped(onnx_of(3, 3, labels=True), [0, 1, 2]), features=names, kind="binary")


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_is_refused_whatever_it_is_called(protocol: int) -> None:
    import pickle

    for name in ("m.skops", "m.onnx", "m.txt", "m.json", "m"):
        with pytest.raises(Refused, match="it is a pickle"):
            format_of("Adopt", name, pickle.dumps({"a": 1}, protocol), "")
    for name in ("m.pkl", "m.joblib", "m.pt"):
        with pytest.raises(Refused, match="it is a pickle"):
            format_of("Adopt", name, b"tree", "lightgbm")


def test_features_that_are_no_features_are_named() -> None:
    assert features_of("Adopt", "a, b:text,") == {"a": "", "b": "text"}
    for text, said in (("a:date", "'a:date' has no known type"), ("a,a", "'a' is listed twice"), (":text", "no name")):
        with pytest.raises(Usage, match=said):
            features_of("Adopt", text)
