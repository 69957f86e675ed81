"""Records in SQLite: one writer per workspace, any number of readers.

WAL with ``synchronous=FULL``: an acknowledged commit has been synced. SQLite before 3.51.3 can corrupt its WAL
when several connections write or checkpoint at once; a lock beside the file keeps it to one writer, whatever the
version, and inside that process every write goes through one connection. Why plain SQL and no library above it:
``docs/decisions/records-sql.md``.
"""

import os
import shutil
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sampan.base.errors import Busy, Damaged, DiskFull, NotFound, SampanError
from sampan.base.files import sync
from sampan.store.lock import FileLock
from sampan.store.migrations import FORMAT, MIGRATIONS, Migrations, format_of, migrate

SAFE_WITH_SEVERAL_WRITERS: Final = (3, 51, 3)
_NORMAL, _FULL = 1, 2
_PRAGMAS: Final = {
    "journal_mode": "wal",
    "synchronous": _FULL,
    "fullfsync": 1,  # macOS: through the drive's cache; elsewhere it changes nothing
    "checkpoint_fullfsync": 1,
    "foreign_keys": 1,
    "mmap_size": 0,
}


class _Reader:
    """A thread's connection for reading. Only that thread holds it, so that it is closed when the thread ends."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        weakref.finalize(self, connection.close).atexit = False


class Database:
    """One workspace's records. Only one process at a time may open them ``writable``; Busy for the second.

    ``migrations`` make their format: that of ``records.db``, unless a file with a format of its own is opened.
    """

    def __init__(self, path: Path, *, writable: bool, migrations: Migrations = MIGRATIONS) -> None:
        self.path = path
        self.writable = writable
        self._migrations = migrations
        self._synced = True
        self._lock = threading.RLock()
        self._local = threading.local()
        self._readers: weakref.WeakSet[_Reader] = weakref.WeakSet()
        self._readers_lock = threading.Lock()  # of its own: reading never waits for a transaction
        self._writer: sqlite3.Connection | None = None
        self._owner = 0  # the thread inside a transaction
        self._broken: SampanError | None = None
        self._guard: FileLock | None = None
        if writable:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._guard = FileLock(path.with_suffix(".lock"), "Open the records for writing", _why_one_writer())
            try:
                self._writer = self._connect(read_only=False)
                migrate(self._writer, migrations)
            except BaseException:
                self.close()
                raise

    def _connect(self, *, read_only: bool) -> sqlite3.Connection:
        uri = f"{self.path.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        if read_only and self._never_changes():
            uri += "&immutable=1"
        connection: sqlite3.Connection | None = None
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
        except (sqlite3.Error, SampanError) as error:
            if connection is not None:
                connection.close()
            if isinstance(error, SampanError):
                raise
            raise self._explain("Open the records", error) from error

    def _never_changes(self) -> bool:
        """Whether the records lie where nothing can be written and all of them in one file: to read a WAL, SQLite
        would have to make a file beside it."""
        wal = self.path.with_name(f"{self.path.name}-wal")
        return not os.access(self.path.parent, os.W_OK) and not (wal.exists() and wal.stat().st_size)

    def _explain(self, attempted: str, error: sqlite3.Error) -> SampanError:
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith("SQLITE_FULL") or (name.startswith(_MAY_BE_FULL) and self._full()):
            return DiskFull(attempted, f"the disk that holds {self.path} is full", "Free some space and try again.")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return Busy(attempted, f"{self.path} is locked by another process", "Try again.")
        if name.startswith("SQLITE_CANTOPEN") and not os.access(self.path.parent, os.W_OK):
            return SampanError(
                attempted,
                f"{self.path.parent} may only be read, and SQLite has to write there to see what was written last",
                "Get the right to write there, or work in a copy of the folder.",
            )
        return Damaged(attempted, f"{self.path}: {error}", "Restore a backup, or move the file away and look.")

    def _full(self) -> bool:
        """Whether the disk has no room even for what SQLite needs to read."""
        with suppress(OSError):
            return shutil.disk_usage(self.path.parent).free < 1 << 16
        return False

    @contextmanager
    def _explained(self, attempted: str) -> Iterator[None]:
        """Turn what the disk does to us into our errors; mistakes in SQL and broken constraints pass as they are."""
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "") or ""
            if name.startswith(_OF_THE_DISK):
                raise self._explain(attempted, error) from error
            raise

    @contextmanager
    def transaction(self, *, synced: bool = True) -> Iterator[sqlite3.Connection]:
        """One atomic, durable change: when it ends without an error, it has been synced.

        Without ``synced`` it outlives this process, but a power cut only once ``sync`` or a synced change has followed.
        Nested use joins the outer transaction. Raises Busy in a process that only reads, DiskFull, Damaged.
        """
        if self._writer is None:
            raise Busy("Write records", "this process only reads them", "Go through the process with the lock.")
        with self._lock:
            if self._broken is not None:
                raise self._broken
            connection = self._writer
            if self._owner:
                yield connection
                return
            with self._explained("Write records"):
                if synced is not self._synced:
                    connection.execute(f"PRAGMA synchronous={_FULL if synced else _NORMAL}")
                    self._synced = synced
                self._owner = threading.get_ident()
                try:
                    connection.execute("BEGIN IMMEDIATE")  # within: Ctrl-C may come as it ends
                    yield connection
                except BaseException:
                    self._roll_back(connection)
                    raise
                finally:
                    self._owner = 0
                self._commit(connection)

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:  # SQLite itself takes back what hit a full or broken disk
            connection.execute("ROLLBACK")

    def _commit(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(connection)
            if (getattr(error, "sqlite_errorname", "") or "").startswith("SQLITE_IOERR"):
                self._broken = self._after_failed_sync(error)
            raise

    def sync(self) -> None:
        """Make durable what was committed without a sync. Raises Damaged; afterwards nothing more is written."""
        with self._lock:
            if self._broken is not None:
                raise self._broken
            try:
                fd = os.open(self.path.with_name(f"{self.path.name}-wal"), os.O_RDONLY)
            except FileNotFoundError:
                return  # all of it is in the file itself, which was synced first
            try:
                sync(fd)
            except OSError as error:
                self._broken = self._after_failed_sync(error)
                raise self._broken from error
            finally:
                os.close(fd)

    @property
    def fault(self) -> str:
        """Why nothing more is written; empty while all is well."""
        return "" if self._broken is None else self._broken.obstacle

    def _after_failed_sync(self, error: Exception) -> Damaged:
        """A sync that failed once may seem to succeed the next time although the bytes are gone."""
        why = f"an earlier commit failed on the disk that holds {self.path}: {error}"
        return Damaged("Write records", why, "Look at the disk, then start again.")

    def _reader(self) -> sqlite3.Connection | None:
        """This thread's connection for reading; None while there are no records yet."""
        reader: _Reader | None = getattr(self._local, "reader", None)
        if reader is None:
            connection = self._connect(read_only=True)
            try:
                started = format_of(connection, len(self._migrations)) > 0
            except BaseException:
                connection.close()
                raise
            if not started:
                connection.close()
                return None
            reader = self._local.reader = _Reader(connection)
            with self._readers_lock:
                self._readers.add(reader)
        return reader.connection

    def behind(self) -> int:
        """The format of records that an older Sampan wrote, which reading cannot change; 0 if they are up to date."""
        if self.writable or not self.path.exists():
            return 0
        with self._explained("Read records"):
            reader = self._reader()
            version = FORMAT if reader is None else format_of(reader)
            return version if version < FORMAT else 0

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[sqlite3.Row]:
        """All rows of a query; no rows where the records do not exist yet.

        Inside a transaction its own thread sees its changes; every other thread sees what is committed.
        """
        with self._explained("Read records"):
            if self._writer is not None and self._owner == threading.get_ident():
                return self._writer.execute(sql, parameters).fetchall()
            if not self.writable and not self.path.exists():
                return []
            reader = self._reader()
            return [] if reader is None else reader.execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        rows = self.rows(sql, parameters)
        return rows[0] if rows else None

    def copy_to(self, path: Path) -> None:
        """A whole copy as of now in a file of its own, whoever writes meanwhile. Raises NotFound without records."""
        with self._explained("Copy the records"):
            if not self.path.exists():
                raise NotFound("Copy the records", f"there are none in {self.path.parent}", "`sampan up` begins them.")
            source = self._connect(read_only=True)
            copy = sqlite3.connect(path, isolation_level=None)
            try:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode=delete")  # all of it in one file
                found = copy.execute("PRAGMA quick_check").fetchone()[0]
                if found != "ok":
                    raise Damaged("Copy the records", f"{self.path}: {found}", "Restore them from an older backup.")
            finally:
                copy.close()
                source.close()

    def close(self) -> None:
        """Close all connections and let the next writer in."""
        with self._lock, self._readers_lock:
            for reader in self._readers:
                reader.connection.close()
            self._readers.clear()
            self._local = threading.local()
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            if self._guard is not None:
                self._guard.release()
                self._guard = None


_OF_THE_DISK: Final = (
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_CORRUPT",
    "SQLITE_NOTADB",
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_CANTOPEN",
)


_MAY_BE_FULL: Final = ("SQLITE_IOERR", "SQLITE_CANTOPEN")
_ADVICE: Final = "One process writes at a time: go through the hub, or wait until the other is done."


def sql_holding(word: str) -> str:
    """What ``LIKE … ESCAPE '\\'`` is given to find texts that hold a word, whatever signs it has."""
    escaped = "".join(f"\\{sign}" if sign in "%_\\" else sign for sign in word)
    return f"%{escaped}%"


def _why_one_writer() -> str:
    if sqlite3.sqlite_version_info < SAFE_WITH_SEVERAL_WRITERS:
        safe = ".".join(map(str, SAFE_WITH_SEVERAL_WRITERS))
        return f"SQLite {sqlite3.sqlite_version} (before {safe}) can corrupt its log with two writers. {_ADVICE}"
    return _ADVICE


__all__ = ["FORMAT", "Database"]
