"""Where the bench keeps its things, and the environments of the peers."""

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

HERE = Path(__file__).parent
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
ROOT = Path(os.environ.get("BENCH_ROOT") or _CACHE / "sampan-bench").absolute()
WORK = Path(os.environ.get("BENCH_WORK") or ROOT / "work").absolute()
RESULTS = HERE / "results"


class Unavailable(Exception):
    """A contender cannot take part here; the message says why."""


@dataclass(frozen=True)
class Environment:
    """One peer's own virtual environment. ``packages[0]`` is the peer itself."""

    name: str
    packages: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return ROOT / "venvs" / self.name

    def program(self, name: str) -> str:
        return str(self.folder / "bin" / name)

    def make(self) -> None:
        """Create the environment unless it is there. Raises Unavailable if its packages cannot be installed."""
        done = self.folder / ".installed"
        if done.exists() and done.read_text() == "\n".join(self.packages):
            return
        uv = shutil.which("uv")
        if uv is None:
            raise Unavailable("uv is not on the path")
        print(f"installing {self.name}: {', '.join(self.packages)}", file=sys.stderr, flush=True)
        for command in (
            [uv, "venv", "-q", "--clear", "--python", platform.python_version(), str(self.folder)],
            [uv, "pip", "install", "-q", "--compile-bytecode", "--python", self.program("python"), *self.packages],
        ):
            # away from this project, whose pins are not the peers'
            folder = self.folder.parent
            folder.mkdir(parents=True, exist_ok=True)
            made = subprocess.run(
                ["nice", "-n", "10", *command], capture_output=True, text=True, check=False, cwd=folder
            )
            if made.returncode:
                last = (made.stderr.strip().splitlines() or ["no message"])[-1]
                raise Unavailable(f"{self.name} could not be installed: {last.strip()[:160]}")
        done.write_text("\n".join(self.packages))

    def versions(self) -> dict[str, str]:
        """Installed versions of the packages that were asked for."""
        folders = [str(path) for path in self.folder.glob("lib/python*/site-packages")]
        found = {_plain(each.name): each.version for each in distributions(path=folders)}
        wanted = [_plain(package) for package in self.packages]
        return {name: found[name] for name in wanted if name in found}


def _plain(requirement: str) -> str:
    for mark in "[<>=!~ ":
        requirement = requirement.split(mark)[0]
    return requirement.lower().replace("_", "-")


_FRAMES = ("pandas", "pyarrow")
_SERVER = ("uvicorn", "uvloop", "httptools")
ENVIRONMENTS = {
    each.name: each
    for each in (
        Environment("plain", ("pandas",)),
        Environment("hamilton", ("sf-hamilton", *_FRAMES)),
        Environment("redun", ("redun", *_FRAMES)),
        Environment("metaflow", ("metaflow", *_FRAMES)),
        Environment("zenml", ("zenml[local]", *_FRAMES)),
        # Prefect 3.8 does not start with fastapi 0.140 and later.
        Environment("prefect", ("prefect", "fastapi==0.139.*", *_FRAMES)),
        Environment("dagster", ("dagster", *_FRAMES)),
        Environment("floor", ("msgspec", *_SERVER)),
        Environment("fastapi", ("fastapi", "pydantic>=2", "asyncpg", *_SERVER)),
        Environment("mlflow", ("mlflow>=3",)),
        Environment("serving", ("granian", "msgspec", "scikit-learn", "skl2onnx", "onnx<1.19", "onnxruntime")),
        Environment("bentoml", ("bentoml>=1.4", "scikit-learn", "onnxruntime")),
    )
}


@cache
def _ready(name: str) -> str:
    try:
        ENVIRONMENTS[name].make()
    except Unavailable as reason:
        return str(reason)
    return ""


def environment(name: str) -> Environment:
    """A peer's environment, made on first use. Raises Unavailable with the reason."""
    if reason := _ready(name):
        raise Unavailable(reason)
    return ENVIRONMENTS[name]


def sampan_program() -> str:
    """The `sampan` command of the environment that runs the bench."""
    program = Path(sys.executable).with_name("sampan")
    if not program.exists():
        raise Unavailable("the sampan command is not installed in this environment")
    return str(program)


def work_folder(name: str) -> Path:
    """A fresh, empty folder."""
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def clean_environ(home: Path, **more: str) -> dict[str, str]:
    """An environment for measured processes: bytecode caching on, telemetry off, a home of their own."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR") if name in os.environ}
    return kept | {"HOME": str(home), "USER": "bench", "DO_NOT_TRACK": "1"} | more


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    model = ""
    if (info := Path("/proc/cpuinfo")).exists():
        lines = (line.partition(":") for line in info.read_text().splitlines())
        model = next((value.strip() for name, _, value in lines if name.strip() == "model name"), "")
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": model,
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        "file_system": _file_system(WORK),
    }


def _file_system(folder: Path) -> str:
    """The kind of file system that a folder lies in; empty where the system does not say."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return ""
    kinds = {at: kind for _, at, kind, *_ in map(str.split, mounts.read_text().splitlines())}
    return next((kinds[str(place)] for place in (folder, *folder.parents) if str(place) in kinds), "")
