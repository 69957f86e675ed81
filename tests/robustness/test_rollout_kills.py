"""kill -9 of the hub and of each serving process at every stage of a rollout, while clients ask past the hub.

After each kill the rollout is where it was; the same entity meets the same variant; what was acknowledged is in the log
once, by whoever gave the answer; an id that is asked again has the answer that it had.
"""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from sampan.base.assigning import gets_candidate
from tests.hub.conftest import after_a_run, environment, two_versions
from tests.hub.test_rollback import live, serving_processes
from tests.hub.test_rollouts import Yard, body
from tests.rollout_plan import BETTER, plan

__all__ = ["after_a_run", "two_versions"]  # the fixtures

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SHARES = (0.0, 0.05, 0.25, 0.5, 1.0)
PEOPLE = 400
PLAN = plan("stay", *((share, "5 hours") for share in SHARES[:-1]), query=BETTER, top='units = 30\nurgent = ["golden"]')


class Asker(threading.Thread):
    """Asks past the hub, each time under an id of its own, until there is an answer: with the same id."""

    def __init__(self, yard: Yard, number: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged: dict[str, tuple[str, str]] = {}  # the visitor and the version, by id
        self.statuses: set[int] = set()
        self.stopping = False
        self._yard, self._number = yard, number

    def run(self) -> None:
        connection: HTTPConnection | None = None
        for turn in itertools.count():
            id, visitor = f"{self._number}-{turn}", f"v{random.randrange(PEOPLE)}"
            sent = json.dumps({**json.loads(body(visitor)), "ids": [id]}).encode()
            while not self.stopping:
                try:
                    connection = connection or HTTPConnection("127.0.0.1", self._yard.hub.direct, timeout=30)
                    connection.request("POST", "/predict/stay", sent, self._yard.known())
                    response = connection.getresponse()
                    told = json.loads(response.read())
                except (OSError, HTTPException, ValueError):  # killed
                    if connection is not None:
                        connection.close()
                    connection = None
                    time.sleep(0.05)
                    continue
                self.statuses.add(response.status)
                if response.status == 200:
                    self.acknowledged[id] = visitor, told["predictions"][0]["version"]
                    break
                time.sleep(0.1)
            if self.stopping:
                break
            time.sleep(0.004)
        if connection is not None:
            connection.close()


@pytest.fixture(scope="module")
def yard(two_versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    made = Yard(two_versions, tmp_path_factory.mktemp("killed") / "shop")
    (made.shop.folder / "rollouts.toml").write_text(PLAN)
    made.hub.direct = made.hub.port_of("stay")
    yield made
    made.hub.stop()


@pytest.fixture
def askers(yard: Yard) -> Iterator[list[Asker]]:
    """Ask while a test goes on; what they were told is looked up in the log afterwards."""
    before = {row["id"] for row in in_log(yard)}
    asking = [Asker(yard, at) for at in random.sample(range(1 << 30), 3)]
    for one in asking:
        one.start()
    yield asking
    for one in asking:
        one.stopping = True
    for one in asking:
        one.join(40)
    told = {id: said for one in asking for id, said in one.acknowledged.items()}
    assert len(told) > 100 and {status for one in asking for status in one.statuses} <= {200, 503}
    kept = [row for row in in_log(yard) if row["id"] not in before]
    twice = len(kept) - len({row["id"] for row in kept})
    assert not twice, f"{twice} ids stand in the log twice"
    found = {row["id"]: row for row in kept}
    assert set(told) <= set(found), "an acknowledged prediction is lost"
    variants: defaultdict[tuple[str, int, str], set[str]] = defaultdict(set)
    for id, (visitor, version) in told.items():
        assert found[id]["entity"] == visitor
        assert found[id]["version"] == version, "the log names another version than the answer"
    for row in kept:
        if not row["rollout"]:
            continue
        due = gets_candidate(row["rollout"], row["entity"], SHARES[row["stage"]])
        assert row["variant"] == ("candidate" if due else "champion"), row
        if not row["fallback"]:
            assert (row["version"] == "stay@2") == due, row
            variants[row["rollout"], row["stage"], row["entity"]].add(row["version"])
    assert all(len(one) == 1 for one in variants.values()), "an entity met two variants at one stage"


def in_log(yard: Yard) -> list[dict[str, Any]]:
    query = "SELECT _id AS id, entity, version, variant, rollout, stage, fallback FROM prediction"
    done = yard.command("sql", query, "--json", "--limit", "1000000")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    names = [one if isinstance(one, str) else one["name"] for one in found["columns"]]
    return [dict(zip(names, row, strict=True)) for row in found["rows"]]


def restart(yard: Yard) -> None:
    yard.restart()
    assert yard.hub.direct == 0
    yard.hub.direct = yard.hub.port_of("stay")


def kill_hub(yard: Yard) -> None:
    yard.hub.stop(signal.SIGKILL)
    restart(yard)


def kill_champion(yard: Yard) -> None:
    (pid,) = live(yard.shop)
    os.kill(pid, signal.SIGKILL)


def kill_others(yard: Yard) -> None:
    """The candidate's process, and what is kept warm."""
    for pid in serving_processes(yard.shop) - live(yard.shop):
        os.kill(pid, signal.SIGKILL)


KILLS: tuple[Callable[[Yard], None], ...] = (kill_champion, kill_others, kill_hub)


def settled(yard: Yard) -> None:
    """All processes are there again, and a while has passed in which clients ask them."""
    until = time.monotonic() + 60
    while True:
        state = yard.hub.json("/endpoints")["endpoints"][0]
        beside = state.get("candidate")
        if state["state"] == "serving" and (beside is None or beside["state"] == "serving"):
            break
        assert time.monotonic() < until, state
        time.sleep(0.1)
    time.sleep(0.7)


def where(yard: Yard) -> tuple[str, str, int]:
    found = yard.page()["rollout"]
    return found["id"], found["phase"], found["stage"]


def tell(yard: Yard, verb: str, patience: float = 60.0) -> None:
    """Tell a rollout something; it is refused as long as nothing is known."""
    until = time.monotonic() + patience
    while (done := yard.command("rollout", verb, "stay", "--reason", "the test goes on")).returncode:
        assert time.monotonic() < until, done.stderr
        time.sleep(0.5)


def survives(yard: Yard, kill: Callable[[Yard], None]) -> None:
    before, serves = where(yard), yard.serves()
    kill(yard)
    settled(yard)
    assert where(yard) == before, kill.__name__
    assert yard.serves() == serves


def end(yard: Yard) -> None:
    if yard.page()["rollout"]["phase"] not in ("reverted", "stopped", "done"):
        tell(yard, "back")
    assert yard.serves("stay@1") == "stay@1"


def test_a_kill_of_anything_at_any_stage_changes_nothing(yard: Yard, askers: list[Asker]) -> None:
    yard.begin()
    for stage in range(len(SHARES)):
        if stage:
            tell(yard, "promote")
        settled(yard)
        assert where(yard)[1:] == ("full" if SHARES[stage] == 1 else "running", stage)
        for kill in KILLS:
            survives(yard, kill)
    assert yard.serves("stay@2") == "stay@2"
    end(yard)
    for kill in (kill_champion, kill_hub):
        survives(yard, kill)
    assert where(yard)[1] == "reverted"


def test_a_kill_while_it_is_paused_leaves_it_paused(yard: Yard, askers: list[Asker]) -> None:
    yard.begin()
    tell(yard, "promote")
    tell(yard, "promote")
    tell(yard, "pause")
    for kill in KILLS:
        survives(yard, kill)
    assert where(yard)[1:] == ("paused", 2)
    tell(yard, "resume")
    assert where(yard)[1:] == ("running", 2)
    end(yard)


@pytest.mark.parametrize(
    ("verb", "phase", "serves"),
    [("promote", "full", "stay@2"), ("urgent", "full", "stay@2"), ("back", "reverted", "stay@1")],
)
def test_a_hub_that_is_killed_while_it_does_something_has_done_it_or_not(
    yard: Yard, askers: list[Asker], verb: str, phase: str, serves: str
) -> None:
    yard.begin()
    for _ in range({"promote": 3, "urgent": 0, "back": 2}[verb]):
        tell(yard, "promote")
    settled(yard)
    tell_pause = 0.15
    for kill in (None, kill_champion, kill_hub, kill_hub, kill_hub, kill_hub):
        if where(yard)[1] == phase:
            break
        doing = say(yard, verb)
        if kill is not None:
            time.sleep(tell_pause)
            tell_pause += 0.12
            with suppress(ValueError):  # a switch is going on: nobody is in front
                kill(yard)
        elif verb == "urgent":
            doing.wait(60)  # refused, as long as nothing was seen
        doing.kill() if doing.poll() is None and kill is kill_hub else doing.wait(60)
        settled(yard)
        _, now, _ = where(yard)
        assert now in (phase, "running"), "half of it was done"
        assert yard.serves(serves if now == phase else "stay@1") == (serves if now == phase else "stay@1")
        if now == phase:
            for again in KILLS if phase == "full" else (kill_champion, kill_hub):
                survives(yard, again)
            assert yard.serves(serves) == serves
    else:
        tell(yard, verb)
    assert where(yard)[1] == phase and yard.serves(serves) == serves
    if verb == "urgent":
        assert yard.page()["rollout"]["why"].startswith("urgent: ")
    end(yard)


def say(yard: Yard, verb: str) -> "subprocess.Popen[bytes]":
    """A command that nobody waits for."""
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "sampan",
            "-C",
            str(Path(yard.shop.folder)),
            "rollout",
            verb,
            "stay",
            "--reason",
            "go on",
        ],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
