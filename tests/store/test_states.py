"""What things were, and from when on."""

from pathlib import Path

from sampan.store.database import Database
from sampan.store.states import State, States


def test_a_state_holds_from_its_instant_until_the_next(tmp_path: Path) -> None:
    db = Database(tmp_path / "records.db", writable=True)
    runs, others = States(db, "run"), States(db, "replay")
    assert runs.put("a", {"state": "running"}, 10)
    assert not runs.put("a", {"state": "running"}, 15)
    assert runs.put("a", {"state": "failed"}, 20)
    assert runs.put("a", {"state": "running"}, 30)
    assert runs.put("b", None, 25)
    assert runs.at("a", 9) is None
    assert [runs.at("a", by) for by in (10, 19)] == [State({"state": "running"}, 10)] * 2
    assert runs.at("a", 20) == State({"state": "failed"}, 20)
    assert runs.all(29) == {"a": State({"state": "failed"}, 20), "b": State(None, 25)}
    assert (runs.first("a"), runs.first("c"), others.at("a", 99)) == (10, None, None)
    db.close()
