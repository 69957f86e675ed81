"""The guard alone: sockets, templates, and what a policy's act means. Over HTTP it is tested in tests/hub."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.guard import Guard, Hosts
from sampan.api.policies import POLICIES, PUBLIC, Policies
from sampan.base.clock import SystemClock
from sampan.store.database import Database
from sampan.team.gate import Gate
from sampan.team.roles import PRINCIPAL

TABLE = {
    ("GET", "/health"): "anybody",
    ("GET", "/things/{name}"): "read",
    ("WEBSOCKET", "/live"): "read",
    ("DELETE", "/things/{name}"): "administer",
}


class Door:
    """A guard in front of an application that notes what it let through."""

    def __init__(self, gate: Gate) -> None:
        self.seen: list[dict[str, Any]] = []
        self.gate = gate
        self.guard = Guard(
            self._app, policies=Policies(TABLE), gate=gate, hosts=Hosts("127.0.0.1", 7267), cookie="crumb"
        )

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope)
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    def knock(self, path: str, *, kind: str = "http", method: str = "GET", **headers: str) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        pairs = {"host": "127.0.0.1:7267", **headers}
        scope: dict[str, Any] = {
            "type": kind,
            "path": path,
            "query_string": b"",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in pairs.items()],
        }
        if kind == "http":
            scope["method"] = method

        async def receive() -> dict[str, Any]:
            return {"type": f"{kind}.connect" if kind == "websocket" else "http.request"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        asyncio.run(self.guard(scope, receive, send))
        return sent

    def status(self, path: str, **more: Any) -> int:
        return int(self.knock(path, **more)[0]["status"])


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    db = Database(tmp_path / "records.db", writable=True)
    yield Door(Gate(db, SystemClock(), ["owner"]))
    db.close()


OWNER = {"authorization": "Bearer owner"}


def test_a_socket_needs_what_a_page_needs(door: Door) -> None:
    closed = door.knock("/live", kind="websocket")
    assert closed == [{"type": "websocket.close", "code": 4401, "reason": "nobody is signed in"}]
    assert door.knock("/live", kind="websocket", host="evil.example", **OWNER)[0]["code"] == 4421
    assert door.knock("/other", kind="websocket", **OWNER)[0]["code"] == 4404
    assert door.knock("/things/x", kind="websocket", **OWNER)[0]["code"] == 4405
    assert not door.seen
    assert door.knock("/live", kind="websocket", **OWNER) == []
    assert door.seen[0][PRINCIPAL].name == "owner"


def test_a_socket_of_a_foreign_page_is_refused_though_the_cookie_is_right(door: Door) -> None:
    cookie = f"crumb={door.gate.sessions.open(door.gate.owner)}"
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec_fetch_site": "same-site"}, {}):
        assert door.knock("/live", kind="websocket", cookie=cookie, **headers)[0]["code"] == 4403, headers
    assert not door.seen
    assert door.knock("/live", kind="websocket", cookie=cookie, origin="http://127.0.0.1:7267") == []


def test_any_other_kind_of_scope_is_not_let_through_unseen(door: Door) -> None:
    assert door.status("/things/x") == 401
    assert not door.seen


def test_head_is_get_and_options_is_answered_here(door: Door) -> None:
    assert door.status("/things/x", method="HEAD", **OWNER) == 200
    assert door.status("/things/x", method="OPTIONS") == 401
    answer = door.knock("/things/x", method="OPTIONS", **OWNER)[0]
    assert answer["status"] == 204
    assert dict(answer["headers"])[b"allow"] == b"DELETE, GET, HEAD, OPTIONS"
    assert door.status("/things/x", method="BREW", **OWNER) == 405


def test_a_role_may_what_it_may(door: Door) -> None:
    _, viewer = door.gate.tokens.create("ann", "viewer")
    headers = {"authorization": f"Bearer {viewer}"}
    assert door.status("/things/x", **headers) == 200
    assert door.status("/things/x", method="DELETE", **headers) == 403
    assert door.status("/things/x", method="DELETE", **OWNER) == 200


def test_the_second_of_two_cookies_counts_as_well(door: Door) -> None:
    value = door.gate.sessions.open(door.gate.owner)
    assert door.status("/things/x", cookie=f"other=1; crumb={value}") == 200
    assert door.status("/things/x", cookie=f"crumb=wrong-wrong-wrong-wrong; other={value}") == 401


NAMES = st.text(st.characters(exclude_characters="/", exclude_categories=("Cs",)), min_size=1, max_size=30)


@given(NAMES)
def test_the_name_of_an_object_decides_nothing(name: str) -> None:
    policies = Policies()
    for template in ("/tables/{}", "/runs/{}", "/predictions/{}", "/predict/{}"):
        assert policies.acts(template.format(name)) == policies.acts(template.format("x"))


@given(st.text(max_size=40))
def test_only_the_listed_paths_are_public(path: str) -> None:
    acts = Policies().acts(path) or {}
    for method, act in acts.items():
        if act == "anybody":
            assert (method, path) in PUBLIC or (path.startswith("/static/") and path.count("/") == 2)


@given(st.sampled_from(sorted(POLICIES)), st.sampled_from(["/", "//", "/.", "/..", "%2f", " ", "\x00", "?", ";x"]))
def test_a_path_matches_exactly_or_not_at_all(route: tuple[str, str], more: str) -> None:
    path = route[1].replace("{", "").replace("}", "")
    if path == "/":
        return
    acts = Policies().acts(path + more) or {}
    assert "anybody" not in acts.values() or path.startswith("/static/")
    assert Policies().acts(path.upper()) is None or path.upper() == path or "{" in route[1]
