"""R30: what a page of another site makes a browser send changes nothing and learns nothing."""

import json
import re

import pytest

from sampan.api.policies import POLICIES
from tests.hub.conftest import Hub

UNSAFE = ("POST", "PUT", "PATCH", "DELETE", "MKCOL", "PROPFIND")
BODY = json.dumps({"name": "stolen", "role": "admin", "days": 1}).encode()
KINDS = ("application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x")


@pytest.fixture(scope="module")
def cookie(hub: Hub) -> str:
    return hub.sign_in()


def foreign(hub: Hub) -> list[dict[str, str]]:
    own = f"http://127.0.0.1:{hub.port}"
    return [
        {"sec_fetch_site": "cross-site", "origin": "https://evil.example"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site", "origin": "http://127.0.0.1:9999"},
        {"sec_fetch_site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": f"http://localhost:{hub.port}"},
        {"origin": f"{own}.evil.example"},
        {"origin": f"{own}/"},
        {"origin": "http://evil.example", "sec_fetch_site": "same-origin"},
        {},
    ]


def tokens(hub: Hub) -> list[str]:
    return [one["name"] for one in hub.json("/v1/tokens")["tokens"]]


def test_no_unsafe_request_of_a_foreign_page_gets_through(hub: Hub, cookie: str) -> None:
    for headers in foreign(hub):
        for method in UNSAFE:
            for kind in KINDS:
                response, _ = hub.ask(method, "/v1/tokens", BODY, cookie=cookie, content_type=kind, **headers)
                assert response.status == 403, (method, kind, headers)
    assert "stolen" not in tokens(hub)


def test_no_route_that_changes_something_takes_it_from_a_foreign_page(hub: Hub, cookie: str) -> None:
    changing = [(method, path) for method, path in POLICIES if method not in ("GET", "HEAD", "OPTIONS")]
    assert len(changing) > 10
    before = (hub.json("/v1/log/stats"), tokens(hub))
    for method, template in changing:
        path = re.sub(r"{\w+}", "x", template)
        for headers in foreign(hub):
            if template == "/sign-in" and not headers:
                continue  # signing in asks for a secret; a browser that says nothing may do it
            for kind in KINDS[:2]:
                response, body = hub.ask(method, path, BODY, cookie=cookie, content_type=kind, **headers)
                assert response.status == 403, (method, path, headers, body)
    assert before == (hub.json("/v1/log/stats"), tokens(hub))


def test_a_foreign_page_cannot_sign_anybody_in(hub: Hub) -> None:
    body = f"token={hub.token}".encode()
    for headers in foreign(hub)[:-1]:
        response, _ = hub.ask("POST", "/sign-in", body, token=False, **headers)
        assert response.status == 403, headers


def test_a_foreign_page_can_neither_embed_nor_read_pages(hub: Hub, cookie: str) -> None:
    for site in ("cross-site", "same-site"):
        for mode, dest in (("no-cors", "script"), ("cors", "empty"), ("navigate", "iframe"), ("navigate", "embed")):
            response, _ = hub.ask(
                "GET", "/log?format=json", cookie=cookie, sec_fetch_site=site, sec_fetch_mode=mode, sec_fetch_dest=dest
            )
            assert response.status == 403, (site, mode, dest)


def test_a_link_on_a_foreign_page_opens_ours(hub: Hub, cookie: str) -> None:
    headers = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    response, _ = hub.ask("GET", "/log", cookie=cookie, accept="text/html", **headers)
    assert response.status == 200


def test_no_foreign_origin_is_ever_reflected(hub: Hub, cookie: str) -> None:
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        for origin in ("https://evil.example", "null", "http://127.0.0.1:9999"):
            headers = {"origin": origin, "access_control_request_method": "DELETE"}
            for who in ({"cookie": cookie}, {}):
                response, _ = hub.ask(method, "/v1/tokens", **headers, **who)  # type: ignore[arg-type]
                assert not [name for name in response.headers if name.lower().startswith("access-control-")]


def test_our_own_page_may(hub: Hub, cookie: str) -> None:
    own = f"http://127.0.0.1:{hub.port}"
    for number, headers in enumerate(
        ({"sec_fetch_site": "same-origin", "origin": own}, {"sec_fetch_site": "same-origin"}, {"origin": own})
    ):
        body = json.dumps({"name": f"mine{number}", "role": "viewer"}).encode()
        response, said = hub.ask(
            "POST",
            "/v1/tokens",
            body,
            cookie=cookie,
            content_type="application/json",
            **headers,  # type: ignore[arg-type]
        )
        assert response.status == 201, said


def test_a_client_with_a_token_is_not_a_browser(hub: Hub) -> None:
    body = json.dumps({"name": "machine", "role": "viewer"}).encode()
    response, said = hub.ask("POST", "/v1/tokens", body, origin="https://notebook.example", sec_fetch_site="cross-site")
    assert response.status == 201, said


def test_every_answer_that_a_browser_may_show_carries_the_headers(hub: Hub, cookie: str) -> None:
    for path, who in (
        ("/", {"cookie": cookie}),
        ("/health", {}),
        ("/nothing", {}),
        ("/static/app.css", {}),
        ("/v1/events", {"cookie": cookie}),
        ("/predict/nothing", {"token": False}),
    ):
        response, _ = hub.ask("GET", path, **who)  # type: ignore[arg-type]
        policy = response.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "default-src 'none'" in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"]
        assert "server" not in response.headers


def test_the_cookie_is_out_of_reach_of_scripts(hub: Hub) -> None:
    response, body = hub.ask("POST", "/v1/links", b"{}", content_type="application/json")
    response, _ = hub.ask("GET", json.loads(body)["link"].removeprefix(hub.url), token=False)
    crumbs = response.headers["set-cookie"]
    assert "HttpOnly" in crumbs
    assert "SameSite=Lax" in crumbs
    assert "Path=/" in crumbs
    assert "Domain" not in crumbs
    assert response.headers["location"] == "/"
