"""What clean-up keeps and what it removes, over any past, and wherever it is killed."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as some

from sampan.base.errors import BadSetting, Damaged, No, NotFound, Refused, Usage
from sampan.keep.clean import Step
from sampan.keep.cleanups import Cleanups
from sampan.keep.reach import Reach
from sampan.keep.retention import FOREVER, NEVER, Retention, read_retention, span
from sampan.log.attachments import Attachments
from sampan.runs.proofs import Proofs
from sampan.runs.replays import Replay, ReplayRequest, Replays
from sampan.store.states import States
from sampan.track.artifacts import Incoming
from sampan.track.tracking import Tracking
from tests.keep.past import AT_ONCE, DAY, Past
from tests.killed import die, killed

NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # a past is played in a tenth of a second
KEEPING = Retention(commits=30 * DAY, runs=10 * DAY, grace=0)


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    made = Past(tmp_path)
    yield made
    made.close()


def gone(past: Past, retention: Retention = AT_ONCE) -> set[str]:
    """The files that a clean-up removes; its preview has said so, and left them."""
    before = past.files()
    said = past.cleaner(retention).preview()
    assert past.files() == before
    assert said.proof.agrees and not said.missing
    done = past.cleaner(retention).apply()
    assert (done.kinds, done.gone, done.gone_bytes) == (said.kinds, said.gone, said.gone_bytes)
    assert past.faults() == []
    return before - past.files()


def test_what_is_young_stays_and_what_nothing_names_goes_when_it_is_old(past: Past) -> None:
    past.run({"a": "1", "b": "other"})
    past.run({"a": "2"})
    assert gone(past, KEEPING) == set()
    past.pass_by(31)
    first, patch, value, log = 1, 1, 1, 1  # the first run's, whose table b is still on main
    assert len(gone(past, KEEPING)) == first + patch + value + log
    assert gone(past, KEEPING) == set()
    assert past.lake.names() == {name: past.lake.table(name).id for name in ("a", "b")}


def test_a_young_commit_and_one_where_a_branch_began_keep_their_tables(past: Past) -> None:
    past.run({"a": "1"})
    base = past.lake.head()
    past.lake.branch("try")
    past.run({"a": "2"})
    past.run({"a": "3"}, "try")
    past.pass_by(20)  # runs are old, commits are not
    assert all(not name.startswith("lake/") for name in gone(past, KEEPING))
    past.pass_by(20)
    gone(past, KEEPING)
    assert past.lake.tables(f"@{base}")["a"].id  # what was changed on each side is told by it
    past.lake.delete_branch("try")
    assert len([name for name in gone(past, KEEPING) if name.startswith("lake/")]) == 2


def test_versions_and_all_that_endpoints_ever_served_stay_for_ever(past: Past) -> None:
    run = past.run({"a": "1"})
    ref = past.version("one", run)
    past.version("two")
    past.deploy(ref, "old rules")
    past.deploy("reorder@2", "new rules")
    past.run({"a": "2"})
    past.pass_by(9_999)
    removed = gone(past)
    assert all(not name.startswith("runs/") for name in removed)  # the run that a version came of keeps log and patch
    assert len(removed) == 2  # its table and its value


def test_the_golden_requests_of_a_version_go_with_it_and_not_before(past: Past) -> None:
    version = past.models.get(past.version("one"))
    past.run({"a": "1"})
    past.pass_by(9_999)
    assert gone(past) == set()
    past.models.delete(version.ref, lambda version: "")
    assert gone(past) == {f"blobs/{digest}" for digest in version.draft().held()}


def test_what_is_pinned_stays_until_it_is_not(past: Past) -> None:
    first = past.run({"a": "1"})
    commit = past.lake.head()
    past.run({"a": "2"})
    middle = past.run({"a": "3"})
    past.run({"a": "4"})
    past.pass_by(100)
    assert past.pins.add(f"@{commit}", actor="ann", reason="the audit").ref == f"@{commit}"
    past.pass_by(1)
    past.pins.add(middle, actor="ann", reason="to be looked at")
    assert len(gone(past)) == 4  # the second run's table, value, patch, log
    assert past.lake.tables(f"@{commit}")["a"].id
    assert [pin.reason for pin in past.pins.list()] == ["the audit", "to be looked at"]
    past.pins.remove(middle)
    past.pins.remove(str(commit))
    assert len(gone(past)) == 8
    with pytest.raises(NotFound, match="no snapshot"):
        past.lake.tables(f"@{commit}")
    with pytest.raises(NotFound, match="is gone"):
        past.pins.add(f"@{commit}", actor="ann", reason="too late")
    with pytest.raises(NotFound, match="is gone"):
        past.lake.branch("again", f"@{commit}")
    assert past.runs.get(first).manifest["patch"]  # what it was stays written
    assert len(past.lake.history()) == 4


def test_a_pinned_version_keeps_the_tables_it_was_made_of(past: Past) -> None:
    ref = past.version("one", past.run({"training": "1"}))
    past.run({"training": "2"})
    past.pins.add(ref, actor="ann", reason="its training data are evidence")
    past.pass_by(100)
    assert gone(past) == set()
    past.pins.remove(ref)
    assert len(gone(past)) == 2


def test_a_pin_says_why_and_what(past: Past) -> None:
    past.run({"a": "1"})
    with pytest.raises(Usage, match="without a reason"):
        past.pins.add("main", actor="ann", reason=" ")
    with pytest.raises(NotFound, match="no commit, branch, version or run"):
        past.pins.add("nothing", actor="ann", reason="x")
    with pytest.raises(NotFound, match="Pinned: nothing"):
        past.pins.remove("main")
    assert past.pins.add("main", actor="ann", reason="x").ref == f"@{past.lake.head()}"
    past.pins.add("main", actor="bob", reason="y")
    assert [(pin.actor, pin.reason) for pin in past.pins.list()] == [("bob", "y")]


def test_a_candidate_that_a_check_held_back_stays_as_long_as_its_run(past: Past) -> None:
    past.run({"a": "1"})
    held = past.run({"a": "held"}, publish=False)
    past.pass_by(9)
    assert gone(past, KEEPING) == set()
    assert past.runs.result(past.runs.steps(held)[0].key) is not None
    past.pass_by(2)
    assert len(gone(past, KEEPING)) == 4
    assert past.runs.result(past.runs.steps(held)[0].key) is None


def test_what_was_put_just_now_stays_though_nothing_names_it_yet(past: Past) -> None:
    past.run({"a": "1"})
    draft = past.table("of a run that is going on")
    blob = past.blobs.put(b"a value that no record names yet")
    told = past.cleaner(Retention(0, 0, grace=3_600)).apply()
    assert [kind.young for kind in told.kinds if kind.kind in ("table files", "blobs")] == [1, 1]
    assert past.lake.add(draft, "b").id == draft.id
    path = past.blobs.path(blob)
    os.utime(path, (0, 0))
    past.blobs.put(b"a value that no record names yet")  # again: it is young again
    past.cleaner(Retention(0, 0, grace=3_600)).apply()
    assert path.exists()
    os.utime(path, (0, 0))
    past.cleaner(Retention(0, 0, grace=3_600)).apply()
    assert not path.exists()


def test_what_a_killed_writer_left_goes_and_the_log_and_attachments_stay(past: Past) -> None:
    past.run({"a": "1"})
    left = past.blobs.path("ab" * 32).with_name(".half.123.456.tmp")
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"half")
    digest = Attachments(past.data / "attachments").put(b"a picture")
    (past.data / "log" / "intake").mkdir(parents=True)
    (past.data / "log" / "intake" / "00000001.log").write_bytes(b"events")
    (past.data / "keys.db").write_bytes(b"keys")
    assert gone(past) == {"blobs/ab.half.123.456.tmp"}
    assert Attachments(past.data / "attachments").get(digest)
    assert (past.data / "log" / "intake" / "00000001.log").exists() and (past.data / "keys.db").exists()


def test_artifacts_that_no_run_has_any_longer_go_and_those_of_deleted_runs_stay(past: Past) -> None:
    tracking = Tracking(past.data, past.clock)
    kept, emptied = (tracking.runs.create(0, tags={}).id for _ in range(2))
    for run, path, data in ((kept, "a", b"kept"), (emptied, "b", b"gone"), (emptied, "c", b"kept")):
        incoming = Incoming(tracking.artifacts.temporary)
        incoming.write(data)
        tracking.artifacts.put(run, path, incoming)
    tracking.artifacts.delete(emptied)
    tracking.runs.delete(kept)  # it can be brought back
    young = past.cleaner(Retention()).preview()
    assert [(kind.kept, kind.gone, kind.young) for kind in young.kinds if kind.kind == "artifacts"] == [(1, 0, 1)]
    time.sleep(0.01)
    told = past.cleaner(AT_ONCE).apply()
    assert [(kind.kept, kind.gone) for kind in told.kinds if kind.kind == "artifacts"] == [(1, 1)]
    left = [path for path in (past.data / "artifacts").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in left] == [b"kept"]
    left[0].unlink()
    missing = past.cleaner(AT_ONCE).preview().missing
    assert missing == {left[0].parent.name + left[0].name: f"artifact {kept}/a"}
    tracking.close()


def test_caches_of_what_is_gone_go_with_it(past: Past) -> None:
    past.run({"a": "1"})
    old, its_file = past.lake.table("a").id, past.lake.table("a").files[0].sha256
    past.run({"a": "2"})
    new, file = past.lake.table("a").id, past.lake.table("a").files[0].sha256
    cache = past.data / "cache"
    names = [f"profiles/{old}.json", f"profiles/{new}.json", f"diffs/{old}.{new}.json", "slices/x.arrow"]
    names += [f"marks/{its_file}", f"marks/{file}"]
    names += ["projections/visit/intake/00000009-aa.parquet"]  # of a segment that there is not
    names += ["environments/used/left.json", "environments/unused/left.json", "environments/unused.lock"]
    for name in names:
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_text("{}")
    long_ago = time.time() - 31 * 86_400
    for name in ("unused/left.json", "unused", "unused.lock"):
        os.utime(cache / "environments" / name, (long_ago, long_ago))
    past.pass_by(100)
    gone(past)
    assert [name for name in names if (cache / name).exists()] == [
        f"profiles/{new}.json",
        f"marks/{file}",
        "environments/used/left.json",
        "environments/unused.lock",
    ]


def test_the_environments_of_what_has_a_process_stay_whatever_was_begun_later(past: Past) -> None:
    past.run({"a": "1"})
    ref = past.version("one")
    locks = [past.blobs.put(f"{{}} {name}".encode()) for name in ("before", "in force", "shadow", "ended")]
    bundles = []
    for lock in locks:
        bundles.append(past.deploy(ref, "rules", lock))
        past.pass_by(1)
    with past.db.transaction() as records:
        records.execute("DELETE FROM endpoints WHERE bundle IN (?, ?)", bundles[2:])
        for bundle, ended in ((bundles[2], None), (bundles[3], 1)):
            row = (bundle, "reorder", bundle, '{"version":"x"}', 1.0, "s", 0, "ann", "", past.clock.micros(), ended)
            records.execute("INSERT INTO shadows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', '')", row)
    reach = Reach(past.db, past.blobs, AT_ONCE, past.clock.micros())
    assert reach.served_in == set(locks[1:3])
    assert all(lock in reach.bytes for lock in locks), "all that a process ever had can be gone back to"


def test_a_record_that_nobody_told_of_is_heard_and_nothing_goes(past: Past) -> None:
    past.run({"a": "1"})
    past.run({"a": "2"})
    file = next(
        name for name in past.files() if name.startswith("lake/") and past.lake.table("a").files[0].sha256 not in name
    )
    with past.db.transaction() as records:
        records.execute("CREATE TABLE later (what TEXT)")
        records.execute("INSERT INTO later VALUES (?)", (f'{{"file":"{file.removeprefix("lake/")}"}}',))
    past.pass_by(100)
    before = past.files()
    said = past.cleaner().preview()
    assert not said.proof.agrees
    assert said.proof.objections == {file.removeprefix("lake/"): 'later {"file":"' + file.removeprefix("lake/") + '"}'}
    with pytest.raises(Damaged, match="is named by later"):
        past.cleaner().apply()
    assert past.files() == before


def test_a_bundle_that_cannot_be_read_stops_everything(past: Past) -> None:
    past.run({"a": "1"})
    bundle = past.deploy(past.version("one"), "rules")
    past.blobs.path(bundle).unlink()
    with pytest.raises(Damaged, match="Restore it from a backup"):
        past.cleaner().apply()


@some.composite
def pasts(draw: some.DrawFn) -> list[tuple[str, int, int]]:
    acts = ("run", "held", "branch", "drop", "version", "deploy", "pin", "unpin", "wait", "revert", "clean")
    act = some.tuples(some.sampled_from(acts), some.integers(0, 5), some.integers(0, 40))
    return draw(some.lists(act, min_size=6, max_size=25))


@pytest.mark.slow
@settings(max_examples=40, phases=NO_SHRINKING)
@given(pasts())
def test_after_any_past_everything_that_has_a_name_reads_back(acts: list[tuple[str, int, int]]) -> None:
    with TemporaryDirectory() as folder:
        past = Past(Path(folder))
        try:
            names: dict[str, dict[str, str]] = {}  # commit → its tables, as it was made
            served: list[str] = []
            for act, which, days in [*acts, ("clean", 0, 0)]:
                _act(past, act, which, days, served)
                for row in past.db.rows("SELECT id FROM commits"):
                    names.setdefault(row["id"], past.lake.commit_of(row["id"]).tables)
                if act == "clean":
                    gone(past, KEEPING)
                    _reads_back(past, names, served)
            for name in {name.split("/")[1] for name in past.files() if name.startswith(("lake", "blobs"))}:
                assert past.cleaner(KEEPING)._plan().witnesses.of([name]), f"nobody names {name}, and it is there"
        finally:
            past.close()


def _act(past: Past, act: str, which: int, days: int, served: list[str]) -> None:
    branches = sorted(past.lake.branches()) or ["main"]
    branch = branches[which % len(branches)]
    past.pass_by(1e-6)
    if act in ("run", "held"):
        past.run({"ab"[which % 2]: str(days), "c": str(which)}, branch, publish=act == "run", target="c" * (which % 2))
    elif act == "branch" and f"b{which}" not in branches:
        past.lake.branch(f"b{which}", branch if past.lake.head(branch) else "main")
    elif act == "drop" and branch != "main":
        past.lake.delete_branch(branch)
    elif act == "version":
        past.version(str(days), next((run.id for run in past.runs.list(which + 1)), None))
    elif act == "deploy" and past.models.list():
        served.append(past.deploy("reorder@1", f"rules {days}"))
    elif act == "pin" and past.lake.head(branch):
        _pin(past, branch if which % 2 else past.runs.list(which + 1)[-1].id)
    elif act == "unpin" and past.pins.list():
        past.pins.remove(past.pins.list()[0].ref)
    elif act == "wait":
        past.pass_by(days)
    elif act == "revert" and past.lake.head() and past.lake.head() in {c.id for c in past.lake.history()[:-1]}:
        try:
            past.lake.revert(str(past.lake.head()))
        except No:  # nothing to undo, or what it would go back to is gone
            return


def _pin(past: Past, ref: str) -> None:
    try:
        past.pins.add(ref, actor="ann", reason="why")
    except NotFound as error:
        assert "went on" in str(error) or "is gone" in str(error)


def _reads_back(past: Past, names: dict[str, dict[str, str]], served: list[str]) -> None:
    """The test's own idea of what must be there."""
    now = past.clock.micros()
    pinned = {pin.ref.removeprefix("@") for pin in past.pins.list()}
    heads = set(past.lake.branches().values())
    for id, tables in names.items():
        young = past.lake.commit_of(id).created >= now - KEEPING.commits * 1_000_000
        if young or id in heads or id in pinned:
            assert past.lake.commit_of(id).tables == tables
            for table in tables.values():
                assert past.lake.present(table) and past.lake.verify(table) == []
    for version in past.models.list():
        assert all(past.blobs.get(digest) for digest in version.files.values())
    for bundle in served:
        assert past.blobs.get(bundle)
    for run in past.runs.list(1000):
        if run.id in pinned or run.started >= now - KEEPING.runs * 1_000_000:
            for step in past.runs.steps(run.id):
                assert past.runs.result(step.key) is not None


# -- what other records name


def replayed(past: Past, state: str, base: str, run: str = "", branch: str = "replay-1") -> None:
    """A replay on record, as it stands."""
    plan = {"base": base, "position": ""}
    report = {"run": run} if run else {}
    made = Replay(f"r-{state}", branch, state, ReplayRequest(), plan, report, "", "ann", past.clock.micros())
    Replays(past.db).put(made, made.started)


@pytest.mark.parametrize("state", ["running", "failed", "done"])
def test_a_replay_that_is_not_decided_keeps_what_it_is_compared_with(past: Past, state: str) -> None:
    past.run({"a": "1"})
    base = str(past.lake.head())
    past.run({"a": "2"})
    past.run({"a": "3"})
    past.lake.branch("replay-1")
    run = past.run({"a": "4"}, "replay-1")
    past.run({"a": "5"}, "replay-1")  # somebody has run the branch once more
    replayed(past, state, base, run)
    past.pass_by(100)
    gone(past, KEEPING)
    past.lake.check_whole("Compare with the base", past.lake.commit_of(base))
    assert (past.data / "runs" / run).exists(), "the report leads to its run"
    replayed(past, "discarded", base, run)
    with past.db.transaction() as records:
        records.execute("DELETE FROM replays WHERE state = ?", (state,))
    past.lake.delete_branch("replay-1")
    lost = gone(past, KEEPING)
    assert len([name for name in lost if name.startswith("lake/")]) == 3, "decided, it keeps nothing but its report"
    assert Replays(past.db).get("r-discarded").report == {"run": run}


def test_a_comparison_of_a_table_that_is_gone_stands_in_the_way_of_nothing(past: Past) -> None:
    past.run({"a": "1"})
    old = past.lake.table("a").id
    Proofs(past.db).add("a", old, 12, ["2026-01"], [], seed=1, actor="ann", clock=past.clock)
    past.run({"a": "2"})
    past.pass_by(100)
    assert any(name.startswith("lake/") for name in gone(past, KEEPING))
    assert not past.lake.present(old)
    assert Proofs(past.db).latest("a") is not None, "that they were compared stays known"


# -- killed


def _killed(data: Path, now: int, at: int) -> bool:
    """Clean up in a process that is killed at one of its steps; whether it was still to come to that."""

    def clean() -> None:
        past, steps = Past(data, now), iter(range(1_000))

        def step(*_: object) -> None:
            if next(steps) == at:
                die()

        assert past.db._writer is not None
        past.db._writer.set_trace_callback(lambda sql: sql.startswith(("DELETE", "UPDATE", "COMMIT")) and step())
        past.cleaner().apply(step)

    return killed(clean)


def _old_past(data: Path) -> Past:
    past = Past(data)
    for number in range(4):
        past.run({"a": str(number), "b": str(number // 2)})
    past.deploy(past.version("one", past.runs.list(1)[0].id), "rules")
    past.pass_by(100)
    return past


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_a_whole_state_that_the_next_clean_up_ends(tmp_path: Path) -> None:
    whole = _old_past(tmp_path / "whole")
    gone(whole)
    ended = {kind: len([n for n in whole.files() if n.startswith(kind)]) for kind in ("lake", "blobs", "runs")}
    whole.close()
    at = 0
    while True:
        past = _old_past(tmp_path / str(at))
        now = past.clock.micros()
        before = past.files()
        past.close()
        came = _killed(past.data, now, at)
        past = Past(past.data, now)
        assert past.faults() == []
        if not came:
            assert at > 20
            past.close()
            return
        if past.db.rows("SELECT 1 FROM commits WHERE cleaned IS NOT NULL"):
            assert past.files() <= before
        else:
            assert past.files() == before
        gone(past)
        assert {k: len([n for n in past.files() if n.startswith(k)]) for k in ended} == ended
        past.close()
        at += 1


# -- history


def test_a_clean_up_is_written_down_and_the_next_is_due_when_its_time_has_passed(past: Past) -> None:
    history = Cleanups(past.db, past.clock)
    assert history.due(DAY), "there was none"
    past.run({"a": "1"})
    past.run({"a": "2"})
    past.pass_by(100)
    told = past.cleaner(KEEPING).apply(actor="ann")
    (one,) = history.list()
    assert (one.actor, one.gone, one.gone_bytes, one.kinds) == ("ann", told.gone, told.gone_bytes, told.kinds)
    assert not history.due(DAY)
    past.pass_by(1)
    assert history.due(DAY)
    history.failed("schedule", f"{'ab' * 32} would go, but is named by somebody")
    assert not history.due(DAY), "one that failed is not tried again at once"
    assert past.cleaner(KEEPING).preview().proof.agrees, "what the history names stays for nobody's sake"


def test_what_a_record_was_stands_in_the_way_of_nothing(past: Past) -> None:
    past.run({"a": "1"})
    old = past.lake.table("a").id
    States(past.db, "run").put("some", {"error": f"{old} is damaged"}, past.clock.micros())
    past.run({"a": "2"})
    past.pass_by(100)
    assert any(name.startswith("lake/") for name in gone(past, KEEPING))


def test_one_that_was_stopped_in_between_says_so_and_the_next_goes_on(past: Past) -> None:
    past.run({"a": "1"})
    past.run({"a": "2"})
    past.pass_by(100)
    told = past.cleaner(KEEPING).preview()

    def stop(step: Step) -> None:
        if step.files == 1:
            raise Refused("Clean up", "the hub is being stopped")

    with pytest.raises(Refused):
        past.cleaner(KEEPING).apply(stop)
    assert past.faults() == []
    assert past.cleaner(KEEPING).apply().gone == told.gone - 1
    newer, older = Cleanups(past.db, past.clock).list()
    assert older.finished is None and newer.finished is not None


# -- settings


def test_retention_is_said_in_spans_of_time() -> None:
    assert read_retention({}) == Retention(90 * DAY, 90 * DAY, DAY)
    said = {"commits": "2 years", "runs": "12 hours", "grace": "0 days"}
    assert read_retention({"retention": said}) == Retention(730 * DAY, DAY // 2, 0)
    assert read_retention({"retention": {"commits": "forever"}}).commits == FOREVER
    assert read_retention({}).every == NEVER and read_retention({"retention": {"every": "never"}}).every == NEVER
    assert read_retention({"retention": {"every": "2 hours"}}).every == 7_200
    said = {"0 days": 0, "90 days": 90 * DAY, "14 days": 14 * DAY, "1 hour": 3_600, "2 years": 730 * DAY}
    assert {span("runs", seconds): seconds for seconds in said.values()} == said
    assert (span("every", NEVER), span("runs", FOREVER)) == ("never", "forever")


@pytest.mark.parametrize(
    "wrong",
    [
        {"commits": 90},
        {"commits": "90"},
        {"commits": "-1 days"},
        {"comits": "1 day"},
        {"every": "0 days"},
        {"every": "59 minutes"},
        {"every": "forever"},
        {"runs": "never"},
        7,
    ],
)
def test_a_retention_that_is_none_is_refused(wrong: object) -> None:
    with pytest.raises(BadSetting, match="retention"):
        read_retention({"retention": wrong})
