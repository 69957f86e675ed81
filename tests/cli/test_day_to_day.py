"""What one does every day, typed as one types it: with no hub, and through one."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Here, Shell
from tests.hub.conftest import Hub, visit
from tests.hub.test_pages import read


def load(shell: Shell, file: Path, *more: str) -> dict[str, int]:
    found: dict[str, int] = shell.json("log", "load", str(file), "--type", "visit", "--map", "visitor=visitor", *more)
    return found


def day(shell: Shell, visits: Path, ask: Shell) -> None:
    """The same day, whether a hub is up or not. ``ask``: where what is only looked at is typed."""
    assert load(shell, visits) == {"sent": 3, "accepted": 2, "duplicate": 0, "quarantined": 1, "refused": 0}
    again = load(shell, visits)
    assert (again["accepted"], again["duplicate"]) == (0, 2)

    planned = shell.json("plan")
    assert [(step["name"], step["state"]) for step in planned["steps"]] == [("pages", "ran")]
    made = shell.json("run")
    assert made["state"] == "succeeded"
    assert {"run", "state", "commit", "git", "steps"} <= set(made)
    assert {"name", "kind", "state", "why", "digest", "seconds"} <= set(made["steps"][0])
    assert [step["state"] for step in shell.json("run")["steps"]] == ["cached"]
    assert [step["state"] for step in shell.json("plan")["steps"]] == ["cached"]

    asked = ask.json("sql", "select page, visits from pages order by page")
    assert asked["rows"] == [["/a", 1], ["/b", 1]]
    assert ask("sql", "select page from pages order by page", "--csv") == "page\n/a\n/b\n"
    assert ask.json("sql", "select count(*) from visit")["rows"] == [[2]]

    stats = ask.json("log", "stats")
    assert list(stats) == ["accepted", "duplicate", "quarantined", "refused", "segments", "root", "position"]
    assert (stats["accepted"], stats["duplicate"], stats["quarantined"]) == (2, 2, 2)
    assert "All 4 items are as they were written" in ask("log", "verify")
    assert [json.loads(line)["type"] for line in ask("log", "tail", "--json").splitlines()] == ["visit", "visit"]

    assert [table["name"] for table in ask.json("table", "list")["tables"]] == ["pages"]
    assert ask.json("table", "show", "pages")["rows"] == 2
    assert [run["state"] for run in ask.json("runs", "list")["runs"]] == ["succeeded", "succeeded"]
    assert ask.json("runs", "show", "last")["steps"][0]["name"] == "pages"
    made_from = ask.json("runs", "show", "last", "--manifest")
    assert len(made_from) == 11
    assert all(one["digest"] and one["recorded"] for one in made_from)
    assert "uncommitted patch" in ask("runs", "show", "--manifest")
    assert "up to date" in ask("why", "pages")
    origin = ask.json("lineage", "pages")
    assert (origin["kind"], origin["name"], origin["facts"]["rows"]) == ("table", "pages", 2)
    assert [(one["kind"], one["name"]) for one in origin["made_from"]][1:] == [("events", "visit")]
    assert "└─ events visit\n       2 events" in ask("lineage", "pages")


def test_a_day_without_a_hub(shell: Shell, visits: Path) -> None:
    day(shell, visits, shell)


def test_a_day_through_the_hub(shell: Shell, hub: Hub, visits: Path, here: Here) -> None:
    day(shell, visits, here)
    assert hub.json("/runs")["runs"][0]["actor"] == "owner", "it went through the hub"


def test_a_day_through_a_hub_that_is_named(shell: Shell, hub: Hub, visits: Path, tmp_path: Path) -> None:
    """SAMPAN_URL and SAMPAN_TOKEN are enough: nothing is read from a folder."""
    load(shell, visits)
    shell("run")
    elsewhere = Here(tmp_path)
    elsewhere.extra = {"SAMPAN_URL": hub.url, "SAMPAN_TOKEN": hub.token}
    assert elsewhere.json("sql", "select count(*) from pages")["rows"] == [[2]]
    assert elsewhere.json("log", "stats")["accepted"] == 2
    assert [step["state"] for step in elsewhere.json("run")["steps"]] == ["cached"]
    assert [step["state"] for step in elsewhere.json("plan")["steps"]] == ["cached"]
    assert elsewhere.json("table", "show", "pages")["rows"] == 2
    assert elsewhere.json("runs", "list")["runs"]
    assert elsewhere.json("contract", "list")["contracts"]
    assert elsewhere.json("model", "list")["models"] == []
    assert elsewhere.json("endpoint", "list")["endpoints"] == []
    assert elsewhere.json("quarantine", "list")["total"] == 1
    assert elsewhere("log", "tail").count("intake:") == 2
    assert hub.url in elsewhere("token", "link")

    elsewhere.extra["SAMPAN_TOKEN"] = "smp_wrong"
    assert "the token is none of this hub's" in elsewhere.complaint("log", "stats", code=1)
    elsewhere.extra["SAMPAN_URL"] = "http://127.0.0.1:1"
    assert "Is it up?" in elsewhere.complaint("log", "stats", code=3)
    elsewhere.extra["SAMPAN_URL"] = "hub"
    assert "It looks like" in elsewhere.complaint("log", "stats", code=2)


@pytest.mark.slow
def test_a_failed_check_says_no_and_shows_its_candidate(shell: Shell, here: Here, visits: Path) -> None:
    load(here, visits)
    (shell.folder / "checks").mkdir()
    (shell.folder / "checks" / "no_b.sql").write_text("SELECT * FROM pages WHERE page = '/b'\n")
    made = shell.json("run", code=1)
    assert made["state"] == "failed"
    assert {step["name"]: step["state"] for step in made["steps"]} == {"pages": "ran", "no_b": "failed"}
    assert here.json("table", "list")["tables"] == []
    assert here.json("sql", "select count(*) from pages", "--run", made["run"])["rows"] == [[2]]
    complaint = shell.complaint("run", code=1)
    assert "no_b failed" in complaint
    assert "the published tables are as they were" in complaint


@pytest.mark.slow
def test_a_step_that_raises_is_told_with_its_line(shell: Shell, here: Here, visits: Path) -> None:
    load(here, visits)
    (shell.folder / "steps.py").write_text(
        "from sampan import step\n\n\n@step\ndef half(pages: list) -> int:\n    print('so far')\n    return 1 // 0\n"
    )
    complaint = shell.complaint("run", code=3)
    assert "half failed" in complaint
    assert "ZeroDivisionError" in complaint
    assert "so far" in here("runs", "logs", "last", "half")


@pytest.mark.slow
def test_quarantined_events_are_repaired_once(here: Here, hub: Hub, visits: Path) -> None:
    load(here, visits)
    (reason,) = here.json("quarantine", "list")["reasons"]
    assert reason["count"] == 1
    assert "never" in here.json("quarantine", "show", reason["example"])["raw"]
    rule = here.folder / "rule.py"
    rule.write_text("def fix(event, reason):\n    return {**event, 'time': '2026-01-03T00:00:00Z'}\n")
    said = here("quarantine", "fix", "--rule", str(rule), "--dry-run")
    assert "1 of 1 would enter the log. Nothing was changed." in said
    assert here.json("log", "stats")["accepted"] == 2
    assert here.json("quarantine", "fix", "--rule", str(rule))["accepted"] == 1
    assert here.json("quarantine", "fix", "--rule", str(rule))["accepted"] == 0
    assert here.json("log", "stats")["accepted"] == 3
    assert here.json("quarantine", "list")["total"] == 0
    rule.write_text("def fix(event, reason):\n    return 1 // 0\n")
    hub.send(visit("x", seconds="long"))
    assert "line 2" in here.complaint("quarantine", "fix", "--rule", str(rule), code=2)


@pytest.mark.slow
def test_tokens_open_what_their_role_may(here: Here, hub: Hub) -> None:
    secrets = {role: here("token", "create", role, "--role", role).strip() for role in ("producer", "viewer", "editor")}
    allowed = {
        ("GET", "/log"): {"viewer", "editor"},
        ("POST", "/v1/events"): {"producer", "editor"},
        ("POST", "/v1/sql"): {"editor"},
        ("POST", "/v1/endpoints"): set(),
        ("GET", "/v1/tokens"): set(),
    }
    for (method, path), roles in allowed.items():
        for role, secret in secrets.items():
            body = b'{"query": "select 1"}' if method == "POST" else None
            answer, said = hub.ask(
                method, path, body, authorization=f"Bearer {secret}", content_type="application/json"
            )
            assert (answer.status != 403) == (role in roles), (role, path, answer.status, said)
    here("token", "revoke", "viewer")
    answer, _ = hub.ask("GET", "/log", authorization=f"Bearer {secrets['viewer']}")
    assert answer.status == 401
    states = {one["name"]: one["revoked"] is None for one in here.json("token", "list")["tokens"]}
    assert states == {"producer": True, "viewer": False, "editor": True}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["parquet", "ndjson"])
def test_rows_of_every_form_become_events(here: Here, tmp_path: Path, form: str) -> None:
    from datetime import datetime

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"when": datetime(2026, 1, 1, 12), "page": "/a", "who": 7, "seconds": 1.5},
        {"when": datetime(2026, 1, 1, 12), "page": "/a", "who": 7, "seconds": 1.5},
        {"when": datetime(2026, 1, 2, 12), "page": "/b", "who": None, "seconds": float("nan")},
    ]
    path = tmp_path / f"visits.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row, default=str).replace("NaN", "null") + "\n" for row in rows))
    options = ("--time", "when", "--map", "visitor=who", "--known-at", "when")
    assert load_as(here, path, options) == {"sent": 3, "accepted": 3, "duplicate": 0, "quarantined": 0, "refused": 0}
    assert load_as(here, path, options)["duplicate"] == 3, "two equal rows are two events, and the same ones again"
    found = here.json("sql", "select page, visitor, seconds, _time = _known_at, _source from visit order by page")
    assert found["rows"] == [["/a", "7", 1.5, True, path.name]] * 2 + [["/b", None, 0.0, True, path.name]]


def load_as(shell: Shell, path: Path, options: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = shell.json("log", "load", str(path), "--type", "visit", *options)
    return found


def test_whole_events_are_loaded_line_by_line_whatever_is_wrong_with_one(here: Here, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(json.dumps(visit("1")).encode() + b"\n{broken\n\n\xff\xfe\n" + json.dumps(visit("2")).encode())
    assert here.json("log", "load", str(path)) == {
        "sent": 4,
        "accepted": 2,
        "duplicate": 0,
        "quarantined": 2,
        "refused": 0,
    }


@pytest.mark.slow
def test_what_was_loaded_is_sealed_when_the_command_ends(here: Here, tmp_path: Path) -> None:
    """Else each command that follows would read all of it again, event by event."""
    (here.folder / "sampan.toml").write_text("[settings]\nsegment_events = 2500\n")
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(json.dumps(visit(str(number))) for number in range(12_000)))
    done = here.run("log", "load", str(path))
    assert done.returncode == 0, done.stderr
    assert "Sealing" in done.stderr
    stream = here.folder / ".sampan" / "log" / "intake"
    assert len(list(stream.glob("*.log"))) == 1
    assert len(list(stream.glob("*.json"))) >= 2


@pytest.mark.slow
@pytest.mark.parametrize(("events", "sealed"), [(100, 0), (20_000, 1)])
def test_a_rest_is_sealed_if_there_is_much_in_it(here: Here, tmp_path: Path, events: int, sealed: int) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(json.dumps(visit(str(number))) for number in range(events)))
    here("log", "load", str(path))
    stream = here.folder / ".sampan" / "log" / "intake"
    assert len(list(stream.glob("*.events.parquet"))) == sealed
    assert here.json("log", "stats")["accepted"] == events


WARNS = """
from sampan import check


@check(severity="warn")
def many_pages(pages: list) -> str | None:
    return None if len(pages) > 5 else "few pages"
"""


@pytest.mark.slow
def test_a_check_that_only_warns_is_shown_by_run_and_page_and_all_is_published(here: Here, visits: Path) -> None:
    (here.folder / "steps.py").write_text(WARNS)
    here("log", "load", str(visits), "--type", "visit", "--map", "visitor=visitor")
    for said in ("2 of 2 steps ran", "Nothing had changed"):
        done = here.run("run")
        assert done.returncode == 0 and said in done.stdout
        assert "! many_pages" in done.stderr and "\n  few pages" in done.stderr
        assert "1 check warns: many_pages." in done.stderr
    hub = Hub(here.folder)
    try:
        last = hub.json("/runs")["runs"][0]["run"]
        assert "The check many_pages warns" in " ".join(read(hub, f"/runs/{last}").text)
        assert "warned" in " ".join(read(hub, "/tables/pages").text)
        assert "warned" in " ".join(read(hub, "/tables").text)
    finally:
        assert hub.stop() == 0
