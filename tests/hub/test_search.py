"""One search field, and the log's filters, over a real hub."""

import json
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from tests.hub.conftest import Hub, make_workspace, sampan, visit


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(make_workspace(tmp_path_factory.mktemp("search") / "shop"))
    hub.send(
        *[{**visit(f"e{n}", page=f"/page-{n % 7}", visitor=f"v{n % 10}"), "source": f"s{n % 2}"} for n in range(60)]
    )
    hub.send(visit("bad", seconds=-1))
    assert sampan(hub.folder, "run").returncode == 0
    yield hub
    assert hub.stop() == 0


def kinds(hub: Hub, q: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for hit in hub.json("/search?" + urlencode({"q": q}))["hits"]:
        found.setdefault(hit["kind"], []).append(hit["name"])
    return found


def test_each_kind_of_thing_is_found_by_its_name(full: Hub) -> None:
    run = full.json("/runs")["runs"][0]
    commit = full.json("/tables")["commit"]
    assert kinds(full, "visits")["column"] == ["pages.visits"]
    assert kinds(full, "pages")["table"] == ["pages"]
    assert kinds(full, "pages")["step"] == ["pages"]
    assert kinds(full, "visit")["contract"] == ["visit"]
    assert kinds(full, "seconds")["field"] == ["visit.seconds"]
    assert kinds(full, run["run"])["run"] == [run["run"]]
    assert kinds(full, run["run"][:12])["run"] == [run["run"]]
    assert kinds(full, commit)["commit"] == [commit]
    assert kinds(full, run["actor"])["person"] == [run["actor"]]
    assert kinds(full, "v3")["customer"] == ["v3"]
    assert len(kinds(full, "e7")["event"]) == 1
    assert len(kinds(full, "bad")["quarantined"]) == 1
    assert kinds(full, full.json("/log?id=e7")["events"][0]["position"])["event"]


def test_what_was_logged_and_what_is_said_of_models_is_found(full: Hub) -> None:
    def tell(method: str, path: str, body: object) -> dict:
        response, answer = full.ask(method, path, json.dumps(body).encode(), content_type="application/json")
        assert response.status in (200, 201), answer
        return json.loads(answer)

    api = "/api/2.0/mlflow"
    experiment = tell("POST", f"{api}/experiments/create", {"name": "Spring sweep"})["experiment_id"]
    made = tell("POST", f"{api}/runs/create", {"experiment_id": experiment, "run_name": "deep 100 trees"})
    run = made["run"]["info"]["run_id"]
    assert kinds(full, "spring")["experiment"] == ["Spring sweep"]
    assert kinds(full, "100")["logged run"] == ["deep 100 trees"]
    assert kinds(full, run)["logged run"] == kinds(full, run[:9])["logged run"] == ["deep 100 trees"]
    assert "logged run" not in kinds(full, "deep%trees")
    full.ask("PUT", f"{api}-artifacts/artifacts/{experiment}/{run}/artifacts/a.bin", b"a")
    tell("POST", "/v1/models/forest/versions", {"run": run})
    tell("PUT", "/v1/models/forest/aliases/champion", {"number": 1})
    tell("PUT", "/v1/labels/version/forest@1", {"tags": {"season": "autumn"}, "note": "Made for Lisbon."})
    assert kinds(full, "forest")["model"] == ["forest"]
    assert kinds(full, "champion")["alias"] == ["forest@champion"]
    assert kinds(full, "autumn")["tag"] == ["forest@1"]
    assert kinds(full, "lisbon")["note"] == ["forest@1"]


def test_tokens_are_shown_to_whoever_may_administer_and_to_nobody_else(full: Hub) -> None:
    for name, role in (("watcher", "viewer"), ("chief", "admin")):
        body = json.dumps({"name": name, "role": role}).encode()
        secret = json.loads(full.ask("POST", "/v1/tokens", body, content_type="application/json")[1])["secret"]
        given = {"authorization": f"Bearer {secret}"}
        mine = role == "admin"
        people = [hit["name"] for hit in full.json("/search?q=watcher&sampan.principal=owner", **given)["hits"]]
        assert people == ["watcher"] * mine
        members = {one["name"] for one in full.json("/settings?sampan.principal=owner", **given)["members"]}
        assert members == ({"owner", "watcher", "chief"} if mine else set())
        page = full.ask("GET", "/settings", accept="text/html", **given)[1].decode()
        assert ("watcher</td>" in page) == mine
        assert full.ask("GET", "/v1/tokens", **given)[0].status == (200 if mine else 403)


def test_every_hit_leads_to_a_page(full: Hub) -> None:
    for q in ("visit", "pages", "e7", "v3", "bad", full.json("/runs")["runs"][0]["actor"]):
        hits = full.json("/search?" + urlencode({"q": q}))["hits"]
        assert hits, q
        for hit in hits:
            assert full.ask("GET", hit["address"].partition("#")[0], accept="text/html")[0].status == 200, hit


def test_while_nothing_is_asked_words_that_lead_somewhere_are_offered(full: Hub) -> None:
    examples = full.json("/search")["examples"]
    assert "pages" in examples
    assert all(full.json("/search?" + urlencode({"q": word}))["hits"] for word in examples)


@pytest.mark.parametrize(
    "q", ["", " ", "%", "zzz-none", "<script>alert(1)</script>", "a" * 500, "intake:99999", "é\u0000"]
)
def test_what_finds_nothing_says_so(full: Hub, q: str) -> None:
    response, body = full.ask("GET", "/search?" + urlencode({"q": q}), accept="text/html")
    assert response.status == 200
    assert b"<script>alert" not in body
    assert full.json("/search?" + urlencode({"q": q}))["hits"] == []


def test_the_log_is_filtered_by_source_text_time_and_verdict(full: Hub) -> None:
    def ids(**query: str) -> set[str]:
        page = full.json("/log?" + urlencode({"type": "visit"} | query))
        return {event["id"] for event in page["events"]}

    everything = ids(source="s0") | ids(source="s1")
    assert len(everything) == 60
    assert all(int(id[1:]) % 2 == 1 for id in ids(source="s1"))
    assert ids(text="/page-3") == {f"e{n}" for n in range(60) if n % 7 == 3}
    assert ids(text="/page-3", source="s1", subject="v3") == {f"e{n}" for n in range(60) if n % 70 == 3}
    assert ids(verdict="quarantined") == {"bad"}
    now = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() + 120))
    assert ids(since=now) == set()
    assert len(ids(until=now)) == 50  # a page
    assert ids(until="2020-01-01") == set()
    assert len(ids(since="2020-01-01", until=now)) == 50


@pytest.mark.parametrize("query", ["since=yesterday", "until=2026-99-01", "verdict=maybe", "after=%3F"])
def test_a_filter_that_cannot_be_read_is_refused(full: Hub, query: str) -> None:
    assert full.ask("GET", f"/log?{query}", accept="text/html")[0].status == 400


def test_an_event_shows_what_was_derived_from_it(full: Hub) -> None:
    first = full.json("/log?id=e7")["events"][0]
    derived = full.json(f"/log/{first['position']}")["derived"]
    assert [(one["name"], one["state"]) for one in derived["readers"]] == [("pages", "read")]
    assert {one["id"] for one in derived["about"]} <= {f"e{n}" for n in range(60) if n % 10 == 7} - {"e7"}
    assert derived["about"]
    (late,) = full.send(visit("late"))
    derived = full.json(f"/log/{late['position']}")["derived"]
    assert [(one["name"], one["state"]) for one in derived["readers"]] == [("pages", "waiting")]


def test_an_event_that_came_again_with_other_content_is_linked_with_it(full: Hub) -> None:
    full.send(visit("twice", page="/a"))
    full.send(visit("twice", page="/b"))
    event = full.json("/log?id=twice")["events"][0]
    (conflict,) = full.json(f"/log/{event['position']}")["derived"]["conflicts"]
    assert full.json(f"/quarantine/{conflict['position']}")["original"] == event["position"]
