"""Some rows of the sample are kept with their answers, spread over what the model predicts, and asked again."""

import decimal
import math

import lightgbm as lgb
import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as some
from sklearn.linear_model import LinearRegression, LogisticRegression

from sampan.base.errors import Damaged, NotFound
from sampan.flow.declare import Fitted
from sampan.models.formats import freeze, load
from sampan.models.golden import PICKED, capture, compare, distance, read, spread
from sampan.models.registry import Models
from sampan.serve.bundle import draft_of
from sampan.store.database import Database

NUMBERS = ["recency", "orders", "spend", "hour"]


def lgbm(frame, target="again", columns=NUMBERS, **more):
    made = lgb.LGBMClassifier(n_estimators=8, verbose=-1, n_jobs=1, random_state=0, **more)
    return made.fit(frame[columns], frame[target])


def kept(draft, blobs):
    return read(blobs.get(draft.golden.digest))


def test_requests_are_kept_with_the_answers_of_the_frozen_model(frame, frozen, blobs):
    draft, predictor = frozen(lgbm(frame, columns=[*NUMBERS, "country"]), "binary", frame, [*NUMBERS, "country"])
    golden = kept(draft, blobs)
    assert draft.golden.requests == len(golden.requests) == PICKED >= 50
    assert draft.golden.rows == len(frame)
    assert predictor.predict(golden.requests) == golden.answers
    everything = predictor.predict(frame[[*NUMBERS, "country"]].astype(object).to_dict("records"))
    assert (golden.answers[0], golden.answers[-1]) == (min(everything), max(everything))
    assert {request["country"] for request in golden.requests} == {"UK", "DE", "FR"}


def test_a_sample_of_few_rows_is_kept_whole(frame, frozen, blobs):
    draft, _ = frozen(lgbm(frame), "binary", frame.head(12), NUMBERS)
    assert (draft.golden.requests, draft.golden.rows) == (12, 12)
    asked = kept(draft, blobs).requests
    assert sorted(asked, key=str) == sorted(frame.head(12)[NUMBERS].to_dict("records"), key=str)


def test_the_same_model_and_sample_keep_the_same_file_outside_of_the_digest(frame, frozen):
    model = lgbm(frame)
    one, again = (frozen(model, "binary", frame, NUMBERS)[0] for _ in range(2))
    fewer, _ = frozen(model, "binary", frame.head(60), NUMBERS)
    assert one.golden == again.golden != fewer.golden
    assert one.digest == fewer.digest


def test_without_a_sample_there_are_none(frame, frozen):
    draft, _ = frozen(LogisticRegression().fit(frame[NUMBERS].values, frame["again"]), "binary", None, NUMBERS)
    assert draft.golden is None


@pytest.mark.parametrize("rows", [0, 1])
def test_an_empty_sample_and_one_of_a_row_do_not_hold_up_the_freezing(frame, frozen, rows):
    draft, _ = frozen(lgbm(frame), "binary", frame.head(rows), NUMBERS)
    assert (draft.golden.requests if draft.golden else 0) == rows


@given(some.lists(some.one_of(some.floats(0, 1), some.sampled_from([0.0, 0.5])), max_size=300), some.integers(2, 64))
def test_what_is_picked_reaches_from_the_lowest_to_the_highest(predictions, count):
    places = spread(predictions, count)
    assert len(set(places)) == len(places) == min(count, len(predictions))
    chosen = [predictions[place] for place in places]
    assert chosen == sorted(chosen)
    if predictions:
        assert (chosen[0], chosen[-1]) == (min(predictions), max(predictions))


def test_rare_predictions_are_picked_too():
    rare = list(np.linspace(0.5, 0.95, 20))
    chosen = [([0.01] * 2_000 + rare)[place] for place in spread([0.01] * 2_000 + rare)]
    assert set(rare) <= set(chosen) and chosen.count(0.01) >= 20


def test_of_several_classes_every_one_that_is_predicted_is_there(frame, frozen, blobs):
    frame = frame.assign(band=pd.cut(frame["spend"], 3, labels=["low", "middle", "high"]).astype(str))
    draft, _ = frozen(lgbm(frame, "band"), "multiclass", frame, NUMBERS)
    answers = kept(draft, blobs).answers
    assert {max(range(3), key=one.__getitem__) for one in answers} == {0, 1, 2}


def test_rows_that_no_client_could_send_are_left_out(frame, frozen, blobs):
    rows = frame[NUMBERS].copy()
    model = LinearRegression().fit(rows.values, frame["spend"])
    rows.loc[250:, "hour"] = math.inf
    table = pa.table({**{name: rows[name].to_numpy() for name in NUMBERS}})
    draft, _ = frozen(model, "regression", table, NUMBERS)
    assert draft.golden.requests == PICKED
    assert all(math.isfinite(one["hour"]) for one in kept(draft, blobs).requests)


def test_decimals_and_missing_values_come_back_as_they_were_sent(frame, frozen, blobs):
    prices = [None if i % 7 == 0 else decimal.Decimal(i) / 4 for i in range(len(frame))]
    table = pa.table({"price": pa.array(prices, pa.decimal128(9, 2)), "hour": frame["hour"].to_numpy()})
    given_ = np.column_stack([[np.nan if p is None else float(p) for p in prices], frame["hour"]])
    booster = lgb.train({"objective": "regression", "verbose": -1}, lgb.Dataset(given_, frame["spend"]), 4)
    draft, predictor = frozen(booster, "regression", table, ["price", "hour"])
    golden = kept(draft, blobs)
    assert None in [one["price"] for one in golden.requests]
    assert compare("m@1", golden, predictor.predict).same


def test_another_model_gives_other_answers_and_says_which(frame, frozen, blobs):
    draft, predictor = frozen(lgbm(frame), "binary", frame, NUMBERS)
    golden = kept(draft, blobs)
    same = compare("reorder@1", golden, predictor.predict)
    assert (same.cases, same.different, same.worst, same.examples) == (PICKED, 0, 0.0, ())
    _, other = frozen(lgbm(frame, max_depth=1), "binary", frame, NUMBERS)
    found = compare("reorder@1", golden, other.predict)
    assert found.different > 30 and not found.same and found.worst > 0.01
    assert len(found.examples) == 10 and found.examples[0].startswith("request ")
    assert compare("reorder@1", golden, other.predict, tolerance=0.99).same


def test_a_request_that_is_refused_now_is_another_answer(frame, frozen, blobs):
    draft, _ = frozen(lgbm(frame), "binary", frame, NUMBERS)
    _, narrower = frozen(lgbm(frame, columns=[*NUMBERS, "country"]), "binary", frame, [*NUMBERS, "country"])
    found = compare("reorder@1", kept(draft, blobs), narrower.predict)
    assert (found.different, found.worst) == (PICKED, None)
    assert "was refused: field 'country' is missing" in found.examples[0]


@pytest.mark.parametrize(
    ("expected", "got", "apart"),
    [
        (0.5, 0.6, 0.1),
        (1000.0, 1001.0, 0.001),
        ([0.2, 0.8], [0.3, 0.7], 0.1),
        ([0.2, 0.8], [0.2, 0.3, 0.5], math.inf),
        ([0.2, 0.8], 0.8, math.inf),
        (0.5, math.nan, math.inf),
    ],
)
def test_the_distance_of_answers(expected, got, apart):
    assert distance(expected, got) == pytest.approx(apart)


def test_a_version_keeps_them_and_an_endpoints_bundle_does_not(frame, frozen, blobs, tmp_path):
    draft, _ = frozen(lgbm(frame), "binary", frame, NUMBERS)
    db = Database(tmp_path / "records.db", writable=True)
    from sampan.base.clock import ManualClock

    models = Models(db, blobs, ManualClock(1_300_000_000_000_000))
    version = models.register(draft, "reorder")
    assert version.golden == draft.golden == models.get("reorder@1").golden
    assert models.register(version.draft(), "copy").golden == draft.golden
    assert set(draft.held()) == {*draft.files.values(), draft.golden.digest}
    assert b"golden" not in msgspec.json.encode(draft_of(version))
    blobs.path(draft.golden.digest).unlink()
    with pytest.raises(NotFound, match=r"its golden requests .* are not in the store"):
        models.register(draft, "third")
    db.close()


@pytest.mark.parametrize("data", [b"", b"[]", b'{"requests": [{}], "answers": []}', b'{"requests": 3}'])
def test_a_file_that_is_none_is_damaged(data):
    with pytest.raises(Damaged):
        read(data)


def test_freezing_does_not_fail_where_nothing_can_be_asked(frame, blobs):
    draft = freeze(Fitted(lgbm(frame), NUMBERS, sample=frame), "binary", blobs)
    nothing = pa.table({name: pa.array([math.inf] * 3) for name in NUMBERS})
    assert capture(load(draft, blobs), nothing, blobs.put) is None
