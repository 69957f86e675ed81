"""`--as-of`: one workspace that a shared clock drives, asked what was known when; with no hub, and through one."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sampan.base.clock import SharedClock
from tests.cli.conftest import Here
from tests.hub.conftest import Hub, make_workspace

FIRST = datetime(2026, 1, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def event(id: str, **more: Any) -> str:
    return json.dumps(
        {"id": id, "type": "visit", "source": "web", "time": "2026-01-01T00:00:00Z", "data": {"page": f"/{id}"}} | more
    )


@pytest.fixture
def here(tmp_path: Path) -> Here:
    """A visit and a run on the 10th, 11th and 12th, each; on the 12th another comes that was known on the 9th."""
    folder = make_workspace(tmp_path / "shop")
    (folder / "sampan.toml").write_text('[settings]\nclock = "clock"\n')
    clock = SharedClock.create(folder / "clock", FIRST - 2 * DAY)
    here = Here(folder)
    for day in range(3):
        clock.set(FIRST + day * DAY)
        more = [event("old", known_at="2026-01-09T00:00:00Z")] if day == 2 else []
        (folder / "day.ndjson").write_text("\n".join([event(str(day)), *more]))
        here("log", "load", "day.ndjson")
        clock.set(FIRST + day * DAY + timedelta(hours=1))
        assert here.json("run")["state"] == "succeeded"
    clock.set(FIRST + 3 * DAY)
    return here


def pages(here: Here, *more: str) -> list[str]:
    return [row[0] for row in here.json("sql", "select page from pages order by page", *more)["rows"]]


def ids(here: Here, *more: str) -> list[str]:
    return [row[0] for row in here.json("sql", "select _id from visit order by all", *more)["rows"]]


@pytest.mark.slow
def test_a_run_as_of_a_time_derives_what_was_known_then_on_a_branch(here: Here) -> None:
    assert "Name a branch for it" in here.complaint("run", "--as-of", "2026-01-11", code=2)
    assert "still to come" in here.complaint("run", "--branch", "then", "--as-of", "2027-01-11", code=2)
    here("branch", "new", "then")
    made = here.json("run", "--branch", "then", "--as-of", "2026-01-11")
    assert [step["state"] for step in made["steps"]] == ["ran"]
    assert pages(here, "--ref", "then") == ["/0", "/1", "/old"]
    assert pages(here) == ["/0", "/1", "/2", "/old"]
    assert [step["state"] for step in here.json("run", "--branch", "then", "--as-of", "2026-01-11")["steps"]] == [
        "cached"
    ]
    here.json("run", "--branch", "then", "--as-of", "2026-01-09")
    assert pages(here, "--ref", "then") == ["/old"]
    here.json("run", "--branch", "then")
    assert pages(here, "--ref", "then") == pages(here)


@pytest.mark.slow
def test_a_table_built_bit_by_bit_does_not_go_on_from_another_time(here: Here) -> None:
    query = "-- incremental: by day of day\nSELECT date_trunc('day', _time) AS day, page FROM visit\n"
    (here.folder / "tables" / "pages.sql").write_text(query)
    here.json("run")
    here("branch", "new", "then")
    here.json("run", "--branch", "then", "--as-of", "2026-01-11")
    assert pages(here, "--ref", "then") == ["/0", "/1", "/old"]
    assert pages(here) == ["/0", "/1", "/2", "/old"]


def questions(here: Here) -> None:
    assert pages(here) == ["/0", "/1", "/2", "/old"]
    assert pages(here, "--as-of", "2026-01-11T12:59") == ["/0"]
    assert pages(here, "--as-of", "2026-01-11T13:00") == ["/0", "/1"]
    assert pages(here, "--as-of", "2026-01-11") == ["/0", "/1"]
    assert pages(here, "--as-of", "2026-01-13") == ["/0", "/1", "/2", "/old"]
    assert ids(here, "--as-of", "2026-01-10") == ["0", "old"]
    assert ids(here, "--as-of", "2026-01-09") == ["old"]
    assert "nothing was known then; its first records are of 2026-01-10T12:00:00Z" in here.complaint(
        "sql", "select 1", "--as-of", "2026-01-08", code=2
    )
    assert "its first commit was made at 2026-01-10T13:00:00Z" in here.complaint(
        "sql", "select * from pages", "--as-of", "2026-01-09", code=1
    )
    for text, why in (("soon", "that is no time"), ("2026-01-14", "that is still to come; it is 2026-01-13T12:00:00Z")):
        assert why in here.complaint("sql", "select 1", "--as-of", text, code=2)
    commit = here.json("branch", "log")["commits"][-1]["id"]
    assert pages(here, "--as-of", f"@{commit[:12]}") == ["/0"]
    assert ids(here, "--as-of", f"@{commit}") == ["0", "old"]
    assert "no commit 'nowhere'" in here.complaint("sql", "select 1", "--as-of", "@nowhere", code=1)
    said = here.complaint("sql", "select 1 from pages", "--ref", f"@{commit}", "--as-of", "2026-01-11", code=2)
    assert "a commit is what it is at any time" in said


def test_questions_as_of_a_time(here: Here) -> None:
    questions(here)


@pytest.mark.slow
def test_questions_as_of_a_time_through_a_hub(here: Here, tmp_path: Path) -> None:
    hub = Hub(here.folder)
    try:
        elsewhere = Here(tmp_path)
        elsewhere.extra = {"SAMPAN_URL": hub.url, "SAMPAN_TOKEN": hub.token}
        questions(elsewhere)
    finally:
        assert hub.stop() == 0
