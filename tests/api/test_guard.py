"""The guard alone: sockets, templates, and what a policy's act means. Over HTTP it is tested in tests/hub."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.api.guard import Guard, Hosts
from sampan.api.policies import POLICIES, PUBLIC, Policies
from sampan.base.clock import SystemClock
from sampan.store.database import Database
from sampan.team.gate import Gate
from sampan.team.roles import PRINCIPAL, ROLES

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


NAMED = (
    "health x-ready static api sign-in v1 events .. . %2e %2e%2e A%2Fa healthz log logs app.css openapi last GET * x?y"
)
TRICKY = st.sampled_from([*NAMED.split(), "x;health", "x#y", "health\0", " ", "{name}", "{run}", "HEALTH"])
TEMPLATED = sorted({path for _, path in POLICIES if "{" in path})


def fill(template: str, name: str) -> str:
    return re.sub(r"{\w+}", lambda _: name, template)


@given(NAMES | TRICKY)
def test_the_name_of_an_object_decides_nothing(name: str) -> None:
    policies = Policies()
    for template in TEMPLATED:
        path = fill(template, name)
        if path not in {exact for _, exact in POLICIES}:
            assert policies.acts(path) == policies.acts(fill(template, "0d5c8b1e")), path


def test_no_route_with_a_fixed_name_allows_more_than_an_object_of_that_name_would() -> None:
    """Where both ``/x/{name}`` and ``/x/fixed`` exist, an object named ``fixed`` opens nothing."""
    for _, exact in POLICIES:
        for template in TEMPLATED:
            shape = re.fullmatch(fill(template, "[^/]+"), exact)
            if shape and "{" not in exact:
                for method, act in (Policies().acts(exact) or {}).items():
                    assert act in (POLICIES.get((method, template), act), "administer"), (exact, template)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Door, dict[str, str]]]:
    """A guard with the real policies, and a secret for each role."""
    db = Database(tmp_path_factory.mktemp("front") / "records.db", writable=True)
    door = Door(Gate(db, SystemClock(), ["owner"]))
    door.guard = Guard(door._app, policies=Policies(), gate=door.gate, hosts=Hosts("127.0.0.1", 7267), cookie="crumb")
    yield door, {role: door.gate.tokens.create(role, role)[1] for role in ROLES}
    db.close()


VARIANTS = st.sampled_from(
    ["{}", "/{}", "{}/", "{}//", "/.{}", "{}/.", "{}/..", "/static{}", "/health/..{}", "{}%00", "{};x"]
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(POLICIES)), NAMES | TRICKY, VARIANTS, st.booleans())
def test_no_spelling_of_a_route_lets_anybody_do_what_its_plain_form_does_not(
    front: tuple[Door, dict[str, str]], route: tuple[str, str], name: str, variant: str, loud: bool
) -> None:
    """Strangers and every role: a tricky name or a bent path is refused where the plain one is."""
    door, secrets = front
    method, template = route
    bent = variant.format(fill(template, name))
    bent = bent.upper() if loud else bent
    for secret in (None, *secrets.values()):
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        plain = door.status(fill(template, "0d5c8b1e"), method=method, **headers)
        seen = door.status(bent, method=method, **headers)
        if seen == 200 and plain != 200:
            acts = Policies().acts(bent) or {}  # then it is the plain form of another route, which allows it by itself
            assert bent in {path for _, path in POLICIES} or acts.get(method) == "anybody" == (
                "anybody" if re.fullmatch(r"/static/[^/]+", bent) else ""
            ), (method, bent)


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
