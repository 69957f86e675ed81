"""Tables as pages: what is in one, what made it, who reads and guards it, what was held back, what it was before."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hub.conftest import Hub, make_workspace, sampan, visit
from tests.hub.test_pages import read

STEPS = '''
from sampan import check, step


@step
def busiest(pages: list) -> str:
    """The page that is read most. Ties go to the first."""
    return max(pages, key=lambda row: row["visits"])["page"]


@check
def few_pages(pages: list) -> str | None:
    """Nobody writes so many."""
    return "too many pages" if len(pages) > LIMIT else None
'''


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Two published states of ``pages`` with 3 and 5 rows, and a candidate with 9 that a check held back."""
    folder = make_workspace(tmp_path_factory.mktemp("tables") / "shop")
    (folder / "tables" / "pages.sql").write_text(
        "-- How often each page was read. Robots included.\n"
        "SELECT page, count(*) AS visits, min(_time) AS first_at, nullif(page, '/0') AS other FROM visit\n"
        "GROUP BY page\n"
    )
    (folder / "steps.py").write_text(STEPS.replace("LIMIT", "6"))
    running = Hub(folder)
    for round, count in enumerate((3, 5, 9)):
        running.send(*[visit(f"{round}-{n}", f"/{n}") for n in range(count)])
        assert sampan(folder, "run").returncode == (1 if count > 6 else 0)
    running.send(visit("late-1"), visit("late-2"))
    yield running
    assert running.stop() == 0


def looked(hub: Hub, path: str) -> Any:
    """A table's page once its values have been counted."""
    until = time.monotonic() + 20
    while (page := hub.json(path))["looking"] and time.monotonic() < until:
        time.sleep(0.05)
    return page


def test_the_catalogue_says_what_each_is_how_fresh_and_who_reads_and_guards_it(hub: Hub) -> None:
    (line,) = hub.json("/tables")["tables"]
    assert line["about"] == "How often each page was read."
    assert line["path"] == "tables/pages.sql"
    assert line["rows"] == 5
    assert line["newer"] == 9 + 2
    assert [use["name"] for use in line["readers"]] == ["busiest"]
    assert [(use["name"], use["state"]) for use in line["checks"]] == [("few_pages", "failed")]


def test_a_candidate_that_was_held_back_is_told_with_its_reason(hub: Hub) -> None:
    (line,) = hub.json("/tables")["tables"]
    assert line["held"]["rows"] == 9
    assert line["held"]["why"] == "few_pages failed"
    page = hub.json("/tables/pages")
    assert page["held"] == line["held"]
    candidate = hub.json(f"/tables/pages?snapshot={line['held']['snapshot']}")
    assert (candidate["rows"], candidate["current"], candidate["held"]) == (9, False, None)
    text = " ".join(read(hub, f"/tables/pages?snapshot={line['held']['snapshot']}").text)
    assert "made and not published" in text
    assert "A candidate is held back." in " ".join(read(hub, "/tables/pages").text)


def test_columns_have_their_values_counted_once_per_snapshot(hub: Hub) -> None:
    page = looked(hub, "/tables/pages")
    columns = {column["name"]: column["profile"] for column in page["columns"]}
    assert columns["visits"]["bars"]
    assert columns["other"]["nulls"] == pytest.approx(0.2)
    assert columns["page"]["distinct"] == 5
    assert (hub.folder / ".sampan" / "cache" / "profiles" / f"{page['snapshot']}.json").exists()
    found = read(hub, "/tables/pages")
    assert "meta" in found.tags
    body = hub.ask("GET", "/tables/pages", accept="text/html")[1].decode()
    assert "Histogram of visits" in body
    assert "http-equiv" not in body


def test_each_column_says_what_its_values_are_made_of(hub: Hub) -> None:
    page = hub.json("/tables/pages")
    assert [(one["name"], one["made_of"], one["whole"]) for one in page["columns"]] == [
        ("page", ["visit.page"], ""),
        ("visits", [], ""),
        ("first_at", ["visit._time"], ""),
        ("other", ["visit.page"], ""),
    ]
    assert "of visit._time" in " ".join(read(hub, "/tables/pages").text)
    candidate = page["held"]["snapshot"]
    assert hub.json(f"/tables/pages?snapshot={candidate}")["columns"][0]["made_of"] is None


def test_a_command_does_not_begin_to_count(hub: Hub) -> None:
    for cached in (hub.folder / ".sampan" / "cache" / "profiles").glob("*.json"):
        cached.unlink()
    assert sampan(hub.folder, "table", "show", "pages").returncode == 0
    assert not list((hub.folder / ".sampan" / "cache" / "profiles").glob("*.json"))


def test_snapshots_are_told_by_the_rows_that_came(hub: Hub) -> None:
    history = hub.json("/tables/pages")["history"]
    assert [(state["rows"], state["more"]) for state in history] == [(5, 2), (3, None)]
    assert history[0]["run"]
    first = hub.json(f"/tables/pages?snapshot={history[1]['snapshot']}")
    assert first["rows"] == len(first["sample"]) == 3
    assert hub.json(f"/tables?ref=@{history[1]['commit']}")["tables"][0]["rows"] == 3


def test_what_made_a_table_and_what_is_around_it(hub: Hub) -> None:
    page = hub.json("/tables/pages")
    assert page["code"]["text"].startswith("-- How often")
    assert page["events"] == ["visit"]
    assert [use["name"] for use in page["readers"]] == ["busiest"]
    (check,) = page["checks"]
    assert check["why"] == "too many pages"


@pytest.mark.parametrize("name", ["..%2fcontracts", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "a%00b"])
def test_the_name_of_a_table_reads_no_other_file(hub: Hub, name: str) -> None:
    snapshot = hub.json("/tables/pages")["snapshot"]
    response, body = hub.ask("GET", f"/tables/{name}?snapshot={snapshot}", accept="application/json")
    assert response.status in (200, 400, 404)
    assert b'"code":null' in body or response.status != 200
