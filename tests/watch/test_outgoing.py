"""Calls that leave the machine reach no address of this machine or network, however it is written (R35)."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.base.errors import Refused, SampanError, Unreachable, Usage
from sampan.base.outgoing import Outgoing, public
from sampan.watch import apprise
from sampan.watch.alerts import Compose
from sampan.watch.limits import Alerting, Target
from sampan.watch.watch import test as send_test
from tests.watch.conftest import SECRET, Receiver


class Canary:
    """Listens on this machine and counts who comes."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET, host: str = "127.0.0.1") -> None:
        self.connections = 0
        self._socket = socket.socket(family)
        self._socket.bind((host, 0))
        self._socket.listen()
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    made = Canary()
    yield made
    made.close()


@pytest.fixture
def canary6() -> Iterator[Canary]:
    made = Canary(socket.AF_INET6, "::1")
    yield made
    made.close()


FORMS = (
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "0",
    "0.0.0.0",
    "localhost",
    "LOCALHOST",
    "127.0.0.1.",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[::1%25lo]",
)


@pytest.mark.parametrize("host", FORMS)
def test_no_way_of_writing_this_machine_reaches_it(host: str, canary: Canary, canary6: Canary) -> None:
    for port in (canary.port, canary6.port):
        with pytest.raises((Refused, Unreachable)):
            Outgoing().post(f"http://{host}:{port}/", b"{}", {})
    time.sleep(0.02)
    assert canary.connections + canary6.connections == 0


def test_whoever_takes_no_call_is_named_in_words() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unreachable, match=rf"127\.0\.0\.1 port {port}: Connection refused"):
        Outgoing({("127.0.0.1", port)}).post(f"http://127.0.0.1:{port}/", b"{}", {})


def test_the_canary_sings_when_it_is_called(canary: Canary) -> None:
    with pytest.raises(Unreachable):
        Outgoing({("127.0.0.1", canary.port)}).post(f"http://0x7f.1:{canary.port}/", b"{}", {})
    time.sleep(0.05)
    assert canary.connections == 1


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "100.100.100.200",
        "169.254.169.254",
        "169.254.170.2",
        "168.63.129.16",
        "192.0.0.192",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
        "0.1.2.3",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:a9fe:a9fe",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:0:1::1",
        "2001:db8::1",
        "not an address",
        "",
    ],
)
def test_what_is_not_public_is_known_as_such(address: str) -> None:
    assert not public(address)
    with pytest.raises((Refused, ValueError)):
        Outgoing(resolve=lambda host, port: [address]).post("http://hook.example/", b"{}", {})


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_are_public(address: str) -> None:
    assert public(address)


def test_one_private_address_among_public_ones_is_enough_to_refuse(canary: Canary) -> None:
    outgoing = Outgoing(resolve=lambda host, port: ["1.1.1.1", "127.0.0.1"])
    with pytest.raises(Refused, match=r"127\.0\.0\.1 is not a public one"):
        outgoing.post(f"http://hook.example:{canary.port}/", b"{}", {})
    assert canary.connections == 0


def test_a_name_whose_answer_changes_is_asked_once(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever controls a name answers with a public address first, then with this machine's."""
    answers = iter([["192.88.99.1"], ["127.0.0.1"], ["127.0.0.1"]])
    asked: list[str] = []
    connected: list[Any] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    def connect(address: Any, timeout: float) -> Any:
        connected.append(address)
        raise ConnectionRefusedError("nobody there")

    monkeypatch.setattr("sampan.base.outgoing.public", lambda text: text != "127.0.0.1")
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(Unreachable):
        Outgoing(resolve=resolve).post(f"http://rebind.example:{canary.port}/", b"{}", {})
    assert asked == ["rebind.example"]
    assert connected == [("192.88.99.1", canary.port)], "the address that was looked at, not the name"
    assert canary.connections == 0


def test_redirects_are_not_followed(receiver: Receiver, canary: Canary) -> None:
    receiver.status = 307
    receiver.headers = {"location": f"http://127.0.0.1:{canary.port}/"}
    outgoing = Outgoing({("127.0.0.1", receiver.port)})
    assert outgoing.post(receiver.url, b"{}", {}) == 307
    assert canary.connections == 0


def test_the_host_header_and_the_path_are_those_of_the_address(receiver: Receiver) -> None:
    outgoing = Outgoing({("127.0.0.1", receiver.port)}, resolve=lambda host, port: ["127.0.0.1"])
    assert outgoing.post(f"http://hook.example:{receiver.port}/a/b?c=d", b"{}", {"X": "y"}) == 200
    headers, _ = receiver.got[0]
    assert headers["Host"] == f"hook.example:{receiver.port}"
    assert headers["X"] == "y"


def test_proxies_of_the_environment_are_not_asked(
    receiver: Receiver, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    assert Outgoing({("127.0.0.1", receiver.port)}).post(receiver.url, b"{}", {}) == 200
    assert canary.connections == 0


def test_only_web_addresses_are_called(canary: Canary) -> None:
    for url in (f"ftp://127.0.0.1:{canary.port}/", "file:/etc/passwd", "gopher://x/", "http://", "//x"):
        with pytest.raises(Refused):
            Outgoing().post(url, b"{}", {})


def test_an_answer_that_drips_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sampan.base.outgoing.PATIENCE", 0.6)
    server = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = server.accept()
        connection.recv(65_536)
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while True:
                connection.sendall(b"X-More: 1\r\n")
                time.sleep(0.1)
        except OSError:
            connection.close()

    threading.Thread(target=drip, daemon=True).start()
    port = server.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(Unreachable):
        Outgoing({("127.0.0.1", port)}).post(f"http://127.0.0.1:{port}/", b"{}", {})
    assert time.monotonic() - start < 3
    server.close()


# -- Apprise


def tell(url: str, allowed: set[tuple[str, int]] | None = None) -> str:
    """What came of a test message to an Apprise address."""
    alerting = Alerting((Target("it", "apprise", url),), allow_private=frozenset(allowed or ()))
    return send_test(alerting, Compose("shop", "https://hub.example.com"), 0, [])["it"]


def test_apprise_delivers_where_it_may(receiver: Receiver) -> None:
    assert tell(f"json://127.0.0.1:{receiver.port}/x", {("127.0.0.1", receiver.port)}) == ""
    (message,) = receiver.messages()
    assert message["title"] == "[shop] A test from Sampan: nothing is wrong"
    assert "See: https://hub.example.com/alerts/test." in message["message"]


@pytest.mark.parametrize(
    "url", ["json://127.0.0.1:{}", "form://localhost:{}", "mailto://a:b@localhost:{}?to=c@example.com"]
)
def test_apprise_does_not_reach_this_machine_either(url: str, canary: Canary) -> None:
    assert "not a public address" in tell(url.format(canary.port))
    assert canary.connections == 0


def test_apprise_does_not_follow_a_redirect_to_this_machine(receiver: Receiver, canary: Canary) -> None:
    receiver.status = 307
    receiver.headers = {"location": f"http://127.0.0.1:{canary.port}/"}
    assert tell(f"json://127.0.0.1:{receiver.port}", {("127.0.0.1", receiver.port)}) != ""
    assert len(receiver.got) == 1
    assert canary.connections == 0


TWO_ADDRESSES = """
import socket

whole = socket.getaddrinfo


def getaddrinfo(host, port, *given, **named):
    return [found for one in ("64:ff9b::7f00:1", "127.0.0.1") for found in whole(one, port, type=socket.SOCK_STREAM)]


socket.getaddrinfo = getaddrinfo
"""


def test_apprise_has_delivered_what_only_one_address_of_a_name_took(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(TWO_ADDRESSES)  # as a network with DNS64 resolves the name
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert tell(f"json://hook.example:{receiver.port}/x", {("127.0.0.1", receiver.port)}) == ""
    assert len(receiver.got) == 1


def test_targets_on_this_machine_and_unknown_ones_are_refused() -> None:
    assert "a target on this machine" in tell("syslog://")
    assert "does not know such an address" in tell("nonsense://x/y")


def test_without_apprise_one_reads_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    def missing(*given: Any, **named: Any) -> Any:
        return subprocess.CompletedProcess(given, 70, b"", b"")

    monkeypatch.setattr(subprocess, "run", missing)
    with pytest.raises(Usage, match=r"sampan\[alerts\]"):
        apprise.send(Target("it", "apprise", "json://x"), _body(), Outgoing())


def _body() -> bytes:
    found: list[bytes] = []

    def keep(target: Target, id: str, body: bytes, outgoing: Outgoing) -> None:
        found.append(body)

    target = Target("it", "webhook", "http://x", SECRET)
    send_test(Alerting((target,)), Compose("shop", ""), 0, [], send=keep)
    return found[0]


def test_no_message_shows_a_secret(receiver: Receiver) -> None:
    receiver.status = 500
    said = tell("json://user:hunter2hunter2@127.0.0.1:1/x")
    assert "hunter2" not in said
    assert "hunter2" not in repr(Target("it", "apprise", "json://user:hunter2hunter2@127.0.0.1", "hunter2"))
    with pytest.raises(SampanError) as caught:
        Outgoing().post("http://user:hunter2@127.0.0.1/", b"", {})
    assert "hunter2" not in str(caught.value)
