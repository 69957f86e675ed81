"""Trying a change beside main, as one types it: with no hub, and through one."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Here, Shell
from tests.cli.test_contract import MODEL
from tests.hub.conftest import CONTRACTS, Hub
from tests.hub.test_pages import read

QUERY = "SELECT page, count(*) AS visits FROM visit GROUP BY page\n"
FORM = {"content_type": "application/x-www-form-urlencoded"}


def branching(shell: Shell, ask: Shell, visits: Path) -> None:
    """``ask``: where what is only looked at is typed."""
    shell("log", "load", str(visits), "--type", "visit", "--map", "visitor=visitor")
    assert "No branch" not in shell("run")
    assert "try starts at" in shell("branch", "new", "try", "--reason", "an idea")
    query = shell.folder / "tables" / "pages.sql"
    query.write_text(QUERY.replace("count(*)", "count(*) + 1"))
    assert "on try" in shell("run", "--branch", "try")
    assert ask.json("sql", "select sum(visits) from pages")["rows"] == [[2]]
    assert ask.json("sql", "select sum(visits) from pages", "--ref", "try")["rows"] == [[4]]
    listed = {one["name"]: one for one in ask.json("branch", "list")["branches"]}
    assert (listed["try"]["tables"], listed["try"]["reason"]) == (["pages"], "an idea")
    found = ask.json("branch", "diff", "try")
    assert [(one["name"], one["changed"], one["key"]) for one in found["tables"]] == [("pages", 2, ["page"])]
    assert found["definitions"][0]["name"] == "pages"
    said = ask("branch", "diff", "try", "--table", "pages")
    assert "Changed, for instance" in said and "visits in 2 rows" in said
    assert "pages" in ask("branch", "merge", "try", "--plan")
    query.write_text(QUERY)
    assert "cannot be merged now" in ask.run("branch", "merge", "try", "--plan").stderr
    assert ask.run("branch", "merge", "try", "--plan").returncode == 1
    assert "does not hold what would be merged" in shell.complaint("branch", "merge", "try", code=1)
    query.write_text(QUERY.replace("count(*)", "count(*) + 1"))
    assert "Merged try by run" in shell("branch", "merge", "try", "--reason", "it is better")
    assert ask.json("sql", "select sum(visits) from pages")["rows"] == [[4]]
    commits = ask.json("branch", "log")["commits"]
    assert [one["reason"] for one in commits] == ["merge try: it is better", "run of the flow"]
    assert "undoes" in shell("branch", "revert", commits[0]["id"])
    assert ask.json("sql", "select sum(visits) from pages")["rows"] == [[2]]
    assert "try is gone" in shell("branch", "delete", "try")
    assert "no branch 'try'" in shell.complaint("branch", "delete", "try", code=1)
    assert "no branch 'try'" in shell.complaint("run", "--branch", "try", code=1)


def test_a_change_is_tried_merged_and_undone_without_a_hub(here: Here, visits: Path) -> None:
    branching(here, here, visits)


def test_a_change_is_tried_merged_and_undone_through_the_hub(shell: Shell, hub: Hub, here: Here, visits: Path) -> None:
    branching(here, here, visits)
    assert hub.json("/branches/main")["commits"][0]["actor"] == "owner"


@pytest.mark.slow
def test_a_branch_s_page_shows_what_it_changes_and_merges_it(hub: Hub, here: Here, visits: Path) -> None:
    assert "No branch beside main." in " ".join(read(hub, "/branches").text)
    here("log", "load", str(visits), "--type", "visit", "--map", "visitor=visitor")
    here("run")
    here("branch", "new", "try", "--reason", "<script>alert(1)</script>")
    (here.folder / "tables" / "pages.sql").write_text(QUERY.replace("count(*)", "count(*) + 1"))
    here("run", "--branch", "try")
    for path in ("/branches", "/branches/try", "/branches/main", "/runs", "/tables?ref=try"):
        shown = " ".join(read(hub, path).text)
        assert "Traceback" not in shown
    shown = " ".join(read(hub, "/branches/try").text)
    assert "try changes pages" in shown and "<script>alert(1)</script>" in shown  # as text
    form = {**FORM, "cookie": hub.sign_in()}
    assert hub.ask("POST", "/branches/try/merge", b"", origin="https://evil.example", **form)[0].status == 403
    response, _ = hub.ask("POST", "/branches/try/merge", b"reason=good", origin=hub.url, **form)
    assert response.status == 303
    run = response.headers["location"].removeprefix("/runs/")
    assert run
    for _ in range(100):
        if hub.json(f"/runs/{run}")["state"] == "succeeded":
            break
    assert hub.json("/branches/main")["commits"][0]["reason"] == "merge try: good"
    assert hub.ask("GET", "/branches/nope")[0].status == 404
    refused, body = hub.ask("POST", "/branches/nope/merge", b"", origin=hub.url, **form)
    assert refused.status == 404, body
    assert json.loads(hub.ask("GET", "/branches/try", accept="application/json")[1])["obstacle"]


STEPS = """
import pyarrow as pa
from sampan import step

@step
def largest(pages: pa.Table) -> dict:
    return {"visits": max(pages["visits"].to_pylist())}
"""
RENAMED = (
    CONTRACTS.replace("page: str", "path: str").replace("version=1", "version=2").replace("Field\n", "Field, upcast\n")
    + '\n@upcast(Visit, since=1)\ndef _(data):\n    return data | {"path": data.pop("page")}\n'
)


@pytest.mark.slow
def test_a_field_renamed_on_a_branch_is_told_with_what_it_reaches(here: Here, visits: Path) -> None:
    here("log", "load", str(visits), "--type", "visit", "--map", "visitor=visitor")
    (here.folder / "steps.py").write_text(STEPS)
    here("run")
    here("branch", "new", "try")
    assert here.json("branch", "diff", "try")["contracts"] == []
    (here.folder / "contracts.py").write_text(RENAMED)
    (here.folder / "tables" / "pages.sql").write_text(QUERY.replace("page", "path", 1).replace("BY page", "BY path"))
    here("run", "--branch", "try")
    found = here.json("branch", "diff", "try")
    assert [(one["field"], one["how"], one["main"], one["branch"]) for one in found["contracts"]] == [
        ("page", "gone", "str", None),
        ("path", "new", None, "str"),
    ]
    gone, new = found["contracts"]
    assert gone["told"] == []
    assert new["told"] == ["goes into pages.path", "hits step largest"]
    assert "it changes what is sent (visit.page, visit.path)" in found["sentence"]
    said = here("branch", "merge", "try", "--plan")
    assert "Contracts\n" in said and "goes into pages.path; hits step largest" in said
    (here.folder / "tables" / "pages.sql").write_text(QUERY)
    (here.folder / "models.py").write_text(MODEL)
    found = here.json("branch", "diff", "try")
    assert found["contracts"][0]["told"] == ["goes into pages.page", "hits step largest, model likely"]
    assert "it changes what is sent (visit.page, visit.path), which hits likely." in found["sentence"]


UPCAST = """
@upcast(Visit, since=1)
def _(data):
    return data | {"path": data.pop("page")}
"""
HEAD = "from typing import Annotated\nfrom sampan import Event, Field, upcast\n"
DECLARED = {
    "an alias of Event": ("Base = Event\nclass Visit(Base, version=1):\n    page: str\n", ""),
    "a further name": ("class Seen(Event, type='visit', version=1):\n    page: str\nVisit = Seen\n", ""),
    "a base class": ("class Page(Event, version=1):\n    page: str\nclass Visit(Page, version=1):\n    pass\n", ""),
    "a base class of another module": (
        "from shared import Page\nclass Visit(Page, version=1):\n    pass\n",
        "from sampan import Event\nclass Page(Event):\n    page: str\n",
    ),
    "an alias of its annotation": (
        "Name = Annotated[str, Field(description='of the page')]\nclass Visit(Event, version=1):\n    page: Name\n",
        "",
    ),
    "optional, under a condition": (
        "if True:\n    class Visit(Event, version=1):\n"
        "        page: Annotated[str, Field(max_length=90)] | None = None\n",
        "",
    ),
    "an older version after it": (
        "class Visit(Event, version=1):\n    page: str\n",
        "",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", DECLARED)
def test_a_renamed_field_is_told_however_its_contract_is_declared(here: Shell, how: str) -> None:
    contracts, shared = DECLARED[how]
    if shared:
        here = Shell(here.folder)  # Python imports a module once in a process, and here all commands share one
    before = here.folder / "contracts.py"
    before.write_text(HEAD + contracts)
    (here.folder / "shared.py").write_text(shared)
    (here.folder / "models.py").write_text(MODEL)
    (here.folder / "steps.py").write_text(STEPS)
    (here.folder / "visits.ndjson").write_text(
        '{"id": "1", "type": "visit", "source": "web", "time": "2026-01-01T00:00:00Z", "data": {"page": "/"}}\n'
    )
    here("log", "load", "visits.ndjson")
    here("run", "largest")
    here("branch", "new", "try")
    text = contracts.replace("page: ", "path: ").replace("version=1", "version=2")
    older = "class Old(Event, type='visit', version=1):\n    page: str\n" if how == "an older version after it" else ""
    before.write_text(HEAD + text + older + UPCAST + (UPCAST.replace("Visit", "Page") if how == "a base class" else ""))
    (here.folder / "shared.py").write_text(shared.replace("page: ", "path: "))
    (here.folder / "tables" / "pages.sql").write_text(QUERY.replace("page", "path", 1).replace("BY page", "BY path"))
    here("run", "largest", "--branch", "try")
    (here.folder / "tables" / "pages.sql").write_text(QUERY)
    found = here.json("branch", "diff", "try")
    changes = {(one["field"], one["how"]): one["told"] for one in found["contracts"] if one["type"] == "visit"}
    assert changes[("page", "gone")] == ["goes into pages.page", "hits step largest, model likely"]
    assert ("path", "new") in changes
    assert "contract visit" in [one["name"] for one in found["definitions"]]


def test_a_hub_that_began_with_older_contracts_tells_of_the_field_too(hub: Hub, here: Here, visits: Path) -> None:
    here("log", "load", str(visits), "--type", "visit", "--map", "visitor=visitor")
    here("run")
    here("branch", "new", "try")
    (here.folder / "contracts.py").write_text(RENAMED)
    (here.folder / "tables" / "pages.sql").write_text(QUERY.replace("page", "path", 1).replace("BY page", "BY path"))
    here("run", "--branch", "try")
    found = hub.json("/branches/try")["contracts"]
    assert [(one["field"], one["how"], one["main"], one["branch"]) for one in found] == [
        ("page", "gone", "str", None),
        ("path", "new", None, "str"),
    ]
