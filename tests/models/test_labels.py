"""Tags and notes say who wrote them, and what was said before is still known."""

from datetime import timedelta

import pytest

from sampan.base.clock import ManualClock
from sampan.base.errors import NotFound, Usage
from sampan.models.labels import Labels
from sampan.store.database import Database

MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock():
    return ManualClock(1_300_000_000_000_000)


@pytest.fixture
def labels(tmp_path, clock):
    db = Database(tmp_path / "records.db", writable=True)
    yield Labels(db, clock)
    db.close()


def test_a_tag_is_set_changed_and_taken_away(labels, clock):
    labels.tag("version m@1", "stage", "canary", actor="ann")
    clock.advance(MINUTE)
    then = clock.micros()
    clock.advance(MINUTE)
    labels.tag("version m@1", "stage", "full", actor="bob")
    labels.note("version m@1", "Good enough.", actor="bob")
    assert labels.tags("version m@1") == {"stage": "full"}
    assert labels.tags("version m@1", by=then) == {"stage": "canary"}
    assert [(one.kind, one.key, one.value, one.actor) for one in labels.of("version m@1")] == [
        ("note", "", "Good enough.", "bob"),
        ("tag", "stage", "full", "bob"),
    ]
    labels.tag("version m@1", "stage", None, actor="bob")
    labels.note("version m@1", "", actor="bob")
    assert labels.of("version m@1") == []
    with pytest.raises(NotFound):
        labels.tag("version m@1", "stage", None, actor="bob")


def test_objects_of_one_kind_are_told_apart(labels):
    labels.tag("version m@1", "a", "1", actor="ann")
    labels.tag("version m@10", "a", "2", actor="ann")
    labels.tag("model m", "a", "3", actor="ann")
    labels.tag("versions m@1", "a", "4", actor="ann")
    assert {name: [one.value for one in said] for name, said in labels.all("version").items()} == {
        "m@1": ["1"],
        "m@10": ["2"],
    }


def test_what_is_too_long_is_refused(labels):
    for key, value in (("", "x"), ("k" * 251, "x"), ("k", "x" * 5001)):
        with pytest.raises(Usage):
            labels.tag("model m", key, value, actor="ann")
    with pytest.raises(Usage):
        labels.note("model m", "x" * 50_001, actor="ann")
