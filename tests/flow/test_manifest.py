"""A run says what it was made from, all of it, before its first step; or it does not start."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from flow_bench import Bench

from sampan.base.errors import BadStep, BadWorkspace, SampanError
from sampan.flow import code_state, hardware
from sampan.flow.patch import Added, adding
from sampan.runs.provenance import Item, items
from sampan.store.blobs import Blobs

ELEVEN = [
    "dataset",
    "framework",
    "commit",
    "uncommitted patch",
    "packages",
    "driver",
    "CUDA and cuDNN",
    "container or runtime",
    "parameters",
    "device",
    "initial weights",
]
STEPS = """
import numpy
import pandas as pd
from sampan import File, step
from shop import factor

@step
def numbers(weights: str = File("data/weights.csv"), scale: float = 2.0) -> pd.DataFrame:
    return pd.DataFrame({"x": [float(line) * scale * factor for line in open(weights).read().split()]})
"""


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.email=a@b", "-c", "user.name=n", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def workspace(bench: Bench) -> None:
    bench.file("steps.py", STEPS)
    bench.file("shop.py", "factor = 3\n")
    bench.file("data/weights.csv", "1\n2\n")


def manifest(bench: Bench) -> dict[str, Item]:
    result = bench.run()
    assert result.state == "succeeded", result.steps
    return {one.name: one for one in items(bench.engine.runs.get(result.run))}


def again(bench: Bench, to: Path) -> Path:
    """The code of the last run, from the commit and the patch alone."""
    run = bench.engine.runs.get("last")
    to.mkdir()
    if run.git:
        home = git(bench.root, "rev-parse", "--show-toplevel")
        subprocess.run(f"git -C {home} archive {run.git} | tar -x -C {to}", shell=True, check=True)
    if run.manifest["patch"]:
        patch = Blobs(bench.folder.data / "blobs").path(run.manifest["patch"])
        environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(to.parent)}
        subprocess.run(["git", "apply", "--whitespace=nowarn", str(patch)], cwd=to, check=True, env=environment)
    return to / run.manifest["prefix"]


def same(bench: Bench, code: Path, *names: str) -> bool:
    return all((bench.root / name).read_bytes() == (code / name).read_bytes() for name in names)


def test_a_run_lists_all_eleven_each_with_a_digest(bench: Bench) -> None:
    workspace(bench)
    found = manifest(bench)
    assert list(found) == ELEVEN
    assert all(len(one.digest) in (40, 64) and one.says and one.recorded for one in found.values())
    assert "pandas" in found["framework"].says
    assert "numbers.scale = 2.0" in found["parameters"].says
    assert "file data/weights.csv" in found["dataset"].says
    assert found["driver"].says == hardware.accelerator({})["driver"]


@pytest.mark.slow
def test_outside_of_git_the_whole_code_is_kept_and_comes_back_from_nothing(bench: Bench, tmp_path: Path) -> None:
    workspace(bench)
    found = manifest(bench)
    assert found["commit"].says.startswith("none")
    assert same(bench, again(bench, tmp_path / "again"), "steps.py", "shop.py", "data/weights.csv", "sampan.toml")


def test_before_the_first_commit_the_whole_code_is_kept(bench: Bench, tmp_path: Path) -> None:
    workspace(bench)
    git(bench.root, "init", "-q")
    manifest(bench)
    assert same(bench, again(bench, tmp_path / "again"), "steps.py", "shop.py", "data/weights.csv")


def test_changes_new_modules_and_ignored_files_that_a_step_declares_are_in_the_patch(
    bench: Bench, tmp_path: Path
) -> None:
    workspace(bench)
    bench.file(".gitignore", ".sampan/\ndata/\n")
    git(bench.root, "init", "-q")
    git(bench.root, "add", "steps.py", "sampan.toml", ".gitignore")
    git(bench.root, "commit", "-qm", "one")
    bench.edit("steps.py", "scale: float = 2.0", "scale: float = 4.0")
    (bench.root / "notes.bin").write_bytes(b"\0" * 1000)
    bench.file(".tool/secret.toml", "password = 'x'\n")
    found = manifest(bench)
    run = bench.engine.runs.get("last")
    assert found["commit"].digest == git(bench.root, "rev-parse", "HEAD")
    assert sorted(run.manifest["untracked"]) == ["data/weights.csv", "shop.py"]
    assert same(bench, again(bench, tmp_path / "again"), "steps.py", "shop.py", "data/weights.csv")


@pytest.mark.slow
def test_a_workspace_within_a_repository_is_found_again_where_it_was(tmp_path: Path) -> None:
    root = tmp_path / "all" / "shop"
    root.mkdir(parents=True)
    bench = Bench(root)
    workspace(bench)
    git(tmp_path / "all", "init", "-q")
    git(tmp_path / "all", "add", "shop/steps.py")
    git(tmp_path / "all", "commit", "-qm", "one")
    bench.edit("steps.py", "2.0", "5.0")
    manifest(bench)
    code = again(bench, tmp_path / "again")
    assert code == tmp_path / "again" / "shop"
    assert same(bench, code, "steps.py", "shop.py")
    bench.db.close()


@pytest.mark.slow
def test_a_clean_tree_has_no_patch_and_says_so(bench: Bench) -> None:
    workspace(bench)
    git(bench.root, "init", "-q")
    git(bench.root, "add", "-A", "--", ":!.sampan")
    git(bench.root, "commit", "-qm", "one")
    found = manifest(bench)
    assert found["uncommitted patch"].says == "none: nothing was uncommitted"
    assert bench.engine.runs.get("last").manifest["patch"] is None


def test_a_repository_that_cannot_be_asked_keeps_the_run_from_starting(bench: Bench) -> None:
    workspace(bench)
    git(bench.root, "init", "-q")
    git(bench.root, "add", "steps.py")
    git(bench.root, "commit", "-qm", "one")
    (bench.root / ".git" / "index").write_bytes(b"no index at all")
    with pytest.raises(BadWorkspace) as raised:
        bench.run()
    assert "Record the code of this run: git cannot tell" in str(raised.value)
    assert "git status" in str(raised.value)
    assert not bench.engine.runs.list()
    shutil.rmtree(bench.root / ".git")
    (bench.root / ".git").write_text("gitdir: /nowhere/at/all\n")
    with pytest.raises(BadWorkspace, match="not a git repository"):
        bench.run()
    assert not bench.engine.runs.list()


def test_without_git_a_run_in_a_repository_does_not_start(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace(bench)
    git(bench.root, "init", "-q")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BadWorkspace, match="git cannot be started"):
        bench.run()


@pytest.mark.parametrize("how", ["pipe", "loop"])
def test_a_dataset_without_a_digest_keeps_the_run_from_starting(bench: Bench, how: str) -> None:
    workspace(bench)
    file = bench.root / "data" / "weights.csv"
    file.unlink()
    os.mkfifo(file) if how == "pipe" else file.symlink_to(file)
    with pytest.raises(BadStep, match=r"the file 'data/weights.csv', which steps.py:\d+ declares, cannot be read"):
        bench.run()
    assert not bench.engine.runs.list()


def test_a_lock_that_cannot_be_read_keeps_the_run_from_starting(bench: Bench) -> None:
    workspace(bench)
    (bench.root / "uv.lock").mkdir()
    with pytest.raises(BadWorkspace, match=r"Record the packages of this run: .*uv\.lock is there and cannot be read"):
        bench.run()
    assert not bench.engine.runs.list()


def test_a_patch_beyond_the_limit_is_refused_with_the_file_that_makes_it_large(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace(bench)
    monkeypatch.setattr(code_state, "LIMIT", 2_000_000)
    bench.file("data/weights.csv", "1\n" * 1_500_000)
    with pytest.raises(BadWorkspace) as raised:
        bench.run()
    assert "comes to 3 MB, most of it data/weights.csv; at most 2 MB" in str(raised.value)
    assert ".gitignore" in str(raised.value)


def test_the_driver_and_its_libraries_are_read_where_there_are_any(tmp_path: Path) -> None:
    assert hardware.accelerator({}, tmp_path) == {"driver": "none", "cuda": "none", "cudnn": "none"}
    root = tmp_path / "with"
    for name, text in {
        "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue\nGCC version\n",
        "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.4.1"}}',
        "usr/include/cudnn_version.h": "#define CUDNN_MAJOR 9\n#define CUDNN_MINOR 1\n#define CUDNN_PATCHLEVEL 0\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    assert hardware.accelerator({}, root) == {"driver": "nvidia 550.54.15", "cuda": "12.4.1", "cudnn": "9.1.0"}
    brought = {"nvidia-cuda-runtime-cu12": "12.6.77", "nvidia-cudnn-cu12": "9.5.1.17"}
    assert hardware.accelerator(brought, root) == {"driver": "nvidia 550.54.15", "cuda": "12.6.77", "cudnn": "9.5.1.17"}


def test_a_driver_that_does_not_say_which_it_is_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "proc/driver/nvidia/version"
    path.mkdir(parents=True)
    with pytest.raises(SampanError, match="driver of this machine's graphics cards"):
        hardware.accelerator({}, tmp_path)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("plain.py", b"a\nb\n"),
        ("empty.py", b""),
        ("without end.py", b"a\nb"),
        ("größe ✓.py", "x = 'ü'\r\n".encode()),
        ('a "quoted" \\ name.py', b"\n\n"),
        ("binary.bin", bytes(range(256)) * 7),
        ("long.bin", b"\0" + os.urandom(5000)),
    ],
)
def test_git_adds_exactly_the_bytes_that_a_patch_was_made_of(tmp_path: Path, name: str, data: bytes) -> None:
    patch = tmp_path / "patch"
    patch.write_bytes(adding([Added(f"below/{name}", data, executable=True)]))
    (tmp_path / "to").mkdir()
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path)}
    subprocess.run(
        ["git", "apply", "--whitespace=nowarn", str(patch)], cwd=tmp_path / "to", check=True, env=environment
    )
    assert (tmp_path / "to" / "below" / name).read_bytes() == data
    assert os.access(tmp_path / "to" / "below" / name, os.X_OK)
