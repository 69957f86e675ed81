"""Artifacts: bytes under their digest, found by owner and path.

A path is a key and never a place: nothing that a client says becomes part of a file's name here.
"""

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from sampan.base.clock import Clock
from sampan.base.errors import NotFound, Usage
from sampan.base.files import make_folder, of_the_disk, sync
from sampan.store.blobs import Blobs
from sampan.store.database import Database
from sampan.track.experiments import millis
from sampan.track.freezing import check_free
from sampan.track.limits import shown
from sampan.track.records import File
from sampan.track.writer import Writer

_LONGEST, _PART = 1000, 255
_DECODED: Final = 5  # how often a path may have been encoded and is still looked through


def check_path(attempted: str, path: str) -> str:
    """A path of names between single slashes. Raises Usage for any other, and for those that lead somewhere else."""
    advice = "Use names between slashes, without '..', backslashes, '#' and control characters."
    seen = path
    for _ in range(_DECODED):
        parts = seen.split("/")
        if (
            any(part in ("", ".", "..") or len(part) > _PART for part in parts)
            or any(sign < " " or sign in "\\#\x7f" for sign in seen)
            or seen[1:2] == ":"
            or len(seen) > _LONGEST
        ):
            raise Usage(attempted, f"Invalid path {shown(path)}", advice)
        decoded = unquote(seen)
        if decoded == seen:
            return path
        seen = decoded
    raise Usage(attempted, f"Invalid path {shown(path)}", advice)


class Incoming:
    """Bytes as they arrive, in a temporary file; their digest is known when they end."""

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.path = folder / f"artifact-{os.urandom(8).hex()}"
        self._file = self.path.open("xb")
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Raises DiskFull."""
        try:
            self._file.write(data)
        except OSError as error:
            raise of_the_disk(error) or error from error
        self._digest.update(data)
        self.size += len(data)

    def end(self) -> str:
        """Sync them; gives their digest. Raises DiskFull."""
        try:
            self._file.flush()
            sync(self._file.fileno())
        except OSError as error:
            raise of_the_disk(error) or error from error
        finally:
            self._file.close()
        return self._digest.hexdigest()

    def drop(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class Artifacts:
    """Files of runs and logged models. An owner is the id of either."""

    def __init__(self, db: Database, writer: Writer, blobs: Blobs, temporary: Path, clock: Clock) -> None:
        self._db, self._writer, self._blobs, self._clock = db, writer, blobs, clock
        self.temporary = temporary

    def check_owner(self, attempted: str, owner: str) -> None:
        """Raises NotFound for what is neither a run nor a logged model."""
        for table in ("runs", "models"):
            if self._db.row(f"SELECT 1 FROM {table} WHERE uuid = ?", (owner,)) is not None:
                return
        raise NotFound(attempted, f"there is no run and no logged model with ID {shown(owner)}")

    def check(self, attempted: str, owner: str, path: str) -> str:
        """Whether a file may be put there, before its bytes are taken. Raises Usage, NotFound."""
        check_path(attempted, path)
        self.check_owner(attempted, owner)
        return path

    def put(self, owner: str, path: str, incoming: Incoming) -> File:
        """Keep what has arrived, in the place of what was there. Raises Usage, NotFound, DiskFull."""
        attempted = f"Log the artifact {shown(path)}"
        self.check(attempted, owner, path)
        digest, size = incoming.end(), incoming.size
        try:
            self._blobs.place(incoming.path, digest)
        except OSError as error:
            raise of_the_disk(error) or error from error
        now = millis(self._clock)

        def job(connection: sqlite3.Connection) -> File:
            if _has(connection, "path = ? AND sha256 = ?", owner, path, digest):
                return File(path, size, digest)
            check_free(connection, attempted, owner)
            above = path.split("/")[:-1]
            for depth in range(1, len(above) + 1):
                folder = "/".join(above[:depth])
                if _has(connection, "path = ?", owner, folder):
                    raise Usage(attempted, f"{shown(folder)} is a file", "Choose another path.")
            if _has(connection, "path > ? AND path < ?", owner, f"{path}/", f"{path}0"):
                raise Usage(attempted, f"{shown(path)} is a folder", "Choose another path.")
            row = (owner, path, digest, size, now)
            connection.execute(
                "INSERT OR REPLACE INTO artifacts (owner, path, sha256, size, made) VALUES (?,?,?,?,?)", row
            )
            return File(path, size, digest)

        return self._writer.submit(job).result()

    def find(self, owner: str, path: str) -> File:
        """Raises Usage, NotFound."""
        attempted = f"Read the artifact {shown(path)}"
        check_path(attempted, path)
        row = self._db.row("SELECT size, sha256 FROM artifacts WHERE owner = ? AND path = ?", (owner, path))
        if row is None:
            raise NotFound(
                attempted, f"{shown(owner)} has none at this path", "List its artifacts to see which it has."
            )
        return File(path, row["size"], row["sha256"])

    def location(self, file: File) -> Path:
        """Where a file's bytes lie."""
        return self.bytes_of(file.sha256)

    def bytes_of(self, digest: str) -> Path:
        """Where the bytes of a digest lie."""
        return self._blobs.path(digest)

    def list(self, owner: str, path: str = "") -> list[File]:
        """Files and folders right below a path, by path. Of a file itself, nothing. Raises Usage, NotFound."""
        attempted = "List artifacts"
        if path:
            check_path(attempted, path)
        self.check_owner(attempted, owner)
        first = f"{path}/" if path else ""
        within = "AND path > ? AND path < ?" if path else ""
        given = (owner, first, f"{path}0") if path else (owner,)
        rows = self._db.rows(f"SELECT path, size, sha256 FROM artifacts WHERE owner = ? {within} ORDER BY path", given)
        found: dict[str, File] = {}
        for whole, size, digest in rows:
            name, _, below = whole[len(first) :].partition("/")
            at = first + name
            found[at] = File(at, None) if below else File(at, size, digest)
        return [found[at] for at in sorted(found)]

    def delete(self, owner: str, path: str = "") -> int:
        """Take a file away, a folder, or all; gives how many files went. The bytes go when nothing names them."""
        attempted = f"Delete the artifacts {shown(path)}"
        if path:
            check_path(attempted, path)
        self.check_owner(attempted, owner)

        def job(connection: sqlite3.Connection) -> int:
            check_free(connection, attempted, owner)
            if not path:
                return connection.execute("DELETE FROM artifacts WHERE owner = ?", (owner,)).rowcount
            given = (owner, path, f"{path}/", f"{path}0")
            query = "DELETE FROM artifacts WHERE owner = ? AND (path = ? OR (path > ? AND path < ?))"
            return connection.execute(query, given).rowcount

        gone = self._writer.submit(job).result()
        if path and not gone:
            raise NotFound(attempted, f"{shown(owner)} has none at this path")
        return gone


def all_named(db: Database) -> Iterator[tuple[str, str]]:
    """The digests that runs and models name, each with one who does."""
    for row in db.rows("SELECT sha256, owner || '/' || min(path) FROM artifacts GROUP BY sha256"):
        yield row[0], row[1]


def _has(connection: sqlite3.Connection, condition: str, owner: str, *given: str) -> bool:
    query = f"SELECT 1 FROM artifacts WHERE owner = ? AND {condition} LIMIT 1"
    return connection.execute(query, (owner, *given)).fetchone() is not None
