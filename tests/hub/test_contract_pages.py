"""The registry's pages: who answers for a contract, who sends it, what is made of it, and what it was before."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.conftest import CONTRACTS, Hub, make_workspace, sampan, visit
from tests.hub.test_pages import read

OWNED = CONTRACTS.replace("version=1", 'version=1, owner="web@shop"')
MODEL = """
from sampan import model

@model
def likely(pages: list) -> object:
    raise NotImplementedError
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = make_workspace(tmp_path_factory.mktemp("contracts") / "shop")
    (folder / "contracts.py").write_text(OWNED)
    (folder / "tables" / "popular.sql").write_text("SELECT page FROM pages WHERE visits > 10\n")
    (folder / "tables" / "apart.sql").write_text("SELECT 1 AS one\n")
    (folder / "checks").mkdir()
    (folder / "checks" / "pages_have_names.sql").write_text("SELECT * FROM visit WHERE page = ''\n")
    (folder / "steps.py").write_text(MODEL)
    before = Hub(folder)
    before.send(*[visit(str(n)) for n in range(9)], visit("bad", seconds=-1))
    before.stop()
    (folder / "contracts.py").write_text(
        OWNED.replace("version=1", "version=2")
        .replace("    page: str", "    page: str\n    till: str")
        .replace("import Event, Field", "import Event, Field, upcast")
        + '\n@upcast(Visit, since=1)\ndef _(data):\n    return data | {"till": "?"}\n'
    )
    hub = Hub(folder)
    yield hub
    assert hub.stop() == 0


def test_a_contract_is_shown_with_owner_senders_and_rejected_share(shop: Hub) -> None:
    page = shop.json("/contracts/visit")
    assert (page["version"], page["owner"], page["accepted"], page["quarantined"]) == (2, "web@shop", 9, 1)
    assert page["rejected"] == pytest.approx(0.1)
    (line,) = page["producers"]
    assert (line["producer"], line["source"], line["accepted"], line["quarantined"]) == ("owner", "web", 9, 1)
    text = " ".join(read(shop, "/contracts/visit").text)
    assert "web@shop answers for it" in text


def test_everything_made_of_it_is_named_with_the_way_that_leads_there(shop: Hub) -> None:
    found = {one["name"]: (one["kind"], one["via"]) for one in shop.json("/contracts/visit")["dependants"]}
    assert found == {
        "pages": ("table", []),
        "popular": ("table", ["pages"]),
        "likely": ("model", ["pages"]),
        "pages_have_names": ("check", []),
    }
    assert shop.json("/contracts/outcome")["dependants"] == []


def test_an_older_version_is_kept_as_it_was_and_says_what_changed_since(shop: Hub) -> None:
    newest, first = shop.json("/contracts/visit")["versions"]
    assert (newest["version"], first["version"], first["readable"]) == (2, 1, True)
    assert first["registered"] <= newest["registered"]
    assert [(change["field"], change["breaks"]) for change in newest["changes"]] == [("till", ["producer"])]
    older = shop.json("/contracts/visit?version=1")
    assert [field["name"] for field in older["fields"]] == ["page", "visitor", "seconds"]
    assert "version 2 is in force" in " ".join(read(shop, "/contracts/visit?version=1").text)


def test_the_list_begins_with_what_needs_a_person(shop: Hub) -> None:
    lines = shop.json("/contracts")["contracts"]
    assert [line["type"] for line in lines] == ["visit", "outcome", "prediction", "review", "shadow"]
    assert (lines[0]["attention"], lines[1]["attention"]) == ("1 in quarantine", "")


def test_a_flow_that_does_not_read_is_said_and_the_contract_shown(shop: Hub) -> None:
    query = shop.folder / "tables" / "broken.sql"
    query.write_text("SELECT FROM WHERE\n")
    try:
        page = shop.json("/contracts/visit")
        assert "broken.sql" in page["trouble"]
        assert page["fields"]
        read(shop, "/contracts/visit")
    finally:
        query.unlink()


@pytest.mark.parametrize("path", ["/contracts/none", "/contracts/visit?version=9", "/contracts/visit?version=x"])
def test_a_contract_that_is_not_there_is_said(shop: Hub, path: str) -> None:
    assert shop.ask("GET", path, accept="text/html")[0].status == 404


def test_the_command_shows_the_same(shop: Hub) -> None:
    said = sampan(shop.folder, "contract", "show", "visit").stdout
    assert "web@shop answers for it" in said
    assert "popular" in said
    older = sampan(shop.folder, "contract", "show", "visit", "--version", "1").stdout
    assert "version 1" in older
    assert "till" not in older
    assert "web@shop" in sampan(shop.folder, "contract", "list").stdout


def test_the_pages_are_small_and_quick(shop: Hub) -> None:
    for path in ("/contracts", "/contracts/visit"):
        assert len(shop.ask("GET", path, accept="text/html")[1]) < 60_000


def test_an_owner_is_shown_as_text(tmp_path: Path) -> None:
    folder = make_workspace(tmp_path / "shop")
    (folder / "contracts.py").write_text(OWNED.replace("web@shop", "<script>alert(1)</script>"))
    hub = Hub(folder)
    try:
        read(hub, "/contracts")
        read(hub, "/contracts/visit")
    finally:
        hub.stop()


def test_the_way_of_a_field_and_of_a_column_is_a_page(shop: Hub) -> None:
    found = shop.json("/lineage/visit?column=page")
    assert (found["kind"], found["name"]) == ("field", "visit.page")
    reached = {(one["kind"], one["name"], one["how"]): one["columns"] for one in found["facts"]["reaches"]}
    assert reached["table", "pages", "value"] == ["page"]
    assert reached["table", "popular", "value"] == ["page"]
    assert {("check", "pages_have_names", "value"), ("model", "likely", "value")} <= set(reached)
    text = " ".join(read(shop, "/lineage/visit?column=page").text)
    assert "What field visit.page reaches." in text
    assert "It goes into the model likely." in text
    text = " ".join(read(shop, "/lineage/popular?column=page").text)
    assert "Where column popular.page comes from." in text
    assert "The values of popular.page are made of visit.page." in text
    assert shop.ask("GET", "/lineage/popular?column=pag")[0].status == 404


def test_each_field_of_a_contract_says_what_it_reaches(shop: Hub) -> None:
    page = shop.json("/contracts/visit")
    told = {name: one["told"] for name, one in page["reaches"].items()}
    assert told == {
        "page": "2 columns of 2 tables, model likely, 1 check",
        "till": "1 check",
        "visitor": "1 check",
        "seconds": "1 check",
    }
    assert [one["name"] for one in page["reaches"]["page"]["reached"]][:2] == ["pages", "pages"]
    shown = read(shop, "/contracts/visit")
    assert "2 columns of 2 tables, model likely, 1 check" in " ".join(shown.text)
    assert shop.json("/contracts/visit?version=1")["reaches"] == {}
