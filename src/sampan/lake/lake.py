"""Tables by content: snapshots, and with ``History`` what names them. All records; workers made and synced the files.

A snapshot is named by its table's digest, so equal content is one snapshot however often it is built. A commit is
one row written in one transaction together with the branch's new head, so all tables of a run appear together or not
at all. A snapshot needs no branch: what a failed check holds back exists, can be read and sampled, and is simply not
named by ``main``.
"""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.base.clock import Clock
from sampan.base.digests import digest_file
from sampan.base.errors import Damaged, NotFound
from sampan.lake.draft import TableDraft, TableFile
from sampan.lake.history import MAIN, Branch, Commit, History
from sampan.lake.query import TableSource
from sampan.store.blobs import Blobs
from sampan.store.database import Database

if TYPE_CHECKING:
    from sampan.lake.diff import TableDiff
    from sampan.lake.profile import Profile


class Snapshot(msgspec.Struct, frozen=True):
    """One immutable state of a table; ``id`` is the digest of its content."""

    id: str
    name: str
    fields: tuple[tuple[str, str], ...]
    files: tuple[TableFile, ...]
    rows: int
    bytes: int
    flags: tuple[str, ...]
    run: str | None
    key: str | None
    created: int


class Lake(History):
    """The tables of one workspace."""

    def __init__(self, db: Database, folder: Path, clock: Clock) -> None:
        super().__init__(db, clock)
        self.folder = folder
        self._files = Blobs(folder)
        if db.writable:
            self.sweep()

    # -- snapshots

    def add(self, draft: TableDraft, name: str, run: str | None = None, key: str | None = None) -> Snapshot:
        """Record a draft. Content that is known already keeps its first record, unless that one's files are gone or not
        cut into the partitions that the draft is cut into."""
        for file in draft.files:
            if not self._files.has(file.sha256):
                raise Damaged(f"Record table {name}", f"file {file.sha256} is not in {self.folder}", "Run again.")
        with self.db.transaction() as records:
            row = records.execute("SELECT * FROM snapshots WHERE id = ?", (draft.id,)).fetchone()
            if row is not None and self._present(found := _snapshot(row)) and _cut(draft) in (set(), _cut(found)):
                return found
            fresh = Snapshot(
                draft.id,
                name,
                draft.fields,
                draft.files,
                draft.rows,
                draft.bytes,
                draft.flags,
                run,
                key,
                self._clock.micros(),
            )
            records.execute(
                "INSERT INTO snapshots (id, name, fields, files, rows, bytes, flags, run, key, created)"
                " VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET files = excluded.files,"
                " bytes = excluded.bytes",
                (
                    fresh.id,
                    name,
                    _text(fresh.fields),
                    _text(fresh.files),
                    fresh.rows,
                    fresh.bytes,
                    _text(fresh.flags),
                    run,
                    key,
                    fresh.created,
                ),
            )
        return fresh

    def snapshot(self, id: str) -> Snapshot:
        """A snapshot by its digest. Raises NotFound."""
        row = self.db.row("SELECT * FROM snapshots WHERE id = ?", (id,))
        if row is None:
            raise NotFound(
                "Open a snapshot",
                f"no snapshot {id!r}",
                "`sampan table list` shows those on a branch; `sampan gc` removes what nothing keeps.",
            )
        return _snapshot(row)

    def present(self, id: str) -> bool:
        """Whether a snapshot is recorded and all its files are there in their full length."""
        row = self.db.row("SELECT * FROM snapshots WHERE id = ?", (id,))
        return row is not None and self._present(_snapshot(row))

    def _present(self, snapshot: Snapshot) -> bool:
        for file in snapshot.files:
            path = self._files.path(file.sha256)
            if not path.exists() or path.stat().st_size != file.bytes:
                return False
        return True

    def paths(self, snapshot: Snapshot) -> tuple[Path, ...]:
        """Where a snapshot's files lie."""
        return tuple(self._files.path(file.sha256) for file in snapshot.files)

    def verify(self, id: str) -> list[str]:
        """What is wrong with a snapshot's files; empty if they are byte for byte those that were written."""
        faults = []
        for file in self.snapshot(id).files:
            path = self._files.path(file.sha256)
            if not path.exists():
                faults.append(f"{path} is missing")
            elif path.stat().st_size != file.bytes:
                faults.append(f"{path} has {path.stat().st_size} bytes instead of {file.bytes}")
            elif digest_file(path) != file.sha256:
                faults.append(f"{path} does not match its SHA-256")
        return faults

    def sweep(self) -> None:
        """Remove the unfinished files of worker processes that are gone."""
        for left in (self.folder / "tmp").glob("*-*"):
            process = left.name.partition("-")[0]
            if process.isdecimal() and not _lives(int(process)):
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)

    # -- reading

    def tables(self, ref: str = MAIN) -> dict[str, Snapshot]:
        """All tables of a branch, or of one commit (``@ID``)."""
        return {name: self.snapshot(id) for name, id in self.names(ref).items()}

    def table(self, name: str, ref: str = MAIN) -> Snapshot:
        """One table's snapshot on a branch or commit. Raises NotFound with the names that there are."""
        tables = self.names(ref)
        if name not in tables:
            there = ", ".join(sorted(tables)) or "none yet; `sampan run` builds them"
            raise NotFound("Open a table", f"no table {name!r} on {ref}", f"There are: {there}.")
        return self.snapshot(tables[name])

    def source(self, name: str, ref: str = MAIN) -> TableSource:
        """What a worker needs to read a table."""
        return self.source_of(self.table(name, ref), name)

    def source_of(self, snapshot: Snapshot, name: str = "") -> TableSource:
        """What a worker needs to read a snapshot, under a name of the caller's choice."""
        format = snapshot.files[0].format if snapshot.files else "parquet"
        files = tuple(str(path) for path in self.paths(snapshot))
        return TableSource(name or snapshot.name, files, format, snapshot.fields)

    def sample(self, id: str, n: int = 20) -> list[dict[str, Any]]:
        """A few rows of a snapshot, by column name."""
        from sampan.lake.profile import sample

        return sample(self.source_of(self.snapshot(id)), n)

    def profile(self, id: str) -> "Profile":
        """Nulls, range, distinct values and a small histogram per column; computed once and kept in the cache."""
        from sampan.lake.profile import profile

        return profile(self.source_of(self.snapshot(id)), self._profile_file(id))

    def profiled(self, id: str) -> "Profile | None":
        """The profile of a snapshot if it has been taken before."""
        from sampan.lake.profile import kept

        return kept(self._profile_file(id))

    def diff(self, name: str, before: str | None, after: str | None) -> "TableDiff":
        """What differs between two snapshots of a table; one that is None was not there. Kept once it is known."""
        from sampan.lake.diff import diff, keep, kept
        from sampan.lake.marks import folder_of

        if before is None or after is None or before == after:
            return one_sided(name, *(None if id is None else self.snapshot(id) for id in (before, after)))
        old, new = self.snapshot(before), self.snapshot(after)
        file = self.folder.parent / "cache" / "diffs" / f"{before}.{after}.json"
        found = kept(file)
        if found is None:
            spill = self.folder / "tmp"
            one, other, alike = apart(old, new)
            made = diff(name, self.source_of(one), self.source_of(other), spill=spill, marks=folder_of(self.folder))
            rows = {"rows_before": made.rows_before + alike, "rows_after": made.rows_after + alike}
            found = keep(file, msgspec.structs.replace(made, **rows))
        return msgspec.structs.replace(found, name=name, before=before, after=after)

    def _profile_file(self, id: str) -> Path:
        return self.folder.parent / "cache" / "profiles" / f"{id}.json"


def apart(before: Snapshot, after: Snapshot) -> tuple[Snapshot, Snapshot, int]:
    """Two states of a table without the files that both have, which differ in nothing, and how many rows are in these.
    Each side keeps a file, for its columns."""
    alike = {file.sha256 for file in before.files} & {file.sha256 for file in after.files}
    if len(alike) == min(len(before.files), len(after.files)):
        alike.remove(min(alike))
    same = [file for file in before.files if file.sha256 in alike]
    one, other = (
        msgspec.structs.replace(side, files=tuple(file for file in side.files if file.sha256 not in alike))
        for side in (before, after)
    )
    return one, other, sum(file.rows for file in same)


def one_sided(name: str, before: Snapshot | None, after: Snapshot | None) -> "TableDiff":
    """How a table differs that is new, or gone, or the same."""
    from sampan.lake.diff import TableDiff

    same = before is not None and after is not None
    return TableDiff(
        name=name,
        how="same" if same else "gone" if before else "new",
        before=before.id if before else None,
        after=after.id if after else None,
        rows_before=before.rows if before else 0,
        rows_after=after.rows if after else 0,
        new_columns=after.fields if after and not same else (),
        lost_columns=before.fields if before and not same else (),
        added=after.rows if after and not same else 0,
        removed=before.rows if before and not same else 0,
    )


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _cut(table: TableDraft | Snapshot) -> set[str]:
    """The partitions that a table's files are of; none if it is not built bit by bit."""
    return {file.partition for file in table.files if file.partition}


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _snapshot(row: Any) -> Snapshot:
    return Snapshot(
        row["id"],
        row["name"],
        msgspec.json.decode(row["fields"], type=tuple[tuple[str, str], ...]),
        msgspec.json.decode(row["files"], type=tuple[TableFile, ...]),
        row["rows"],
        row["bytes"],
        msgspec.json.decode(row["flags"], type=tuple[str, ...]),
        row["run"],
        row["key"],
        row["created"],
    )


__all__ = ["MAIN", "Branch", "Commit", "Lake", "Snapshot"]
