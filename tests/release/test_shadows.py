"""Shadows beside any rollout: their records, several of them in one table, and what each would have gained."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.release.test_looking import VALUES, Looked, looked

from sampan.base.clock import SystemClock
from sampan.base.errors import Conflict, NotFound, Usage
from sampan.models.version import Signature, Version
from sampan.release.promotion import _shadow
from sampan.release.rollouts import Rollout
from sampan.release.shadowed import summarize
from sampan.release.shadows import ShadowRecord, ShadowRecords, advantages
from sampan.store.database import Database

__all__ = ["looked"]
CHAMPION = "b" * 64
NONE: dict[str, Any] = {"metrics": {}, "made_with": {}, "golden": None}


def record(id: str = "r1", bundle: str = "c", **more: Any) -> ShadowRecord:
    given: dict[str, Any] = {
        "id": id,
        "endpoint": "reorder",
        "bundle": bundle * 64,
        "spec": {"version": "reorder@2"},
        "sample": 1.0,
        "stream": "shadow-reorder-1",
        "after": 0,
        "actor": "ann",
        "reason": "new sails",
        "began": 1_700_000_000_000_000,
        **more,
    }
    return ShadowRecord(**given)


@pytest.fixture
def records(tmp_path: Path) -> ShadowRecords:
    return ShadowRecords(Database(tmp_path / "records.db", writable=True), SystemClock())


def test_any_number_of_bundles_goes_on_and_each_once(records: ShadowRecords) -> None:
    first = records.begin(record("s1", "c"))
    assert records.free_stream("reorder") == "shadow-reorder-2" and records.free_stream("other") == "shadow-other-1"
    records.begin(record("s2", "d", stream="shadow-reorder-2"))
    records.begin(record("s3", "c", endpoint="other"))
    with pytest.raises(Conflict, match=r"rules and thresholds goes on already: s1"):
        records.begin(record("s4", "c"))
    assert [one.id for one in records.active("reorder")] == ["s2", "s1"] and records.get("s1") == first
    ended = records.end("s1", "seen enough", "bea")
    assert (ended.ended_by, ended.ended_why) == ("bea", "seen enough") and ended.ended is not None
    assert records.free_stream("reorder") == "shadow-reorder-1", "a stream is used again"
    records.begin(record("s4", "c"))
    assert [one.id for one in records.active()] == ["s4", "s3", "s2"]


def test_what_has_ended_does_not_end_again_and_nothing_ends_without_a_reason(records: ShadowRecords) -> None:
    records.begin(record("s1"))
    with pytest.raises(Usage, match="nothing is said of why"):
        records.end("s1", " ", "bea")
    records.end("s1", "it is what the endpoint serves now")
    with pytest.raises(Conflict, match="it has ended by itself: it is what the endpoint serves now"):
        records.end("s1", "again", "bea")
    with pytest.raises(NotFound, match="there is none of that id"):
        records.get("s9")


def test_a_list_as_of_a_time_has_what_had_begun_and_nothing_that_had_not_ended(records: ShadowRecords) -> None:
    began = record().began
    records.begin(record("s1", "c"))
    records.begin(record("s2", "d", began=began + 10))
    records.end("s1", "over", "bea")
    (then,) = records.list(by=began + 5)
    assert then.id == "s1" and (then.ended, then.ended_by, then.ended_why) == (None, "", "")
    assert [one.ended is None for one in records.list()] == [True, False]


def test_several_beside_one_champion_are_told_in_one_go(looked: Looked) -> None:
    looked.send(*(looked.answered(n, False, prediction=0.5, action="wait") for n in range(6)))
    looked.send(looked.answered(6, False, prediction=0.9, bundle="e" * 64))
    for id, said in (("r1", 0.75), ("s2", 0.25)):
        looked.send(
            *(
                looked.shadow(n, prediction=said, action="wait" if n else "reserve", rollout=id, latency_us=2_000)
                | {"id": f"p{n}~{id}"}
                for n in range(7)
            )
        )
    looked.send(looked.shadow(5, rollout="s3", prediction=None, error="timeout") | {"id": "p5~s3"})
    looked.send(*(looked.outcome(n, n % 2 == 0) for n in range(4)))
    found = summarize(["r1", "s2", "s3", "s4"], looked.app.log, None, CHAMPION)
    assert found.keys() == {"r1", "s2", "s3"}, "of s4 nothing is known"
    one, two, three = (found[id] for id in ("r1", "s2", "s3"))
    assert (one.asked, one.answered, one.same_action, one.apart) == (6, 6, 5, 0.25), "what e answered is not compared"
    assert one.latency == (2_000.0, 2_000.0) and one.known == 4 and one.brier == pytest.approx((0.25, 0.3125))
    assert two.brier == pytest.approx((0.25, 0.3125)) and (two.asked, two.same_action) == (6, 5)
    assert (three.asked, three.answered, three.latency, three.brier) == (1, 0, None, None)
    assert summarize(["r1"], looked.app.log, None, "")["r1"].asked == 7
    assert summarize([], looked.app.log, None, "") == {}


def test_what_one_would_have_gained_is_by_the_plans_kpi_beside_the_champion_alone(looked: Looked) -> None:
    better = {"currency": "GBP", "outcomes": {"true": 5.0, "false": 0.0}, "expected": 0.0}
    looked.send(*(looked.answered(n, False, rollout="", variant="champion") for n in range(120)))
    looked.send(*(looked.answered(n, False, rollout="", bundle="e" * 64) for n in range(120, 140)))
    looked.send(*(looked.shadow(n, value=better) for n in range(140)))
    looked.send(*(looked.outcome(n, n % 2 == 0) for n in range(140)))
    plan = msgspec.convert(looked.plan, Rollout)
    looks = [advantages(looked.app, [record()], CHAMPION, plan, n)["r1"] for n in (1, 20)]
    assert [look.units for look in looks] == [(120, 120)] * 2, "what another bundle has answered is no evidence"
    assert all(look.gain == pytest.approx(2.0) and look.champion == pytest.approx(0.5) for look in looks)
    assert looks[0].verdict == "better" and VALUES["outcomes"] == {"true": 2.0, "false": -1.0}
    widths = [(look.high or 0) - (look.low or 0) for look in looks]
    assert widths[1] > widths[0], "of many, each must show more"


def test_several_are_asked_for_at_once_and_each_is_what_it_is_alone(looked: Looked) -> None:
    looked.send(*(looked.answered(n, False, rollout="", variant="champion") for n in range(120)))
    for id, worth, of in (("r1", 5.0, 120), ("s2", 0.5, 90), ("s3", 1.0, 10)):
        value = {"currency": "GBP", "outcomes": {"true": worth, "false": 0.0}, "expected": 0.0}
        said = (looked.shadow(n, value=value, rollout=id) | {"id": f"p{n}~{id}"} for n in range(of))
        looked.send(*said)
    looked.send(*(looked.outcome(n, n % 2 == 0) for n in range(120)))
    plan = msgspec.convert(looked.plan, Rollout)
    those = [record(id) for id in ("r1", "s2", "s3", "s4")]
    found = advantages(looked.app, those, CHAMPION, plan, 3)
    assert found == {one.id: advantages(looked.app, [one], CHAMPION, plan, 3)[one.id] for one in those}
    assert [found[id].units[0] for id in ("r1", "s2", "s3", "s4")] == [120, 90, 10, 0]
    assert [found[id].verdict for id in ("r1", "s2", "s3", "s4")] == ["better"] + ["not enough evidence"] * 3
    assert found["r1"].gain == pytest.approx(2.0) and found["s2"].gain == pytest.approx(-0.25)
    assert advantages(looked.app, [], CHAMPION, plan, 3) == {}


def test_days_in_a_shadow_beside_any_rollout_are_evidence_that_a_policy_may_ask_for(looked: Looked) -> None:
    version = Version(model="reorder", number=2, **freeze_nothing())
    app, day = looked.app, 86_400_000_000
    with app.writing("Test"):
        assert not _shadow(app, version, 3).good
        now = app.clock.micros()
        app.shadows.begin(record("s1", "c", began=now - 2 * day))
        app.shadows.begin(record("s2", "d", began=now - 4 * day, spec={"version": "reorder@3"}))
        found = _shadow(app, version, 3)
        assert (found.good, found.says) == (False, "2 days in the shadow, 3 asked")
        app.shadows.begin(record("s3", "e", began=now - 4 * day))
        app.shadows.end("s3", "seen enough", "bea")
    found = _shadow(app, version, 3)
    assert (found.good, found.says, found.link) == (True, "4 days in the shadow, 3 asked", "/shadows/s3")


def freeze_nothing() -> dict[str, Any]:
    signature = Signature(inputs={"spend": "number"}, output="number")
    return {"kind": "regression", "format": "native", "files": {}, "signature": signature, "digest": "0" * 64, **NONE}
