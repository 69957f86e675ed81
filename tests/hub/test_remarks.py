"""Tags, notes and comments on everything that has a page: written over HTTP and by forms, shown, found, kept apart."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

import pytest

from sampan.base.clock import iso
from sampan.hub.remarks import KINDS
from sampan.team.comments import LONGEST
from tests.browser.shop import PAYLOAD, THINGS, VISITOR, Shop
from tests.hub.conftest import Hub
from tests.hub.test_pages import read

pytestmark = pytest.mark.slow

FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def shop(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    made = Shop.copy(filled, tmp_path_factory.mktemp("remarks") / "shop")
    yield made
    assert made.hub.stop() == 0


def ask(hub: Hub, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    given = json.dumps(body).encode() if body is not None else b""
    response, answer = hub.ask(method, path, given, content_type="application/json", **headers)
    return response.status, json.loads(answer)


def page(hub: Hub, kind: str, name: str) -> str:
    """The address of a thing's page; its whole name is what the answer to a comment says."""
    status, made = ask(hub, "POST", f"/v1/comments/{kind}/{name}", {"text": "Where are you?"})
    assert status == 201
    return KINDS[kind].address(made["object"].partition(" ")[2])


def token(hub: Hub, name: str, role: str) -> dict[str, str]:
    made = ask(hub, "POST", "/v1/tokens", {"name": name, "role": role})[1]
    return {"authorization": f"Bearer {made['secret']}"}


def test_each_kind_is_tried() -> None:
    assert {kind for kind, _ in THINGS} | {"column"} == set(KINDS)


def test_names_with_a_slash_are_found_shown_and_commented_on_by_forms_and_programs(shop: Shop) -> None:
    hub, name = shop.hub, "orders/2026 %2F 7"
    shop.ask("v1", name, 30.0)
    address = KINDS["prediction"].address(name)
    assert "%2F" in address and hub.json(address)["id"] == name
    path = quote(name, safe="")
    assert ask(hub, "POST", f"/v1/comments/prediction/{path}", {"text": "by a program"})[0] == 201
    assert ask(hub, "PUT", f"/v1/labels/prediction/{path}", {"tags": {"a": "b"}})[0] == 200
    form = urlencode({"text": "by a form"}).encode()
    response, _ = hub.ask("POST", f"/comments/prediction/{path}/add", form, content_type=FORM)
    assert (response.status, response.headers["location"]) == (303, f"{address}#comments")
    said = hub.json(address)["remarks"]
    assert {one["text"] for one in said["comments"]} == {"by a program", "by a form"} and said["tags"]
    assert hub.json(f"/lineage/{path}")["name"] == name
    assert ask(hub, "POST", f"/v1/predictions/{path}/recompute", {})[0] == 200
    for wrong in (
        "/predictions/a%2Fb/c",
        "/predictions/a/b",
        "/tables/a%2Fb",
        "/predictions/%EF%B7%90",
        "/static/..%2Fa",
    ):
        response, answer = hub.ask("GET", wrong)
        assert response.status == 404, wrong
        assert "\ufdd0" not in answer.decode()


@pytest.mark.parametrize(("kind", "name"), THINGS)
def test_a_page_shows_what_is_said_of_its_thing_and_runs_none_of_it(shop: Shop, kind: str, name: str) -> None:
    address = page(shop.hub, kind, name)
    said = shop.hub.json(address)["remarks"]
    assert (said["kind"], said["note"]) == (kind, PAYLOAD)
    assert [(tag["key"], tag["value"], tag["actor"]) for tag in said["tags"]] == [(PAYLOAD[:200], PAYLOAD, "owner")]
    assert said["comments"][0]["text"] == PAYLOAD.strip()
    assert said["open"]
    assert all(one["mine"] and one["actor"] == "owner" for one in said["comments"])
    _, body = shop.hub.ask("GET", address, accept="text/html")
    assert PAYLOAD not in body.decode()
    assert f'action="/comments/{kind}/' in body.decode()
    shown = "".join(read(shop.hub, address).text)
    assert PAYLOAD.strip()[:40] in shown
    assert "Where are you?" in shown


@pytest.mark.parametrize(("kind", "name"), [one for one in THINGS if one[0] != "branch"])
def test_a_page_as_of_a_time_shows_what_had_been_said_and_nothing_to_press(shop: Shop, kind: str, name: str) -> None:
    address = page(shop.hub, kind, name)
    then = iso(time.time_ns() // 1000)
    time.sleep(0.01)
    assert ask(shop.hub, "POST", f"/v1/comments/{kind}/{name}", {"text": "Said later."})[0] == 201
    before, now = shop.hub.json(f"{address}?as-of={quote(then)}")["remarks"], shop.hub.json(address)["remarks"]
    assert [one["text"] for one in now["comments"]] == [*(one["text"] for one in before["comments"]), "Said later."]
    assert not before["open"]
    assert not any(one["mine"] for one in before["comments"])
    _, body = shop.hub.ask("GET", f"{address}?as-of={quote(then)}", accept="text/html")
    assert 'action="/comments/' not in body.decode()


def test_the_form_of_a_page_adds_a_comment_and_its_author_withdraws_it(shop: Shop) -> None:
    text = "Line one.\r\nLine <b>two</b>: ü, 中, " + "x" * (LONGEST - 40)
    form = {"content_type": FORM, "origin": shop.hub.url}
    response, _ = shop.hub.ask("POST", "/comments/table/reads/add", urlencode({"text": text}).encode(), **form)
    assert (response.status, response.headers["location"]) == (303, "/tables/reads#comments")
    said = shop.hub.json("/tables/reads")["remarks"]["comments"][-1]
    assert said["text"] == text.replace("\r\n", "\n")
    response, _ = shop.hub.ask("POST", f"/comments/{said['id']}/withdraw", b"", **form)
    assert (response.status, response.headers["location"]) == (303, "/tables/reads#comments")
    after = shop.hub.json("/tables/reads")["remarks"]["comments"][-1]
    assert (after["id"], after["text"], after["withdrawn"], after["mine"]) == (said["id"], "", True, False)
    assert "Line <b>two" not in "".join(read(shop.hub, "/tables/reads").text)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "0 characters"),
        (urlencode({"text": " \r\n"}).encode(), "0 characters"),
        (urlencode({"text": "ä" * (LONGEST + 1)}).encode(), f"{LONGEST + 1} characters"),
        (b"text=" + b"a" * 150_000, "150005 bytes"),
        (b"a=1&b=2&c=3&d=4&text=5", "more than 4 fields"),
    ],
)
def test_a_form_that_holds_no_comment_is_refused(shop: Shop, body: bytes, why: str) -> None:
    before = shop.hub.json("/tables/reads")["remarks"]["comments"]
    given = {"content_type": FORM, "origin": shop.hub.url, "accept": "text/html"}
    response, said = shop.hub.ask("POST", "/comments/table/reads/add", body, **given)
    assert response.status == 400
    assert why in said.decode()
    assert shop.hub.json("/tables/reads")["remarks"]["comments"] == before


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("person", "ann"),
        (quote("<script>", safe=""), "x"),
        *((kind, "nothing-of-the-kind") for kind in KINDS),
        ("version", "stay@999"),
        ("column", "reads"),
        ("column", "reads.nothing"),
        ("column", "nothing.page"),
        ("event", "intake:64"),  # it is in quarantine
        ("event", "intake:999999"),
        ("event", "nowhere:1"),
        ("event", "intake:" + "9" * 30),
        ("item", "intake:1"),  # it is not
        ("item", "intake:x"),
        ("alert", "%"),
        ("prediction", "intake:1"),
        ("prediction", "e1"),  # an event of another type
        ("version", "stay@" + "9" * 30),
        ("table", quote("../../etc/passwd", safe="")),
        ("table", quote("reads; drop table comments", safe="")),
    ],
)
def test_what_is_not_there_is_not_commented_on(shop: Shop, kind: str, name: str) -> None:
    for method, path, body in (
        ("POST", f"/v1/comments/{kind}/{name}", {"text": "Hello."}),
        ("PUT", f"/v1/labels/{kind}/{name}", {"tags": {"a": "b"}}),
    ):
        status, said = ask(shop.hub, method, path, body)
        assert status == 404, said
        assert not unquote(kind).startswith("<") or "model, version" in str(said)
    assert "Hello." not in str(shop.hub.json("/search?q=Hello.")["hits"])


def test_who_may_only_look_sees_what_is_said_and_no_form(shop: Shop) -> None:
    viewer, trainer = token(shop.hub, "looker", "viewer"), token(shop.hub, "tina", "trainer")
    assert ask(shop.hub, "POST", "/v1/comments/table/reads", {"text": "I may not."}, **viewer)[0] == 403
    form = {"content_type": FORM, "origin": shop.hub.url}
    assert shop.hub.ask("POST", "/comments/table/reads/add", b"text=No", **form, **viewer)[0].status == 403
    status, made = ask(shop.hub, "POST", "/v1/comments/table/reads", {"text": "By Tina."}, **trainer)
    assert (status, made["actor"]) == (201, "tina")
    assert ask(shop.hub, "DELETE", f"/v1/comments/{made['id']}", **viewer)[0] == 403
    status, said = ask(shop.hub, "DELETE", f"/v1/comments/{made['id']}")
    assert status == 403
    assert "it is by tina, you are owner" in str(said)
    seen = shop.hub.json("/tables/reads", **viewer)["remarks"]
    assert (seen["open"], seen["comments"][-1]["text"], seen["comments"][-1]["mine"]) == (False, "By Tina.", False)
    _, body = shop.hub.ask("GET", "/tables/reads", accept="text/html", **viewer)
    assert 'action="/comments/' not in body.decode()
    assert ask(shop.hub, "DELETE", f"/v1/comments/{made['id']}", **trainer)[1]["withdrawn"]


@pytest.mark.parametrize(("kind", "name"), THINGS)
def test_comments_and_notes_are_found_and_lead_to_their_thing(shop: Shop, kind: str, name: str) -> None:
    word = f"wombat {kind}"
    _, made = ask(shop.hub, "POST", f"/v1/comments/{kind}/{name}", {"text": f"Seen a {word} here."})
    (hit,) = shop.hub.json("/search?" + urlencode({"q": word}))["hits"]
    assert hit["kind"] == "comment"
    where, _, anchor = hit["address"].partition("#")
    assert f'id="{anchor}"' in shop.hub.ask("GET", where, accept="text/html")[1].decode()
    assert ask(shop.hub, "DELETE", f"/v1/comments/{made['id']}")[0] == 200
    assert shop.hub.json("/search?" + urlencode({"q": word}))["hits"] == []


def test_a_column_shows_what_is_said_of_it_in_its_table(shop: Shop) -> None:
    def column(path: str = "/tables/reads") -> Any:
        return next(one for one in shop.hub.json(path)["columns"] if one["name"] == "page")["remarks"]

    assert column()["note"] == PAYLOAD
    then = iso(time.time_ns() // 1000)
    time.sleep(0.01)
    status, made = ask(shop.hub, "POST", "/v1/comments/column/reads.page", {"text": "A narwhal counted it."})
    assert (status, made["object"]) == (201, "column reads.page")
    assert column()["comments"][-1]["text"] == "A narwhal counted it."
    assert "narwhal" not in str(column(f"/tables/reads?as-of={quote(then)}"))
    others = [one["remarks"] for one in shop.hub.json("/tables/reads")["columns"] if one["name"] != "page"]
    assert not any(others)
    _, body = shop.hub.ask("GET", "/tables/reads", accept="text/html")
    assert PAYLOAD not in body.decode() and f'id="comment-{made["id"]}"' in body.decode()
    assert "A narwhal counted it." in "".join(read(shop.hub, "/tables/reads").text)
    (hit,) = shop.hub.json("/search?q=narwhal")["hits"]
    assert (hit["name"], hit["address"]) == ("column reads.page", f"/tables/reads#comment-{made['id']}")
    assert ask(shop.hub, "DELETE", f"/v1/comments/{made['id']}")[0] == 200
    assert "narwhal" not in shop.hub.ask("GET", "/tables/reads", accept="text/html")[1].decode()


def test_an_event_that_waits_is_not_called_an_event(shop: Shop) -> None:
    status, said = ask(shop.hub, "POST", "/v1/comments/event/intake:64", {"text": "Why?"})
    assert status == 404
    assert "it is in quarantine" in str(said) and "item intake:64" in str(said)
    status, made = ask(shop.hub, "POST", "/v1/comments/event/e7", {"text": "By its id."})
    assert (status, made["object"]) == (201, "event intake:9")


@pytest.mark.parametrize("id", ["a b", "a%41", "ü?#", "a:b@1", "x" * 150])
def test_a_prediction_of_any_id_is_commented_on(shop: Shop, id: str) -> None:
    shop.ask(VISITOR, id, 2.0)
    status, made = ask(shop.hub, "POST", f"/v1/comments/prediction/{quote(id, safe='')}", {"text": "Odd."})
    assert (status, made["object"]) == (201, f"prediction {id}")
    address = KINDS["prediction"].address(id)
    assert shop.hub.json(address)["remarks"]["comments"][-1]["text"] == "Odd."
    form = {"content_type": FORM, "origin": shop.hub.url}
    path = f"/comments/prediction/{quote(id, safe='')}/add"
    response, _ = shop.hub.ask("POST", path, b"text=Odder.", **form)
    assert (response.status, response.headers["location"]) == (303, f"{address}#comments")
