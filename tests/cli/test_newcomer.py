"""What somebody who has never used Sampan stumbles over."""

from pathlib import Path

from tests.cli.conftest import Here, Shell


def load(shell: Shell, path: Path, *options: str) -> str:
    return shell("log", "load", str(path), "--type", "visit", "--time", "at", *options)


def file(shell: Shell, text: str) -> Path:
    path = shell.folder.parent / "visits.csv"
    path.write_text(text)
    return path


def test_a_column_that_is_no_field_is_named(here: Here) -> None:
    path = file(here, "at,page,Page-Title\n2026-01-31T12:00:00Z,/a,Start\n")
    assert "No field of visit, kept with the event: Page-Title." in load(here, path)
    assert "No field" not in load(here, file(here, "at,page\n2026-01-31T12:00:00Z,/b\n"))


def test_a_column_that_is_missing_is_named_with_those_that_there_are(here: Here) -> None:
    path = file(here, "at,Page\n2026-01-31T12:00:00Z,/a\n")
    said = here.complaint("log", "load", str(path), "--type", "visit", "--time", "at", "--map", "page=Pag", code=2)
    assert "there is no column 'Pag'" in said
    assert "Its columns: at, Page.\n" in said


def test_many_conflicts_are_one_line_of_quarantine(here: Here) -> None:
    rows = "\n".join(f"2026-01-31T12:00:00Z,{n},/a" for n in range(20))
    load(here, file(here, f"at,n,page\n{rows}\n"), "--id", "n")
    load(here, file(here, f"at,n,page\n{rows}\n".replace("/a", "/b")), "--id", "n")
    found = here.json("quarantine", "list")["reasons"]
    assert [(line["count"], line["reason"].partition(":")[0]) for line in found] == [(20, "conflict")]


def test_a_breaking_change_is_refused_before_anything_is_planned_or_run(here: Here) -> None:
    load(here, file(here, "at,page\n2026-01-31T12:00:00Z,/a\n"))
    contracts = here.folder / "contracts.py"
    before = contracts.read_text()
    contracts.write_text(before.replace("page:", "path:"))
    for command in (["plan"], ["run"], ["contract", "list"]):
        said = here.complaint(*command, code=2)
        assert "field 'page' is gone" in said
        assert "@upcast(Visit, since=1)" in said
    contracts.write_text(before.replace("page:", "path:").replace("version=1", "version=2"))
    said = here.complaint("sql", "FROM visit", code=2)
    assert "no @upcast leads from version 1 of visit to version 2" in said


def test_a_rule_that_returns_no_event_is_told_so(here: Here) -> None:
    load(here, file(here, "at,page,seconds\n2026-01-31T12:00:00Z,/a,-1\n"))
    rule = here.folder / "fix.py"
    rule.write_text("def fix(event, reason):\n    return 3\n")
    assert "it returned 3\n" in here.complaint("quarantine", "fix", "--rule", str(rule), code=2)


def test_the_plain_value_of_a_step_can_be_seen(here: Here) -> None:
    load(here, file(here, "at,page\n2026-01-31T12:00:00Z,/a\n"))
    (here.folder / "steps.py").write_text(
        "from sampan import step\n\n@step\ndef many(pages) -> dict:\n    return {'pages': len(pages)}\n"
    )
    here("run")
    here("run")
    shown = {one["name"]: one["value"] for one in here.json("runs", "show")["steps"]}
    assert shown == {"pages": "", "many": '{"pages":1}'}
    assert '{"pages":1}' in here("runs", "show")
    assert "`sampan runs show` shows a value" in here.complaint("sql", "FROM many", code=1)
    assert "What is cached printed in the run that made it" in here.run("runs", "logs", "last", "many").stderr


def test_lists_and_structs_are_json_in_csv(here: Here) -> None:
    printed = here("sql", "select [1, 2] as l, {'a': 'x'} as s", "--csv")
    assert printed == 'l,s\n"[1,2]","{""a"":""x""}"\n'
