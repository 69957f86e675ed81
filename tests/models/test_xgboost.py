"""XGBoost freezes into its own format; runs where the package is installed."""

import pytest

xgboost = pytest.importorskip("xgboost")

from sampan.base.errors import BadStep, Damaged  # noqa: E402
from sampan.models.format_xgboost import load  # noqa: E402

NUMBERS = ["recency", "orders", "spend", "hour"]


def test_xgboost_predicts_the_same_from_its_own_format(frame, frozen):
    model = xgboost.XGBClassifier(n_estimators=4, n_jobs=1).fit(frame[NUMBERS], frame["again"])
    draft, predictor = frozen(model, "binary", frame, NUMBERS)
    assert draft.format == "xgboost" and list(draft.signature.inputs) == NUMBERS
    expected = model.predict_proba(frame[NUMBERS])[:, 1].astype(float).tolist()
    assert predictor.predict(frame[NUMBERS].to_dict("records")) == pytest.approx(expected, abs=1e-7)


def test_an_objective_that_gives_no_probabilities_and_garbled_bytes_are_refused(frame, frozen):
    model = xgboost.XGBRegressor(n_estimators=2).fit(frame[NUMBERS], frame["again"])
    with pytest.raises(BadStep, match="reg:squarederror"):
        frozen(model, "binary", frame, NUMBERS)
    draft, _ = frozen(model, "regression", frame, NUMBERS)
    with pytest.raises(Damaged):
        load({"model.ubj": b"\x80\x04 not a model"}, "regression", draft.signature)
