"""`sampan diff --explain`: factors swapped one at a time through the cache, and the change of a metric shared out."""

import time
import zipfile
from pathlib import Path

import pytest

from sampan.runs.shapley import from_first, from_second, shares
from tests.cli.conftest import Here, Shell, git, load, run
from tests.hub.conftest import Hub

STEPS = """
import numpy as np
from sklearn.linear_model import LinearRegression

from sampan import Fitted, model


def helper(rows):
    return len(rows)


@model(kind="regression", target="visits", seed=1)
def busy(pages: list, weight: float = 1.0) -> Fitted:
    import pyarrow as pa

    x = np.arange(4.0).reshape(-1, 1)
    metrics = {"score": weight * helper(pages), "fixed": 1.0, "fit_seconds": weight}
    return Fitted(LinearRegression().fit(x, x[:, 0]), features=["x"], sample=pa.table({"x": x[:, 0]}), metrics=metrics)
"""
LONGER = ("len(rows)", "len(rows) + 10")
HEAVIER = ("weight: float = 1.0", "weight: float = 2.0")


def rewrite(here: Here, *changes: tuple[str, str]) -> None:
    text = STEPS
    for before, after in changes:
        text = text.replace(before, after)
    (here.folder / "steps.py").write_text(text)


@pytest.mark.slow
def test_each_factor_alone_has_the_whole_change(committed: Here) -> None:
    first = run(committed)
    rewrite(committed, LONGER)
    coded = run(committed)
    rewrite(committed)
    load(committed, "c1")
    fed = run(committed)
    for second, factor, change in ((coded, "code", 10.0), (fed, "data", 1.0)):
        found = committed.json("diff", first, second, "--explain")["report"]
        assert [one["name"] for one in found["factors"]] == [factor]
        (metric,) = found["metrics"]
        assert (metric["model"], metric["metric"], metric["difference"]) == ("busy", "score", change)
        assert metric["shares"] == [{"factor": factor, "share": change, "first": change, "second": change}]
    second = run(committed, "--set", "busy.weight=3")
    (metric,) = committed.json("diff", fed, second, "--explain")["report"]["metrics"]
    assert metric["shares"] == [{"factor": "parameters", "share": 6.0, "first": 6.0, "second": 6.0}]


@pytest.mark.slow
def test_what_changed_together_is_shared_out_and_the_shares_add_up(committed: Here) -> None:
    first = run(committed)
    rewrite(committed, LONGER, HEAVIER)
    load(committed, "c1")
    git(committed.folder, "commit", "-qam", "second")
    second = run(committed)
    rewrite(committed)  # what stands in the folder has no part in it
    versions = committed("model", "list")
    plan = committed.json("diff", first, second, "--explain", "--plan")
    assert (plan["combinations"], plan["trainings"]) == (8, 6)
    assert [(one["name"], one["what"]) for one in plan["factors"]] == [
        ("code", ["busy"]),
        ("data", ["visit: 3 → 4 events"]),
        ("parameters", ["busy.weight: 1.0 → 2.0"]),
    ]
    made = committed.json("diff", first, second, "--explain")
    (metric,) = made["report"]["metrics"]
    assert (metric["before"], metric["after"], metric["difference"]) == (2.0, 26.0, 24.0)
    # by hand, over the six orders of (pages + code) × weight from (2 + 0) × 1 to (3 + 10) × 2
    assert [(one["factor"], one["share"], one["first"], one["second"]) for one in metric["shares"]] == [
        ("code", 15.0, 10.0, 20.0),
        ("data", 1.5, 1.0, 2.0),
        ("parameters", 7.5, 2.0, 13.0),
    ]
    assert (metric["orders"], metric["of"]) == (6, 6)
    assert committed.json("diff", first, second, "--explain", "--plan")["trainings"] == 0
    metrics = {one["name"]: one["difference"] for one in committed.json("diff", first, second)["metrics"]}
    assert metrics == {"busy.fit_seconds": 1.0, "busy.score": 24.0}
    assert committed("model", "list") == versions, "an explanation registers nothing"
    assert committed("branch", "list").count("\n") == 2
    assert git(committed.folder, "worktree", "list").count("\n") == 0
    said = committed("diff", first, second, "--explain")
    assert "8 combinations, 0 trainings" in said and "busy.score: 2 → 26 (+24)" in said and "+15" in said


@pytest.mark.slow
def test_a_combination_that_does_not_train_counts_its_orders_out(committed: Here) -> None:
    first = run(committed)
    rewrite(committed, ("return len(rows)", "assert len(rows) > 2, 'too few'\n    return len(rows) + 10"))
    load(committed, "c1")
    second = run(committed)
    found = committed.json("diff", first, second, "--explain")["report"]
    failed = [(one["swapped"], one["error"]) for one in found["combinations"] if one["error"]]
    assert [swapped for swapped, _ in failed] == [["code"]] and "too few" in failed[0][1]["busy"]
    (metric,) = found["metrics"]
    assert (metric["orders"], metric["of"], metric["difference"]) == (1, 2, 11.0)
    assert [(one["factor"], one["share"], one["first"]) for one in metric["shares"]] == [
        ("code", 10.0, None),
        ("data", 1.0, 1.0),
    ]
    assert "Of 2 orders of the factors 1 could be trained" in committed("diff", first, second, "--explain")


@pytest.mark.slow
def test_what_cannot_be_swapped_is_said_and_its_share_is_the_rest(committed: Here) -> None:
    rewrite(committed, LONGER)
    git(committed.folder, "commit", "-qam", "second")
    second = run(committed)
    first_commit = git(committed.folder, "rev-parse", "HEAD")
    rewrite(committed, HEAVIER)
    git(committed.folder, "commit", "-qa", "--amend", "-m", "other")
    third = run(committed)
    git(committed.folder, "reflog", "expire", "--expire=now", "--all")
    git(committed.folder, "gc", "-q", "--prune=now")
    found = committed.json("diff", second, third, "--explain")["report"]
    code, parameters = found["factors"]
    assert (code["name"], code["swapped"], parameters["swapped"]) == ("code", False, True)
    assert f"the code of run {second} is not to be had" in code["said"] and first_commit
    (metric,) = found["metrics"]
    assert {one["factor"]: one["share"] for one in metric["shares"]} == {"parameters": 2.0, "code": -10.0}
    assert metric["difference"] == -8.0
    assert "is not to be had" in committed("diff", second, third, "--explain", "--plan")


@pytest.mark.slow
def test_variables_of_the_environment_are_named_and_not_swapped(committed: Here) -> None:
    (committed.folder / "steps.py").write_text(
        STEPS.replace("import numpy as np", "import os\n\nimport numpy as np", 1).replace(
            "return len(rows)", "return len(rows) + int(os.environ['MORE'])"
        )
    )
    committed.extra = {"MORE": "1"}
    first = run(committed)
    committed.extra = {"MORE": "5"}
    load(committed, "c1")
    second = run(committed)
    found = committed.json("diff", first, second, "--explain")["report"]
    assert [(one["name"], one["swapped"]) for one in found["factors"]] == [("data", True), ("machine", False)]
    assert found["factors"][1]["what"][0].startswith("$MORE: ")
    (metric,) = found["metrics"]
    assert {one["factor"]: one["share"] for one in metric["shares"]} == {"data": 1.0, "machine": 4.0}


def installed(folder: Path, wheels: Path, version: str) -> Path:
    """A package of one module that says its version, as a folder to import it from, and as a wheel to be found."""
    site, told = folder / version / "site-packages", f"weights-{version}.dist-info"
    files = {
        "weights.py": f"WEIGHT = {version}\n",
        f"{told}/METADATA": f"Metadata-Version: 2.1\nName: weights\nVersion: {version}\n",
        f"{told}/WHEEL": "Wheel-Version: 1.0\nGenerator: by-hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{told}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{told}/RECORD"])
    with zipfile.ZipFile(wheels / f"weights-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_text(text)
    return site


@pytest.fixture
def upgraded(committed: Here, tmp_path: Path) -> tuple[Shell, str, str]:
    """Two runs between which a package that a model uses was upgraded, and events came; in the newer environment."""
    (wheels := tmp_path / "wheels").mkdir()
    old, new = (installed(tmp_path / "packages", wheels, version) for version in ("1.0", "3.0"))
    (committed.folder / "steps.py").write_text(
        STEPS.replace("import numpy as np", "import numpy as np\nimport weights", 1).replace(
            "return len(rows)", "return len(rows) * weights.WEIGHT"
        )
    )
    shell = Shell(committed.folder)
    shell.extra = {"PYTHONPATH": str(old), "UV_FIND_LINKS": str(wheels)}
    first = run(shell)
    shell.extra["PYTHONPATH"] = str(new)
    load(shell, "c1")
    return shell, first, run(shell)


@pytest.mark.slow
def test_an_environment_is_made_anew_and_swapped(upgraded: tuple[Shell, str, str]) -> None:
    shell, first, second = upgraded
    plan = shell.json("diff", first, second, "--explain", "--plan")
    assert [(one["name"], one["what"], one["swapped"]) for one in plan["factors"]] == [
        ("data", ["visit: 3 → 4 events"], True),
        ("environment", ["weights: 1.0 → 3.0"], True),
    ]
    assert (plan["combinations"], plan["trainings"]) == (4, 2), "the runs themselves are cached, in either environment"
    assert f"The environment of run {first} is made anew" in plan["notes"][-1]
    made = shell.json("diff", first, second, "--explain")
    (metric,) = made["report"]["metrics"]
    assert (metric["before"], metric["after"]) == (2.0, 9.0)  # pages × weight: 2 × 1 → 3 × 3
    assert [(one["factor"], one["share"], one["first"], one["second"]) for one in metric["shares"]] == [
        ("data", 2.0, 1.0, 3.0),
        ("environment", 5.0, 4.0, 6.0),
    ]
    assert shell.json("diff", first, second, "--explain", "--plan")["trainings"] == 0
    runs = [one["runs"][0] for one in made["report"]["combinations"]]
    recorded = [shell.json("runs", "show", one)["manifest"] for one in runs]
    assert [one["packages"]["weights"] for one in recorded] == ["1.0", "1.0", "3.0", "3.0"]
    assert len({one["executable"] for one in recorded}) == 2
    began = time.monotonic()
    assert shell.json("diff", first, second, "--explain")["report"]["metrics"] == [metric]
    assert time.monotonic() - began < made["seconds"], "what was made is kept"


@pytest.mark.slow
def test_an_environment_that_is_not_to_be_had_is_the_rest(upgraded: tuple[Shell, str, str], tmp_path: Path) -> None:
    shell, first, second = upgraded
    (tmp_path / "wheels" / "weights-1.0-py3-none-any.whl").unlink()
    report = shell.json("diff", first, second, "--explain")["report"]
    data, environment = report["factors"]
    assert (data["swapped"], environment["swapped"]) == (True, False)
    assert f"that of run {first} is not to be had" in environment["said"] and "weights==1.0" in environment["said"]
    (metric,) = report["metrics"]
    assert {one["factor"]: one["share"] for one in metric["shares"]} == {"data": 3.0, "environment": 4.0}
    said = shell("diff", first, second, "--explain")
    assert "environment (not swapped)" in said and "weights==1.0" in said


@pytest.mark.slow
def test_code_that_is_in_no_repository_is_swapped_as_well(here: Here) -> None:
    rewrite(here)
    load(here, "a1", "b1")
    first = run(here)
    rewrite(here, LONGER)
    load(here, "c1")
    (metric,) = here.json("diff", first, run(here), "--explain")["report"]["metrics"]
    assert {one["factor"]: one["share"] for one in metric["shares"]} == {"code": 10.0, "data": 1.0}
    assert not list((here.folder / ".sampan" / "tmp").glob("code-*"))


def test_runs_of_which_nothing_is_to_be_explained(committed: Here) -> None:
    first = run(committed)
    assert "No metric of a model differs" in committed("diff", first, run(committed), "--explain")
    assert committed.json("diff", first, first, "--explain") is None
    said = committed.complaint("diff", first, first, "--explain", "--model", "nobody", code=1)
    assert "nobody is not a model that both of them have" in said and "busy" in said
    assert "there is none" in committed.complaint("diff", first, "nobody", "--explain", code=1)
    assert "without --explain" in committed.complaint("diff", first, first, "--plan", code=2)


@pytest.mark.slow
def test_the_hub_explains_and_its_page_shows_the_last_one(committed: Here) -> None:
    first = run(committed)
    rewrite(committed, LONGER, HEAVIER)
    second = run(committed)
    hub = Hub(committed.folder)
    try:
        assert hub.json(f"/diff?before={first}&after={second}")["explained"] is None
        made = committed.json("diff", first, second, "--explain")
        page = hub.ask("GET", f"/diff?before={first}&after={second}", accept="text/html")[1].decode()
        assert "Why the metrics differ" in page and "Shapley" in page
        assert hub.json(f"/diff?before={first}&after={second}")["explained"]["id"] == made["id"]
        assert hub.json(f"/diff?before={second}&after={first}")["explained"] is None
    finally:
        hub.stop()


def test_shares_add_up_and_a_factor_that_does_nothing_has_none() -> None:
    def worth(coalition: frozenset[str]) -> float:
        return 3.0 * ("a" in coalition) + 4.0 * ({"a", "b"} <= coalition)

    values = {frozenset(one): worth(frozenset(one)) for one in ("", "a", "b", "c", "ab", "ac", "bc", "abc")}
    found, orders = shares("abc", values)
    assert (found, orders) == ({"a": 5.0, "b": 2.0, "c": 0.0}, 6)
    assert (from_first("b", values), from_second("b", "abc", values)) == (0.0, 4.0)
    assert shares("abc", {frozenset(): 0.0, frozenset("abc"): 7.0}) == ({}, 0)
    assert shares("", {frozenset(): 1.0}) == ({}, 1)
