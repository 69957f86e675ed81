"""The servers of one model under load: Sampan's hub, the floor, BentoML, MLflow; each started and stopped here.

Everybody gets the model of ``peers/serving/trained.py``, as ONNX or as scikit-learn has it, and one thread for OpenMP.
A further contender is a class with a command, and a line in ``SERVERS``; one that does more with the same endpoint is a
``ThroughHub`` whose ``prepare`` does more.
"""

import contextlib
import json
import shutil
import urllib.request
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from bench.collectors import Collector
from bench.engines import PEERS
from bench.measure import WentWrong, run
from bench.place import ROOT, clean_environ, environment, sampan_program, work_folder

ONNX, SKLEARN = "onnx", "sklearn"
NEAR: Final = 2e-4  # ONNX compares in 32 bits
_SOURCES: Final = PEERS / "serving"
_PLAN: Final = """
[bench]
units = 1000000
patience = "100 days"
[bench.kpi]
query = "SELECT _id AS prediction_id, NULL::DOUBLE AS value FROM prediction WHERE false"
minimum_effect = 0.1
[[bench.stage]]
{stage}
at_least = "10 days"
[[bench.stage]]
share = 1.0
"""


class Server(Collector):
    """One process group that answers for one model."""

    target = "/predict"
    keeps = False  # whether `stored` says how many rows it has answered

    def __init__(self, form: str) -> None:
        super().__init__("serving")
        self.form = form
        self.environ |= {"OMP_NUM_THREADS": "1", "FORM": form}

    def prepare(self) -> None:
        """Lay down what it starts from; not timed."""
        raise NotImplementedError

    def start(self) -> None:
        self.prepare()
        asked()
        super().start()

    def poke(self) -> None:
        with contextlib.suppress(LookupError, TypeError, ValueError):  # what it answers is for `check`
            self.ask(1)

    def ask(self, size: int) -> list[float]:
        """What it answers to the first rows. Raises OSError."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        body = self.body(asked()["rows"][:size])
        request = urllib.request.Request(f"{self.url}{self.target}", body.encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return self.read(json.loads(answer.read()))

    def check(self) -> None:
        """Raises WentWrong unless it answers what the model says in-process."""
        for size in (1, 64):
            expected = asked()["answers"][:size]
            try:
                answers = self.ask(size)
            except (OSError, LookupError, TypeError, ValueError) as error:
                raise WentWrong(f"{size} rows: {type(error).__name__}: {error}") from error
            if wrong := differing(answers, expected):
                raise WentWrong(f"{size} rows: {wrong}")

    def body(self, rows: Sequence[Sequence[float]]) -> str:
        """A request for rows, on one line."""
        return json.dumps({"inputs": rows})

    def read(self, answer: Any) -> list[float]:
        """Each row's probability of the second class."""
        return [float(second) for _, second in answer["predictions"]]

    def bodies(self, size: int) -> Path:
        """Requests of so many rows each, one to a line."""
        rows = asked()["rows"]
        path = self.folder / f"bodies-{size}.txt"
        parts = [rows[place : place + size] for place in range(0, len(rows), size)]
        path.write_text("".join(f"{self.body(part)}\n" for part in parts))
        return path


def differing(answers: Sequence[float], expected: Sequence[float]) -> str:
    """What is wrong with a server's answers; empty if nothing is."""
    if len(answers) != len(expected):
        return f"{len(answers)} answers to {len(expected)} rows"
    # written so that NaN is far, too
    far = [(one, other) for one, other in zip(answers, expected, strict=True) if not abs(one - other) <= NEAR]
    return f"it answered {far[0][0]} where the model says {far[0][1]}" if far else ""


class ThroughHub(Server):
    """`sampan up` at its defaults, with one endpoint, which is asked through the hub; every prediction is in its log
    before the answer leaves."""

    name = "Sampan, through the hub"
    token = "smp_bench"  # the value that `sampan up` accepts as SAMPAN_TOKEN
    target = "/predict/bench"
    keeps = True

    def prepare(self) -> None:
        shutil.copytree(self.workspace(), self.folder, dirs_exist_ok=True)
        self.sampan("endpoint", "deploy", "bench", "--model", self.form)
        self.environ["SAMPAN_TOKEN"] = self.token

    def sampan(self, *words: str) -> str:
        """What a command answers in its workspace. Raises WentWrong."""
        return run([sampan_program(), *words], self.folder, self.environ).output

    def begin(self, stage: str, *candidate: str) -> None:
        """Start a rollout that stays at one stage, and wait until it answers. Raises WentWrong."""
        (self.folder / "rollouts.toml").write_text(_PLAN.format(stage=stage))
        self.sampan("rollout", "start", "bench", *candidate, "--without-golden", "--reason", "bench")
        self.ask(1)

    def phase(self) -> str:
        """Where that rollout stands."""
        return str(json.loads(self.sampan("rollout", "show", "bench", "--json"))["rollout"]["phase"])

    @staticmethod
    def workspace() -> Path:
        """What it starts from: a workspace whose versions are the model in both forms."""
        return _workspace()

    def command(self) -> list[str]:
        return [sampan_program(), "up", "--host", "127.0.0.1", "--port", str(self.port)]

    def body(self, rows: Sequence[Sequence[float]]) -> str:
        return json.dumps({"records": [{f"f{at}": value for at, value in enumerate(row)} for row in rows]})

    def read(self, answer: Any) -> list[float]:
        return [float(one["prediction"]) for one in answer["predictions"]]

    def stored(self) -> int:
        return int(json.loads(self.sampan("log", "stats", "--json"))["accepted"])


class Sampan(ThroughHub):
    """The same, asked past the hub."""

    name = "Sampan"

    def start(self) -> None:
        super().start()
        self.url = self.sampan("endpoint", "show", "bench", "--address").strip()


class Floor(Server):
    """Granian with one worker before a bare ASGI application: nothing is checked, nothing kept, no token read."""

    name = "floor"

    def prepare(self) -> None:
        shutil.copytree(_trained("serving", "onnx"), self.folder, dirs_exist_ok=True)
        shutil.copy(_SOURCES / "floor.py", self.folder)

    def command(self) -> list[str]:
        options = ["--interface", "asgi", "--workers", "1", "--no-ws", "--log-level", "warning"]
        at = ["--host", "127.0.0.1", "--port", str(self.port)]
        return [environment("serving").program("granian"), *options, *at, "floor:app"]


class Kept(Floor):
    """The same, and every answer is on the disk, synced, before it leaves: what this machine's disk makes of it."""

    name = "floor that syncs"

    def prepare(self) -> None:
        super().prepare()
        self.environ["KEPT"] = str(self.folder / "kept.jsonl")


class BentoMl(Server):
    name = "BentoML"

    def prepare(self) -> None:
        for source in (_trained("serving", "onnx"), _trained("bentoml")):
            shutil.copytree(source, self.folder, dirs_exist_ok=True)
        shutil.copy(_SOURCES / "bento.py", self.folder)
        self.environ |= {"BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": str(self.folder / "home")}
        self.environ["PATH"] = f"{environment('bentoml').folder}/bin:{self.environ.get('PATH', '')}"

    def command(self) -> list[str]:
        at = ["--host", "127.0.0.1", "--port", str(self.port)]
        return [environment("bentoml").program("bentoml"), "serve", "bento:Scored", *at]

    def read(self, answer: Any) -> list[float]:
        return [float(second) for _, second in answer]


class Mlflow(Server):
    """MLflow's scoring server with one worker and no signature, which is its faster way."""

    name = "MLflow"
    target = "/invocations"

    def prepare(self) -> None:
        shutil.copytree(_trained("mlflow", "mlflow"), self.folder, dirs_exist_ok=True)
        self.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
        self.environ["PATH"] = f"{environment('mlflow').folder}/bin:{self.environ.get('PATH', '')}"

    def command(self) -> list[str]:
        at = ["-h", "127.0.0.1", "-p", str(self.port)]
        options = ["--env-manager", "local", "--workers", "1"]
        return [environment("mlflow").program("mlflow"), "models", "serve", "-m", "mlflow", *options, *at]


SERVERS: tuple[tuple[str, type[Server]], ...] = (
    (ONNX, Sampan),
    (ONNX, ThroughHub),
    (ONNX, Floor),
    (ONNX, Kept),
    (ONNX, BentoMl),
    (SKLEARN, Sampan),
    (SKLEARN, Floor),
    (SKLEARN, Kept),
    (SKLEARN, BentoMl),
    (SKLEARN, Mlflow),
)


@cache
def asked() -> dict[str, Any]:
    """Rows to ask for, and what the model says to them in-process."""
    found: dict[str, Any] = json.loads((_trained("serving", "onnx") / "asked.json").read_text())
    return found


@cache
def _trained(name: str, *also: str) -> Path:
    """The model trained in a peer's environment; kept until its packages or the training change."""
    peer = environment(name)
    source = _SOURCES / "trained.py"
    state = sha256(repr((sorted(peer.versions().items()), also)).encode() + source.read_bytes()).hexdigest()
    folder = ROOT / "data" / f"served-{name}-{state[:12]}"
    if not (folder / "output.txt").exists():
        made = work_folder(f"serving-trained-{name}")
        environ = clean_environ(made, OMP_NUM_THREADS="1", MLFLOW_DISABLE_TELEMETRY="true")
        run([peer.program("python"), str(source), str(made), *also], made, environ)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
    return folder


@cache
def _workspace() -> Path:
    """A workspace whose versions are the model in both forms."""
    folder = work_folder("serving-workspace")
    shutil.copytree(_SOURCES / "sampan", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for source in (_SOURCES / "trained.py", _trained("serving", "onnx") / "model.onnx"):
        shutil.copy(source, folder)
    run([sampan_program(), "run"], folder, clean_environ(folder, OMP_NUM_THREADS="1"))
    return folder
