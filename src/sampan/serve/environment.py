"""The environment of a bundle: the lock of the run that made its model, and the Python that its process runs in.

A model is best answered with the libraries that it was made with. Where those of the hub are others, its process runs
in an environment of its own, made anew from the lock by uv, once, and kept among the caches. What makes it lies on a
higher floor (``sampan.app.surround``) and is asked as a process.
"""

import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base import pythons
from sampan.base.errors import BadSetting, Damaged, NotFound, Unreachable
from sampan.base.settings import Folder
from sampan.serve.bundle import Bundle
from sampan.store.blobs import Blobs

#: What the setting ``serve_in`` may say.
HUB: Final = "hub"
MODEL: Final = "model"
RECORDED: Final = "recorded"
#: Variables of a process that computes on one processor: many of them share a machine.
ONE_THREAD: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
_PATIENCE: Final = 1_800  # seconds that making an environment may take
_SHOWN: Final = 4
_MADE: Final[dict[tuple[str, str], str]] = {}  # what this process has found made already


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """An environment as a run recorded it. ``made_with``: what of it the model itself was made with."""

    python: str
    packages: dict[str, str]
    sources: dict[str, str] = {}
    made_with: dict[str, str] = {}


class Made(msgspec.Struct, frozen=True):
    """What the process that makes an environment says: its Python, or why there is none."""

    python: str = ""
    left: list[str] = []
    why: str = ""
    advice: str = ""


def lock_of(manifest: Mapping[str, Any], made_with: Mapping[str, str]) -> Lock | None:
    """The lock in a run's manifest; None where it has none."""
    python, packages = manifest.get("python"), manifest.get("packages")
    if not python or not packages:
        return None
    sources = manifest.get("sources") or {}
    return Lock(python=python, packages=dict(packages), sources=dict(sources), made_with=dict(made_with))


def read_lock(bundle: Bundle, blobs: Blobs) -> Lock | None:
    """A bundle's lock; None for one that carries none. Raises Damaged."""
    if not bundle.environment:  # none, or UNSET in older ones
        return None
    try:
        return msgspec.json.decode(blobs.get(bundle.environment), type=Lock)
    except msgspec.DecodeError as error:
        raise Damaged(f"Read the lock of {bundle.version}", str(error), "Deploy again.") from error


def unlike(lock: Lock, wanted: str) -> list[str]:
    """In what the running environment differs from a lock, as far as ``wanted`` (``serve_in``) asks."""
    if wanted == HUB:
        return []
    then, here = lock.python.partition(" ")[2], platform.python_version()
    found = [f"Python {then} → {here}"] if _minor(then) != _minor(here) or (wanted == RECORDED and then != here) else []
    named = lock.packages if wanted == RECORDED else {n: v for n, v in lock.made_with.items() if n != "python"}
    for name, one in named.items():
        if name.lower() != "sampan" and one and (now := _installed(name)) != one:
            found.append(f"{name} {one} → {now or 'not installed'}")
    return found


def python_for(bundle: Bundle, blobs: Blobs) -> str:
    """The Python that a bundle's process runs in: the running one, or one made anew from its lock.

    Blocks while that is made. Raises Unreachable if it cannot be had, BadSetting.
    """
    lock = read_lock(bundle, blobs)
    if lock is None:
        return sys.executable
    data = blobs.folder.parent
    differs = unlike(lock, wanted(data))
    if not differs:
        return sys.executable
    known = _MADE.get((str(data), bundle.environment or ""), "")
    if known and Path(known).exists():
        return known
    attempted = f"Serve {bundle.version} in the environment it was made in"
    said = ", ".join(differs[:_SHOWN]) + (f" and {len(differs) - _SHOWN} more" if len(differs) > _SHOWN else "")
    command = [sys.executable, "-P", "-m", "sampan.app.surround", str(data.resolve()), str(bundle.environment)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False)
        made = msgspec.json.decode(done.stdout, type=Made)
    except subprocess.TimeoutExpired:
        made = Made(why=f"it took more than {_PATIENCE} s")
    except msgspec.DecodeError:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"])[-1][:300]
        made = Made(why=f"the process that makes it ended with {done.returncode}: {last}")
    if made.why:
        advice = f'{made.advice} With serve_in = "hub" in [settings] it is served with what is installed.'.strip()
        raise Unreachable(attempted, f"it differs ({said}) and cannot be made: {made.why}", advice)
    _MADE[str(data), bundle.environment or ""] = made.python
    return made.python


def told(bundle: Bundle, blobs: Blobs) -> str:
    """For pages: in what a bundle's process runs."""
    try:
        lock = read_lock(bundle, blobs)
        differs = unlike(lock, wanted(blobs.folder.parent)) if lock is not None else []
    except (NotFound, Damaged, BadSetting) as error:
        return error.obstacle
    if lock is None:
        return "what is installed; it carries no lock"
    if not differs:
        return f"what is installed, which answers to its lock of {len(lock.packages)} packages"
    more = f" and {len(differs) - _SHOWN} more" if len(differs) > _SHOWN else ""
    return f"one of its own, made from its lock of {len(lock.packages)} packages: {', '.join(differs[:_SHOWN])}{more}"


def variables(python: str) -> dict[str, str]:
    """The variables for a process of a Python: this one's, less those that lead another to the packages of this one."""
    return pythons.variables(other=python != sys.executable)


def wanted(data: Path) -> str:
    """The setting in force. Raises BadSetting."""
    said: str = Folder(data.parent).settings().get("serve_in")
    if said not in (HUB, MODEL, RECORDED):
        raise BadSetting("Read serve_in", f"{said!r} is none of {HUB}, {MODEL}, {RECORDED}", "Write one of them.")
    return said


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _minor(text: str) -> str:
    return ".".join(text.split(".")[:2])
