"""The one thread that writes ``tracking.db``: what waits together is committed together.

A job that fails is taken back alone. Metrics, parameters and tags are committed without waiting for the disk, and
synced a fraction of a second later (``docs/decisions/track-records.md``); all else waits for the sync.
"""

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from sampan.base.errors import Busy, SampanError
from sampan.store.database import Database

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]
#: Seconds after which at the latest what was committed is synced.
WINDOW: Final = 0.25
_MOST: Final = 200  # jobs in one commit: nobody waits for more than those


class Writer:
    """Give it jobs from any thread. ``forget`` is called, in its own thread, when what a job wrote was taken back."""

    def __init__(self, db: Database, forget: Callable[[], None]) -> None:
        self._db, self._forget = db, forget
        self._jobs: deque[tuple[Job[Any], Future[Any], bool]] = deque()
        self._wake = threading.Condition()
        self._ending = False
        self._since: float | None = None  # when the first commit was made that is not synced
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def submit(self, job: Job[T], *, synced: bool = True) -> "Future[T]":
        """Have a job done; the future gives what it returned once that is committed (and synced, if ``synced``)."""
        future: Future[T] = Future()
        with self._wake:
            if self._ending:
                raise Busy("Log a run", "the hub is stopping", "Try again when it is up.")
            self._jobs.append((job, future, synced))
            self._wake.notify()
        return future

    def close(self) -> None:
        """Do what was submitted, sync, end."""
        with self._wake:
            self._ending = True
            self._wake.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._jobs and not self._ending:
                    if self._since is None:
                        self._wake.wait()
                    elif (left := self._since + WINDOW - time.monotonic()) <= 0 or not self._wake.wait(left):
                        break
                batch = [self._jobs.popleft() for _ in range(min(len(self._jobs), _MOST))]
                ending = self._ending and not batch
            batch = [one for one in batch if one[1].set_running_or_notify_cancel()]
            if batch:
                self._commit(batch)
            if self._since is not None and (ending or time.monotonic() - self._since >= WINDOW):
                self._sync()
            if ending:
                return

    def _commit(self, batch: list[tuple[Job[Any], Future[Any], bool]]) -> None:
        synced = any(synced for _, _, synced in batch)
        done: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            with self._db.transaction(synced=synced) as connection:
                for job, future, _ in batch:
                    done.append((future, *self._try(connection, job, alone=len(batch) == 1)))
                if len(batch) == 1 and done[0][2] is not None:
                    raise _Back
        except _Back:
            self._forget()
        except BaseException as error:  # noqa: BLE001 - whoever waits hears of it
            self._forget()
            for _, future, _ in batch:
                future.set_exception(error)
            return
        if synced:
            self._since = None
        elif self._since is None:
            self._since = time.monotonic()
        for future, value, wrong in done:
            if wrong is None:
                future.set_result(value)
            else:
                future.set_exception(wrong)

    def _try(self, connection: sqlite3.Connection, job: Job[Any], *, alone: bool) -> tuple[Any, BaseException | None]:
        if not alone:
            connection.execute("SAVEPOINT job")
        try:
            value = job(connection)
        except Exception as error:
            if not connection.in_transaction:
                raise  # SQLite has taken all of it back
            if not alone:
                connection.execute("ROLLBACK TO job")
                connection.execute("RELEASE job")
                self._forget()
            return None, error
        if not alone:
            connection.execute("RELEASE job")
        return value, None

    def _sync(self) -> None:
        self._since = None
        try:
            self._db.sync()
        except SampanError:
            return  # the next commit is refused with it


class NoWriter(Writer):
    """Stands in where this process only reads."""

    def __init__(self) -> None:
        pass

    def submit(self, job: Job[T], *, synced: bool = True) -> "Future[T]":
        raise Busy("Log a run", "this process only reads what was logged", "Go through the hub: `sampan up`.")

    def close(self) -> None:
        pass


class _Back(Exception):
    """Takes a transaction back whose only job failed."""
