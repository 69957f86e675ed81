"""Promotion by a policy, asked of a real hub: who approves, what is missing, what makes an approval void."""

import json
import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest

from tests.browser.shop import Shop, visit
from tests.hub.conftest import sampan

JSON = "application/json"
POLICY = """
[groups]
risk = ["bea"]

[[promotion]]
alias = "champion"
approvals = 2
from = {{ risk = 1 }}
evidence = [{evidence}]
"""


SUITE = """
table = "reads"
[[direction]]
name = "reads on"
set = { seconds = "seconds + 30" }
must_not = "fall"
min_rows = 5
"""


class Office:
    """A shop whose hub people ask with tokens of their own."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.tokens = shop, {}

    def policy(self, *evidence: str, more: str = "") -> None:
        text = POLICY.format(evidence=", ".join(f'"{one}"' for one in evidence)) + more
        (self.shop.folder / "policy.toml").write_text(text)

    def ask(self, who: str, method: str, path: str, body: Any = None, role: str = "approver") -> tuple[int, Any]:
        if who not in self.tokens:
            made = json.loads(self.shop.post("/v1/tokens", {"name": who, "role": role}))
            self.tokens[who] = made["secret"]
        headers = {"authorization": f"Bearer {self.tokens[who]}", "accept": JSON}
        data = None if body is None else json.dumps(body).encode()
        response, answer = self.shop.hub.ask(method, path, data, content_type=JSON, **headers)
        return response.status, json.loads(answer) if answer[:1] in b"{[" else answer

    def say(self, who: str, verdict: str = "approved", number: int = 1, reason: str = "fine") -> tuple[int, Any]:
        body = {"alias": "champion", "verdict": verdict, "reason": reason}
        return self.ask(who, "POST", f"/v1/models/stay/versions/{number}/approvals", body)

    def promote(self, who: str = "olga", number: int = 1, alias: str = "champion") -> tuple[int, Any]:
        body = {"number": number, "reason": "time"}
        return self.ask(who, "PUT", f"/v1/models/stay/aliases/{alias}", body, role="operator")

    def page(self, number: int = 1) -> Any:
        return self.shop.hub.json(f"/models/stay/{number}/promote?to=champion")

    def another(self, id: str) -> None:
        """More data, and with it another version, since its metrics count the rows."""
        self.shop.hub.send(visit(id, visitor=id))
        self.shop.run()


@pytest.fixture
def office(tmp_path, after_a_run) -> Iterator[Office]:
    shop = Shop.copy(after_a_run, tmp_path / "shop")
    yield Office(shop)
    assert shop.hub.stop() == 0


def test_an_alias_that_a_policy_guards_moves_only_when_all_is_there(office):
    office.policy()
    status, told = office.promote()
    assert status == 403
    assert "1 approval by risk" in told["error"]["obstacle"]
    assert office.say("dan")[0] == 201
    missing = office.page()["missing"]
    assert missing == ["1 approval by risk", "2 approvals in all, of which 1 there"]
    assert office.say("bea")[1]["missing"] == []
    assert office.promote()[0] == 200
    page = office.shop.hub.json("/models/stay")
    assert [one["ref"] for one in page["uses"]] == ["stay@1"]
    assert page["uses"][0]["evidence"][:2] == ["approved by dan", "approved by bea"]
    refused = [one for one in page["history"] if one["refused"]]
    assert [(one["actor"], one["what"]) for one in refused] == [("olga", "alias champion")]
    assert "1 approval by risk" in refused[0]["refused"]


@pytest.mark.slow
def test_two_tokens_of_one_name_are_one_person(office):
    office.policy()
    office.say("bea")
    office.say("bea")
    assert office.page()["missing"] == ["2 approvals in all, of which 1 there"]


@pytest.mark.slow
def test_an_alias_that_no_rule_names_moves_as_before(office):
    office.policy()
    assert office.promote(alias="challenger")[0] == 200


def test_clients_of_mlflow_are_refused_alike(office):
    office.policy()
    body = {"name": "stay", "alias": "champion", "version": "1"}
    status, told = office.ask("olga", "POST", "/api/2.0/mlflow/registered-models/alias", body, role="operator")
    assert (status, told["error_code"]) == (403, "PERMISSION_DENIED")
    assert "1 approval by risk" in told["message"]


def test_new_data_makes_an_approval_void(office):
    office.policy()
    office.say("bea")
    office.say("dan")
    assert office.page()["ready"] is True
    office.another("late")
    page = office.page()
    assert "the approval by bea does not count; void: reads changed since" in page["missing"]
    assert office.promote()[0] == 403
    office.say("bea")
    office.say("dan")
    assert office.promote()[0] == 200


@pytest.mark.slow
def test_tests_that_were_run_since_make_an_approval_void(office):
    office.policy()
    office.say("bea")
    office.say("dan")
    (office.shop.folder / "suites").mkdir()
    (office.shop.folder / "suites" / "stay.toml").write_text(SUITE)
    done = sampan(office.shop.folder, "model", "test", "stay@1")
    assert done.returncode == 0, done.stderr
    assert any("tested again since" in one for one in office.page()["missing"])


@pytest.mark.slow
def test_a_rejection_stands_in_the_way_until_it_is_taken_back(office):
    office.policy()
    for who in ("bea", "dan"):
        office.say(who)
    assert office.say("eve", "rejected", reason="")[0] == 400
    assert office.say("eve", "rejected", reason="the tail is wrong")[0] == 201
    assert office.page()["missing"] == ["eve rejects it: the tail is wrong"]
    assert office.say("eve", "withdrawn")[0] == 201
    assert office.page()["ready"] is True


@pytest.mark.slow
def test_evidence_that_nobody_has_is_missing_and_never_passes_on_silence(office):
    office.policy("tests", "golden", "replay", "rebuild", more='shadow = "3 days"\n')
    for who in ("bea", "dan"):
        office.say(who)
    kinds = [one.partition(":")[0] for one in office.page()["missing"]]
    assert kinds == ["tests", "golden", "replay", "rebuild", "shadow"]
    assert office.promote()[0] == 403


@pytest.mark.slow
def test_a_replay_that_made_the_version_is_evidence(office):
    office.policy("replay")
    assert office.page()["missing"][0].startswith("replay: no replay has made it")
    office.shop.replay()
    assert not any(one.startswith("replay") for one in office.page()["missing"])
    proof = office.page()["proofs"][0]
    assert proof["good"] is True
    assert proof["link"].startswith("/replays/")
    assert office.shop.hub.ask("POST", f"/v1{proof['link']}/discard", b"")[0].status == 200
    assert office.page()["missing"][0].startswith("replay: no replay has made it")


@pytest.mark.slow
def test_tests_and_golden_requests_that_hold_are_evidence(office):
    office.policy("tests", "golden")
    (office.shop.folder / "suites").mkdir()
    (office.shop.folder / "suites" / "stay.toml").write_text(SUITE)
    for command in ("test", "golden"):
        done = sampan(office.shop.folder, "model", command, "stay@1")
        assert done.returncode == 0, done.stderr
    assert [one["good"] for one in office.page()["proofs"]] == [True, True]
    office.shop.hub.send(visit("late", visitor="late"))
    office.shop.run()
    assert office.page()["missing"][0].startswith("tests: The table reads changed since")


@pytest.mark.slow
def test_what_the_alias_named_before_may_be_gone_back_to(office):
    assert office.promote()[0] == 200  # before there was a policy
    steps = office.shop.folder / "steps.py"
    steps.write_text(steps.read_text().replace('feature_name=["seconds"]), 5)', 'feature_name=["seconds"]), 6)'))
    office.shop.run()
    assert office.promote(number=2)[0] == 200
    office.policy()
    assert office.page()["again"] is True
    assert office.promote(number=1)[0] == 200
    assert office.shop.hub.json("/models/stay")["uses"][0]["evidence"] == ["champion has named it before"]
    office.policy(more="back = false\n")
    assert office.promote(number=2)[0] == 403


@pytest.mark.slow
def test_whoever_made_the_version_may_be_left_out(office):
    office.policy(more="author_counts = false\n")
    made = office.shop.hub.json("/runs")["runs"][0]["actor"]
    office.say(made)
    office.say("bea")
    assert any(f"the approval by {made} does not count" in one for one in office.page()["missing"])


@pytest.mark.slow
def test_a_policy_that_cannot_be_read_lets_nothing_through(office):
    (office.shop.folder / "policy.toml").write_text("[[promotion]\n")
    status, told = office.promote()
    assert status == 400
    assert "policy.toml" in told["error"]["attempted"]


def test_roles_that_may_only_look_say_nothing(office):
    office.policy()
    body = {"alias": "champion", "verdict": "approved"}
    path = "/v1/models/stay/versions/1/approvals"
    assert office.ask("vera", "POST", path, body, role="viewer")[0] == 403
    assert office.ask("tim", "POST", path, body, role="trainer")[0] == 403
    assert office.ask("app", "PUT", "/v1/models/stay/aliases/champion", {"number": 1})[0] == 403


@pytest.mark.slow
def test_the_page_tells_it_to_people_and_takes_what_they_say(office):
    office.policy("tests")
    cookie = office.shop.hub.sign_in()
    origin = {"cookie": cookie, "origin": office.shop.hub.url}
    response, body = office.shop.hub.ask("GET", "/models/stay/1/promote", **origin)
    shown = unescape(re.sub(r"<[^>]+>", " ", body.decode()))
    assert response.status == 200
    assert "It cannot be promoted yet." in shown
    assert "2 asked, 1 by risk" in shown
    form = {"content_type": "application/x-www-form-urlencoded", **origin}
    said = b"alias=champion&verdict=approved&reason=%3Cb%3Eyes"
    response, _ = office.shop.hub.ask("POST", "/models/stay/1/decide", said, **form)
    assert (response.status, response.headers["location"]) == (303, "/models/stay/1/promote?to=champion")
    _, body = office.shop.hub.ask("GET", "/models/stay/1/promote", **origin)
    assert b"<b>yes" not in body
    assert office.page()["voices"][0] | {"at": 0} == {
        "actor": "owner",
        "groups": [],
        "verdict": "approved",
        "reason": "<b>yes",
        "at": 0,
        "void": "",
    }


def test_the_command_lists_what_is_missing_and_promotes_when_nothing_is(office):
    folder = office.shop.folder
    office.policy()
    done = sampan(folder, "promote", "stay@1")
    assert done.returncode == 1
    assert "1 approval by risk" in done.stdout
    assert sampan(folder, "promote", "stay@1", "--check").returncode == 1
    assert sampan(folder, "approve", "stay@1", "--reject", "--withdraw").returncode == 2
    assert sampan(folder, "promote", "stay").returncode == 2
    for who in ("bea", "dan"):
        office.ask(who, "GET", "/models")
        done = sampan(folder, "approve", "stay@1", SAMPAN_URL=office.shop.hub.url, SAMPAN_TOKEN=office.tokens[who])
        assert done.returncode == 0, done.stderr
    assert "all is there" in sampan(folder, "promote", "stay@1", "--check").stdout
    done = sampan(folder, "promote", "stay@1", "--reason", "go", "--json")
    assert json.loads(done.stdout)["number"] == 1
    history = sampan(folder, "model", "history", "stay").stdout
    assert "approved by bea; approved by dan" in history
    assert "1 attempts were refused" in history
