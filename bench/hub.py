"""Rows about the hub: how fast and how heavy its pages are, what 200 live pages cost intake, what it needs when idle.

The workspace is the demo's, with its year of events, tables, runs and decisions; it is made once per state of the code.
"""

import contextlib
import http.client
import json
import re
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit

from bench import intake
from bench.collectors import Sampan
from bench.measure import Result, WentWrong
from bench.place import HERE, ROOT, clean_environ, sampan_program, work_folder
from bench.table import OURS, Row, at_most, times

TOKEN = "smp_bench"
LISTENERS = 200
_REPEATS = 5


def pages(rounds: int, only: Sequence[str]) -> list[Row]:
    """Every page of the demo's hub: the slowest and the largest."""
    del only
    slow, large = Result(OURS), Result(OURS)
    try:
        with Hub(_shop()) as hub:
            found = hub.crawl()
            for _ in range(rounds):
                taken = {page: hub.time(address) for page, address in found.items()}
                worst = max(taken, key=lambda page: taken[page][0])
                slow.values.append(taken[worst][0] * 1000)
                biggest = max(taken, key=lambda page: taken[page][1])
                large.values.append(taken[biggest][1] / 1000)
                slow.note = f"of {len(found)} pages the slowest is {worst}"
                large.note = f"the largest is {biggest}"
                slow.facts = {"pages": {page: [round(s * 1000, 1), size] for page, (s, size) in taken.items()}}
    except WentWrong as reason:
        slow.note = large.note = str(reason)
    return [
        Row("pages", "slowest page with the demo's year, on the server", "ms", [slow], [at_most(150, "ms")]),
        Row("pages-size", "largest page with the demo's year, without charts", "kB", [large], [at_most(300, "kB")]),
    ]


def idle(rounds: int, only: Sequence[str]) -> list[Row]:
    """Memory of the hub's process when nothing happens, and the time from its start to its first page."""
    del only
    memory, start = Result(OURS), Result(OURS)
    try:
        folder = _shop()
        for _ in range(rounds):
            with Hub(folder) as hub:
                start.values.append(hub.seconds)
                time.sleep(3)
                memory.values.append(hub.memory() / 1e6)
    except WentWrong as reason:
        memory.note = start.note = str(reason)
    return [
        Row("idle", "hub with the demo's year, idle: memory of its process", "MB", [memory], [at_most(200, "MB")]),
        Row("idle-start", "hub with the demo's year: start to first page", "s", [start], [at_most(1.5, "s")]),
    ]


def live(rounds: int, only: Sequence[str]) -> list[Row]:
    """Intake of batches with 200 live pages open, beside the same without."""
    del only
    with_pages, without = Result(OURS), Result("no page open")
    bodies = intake._bodies(100)
    try:
        with Sampan() as hub:
            intake._load(hub, bodies, 16, 1)  # warms it up
            for number in range(rounds):
                for listening in (True, False) if number % 2 else (False, True):
                    hub.settle()
                    with _listeners(hub.port, LISTENERS if listening else 0) as heard:
                        seen = intake._load(hub, bodies, 16, intake.SECONDS)
                    if listening and not heard():
                        raise WentWrong("the live pages heard nothing")
                    (with_pages if listening else without).values.append(seen["requests"] * 100 / seen["seconds"])
    except WentWrong as reason:
        with_pages.note = str(reason)
    title = f"intake, batches of 100, with {LISTENERS} live pages open"
    return [Row("live", title, "events/s", [with_pages, without], [times("no page open", 0.9, least=True)])]


class Hub:
    """`sampan up` in a workspace, on a free loopback port; whoever has TOKEN may do anything."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._environ = clean_environ(work_folder("hub")) | {"SAMPAN_TOKEN": TOKEN}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.seconds = 0.0

    def __enter__(self) -> "Hub":
        command = [sampan_program(), "up", "--port", str(self.port)]
        began = time.perf_counter()
        self.process = subprocess.Popen(
            command, cwd=self._workspace, env=self._environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        while True:
            try:
                self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                status, _ = self.get("/")
                break
            except OSError:
                if self.process.poll() is not None or time.perf_counter() - began > 60:
                    said = self.process.stderr.read()[-300:].decode() if self.process.stderr else ""
                    raise WentWrong(f"the hub did not start: {said}") from None
                time.sleep(0.01)
        self.seconds = time.perf_counter() - began
        if status != 200:
            self.__exit__()
            raise WentWrong(f"the first page answered {status}")
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self.process.terminate()
        self.process.wait(30)
        if self.process.stderr:
            self.process.stderr.close()

    def get(self, address: str) -> tuple[int, bytes]:
        return self._ask("GET", address, None, "text/html")

    def post(self, address: str, body: object) -> bytes:
        """An answer to JSON. Raises WentWrong unless it is 200."""
        status, answer = self._ask("POST", address, json.dumps(body).encode(), "application/json")
        if status != 200:
            raise WentWrong(f"{address} answered {status}: {answer[:200].decode(errors='replace')}")
        return answer

    def _ask(self, method: str, address: str, body: bytes | None, kind: str) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": kind, "Content-Type": "application/json"}
        self._connection.request(method, address, body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def time(self, address: str) -> tuple[float, int]:
        """Median seconds of a page, and its bytes."""
        seconds, size = [], 0
        for _ in range(_REPEATS):
            began = time.perf_counter()
            status, body = self.get(address)
            seconds.append(time.perf_counter() - began)
            if status != 200:
                raise WentWrong(f"{address} answered {status}")
            size = len(body)
        return statistics.median(seconds), size

    def crawl(self) -> dict[str, str]:
        """One address of each page, found by following links from the first."""
        from sampan.hub.sitemap import PAGES

        patterns = {page.path: re.compile(re.sub(r"\{\w+\}", "[^/]+", page.path) + r"\Z") for page in PAGES}
        found: dict[str, str] = {}
        queue, seen = ["/", "/patterns"], set[str]()
        while queue and len(found) < len(patterns) and len(seen) < 400:
            address = queue.pop(0)
            path = urlsplit(address).path
            if path in seen:
                continue
            seen.add(path)
            kind = next((pattern for pattern, match in patterns.items() if match.match(path)), None)
            if kind is None or kind in found:
                continue
            status, body = self.get(address)
            if status != 200:
                raise WentWrong(f"{address} answered {status}")
            found[kind] = address
            links = re.findall(rb'href="(/[^"#]*)', body)
            queue += [unescape(link.decode()) for link in links if not link.startswith((b"/static", b"/v1"))]
        return found

    def memory(self) -> int:
        """Resident bytes of the hub's own process."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) * 1000  # type: ignore[index]


@contextlib.contextmanager
def _listeners(port: int, count: int) -> Iterator[Callable[[], bool]]:
    """Live pages that read whatever they are sent; gives a function that says whether they heard anything."""
    request = (
        f"GET /live?topics=log,quarantine HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {Sampan.token}\r\nAccept: text/event-stream\r\n\r\n"
    ).encode()
    done, heard = threading.Event(), [0]
    selector = selectors.DefaultSelector()
    lines = []
    for _ in range(count):
        line = socket.create_connection(("127.0.0.1", port))
        line.sendall(request)
        selector.register(line, selectors.EVENT_READ)
        lines.append(line)

    def read() -> None:
        while not done.is_set():
            for key, _ in selector.select(0.2):
                heard[0] += len(key.fileobj.recv(1 << 16))  # type: ignore[union-attr]

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield lambda: heard[0] > 500 * count  # more than the heads of the answers
    finally:
        done.set()
        reader.join()
        for line in lines:
            line.close()


def _shop() -> Path:
    """The demo's workspace as this state of the code makes it."""
    sources = sorted((HERE.parent / "src").rglob("*"))
    state = sha256(b"".join(path.read_bytes() for path in sources if path.suffix in (".py", ".sql", ".toml")))
    folder = ROOT / f"shop-{state.hexdigest()[:12]}"
    if not (folder / "done").exists():
        for old in ROOT.glob("shop-*"):
            shutil.rmtree(old)
        print("playing the demo once", file=sys.stderr, flush=True)
        command = [sampan_program(), "demo", "--once", "--json", "--workspace", str(folder)]
        environ = clean_environ(work_folder("hub"))
        made = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if made.returncode:
            raise WentWrong(f"the demo ended with {made.returncode}: {made.stderr[-200:]}")
        (folder / "done").touch()
    return folder
