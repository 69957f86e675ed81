"""What contracts said at a time, though a version that changed is written over."""

from pathlib import Path

import msgspec

from sampan.log.registry import record, registered
from sampan.log.spec import ContractSpec
from sampan.store.database import Database


def spec(owner: str, version: int = 1) -> ContractSpec:
    return msgspec.convert(
        {"type": "visit", "version": version, "owner": owner, "description": "", "fields": []}, ContractSpec
    )


def said(db: Database, by: int | None = None) -> list[tuple[int, str, int | None]]:
    return [(one.spec.version, one.spec.owner, one.changed) for one in registered(db, by=by).get("visit", [])]


def test_a_version_is_as_it_was_before_it_changed(tmp_path: Path) -> None:
    db = Database(tmp_path / "records.db", writable=True)
    record(db, [spec("ann")], 10)
    record(db, [spec("ben")], 20)
    record(db, [spec("cem")], 30)
    record(db, [spec("cem", 2)], 40)
    assert said(db) == [(1, "cem", 30), (2, "cem", None)]
    assert said(db, 9) == []
    assert said(db, 10) == said(db, 19) == [(1, "ann", None)]
    assert said(db, 29) == [(1, "ben", 20)]
    assert said(db, 39) == [(1, "cem", 30)]
    assert said(db, 40) == said(db)
    db.close()
