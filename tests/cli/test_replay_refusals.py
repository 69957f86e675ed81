"""Replays that cannot be, or do not come to their end: one message, main as it was, and the branch goes on later."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Here
from tests.cli.test_bad_days import mounted, unmount

CONTRACT = """
from sampan import Event


class Visit(Event, version=1):
    page: str
    seconds: int
"""
VISITS = [
    {
        "id": f"v{n}",
        "type": "visit",
        "source": "web",
        "time": f"2026-01-{1 + n % 28:02}T00:00:00Z",
        "data": {"page": f"p{n % 7}", "seconds": n},
    }
    for n in range(60)
]


def git(folder: Path, *arguments: str) -> None:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def derived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tables. The first commit has only one of them."""
    folder = tmp_path_factory.mktemp("derived") / "shop"
    (folder / "tables").mkdir(parents=True)
    (folder / "sampan.toml").write_text("")
    (folder / ".gitignore").write_text(".sampan/\n*.ndjson\n")
    (folder / "contracts.py").write_text(CONTRACT)
    (folder / "tables" / "visits.sql").write_text("SELECT page, seconds, _time AS at FROM visit\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one table")
    git(folder, "tag", "one-table")
    (folder / "tables" / "pages.sql").write_text("SELECT page, sum(seconds) AS seconds FROM visits GROUP BY page\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "two tables")
    here = Here(folder)
    (folder / "visits.ndjson").write_text("\n".join(map(json.dumps, VISITS)))
    here("log", "load", "visits.ndjson")
    here("run")
    return folder


@pytest.fixture
def shop(derived: Path, tmp_path: Path) -> Iterator[Here]:
    yield Here(shutil.copytree(derived, tmp_path / "shop", symlinks=True))


def edit(shop: Here, name: str, old: str, new: str) -> None:
    path = shop.folder / "tables" / f"{name}.sql"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def main(shop: Here) -> dict[str, str]:
    return {one["name"]: one["snapshot"] for one in shop.json("table", "list")["tables"]}


def test_a_commit_that_there_is_not(shop: Here) -> None:
    said = shop.complaint("replay", "--code", "nowhere", code=1)
    assert "'nowhere'" in said and "git log" in said
    assert shop.json("replay", "list")["replays"] == []


def test_a_folder_that_is_not_in_git(shop: Here) -> None:
    shutil.rmtree(shop.folder / ".git")
    said = shop.complaint("replay", "--code", "HEAD", code=1)
    assert "git" in said


def test_a_time_before_the_first_event(shop: Here) -> None:
    said = shop.complaint("replay", "--until", "2001-01-01", code=1)
    assert "no event had been received by then" in said and "Choose a later time" in said


def test_a_step_that_is_gone_in_the_old_code_is_reported(shop: Here) -> None:
    before = main(shop)
    found = shop.json("replay", "--code", "one-table")
    assert found["state"] == "done"
    assert {one["name"]: one["how"] for one in found["report"]["tables"]} == {"pages": "gone"}
    assert "pages" in shop("replay", "show")
    assert main(shop) == before


def test_a_step_that_others_need_and_that_is_gone_is_named(shop: Here) -> None:
    (shop.folder / "tables" / "visits.sql").unlink()
    said = shop.complaint("replay", code=2)
    assert "visits" in said and "pages" in said


@pytest.mark.slow
def test_main_that_has_moved_is_derived_anew_and_a_changed_definition_is_a_conflict(shop: Here) -> None:
    edit(shop, "pages", "sum(seconds)", "max(seconds)")
    first = shop.json("replay")
    late = VISITS[0] | {"id": "late", "data": {"page": "p0", "seconds": 1000}}
    (shop.folder / "late.ndjson").write_text(json.dumps(late))
    shop("log", "load", "late.ndjson")
    edit(shop, "pages", "max(seconds)", "min(seconds)")
    shop("run")
    head = main(shop)
    edit(shop, "pages", "min(seconds)", "max(seconds)")
    said = shop.complaint("replay", "approve", first["id"], code=1)
    assert "pages" in said and "main" in said
    assert main(shop) == head
    edit(shop, "pages", "max(seconds)", "sum(seconds)")
    shop("run")
    edit(shop, "pages", "sum(seconds)", "max(seconds)")
    shop("replay", "approve", first["id"])
    assert shop.json("sql", "SELECT seconds FROM pages WHERE page = 'p0'")["rows"] == [[1000]]  # of the log of now


def test_a_disk_that_is_full_in_the_middle_leaves_main_and_a_replay_that_goes_on(shop: Here, tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    if not mounted("-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)):
        pytest.skip("may not mount")
    try:
        there = Here(shutil.copytree(shop.folder, place / "shop"))
        before = main(there)
        wide = "SELECT page, seconds, _time AS at, [hash(i, _id)::VARCHAR for i in range(6000)] AS noise FROM visit\n"
        (there.folder / "tables" / "visits.sql").write_text(wide)
        edit(there, "pages", "sum(seconds)", "max(seconds)")
        fill = place / "fill"
        free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
        fill.write_bytes(bytes(free - 3_000_000))
        said = there.complaint("replay", code=3)
        assert "is full" in said and "Free some space" in said
        assert main(there) == before
        (failed,) = there.json("replay", "list")["replays"]
        assert failed["state"] == "failed"
        fill.unlink()
        done = there.json("replay", "resume", failed["id"])
        assert done["state"] == "done"
        assert {one["name"] for one in done["report"]["tables"]} == {"visits", "pages"}
        assert main(there) == before
    finally:
        unmount(place)
