"""The collectors under load: Sampan's hub, the floor, and FastAPI with Postgres; each started and stopped here."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import postgres
from bench.engines import PEERS
from bench.measure import WentWrong
from bench.place import ROOT, clean_environ, environment, sampan_program, work_folder

PLANTED = 50_000_000


class Collector:
    """A server of its own process group on a free loopback port. Stored counts include what it set aside as bad."""

    name = ""
    token = ""
    seconds = 0.0
    """From its last start to its first answer."""

    def __init__(self, kind: str = "intake") -> None:
        self.folder = work_folder(f"{kind}-{type(self).__name__.lower()}")
        self.environ = clean_environ(self.folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._stack = contextlib.ExitStack()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def stored(self) -> int:
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()
        self._stack.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start it and wait for its first answer."""
        began = time.perf_counter()
        with (self.folder / "output.txt").open("ab") as output:
            self.process = subprocess.Popen(
                self.command(), cwd=self.folder, env=self.environ, stdout=output, stderr=output, start_new_session=True
            )
        give_up = time.monotonic() + 120
        while True:
            try:
                self.poke()
                self.seconds = time.perf_counter() - began
                return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > give_up:
                said = (self.folder / "output.txt").read_text(errors="replace").strip()[-300:]
                self.stop()
                raise WentWrong(f"{self.name} did not start: {said}")
            time.sleep(0.02)

    def poke(self) -> None:
        """Ask once, to see whether it answers, whatever it answers. Raises OSError if it does not."""
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"{self.url}/v1/events", b"[]", timeout=60).read()

    def stop(self) -> None:
        if self.process is None:
            return
        for each in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, each)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
                break
        self.process = None

    def send(self, body: bytes) -> None:
        """One request; raises WentWrong unless it is answered with 2xx."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        try:
            request = urllib.request.Request(f"{self.url}/v1/events", body, headers)
            urllib.request.urlopen(request, timeout=30).read()
        except OSError as error:
            raise WentWrong(f"{self.name} answered {error}") from error

    def used(self) -> float:
        """Processor seconds of its processes so far."""
        return _used(self.process.pid) if self.process else 0.0

    def settle(self) -> None:
        """Wait until it has finished what the round before left it to do, so that nobody pays for another's work."""
        give_up = time.monotonic() + 40
        used = self.used()
        while time.monotonic() < give_up:
            time.sleep(0.5)
            now = self.used()
            if now - used < 0.05:
                return
            used = now


def _used(group: int) -> float:
    """Processor seconds of a session's processes; 0 where the system does not say."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            fields = path.read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) == group:
                total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def _uvicorn(name: str, port: int) -> list[str]:
    program = environment(name).program("uvicorn")
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    return [program, "app:app", "--host", "127.0.0.1", "--port", str(port), *options]


class Sampan(Collector):
    name = "Sampan"
    token = "smp_bench"  # the value that `sampan up` accepts as SAMPAN_TOKEN

    def start(self) -> None:
        shutil.copytree(_planted(), self.folder, dirs_exist_ok=True, copy_function=os.link)
        contracts = self.folder / "contracts.py"
        contracts.unlink()  # a link to what was planted, perhaps by an older bench
        shutil.copy(PEERS / "intake" / "contracts.py", contracts)
        self.environ["SAMPAN_TOKEN"] = self.token
        super().start()

    def command(self) -> list[str]:
        return [sampan_program(), "up", "--host", "127.0.0.1", "--port", str(self.port)]

    def stored(self) -> int:
        command = [sampan_program(), "log", "stats", "--json"]
        done = subprocess.run(command, cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise WentWrong(f"sampan log stats: {done.stderr.strip()[-200:]}")
        stats = json.loads(done.stdout)
        return int(stats["accepted"]) + int(stats["quarantined"])


def _planted() -> Path:
    """A workspace whose log already knows 50 million sealed ids; made once, linked for each use."""
    from sampan.log.index import FORMAT
    from sampan.testing.planting import plant_sealed_ids

    folder = ROOT / f"planted-{PLANTED}-{FORMAT}"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(PEERS / "intake", folder)
        print(f"planting {PLANTED:,} sealed ids", file=sys.stderr, flush=True)
        plant_sealed_ids(folder / ".sampan" / "log" / "intake", PLANTED)
        (folder / "done").touch()
    return folder


class Floor(Collector):
    name = "floor"

    def start(self) -> None:
        shutil.copytree(PEERS / "floor", self.folder, dirs_exist_ok=True)
        super().start()

    def command(self) -> list[str]:
        return _uvicorn("floor", self.port)

    def stored(self) -> int:
        return sum(_lines(self.folder / name) for name in ("stored.ndjson", "spoiled.ndjson"))

    def settle(self) -> None:
        """Its set of ids would outgrow the machine: each round starts with an empty one."""
        self.stop()
        for name in ("stored.ndjson", "spoiled.ndjson"):
            (self.folder / name).unlink(missing_ok=True)
        super().start()


def _lines(path: Path) -> int:
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


class FastApi(Collector):
    name = "FastAPI + Postgres"

    def start(self) -> None:
        shutil.copytree(PEERS / "fastapi", self.folder, dirs_exist_ok=True)
        self._stack.enter_context(postgres.running())
        self.environ["DATABASE"] = postgres.ADDRESS
        super().start()

    def command(self) -> list[str]:
        return _uvicorn("fastapi", self.port)

    def stored(self) -> int:
        return int(postgres.ask("SELECT (SELECT count(*) FROM stored) + (SELECT count(*) FROM spoiled)"))

    def settle(self) -> None:
        postgres.ask("CHECKPOINT")
        super().settle()


COLLECTORS = (Sampan, Floor, FastApi)
