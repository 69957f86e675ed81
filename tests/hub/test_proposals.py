"""Another threshold: tried on the past, proposed on a page, approved as the policy asks, rolled out as it was tried."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from sampan.base.clock import iso
from tests.browser.shop import Shop
from tests.hub.conftest import Hub, sampan
from tests.rollout_plan import plan

RULES = """
from sampan import Action, decision

@decision(model="stay", currency="GBP", entity="visitor", default="wait",
          values={"greet": {True: 2.0, False: -1.2}, "wait": {True: 0.0, False: 0.0}})
def greet(prediction, context, likely: float = 0.5, words: str = "likely"):
    if words == "held up":
        import os, time
        while os.path.exists(WAITING):
            time.sleep(0.02)
    return Action("greet", rule=words) if prediction >= likely else Action("wait", rule="not likely")
"""
PLAN = plan("stay", (0.5, "1 hour"))
POLICY = """
[groups]
risk = ["rita"]
[[promotion]]
alias = "thresholds"
approvals = 1
from = { risk = 1 }
evidence = ["replay"]
author_counts = false
"""


class Desk:
    """A hub with ten decisions and their outcomes: six that are likely, of which half were worth it."""

    def __init__(self, pattern: Path, folder: Path) -> None:
        self.shop = Shop.copy(pattern, folder)
        (folder / "decisions.py").write_text(RULES.replace("WAITING", repr(str(self.shop.waiting))))
        (folder / "rollouts.toml").write_text(PLAN)
        self.shop.post("/v1/endpoints", {"name": "stay"})
        for number in range(10):
            self.ask(f"p{number}", 30.0 if number < 6 else 1.0)
            outcome = {"id": f"o{number}", "type": "outcome", "source": "web", "time": "2026-02-01T12:00:00Z"}
            self.shop.hub.send({**outcome, "data": {"prediction_id": f"p{number}", "value": number % 2 == 0}})
        self.people = {
            name: str(json.loads(self.shop.post("/v1/tokens", {"name": name, "role": role}))["secret"])
            for name, role in (("olga", "approver"), ("rita", "approver"), ("vera", "viewer"), ("otto", "operator"))
        }

    @property
    def hub(self) -> Any:
        return self.shop.hub

    def ask(self, id: str, seconds: float) -> dict[str, Any]:
        record = {"visitor": f"v{id}", "seconds": seconds}
        status, body = self.hub.predict("stay", json.dumps({"records": [record], "ids": [id]}).encode())
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)["predictions"][0]
        return found

    def say(self, who: str, path: str, body: Any) -> tuple[int, Any]:
        given = {"authorization": f"Bearer {self.people.get(who, self.hub.token)}", "content_type": "application/json"}
        response, said = self.hub.ask("POST", path, json.dumps(body).encode(), **given)
        return response.status, json.loads(said)

    def tried(self, who: str = "olga", **thresholds: Any) -> Any:
        status, said = self.say(who, "/v1/endpoints/stay/thresholds", {"thresholds": thresholds})
        assert status == 201, said
        return said

    def known(self, where: str) -> Any:
        """A proposal, once it is known what it would have changed."""
        end = time.monotonic() + 30
        while (found := self.hub.json(where))["standing"]["state"] == "trying":
            assert time.monotonic() < end
            time.sleep(0.05)
        return found

    def begun(self, **thresholds: Any) -> tuple[str, float]:
        """A trial from the page: its address, and how long the page let one wait."""
        form = {"content_type": "application/x-www-form-urlencoded", "origin": self.hub.url}
        body = urlencode({f"set.{name}": value for name, value in thresholds.items()} | {"days": 30}).encode()
        began = time.monotonic()
        response, said = self.hub.ask("POST", "/endpoints/stay/thresholds/try", body, cookie=self.hub.sign_in(), **form)
        assert response.status == 303, said
        return str(response.headers["location"]), time.monotonic() - began

    def in_force(self) -> dict[str, Any]:
        found: dict[str, Any] = self.hub.json("/endpoints/stay")["endpoint"]["thresholds"]
        return found


@pytest.fixture(scope="module")
def desk(after_a_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(after_a_run, tmp_path_factory.mktemp("desk") / "shop")
    yield made
    assert made.hub.stop() == 0


def test_a_trial_says_what_the_past_would_have_been_and_changes_nothing(desk: Desk) -> None:
    before = desk.in_force()
    made = desk.tried(likely=0.99)
    effect = made["proposal"]["effect"]

    assert made["standing"]["state"] == "tried"
    assert made["proposal"]["changes"] == {"likely": {"before": 0.5, "after": 0.99, "default": 0.5}}
    assert (effect["decisions"], effect["differ"], effect["known"]) == (10, 6, 10)
    assert effect["difference"] == pytest.approx(-(3 * 2.0 - 3 * 1.2))
    assert effect["moves"] == [
        {"before": "greet", "after": "wait", "decisions": 6, "known": 6, "difference": pytest.approx(-2.4)}
    ]
    assert desk.in_force() == before and desk.ask("after", 30.0)["action"] == "greet"
    page = desk.hub.ask("GET", f"/proposals/{made['proposal']['id']}", accept="text/html")[1].decode()
    assert "6 of 10 decisions would have been others" in page and "Ask for approval" in page
    assert made["proposal"]["id"] not in [p["proposal"]["id"] for p in desk.hub.json("/proposals")["proposals"]]


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [
        ({"likely": 0.5}, "every threshold is as it is in force"),
        ({"likely": "high"}, "expected a number"),
        ({"like": 1}, "no threshold 'like'"),
        ({"words": 3}, "expected a text"),
        ({}, "every threshold is as it is"),
    ],
)
def test_what_cannot_be_tried_is_refused_in_words(desk: Desk, thresholds: Any, words: str) -> None:
    status, said = desk.say("olga", "/v1/endpoints/stay/thresholds", {"thresholds": thresholds})
    assert status == 400 and words in json.dumps(said)


@pytest.mark.slow
def test_a_business_owner_proposes_on_a_page_and_whoever_the_policy_names_approves(desk: Desk) -> None:
    (desk.shop.folder / "policy.toml").write_text(POLICY)
    form = {"cookie": desk.hub.sign_in(), "content_type": "application/x-www-form-urlencoded", "origin": desk.hub.url}
    body = urlencode({"set.likely": "0.9", "set.words": "likely", "days": "30"}).encode()
    response, _ = desk.hub.ask("POST", "/endpoints/stay/thresholds/try", body, **form)
    assert response.status == 303
    where = str(response.headers["location"])
    desk.known(where)
    assert desk.hub.ask("POST", f"{where}/ship", b"", **form)[0].status == 409, "nobody was asked"
    assert desk.hub.ask("POST", f"{where}/ask", b"reason=", **form)[0].status == 400
    assert desk.hub.ask("POST", f"{where}/ask", b"reason=too+many+empty+slots", **form)[0].status == 303
    id = where.rpartition("/")[2]

    assert desk.say("vera", f"/v1/proposals/{id}/decide", {"verdict": "approved"})[0] == 403
    said = desk.say("olga", f"/v1/proposals/{id}/decide", {"verdict": "approved"})[1]
    assert said["standing"]["state"] == "waiting", "somebody of risk is asked"
    status, refused = desk.say("otto", f"/v1/proposals/{id}/ship", {})
    assert status == 403 and "approval by risk" in json.dumps(refused)
    then = time.time_ns() // 1000
    time.sleep(0.01)
    said = desk.say("rita", f"/v1/proposals/{id}/decide", {"verdict": "approved", "reason": "fine"})[1]
    assert said["standing"]["state"] == "ready"
    past = desk.hub.json(f"{where}?{urlencode({'as-of': iso(then)})}")
    assert past["standing"]["state"] == "waiting" and len(past["standing"]["voices"]) == 1

    status, said = desk.say("otto", f"/v1/proposals/{id}/ship", {"reason": "go"})
    assert (status, said["standing"]["state"], said["phase"]) == (200, "shipped", "running"), said
    rollout = desk.hub.json(f"/rollouts/{said['proposal']['rollout']}")
    assert rollout["changed"] == ["likely 0.5 → 0.9"] and id in rollout["rollout"]["reason"]
    assert rollout["bundles"][0] == said["proposal"]["candidate"], "what was approved is what is rolled out"
    assert desk.say("otto", f"/v1/proposals/{id}/decide", {"verdict": "approved"})[0] == 409
    listed = sampan(desk.shop.folder, "threshold", "list")
    assert "likely 0.5 → 0.9" in listed.stdout and "shipped" in listed.stdout
    assert desk.say("otto", "/v1/rollouts/stay/back", {"reason": "the test is over"})[0] == 200
    (desk.shop.folder / "policy.toml").unlink()


def test_whose_own_proposal_does_not_count_and_who_rejects_stops_it(desk: Desk) -> None:
    (desk.shop.folder / "policy.toml").write_text(POLICY)
    id = desk.tried("rita", likely=0.8)["proposal"]["id"]
    assert desk.say("rita", f"/v1/proposals/{id}/ask", {"reason": "mine"})[0] == 200
    said = desk.say("rita", f"/v1/proposals/{id}/decide", {"verdict": "approved"})[1]
    assert "made the proposal" in json.dumps(said["standing"])
    assert said["standing"]["state"] == "waiting"
    said = desk.say("olga", f"/v1/proposals/{id}/decide", {"verdict": "rejected", "reason": "too dear"})[1]
    assert "olga rejects it: too dear" in said["standing"]["missing"]
    then = time.time_ns() // 1000
    time.sleep(0.01)
    given = {"reason": "the season is over"}
    said = desk.say("rita", f"/v1/proposals/{id}/withdraw", given)[1]
    assert (said["standing"]["state"], said["proposal"]["closed_why"]) == ("withdrawn", "the season is over")
    assert desk.hub.json(f"/proposals/{id}?{urlencode({'as-of': iso(then)})}")["proposal"]["closed_why"] == ""
    page = desk.hub.ask("GET", f"/proposals/{id}", accept="text/html")[1].decode()
    assert "Withdrawn</b> by rita" in page and "the season is over" in page
    assert "withdrawn by rita: the season is over" in sampan(desk.shop.folder, "threshold", "show", id).stdout
    (desk.shop.folder / "policy.toml").unlink()


def test_whoever_asked_for_a_proposal_that_another_tried_has_made_it_too(desk: Desk) -> None:
    (desk.shop.folder / "policy.toml").write_text(POLICY)
    id = desk.tried("olga", likely=0.85)["proposal"]["id"]
    assert desk.say("rita", f"/v1/proposals/{id}/ask", {"reason": "hers, and mine"})[0] == 200
    said = desk.say("rita", f"/v1/proposals/{id}/decide", {"verdict": "approved"})[1]
    assert said["standing"]["state"] == "waiting" and "made the proposal" in json.dumps(said["standing"])
    assert (said["proposal"]["actor"], said["proposal"]["asked_by"]) == ("olga", "rita")
    assert "Asked by" in desk.hub.ask("GET", f"/proposals/{id}", accept="text/html")[1].decode()
    desk.say("rita", f"/v1/proposals/{id}/withdraw", {})
    (desk.shop.folder / "policy.toml").unlink()


def test_an_endless_reason_to_withdraw_is_refused(desk: Desk) -> None:
    id = desk.tried(likely=0.65)["proposal"]["id"]
    status, said = desk.say("olga", f"/v1/proposals/{id}/withdraw", {"reason": "x" * 2_001})
    assert status == 400 and "2,001 characters" in json.dumps(said)
    assert desk.hub.json(f"/proposals/{id}")["standing"]["state"] == "tried"


def test_the_page_of_a_trial_is_there_at_once_and_its_result_comes_in(desk: Desk) -> None:
    waits = desk.shop.waiting
    waits.write_text("")
    try:
        where, seconds = desk.begun(likely=0.98, words="held up")
        assert seconds < 2
        page = desk.hub.ask("GET", where, accept="text/html")[1].decode()
        found = desk.hub.json(where)
        assert found["standing"]["state"] == "trying" and found["effect"] is None
        assert "appears here by itself" in page and 'data-live="proposals"' in page
        id = where.rpartition("/")[2]
        status, said = desk.say("olga", f"/v1/proposals/{id}/ask", {"reason": "early"})
        assert status == 409 and "still being tried" in json.dumps(said)
        then = time.time_ns() // 1000
        time.sleep(0.01)
        assert "being tried" in sampan(desk.shop.folder, "threshold", "show", id).stdout
    finally:
        waits.unlink()
    found = desk.known(where)
    assert found["standing"]["state"] == "tried" and found["effect"]["answered"] >= 10
    past = desk.hub.json(f"{where}?{urlencode({'as-of': iso(then)})}")
    assert (past["standing"]["state"], past["effect"]) == ("trying", None)
    assert "would have been others" in desk.hub.ask("GET", where, accept="text/html")[1].decode()


def test_a_trial_that_a_hub_did_not_bring_to_its_end_says_so(after_a_run: Path, tmp_path: Path) -> None:
    desk = Desk(after_a_run, tmp_path / "shop")
    desk.shop.waiting.write_text("")
    where, _ = desk.begun(likely=0.9, words="held up")
    desk.hub.stop(signal.SIGKILL)
    desk.shop.waiting.unlink()
    desk.shop.hub = Hub(desk.shop.folder)
    found = desk.hub.json(where)
    assert "the hub ended before the trial did" in found["effect"]["obstacle"]
    assert found["standing"]["state"] == "tried"
    assert desk.hub.stop() == 0


@pytest.mark.slow
def test_a_proposal_is_stale_once_another_bundle_is_in_force(desk: Desk) -> None:
    id = desk.tried(likely=0.7)["proposal"]["id"]
    desk.say("olga", f"/v1/proposals/{id}/ask", {"reason": "why not"})
    desk.shop.post("/v1/endpoints", {"name": "stay", "thresholds": {"likely": 0.55}})

    assert desk.hub.json(f"/proposals/{id}")["standing"]["state"] == "stale"
    status, said = desk.say("otto", f"/v1/proposals/{id}/ship", {})
    assert status == 409 and "Try it again" in json.dumps(said)
    desk.shop.post("/v1/endpoints", {"name": "stay"})
    assert desk.in_force()["likely"] == 0.5, "what --set had set, the next deploy does not keep"


@pytest.mark.slow
def test_without_a_hub_an_edit_ships_stays_and_is_brought_into_decisions_py(after_a_run: Path, tmp_path: Path) -> None:
    desk = Desk(after_a_run, tmp_path / "shop")
    assert desk.hub.stop() == 0
    folder = desk.shop.folder

    def command(*words: str) -> Any:
        done = sampan(folder, "threshold", *words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    id = command("try", "stay", "--set", "likely=0.9")["proposal"]["id"]
    assert sampan(folder, "threshold", "ship", id).returncode == 1
    command("ask", id, "--reason", "fewer empty slots")
    assert command("ship", id)["standing"]["state"] == "shipped"
    done = sampan(folder, "rollout", "back", "stay", "--reason", "the test would take an hour")
    assert done.returncode == 0, done.stderr
    deploy = ("endpoint", "deploy", "stay", "--json")
    # the rollout would have put this very bundle in force
    assert json.loads(sampan(folder, *deploy, "--set", "likely=0.9").stdout)["thresholds"]["likely"] == 0.9
    (folder / "decisions.py").write_text(
        (folder / "decisions.py").read_text().replace('"not likely"', '"too unlikely"')
    )
    kept = json.loads(sampan(folder, *deploy).stdout)
    assert kept["thresholds"]["likely"] == 0.9, "an edit stays when the rules are deployed again"

    made = sampan(folder, "threshold", "patch", id).stdout
    assert "-def greet(prediction, context, likely: float = 0.5," in made
    assert "+def greet(prediction, context, likely: float = 0.9," in made
    text = (folder / "decisions.py").read_text()
    (folder / "decisions.py").write_text(text.replace("likely: float = 0.5", "likely: float = 0.6"))
    said = json.loads(sampan(folder, *deploy).stdout)
    assert said["thresholds"]["likely"] == 0.6, "whoever changes the default in decisions.py has the last word"
