import json
from decimal import Decimal

import pytest

from conftest import MONDAY, WORKSPACE
from scoring import auc


@pytest.fixture
def served(till):
    """Two orders with their decisions; the outcome of the first is known."""
    till.sell("1", "ann", 0)
    till.sell("2", "ann", 10)
    till.build("lines", "orders", "features")
    till.db.execute(
        """CREATE TABLE prediction (_id VARCHAR, _time TIMESTAMPTZ, endpoint VARCHAR, entity VARCHAR, version VARCHAR,
           features VARCHAR, context VARCHAR, prediction VARCHAR, action VARCHAR, rule VARCHAR, value VARCHAR)"""
    )
    till.db.execute("CREATE TABLE outcome (prediction_id VARCHAR, value VARCHAR)")
    for order, before, probability, truth in (("1", 0, 0.7, "true"), ("2", 1, 0.4, "false"), ("3", 2, 0.5, None)):
        value = {"currency": "GBP", "outcomes": {"true": 2.0, "false": -1.2}}
        row = ["p" + order, MONDAY, "reorder", "ann", "reorder@1", json.dumps({"orders_before": before})]
        row += [json.dumps({"order_id": order}), str(probability), "reserve", "likely", json.dumps(value)]
        till.db.execute(f"INSERT INTO prediction VALUES ({', '.join('?' * len(row))})", row)
        if truth:
            till.db.execute("INSERT INTO outcome VALUES (?, ?)", ["p" + order, truth])
    till.build("served", "served_by_month")
    return till


def skew(till):
    return till.rows((WORKSPACE / "checks" / "served_features_are_derived_features.sql").read_text("utf-8"))


def test_a_decision_earns_by_its_outcome_and_nothing_before_it_is_known(served):
    earned = served.rows("SELECT order_id, returned, earned FROM served ORDER BY order_id")
    assert earned == [("1", True, 2), ("2", False, Decimal("-1.2")), ("3", None, None)]
    assert served.rows("SELECT decisions, auc, round(brier, 3), value_per_1000 FROM served_by_month") == [
        (2, 1.0, 0.125, 400.0)
    ]


def test_features_as_served_equal_those_derived_from_the_log(served):
    assert skew(served) == []


def test_a_feature_served_in_another_unit_is_named(served):
    served.db.execute("""UPDATE served SET features = '{"orders_before": 100}' WHERE order_id = '2'""")
    assert skew(served) == [("2", "orders_before", 100.0, 1.0)]


def test_the_auc_in_sql_is_the_auc_in_python(served):
    import numpy as np

    rng = np.random.default_rng(3)
    score = np.round(rng.random(500), 2)  # with ties
    truth = rng.random(500) < score
    served.db.execute("DELETE FROM served")
    for number, (probability, returned) in enumerate(zip(score, truth, strict=True)):
        served.db.execute(
            """INSERT INTO served (prediction_id, month, version, probability, returned, earned)
               VALUES (?, '2011-01', 'reorder@1', ?, ?, 0)""",
            [str(number), float(probability), bool(returned)],
        )
    served.build("served_by_month")
    assert served.rows("SELECT auc FROM served_by_month")[0][0] == pytest.approx(auc(truth, score), abs=1e-12)
