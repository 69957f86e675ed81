"""Live pages over real HTTP: what changes is told as server-sent events, to many, to the slow, until the hub stops."""

import json
import re
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.hub.conftest import Hub, sampan, visit


class Page:
    """An open page: reads what the hub tells it."""

    def __init__(self, hub: Hub, topics: str, **headers: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", hub.port), timeout=10)
        given = headers or {"authorization": f"Bearer {hub.token}"}
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
        self.socket.sendall(f"GET /live?topics={topics} HTTP/1.1\r\nHost: 127.0.0.1:{hub.port}\r\n{lines}\r\n".encode())
        self.said = b""

    def until(self, wanted: Any, seconds: float = 8.0) -> dict[str, Any]:
        """The first message that fits."""
        end = time.monotonic() + seconds
        seen = 0
        while time.monotonic() < end:
            for number, (topic, data) in enumerate(re.findall(rb"event: (\S+)\ndata: (.*)\n\n", self.said)):
                if number >= seen:
                    seen += 1
                    news = json.loads(data)
                    if wanted(topic.decode(), news):
                        return dict(news)
            self.read(end - time.monotonic())
        raise AssertionError(f"not told within {seconds} s: {self.said[-2000:]!r}")

    def read(self, seconds: float) -> bool:
        """More of the stream; False at its end."""
        self.socket.settimeout(max(seconds, 0.01))
        try:
            got = self.socket.recv(65536)
        except TimeoutError:
            return True
        self.said += got
        return bool(got)

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def running(workspace: Path) -> Iterator[Hub]:
    hub = Hub(workspace)
    yield hub
    assert hub.stop() == 0


def test_an_open_page_is_told_of_events_and_of_what_goes_to_quarantine(running: Hub) -> None:
    page = Page(running, "log,quarantine,pulse")
    assert page.until(lambda topic, news: topic == "log")["accepted"] == 0
    running.send(visit("a", page="/a"), visit("bad", seconds=-1))
    news = page.until(lambda topic, news: topic == "log" and news["accepted"] == 1)
    assert [event["id"] for event in news["newest"]] == ["a"]
    assert news["say"]["quarantined"] == "1"
    assert page.until(lambda topic, news: topic == "quarantine" and news["waiting"] == 1)["say"] == {"waiting": "1"}
    assert page.until(lambda topic, news: topic == "pulse" and news["rate"] > 0)["draw"]["rate"].startswith("M0 ")
    page.close()


def test_a_run_is_told_step_by_step_and_line_by_line(running: Hub) -> None:
    (running.folder / "steps.py").write_text(
        "import time\nfrom sampan import step\n\n\n@step\ndef slow(pages: list) -> int:\n"
        "    for n in range(30):\n        print('line', n, flush=True)\n        time.sleep(0.1)\n    return 1\n"
    )
    running.send(visit("a"))
    page = Page(running, "runs")
    import threading

    done = threading.Thread(target=sampan, args=(running.folder, "run"))
    done.start()
    news = page.until(lambda topic, news: any(run["state"] == "running" for run in news["runs"]), 20)
    run = Page(running, f"run:{news['runs'][0]['run']}")
    first = run.until(lambda topic, news: any(log["text"] for log in news["logs"].values()), 20)
    assert re.search(r"line \d+\n", first["logs"]["slow.log"]["text"])
    last = run.until(lambda topic, news: news["state"] == "succeeded", 20)
    assert {step["name"]: step["state"] for step in last["steps"]} == {"pages": "ran", "slow": "ran"}
    told = "".join(
        json.loads(data)["logs"].get("slow.log", {}).get("text", "") for data in re.findall(rb"data: (.*)\n", run.said)
    )
    assert re.findall(r"line (\d+)", told) == [str(n) for n in range(30)][-len(re.findall(r"line", told)) :]
    page.until(lambda topic, news: any(run["state"] == "succeeded" for run in news["runs"]))
    done.join()
    page.close()
    run.close()


@pytest.mark.parametrize("topics", ["", "nothing", "log,nothing", "run:../..", "run:", ",".join(["log"] * 3 + ["x"])])
def test_what_is_no_topic_is_refused(hub: Hub, topics: str) -> None:
    response, body = hub.ask("GET", f"/live?topics={topics}")
    assert response.status == 400
    assert set(json.loads(body)["error"]) == {"kind", "attempted", "obstacle", "advice"}


def test_a_stranger_hears_nothing(hub: Hub) -> None:
    assert hub.ask("GET", "/live?topics=log", token=False)[0].status == 401
    cookie = hub.sign_in()
    response, _ = hub.ask("GET", "/live?topics=log", cookie=cookie, sec_fetch_site="cross-site", sec_fetch_mode="cors")
    assert response.status == 403


def test_head_ends_at_once(hub: Hub) -> None:
    response, body = hub.ask("HEAD", "/live?topics=log")
    assert (response.status, body) == (200, b"")
    assert response.headers["content-type"].startswith("text/event-stream")


def test_the_hub_stops_at_once_though_pages_are_open_and_some_read_nothing(workspace: Path) -> None:
    hub = Hub(workspace)
    pages = [Page(hub, "log,runs") for _ in range(20)]
    pages[0].until(lambda topic, news: topic == "log")
    begun = time.monotonic()
    assert hub.stop() == 0
    assert time.monotonic() - begun < 3
    while pages[0].read(2):
        pass  # the stream ends, it is not left hanging
    for page in pages:
        page.close()


@pytest.mark.slow
def test_two_hundred_pages_are_told_the_same(running: Hub) -> None:
    pages = [Page(running, "log") for _ in range(200)]
    running.send(*[visit(str(n)) for n in range(50)])
    for page in pages:
        page.until(lambda topic, news: topic == "log" and news["accepted"] == 50)
        page.close()
    connection = HTTPConnection("127.0.0.1", running.port, timeout=5)
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_session_that_ends_hears_no_more(running: Hub) -> None:
    cookie = running.sign_in()
    page = Page(running, "log", cookie=cookie, sec_fetch_site="same-origin")
    page.until(lambda topic, news: topic == "log")
    own = {"origin": running.url, "content_type": "application/x-www-form-urlencoded"}
    assert running.ask("POST", "/sign-out", b"", cookie=cookie, **own)[0].status == 303
    running.send(visit("secret"))
    end = time.monotonic() + 5
    while page.read(end - time.monotonic()):
        assert time.monotonic() < end, "the stream goes on after the sign-out"
    assert b"secret" not in page.said
    page.close()


def test_the_own_script_is_small_and_stands_in_files(hub: Hub) -> None:
    import sampan.hub

    static = Path(sampan.hub.__file__).parent / "static"
    assert sum(file.stat().st_size for file in static.glob("*.js")) <= 30_000
