"""Rollouts as they are written down: one at a time, nothing changed afterwards, the same state when read again."""

from pathlib import Path

import msgspec
import pytest

from sampan.base.clock import SystemClock
from sampan.base.errors import Conflict, NotFound, Refused
from sampan.release.evidence import BETTER, Look
from sampan.release.guardrails import BREACHED, Reading
from sampan.release.records import Begun, RolloutRecords
from sampan.release.rollouts import Rollout
from sampan.release.stages import DONE, FULL, REVERTED, RUNNING, Said, Seen, step, tell
from sampan.store.database import Database

DAY = 86_400_000_000
PLAN = msgspec.convert(
    {
        "kpi": {"minimum_effect": "2 %"},
        "stage": [{"shadow": True, "at_least": "1 day"}, {"share": 0.5, "at_least": "1 day"}, {"share": 1.0}],
    },
    Rollout,
)


@pytest.fixture
def records(tmp_path: Path):
    db = Database(tmp_path / "records.db", writable=True)
    yield RolloutRecords(db, SystemClock())
    db.close()


def begun(id: str = "r1", endpoint: str = "reorder", at: int = 1_000) -> Begun:
    return Begun(
        id=id,
        endpoint=endpoint,
        champion="b" * 64,
        candidate="c" * 64,
        champion_spec={"version": "reorder@1"},
        candidate_spec={"version": "reorder@2"},
        plan=PLAN,
        file="f",
        golden="",
        actor="ann",
        reason="better sails",
        began=at,
    )


def good(at: int) -> Seen:
    return Seen(at=at, look=Look(verdict=BETTER, why="the gain is above 0", units=(500, 500), gain=1.0))


def go(records: RolloutRecords, one: Begun, *entries: Seen | Said) -> str:
    for entry in entries:
        state, number = records.state(one)
        move = step(one.plan, state, entry) if isinstance(entry, Seen) else tell(one.plan, state, entry)
        records.add(one, number, entry, move.state)
    return records.state(one)[0].phase


def test_a_rollout_is_read_as_it_was_written_with_its_plan(records):
    assert records.begin(begun()) == records.get("r1") == records.active("reorder")
    assert [line.phase for line in records.lines(begun())] == [RUNNING]


def test_one_rollout_of_an_endpoint_at_a_time(records):
    records.begin(begun())
    with pytest.raises(Conflict, match="that of reorder@2 goes on") as caught:
        records.begin(begun("r2"))
    assert "sampan rollout back reorder" in caught.value.advice
    records.begin(begun("r3", "another"))
    go(records, begun(), Said(at=2_000, verb="roll back", actor="ann", reason="no"))
    records.begin(begun("r4", at=3_000))
    assert [one.id for one in records.list("reorder")] == ["r4", "r1"]


def test_a_history_leads_to_the_same_state_each_time_it_is_read(records):
    one = records.begin(begun())
    assert go(records, one, good(DAY + 2_000), good(3 * DAY)) == FULL
    assert records.state(one)[0].stage == 2
    assert [line.phase for line in records.lines(one)] == [RUNNING, RUNNING, FULL]
    assert go(records, one, Said(at=4 * DAY, verb="finish", actor="bob", reason="a good week")) == DONE
    assert records.active("reorder") is None


def test_an_entry_on_top_of_what_is_not_the_last_any_more_is_refused(records):
    one = records.begin(begun())
    state, number = records.state(one)
    go(records, one, good(DAY + 2_000))
    with pytest.raises(Conflict, match="meanwhile"):
        records.add(one, number, good(DAY + 3_000), state)
    assert len(records.lines(one)) == 2


def test_what_is_over_takes_no_more(records):
    one = records.begin(begun())
    go(records, one, Said(at=2_000, verb="roll back", actor="ann", reason="no"))
    with pytest.raises(Refused, match="it is reverted: ann: no"):
        go(records, one, Said(at=3_000, verb="promote", actor="ann", reason="yes"))


def test_finishing_is_for_what_is_in_full_use(records):
    one = records.begin(begun())
    with pytest.raises(Refused, match="not in full use yet"):
        go(records, one, Said(at=2_000, verb="finish", actor="ann", reason="yes"))


def test_as_of_a_time_only_what_was_known_then_is_there(records):
    one = records.begin(begun())
    broken = Seen(at=5_000, measured=(Reading(name="error rate", standing=BREACHED, says="9 of 9"),))
    move = step(one.plan, records.state(one)[0], broken)
    records.add(one, 0, broken, move.state, [("error rate", ["p1", "p2"])])
    assert records.state(one)[0].phase == REVERTED
    assert [line.phase for line in records.lines(one, by=4_999)] == [RUNNING]
    assert records.state(one, by=4_999)[0].phase == RUNNING
    assert records.list(by=999) == []
    (incident,) = records.incidents()
    closed = records.close_incident(incident.id, "a sail was torn", "ann")
    assert (closed.finding, closed.closed_by) == ("a sail was torn", "ann") and closed.closed
    assert records.incidents(by=4_999) == []
    assert records.incidents(by=closed.closed - 1)[0].closed is None
    assert records.incidents("r1")[0].predictions == ("p1", "p2")


def test_an_incident_is_closed_once(records):
    one = records.begin(begun())
    seen = good(2_000)
    records.add(one, 0, seen, records.state(one)[0], [("error rate", [])])
    (incident,) = records.incidents("r1")
    records.close_incident(incident.id, "a sail was torn", "ann")
    with pytest.raises(Conflict, match="ann has closed it: a sail was torn"):
        records.close_incident(incident.id, "nothing", "bob")


def test_what_there_is_not_is_said(records):
    with pytest.raises(NotFound, match="rollout 'nope'"):
        records.get("nope")
    with pytest.raises(NotFound, match="incident 'nope'"):
        records.incident("nope")
