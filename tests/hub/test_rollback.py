"""`sampan rollback` through a hub that is asked without a pause: nobody gets an error, no answer mixes two bundles."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.browser.shop import DECISIONS, PAYLOAD, Shop
from tests.hub.conftest import Hub, sampan

BODY = json.dumps({"records": [{"visitor": "ann", "seconds": 39.0}]}).encode()


class Seen(NamedTuple):
    asked: float
    told: float
    status: int
    bundle: str
    version: str
    rule: str


@pytest.fixture(scope="module")
def shop(two_versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two versions of a model; the first is served behind a rule that says `old words`."""
    made = Shop.copy(two_versions, tmp_path_factory.mktemp("back") / "shop")
    write(made, "old words")
    made.post("/v1/endpoints", {"name": "stay", "model": "stay@1", "reason": "first"})
    assert made.hub.predict("stay", BODY)[0] == 200
    yield made
    made.hub.stop()


def write(shop: Shop, words: str) -> None:
    (shop.folder / "decisions.py").write_text(DECISIONS.replace(repr("likely " + PAYLOAD), repr(words)))


def deploy_second(shop: Shop) -> Any:
    write(shop, "new words")
    return json.loads(shop.post("/v1/endpoints", {"name": "stay", "model": "stay@2", "reason": "second"}))


def roll_back(shop: Shop, **asked: str) -> Any:
    return json.loads(shop.post("/v1/endpoints/stay/rollback", asked))


def serving_processes(shop: Shop) -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rpartition(")")[2].split()[1]
            said = (stat.parent / "cmdline").read_bytes()
            serving = b"sampan.serve.process" in said or b"sampan.api.entrance" in said
            if int(parent) == shop.hub.pid and serving:
                found.add(int(stat.parent.name))
        except OSError:
            continue
    return found


def keep_asking(shop: Shop, stop: threading.Event, seen: list[Seen]) -> None:
    """One connection, kept alive: it is opened once."""
    connection = HTTPConnection("127.0.0.1", shop.hub.port, timeout=30)
    connection.connect()
    opened = connection.sock
    headers = {"authorization": f"Bearer {shop.hub.token}"}
    while not stop.is_set():
        asked = time.time()
        connection.request("POST", "/predict/stay", BODY, headers)
        response = connection.getresponse()
        body = json.loads(response.read())
        (one,) = body.get("predictions") or [{}]
        told = [str(one.get(name)) for name in ("bundle", "version", "rule")]
        seen.append(Seen(asked, time.time(), response.status, *told))
    assert connection.sock is opened
    connection.close()


@pytest.mark.slow
def test_deploys_and_rollbacks_in_turn_fail_no_request_and_mix_nothing(shop: Shop) -> None:
    stop, seen, switches, took = threading.Event(), [], [], []
    askers = [threading.Thread(target=keep_asking, args=(shop, stop, seen)) for _ in range(4)]
    first = shop.hub.json("/endpoints/stay")["endpoint"]["bundle"]
    switches.append((0.0, 0.0, first))
    for asker in askers:
        asker.start()
    try:
        for _ in range(4):
            began = time.time()
            made = deploy_second(shop)
            switches.append((began, time.time(), made["bundle"]))
            time.sleep(0.2)
            began = time.time()
            made = roll_back(shop, reason="worse")
            switches.append((began, time.time(), made["bundle"]))
            took.append(made["seconds"])
            assert made["warm"]
            time.sleep(0.2)
    finally:
        stop.set()
        for asker in askers:
            asker.join()
    second = switches[1][2]
    assert [bundle for _, _, bundle in switches] == [first, *[second, first] * 4]
    assert {one.status for one in seen} == {200}
    told = {(one.bundle, one.version, one.rule) for one in seen}
    assert told == {(first, "stay@1", "old words"), (second, "stay@2", "new words")}
    ends = [*(end for _, end, _ in switches[1:]), float("inf")]
    in_force = [(began, end, bundle) for (began, _, bundle), end in zip(switches, ends, strict=True)]
    for one in seen:
        assert any(one.bundle == bundle and one.told >= began and one.asked <= end for began, end, bundle in in_force)
    assert min(took) < 1.0
    history = shop.hub.json("/endpoints/stay")["served"]
    assert [one["back_from"] for one in history] == [second, ""] * 4 + [""]
    assert history[0]["changed"][0] == "back from stay@2"
    assert (history[0]["actor"], history[0]["reason"]) == ("owner", "worse")


@pytest.mark.slow
def test_a_warm_process_that_was_killed_does_not_stand_in_the_way(shop: Shop) -> None:
    (before,) = {*serving_processes(shop)} - ({*serving_processes(shop)} - live(shop))
    deploy_second(shop)
    os.kill(before, signal.SIGKILL)
    time.sleep(0.2)
    made = roll_back(shop)
    assert (made["version"], made["warm"]) == ("stay@1", False)
    status, body = shop.hub.predict("stay", BODY)
    assert (status, json.loads(body)["predictions"][0]["rule"]) == (200, "old words")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_left_is_loaded_again_after_a_restart_and_going_back_is_as_fast(
    shop: Shop, how: signal.Signals
) -> None:
    deploy_second(shop)
    shop.hub.stop(how)
    shop.hub = Hub(shop.folder)
    assert shop.hub.predict("stay", BODY)[0] == 200
    first = shop.hub.json("/endpoints/stay")["served"][-1]["bundle"]
    until = time.monotonic() + 90
    while not any(one["warm"] for one in shop.hub.json("/endpoints/stay")["earlier"]):
        assert time.monotonic() < until
        time.sleep(0.1)
    before, asked = live(shop), len(serving_processes(shop))
    made = roll_back(shop, reason="after a restart")
    assert (made["version"], made["bundle"], made["warm"]) == ("stay@1", first, True)
    assert made["seconds"] < 2, "it was loaded anew"
    assert len(serving_processes(shop)) == asked and not live(shop) & before
    status, body = shop.hub.predict("stay", BODY)
    assert (status, json.loads(body)["predictions"][0]["rule"]) == (200, "old words")


@pytest.mark.slow
def test_what_was_gone_back_from_or_left_too_long_ago_is_not_loaded_again(shop: Shop) -> None:
    deploy_second(shop)
    roll_back(shop, reason="it is bad")
    for settings in ({}, {"SAMPAN_WARM_FOR": "1"}):
        shop.hub.stop()
        shop.hub = Hub(shop.folder, **settings)
        assert shop.hub.predict("stay", BODY)[0] == 200
        time.sleep(3)
        assert len(serving_processes(shop)) == 1
        if not settings:
            deploy_second(shop)
    shop.hub.stop()
    shop.hub = Hub(shop.folder)
    roll_back(shop)


def live(shop: Shop) -> set[int]:
    """The process that holds the endpoint's stream."""
    lock = str(shop.folder / ".sampan" / "log" / "serve-stay")
    return {pid for pid in serving_processes(shop) if any(file.startswith(lock) for file in open_files(pid))}


def open_files(pid: int) -> Iterator[str]:
    with suppress(OSError):  # it has ended
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # it was closed meanwhile
                yield str(link.readlink())


def test_a_bundle_and_a_time_can_be_named_and_what_is_in_force_stays(shop: Shop) -> None:
    second = deploy_second(shop)
    first = shop.hub.json("/endpoints/stay")["served"][-1]
    assert roll_back(shop, to=first["bundle"][:8])["version"] == "stay@1"
    again = roll_back(shop, to=first["bundle"][:8])
    assert not again["changed"]
    history = shop.hub.json("/endpoints/stay")["served"]
    then = next(one for one in history if one["bundle"] == second["bundle"])["created"]
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(then // 1_000_000)) + f".{then % 1_000_000:06d}"
    assert roll_back(shop, to=at)["version"] == "stay@2"
    response, body = shop.hub.ask("POST", "/v1/endpoints/stay/rollback", b'{"to": "1999-01-01"}')
    assert response.status == 400, body
    response, body = shop.hub.ask("POST", "/v1/endpoints/none/rollback", b"{}")
    assert response.status == 404 and b"Endpoints: stay" in body


def test_the_page_goes_back_once_however_often_its_button_is_pressed(shop: Shop) -> None:
    second = deploy_second(shop)
    page = shop.hub.json("/endpoints/stay")
    assert page["can_deploy"] and page["earlier"][0]["version"] == "stay@1"
    html = shop.hub.ask("GET", "/endpoints/stay", accept="text/html")[1].decode()
    assert 'action="/endpoints/stay/back"' in html
    form = f"to={page['earlier'][0]['bundle']}&reason=seen+on+the+page".encode()
    kind = "application/x-www-form-urlencoded"
    for _ in range(2):
        response, _ = shop.hub.ask("POST", "/endpoints/stay/back", form, content_type=kind)
        assert (response.status, response.headers["location"]) == (303, "/endpoints/stay")
    newest, before = shop.hub.json("/endpoints/stay")["served"][:2]
    assert (newest["version"], newest["reason"]) == ("stay@1", "seen on the page")
    assert (newest["back_from"], before["bundle"]) == (second["bundle"], second["bundle"])


def test_who_may_only_read_cannot_go_back(shop: Shop) -> None:
    secret = json.loads(shop.post("/v1/tokens", {"name": "vic", "role": "viewer"}))["secret"]
    bearer = {"authorization": f"Bearer {secret}"}
    assert shop.hub.ask("POST", "/v1/endpoints/stay/rollback", b"{}", **bearer)[0].status == 403
    assert shop.hub.ask("POST", "/endpoints/stay/back", b"to=", **bearer)[0].status == 403


def test_the_command_goes_through_the_hub_and_does_without_it(shop: Shop) -> None:
    deploy_second(shop)
    done = sampan(shop.folder, "rollback", "stay", "--reason", "by hand")
    assert done.returncode == 0, done.stderr
    assert "stay serves stay@1 behind greet again" in done.stdout and "it was still loaded" in done.stdout
    assert shop.hub.stop() == 0
    back = sampan(shop.folder, "rollback", "stay", "--json")
    assert back.returncode == 1 and "nothing was in force before it" in back.stderr
    shown = json.loads(sampan(shop.folder, "endpoint", "show", "stay", "--json").stdout)
    newest = shown["history"][0]
    assert newest["back_from"] == shown["history"][1]["bundle"] and newest["reason"] == "by hand"
    forward = sampan(shop.folder, "rollback", "stay", "--to", newest["back_from"][:10], "--json")
    assert json.loads(forward.stdout)["version"] == "stay@2" and forward.returncode == 0
