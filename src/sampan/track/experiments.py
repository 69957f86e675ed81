"""Experiments: named sets of runs."""

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Final

from sampan.base.clock import Clock
from sampan.base.errors import Conflict, NotFound, Usage
from sampan.store.database import Database
from sampan.track.limits import EXPERIMENT_NAME, EXPERIMENT_TAG_VALUE, check_key, check_length, shown
from sampan.track.records import Experiment
from sampan.track.writer import Writer

DEFAULT: Final = "Default"
_COLUMNS: Final = "id, name, created, updated, deleted"


def millis(clock: Clock) -> int:
    """The time as clients tell it."""
    return clock.micros() // 1000


def new_uuid(clock: Clock) -> str:
    """32 hexadecimal digits, as clients know ids: 12 of time (milliseconds), 20 random."""
    return f"{millis(clock) & (1 << 48) - 1:012x}{os.urandom(10).hex()}"


def number(attempted: str, text: str) -> int:
    """An experiment's number. Raises Usage for what is none."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise Usage(attempted, f"invalid experiment ID {shown(text)}", "It must be a valid integer.")
    return int(text)


class Experiments:
    """The experiments of a workspace."""

    def __init__(self, db: Database, writer: Writer, clock: Clock) -> None:
        self._db, self._writer, self._clock = db, writer, clock

    def create(self, name: str, tags: Mapping[str, str]) -> int:
        """Make one; gives its number. Raises Usage, Conflict."""
        attempted = f"Create the experiment {shown(name)}"
        _check_name(attempted, name)
        for key, value in tags.items():
            _check_tag(attempted, key, value)
        now = millis(self._clock)

        def job(connection: sqlite3.Connection) -> int:
            self._free(connection, attempted, name)
            made = connection.execute(
                "INSERT INTO experiments (name, created, updated) VALUES (?, ?, ?)", (name, now, now)
            ).lastrowid
            assert made is not None
            rows = [(made, key, value) for key, value in tags.items()]
            connection.executemany("INSERT INTO experiment_tags VALUES (?, ?, ?)", rows)
            return made

        return self._writer.submit(job).result()

    def rename(self, id: int, name: str) -> None:
        """Raises Usage, Conflict, NotFound."""
        attempted = f"Rename experiment {id}"
        _check_name(attempted, name)
        now = millis(self._clock)

        def job(connection: sqlite3.Connection) -> None:
            living(connection, attempted, id)
            self._free(connection, attempted, name, id)
            connection.execute("UPDATE experiments SET name = ?, updated = ? WHERE id = ?", (name, now, id))

        self._writer.submit(job).result()

    def delete(self, id: int) -> None:
        """Put one, with its runs, out of sight. Raises NotFound."""
        self._mark(f"Delete experiment {id}", id, deleted=True)

    def restore(self, id: int) -> None:
        """Bring one back, with the runs that went with it. Raises NotFound."""
        self._mark(f"Restore experiment {id}", id, deleted=False)

    def _mark(self, attempted: str, id: int, *, deleted: bool) -> None:
        now = millis(self._clock)

        def job(connection: sqlite3.Connection) -> None:
            row = connection.execute("SELECT deleted FROM experiments WHERE id = ?", (id,)).fetchone()
            if row is None or (row[0] is not None) == deleted:
                state = "deleted" if deleted is False else "active"
                raise NotFound(attempted, f"no {state} experiment with ID {id} exists")
            at = now if deleted else None
            connection.execute("UPDATE experiments SET deleted = ?, updated = ? WHERE id = ?", (at, now, id))
            if deleted:
                connection.execute("UPDATE runs SET deleted = ? WHERE experiment = ? AND deleted IS NULL", (now, id))
            else:
                connection.execute("UPDATE runs SET deleted = NULL WHERE experiment = ? AND deleted = ?", (id, row[0]))

        self._writer.submit(job).result()

    def set_tag(self, id: int, key: str, value: str) -> None:
        """Raises Usage, NotFound."""
        attempted = f"Set a tag of experiment {id}"
        _check_tag(attempted, key, value)

        def job(connection: sqlite3.Connection) -> None:
            living(connection, attempted, id)
            connection.execute("INSERT OR REPLACE INTO experiment_tags VALUES (?, ?, ?)", (id, key, value))

        self._writer.submit(job).result()

    def delete_tag(self, id: int, key: str) -> None:
        """Raises NotFound."""
        attempted = f"Delete a tag of experiment {id}"

        def job(connection: sqlite3.Connection) -> None:
            living(connection, attempted, id)
            gone = connection.execute("DELETE FROM experiment_tags WHERE experiment = ? AND key = ?", (id, key))
            if not gone.rowcount:
                raise NotFound(attempted, f"no tag with name {shown(key)} in experiment with ID {id}")

        self._writer.submit(job).result()

    def get(self, id: int) -> Experiment:
        """Raises NotFound."""
        row = self._db.row(f"SELECT {_COLUMNS} FROM experiments WHERE id = ?", (id,))
        if row is None:
            raise NotFound("Read an experiment", f"no experiment with ID {id} exists")
        return self.whole([row])[0]

    def named(self, name: str) -> Experiment:
        """Raises NotFound."""
        row = self._db.row(f"SELECT {_COLUMNS} FROM experiments WHERE name = ?", (name,))
        if row is None:
            raise NotFound("Read an experiment", f"could not find experiment with name {shown(name)}")
        return self.whole([row])[0]

    def activity(self) -> dict[int, tuple[int, int]]:
        """By experiment: how many runs it has, and when the newest began."""
        query = "SELECT experiment, count(*), max(started) FROM runs WHERE deleted IS NULL GROUP BY experiment"
        return {row[0]: (row[1], row[2]) for row in self._db.rows(query)}

    def many(self, ids: Iterable[int]) -> list[Experiment]:
        """Those of these numbers, in this order."""
        wanted = list(ids)
        rows = self._db.rows(
            f"SELECT {_COLUMNS} FROM experiments WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(wanted),)
        )
        found = {one.id: one for one in self.whole(rows)}
        return [found[id] for id in wanted if id in found]

    def whole(self, rows: Iterable[sqlite3.Row]) -> list[Experiment]:
        """Rows of the table with their tags."""
        made = [Experiment(row["id"], row["name"], row["created"], row["updated"], row["deleted"], {}) for row in rows]
        ids = json.dumps([one.id for one in made])
        query = "SELECT * FROM experiment_tags WHERE experiment IN (SELECT value FROM json_each(?))"
        by = {one.id: one.tags for one in made}
        for experiment, key, value in self._db.rows(query, (ids,)):
            by[experiment][key] = value
        return made

    @staticmethod
    def _free(connection: sqlite3.Connection, attempted: str, name: str, but: int = -1) -> None:
        row = connection.execute("SELECT id, deleted FROM experiments WHERE name = ?", (name,)).fetchone()
        if row is None or row[0] == but:
            return
        obstacle = f"Experiment {shown(name)} already exists"
        if row[1] is not None:
            raise Conflict(
                attempted, f"{obstacle} in deleted state", f"Restore it, its ID is {row[0]}, or choose another name."
            )
        raise Conflict(attempted, f"{obstacle}, its ID is {row[0]}", "Use it, or choose another name.")


def living(connection: sqlite3.Connection, attempted: str, id: int) -> None:
    """Raises NotFound, or Usage for an experiment that was deleted."""
    row = connection.execute("SELECT deleted FROM experiments WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise NotFound(attempted, f"no experiment with ID {id} exists")
    if row[0] is not None:
        raise Usage(
            attempted,
            f"The experiment {id} must be in the 'active' state. Current state is deleted",
            "Restore it, or use another.",
        )


def begin(connection: sqlite3.Connection, now: int) -> None:
    """Make the experiment that runs go to which name none."""
    connection.execute(
        "INSERT INTO experiments (id, name, created, updated) VALUES (0, ?, ?, ?) ON CONFLICT DO NOTHING",
        (DEFAULT, now, now),
    )


def _check_name(attempted: str, name: str) -> None:
    if not name.strip():
        raise Usage(attempted, f"invalid experiment name {shown(name)}", "Give it a name that is not empty.")
    check_length(attempted, "name", name, EXPERIMENT_NAME)


def _check_tag(attempted: str, key: str, value: str) -> None:
    check_key(attempted, key)
    check_length(attempted, "value", value, EXPERIMENT_TAG_VALUE)
