"""Artifacts that come in parts: begun, sent part by part in any order, completed or given up.

Parts lie in a folder of the upload's own; completing puts them together, whose digest is then that of the artifact.
"""

import os
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import NotFound, Usage
from sampan.base.files import of_the_disk
from sampan.store.database import Database
from sampan.track.artifacts import Artifacts, Incoming
from sampan.track.experiments import millis
from sampan.track.limits import shown
from sampan.track.records import File
from sampan.track.writer import Writer

PARTS: Final = 10_000
_PIECE: Final = 1 << 20
_FORGOTTEN: Final = 7 * 86_400_000  # milliseconds


class Upload(msgspec.Struct, frozen=True):
    """An artifact that comes in ``parts`` parts, numbered from 1."""

    id: str
    owner: str
    path: str
    parts: int


class Uploads:
    """Uploads that are under way."""

    def __init__(self, db: Database, writer: Writer, artifacts: Artifacts, clock: Clock) -> None:
        self._db, self._writer, self._artifacts, self._clock = db, writer, artifacts, clock

    def sweep(self) -> None:
        """Remove what a process that was killed left behind, and uploads that nobody went on with for a week."""
        old = millis(self._clock) - _FORGOTTEN
        self._writer.submit(lambda connection: _remove_old(connection, old), synced=False).result()
        known = {row[0] for row in self._db.rows("SELECT id FROM uploads")}
        temporary = self._artifacts.temporary
        for path in temporary.glob("artifact-*"):
            path.unlink(missing_ok=True)
        for path in temporary.glob("upload-*"):
            if path.name.removeprefix("upload-") not in known:
                shutil.rmtree(path, ignore_errors=True)

    def begin(self, owner: str, path: str, parts: int) -> Upload:
        """Raises Usage, NotFound."""
        attempted = f"Upload {shown(path)} in parts"
        if not 1 <= parts <= PARTS:
            raise Usage(attempted, f"invalid value {parts} for num_parts", f"It lies between 1 and {PARTS}.")
        self._artifacts.check(attempted, owner, path)
        made, now = Upload(os.urandom(16).hex(), owner, path, parts), millis(self._clock)
        row = (made.id, owner, path, parts, now)
        self._writer.submit(lambda connection: _insert(connection, row), synced=False).result()
        return made

    def get(self, id: str) -> Upload:
        """Raises NotFound."""
        row = self._db.row("SELECT id, owner, path, parts FROM uploads WHERE id = ?", (id,))
        if row is None:
            raise NotFound(
                "Upload in parts", f"no upload has the ID {shown(id)}", "It was completed or given up: begin anew."
            )
        return Upload(*row)

    def folder(self, upload: Upload) -> Path:
        return self._artifacts.temporary / f"upload-{upload.id}"

    def keep(self, upload: Upload, part: int, incoming: Incoming) -> str:
        """Keep a part that has arrived, in the place of what was sent for it before; gives its tag.

        Raises Usage, DiskFull."""
        if not 1 <= part <= upload.parts:
            raise Usage(f"Upload part {part}", f"there are {upload.parts}", "Parts are numbered from 1.")
        digest = incoming.end()
        try:
            self.folder(upload).mkdir(exist_ok=True)
            incoming.path.replace(self.folder(upload) / f"{part}-{digest}")
        except OSError as error:
            raise of_the_disk(error) or error from error
        return digest

    def size(self, upload: Upload) -> int:
        """Bytes of the parts that have arrived."""
        try:
            with os.scandir(self.folder(upload)) as parts:
                return sum(part.stat().st_size for part in parts)
        except FileNotFoundError:
            return 0

    def complete(self, id: str, owner: str, path: str, tags: Mapping[int, str]) -> File:
        """Put the parts together, whose tags are given by number. Raises Usage, NotFound, DiskFull."""
        upload = self._owned(id, owner, path)
        attempted = f"Complete the upload of {shown(path)}"
        if set(tags) != set(range(1, upload.parts + 1)):
            lacking = sorted(set(range(1, upload.parts + 1)) - set(tags))
            raise Usage(attempted, f"parts {str(lacking)[:100]} of {upload.parts} are missing", "Name every part once.")
        places = [self._place(attempted, upload, part, tags[part]) for part in range(1, upload.parts + 1)]
        incoming = Incoming(self._artifacts.temporary)
        try:
            for place in places:
                with place.open("rb") as file:
                    while piece := file.read(_PIECE):
                        incoming.write(piece)
            made = self._artifacts.put(owner, path, incoming)
        finally:
            incoming.drop()
        self._end(upload)
        return made

    def abort(self, id: str, owner: str, path: str) -> None:
        """Give one up. Raises NotFound."""
        self._end(self._owned(id, owner, path))

    def _owned(self, id: str, owner: str, path: str) -> Upload:
        upload = self.get(id)
        if (upload.owner, upload.path) != (owner, path):
            raise Usage("Upload in parts", f"{shown(id)} is an upload of {shown(upload.path)}, not of {shown(path)}")
        return upload

    def _place(self, attempted: str, upload: Upload, part: int, tag: str) -> Path:
        digest = tag.strip('"')
        known = len(digest) == 64 and set(digest) <= set("0123456789abcdef")
        place = self.folder(upload) / f"{part}-{digest if known else '-'}"
        if not place.exists():
            raise Usage(attempted, f"part {part} was not sent with the tag {shown(tag)}", "Send it again.")
        return place

    def _end(self, upload: Upload) -> None:
        self._writer.submit(lambda connection: _remove(connection, upload.id), synced=False).result()
        shutil.rmtree(self.folder(upload), ignore_errors=True)


def _insert(connection: sqlite3.Connection, row: tuple[str, str, str, int, int]) -> None:
    connection.execute("INSERT INTO uploads (id, owner, path, parts, begun) VALUES (?, ?, ?, ?, ?)", row)


def _remove_old(connection: sqlite3.Connection, before: int) -> None:
    connection.execute("DELETE FROM uploads WHERE begun < ?", (before,))


def _remove(connection: sqlite3.Connection, id: str) -> None:
    connection.execute("DELETE FROM uploads WHERE id = ?", (id,))
