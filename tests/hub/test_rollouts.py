"""`sampan rollout` through a hub that is asked: from shadow to full use and back, over kills, by commands and pages."""

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.browser.shop import DECISIONS, PAYLOAD, Shop
from tests.hub.conftest import Hub, sampan
from tests.hub.test_rollback import serving_processes
from tests.rollout_plan import BETTER, plan

pytestmark = pytest.mark.slow

SOON = {"SAMPAN_ROLLOUT_EVERY": "1"}


class Yard:
    """A hub with two versions of a model, the first of them served; somebody asks while a rollout goes on."""

    def __init__(self, pattern: Path, folder: Path) -> None:
        self.shop = Shop.copy(pattern, folder)
        self.rules("old words")
        self.shop.post("/v1/endpoints", {"name": "stay", "model": "stay@1", "reason": "first"})
        self.shop.hub.stop()
        self.restart()

    @property
    def hub(self) -> Hub:
        return self.shop.hub

    def restart(self, **settings: str) -> None:
        self.shop.hub = Hub(self.shop.folder, **SOON, **settings)
        assert self.hub.predict("stay", body("warm"))[0] == 200

    def rules(self, words: str, more: str = "") -> None:
        text = DECISIONS.replace(repr("likely " + PAYLOAD), repr(words)).replace(
            "    return Action", f"{more}    return Action"
        )
        (self.shop.folder / "decisions.py").write_text(text)

    def plan(self, query: str = BETTER, top: str = "") -> None:
        stages = (0, "1 second"), (0.5, "1 second")
        guardrail = 'kind = "error_rate"\nat_most = 0.05'
        said = plan("stay", *stages, query=query, top=f"units = 30\n{top}", guardrail=guardrail)
        (self.shop.folder / "rollouts.toml").write_text(said)

    def command(self, *words: str) -> Any:
        return sampan(self.shop.folder, *words)

    def begin(self, *words: str) -> str:
        done = self.command("rollout", "start", "stay", "--model", "stay@2", "--reason", "new sails", "--json", *words)
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["id"])

    def page(self) -> Any:
        newest = self.hub.json("/rollouts")["rollouts"][0]
        return self.hub.json(f"/rollouts/{newest['id']}")

    def looked(self) -> None:
        """Wait until the candidate has been looked at once."""
        end = time.monotonic() + 20
        while self.page()["evidence"] is None:
            assert time.monotonic() < end
            time.sleep(0.1)

    def known(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.hub.token}"}

    def serves(self, wanted: str = "") -> str:
        """What it serves; waits a little for what has been written down to be done."""
        end = time.monotonic() + 15
        while (found := str(self.hub.json("/endpoints/stay")["endpoint"]["version"])) != wanted and wanted:
            if time.monotonic() > end:
                break
            time.sleep(0.05)
        return found

    def until(self, phase: str, patience: float = 120.0) -> Any:
        end = time.monotonic() + patience
        while (found := self.page())["rollout"]["phase"] != phase:
            assert time.monotonic() < end, found["rollout"]
            time.sleep(0.1)
        return found

    def end(self) -> None:
        """Whatever the test before left behind."""
        self.rules("old words")
        for verb in ("back", "finish"):
            self.command("rollout", verb, "stay", "--reason", "the test is over")
        if self.serves() != "stay@1":
            self.command("endpoint", "deploy", "stay", "--model", "stay@1", "--reason", "the test is over")


def body(visitor: str, seconds: float = 39.0) -> bytes:
    return json.dumps({"records": [{"visitor": visitor, "seconds": seconds}]}).encode()


@pytest.fixture(scope="module")
def yard_of_all(two_versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    made = Yard(two_versions, tmp_path_factory.mktemp("yard") / "shop")
    yield made
    made.hub.stop()


@pytest.fixture
def yard(yard_of_all: Yard) -> Iterator[Yard]:
    yield yard_of_all
    yard_of_all.end()


@pytest.fixture
def asked(yard: Yard) -> Iterator[Callable[[], list[tuple[int, str, str]]]]:
    """Requests of many visitors, one after another, over two connections; gives status, visitor, version of each."""
    stop, seen = threading.Event(), []

    def ask(first: int) -> None:
        connection = HTTPConnection("127.0.0.1", yard.hub.port, timeout=30)
        for number in itertools.count(first, 2):
            if stop.is_set():
                break
            visitor = f"v{number % 400}"
            try:
                connection.request("POST", "/predict/stay", body(visitor), yard.known())
                response = connection.getresponse()
                told = json.loads(response.read())
            except (OSError, HTTPException, ValueError):  # the hub was killed
                connection.close()
                connection = HTTPConnection("127.0.0.1", yard.hub.port, timeout=30)
                time.sleep(0.05)
                continue
            (one,) = told.get("predictions") or [{}]
            seen.append((response.status, visitor, str(one.get("version"))))
            time.sleep(0.002 if response.status == 200 else 0.1)  # each failure is a line that nobody reads here
        connection.close()

    askers = [threading.Thread(target=ask, args=(first,)) for first in (0, 1)]
    for one in askers:
        one.start()
    yield lambda: seen
    stop.set()
    for one in askers:
        one.join()


def test_a_candidate_that_is_better_goes_from_shadow_to_full_use_and_back(yard, asked):
    yard.plan()
    yard.begin()
    found = yard.until("full")
    assert yard.serves("stay@2") == "stay@2"
    assert found["evidence"]["verdict"] == "better" and 0.9 < found["evidence"]["gain"] < 1.1
    assert [one["state"] for one in found["stages"]] == ["over", "over", "now"]
    assert [one["what"] for one in found["history"]] == ["full", "stage 2", "begun"]
    assert found["history"][-1]["actor"] == found["rollout"]["actor"] != ""
    assert [one["standing"] for one in found["guardrails"]] == ["holds"]
    compared = json.loads(yard.command("rollout", "shadow", "stay", "--json").stdout)["compared"]
    assert compared["answered"] == compared["asked"] > 0 and compared["errors"] == []
    said = yard.command("rollout", "shadow", "stay").stdout
    assert "same action" in said and "stay@2" in said
    by = {one["name"]: one for one in found["traffic"]}
    assert set(by) == {"champion", "candidate", "shadow"} and by["shadow"]["share"] is None
    assert by["champion"]["share"] + by["candidate"]["share"] == pytest.approx(1.0)
    assert by["candidate"]["version"] == by["shadow"]["version"] == "stay@2" and by["champion"]["version"] == "stay@1"
    whole = yard.hub.ask("GET", f"/rollouts/{found['rollout']['id']}", accept="text/html")[1].decode()
    assert "Who answered" in whole and "seen only" in whole and "times in UTC" in whole
    for part in ("head", "standing", "stages", "history"):
        assert f'id="{part}" data-live="endpoints"' in whole, "no part lags behind the others"
    assert "Who answered" not in yard.hub.ask("GET", "/endpoints/stay", accept="text/html")[1].decode()
    page = yard.hub.ask("GET", f"/rollouts/{found['rollout']['id']}/shadow", accept="text/html")
    assert page[0].status == 200 and b"What stay@2 would have said" in page[1]
    row = yard.hub.json("/endpoints/stay")["served"][0]
    assert row["reason"].startswith(f"rollout {found['rollout']['id']}: after 50 % of traffic")

    done = yard.command("rollback", "stay", "--reason", "the sails are torn", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == "stay@1" and json.loads(done.stdout)["seconds"] < 5
    assert yard.until("reverted")["history"][0]["why"] == "the sails are torn"
    assert yard.serves("stay@1") == "stay@1"
    assert {status for status, _, _ in asked()} == {200}
    assert {version for _, _, version in asked()} == {"stay@1", "stay@2"}


def test_going_back_by_time_or_bundle_ends_a_rollout_first(yard, asked):
    yard.plan(top='urgent = ["golden"]')
    first = yard.hub.json("/endpoints/stay")["endpoint"]["bundle"]
    yard.begin()
    yard.looked()
    done = yard.command("rollout", "urgent", "stay", "--reason", "an attack")
    assert done.returncode == 0, done.stderr
    candidate = yard.hub.json("/endpoints/stay")["endpoint"]["bundle"]
    already = yard.command("rollback", "stay", "--to", candidate[:12], "--reason", "x")
    assert "already" in already.stdout and yard.page()["rollout"]["phase"] == "full"
    refused(yard.command("rollback", "stay", "--to", "ffffff", "--reason", "x"), 1, "none that it has served")
    assert yard.page()["rollout"]["phase"] == "full"
    done = yard.command("rollback", "stay", "--to", first[:12], "--reason", "it was none")
    assert done.returncode == 0, done.stderr
    assert yard.page()["rollout"]["phase"] == "reverted" and yard.serves("stay@1") == "stay@1"

    yard.command("endpoint", "deploy", "stay", "--model", "stay@2", "--reason", "now")
    yard.begin("--model", "stay@1")
    done = yard.command("rollback", "stay", "--to", first[:12], "--reason", "that, at once")
    assert done.returncode == 0, done.stderr
    assert yard.page()["rollout"]["phase"] == "reverted" and yard.serves("stay@1") == "stay@1"
    assert {status for status, _, _ in asked()} == {200}


def test_in_a_share_the_same_entity_always_gets_the_same_version(yard, asked):
    yard.plan(top='patience = "1 hour"')
    yard.begin()
    end = time.monotonic() + 120
    while yard.page()["rollout"]["stage"] != 1:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert yard.command("rollout", "pause", "stay", "--reason", "let me see").returncode == 0
    if yard.page()["rollout"]["phase"] != "paused":
        pytest.skip("it was in full use before it could be paused")
    before = len(asked())
    time.sleep(2)
    got: dict[str, set[str]] = {}
    for _, visitor, version in asked()[before + 10 :]:
        got.setdefault(visitor, set()).add(version)
    assert all(len(one) == 1 for one in got.values())
    new = sum(one == {"stay@2"} for one in got.values())
    assert 0.3 < new / len(got) < 0.7


def failed_from_to(yard: Yard, rollout: str) -> tuple[int, int]:
    """When a candidate's first and its last failure was written down, in microseconds."""
    query = f"SELECT epoch_us(min(_received)), epoch_us(max(_received)) FROM shadow WHERE rollout = '{rollout}'"
    done = yard.command("sql", f"{query} AND error LIKE '%torn sails%'", "--json")
    assert done.returncode == 0, done.stderr
    ((first, last),) = json.loads(done.stdout)["rows"]
    return first, last


def test_a_candidate_that_fails_is_taken_back_within_ten_seconds_of_its_first_failure_and_nobody_notices(yard, asked):
    yard.plan()
    yard.rules(
        "new words", '    if context.get("visitor", "v0") != "warm":\n        raise RuntimeError("torn sails")\n'
    )
    id = yard.begin("--without-golden")
    found = yard.until("reverted")
    assert "error rate" in found["rollout"]["why"]
    assert yard.serves("stay@1") == "stay@1"
    assert {status for status, _, _ in asked()} == {200}
    (incident,) = found["incidents"]
    assert incident["predictions"] and "error rate" in incident["says"]
    listed = yard.command("incident", "list", "--open")
    assert listed.returncode == 1 and incident["id"] in listed.stdout
    shown = yard.hub.json(f"/incidents/{incident['id']}")
    assert shown["predictions"]
    end = time.monotonic() + 60  # the watch looks every five seconds, gives way to requests, and these never end
    while not any(line["alert"]["kind"] == "rollout" for line in yard.hub.json("/alerts")["open"]):
        assert time.monotonic() < end
        time.sleep(0.2)
    first, last = failed_from_to(yard, id)
    assert found["history"][0]["what"] == "reverted" and found["history"][0]["at"] - first < 10_000_000
    assert last - first < 10_000_000, "it was asked for longer"
    closed = yard.command("incident", "close", incident["id"], "--finding", "the rule was wrong")
    assert closed.returncode == 0, closed.stderr
    assert yard.command("incident", "list", "--open").returncode == 0


DIES = '    if context.get("visitor", "v0") != "warm":\n        import os\n        os.kill(os.getpid(), 9)\n'


def test_a_candidate_that_crashes_over_and_over_is_taken_back_with_the_reason(yard, asked):
    yard.plan(query="SELECT _id AS prediction_id, NULL::DOUBLE AS value FROM prediction")
    file = yard.shop.folder / "rollouts.toml"
    file.write_text(file.read_text().replace("at_most = 0.05", "at_most = 1.0"))  # whatever it answers is good enough
    yard.rules("new words", DIES)
    yard.begin("--without-golden")
    found = yard.until("reverted", 90)
    assert "5 processes in a row ended" in found["rollout"]["why"] and "SIGKILL" in found["rollout"]["why"]
    assert found["rollout"]["stage"] == 0, "it was led on"
    (incident,) = found["incidents"]
    assert incident["predictions"], "nobody is told which requests it died of"
    assert {(status, version) for status, _, version in asked()} == {(200, "stay@1")}
    closed = yard.command("incident", "close", incident["id"], "--finding", "the rule was wrong")
    assert closed.returncode == 0, closed.stderr


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_hub_that_is_killed_at_any_stage_goes_on_where_it_was(yard, asked, stage):
    yard.plan()
    id = yard.begin()
    end = time.monotonic() + 120
    while yard.page()["rollout"]["stage"] < stage:
        assert time.monotonic() < end
        time.sleep(0.02)
    yard.hub.stop(signal.SIGKILL)
    yard.restart()
    found = yard.page()
    assert found["rollout"]["id"] == id and found["rollout"]["stage"] >= stage
    assert yard.until("full")["rollout"]["id"] == id
    assert yard.serves("stay@2") == "stay@2"
    assert {status for status, _, _ in asked()} <= {200, 503}


@pytest.fixture
def fresh(yard: Yard) -> Iterator[None]:
    """A hub that has just started: the champion's process is the only one, the next one the candidate's."""
    yard.hub.stop()
    yard.restart(SAMPAN_WARM_FOR="0")
    yield
    yard.hub.stop()
    yard.restart()


def test_a_candidate_whose_process_is_killed_makes_no_request_fail(yard, fresh, asked):
    yard.plan(query="SELECT _id AS prediction_id, 1.0 AS value FROM prediction")  # nothing is ever known of it
    yard.begin()
    time.sleep(1)
    for _ in range(3):
        end = time.monotonic() + 20
        while len(found := serving_processes(yard.shop)) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        os.kill(max(found), signal.SIGKILL)  # the one that was started last
        time.sleep(0.5)
    assert {status for status, _, _ in asked()} == {200}


def test_a_silent_kpi_promotes_nobody_however_long_it_lasts(yard, asked):
    yard.plan(query="SELECT _id AS prediction_id, NULL::DOUBLE AS value FROM prediction")
    yard.begin()
    time.sleep(4)
    found = yard.page()
    assert (found["rollout"]["phase"], found["rollout"]["stage"]) == ("running", 0)
    assert found["evidence"]["verdict"] == "not enough evidence"
    refused = yard.command("rollout", "promote", "stay", "--reason", "I like it")
    assert refused.returncode in (0, 1)
    again = yard.command("rollout", "promote", "stay", "--reason", "I like it very much")
    assert again.returncode == 1 and "not enough evidence" in again.stderr
    assert yard.serves("stay@1") == "stay@1"


def test_patience_that_is_over_asks_and_promotes_nobody(yard, asked):
    yard.plan(query="SELECT _id AS prediction_id, NULL::DOUBLE AS value FROM prediction", top='patience = "2 seconds"')
    yard.begin()
    found = yard.until("asking")
    assert "patience of 2 seconds is over" in found["rollout"]["why"]
    assert yard.command("rollout", "resume", "stay", "--reason", "a little more").returncode == 0
    assert yard.serves("stay@1") == "stay@1"


def refused(done: Any, code: int, *said: str) -> None:
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    for one in said:
        assert one in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_what_cannot_be_begun_is_refused_with_what_to_do(yard):
    (yard.shop.folder / "rollouts.toml").unlink(missing_ok=True)
    start = ("rollout", "start", "stay", "--model", "stay@2")
    refused(yard.command(*start), 1, "no plan [stay]", "sampan rollout plan stay")
    yard.plan(query="SELECT prediction_id, value FROM nowhere")
    refused(yard.command(*start), 2, "a query of rollouts.toml cannot be asked", "nowhere")
    refused(yard.command("rollout", "check"), 2, "nowhere")
    yard.plan(query="SELECT 1")
    refused(yard.command(*start), 2, "it must give prediction_id and value")
    yard.plan()
    refused(yard.command("rollout", "start", "nobody", "--model", "stay@2"), 1, "no plan [nobody]")
    refused(yard.command("rollout", "start", "stay", "--model", "stay@1"), 2, "what it serves already")
    refused(yard.command("rollout", "start", "stay", "--model", "stay@9"), 1, "stay@9")
    refused(yard.command("rollout", "back", "stay", "--reason", "x"), 1, "none goes on there")
    refused(yard.command("rollout", "show", "nobody"), 1, "nobody")
    checked = yard.command("rollout", "check")
    assert checked.returncode == 0 and "stay: stages shadow" in checked.stdout and "KPI: " in checked.stdout
    file = yard.shop.folder / "rollouts.toml"
    plan = file.read_text()
    file.write_text(plan.replace("stay", "tsay"))
    checked = yard.command("rollout", "check")
    assert checked.returncode == 1 and "there is no endpoint tsay. Endpoints: " in checked.stdout
    file.write_text(plan)
    yard.begin()
    refused(yard.command(*start), 1, "goes on")
    deploy = yard.command("endpoint", "deploy", "stay", "--model", "stay@2", "--reason", "now")
    refused(deploy, 1, "a rollout of stay@2 goes on", "sampan rollout back stay")
    refused(yard.command("rollout", "urgent", "stay", "--reason", "an attack"), 1)
    refused(yard.command("rollout", "finish", "stay", "--reason", "done"), 1, "not in full use")
    back = yard.command("rollback", "stay", "--to", "2020-01-01")  # whether anything was known then is not always told
    assert back.returncode in (1, 2) and "2020-01-01" in back.stderr, back.stderr
    assert yard.page()["rollout"]["phase"] == "running"
    assert yard.serves("stay@1") == "stay@1"


def test_an_urgent_rollout_needs_its_proofs_and_stays_marked(yard, asked):
    yard.plan(query="SELECT _id AS prediction_id, NULL::DOUBLE AS value FROM prediction", top='urgent = ["golden"]')
    yard.begin()
    yard.looked()
    done = yard.command("rollout", "urgent", "stay", "--reason", "a new kind of attack")
    assert done.returncode == 0, done.stderr
    found = yard.until("full")
    assert found["rollout"]["why"].startswith("urgent: ") and "a new kind of attack" in found["rollout"]["why"]
    assert yard.serves("stay@2") == "stay@2"


def test_buttons_of_the_page_tell_a_rollout(yard):
    yard.plan()
    id = yard.begin()
    assert set(yard.page()["verbs"]) >= {"pause", "promote", "back"}
    cookie = yard.hub.sign_in()
    path = f"/rollouts/{id}/back"
    form = {"content_type": "application/x-www-form-urlencoded", "cookie": cookie, "sec_fetch_site": "same-origin"}
    response, answer = yard.hub.ask("POST", path, b"reason=no+wind", token=False, **form)
    assert response.status == 303, answer
    found = yard.page()
    assert found["rollout"]["phase"] == "reverted" and found["rollout"]["why"].endswith("no wind")
    assert found["verbs"] == []
    response, answer = yard.hub.ask("POST", path, b"reason=again", token=False, accept="text/html", **form)
    assert f'href="/rollouts/{id}">Back</a>' in answer.decode()
    assert response.status in (404, 409)


def test_what_a_candidate_answered_in_a_share_can_be_made_again_when_the_rollout_is_over(yard, asked):
    yard.plan(query="SELECT _id AS prediction_id, NULL::DOUBLE AS value FROM prediction")
    toml = yard.shop.folder / "rollouts.toml"
    shadow, share = 'shadow = true\nat_least = "1 second"', 'share = 0.4\nat_least = "1 hour"'
    toml.write_text(toml.read_text().replace(shadow, share))
    yard.begin()
    end = time.monotonic() + 30
    found = []
    while not found and time.monotonic() < end:
        lines = yard.hub.json("/predictions")["predictions"]
        found = [one["id"] for one in lines if one["version"] == "stay@2"]
    assert yard.command("rollout", "back", "stay", "--reason", "seen enough").returncode == 0
    made = json.loads(yard.shop.post(f"/v1/predictions/{found[0]}/recompute", {}))
    assert made["version"] == "stay@2" and not made["differs"], made
    assert yard.command("gc", "--apply").returncode == 0
    again = json.loads(yard.shop.post(f"/v1/predictions/{found[0]}/recompute", {}))
    assert again["now"] == made["now"] and not again["differs"]
