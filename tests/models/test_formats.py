"""A frozen model predicts what the fitted one predicts, from files that are the same for the same model."""

import os
import subprocess
import sys

import lightgbm as lgb
import numpy as np
import onnx
import pandas as pd
import polars as pl
import pytest
from onnx import TensorProto, helper
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from sampan.base.errors import BadStep, Damaged, Usage
from sampan.flow.declare import Fitted
from sampan.models.formats import freeze, load
from sampan.models.version import Version

NUMBERS = ["recency", "orders", "spend", "hour"]


def records(frame, columns):
    return frame[columns].astype(object).to_dict("records")


def lgbm(**more):
    return lgb.LGBMClassifier(n_estimators=8, verbose=-1, n_jobs=1, random_state=0, **more)


def test_lightgbm_with_categories_predicts_the_same_from_its_text(frame, frozen):
    columns = [*NUMBERS, "country"]
    model = lgbm().fit(frame[columns], frame["again"])
    draft, predictor = frozen(model, "binary", frame, columns)
    assert draft.format == "lightgbm" and list(draft.files) == ["model.txt"]
    assert draft.signature.inputs == {**dict.fromkeys(NUMBERS, "number"), "country": "category"}
    assert draft.signature.categories == {"country": ("DE", "FR", "UK")}
    assert predictor.predict(records(frame, columns)) == model.predict_proba(frame[columns])[:, 1].tolist()


def test_an_unknown_category_and_null_are_missing_values(frame, frozen):
    columns = [*NUMBERS, "country"]
    _, predictor = frozen(lgbm().fit(frame[columns], frame["again"]), "binary", frame, columns)
    record = records(frame, columns)[0]
    elsewhere, absent = predictor.predict([{**record, "country": "AT"}, {**record, "country": None}])
    assert elsewhere == absent


def test_a_category_of_another_type_than_those_that_were_trained_is_refused(frame, frozen):
    columns = [*NUMBERS, "country"]
    _, predictor = frozen(lgbm().fit(frame[columns], frame["again"]), "binary", frame, columns)
    with pytest.raises(Usage, match="field 'country': expected a category such as \"DE\" or null, got 7"):
        predictor.predict([{**records(frame, columns)[0], "country": 7}])


def test_a_category_that_is_a_number_is_the_same_with_and_without_a_point(frame, frozen):
    frame = frame.assign(country=pd.Categorical(frame["country"].map({"DE": 1, "FR": 2, "UK": 3}).astype(int)))
    columns = [*NUMBERS, "country"]
    draft, predictor = frozen(lgbm().fit(frame[columns], frame["again"]), "binary", frame, columns)
    record = records(frame, columns)[0]
    one, same, unknown = predictor.predict([{**record, "country": of} for of in (3, 3.0, None)])
    assert one == same != unknown
    assert (draft.signature.cell("country"), draft.signature.cell("nobody")) == ("number", None)


def test_lightgbm_multiclass_keeps_its_labels(frame, frozen):
    target = pd.cut(frame["spend"], 3, labels=["low", "middle", "high"]).astype(str)
    model = lgbm().fit(frame[NUMBERS], target)
    draft, predictor = frozen(model, "multiclass", frame, NUMBERS)
    assert draft.signature.classes == ("high", "low", "middle")
    assert predictor.predict(records(frame, NUMBERS)) == model.predict_proba(frame[NUMBERS]).tolist()


def test_a_bare_booster_a_regressor_and_a_ranker_freeze(frame, frozen):
    booster = lgb.train({"objective": "binary", "verbose": -1}, lgb.Dataset(frame[NUMBERS].values, frame["again"]), 5)
    draft, predictor = frozen(booster, "binary", frame, NUMBERS)
    assert list(draft.signature.inputs) == NUMBERS
    assert predictor.predict(records(frame, NUMBERS)) == booster.predict(frame[NUMBERS].values).tolist()
    regressor = lgb.LGBMRegressor(n_estimators=5, verbose=-1).fit(frame[NUMBERS], frame["spend"])
    assert frozen(regressor, "regression", frame, NUMBERS)[0].signature.output == "number"
    ranker = lgb.LGBMRanker(n_estimators=5, verbose=-1).fit(
        frame[NUMBERS], frame["again"].astype(int), group=[200, 200]
    )
    assert frozen(ranker, "ranking", frame, NUMBERS)[0].signature.output == "score"


def test_the_order_of_inputs_is_the_models_own(frame, frozen):
    model = lgbm().fit(frame[NUMBERS], frame["again"])
    draft, predictor = frozen(model, "binary", frame, list(reversed(NUMBERS)))
    assert list(draft.signature.inputs) == NUMBERS
    assert predictor.predict(records(frame, NUMBERS)) == model.predict_proba(frame[NUMBERS])[:, 1].tolist()


def test_where_the_model_has_no_names_the_list_gives_them(frame, frozen):
    booster = lgb.train({"objective": "binary", "verbose": -1}, lgb.Dataset(frame[NUMBERS].values, frame["again"]), 5)
    assert list(frozen(booster, "binary", frame, NUMBERS[::-1])[0].signature.inputs) == NUMBERS[::-1]
    model = RandomForestClassifier(3, random_state=0).fit(frame[NUMBERS].values, frame["again"])
    with pytest.raises(BadStep, match="4 features, 3 are listed"):
        frozen(model, "binary", frame, NUMBERS[:3])


def test_a_frozen_model_that_predicts_something_else_is_refused(frame, blobs, monkeypatch):
    model = lgbm().fit(frame[NUMBERS], frame["again"])
    other = lgbm(max_depth=1).fit(frame[NUMBERS], frame["again"]).booster_.model_to_string()
    monkeypatch.setattr(model.booster_, "model_to_string", lambda: other)
    with pytest.raises(BadStep, match=r"the frozen model predicts .* for row 0 of the sample, the fitted one"):
        freeze(Fitted(model, NUMBERS, sample=frame), "binary", blobs)


@pytest.mark.parametrize(
    ("estimator", "kind"),
    [
        (HistGradientBoostingClassifier(max_iter=4, random_state=0), "binary"),
        (RandomForestClassifier(4, random_state=0), "binary"),
        (make_pipeline(StandardScaler(), LogisticRegression()), "binary"),
        (make_pipeline(StandardScaler(), lgbm()), "binary"),
        (HistGradientBoostingRegressor(max_iter=4, random_state=0), "regression"),
        (GradientBoostingRegressor(n_estimators=4, random_state=0), "regression"),
        (LinearRegression(), "regression"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_scikit_learn_predicts_the_same_from_skops(frame, frozen, estimator, kind):
    rows = frame[NUMBERS]
    estimator.fit(rows, frame["again"] if kind == "binary" else frame["spend"])
    draft, predictor = frozen(estimator, kind, frame, NUMBERS)
    assert draft.format == "skops"
    expected = estimator.predict_proba(rows)[:, 1] if kind == "binary" else estimator.predict(rows)
    assert predictor.predict(records(frame, NUMBERS)) == expected.tolist()


def test_a_pipeline_over_texts_and_numbers_gets_its_frame(frame, frozen):
    rows = frame[["recency", "country"]].assign(country=frame["country"].astype(str))
    encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["country"]), remainder="passthrough")
    model = make_pipeline(encode, LogisticRegression()).fit(rows, frame["again"])
    draft, predictor = frozen(model, "binary", rows, ["recency", "country"])
    assert draft.signature.inputs == {"recency": "number", "country": "text"}
    assert predictor.predict(records(rows, ["recency", "country"])) == model.predict_proba(rows)[:, 1].tolist()


@pytest.mark.parametrize(
    "vectorizer", [TfidfVectorizer(), CountVectorizer(binary=True), HashingVectorizer(n_features=64)]
)
def test_a_pipeline_over_one_column_of_texts_gets_a_list(frozen, vectorizer):
    texts = ["sehr gut", "gut so", "übel hier", "sehr übel", "gut, übel"]
    model = make_pipeline(vectorizer, LogisticRegression()).fit(texts, [1, 1, 0, 0, 0])
    draft, predictor = frozen(model, "binary", pd.DataFrame({"review": texts}), None)
    assert draft.format == "skops" and draft.signature.inputs == {"review": "text"}
    asked = [{"review": one} for one in (*texts, "", "neu")]
    expected = model.predict_proba([one["review"] for one in asked])[:, 1]
    assert predictor.predict(asked) == pytest.approx(expected.tolist())
    with pytest.raises(Usage, match="field 'review': expected a text, got 3"):
        predictor.predict([{"review": 3}])
    with pytest.raises(BadStep, match="it takes a list of texts, 2 features are listed"):
        frozen(model, "binary", None, ["review", "title"])


def test_a_polars_sample_and_no_sample_do_as_well(frame, frozen):
    model = LogisticRegression().fit(frame[NUMBERS].values, frame["again"])
    with_polars, _ = frozen(model, "binary", pl.DataFrame(frame[NUMBERS].to_dict("list")), NUMBERS)
    without, _ = frozen(model, "binary", None, NUMBERS)
    assert list(with_polars.signature.inputs) == list(without.signature.inputs) == NUMBERS


def linear_onnx(domain="ai.onnx.ml", **more):
    node = helper.make_node(
        "LinearClassifier",
        ["X"],
        ["label", "probabilities"],
        domain=domain,
        coefficients=[-1.0, 0.5, 1.0, -0.5],
        intercepts=[0.0, 0.0],
        classlabels_ints=[0, 1],
        post_transform="LOGISTIC",
    )
    given = helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 2])
    label = helper.make_tensor_value_info("label", TensorProto.INT64, [None])
    shares = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])
    graph = helper.make_graph([node], "linear", [given], [label, shares], **more)
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid(domain, 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_onnx_is_taken_as_bytes_or_as_a_model_proto(frozen):
    model = linear_onnx()
    draft, predictor = frozen(model, "binary", None, ["a", "b"])
    again, _ = frozen(model.SerializeToString(), "binary", None, ["a", "b"])
    assert draft.digest == again.digest and draft.format == "onnx"
    assert predictor.predict([{"a": 3, "b": 4.0}]) == pytest.approx([1 / (1 + np.exp(-1.0))])


def test_onnx_with_one_input_per_column(frozen):
    columns = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in ("a", "b")]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph([helper.make_node("Sub", ["a", "b"], ["y"])], "difference", columns, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    _, predictor = frozen(model, "regression", None, None)
    assert predictor.predict([{"a": 5, "b": 3}, {"a": 1, "b": 1.5}]) == [2.0, -0.5]


def test_onnx_is_asked_for_at_most_64_records_in_one_call(frozen):
    columns = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in ("a", "b")]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])
    nodes = [  # how many records it sees, and what it was given of one
        helper.make_node("Shape", ["a"], ["shape"], start=0, end=1),
        helper.make_node("Cast", ["shape"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["count", "b"], ["many"]),
        helper.make_node("Add", ["many", "a"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "counting", columns, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    _, predictor = frozen(model, "regression", None, None)
    said = predictor.predict([{"a": place, "b": 1000} for place in range(150)])
    assert said == [1000.0 * (64 if place < 128 else 22) + place for place in range(150)]
    assert predictor.predict([{"a": 1, "b": 1000}] * 64) == [64_001.0] * 64


FIT_AND_FREEZE = """
import sys, tempfile, pathlib, numpy as np, pandas as pd, lightgbm as lgb
from sklearn.ensemble import RandomForestClassifier, HistGradientBoostingClassifier
from sampan.flow.declare import Fitted
from sampan.models.formats import freeze
from sampan.store.blobs import Blobs
rng = np.random.default_rng(1)
X = pd.DataFrame(rng.normal(size=(200, 3)), columns=list("abc")); y = X.a > 0
with tempfile.TemporaryDirectory() as folder:
    for model in (RandomForestClassifier(3, random_state=0), HistGradientBoostingClassifier(max_iter=3, random_state=0),
                  lgb.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=int(sys.argv[1]))):
        print(freeze(Fitted(model.fit(X, y), list("abc"), sample=X), "binary", Blobs(pathlib.Path(folder))).digest)
"""


@pytest.mark.slow
def test_the_same_fit_in_two_processes_gives_the_same_digest():
    def digests(jobs, seed):
        command = [sys.executable, "-c", FIT_AND_FREEZE, jobs]
        seeded = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, capture_output=True, text=True, env=seeded, check=True)
        return done.stdout.split()

    first = digests("1", "1")
    assert len(first) == 3
    assert digests("2", "2") == first


def test_the_digest_does_not_cover_metrics_but_covers_the_signature(frame, blobs):
    model = LogisticRegression().fit(frame[NUMBERS].values, frame["again"])
    one = freeze(Fitted(model, NUMBERS, metrics={"auc": 0.8}), "binary", blobs)
    other = freeze(Fitted(model, NUMBERS, metrics={"auc": 0.8, "seconds": 1.7}), "binary", blobs)
    renamed = freeze(Fitted(model, ["a", "b", "c", "d"]), "binary", blobs)
    assert one.digest == other.digest != renamed.digest
    assert one.files == renamed.files


@pytest.mark.parametrize("place", [0, 0.3, 0.6, 0.999])
def test_one_flipped_byte_in_a_file_refuses_loading(frame, blobs, place):
    draft = freeze(Fitted(lgbm().fit(frame[NUMBERS], frame["again"]), NUMBERS, sample=frame), "binary", blobs)
    path = blobs.path(draft.files["model.txt"])
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(Damaged, match="does not match its digest"):
        load(draft, blobs)


def test_a_version_record_that_was_changed_refuses_loading(frame, blobs):
    draft = freeze(Fitted(lgbm().fit(frame[NUMBERS], frame["again"]), NUMBERS, sample=frame), "binary", blobs)
    fields = {name: getattr(draft, name) for name in draft.__struct_fields__}
    swapped = {**fields, "signature": fields["signature"].__class__(inputs={"a": "number"}, output="probability")}
    with pytest.raises(Damaged, match="record of version"):
        load(Version(model="m", number=1, **swapped), blobs)


@pytest.mark.parametrize(
    ("fit", "kind", "said"),
    [
        (lambda X, y: LinearSVC().fit(X, y), "binary", "has no predict_proba"),
        (lambda X, y: lgb.LGBMRegressor(verbose=-1, n_estimators=2).fit(X, y), "binary", "objective is 'regression'"),
        (lambda X, y: lgbm(), "binary", "not fitted"),
        (lambda X, y: LogisticRegression(), "binary", "not fitted"),
        (lambda X, y: object(), "binary", "no safe format for a builtins.object; Sampan does not pickle"),
        (lambda X, y: LogisticRegression().fit(X, X["spend"].round()), "binary", "a binary model has two classes"),
        (lambda X, y: LogisticRegression().fit(X, y), "guess", "unknown kind 'guess'"),
    ],
)
def test_a_model_that_cannot_do_what_is_declared_is_refused_with_the_reason(frame, frozen, fit, kind, said):
    with pytest.raises(BadStep, match=said):
        frozen(fit(frame[NUMBERS], frame["again"]), kind, frame, NUMBERS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"orders": ...}, "record 1, field 'orders' is missing; expected a number or null"),
        ({"orders": "3"}, "record 1, field 'orders': expected a number or null, got \"3\""),
        ({"orders": True}, "got true"),
        ({"orders": [1]}, "got \\[1\\]"),
        ({"orders": float("inf")}, "expected a number"),
        ({"orders": 10**400}, "expected a number"),
    ],
)
def test_a_record_that_does_not_fit_names_the_field_and_the_value(frame, frozen, change, said):
    _, predictor = frozen(lgbm().fit(frame[NUMBERS], frame["again"]), "binary", frame, NUMBERS)
    good = records(frame, NUMBERS)[0]
    bad = {name: value for name, value in {**good, **change}.items() if value is not ...}
    with pytest.raises(Usage, match=said):
        predictor.predict([good, bad])


def test_null_is_refused_by_a_model_that_does_not_take_it(frame, frozen):
    draft, predictor = frozen(LogisticRegression().fit(frame[NUMBERS], frame["again"]), "binary", frame, NUMBERS)
    assert not draft.signature.missing
    with pytest.raises(Usage, match="field 'hour': expected a number, got null"):
        predictor.predict([{**records(frame, NUMBERS)[0], "hour": None}])


def test_external_onnx_checks_agree_with_the_onnx_package(tmp_path):
    from sampan.models.onnx_wire import objection

    model = linear_onnx()
    assert objection(model.SerializeToString()) is None
    big = helper.make_tensor("w", TensorProto.FLOAT, [2000], np.zeros(2000, np.float32).tobytes(), raw=True)
    onnx.save(linear_onnx(initializer=[big]), tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    assert "another file" in objection((tmp_path / "m.onnx").read_bytes())
