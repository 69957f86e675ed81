"""A real server process and a client that keeps its own record of what was acknowledged."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sampan.base.clock import SystemClock
from sampan.base.settings import Settings
from sampan.log.contracts import Contracts
from sampan.log.log import Log

CONTRACTS = """
from typing import Annotated
from sampan import Event, Field

class Sale(Event, version=1):
    item: str
    pieces: Annotated[int, Field(unit="pieces", ge=0)] = 1
    note: str | None = None
"""

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed (apt install strace)")


def workspace(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contracts.py").write_text(CONTRACTS)
    return folder


def sale(id: str, source: str = "till", **data: Any) -> dict[str, Any]:
    return {
        "id": id,
        "type": "sale",
        "source": source,
        "time": "2026-01-02T03:04:05Z",
        "data": {"item": "teapot", **data},
    }


def the_log(folder: Path) -> Log:
    data = folder / ".sampan"
    return Log(data / "log", Contracts.load(folder / "contracts.py"), SystemClock(), Settings(environ={}))


class Server:
    """``python -m sampan.testing.intake_server``, perhaps under strace, perhaps sabotaged."""

    def __init__(
        self,
        folder: Path,
        *,
        strace: Sequence[str] = (),
        sabotage: str | None = None,
        wait: bool = True,
        **settings: int,
    ) -> None:
        self.folder = folder
        self.port = self.pid = 0
        module = ["-m", "sampan.testing.intake_server"]
        extra = ["--with", "tests.robustness.sabotage"] if sabotage else []
        command = [*strace, sys.executable, *module, str(folder), "0", *extra]
        environment = {**os.environ, "SABOTAGE": sabotage or "", "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {f"SAMPAN_{name.upper()}": str(value) for name, value in settings.items()}
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        if wait:
            self.ready()

    def ready(self) -> bool:
        """Wait until it listens; False if it ended before."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if match := re.match(r"ready (\d+) (\d+)", line):
            self.port, self.pid = int(match[1]), int(match[2])
            return True
        return False

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self.pid and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, how)

    def stop(self, how: signal.Signals = signal.SIGKILL) -> tuple[int, str]:
        """End it; exit status and what it said."""
        if self.pid:
            self.kill(how)
        elif self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        try:
            _, said = self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            _, said = self.process.communicate()
        return self.process.returncode, said

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Client:
    """One connection. ``post`` raises OSError or HTTPException when the server is gone."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def post(self, body: Any, path: str = "/v1/events", **headers: str) -> tuple[int, Any, dict[str, str]]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        told = {"Authorization": "Bearer test", "Content-Type": "application/json"}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request("POST", path, raw, told)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read() or b"null"), dict(response.getheaders())

    def get(self, path: str) -> tuple[int, Any]:
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


GONE = (OSError, http.client.HTTPException)


def ids_in(folder: Path) -> list[str]:
    """Ids of every accepted event, in the log's order."""
    return [str(event.id) for event in the_log(folder).events(limit=10**9)]
