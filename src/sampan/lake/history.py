"""Branches and commits: what every table, model and definition of a branch was, one row per atomic change.

A commit holds whole maps: table to snapshot, model to version number, node of the flow to a digest of its definition.
A branch is a name with a head, and copies nothing. It remembers as its base the commit of ``main`` that it started
from, so that what was changed here and what was changed there can be told apart.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sampan.base.clock import Clock, iso
from sampan.base.errors import Conflict, NotFound, Refused, Usage
from sampan.base.ids import is_name, new_id
from sampan.store.database import Database
from sampan.store.states import State, States

MAIN: Final = "main"


class Commit(msgspec.Struct, frozen=True):
    """One atomic change of a branch: ``tables``, ``models`` and ``code`` are what all of it was afterwards."""

    id: str
    branch: str
    parent: str | None
    tables: dict[str, str]
    run: str | None
    actor: str
    reason: str
    request: str | None
    created: int
    models: dict[str, int] = {}
    code: dict[str, str] = {}
    """Table, step, model or check to a digest of its code, parameters, packages and files."""


class Branch(msgspec.Struct, frozen=True):
    """A movable name for a commit. ``base``: the commit of main that it started from, or was merged to last."""

    name: str
    head: str | None
    base: str | None
    actor: str
    reason: str
    created: int


class History:
    """The branches of a workspace and their commits."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self.db, self._clock = db, clock
        self._states = States(db, "branch")

    def present(self, id: str) -> bool:
        """Whether a snapshot is recorded and whole."""
        raise NotImplementedError

    # -- branches

    def head(self, branch: str = MAIN) -> str | None:
        """The newest commit of a branch; None where there is none yet."""
        row = self.db.row("SELECT head FROM branches WHERE name = ?", (branch,))
        return None if row is None else row["head"]

    def branches(self) -> dict[str, str | None]:
        """All branches with their newest commits."""
        return {one.name: one.head for one in self.list_branches()}

    def list_branches(self) -> list[Branch]:
        """All branches, ``main`` first."""
        sql = "SELECT name, head, base, actor, reason, created FROM branches ORDER BY name <> 'main', name"
        return [Branch(**dict(row)) for row in self.db.rows(sql)]

    def branch_of(self, name: str) -> Branch:
        """A branch by its name; ``main`` is there from the beginning. Raises NotFound with the names that there are."""
        known = {one.name: one for one in self.list_branches()}
        if name not in known:
            if name == MAIN:
                return Branch(MAIN, None, None, "", "", 0)
            there = ", ".join({MAIN: None, **known})
            raise NotFound(
                "Open a branch", f"no branch {name!r}", f"There are: {there}. `sampan branch new` makes one."
            )
        return known[name]

    def branches_at(self, by: int) -> list[Branch]:
        """The branches that there were at an instant, each with the head that it had then, ``main`` first."""
        found = {one.name: one for one in self.list_branches() if one.created <= by}
        for name, state in self._states.all(by).items():
            found.pop(name, None)
            if state.value is not None:
                found[name] = msgspec.convert({**state.value, "name": name}, Branch)
        lines = []
        for name in sorted(found, key=lambda name: (name != MAIN, name)):
            head = self._head_at(found[name], by, self._states.at(name, by))
            lines.append(msgspec.structs.replace(found[name], head=head))
        return lines

    def _head_at(self, branch: Branch, by: int, state: State | None) -> str | None:
        """The newest commit that was made on a branch by an instant; else the one that it was put at."""
        since = branch.created if state is None else state.since
        row = self.db.row(
            "SELECT id FROM commits WHERE branch = ? AND created BETWEEN ? AND ? ORDER BY created DESC, rowid DESC",
            (branch.name, since, by),
        )
        if row is not None:
            head: str = row["id"]
            return head
        return branch.base if state is None else branch.head

    def branch(self, name: str, ref: str = MAIN, *, actor: str = "", reason: str = "") -> Branch:
        """Make a branch that starts where ``ref`` is; no data is copied. Raises Conflict if it exists."""
        if not is_name(name):
            raise Conflict("Make a branch", f"{name!r} is no name", "Use letters, digits, '-' and '_'.")
        with self.db.transaction() as records:
            start = self._resolve(ref)
            if start is not None:
                self.check_whole(f"Make the branch {name}", self.commit_of(start))
            if name == MAIN or records.execute("SELECT 1 FROM branches WHERE name = ?", (name,)).fetchone():
                raise Conflict("Make a branch", f"{name!r} exists", "Choose another name.")
            records.execute(
                "INSERT INTO branches (name, head, base, actor, reason, created) VALUES (?, ?, ?, ?, ?, ?)",
                (name, start, start, actor, reason, self._clock.micros()),
            )
            made = self.branch_of(name)
            self._put(made, made.created)
        return made

    def _put(self, branch: Branch, at: int) -> None:
        self._states.put(branch.name, {k: v for k, v in msgspec.to_builtins(branch).items() if k != "name"}, at)

    def rebase(self, name: str, commit: str | None) -> None:
        """Let a branch stand where main is, as one that was merged does."""
        with self.db.transaction() as records:
            records.execute("UPDATE branches SET head = ?, base = ? WHERE name = ?", (commit, commit, name))
            self._put(self.branch_of(name), self._clock.micros())

    def delete_branch(self, name: str) -> Branch:
        """Take the name away; commits and snapshots stay until they are cleaned up. Raises NotFound, Refused."""
        gone = self.branch_of(name)
        if name == MAIN:
            raise Refused("Delete main", "it is what everything is compared with", "Only other branches can go.")
        with self.db.transaction() as records:
            records.execute("DELETE FROM branches WHERE name = ?", (name,))
            self._states.put(name, None, self._clock.micros())
        return gone

    # -- commits

    def commit(
        self,
        branch: str,
        changes: Mapping[str, str | None],
        *,
        expected: str | None,
        models: Mapping[str, int | None] = {},
        code: Mapping[str, str] | None = None,
        run: str | None = None,
        actor: str = "",
        reason: str = "",
        request: str | None = None,
    ) -> Commit:
        """Change tables of a branch together: name to snapshot id, or to None to take it off the branch.

        ``models`` changes versions in the same way; ``code`` is the whole map of definitions, None leaves it as it
        is. ``expected`` is the head that the caller saw (None: an empty branch); if the branch has moved on, nothing
        happens and Conflict is raised. A repeated ``request`` id returns the commit that it made the first time.
        """
        with self.db.transaction() as records:
            if request is not None:
                row = records.execute("SELECT * FROM commits WHERE request = ?", (request,)).fetchone()
                if row is not None:
                    return self._repeated(_commit(row), branch, changes)
            row = records.execute("SELECT head FROM branches WHERE name = ?", (branch,)).fetchone()
            head = None if row is None else row["head"]
            if row is None and branch != MAIN:
                raise NotFound(f"Commit to {branch}", "the branch is gone", "Make it again, and run again.")
            if head != expected:
                raise Conflict(
                    f"Commit to {branch}",
                    f"it is at {head or 'its beginning'}, not at {expected or 'its beginning'}",
                    "Somebody committed in between: read it again and retry.",
                    head=head,
                )
            before = None if head is None else self.commit_of(head)
            for name, id in changes.items():
                if id is not None and not self.present(id):
                    raise NotFound(
                        f"Commit {name} to {branch}",
                        f"snapshot {id!r} or one of its files is missing",
                        "It may have been cleaned up; `sampan run` builds what the workspace declares.",
                    )
            made = Commit(
                new_id(self._clock),
                branch,
                head,
                _changed(before.tables if before else {}, changes),
                run,
                actor,
                reason,
                request,
                self._clock.micros(),
                _changed(before.models if before else {}, models),
                dict(sorted(code.items())) if code is not None else before.code if before else {},
            )
            names = Commit.__struct_fields__
            records.execute(
                f"INSERT INTO commits ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
                [_text(v) if isinstance(v, dict) else v for v in msgspec.structs.astuple(made)],
            )
            records.execute(
                "INSERT INTO branches (name, head, created) VALUES (?,?,?)"
                " ON CONFLICT (name) DO UPDATE SET head = excluded.head",
                (branch, made.id, made.created),
            )
        return made

    def _repeated(self, first: Commit, branch: str, changes: Mapping[str, str | None]) -> Commit:
        same = first.branch == branch and all(first.tables.get(name) == id for name, id in changes.items())
        if not same:
            raise Conflict(f"Commit to {branch}", f"request {first.request} was used for commit {first.id}")
        return first

    def revert(self, id: str, *, branch: str = MAIN, actor: str = "", reason: str = "") -> Commit:
        """Undo one commit of a branch by another: its tables, models and definitions are again as before it.

        Raises Conflict, naming it, if something that it changed has been changed again since.
        """
        attempted = f"Revert {id}"
        undone = self.commit_of(id)
        head = self.head(branch)
        chain = {one.id for one in self.history(branch, limit=1 << 30)}
        if head is None or undone.id not in chain:
            raise NotFound(attempted, f"it is no commit of {branch}", "`sampan branch log` lists them.")
        before = self.commit_of(undone.parent) if undone.parent else None
        now = self.commit_of(head)
        tables = _undo(attempted, before.tables if before else {}, undone.tables, now.tables)
        models = _undo(attempted, before.models if before else {}, undone.models, now.models)
        code = _changed(now.code, _undo(attempted, before.code if before else {}, undone.code, now.code))
        if not tables and not models and code == now.code:
            raise Refused(attempted, "it changed nothing", "There is nothing to undo.")
        said = reason or f"revert {id} ({undone.reason})"
        return self.commit(branch, tables, expected=head, models=models, code=code, actor=actor, reason=said)

    def commit_of(self, id: str) -> Commit:
        """A commit by its id, or a beginning of it that no other has. Raises NotFound."""
        row = self.db.row("SELECT * FROM commits WHERE id = ?", (id,))
        if row is None and len(id) >= 4 and id.isalnum():
            rows = self.db.rows("SELECT * FROM commits WHERE id LIKE ? LIMIT 2", (id + "%",))
            row = rows[0] if len(rows) == 1 else None
        if row is None:
            raise NotFound("Open a commit", f"no commit {id!r}", "`sampan branch log` lists them.")
        return _commit(row)

    def check_whole(self, attempted: str, commit: Commit) -> None:
        """Raises NotFound if a table of a commit is gone, as it may be when nothing kept the commit."""
        for name, id in commit.tables.items():
            if not self.present(id):
                raise NotFound(
                    attempted,
                    f"table {name} of commit {commit.id} is gone",
                    "Nothing kept it when `sampan gc` cleaned up. Its code builds it again with `sampan run`.",
                )

    def history(self, branch: str = MAIN, limit: int = 100) -> list[Commit]:
        """Commits of a branch, newest first, those from before it branched off included."""
        found: list[Commit] = []
        at = self.head(branch)
        while at is not None and len(found) < limit:
            found.append(self.commit_of(at))
            at = found[-1].parent
        return found

    def at(self, time: int, branch: str = MAIN) -> str | None:
        """The commit that a branch's head was at an instant (microseconds); None before its first.

        Raises NotFound where the instant lies before all commits of a branch that has some.
        """
        row = self.db.row(_AT, (self.head(branch), time, time))
        if row is None and (first := self.history(branch, 1 << 30)[-1:]):
            raise NotFound(
                f"See {branch} as of {iso(time)}",
                f"its first commit was made at {iso(first[0].created)}",
                "Choose a later time, or ask for events alone: they go further back.",
            )
        return None if row is None else row["id"]

    def ref_at(self, ref: str, time: int | None) -> str:
        """What a branch was at an instant, as a ref of that commit; ``ref`` itself without an instant.

        Raises NotFound as ``at`` does, and where there is no such branch; Usage for a commit.
        """
        if time is None:
            return ref
        attempted = f"See {ref} as of {iso(time)}"
        if ref.startswith("@"):
            raise Usage(attempted, "a commit is what it is at any time", "Name a branch, or leave the time out.")
        if ref != MAIN:
            known = {one.name: one for one in self.branches_at(time)}
            if ref not in known:
                there = ", ".join({MAIN: None, **known})
                raise NotFound(attempted, f"there was no branch {ref!r}", f"There were: {there}.")
            return f"@{known[ref].head}" if known[ref].head else ref
        at = self.at(time)
        return ref if at is None else f"@{at}"

    def _resolve(self, ref: str) -> str | None:
        if ref.startswith("@"):
            return self.commit_of(ref[1:]).id
        return self.branch_of(ref).head

    # -- what is on them

    def commit_at(self, ref: str = MAIN) -> Commit | None:
        """The commit that a branch, or a commit (``@ID``), stands for; None for an empty branch."""
        at = self._resolve(ref)
        return None if at is None else self.commit_of(at)

    def names(self, ref: str = MAIN) -> dict[str, str]:
        """All tables of a branch or commit (``@ID``): name to snapshot id."""
        found = self.commit_at(ref)
        return {} if found is None else found.tables

    def versions(self, ref: str = MAIN) -> dict[str, int]:
        """The version of each model on a branch or commit."""
        found = self.commit_at(ref)
        return {} if found is None else found.models


_AT: Final = """
WITH RECURSIVE walk (id, parent, created) AS (
    SELECT id, parent, created FROM commits WHERE id = ?
    UNION ALL
    SELECT commits.id, commits.parent, commits.created
    FROM commits JOIN walk ON commits.id = walk.parent WHERE walk.created > ?
)
SELECT id FROM walk WHERE created <= ? LIMIT 1
"""


def _changed(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    after = {**before, **changes}
    return {name: after[name] for name in sorted(after) if after[name] is not None}


def _undo(
    attempted: str, before: Mapping[str, Any], after: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, Any]:
    """What each name that a commit changed was before it; Conflict if one of them is no longer as it left it."""
    changed = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    if again := [name for name in changed if now.get(name) != after.get(name)]:
        raise Conflict(attempted, f"{', '.join(again)} changed again since", "Revert the later commits first.")
    return {name: before.get(name) for name in changed}


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _commit(row: Any) -> Commit:
    return Commit(
        row["id"],
        row["branch"],
        row["parent"],
        msgspec.json.decode(row["tables"], type=dict[str, str]),
        row["run"],
        row["actor"],
        row["reason"],
        row["request"],
        row["created"],
        msgspec.json.decode(row["models"], type=dict[str, int]),
        msgspec.json.decode(row["code"], type=dict[str, str]),
    )
