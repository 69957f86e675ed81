"""Money and quality per month, from events, the same in Python and in SQL."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from sampan.models import metrics
from sampan.serve.value import EARNED_SQL, by_month, earned, join

VALUE = {"currency": "GBP", "outcomes": {"true": 2.0, "false": -1.2}, "expected": 0.4}
NOTHING = {"currency": "GBP", "outcomes": {"true": 0.0, "false": 0.0}, "expected": 0.0}


def story(count=400, seed=0):
    """Predictions over three months; nine in ten outcomes known."""
    rng = np.random.default_rng(seed)
    start = datetime(2011, 4, 1, tzinfo=UTC)
    predictions, outcomes = [], []
    for number in range(count):
        p = round(float(rng.uniform()), 3)
        when = start + timedelta(hours=number * 5)
        value = VALUE if p > 0.5 else NOTHING
        predictions.append(
            {
                "_id": f"p{number}",
                "_time": when,
                "endpoint": "reorder",
                "entity": f"e{number}",
                "_received": when,
                "_position": f"serve-reorder:{number}",
                "version": "reorder@1",
                "prediction": p,
                "action": "reserve" if p > 0.5 else "wait",
                "value": json.dumps(value),
            }
        )
        if rng.uniform() < 0.9:
            known = when + timedelta(days=30)
            outcomes.append(
                {
                    "prediction_id": f"p{number}",
                    "endpoint": None,
                    "entity": None,
                    "since": None,
                    "until": None,
                    "_time": known,
                    "value": json.dumps(bool(rng.uniform() < p)),
                    "_received": known,
                    "_position": f"intake:{number}",
                }
            )
    return predictions, outcomes


def test_the_months_add_up_by_hand():
    predictions, outcomes = story()
    months = by_month(join(predictions, outcomes))
    assert [month.month for month in months] == ["2011-04", "2011-05", "2011-06"]
    assert sum(month.decisions for month in months) == 400
    assert sum(month.known for month in months) == len(outcomes)
    truth = {row["prediction_id"]: row["value"] == "true" for row in outcomes}
    april = [row for row in predictions if row["_time"].month == 4]
    known = [(row["prediction"], truth[row["_id"]]) for row in april if row["_id"] in truth]
    money = sum((2.0 if t else -1.2) for p, t in known if p > 0.5)
    first = months[0]
    assert first.value == pytest.approx(money) and first.value_per_1000 == pytest.approx(money / len(known) * 1000)
    assert first.auc == metrics.auc([t for _, t in known], [p for p, _ in known])
    assert first.brier == metrics.brier([t for _, t in known], [p for p, _ in known])
    assert first.currency == "GBP" and sum(first.actions.values()) == len(april)


def test_sql_over_the_events_gives_the_same_money():
    predictions, outcomes = story()
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.register("prediction_arrow", pa.Table.from_pylist(predictions))
    con.register("outcome_arrow", pa.Table.from_pylist(outcomes))
    con.execute("CREATE VIEW prediction AS SELECT * REPLACE (value::JSON AS value) FROM prediction_arrow")
    con.execute("CREATE VIEW outcome AS SELECT * FROM outcome_arrow")
    names = "prediction_id VARCHAR, endpoint VARCHAR, action VARCHAR, value JSON, _position VARCHAR"
    con.execute(f"CREATE TABLE review ({names})")
    rows = con.execute(
        f"SELECT strftime(asked, '%Y-%m') AS month, sum(earned), count(*) FROM ({EARNED_SQL}) GROUP BY 1 ORDER BY 1"
    ).fetchall()
    con.close()
    months = by_month(join(predictions, outcomes))
    assert [(m.month, pytest.approx(m.value), m.known) for m in months] == [(a, float(b), c) for a, b, c in rows]


def test_the_order_of_rows_and_their_form_change_nothing():
    predictions, outcomes = story()
    expected = by_month(join(predictions, outcomes))
    assert by_month(join(predictions[::-1], outcomes[::-1])) == expected
    assert by_month(join(pa.Table.from_pylist(predictions), pa.Table.from_pylist(outcomes))) == expected
    plain = [
        {**row, "id": row["_id"], "time": row["_time"].isoformat(), "value": json.loads(row["value"])}
        for row in predictions
    ]
    for row in plain:
        del row["_id"], row["_time"]
    assert by_month(join(plain, [{**row, "value": json.loads(row["value"])} for row in outcomes])) == expected


def test_a_month_with_one_class_has_no_auc_and_one_without_outcomes_no_figures():
    predictions, outcomes = story(10)
    all_true = [{**row, "value": "true"} for row in outcomes]
    assert by_month(join(predictions, all_true))[0].auc is None
    (month,) = by_month(join(predictions, []))
    assert (month.known, month.value, month.value_per_1000, month.brier) == (0, 0.0, None, None)
    assert by_month([]) == []


@pytest.mark.parametrize(
    ("outcome", "amount"),
    [(True, 2.0), (False, -1.2), (1, 2.0), (0.0, -1.2), ("true", 2.0), ("late", None), (None, None)],
)
def test_what_an_outcome_earns(outcome, amount):
    assert earned(VALUE, outcome) == amount
    assert earned(None, outcome) is None


def test_sql_and_python_agree_on_what_the_log_itself_holds(shop):
    from serving_shop import body, record

    from sampan.app import App

    async def ask():
        async with shop.serving("reorder") as serving:
            return await serving.predict("reorder", body(*[record(orders=n - 2) for n in range(5)], ids=list("abcde")))

    assert asyncio.run(ask()).status == 200
    shop.close()
    app = App(shop.root)
    try:
        writer = app.log.writer("intake")
        known = [("a", True), ("b", False), ("d", True), ("e", False)]
        events = [
            {"id": f"o-{id}", "type": "outcome", "source": "till", "time": "2026-01-01T00:00:00Z",
             "data": {"prediction_id": id, "value": value}}
            for id, value in known
        ]  # fmt: skip
        assert writer.append(writer.checker.batch([json.dumps(one).encode() for one in events]), "test").accepted == 4
        writer.close()
        asked = "SELECT prediction_id, action, earned FROM (" + EARNED_SQL + ") ORDER BY 1"
        rows = app.sql(asked)["rows"]
        columns = "_id, _time, version, prediction, action, value"
        predictions = [
            dict(zip(columns.split(", "), row, strict=True))
            for row in app.sql(f"SELECT {columns} FROM prediction")["rows"]
        ]
        outcomes = [
            {"prediction_id": a, "value": b} for a, b in app.sql("SELECT prediction_id, value FROM outcome")["rows"]
        ]
    finally:
        app.close()
    assert [(row[0], row[1]) for row in rows] == [("a", "wait"), ("b", "wait"), ("d", "reserve"), ("e", "reserve")]
    assert [float(row[2]) for row in rows] == [0.0, 0.0, 2.0, -1.2]
    (month,) = by_month(join(predictions, outcomes))
    assert (month.known, month.value) == (4, pytest.approx(0.8))
