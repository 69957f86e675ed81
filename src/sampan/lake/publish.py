"""``sampan table publish``: a table's snapshots as one Apache Iceberg table over the files that the lake has anyway.

What is published where is noted in ``.sampan/iceberg/published.json``, with every file of the lake that a publication
names, for clean-up: it keeps them until ``sampan table unpublish``. The note is written before the metadata that needs
it, and cut down after. Whoever publishes holds the lock that clean-up holds (``App.publish_tables``).

A folder is ours if the note names it, or if it held no file before. Of what lies in it, only files with the names that
we give are ever removed, and folders only once they are empty.
"""

import re
import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import Damaged, NotFound, Refused, SampanError, Usage
from sampan.base.files import make_folder, publish, unfinished, write_durably
from sampan.lake.history import MAIN
from sampan.lake.iceberg import DataFile, IcebergTable, written
from sampan.lake.lake import Lake, Snapshot
from sampan.lake.open_types import Column, columns
from sampan.lake.query import ARROW, open_sources, quote_name, quote_text
from sampan.lake.write import explain

FOLDER: Final = "iceberg"
_NOTE: Final = "published.json"
_TABLE: Final = "sampan.table"
_CONTENT: Final = "sampan.snapshot"
_COPY: Final = re.compile(r"(?P<id>t1-[0-9a-f]{32})\.parquet|\.t1-[0-9a-f]{32}\.parquet(\.\d+){1,2}\.tmp")
_STRANGE: Final = re.compile(r"[^\w@.-]")


class Publication(msgspec.Struct, frozen=True):
    """One table in one folder, which is written as seen from the workspace's data if it lies in them.

    ``files``: digests of the lake's files by snapshot, as the table's metadata names them.
    """

    table: str
    branch: str
    folder: str
    files: dict[str, tuple[str, ...]]


class Published(msgspec.Struct, frozen=True):
    """What a publication came to. ``changed``: whether a snapshot was added. ``snapshots``: how many there are now.

    ``copied``: why a copy had to be written, if so. ``left``: snapshots that had to leave the history because a column
    of theirs has the name of another one now, or for their age.
    """

    table: str
    metadata: str
    folder: str
    snapshot: str
    rows: int
    changed: bool
    snapshots: int
    copied: str = ""
    left: int = 0


class Publications:
    """The published tables of one workspace."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._note = data / FOLDER / _NOTE

    def list(self) -> tuple[Publication, ...]:
        """All that is published. Raises Damaged for a note that does not read."""
        try:
            return msgspec.json.decode(self._note.read_bytes(), type=tuple[Publication, ...])
        except FileNotFoundError:
            return ()
        except (msgspec.MsgspecError, OSError) as error:
            advice = "It says what clean-up must keep. Remove the folder and publish again: `sampan table publish`."
            raise Damaged(f"Read {self._note}", str(error), advice) from error

    def publish(self, lake: Lake, name: str, ref: str, to: Path | None, *, clock: Clock, retention: int) -> Published:
        """Publish a table as it is on a branch or commit; the same content again changes nothing.

        ``to``: folder of the table's folder. ``retention``: seconds that a snapshot stays in the table's history.

        Raises NotFound, Refused for a type that Iceberg cannot hold or a table of somebody else's, Usage for a folder
        with files that are not ours, Damaged.
        """
        snapshot = lake.table(name, ref)
        branch = MAIN if ref.startswith("@") else ref
        folder = ((to or self._data / FOLDER) / _safe(name if branch == MAIN else f"{name}@{branch}")).resolve()
        shapes = columns(name, snapshot.fields)
        known = {one.folder: one for one in self.list()}
        where = self._noted(folder)
        mine = known.get(where) or Publication(name, branch, where, {})
        table = self._open(folder, name, ours=where in known)
        copied = _why_copied(snapshot, shapes)
        if copied and where not in known:  # or a copy that a kill leaves behind would look like somebody else's file
            self._write({**known, where: mine})
        try:
            files = (_copy(lake, name, snapshot, shapes, folder),) if copied else _as_they_lie(lake, name, snapshot)
        except SampanError:
            self._write(known)
            raise
        said = Published(
            name, str(table.metadata_file), str(folder), snapshot.id, snapshot.rows, False, table.snapshots, copied
        )
        if table.current().get(_CONTENT) == snapshot.id and table.files() == {file.path for file in files}:
            table.settle()
            self._write({**known, mine.folder: mine})
            return said
        digests = () if copied else tuple(file.sha256 for file in snapshot.files)
        mine = msgspec.structs.replace(mine, files={**mine.files, snapshot.id: digests})
        self._write({**known, mine.folder: mine})
        commit = lake.commit_at(ref)
        now = clock.micros() // 1000
        left = table.commit(
            shapes,
            files,
            notes={_CONTENT: snapshot.id, "sampan.ref": ref, "sampan.commit": commit.id if commit else ""},
            properties={_TABLE: name, "sampan.branch": branch},
            now=now,
            since=now - retention * 1000,
        )
        table.sweep()
        named = {notes[_CONTENT] for notes in table.retained() if _CONTENT in notes}
        for path, id in _copies(folder):
            if id not in named:
                path.unlink()
        mine = msgspec.structs.replace(mine, files={id: of for id, of in mine.files.items() if id in named})
        self._write({**known, mine.folder: mine})
        return msgspec.structs.replace(
            said, metadata=str(table.metadata_file), changed=True, snapshots=table.snapshots, left=left
        )

    def remove(self, name: str, to: Path | None) -> tuple[str, ...]:
        """Take a table's publications away, or the one below a folder; gives the folders. Raises NotFound.

        A folder with files that are not ours stays, with them.
        """
        known = {one.folder: one for one in self.list()}
        below = to.resolve() if to is not None else None
        gone = [
            one for one in known.values() if one.table == name and (below is None or below == self.folder(one).parent)
        ]
        if not gone:
            there = ", ".join(sorted({one.table for one in known.values()})) or "nothing"
            where = f" below {to}" if to is not None else ""
            raise NotFound(f"Unpublish {name}", f"it is not published{where}", f"Published: {there}.")
        for one in gone:  # the note goes last: until then clean-up keeps what a reader may still open
            folder = self.folder(one)
            for path in (*written(folder), *(path for path, _ in _copies(folder))):
                path.unlink()
            for emptied in (folder / "metadata", folder / "data", folder):
                with suppress(OSError):  # it is not there, or not empty
                    emptied.rmdir()
            del known[one.folder]
        self._write(known)
        return tuple(str(self.folder(one)) for one in gone)

    def folder(self, one: Publication) -> Path:
        """Where a publication lies."""
        return self._data.resolve() / one.folder

    def _noted(self, folder: Path) -> str:
        data = self._data.resolve()
        return str(folder.relative_to(data)) if folder.is_relative_to(data) else str(folder)

    def again(self, one: Publication) -> str:
        """What to type behind ``sampan table publish`` to have it again."""
        ref = "" if one.branch == MAIN else f" --ref {one.branch}"
        folder = self.folder(one).parent
        return (
            one.table + ref + ("" if folder == self._data.resolve() / FOLDER else f" --to {shlex.quote(str(folder))}")
        )

    def _open(self, folder: Path, name: str, *, ours: bool) -> IcebergTable:
        attempted = f"Publish table {name} in {folder}"
        table = IcebergTable(folder)
        if table.location and table.properties.get(_TABLE) != name:
            theirs = table.properties.get(_TABLE)
            obstacle = f"table {theirs} is published there" if theirs else "somebody else's Iceberg table is there"
            raise Refused(attempted, obstacle, "Choose another folder with --to.")
        if table.location and table.location != str(folder):
            advice = "`sampan table unpublish` removes it; publish it again, then its history begins anew."
            raise Refused(attempted, f"what lies there was published as {table.location}", advice)
        if not ours and (found := _first_file(folder)) is not None:
            obstacle = f"the folder has files that were not published from here, such as {found.relative_to(folder)}"
            raise Usage(attempted, obstacle, "Choose another folder with --to, or move what is in this one elsewhere.")
        try:
            make_folder(folder)
        except (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
            obstacle = f"the folder cannot be made ({(error.strerror or str(error)).lower()})"
            raise Refused(attempted, obstacle, "Choose another folder with --to.") from error
        return table

    def _write(self, known: dict[str, Publication]) -> None:
        text = msgspec.json.format(msgspec.json.encode(tuple(known[folder] for folder in sorted(known))), indent=1)
        make_folder(self._note.parent)
        if not self._note.exists() or self._note.read_bytes() != text:
            write_durably(self._note, text)


def _why_copied(snapshot: Snapshot, shapes: Iterable[Column]) -> str:
    """Why its files cannot be named as they lie; empty if they can."""
    if any(file.format == ARROW for file in snapshot.files):
        return "it is kept as Arrow, since a step in Python made it"
    other = [one for one in shapes if not one.fits]
    return "; ".join(f"{one.name} became {one.shape.sql}" for one in other)


def _copies(folder: Path) -> list[tuple[Path, str]]:
    """The copies that were written for a publication, with the digests of their snapshots; none for unfinished ones."""
    found = ((path, _COPY.fullmatch(path.name)) for path in sorted((folder / "data").glob("*")))
    return [(path, match["id"] or "") for path, match in found if match is not None]


def _first_file(folder: Path) -> Path | None:
    """The first file or link below a folder, whatever it is; None if there are only folders, or none."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_symlink() or not path.is_dir():
            return path
        if (found := _first_file(path)) is not None:
            return found
    return None


def _as_they_lie(lake: Lake, name: str, snapshot: Snapshot) -> tuple[DataFile, ...]:
    if not lake.present(snapshot.id):
        advice = "Run the flow again: it builds what is not there."
        raise Damaged(f"Publish table {name}", "one of its files is missing or cut short", advice)
    paths = (path.resolve() for path in lake.paths(snapshot))
    return tuple(DataFile(path, file.rows, file.bytes) for path, file in zip(paths, snapshot.files, strict=True))


def _copy(lake: Lake, name: str, snapshot: Snapshot, shapes: tuple[Column, ...], folder: Path) -> DataFile:
    """A Parquet copy with the types that Iceberg has; one that is there already stays as it is."""
    import duckdb

    final = folder / "data" / f"{snapshot.id}.parquet"
    if final.exists():
        return DataFile(final, snapshot.rows, final.stat().st_size)
    make_folder(final.parent)
    temporary = unfinished(final)
    attempted = f"Publish table {name}"
    connection = open_sources({"it": lake.source_of(snapshot)}, files=[temporary])
    try:
        for one in shapes:
            if not one.shape.exact:
                column = quote_name(one.name)
                lost = f"SELECT count(*) FROM it WHERE epoch_ns({column}) % 1000 <> 0"
                if connection.execute(lost).fetchone() != (0,):
                    obstacle = f"column {one.name} has nanoseconds, and Iceberg (version 2) ends at microseconds"
                    raise Refused(attempted, obstacle, "Cast it to TIMESTAMP in the table.")
        select = ", ".join(
            f"CAST({quote_name(one.name)} AS {one.shape.sql}) AS {quote_name(one.name)}" for one in shapes
        )
        connection.execute(f"COPY (SELECT {select} FROM it) TO {quote_text(str(temporary))} (FORMAT parquet)")
        publish(temporary, final)
    except duckdb.Error as error:
        raise explain(attempted, error) from error
    finally:
        connection.close()
        temporary.unlink(missing_ok=True)
    return DataFile(final, snapshot.rows, final.stat().st_size)


def _safe(name: str) -> str:
    return _STRANGE.sub("_", name)
