"""``sampan.log`` with SAMPAN_URL: what is logged gets to a hub elsewhere, once it answers, and is there once."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.hub.conftest import Hub, environment, make_workspace

from sampan.track.outbox import outbox

SCRIPT = """
import sampan

with sampan.logged_run("one", "tuning"):
    sampan.log_params(depth=4)
    for at in range(3):
        sampan.log(loss=1 / (at + 1))
"""


@pytest.fixture
def away(tmp_path: Path) -> Path:
    """A folder that is in no workspace, and a home of its own."""
    (tmp_path / "away").mkdir()
    return tmp_path / "away"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    running = Hub(make_workspace(tmp_path / "shop"))
    yield running
    assert running.stop() == 0


def settings(away: Path, url: str, token: str) -> dict[str, str]:
    return environment(SAMPAN_URL=url, SAMPAN_TOKEN=token, XDG_STATE_HOME=str(away / "state"))


def start(away: Path, url: str, token: str, text: str = SCRIPT) -> "subprocess.Popen[str]":
    (away / "training.py").write_text(text)
    return subprocess.Popen(
        [sys.executable, "training.py"], cwd=away, env=settings(away, url, token), text=True, stderr=subprocess.PIPE
    )


def run(away: Path, url: str, token: str, text: str = SCRIPT) -> str:
    """What a script says on standard error; it must end well."""
    process = start(away, url, token, text)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 0, said
    return said


def sync(away: Path, url: str, token: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "sampan", "sync", "--json"]
    return subprocess.run(
        command, cwd=away, env=settings(away, url, token), capture_output=True, text=True, timeout=60, check=False
    )


def files(away: Path) -> list[Path]:
    return sorted((away / "state").rglob("*.jsonl"))


def logged(hub: Hub) -> list[Any]:
    """Every run in the hub, as MLflow's clients see them."""
    body = json.dumps({"experiment_ids": [str(one) for one in range(4)], "max_results": 100}).encode()
    response, found = hub.ask("POST", "/api/2.0/mlflow/runs/search", body, content_type="application/json")
    assert response.status == 200, found
    return list(json.loads(found).get("runs", []))


def loss(found: Any, hub: Hub) -> list[float]:
    query = f"/api/2.0/mlflow/metrics/get-history?run_id={found['info']['run_id']}&metric_key=loss"
    return [one["value"] for one in hub.json(query)["metrics"]]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_what_is_logged_elsewhere_is_in_the_hub_and_leaves_nothing_behind(away: Path, hub: Hub) -> None:
    assert run(away, hub.url, hub.token) == ""
    (found,) = logged(hub)
    assert (found["info"]["status"], found["info"]["run_name"]) == ("FINISHED", "one")
    assert {one["key"]: one["value"] for one in found["data"]["params"]} == {"depth": "4"}
    assert loss(found, hub) == [1.0, 0.5, 1 / 3]
    assert files(away) == []


def test_while_the_hub_is_down_it_waits_and_is_there_once_however_often_it_is_sent(away: Path, tmp_path: Path) -> None:
    port, folder = free_port(), make_workspace(tmp_path / "shop")
    url = f"http://127.0.0.1:{port}"
    said = run(away, url, "smp_none")
    assert said.count("cannot be reached") == 1 and "sampan sync" in said
    (kept,) = files(away)
    copy = kept.read_bytes()
    assert b"smp_none" not in copy
    done = sync(away, url, "smp_none")
    assert done.returncode == 3 and "cannot be reached" in done.stderr and "Traceback" not in done.stderr
    hub = Hub(folder, "--port", str(port))
    try:
        for _ in range(2):
            kept.write_bytes(copy)
            assert json.loads(sync(away, url, hub.token).stdout) == {"taken": 1, "waiting": 0}
        (found,) = logged(hub)
        assert loss(found, hub) == [1.0, 0.5, 1 / 3]
        assert found["info"]["status"] == "FINISHED"
    finally:
        hub.stop()


def test_a_token_that_the_hub_refuses_is_told_and_the_next_run_sends_what_waits(away: Path, hub: Hub) -> None:
    said = run(away, hub.url, "smp_wrong")
    assert "does not take what is logged (401" in said and len(files(away)) == 1
    done = sync(away, hub.url, "smp_wrong")
    assert done.returncode != 0 and "the hub answers 401" in done.stderr and "role trainer" in done.stderr
    assert run(away, hub.url, hub.token) == ""
    assert len(logged(hub)) == 2 and files(away) == []


def test_values_arrive_while_a_run_goes_on_and_a_killed_one_is_killed(away: Path, hub: Hub) -> None:
    text = "import sampan, time\nsampan.log(loss=0.5)\ntime.sleep(60)\n"
    process = start(away, hub.url, hub.token, text)
    until = time.monotonic() + 30
    while not (found := logged(hub)) and time.monotonic() < until:
        time.sleep(0.2)
    assert found[0]["info"]["status"] == "RUNNING" and loss(found[0], hub) == [0.5]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert json.loads(sync(away, hub.url, hub.token).stdout) == {"taken": 1, "waiting": 0}
    (killed,) = logged(hub)
    assert killed["info"]["status"] == "KILLED" and loss(killed, hub) == [0.5]


@pytest.mark.slow
def test_a_hub_that_has_lost_the_beginning_is_sent_all_of_it(away: Path, tmp_path: Path) -> None:
    port = free_port()
    hub = Hub(make_workspace(tmp_path / "shop"), "--port", str(port))
    text = (
        "import sampan, sys, time\nfrom pathlib import Path\nsampan.log(loss=1.0)\n"
        "while not Path('again').exists():\n    time.sleep(0.1)\nsampan.log(loss=0.5)\n"
    )
    process = start(away, hub.url, hub.token, text)
    token = hub.token
    until = time.monotonic() + 30
    while not logged(hub) and time.monotonic() < until:
        time.sleep(0.2)
    hub.stop()
    for path in (tmp_path / "shop" / ".sampan").glob("tracking.db*"):
        path.unlink()
    hub = Hub(tmp_path / "shop", "--port", str(port))
    try:
        (away / "again").touch()
        process.communicate(timeout=60)
        sync(away, hub.url, token)
        sync(away, hub.url, token)
        (found,) = logged(hub)
        assert loss(found, hub) == [1.0, 0.5]
    finally:
        hub.stop()


def test_the_route_takes_what_sampan_log_writes_and_nothing_else(hub: Hub) -> None:
    def post(run: str, *lines: Any) -> tuple[int, Any]:
        body = json.dumps({"lines": lines}).encode()
        response, answer = hub.ask("POST", f"/v1/logged/{run}", body, content_type="application/json")
        return response.status, json.loads(answer)

    run, begin = "0" * 32, {"time": 1, "experiment": "tuning", "name": "one"}
    status, said = post(run, {"time": 1, "metrics": {"loss": "1"}})
    assert status == 404 and "from its first line" in said["error"]["advice"]
    assert post("../x", begin)[0] == 404 and post("g" * 32, begin)[0] == 400
    assert post(run, {**begin, "tags": {"\n": "x"}})[0] == 400
    assert post(run, {**begin, "experiment": "x" * 501})[0] == 400
    assert post(run, {**begin, "status": "WON"})[0] == 400
    assert post(run, {**begin, "time": -1})[0] == 400
    assert logged(hub) == []
    assert post(run, begin, {"time": 2, "metrics": {"loss": "nan", "x": "no number"}}) == (200, {"ended": False})
    assert post(run, {"time": 3, "status": "FINISHED"}) == (200, {"ended": True})
    assert len(logged(hub)) == 1


def test_each_hub_has_an_outbox_of_its_own(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(away))
    assert outbox("http://a:1") == outbox("http://a:1/") != outbox("http://a:2")
    shutil.rmtree(away)
