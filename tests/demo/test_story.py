"""The demo told over a shorter stretch of the year, and every command of the tutorial run in the workspace it leaves.

The full year is what ``sampan demo --once`` plays; the project's own checks run that as a command.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
TELL = """
from datetime import UTC, datetime
from pathlib import Path
from sampan.demo.tell import tell
tell(workspace=Path("sampan-demo"), host="127.0.0.1", port=0, once=True, as_json=True,
     go_live=datetime(2011, 3, 10, tzinfo=UTC), end=datetime(2011, 4, 12, tzinfo=UTC))
"""
FORM = {  # what scripts build on
    "sent": int,
    "accepted": int,
    "duplicate": int,
    "quarantined": int,
    "refused": int,
    "auc_by_month": dict,
    "brier_by_month": dict,
    "value_by_month": dict,
    "versions": list,
    "root": str,
    "seconds": float,
    "workspace": str,
}


class Told:
    def __init__(self, folder, done):
        self.folder, self.story = folder, done.stderr
        self.lines = done.stdout.splitlines()
        self.summary = json.loads(self.lines[-1])
        self.workspace = folder / "sampan-demo"

    def sampan(self, *arguments):
        done = subprocess.run(
            [sys.executable, "-m", "sampan", *arguments], cwd=self.workspace, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("told")
    done = subprocess.run([sys.executable, "-c", TELL], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr + done.stdout
    return Told(folder, done)


def test_standard_output_is_one_line_of_json_in_the_agreed_form(told):
    assert len(told.lines) == 1
    for name, kind in FORM.items():
        assert isinstance(told.summary[name], kind), name
    assert told.summary["workspace"] == str(told.workspace)


def test_every_event_sent_has_one_verdict_and_the_log_agrees(told):
    found, stats = told.summary, told.sampan("log", "stats", "--json")
    verdicts = ("accepted", "duplicate", "quarantined", "refused")
    assert found["sent"] == sum(found[name] for name in verdicts)
    assert found["duplicate"] > 0 and found["quarantined"] > 0 and found["refused"] == 0
    assert stats["accepted"] == found["accepted"] + found["decisions"]  # a decision is an event too
    assert [stats[name] for name in verdicts[1:]] == [found[name] for name in verdicts[1:]]
    assert stats["root"] == found["root"]


def test_what_breaks_the_contract_waits_with_its_reason(told):
    assert list(told.summary["quarantine"]) == ["invalid: Expected int >= 1 at $.data.quantity"]


def test_decisions_have_figures_by_month_and_every_order_got_one(told):
    found = told.summary
    assert list(found["auc_by_month"]) == ["2011-03"]  # of April no outcome is known yet
    assert 0.75 < found["auc_by_month"]["2011-03"] < 0.87
    assert 0.14 < found["brier_by_month"]["2011-03"] < 0.22
    assert found["value_by_month"]["2011-03"] > 200
    assert sum(found["rules"].values()) == found["decisions"] > 1000
    assert found["versions"][:2] == ["reorder@1", "reorder@2"]  # those of the flow; the others are of the rehearsal


def test_the_leak_promises_more_and_is_refused_by_name(told):
    leak = told.summary["leak"]
    assert leak["refused"] and leak["auc"] > leak["honest_auc"] + 0.04
    assert "lifetime_orders" in leak["reason"]
    assert "lifetime_orders" not in {
        c["name"] for c in told.sampan("sql", "FROM features LIMIT 0", "--json")["columns"]
    }


def test_a_rollout_is_played_over_what_there_is_and_its_looks_are_kept(told):
    (one,) = told.summary["rehearsals"]
    assert one["decisions"] == told.summary["decisions"]
    assert set(one["figures"]) == {"KPI", "Brier"}
    found = told.sampan("rollout", "show", one["id"], "--json")
    assert found["rehearsal"]["retrain"] == "month" and found["rollout"]["phase"] == one["phase"]
    assert [stage["shown"] for stage in found["stages"]] == ["shadow", "100 % of traffic"]


def test_tills_and_web_shop_send_one_shape_and_prices_in_pence_would_be_noticed(told):
    sources = "SELECT DISTINCT _source FROM order_line UNION SELECT DISTINCT _source FROM order_cancelled"
    assert {row[0] for row in told.sampan("sql", sources, "--json")["rows"]} == {"till", "G-RETAIL"}
    assert told.sampan("log", "conform", "order_line", "--json")["verdict"] == "conforms"
    assert "unit_price" in told.summary["planted"] and "100" in told.summary["planted"]


def test_time_in_the_log_only_goes_forward_with_the_story(told):
    rows = told.sampan("sql", "SELECT min(_received - _time), max(_received) FROM outcome", "--json")["rows"]
    assert rows[0][1].startswith("2011-04-1")
    late = told.sampan("sql", "SELECT count(*) FROM order_line WHERE _received < _time", "--json")["rows"]
    assert late == [[0]]


# -- the tutorial


def console(text):
    """The commands of the tutorial's console blocks, each with the exit code that it says it has."""
    for block in re.findall(r"```console\n(.*?)```", text, re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                command, _, code = line[2:].partition("  # exit code ")
                yield command, int(code or 0)


class Reader:
    """Somebody who follows the tutorial: a shell with a current folder, a hub in another terminal."""

    def __init__(self, told):
        self.told, self.here, self.hub = told, told.folder, None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = str(free.getsockname()[1])
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "SAMPAN_PORT": self.port}

    def types(self, command):
        if command.startswith("cd "):
            self.here = (self.here / command[3:]).resolve()
            return 0
        if command == "sampan up":
            self.hub = subprocess.Popen(
                ["sampan", "up"],
                cwd=self.here,
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
            )
            for _ in range(600):
                try:
                    socket.create_connection(("127.0.0.1", int(self.port)), 0.1).close()
                    return 0
                except OSError:
                    time.sleep(0.1)
            return 1
        done = subprocess.run(
            ["bash", "-c", self.fitted(command)], cwd=self.here, env=self.environment, capture_output=True, text=True
        )
        self.said = done.stdout + done.stderr
        return done.returncode

    def fitted(self, command):
        """The command with the names of this telling: its port, its last prediction, its newest run."""
        command = command.replace("7267", self.port)
        command = re.sub(r"order-\d+", self.told.summary["prediction"], command)
        if "--run " in command:
            runs = subprocess.run(
                ["sampan", "runs", "list", "--json"],
                cwd=self.here,
                env=self.environment,
                capture_output=True,
                text=True,
            )
            command = re.sub(r"--run \w+", f"--run {json.loads(runs.stdout)['runs'][0]['run']}", command)
        return command

    def leaves(self):
        if self.hub is not None:
            self.hub.send_signal(signal.SIGTERM)
            self.hub.wait(20)


@pytest.fixture
def reader(told):
    one = Reader(told)
    yield one
    one.leaves()


@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("bash"), reason="the tutorial uses bash and curl")
def test_every_command_of_the_tutorial_does_what_it_says(reader):
    text = TUTORIAL.read_text("utf-8")
    told_files = dict(re.findall(r"Save it as `([^`]+)`:\n\n```\w+\n(.*?)```", text, re.S))
    commands = list(console(text))
    assert len(commands) > 25
    for command, code in commands:
        if command.startswith(("uv run sampan demo", "sampan demo")):
            continue  # that was the fixture
        if command.startswith("curl"):
            time.sleep(0.2)
        for name, content in told_files.items():
            if name in command and not (reader.here / name).exists():
                (reader.here / name).write_text(content, "utf-8")
        assert reader.types(command) == code, f"{command}\n{reader.said}"
