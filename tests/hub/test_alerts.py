"""Alerts of a real hub, told to a real receiver: seen on the pages, by the commands, and after a kill -9."""

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.app import App
from sampan.hub.views.held import share_limit
from tests.hub.conftest import Hub, make_workspace, sampan, visit
from tests.hub.test_pages import Reader
from tests.watch.conftest import SECRET, Receiver

TOML = """
[alerts]
every = 0.2
allow_private = ["127.0.0.1:{port}"]

[[alerts.webhooks]]
name = "desk"
url = "http://127.0.0.1:{port}/hook"
secret_env = "DESK_SECRET"

[alerts.limits]
quarantined_events = 20
disk_free = 0
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.answering.set()
    made.close()


@pytest.fixture
def folder(tmp_path: Path, receiver: Receiver) -> Path:
    made = make_workspace(tmp_path / "shop")
    (made / "sampan.toml").write_text(TOML.format(port=receiver.port))
    return made


def until(what: Callable[[], object], seconds: float = 15) -> None:
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit, "it took too long"
        time.sleep(0.05)


def break_contracts(hub: Hub) -> None:
    hub.send(*[visit(f"g{n}") for n in range(40)], *[visit(f"b{n}", seconds=-1) for n in range(10)])


def test_from_the_crossing_of_a_limit_to_its_end(folder: Path, receiver: Receiver) -> None:
    hub = Hub(folder, DESK_SECRET=SECRET)
    try:
        start = time.monotonic()
        break_contracts(hub)
        until(lambda: receiver.got)
        assert time.monotonic() - start < 60
        (message,) = receiver.messages()
        alert = message["alert"]
        assert (alert["producer"], alert["field"], alert["type"]) == ("owner", "$.data.seconds", "visit")
        assert message["link"] == f"{hub.url}/alerts/{alert['id']}"

        _, page = hub.ask("GET", "/alerts", accept="text/html")
        assert "One alert is open." in page.decode()
        assert f"/alerts/{alert['id']}" in Reader(page.decode()).links
        _, page = hub.ask("GET", f"/alerts/{alert['id']}", accept="text/html")
        assert f"/quarantine/{alert['example']}" in Reader(page.decode()).links
        _, page = hub.ask("GET", "/", accept="text/html")
        assert alert["title"] in page.decode()
        _, page = hub.ask("GET", "/settings", accept="text/html")
        for kind in ("text/html", "application/json"):
            _, page = hub.ask("GET", "/settings", accept=kind)
            assert SECRET not in page.decode()
            assert hub.token not in page.decode()
            assert "desk" in page.decode()

        done = sampan(folder, "alert", "list", "--open")
        assert (done.returncode, "of what owner sends is quarantined" in done.stdout) == (1, True)
        done = sampan(folder, "alert", "show", alert["id"], "--json")
        assert json.loads(done.stdout)["deliveries"][0]["state"] == "delivered"

        hub.send(*[visit(f"more{n}") for n in range(2000)])
        until(lambda: len(receiver.got) == 2)
        assert receiver.events() == [("opened", "quarantined"), ("resolved", "quarantined")]
        assert sampan(folder, "alert", "list", "--open").returncode == 0
        _, page = hub.ask("GET", "/alerts", accept="text/html")
        assert "No alert is open." in page.decode()
    finally:
        assert hub.stop() == 0


def test_pages_know_the_share_from_which_one_is_told_without_the_secrets_of_who_tells(folder: Path) -> None:
    with (folder / "sampan.toml").open("a") as file:
        file.write("quarantined_share = 0.3\n")
    assert share_limit(App(folder)) == 0.3


def test_a_kill_between_record_and_delivery_tells_it_under_one_id(folder: Path, receiver: Receiver) -> None:
    receiver.answering.clear()
    hub = Hub(folder, DESK_SECRET=SECRET)
    break_contracts(hub)
    until(lambda: receiver.got)  # sent, and not answered: nothing can have been marked
    hub.stop(signal.SIGKILL)
    receiver.answering.set()
    hub = Hub(folder, DESK_SECRET=SECRET)
    try:
        until(lambda: len(receiver.got) >= 2)
        until(lambda: hub.json("/alerts")["open"][0]["deliveries"][0]["state"] == "delivered")
        time.sleep(1)
        assert len(receiver.got) == 2
        assert len({message["id"] for message in receiver.messages()}) == 1
        assert len({message["alert"]["id"] for message in receiver.messages()}) == 1
        assert len(hub.json("/alerts")["open"]) == 1
    finally:
        assert hub.stop() == 0


@pytest.mark.slow
def test_commands_try_targets_and_silence_kinds(folder: Path, receiver: Receiver) -> None:
    assert sampan(folder, "alert", "list").stdout == "No alert so far.\n"
    done = sampan(folder, "alert", "test", DESK_SECRET=SECRET)
    assert (done.returncode, receiver.messages()[0]["event"]) == (0, "test"), done.stderr
    receiver.status = 500
    done = sampan(folder, "alert", "test", "desk", DESK_SECRET=SECRET)
    assert (done.returncode, "it answered 500" in done.stdout) == (1, True)
    done = sampan(folder, "alert", "test")
    assert (done.returncode, "DESK_SECRET" in done.stderr) == (2, True)

    hub = Hub(folder, DESK_SECRET=SECRET)
    try:
        receiver.got.clear()
        done = sampan(folder, "alert", "silence", "quarantined", "--for", "1h", "--reason", "a migration")
        assert done.returncode == 0, done.stderr
        break_contracts(hub)
        until(lambda: hub.json("/alerts")["open"])
        found = hub.json("/alerts")
        assert found["open"][0]["deliveries"] == []
        assert found["open"][0]["alert"]["silenced"].endswith("a migration")
        assert found["silences"][0]["what"] == "quarantined"
        assert receiver.got == []

        assert sampan(folder, "alert", "unsilence", "silent").returncode == 1
        done = sampan(folder, "alert", "unsilence", "quarantined")
        assert (done.returncode, done.stdout) == (0, "Alerts about quarantined are told again.\n"), done.stderr
        assert hub.json("/alerts")["silences"] == []
        assert len(hub.json("/alerts")["open"][0]["alert"]["silenced"]) > 5, "what was silenced stays so"
    finally:
        assert hub.stop() == 0
    assert sampan(folder, "alert", "silence", "nonsense").returncode == 2
    assert sampan(folder, "alert", "silence", "silent", "--for", "soon").returncode == 2


def test_a_page_takes_a_silence_back(folder: Path) -> None:
    hub = Hub(folder, DESK_SECRET=SECRET)
    try:
        body = json.dumps({"what": "quarantined:<script>", "seconds": 60}).encode()
        response, made = hub.ask("POST", "/v1/alerts/silences", body, content_type="application/json")
        assert response.status == 201
        _, page = hub.ask("GET", "/alerts", accept="text/html")
        (address,) = re.findall(r'action="(/alerts/silences/[^"]+)"', page.decode())
        assert address == f"/alerts/silences/{json.loads(made)['id']}/end"
        assert "quarantined:&lt;script&gt;" in page.decode()
        response, _ = hub.ask("POST", address, b"", cookie=hub.sign_in(), origin=hub.url)
        assert (response.status, response.headers["location"]) == (303, "/alerts")
        assert hub.json("/alerts")["silences"] == []
        response, page = hub.ask("POST", address, b"", accept="text/html")
        assert (response.status, "is in force" in page.decode()) == (404, True)
        response, _ = hub.ask("DELETE", address.removesuffix("/end").replace("/alerts", "/v1/alerts", 1))
        assert response.status == 404
    finally:
        assert hub.stop() == 0


def test_a_wrong_limit_stops_the_start_with_its_key_and_value(folder: Path) -> None:
    (folder / "sampan.toml").write_text("[alerts.limits]\nquarantined_share = 7\n")
    done = sampan(folder, "up", "--port", "0")
    assert done.returncode == 2
    assert "[alerts.limits] quarantined_share: 7 is not between 0 and 1" in done.stderr
