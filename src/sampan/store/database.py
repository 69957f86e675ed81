"""Records in SQLite: one writer per workspace, any number of readers.

WAL with ``synchronous=FULL``: an acknowledged commit has been synced. SQLite before 3.51.3 can corrupt its WAL
when several connections write or checkpoint at once; the workspace lock (``sampan.store.lock``) keeps it to one
process, and inside that process every write goes through one connection.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sampan.base.errors import Busy, Damaged, DiskFull, SampanError
from sampan.store.migrations import FORMAT, migrate

_PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "mmap_size": 0}


class Database:
    """One workspace's records. ``writable`` requires that the caller holds the workspace lock."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path = path
        self.writable = writable
        self._lock = threading.RLock()
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._writer: sqlite3.Connection | None = None
        if writable:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect(read_only=False)
            migrate(self._writer)

    def _connect(self, *, read_only: bool) -> sqlite3.Connection:
        uri = f"{self.path.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        try:
            connection = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None, timeout=10)
            connection.row_factory = sqlite3.Row
            if read_only:
                connection.execute("PRAGMA query_only=1")
                return connection
            for name, value in _PRAGMAS.items():
                connection.execute(f"PRAGMA {name}={value}")
                got = connection.execute(f"PRAGMA {name}").fetchone()
                if got is None or got[0] != value:
                    raise Damaged("Open the records", f"PRAGMA {name} is {got and got[0]!r}, not {value!r}")
            return connection
        except sqlite3.Error as error:
            raise self._explain("Open the records", error) from error

    def _explain(self, attempted: str, error: sqlite3.Error) -> SampanError:
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith("SQLITE_FULL"):
            return DiskFull(attempted, f"the disk that holds {self.path} is full", "Free some space and try again.")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return Busy(attempted, f"{self.path} is locked by another process", "Try again.")
        return Damaged(attempted, f"{self.path}: {error}", "Restore a backup, or move the file away and look.")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One atomic, durable change. Nested use joins the outer transaction."""
        if self._writer is None:
            raise Busy("Write records", "this process only reads them", "Go through the process with the lock.")
        with self._lock:
            connection = self._writer
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            try:
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise self._explain("Commit records", error) from error

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect(read_only=True)
            with self._lock:
                self._readers.append(connection)
        return connection

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[sqlite3.Row]:
        """All rows of a query; no rows where the records do not exist yet."""
        if not self.writable and not self.path.exists():
            return []
        if self._writer is not None and self._writer.in_transaction:
            with self._lock:  # read one's own uncommitted writes
                return self._writer.execute(sql, parameters).fetchall()
        return self._reader().execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        rows = self.rows(sql, parameters)
        return rows[0] if rows else None

    def close(self) -> None:
        with self._lock:
            for connection in self._readers:
                connection.close()
            self._readers.clear()
            self._local = threading.local()
            if self._writer is not None:
                self._writer.close()
                self._writer = None


__all__ = ["FORMAT", "Database"]
