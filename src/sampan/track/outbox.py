"""Where ``sampan.log`` leaves what is meant for a hub elsewhere, and how it gets there.

A logged run is the same file of lines as in a workspace's spool, in a folder of this user's for each hub. Its lines are
sent while it goes on, and sent again until they have arrived: the hub keeps each of them once. The file goes when its
run has ended and all of it has arrived. The token is in no file.
"""

import hashlib
import http.client
import os
import ssl
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from sampan.base.errors import BadSetting
from sampan.track.spool import SPOOL, Line
from sampan.track.sync import KILLED, free

_PATIENCE: Final = 3.0  # seconds for an answer
_PAUSE: Final = 1.0  # seconds between two looks while the hub answers
_LONGEST: Final = 60.0  # and while it does not
_PIECE: Final = 500_000  # bytes of lines in a request
_DECODER: Final = msgspec.json.Decoder(Line)


class Refused(Exception):
    """The hub answers, and does not take it. Carries the status and what it says."""


def outbox(url: str) -> Path:
    """The folder for a hub, of this user."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "sampan" / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]


class Outbox:
    """What waits for a hub. ``send`` may be called from any thread."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadSetting("Log into a run", f"SAMPAN_URL is {url!r}", "It looks like http://127.0.0.1:7267.")
        self.url, self.folder = url.rstrip("/"), outbox(url)
        self._parts = parts
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._sent: dict[Path, int] = {}  # bytes
        self._lock = threading.Lock()

    def waiting(self) -> int:
        """How many runs have not arrived as a whole."""
        return len(list((self.folder / SPOOL).glob("*.jsonl")))

    def send(self, own: Iterable[str] = ()) -> int:
        """Send what has ended, or is of a process that is gone, and of the runs that are ``own``; gives of how many
        runs something was sent. Raises OSError and HTTPException for a hub that does not answer, Refused."""
        mine = set(own)
        with self._lock:
            return sum(self._one(path, mine) for path in sorted((self.folder / SPOOL).glob("*.jsonl")))

    def _one(self, path: Path, own: set[str]) -> bool:
        with free(path) as over, suppress(FileNotFoundError):
            if not over and path.stem not in own:
                return False
            start = self._sent.get(path, 0)
            data = path.read_bytes()[start:]
            whole = data[: data.rfind(b"\n") + 1]
            lines = [line for line in whole.splitlines() if _is_line(line)]
            ended = bool(lines) and bool(_DECODER.decode(lines[-1]).status)
            if over and not ended:
                touched = int(path.stat().st_mtime * 1000)
                lines.append(msgspec.json.encode(Line(touched, status=KILLED)))
            for piece in _pieces(lines):
                if not self._post(path.stem, piece):  # the hub has lost the beginning: all of it once more
                    self._sent.pop(path, None)
                    return False
            if over:
                path.unlink()
                self._sent.pop(path, None)
            else:
                self._sent[path] = start + len(whole)
            return bool(lines)
        return False

    def _post(self, run: str, lines: list[bytes]) -> bool:
        """Whether they were taken; not, if the hub does not know their run. Raises Refused."""
        port, host = self._parts.port, self._parts.hostname or ""
        if self._parts.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=_PATIENCE, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE)
        try:
            body = b'{"lines":[' + b",".join(lines) + b"]}"
            connection.request("POST", f"{self._parts.path.rstrip('/')}/v1/logged/{run}", body, self._headers)
            response = connection.getresponse()
            said = response.read()
        finally:
            connection.close()
        if response.status == 404 and b"from its first line" in said:
            return False
        if response.status >= 500:
            raise http.client.HTTPException(f"it answered {response.status}")
        if response.status >= 300:
            raise Refused(f"{response.status}, {_told(said)}")
        return True


class Sender:
    """Sends in a thread of its own what a process logs, and says once if it cannot."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.data = outbox.folder
        self._own: set[str] = set()
        self._after = 0.0
        self._pause = _PAUSE
        self._said: set[str] = set()
        threading.Thread(target=self._keep_sending, name="sampan-log", daemon=True).start()

    def begin(self, run: str) -> None:
        """Send this run's lines while it goes on."""
        self._own.add(run)

    def flush(self) -> None:
        """Send all that there is now; what does not arrive waits."""
        if time.monotonic() >= self._after:
            self._try()

    def _keep_sending(self) -> None:
        while True:
            time.sleep(_PAUSE)
            self.flush()

    def _try(self) -> None:
        try:
            self._outbox.send(tuple(self._own))
        except (OSError, http.client.HTTPException) as error:
            self._failed("unreachable", f"cannot be reached ({error or type(error).__name__})")
        except Refused as error:
            self._failed("refused", f"does not take what is logged ({error})")
        else:
            self._pause, self._after = _PAUSE, 0.0

    def _failed(self, kind: str, said: str) -> None:
        self._after, self._pause = time.monotonic() + self._pause, min(2 * self._pause, _LONGEST)
        if kind not in self._said:
            self._said.add(kind)
            where = f"It waits in {self._outbox.folder}; the next run, or `sampan sync`, sends it."
            print(f"sampan.log: the hub at {self._outbox.url} {said}. {where}", file=sys.stderr)  # noqa: T201


def _is_line(text: bytes) -> bool:
    try:
        _DECODER.decode(text)
    except (msgspec.MsgspecError, ValueError):
        return False
    return True


def _pieces(lines: list[bytes]) -> Iterable[list[bytes]]:
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > _PIECE:
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield piece


def _told(body: bytes) -> str:
    """What an answer says, of ours or of whoever is there."""
    try:
        error = msgspec.json.decode(body)["error"]
        return f"{error['obstacle']}. {error['advice']}".strip()
    except (msgspec.MsgspecError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")
