"""``sampan contract``: what changed and for whom it breaks; contracts from files and schemas, and back."""

import json
from pathlib import Path

from tests.cli.conftest import Here
from tests.hub.conftest import CONTRACTS, visit


def register(here: Here) -> None:
    """As the first load does."""
    path = here.folder / "one.ndjson"
    path.write_text(json.dumps(visit("1")) + "\n")
    here("log", "load", str(path))


def test_a_breaking_change_without_a_new_version_is_refused_and_names_the_field(here: Here) -> None:
    register(here)
    assert "Nothing breaks" in here("contract", "check")
    (here.folder / "contracts.py").write_text(CONTRACTS.replace("page:", "path:"))
    said = here("contract", "check", code=1)
    assert "field 'page' is gone (breaks readers)" in said
    assert "field 'path' is new and required (breaks producers)" in said
    assert "@upcast(Visit, since=1)" in said
    assert "Made of it: table pages." in said
    found = here.json("contract", "check", code=1)
    broken = next(one for one in found["contracts"] if one["type"] == "visit")
    assert (found["fine"], broken["state"]) == (False, "breaking")
    assert {change["field"]: change["breaks"] for change in broken["changes"]} == {
        "page": ["reader"],
        "path": ["producer"],
    }


def test_a_new_version_without_an_upcast_is_refused_while_the_log_has_events_of_the_old_one(here: Here) -> None:
    register(here)
    raised = CONTRACTS.replace("page:", "path:").replace("version=1", "version=2")
    (here.folder / "contracts.py").write_text(raised)
    assert "The log has events of version 1: declare @upcast(Visit, since=1)." in here("contract", "check", code=1)
    upcast = (
        '\nfrom sampan import upcast\n@upcast(Visit, since=1)\ndef _(data):\n    return {"path": data.pop("page")}\n'
    )
    (here.folder / "contracts.py").write_text(raised + upcast)
    assert "visit version 2 (was 1): a new version" in here("contract", "check")


def test_a_change_that_breaks_nobody_is_told_and_good(here: Here) -> None:
    register(here)
    widened = CONTRACTS.replace("ge=0", "ge=-1").replace("version=1", 'version=1, owner="web@shop"')
    (here.folder / "contracts.py").write_text(widened + "    till: str | None = None\n")
    said = here("contract", "check")
    for part in ("the owner was nobody, is web@shop", "'seconds' has ge=-1, had 0", "'till' is new and optional"):
        assert part in said


def test_a_file_becomes_a_contract_that_takes_it(here: Here, visits: Path) -> None:
    text = visits.read_text().replace("3,never,", "3,2026-01-03,")
    visits.write_text(text)
    made = here("contract", "infer", str(visits), "--name", "call")
    (here.folder / "contracts.py").write_text(made)
    hint = made.splitlines()[0].removeprefix("# Load it with: sampan ").split()
    assert hint == ["log", "load", str(visits), "--type", "call"]
    assert here.json(*hint)["accepted"] == 3


def test_a_contract_goes_out_as_json_schema_and_comes_back(here: Here) -> None:
    path = here.folder / "visit.json"
    path.write_text(here("contract", "export", "visit"))
    text = here("contract", "import", str(path))
    (here.folder / "contracts.py").write_text(text)
    assert "Nothing breaks" in here("contract", "check")
    assert here.json("contract", "show", "visit")["fields"][1]["subject"] is True


def test_what_a_contract_cannot_say_is_told_beside_it(here: Here) -> None:
    path = here.folder / "mail.schema.json"
    path.write_text('{"type": "object", "properties": {"to": {"type": "string", "format": "email"}}}')
    done = here.run("contract", "import", str(path))
    assert "class Mail(Event, version=1):" in done.stdout
    assert "format 'email' is not checked" in done.stderr
    path.write_text("{")
    assert "it is not JSON" in here.complaint("contract", "import", str(path), code=2)
    assert "there is none for type 'no'" in here.complaint("contract", "export", "no", code=1)
    assert "there is no such file" in here.complaint("contract", "infer", "none.csv", code=1)


MODEL = """
from sampan import model

@model(target="visits")
def likely(pages: list) -> object:
    raise NotImplementedError
"""


def test_a_field_that_is_gone_or_of_another_type_names_what_it_reaches(here: Here) -> None:
    register(here)
    (here.folder / "steps.py").write_text(MODEL)
    (here.folder / "contracts.py").write_text(
        CONTRACTS.replace("page:", "path:")
        .replace("seconds: Annotated[float", "seconds: Annotated[str")
        .replace(", Field(ge=0)] = 0.0", ', Field()] = ""')
    )
    said = here("contract", "check", code=1)
    assert "      page goes into pages.page\n      page hits model likely\n" in said
    assert "      seconds goes into" not in said
    (here.folder / "tables" / "pages.sql").write_text(
        "SELECT path, sum(seconds::DOUBLE) AS visits FROM visit GROUP BY path\n"
    )
    found = here.json("contract", "check", code=1)["reaches"]["visit"]
    assert found["page"] == []
    assert [(one["kind"], one["name"], one["how"]) for one in found["path"]] == [
        ("table", "pages", "value"),
        ("table", "pages", "rows"),
        ("model", "likely", "value"),
    ]
    assert found["seconds"][0]["columns"] == ["visits"]
