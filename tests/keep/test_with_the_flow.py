"""Clean-up beside real runs: what it removed is built again, and it waits for a run that is going on."""

import os
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sampan.app import App
from sampan.base.settings import Folder
from tests.cli.conftest import Here, Shell, here, hub, shell, visits
from tests.hub.conftest import Hub
from tests.hub.test_pages import read

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


@pytest.mark.slow
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


def storage(shop: Here) -> Any:
    """What the page of that name says."""
    with closing(App(shop.folder)) as app:
        return app.view("/storage")


def test_the_storage_page_says_what_goes_why_the_rest_stays_and_what_went(shop: Here) -> None:
    first = shop.json("runs", "list")["runs"][0]["run"]
    commit = shop.json("branch", "log")["commits"][0]["id"]
    shop("pin", "add", "main", "--reason", "the audit of 2026")
    edit(shop, "count(*)", "count(*) + 1")
    shop("run")
    pinned = storage(shop)
    assert [(one["pin"]["ref"], one["pin"]["reason"]) for one in pinned["pins"]] == [
        (f"@{commit}", "the audit of 2026")
    ]
    assert any("pinned: the audit of 2026" in one["why"] for one in pinned["storage"]["kept"])
    shop("pin", "remove", f"@{commit}")
    said = storage(shop)
    (table,) = [one for one in said["storage"]["going"] if one["kind"] == "table files"]
    assert table["about"] == f"table pages of run {first}"
    (pages,) = [one for one in said["storage"]["tables"] if one["name"] == "pages"]
    assert (pages["states"], pages["bytes"] - pages["now"]) == (2, table["bytes"])
    assert said["bytes"] == sum(one["bytes"] for one in said["storage"]["stores"])
    assert said["cleanups"] == [] and said["next"] is None
    assert {one["name"]: (one["value"], one["origin"]) for one in said["retention"]} == {
        "commits": ("0 days", "sampan.toml"),
        "runs": ("0 days", "sampan.toml"),
        "grace": ("0 days", "sampan.toml"),
        "every": ("never", "default"),
    }
    done = shop.json("gc", "--apply")
    (went,) = storage(shop)["cleanups"]
    assert (went["gone"], went["gone_bytes"], list(went["kinds"])) == (done["gone"], done["gone_bytes"], done["kinds"])
    assert went["gone_bytes"] == sum(one["bytes"] for one in said["storage"]["going"])
    assert went["finished"] >= went["started"] and went["error"] == ""
    assert not storage(shop)["storage"]["going"]


def test_what_is_wrong_in_retention_is_said_on_the_page_and_before_a_hub_starts(shop: Here) -> None:
    (shop.folder / "sampan.toml").write_text('[retention]\nevery = "1 second"\n')
    said = storage(shop)
    assert said["storage"] is None and 'At least "1 hour"' in said["trouble"]
    assert "every is '1 second'" in shop.complaint("up", "--port", "0", code=2)


@pytest.mark.slow
def test_the_hub_cleans_up_by_itself_where_that_is_asked_for(shop: Here) -> None:
    edit(shop, "count(*)", "count(*) + 1")
    shop("run")
    (shop.folder / "sampan.toml").write_text(AT_ONCE + 'every = "1 hour"\n')
    before = files(shop)
    hub = Hub(shop.folder)
    try:
        until = time.monotonic() + 40
        while not (went := hub.json("/storage")["cleanups"]) and time.monotonic() < until:
            time.sleep(0.2)
        while hub.json("/storage")["cleanups"][0]["finished"] is None:
            time.sleep(0.05)
        text = " ".join(read(hub, "/storage").text)
    finally:
        assert hub.stop() == 0
    (one,) = went
    assert one["actor"] == "schedule" and one["gone"] == 3 and len(before - files(shop)) == 2, (
        "a table's file, a run's logs, and its code, which is in no repository"
    )
    assert "by itself, next" in text and "schedule" in text
    assert storage(shop)["next"] == one["started"] + 3_600_000_000


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
