"""Sends OpenLineage events, if the environment says where to, and costs a run nothing if nobody takes them.

OPENLINEAGE_URL, OPENLINEAGE_ENDPOINT, OPENLINEAGE_API_KEY and OPENLINEAGE_DISABLED mean what they mean to OpenLineage's
own clients. Events wait in a short queue for a thread of their own. When one does not arrive, nothing is tried for a
while: what waits, and what comes, is dropped and counted, and whoever asks is told once.
"""

import http.client
import os
import queue
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from sampan.base.errors import Usage

_ENDPOINT: Final = "api/v1/lineage"
_WAITING: Final = 1_000  # events
_PATIENCE: Final = 3.0  # seconds for a connection, and for each piece of an answer
_PAUSE: Final = 30.0  # seconds without a try after one that failed
_ANSWER: Final = 65_536  # bytes of an answer that are read


class Emitter:
    """Sends events to one address. ``waiting``, ``patience`` and ``pause`` are for tests."""

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        waiting: int = _WAITING,
        patience: float = _PATIENCE,
        pause: float = _PAUSE,
    ) -> None:
        parts = urlsplit(url)
        self._secure, self._host = parts.scheme == "https", parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {"Content-Type": "application/json", "User-Agent": "sampan"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._patience, self._pause, self._not_before = patience, pause, 0.0
        self._queue: queue.Queue[bytes | None] = queue.Queue(waiting)
        self._line: http.client.HTTPConnection | None = None
        self._thread: threading.Thread | None = None
        self._state = threading.Condition()
        self._pending = self._lost = 0
        self._why = self._down = ""

    @property
    def to(self) -> str:
        """Where events go, without what might be secret in it."""
        return f"{self._host}:{self._port}"

    def send(self, event: Mapping[str, Any]) -> None:
        """Send an event when there is time for it. Never waits."""
        body = msgspec.json.encode(event)
        with self._state:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="openlineage", daemon=True)
                self._thread.start()
            try:
                self._queue.put_nowait(body)
                self._pending += 1
            except queue.Full:
                self._lose(f"more than {self._queue.maxsize} were waiting")

    def settle(self, seconds: float) -> str:
        """Wait until nothing is waiting, so long at most; gives in words what did not arrive since it was last asked.

        What still waits then is no loss: the thread goes on with it as long as the process lives.
        """
        with self._state:
            self._state.wait_for(lambda: not self._pending, seconds)
            lost, why, self._lost, self._why = self._lost, self._why, 0, ""
        events = "1 lineage event" if lost == 1 else f"{lost} lineage events"
        return f"{events} did not reach {self.to}: {why}" if lost else ""

    def close(self) -> None:
        """Let the thread end; what waits is given up."""
        with self._state:
            thread, self._thread = self._thread, None
        if thread is not None:
            with suppress(queue.Full):
                self._queue.put_nowait(None)

    def _lose(self, why: str) -> None:
        self._lost += 1
        self._why = self._why or why

    def _work(self) -> None:
        while (body := self._queue.get()) is not None:
            why = self._down if time.monotonic() < self._not_before else self._deliver(body)
            with self._state:
                self._pending -= 1
                if why:
                    self._lose(why)
                self._state.notify_all()
        self._hang_up()

    def _deliver(self, body: bytes) -> str:
        """What stood in the way; empty if it arrived."""
        kept = self._line is not None
        try:
            try:
                status = self._post(body)
            except (OSError, http.client.HTTPException):
                self._hang_up()
                if not kept:
                    raise
                status = self._post(body)  # the other side may have closed a connection that was kept
        except (http.client.InvalidURL, UnicodeError):  # their texts quote the address
            self._hang_up()
            return self._pausing("the address has signs that a request cannot")
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._hang_up()
            return self._pausing(str(error) or type(error).__name__)
        why = "" if 200 <= status < 300 else f"it answered {status}"
        return self._pausing(why) if status >= 500 or status == 429 else why

    def _pausing(self, why: str) -> str:
        self._down, self._not_before = why, time.monotonic() + self._pause
        return why

    def _post(self, body: bytes) -> int:
        if self._line is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            self._line = kind(self._host, self._port, timeout=self._patience)
        self._line.request("POST", self._path, body, self._headers)
        answer = self._line.getresponse()
        answer.read(_ANSWER)
        if not answer.isclosed():
            self._hang_up()  # it has more to say than we want to hear
        return answer.status

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


def from_environment(environ: Mapping[str, str] | None = None) -> Emitter | None:
    """Where the environment wants events to go, or None. Raises Usage, without the value, for what is no address."""
    environ = os.environ if environ is None else environ
    url = environ.get("OPENLINEAGE_URL", "").strip()
    if not url or environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true":
        return None
    attempted = "Send lineage (OPENLINEAGE_URL)"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise Usage(attempted, "it is no http:// or https:// address", "For instance http://marquez.example.org:5000.")
    plain = url.isprintable() and parts.path.isascii() and not set(url) & set("?# ")
    if not plain or "@" in parts.netloc:
        raise Usage(
            attempted,
            "it has a user, a query, a fragment or signs that a request cannot",
            "Say host, port and path, and give what is secret in OPENLINEAGE_API_KEY.",
        )
    endpoint = environ.get("OPENLINEAGE_ENDPOINT", "").strip() or _ENDPOINT
    key = environ.get("OPENLINEAGE_API_KEY", "").strip()
    if not (key + endpoint).isascii() or not (key + endpoint).isprintable() or " " in endpoint:
        raise Usage(
            "Send lineage", "OPENLINEAGE_ENDPOINT or OPENLINEAGE_API_KEY has signs that a request cannot", "Mend it."
        )
    return Emitter(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/{endpoint.lstrip('/')}", key)
