"""Cards: what is claimed of a version or of the flow, and whether it holds, asked of a real hub."""

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tests.browser.shop import BROKEN, PAYLOAD, Shop, visit
from tests.hub.conftest import sampan

CARD = """
purpose = "Says who will stay."
users = "The till."
limits = ["Not for guests."]

[[claim]]
text = "There are readers"
query = "SELECT count(*) > 0 FROM reads"

[[claim]]
text = "There are no more than thirty"
query = "SELECT count(*) <= 30 FROM reads"
"""


@pytest.fixture
def shop(tmp_path, after_a_run) -> Iterator[Shop]:
    yield from begin(after_a_run, tmp_path)


@pytest.fixture(scope="module")
def ran(tmp_path_factory, after_a_run) -> Iterator[Shop]:
    yield from begin(after_a_run, tmp_path_factory.mktemp("cards"))


@pytest.fixture
def kept(ran) -> Shop:
    """A shop for tests that change nothing but its card."""
    write(ran, CARD)
    return ran


def begin(pattern: Path, folder: Path) -> Iterator[Shop]:
    made = Shop.copy(pattern, folder / "shop")
    write(made, CARD)
    yield made
    assert made.hub.stop() == 0


def write(shop: Shop, text: str) -> None:
    (shop.folder / "cards").mkdir(exist_ok=True)
    (shop.folder / "cards" / "stay.toml").write_text(text)


def card(shop: Shop, number: int = 1) -> Any:
    return shop.hub.json(f"/models/stay/{number}/card")


def states(found: Any) -> dict[str, str]:
    return {one["text"]: one["state"] for one in found["claims"]}


@pytest.mark.slow
def test_a_card_says_what_people_wrote_and_what_is_known(shop):
    shop.put("/v1/labels/model/stay", {"tags": {"owner": "ann"}})
    shop.post("/v1/endpoints", {"name": "stay", "reason": "first"})
    shop.ask("v1", "d-1", 30.0)
    found = card(shop)
    assert (found["purpose"], found["users"], found["limits"], found["owner"]) == (
        "Says who will stay.",
        "The till.",
        ["Not for guests."],
        "ann",
    )
    assert found["serving"] == ["stay"]
    assert found["seconds"] > 0
    assert [(one["source"]["name"], one["rows"], one["current"]) for one in found["fitted"]] == [("reads", 20, True)]
    assert found["earned"][0]["decisions"] == 1
    assert found["earned"][0]["currency"] == "GBP"


def test_a_claim_that_does_not_hold_any_more_gets_its_mark(shop):
    assert states(card(shop))["There are no more than thirty"] == "holds"
    shop.hub.send(*[visit(f"f{n}", visitor=f"w{n}") for n in range(30)])
    shop.run()
    found = card(shop)
    assert states(found)["There are no more than thirty"] == "broken"
    assert states(found)["There are readers"] == "holds"
    assert found["broken"] == 1
    assert found["fitted"][0]["current"] is False
    _, body = shop.hub.ask("GET", "/models/stay/1/card")
    shown = unescape(re.sub(r"<[^>]+>", " ", body.decode()))
    assert "One claim does not hold any more." in shown
    assert "no longer holds" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT 1 FROM nowhere", "there is no table or event 'nowhere'"),
        ("SELECT", "its question has no answer"),
        ("SELECT 3", "gives 3, neither true nor false"),
        ("SELECT NULL", "gives nothing"),
        ("SELECT true, true", "does not give one value"),
        ("SELECT stayed FROM reads", "does not give one value"),
        ("SELECT true FROM reads WHERE false", "does not give one value"),
        ("SELECT true FROM read_csv('/etc/passwd')", "its question has no answer"),
        ("DROP TABLE reads", "its question has no answer"),
    ],
)
def test_a_question_without_a_plain_answer_is_not_known_and_never_holds(kept, query, says):
    write(kept, f"[[claim]]\ntext = 'x'\nquery = {json.dumps(query)}\n")
    found = next(one for one in card(kept)["claims"] if one["written"])
    assert found["state"] == "not known"
    assert says in found["says"]


@pytest.mark.slow
def test_what_a_version_has_proved_stands_among_the_claims(shop):
    assert states(card(shop))["It passes the tests of its model"] == "not known"
    assert states(card(shop))["It answers as it did when it was trained"] == "not known"
    (shop.folder / "suites").mkdir()
    suite = shop.folder / "suites" / "stay.toml"
    suite.write_text('[[case]]\nname = "long"\nfeatures = { seconds = 39.0 }\nat_least = 0.5\nreason = "x"\n')
    for command in ("test", "golden"):
        assert sampan(shop.folder, "model", command, "stay@1").returncode == 0
    found = states(card(shop))
    assert found["It passes the tests of its model"] == "holds"
    assert found["It answers as it did when it was trained"] == "holds"
    suite.write_text(suite.read_text().replace("0.5", "0.6"))
    assert states(card(shop))["It passes the tests of its model"] == "not known", "it did, of another suite"
    suite.write_text(suite.read_text().replace("at_least = 0.6", "at_most = 0.1"))
    assert sampan(shop.folder, "model", "test", "stay@1").returncode != 0
    assert states(card(shop))["It passes the tests of its model"] == "broken"


@pytest.mark.parametrize("text", ["[[claim]", "[[claim]]\ntext = 'x'", "purpos = 'x'", "limits = 'none'"])
def test_a_card_that_cannot_be_read_is_said_in_one_message(kept, text):
    write(kept, text)
    response, body = kept.hub.ask("GET", "/models/stay/1/card", accept="application/json")
    assert response.status == 400
    assert json.loads(body)["error"]["attempted"] == "Read cards/stay.toml"


@pytest.mark.slow
def test_hostile_texts_are_texts(kept):
    write(kept, f"purpose = {json.dumps(PAYLOAD)}\n[[claim]]\ntext = {json.dumps(PAYLOAD)}\nquery = 'SELECT true'\n")
    _, body = kept.hub.ask("GET", "/models/stay/1/card")
    assert b"<script>attack" not in body
    assert b"<img src=x" not in body
    assert b"{{7*7}}" in body


def test_the_command_writes_one_file_that_stands_alone(kept, tmp_path):
    out = tmp_path / "card.html"
    done = sampan(kept.folder, "card", "stay@1", "--out", str(out), "--check")
    assert done.returncode == 0, done.stderr
    assert "There are readers" in done.stdout
    text = out.read_text()
    assert "Says who will stay." in text
    assert not re.search(r"""(?:src|href)=["'](?:https?:|/)""", text)
    write(kept, "[[claim]]\ntext = 'x'\nquery = 'SELECT false'\n")
    assert sampan(kept.folder, "card", "stay@1", "--check").returncode == 1
    assert sampan(kept.folder, "card", "stay").returncode == 2
    assert sampan(kept.folder, "card", "stay@9").returncode == 1


@pytest.mark.slow
def test_the_card_of_the_flow_marks_what_does_not_hold(shop, tmp_path):
    found = shop.hub.json("/card")
    assert {one["name"]: one["holds"] for one in found["steps"]} == {"reads": True, "stay": True, "loud": True}
    assert next(one for one in found["steps"] if one["name"] == "reads")["rows"] == 20
    assert found["events"] == ["visit"]
    shop.hub.send(visit("since-then"))
    late = shop.hub.json("/card")
    assert (late["broken"], {one["name"] for one in late["steps"] if one["behind"]}) == (0, {"reads", "stay", "loud"})
    assert b"3 steps are behind the log" in shop.hub.ask("GET", "/card", accept="text/html")[1]
    done = sampan(shop.folder, "card", "--check")
    assert done.returncode == 0 and "behind" in done.stdout
    query = shop.folder / "tables" / "reads.sql"
    query.write_text(query.read_text().replace("-- one row a visitor", "-- One row a visitor and page."))
    query.write_text(query.read_text().replace("% 2 = 0", "% 2 = 1"))
    found = shop.hub.json("/card")
    reads = next(one for one in found["steps"] if one["name"] == "reads")
    assert reads["holds"] is False
    assert reads["why"].startswith("would run: ")
    assert reads["about"] == "One row a visitor and page."
    with (shop.folder / "steps.py").open("a") as file:
        file.write(BROKEN)
    shop.run()
    sad = next(one for one in shop.hub.json("/card")["steps"] if one["name"] == "sad")
    assert sad["holds"] is False
    assert "ValueError" in sad["why"]
    out = tmp_path / "flow.html"
    assert sampan(shop.folder, "card", "--out", str(out), "--check").returncode == 1
    assert "How everything is derived" in out.read_text()


@pytest.mark.slow
def test_steps_that_have_never_run_are_not_told_to_be_broken(tmp_path):
    made = Shop(tmp_path / "shop")
    found = made.hub.json("/card")
    _, body = made.hub.ask("GET", "/card")
    for name in ("tables/reads.sql", "steps.py", "decisions.py"):
        (made.folder / name).unlink()
    _, empty = made.hub.ask("GET", "/card")
    assert made.hub.stop() == 0
    assert (found["broken"], {one["state"] for one in found["steps"]}) == (0, {"new"})
    assert b"Not all of it has run." in body
    assert b"Nothing is derived yet." in empty
