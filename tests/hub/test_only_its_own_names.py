"""R29: a request whose Host is not one of the hub's is refused before anything else looks at it."""

import pytest

from tests.hub.conftest import Hub

FOREIGN = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1",
    "127.0.0.1:1",
    "127.0.0.2:{port}",
    "localhost",
    "localhost:{port}.",
    "localhost.:{port}",
    "localhost.evil.example:{port}",
    "evil.localhost:{port}",
    "user@localhost:{port}",
    "localhost:{port}@evil.example",
    "2130706433:{port}",
    "0x7f000001:{port}",
    "127.1:{port}",
    "0.0.0.0:{port}",
    "[::]:{port}",
    "[::ffff:127.0.0.1]:{port}",
    "localhost:{port},evil.example",
    "localhost:0{port}",
    "",
]
OWN = ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}", "LocalHost:{port}", "[::1]:{port}"]


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def ask(hub: Hub, host: str, path: str = "/health", more: str = "") -> int:
    named = host.format(port=hub.port)
    auth = f"Authorization: Bearer {hub.token}\r\n"
    return status(hub.raw(f"GET {path} HTTP/1.1\r\nHost: {named}\r\n{auth}{more}Connection: close\r\n\r\n".encode()))


@pytest.mark.parametrize("host", FOREIGN)
def test_a_foreign_host_is_refused_even_with_the_right_token(hub: Hub, host: str) -> None:
    for path in ("/health", "/tables", "/v1/log/stats", "/static/app.css", "/nothing"):
        assert ask(hub, host, path) == 421, path


@pytest.mark.parametrize("host", OWN)
def test_its_own_names_are_answered(hub: Hub, host: str) -> None:
    assert ask(hub, host) == 200


def test_two_hosts_are_refused(hub: Hub) -> None:
    own = f"127.0.0.1:{hub.port}"
    for second in (own, "evil.example"):
        assert ask(hub, own, more=f"Host: {second}\r\n") == 421


def test_no_host_is_refused(hub: Hub) -> None:
    assert status(hub.raw(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")) in (400, 421)
    assert status(hub.raw(b"GET /health HTTP/1.0\r\n\r\n")) in (400, 421)


def test_an_absolute_target_does_not_get_around_it(hub: Hub) -> None:
    own = f"127.0.0.1:{hub.port}"
    for target in ("http://evil.example/health", f"http://evil.example:{hub.port}/tables", f"http://{own}/health"):
        request = f"GET {target} HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\n\r\n"
        assert status(hub.raw(request.encode())) == 421, target


def test_a_socket_from_a_foreign_host_is_refused(hub: Hub) -> None:
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
    request = f"GET /log HTTP/1.1\r\nHost: evil.example\r\nAuthorization: Bearer {hub.token}\r\n{upgrade}\r\n"
    assert status(hub.raw(request.encode())) == 421
