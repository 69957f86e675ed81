"""As of a time: what a branch was then, and the events that could be used by then."""

import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.log.conftest import Shop, line

from sampan.base.clock import from_micros, iso, to_micros
from sampan.base.errors import NotFound, Usage
from sampan.lake import read
from sampan.lake.read import query

START = to_micros(datetime(2026, 1, 1, tzinfo=UTC))
SECOND = 1_000_000
moments = st.integers(min_value=0, max_value=20)  # seconds after the start
sent = st.lists(st.tuples(moments, st.none() | moments), min_size=1, max_size=8)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(events=sent, sealed=st.integers(min_value=0, max_value=8), then=moments)
def test_sql_as_of_a_time_is_a_filter_on_what_was_known_by_then(events, sealed, then) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder))
        writer = shop.writer()
        wanted = set()
        for number, (wait, stated) in enumerate(events):
            shop.clock.advance(timedelta(seconds=wait))
            one = line(str(number))
            if stated is not None:
                one["known_at"] = iso(START + stated * SECOND)
            batch = writer.checker.read(b"[" + json.dumps(one).encode() + b"]")
            writer.append(batch, "test")
            if number + 1 == sealed:
                writer.seal()
            known = shop.clock.micros() if stated is None else START + stated * SECOND
            if known <= START + then * SECOND:
                wanted.add(str(number))
        log = shop.log()
        source = log.source("order_line", log.position(), START + then * SECOND)
        assert set(read.arrow(source)["_id"].to_pylist()) == wanted
        plain = read.arrow(log.source("order_line", log.position()))
        limit = from_micros(START + then * SECOND)
        assert {row["_id"] for row in plain.to_pylist() if row["_known_at"] <= limit} == wanted
        shop.close()


@pytest.fixture
def shop(tmp_path):
    made = Shop(tmp_path / "shop")
    made.clock.set(START)
    yield made
    made.close()


def ask(text, workspace, log, **more):
    answer = query(text, workspace.lake, log, **more)
    try:
        return answer.fetchall()
    finally:
        answer.close()


def test_tables_are_those_that_the_branch_had_then(workspace, shop):
    lake, clock = workspace.lake, workspace.clock
    clock.set(START)
    times = []
    for number in (1, 2):
        clock.advance(timedelta(hours=1))
        lake.commit("main", {"t": workspace.build("t", f"SELECT {number} AS x").id}, expected=lake.head())
        times.append(clock.micros())
    lake.branch("try", f"@{lake.history()[1].id}")
    clock.advance(timedelta(hours=1))
    lake.commit("try", {"t": workspace.build("t", "SELECT 3 AS x").id}, expected=lake.head("try"))
    log = shop.log()
    asked = [(times[0], "main"), (times[1] - 1, "main"), (times[1], "main"), (times[1], "try"), (clock.micros(), "try")]
    said = [ask("SELECT x FROM t", workspace, log, known_by=time, ref=ref)[0][0] for time, ref in asked]
    assert said == [1, 1, 2, 1, 3]


def test_before_the_first_commit_there_are_events_alone(workspace, shop):
    shop.send(line("1"))
    shop.clock.advance(timedelta(hours=1))
    shop.send(line("2"))
    workspace.clock.set(START + 7200 * SECOND)
    workspace.lake.commit("main", {"t": workspace.build("t", "SELECT 1 AS x").id}, expected=None)
    log = shop.log()
    assert ask("SELECT _id FROM order_line", workspace, log, known_by=START) == [("1",)]
    with pytest.raises(NotFound, match=r"See main as of 2026-01-01T00:00:00Z.*its first commit was made at") as caught:
        ask("SELECT * FROM t, order_line", workspace, log, known_by=START)
    assert "events alone" in caught.value.advice
    with pytest.raises(NotFound, match="no branch 'nowhere'"):
        ask("SELECT * FROM order_line", workspace, log, known_by=START, ref="nowhere")


def test_a_commit_is_what_it_is_at_any_time(workspace, shop):
    made = workspace.lake.commit("main", {"t": workspace.build("t", "SELECT 1 AS x").id}, expected=None)
    with pytest.raises(Usage, match="a commit is what it is at any time"):
        ask("SELECT * FROM t", workspace, shop.log(), known_by=made.created, ref=f"@{made.id}")
    assert workspace.lake.ref_at("main", None) == "main"
    assert workspace.lake.ref_at("main", made.created) == f"@{made.id}"
