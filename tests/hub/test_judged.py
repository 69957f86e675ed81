"""Decisions with what turned out, joined once: the same as by the definitions of ``sampan.serve.value``."""

import random
from typing import Any

import duckdb
import pytest

from sampan.hub.judged import Unnamed, judge, unmatched, unnamed
from sampan.serve.value import EARNED_SQL

_LOG = "_time TIMESTAMPTZ, _received TIMESTAMPTZ, _position VARCHAR"
_MADE = (
    '{"currency": "GBP", "expected": 0.5, "outcomes": {"true": 2.0, "false": -1.25}}',
    '{"currency": "GBP", "outcomes": {"true": 0.000001}}',
    '{"expected": null, "outcomes": {}}',
    "null",
    None,
)


@pytest.fixture
def log() -> Any:
    """Predictions of two endpoints with outcomes by id, by key, revised, of nothing and without a name; some settled
    by people."""
    chance = random.Random(5)
    connection = duckdb.connect(config={"threads": 2})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(
        "CREATE TABLE prediction (_id VARCHAR, endpoint VARCHAR, entity VARCHAR, version VARCHAR, action VARCHAR,"
        f" rule VARCHAR, latency_us BIGINT, error VARCHAR, value JSON, {_LOG});"
        "CREATE TABLE outcome (prediction_id VARCHAR, endpoint VARCHAR, entity VARCHAR, since TIMESTAMPTZ,"
        f" until TIMESTAMPTZ, value JSON, {_LOG});"
        f"CREATE TABLE review (prediction_id VARCHAR, endpoint VARCHAR, action VARCHAR, value JSON, {_LOG})"
    )

    def put(table: str, *row: Any) -> None:
        connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)

    def when(hour: int) -> str:
        return f"2026-01-{1 + hour // 24:02}T{hour % 24:02}:30:00Z"

    for at in range(300):
        endpoint = ("churn", "basket")[at % 2]
        where = when(at), when(at), f"serve-{endpoint}:{at}"
        wrong, took = ("", "x")[at % 50 == 0], at * 10
        put(
            "prediction", f"p{at}", endpoint, f"e{at % 9}", "v1", "call", "r", took, wrong, chance.choice(_MADE), *where
        )
        if at % 7 == 0:
            put("review", f"p{at}", endpoint, "wait", chance.choice(_MADE[:2]), *where[:2], f"reviews:{at}")
    for at in range(400):
        told = when(chance.randrange(400)), when(at), f"intake:{at}"
        value = chance.choice(["true", "false", '"odd"'])
        if chance.random() < 0.6:
            put("outcome", f"p{chance.randrange(320)}", None, None, None, None, value, *told)
        else:
            since = chance.choice([None, when(100)])
            put("outcome", None, "churn", f"e{chance.randrange(11)}", since, None, value, *told)
    yield connection
    connection.close()


def test_each_decision_earns_what_the_definition_says(log: Any) -> None:
    judge(log, "churn", ["p._id"])
    ours = log.execute(
        "SELECT _id, outcome, earned, coalesce(settled, action) FROM judged WHERE outcome IS NOT NULL ORDER BY 1"
    ).fetchall()
    theirs = log.execute(
        "SELECT prediction_id, CAST(outcome AS VARCHAR), CAST(earned AS DOUBLE), action"
        f" FROM ({EARNED_SQL}) WHERE endpoint = 'churn' ORDER BY 1"
    ).fetchall()
    assert ours == theirs and len(ours) > 100
    assert {earned for _, _, earned, _ in ours} == {2.0, -1.25, 0.000001, None}
    whole = "SELECT count(*), sum(CAST(value->>'expected' AS DOUBLE)), count(*) FILTER (error <> '') FROM asked"
    mine = "SELECT count(*), sum(expected), count(*) FILTER (failed) FROM judged"
    assert log.execute(mine).fetchall() == log.execute(whole).fetchall()


def test_what_no_value_names_and_what_no_prediction_precedes_is_counted(log: Any) -> None:
    judge(log, "churn")
    odd = log.execute(
        f"SELECT count(*) FROM ({EARNED_SQL}) AS earned JOIN prediction AS p ON p._id = prediction_id WHERE p.endpoint"
        " = 'churn' AND earned IS NULL AND (p.value->>'outcomes') <> '{}'"
    ).fetchone()[0]
    said = unnamed(log)
    assert said.count == odd > 9 and said.says.startswith(f"{odd} outcomes have values that no action knows: ")
    assert unmatched(log, "churn") > 9 and unmatched(log, "basket") == 0
    other = duckdb.connect()
    other.execute("CREATE TABLE judged AS SELECT NULL AS outcome, false AS unnamed")
    assert unnamed(other) == Unnamed()
