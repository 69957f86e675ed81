"""Pins: commits, versions and runs that are kept whatever their age, each with who wanted it and why."""

from collections.abc import Sequence

import msgspec

from sampan.base.clock import Clock, iso
from sampan.base.errors import NotFound, Usage
from sampan.lake.lake import Commit, Lake
from sampan.models.registry import Models
from sampan.runs.records import Runs
from sampan.store.database import Database


class Pin(msgspec.Struct, frozen=True):
    """``ref`` is ``@COMMIT``, ``MODEL@NUMBER`` or a run's id."""

    ref: str
    actor: str
    reason: str
    created: int


def pinned(db: Database) -> Sequence[Pin]:
    """All pins, the oldest first."""
    return [Pin(**dict(row)) for row in db.rows("SELECT * FROM pins ORDER BY created, ref")]


class Pins:
    """The pins of a workspace. Writing needs the writable records."""

    def __init__(self, db: Database, lake: Lake, models: Models, runs: Runs, clock: Clock) -> None:
        self._db, self._lake, self._models, self._runs, self._clock = db, lake, models, runs, clock

    def add(self, ref: str, *, actor: str, reason: str) -> Pin:
        """Keep what a reference means now: of a branch its newest commit. Pinned again, it has the newer reason.

        Raises NotFound for what there is not, or what clean-up has removed; Usage without a reason.
        """
        if not reason.strip():
            raise Usage(f"Pin {ref}", "without a reason nobody knows when it may go", "Say it: --reason TEXT.")
        with self._db.transaction() as records:
            made = Pin(self._meant(ref), actor, reason, self._clock.micros())
            records.execute(
                "INSERT INTO pins (ref, actor, reason, created) VALUES (?, ?, ?, ?) ON CONFLICT (ref) DO UPDATE SET"
                " actor = excluded.actor, reason = excluded.reason, created = excluded.created",
                msgspec.structs.astuple(made),
            )
        return made

    def list(self) -> Sequence[Pin]:
        """All pins, the oldest first."""
        return pinned(self._db)

    def remove(self, ref: str) -> Pin:
        """Let something go when it is old. Raises NotFound for what is not pinned."""
        known = {one.ref: one for one in self.list()}
        found = known.get(ref) or known.get(f"@{ref}")
        if found is None:
            raise NotFound(f"Remove the pin of {ref}", "it is not pinned", f"Pinned: {', '.join(known) or 'nothing'}.")
        with self._db.transaction() as records:
            records.execute("DELETE FROM pins WHERE ref = ?", (found.ref,))
        return found

    def _meant(self, ref: str) -> str:
        name, at, _ = ref.partition("@")
        if at and name:
            version = self._models.get(ref)
            self._not_cleaned(f"Pin {ref}", version.run)
            return version.ref
        if at or ref in self._lake.branches():
            commit = self._lake.commit_at(ref)
        else:
            try:
                run = self._runs.get(ref).id
            except NotFound:
                commit = self._commit(ref)
            else:
                self._not_cleaned(f"Pin {ref}", run)
                return run
        if commit is None:
            raise NotFound(f"Pin {ref}", "the branch is empty", "There is nothing to keep yet.")
        self._lake.check_whole(f"Pin {ref}", commit)
        return f"@{commit.id}"

    def _not_cleaned(self, attempted: str, run: str | None) -> None:
        row = self._db.row("SELECT cleaned FROM runs WHERE id = ?", (run,))
        if row is not None and row["cleaned"] is not None:
            when = iso(row["cleaned"])[:19]
            raise NotFound(
                attempted, f"results of run {run} went on {when}", "Its code builds them again: `sampan run`."
            )

    def _commit(self, ref: str) -> Commit:
        try:
            return self._lake.commit_of(ref)
        except NotFound:
            raise NotFound(
                f"Pin {ref}", "no commit, branch, version or run is called that", "@COMMIT, MODEL@NUMBER, or a run."
            ) from None
