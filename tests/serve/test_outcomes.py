"""Outcomes that name their prediction by key and time: matched by one definition, wherever outcomes count."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.hub.conftest import sampan

from sampan.app import App
from sampan.base.clock import iso
from sampan.hub.decided import Decided, _kept, decided
from sampan.hub.judged import Unnamed
from sampan.hub.strays import look
from sampan.hub.valued import valued
from sampan.lake.sql import analyse
from sampan.log.builtin import Outcome
from sampan.log.outcomes import KNOWN_SQL, MATCHED_SQL, UNKNOWN_SQL
from sampan.log.rates import HOUR
from sampan.serve.past import past_decisions
from sampan.serve.value import EARNED_SQL, by_month, join

VALUE = {"currency": "GBP", "outcomes": {"true": 2.0, "false": -1.0}, "expected": 0.5}


class Told:
    """A workspace whose log is told of predictions and outcomes."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        (root / "sampan.toml").write_text("")
        self.app = App(root)
        self.number = 0

    def send(self, type: str, hour: int, data: dict[str, Any], id: str = "", **more: Any) -> Any:
        """One event of the hour, and its verdict."""
        self.number += 1
        when = f"2026-01-{1 + hour // 24:02}T{hour % 24:02}:00:00Z"
        event = {"id": id or f"o{self.number}", "type": type, "source": "test", "time": when, "data": data, **more}
        with self.app.writing("Send"):
            writer = self.app.log.writer("told")

            async def submit() -> Any:
                return await writer.submit(writer.checker.batch([msgspec.json.encode(event)]), "test")

            answer = asyncio.run(submit())
            writer.close()
        return answer.verdicts()[0]

    def seal(self) -> None:
        """Seal what has come so far."""
        with self.app.writing("Seal"):
            writer = self.app.log.writer("told")
            writer.seal()
            writer.close()

    def predict(self, id: str, entity: str, hour: int, endpoint: str = "churn", version: str = "churn@1") -> None:
        named = {"endpoint": endpoint, "version": version, "bundle": "b" * 64, "entity": entity}
        said = {"features": {}, "prediction": 0.5, "action": "call", "rule": "likely", "value": VALUE}
        assert self.send("prediction", hour, named | said, id).verdict == "accepted"

    def outcome(self, hour: int, value: bool | str, entity: str = "ann", endpoint: str = "churn", **more: Any) -> None:
        data = {"endpoint": endpoint, "entity": entity, "value": value, **more}
        assert self.send("outcome", hour, data).verdict == "accepted"

    def known(self, as_of: str = "") -> dict[str, bool]:
        rows = self.app.sql(f"SELECT prediction_id, value FROM ({KNOWN_SQL})", as_of=as_of)["rows"]
        return {id: value == "true" for id, value in rows}


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    made = Told(tmp_path / "shop")
    made.predict("a1", "ann", 1)
    made.predict("a2", "ann", 5)
    made.predict("b1", "bob", 1)
    made.predict("other", "ann", 5, endpoint="basket")
    yield made
    made.app.close()


@pytest.mark.parametrize(
    ("hour", "more", "id"),
    [
        (1, {}, "a1"),
        (4, {}, "a1"),
        (5, {}, "a2"),
        (500, {}, "a2"),
        (500, {"until": "2026-01-01T04:59:59Z"}, "a1"),
        (500, {"until": "2026-01-01T06:59:59+02:00"}, "a1"),
        (500, {"since": "2026-01-01T05:00:00Z"}, "a2"),
        (500, {"since": "2026-01-01T05:00:01Z"}, None),
        (0, {}, None),
        (500, {"entity": "carol"}, None),
        (500, {"endpoint": "basket"}, "other"),
    ],
)
def test_an_outcome_by_key_is_one_of_the_newest_prediction_before_it(
    told: Told, hour: int, more: dict[str, Any], id: str | None
) -> None:
    told.outcome(hour, True, **more)
    assert told.known() == ({id: True} if id else {})
    (row,) = told.app.sql(f"SELECT prediction_id, value, endpoint FROM ({MATCHED_SQL})")["rows"]
    assert row == [id, "true", more.get("endpoint", "churn")]


def test_of_two_outcomes_of_a_prediction_the_one_received_last_counts(told: Told) -> None:
    told.outcome(9, True)
    told.outcome(8, False)
    assert told.known() == {"a2": False}, "by when it was received, not by when it happened"
    told.send("outcome", 6, {"prediction_id": "a2", "value": True})
    assert told.known() == {"a2": True}, "by id or by key"
    told.outcome(7, False)
    assert told.known() == {"a2": False}


def test_what_was_known_then_is_matched_as_it_was_then(told: Told) -> None:
    told.outcome(9, True)
    told.outcome(9, True, entity="carol")
    then = iso(told.app.clock.micros())
    time.sleep(0.01)
    told.predict("a3", "ann", 7)
    told.predict("c1", "carol", 7)
    assert told.known() == {"a3": True, "c1": True}, "a prediction that arrives late takes over what is its own"
    assert told.known(then) == {"a2": True}
    (earned,) = told.app.sql(f"SELECT prediction_id, earned FROM ({EARNED_SQL})", as_of=then)["rows"]
    assert earned[0] == "a2" and float(earned[1]) == 2.0


def test_an_outcome_that_no_action_knows_is_told_of(told: Told) -> None:
    """It is known, and earns nothing: the figures say so, with which values these are."""

    def fresh() -> Decided:
        _kept.clear()  # figures may be a moment old
        return decided(told.app.log, "churn")

    assert fresh().unnamed.says == ""
    told.outcome(4, True)
    assert fresh().unnamed.count == 0
    told.outcome(6, "maybe")
    one = "1 outcome has a value that no action knows: maybe"
    assert fresh().unnamed == Unnamed(1, one)
    assert valued(told.app.log, "churn", "action").unnamed == Unnamed(1, one)
    for number, value in enumerate(("x" * 100, "two", "three", "two")):
        told.predict(f"more {number}", f"m{number}", 5)
        told.send("outcome", 6, {"prediction_id": f"more {number}", "value": value})
    found = fresh()
    assert found.unnamed == Unnamed(5, "5 outcomes have values that no action knows: two, maybe, three, …")
    assert valued(told.app.log, "churn", "rule").unnamed == found.unnamed and found.known == 6
    told.outcome(7, False)
    assert fresh().unnamed.count == 4, "the one received last counts"


def test_figures_are_the_same_over_a_seal_and_take_in_what_comes_late(told: Told) -> None:
    def figures() -> tuple[Any, ...]:
        _kept.clear()
        whole, slices = decided(told.app.log, "churn"), valued(told.app.log, "churn", "version").slices
        asked = "SELECT * FROM {} ORDER BY _received, _position"  # of several outcomes the last one given counts
        events = {type: told.app.sql(asked.format(type)) for type in ("prediction", "outcome")}
        rows = {type: [dict(zip(names(one), row, strict=True)) for row in one["rows"]] for type, one in events.items()}
        reckoned = [one for one in join(rows["prediction"], rows["outcome"]) if one.id in ("a1", "a2", "b1", "c1")]
        (month,) = by_month(reckoned)
        assert (whole.decisions, whole.known, whole.value) == (month.decisions, month.known, month.value_per_1000)
        assert whole.expected == month.expected_per_1000 and sum(one.total for one in slices) == month.value
        return whole, slices

    def names(answer: Any) -> list[str]:
        return [one["name"] for one in answer["columns"]]

    told.send("outcome", 4, {"prediction_id": "a1", "value": True})
    told.send("outcome", 6, {"prediction_id": "a2", "value": False})
    before = figures()
    told.seal()
    assert figures() == before
    told.send("outcome", 9, {"prediction_id": "b1", "value": True})
    told.send("outcome", 9, {"prediction_id": "a2", "value": True})
    told.predict("c1", "carol", 7, version="churn@2")
    whole, slices = after = figures()
    assert (whole.known, whole.versions) == (3, {"churn@1": 3, "churn@2": 1}) and whole.value == 2000.0
    assert [(one.name, one.decisions, one.known) for one in slices] == [("churn@1", 3, 3), ("churn@2", 1, 0)]
    told.seal()
    assert figures() == after


def test_events_are_joined_where_some_are_sealed_and_some_are_not(told: Told) -> None:
    """DuckDB gave up on such joins: of a view of files and Arrow data, with another table that is filtered."""
    told.send("outcome", 6, {"prediction_id": "a1", "value": True})
    told.seal()
    told.predict("c1", "carol", 7)
    told.send("outcome", 8, {"prediction_id": "c1", "value": False})
    joined = "SELECT p._id FROM prediction AS p JOIN outcome AS o ON o.prediction_id = p._id WHERE o._source = 'test'"
    assert sorted(told.app.sql(joined)["rows"]) == [["a1"], ["c1"]]
    (earned,) = told.app.sql(f"SELECT count(*) FROM ({EARNED_SQL})")["rows"]
    assert earned == [2]


def test_outcomes_that_name_no_prediction_are_counted_until_it_comes(told: Told) -> None:
    for number in range(3):
        assert told.send("outcome", 6, {"prediction_id": f"late{number}", "value": True}).verdict == "accepted"
    told.outcome(6, True)
    told.send("outcome", 6, {"prediction_id": "b1", "value": True})
    assert decided(told.app.log, "churn").unknown == 3
    now = told.app.clock.micros()
    assert look(told.app.log, now) is None, "their predictions may be on their way"
    found = look(told.app.log, now + 2 * HOUR)
    assert found is not None and (found.count, found.of, found.source, found.named) == (3, 4, "test", "late2")
    told.predict("late2", "eve", 7)
    _kept.clear()
    assert decided(told.app.log, "churn").unknown == 2
    found = look(told.app.log, now + 2 * HOUR)
    assert found is not None and (found.count, found.of, found.named) == (2, 4, "late1")
    assert look(told.app.log, now + 26 * HOUR) is None
    done = sampan(told.app.folder.root, "sql", f"SELECT count(*) FROM ({UNKNOWN_SQL})")
    assert done.returncode == 0 and "2" in done.stdout, done.stderr


def test_of_predictions_at_the_same_time_the_one_received_last_is_meant(told: Told) -> None:
    told.predict("a2 again", "ann", 5)
    told.outcome(9, True)
    assert told.known() == {"a2 again": True}


def test_pages_and_replays_count_it_and_what_matches_nothing(told: Told) -> None:
    told.outcome(4, True)
    told.outcome(6, False)
    told.outcome(0, True, entity="bob")
    told.outcome(9, True, entity="carol")
    told.outcome(9, True, endpoint="basket")
    found = decided(told.app.log, "churn")
    assert (found.decisions, found.known, found.unmatched) == (3, 2, 2)
    assert found.value == 500.0 and iso(found.newest_outcome or 0).startswith("2026-01-01T06:00")
    worth = valued(told.app.log, "churn", "action")
    assert (worth.whole.known, worth.whole.total, worth.unmatched) == (2, 1.0, 2)
    past = past_decisions(told.app.lake, told.app.log, told.app.log.position(), endpoint="churn")
    assert {one.id: one.outcome for one in past} == {"a1": True, "a2": False, "b1": None}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "names no prediction: give prediction_id, or endpoint and entity"),
        ({"endpoint": "churn"}, "names no prediction: give prediction_id, or endpoint and entity"),
        ({"entity": "ann", "until": "2026-01-01T00:00:00Z"}, "names no prediction: give prediction_id, or"),
        ({"prediction_id": "a1", "endpoint": "churn", "entity": "ann"}, "by prediction_id and by endpoint; one of"),
        ({"prediction_id": "a1", "since": "2026-01-01T00:00:00Z"}, "by prediction_id and by since; one of both"),
        ({"endpoint": "churn", "entity": ""}, "length >= 1"),
        ({"endpoint": "churn", "entity": 5}, "Expected str | null, got int"),
        ({"endpoint": "churn", "entity": "ann", "until": "noon"}, "Invalid RFC3339"),
    ],
)
def test_what_names_no_prediction_or_two_waits_in_quarantine(told: Told, data: dict[str, Any], words: str) -> None:
    answer = told.send("outcome", 9, data | {"value": True})
    assert answer.verdict == "quarantined" and words in answer.reason and told.known() == {}


def test_outcomes_of_version_1_stay_what_they_were(told: Told) -> None:
    """Beside the id they could carry anything, which meant nothing."""
    odd = {"prediction_id": "a1", "value": True, "endpoint": 5, "until": "whenever"}
    assert told.send("outcome", 9, odd, version=1).verdict == "accepted"
    assert told.send("outcome", 9, {"value": True}, version=1).verdict == "quarantined"
    assert told.known() == {"a1": True}
    assert Outcome.__sampan_version__ == 2
    with told.app.writing("Seal"):
        writer = told.app.log.writer("told")
        writer.seal()
        writer.close()
    assert not (told.app.folder.root / "contracts.py").exists()
    assert told.known() == {"a1": True}, "sealed, in a workspace without contracts of its own"


def test_a_hundred_thousand_are_matched_within_a_second_or_so(tmp_path: Path) -> None:
    import duckdb

    connection = duckdb.connect(config={"threads": 2})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(
        "CREATE TABLE prediction AS SELECT 'p' || i AS _id, 'churn' AS endpoint, 'e' || i % 5000 AS entity,"
        " TIMESTAMPTZ '2026-01-01' + INTERVAL (i) MINUTE AS _time, _time AS _received, 'told:' || i AS _position"
        " FROM range(100_000) AS r(i)"
    )
    connection.execute(
        "CREATE TABLE outcome AS SELECT NULL::VARCHAR AS prediction_id, endpoint, entity, NULL::TIMESTAMPTZ AS since,"
        " NULL::TIMESTAMPTZ AS until, _id AS value, _time + INTERVAL 4999 MINUTE AS _time, _received, _position"
        " FROM prediction"
    )
    began = time.monotonic()
    wrong = connection.execute(f"SELECT count(*), count(*) FILTER (prediction_id <> value) FROM ({KNOWN_SQL})")
    assert wrong.fetchall() == [(100_000, 0)]
    assert time.monotonic() - began < 10
    connection.close()


def test_as_a_table_it_matches_late_predictions_anew(told: Told) -> None:
    (told.app.folder.root / "tables").mkdir()
    (told.app.folder.root / "tables" / "matched.sql").write_text(MATCHED_SQL)
    told.outcome(9, True)
    told.outcome(9, True, entity="carol")

    def rows() -> list[Any]:
        app = App(told.app.folder.root)
        try:
            with app.writing("Run"):
                assert app.run("", {}, "ann", lambda _: None)["state"] == "succeeded"
            found: list[Any] = app.sql("SELECT prediction_id FROM matched ORDER BY 1 NULLS LAST")["rows"]
            return found
        finally:
            app.close()

    told.app.close()
    assert rows() == [["a2"], [None]]
    told.app = App(told.app.folder.root)
    told.predict("a3", "ann", 7)
    told.predict("c1", "carol", 7)
    told.app.close()
    assert rows() == [["a3"], ["c1"]]
    assert refused(MATCHED_SQL) == ()


def refused(query: str) -> tuple[Any, ...]:
    """What a plan of a rollout would refuse of a KPI that asks it."""
    return analyse(f"SELECT prediction_id, 1.0 AS value FROM ({query}) AS matched", "kpi", asked=True).refusals


def test_the_page_shows_the_very_sql(told: Told) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "outcomes.md").read_text("utf-8")
    assert MATCHED_SQL.strip() in page and json.dumps("ann") in page
