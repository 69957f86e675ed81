"""An endpoint whose process does not come up: clients past the hub hear of it in time; a deploy says why it fails."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from serving_shop import RULES, Shop, body, record
from test_direct import begin, pid_of, read_answer
from tests.hub.conftest import Hub, port_of, sampan

BODY = body(record())
HANGS = """
import time
from pathlib import Path
while Path("hang").exists():
    time.sleep(0.05)
"""
PATIENCE = 2.0


@pytest.fixture
def hub(shop: Shop) -> Iterator[Hub]:
    """Its processes do not finish loading while there is a file of that name."""
    (shop.root / "decisions.py").write_text(HANGS + RULES)
    shop.deploy()
    shop.close()
    made = begin(shop.root, SAMPAN_PREDICT_TIMEOUT=f"{PATIENCE:g}", SAMPAN_LOAD_TIMEOUT="3")
    yield made
    assert made.stop() == 0


def hang(hub: Hub) -> Path:
    file = hub.folder / "hang"
    file.touch()
    return file


def ask(hub: Hub, connection: HTTPConnection, path: str = "/predict/reorder", sent: bytes = BODY) -> tuple[Any, bytes]:
    connection.request("POST", path, sent, {"authorization": f"Bearer {hub.token}"})
    answer = connection.getresponse()
    return answer, answer.read()


def test_clients_are_told_in_time_and_their_connections_go_to_the_process_that_comes(hub: Hub) -> None:
    connection = HTTPConnection("127.0.0.1", hub.direct, timeout=20)
    file = hang(hub)
    os.kill(pid_of(hub.folder), signal.SIGKILL)
    begun = time.monotonic()
    answer, said = ask(hub, connection)
    assert time.monotonic() - begun < PATIENCE and answer.status == 503 and answer.headers["retry-after"] == "1"
    error = json.loads(said)["error"]
    assert "it is down: its serving process ended" in error["obstacle"], error
    for path, wanted in (("/invocations/reorder", 503), ("/v2/models/reorder/infer", 503), ("/predict/nobody", 404)):
        assert ask(hub, connection, path)[0].status == wanted, path
    connection.request("POST", "/predict/reorder", BODY)
    answer = connection.getresponse()
    assert answer.status == 401 and answer.read(), "whoever asks hears of it"
    connection.request("GET", "/readyz")
    answer = connection.getresponse()
    assert answer.status == 503 and json.loads(answer.read())["checks"][0]["ready"] is False
    assert hub.json("/endpoints")["endpoints"][0]["state"] == "down"
    file.unlink()
    connection.auto_open = False  # the same connection, or none
    until = time.monotonic() + 20
    while (answer := ask(hub, connection)[0]).status != 200:
        assert answer.status == 503 and time.monotonic() < until
        time.sleep(0.1)
    connection.close()


@pytest.mark.slow
def test_half_a_request_goes_on_in_the_process_that_comes(hub: Hub) -> None:
    file = hang(hub)
    os.kill(pid_of(hub.folder), signal.SIGKILL)
    time.sleep(PATIENCE)
    head = f"POST /predict/reorder HTTP/1.1\r\nHost: 127.0.0.1:{hub.direct}\r\nAuthorization: Bearer {hub.token}\r\n"
    with socket.create_connection(("127.0.0.1", hub.direct), timeout=20) as connection:
        connection.sendall(f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY[:9])
        time.sleep(0.2)
        file.unlink()
        assert hub.predict("reorder", BODY)[0] == 200
        connection.sendall(BODY[9:])
        assert read_answer(connection)[0] == 200


@pytest.mark.slow
def test_a_token_that_was_taken_back_is_refused_there_too(hub: Hub) -> None:
    made = json.dumps({"name": "late", "role": "caller", "days": 1}).encode()
    secret = json.loads(hub.ask("POST", "/v1/tokens", made, content_type="application/json")[1])["secret"]
    file = hang(hub)
    os.kill(pid_of(hub.folder), signal.SIGKILL)
    assert hub.ask("POST", "/predict/reorder", BODY, authorization=f"Bearer {secret}")[0].status == 503
    assert hub.ask("DELETE", "/v1/tokens/late")[0].status == 200
    assert hub.ask("POST", "/predict/reorder", BODY, authorization=f"Bearer {secret}")[0].status == 401
    file.unlink()


@pytest.mark.slow
def test_a_deploy_that_does_not_load_fails_in_time_and_what_is_in_force_goes_on(hub: Hub) -> None:
    before = hub.json("/endpoints/reorder")["endpoint"]["bundle"]
    rules = hub.folder / "decisions.py"
    rules.write_text(HANGS + RULES.replace("not likely", "hardly"))
    file = hang(hub)
    begun = time.monotonic()
    done = sampan(hub.folder, "endpoint", "deploy", "reorder", "--reason", "slow")
    assert done.returncode in (1, 3) and time.monotonic() - begun < 12
    assert "model and rules did not load in 3 s" in done.stderr and "Traceback" not in done.stderr, done.stderr
    done = sampan(hub.folder, "endpoint", "deploy", "other", "--model", "reorder", "--reason", "slow")
    assert done.returncode in (1, 3) and "did not load in 3 s" in done.stderr
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port_of(hub.folder, "other")), timeout=5).close()
    rules.write_text("import time\ntime.sleep(600)\n" + RULES)  # it does not come as far as a process
    done = sampan(hub.folder, "endpoint", "deploy", "reorder", "--reason", "slower")
    assert done.returncode in (1, 3) and "took more than 3 s" in done.stderr and "load_timeout" in done.stderr
    assert hub.ask("POST", "/predict/reorder", BODY)[0].status == 200
    assert hub.json("/endpoints/reorder")["endpoint"]["bundle"] == before
    file.unlink()
