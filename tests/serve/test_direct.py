"""A serving process that is asked past the hub: who is let in, what it speaks, and that no switch loses a request."""

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from rollout_shop import candidate, stage
from serving_shop import Shop, body, record
from test_serving import gone
from tests.hub.conftest import Hub, sampan

from sampan.serve.doors import Doors, Most, Ports
from sampan.serve.serving import Serving
from sampan.team.tokens import Pass, Token, hash_of

BODY = body(record())


def begin(root: Path, **settings: str) -> Hub:
    """A hub whose endpoint is asked directly."""
    made = Hub(root, **settings)
    assert made.predict("reorder", BODY)[0] == 200
    made.direct = made.port_of("reorder")
    return made


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory, fitted: Any) -> Iterator[Hub]:
    """For tests that change nothing but tokens."""
    root = tmp_path_factory.mktemp("direct") / "shop"
    Shop.found(root, fitted(5)).close()
    made = begin(root, SAMPAN_BODY_LIMIT="100000")
    yield made
    assert made.stop() == 0


@pytest.fixture
def hub(shop: Shop) -> Iterator[Hub]:
    """For tests that change what is served."""
    shop.close()
    made = begin(shop.root)
    yield made
    if made.process.returncode is None:
        assert made.stop() == 0


def pid_of(root: Path) -> int:
    """The process that is asked: it writes the endpoint's stream. Others may be kept warm beside it."""
    return int((root / ".sampan" / "log" / "serve-reorder" / "lock").read_text().removeprefix("process "))


def nobody_listens(port: int, patience: float = 5.0) -> bool:
    """Whether it comes to that: of a killed process, what its last thread holds is closed a moment after it is gone."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            return True
        time.sleep(0.02)
    return False


def raw_head(hub: Hub, length: int, *lines: str, path: str = "/predict/reorder", version: str = "1.1") -> bytes:
    given = (f"POST {path} HTTP/{version}", f"Host: 127.0.0.1:{hub.direct}", f"Authorization: Bearer {hub.token}")
    size = (f"Content-Length: {length}",) if length >= 0 else ()
    return "\r\n".join((*given, *size, *lines, "", "")).encode()


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    file = connection.makefile("rb")
    status = int(file.readline().split()[1])
    headers = {}
    while (line := file.readline().strip()) != b"":
        name, _, value = line.decode().partition(": ")
        headers[name] = value
    return status, headers, file.read(int(headers.get("content-length", "0")))


class Told(NamedTuple):
    status: int
    ids: list[str]
    rules: list[str]


class Client(threading.Thread):
    """Asks over one connection after the other's answer, and never opens a second one by itself."""

    def __init__(self, port: int, token: str, pause: float = 0.0) -> None:
        super().__init__(daemon=True)
        self.told: list[Told] = []
        self.failed: list[str] = []
        self.closed = 0
        self.ending = False
        self._port, self._pause = port, pause
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}

    def run(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self.ending:
            try:
                connection.request("POST", "/predict/reorder", BODY, self._headers)
                answer = connection.getresponse()
                found = json.loads(answer.read())
            except (OSError, ValueError) as error:
                self.failed.append(f"{type(error).__name__}: {error}")
                connection.close()
                continue
            self.closed += bool(answer.will_close)
            rows = found.get("predictions", [])
            self.told.append(Told(answer.status, [one["id"] for one in rows], [one["rule"] for one in rows]))
            time.sleep(self._pause)
        connection.close()


def under_load(hub: Hub, do: Any, clients: int = 6) -> list[Client]:
    """What clients got while something was done: busy ones, and some that are mostly idle."""
    asking = [Client(hub.direct, hub.token, 0.0 if at % 2 else 0.05) for at in range(clients)]
    for one in asking:
        one.start()
    time.sleep(0.3)
    do()
    time.sleep(0.3)
    for one in asking:
        one.ending = True
    for one in asking:
        one.join(30)
    return asking


def test_its_address_is_told_without_counting_what_it_answered(still: Hub) -> None:
    told = f"http://127.0.0.1:{still.direct}"
    assert sampan(still.folder, "endpoint", "show", "reorder", "--address").stdout == f"{told}\n"
    said = sampan(still.folder, "endpoint", "show", "reorder", "--address", "--json").stdout
    assert json.loads(said) == {"address": told}
    (plain,) = still.json("/endpoints?figures=no")["endpoints"]
    (whole,) = still.json("/endpoints")["endpoints"]
    assert plain["decided"] is None and whole["decided"]["decisions"]
    assert {**whole, "decided": None} == plain
    response, page = still.ask("GET", "/endpoints?figures=no", accept="text/html")
    assert response.status == 200 and b"Its predictions" in page


def test_it_answers_as_the_hub_does_and_what_it_answers_is_kept(still: Hub) -> None:
    response, said = still.ask("POST", "/predict/reorder", BODY)
    assert response.status == 200 and response.headers["content-type"] == "application/json"
    (one,) = json.loads(said)["predictions"]
    assert still.json(f"/predictions/{one['id']}")["action"] == one["action"] == "reserve"
    through, direct = dict(still.json("/endpoints")["endpoints"][0]), still.direct
    assert through["address"] == f"http://127.0.0.1:{direct}" and direct != still.port


def test_what_it_answers_is_counted_in_the_hubs_figures(still: Hub) -> None:
    def counted(status: int) -> int:
        said = still.ask("GET", "/metrics")[1].decode()
        label = f'sampan_endpoint_requests_total{{endpoint="reorder",status="{status}"}} '
        return sum(int(line.removeprefix(label)) for line in said.splitlines() if line.startswith(label))

    time.sleep(0.5)  # until what was answered before is told
    before = counted(200), counted(400)
    for sent in (BODY, BODY, b"{"):
        still.ask("POST", "/predict/reorder", sent)
    until = time.monotonic() + 5
    while (now := (counted(200), counted(400))) != (before[0] + 2, before[1] + 1) and time.monotonic() < until:
        time.sleep(0.05)
    assert now == (before[0] + 2, before[1] + 1)


@pytest.mark.parametrize(
    ("method", "path", "sent", "headers"),
    [
        ("POST", "/predict/reorder", b"{", {}),
        ("POST", "/predict/reorder", body(record(orders="many")), {}),
        ("POST", "/predict/nobody", BODY, {}),
        ("POST", "/invocations/nobody", BODY, {}),
        ("POST", "/v2/models/nobody/infer", b"{}", {}),
        ("GET", "/predict/reorder", None, {}),
        ("DELETE", "/v2/models/reorder", None, {}),
        ("POST", "/predict/reorder", BODY, {"authorization": "Bearer smp_nobody"}),
        ("POST", "/predict/reorder", BODY, {"authorization": "Basic YTpi"}),
        ("POST", "/predict/reorder", BODY, {"authorization": ""}),
        ("POST", "/invocations/reorder", BODY, {"authorization": ""}),
        ("POST", "/v2/models/reorder/infer", b"{}", {"authorization": ""}),
        ("POST", "/predict/reorder", BODY, {"authorization": "", "origin": "http://evil.example"}),
        ("POST", "/predict/reorder", b"x" * 100_001, {}),
        ("POST", "/v2/models/reorder/infer", b"x" * 100_001, {}),
        ("OPTIONS", "/predict/reorder", None, {}),
        ("HEAD", "/v2", None, {}),
    ],
)
def test_what_goes_wrong_is_answered_word_for_word_as_by_the_hub(
    still: Hub, method: str, path: str, sent: bytes | None, headers: dict[str, str]
) -> None:
    direct, said = still.ask(method, path, sent, **headers)
    port, still.direct = still.direct, 0
    try:
        through, expected = still.ask(method, path, sent, **headers)
    finally:
        still.direct = port
    assert (direct.status, said) == (through.status, expected)
    for name in ("content-type", "www-authenticate", "allow", "retry-after"):
        assert direct.headers[name] == through.headers[name], name


def test_only_predictions_and_its_health_are_here(still: Hub) -> None:
    for method, path in (("GET", "/"), ("GET", "/endpoints"), ("POST", "/v1/events"), ("GET", "/metrics")):
        connection = HTTPConnection("127.0.0.1", still.direct, timeout=20)
        connection.request(method, path, headers={"authorization": f"Bearer {still.token}"})
        assert connection.getresponse().status == 404, path
        connection.close()
    connection = HTTPConnection("127.0.0.1", still.direct, timeout=20)
    for path in ("/healthz", "/readyz"):
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 200 and json.loads(response.read())["instance"]
    connection.close()


def test_it_answers_to_its_own_names_only(still: Hub) -> None:
    for host in ("evil.example", f"127.0.0.1:{still.port}", f"localhost:{still.direct}"):
        response, _ = still.ask("POST", "/predict/reorder", BODY, host=host)
        assert response.status == (200 if host.startswith("localhost") else 421), host
    twice = still.raw(raw_head(still, len(BODY), "Host: evil.example") + BODY)
    assert twice.startswith(b"HTTP/1.1 421")
    absolute = raw_head(still, len(BODY), path="http://evil.example/predict/reorder") + BODY
    assert still.raw(absolute).startswith(b"HTTP/1.1 421")


def token(hub: Hub, name: str, role: str = "caller") -> str:
    asked = json.dumps({"name": name, "role": role, "days": 1}).encode()
    response, said = hub.ask("POST", "/v1/tokens", asked, content_type="application/json")
    assert response.status == 201, said
    return str(json.loads(said)["secret"])


def test_a_token_counts_from_its_making_to_its_end_on_connections_that_are_open(still: Hub) -> None:
    secret = token(still, "till")
    connection = HTTPConnection("127.0.0.1", still.direct, timeout=20)

    def status() -> tuple[int, bytes]:
        connection.request("POST", "/predict/reorder", BODY, {"authorization": f"Bearer {secret}"})
        answer = connection.getresponse()
        return answer.status, answer.read()

    assert status()[0] == 200
    assert still.ask("DELETE", "/v1/tokens/till")[0].status == 200
    until = time.monotonic() + 1.0
    while (found := status())[0] == 200 and time.monotonic() < until:
        pass
    assert found[0] == 401 and b"'till' was revoked on" in found[1]
    connection.close()


def test_a_token_that_may_not_ask_is_refused(still: Hub) -> None:
    secret = token(still, "looker", "viewer")
    response, said = still.ask("POST", "/predict/reorder", BODY, authorization=f"Bearer {secret}")
    assert response.status == 403 and "may not predict" in said.decode()


def test_a_token_that_is_taken_back_while_a_body_comes_does_not_count_any_more(still: Hub) -> None:
    secret = token(still, "slow")
    with socket.create_connection(("127.0.0.1", still.direct), timeout=20) as connection:
        connection.sendall(raw_head(still, len(BODY)).replace(still.token.encode(), secret.encode()) + BODY[:10])
        time.sleep(0.1)
        assert still.ask("DELETE", "/v1/tokens/slow")[0].status == 200
        time.sleep(0.5)
        connection.sendall(BODY[10:])
        assert read_answer(connection)[0] == 401


def test_requests_that_come_together_are_answered_in_order(still: Hub) -> None:
    with socket.create_connection(("127.0.0.1", still.direct), timeout=20) as connection:
        bodies = [body(record(), ids=[f"together-{n}"]) for n in range(50)]
        connection.sendall(b"".join(raw_head(still, len(one)) + one for one in bodies))
        file = connection.makefile("rb")
        found = []
        while len(found) < 50:
            assert file.readline() == b"HTTP/1.1 200 OK\r\n"
            size = 0
            while (line := file.readline().strip()) != b"":
                size = int(line.split()[1]) if line.startswith(b"content-length") else size
            found.append(json.loads(file.read(size))["predictions"][0]["id"])
    assert found == [f"together-{n}" for n in range(50)]


def test_a_body_in_chunks_or_after_a_go_ahead_is_read(still: Hub) -> None:
    with socket.create_connection(("127.0.0.1", still.direct), timeout=20) as connection:
        connection.sendall(raw_head(still, -1, "Transfer-Encoding: chunked"))
        for part in (BODY[:7], BODY[7:]):
            time.sleep(0.05)
            connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        status, headers, _ = read_answer(connection)
        assert (status, headers["connection"]) == (200, "close") and connection.recv(1) == b""
    with socket.create_connection(("127.0.0.1", still.direct), timeout=20) as connection:
        connection.sendall(raw_head(still, len(BODY), "Expect: 100-continue"))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert read_answer(connection)[0] == 200


def test_too_large_a_body_in_chunks_is_refused_while_it_comes(still: Hub) -> None:
    with socket.create_connection(("127.0.0.1", still.direct), timeout=20) as connection:
        connection.sendall(raw_head(still, -1, "Transfer-Encoding: chunked"))
        for _ in range(12):
            connection.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        assert read_answer(connection)[0] == 413


def test_who_closes_after_asking_or_speaks_an_old_dialect_gets_one_answer(still: Hub) -> None:
    for lines, version in ((("Connection: close",), "1.1"), ((), "1.0")):
        with socket.create_connection(("127.0.0.1", still.direct), timeout=20) as connection:
            connection.sendall(raw_head(still, len(BODY), *lines, version=version) + BODY)
            status, headers, _ = read_answer(connection)
            assert (status, headers["connection"]) == (200, "close") and connection.recv(1) == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01 this is TLS\r\n\r\n",
        b"POST /predict/reorder HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxx",
        b"POST /predict/reorder HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nxxxxx",
        b"POST /predict/reorder HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict/reorder HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnothing\r\n",
        b"POST /" + b"x" * 70_000,
    ],
)
def test_what_is_not_http_is_refused_and_the_next_is_answered(still: Hub, sent: bytes) -> None:
    assert still.raw(sent).startswith(b"HTTP/1.1 400")
    assert still.ask("POST", "/predict/reorder", BODY)[0].status == 200


def test_a_switch_under_load_fails_nobody_and_closes_no_connection(hub: Hub, shop: Shop) -> None:
    def switch() -> None:
        for likely in ("0.4", "0.3", "0.2"):
            said = sampan(hub.folder, "endpoint", "deploy", "reorder", "--set", f"likely={likely}")
            assert f"Asked at http://127.0.0.1:{hub.direct}/predict/reorder" in said.stdout, said
        assert sampan(hub.folder, "rollback", "reorder").returncode == 0

    clients = under_load(hub, switch)
    told = [one for client in clients for one in client.told]
    assert [client.failed for client in clients] == [[]] * len(clients) and {one.status for one in told} == {200}
    assert sum(client.closed for client in clients) == 0
    acknowledged = [id for one in told for id in one.ids]
    kept = [one.id for one in shop.predictions()]
    assert len(told) > 100 and len(set(kept)) == len(kept) and set(acknowledged) < set(kept)


def test_half_a_request_goes_on_in_the_process_that_comes_next(hub: Hub) -> None:
    large = body(*(record(orders=n % 7) for n in range(2_000)))
    halves = [(raw_head(hub, len(BODY)), BODY), (raw_head(hub, len(BODY))[:40], raw_head(hub, len(BODY))[40:] + BODY)]
    halves.append((raw_head(hub, len(large)) + large[:100_000], large[100_000:]))
    open_ones = [socket.create_connection(("127.0.0.1", hub.direct), timeout=20) for _ in halves]
    for connection, (first, _) in zip(open_ones, halves, strict=True):
        connection.sendall(first)
    time.sleep(0.3)
    assert sampan(hub.folder, "endpoint", "deploy", "reorder", "--set", "likely=0.4").returncode == 0
    for connection, (_, second) in zip(open_ones, halves, strict=True):
        connection.sendall(second)
        status, _, said = read_answer(connection)
        assert status == 200 and json.loads(said)["predictions"][0]["bundle"] == served(hub)
        connection.close()


def served(hub: Hub) -> str:
    return str(hub.json("/endpoints")["endpoints"][0]["bundle"])


def test_after_a_kill_who_connects_waits_for_the_next_process_and_nothing_acknowledged_is_lost(
    hub: Hub, shop: Shop
) -> None:
    def kill() -> None:
        for _ in range(2):
            os.kill(pid_of(hub.folder), signal.SIGKILL)
            response, _ = hub.ask("POST", "/predict/reorder", BODY)  # a new connection, at once
            assert response.status == 200

    clients = under_load(hub, kill)
    told = [one for client in clients for one in client.told]
    assert {one.status for one in told} == {200}
    assert all(len(client.failed) <= 2 for client in clients), "only what was under way, once for each kill"
    acknowledged = [id for one in told for id in one.ids]
    assert set(acknowledged) <= {one.id for one in shop.predictions()} and len(set(acknowledged)) == len(acknowledged)


def test_the_address_stays_over_restarts_and_processes_end_with_their_hub(hub: Hub) -> None:
    port, pid = hub.direct, pid_of(hub.folder)
    hub.stop(signal.SIGKILL)
    assert gone(pid) and nobody_listens(port)
    again = begin(hub.folder)
    try:
        assert again.direct == port and again.ask("POST", "/predict/reorder", BODY)[0].status == 200
    finally:
        assert again.stop() == 0


def test_an_address_that_is_taken_leaves_the_way_through_the_hub(shop: Shop) -> None:
    shop.close()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        hub = Hub(shop.root, SAMPAN_SERVE_PORTS=f"reorder={port}")
        try:
            assert hub.predict("reorder", BODY)[0] == 200
            assert hub.json("/endpoints")["endpoints"][0]["address"] == ""
        finally:
            assert hub.stop() == 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"SAMPAN_SERVE_PORTS": "reorder"}, "'reorder' is not NAME=PORT"),
        ({"SAMPAN_SERVE_PORTS": "a=1,b=1"}, "port 1 stands for two endpoints"),
        ({"SAMPAN_SERVE_HOST": "0.0.0.0"}, "other machines could reach the hub there"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_the_start(shop: Shop, settings: dict[str, str], says: str) -> None:
    shop.close()
    done = sampan(shop.root, "up", "--port", "0", **settings)
    assert done.returncode == 2 and says in done.stderr


@pytest.mark.slow
def test_a_candidate_answers_its_share_directly_and_its_promotion_closes_nothing(shop: Shop, fitted: Any) -> None:
    """From its stage over the kill of the candidate's process to its being the champion, and back."""
    secret, digest = "smp_asked", candidate(shop, fitted)
    doors = Doors(
        "sampan.api.entrance",
        Ports(shop.db, shop.root),
        "127.0.0.1",
        hosts="",
        limits=Most(1_000_000, 1_000, 10.0),
        instance="test",
        passes=[Pass(hash_of(secret), Token("t", "t", "caller", 0, 1 << 62))],
    )
    clients: list[Client] = []

    async def story() -> None:
        serving = Serving(shop.root, shop.endpoints, shop.settings, doors)
        await serving.start()
        try:
            await serving.ready("reorder")
            port = int(serving.address("reorder").rpartition(":")[2])
            clients.extend(Client(port, secret, 0.002) for _ in range(4))
            for one in clients:
                one.start()
            await serving.assign("reorder", stage(digest, 1.0))
            await asyncio.sleep(0.4)
            beside = serving.status()[0].candidate
            assert beside is not None and beside.pid is not None
            killed = beside.pid
            os.kill(killed, signal.SIGKILL)
            while beside.pid in (None, killed) or beside.state != "serving":
                await asyncio.sleep(0.02)
                beside = serving.status()[0].candidate
                assert beside is not None
            await asyncio.sleep(0.3)
            first = shop.endpoints.get("reorder")
            promoted = msgspec.structs.replace(first, id="promoted", bundle=digest)
            shop.endpoints.add(promoted, first)
            state = await serving.refresh("reorder")
            assert state.bundle == digest and state.pid == beside.pid
            await asyncio.sleep(0.3)
            shop.endpoints.add(shop.endpoints.back(promoted, first, actor="ann"), promoted)
            await serving.refresh("reorder")
            await asyncio.sleep(0.3)
            for one in clients:
                one.ending = True
            for one in clients:
                await asyncio.to_thread(one.join, 30)
        finally:
            await serving.stop()

    asyncio.run(story())
    told = [one for client in clients for one in client.told]
    assert [client.failed for client in clients] == [[]] * 4 and {one.status for one in told} == {200}
    assert sum(client.closed for client in clients) == 0
    assert {rule for one in told for rule in one.rules} == {"likely to return", "new words"}
    acknowledged = [id for one in told for id in one.ids]
    assert sorted(acknowledged) == sorted(one.id for one in shop.predictions())
