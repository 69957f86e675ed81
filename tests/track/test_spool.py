"""``sampan.log``: logged without a hub, it is there once one is, once; a step and what it logged know each other."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.hub.conftest import Hub, environment, make_workspace
from tests.hub.conftest import sampan as command

import sampan
from sampan.app import App
from sampan.base.errors import NotFound, Usage
from sampan.track import spool
from sampan.track.spool import SPOOL
from sampan.track.sync import Sync, waiting
from sampan.track.tracking import Tracking

STEPS = """
import sampan

@sampan.step
def train(depth: int = 4) -> float:
    for step in range(3):
        sampan.log(loss=1 / (step + depth))
    sampan.log({"val/loss": 0.5}, step=7)
    return 0.5

@sampan.step
def broken(train: float) -> float:
    sampan.log(seen=train)
    raise ValueError("no")
"""


def script(folder: Path, text: str, **extra: str) -> "subprocess.Popen[bytes]":
    (folder / "training.py").write_text(text)
    return subprocess.Popen([sys.executable, "training.py"], cwd=folder, env=environment(**extra))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return make_workspace(tmp_path / "shop")


def runs_of(folder: Path, experiment: str) -> list[Any]:
    app = App(folder)
    try:
        found = app.tracking.experiments.named(experiment).id
        return app.tracking.search.runs([found]).found
    finally:
        app.close()


def test_what_is_logged_without_a_hub_is_there_once_however_often_it_is_taken(
    shop: Path, tracking: Tracking, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(shop)
    with sampan.logged_run("one", "tuning") as run:
        sampan.log(loss=0.5)
        sampan.log(loss=0.25, acc=1)
        sampan.log({"val/loss": float("nan")}, step=9)
        sampan.log_params(depth=4, kind="tree")
        with sampan.logged_run("inner"):
            sampan.log(x=1)
    kept = {path.name: path.read_bytes() for path in (shop / ".sampan" / SPOOL).iterdir()}
    for _ in range(2):
        for name, data in kept.items():
            (shop / ".sampan" / SPOOL / name).write_bytes(data)
        assert Sync(shop / ".sampan", tracking).take() == 2
        assert waiting(shop / ".sampan") == 0
    found = tracking.runs.get(run.id)
    assert (found.name, found.status, found.params) == ("one", "FINISHED", {"depth": "4", "kind": "tree"})
    assert [(one.step, one.value) for one in tracking.runs.history(run.id, "loss", 9)] == [(0, 0.5), (1, 0.25)]
    assert tracking.runs.points(run.id) == {"loss": 2, "acc": 1, "val/loss": 1}
    (inner,) = tracking.search.runs([tracking.experiments.named("shop").id]).found
    assert inner.tags["mlflow.parentRunId"] == run.id


def test_a_run_whose_process_is_killed_keeps_what_it_logged(shop: Path) -> None:
    text = "import os, sampan\nfor n in range(100): sampan.log(loss=n)\nos.kill(os.getpid(), 9)\n"
    assert script(shop, text).wait() == -signal.SIGKILL
    (path,) = (shop / ".sampan" / SPOOL).glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b'{"time": 1, "metr')
    assert json.loads(command(shop, "sync", "--json").stdout) == {"taken": 1, "waiting": 0}
    (run,) = runs_of(shop, "shop")
    assert (run.name, run.status, run.metrics[0].value, run.metrics[0].step) == ("training", "KILLED", 99.0, 99)


@pytest.mark.slow
def test_a_hub_takes_what_is_logged_while_the_run_goes_on(shop: Path) -> None:
    process = script(shop, _WAITS)
    hub = Hub(shop)
    try:
        give_up = time.monotonic() + 60
        body = b'{"experiment_ids": ["1"]}'
        while time.monotonic() < give_up:
            found = json.loads(hub.ask("POST", "/api/2.0/mlflow/runs/search", body)[1]).get("runs", [])
            if found:
                break
            time.sleep(0.2)
        assert found[0]["info"]["status"] == "RUNNING"
        assert process.poll() is None
    finally:
        (shop / "go").touch()
        process.wait(30)
        give_up = time.monotonic() + 30
        while waiting(shop / ".sampan") and time.monotonic() < give_up:
            time.sleep(0.2)
        assert hub.stop() == 0
    (run,) = runs_of(shop, "shop")
    assert (run.status, len(run.metrics)) == ("FAILED", 1)


_WAITS = """
import pathlib, time, sampan
sampan.log(loss=1)
while not pathlib.Path("go").exists():
    time.sleep(0.1)
raise SystemError("ends badly")
"""


def test_a_step_logs_into_a_run_of_its_own_and_both_pages_lead_to_each_other(shop: Path) -> None:
    (shop / "steps.py").write_text(STEPS)
    command(shop, "run")
    (run,) = runs_of(shop, "train")
    assert (run.name, run.status, run.params) == ("train", "FINISHED", {"depth": "4"})
    assert {one.key: one.value for one in run.metrics} == {"loss": 1 / 6, "val/loss": 0.5}
    (failed,) = runs_of(shop, "broken")
    assert failed.status == "FAILED"
    command(shop, "run")  # train is cached, broken runs again
    app = App(shop)
    try:
        second, first = app.view("/runs")["runs"]
        assert first["run"] == run.tags["sampan.run"]
        logged = {one["step"]: one for one in app.view(f"/runs/{first['run']}")["logged"]}
        assert (logged["train"]["id"], logged["train"]["of"]) == (run.id, "")
        logged = {one["step"]: one for one in app.view(f"/runs/{second['run']}")["logged"]}
        assert (logged["train"]["id"], logged["train"]["of"]) == (run.id, first["run"])
        assert (logged["broken"]["id"] != failed.id, logged["broken"]["of"]) == (True, "")
        page = app.view(f"/experiments/{run.experiment}/runs/{run.id}")
        assert (page["flow_run"], page["step"]) == (first["run"], "train")
    finally:
        app.close()


@pytest.mark.parametrize(
    ("values", "obstacle"),
    [
        ({"loss": "much"}, "is no number"),
        ({"../up": 1.0}, "invalid name"),
        ({"": 1.0}, "name is empty"),
        ({}, "no metric is named"),
    ],
)
def test_what_cannot_be_logged_is_said(
    shop: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], obstacle: str
) -> None:
    monkeypatch.chdir(shop)
    with sampan.logged_run() as run, pytest.raises(Usage, match=obstacle):
        run.log(values)


def test_a_parameter_does_not_change_and_an_ended_run_takes_nothing(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    with sampan.logged_run() as run:
        run.log_params(depth=4)
        run.log_params(depth=4)
        with pytest.raises(Usage, match="the parameter depth was logged as '4', not '5'"):
            run.log_params(depth=5)
    with pytest.raises(Usage, match="has ended"):
        run.log(loss=1)


def test_outside_of_a_workspace_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound, match=r"no sampan\.toml"):
        spool.log(loss=1)
