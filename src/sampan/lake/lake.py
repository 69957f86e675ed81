"""Tables by content: snapshots, branches, commits. All records; the files were made and synced by workers.

A snapshot is named by its table's digest, so equal content is one snapshot however often it is built. A commit maps
every table name of its branch to a snapshot; it is one row written in one transaction together with the branch's
new head, so all tables of a run appear together or not at all. A snapshot needs no branch: what a failed check
holds back exists, can be read and sampled, and is simply not named by ``main``.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.clock import Clock
from sampan.base.digests import digest_file
from sampan.base.errors import Conflict, Damaged, NotFound
from sampan.base.ids import is_name, new_id
from sampan.lake.draft import TableDraft, TableFile
from sampan.lake.query import TableSource
from sampan.store.blobs import Blobs
from sampan.store.database import Database

if TYPE_CHECKING:
    from sampan.lake.profile import Profile

MAIN: Final = "main"


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


class Commit(msgspec.Struct, frozen=True):
    """One atomic change of a branch: ``tables`` is what every table was afterwards."""

    id: str
    branch: str
    parent: str | None
    tables: dict[str, str]
    run: str | None
    actor: str
    reason: str
    request: str | None
    created: int


class Lake:
    """The tables of one workspace."""

    def __init__(self, db: Database, folder: Path, clock: Clock) -> None:
        self.db, self.folder, self._clock = db, folder, clock
        self._files = Blobs(folder)
        if db.writable:
            self.sweep()

    # -- snapshots

    def add(self, draft: TableDraft, name: str, run: str | None = None, key: str | None = None) -> Snapshot:
        """Record a draft. Content that is known already keeps its first record, unless that one's files are gone."""
        for file in draft.files:
            if not self._files.has(file.sha256):
                raise Damaged(f"Record table {name}", f"file {file.sha256} is not in {self.folder}", "Run again.")
        with self.db.transaction() as records:
            row = records.execute("SELECT * FROM snapshots WHERE id = ?", (draft.id,)).fetchone()
            if row is not None and self._present(found := _snapshot(row)):
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
            raise NotFound("Open a snapshot", f"no snapshot {id!r}", "`sampan table list` shows those on a branch.")
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

    # -- branches and commits

    def head(self, branch: str = MAIN) -> str | None:
        """The newest commit of a branch; None where there is none yet."""
        row = self.db.row("SELECT head FROM branches WHERE name = ?", (branch,))
        return None if row is None else row["head"]

    def branches(self) -> dict[str, str | None]:
        """All branches with their newest commits."""
        return {row["name"]: row["head"] for row in self.db.rows("SELECT name, head FROM branches ORDER BY name")}

    def branch(self, name: str, ref: str = MAIN) -> None:
        """Make a branch that starts where ``ref`` is; no data is copied. Raises Conflict if it exists."""
        if not is_name(name):
            raise Conflict("Make a branch", f"{name!r} is no name", "Use letters, digits, '-' and '_'.")
        start = self._resolve(ref)
        with self.db.transaction() as records:
            if records.execute("SELECT 1 FROM branches WHERE name = ?", (name,)).fetchone():
                raise Conflict("Make a branch", f"{name!r} exists", "Choose another name.")
            records.execute("INSERT INTO branches VALUES (?, ?, ?)", (name, start, self._clock.micros()))

    def commit(
        self,
        branch: str,
        changes: Mapping[str, str | None],
        *,
        expected: str | None,
        run: str | None = None,
        actor: str = "",
        reason: str = "",
        request: str | None = None,
    ) -> Commit:
        """Change tables of a branch together: name to snapshot id, or to None to take it off the branch.

        ``expected`` is the head that the caller saw (None: an empty branch); if the branch has moved on, nothing
        happens and Conflict is raised. A repeated ``request`` id returns the commit that it made the first time.
        """
        with self.db.transaction() as records:
            if request is not None:
                row = records.execute("SELECT * FROM commits WHERE request = ?", (request,)).fetchone()
                if row is not None:
                    return self._repeated(_commit(row), branch, changes)
            row = records.execute("SELECT head FROM branches WHERE name = ?", (branch,)).fetchone()
            head = None if row is None else row["head"]
            if head != expected:
                raise Conflict(
                    f"Commit to {branch}",
                    f"it is at {head or 'its beginning'}, not at {expected or 'its beginning'}",
                    "Somebody committed in between: read it again and retry.",
                    head=head,
                )
            tables = {} if head is None else dict(self.commit_of(head).tables)
            for name, id in changes.items():
                if id is None:
                    tables.pop(name, None)
                elif self._missing(id):
                    raise NotFound(f"Commit {name} to {branch}", f"snapshot {id!r} or one of its files is missing")
                else:
                    tables[name] = id
            made = Commit(
                new_id(self._clock),
                branch,
                head,
                dict(sorted(tables.items())),
                run,
                actor,
                reason,
                request,
                self._clock.micros(),
            )
            records.execute(
                "INSERT INTO commits (id, branch, parent, tables, run, actor, reason, request, created)"
                " VALUES (?,?,?,?,?,?,?,?,?)",
                (made.id, branch, head, _text(made.tables), run, actor, reason, request, made.created),
            )
            records.execute(
                "INSERT INTO branches (name, head, created) VALUES (?,?,?)"
                " ON CONFLICT (name) DO UPDATE SET head = excluded.head",
                (branch, made.id, made.created),
            )
        return made

    def _missing(self, id: str) -> bool:
        return not self.present(id)

    def _repeated(self, first: Commit, branch: str, changes: Mapping[str, str | None]) -> Commit:
        same = first.branch == branch and all(first.tables.get(name) == id for name, id in changes.items())
        if not same:
            raise Conflict(f"Commit to {branch}", f"request {first.request} was used for commit {first.id}")
        return first

    def commit_of(self, id: str) -> Commit:
        """A commit by its id. Raises NotFound."""
        row = self.db.row("SELECT * FROM commits WHERE id = ?", (id,))
        if row is None:
            raise NotFound("Open a commit", f"no commit {id!r}", "`sampan table list` shows the newest.")
        return _commit(row)

    def history(self, branch: str = MAIN, limit: int = 100) -> list[Commit]:
        """Commits of a branch, newest first, those from before it branched off included."""
        found: list[Commit] = []
        at = self.head(branch)
        while at is not None and len(found) < limit:
            found.append(self.commit_of(at))
            at = found[-1].parent
        return found

    def _resolve(self, ref: str) -> str | None:
        if ref.startswith("@"):
            return self.commit_of(ref[1:]).id
        row = self.db.row("SELECT head FROM branches WHERE name = ?", (ref,))
        if row is None and ref != MAIN:
            raise NotFound("Open a branch", f"no branch {ref!r}", f"There are: {', '.join(self.branches()) or 'none'}.")
        return None if row is None else row["head"]

    # -- reading

    def names(self, ref: str = MAIN) -> dict[str, str]:
        """All tables of a branch or commit (``@ID``): name to snapshot id."""
        at = self._resolve(ref)
        return {} if at is None else self.commit_of(at).tables

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

    def _profile_file(self, id: str) -> Path:
        return self.folder.parent / "cache" / "profiles" / f"{id}.json"


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


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


def _commit(row: Any) -> Commit:
    tables = msgspec.json.decode(row["tables"], type=dict[str, str])
    return Commit(
        row["id"],
        row["branch"],
        row["parent"],
        tables,
        row["run"],
        row["actor"],
        row["reason"],
        row["request"],
        row["created"],
    )


__all__ = ["MAIN", "Commit", "Lake", "Snapshot"]
