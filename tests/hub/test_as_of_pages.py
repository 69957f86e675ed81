"""Pages as of a time: tables, models, endpoints, predictions, events and lineage as they were, asked of a real hub."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest

from sampan.base.clock import iso
from tests.browser.shop import Shop, visit
from tests.hub.conftest import sampan
from tests.hub.test_pages import read


class Story:
    """A shop and the instants between what happened in it."""

    def __init__(self, shop: Shop) -> None:
        self.hub = shop.hub
        self.folder = shop.folder
        self.at: dict[str, str] = {}
        self._mark("nothing")
        self.hub.send(visit("e1", visitor="v1", subject="v1"))
        self._mark("event")
        shop.run()
        self._mark("run")
        shop.post("/v1/endpoints", {"name": "stay", "model": "stay@1", "reason": "first"})
        shop.ask("v1", "d1", 30.0)
        shop.post("/v1/tokens", {"name": "till", "role": "producer"})
        self.done("branch", "new", "try", "--reason", "see")
        self._mark("asked")
        self.done("token", "revoke", "till")
        self.done("branch", "delete", "try")
        (shop.folder / "sampan.toml").write_text(
            "[prices]\nthis_machine_per_hour = 0.5\n[alerts.limits]\nsilence = 60\n"
        )
        self.hub.send(visit("e2", visitor="v2", subject="v2"))
        self.hub.send(visit("old", visitor="v3") | {"known_at": "2020-01-01T00:00:00Z"})
        steps = shop.folder / "steps.py"
        steps.write_text(steps.read_text().replace('feature_name=["seconds"]), 5)', 'feature_name=["seconds"]), 6)'))
        self._run_slowly(shop)
        shop.post("/v1/endpoints", {"name": "stay", "model": "stay@2", "thresholds": {"likely": 0.9}})
        shop.ask("v2", "d2", 30.0)
        shop.outcome("d1")

    def _run_slowly(self, shop: Shop) -> None:
        """A run of which a step goes on for a while, and the time while it did."""
        shop.waiting.write_text("")
        going = Thread(target=shop.run)
        going.start()
        until = time.monotonic() + 60
        while self._doing() != ("running", {"reads": "ran", "loud": "running", "stay": "ran"}):
            assert time.monotonic() < until
            time.sleep(0.1)
        self._mark("running")
        shop.waiting.unlink()
        going.join(60)

    def _doing(self) -> tuple[str, dict[str, str]]:
        run = self.hub.json("/runs/last")
        return run["state"], {step["name"]: step["state"] for step in run["steps"]}

    def done(self, *arguments: str) -> str:
        done = sampan(self.folder, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _mark(self, name: str) -> None:
        time.sleep(0.01)
        self.at[name] = iso(time.time_ns() // 1000)
        time.sleep(0.01)

    def then(self, name: str, path: str, **headers: str) -> Any:
        return self.hub.json(f"{path}{'&' if '?' in path else '?'}as-of={quote(self.at[name])}", **headers)

    def status(self, name: str, path: str) -> tuple[int, bytes]:
        response, body = self.hub.ask("GET", f"{path}?as-of={quote(self.at[name])}", accept="application/json")
        return response.status, body


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    shop = Shop(tmp_path_factory.mktemp("then") / "shop")
    yield Story(shop)
    assert shop.hub.stop() == 0


def test_tables_are_those_of_then(story: Story) -> None:
    assert [(one["name"], one["rows"]) for one in story.hub.json("/tables")["tables"]] == [("reads", 3)]
    (line,) = story.then("run", "/tables")["tables"]
    assert (line["rows"], line["newer"], line["held"]) == (1, 0, None)
    assert {use["name"] for use in line["readers"]} == {"stay", "loud"}
    page = story.then("run", "/tables/reads")
    assert (page["rows"], page["current"], len(page["history"]), page["endpoints"]) == (1, False, 1, [])
    assert story.then("asked", "/tables/reads")["endpoints"] == ["stay"]
    status, body = story.status("event", "/tables")
    assert status == 404
    assert b"its first commit was made at" in body


def test_models_are_those_of_then_with_the_one_on_main(story: Story) -> None:
    def seen(page: Any) -> list[tuple[str, bool, list[str]]]:
        return [(one["ref"], one["on_main"], one["serving"]) for model in page["models"] for one in model["versions"]]

    assert seen(story.hub.json("/models")) == [("stay@2", True, ["stay"]), ("stay@1", False, [])]
    assert seen(story.then("asked", "/models")) == [("stay@1", True, ["stay"])]
    assert seen(story.then("run", "/models")) == [("stay@1", True, [])]
    assert seen(story.then("event", "/models")) == []


def test_endpoints_serve_what_they_served_then(story: Story) -> None:
    (now,) = story.hub.json("/endpoints")["endpoints"]
    (then,) = story.then("asked", "/endpoints")["endpoints"]
    assert (now["version"], now["thresholds"], now["decided"]["decisions"]) == ("stay@2", {"likely": 0.9}, 2)
    assert (then["version"], then["thresholds"], then["decided"]["decisions"]) == ("stay@1", {"likely": 0.5}, 1)
    assert (then["state"], len(then["history"]), len(now["history"])) == ("in force", 1, 2)
    assert story.then("run", "/endpoints")["endpoints"] == []
    page = story.then("asked", "/endpoints/stay")
    assert page["endpoint"]["bundle"] == then["bundle"]
    assert [one["id"] for one in page["newest"]] == ["d1"]
    assert [one["until"] for one in page["served"]] == [None]
    assert "def greet" in page["rules"]
    status, body = story.status("run", "/endpoints/stay")
    assert status == 404
    assert b"it was first deployed at" in body


def test_predictions_and_outcomes_are_those_known_then(story: Story) -> None:
    now = story.hub.json("/predictions")["predictions"]
    assert [(one["id"], one["outcome"] is not None) for one in now] == [("d2", False), ("d1", True)]
    then = story.then("asked", "/predictions?entity=v1")["predictions"]
    assert [(one["id"], one["outcome"]) for one in then] == [("d1", None)]
    assert story.then("run", "/predictions")["predictions"] == []


def test_events_are_those_known_then(story: Story) -> None:
    def seen(page: Any) -> set[str]:
        return {event["id"] for event in page["events"]}

    assert seen(story.hub.json("/log")) == {"e1", "e2", "old", "d1", "d2", "o-d1"}
    assert seen(story.then("asked", "/log")) == {"e1", "old", "d1"}
    assert seen(story.then("nothing", "/log")) == {"old"}
    assert seen(story.then("asked", "/log?type=visit")) == {"e1", "old"}
    assert seen(story.then("asked", "/log?subject=v2")) == set()
    assert seen(story.then("asked", "/log?id=e2")) == set()
    assert seen(story.then("asked", "/log?id=old")) == {"old"}


def test_lineage_takes_a_name_as_it_was_meant_then(story: Story) -> None:
    def events(origin: Any) -> int:
        (found,) = [one for one in origin["made_from"] if one["kind"] == "events"]
        count: int = found["facts"]["events"]
        return count

    assert (events(story.hub.json("/lineage/reads")), events(story.then("run", "/lineage/reads"))) == (3, 1)
    assert story.then("asked", "/lineage/d1")["kind"] == "prediction"
    now, then = story.hub.json("/lineage/loud"), story.then("run", "/lineage/loud")
    assert now["facts"]["key"] != then["facts"]["key"]
    for name, when in (
        ("d2", "asked"),
        ("stay@2", "asked"),
        ("stay@1", "event"),
        ("reads", "event"),
        ("loud", "event"),
    ):
        status, body = story.status(when, f"/lineage/{name}")
        assert status == 404, (name, body)
        assert b"as of 20" in body
    run = story.hub.json("/runs")["runs"][0]["run"]
    assert story.status("asked", f"/lineage/{run}")[0] == 404


@pytest.mark.parametrize("path", ["/tables", "/tables/reads", "/models", "/endpoints", "/endpoints/stay", "/log"])
def test_the_header_says_when_and_leads_back_to_now(story: Story, path: str) -> None:
    now = read(story.hub, path)
    assert "back to now" not in now.text
    for odd in ("soon", "2999-01-01", "<script>"):
        response, body = story.hub.ask("GET", f"{path}?as-of={quote(odd)}", accept="text/html")
        assert response.status == 400
        assert b"See it as of" in body
    when = story.at["asked"]
    page = read(story.hub, f"{path}?as-of={quote(when)}&page=1")
    assert when in page.text
    assert "back to now" in page.text
    assert "?page=1" in page.links
    assert f"/runs?as-of={quote(when, safe='')}" in page.links
    assert "/runs" not in page.links


def test_a_commit_leads_back_to_now_too(story: Story) -> None:
    commit = story.then("run", "/tables")["commit"]
    page = read(story.hub, f"/tables?ref=@{commit}")
    assert f"commit {commit[:10]}" in page.text
    assert "?" in page.links


def test_a_prediction_shows_no_outcome_that_was_not_known_then(story: Story) -> None:
    now, then = story.hub.json("/predictions/d1"), story.then("asked", "/predictions/d1")
    assert (now["outcome"] is None, then["outcome"], then["outcome_time"], then["earned"]) == (False, None, None, None)
    assert {name: now[name] for name in ("action", "rule", "version", "features", "thresholds")} == {
        name: then[name] for name in ("action", "rule", "version", "features", "thresholds")
    }
    assert [(page["deployed"]["reason"], page["deployed"]["actor"]) for page in (now, then)] == [("first", "owner")] * 2
    links = [link for link in read(story.hub, "/predictions/d1").links if "as-of=" in link]
    assert len(links) == 4
    for link in links:
        assert story.hub.ask("GET", link, accept="text/html")[0].status == 200, link
    (decision,) = [one for one in story.hub.json("/lineage/d1")["made_from"] if one["kind"] == "decision"]
    assert (decision["facts"]["by"], decision["facts"]["reason"]) == ("owner", "first")
    assert story.at["run"] < decision["facts"]["since"] < story.at["asked"]
    status, body = story.status("asked", "/predictions/d2")
    assert status == 404
    assert b"it is known since 20" in body


def test_a_run_that_went_on_is_shown_going_on_with_the_steps_done_by_then(story: Story) -> None:
    now, then = story.hub.json("/runs")["runs"], story.then("running", "/runs")["runs"]
    assert [one["state"] for one in now] == ["succeeded"] * len(now)
    assert [(one["run"], one["state"]) for one in then[:2]] == [
        (now[0]["run"], "running"),
        (now[1]["run"], "succeeded"),
    ]
    assert (then[0]["commit"], then[0]["seconds"], then[0]["cost"]) == (None, None, 0.0)
    whole, part = story.hub.json(f"/runs/{now[0]['run']}"), story.then("running", f"/runs/{now[0]['run']}")
    assert {step["state"] for step in whole["steps"]} == {"ran"}
    assert {step["name"]: step["state"] for step in part["steps"]}["loud"] == "running"
    assert {step["name"]: step["state"] for step in part["steps"]}["reads"] == "ran"
    assert (part["state"], part["finished"], part["published"], part["commit"]) == ("running", None, {}, None)
    assert story.then("asked", "/runs/last")["run"] == now[1]["run"]
    assert story.status("asked", f"/runs/{now[0]['run']}")[0] == 404


def test_a_grant_that_was_taken_back_later_was_in_force_then(story: Story) -> None:
    def members(page: Any) -> list[tuple[str, str, str]]:
        return [(one["name"], one["role"], one["state"]) for one in page["members"]]

    owner = ("owner", "admin", "living")
    assert members(story.hub.json("/settings")) == [owner, ("till", "producer", "revoked")]
    assert members(story.then("asked", "/settings")) == [owner, ("till", "producer", "living")]
    assert members(story.then("run", "/settings")) == [owner]
    assert story.done("token", "list").split()[4:7] == ["till", "producer", "revoked"]
    assert story.done("token", "list", "--as-of", story.at["asked"]).split()[4:7] == ["till", "producer", "living"]
    assert "No tokens" in story.done("token", "list", "--as-of", story.at["run"])


def test_settings_that_were_changed_later_are_those_of_then(story: Story) -> None:
    def seen(page: Any) -> tuple[str, str]:
        values = {one["name"]: one["value"] for one in (*page["limits"], *page["others"])}
        return values["silence"], values["prices.this_machine_per_hour"]

    assert seen(story.then("asked", "/settings")) == ("3,600", "0")
    changed = story.then("running", "/settings")
    assert seen(changed) == ("60", "0.5")
    assert story.at["asked"] < iso(changed["since"]) < story.at["running"]
    for when, value in (("asked", "0"), ("running", "0.5")):
        said = story.done("settings", "--as-of", story.at[when])
        assert ["prices.this_machine_per_hour", value] in [line.split()[:2] for line in said.splitlines()]
    port = next(one for one in story.then("asked", "/settings")["settings"] if one["name"] == "port")
    assert (port["value"], port["origin"]) == ("7267", "default")


def test_a_branch_that_was_deleted_later_was_there_then(story: Story) -> None:
    def names(page: Any) -> list[str]:
        return [one["name"] for one in page["branches"]]

    assert names(story.hub.json("/branches")) == ["main"]
    assert names(story.then("asked", "/branches")) == ["main", "try"]
    assert names(story.then("run", "/branches")) == ["main"]
    assert story.then("asked", "/tables?ref=try")["tables"][0]["rows"] == 1
    status, body = story.hub.ask("GET", f"/tables?ref=try&as-of={quote(story.at['run'])}")
    assert status.status == 404
    assert b"there was no branch 'try'" in body


def test_a_commit_names_the_time_at_which_it_was_made(story: Story) -> None:
    commit = story.then("run", "/tables")["commit"]
    made = story.hub.json(f"/tables?as-of=@{commit[:12]}")
    assert (made["commit"], made["tables"][0]["rows"]) == (commit, 1)
    assert [one["state"] for one in story.hub.json(f"/endpoints?as-of=@{commit}")["endpoints"]] == []
    assert b"no commit 'nowhere'" in story.hub.ask("GET", "/runs?as-of=@nowhere")[1]


def test_what_is_past_cannot_be_pressed(story: Story) -> None:
    when = quote(story.at["asked"])
    _, body = story.hub.ask("GET", f"/runs/last?as-of={when}", accept="text/html")
    assert b'method="post"' not in body.replace(b'method="post" action="/sign-out"', b"")


@pytest.mark.slow
def test_commands_say_the_same(story: Story) -> None:
    def said(*arguments: str) -> str:
        done = sampan(story.folder, *arguments, "--as-of", story.at["asked"])
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "stay@1" in said("endpoint", "list")
    assert "0.5" in said("endpoint", "show", "stay")
    assert "stay@2" not in said("model", "list")
    assert said("table", "list").splitlines()[1].split()[:2] == ["reads", "1"]
    assert "rows      1\n" in said("table", "show", "reads")
    tail = said("log", "tail", "--type", "visit")
    assert (" e1 " in tail, " old " in tail, " e2 " in tail) == (True, True, False)
    assert "1 event" in said("lineage", "reads")


def test_a_column_is_followed_as_the_workspace_stands(story: Story) -> None:
    response, body = story.hub.ask("GET", f"/lineage/reads?column=page&as-of={quote(story.at['asked'])}")
    assert response.status == 400
    assert b"as it stands" in body
    assert story.hub.json("/lineage/reads?column=page")["facts"]["reaches"] is not None


def test_a_prediction_made_once_more_is_the_same_under_what_was_in_force_then(story: Story, tmp_path: Path) -> None:
    for prediction, version in (("d1", "stay@1"), ("d2", "stay@2")):
        done = sampan(story.folder, "lineage", prediction, "--recompute")
        assert done.returncode == 0, done.stderr
        assert f"prediction {prediction}, made by {version} in bundle " in done.stdout
        assert done.stdout.count(" equal") == 4
    named = {"SAMPAN_URL": story.hub.url, "SAMPAN_TOKEN": story.hub.token}
    tmp_path.joinpath("elsewhere").mkdir()
    found = json.loads(sampan(tmp_path / "elsewhere", "lineage", "d1", "--recompute", "--json", **named).stdout)
    assert (found["differs"], found["then"]) == ([], found["now"])
    assert found["then"]["digest"] in sampan(story.folder, "lineage", "d1", "--recompute").stdout


@pytest.mark.slow
def test_a_forged_prediction_differs_and_ends_with_1(story: Story) -> None:
    data = story.hub.json("/predictions/d1")
    forged = {name: data[name] for name in ("endpoint", "version", "bundle", "entity", "features", "context")}
    forged |= {"prediction": 0.123, "action": "wait", "rule": "not likely"}
    around = {"id": "forged", "type": "prediction", "source": "elsewhere", "time": "2026-01-01T00:00:00Z"}
    assert story.hub.send(around | {"data": forged})[0]["verdict"] == "accepted"
    done = sampan(story.folder, "lineage", "forged", "--recompute")
    assert done.returncode == 1, done.stderr
    assert done.stdout.count(" differs") == 4
    for arguments, code, said in (
        (["nobody"], 1, "none has this id"),
        (["d1", "--as-of", "2026-01-01"], 2, "Leave --column and --as-of out"),
    ):
        done = sampan(story.folder, "lineage", *arguments, "--recompute")
        assert (done.returncode, done.stdout) == (code, "")
        assert said in done.stderr
