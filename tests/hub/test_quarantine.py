"""Quarantine as a workbench, over a real hub: look, try a rule of the workspace on real cases, apply it once."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from sampan.hub.shown import Line, lines
from tests.hub.conftest import Hub, make_workspace, sampan, visit
from tests.hub.test_pages import read

RULE = '''"""Seconds were sent as milliseconds below zero."""


def fix(event, reason):
    if "seconds" not in reason:
        return None
    event["data"]["seconds"] = -event["data"]["seconds"] / 1000
    return event
'''
FORM = {"content_type": "application/x-www-form-urlencoded"}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    folder = make_workspace(tmp_path / "shop")
    (folder / "repairs").mkdir()
    (folder / "repairs" / "seconds.py").write_text(RULE)
    running = Hub(folder)
    running.send(visit("good"), visit("a", seconds=-3000), visit("b", seconds=-1), visit("c", page=7))
    yield running
    assert running.stop() == 0


def post(hub: Hub, path: str, **fields: str) -> tuple[int, str, str]:
    response, body = hub.ask("POST", path, urlencode(fields).encode(), accept="text/html", **FORM)
    return response.status, body.decode(), response.headers.get("location", "")


def apply(hub: Hub, **changed: str) -> tuple[int, str, str]:
    (rule,) = hub.json("/quarantine")["rules"]
    given = {"rule": "seconds.py", "digest": rule["digest"], "why": "the till counted backwards", "reason": ""}
    return post(hub, "/quarantine/apply", **(given | changed))


def test_what_waits_is_counted_by_reason_producer_and_time(hub: Hub) -> None:
    page = hub.json("/quarantine")
    assert page["total"] == 3
    assert {(one["reason"], one["path"], one["count"]) for one in page["reasons"]} == {
        ("invalid: Expected float >= 0.0", "$.data.seconds", 2),
        ("invalid: Expected str, got int", "$.data.page", 1),
    }
    assert all(sum(one["bars"]) == one["count"] for one in page["reasons"])
    (producer,) = page["producers"]
    assert (producer["producer"], producer["sent"], producer["quarantined"], producer["over"]) == ("owner", 4, 3, True)
    text = " ".join(read(hub, "/quarantine").text)
    assert "seconds.py" in text
    assert "Seconds were sent as milliseconds below zero." in text


def test_a_reason_without_a_rule_comes_with_the_beginning_of_one(hub: Hub) -> None:
    page = hub.json("/quarantine?" + urlencode({"reason": "invalid: Expected str, got int"}))
    assert page["matching"] == 1
    names: dict[str, object] = {}
    exec(page["starter"]["text"], names)
    event = {"data": {"page": 7}}
    assert names["fix"](event, "another") is None  # type: ignore[operator]
    assert names["fix"](event, "invalid: Expected str, got int at $.data.page") == event  # type: ignore[operator]


def test_a_rule_is_tried_on_real_cases_and_changes_nothing(hub: Hub) -> None:
    status, html, _ = post(hub, "/quarantine/try", rule="seconds.py")
    assert status == 200
    text = re.sub(r"<[^>]*>|\s+", " ", html)
    assert "2 events would enter the log." in text
    assert re.search(r"\$\.data\.seconds\s+-3000\s+3\.0", text)
    assert hub.json("/quarantine")["total"] == 3


def test_a_rule_is_applied_once_with_reason_author_and_text(hub: Hub) -> None:
    status, _, place = apply(hub)
    assert status == 303
    page = hub.json(place)
    assert page["text"] == RULE
    assert page["repair"]["reason"] == "the till counted backwards"
    assert page["repair"]["author"] == "owner"
    assert (page["repair"]["accepted"], page["repair"]["left"]) == (2, 1)
    assert len(page["events"]) == 2
    for item, event in page["events"].items():
        assert hub.json(f"/quarantine/{item}")["became"] == event
        assert hub.json(f"/log/{event}")["derived"]["item"] == item
        assert "Repaired." in " ".join(read(hub, f"/quarantine/{item}").text)
    assert hub.json("/quarantine")["total"] == 1
    assert apply(hub)[0] == 409
    assert sorted(one["id"] for one in hub.json("/log")["events"]) == ["a", "b", "good"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"why": " "}, 400),
        ({"digest": "0" * 64}, 409),
        ({"rule": "../contracts.py"}, 404),
        ({"rule": "/etc/passwd"}, 404),
        ({"rule": ""}, 404),
    ],
)
def test_what_was_not_tried_or_is_not_explained_is_not_applied(hub: Hub, changed: dict[str, str], status: int) -> None:
    assert apply(hub, **changed)[0] == status
    assert hub.json("/quarantine")["total"] == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def fix(event, reason):\n    return event['nothing']\n", "line 2"),
        ("def fix(event, reason):\n    import os\n    os._exit(7)\n", "ended with 7"),
        ("def fix(event, reason):\n    print('x' * 100_000)\n    return None\n", "3 would be left"),
        ("def fix(event, reason):\n    return [bytearray(1 << 33)]\n", "MemoryError"),
    ],
)
def test_a_rule_that_goes_wrong_harms_only_its_own_process(hub: Hub, text: str, said: str) -> None:
    (hub.folder / "repairs" / "odd.py").write_text(text)
    status, html, _ = post(hub, "/quarantine/try", rule="odd.py")
    assert said in re.sub(r"<[^>]*>|\s+", " ", html)
    assert status in (200, 400)
    assert hub.json("/quarantine")["total"] == 3


def test_a_file_that_is_no_rule_is_shown_with_its_trouble_and_cannot_be_tried(hub: Hub) -> None:
    (hub.folder / "repairs" / "broken.py").write_text("def fix(:\n")
    (rule,) = [one for one in hub.json("/quarantine")["rules"] if one["name"] == "broken.py"]
    assert "line 1" in rule["trouble"]
    assert post(hub, "/quarantine/try", rule="broken.py")[0] == 400


def test_only_our_own_page_may_make_a_browser_repair(hub: Hub) -> None:
    cookie = hub.sign_in()
    body = urlencode({"rule": "seconds.py"}).encode()
    for headers in ({"origin": "https://evil.example"}, {"sec_fetch_site": "cross-site"}, {}):
        for path in ("/quarantine/try", "/quarantine/apply"):
            assert hub.ask("POST", path, body, cookie=cookie, **FORM, **headers)[0].status == 403
    assert hub.ask("POST", "/quarantine/try", body, cookie=cookie, origin=hub.url, **FORM)[0].status == 200


@pytest.mark.slow
def test_the_command_leaves_the_same_history(hub: Hub) -> None:
    rule = hub.folder / "repairs" / "seconds.py"
    done = sampan(hub.folder, "quarantine", "fix", "--rule", str(rule), "--why", "by hand", "--json")
    assert json.loads(done.stdout)["accepted"] == 2, done.stderr
    (record,) = hub.json("/quarantine")["history"]
    assert (record["name"], record["reason"], record["accepted"]) == ("seconds.py", "by hand", 2)
    assert record["author"] == "owner"
    assert hub.json(f"/quarantine/repairs/{record['id']}")["text"] == RULE


@pytest.mark.slow
@pytest.mark.parametrize(("role", "status"), [("producer", 403), ("viewer", 403), ("editor", 200)])
def test_who_may_only_send_repairs_nothing_and_nobody_repairs_as_somebody_else(
    hub: Hub, role: str, status: int
) -> None:
    made = json.dumps({"name": "anna", "role": role}).encode()
    secret = json.loads(hub.ask("POST", "/v1/tokens", made, content_type="application/json")[1])["secret"]
    (item,) = [one["position"] for one in hub.json("/quarantine")["items"] if one["id"] == "b"]
    proposal = {"position": item, "reason": "", "before": "", "after": json.dumps(visit("b"))}
    given = {"authorization": f"Bearer {secret}", "content_type": "application/json"}
    body = {"proposals": [proposal], "rule": "0" * 64}
    said = json.dumps(body | {"author": "the owner"}).encode()
    assert hub.ask("POST", "/v1/quarantine/repairs", said, **given)[0].status in (400, 403)
    assert hub.ask("POST", "/v1/quarantine/repairs", json.dumps(body).encode(), **given)[0].status == status
    assert [one["author"] for one in hub.json("/quarantine")["history"]] == ["anna"] * (status == 200)


def test_a_text_of_another_digest_is_not_kept(hub: Hub) -> None:
    body = {"proposals": [], "rule": "0" * 64, "told": {"text": "x", "name": "x", "reason": ""}}
    response, _ = hub.ask("POST", "/v1/quarantine/repairs", json.dumps(body).encode(), content_type="application/json")
    assert response.status == 400


@pytest.mark.slow
def test_bytes_are_shown_by_what_they_are_with_the_wrong_place_marked(hub: Hub) -> None:
    hub.ask("POST", "/v1/events", b"\xff\xfe\x00binary\x01", content_type="application/json")
    hub.ask("POST", "/v1/events", b"just words", content_type="application/json")
    kinds = {}
    for one in hub.json("/quarantine")["items"]:
        page = hub.json(f"/quarantine/{one['position']}")
        kinds[page["kind"]] = page
    assert kinds["bytes"]["lines"][0]["text"].startswith("00000000  ff fe 00 62 69 6e 61 72  79 01")
    assert kinds["text"]["lines"][0]["text"] == "just words"
    wrong = [line["text"].strip() for line in kinds["json"]["lines"] if line["wrong"]]
    assert len(wrong) == 1
    assert wrong[0].startswith(('"page": 7', '"seconds": -'))


@pytest.mark.slow
@pytest.mark.parametrize(("item", "kind"), [(b"1,", "text"), (b"[1],", "text"), (b'"\xff",', "bytes")])
def test_the_page_of_a_large_item_comes_at_once_and_shows_its_beginning(hub: Hub, item: bytes, kind: str) -> None:
    body = b'{"id": [' + item * (8_000_000 // len(item)) + b"1]}"
    hub.ask("POST", "/v1/events", body, content_type="application/json")
    (held,) = [one["position"] for one in hub.json("/quarantine")["items"] if one["id"] is None]
    began = time.monotonic()
    page = hub.json(f"/quarantine/{held}")
    assert hub.ask("GET", f"/quarantine/{held}", accept="text/html")[0].status == 200
    assert time.monotonic() - began < 3
    assert (page["kind"], page["size"]) == (kind, len(body))
    assert page["lines"][-1]["text"].endswith("bytes more")


def test_json_is_shown_by_lines_as_long_as_there_is_room() -> None:
    raw = b'{"a": [' + b"1, " * 8_000 + b"2]}"
    assert lines(raw, "$.a")[0] == "json"
    assert lines(raw.replace(b"1, ", b"1, 1, "), "$.a") == ("text", [Line(raw.replace(b"1, ", b"1, 1, ").decode())])
    assert lines(b'{"a": ' + b" " * 200_000 + b"2}", "$.a")[0] == "json"


def test_a_hub_says_that_contracts_have_changed_and_what_it_did_not_know_enters_the_log_later(hub: Hub) -> None:
    folder = hub.folder
    contracts = folder / "contracts.py"
    assert not any("contracts.py" in one["text"] for one in hub.json("/")["concerns"])
    contracts.write_text(f"{contracts.read_text()}\n\nclass Sale(Event, version=1):\n    worth: float\n")
    sale = {**visit("s1"), "type": "sale", "data": {"worth": 3.0}}
    assert hub.send(sale)[0]["reason"].startswith("unknown type")
    (concern,) = [one for one in hub.json("/")["concerns"] if "contracts.py" in one["text"]]
    assert "start it again" in concern["advice"]
    asked = sampan(folder, "sql", "FROM sale", SAMPAN_URL=hub.url, SAMPAN_TOKEN=hub.token)
    assert asked.returncode == 1 and "contracts.py has changed since the hub was started" in asked.stderr

    assert hub.stop() == 0
    (folder / "repairs" / "as_it_is.py").write_text("def fix(event, reason):\n    return event\n")
    rule = str(folder / "repairs" / "as_it_is.py")
    fixed = sampan(folder, "quarantine", "fix", "--rule", rule, "--reason", "unknown type")
    assert "1 entered the log" in fixed.stdout, fixed.stderr
    assert sampan(folder, "sql", "SELECT worth FROM sale").stdout.split() == ["worth", "3"]
