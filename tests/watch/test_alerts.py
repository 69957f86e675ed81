"""The crossing of a limit is told once, with what one needs to act, and its end is told too."""

import json
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from sampan.base.errors import NotFound, Usage
from sampan.base.outgoing import Outgoing
from sampan.log.conform import Conformity, Finding, record
from sampan.models.rebuilds import Rebuild, Rebuilt
from sampan.runs.records import StepRun
from sampan.serve.follower import FollowerState
from sampan.store.database import Database
from sampan.watch.alerts import GIVEN_UP, WAITING, Alerts, open_alerts
from sampan.watch.limits import Target
from sampan.watch.releasing import Trouble
from sampan.watch.straying import Strays
from sampan.watch.webhook import verify
from tests.watch.conftest import SECRET, Receiver, Scene


def turn(scene: Scene, times: int = 1) -> None:
    """A look, and everything sent that is due."""
    for _ in range(times):
        scene.watch.look()
        while scene.watch.deliver():
            pass


def test_alerts_as_of_an_instant_are_as_they_stood(scene: Scene) -> None:
    alerts = Alerts(scene.db, scene.shop.clock)
    before = scene.shop.clock.micros()
    scene.shop.clock.advance(timedelta(seconds=1))
    scene.send("till", 963, 37)
    turn(scene)
    (opened,) = alerts.list()
    scene.shop.clock.advance(timedelta(seconds=10))
    alerts.seen(opened, 0.9, "90 of 100")
    (seen,) = alerts.list()
    scene.shop.clock.advance(timedelta(seconds=10))
    alerts.resolve(seen, lambda *_: "")
    (over,) = alerts.list()
    assert (seen.value, seen.reason, seen.times) == (0.9, "90 of 100", 2)
    assert alerts.list(by=before) == []
    assert alerts.list(by=opened.opened) == [opened]
    assert alerts.list(by=seen.seen) == [seen]
    assert alerts.get(over.id, over.resolved) == over
    with pytest.raises(NotFound, match="it opened at"):
        alerts.get(over.id, before)


def test_too_many_in_quarantine_name_producer_field_and_an_example(scene: Scene, receiver: Receiver) -> None:
    scene.send("till", 963, 37)
    scene.send("site", 500)
    turn(scene, 3)
    (message,) = receiver.messages()
    alert = message["alert"]
    assert message["event"] == "opened"
    assert (alert["kind"], alert["producer"], alert["type"]) == ("quarantined", "till", "order_line")
    assert alert["field"] == "$.data.price"
    assert (
        scene.log.at(alert["example"]).raw
        == json.dumps(
            {"id": "bad36", "type": "order_line", "source": "shop", "time": "2011-04-01T08:26:00Z"}
            | {"data": {"invoice": "536365", "quantity": 6, "price": "two"}}
        ).encode()
    )
    assert "37 of 1,000" in alert["reason"]
    assert "$.data.price in order_line events" in alert["cause"]
    assert alert["evidence"] == f"/quarantine/{alert['example']}"
    assert message["link"] == f"https://hub.example.com/alerts/{alert['id']}"
    assert alert["action"].count(";") <= 1
    headers, body = receiver.got[0]
    assert headers["Sampan-Id"] == message["id"]
    assert verify(SECRET, body, headers["Sampan-Signature"], int(time.time()))
    assert not verify("another secret, also long", body, headers["Sampan-Signature"], int(time.time()))
    assert not verify(SECRET, body + b" ", headers["Sampan-Signature"], int(time.time()))
    assert not verify(SECRET, body, headers["Sampan-Signature"], int(time.time()) + 301)


def test_one_of_two_events_does_not_alarm(scene: Scene) -> None:
    scene.send("till", 1, 1)
    turn(scene)
    assert scene.open() == []


def test_a_share_near_its_limit_makes_one_alert_and_the_end_of_the_window_resolves_it(
    scene: Scene, receiver: Receiver
) -> None:
    scene.send("till", 96, 4)
    turn(scene)
    assert scene.open() == ["quarantined:till"]
    scene.send("till", 150)  # 1.6 %: under the limit, over half of it
    turn(scene)
    assert scene.open() == ["quarantined:till"]
    scene.shop.clock.advance(timedelta(minutes=17))
    turn(scene, 2)
    assert scene.open() == []
    assert receiver.events() == [("opened", "quarantined"), ("resolved", "quarantined")]
    first, second = receiver.messages()
    assert second["alert"]["id"] == first["alert"]["id"]
    assert second["alert"]["resolved"] == scene.now()


def test_silence_is_told_of_producers_that_were_regular_only(scene: Scene, receiver: Receiver) -> None:
    for hour in range(24):
        scene.send("till", 20)
        if hour % 6 == 0:
            scene.send("backup", 100)
        if hour == 20:
            scene.send("once", 500)
        scene.shop.clock.advance(timedelta(hours=1))
    turn(scene)
    assert scene.open() == []
    scene.shop.clock.advance(timedelta(hours=2))
    turn(scene, 2)
    assert scene.open() == ["silent:till"], "for the backup seven hours are as usual"
    assert receiver.messages()[0]["alert"]["type"] == "order_line"
    scene.send("till", 1)
    turn(scene)
    assert scene.open() == []


def test_a_damaged_log_is_told_of_and_resolves_nothing(scene: Scene) -> None:
    scene.send("till", 90, 10)
    turn(scene)
    segment = next(scene.shop.stream.glob("*.log"))
    scene.log = scene.shop.log()
    kept = segment.read_bytes()
    segment.write_bytes(b"X" + kept[1:])
    turn(scene)
    assert scene.open() == ["log_fault:damage", "quarantined:till"]
    damage = next(alert for alert in scene.watch.alerts.open() if alert.kind == "log_fault")
    assert "it does not start as a segment does" in damage.reason
    segment.write_bytes(kept)
    turn(scene)
    assert scene.open() == ["quarantined:till"]


def test_a_kind_that_cannot_be_looked_for_hides_no_other(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.serves("down", "it crashed")
    turn(scene)
    scene.served = [None]  # type: ignore[list-item]
    scene.fault = "a sync failed"
    turn(scene, 2)
    assert scene.open() == ["endpoint_down:reorder", "log_fault:intake"]
    said = [line.getMessage() for line in caplog.records if line.levelname == "ERROR"]
    assert len(said) == 1
    assert "could not look for endpoint_down: AttributeError" in said[0]


def test_a_restart_tells_nothing_again(scene: Scene, receiver: Receiver) -> None:
    scene.send("till", 90, 10)
    turn(scene)
    scene.watch = scene.fresh()
    turn(scene, 2)
    assert receiver.events() == [("opened", "quarantined")]


def test_a_target_that_is_down_is_tried_again_later_and_told_once(scene: Scene, receiver: Receiver) -> None:
    receiver.status = 500
    scene.fault = "a sync failed"
    scene.watch.look()
    assert scene.watch.deliver() == 1
    assert scene.watch.deliver() == 0, "not before its time"
    (waiting,) = scene.watch.alerts.deliveries()
    assert (waiting.state, waiting.attempts) == (WAITING, 1)
    assert "it answered 500" in waiting.error
    receiver.status = 204
    hurry(scene)
    assert scene.watch.deliver() == 1
    assert [message["id"] for message in receiver.messages()] == [waiting.id] * 2
    (done,) = scene.watch.alerts.deliveries()
    assert (done.state, done.error, done.attempts) == ("delivered", "", 2)


def test_the_end_is_never_told_before_the_beginning(scene: Scene, receiver: Receiver) -> None:
    receiver.status = 503
    scene.fault = "a sync failed"
    turn(scene)
    scene.fault = ""
    turn(scene, 2)
    assert receiver.events() == [("opened", "log_fault")], "the first is not due yet, and the second waits for it"
    receiver.status = 200
    receiver.got.clear()
    hurry(scene)
    turn(scene)
    assert receiver.events() == [("opened", "log_fault"), ("resolved", "log_fault")]


def test_a_message_that_never_arrives_is_given_up_and_shown_so(scene: Scene, receiver: Receiver) -> None:
    receiver.status = 400
    scene.fault = "a sync failed"
    scene.watch.look()
    for _ in range(100):
        hurry(scene)
        if not scene.watch.deliver():
            break
    (last,) = scene.watch.alerts.deliveries()
    assert last.state == GIVEN_UP
    assert len(receiver.got) == last.attempts < 100


def hurry(scene: Scene) -> None:
    with scene.db.transaction() as records:
        records.execute("UPDATE deliveries SET due = 0 WHERE state = 'waiting'")


def test_a_model_whose_fallback_answers_is_told_at_once_and_until_it_answers_itself(scene: Scene) -> None:
    scene.serves("serving", silent="the file 12ab is not as it was written")
    turn(scene)
    (alert,) = scene.watch.alerts.open()
    assert alert.key == "endpoint_down:reorder" and "model" in alert.title
    assert alert.cause == "the file 12ab is not as it was written"
    scene.serves("serving")
    turn(scene)
    assert scene.open() == []


def test_silenced_alerts_are_kept_and_not_told(scene: Scene, receiver: Receiver) -> None:
    scene.watch.alerts.silence("log_fault", 60, actor="ann", reason="we are moving the disk")
    scene.fault = "a sync failed"
    scene.serves("down", "it crashed")
    turn(scene)
    assert scene.open() == ["endpoint_down:reorder", "log_fault:intake"]
    assert receiver.events() == [("opened", "endpoint_down")]
    kept = next(alert for alert in scene.watch.alerts.open() if alert.kind == "log_fault")
    assert kept.silenced == "silenced by ann: we are moving the disk"
    with pytest.raises(Usage, match="no kind of alert"):
        scene.watch.alerts.silence("everything", 60, actor="ann", reason="")


def test_a_silence_is_taken_back_and_what_opens_then_is_told(scene: Scene, receiver: Receiver) -> None:
    made = scene.watch.alerts.silence("log_fault", 60, actor="ann", reason="")
    scene.watch.alerts.silence("endpoint_down", 60, actor="ann", reason="")
    assert scene.watch.alerts.unsilence(made.id, actor="bob").what == "log_fault"
    assert [one.what for one in scene.watch.alerts.silences()] == ["endpoint_down"]
    scene.fault = "a sync failed"
    scene.serves("down", "it crashed")
    turn(scene)
    assert receiver.events() == [("opened", "log_fault")]
    for id in (made.id, "nothing"):
        with pytest.raises(NotFound, match="in force"):
            scene.watch.alerts.unsilence(id, actor="bob")


def test_outcomes_that_name_no_prediction_are_told_of_where_they_are_many(scene: Scene) -> None:
    scene.strayed = Strays(9, 20, "till", "p1", "o9")
    turn(scene)
    assert not scene.open(), "a few are no alert"
    scene.strayed = Strays(10, 100, "till", "p1", "o9")
    turn(scene)
    assert not scene.open()
    scene.strayed = Strays(11, 100, "till", "p1", "o9")
    turn(scene)
    (alert,) = scene.watch.alerts.open()
    assert alert.key == "outcomes:unknown predictions" and alert.reason == "11 of 100 outcomes within a day (11 %)"
    assert "most are from till; the newest of them names 'p1'" in alert.cause
    scene.strayed = Strays(6, 100, "till", "p1", "o9")
    turn(scene)
    assert scene.open(), "it is near its limit still"
    scene.strayed = None
    turn(scene)
    assert not scene.open()


def test_a_shadow_that_crashes_over_and_over_is_told_of_until_it_gets_on_or_is_ended(scene: Scene) -> None:
    def follows(crashing: str, steady: bool, restarts: int = 5) -> list[FollowerState]:
        some: dict[str, Any] = {"bundle": "b", "state": "down", "pid": None, "error": "", "restarts": restarts}
        one = {"shadow": "s1", "endpoint": "reorder", "version": "reorder@2", "crashing": crashing, "steady": steady}
        return [FollowerState(**one, **some)]

    said = "5 processes in a row ended soon after they were started, the last by signal 9 (SIGKILL)"
    scene.followed = follows("", False, 4)
    turn(scene)
    assert not scene.open(), "that it died a few times is no alert"
    scene.followed = follows(said, False)
    turn(scene)
    (alert,) = scene.watch.alerts.open()
    assert (alert.key, alert.reason, alert.evidence) == ("shadow:s1", said, "/shadows/s1")
    assert alert.title == "A shadow of reorder crashes over and over: reorder@2"
    scene.followed = follows("", False, 0)
    turn(scene)
    assert scene.open(), "a hub that was started again has not seen it get on"
    scene.followed = follows("", True, 0)
    turn(scene)
    assert not scene.open()
    scene.followed = follows(said, False)
    turn(scene)
    assert scene.open()
    scene.followed = []
    turn(scene)
    assert not scene.open(), "it was ended"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB; the test is skipped where nobody may mount one."""
    place = tmp_path / "small"
    place.mkdir()
    try:
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("may not mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_up_is_told_and_resolved_with_some_room_to_spare(
    scene: Scene, receiver: Receiver, small_disk: Path
) -> None:
    scene.data = small_disk
    scene.alerting = replace(scene.alerting, limits=replace(scene.alerting.limits, disk_free=0.25))
    scene.watch = scene.fresh()

    def free(megabytes: float) -> None:
        (small_disk / "fill").write_bytes(bytes(round((4 - megabytes) * 2**20)))
        turn(scene)

    free(2)
    assert scene.open() == []
    free(0.5)
    assert scene.open() == ["disk:data"]
    alert = receiver.messages()[0]["alert"]
    assert alert["title"] == "The disk of the workspace is nearly full"
    assert alert["reason"] == "0.0 GB of 0 GB are free (12.5%)"
    assert (alert["value"], alert["bound"]) == (0.125, 0.25)
    free(1.1)
    assert scene.open() == ["disk:data"], "27.5 % is over the limit, and too near to it to say that it is over"
    free(2)
    assert scene.open() == []
    assert receiver.events() == [("opened", "disk"), ("resolved", "disk")]


def test_open_alerts_are_concerns_for_whoever_only_reads(scene: Scene) -> None:
    scene.run("r1", "failed", error="2 steps failed")
    turn(scene)
    reading = Database(scene.db.path, writable=False)
    (alert,) = open_alerts(reading)
    assert alert.title == "A run of everything failed at orders"
    assert (alert.owner, alert.field, alert.cause) == ("ann", "orders", "ValueError: no price")
    assert Alerts(reading, scene.shop.clock).get(alert.id[:15]) == alert
    reading.close()


def test_a_run_that_a_check_refused_is_not_called_broken(scene: Scene) -> None:
    scene.run("r1", "failed", error="check prices failed; nothing was published")
    scene.runs.put_steps([StepRun("r1", "orders", "", "check", "failed", "new", error="three orders have no price")])
    turn(scene)
    (alert,) = scene.watch.alerts.open()
    assert alert.title == "The check orders refused a run of everything"
    assert alert.action.startswith("Nothing was published.")


def plant(scene: Scene) -> None:
    """Twelve faults of seven kinds."""
    for _ in range(24):
        scene.send("north", 30)
        scene.send("south", 30)
        scene.shop.clock.advance(timedelta(hours=1))
    scene.shop.clock.advance(timedelta(hours=3))  # 1 and 2: two shops are silent
    scene.send("till", 90, 10)  # 3
    scene.send("site", 80, 20)  # 4
    scene.send("app", 700, 300)  # 5
    for target in ("", "orders", "features"):  # 6, 7, 8
        scene.run(f"run-{target}", "failed", target, "it failed")
    scene.serves("down", "it crashed")
    scene.served = [replace(scene.served[0], name=name) for name in ("reorder", "price")]  # 9 and 10
    scene.fault = "a sync of 00000001.log failed: Input/output error"  # 11
    scene.unsealed = "segment 3: it was killed"  # 12


def test_twelve_faults_raise_twelve_alerts_and_all_resolve(scene: Scene, receiver: Receiver) -> None:
    plant(scene)
    turn(scene, 5)
    assert len(scene.open()) == 12
    assert sorted(event for event, _ in receiver.events()) == ["opened"] * 12
    assert len({message["alert"]["key"] for message in receiver.messages()}) == 12
    for message in receiver.messages():
        alert = message["alert"]
        assert all(alert[name] for name in ("title", "reason", "cause", "evidence", "action", "about")), alert

    for target in ("features", "orders", ""):
        scene.run(f"again-{target}", "succeeded", target)
    scene.serves("serving")
    scene.fault = scene.unsealed = ""
    scene.shop.clock.advance(timedelta(minutes=20))
    scene.send("north", 1)
    scene.send("south", 1)
    turn(scene, 5)
    assert scene.open() == []
    assert sorted(event for event, _ in receiver.events()) == ["opened"] * 12 + ["resolved"] * 12
    assert len({message["id"] for message in receiver.messages()}) == 24


def test_sources_that_do_not_mean_the_same_are_told_and_resolved_when_they_do(scene: Scene) -> None:
    odd = Finding(field="price", sources=("south",), kind="scale", text="looks like pence", example="intake:7")
    found = Conformity(
        type="order_line", by="source", verdict="differs", sources=(), findings=(odd,), position="", events=600,
        since=None, checked=1,
    )  # fmt: skip
    record(scene.db, found)
    turn(scene)
    (alert,) = scene.watch.alerts.open()
    assert (alert.kind, alert.about, alert.field, alert.producer) == ("differs", "order_line", "price", "south")
    assert alert.example == "intake:7"
    record(scene.db, msgspec.structs.replace(found, verdict="conforms", findings=()))
    turn(scene)
    assert scene.open() == []


def test_a_test_reaches_every_target_and_says_what_went_wrong(scene: Scene, receiver: Receiver) -> None:
    assert scene.watch.test([]) == {"here": ""}
    assert receiver.messages()[0]["event"] == "test"
    receiver.status = 302
    assert "Redirects are not followed" in scene.watch.test(["here"])["here"]
    assert scene.open() == []


def test_a_slow_target_does_not_hold_up_another(scene: Scene, receiver: Receiver) -> None:
    slow = Target("slow", "webhook", "http://slow.example", SECRET)
    scene.alerting = type(scene.alerting)((slow, *scene.alerting.targets), scene.alerting.limits)
    order: list[str] = []

    def send(target: Target, id: str, body: bytes, outgoing: Outgoing) -> None:
        time.sleep(0.3 if target.name == "slow" else 0)
        order.append(target.name)

    scene.watch = scene.fresh(send=send)
    scene.fault = "a sync failed"
    turn(scene)
    assert order == ["here", "slow"]


@pytest.mark.slow
@pytest.mark.parametrize("status", [200, 500])
def test_while_records_cannot_be_written_a_message_is_sent_once(scene: Scene, receiver: Receiver, status: int) -> None:
    receiver.status = status
    scene.fault = "a sync failed"
    scene.watch.look()
    with scene.db.transaction() as records:
        records.execute("CREATE TRIGGER full BEFORE UPDATE ON deliveries BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    scene.watch.start()
    time.sleep(1)
    with scene.db.transaction() as records:
        records.execute("DROP TRIGGER full")
    limit = time.monotonic() + 10
    while not scene.watch.alerts.deliveries()[0].attempts:
        assert time.monotonic() < limit
        time.sleep(0.05)
    scene.watch.stop()
    assert len(receiver.got) == 1
    assert scene.watch.alerts.deliveries()[0].state == ("delivered" if status == 200 else WAITING)


@pytest.mark.slow
def test_a_version_in_use_that_cannot_be_made_anew_is_told_until_it_can(scene: Scene) -> None:
    report = Rebuilt(ref="reorder@3", level="failed", cause="commit", said="the commit 1f0a is gone")
    failed = Rebuild("r1", "reorder", 3, "failed", report, 1.0, "schedule", scene.now())
    scene.rebuilt = [failed]
    turn(scene)
    (alert,) = scene.watch.alerts.open()
    assert (alert.key, alert.cause, alert.evidence) == ("rebuild_failed:reorder@3", "commit", "/models/reorder/3")
    assert "the commit 1f0a is gone" in alert.reason
    assert "sampan reproduce reorder@3" in alert.action
    scene.rebuilt = [replace(failed, level="bit-identical")]
    turn(scene)
    assert scene.watch.alerts.open() == []


def test_another_incident_of_an_endpoint_is_another_alert(scene: Scene) -> None:
    first = Trouble("churn", "churn@2 was taken back", "too slow", "its rollout", "/incidents/i1", "Close it.", "i1")
    scene.wrong = [first]
    turn(scene, 2)
    (alert,) = scene.watch.alerts.open()
    scene.wrong = [
        replace(first, title="churn@3 was taken back", reason="worse", evidence="/incidents/i2", example="i2")
    ]
    turn(scene, 2)
    (other,) = scene.watch.alerts.open()
    assert other.id != alert.id
    assert (other.title, other.reason, other.evidence) == ("churn@3 was taken back", "worse", "/incidents/i2")
    scene.wrong = []
    turn(scene)
    assert scene.watch.alerts.open() == []
