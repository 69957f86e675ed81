"""Clean-up beside real runs: what it removed is built again, and it waits for a run that is going on."""

import os
import threading
import time
from pathlib import Path

import pytest

from sampan.base.settings import Folder
from tests.cli.conftest import Here, Shell, here, hub, shell, visits
from tests.hub.conftest import Hub

__all__ = ["here", "hub", "shell", "visits"]  # fixtures

STEPS = """
from sampan import step

@step
def large() -> list[int]:
    return list(range(40_000))

@step(each="large_numbers")
def parts(large_numbers: int) -> int:
    return large_numbers * 10

@step
def large_numbers(large: list[int]) -> list[int]:
    return large[1:4]
"""
SLOW = """
@step
def slow(large: list[int]) -> int:
    import time

    time.sleep(2)
    return len(large)
"""
AT_ONCE = '[retention]\ncommits = "0 days"\nruns = "0 days"\ngrace = "0 days"\n'


@pytest.fixture
def shop(here: Here, visits: Path) -> Here:
    """A workspace in which two states of everything have been published."""
    (here.folder / "sampan.toml").write_text(AT_ONCE)
    (here.folder / "steps.py").write_text(STEPS)
    here("log", "load", str(visits), "--type", "visit", "--map", "visitor=visitor")
    here("run")
    return here


def edit(here: Here, old: str, new: str) -> None:
    for name in ("tables/pages.sql", "steps.py"):
        path = here.folder / name
        path.write_text(path.read_text().replace(old, new))


def files(here: Here) -> set[str]:
    data = Folder(here.folder).data
    return {name for kind in ("lake", "blobs") for _, _, names in os.walk(data / kind) for name in names}


def test_what_was_removed_is_built_again_by_a_run(shop: Here) -> None:
    first = shop.json("table", "list")["tables"]
    before = files(shop)
    edit(shop, "count(*)", "count(*) + 1")
    edit(shop, "40_000", "50_000")
    shop("run")
    assert shop.json("gc")["gone"] > 2
    assert before < files(shop)
    assert "would go" in shop("gc") and "sampan gc --apply" in shop("gc")
    assert shop.json("gc", "--apply")["proof"]["agrees"]
    assert not before <= files(shop)
    assert shop.json("gc", "--apply")["gone"] == 0
    assert shop.json("plan")["steps"] and all(one["state"] == "cached" for one in shop.json("plan")["steps"])
    edit(shop, "count(*) + 1", "count(*)")
    edit(shop, "50_000", "40_000")
    steps = shop.json("run")["steps"]
    assert {one["name"] for one in steps if one["state"] == "ran"} == {"pages", "large", "large_numbers"}
    assert before <= files(shop)
    assert [one["snapshot"] for one in shop.json("table", "list")["tables"]] == [one["snapshot"] for one in first]


def test_pins_are_made_listed_and_taken_back(shop: Here) -> None:
    commit = shop.json("branch", "log")["commits"][0]["id"]
    assert f"@{commit} stays until" in shop("pin", "add", "main", "--reason", "the audit of 2026")
    edit(shop, "count(*)", "count(*) + 1")
    shop("run")
    shop("gc", "--apply")
    assert shop.json("sql", "select sum(visits) from pages", "--ref", f"@{commit}")["rows"] == [[2]]
    assert [one["reason"] for one in shop.json("pin", "list")] == ["the audit of 2026"]
    assert "no longer pinned" in shop("pin", "remove", f"@{commit}")
    assert "Nothing is pinned" in shop("pin", "list")
    shop("gc", "--apply")
    assert "sampan gc" in shop.complaint("sql", "select * from pages", "--ref", f"@{commit}", code=1)


def test_what_a_table_was_is_told_after_it_has_gone(shop: Here) -> None:
    (first,) = [one for one in shop.json("table", "list")["tables"] if one["name"] == "pages"]
    commit = shop.json("branch", "log")["commits"][0]["id"]
    edit(shop, "count(*)", "count(*) + 1")
    shop("run")
    shop("gc", "--apply")
    states = shop.json("table", "show", "pages")["history"]
    assert [one["rows"] for one in states] == [2, None]
    assert (states[1]["snapshot"], states[1]["commit"]) == (first["snapshot"], commit)
    for ref in (("--snapshot", first["snapshot"]), ("--ref", f"@{commit}")):
        assert shop.json("table", "show", "pages", *ref)["gone"]
        assert f"run {first['run']}" in shop("table", "show", "pages", *ref)
    assert shop.json("table", "list", "--ref", f"@{commit}")["gone"] == ["pages"]
    assert "Removed by `sampan gc`" in shop("table", "list", "--ref", f"@{commit}")
    assert "no snapshot" in shop.complaint("table", "show", "pages", "--snapshot", "t1-" + "0" * 32, code=1)


def test_a_run_that_is_going_on_in_the_hub_loses_nothing(here: Here, hub: Hub, visits: Path) -> None:
    (here.folder / "sampan.toml").write_text(AT_ONCE)
    (here.folder / "steps.py").write_text(STEPS + SLOW)
    here("log", "load", str(visits), "--type", "visit", "--map", "visitor=visitor")
    said: list[str] = []
    other = Shell(here.folder)
    running = threading.Thread(target=lambda: said.append(other("run")))
    running.start()
    while not any(one["state"] == "running" for one in here.json("runs", "list")["runs"]):
        time.sleep(0.05)
    assert here.json("gc")["proof"]["agrees"]  # a look waits for nobody
    done = here.json("gc", "--apply")
    running.join()
    assert said and done["applied"] and done["missing"] == {}
    assert all(one["state"] == "cached" for one in here.json("plan")["steps"])
    assert here.json("sql", "select sum(visits) from pages")["rows"] == [[2]]
    assert here.json("pin", "add", "main", "--reason", "x")["actor"] == "owner"
    assert len(here.json("pin", "list")) == 1


def test_while_a_writer_is_at_work_a_command_without_it_is_refused(here: Here) -> None:
    from sampan.app import App

    app = App(here.folder)
    with app.writing("Test"):
        assert "writer.lock" in here.complaint("gc", "--apply", code=3)
    app.close()
