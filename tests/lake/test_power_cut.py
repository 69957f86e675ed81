"""Whatever a power cut leaves, the records open, every acknowledged commit is there and its tables are whole."""

import shutil
from pathlib import Path

import pytest
from tests.store.power import Trace
from tests.store.tracing import needs_strace

from sampan.base.clock import SystemClock
from sampan.lake.lake import Lake
from sampan.lake.write import write_query
from sampan.store.database import Database

COMMITS = """
import sys
from pathlib import Path
import sampan.base.files as files
{sabotage}
from sampan.base.clock import SystemClock
from sampan.lake.lake import Lake
from sampan.lake.write import write_arrow, write_query
from sampan.store.database import Database
import pyarrow
folder = Path({folder!r})
db = Database(folder / "records.db", writable=True)
lake = Lake(db, folder / "lake", SystemClock())
head = lake.head()
for n in range(4):
    a = lake.add(write_query(f"SELECT i + {{n}} AS i FROM range(500) r(i)", {{}}, folder / "lake", threads=1), "a")
    b = lake.add(write_arrow(pyarrow.table({{"x": [n, 2]}}), folder / "lake"), "b")
    head = lake.commit("main", {{"a": a.id, "b": b.id}}, expected=head).id
    sys.stdout.write(head + "\\n")
    sys.stdout.flush()
"""
SABOTAGES = {
    "folders are not synced": "files.sync_folder = lambda folder: None",
    "files are not synced": "files.sync = lambda fd: None",
}


def traced(folder: Path, sabotage: str = "") -> Trace:
    home = folder / "home"
    home.mkdir()
    db = Database(home / "records.db", writable=True)
    lake = Lake(db, home / "lake", SystemClock())
    table = lake.add(write_query("SELECT 1 AS i", {}, home / "lake"), "a")
    lake.commit("main", {"a": table.id}, expected=None)
    db.close()
    shutil.copytree(home, folder / "base")
    return Trace(COMMITS.format(folder=str(home), sabotage=sabotage), home, folder / "base", folder / "scratch")


def wrong(place: Path, acknowledged: list[str]) -> str:
    """What is not as it must be in what a power cut left; empty if all is."""
    db = Database(place / "records.db", writable=True)
    try:
        if (found := db.rows("PRAGMA integrity_check")[0][0]) != "ok":
            return str(found)
        lake = Lake(db, place / "lake", SystemClock())
        history = [commit.id for commit in lake.history("main")]
        if missing := set(acknowledged) - set(history):
            return f"acknowledged commits are gone: {missing}"
        if len(history) > len(acknowledged) + 2:
            return "there are more commits than were made"
        for row in db.rows("SELECT id FROM snapshots"):
            if faults := lake.verify(row["id"]):
                return faults[0]
        fresh = lake.add(write_query("SELECT 2 AS i", {}, place / "lake"), "a")
        lake.commit("main", {"a": fresh.id}, expected=lake.head())
        return "" if lake.tables()["a"].id == fresh.id else "a new commit is not there"
    finally:
        db.close()


@pytest.mark.slow
@needs_strace
@pytest.mark.parametrize("count", [48, pytest.param(600, marks=pytest.mark.night)])
def test_every_image_of_a_power_cut_holds_what_was_acknowledged(tmp_path: Path, count: int) -> None:
    trace = traced(tmp_path)
    assert len(trace.acks) == 4
    for name, image, acknowledged in trace.images(count, seed=7):
        trace.lay_out(image, tmp_path / "image")
        assert wrong(tmp_path / "image", acknowledged) == "", name


@needs_strace
@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_images_see_what_was_not_synced(tmp_path: Path, sabotage: str) -> None:
    trace = traced(tmp_path, SABOTAGES[sabotage])
    for _, image, acknowledged in trace.images(80, seed=7):
        trace.lay_out(image, tmp_path / "image")
        if wrong(tmp_path / "image", acknowledged):
            return
    pytest.fail("no image shows it")
