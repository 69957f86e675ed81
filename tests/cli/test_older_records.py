"""A command that only reads, in a workspace whose records an older Sampan wrote."""

import sqlite3
from pathlib import Path

import pytest

from sampan.store.lock import FileLock
from sampan.store.migrations import FORMAT, MIGRATIONS, format_of, migrate
from tests.cli.conftest import Here
from tests.hub.conftest import make_workspace


@pytest.fixture
def here(tmp_path: Path) -> Here:
    folder = make_workspace(tmp_path / "shop")
    (folder / ".sampan").mkdir()
    records = sqlite3.connect(folder / ".sampan" / "records.db", isolation_level=None)
    records.execute("PRAGMA journal_mode=wal")
    migrate(records, MIGRATIONS[:-1])
    records.execute(
        "INSERT INTO runs (id, state, target, branch, position, root, actor, manifest, started)"
        " VALUES ('old', 'succeeded', '', 'main', '', '', 'ann', '{}', 1)"
    )
    records.execute("INSERT INTO run_steps (run, name, kind, state, why) VALUES ('old', 'pages', 'table', 'ran', '')")
    records.close()
    return Here(folder)


def test_records_are_brought_up_to_date_before_they_are_read(here: Here) -> None:
    (run,) = here.json("runs", "list")["runs"]
    assert (run["run"], run["steps"]) == ("old", {"ran": 1})
    records = sqlite3.connect(here.folder / ".sampan" / "records.db")
    assert format_of(records) == FORMAT
    records.close()


def test_while_another_process_holds_them_that_is_said(here: Here) -> None:
    with FileLock(here.folder / ".sampan" / "writer.lock", "Test", ""):
        said = here.complaint("runs", "list", code=3)
    assert f"Bring the records from format {FORMAT - 1} up to date" in said
