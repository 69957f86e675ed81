"""``sampan lineage --column``: the way of one column, back and forward, as people and scripts read it."""

from tests.cli.conftest import Here


def test_a_column_is_followed_back_to_fields_of_events(here: Here) -> None:
    said = here("lineage", "pages", "--column", "page")
    assert said.splitlines()[:4] == [
        "column pages.page",
        "│   tables/pages.sql",
        "│   rows decided by visit.page",
        "└─ field visit.page",
    ]
    assert said.endswith("It reaches nothing.\n")
    found = here.json("lineage", "pages", "--column", "visits")
    assert (found["kind"], found["name"], found["facts"]["fields"]) == ("column", "pages.visits", [])
    assert found["facts"]["deciding"] == ["visit.page"]


def test_a_field_is_followed_to_what_it_reaches(here: Here) -> None:
    said = here("lineage", "visit", "--column", "page")
    assert said.splitlines()[0] == "field visit.page"
    assert [line.split() for line in said.splitlines()[-2:]] == [
        ["pages", "table", "value", "page", "tables/pages.sql"],
        ["pages", "table", "rows", "visits", "tables/pages.sql"],
    ]
    assert here.json("lineage", "visit", "--column", "seconds")["facts"]["reaches"] == []


def test_a_column_that_is_not_there_is_told_with_what_might_be_meant(here: Here) -> None:
    assert "Did you mean page?" in here.complaint("lineage", "visit", "--column", "pag", code=1)
    assert "no table or type of event 'visits'" in here.complaint("lineage", "visits", "--column", "page", code=1)
