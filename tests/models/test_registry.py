"""Versions are numbered, frozen, and found again."""

from datetime import timedelta

import pytest
from sklearn.linear_model import LogisticRegression

from sampan.base.clock import ManualClock
from sampan.base.errors import Busy, Damaged, Frozen, NotFound, Usage
from sampan.flow.declare import Fitted
from sampan.models.formats import freeze
from sampan.models.registry import Models
from sampan.store.database import Database

NUMBERS = ["recency", "orders"]

MINUTE = timedelta(minutes=1)


@pytest.fixture
def db(tmp_path):
    made = Database(tmp_path / "records.db", writable=True)
    yield made
    made.close()


@pytest.fixture
def clock():
    return ManualClock(1_300_000_000_000_000)


@pytest.fixture
def models(db, blobs, clock):
    return Models(db, blobs, clock)


@pytest.fixture
def draft(frame, blobs):
    def make(strength=1.0, **metrics):
        model = LogisticRegression(C=strength).fit(frame[NUMBERS].values, frame["again"])
        return freeze(Fitted(model, NUMBERS, metrics=metrics), "binary", blobs)

    return make


def test_versions_are_numbered_per_model(models, draft):
    assert models.register(draft(1.0), "reorder", run="r1").ref == "reorder@1"
    assert models.register(draft(0.5), "reorder").ref == "reorder@2"
    assert models.register(draft(0.5), "churn").ref == "churn@1"
    assert [version.ref for version in models.list("reorder")] == ["reorder@2", "reorder@1"]


def test_the_same_model_again_gets_its_number_and_changes_nothing(models, draft):
    first = models.register(draft(1.0, auc=0.8), "reorder", run="r1", key="k1")
    models.register(draft(0.5), "reorder")
    again = models.register(draft(1.0, auc=0.7), "reorder", run="r2", key="k2")
    assert again == first and again.metrics == {"auc": 0.8} and again.run == "r1"


def test_a_version_comes_back_as_it_went_in(models, draft):
    made = draft(1.0, auc=0.8)
    version = models.register(made, "reorder", run="r1", key="k1")
    found = models.get("reorder@1")
    assert found == version == models.get("reorder")
    assert list(found.signature.inputs) == NUMBERS
    assert (found.digest, found.files, found.made_with) == (made.digest, made.files, made.made_with)
    assert models.load("reorder").predict([{"recency": 1, "orders": 2.0}])[0] > 0.5


@pytest.mark.parametrize("ref", ["reorder@2", "reorder@x", "reorder@", "reorder@-1", "other", "", "@1"])
def test_an_unknown_version_is_not_found(models, draft, ref):
    models.register(draft(), "reorder")
    with pytest.raises(NotFound):
        models.get(ref)


def test_there_is_no_way_to_change_a_version(models):
    looking = {"find", "get", "list", "load", "registered"}
    assert {name for name in dir(models) if not name.startswith("_")} == {
        *looking, "aliases", "blobs", "create", "delete", "delete_model", "labels", "register"
    }  # fmt: skip


def test_a_version_of_the_flow_is_never_deleted_and_one_in_use_is_not(models, draft):
    models.register(draft(1.0), "reorder", run="r1")
    with pytest.raises(Frozen, match="run r1 of the flow made it"):
        models.delete("reorder@1", lambda version: "")
    models.register(draft(0.5), "mine", actor="ann")
    with pytest.raises(Frozen, match="the endpoint x has served it"):
        models.delete("mine@1", lambda version: "the endpoint x has served it")
    assert [one.name for one in models.registered()] == ["mine", "reorder"]


def test_a_deleted_version_is_out_of_sight_then_and_seen_as_of_before(models, draft, clock):
    made = draft(1.0)
    models.register(made, "mine")
    clock.advance(MINUTE)
    models.delete("mine@1", lambda version: "")
    with pytest.raises(NotFound):
        models.get("mine@1")
    assert models.list() == [] and models.registered() == []
    assert [one.ref for one in models.list(by=clock.micros() - 1)] == ["mine@1"]
    assert models.register(draft(0.5), "mine").number == 2, "its number stays taken"
    assert models.register(made, "mine").number == 1, "the same content comes back under its number"


def test_a_version_is_found_by_an_alias(models, draft):
    models.register(draft(1.0), "reorder")
    models.register(draft(0.5), "reorder")
    models.aliases.move("reorder", "champion", 1, actor="ann")
    assert models.get("reorder@champion").number == 1 and models.get("reorder").number == 2
    with pytest.raises(NotFound, match="neither a version number nor an alias"):
        models.get("reorder@challenger")


def test_a_bad_name_and_missing_files_are_refused(models, draft, blobs):
    with pytest.raises(Usage, match=r"'\.\./x' is no name"):
        models.register(draft(), "../x")
    made = draft()
    path = blobs.path(made.files["model.skops"])
    path.unlink()
    with pytest.raises(NotFound, match="is not in the store"):
        models.register(made, "reorder")


def test_registering_needs_the_records_lock(models, draft, tmp_path, blobs):
    models.register(draft(), "reorder")
    reader = Database(tmp_path / "records.db", writable=False)
    try:
        only = Models(reader, blobs, ManualClock(0))
        assert only.get("reorder").number == 1
        with pytest.raises(Busy):
            only.register(draft(0.1), "reorder")
    finally:
        reader.close()


def test_a_record_that_does_not_parse_is_named(models, draft, db):
    models.register(draft(), "reorder")
    with db.transaction() as connection:
        connection.execute("UPDATE versions SET signature = '{'")
    with pytest.raises(Damaged, match="reorder@1"):
        models.get("reorder")
