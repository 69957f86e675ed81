"""R26: without a sign-in, every route and socket answers 401 or 403, but for a short list; none is forgotten."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sampan.api.policies import POLICIES, PUBLIC, Policies
from sampan.base.errors import SampanError
from tests.hub.conftest import Hub, environment

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")

LIVE = """
import sys
from pathlib import Path
from sampan.app import App
from sampan.app.hub import RunningHub
from sampan.api.dispatch import Dispatch
from sampan.api.site import live_routes, site

app = App(Path(sys.argv[1]))
hub = RunningHub(app, "127.0.0.1", 1)
hub.writer = None
for method, path in sorted({*live_routes(site(hub._routes())), *Dispatch.routes()}):
    print(method, path)
"""


@pytest.fixture(scope="module")
def routes(hub: Hub) -> list[tuple[str, str]]:
    """The routes that the application really has, asked of the application."""
    done = subprocess.run(
        [sys.executable, "-c", LIVE, str(hub.folder)], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    found = [tuple(line.split(" ", 1)) for line in done.stdout.splitlines()]
    assert len(found) > 30
    return found  # type: ignore[return-value]


def test_the_table_of_policies_and_the_live_routes_are_the_same(routes: list[tuple[str, str]]) -> None:
    assert set(routes) == set(POLICIES)


def test_only_health_sign_in_and_static_files_are_public() -> None:
    assert {path for _, path in PUBLIC} <= {"/health", "/healthz", "/readyz", "/sign-in", "/static/{name}"}


def test_no_route_answers_a_stranger_with_any_method(hub: Hub, routes: list[tuple[str, str]]) -> None:
    """All methods on all paths: templates filled, with a slash behind, in capitals, below."""
    others = {"/docs", "/schema", "/openapi.json", "/metrics", "/nothing"}
    requests = []
    for template in sorted({path for _, path in routes} | others):
        filled = re.sub(r"{\w+}", "x", template)
        for path in {filled, filled + "/", filled + "/x", filled.upper(), "/" + filled, filled + "?format=json"}:
            for method in METHODS:
                known = path.partition("?")[0] == filled
                if not (known and ("GET" if method == "HEAD" else method, template) in PUBLIC):
                    requests.append((method, path))
    assert len(requests) > 1500
    for method, path, status in hub.statuses(requests):
        assert status in (401, 403), (method, path)


def test_no_socket_opens_for_a_stranger(hub: Hub, routes: list[tuple[str, str]]) -> None:
    for template in sorted({path for _, path in routes}):
        path = re.sub(r"{\w+}", "x", template)
        if ("GET", template) in PUBLIC:
            continue
        answer = hub.raw(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{hub.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert answer.split(b" ", 2)[1] in (b"401", b"403"), (path, answer[:200])


def test_a_wrong_token_is_no_token(hub: Hub) -> None:
    for wrong in ("", "smp_", hub.token[:-1], hub.token + "0", "admin", "x" * 5000, "smp_" + "0" * 38):
        response, _ = hub.ask("GET", "/tables", authorization=f"Bearer {wrong}")
        assert response.status == 401, wrong
    for scheme in ("Basic", "Token", ""):
        response, _ = hub.ask("GET", "/tables", authorization=f"{scheme} {hub.token}".strip())
        assert response.status == 401, scheme


def test_the_names_of_objects_change_no_decision(hub: Hub) -> None:
    for name in ("health", "x-ready", "static", "sign-in", "..", "%2e%2e", "health%2f..", "A%2Fa", "health;x"):
        response, _ = hub.ask("GET", f"/tables/{name}", token=False)
        assert response.status == 401, name


def test_a_route_without_a_policy_stops_the_start(workspace: Path) -> None:
    script = (
        "from pathlib import Path; import sys\n"
        "from sampan.hub import sitemap\n"
        "sitemap.PAGES = (*sitemap.PAGES, sitemap.PAGES[0]._replace(path='/dummy'))\n"
        "sys.argv = ['sampan', '-C', sys.argv[1], 'up', '--port', '0']\n"
        "from sampan.app import main; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(workspace)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        check=False,
    )
    assert done.returncode == 3
    assert "the route GET /dummy has no policy" in done.stderr
    assert "Traceback" not in done.stderr
    assert "up at" not in done.stdout


def test_a_policy_without_a_route_is_noticed_too() -> None:
    with pytest.raises(SampanError, match="has no route"):
        Policies({**POLICIES, ("GET", "/gone"): "read"}).check(POLICIES)
