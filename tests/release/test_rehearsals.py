"""A rollout over the past: of what its plan can be rehearsed, when is trained and looked, and what it comes to."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.hub.conftest import Hub, environment

from sampan.app import App
from sampan.base.clock import SharedClock, from_micros, iso, to_micros
from sampan.base.errors import NotFound, SampanError, Usage
from sampan.hub.sitemap import view
from sampan.release.rehearsals import looks, rehearsed, turns
from sampan.release.rollouts import Rollout
from sampan.serve.again import Case, answer_again

pytestmark = pytest.mark.slow

DAY = 86_400_000_000
FILES = {
    "sampan.toml": "",
    "contracts.py": "from sampan import Event\n\n\nclass Visit(Event, version=1):\n"
    "    minutes: float\n    bought: bool\n",
    "tables/training.sql": "SELECT _id AS visit, minutes, bought FROM visit\n",
    "models.py": """
import pyarrow as pa
from sklearn.linear_model import LogisticRegression
from sampan import Fitted, model


@model(kind="binary", target="bought")
def buys(training: pa.Table, newest: int = 60) -> Fitted:
    rows = training.sort_by("visit").slice(max(0, training.num_rows - newest))
    fitted = LogisticRegression().fit(rows["minutes"].to_numpy().reshape(-1, 1), rows["bought"].to_numpy())
    return Fitted(fitted, features=["minutes"], sample=training.select(["minutes"]))
""",
    "decisions.py": """
from sampan import Action, decision


@decision(model="buys", currency="EUR", default="wait", entity="visitor",
          values={"call": {True: 3.0, False: -1.0}, "wait": {True: 0.0, False: 0.0}})
def buys(prediction: float, context: dict, likely: float = 0.5) -> Action:
    return Action("call", rule="likely") if prediction >= likely else Action("wait", rule="not likely")
""",
    "rollouts.toml": '''
[buys]
units = 30
patience = "1 day"
[buys.kpi]
minimum_effect = 0.2
[[buys.guardrail]]
kind = "error_rate"
at_most = 0.05
[[buys.guardrail]]
kind = "latency"
at_most_ms = 1
[[buys.guardrail]]
kind = "metric"
name = "calls"
direction = "down"
at_most_worse = 1.0
query = """
SELECT _id AS prediction_id, CAST(action = 'call' AS INTEGER) AS value FROM prediction
UNION ALL SELECT _id, CAST(action = 'call' AS INTEGER) FROM shadow
"""
[[buys.stage]]
shadow = true
at_least = "2 days"
[[buys.stage]]
share = 0.5
[[buys.stage]]
share = 1.0
''',
}
BEGIN = to_micros(datetime(2026, 1, 1, tzinfo=UTC))
LIVE = BEGIN + 30 * DAY


def minutes(number: int) -> float:
    return float(number * 7 % 20)


def bought(number: int, turned: bool) -> bool:
    """Who stays long buys; later, who stays short does. One in ten is otherwise."""
    return ((minutes(number) > 9.5) != turned) != (number % 10 == 3)


class Shop:
    """Two months: in the first one long visits buy, in the second one short ones. A model of the first decides."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, text in FILES.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        (root / ".sampan").mkdir()
        monkeypatch.setenv("SAMPAN_CLOCK", ".sampan/clock")
        self.clock = SharedClock.create(root / ".sampan" / "clock", from_micros(BEGIN))
        self.app = App(root)
        self.send(BEGIN + 29 * DAY, *(self.visit(n, BEGIN + n * DAY // 4, False) for n in range(100)))
        self.clock.set(LIVE)
        with self.app.writing("Run"):
            assert self.app.run("", {}, "ann", lambda _: None)["state"] == "succeeded"
            made = self.app.endpoints.deploy("buys", "buys@1", workspace=root, actor="ann")
        self.bundle = self.app.endpoints.bundle(made.bundle)
        cases = [Case(f"p{n}", LIVE, {"minutes": minutes(n), "visitor": f"c{n}"}) for n in range(1_000, 1_240)]
        self.answers = answer_again(self.app.blobs, [(self.bundle, cases)], root / ".sampan" / "tmp")
        for day in range(30):
            numbers = range(1_000 + 8 * day, 1_008 + 8 * day)
            at = LIVE + day * DAY
            self.send(at + DAY // 2, *self.decided(numbers, at))
            self.send(at + DAY - 1_000_000, *(self.visit(n, at + DAY // 2, True) for n in numbers))
            self.send(at + DAY - 1_000_000, *(self.outcome(n, at) for n in numbers))
        self.clock.set(LIVE + 31 * DAY)

    def send(self, at: int, *events: dict[str, Any]) -> None:
        self.clock.set(at)
        with self.app.writing("Send"):
            writer = self.app.log.writer("told")
            lines = [msgspec.json.encode({"source": "test", **event}) for event in events]

            async def submit() -> Any:
                return await writer.submit(writer.checker.batch(lines), "test")

            answer = asyncio.run(submit())
            writer.close()
            assert answer.accepted == len(events), [one for one in answer.verdicts() if one.verdict != "accepted"][:1]

    def visit(self, number: int, at: int, turned: bool) -> dict[str, Any]:
        data = {"minutes": minutes(number), "bought": bought(number, turned)}
        return {"id": f"v{number:05}", "type": "visit", "time": iso(at), "known_at": iso(at), "data": data}

    def outcome(self, number: int, at: int) -> dict[str, Any]:
        """Every other one names its prediction by entity and time."""
        key = {"endpoint": "buys", "entity": f"c{number}"} if number % 2 else {"prediction_id": f"p{number}"}
        data = {**key, "value": bought(number, True)}
        return {"id": f"o{number}", "type": "outcome", "time": iso(at + DAY // 2), "data": data}

    def decided(self, numbers: range, at: int) -> Iterator[dict[str, Any]]:
        for n in numbers:
            one = self.answers[f"p{n}"]
            data = {"endpoint": "buys", "version": "buys@1", "bundle": self.bundle.digest, "entity": f"c{n}"}
            data |= {"features": {"minutes": minutes(n)}, "prediction": one.prediction, "action": one.action}
            data |= {"rule": one.rule, "value": one.value}
            yield {"id": one.id, "type": "prediction", "time": iso(at), "subject": f"c{n}", "data": data}

    def rehearse(self, **asked: Any) -> Any:
        request = {"endpoint": "buys", "since": LIVE, "every": "1 day", "reason": "does it pay?"} | asked
        return self.app.rehearse(request, "ann", lambda _: None)

    def page(self, id: str) -> Any:
        return msgspec.to_builtins(view(self.app, f"/rollouts/{id}"))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with pytest.MonkeyPatch.context() as patch:
        made = Shop(tmp_path_factory.mktemp("rehearsed") / "shop", patch)
        yield made
        made.app.close()


@pytest.fixture(scope="module")
def weekly(shop: Shop) -> Any:
    return shop.rehearse(retrain="week")


def test_a_model_that_is_trained_anew_each_week_would_have_been_promoted(shop: Shop) -> None:
    count, versions = sum(shop.app.log.position().values()), len(shop.app.models.list("buys"))
    found = shop.rehearse(retrain="week")
    assert found["phase"] == "full" and "the gain is above 0" in found["why"]
    assert LIVE + 2 * DAY < found["at"] < LIVE + 31 * DAY
    assert len(found["candidates"]) == 5 and len(set(found["candidates"])) > 2
    assert found["decisions"] == 240 and found["figures"]["KPI"]["verdict"] == "better"
    json.dumps(found)
    # nothing came of it but the record, and versions that nobody serves
    assert sum(shop.app.log.position().values()) == count
    assert shop.app.endpoints.get("buys").spec.version == "buys@1"
    assert shop.app.rollouts.active("buys") is None and shop.app.rollouts.list() == []
    assert len(shop.app.models.list("buys")) > versions
    assert list(shop.app.lake.branches()) == ["main"]


def test_a_look_knows_what_was_known_then_and_no_more(shop: Shop, weekly: Any) -> None:
    begun = shop.app.rollouts.get(weekly["id"])
    seen = {line.at: line.entry.look.units[0] for line in shop.app.rollouts.lines(begun) if line.entry is not None}
    # of each day eight decisions, whose outcomes come at its end
    assert seen == {at: 8 * ((at - LIVE) // DAY) for at in seen}
    assert min(seen.values()) == 8


def test_one_that_loses_would_have_been_taken_back(shop: Shop, weekly: Any) -> None:
    file = shop.app.folder.root / "rollouts.toml"
    file.write_text(FILES["rollouts.toml"].replace("minimum_effect = 0.2", 'minimum_effect = 0.2\ndirection = "down"'))
    try:
        found = shop.rehearse(model=weekly["candidates"][-1])
    finally:
        file.write_text(FILES["rollouts.toml"])
    assert found["phase"] == "reverted" and found["why"].startswith("worse")
    assert shop.app.rollouts.incidents() == []


def test_thresholds_can_be_those_of_both_sides(shop: Shop, weekly: Any) -> None:
    found = shop.rehearse(model=weekly["candidates"][-1], both={"likely": 1.0})
    assert found["phase"] == "running"  # neither calls anybody, so there is nothing to choose between them
    assert found["figures"]["KPI"]["why"] == "all values are the same"
    assert shop.page(found["id"])["rehearsal"]["both"] == ["likely = 1.0"]


@pytest.mark.parametrize("by", ["hub", "command"])
def test_what_a_killed_rehearsal_leaves_goes_with_the_next_start(shop: Shop, by: str) -> None:
    root = shop.app.folder.root
    with writing(shop), shop.app.db.transaction():
        shop.app.lake.branch("rehearsal-of-mine", actor="ann", reason="people may call theirs so, too")
    hub = Hub(root) if by == "hub" else None
    command = subprocess.Popen(
        [
            *(sys.executable, "-m", "sampan", "-C", str(root), "rollout", "rehearse", "buys"),
            *("--since", iso(LIVE)[:10], "--retrain", "week", "--reason", "cut off"),
        ],
        env=environment(SAMPAN_CLOCK=".sampan/clock"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60
        while not (left := branches(root)):
            assert time.monotonic() < until and command.poll() is None
            time.sleep(0.01)
        if hub is not None:
            hub.stop(signal.SIGKILL)
        else:
            command.kill()
    finally:
        command.wait(60)
    assert branches(root) == left, "it was not killed in the middle"
    (root / ".sampan" / "tmp" / "rehearsal-abc").mkdir()
    if hub is not None:
        assert Hub(root).stop() == 0
    else:
        shop.rehearse(retrain="week")
    assert branches(root) == []
    assert list(shop.app.lake.branches()) == ["main", "rehearsal-of-mine"]
    assert not list((root / ".sampan" / "tmp").glob("rehearsal-*"))
    with writing(shop):
        shop.app.lake.delete_branch("rehearsal-of-mine")


def writing(shop: Shop) -> Any:
    return shop.app.writing("Try")


def branches(root: Path) -> list[str]:
    """Of rehearsals, as the records say."""
    with closing(sqlite3.connect(f"file:{root / '.sampan' / 'records.db'}?mode=ro", uri=True)) as db:
        names = [name for (name,) in db.execute("SELECT name FROM branches")]
    return [name for name in names if name.startswith("rehearsal-") and name != "rehearsal-of-mine"]


def test_its_page_shows_the_looks_and_the_list_tells_it_from_rollouts(shop: Shop, weekly: Any) -> None:
    page = shop.page(weekly["id"])
    assert page["rehearsal"]["retrain"] == "week" and page["verbs"] == []
    assert page["rehearsal"]["left_out"] == ["latency", "stage 2, 50 % of traffic"]
    assert {one["name"] for one in page["rehearsal"]["figures"]} == {"KPI", "calls"}
    assert [one["what"] for one in page["history"]] == ["full", "begun"]
    (chart,) = page["charts"]
    (band,) = chart["bands"]
    assert len(band["low"]) == len(chart["x"]) >= 2 and [one["y"] for one in chart["levels"]] == [0.0, 0.2]
    assert band["low"][-1] > 0 and f"They are both above 0 since {iso(weekly['at'])[:10]}." in chart["says"]
    listed = msgspec.to_builtins(view(shop.app, "/rollouts"))
    assert listed["rollouts"] == [] and weekly["id"] in {one["id"] for one in listed["rehearsals"]}
    before = {"as-of": iso(LIVE + 30 * DAY)}
    assert msgspec.to_builtins(view(shop.app, "/rollouts", before))["rehearsals"] == []
    with pytest.raises(NotFound):
        view(shop.app, f"/rollouts/{weekly['id']}", before)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"endpoint": "sells"}, "no plan [sells]"),
        ({"every": "often"}, "every is 'often'"),
        ({"every": "1 second"}, "more than 2,000 looks"),
        ({"retrain": "week", "model": "buys@1"}, "buys@1 is one version"),
        ({"retrain": "hour"}, "hour"),
        ({}, "is what decided then"),
        ({"since": LIVE + 40 * DAY}, "it would begin at"),
        ({"since": LIVE + 30 * DAY}, "it decided nothing"),
        ({"model": "buys@99"}, "buys@99"),
        ({"both": {"likly": 0.5}, "model": "buys@1"}, "likly"),
    ],
)
def test_what_cannot_be_rehearsed_is_said(shop: Shop, asked: dict[str, Any], says: str) -> None:
    with pytest.raises(SampanError) as refused:
        shop.rehearse(**asked)
    assert says in str(refused.value)


def plan(**more: Any) -> Rollout:
    stages = [{"share": 0.05, "at_least": "1 day"}, {"share": 0.5}, {"share": 1.0}]
    return msgspec.convert({"kpi": {"minimum_effect": "2 %"}, "stage": stages} | more, Rollout)


def test_a_plan_is_rehearsed_as_a_shadow_that_must_be_better() -> None:
    made, left_out = rehearsed(plan(guardrail=[{"kind": "latency", "at_most_ms": 5}], patience="1 week"))
    assert [one.shown for one in made.stage] == ["shadow", "100 % of traffic"]
    assert made.stage[0].needs == "better" and made.stage[0].at_least == "1 day"
    assert made.guardrail == () and made.patience == ""
    assert left_out == ("latency", "stage 1, 5 % of traffic", "stage 2, 50 % of traffic")


def test_training_begins_with_the_span_and_then_with_each_month() -> None:
    def days(retrain: Any, since: datetime, until: datetime) -> list[str]:
        return [iso(at)[:10] for at in turns(to_micros(since), to_micros(until), retrain)]

    middle, end = datetime(2026, 1, 20, 5, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    assert days("", middle, end) == ["2026-01-20"]
    assert days("month", middle, end) == ["2026-01-20", "2026-02-01"]
    assert days("week", middle, datetime(2026, 2, 3, tzinfo=UTC)) == ["2026-01-20", "2026-01-26", "2026-02-02"]
    with pytest.raises(Usage):
        turns(0, 1 << 56, "day")


def test_the_last_look_is_when_all_is_known() -> None:
    assert list(looks(0, 5 * DAY, "2 days")) == [2 * DAY, 4 * DAY, 5 * DAY]
    assert list(looks(0, DAY, "2 days")) == [DAY]
