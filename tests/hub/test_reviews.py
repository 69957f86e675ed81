"""Cases that a rule sends to people: asked, answered once, settled by themselves when their time is over."""

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from sampan.base.clock import iso
from tests.browser.shop import Shop
from tests.hub.conftest import Hub, sampan

RULES = """
from sampan import Action, decision, review

@decision(model="stay", currency="GBP", entity="visitor", default="wait",
          values={"greet": {True: 2.0, False: -1.2}, "wait": {True: 0.0, False: 0.0}})
def greet(prediction, context, likely: float = 0.5):
    if "hours" in context:
        return review("wait", rule="too costly to decide alone", hours=context["hours"])
    return Action("greet", rule="likely") if prediction >= likely else Action("wait", rule="not likely")
"""
A_SECOND = 1 / 3600


class Queue:
    """A hub whose rule asks people where a record says for how long."""

    def __init__(self, pattern: Path, folder: Path) -> None:
        self.shop = Shop.copy(pattern, folder)
        (folder / "decisions.py").write_text(RULES)
        self.shop.post("/v1/endpoints", {"name": "stay"})
        self.ask("warm", hours=None)

    @property
    def hub(self) -> Hub:
        return self.shop.hub

    def restart(self, number: int = signal.SIGTERM) -> None:
        self.hub.stop(number)
        self.shop.hub = Hub(self.shop.folder)

    def ask(self, id: str, hours: float | None = 1.0, **more: Any) -> dict[str, Any]:
        record = {"visitor": f"visitor of {id}", "seconds": 30.0, "basket": 99.5, **more}
        if hours is not None:
            record["hours"] = hours
        status, body = self.hub.predict("stay", json.dumps({"records": [record], "ids": [id]}).encode())
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)["predictions"][0]
        return found

    def answer(self, id: str, body: Any, token: str = "") -> tuple[int, Any]:
        given = {"authorization": f"Bearer {token or self.hub.token}", "content_type": "application/json"}
        response, said = self.hub.ask("POST", f"/v1/reviews/{id}", json.dumps(body).encode(), **given)
        return response.status, json.loads(said)

    def token(self, name: str, role: str) -> str:
        return str(json.loads(self.shop.post("/v1/tokens", {"name": name, "role": role}))["secret"])

    def sql(self, query: str) -> list[list[Any]]:
        rows: list[list[Any]] = json.loads(self.shop.post("/v1/sql", {"query": query}))["rows"]
        return rows

    def waiting(self, **query: Any) -> list[str]:
        return [one["case"]["id"] for one in self.hub.json(f"/reviews?{urlencode(query)}")["waiting"]]

    def settled(self, id: str) -> Any:
        """What became of a case; waits for it."""
        end = time.monotonic() + 20
        while (done := self.hub.json(f"/predictions/{id}")["review"]["case"]["settled"]) is None:
            assert time.monotonic() < end, f"{id} is not settled"
            time.sleep(0.1)
        return done


@pytest.fixture(scope="module")
def queue(after_a_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queue]:
    made = Queue(after_a_run, tmp_path_factory.mktemp("queue") / "shop")
    yield made
    assert made.hub.stop() == 0


def test_a_case_gets_the_safe_default_and_waits_for_people(queue: Queue) -> None:
    told = queue.ask("first")

    assert told["action"] == "wait" and told["rule"] == "too costly to decide alone"
    assert told["review"]["choices"] == ["greet", "wait"]
    (line,) = (one for one in queue.hub.json("/reviews")["waiting"] if one["case"]["id"] == "first")
    case = line["case"]
    assert case["safe"] == "wait" and case["context"]["basket"] == 99.5 and case["features"] == {"seconds": 30.0}
    assert 3500 < line["left"] <= 3600 and line["worth"]["wait"] == 0.0 and line["worth"]["greet"] > 0
    assert line["labels"] == ["true", "false"]
    again = queue.ask("first")
    assert again["review"] == told["review"], "asked again, the answer is the one of before"
    assert "review" not in queue.ask("certain", hours=None)
    response, page = queue.hub.ask("GET", "/reviews", accept="text/html")
    assert response.status == 200 and b"Too costly to decide alone" in page
    assert b'data-choice="1"' in page and b'action="/reviews/first/answer"' in page
    listed = sampan(queue.shop.folder, "review", "list")
    assert "first" in listed.stdout and "greet, wait" in listed.stdout, listed.stderr
    shown = sampan(queue.shop.folder, "review", "show", "first")
    assert "basket" in shown.stdout and "GBP" in shown.stdout and "sampan review answer first" in shown.stdout


@pytest.mark.slow
def test_an_answer_is_an_event_with_its_author_and_only_one_counts(queue: Queue) -> None:
    queue.ask("second")
    dora, emil = queue.token("dora", "reviewer"), queue.token("emil", "approver")

    status, said = queue.answer("second", {"action": "greet", "reason": "a good customer", "label": True}, dora)
    assert (status, said["by"], said["action"]) == (200, "dora", "greet")
    status, error = queue.answer("second", {"action": "wait"}, emil)
    assert status == 409 and "dora has answered 'greet'" in error["error"]["obstacle"]

    joined = (
        "SELECT r.action, r.author, r.reason, r.label, r.lapsed, p.action, p.endpoint, r._position"
        " FROM prediction p JOIN review r ON r.prediction_id = p._id WHERE p._id = 'second'"
    )
    (row,) = queue.sql(joined)
    assert row[:4] == ["greet", "dora", "a good customer", "true"]
    assert row[4:7] == [False, "wait", "stay"] and row[7].startswith("reviews:")
    assert "second" not in queue.waiting()
    outcome = {"id": "o2", "type": "outcome", "source": "web", "time": "2026-02-01T12:00:00Z"}
    queue.hub.send({**outcome, "data": {"prediction_id": "second", "value": True}})
    assert queue.hub.json("/predictions/second")["earned"] == 2.0, "what was done in the end earns"
    rules = queue.hub.json("/endpoints/stay")["decided"]["rules"]
    assert next(one for one in rules if one["known"])["value"] == 2000.0
    from sampan.release.rollouts import VALUE_SQL

    kpi = f"SELECT value FROM ({VALUE_SQL}) WHERE prediction_id = 'second'"
    assert queue.sql(kpi) == [[2.0]], "and counts for a rollout"
    page = queue.hub.ask("GET", "/predictions/second", accept="text/html")[1].decode()
    assert "dora" in page and "a good customer" in page


def test_of_many_who_answer_at_once_one_wins(queue: Queue) -> None:
    queue.ask("race")
    with ThreadPoolExecutor(12) as many:
        found = list(many.map(lambda n: queue.answer("race", {"action": "greet" if n % 2 else "wait"}), range(12)))

    assert sorted(status for status, _ in found) == [200, *[409] * 11]
    won = next(said for status, said in found if status == 200)
    assert queue.sql("SELECT count(*), min(action) FROM review WHERE prediction_id = 'race'") == [[1, won["action"]]]


def test_a_form_answers_without_a_script(queue: Queue) -> None:
    queue.ask("formal")
    given = {"cookie": queue.hub.sign_in(), "content_type": "application/x-www-form-urlencoded"}
    body = urlencode({"action": "greet", "reason": "seen her before", "label": "false", "endpoint": "stay"}).encode()

    response, _ = queue.hub.ask("POST", "/reviews/formal/answer", body, origin=queue.hub.url, **given)
    assert response.status == 303 and response.headers["location"] == "/reviews?endpoint=stay"
    assert queue.settled("formal")["label"] is False
    response, page = queue.hub.ask(
        "POST", "/reviews/formal/answer", body, origin=queue.hub.url, accept="text/html", **given
    )
    assert response.status == 409 and b"has answered" in page


def test_who_may_only_look_may_not_answer(queue: Queue) -> None:
    queue.ask("guarded")
    status, said = queue.answer("guarded", {"action": "greet"}, queue.token("vera", "viewer"))
    assert status == 403 and "review" in json.dumps(said)
    assert "guarded" in queue.waiting()


@pytest.mark.parametrize(
    ("id", "body", "status", "words"),
    [
        ("odd", {"action": "sell"}, 400, "'sell' is none of its choices"),
        ("odd", {}, 400, "action"),
        ("odd", {"action": "greet", "reason": "x" * 3000}, 400, "3,000 characters"),
        ("nobody", {"action": "greet"}, 404, "no prediction has this id"),
        ("warm", {"action": "greet"}, 404, "no rule has sent it to people"),
    ],
)
def test_what_is_no_answer_is_refused_in_words(queue: Queue, id: str, body: Any, status: int, words: str) -> None:
    queue.ask("odd")
    found, said = queue.answer(id, body)
    assert found == status and words in json.dumps(said)


def test_nobody_else_can_speak_for_people(queue: Queue) -> None:
    queue.ask("forged")
    event = {"id": "forged", "type": "review", "source": "review/stay", "time": "2026-02-01T12:00:00Z"}
    data = {"prediction_id": "forged", "endpoint": "stay", "action": "greet", "due": "2026-02-01T12:00:00Z"}
    queue.hub.send({**event, "data": data})

    assert "forged" in queue.waiting()
    assert queue.answer("forged", {"action": "wait"})[0] == 200


@pytest.mark.slow
def test_what_nobody_answers_is_settled_once_by_the_safe_default_and_told(queue: Queue) -> None:
    asked = queue.ask("late", hours=A_SECOND)
    done = queue.settled("late")

    assert done["lapsed"] and done["action"] == "wait" and done["by"] == ""
    status, said = queue.answer("late", {"action": "greet"})
    assert status == 409 and "safe default 'wait' stands" in said["error"]["obstacle"]
    due = asked["review"]["due"]
    rows = queue.sql("SELECT lapsed, _time::VARCHAR FROM review WHERE prediction_id = 'late'")
    assert len(rows) == 1 and rows[0][0] and rows[0][1][:19] == due[:19].replace("T", " "), "by the deadline, not later"
    end = time.monotonic() + 30
    while not (found := [a for a in queue.hub.json("/alerts")["open"] if a["alert"]["kind"] == "review"]):
        assert time.monotonic() < end
        time.sleep(0.2)
    assert "Nobody answered" in found[0]["alert"]["title"] and found[0]["alert"]["about"] == "stay"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_hub_that_was_down_at_the_deadline_settles_it_when_it_is_up_again(queue: Queue, number: int) -> None:
    id = f"down-{number}"
    queue.ask(id, hours=A_SECOND)
    queue.hub.stop(number)
    time.sleep(1.1)
    queue.shop.hub = Hub(queue.shop.folder)

    assert queue.settled(id)["lapsed"]
    queue.restart()
    assert queue.sql(f"SELECT count(*) FROM review WHERE prediction_id = '{id}'") == [[1]]


def test_the_queue_is_seen_as_it_was(queue: Queue) -> None:
    queue.ask("then")
    time.sleep(0.01)
    then = time.time_ns() // 1000
    time.sleep(0.01)
    assert queue.answer("then", {"action": "greet"})[0] == 200

    assert "then" not in queue.waiting()
    assert "then" in queue.waiting(**{"as-of": iso(then)})
    assert queue.hub.json(f"/predictions/then?{urlencode({'as-of': iso(then)})}")["review"]["case"]["settled"] is None
    page = queue.hub.ask("GET", f"/reviews?{urlencode({'as-of': iso(then)})}", accept="text/html")[1]
    assert b"data-choice" not in page, "in the past nobody answers"


def test_of_the_settled_the_newest_are_shown_and_of_those_that_wait_all_are_counted(queue: Queue) -> None:
    for number in range(4):
        queue.ask(f"turn-{number}")
    for number in (0, 2, 1):
        assert queue.answer(f"turn-{number}", {"action": "greet"})[0] == 200
    page = queue.hub.json("/reviews?limit=2")
    assert [one["case"]["id"] for one in page["settled"]] == ["turn-1", "turn-2"]
    everything = queue.waiting(limit=1_000)
    assert page["count"] == len(everything) and "turn-3" in everything


@pytest.mark.slow
def test_a_long_queue_is_shown_page_by_page_the_most_urgent_first(queue: Queue) -> None:
    """Nothing is left out and nothing comes twice, whatever is answered meanwhile."""
    for number in range(5):
        queue.ask(f"long-{number}", hours=0.5 - number / 100)
    everything = queue.waiting(limit=1_000)
    assert everything[:5] == [f"long-{number}" for number in (4, 3, 2, 1, 0)]
    first = queue.hub.json("/reviews?limit=2")
    assert [one["case"]["id"] for one in first["waiting"]] == everything[:2]
    assert (first["more"], first["count"], first["after"]) == (len(everything) - 2, len(everything), "")
    assert queue.answer("long-4", {"action": "wait"})[0] == 200
    seen, after = everything[:2], first["next"]
    while after:
        page = queue.hub.json(f"/reviews?{urlencode({'limit': 2, 'after': after})}")
        assert page["after"] == after and page["settled"] == []
        seen += [one["case"]["id"] for one in page["waiting"]]
        after = page["next"]
    assert seen == everything

    where = urlencode({"after": first["next"]})
    text = queue.hub.ask("GET", f"/reviews?{where}", accept="text/html")[1].decode()
    assert f'name="after" value="{first["next"]}"' in text and "The most urgent" in text
    body = urlencode({"action": "wait", "after": first["next"]}).encode()
    form = {"content_type": "application/x-www-form-urlencoded", "origin": queue.hub.url}
    response, _ = queue.hub.ask("POST", "/reviews/long-2/answer", body, **form)
    assert response.status == 303 and response.headers["location"] == f"/reviews?{where}", "one goes on where one was"
    assert "less urgent" in queue.hub.ask("GET", "/reviews?limit=2", accept="text/html")[1].decode()
    listed = sampan(queue.shop.folder, "review", "list", "--limit", "2").stdout
    assert "long-3" in listed and "long-1" in listed and "long-0" not in listed
    assert f"{len(everything) - 4} more: --limit {len(everything) - 2} shows them" in listed
    assert sampan(queue.shop.folder, "review", "list", "--limit", "0").returncode == 2


def test_answers_are_labels_that_a_flow_reads(queue: Queue) -> None:
    queue.ask("label")
    assert queue.answer("label", {"action": "greet", "label": True})[0] == 200
    (queue.shop.folder / "tables" / "labels.sql").write_text(
        "-- one row a case\nSELECT prediction_id, prediction.entity, review.author, review.label = 'true' AS good"
        " FROM review JOIN prediction ON prediction._id = prediction_id WHERE NOT lapsed\n"
    )
    told = json.loads(queue.shop.post("/v1/runs", {"target": "labels"}).splitlines()[-1])
    assert "result" in told, told
    assert told["result"]["state"] == "succeeded", told
    rows = queue.sql("SELECT entity, author, good FROM labels WHERE prediction_id = 'label'")
    assert rows == [["visitor of label", "owner", True]]


TAUGHT = """

@model(kind="binary", target="good")
def taught(labelled: pa.Table) -> Fitted:
    rows = [row for row in labelled.to_pylist() if row["by_people"]]
    x = np.array([[json.loads(row["features"])["seconds"]] for row in rows] * 20)
    y = np.array([row["good"] for row in rows] * 20)
    booster = train({"objective": "binary", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 1},
                    Dataset(x, y, feature_name=["seconds"]), 5)
    return Fitted(booster, ["seconds"], metrics={"people": len({row["author"] for row in rows}), "labels": len(rows)},
                  sample=pa.table({"seconds": [1.0, 30.0]}))
"""


@pytest.mark.slow
def test_what_people_answered_trains_the_next_version(queue: Queue) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "reviews.md").read_text()
    told = page.partition("-- tables/labelled.sql")[2].partition("```")[0]
    (queue.shop.folder / "tables" / "labelled.sql").write_text("-- tables/labelled.sql" + told)
    steps = queue.shop.folder / "steps.py"
    steps.write_text("import json\n" + steps.read_text() + TAUGHT)
    trained = []
    for number, name in enumerate(("finn", "gala")):
        token = queue.token(name, "reviewer")
        for label in (True, False):
            queue.ask(f"lesson-{number}-{label}", seconds=30.0 if label else 2.0)
            assert queue.answer(f"lesson-{number}-{label}", {"action": "wait", "label": label}, token)[0] == 200
        done = json.loads(queue.shop.post("/v1/runs", {"target": "taught"}).splitlines()[-1])
        assert done["result"]["state"] == "succeeded", done
        trained.append(queue.hub.json("/models/taught/" + str(number + 1))["metrics"])
    assert trained[1]["labels"] == trained[0]["labels"] + 2
    assert trained[1]["people"] == trained[0]["people"] + 1


def claim(queue: Queue, id: str, token: str, verb: str = "claim", **body: Any) -> tuple[int, Any]:
    given = {"authorization": f"Bearer {token}", "content_type": "application/json"}
    response, said = queue.hub.ask("POST", f"/v1/reviews/{id}/{verb}", json.dumps(body).encode(), **given)
    return response.status, json.loads(said)


def line(queue: Queue, id: str, **query: Any) -> Any:
    found = queue.hub.json(f"/reviews?{urlencode(query)}")["waiting"]
    return next(one for one in found if one["case"]["id"] == id)


def test_while_somebody_is_at_work_on_a_case_nobody_else_answers_it(queue: Queue) -> None:
    queue.ask("claimed")
    ada, ben = queue.token("ada", "reviewer"), queue.token("ben", "reviewer")
    status, held = claim(queue, "claimed", ada)
    assert (status, held["by"]) == (200, "ada") and 14 * 60 < held["until"] / 1e6 - time.time() <= 15 * 60
    for said in (claim(queue, "claimed", ben), queue.answer("claimed", {"action": "greet"}, ben)):
        assert said[0] == 409 and "ada is at work on it until" in said[1]["error"]["obstacle"]
        assert "--over" in said[1]["error"]["advice"]
    assert claim(queue, "claimed", ben, "release")[0] == 409
    assert line(queue, "claimed")["claim"]["who"] == "ada" and not line(queue, "claimed")["mine"]
    page = queue.hub.ask("GET", "/reviews", accept="text/html")[1].decode()
    assert "<b>ada</b> is at work on it" in page and "Take it over" in page
    assert 'action="/reviews/claimed/answer"' not in page, "who looks is another"
    assert "ada" in sampan(queue.shop.folder, "review", "list").stdout
    before = iso(time.time_ns() // 1000)
    time.sleep(0.01)

    status, held = claim(queue, "claimed", ben, over=True, minutes=30)
    assert (status, held["by"]) == (200, "ben"), "knowingly it can be taken over"
    assert line(queue, "claimed", **{"as-of": before})["claim"]["who"] == "ada"
    assert queue.answer("claimed", {"action": "greet"}, ada)[0] == 409
    assert queue.answer("claimed", {"action": "greet"}, ben)[0] == 200
    status, said = claim(queue, "claimed", ada)
    assert status == 409 and "ben has answered 'greet'" in said["error"]["obstacle"]


def test_a_claim_ends_by_itself_or_when_it_is_let_go(queue: Queue) -> None:
    queue.ask("leased", hours=0.5)
    ada, ben = queue.token("ada2", "reviewer"), queue.token("ben2", "reviewer")
    assert claim(queue, "leased", ada, minutes=0.005)[0] == 200
    assert claim(queue, "leased", ben)[0] == 409
    time.sleep(0.35)
    status, held = claim(queue, "leased", ben, minutes=480)
    assert status == 200 and held["until"] / 1e6 < time.time() + 31 * 60, "until its deadline at the latest"
    assert claim(queue, "leased", ben, minutes=5)[1]["until"] < held["until"], "whoever has it may say otherwise"
    assert claim(queue, "leased", ben, "release") == (200, {"id": "leased", "endpoint": "stay", "by": "", "until": 0})
    assert queue.answer("leased", {"action": "wait"}, ada)[0] == 200


def test_of_many_who_claim_at_once_one_has_it(queue: Queue) -> None:
    queue.ask("rush")
    tokens = [queue.token(f"r{number}", "reviewer") for number in range(6)]
    with ThreadPoolExecutor(6) as many:
        found = list(many.map(lambda token: claim(queue, "rush", token)[0], tokens))
    assert sorted(found) == [200, *[409] * 5]


@pytest.mark.parametrize(
    ("id", "body", "status", "words"),
    [
        ("leased", {"minutes": 0}, 400, "minutes"),
        ("leased", {"minutes": 481}, 400, "480"),
        ("nobody", {}, 404, "no prediction has this id"),
        ("warm", {}, 404, "no rule has sent it to people"),
    ],
)
def test_what_cannot_be_claimed_is_told(queue: Queue, id: str, body: Any, status: int, words: str) -> None:
    found, said = claim(queue, id, queue.hub.token, **body)
    assert found == status and words in json.dumps(said)
    assert claim(queue, "leased", queue.token(f"v{time.time_ns()}", "viewer"))[0] == 403


def test_forms_and_commands_claim_and_release(queue: Queue) -> None:
    queue.ask("by-form")
    given = {"cookie": queue.hub.sign_in(), "content_type": "application/x-www-form-urlencoded"}
    response, _ = queue.hub.ask("POST", "/reviews/by-form/claim", b"", origin=queue.hub.url, **given)
    assert response.status == 303 and line(queue, "by-form")["claim"]["who"] == "owner"
    page = queue.hub.ask("GET", "/reviews", accept="text/html")[1].decode()
    assert "Leave it to others" in page and 'action="/reviews/by-form/answer"' in page, "it is the owner's own"
    response, _ = queue.hub.ask("POST", "/reviews/by-form/release", b"", origin=queue.hub.url, **given)
    assert response.status == 303 and line(queue, "by-form")["claim"] is None
    claim(queue, "by-form", queue.token("cleo", "reviewer"))
    done = sampan(queue.shop.folder, "review", "claim", "by-form")
    assert done.returncode == 1 and "cleo is at work on it" in done.stderr
    assert "by-form is yours" in sampan(queue.shop.folder, "review", "claim", "by-form", "--over").stdout
    assert "waits for anybody" in sampan(queue.shop.folder, "review", "release", "by-form").stdout


@pytest.mark.slow
def test_without_a_hub_commands_answer_and_settle(after_a_run: Path, tmp_path: Path) -> None:
    queue = Queue(after_a_run, tmp_path / "shop")
    queue.ask("alone")
    queue.ask("over", hours=A_SECOND)
    assert queue.hub.stop() == 0
    folder = queue.shop.folder

    done = sampan(folder, "review", "answer", "alone", "greet", "--reason", "why not", "--label", "true", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] is True
    again = sampan(folder, "review", "answer", "alone", "wait")
    assert again.returncode == 1 and "has answered 'greet'" in again.stderr
    time.sleep(1.0)
    late = sampan(folder, "review", "answer", "over", "greet")
    assert late.returncode == 1 and "safe default 'wait' stands" in late.stderr
    assert "nobody in time" in sampan(folder, "review", "list", "--settled").stdout
    assert "Nothing waits" in sampan(folder, "review", "list").stdout
