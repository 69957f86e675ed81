"""What a service's answers say, in each form, and what is asked of it."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sampan.base.errors import Busy, SampanError, Usage
from sampan.base.outgoing import Outgoing
from sampan.models.version import Signature
from sampan.serve.live import CALLS, Facts, Live, read_answer

BINARY = Signature(inputs={}, output="probability", classes=(False, True), missing=True)
THREE = Signature(inputs={}, output="probabilities", classes=("a", "b", "c"), missing=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, body, id(self.connection)))
        time.sleep(self.server.sleep)
        data = json.dumps(self.server.say).encode()
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(data)))
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        if self.server.once:
            self.close_connection = True  # without having said so

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Those who asked have gone, as they said that they would."""


@pytest.fixture
def server() -> Iterator[Any]:
    made: Any = Quiet(("127.0.0.1", 0), Handler)
    made.live = []
    made.asked, made.say, made.sleep, made.status, made.headers, made.once = [], {}, 0.0, 200, {}, False
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    for one in made.live:
        one.close()
    made.shutdown()
    made.server_close()


def live(server: Any, signature: Signature = BINARY, allowed: bool = True, **facts: Any) -> Live:
    port = server.server_address[1]
    out = Outgoing([("127.0.0.1", port)] if allowed else [])
    given = {"form": "predict", "timeout_ms": 2_000, **facts}
    server.live.append(Live(Facts(url=f"http://127.0.0.1:{port}/a/b?c=d", **given), signature, out))
    return server.live[-1]


def test_each_form_is_asked_and_read(server: Any) -> None:
    records = [{"x": 1, "y": "a", "z": True}, {"x": 2, "y": "b", "z": False}]
    server.say = {"predictions": [{"prediction": 0.25}, {"prediction": 0.5}]}
    assert live(server).predict(records) == [0.25, 0.5]
    server.say = {"predictions": [[0.9, 0.1], [0.4, 0.6]]}
    assert live(server, form="invocations").predict(records) == [0.1, 0.6]
    server.say = {"outputs": [{"name": "n", "data": [9, 9]}, {"name": "p", "data": [0.9, 0.1, 0.4, 0.6]}]}
    assert live(server, form="v2", read="p").predict(records) == [0.1, 0.6]
    server.say = [{"a": 0.2, "b": 0.3, "c": 0.5}, [0.1, 0.1, 0.8]]
    assert live(server, THREE).predict(records) == [[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]
    paths, bodies, _ = zip(*server.asked, strict=True)
    assert set(paths) == {"/a/b?c=d"}
    assert bodies[:2] == ({"records": records}, {"dataframe_records": records})
    assert bodies[2]["inputs"] == [
        {"name": "x", "shape": [2], "datatype": "INT64", "data": [1, 2]},
        {"name": "y", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]},
        {"name": "z", "shape": [2], "datatype": "BOOL", "data": [True, False]},
    ]


def test_declared_features_alone_are_sent_and_checked(server: Any) -> None:
    said = Signature(inputs={"x": "number"}, output="number", missing=True)
    server.say = [3]
    assert live(server, said).predict([{"x": 1.5, "secret": "s"}]) == [3.0]
    assert server.asked[-1][1] == {"records": [{"x": 1.5}]}
    with pytest.raises(Usage, match="'x': expected a number"):
        live(server, said).predict([{"x": "many"}])
    assert len(server.asked) == 1


def test_a_connection_is_used_again_and_one_that_was_closed_is_no_failure(server: Any) -> None:
    server.say = [0.5]
    one = live(server)
    for _ in range(3):
        assert one.predict([{}]) == [0.5]
    assert len({connection for _, _, connection in server.asked}) == 1
    server.once = True
    for _ in range(3):
        assert one.predict([{}]) == [0.5]
        time.sleep(0.05)


def test_redirects_are_not_followed_and_private_addresses_not_called(server: Any) -> None:
    server.say, server.status, server.headers = [0.5], 307, {"location": "http://127.0.0.1:1/"}
    with pytest.raises(SampanError, match="it answered 307") as told:
        live(server).predict([{}])
    assert told.value.status == 503
    with pytest.raises(SampanError, match="not one that may be called") as told:
        live(server, allowed=False).predict([{}])
    assert told.value.status == 503 and len(server.asked) == 1
    assert "127.0.0.1" not in str(told.value), "clients need not know where it lies"


def test_more_than_can_be_called_is_refused_at_once_and_nobody_waits_longer_than_was_declared(server: Any) -> None:
    server.say, server.sleep = [0.5], 1.0
    one = live(server, timeout_ms=400)

    async def many() -> list[Any]:
        return await asyncio.gather(*(one.call([{}]) for _ in range(5 * CALLS)), return_exceptions=True)

    begun = time.monotonic()
    found = asyncio.run(many())
    assert time.monotonic() - begun < 3
    assert all(isinstance(error, SampanError) and error.status == 503 for error in found)
    assert sum(isinstance(error, Busy) for error in found) == CALLS
    assert len(server.asked) < 3 * CALLS  # what waits for a thread is not asked when its time is over


def test_an_answer_that_is_too_long_or_no_prediction_is_none(server: Any) -> None:
    server.say = ["x" * (17 << 20)]
    with pytest.raises(SampanError, match="more than"):
        live(server).predict([{}])
    for said, why in (
        ({"a": 1}, "no list"),
        ([None], "is no number"),
        (["high"], "no number"),
        ([[1, 2, 3]], "no probability"),
        ([{"score": 0.4}], "'score' is none of the classes .*; --read names the field that holds it"),
    ):
        server.say = said
        with pytest.raises(SampanError, match=why):
            live(server).predict([{}])
    with pytest.raises(ValueError, match="no output 'q'"):
        read_answer({"outputs": [{"name": "p", "data": [1]}]}, Facts(url="", form="v2", read="q"), 1)
