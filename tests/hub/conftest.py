"""A real hub in a process of its own, on a free port of this machine, with a workspace of its own."""

import asyncio
import json
import os
import re
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, Final

import pytest

from tests.once import once
from tests.within import within

#: Seconds for one answer, where the machine is busy: a deploy may load a model twice, each within 60.
PATIENCE: Final = 180.0
_ENDING: Final = 60.0  # within which a hub ends: its processes have ten to answer what they were asked
_SHOWN: Final = 2_000  # characters of what it said last
PREDICTIONS = ("/predict/", "/invocations/", "/v2")
CONTRACTS = """
from typing import Annotated
from sampan import Event, Field

class Visit(Event, version=1):
    page: str
    visitor: Annotated[str | None, Field(subject=True)] = None
    seconds: Annotated[float, Field(ge=0)] = 0.0
"""


def environment(**extra: str) -> dict[str, str]:
    """The environment of a fresh shell: nothing of Sampan's or MLflow's is set, and Python keeps its bytecode."""
    unset = ("PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS")
    ours = ("SAMPAN_", "MLFLOW_")  # the client, imported by another test, leaves its own behind
    return {k: v for k, v in os.environ.items() if not k.startswith(ours) and k not in unset} | extra


def make_workspace(folder: Path) -> Path:
    (folder / "tables").mkdir(parents=True)
    (folder / "sampan.toml").write_text("")
    (folder / "contracts.py").write_text(CONTRACTS)
    (folder / "tables" / "pages.sql").write_text("SELECT page, count(*) AS visits FROM visit GROUP BY page\n")
    return folder


def port_of(folder: Path, endpoint: str) -> int:
    """Where an endpoint was listened for, as the records say."""
    with closing(sqlite3.connect(f"file:{folder / '.sampan' / 'records.db'}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT port FROM ports WHERE endpoint = ?", (endpoint,)).fetchone()[0])


def sampan(folder: Path, *arguments: str, apart: bool = False, **extra: str) -> subprocess.CompletedProcess[str]:
    """One command: in this process, which is quicker; but ``apart``, or where something else may run beside it, or
    where it is to be a hub or to have modules of its own, in one of its own."""
    beside = threading.current_thread() is not threading.main_thread() or asyncio._get_running_loop() is not None
    if not (apart or beside or arguments[0] == "up" or "PYTHONPATH" in extra):
        return within(Path.cwd(), "-C", str(folder), *arguments, variables=environment(**extra))
    return subprocess.run(
        [sys.executable, "-m", "sampan", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(**extra),
        check=False,
    )


class Hub:
    """`sampan up` as a process, and plain HTTP to it."""

    def __init__(self, folder: Path, *arguments: str, under: Sequence[str] = (), **extra: str) -> None:
        self.folder = folder
        command = [*under, sys.executable, "-m", "sampan", "-C", str(folder), "up", "--json"]
        self._said = folder.with_name(f"{folder.name}.said")  # not a pipe: nobody could look into it before the end
        with self._said.open("ab") as said:
            self._before = said.tell()
            self.process = subprocess.Popen(
                [*command, *(arguments or ("--port", "0"))],
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env=environment(**extra),
            )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            self.process.kill()
            self.process.communicate()
            raise AssertionError(f"no start{'' if ready else f' in {PATIENCE:g} s'}; {self._last()}")
        self.said: dict[str, str] = json.loads(line)
        self.pid = int(json.loads((folder / ".sampan" / "hub.json").read_text())["pid"])
        self.url = self.said["url"]
        self.port = int(self.url.rpartition(":")[2])
        self.token = Path(self.said["token_file"]).read_text().strip()
        self.direct = 0  # the port of a serving process that is asked for predictions, past the hub

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, token: bool = True, **headers: str
    ) -> tuple[HTTPResponse, bytes]:
        """One request; header names are written with _ for -."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token and "cookie" not in given:
            given.setdefault("authorization", f"Bearer {self.token}")
        port = self.direct if self.direct and path.startswith(PREDICTIONS) else self.port
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            with self._answering(f"{method} {path}"):
                connection.request(method, path, body, given)
                response = connection.getresponse()
                return response, response.read()
        finally:
            connection.close()

    def until(self, what: str, path: str, good: Callable[[Any], Any]) -> Any:
        """The JSON of a page, once it is as it should be: ``what`` says how."""
        end = time.monotonic() + PATIENCE
        while not good(found := self.json(path)):
            if time.monotonic() > end:
                raise AssertionError(f"no {what} in {PATIENCE:g} s; {path} says {json.dumps(found)}; {self._last()}")
            time.sleep(0.2)
        return found

    def complained(self) -> str:
        """What it has written to standard error so far."""
        with self._said.open("rb") as said:
            said.seek(self._before)
            return said.read().decode(errors="replace")

    def _last(self) -> str:
        code = self.process.poll()
        said = self.complained()[-_SHOWN:].strip() or "nothing"
        return f"the hub {'is up' if code is None else f'ended with {code}'} and said: {said}"

    @contextmanager
    def _answering(self, what: str) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise AssertionError(f"no answer to {what} in {PATIENCE:g} s; {self._last()}") from None

    def predict(self, name: str, body: bytes, patience: float = PATIENCE) -> tuple[int, bytes]:
        """One request to an endpoint, sent again while the answer says so: models load slowly on a busy machine."""
        until = time.monotonic() + patience
        while True:
            response, answer = self.ask("POST", f"/predict/{name}", body, content_type="application/json")
            if response.status != 503 or time.monotonic() > until:
                return response.status, answer
            time.sleep(float(response.headers["retry-after"]))

    def port_of(self, name: str) -> int:
        """Where an endpoint's process is asked directly."""
        (one,) = [one for one in self.json("/endpoints")["endpoints"] if one["name"] == name]
        return int(one["address"].rpartition(":")[2])

    def statuses(self, requests: list[tuple[str, str]]) -> Iterator[tuple[str, str, int]]:
        """What a stranger gets for many requests, over one connection."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            for method, path in requests:
                with self._answering(f"{method} {path}"):
                    connection.request(method, path, b"{}" if method == "POST" else None)
                    response = connection.getresponse()
                    response.read()
                yield method, path, response.status
        finally:
            connection.close()

    def json(self, path: str, **headers: str) -> Any:
        response, body = self.ask("GET", path, accept="application/json", **headers)
        assert response.status == 200, (response.status, body)
        return json.loads(body)

    def raw(self, request: bytes) -> bytes:
        """What the hub, or the process that is asked past it, answers to exactly these bytes."""
        where = "127.0.0.1", self.direct or self.port
        with self._answering(f"{request[:200]!r}"), socket.create_connection(where, PATIENCE) as connection:
            connection.sendall(request)
            answer = b""
            while not (found := re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n.*?\r\n\r\n", answer, re.DOTALL)) or (
                len(answer) < found.end() + int(found[1])
            ):
                part = connection.recv(65536)
                if not part:
                    break
                answer += part
            return answer

    def sign_in(self) -> str:
        """A fresh session's cookie."""
        response, body = self.ask("POST", "/v1/links", b"{}", content_type="application/json")
        assert response.status == 201, body
        path = json.loads(body)["link"].removeprefix(self.url)
        response, _ = self.ask("GET", path, token=False)
        assert response.status == 303
        return str(response.headers["set-cookie"]).partition(";")[0]

    def send(self, *events: dict[str, Any]) -> list[dict[str, Any]]:
        response, body = self.ask("POST", "/v1/events", json.dumps(events).encode(), content_type="application/json")
        assert response.status in (200, 202), body
        found: list[dict[str, Any]] = json.loads(body)["results"]
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it as a service manager would; gives the exit code."""
        if self.process.poll() is None:
            os.kill(self.pid, number)  # strace, if the hub runs under it, would keep the signal for itself
        try:
            self.process.communicate(timeout=_ENDING)
        except subprocess.TimeoutExpired:
            last = self._last()
            self.process.kill()
            self.process.communicate()
            raise AssertionError(f"no end in {_ENDING:g} s after signal {number}; {last}") from None
        return self.process.returncode


def visit(id: str, page: str = "/", **data: Any) -> dict[str, Any]:
    return {
        "id": id,
        "type": "visit",
        "source": "web",
        "time": f"2026-01-31T12:00:{int(time.time()) % 60:02d}Z",
        "data": {"page": page, **data},
    }


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One hub for all tests that only ask; they must not stop it, and keep its log empty."""
    running = Hub(make_workspace(tmp_path_factory.mktemp("hub") / "shop"))
    yield running
    assert running.json("/v1/log/stats")["accepted"] == 0
    assert running.stop() == 0


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return make_workspace(tmp_path / "shop")


@pytest.fixture(scope="session")
def after_a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace to copy (``Shop.copy``), whose flow has run over twenty events."""
    from tests.browser.shop import Shop
    from tests.browser.shop import visit as read

    def make(folder: Path) -> None:
        shop = Shop(folder / "shop")
        shop.hub.send(*[read(f"e{n}", f"/{n % 5}", visitor=f"v{n}") for n in range(20)])
        shop.run()
        assert shop.hub.stop() == 0

    return once(tmp_path_factory, "after-a-run", make) / "shop"


@pytest.fixture(scope="session")
def two_versions(after_a_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a second version of the model, of nine trees instead of five."""
    from tests.browser.shop import Shop

    def make(folder: Path) -> None:
        shop = Shop.copy(after_a_run, folder / "shop")
        steps = shop.folder / "steps.py"
        steps.write_text(steps.read_text().replace('feature_name=["seconds"]), 5)', 'feature_name=["seconds"]), 9)'))
        shop.run()
        assert shop.hub.stop() == 0

    return once(tmp_path_factory, "two-versions", make) / "shop"


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace to copy (``Shop.copy``), with something on every page."""
    from tests.browser.shop import Shop

    def make(folder: Path) -> None:
        shop = Shop(folder / "shop").fill()
        assert shop.hub.stop() == 0

    return once(tmp_path_factory, "filled", make) / "shop"
