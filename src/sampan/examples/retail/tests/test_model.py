from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from conftest import MONDAY
from leaks import differences, features_know_no_future
from scoring import auc, brier
from steps import evaluation, feature_names, reorder


@pytest.fixture
def training_set():
    """Two hundred days of customers: some come often and return, the others do not."""
    noise = np.random.default_rng(5).random(1600).tolist()
    rows = [
        {
            "order_id": f"{number:05}",
            "customer_id": f"c{number % 40}",
            "ordered_at": MONDAY + timedelta(hours=3 * number),
            "label_known_at": MONDAY + timedelta(hours=3 * number, days=30),
            "orders_before": (number * 7) % 20,
            "spent_before": noise[number],
            "returned": (number * 7) % 20 > 9 or noise[number] > 0.9,
        }
        for number in range(1600)
    ]
    return pa.Table.from_pylist(rows)


def test_auc_is_the_chance_that_a_positive_scores_higher():
    assert auc(np.array([True, False, True]), np.array([0.9, 0.1, 0.1])) == 0.75
    assert auc(np.array([True, True]), np.array([0.9, 0.1])) is None


def test_brier_is_the_mean_squared_distance():
    assert brier(np.array([True, False]), np.array([0.5, 0.5])) == 0.25


def test_the_same_rows_in_any_order_give_the_same_model(training_set):
    shuffled = training_set.take(np.random.default_rng(1).permutation(training_set.num_rows))
    first, second = reorder(training_set), reorder(shuffled)
    assert first.features == feature_names(training_set) == ["orders_before", "spent_before"]
    assert first.estimator.model_to_string() == second.estimator.model_to_string()


def test_the_evaluation_judges_months_after_what_it_learned_from(training_set):
    found = evaluation(training_set).to_pylist()
    assert [row["month"] for row in found] == ["all", "2011-05", "2011-06", "2011-07"]
    assert found[0]["auc"] > 0.95


@pytest.fixture
def shop(till):
    for number in range(60):
        till.sell(f"{number:03}", f"c{number % 7}", number)
    till.cancel("C9", "c1", 20)
    till.build("lines", "orders", "features")
    return till


def arguments(shop, features="FROM features"):
    return {
        "order_line": shop.db.execute("FROM order_line").to_arrow_table(),
        "order_cancelled": shop.db.execute("FROM order_cancelled").to_arrow_table(),
        "features": shop.db.execute(features).to_arrow_table(),
        "evaluation": pa.Table.from_pylist([{"month": "all", "auc": 0.86}]),
    }


def test_features_that_look_back_only_pass(shop):
    assert features_know_no_future(**arguments(shop)) is None


def test_a_column_that_counts_orders_to_come_is_named(shop, monkeypatch, tmp_path):
    leaky = (tmp_path / "tables").absolute()
    leaky.mkdir()
    for name in ("lines", "orders", "features"):
        text = Path(f"tables/{name}.sql").read_text("utf-8")
        (leaky / f"{name}.sql").write_text(text.replace("-- count(*) OVER", "count(*) OVER"), "utf-8")
    shop.db.execute("CREATE OR REPLACE TABLE features AS " + (leaky / "features.sql").read_text("utf-8"))
    monkeypatch.chdir(tmp_path)
    found = features_know_no_future(**arguments(shop))
    assert "lifetime_orders" in found and "0.860" in found


def test_a_changed_value_is_counted_by_column(shop):
    now = shop.db.execute("FROM features").to_arrow_table()
    then = shop.db.execute("SELECT * REPLACE (hour + 1 AS hour) FROM features").to_arrow_table()
    assert differences(now, then) == {"hour": 60}
