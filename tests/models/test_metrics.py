"""Every figure agrees with scikit-learn where both are defined, and is None where it is not."""

import warnings
from itertools import permutations

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

import sampan
from sampan.base.errors import Usage
from sampan.models import measures, metrics
from sampan.models.measures import sorted_for as sorted_

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
        weighted = reference.f1_score(truth, chosen, labels=["a", "b", "c"], average="weighted", zero_division=0)
        balanced = reference.balanced_accuracy_score(truth, chosen)
        recalls = reference.recall_score(truth, chosen, labels=["a", "b", "c"], average=None, zero_division=np.nan)
    assert found["macro_f1"] == pytest.approx(expected)
    assert found["weighted_f1"] == pytest.approx(weighted)
    assert found["balanced_accuracy"] == pytest.approx(balanced)
    given_ = [np.nan if one is None else one for one in found["recall_by_class"].values()]
    assert list(found["recall_by_class"]) == ["a", "b", "c"]
    assert given_ == pytest.approx(recalls, nan_ok=True)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=2, max_size=50))
def test_regression_figures_are_scikit_learns(drawn):
    truth, predicted = map(list, zip(*drawn, strict=True))
    assume(np.std(truth) > 1e-3)
    found = metrics.regression(truth, predicted)
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(truth, predicted))
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(truth, predicted))
    assert found["r2"] == pytest.approx(reference.r2_score(truth, predicted), rel=1e-6)
    assert found["medae"] == pytest.approx(reference.median_absolute_error(truth, predicted))
    if all(abs(value) > 1e-9 for value in truth):
        assert found["mape"] == pytest.approx(reference.mean_absolute_percentage_error(truth, predicted))


def test_the_error_as_a_share_of_a_truth_of_zero_is_not_defined():
    assert metrics.mape([0.0, 2.0], [1.0, 2.0]) is None
    assert metrics.mape([1e-320, 2.0], [1.0, 2.0]) is None
    assert metrics.mape([4.0, 2.0], [3.0, 2.0]) == 0.125


def test_errors_that_no_number_holds_are_not_defined():
    found = metrics.regression([1e300, -1e300], [-1e300, 1e300])
    assert (found["rmse"], found["r2"], found["mae"]) == (None, None, 2e300)


@given(cases)
def test_calls_at_a_threshold_are_scikit_learns(drawn):
    truth, score = map(list, zip(*drawn, strict=True))
    called = [one >= 0.5 for one in score]
    found = metrics.binary(truth, score)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, called))
    if any(called):
        assert found["precision"] == pytest.approx(reference.precision_score(truth, called))
    else:
        assert found["precision"] is None
    if any(truth):
        assert found["recall"] == pytest.approx(reference.recall_score(truth, called))
        assert found["pr_auc"] == pytest.approx(reference.average_precision_score(truth, score))
    else:
        assert found["recall"] is None and found["pr_auc"] is None
    if any(truth) or any(called):
        assert found["f1"] == pytest.approx(reference.f1_score(truth, called))
    else:
        assert found["f1"] is None


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


few = st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.2, 0.3])), min_size=1, max_size=6)


def over_all_orders(drawn, figure):
    """The mean of a figure of a list of hits over all orders in which equal scores may come."""
    found, seen = 0.0, 0
    for order in permutations(range(len(drawn))):
        scores = [drawn[place][1] for place in order]
        if scores == sorted(scores, reverse=True):
            found, seen = found + figure([drawn[place][0] for place in order]), seen + 1
    return found / seen


def precision_of_hits(k):
    def figure(hits):
        at = [sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits[:k]) if hit]
        return sum(at) / min(k, sum(hits))

    return figure


@settings(max_examples=40, deadline=None)
@given(few, st.integers(1, 7))
def test_ties_of_a_ranking_count_as_the_mean_over_their_orders(drawn, k):
    relevant, score = map(list, zip(*drawn, strict=True))
    found, first = metrics.mean_average_precision(relevant, score, k=k), metrics.reciprocal_rank(relevant, score)
    if not any(relevant):
        assert found is None and first is None
        return
    assert found == pytest.approx(over_all_orders(drawn, precision_of_hits(k)))
    assert first == pytest.approx(over_all_orders(drawn, lambda hits: 1 / (hits.index(True) + 1)))


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=30, unique_by=lambda one: one[1]))
def test_without_ties_the_two_average_precisions_are_one(drawn):
    relevant, score = map(list, zip(*drawn, strict=True))
    assert metrics.mean_average_precision(relevant, score, k=30) == pytest.approx(
        metrics.average_precision(relevant, score)
    )


numbers_ = st.one_of(st.integers(-3, 3), st.floats(-5, 5))


@given(st.lists(st.tuples(numbers_, numbers_), min_size=1, max_size=70))
def test_orders_are_compared_as_scipy_does_with_ties(drawn):
    truth, predicted = map(list, zip(*drawn, strict=True))
    found = metrics.ordered(truth, predicted)
    if len(set(map(float, truth))) < 2 or len(set(map(float, predicted))) < 2:
        assert found["kendall_tau"] is None and found["spearman"] is None
        return
    assert found["kendall_tau"] == pytest.approx(stats.kendalltau(truth, predicted).statistic, abs=1e-9)
    assert found["spearman"] == pytest.approx(stats.spearmanr(truth, predicted).statistic, abs=1e-9)


def test_orders_of_many_are_compared_in_time_that_grows_with_them():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 5_000, 60_000)
    predicted = truth + rng.normal(0, 2_000, 60_000)
    assert metrics.kendall_tau(truth, predicted) == pytest.approx(stats.kendalltau(truth, predicted).statistic)


@pytest.mark.slow
def test_groups_are_told_apart_whatever_names_them():
    found = metrics.ranking([1, 0, 1, 0], [0.9, 0.1, 0.1, 0.9], [None, None, "b", "b"])
    assert found["mrr"] == 0.75
    many = metrics.ranking([1, 0] * 20_000, [0.9, 0.1] * 20_000, [place // 2 for place in range(40_000)])
    assert (many["mrr"], many["ndcg@10"], many["map@10"]) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("kind", "more"),
    [("binary", {}), ("multiclass", {"classes": [0, 1]}), ("regression", {}), ("ranking", {}), ("ordered", {})],
)
def test_all_figures_of_a_kind_have_a_name_and_a_place(kind, more):
    prediction = [[0.8, 0.2], [0.3, 0.7], [0.6, 0.4]] if kind == "multiclass" else [0.2, 0.7, 0.4]
    found = sampan.metrics.measure(kind, [0, 1, 1], prediction, **more)
    plain = [name for name, value in found.items() if not isinstance(value, dict)]
    assert all(measures.title(name) != name for name in plain)
    said = [name for name in plain if measures.higher(name) is not None]
    assert sorted_(kind, plain)[: len(said)] == sorted_(kind, said)
    assert sorted_(kind, plain)[-1] == "cases"
    assert set(measures.FIRST.get(kind, ())) <= {name.partition("@")[0] for name in said}


def test_the_main_figure_of_a_kind_comes_first_and_what_a_step_made_up_before_what_only_counts():
    names = ["cases", "profit", "log_loss", "auc", "accuracy"]
    assert sorted_("binary", names) == ["auc", "log_loss", "accuracy", "profit", "cases"]
    assert sorted_("multiclass", names) == ["accuracy", "log_loss", "auc", "profit", "cases"]


@pytest.mark.parametrize(
    ("name", "higher"),
    [("auc", True), ("ndcg@5", True), ("test_rmse", False), ("val-loss", False), ("profit", None), ("cases", None)],
)
def test_which_way_is_better_is_known_or_not_said(name, higher):
    assert measures.higher(name) is higher


def test_a_figure_is_called_what_people_call_it():
    assert [measures.title(one) for one in ("ndcg@10", "r2", "profit")] == ["NDCG at 10", "R²", "profit"]


def test_ranking_figures_are_means_over_groups():
    relevance, score, group = [1, 0, 0, 1], [0.9, 0.1, 0.9, 0.1], ["x", "x", "y", "y"]
    assert metrics.average_precision(relevance, score, group) == pytest.approx((1.0 + 0.5) / 2)
    assert metrics.ranking(relevance, score, group)["ndcg@10"] == pytest.approx((1 + 1 / np.log2(3)) / 2)


def test_no_cases_give_no_figures():
    assert {name: v for name, v in metrics.binary([], []).items() if v is not None} == {"cases": 0.0}
    assert metrics.multiclass([], np.empty((0, 2)), ["a", "b"])["accuracy"] is None
    assert metrics.ranking([], []) == {"cases": 0.0, "ndcg@10": None, "mrr": None, "map@10": None, "map": None}
    assert metrics.regression([], []) == dict.fromkeys(["mae", "medae", "rmse", "mape", "r2"]) | {"cases": 0.0}
    assert metrics.ordered([], []) == {"cases": 0.0, "kendall_tau": None, "spearman": None}
    assert metrics.multiclass([], np.empty((0, 2)), ["a", "b"])["recall_by_class"] == {"a": None, "b": None}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: metrics.auc([0, 2], [0.1, 0.2]), "outcome .*2.* is neither true nor false"),
        (lambda: metrics.brier([0, 1], [0.1]), "shape"),
        (lambda: metrics.auc([0, 1], [float("nan"), 0.2]), "not a finite number"),
        (lambda: metrics.mae([1.0, float("nan")], [1.0, 2.0]), "outcome is not a finite number"),
        (lambda: metrics.measure("multiclass", ["a"], [[1.0]]), "classes are not named"),
        (lambda: metrics.measure("guess", [1], [1.0]), "unknown kind 'guess'"),
        (lambda: metrics.ranking([1, 0], [0.1, 0.2], ["a"]), "1 group names for 2 items"),
        (lambda: metrics.multiclass(["z"], [[1.0, 0.0]], ["a", "b"]), "'z' is none of its classes"),
    ],
)
def test_what_cannot_be_measured_is_named(call, said):
    with pytest.raises(Usage, match=said):
        call()
