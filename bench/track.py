"""Rows about experiment tracking: the stock client of MLflow's against our hub, against MLflow's own server with one
worker, and plain SQLite as the floor.

MLflow's server has one worker, for with its default of four every call of a kept connection waits 40 ms for a delayed
acknowledgement: a win over that would be a win over its bug. Both sides keep to their defaults otherwise; MLflow's
store is SQLite. It syncs every commit, the hub a quarter of a second later (``docs/decisions/track-records.md``).
"""

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence

from bench.engines import PEERS
from bench.hub import TOKEN, Hub
from bench.measure import Result, WentWrong, memory_of, run
from bench.place import ROOT, Unavailable, clean_environ, environment, work_folder
from bench.table import OURS, Row, at_least, at_most, times

MLFLOW, FLOOR = "MLflow, one worker", "plain SQLite"
SILENT = "no server: ready answers"  # what the stock client takes by itself
_PARTS = ("log", "batch", "create", "search")
_WIRE = ("batch-wire", "search-wire")  # the same over plain HTTP: what the server takes, without what the client costs
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    "PYTHONWARNINGS": "ignore",
}
_SETTLED = 8  # seconds after its start in which a server does what it begins with


def track(rounds: int, only: Sequence[str]) -> list[Row]:
    """Calls of the stock client: single metrics, batches, whole runs, a search."""
    del only
    found = {part: {name: Result(name) for name in (OURS, MLFLOW, FLOOR)} for part in (*_PARTS, *_WIRE)}
    with contextlib.ExitStack() as stack:
        timed = {}
        for name, serve in ((OURS, _ours), (MLFLOW, _mlflow)):
            try:
                timed[name] = stack.enter_context(serve())
            except (Unavailable, WentWrong) as reason:
                _fail(found, name, reason)
        timed[FLOOR] = ""
        silent = Result(SILENT)
        ready = stack.enter_context(_silent())
        for number in range(rounds):
            silent.values.append(_client(ready, "Default", "create")["create"])
            names = list(timed)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                try:
                    values = _direct() if name == FLOOR else _client(timed[name], f"round-{number}", *_PARTS, *_WIRE)
                except WentWrong as reason:
                    _fail(found, name, reason)
                    del timed[name]
                    continue
                for part in found:
                    found[part][name].values.append(values.get(part, values[part.removesuffix("-wire")]))
    batch, search = "log_batch of 1,000 metrics", "search_runs, filter and order, 100 of 2,000"
    titles = {
        "log": ("log_metric, stock client, one connection", "calls/s", [times(MLFLOW, 5, least=True)]),
        "batch": (f"{batch}, stock client", "metrics/s", []),
        "batch-wire": (f"{batch}, plain HTTP", "metrics/s", [at_least(100_000, "metrics/s")]),
        "create": ("runs with 10 params and 20 metrics, stock client", "runs/s", [times(MLFLOW, 5, least=True)]),
        "search": (f"{search}, stock client", "ms", []),
        "search-wire": (f"{search}, plain HTTP", "ms", [at_most(20, "ms")]),
    }
    return [
        Row(f"track-{part}", title, unit, [*found[part].values(), *([silent] if part == "create" else [])], goals)
        for part, (title, unit, goals) in titles.items()
    ]


def track_hub(rounds: int, only: Sequence[str]) -> list[Row]:
    """The servers themselves: memory when nothing happens, start to first page, weight of the list of 100 runs."""
    del only
    memory, start, weight = ({name: Result(name) for name in (OURS, MLFLOW)} for _ in range(3))
    for name, serve in ((OURS, _ours), (MLFLOW, _mlflow)):
        try:
            for _ in range(rounds):
                with serve() as uri:
                    start[name].values.append(_STARTED[uri])
                    time.sleep(_SETTLED)
                    bytes_, processes = memory_of(_SERVING[uri])
                    memory[name].values.append(bytes_ / 1e6)
                    memory[name].note = f"{processes} processes" if processes > 1 else ""
                    weight[name].values.append(_weight(name, uri) / 1000)
        except (Unavailable, WentWrong) as reason:
            for each in (memory, start, weight):
                each[name].values.clear()
                each[name].note = str(reason)
    return [
        Row(
            "track-idle",
            "tracking server with 2,000 runs, idle: memory",
            "MB",
            [*memory.values()],
            [at_most(200, "MB")],
        ),
        Row("track-start", "tracking server: start to first page", "s", [*start.values()], [at_most(1.5, "s")]),
        Row("track-weight", "list of runs with 100 runs: all bytes", "kB", [*weight.values()], [at_most(300, "kB")]),
    ]


_STARTED: dict[str, float] = {}
_SERVING: dict[str, int] = {}


def _fail(found: dict[str, dict[str, Result]], name: str, reason: Exception) -> None:
    for part in found.values():
        part[name].values.clear()
        part[name].note = str(reason)


def _client(uri: str, experiment: str, *parts: str) -> dict[str, float]:
    """The parts' values, from the stock client in a process of its own."""
    folder = work_folder("track-client")
    environ = clean_environ(folder, **_QUIET, MLFLOW_TRACKING_TOKEN=TOKEN)
    command = [environment("mlflow").program("python"), str(PEERS / "mlflow" / "client.py"), uri, experiment, *parts]
    return dict(json.loads(run(command, folder, environ, 900).output.splitlines()[-1]))


def _direct() -> dict[str, float]:
    folder = work_folder("track-floor")
    command = [sys.executable, str(PEERS / "mlflow" / "direct.py"), str(folder / "floor.db"), *_PARTS]
    return dict(json.loads(run(command, folder, clean_environ(folder)).output.splitlines()[-1]))


@contextlib.contextmanager
def _ours() -> Iterator[str]:
    folder = work_folder("track-sampan")
    (folder / "sampan.toml").touch()
    kept = ROOT / "data" / f"tracked-{_code()}"
    if not kept.exists():
        with Hub(folder) as hub:
            _client(f"http://127.0.0.1:{hub.port}", "Default", "fill")
        shutil.copytree(folder, kept)
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    with Hub(folder) as hub:
        uri = f"http://127.0.0.1:{hub.port}"
        _STARTED[uri], _SERVING[uri] = hub.seconds, hub.process.pid
        yield uri


def _code() -> str:
    from sampan.track.schema import FORMAT

    return f"2000-{FORMAT}"


@contextlib.contextmanager
def _silent() -> Iterator[str]:
    port = _free_port()
    command = [sys.executable, str(PEERS / "mlflow" / "silent.py"), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        yield f"http://127.0.0.1:{port}"
        server.kill()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def _mlflow() -> Iterator[str]:
    """MLflow's server on a free loopback port, its store with the runs that are searched."""
    peer = environment("mlflow")
    folder = work_folder("track-mlflow")
    environ = clean_environ(folder, **_QUIET)
    kept = ROOT / "data" / f"mlflow-{peer.versions()['mlflow']}.db"
    if not kept.exists():
        print("filling MLflow's store once", file=sys.stderr, flush=True)
        _client(f"sqlite:///{folder}/mlflow.db", "Default", "fill")
        kept.parent.mkdir(exist_ok=True)
        shutil.copy(folder / "mlflow.db", kept)
    shutil.copy(kept, folder / "mlflow.db")
    port = _free_port()
    store = [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    command = [peer.program("mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *store]
    path = {"PATH": f"{peer.folder}/bin:{environ.get('PATH', '')}"}
    uri = f"http://127.0.0.1:{port}"
    began = time.perf_counter()
    with (folder / "output.txt").open("wb") as output:
        server = subprocess.Popen(
            command, cwd=folder, env=environ | path, stdout=output, stderr=output, start_new_session=True
        )
    try:
        while True:
            try:
                _fetch(f"{uri}/")
                break
            except OSError:
                if server.poll() is not None or time.perf_counter() - began > 120:
                    raise WentWrong(f"it did not start: {(folder / 'output.txt').read_text()[-300:]}") from None
                time.sleep(0.02)
        _STARTED[uri], _SERVING[uri] = time.perf_counter() - began, server.pid
        yield uri
    finally:
        with contextlib.suppress(ProcessLookupError):
            _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    import os

    for each in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, each)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
            return


def _fetch(address: str, body: object = None) -> bytes:
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/html" if body is None else "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {**headers, "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


def _weight(name: str, uri: str) -> int:
    """Bytes of a list of 100 runs, uncompressed: the page, scripts and styles that it names, the data it asks for."""
    many = json.loads(
        _fetch(f"{uri}/api/2.0/mlflow/experiments/search", {"max_results": 100, "filter": "name = 'many'"})
    )
    number = many["experiments"][0]["experiment_id"]
    page = _fetch(f"{uri}/experiments/{number}" if name == OURS else f"{uri}/")
    total = len(page)
    for found in set(re.findall(rb"""(?:src|href)="([^"]+\.(?:js|css)[^"]*)\"""", page)):
        address = found.decode()
        total += len(_fetch(f"{uri}/{address.lstrip('./').removeprefix('/')}"))
    if name == MLFLOW:
        total += len(
            _fetch(
                f"{uri}/ajax-api/2.0/mlflow/runs/search",
                {"experiment_ids": [number], "max_results": 100, "order_by": ["attributes.start_time DESC"]},
            )
        )
    return total
