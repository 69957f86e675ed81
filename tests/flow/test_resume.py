"""A run that is killed anywhere goes on where it was and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flow_bench import Bench, outcome
from tests.slow import mostly_slow

from sampan.base.clock import ManualClock
from sampan.base.errors import NotFound, Refused

FLOW = {
    "steps": """
        import os
        from sampan import step
        import pyarrow as pa

        def ran(name):
            with open(os.environ["RAN"], "a") as file:
                file.write(name + "\\n")

        @step
        def first() -> int:
            ran("first")
            return 1

        @step
        def second(first: int) -> pa.Table:
            ran("second")
            return pa.table({"x": [first, 2, 3]})

        @step(each="x")
        def parts(second: pa.Table, x: int) -> int:
            ran(f"part {x}")
            return x * x

        @step
        def last(parts: list[int]) -> int:
            ran("last")
            return sum(parts)
        """,
    "tables__total": "SELECT sum(x) AS total FROM second",
    "checks__positive": "SELECT * FROM total WHERE total <= 0",
}

# Runs the flow in a process of its own and kills it when an event of the run fits.
DRIVER = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from flow_bench import Bench
bench = Bench(Path({root!r}))
bench.engine.settings = bench.folder.settings()
seen = []
def note(event):
    point = f"{{event.step}} {{event.state}}"
    if point == {point!r}:
        time.sleep({delay})
        os.kill(os.getpid(), signal.SIGKILL)
bench.engine.run(on_event=note)
"""

POINTS = [
    (" started", 0.0),  # before the first step
    ("first running", 0.0),  # a worker is about to start
    ("first running", 0.15),  # a worker may be at work
    ("first ran", 0.0),  # after a step
    ("second running", 0.0),
    ("second ran", 0.0),
    ("parts running", 0.0),
    ("parts ran", 0.0),
    ("total ran", 0.0),
    ("positive ran", 0.0),
    ("last ran", 0.0),
    (" publishing", 0.0),  # before the commit
]


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "ran"
    path.write_text("")
    monkeypatch.setenv("RAN", str(path))
    return path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of a run that nobody kills."""
    root = tmp_path_factory.mktemp("whole")
    other = Bench(root)
    os.environ["RAN"] = str(root / "ran")
    try:
        other.write(**FLOW)
        return {step.name: step.digest for step in other.run().steps}
    finally:
        del os.environ["RAN"]
        other.db.close()


def killed_at(bench: Bench, point: str, delay: float) -> None:
    bench.db.close()
    tests = str(Path(__file__).parent)
    code = textwrap.dedent(DRIVER).format(tests=tests, root=str(bench.root), point=point, delay=delay)
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    ("point", "delay"),
    mostly_slow(POINTS, ("second running", 0.0), (" publishing", 0.0)),
    ids=[f"{point} {delay}".strip() for point, delay in POINTS],
)
def test_a_killed_run_resumes_to_the_digests_of_an_uninterrupted_one(
    bench: Bench, ran: Path, undisturbed: dict[str, str], point: str, delay: float
) -> None:
    bench.write(**FLOW)
    killed_at(bench, point, delay)
    finished = set(ran.read_text().split("\n")) if point.endswith(" ran") else set()
    reopened = Bench(bench.root)
    try:
        (run,) = reopened.engine.runs.list()
        recorded = {
            step.name
            for step in reopened.engine.runs.steps(run.id)
            if step.state == "ran" and reopened.engine.runs.result(step.key) is not None
        }
        if point.endswith(" ran"):
            assert point.removesuffix(" ran") in recorded, "a step that was reported is durable"
        result = reopened.engine.resume(run.id)
        assert (result.run, result.state) == (run.id, "succeeded")
        for name in recorded:
            assert outcome(result, name).state == "cached", "a finished step is not run again"
        again = ran.read_text().split("\n")
        assert all(again.count(name) == 1 for name in finished & {"first", "second", "last"} if name in recorded)
        assert reopened.rows("total") == [{"total": 6}]
        assert reopened.value("last") == 14
        digests = {step.name: step.digest for step in result.steps}
    finally:
        reopened.db.close()
    assert digests == undisturbed


@pytest.mark.slow
def test_resuming_with_edited_code_is_refused_unless_told_to(bench: Bench, ran: Path) -> None:
    bench.write(**FLOW)
    bench.edit("steps.py", "return sum(parts)", "return 1 // 0")
    failed = bench.run()
    assert failed.state == "failed"
    with pytest.raises(Refused) as caught:
        bench.edit("steps.py", "return 1 // 0", "return sum(parts)")
        bench.engine.resume(failed.run)
    assert "last: code steps.last changed" in str(caught.value)
    result = bench.engine.resume(failed.run, rebase=True)
    assert result.state == "succeeded"
    run = bench.engine.runs.get(failed.run)
    assert run.manifest["mixed"] == ["last: code steps.last changed"]
    assert [step.name for step in result.steps if step.state == "ran"] == ["last"]


@pytest.mark.slow
def test_a_comment_does_not_hinder_resuming(bench: Bench, ran: Path) -> None:
    bench.write(**FLOW)
    bench.write(checks__positive="SELECT * FROM total WHERE total > 0")
    failed = bench.run()
    assert failed.exit_code == 1
    bench.edit("steps.py", "return sum(parts)", "return sum(parts)  # all of them")
    again = bench.engine.resume(failed.run)
    assert outcome(again, "positive").state == "failed"
    assert outcome(again, "last").state == "cached"


@pytest.mark.slow
def test_resume_keeps_the_parameters_of_the_run(bench: Bench) -> None:
    bench.write(
        steps="""
        import os
        from sampan import step

        @step
        def one(n: int = 1) -> int:
            return n

        @step
        def two(one: int) -> int:
            return one // int(os.path.exists("go"))
        """
    )
    failed = bench.run(one__n="5")
    assert failed.state == "failed"
    bench.file("go", "")
    assert bench.engine.resume(failed.run).state == "succeeded"
    assert bench.value("two") == 5


@pytest.mark.slow
def test_what_cannot_be_resumed_says_why(bench: Bench) -> None:
    bench.write(tables__a="SELECT 1 AS x")
    done = bench.run()
    with pytest.raises(Refused, match="it has succeeded"):
        bench.engine.resume(done.run)
    with pytest.raises(NotFound):
        bench.engine.resume("nosuchrun")


@pytest.mark.slow
def test_workers_do_not_outlive_the_engine(bench: Bench, tmp_path: Path) -> None:
    bench.file(
        "steps.py",
        f"""
        import os, time
        from pathlib import Path
        from sampan import step

        @step
        def sleeps() -> int:
            Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
            time.sleep(60)
            return 1

        @step
        def watches() -> int:
            while not Path({str(tmp_path / "pid")!r}).exists():
                time.sleep(0.01)
            return 1
        """,
    )
    killed_at(bench, "watches ran", 0.1)
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            break
        subprocess.run(["sleep", "0.1"], check=True)
    else:
        raise AssertionError(f"worker {pid} is still there")


def test_how_long_a_run_took_is_measured_whatever_its_clock_tells(bench: Bench) -> None:
    bench.file("steps.py", STOPS)
    bench.engine.clock = ManualClock(datetime(2011, 1, 1, tzinfo=UTC))
    failed = bench.run()
    run = bench.engine.runs.get(failed.run)
    assert run.started == run.finished, "the story's clock stood still"
    assert run.manifest["seconds"] >= 0.2
    bench.file("go", "")
    resumed = bench.engine.resume(failed.run)
    assert bench.engine.runs.get(failed.run).manifest["seconds"] >= run.manifest["seconds"] + resumed.seconds - 0.1


STOPS = """
    import os, time
    from sampan import step

    @step
    def one() -> int:
        time.sleep(0.2)
        return 1 // int(os.path.exists("go"))
    """
