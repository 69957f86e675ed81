"""Sealing off the hot path: one segment at a time, in a process of its own, watched by a thread.

The raw segment is removed only after manifest, Parquet files and index run are durable, so a kill at any moment
leaves either something to seal again or something to tidy up.
"""

import contextlib
import queue
import subprocess
import sys
import threading

from sampan.base.errors import SampanError
from sampan.log.stream import Stream

_BACKLOG = 8  # segments that may wait before sealing takes its full share of the processors


class Sealing:
    """Seals a stream's closed segments in order."""

    def __init__(self, stream: Stream, *, index: bool) -> None:
        self.sealed = 0  # how many this writer has sealed
        self.failure = ""
        self._stream, self._index = stream, index
        self._jobs: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._pending = 0
        self._idle = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def clean(self) -> None:
        """Remove what a kill in the middle of a seal left behind."""
        folder = self._stream.folder
        for path in folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)
        for manifest in self._stream.manifests():
            self._stream.log_path(manifest.number).unlink(missing_ok=True)

    def add(self, number: int) -> None:
        """Seal a segment when its turn comes."""
        with self._idle:
            self._pending += 1
        self._jobs.put(number)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"seal-{self._stream.name}", daemon=True)
            self._thread.start()

    @property
    def backlog(self) -> int:
        """How many closed segments wait to be sealed."""
        return self._pending

    def is_sealed(self, number: int) -> bool:
        return self._stream.path(number, "json").exists()

    def finished(self) -> list[int]:
        """Segments sealed since the last call."""
        numbers = []
        with contextlib.suppress(queue.Empty):
            while True:
                numbers.append(self._finished.get_nowait())
        return numbers

    def wait(self) -> None:
        """Until nothing is left to seal. Raises SampanError if a seal failed."""
        with self._idle:
            self._idle.wait_for(lambda: not self._pending or self._closed)
        if self.failure:
            raise SampanError("Seal a segment of the log", self.failure, "Nothing is lost: it is tried again later.")

    def close(self) -> None:
        """Stop; a seal under way is given up and done again at the next start."""
        self._closed = True
        self._jobs.put(None)
        if (process := self._process) is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while (number := self._jobs.get()) is not None and not self._closed:
            self._seal(number)
            with self._idle:
                self._pending -= 1
                self._idle.notify_all()

    def _seal(self, number: int) -> None:
        command = [sys.executable, "-m", "sampan.log.seal", str(self._stream.folder), str(number)]
        if not self._index:
            command.append("--no-index")
        if self._pending < _BACKLOG:  # requests come first, as long as the keys of what waits fit in memory
            command.append("--gently")
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            self._process = process
            _, said = process.communicate()
            self._process = None
        if self._closed:
            return
        if process.returncode or not self.is_sealed(number):
            self.failure = f"segment {number}: {said.decode(errors='replace').strip()[-500:] or 'it was killed'}"
            return
        self.failure = ""
        self._stream.log_path(number).unlink(missing_ok=True)
        self.sealed += 1
        self._finished.put(number)
