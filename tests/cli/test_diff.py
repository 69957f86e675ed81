"""`sampan diff`: what differs between two runs of the flow, and between two logged runs; nothing else is told."""

import json

import pytest

from sampan.hub.code_diff import State, code_diff
from sampan.hub.differences import changes, environments
from sampan.track.records import Dataset, Input, Metric
from sampan.track.tracking import Tracking
from tests.cli.conftest import Here, git, load, run

STEPS = """
from sampan import step


def helper(rows):
    return len(rows)


@step
def score(pages: list, weight: float = 1.0) -> dict:
    return {"pages": helper(pages), "score": weight * helper(pages)}
"""


def test_two_runs_of_the_same_differ_in_nothing(committed: Here) -> None:
    first, second = run(committed), run(committed)
    assert committed("diff", first, second) == "Nothing differs.\n"
    assert committed("diff", first, "last") == "Nothing differs.\n"


@pytest.mark.slow
@pytest.mark.parametrize("top", [".", ".."])
def test_a_run_before_the_first_commit_is_told_line_by_line(here: Here, top: str) -> None:
    (here.folder / "steps.py").write_text(STEPS)
    (here.folder / ".gitignore").write_text(".sampan/\n__pycache__/\n*.ndjson\n")
    git(here.folder / top, "init", "-q")
    load(here, "a1")
    first = run(here)
    git(here.folder, "add", ".")
    git(here.folder, "commit", "-qm", "first")
    committed = run(here)
    found = here.json("diff", first, committed)["code"]
    assert (found["files"], found["text"], found["said"]) == ([], "", ""), "it was committed as it was"
    (here.folder / "steps.py").write_text(STEPS.replace("weight: float = 1.0", "weight: float = 2.0"))
    found = here.json("diff", first, run(here))["code"]
    assert [line for line in found["text"].splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")] == [
        "-def score(pages: list, weight: float = 1.0) -> dict:",
        "+def score(pages: list, weight: float = 2.0) -> dict:",
    ]
    assert "gone" not in here("diff", first, "last")


def test_code_data_parameters_and_metrics_of_the_flow_are_told_and_only_what_differs(committed: Here) -> None:
    first = run(committed)
    steps = committed.folder / "steps.py"
    steps.write_text(STEPS.replace("len(rows)", "len(rows) + 10").replace("weight: float = 1.0", "weight: float = 2.0"))
    load(committed, "b2", "c1")
    found = committed.json("diff", first, run(committed))
    assert [one["name"] for one in found["code"]["steps"]] == ["score"]
    assert "+    return len(rows) + 10\n" in found["code"]["text"]
    assert (found["code"]["uncommitted"], found["code"]["said"]) == ([False, True], "")
    events, pages = found["data"]
    assert (events["name"], events["rows_before"], events["rows_after"]) == ("visit", 3, 5)
    counts = [pages["rows"][name] for name in ("added", "removed", "changed")]
    assert (pages["name"], pages["rows_before"], pages["rows_after"], counts) == ("pages", 2, 3, [1, 0, 1])
    assert found["parameters"] == [{"name": "score.weight", "before": 1.0, "after": 2.0, "difference": 1.0}]
    assert [(one["name"], one["before"], one["after"], one["difference"]) for one in found["metrics"]] == [
        ("score.pages", 2, 13, 11.0),
        ("score.score", 2.0, 26.0, 24.0),
    ]
    assert found["environment"] == []
    said = committed("diff", first, "last")
    assert said.index("Code\n") < said.index("Data\n") < said.index("Parameters\n") < said.index("Metrics\n")
    assert "Environment" not in said


def test_changes_that_were_committed_and_those_that_were_not_are_one_difference(committed: Here) -> None:
    steps = committed.folder / "steps.py"
    steps.write_text(STEPS + "# one\n")
    first = run(committed)
    steps.write_text(STEPS + "# one\n# two\n")
    git(committed.folder, "commit", "-qam", "second")
    second = run(committed)
    before = git(committed.folder, "count-objects")
    text = committed.json("diff", first, second)["code"]["text"]
    assert [line for line in text.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")] == ["+# two"]
    assert git(committed.folder, "count-objects") == before
    assert git(committed.folder, "status", "--porcelain") == ""


def test_a_file_that_a_step_reads_is_data(committed: Here) -> None:
    steps, rates = committed.folder / "steps.py", committed.folder / "rates.csv"
    steps.write_text(
        "from sampan import File, step\n\n\n@step\ndef first(path=File('rates.csv')) -> int:\n    return 1\n"
    )
    rates.write_text("1\n")
    first = run(committed)
    rates.write_text("2\n")
    found = committed.json("diff", first, run(committed))
    assert [(one["name"], one["kind"]) for one in found["data"]] == [("rates.csv", "file")]
    assert "+2" in found["code"]["text"]


def test_where_runs_ran_is_compared_by_what_both_of_them_recorded() -> None:
    older = {"python": "3.11.7", "cpus": 2, "packages": {"numpy": "1"}}
    newer = {"python": "3.12.1", "cpus": 2, "gpus": [], "accelerator": {"cuda": "12", "driver": "none"}}
    told = changes(*environments(older, {**newer, "packages": {"numpy": "2", "pandas": "2"}}))
    assert [(one.name, one.before, one.after) for one in told] == [
        ("numpy", "1", "2"),
        ("pandas", None, "2"),
        ("python", "3.11.7", "3.12.1"),
    ]
    told = changes(*environments(newer, {**newer, "accelerator": {"cuda": "13", "driver": "none"}}))
    assert [(one.name, one.before, one.after) for one in told] == [("accelerator.cuda", "12", "13")]


def test_what_is_no_commit_and_what_git_does_not_have_is_said(
    committed: Here, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root, head = committed.folder, git(committed.folder, "rev-parse", "HEAD")
    there = State(head)
    assert code_diff(root, there, State("--output=/tmp/x")) == ("", "'--output=/tmp/x' is no commit")
    assert code_diff(root, there, State("")) == ("", "no commit was recorded")
    assert code_diff(root, there, State("a" * 40)) == ("", "the workspace's repository has no commit aaaaaaaaaaaa")
    assert "do not apply" in code_diff(root, there, State(head, b"no patch"))[1]
    outside = tmp_path_factory.mktemp("outside")
    assert "not a git repository" in code_diff(outside, there, State("b" * 40))[1]


def logged(here: Here, name: str, *, commit: str, lock: str, digest: str, depth: str, rmse: float, clock: int) -> str:
    from sampan.base.clock import SystemClock

    tracking = Tracking(here.folder / ".sampan", SystemClock())
    try:
        run = tracking.runs.create(0, name=name, tags={"mlflow.source.git.commit": commit} if commit else {}).id
        tracking.logging.log(run, [Metric("rmse", rmse, 1), Metric("same", 1.0, 1)], params=[("depth", depth)]).result()
        profile = json.dumps({"num_rows": 100 * clock})
        data = Dataset("orders", digest, "local", "orders.csv", None, profile)
        tracking.logging.inputs(run, [Input(data, {"mlflow.data.context": "train"})], [])
        if lock:
            from sampan.track.artifacts import Incoming

            for path, text in (("model/requirements.txt", lock), ("model/python_env.yaml", "python: 3.11.7\n")):
                incoming = Incoming(tracking.artifacts.temporary)
                incoming.write(text.encode())
                tracking.artifacts.put(run, path, incoming)
        return run
    finally:
        tracking.close()


def test_two_logged_runs_differ_in_what_was_logged(committed: Here) -> None:
    first = git(committed.folder, "rev-parse", "HEAD")
    (committed.folder / "steps.py").write_text(STEPS + "# more\n")
    git(committed.folder, "commit", "-qam", "more")
    second = git(committed.folder, "rev-parse", "HEAD")
    lock = "# lock\nNumPy==1.26.4\nscikit-learn[a]==1.5.0 ; python_version > '3'\n"
    a = logged(committed, "a", commit=first, lock=lock, digest="d1", depth="2", rmse=0.5, clock=1)
    later = lock.replace("1.5.0", "1.6.1") + "pandas>=2\n"
    b = logged(committed, "b", commit=second, lock=later, digest="d2", depth="4", rmse=0.25, clock=2)
    found = committed.json("diff", a, b)
    assert "+# more" in found["code"]["text"]
    assert [(one["name"], one["before"], one["after"]) for one in found["environment"]] == [
        ("pandas", None, ">=2"),
        ("scikit-learn", "1.5.0", "1.6.1"),
    ]
    (orders,) = found["data"]
    assert (orders["name"], orders["before"], orders["after"]) == ("orders (train)", "d1", "d2")
    assert (orders["rows_before"], orders["rows_after"]) == (100, 200)
    assert [(one["name"], one["before"], one["after"]) for one in found["parameters"]] == [("depth", "2", "4")]
    assert [(one["name"], one["difference"]) for one in found["metrics"]] == [("rmse", -0.25)]
    said = committed("diff", a, b)
    assert "scikit-learn" in said and "NumPy" not in said and "numpy" not in said


def test_what_was_not_logged_is_said_to_be_missing(committed: Here) -> None:
    a = logged(committed, "a", commit="", lock="", digest="d1", depth="2", rmse=0.5, clock=1)
    b = logged(committed, "b", commit="f" * 40, lock="x==1", digest="d1", depth="2", rmse=0.5, clock=1)
    found = committed.json("diff", a, b)
    assert found["notes"] == {
        "code": "a has not logged a commit.",
        "environment": "a has not logged a requirements.txt.",
    }
    assert (found["environment"], found["data"], found["parameters"], found["metrics"]) == ([], [], [], [])


def test_runs_that_are_not_there_or_not_of_a_kind_are_told(committed: Here) -> None:
    flow = run(committed)
    a = logged(committed, "a", commit="", lock="", digest="d1", depth="2", rmse=0.5, clock=1)
    assert "there is none" in committed.complaint("diff", flow, "nobody", code=1)
    assert "one is a run of the flow, the other was logged" in committed.complaint("diff", flow, a, code=2)
    b = logged(committed, "b", commit="", lock="", digest="d1", depth="2", rmse=0.5, clock=1)
    assert "more than one run begins so" in committed.complaint("diff", a[:5], b, code=1)
