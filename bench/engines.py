"""The flow engines: how each runs the same four small jobs (linear, long, fan, frame) as one whole process."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import Finished, WentWrong, run
from bench.place import HERE, clean_environ, environment, sampan_program, work_folder

PEERS = HERE / "peers"


@dataclass(frozen=True)
class Engine:
    """``command(job, n)`` gives the command line; ``n`` is the number of tasks or rows."""

    name: str
    folder: str
    command: Callable[[str, int], list[str]]
    environ: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Path, str], None] = lambda folder, job: None


class Place:
    """A fresh folder with one engine's copy of a job, and a home of its own."""

    def __init__(self, engine: Engine, job: str, tag: str = "") -> None:
        self.engine, self.job = engine, job
        self.folder = work_folder(f"{engine.name.replace(' ', '-')}-{job}{tag}")
        leave = shutil.ignore_patterns("__pycache__")
        for source in ("common", engine.folder):
            shutil.copytree(PEERS / source, self.folder, dirs_exist_ok=True, ignore=leave)
        engine.prepare(self.folder, job)
        self._environ = clean_environ(self.folder, **_settings(self.folder), **engine.environ)

    def run(self, n: int = 0) -> Finished:
        """Run the job once; what it marked is in ``ran``."""
        (self.folder / "ran.log").unlink(missing_ok=True)
        return run(self.engine.command(self.job, n), self.folder, self._environ)

    @property
    def ran(self) -> list[str]:
        log = self.folder / "ran.log"
        return log.read_text().split() if log.exists() else []

    def edit(self, old: str, new: str) -> None:
        """Replace a text in whichever source files hold it."""
        found = False
        for path in self.folder.glob("*.py"):
            text = path.read_text()
            if old in text:
                path.write_text(text.replace(old, new))
                found = True
        if not found:
            raise WentWrong(f"no source of {self.engine.name} holds {old!r}")

    def write_input(self, number: int) -> None:
        (self.folder / "input.txt").write_text(str(number))


def _settings(folder: Path) -> dict[str, str]:
    """Every peer's files below its own folder, and no telemetry."""
    return {
        "METAFLOW_USER": "bench",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DAGSTER_HOME": str(folder / "dagster"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "ZENML_CONFIG_PATH": str(folder / "zenml"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "HAMILTON_TELEMETRY_ENABLED": "false",
    }


def _python(name: str, *arguments: str) -> list[str]:
    return [environment(name).program("python"), *arguments]


def _script(name: str) -> Callable[[str, int], list[str]]:
    return lambda job, n: _python(name, "flow.py", job, *([str(n)] if n else []))


def _redun(job: str, n: int) -> list[str]:
    option = {"fan": "--n", "frame": "--rows"}.get(job)
    return [environment("redun").program("redun"), "run", "flow.py", job, *([option, str(n)] if option else [])]


def _metaflow(job: str, n: int) -> list[str]:
    command = _python("metaflow", f"{job}.py", "run", "--max-workers", "2")
    option = {"fan": ["--max-num-splits", "1000", "--n", str(n)], "frame": ["--rows", str(n)]}
    return command + option.get(job, [])


def _dagster(job: str, _: int) -> list[str]:
    return [environment("dagster").program("dagster"), "job", "execute", "-f", "flow.py", "-a", job]


def _sampan(job: str, n: int) -> list[str]:
    parameter = {"fan": "item.n", "frame": "made.rows"}.get(job)
    return [sampan_program(), "run", *(["--set", f"{parameter}={n}"] if parameter else [])]


def _as_steps(folder: Path, job: str) -> None:
    """A Sampan workspace reads all its modules: leave it only this job's, as steps.py."""
    for path in folder.glob("*.py"):
        if path.stem in ("linear", "long", "fan", "frame"):
            if path.stem == job:
                path.rename(folder / "steps.py")
            else:
                path.unlink()


def _dagster_home(folder: Path, _: str) -> None:
    (folder / "dagster").mkdir()
    (folder / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")


ENGINES = {
    each.name: each
    for each in (
        Engine("Sampan", "sampan", _sampan, prepare=_as_steps),
        Engine("plain Python", "plain", _script("plain")),
        Engine("Hamilton", "hamilton", _script("hamilton")),
        Engine("Hamilton + cache", "hamilton", _script("hamilton"), {"CACHE": "1"}),
        Engine("redun", "redun", _redun),
        Engine("Metaflow", "metaflow", _metaflow),
        Engine("ZenML", "zenml", _script("zenml")),
        Engine("ZenML, cache off", "zenml", _script("zenml"), {"NO_CACHE": "1"}),
        Engine("Prefect", "prefect", _script("prefect")),
        Engine("Prefect + cache", "prefect", _script("prefect"), {"CACHE": "1"}),
        Engine("Dagster", "dagster", _dagster, prepare=_dagster_home),
    )
}
