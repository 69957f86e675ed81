"""Takes what ``sampan.log`` left in the spool into ``tracking.db``. Taken twice, it is there once.

A run has its id from its first line on, and a point its step, time and value: whatever stops in between is taken up
again from the beginning of the file. The file goes once its run has ended and that is on the disk.
"""

import fcntl
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from sampan.base.errors import Conflict, NotFound, Usage
from sampan.track.limits import (
    EXPERIMENT_NAME,
    METRICS_PER_BATCH,
    PARAMS_PER_BATCH,
    RUN_NAME,
    TAG_VALUE,
    TAGS_PER_BATCH,
    USER,
    check_count,
    check_key,
    check_length,
    check_whole,
    shown,
)
from sampan.track.records import NAME_TAG, RUNNING, Metric
from sampan.track.spool import SPOOL, Line
from sampan.track.tracking import Tracking

KILLED: Final = "KILLED"
STATUSES: Final = ("FINISHED", "FAILED", KILLED)
_RUN: Final = re.compile(r"[0-9a-f]{32}\Z")
_DECODER: Final = msgspec.json.Decoder(Line)


class Sync:
    """Looks through a data folder's spool, as often as it is asked to."""

    def __init__(self, data: Path, tracking: Tracking) -> None:
        self._folder, self._tracking = data / SPOOL, tracking
        self._taken: dict[Path, int] = {}  # bytes

    def take(self) -> int:
        """Take what is new; gives how many runs it was of. Raises what the disk does to the database."""
        if not self._folder.is_dir():
            return 0
        return sum(self._one(path) for path in sorted(self._folder.glob("*.jsonl")))

    def _one(self, path: Path) -> bool:
        with free(path) as over, suppress(FileNotFoundError):
            start = self._taken.get(path, 0)
            with path.open("rb") as file:
                file.seek(start)
                data = file.read()
                touched = int(os.fstat(file.fileno()).st_mtime * 1000)
            whole = data[: data.rfind(b"\n") + 1]  # the rest is being written, or was when its process was killed
            ended = self.lines(path.stem, _decoded(whole))
            if over and not ended:
                self._end(path.stem, KILLED, touched)
            if over or ended:
                path.unlink()
                self._taken.pop(path, None)
            else:
                self._taken[path] = start + len(whole)
            return bool(whole)
        return False

    def lines(self, run: str, lines: Iterable[Line]) -> bool:
        """Take lines of a run; gives whether it has ended. What the run no longer takes is passed over."""
        metrics: list[Metric] = []
        for line in lines:
            with suppress(ValueError, Usage, NotFound):
                metrics += [Metric(name, float(value), line.time, line.step) for name, value in line.metrics.items()]
                if len(metrics) >= METRICS_PER_BATCH - 100 or not line.metrics:
                    self._keep(run, metrics)
                    metrics = []
                if line.experiment:
                    self._begin(run, line)
                if line.params:
                    self._tracking.logging.log(run, params=list(line.params.items())).result()
                if line.status:
                    self._end(run, line.status, line.time)
                    return True
        self._keep(run, metrics)
        return False

    def _keep(self, run: str, metrics: list[Metric]) -> None:
        with suppress(Usage, NotFound):
            for first in range(0, len(metrics), METRICS_PER_BATCH):
                self._tracking.logging.log(run, metrics[first : first + METRICS_PER_BATCH]).result()

    def _begin(self, run: str, line: Line) -> None:
        experiments, keys = self._tracking.experiments, self._tracking.keys
        try:
            experiment = experiments.named(line.experiment).id
        except NotFound:
            with suppress(Conflict):
                experiments.create(line.experiment, {})
            experiment = experiments.named(line.experiment).id

        def job(connection: sqlite3.Connection) -> None:
            made = connection.execute(
                """INSERT INTO runs (uuid, experiment, name, user, status, started) VALUES (?, ?, ?, ?, ?, ?)
                   ON CONFLICT (uuid) DO NOTHING RETURNING id""",
                (run, experiment, line.name, line.user, RUNNING, line.time),
            ).fetchone()
            if made is not None:
                tags = {NAME_TAG: line.name, **line.tags}
                rows = [(made[0], keys.id(connection, key), value) for key, value in tags.items()]
                connection.executemany("INSERT INTO tags VALUES (?, ?, ?)", rows)

        self._tracking.writer.submit(job).result()

    def _end(self, run: str, status: str, time: int) -> None:
        with suppress(Usage, NotFound):  # somebody deleted it meanwhile
            self._tracking.runs.update(run, status=status, ended=time)


def _decoded(data: bytes) -> Iterator[Line]:
    """The lines of a file, without those that are none."""
    for text in data.splitlines():
        with suppress(msgspec.MsgspecError, ValueError):
            yield _DECODER.decode(text)


@contextmanager
def free(path: Path) -> Iterator[bool]:
    """Whether nobody writes a file any longer: its lock can be had."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def waiting(data: Path) -> int:
    """How many runs wait in a data folder's spool."""
    folder = data / SPOOL
    return len(list(folder.glob("*.jsonl"))) if folder.is_dir() else 0


def check_lines(attempted: str, run: str, lines: Sequence[Line]) -> None:
    """Whether lines that come from elsewhere are what ``sampan.log`` writes. Raises Usage."""
    if not _RUN.match(run):
        raise Usage(attempted, f"{shown(run)} is no id of a run", "It has 32 hexadecimal digits.")
    for line in lines:
        check_whole(attempted, "time", line.time, 0)
        check_whole(attempted, "step", line.step)
        for what, text, limit in (
            ("experiment", line.experiment, EXPERIMENT_NAME),
            ("name", line.name, RUN_NAME),
            ("user", line.user, USER),
        ):
            check_length(attempted, what, text, limit)
        check_count(attempted, "tags", len(line.tags), TAGS_PER_BATCH)
        check_count(attempted, "params", len(line.params), PARAMS_PER_BATCH)
        check_count(attempted, "metrics", len(line.metrics), METRICS_PER_BATCH)
        for key, value in line.tags.items():
            check_key(attempted, key)
            check_length(attempted, f"the value of {shown(key)}", value, TAG_VALUE)
        if line.status not in ("", *STATUSES):
            raise Usage(attempted, f"{shown(line.status)} is no state of a run", f"States: {', '.join(STATUSES)}.")
