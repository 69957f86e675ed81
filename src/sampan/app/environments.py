"""A Python environment made anew from what a run recorded: its version of Python, and each package by its version.

uv makes it, out of its cache where it can. Sampan itself is the one that is running, copied: it drives the training,
and does not decide what comes of it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

from sampan.base import pythons
from sampan.base.digests import digest_value
from sampan.base.errors import Busy, Refused
from sampan.flow.hardware import accelerator, device
from sampan.flow.interpreter import Interpreter
from sampan.flow.key import python_version
from sampan.flow.packages import Packages
from sampan.store.lock import FileLock

_LINES: Final = 6
_ADVICE: Final = {
    "Python": "Install that version: uv takes those of the system, and what `uv python install` has brought.",
    "package": "An index or a cache of uv's that still has it will do: uv reads UV_INDEX_URL and UV_FIND_LINKS.",
}


class NotRebuilt(Exception):
    """Something is not there any more. ``cause`` names it in a word; ``said`` tells what, ``advice`` what to do."""

    def __init__(self, cause: str, said: str, advice: str = "") -> None:
        super().__init__(said)
        self.cause, self.said, self.advice = cause, said, advice


def apart(
    command: list[str], cwd: Path, environment: Mapping[str, str], ended: Callable[[], bool]
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, or to the end of whoever wanted it. Raises Refused for that."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True) as child:
        while True:
            try:
                said, complaint = child.communicate(timeout=0.5)
            except subprocess.TimeoutExpired:
                if ended():
                    child.kill()
                    raise Refused(
                        "Make a version anew", "whoever wanted it is being stopped", "Try it again."
                    ) from None
            except BaseException:
                child.kill()
                raise
            else:
                return subprocess.CompletedProcess(command, child.returncode, said, complaint)


def unlike(manifest: Mapping[str, Any]) -> list[str]:
    """In what the running environment differs from the one that a run recorded."""
    then: dict[str, str] = manifest.get("packages", {})
    now = Packages(None).all()
    found = [] if manifest.get("python") == python_version() else [f"{manifest.get('python')} → {python_version()}"]
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            found.append(f"package {name}: {then.get(name, 'not there')} → {now.get(name, 'not there')}")
    return found


def elsewhere(manifest: Mapping[str, Any]) -> list[str]:
    """In what this machine differs from the one of a run: that can be told, and not be rebuilt."""
    then = {**manifest, **manifest.get("accelerator", {})}
    now = {**device(), **accelerator(manifest.get("packages", {}))}
    names = ("cpu", "cpus", "machine", "gpus", "driver", "cuda", "cudnn")
    moved = [name for name in names if then.get(name, now[name]) != now[name]]
    return [f"{name}: {_told(then[name])} → {_told(now[name])}" for name in moved]


def _told(value: Any) -> str:
    return (", ".join(value) or "none") if isinstance(value, list) else str(value)


def rebuild(manifest: Mapping[str, Any], home: Path, code: Path, ended: Callable[[], bool]) -> tuple[Path, list[str]]:
    """Make the environment in ``home``; gives its Python, and what could not be had as it was and need not be.

    Raises NotRebuilt for a version of Python or a package that is not to be had.
    """
    uv = shutil.which("uv")
    if uv is None:
        raise NotRebuilt("uv", "uv is not installed, which makes environments", "Install uv, or try --here.")
    where = home / "environment"
    recorded = str(manifest.get("python", "")).partition(" ")[2]
    if not recorded:
        raise NotRebuilt("manifest", "its run did not record a version of Python")
    running = sys.version.split()[0] == recorded
    base = str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")
    wanted = base if running and Path(base).exists() else recorded
    _uv(
        [uv, "venv", "--quiet", "--python", wanted, str(where)],
        code,
        "Python",
        f"Python {recorded} is not to be had",
        ended,
    )
    python = where / "bin" / "python"
    lines, left = requirements(manifest)
    listed = home / "requirements.txt"
    listed.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python), "--requirement", str(listed)]
    if lines:
        _uv(install, code, "package", "its packages are not to be had", ended)
    _copy_sampan(where)
    return python, left


def kept(
    manifest: Mapping[str, Any], data: Path, code: Path, ended: Callable[[], bool]
) -> tuple[Interpreter, list[str]]:
    """The same, made once and kept among the caches of a workspace's ``data``, to run steps in. ``code``: where uv's
    settings lie. Raises NotRebuilt."""
    lines, _ = requirements(manifest)
    parts = [manifest.get("python"), lines, manifest.get("sources", {}), _stamp_of_sampan()]
    home = data / "cache" / "environments" / digest_value(parts)[:32]
    done = home / "left.json"  # written last
    with _alone(home.with_suffix(".lock"), ended):
        if not (done.exists() and (home / "environment" / "bin" / "python").exists()):
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)
            _, left = rebuild(manifest, home.resolve(), code, ended)
            done.write_text(json.dumps(left), "utf-8")
        os.utime(done)  # when it was last of use
    where = home.resolve() / "environment"
    sites = [str(one) for one in (where / "lib").glob("python*/site-packages")]
    packages = Packages(home / "packages", sites)
    return Interpreter(str(manifest["python"]), packages, where / "bin" / "python"), json.loads(done.read_text("utf-8"))


def _alone(path: Path, ended: Callable[[], bool]) -> FileLock:
    """Once no other process makes it. Raises Refused for the end of whoever wanted it."""
    while True:
        try:
            return FileLock(path, "Make an environment", "Try it again later.")
        except Busy:
            if ended():
                raise
            time.sleep(0.5)


def _stamp_of_sampan() -> str:
    """Another one for each other state of Sampan's own modules, which are copied."""
    import sampan

    root = Path(sampan.__file__).parent
    told = [(str(one.relative_to(root)), one.stat().st_size, one.stat().st_mtime_ns) for one in root.rglob("*.py")]
    return digest_value([sampan.__version__, sorted(told)])


def requirements(manifest: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What is to be installed for a manifest, a line each; and what cannot be."""
    sources: dict[str, str] = manifest.get("sources", {})
    lines, left = [], []
    for name, version in manifest.get("packages", {}).items():
        source = sources.get(name, "")
        if name.lower() == "sampan":
            continue
        if source.startswith("file:"):
            left.append(f"package {name} was installed from a folder, and is left out")
        else:
            lines.append(f"{name} @ {source}" if source else f"{name}=={version}")
    return lines, left


def _uv(command: list[str], cwd: Path, cause: str, said: str, ended: Callable[[], bool]) -> None:
    done = apart(command, cwd, pythons.variables(other=True), ended)
    if done.returncode:
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in done.stderr.splitlines() if line.strip()]
        raise NotRebuilt(cause, f"{said}: " + "\n    ".join(lines[-_LINES:]), _ADVICE[cause])


def _copy_sampan(where: Path) -> None:
    """This Sampan into another environment: its modules, and what says which version they are."""
    import sampan

    (site,) = (where / "lib").glob("python*/site-packages")
    ours = Path(sampan.__file__).parent
    shutil.copytree(ours, site / "sampan", ignore=shutil.ignore_patterns("__pycache__"))
    try:
        told = Path(str(distribution("sampan")._path))  # type: ignore[attr-defined]
    except PackageNotFoundError:
        return
    if told.is_dir():
        shutil.copytree(told, site / told.name)
