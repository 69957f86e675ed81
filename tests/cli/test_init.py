"""``sampan init``: a workspace that works, whatever is or is not installed."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import Shell


@pytest.mark.parametrize("template", ["empty", "retail"])
def test_a_fresh_workspace_plans(tmp_path: Path, template: str) -> None:
    said = Shell(tmp_path)("init", "shop", "--template", template, "--no-lock")
    assert "sampan up" in said
    shop = tmp_path / "shop"
    for name in ("sampan.toml", "pyproject.toml", ".gitignore", "contracts.py", "tables"):
        assert (shop / name).exists(), name
    assert ".sampan/" in (shop / ".gitignore").read_text().splitlines()
    project = tomllib.loads((shop / "pyproject.toml").read_text())["project"]
    assert project["name"] == "shop"
    assert project["dependencies"][0].startswith("sampan")
    assert (shop / ".git").is_dir()
    assert not (shop / ".sampan").exists()
    steps = Shell(shop).json("plan")["steps"]
    assert steps
    assert {step["state"] for step in steps} == {"ran"}


def test_the_empty_template_runs_from_its_readme(tmp_path: Path) -> None:
    Shell(tmp_path)("init", "shop", "--no-lock")
    shell = Shell(tmp_path / "shop")
    line = next(line for line in (shell.folder / "README.md").read_text().splitlines() if '"type": "visit"' in line)
    (shell.folder / "visits.ndjson").write_text(line.strip() + "\n")
    assert shell.json("log", "load", "visits.ndjson")["accepted"] == 1
    assert shell.json("run")["state"] == "succeeded"
    assert shell.json("sql", "select * from pages order by visits desc")["rows"][0][0] == "/"


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "mine.txt").write_text("mine")
    assert "there is something in it" in Shell(tmp_path).complaint("init", "shop", code=1)
    assert [path.name for path in (tmp_path / "shop").iterdir()] == ["mine.txt"]


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "is no name" in Shell(tmp_path).complaint("init", "a b/..c", code=2)
    assert list(tmp_path.iterdir()) == []


def test_inside_a_repository_it_makes_no_other(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    Shell(tmp_path)("init", "shop", "--no-lock")
    assert not (tmp_path / "shop" / ".git").exists()


def test_without_uv_and_git_it_says_how_and_does_not_fail(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.extra = {"PATH": str(tmp_path / "nothing")}
    said = shell("init", "shop")
    assert "uv is not installed. `uv lock` in the folder writes uv.lock" in said
    assert "git is not installed" in said


def test_uv_that_fails_is_a_sentence(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    uv = tools / "uv"
    uv.write_text("#!/bin/sh\necho 'no network here' >&2\nexit 1\n")
    uv.chmod(0o755)
    shell = Shell(tmp_path)
    shell.extra = {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    assert "uv could not pin the environment (no network here)" in shell("init", "shop")
