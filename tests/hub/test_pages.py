"""Every page over real HTTP: it renders full and empty, its twin says the same, nothing stored runs in it."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sampan.hub.render import parted, seconds, share
from tests.hub.conftest import Hub, make_workspace, sampan, visit

NASTY = "<script>alert(1)</script><img src=x onerror=alert(1)>'\"&"
PAGES = [
    "/",
    "/log",
    "/quarantine",
    "/contracts",
    "/tables",
    "/runs",
    "/experiments",
    "/plan",
    "/models",
    "/impact",
    "/endpoints",
    "/predictions",
    "/alerts",
    "/storage",
    "/settings",
    "/patterns",
]


class Reader(HTMLParser):
    """Tags, links and headings of a page; fails on what must not be in one."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        assert "style" not in given, "a style attribute would be blocked"
        assert not [name for name in given if name.startswith("on")], given
        if tag == "script":
            assert (given.get("src") or "").startswith(("/static/", "/charts/")), "a script inside the page"
        if tag == "a":
            assert given.get("href"), "a link to nowhere"
            self.links.append(str(given["href"]))
        if tag in ("input", "select") and given.get("type") != "hidden":
            assert "label" in self.open or given.get("aria-label"), "a field without a name"
        if tag == "svg":
            assert given.get("aria-hidden") or given.get("aria-label"), "a picture without words"
        if tag not in ("meta", "link", "input", "br", "path", "rect", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with events, quarantine, tables, a run, a failed run, and names that would like to run."""
    folder = make_workspace(tmp_path_factory.mktemp("full") / "shop")
    (folder / "steps.py").write_text(
        "from sampan import step\n\n\n@step\ndef loud(pages: list) -> int:\n"
        f"    print({NASTY!r})\n    return len(pages)\n\n\n"
        f"@step\ndef sad(loud: int) -> int:\n    raise ValueError({NASTY!r})\n"
    )
    hub = Hub(folder)
    hub.send(*[{**visit(str(n), page=NASTY), "subject": f"v{n}"} for n in range(60)])
    hub.send(visit("bad", seconds=-1), visit("worse", page=7), visit(NASTY, seconds=NASTY))
    hub.ask("POST", "/v1/events", NASTY.encode())
    assert sampan(folder, "run", "pages").returncode == 0
    assert sampan(folder, "run").returncode == 3
    yield hub
    assert hub.stop() == 0


def read(hub: Hub, path: str) -> Reader:
    response, body = hub.ask("GET", path, accept="text/html")
    assert response.status == 200, (path, body)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    html = body.decode()
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "Undefined" not in html
    found = Reader(html)
    assert found.tags.count("h1") == 1
    assert found.tags.count("main") == 1
    return found


@pytest.mark.parametrize("path", PAGES)
def test_a_page_of_an_empty_workspace_says_what_to_do_next(hub: Hub, path: str) -> None:
    text = " ".join(read(hub, path).text)
    if path not in ("/patterns",):
        assert "sampan " in text or "contracts.py" in text


def stands_alone(hub: Hub, path: str) -> None:
    """A page that is saved needs no hub: it has its look in it, nothing leads anywhere, nothing can be pressed."""
    response, body = hub.ask("GET", path + ("&" if "?" in path else "?") + "format=file", accept="text/html")
    assert response.headers["content-disposition"].startswith("attachment; filename=")
    page = Reader(body.decode())
    assert not [link for link in page.links if link.startswith("/")], path
    assert "style" in page.tags
    assert not {"form", "script", "nav", "link"} & set(page.tags), path


def test_every_page_that_can_be_reached_renders_and_has_a_twin(full: Hub) -> None:
    """Follow every link from the overview on."""
    waiting, seen = ["/patterns", "/"], set()
    while waiting:
        path = waiting.pop()
        plain = path.partition("#")[0]
        if plain in seen or plain.startswith("?") or not plain:
            continue
        seen.add(plain)
        waiting += [link for link in read(full, plain).links if link.startswith("/") and "example" not in link]
        for _ in range(5):  # a page may change between two requests: what a table holds is still being counted
            twin = full.json(plain)
            assert isinstance(twin, dict)
            asked = full.ask("GET", plain + ("&" if "?" in plain else "?") + "format=json", accept="text/html")[1]
            again = json.loads(asked)
            for one in (twin, again):
                one.pop("free", None)  # of a disk that others write to
            if again == twin:
                break
        if plain not in ("/",):
            assert again == twin
        stands_alone(full, plain)
    templates = {re.sub(r"/[^/?]*\d[^/?]*", "/#", path.partition("?")[0]) for path in seen}
    assert {"/log/#", "/quarantine/#", "/tables/pages", "/runs/#", "/runs/#/logs/loud.log"} <= templates
    assert len(seen) > 80


def test_bytes_in_quarantine_are_shown_and_do_not_run(full: Hub) -> None:
    items = full.json("/quarantine")["items"]
    assert len(items) == 4
    shown = {full.json(f"/quarantine/{item['position']}")["raw"] for item in items}
    assert NASTY in shown


def test_pages_go_on_where_the_one_before_ended(full: Hub) -> None:
    first = full.json("/log?type=visit")
    second = full.json(f"/log?type=visit&after={first['next']}")
    places = [event["position"] for event in first["events"] + second["events"]]
    assert len(places) == len(set(places)) == 60
    assert second["next"] is None


def test_the_log_can_be_searched(full: Hub) -> None:
    assert [event["id"] for event in full.json("/log?subject=v7")["events"]] == ["7"]
    assert [event["id"] for event in full.json("/log?id=7")["events"]] == ["7"]
    assert full.json("/log?id=none")["events"] == []
    assert "No event fits." in " ".join(read(full, "/log?id=none").text)


def test_a_run_shows_states_reasons_and_output(full: Hub) -> None:
    last = full.json("/runs")["runs"][0]
    page = full.json(f"/runs/{last['run']}")
    states = {step["name"]: step["state"] for step in page["steps"]}
    assert states == {"pages": "cached", "loud": "ran", "sad": "failed"}
    text = " ".join(read(full, f"/runs/{last['run']}").text)
    assert "Failed." in text
    assert "sampan sql --run" in text
    assert NASTY in full.json(f"/runs/{last['run']}/logs/loud.log")["text"]


@pytest.mark.parametrize(
    "path",
    [
        "/tables/none",
        "/runs/none",
        "/runs/last/logs/none.log",
        "/runs/last/logs/..%2f..%2ftoken",
        "/models/none/1",
        "/models/none/x",
        "/predictions/none",
        "/log/none",
        "/log/intake:999999",
        "/quarantine/intake:1",
        "/lineage/none",
        "/log?type=none",
        "/log?after=none",
        "/tables?ref=none",
        "/nothing",
    ],
)
def test_what_is_not_there_is_said_on_a_page_and_as_json(full: Hub, path: str) -> None:
    response, body = full.ask("GET", path, accept="text/html")
    assert response.status in (400, 404), body
    assert "Traceback" not in body.decode()
    Reader(body.decode())
    response, body = full.ask("GET", path, accept="application/json")
    assert response.status in (400, 404)
    assert set(json.loads(body)["error"]) == {"kind", "attempted", "obstacle", "advice"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/runs?limit=", 200),
        ("/contracts/visit?version=", 404),
        ("/models/spend/", 404),
        ("/log?after=intake:", 400),
        ("/quarantine?after=intake:", 400),
        ("/log/intake:", 400),
    ],
)
def test_a_number_of_thousands_of_digits_is_none(full: Hub, path: str, status: int) -> None:
    assert full.ask("GET", path + "9" * 5_000)[0].status == status


def test_an_error_is_shown_within_the_frame_to_whoever_is_signed_in(full: Hub) -> None:
    for path in ("/nothing", "/runs/none"):
        _, body = full.ask("GET", path, accept="text/html", cookie=full.sign_in())
        assert 'class="rail"' in body.decode(), path


def test_a_share_that_is_not_nothing_does_not_look_like_it() -> None:
    assert [str(share(value)) for value in (0.0, 0.0003, 0.553)] == ["0.0&nbsp;%", "&lt; 0.1&nbsp;%", "55.3&nbsp;%"]
    assert str(parted("a_<b>")) == "a_<wbr>&lt;b&gt;"


def test_no_path_leads_out_of_the_workspace(full: Hub) -> None:
    token = full.token.encode()
    for name in (
        "../token",
        "..%2ftoken",
        "%2e%2e%2ftoken",
        "....//token",
        "/etc/passwd",
        "%00",
        "..\\token",
        "a" * 3000,
    ):
        for template in ("/static/{}", "/runs/last/logs/{}", "/tables/{}", "/log/{}", "/models/{}/1", "/lineage/{}"):
            path = template.format(name)
            answer = full.raw(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{full.port}\r\nAuthorization: Bearer {full.token}\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            assert answer[9:12] in (b"400", b"404"), (path, answer[:300])
            assert token not in answer
            assert b"root:" not in answer


def test_a_stranger_with_a_browser_is_shown_how_to_sign_in(full: Hub) -> None:
    response, body = full.ask("GET", "/tables", token=False, accept="text/html,*/*")
    assert response.status == 401
    found = Reader(body.decode())
    assert "sampan token link" in " ".join(found.text)
    assert "form" in found.tags


def test_a_token_signs_a_browser_in_and_signing_out_ends_it(full: Hub) -> None:
    own = {"origin": full.url, "content_type": "application/x-www-form-urlencoded"}
    response, _ = full.ask("POST", "/sign-in", f"token={full.token}".encode(), token=False, **own)
    assert response.status == 303
    cookie = response.headers["set-cookie"].partition(";")[0]
    page = full.ask("GET", "/", cookie=cookie, accept="text/html")[1].decode()
    assert "Signed in as owner" in page
    assert full.ask("POST", "/sign-out", b"", cookie=cookie, origin=full.url)[0].status == 303
    assert full.ask("GET", "/", cookie=cookie)[0].status == 401


def test_static_files_are_kept_by_the_browser_only_under_their_stamp(full: Hub) -> None:
    page = full.ask("GET", "/tables", accept="text/html")[1].decode()
    (stamped,) = re.findall(r'href="(/static/app\.css\?\w+)"', page)
    assert "immutable" in full.ask("GET", stamped)[0].headers["cache-control"]
    assert full.ask("GET", "/static/app.css")[0].headers["cache-control"] == "no-cache"
    assert full.ask("GET", "/static/none")[0].status == 404


def test_head_is_get_without_its_body(full: Hub) -> None:
    response, body = full.ask("HEAD", "/tables", accept="text/html")
    assert response.status == 200
    assert body == b""


def test_the_styles_use_no_rule_that_a_page_may_not_use() -> None:
    import sampan.hub

    folder = Path(sampan.hub.__file__).parent / "templates"
    for template in folder.glob("*.html"):
        text = template.read_text()
        assert " style=" not in text, template
        assert "|safe" not in text, template
        assert "<script>" not in text, template


@pytest.mark.parametrize(
    ("took", "said"),
    [(61, "61 s"), (7199, "119 min 59 s"), (7200, "2 h 0 min"), (172_740, "47 h 59 min"), (180_000, "2 days 2 h")],
)
def test_long_durations_are_told_in_units_that_can_be_read(took: float, said: str) -> None:
    assert seconds(took) == said
