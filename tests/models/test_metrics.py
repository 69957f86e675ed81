"""Every figure agrees with scikit-learn where both are defined, and is None where it is not."""

import warnings

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sampan.base.errors import Usage
from sampan.models import metrics

probabilities = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))  # ties are common
cases = st.lists(st.tuples(st.booleans(), probabilities), min_size=1, max_size=60)
graded = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8])), min_size=2, max_size=30)


@given(cases)
def test_auc_is_scikit_learns_with_ties(drawn):
    truth, score = map(list, zip(*drawn, strict=True))
    assume(len(set(truth)) == 2)
    assert metrics.auc(truth, score) == pytest.approx(reference.roc_auc_score(truth, score), abs=1e-12)


@given(cases)
def test_auc_of_one_class_is_not_defined(drawn):
    score = [p for _, p in drawn]
    assert metrics.auc([True] * len(score), score) is None
    assert metrics.auc([False] * len(score), score) is None


@given(cases)
def test_turning_the_scores_round_turns_auc_round(drawn):
    truth, score = map(np.array, zip(*drawn, strict=True))
    assume(len(set(truth)) == 2)
    assert metrics.auc(truth, -score) == pytest.approx(1 - metrics.auc(truth, score), abs=1e-12)


@given(cases)
def test_brier_and_log_loss_are_scikit_learns(drawn):
    truth, score = map(list, zip(*drawn, strict=True))
    assert metrics.brier(truth, score) == pytest.approx(np.mean((np.array(score) - truth) ** 2), abs=1e-12)
    assume(len(set(truth)) == 2)
    assert metrics.brier(truth, score) == pytest.approx(reference.brier_score_loss(truth, score), abs=1e-12)
    clipped = np.clip(score, 1e-15, 1 - 1e-15)
    assert metrics.log_loss(truth, score) == pytest.approx(reference.log_loss(truth, clipped), rel=1e-9, abs=1e-12)


@given(cases)
def test_calibration_bins_hold_every_case_once(drawn):
    truth, score = map(list, zip(*drawn, strict=True))
    bins = metrics.calibration(truth, score)
    assert sum(part.cases for part in bins) == len(truth)
    for part in bins:
        if part.cases:
            assert part.low - 1e-9 <= part.predicted <= part.high + 1e-9
        else:
            assert part.predicted is None and part.observed is None
    positives = sum(part.observed * part.cases for part in bins if part.cases)
    assert positives == pytest.approx(sum(truth))


def test_a_perfectly_calibrated_forecast_has_no_calibration_error():
    truth = [True, False, False, False, True, True, True, False]
    score = [0.25] * 4 + [0.75] * 4
    assert metrics.calibration_error(truth, score) == pytest.approx(0)
    assert metrics.calibration_error(truth, [1 - p for p in score]) == pytest.approx(0.5)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.floats(0.01, 1), min_size=3, max_size=3)), min_size=2))
def test_multiclass_figures_are_scikit_learns(drawn):
    truth = [label for label, _ in drawn]
    table = np.array([row for _, row in drawn])
    table /= table.sum(axis=1, keepdims=True)
    found = metrics.multiclass(truth, table, ["a", "b", "c"])
    chosen = [("a", "b", "c")[place] for place in table.argmax(axis=1)]
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, chosen))
    assert found["log_loss"] == pytest.approx(reference.log_loss(truth, table, labels=["a", "b", "c"]), rel=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = reference.f1_score(truth, chosen, labels=["a", "b", "c"], average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=2, max_size=50))
def test_regression_figures_are_scikit_learns(drawn):
    truth, predicted = map(list, zip(*drawn, strict=True))
    assume(np.std(truth) > 1e-3)
    found = metrics.regression(truth, predicted)
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(truth, predicted))
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(truth, predicted))
    assert found["r2"] == pytest.approx(reference.r2_score(truth, predicted), rel=1e-6)


def test_r2_of_a_constant_truth_is_not_defined():
    assert metrics.regression([3.0, 3.0], [2.0, 4.0])["r2"] is None


@settings(max_examples=60)
@given(graded, st.integers(1, 12))
def test_ndcg_is_scikit_learns_with_ties(drawn, k):
    relevance, score = map(list, zip(*drawn, strict=True))
    found = metrics.ndcg(relevance, score, k=k)
    if not any(relevance):
        assert found is None
    else:
        assert found == pytest.approx(reference.ndcg_score([relevance], [score], k=k))


@settings(max_examples=60)
@given(graded)
def test_average_precision_is_scikit_learns_with_ties(drawn):
    relevant = [grade > 1 for grade, _ in drawn]
    score = [s for _, s in drawn]
    found = metrics.average_precision(relevant, score)
    if not any(relevant):
        assert found is None
    else:
        assert found == pytest.approx(reference.average_precision_score(relevant, score))


def test_ranking_figures_are_means_over_groups():
    relevance, score, group = [1, 0, 0, 1], [0.9, 0.1, 0.9, 0.1], ["x", "x", "y", "y"]
    assert metrics.average_precision(relevance, score, group) == pytest.approx((1.0 + 0.5) / 2)
    assert metrics.ranking(relevance, score, group)["ndcg@10"] == pytest.approx((1 + 1 / np.log2(3)) / 2)


def test_no_cases_give_no_figures():
    assert {name: v for name, v in metrics.binary([], []).items() if v is not None} == {"cases": 0.0}
    assert metrics.multiclass([], np.empty((0, 2)), ["a", "b"])["accuracy"] is None
    assert metrics.ranking([], []) == {"cases": 0.0, "ndcg@10": None, "map": None}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: metrics.auc([0, 2], [0.1, 0.2]), "outcome .*2.* is neither true nor false"),
        (lambda: metrics.brier([0, 1], [0.1]), "shape"),
        (lambda: metrics.auc([0, 1], [float("nan"), 0.2]), "not a finite number"),
        (lambda: metrics.multiclass(["z"], [[1.0, 0.0]], ["a", "b"]), "'z' is none of its classes"),
    ],
)
def test_what_cannot_be_measured_is_named(call, said):
    with pytest.raises(Usage, match=said):
        call()
