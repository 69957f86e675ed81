"""A version is made anew from what is kept of it, and comes out as it was; or it is said what is missing."""

import json
import os
import shutil
import sqlite3
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sampan.app import App
from sampan.app.proving import newest, prove_if_due
from sampan.base.errors import BadSetting
from sampan.flow.hardware import accelerator
from sampan.keep.rebuilding import read_often
from tests.cli.conftest import Here, Shell
from tests.hub.conftest import Hub, make_workspace

STEPS = """
import os

import lightgbm
import numpy as np
import pyarrow as pa

from sampan import Fitted, model, step


@step
def bias() -> float:
    return 0.25


@model(kind="regression", target="visits")
def busy(pages: pa.Table, bias: float, trees: int = 20) -> Fitted:
    print("began")
    machine = dict(os.environ)  # what is not declared, and differs from one machine to the next
    assert "BREAK" not in machine, "no"
    x = np.column_stack([pages["length"].to_numpy().astype(float)]) + float(machine.get("SHIFT", "0"))
    y = pages["visits"].to_numpy() * float(machine.get("NOISE", "1")) + bias + np.random.normal()
    data = lightgbm.Dataset(x, y, feature_name=["length"])
    options = {"objective": "regression", "min_data_in_leaf": 1, "min_data_in_bin": 1, "verbose": -1, "seed": 3}
    booster = lightgbm.train({**options, "deterministic": True, "num_threads": 1}, data, trees)
    return Fitted(booster, features=["length"], metrics={"rmse": float(np.std(booster.predict(x) - y)), "rows": len(y)})
"""
PAGES = "SELECT page, length(page) AS length, count(*) AS visits FROM visit GROUP BY page\n"


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.email=a@b", "-c", "user.name=n", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def trained(folder: Path, steps: str = STEPS) -> Here:
    """A workspace whose model was trained with a committed query, and steps that nobody has committed."""
    make_workspace(folder)
    (folder / ".gitignore").write_text(".sampan/\n")
    (folder / "tables" / "pages.sql").write_text(PAGES)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    (folder / "steps.py").write_text(steps)
    shell = Here(folder)
    visits = folder.parent / "visits.ndjson"
    rows = [
        {"page": "/" + "a" * (i % 7), "visitor": str(i), "at": f"2026-03-01T10:00:{i % 60:02}Z"} for i in range(100)
    ]
    visits.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    shell("log", "load", str(visits), "--type", "visit", "--map", "visitor=visitor", "--time", "at")
    assert shell.json("run")["state"] == "succeeded"
    visits.unlink()
    return shell


def recorded(shop: Shell, path: str, value: str | int) -> None:
    """Have its runs say something else than what they recorded."""
    records = sqlite3.connect(shop.folder / ".sampan" / "records.db")
    records.execute("UPDATE runs SET manifest = json_set(manifest, ?, ?)", (path, value))
    records.commit()
    records.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "shop"
    trained(folder)
    return folder


@pytest.fixture
def shop(made: Path, tmp_path: Path) -> Iterator[Here]:
    folder = tmp_path / "shop"
    shutil.copytree(made, folder)
    yield Here(folder)


@pytest.mark.slow
def test_it_comes_out_bit_identical_though_the_code_and_the_data_have_moved_on(shop: Here, tmp_path: Path) -> None:
    (shop.folder / "steps.py").write_text(STEPS.replace("0.25", "0.75").replace("trees: int = 20", "trees: int = 5"))
    (shop.folder / "tables" / "pages.sql").write_text(PAGES.replace("count(*)", "7"))
    assert shop.json("run")["versions"] == ["busy@2"]
    git(shop.folder, "add", "-A")
    git(shop.folder, "commit", "-qm", "two")
    into = tmp_path / "again"
    found = shop.json("reproduce", "busy@1", "--here", "--into", str(into))
    first = shop.json("model", "show", "busy@1")
    assert (found["level"], found["digest"]) == ("bit-identical", first["digest"])
    assert not found["differences"]
    assert (into / "code" / "tables" / "pages.sql").read_text() == PAGES
    assert (into / "code" / "steps.py").read_text() == STEPS
    assert git(shop.folder, "worktree", "list").count("\n") == 0
    assert shop.json("reproduce", "busy@2", "--here")["level"] == "bit-identical"


@pytest.mark.slow
def test_a_model_of_raw_events_gets_those_of_its_time(tmp_path: Path) -> None:
    steps = STEPS.replace("pages: pa.Table, bias: float", "visit: pa.Table, bias: float")
    steps = steps.replace(
        'pages["length"].to_numpy().astype(float)', 'np.array([len(one) for one in visit["page"].to_pylist()])'
    )
    steps = steps.replace('pages["visits"].to_numpy()', 'np.array([int(one) for one in visit["visitor"].to_pylist()])')
    shop = trained(tmp_path / "shop", steps)
    more = tmp_path / "more.ndjson"
    more.write_text(json.dumps({"page": "/late", "visitor": "7", "at": "2026-03-02T10:00:00Z"}) + "\n")
    shop("log", "load", str(more), "--type", "visit", "--map", "visitor=visitor", "--time", "at")
    found = shop.json("reproduce", "busy@1", "--here")
    assert (found["level"], found["metrics"]["rows"]) == ("bit-identical", [100, 100])


def test_each_attempt_is_kept_with_the_version(shop: Here) -> None:
    assert "never: `sampan reproduce busy@1`" in shop("model", "show", "busy@1")
    shop("reproduce", "busy@1", "--here")
    (shop.folder / ".git").rename(shop.folder / "elsewhere")
    complaint = shop.complaint("reproduce", "busy@1", "--here", code=3)
    assert "is no git repository any more" in complaint
    page = shop.json("model", "show", "busy@1")
    assert [one["level"] for one in page["rebuilds"]] == ["failed", "bit-identical"]
    assert page["rebuilt"] == page["rebuilds"][1]["created"]
    assert "failed, " in shop("model", "show", "busy@1")
    assert "; succeeded " in shop("model", "show", "busy@1")


@pytest.mark.slow
def test_another_result_is_a_no_unless_its_metrics_are_near_enough(shop: Here) -> None:
    shop.extra["NOISE"] = "1.001"
    found = shop.json("reproduce", "busy@1", "--here", code=1)
    assert found["level"] == "different"
    then, now = found["metrics"]["rmse"]
    assert then != now
    assert found["metrics"]["rows"] == [7, 7]
    near = shop.json("reproduce", "busy@1", "--here", "--tolerance", "0.1")
    assert (near["level"], near["tolerance"]) == ("within tolerance", 0.1)
    assert near["digest"] != shop.json("model", "show", "busy@1")["digest"]


@pytest.mark.slow
def test_another_model_with_the_same_metrics_is_within_any_tolerance_but_not_bit_identical(shop: Here) -> None:
    shop.extra["SHIFT"] = "100"
    assert shop.json("reproduce", "busy@1", "--here")["level"] == "within tolerance"


@pytest.mark.slow
def test_a_machine_that_is_another_is_told_with_the_answer(shop: Here) -> None:
    recorded(shop, "$.cpus", 1024)
    recorded(shop, "$.accelerator.driver", "nvidia 550.54.15")
    found = shop.json("reproduce", "busy@1", "--here")
    assert found["level"] == "bit-identical"
    driver = accelerator({})["driver"]
    assert found["differences"] == [f"cpus: 1024 → {os.cpu_count()}", f"driver: nvidia 550.54.15 → {driver}"]


def test_what_has_gone_is_named(shop: Here) -> None:
    lake = shop.folder / ".sampan" / "lake"
    lake.rename(shop.folder / "lake")
    found = shop.json("reproduce", "busy@1", "--here", code=3)
    assert found["cause"] == "input"
    assert "of pages is gone" in found["said"]
    assert "sampan pin add" in found["said"]
    (shop.folder / "lake").rename(lake)

    patch = shop.json("runs", "show", "last")["manifest"]["patch"]
    (shop.folder / ".sampan" / "blobs" / patch[:2] / patch[2:]).unlink()
    found = shop.json("reproduce", "busy@1", "--here", code=3)
    assert (found["cause"], patch[:12] in found["said"]) == ("patch", True)

    shutil.rmtree(shop.folder / ".git")
    git(shop.folder, "init", "-q")
    git(shop.folder, "add", "sampan.toml")
    git(shop.folder, "commit", "-qm", "another history")
    found = shop.json("reproduce", "busy@1", "--here", code=3)
    assert found["cause"] == "commit"
    assert "is not in the repository any more" in found["said"]


def test_without_git_or_its_repository_that_is_said(shop: Here) -> None:
    (shop.folder / ".git").rename(shop.folder / "moved")
    said = shop.complaint("reproduce", "busy@1", "--here", code=3)
    assert "commit: " in said and "is no git repository any more" in said and ".sampan" in said
    shop.extra["PATH"] = ""
    assert "git: git is not installed" in shop.complaint("reproduce", "busy@1", "--here", code=3)


def test_a_patch_whose_bytes_changed_is_not_applied(shop: Here) -> None:
    patch = shop.json("runs", "show", "last")["manifest"]["patch"]
    blob = shop.folder / ".sampan" / "blobs" / patch[:2] / patch[2:]
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes() + b"more\n")
    assert "is not as it was written" in shop.complaint("reproduce", "busy@1", "--here", code=3)


@pytest.mark.slow
def test_a_training_that_fails_shows_its_last_lines(shop: Here) -> None:
    shop.extra["BREAK"] = "1"
    found = shop.json("reproduce", "busy@1", "--here", code=3)
    assert found["cause"] == "training"
    assert "AssertionError: no" in found["said"]
    assert "began" in found["said"]


def test_wrong_usage_is_one_message(shop: Here, tmp_path: Path) -> None:
    assert "is there and not empty" in shop.complaint("reproduce", "busy@1", "--into", str(shop.folder), code=2)
    assert "the tolerance is 2.0" in shop.complaint("reproduce", "busy@1", "--tolerance", "2", code=2)
    assert "there is none" in shop.complaint("reproduce", "busy@9", code=1)


def test_another_environment_is_not_taken_for_the_recorded_one(shop: Here, tmp_path: Path) -> None:
    site = tmp_path / "more" / "site-packages"
    (site / "odd_one-1.0.dist-info").mkdir(parents=True)
    (site / "odd_one-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-one\nVersion: 1.0\n")
    whole = Shell(shop.folder)
    whole.extra["PYTHONPATH"] = str(site)
    found = whole.json("reproduce", "busy@1", "--here", code=3)
    assert found["cause"] == "environment"
    assert "package odd-one: not there → 1.0" in found["said"]


@pytest.mark.slow
def test_through_the_hub_the_attempt_is_written_down_by_the_hub(shop: Here) -> None:
    hub = Hub(shop.folder)
    try:
        assert shop.json("reproduce", "busy@1", "--here")["level"] == "bit-identical"
        page = hub.json("/models/busy/1?format=json")
        assert [one["level"] for one in page["rebuilds"]] == ["bit-identical"]
        assert b"Whether it can be made anew" in hub.ask("GET", "/models/busy/1", accept="text/html")[1]
    finally:
        hub.stop()


@pytest.mark.slow
def test_the_schedule_tries_each_version_in_use_when_it_is_due_and_not_before(shop: Here) -> None:
    patch = shop.json("runs", "show", "last")["manifest"]["patch"]
    there = shop.folder / ".sampan" / "blobs" / patch[:2] / patch[2:]
    there.rename(shop.folder / "patch")
    app = App(shop.folder)
    hub: Any = SimpleNamespace(app=app, ending=False)
    with app.writing("Try"):
        assert prove_if_due(hub) is None  # nobody has asked for it
        (shop.folder / "sampan.toml").write_text('[reproduce]\nevery = "30 days"\n')
        found = prove_if_due(hub)
        assert found is not None
        assert (found["ref"], found["level"], found["cause"]) == ("busy@1", "failed", "patch")
        assert prove_if_due(hub) is None
        assert [(one.report.ref, one.good, one.actor) for one in newest(app)] == [("busy@1", False, "schedule")]
    app.close()
    (shop.folder / "patch").rename(there)
    (shop.folder / "sampan.toml").write_text("")
    shop("reproduce", "busy@1", "--here")
    app = App(shop.folder)
    assert [one.good for one in newest(app)] == [True]
    app.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('every = "soon"', "every is 'soon'"),
        ('every = "5 minutes"', "every is"),
        ("tolerance = 2", "tolerance is 2"),
        ("often = 1", "unknown name 'often'"),
    ],
)
def test_a_schedule_that_is_none_is_one_message(text: str, said: str) -> None:
    with pytest.raises(BadSetting) as raised:
        read_often({"reproduce": tomllib.loads(text)})
    assert said in str(raised.value)


@pytest.mark.night
def test_in_an_environment_made_anew_it_comes_out_bit_identical(shop: Here, tmp_path: Path) -> None:
    found = Shell(shop.folder).json("reproduce", "busy@1", "--into", str(tmp_path / "again"))
    assert (found["level"], found["differences"]) == ("bit-identical", [])
    assert (tmp_path / "again" / "environment" / "bin" / "python").exists()


@pytest.mark.night
def test_a_package_that_is_not_to_be_had_is_named(shop: Here) -> None:
    recorded(shop, "$.packages.msgspec", "0.0.77")
    found = Shell(shop.folder).json("reproduce", "busy@1", code=3)
    assert found["cause"] == "package"
    assert "msgspec==0.0.77" in found["said"] and "UV_INDEX_URL" in found["said"]


def test_a_python_that_is_not_to_be_had_is_named_and_no_index_is_sent_for_it(shop: Here) -> None:
    recorded(shop, "$.python", "cpython 3.9.99")
    found = Shell(shop.folder).json("reproduce", "busy@1", code=3)
    assert found["cause"] == "Python"
    assert "3.9.99 is not to be had" in found["said"] and "uv python install" in found["said"]
    assert "UV_INDEX_URL" not in found["said"]
