"""The page on rollouts.toml: its plan can be read, its queries give what it says, and it leaves out no key."""

import re
from pathlib import Path

import duckdb
import pytest

from sampan.release import rollouts
from sampan.release.rollouts import read_rollouts
from tests.docs.test_people_pages import PAGES, block

PAGE = (PAGES / "rollouts.md").read_text("utf-8")
PARTS = [getattr(rollouts, name) for name in ("Rollout", "Kpi", "Stage", "ErrorRate", "Latency", "Floor", "Metric")]


def test_the_plan_is_read(tmp_path: Path) -> None:
    (tmp_path / "rollouts.toml").write_text(block("rollouts", "toml"))
    plan = read_rollouts(tmp_path).of["churn"]
    assert [one.name for one in plan.guardrail] == ["error rate", "latency", "offers"]
    assert (plan.urgent, plan.stage[-1].share) == (("golden", "replay"), 1.0)


@pytest.mark.parametrize("part", [*PARTS, rollouts.Exposure], ids=lambda part: part.__name__)
def test_each_key_is_told(part: type) -> None:
    missing = [
        key for key in part.__struct_fields__ if f"`{key}`" not in PAGE and key not in ("kpi", "stage", "guardrail")
    ]
    assert missing == []


def test_outcomes_by_key_and_time_are_known_when_their_time_is_over(tmp_path: Path) -> None:
    (tmp_path / "rollouts.toml").write_text(block("rollouts", "toml"))
    query = read_rollouts(tmp_path).of["churn"].kpi.query
    with duckdb.connect() as log:
        log.execute(
            "CREATE TABLE prediction AS FROM (VALUES ('p1', 'churn', 'ann', TIMESTAMP '2026-03-01'),"
            " ('p2', 'churn', 'bob', '2026-03-01'), ('p3', 'churn', 'ann', '2026-03-09'),"
            " ('p4', 'other', 'ann', '2026-03-01')) AS t(_id, endpoint, entity, _time)"
        )
        log.execute(
            "CREATE TABLE payment AS FROM (VALUES ('ann', 5.0, TIMESTAMP '2026-03-02'),"
            " ('ann', 2.0, '2026-03-07'), ('ann', 9.0, '2026-03-12')) AS t(customer, amount, _time)"
        )
        assert sorted(log.execute(query).fetchall()) == [("p1", 7.0), ("p2", 0.0)]


def test_a_query_counts_what_a_shadow_said_by_the_outcome_of_what_was_done() -> None:
    with duckdb.connect() as log:
        log.execute("CREATE TABLE prediction AS SELECT 'p1' AS _id")
        log.execute(
            "CREATE TABLE shadow AS FROM (VALUES ('s1', 'p1', ''), ('s2', 'p1', 'it broke'))"
            " AS t(_id, prediction_id, error)"
        )
        log.execute("CREATE TABLE refund AS SELECT 'p1' AS prediction_id, 4.0 AS amount")
        assert sorted(log.execute(block("rollouts", "sql")).fetchall()) == [("p1", 4.0), ("s1", 4.0)]


def test_the_page_is_listed_and_led_to() -> None:
    for page in ("../README.md", "release.md"):
        assert re.search(r"\(([\w-]+/)?rollouts\.md", (PAGES / page).read_text("utf-8"))
