"""The same model as ONNX, compared on its sample; runs where converters are installed (`just test-onnx`)."""

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

pytest.importorskip("onnxmltools")

from sampan.base.clock import ManualClock
from sampan.base.errors import Damaged, NotFound
from sampan.models import onnx_form
from sampan.models.onnx_form import TOLERANCE, load_onnx
from sampan.models.registry import Models
from sampan.serve.bundle import draft_of
from sampan.store.database import Database

NUMBERS = ["recency", "orders", "spend", "hour"]


def records(frame, columns):
    return frame[columns].astype(object).to_dict("records")


def lgbm(**more):
    return lgb.LGBMClassifier(n_estimators=8, verbose=-1, n_jobs=1, random_state=0, **more)


@pytest.mark.parametrize(
    ("estimator", "kind"),
    [
        (lgbm(), "binary"),
        (lgb.LGBMRegressor(n_estimators=8, verbose=-1, n_jobs=1), "regression"),
        (RandomForestClassifier(8, random_state=0), "binary"),
        (make_pipeline(StandardScaler(), LogisticRegression()), "binary"),
        (LinearRegression(), "regression"),
        (GradientBoostingRegressor(n_estimators=8), "regression"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_what_converts_is_kept_with_its_difference_and_answers_the_same(frame, frozen, blobs, estimator, kind):
    estimator.fit(frame[NUMBERS], frame["again"] if kind == "binary" else frame["spend"] * 1000)
    draft, predictor = frozen(estimator, kind, frame, NUMBERS)
    assert not draft.onnx.why and draft.onnx.rows == len(frame)
    asked = records(frame, NUMBERS)
    given, expected = np.array(load_onnx(draft, blobs).predict(asked)), np.array(predictor.predict(asked))
    assert draft.onnx.apart == pytest.approx(np.abs(given - expected).max(), abs=1e-12)
    assert (np.abs(given - expected) <= TOLERANCE * np.maximum(1, np.abs(expected))).all()


def test_categories_and_missing_values_go_in_as_codes_and_nothing(frame, frozen, blobs):
    columns = [*NUMBERS, "country"]
    holes = frame.assign(hour=frame["hour"].where(frame["hour"] > -1))
    draft, predictor = frozen(lgbm().fit(holes[columns], holes["again"]), "binary", holes, columns)
    assert draft.onnx.apart < 1e-6
    record = {**records(frame, columns)[0], "country": "elsewhere", "hour": None}
    assert load_onnx(draft, blobs).predict([record]) == pytest.approx(predictor.predict([record]), abs=1e-6)


def test_several_classes_keep_their_order(frame, frozen, blobs):
    target = pd.cut(frame["spend"], 3, labels=["low", "middle", "high"]).astype(str)
    for model in (lgbm(), make_pipeline(StandardScaler(), LogisticRegression())):
        draft, predictor = frozen(model.fit(frame[NUMBERS], target), "multiclass", frame, NUMBERS)
        asked = records(frame, NUMBERS)
        differences = np.abs(np.array(load_onnx(draft, blobs).predict(asked)) - np.array(predictor.predict(asked)))
        assert differences.max() < 1e-5
        assert draft.onnx.apart == pytest.approx(differences.max(), abs=1e-15)


def test_a_pipeline_over_texts_and_numbers_gets_a_column_for_each(frame, frozen, blobs):
    rows = frame[["recency", "country"]].assign(country=frame["country"].astype(str))
    encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["country"]), remainder="passthrough")
    model = make_pipeline(encode, LogisticRegression()).fit(rows, frame["again"])
    draft, predictor = frozen(model, "binary", rows, ["recency", "country"])
    assert not draft.onnx.why
    asked = records(rows, ["recency", "country"])[:20]
    assert load_onnx(draft, blobs).predict(asked) == pytest.approx(predictor.predict(asked), abs=1e-6)


def test_xgboost_converts_whatever_its_features_are_called(frame, frozen, blobs):
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBClassifier(n_estimators=6, n_jobs=1).fit(frame[NUMBERS], frame["again"])
    draft, predictor = frozen(model, "binary", frame, NUMBERS)
    assert not draft.onnx.why and draft.onnx.apart < 1e-6
    asked = records(frame, NUMBERS)[:20]
    assert load_onnx(draft, blobs).predict(asked) == pytest.approx(predictor.predict(asked), abs=1e-6)
    assert model.get_booster().feature_names == NUMBERS


def test_it_is_another_form_outside_of_the_digest_and_of_bundles(frame, frozen, blobs, tmp_path, monkeypatch):
    model = lgbm().fit(frame[NUMBERS], frame["again"])
    draft, _ = frozen(model, "binary", frame, NUMBERS)
    monkeypatch.setattr(onnx_form, "find_spec", lambda name: None)
    without, _ = frozen(model, "binary", frame, NUMBERS)
    assert without.onnx is None and without.digest == draft.digest
    assert draft.onnx.digest in draft.held() and draft.onnx.digest not in draft.files.values()
    db = Database(tmp_path / "records.db", writable=True)
    version = Models(db, blobs, ManualClock(1_300_000_000_000_000)).register(draft, "reorder")
    db.close()
    assert version.onnx == draft.onnx and version.draft().onnx == draft.onnx
    assert draft_of(version).onnx is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"_sklearn": lambda *a, **more: 1 / 0}, "ZeroDivisionError: division by zero"),
        ({"_LARGEST": 10}, "it has 0 MB"),
        ({"TOLERANCE": -1.0}, "its answers differ by up to"),
    ],
)
def test_what_cannot_be_kept_says_why_and_the_version_is_whole(frame, frozen, blobs, monkeypatch, change, why):
    for name, value in change.items():
        monkeypatch.setattr(onnx_form, name, value)
    before = set(blobs.folder.glob("??/*"))
    draft, predictor = frozen(LinearRegression().fit(frame[NUMBERS], frame["spend"]), "regression", frame, NUMBERS)
    assert draft.onnx.why.startswith(why) and not draft.onnx.digest
    assert len(predictor.predict(records(frame, NUMBERS))) == len(frame)
    kept = {path.parent.name + path.name for path in set(blobs.folder.glob("??/*")) - before}
    assert kept == set(draft.held())
    with pytest.raises(NotFound, match="no such form"):
        load_onnx(draft, blobs)


def test_without_a_sample_nothing_is_compared_and_nothing_kept(frame, frozen):
    draft, _ = frozen(LinearRegression().fit(frame[NUMBERS].values, frame["spend"]), "regression", None, NUMBERS)
    assert draft.onnx.why == "its step returned no sample to compare it on"


def test_an_estimator_that_no_converter_knows_is_frozen_all_the_same(frame, frozen):
    model = make_pipeline(StandardScaler(), lgbm()).fit(frame[NUMBERS], frame["again"])
    draft, _ = frozen(model, "binary", frame, NUMBERS)
    assert draft.onnx.why and "\n" not in draft.onnx.why and len(draft.onnx.why) <= 200


def test_other_bytes_are_refused(frame, frozen, blobs):
    draft, _ = frozen(lgbm().fit(frame[NUMBERS], frame["again"]), "binary", frame, NUMBERS)
    path = blobs.path(draft.onnx.digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(Damaged):
        load_onnx(draft, blobs)


def test_a_form_is_compared_where_inputs_are_null_and_may_then_be_served(frame, frozen, blobs):
    from sampan.models.onnx_form import servable
    from sampan.models.version import Version

    for estimator in (lgbm(), LogisticRegression()):
        draft, _ = frozen(estimator.fit(frame[NUMBERS], frame["again"]), "binary", frame, NUMBERS)
        assert draft.onnx.nulls == draft.signature.missing, "null is taken by LightGBM alone"
        fields = {name: getattr(draft, name) for name in draft.__struct_fields__}
        assert servable(Version(model="m", number=1, **fields)) == draft.onnx
