"""A suite is asked of real frozen models: every kind of test holds, fails, or has too little to go by."""

import math
from collections.abc import Callable
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from sampan.base.errors import BadQuery, SampanError, Usage
from sampan.lake.query import TableSource
from sampan.models.examine import Errand, Examined, examine
from sampan.models.suites import parse
from sampan.models.version import Version

NUMBERS = ["recency", "orders", "spend", "hour"]
FILE = "hour IN (SELECT 1 FROM read_csv('/etc/passwd'))"


@pytest.fixture
def source(tmp_path: Any) -> Callable[..., TableSource]:
    def source(frame: pd.DataFrame, name: str = "shop") -> TableSource:
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
        return TableSource(name, (str(path),))

    return source


@pytest.fixture
def ask(frame: pd.DataFrame, frozen: Any, blobs: Any, source: Any) -> Callable[..., Examined]:
    """Freeze an estimator fitted on the first features, and ask it a suite about a table."""

    def ask(
        suite: str,
        estimator: Any = None,
        kind: str = "binary",
        target: str = "again",
        table: pd.DataFrame | None = None,
        trained: pd.DataFrame | None = None,
        features: list[str] = NUMBERS,
        **more: Any,
    ) -> Examined:
        fitted = (estimator or LogisticRegression()).fit(frame[features], frame[target])
        draft, _ = frozen(fitted, kind, frame[features], features)
        errand = Errand(
            version=Version(model="m", number=1, **{f: getattr(draft, f) for f in draft.__struct_fields__}),
            blobs=str(blobs.folder),
            suite=parse(suite.encode(), "suites/m.toml"),
            sources={"shop": source(frame if table is None else table)},
            trained=None if trained is None else source(trained, "then"),
            table="shop",
            target=target,
            **more,
        )
        return examine(errand)

    return ask


def states(found: Examined) -> dict[str, str]:
    return {one.name: one.state for one in found.outcomes}


@pytest.fixture
def frame(frame: pd.DataFrame) -> pd.DataFrame:
    made = frame.copy()
    made["country"] = made["country"].astype(str)
    return made


# -- metrics


def test_metrics_hold_above_a_floor_and_below_a_ceiling(ask: Any) -> None:
    found = ask("[minimum]\nauc = 0.7\nbrier = 0.24\nlog_loss = 0.01\n")
    assert states(found) == {"minimum auc": "passed", "minimum brier": "passed", "minimum log_loss": "failed"}
    assert states(ask("[minimum]\nauc = 0.99\nbrier = 0.01\n")) == {
        "minimum auc": "failed",
        "minimum brier": "failed",
    }


def test_a_failed_metric_shows_the_rows_that_are_furthest_off(ask: Any) -> None:
    failed = ask("[minimum]\nbrier = 0.01\n").outcomes[0]
    assert failed.demand == "at most 0.01" and 0.1 < failed.figure < 0.25 and failed.rows == 400
    off = [abs(one.prediction - one.truth) for one in failed.cases]
    assert len(off) == 5 and off == sorted(off, reverse=True) and off[0] > 0.8
    assert set(failed.cases[0].features) == set(NUMBERS)


def test_a_slice_is_measured_on_its_own_rows(ask: Any, frame: pd.DataFrame) -> None:
    frame.loc[frame["country"] == "DE", "again"] = ~frame["again"]
    suite = """
    [[slice]]
    name = "UK"
    where = "country = 'UK'"
    minimum = { auc = 0.6 }
    [[slice]]
    name = "DE"
    where = "country = 'DE'"
    minimum = { auc = 0.6 }
    """
    found = ask(suite)
    assert states(found) == {"UK auc": "passed", "DE auc": "failed"}
    assert [one.rows for one in found.outcomes] == [int((frame["country"] == c).sum()) for c in ("UK", "DE")]


def test_too_few_rows_are_no_evidence_and_so_is_one_outcome_alone(ask: Any) -> None:
    suite = """
    [[slice]]
    name = "few"
    where = "recency > 2"
    minimum = { auc = 0.0 }
    [[slice]]
    name = "one outcome"
    where = "again"
    minimum = { auc = 0.0, brier = 1.0 }
    """
    found = ask(suite)
    assert states(found) == {
        "few auc": "not enough evidence",
        "one outcome auc": "not enough evidence",
        "one outcome brier": "passed",
    }
    assert "rows whose outcome is known, where 50 are wanted" in found.outcomes[0].said
    assert "not defined on these rows" in found.outcomes[1].said
    assert states(ask(suite.replace("recency > 2", "recency > 2 OR true")))["few auc"] == "passed"


def test_rows_without_an_outcome_do_not_count(ask: Any, frame: pd.DataFrame) -> None:
    table = frame.assign(again=[None if at < 300 else value for at, value in enumerate(frame["again"])])
    found = ask("[minimum]\nauc = 0.5\n", table=table)
    assert (found.rows, found.outcomes[0].rows) == (400, 100)


def test_a_row_that_the_model_cannot_take_fails_the_metric_and_is_shown(ask: Any, frame: pd.DataFrame) -> None:
    table = frame.assign(spend=[None if at == 7 else value for at, value in enumerate(frame["spend"])])
    failed = ask("[minimum]\nauc = 0.5\n", table=table).outcomes[0]
    assert (failed.state, failed.figure) == ("failed", None)
    assert failed.said == "1 of 400 rows got no finite prediction"
    assert failed.cases[0].prediction is None and "'spend'" in failed.cases[0].said
    whole = ask("where = 'spend IS NOT NULL'\n[minimum]\nauc = 0.5\n", table=table)
    assert states(whole) == {"minimum auc": "passed"}


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_predictions_that_are_not_finite_never_pass(ask: Any, frame: pd.DataFrame) -> None:
    frame["amount"] = frame["spend"] * 2
    suite = """
    [minimum]
    mae = 1e300
    [[perturbation]]
    name = "more"
    set = { spend = "spend * 1e308" }
    where = "spend > 1"
    max_change = 1e308
    min_rows = 1
    [[case]]
    name = "huge"
    reason = "overflow"
    features = { recency = 0.0, orders = 0.0, spend = 1e308, hour = 0.0 }
    at_most = 1e308
    """
    table = frame.assign(spend=[1e308 if at == 3 else value for at, value in enumerate(frame["spend"])])
    mae, more, huge = ask(suite, LinearRegression(), "regression", "amount", table=table).outcomes
    assert (mae.state, mae.figure, mae.said) == ("failed", None, "1 of 400 rows got no finite prediction")
    assert more.state == "failed" and "rows got no finite prediction" in more.said
    assert more.cases[0].then is None
    assert (huge.state, huge.figure) == ("failed", None)
    assert huge.cases[0].said == "the prediction is not a finite number"


def test_a_metric_of_another_kind_of_model_is_refused(ask: Any) -> None:
    with pytest.raises(Usage, match="mae is not measured of a binary model"):
        ask("[minimum]\nmae = 1\n")


def test_regression_and_multiclass_are_measured_by_their_own(ask: Any, frame: pd.DataFrame) -> None:
    frame["amount"] = frame["spend"] * 2 + frame["orders"]
    found = ask("[minimum]\nmae = 0.001\nr2 = 0.99\n", LinearRegression(), "regression", "amount")
    assert states(found) == {"minimum mae": "passed", "minimum r2": "passed"}
    frame["size"] = np.where(frame["spend"] > 0.5, "large", np.where(frame["spend"] < -0.5, "small", "middle"))
    suite = """
    [minimum]
    accuracy = 0.8
    macro_f1 = 0.999
    [[direction]]
    name = "spends more"
    set = { spend = "spend + 1" }
    must_not = "fall"
    of = "large"
    [[direction]]
    name = "the other way"
    set = { spend = "spend + 1" }
    must_not = "rise"
    of = "large"
    [[case]]
    name = "big"
    reason = "told by hand"
    features = { recency = 0.0, orders = 0.0, spend = 3.0, hour = 0.0 }
    class = "large"
    of = "large"
    at_least = 0.9
    [[case]]
    name = "wrong"
    reason = "told by hand"
    features = { recency = 0.0, orders = 0.0, spend = 3.0, hour = 0.0 }
    class = "small"
    """
    found = ask(suite, LogisticRegression(max_iter=500), "multiclass", "size")
    assert states(found) == {
        "minimum accuracy": "passed",
        "minimum macro_f1": "failed",
        "spends more": "passed",
        "the other way": "failed",
        "big": "passed",
        "wrong": "failed",
    }
    assert found.outcomes[-1].figure == "large" and found.outcomes[-1].cases[0].said == "class large, not small"
    assert set(found.outcomes[1].cases[0].prediction) == {"large", "middle", "small"}


def test_a_ranking_is_measured_list_by_list(ask: Any, frame: pd.DataFrame) -> None:
    frame["relevance"], frame["query"] = frame["again"].astype(int), np.arange(400) // 20
    estimator = LinearRegression()
    good = ask("[minimum]\nmap = 0.5\n", estimator, "ranking", "relevance", group="query").outcomes[0]
    assert good.state == "passed"
    alone = ask("[minimum]\nmap = 0.5\n", estimator, "ranking", "relevance").outcomes[0]
    assert alone.figure != good.figure


# -- changes of the inputs


def test_a_perturbation_holds_if_enough_rows_stay_near(ask: Any) -> None:
    suite = """
    [[perturbation]]
    name = "a little"
    set = { recency = "recency * 1.001" }
    max_change = 0.01
    [[perturbation]]
    name = "a lot"
    set = { recency = "recency + 3" }
    max_change = 0.01
    share = 0.5
    [[perturbation]]
    name = "a lot, of few"
    set = { recency = "recency + if(hour > 1, 3, 0.001)" }
    max_change = 0.01
    share = 0.8
    """
    found = ask(suite)
    assert states(found) == {"a little": "passed", "a lot": "failed", "a lot, of few": "passed"}
    worst = found.outcomes[1].cases[0]
    assert worst.changed == {"recency": pytest.approx(worst.features["recency"] + 3)}
    assert abs(worst.then - worst.prediction) > 0.3
    assert found.outcomes[1].demand == "50 % of rows change by at most 0.01"


def test_an_invariance_allows_no_change(ask: Any, frame: pd.DataFrame) -> None:
    frame["nothing"] = 0.0
    suite = """
    [[invariance]]
    name = "what it ignores"
    set = { nothing = "hour" }
    [[invariance]]
    name = "what it uses"
    set = { recency = "recency + 0.1" }
    """
    found = ask(suite, features=[*NUMBERS, "nothing"])
    assert states(found) == {"what it ignores": "passed", "what it uses": "failed"}


def test_a_direction_is_a_floor_or_a_ceiling(ask: Any) -> None:
    suite = """
    [[direction]]
    name = "up"
    set = { recency = "recency + 1" }
    must_not = "fall"
    [[direction]]
    name = "down"
    set = { recency = "recency + 1" }
    must_not = "rise"
    [[direction]]
    name = "down, by much"
    set = { recency = "recency + 0.001" }
    must_not = "rise"
    tolerance = 0.1
    """
    assert states(ask(suite)) == {"up": "passed", "down": "failed", "down, by much": "passed"}


def test_a_changed_row_that_the_model_cannot_take_does_not_hold(ask: Any) -> None:
    suite = """
    [[direction]]
    name = "hour unknown"
    set = { hour = "if(hour > 1.5, NULL, hour)" }
    must_not = "fall"
    min_rows = 1
    """
    found = ask(suite).outcomes[0]
    assert (found.state, found.figure) == ("failed", 0.0)
    assert found.cases[0].then is None and "'hour'" in found.cases[0].said


def test_only_rows_that_a_change_makes_different_count(ask: Any, frame: pd.DataFrame) -> None:
    suite = """
    [[invariance]]
    name = "late"
    set = { hour = "greatest(hour, 1.5)" }
    tolerance = 1
    [[invariance]]
    name = "nobody"
    set = { hour = "hour" }
    """
    late, nobody = ask(suite).outcomes
    assert late.rows == int((frame["hour"] < 1.5).sum()) < 400
    assert (nobody.state, nobody.rows, nobody.figure) == ("not enough evidence", 0, None)


def test_columns_can_be_exchanged_and_limited_to_some_rows(ask: Any, frame: pd.DataFrame) -> None:
    suite = """
    [[perturbation]]
    name = "exchanged"
    set = { recency = "spend", spend = "recency" }
    where = "country = 'UK'"
    max_change = 0.0
    """
    worst = ask(suite).outcomes[0].cases[0]
    assert worst.changed == {"recency": worst.features["spend"], "spend": worst.features["recency"]}
    different = (frame["country"] == "UK") & (frame["recency"] != frame["spend"])
    assert ask(suite).outcomes[0].rows == int(different.sum())


def test_a_category_may_change_and_text_goes_in_as_text(ask: Any, frame: pd.DataFrame) -> None:
    frame["country"] = frame["country"].astype("category")
    suite = """
    [[invariance]]
    name = "country"
    set = { country = "'DE'" }
    """
    model = lgb.LGBMClassifier(n_estimators=8, verbose=-1, n_jobs=1)
    found = ask(suite, model, features=[*NUMBERS, "country"]).outcomes[0]
    assert found.state == "failed" and found.cases[0].changed == {"country": "DE"}
    assert found.rows == int((frame["country"] != "DE").sum())


# -- what cannot be asked


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        ("[[invariance]]\nname = 'a'\nset = { country = \"'x'\" }\n", "it sets 'country', which is no feature of m@1"),
        ("[[invariance]]\nname = 'a'\nset = { hour = \"hours\" }\n", 'Referenced column "hours" not found'),
        ("[[invariance]]\nname = 'a'\nset = { hour = \"country\" }\n", "Could not convert string"),
        ("[[slice]]\nname = 'a'\nwhere = 'agee > 1'\nminimum = { auc = 0 }\n", 'Referenced column "agee" not found'),
        ("where = 'agee > 1'\n[minimum]\nauc = 0\n", 'Referenced column "agee" not found'),
        (f"[[slice]]\nname = 'a'\nwhere = \"{FILE}\"\nminimum = {{ auc = 0 }}\n", "disabled by configuration"),
        ("[[case]]\nreason='r'\nfeatures={hour=1.0}\nclass='x'\n", None),
    ],
)
def test_sql_that_does_not_run_is_told_and_reads_no_file(ask: Any, suite: str, said: str | None) -> None:
    if said is None:
        assert "cannot be asked: field 'recency' is missing" in ask(suite).outcomes[0].said
        return
    with pytest.raises(SampanError) as raised:
        ask(suite)
    assert said in raised.value.obstacle and raised.value.attempted.startswith("Test m@1: ")


def test_a_table_without_a_feature_or_the_target_is_told(ask: Any, frame: pd.DataFrame) -> None:
    with pytest.raises(BadQuery, match="the table shop lacks the feature 'hour'"):
        ask("[minimum]\nauc = 0\n", table=frame.drop(columns="hour"))
    with pytest.raises(BadQuery, match="the table shop lacks the target 'again'"):
        ask("[minimum]\nauc = 0\n", table=frame.drop(columns="again"))
    without = ask("[[invariance]]\nname='a'\nset={hour='hour+1'}\ntolerance=1\n", table=frame.drop(columns="again"))
    assert states(without) == {"a": "passed"}, "a change needs no outcome"


def test_a_target_that_is_no_outcome_is_told(ask: Any, frame: pd.DataFrame) -> None:
    with pytest.raises(Usage, match="the target again holds 2 where one of False, True is expected"):
        ask("[minimum]\nauc = 0\n", table=frame.assign(again=2))


# -- cases


def test_a_case_is_held_to_its_bounds(ask: Any) -> None:
    features = "features = { recency = 3.0, orders = 0.0, spend = 0.0, hour = 0.0 }"
    bounds = ["at_least = 0.9", "at_least = 0.999999", "at_most = 0.5", "equals = 0.5", "class = true", "class = false"]
    suite = "".join(f"[[case]]\nname='{one}'\nreason='seen'\nsource='p1'\n{features}\n{one}\n" for one in bounds)
    found = ask(suite)
    assert states(found) == dict(zip(bounds, ["passed", "failed", "failed", "failed", "passed", "failed"], strict=True))
    assert found.outcomes[2].cases[0].said.endswith("is more than 0.5")
    assert found.outcomes[0].said == "seen (p1)"
    again = found.outcomes[0].figure
    assert states(ask(f"[[case]]\nname='same'\nreason='r'\n{features}\nequals = {again!r}\n")) == {"same": "passed"}


@pytest.mark.parametrize("bound", ["at_most = 2", "at_least = -0.1", "equals = 60"])
def test_a_bound_that_no_probability_could_break_or_keep_is_refused(ask: Any, bound: str) -> None:
    with pytest.raises(Usage, match="is no bound of what it answers: probabilities"):
        ask(f"[[case]]\nreason='r'\nfeatures={{recency=0, orders=0, spend=0, hour=0}}\n{bound}\n")


def test_a_missing_value_of_a_case_is_written_nan(ask: Any) -> None:
    model = lgb.LGBMClassifier(n_estimators=8, verbose=-1, n_jobs=1)
    case = "[[case]]\nreason='r'\nfeatures={recency=nan, orders=0.0, spend=0.0, hour=0.0}\nat_least=0\n"
    assert states(ask(case, model)) == {"case 1": "passed"}
    assert states(ask(case)) == {"case 1": "not enough evidence"}, "this one takes no missing values"


def test_a_case_of_an_unknown_class_is_refused(ask: Any) -> None:
    with pytest.raises(Usage, match="'maybe' is none of its classes"):
        ask("[[case]]\nreason='r'\nfeatures={recency=0, orders=0, spend=0, hour=0}\nclass='maybe'\n")


# -- rows that it was trained on


def test_rows_that_it_was_trained_on_are_counted_and_can_be_left_out(ask: Any, frame: pd.DataFrame) -> None:
    later = pd.concat([frame.head(150), frame.tail(100).assign(hour=9.5)])
    suite = "[minimum]\nauc = 0.5\n[[invariance]]\nname='a'\nset={hour='hour+1'}\ntolerance=1\n"
    suite += "[[slice]]\nname='b'\nwhere='true'\nminimum={auc=0}\n"
    found = ask(suite, table=later, trained=frame)
    assert (found.rows, found.seen, [one.seen for one in found.outcomes]) == (250, 150, [150, 150, 150])
    fresh = ask(f"unseen = true\n{suite}", table=later, trained=frame)
    assert (fresh.rows, fresh.seen, [one.rows for one in fresh.outcomes]) == (100, 0, [100, 100, 100])
    assert ask(suite, same=True).seen == 400
    assert ask(suite).seen is None
    with pytest.raises(Usage, match="what the version was trained on is not kept"):
        ask(f"unseen = true\n{suite}")


def test_a_condition_may_name_another_table(
    ask: Any, frame: pd.DataFrame, source: Any, blobs: Any, frozen: Any
) -> None:
    fitted = LogisticRegression().fit(frame[NUMBERS], frame["again"])
    draft, _ = frozen(fitted, "binary", frame[NUMBERS], NUMBERS)
    suite = "[[slice]]\nname='vip'\nwhere='country IN (SELECT country FROM vip)'\nminimum={auc=0.5}\n"
    errand = Errand(
        version=Version(model="m", number=1, **{f: getattr(draft, f) for f in draft.__struct_fields__}),
        blobs=str(blobs.folder),
        suite=parse(suite.encode(), ""),
        sources={"shop": source(frame), "vip": source(pd.DataFrame({"country": ["UK"]}), "vip")},
        table="shop",
        target="again",
    )
    assert examine(errand).outcomes[0].rows == int((frame["country"] == "UK").sum())


def test_figures_are_the_figures_of_the_metrics(ask: Any, frame: pd.DataFrame) -> None:
    from sklearn.metrics import roc_auc_score

    fitted = LogisticRegression().fit(frame[NUMBERS], frame["again"])
    expected = roc_auc_score(frame["again"], fitted.predict_proba(frame[NUMBERS])[:, 1])
    assert math.isclose(ask("[minimum]\nauc = 0\n").outcomes[0].figure, expected, abs_tol=1e-9)
