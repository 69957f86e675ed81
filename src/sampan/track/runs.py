"""Runs: made, changed, read whole. What is logged into them: ``sampan.track.logging``."""

import json
import math
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Final, NamedTuple

from msgspec.structs import replace

from sampan.base.clock import Clock
from sampan.base.errors import NotFound, Usage
from sampan.store.database import Database
from sampan.track.curve import PLACES, draw
from sampan.track.experiments import living, millis, new_uuid
from sampan.track.freezing import frozen
from sampan.track.keys import Keys
from sampan.track.limits import RUN_NAME, TAG_VALUE, USER, check_count, check_key, check_length, check_whole, shown
from sampan.track.records import ENDED, INPUT, NAME_TAG, RUNNING, STATUSES, Curve, Dataset, Input, Link, Metric, Run
from sampan.track.schema import NAN
from sampan.track.writer import Writer

_COLUMNS: Final = "id, uuid, experiment, name, user, status, started, ended, deleted"
_RETRIED: Final = 600_000  # milliseconds after the start of a hub in which clients still send again
_BEGUN: Final = "INSERT INTO runs (uuid, experiment, name, user, status, started) VALUES (?, ?, ?, ?, ?, ?)"
_UNTOUCHED: Final = """SELECT id, uuid, name FROM runs AS r
    WHERE experiment = ? AND started = ? AND user = ? AND status = ? AND deleted IS NULL AND uuid < ?
    AND NOT EXISTS (SELECT 1 FROM latest WHERE run = r.id) AND NOT EXISTS (SELECT 1 FROM params WHERE run = r.id)
    AND NOT EXISTS (SELECT 1 FROM inputs WHERE run = r.id) AND NOT EXISTS (
        SELECT 1 FROM artifacts WHERE owner = r.uuid)"""
_WORDS: Final = (
    ("brave", "calm", "clear", "deep", "eager", "fair", "fresh", "glad", "keen", "light", "lucky", "quick", "quiet"),
    (
        "anchor",
        "cove",
        "current",
        "delta",
        "harbour",
        "keel",
        "lagoon",
        "mast",
        "oar",
        "rudder",
        "sail",
        "tide",
        "wave",
    ),
)


class Runs:
    """The logged runs of a workspace."""

    def __init__(self, db: Database, writer: Writer, keys: Keys, clock: Clock) -> None:
        self._db, self._writer, self._keys, self._clock = db, writer, keys, clock
        self._opened = millis(clock)

    def create(
        self, experiment: int, *, name: str = "", user: str = "", started: int | None = None, tags: Mapping[str, str]
    ) -> Run:
        """Begin a run, and wait until it is kept. Raises Usage, NotFound."""
        return self.begin(experiment, name=name, user=user, started=started, tags=tags).result()

    def begin(
        self, experiment: int, *, name: str = "", user: str = "", started: int | None = None, tags: Mapping[str, str]
    ) -> "Future[Run]":
        """Begin a run. Raises Usage at once; the future, NotFound.

        Clients send it again when the hub went down before it could answer: what the hub before this one has begun with
        the same words, and nobody has touched since, is that run, and gets no second one.
        """
        attempted = "Create a run"
        check_count(attempted, "tags", len(tags), 1000)
        for key, value in tags.items():
            check_key(attempted, key)
            check_length(attempted, f"tag {shown(key)}", value, TAG_VALUE)
        tagged = tags.get(NAME_TAG, "")
        if name and tagged and name != tagged:
            raise Usage(
                attempted,
                f"both 'run_name' ({shown(name)}) and the tag '{NAME_TAG}' ({shown(tagged)}) were given",
                "Give one, or both alike.",
            )
        called = name or tagged
        name = called or f"{'-'.join(map(secrets.choice, _WORDS))}-{secrets.randbelow(1000)}"
        check_length(attempted, "run_name", name, RUN_NAME)
        check_length(attempted, "user_id", user, USER)
        began = millis(self._clock) if started is None else started
        check_whole(attempted, "start_time", began)
        uuid, kept = new_uuid(self._clock), {**tags, NAME_TAG: name}

        def job(connection: sqlite3.Connection) -> Run:
            living(connection, attempted, experiment)
            if started is not None and millis(self._clock) - self._opened < _RETRIED:
                for id, before in self._sent_before(connection, experiment, called, user, began, tags):
                    return replace(made, id=id, name=before, tags={**kept, NAME_TAG: before})
            row = (uuid, experiment, name, user, RUNNING, began)
            number = connection.execute(_BEGUN, row).lastrowid
            rows = [(number, self._keys.id(connection, key), value) for key, value in kept.items()]
            connection.executemany("INSERT INTO tags VALUES (?, ?, ?)", rows)
            return made

        made = Run(
            id=uuid,
            experiment=experiment,
            name=name,
            user=user,
            status=RUNNING,
            started=began,
            ended=None,
            deleted=None,
            metrics=[],
            params={},
            tags=kept,
        )
        return self._writer.submit(job, synced=False)

    def _sent_before(
        self,
        connection: sqlite3.Connection,
        experiment: int,
        called: str,
        user: str,
        began: int,
        tags: Mapping[str, str],
    ) -> Iterator[tuple[str, str]]:
        """Id and name of runs that the process before this one began with the same words, and that are as they were."""
        found = connection.execute(_UNTOUCHED, (experiment, began, user, RUNNING, f"{self._opened:012x}")).fetchall()
        for id, uuid, name in found:
            pairs = connection.execute(
                "SELECT k.name, t.value FROM tags AS t JOIN keys AS k ON k.id = t.key WHERE run = ?", (id,)
            )
            if called in ("", name) and dict(pairs.fetchall()) == {**tags, NAME_TAG: name}:
                yield uuid, name

    def update(self, uuid: str, *, status: str = "", ended: int | None = None, name: str = "") -> Run:
        """As ``change``, and wait until it is kept. Raises Usage, NotFound, Frozen."""
        return self.change(uuid, status=status, ended=ended, name=name).result()

    def change(self, uuid: str, *, status: str = "", ended: int | None = None, name: str = "") -> "Future[Run]":
        """Change how a run stands, when it ended, its name; gives it without what was logged into it.

        What has ended is on the disk, all of it, once the future is done. Raises Usage at once; the future, NotFound,
        Usage for a run that was deleted, Frozen.
        """
        attempted = f"Update run {shown(uuid)}"
        if status and status not in STATUSES:
            raise Usage(attempted, f"invalid status {shown(status)}", f"Valid are {', '.join(STATUSES)}.")
        check_length(attempted, "run_name", name, RUN_NAME)
        if ended is not None:
            check_whole(attempted, "end_time", ended)

        def job(connection: sqlite3.Connection) -> Run:
            query = f"SELECT {_COLUMNS} FROM runs WHERE uuid = ?"
            row = connection.execute(query, (uuid,)).fetchone()
            if row is None:
                raise missing(attempted, uuid)
            known = _run(row)
            end = known.ended if ended is None else ended
            wanted = replace(known, status=status or known.status, ended=end, name=name or known.name)
            if wanted != known:  # else it was sent again
                run = active(connection, attempted, uuid)
                change = "UPDATE runs SET status = ?, ended = ? WHERE id = ?"
                connection.execute(change, (wanted.status, wanted.ended, run))
                if name:
                    rename(connection, self._keys, run, name)
            return wanted

        return self._writer.submit(job)

    def delete(self, uuid: str) -> None:
        """Put a run out of sight. Raises NotFound."""
        self._mark(f"Delete run {shown(uuid)}", uuid, millis(self._clock))

    def restore(self, uuid: str) -> None:
        """Bring it back. Raises NotFound."""
        self._mark(f"Restore run {shown(uuid)}", uuid, None)

    def _mark(self, attempted: str, uuid: str, deleted: int | None) -> None:
        def job(connection: sqlite3.Connection) -> None:
            if find(connection, attempted, uuid).frozen:
                raise frozen(attempted, f"run {uuid}")
            connection.execute("UPDATE runs SET deleted = ? WHERE uuid = ?", (deleted, uuid))

        self._writer.submit(job).result()

    def get(self, uuid: str) -> Run:
        """Raises NotFound."""
        row = self._db.row(f"SELECT {_COLUMNS} FROM runs WHERE uuid = ?", (uuid,))
        if row is None:
            raise missing("Read a run", uuid)
        return self._whole([row])[0]

    def many(self, ids: Sequence[int]) -> list[Run]:
        """The runs of these row numbers, in this order."""
        query = f"SELECT {_COLUMNS} FROM runs WHERE id IN (SELECT value FROM json_each(?))"
        rows = {row["id"]: row for row in self._db.rows(query, (json.dumps(list(ids)),))}
        return self._whole([rows[id] for id in ids if id in rows])

    def tagged(self, key: str, values: Sequence[str]) -> list[Run]:
        """The runs, newest first, whose tag is one of these values; not those that were deleted. At most 1,000."""
        rows = self._db.rows(
            """SELECT runs.id FROM tags JOIN runs ON runs.id = run WHERE deleted IS NULL AND key = ?
               AND value IN (SELECT value FROM json_each(?)) ORDER BY started DESC, uuid LIMIT 1000""",
            (self._keys.find(key), json.dumps(list(values))),
        )
        return self.many([row[0] for row in rows])

    def history(self, uuid: str, key: str, limit: int, after: tuple[int, int, float] | None = None) -> list[Metric]:
        """The points of a metric by step, time and value; ``after`` one of them. Raises NotFound."""
        run = self._number("Read a metric's history", uuid)
        id = self._keys.find(key)
        if id is None:
            return []
        beyond = "AND (step, time, value) > (?, ?, ?)" if after else ""
        rows = self._db.rows(
            f"SELECT step, time, value FROM points WHERE run = ? AND key = ? {beyond} "
            "ORDER BY step, time, value LIMIT ?",
            (run, id, *((*after[:2], stored(after[2])) if after else ()), limit),
        )
        return [Metric(key, float(row[2]), row[1], row[0]) for row in rows]

    def interval(self, uuid: str, key: str, start: int, end: int, most: int) -> list[Metric]:
        """At most so many points of a metric within steps, spread evenly; the first and last step are among them."""
        run = self._number("Read a metric's history", uuid)
        id = self._keys.find(key)
        count = self._db.rows(
            "SELECT count(*) FROM points WHERE run = ? AND key = ? AND step BETWEEN ? AND ?", (run, id, start, end)
        )[0][0]
        every = max(1, -(-count // max(1, most - 1)))
        rows = self._db.rows(
            """SELECT step, time, value FROM (
                   SELECT step, time, value, row_number() OVER (ORDER BY step, time, value) - 1 AS place
                   FROM points WHERE run = ? AND key = ? AND step BETWEEN ? AND ?)
               WHERE place % ? = 0 OR place = ? ORDER BY step, time, value""",
            (run, id, start, end, every, count - 1),
        )
        return [Metric(key, float(row[2]), row[1], row[0], run=uuid) for row in rows]

    def points(self, uuid: str) -> dict[str, int]:
        """How many points each metric of a run has."""
        query = """SELECT name, (SELECT count(*) FROM points WHERE run = latest.run AND key = latest.key)
                   FROM latest JOIN keys ON keys.id = key WHERE run = ?"""
        return {row[0]: row[1] for row in self._db.rows(query, (self._number("Read a run", uuid),))}

    def curve(self, uuid: str, key: str, places: int = PLACES) -> Curve:
        """A metric to be drawn: its first and last point, and the lowest and highest of each of so many stretches.

        Stretches are of steps, or of time where it was logged without steps. Raises NotFound.
        """
        return draw(self._db, self._number("Draw a metric", uuid), self._keys.find(key), places)

    def _number(self, attempted: str, uuid: str) -> int:
        row = self._db.row("SELECT id FROM runs WHERE uuid = ?", (uuid,))
        if row is None:
            raise missing(attempted, uuid)
        number: int = row[0]
        return number

    def _whole(self, rows: Iterable[sqlite3.Row]) -> list[Run]:
        made = {row["id"]: _run(row) for row in rows}
        within = "WHERE run IN (SELECT value FROM json_each(?))"
        ids = (json.dumps(list(made)),)
        named = f"JOIN keys ON keys.id = key {within}"
        for run, key, value in self._db.rows(f"SELECT run, keys.name, value FROM params {named}", ids):
            made[run].params[key] = value
        for run, key, value in self._db.rows(f"SELECT run, keys.name, value FROM tags {named}", ids):
            made[run].tags[key] = value
        for run, key, value, at, step in self._db.rows(
            f"SELECT run, keys.name, value, time, step FROM latest {named}", ids
        ):
            made[run].metrics.append(Metric(key, float(value), at, step))
        joined = f"JOIN datasets ON datasets.id = dataset {within} ORDER BY run, dataset"
        for run, tags, *fields in self._db.rows(
            f"SELECT run, tags, name, digest, source_type, source, schema, profile FROM inputs {joined}", ids
        ):
            made[run].inputs.append(Input(Dataset(*fields), json.loads(tags)))
        for run, model, role, step in self._db.rows(f"SELECT run, model, role, step FROM run_models {within}", ids):
            (made[run].used if role == INPUT else made[run].made).append(Link(model, step))
        return list(made.values())


def _run(row: sqlite3.Row) -> Run:
    return Run(
        id=row["uuid"],
        experiment=row["experiment"],
        name=row["name"],
        user=row["user"],
        status=row["status"],
        started=row["started"],
        ended=row["ended"],
        deleted=row["deleted"],
        metrics=[],
        params={},
        tags={},
        inputs=[],
        used=[],
        made=[],
    )


def stored(value: float) -> float | str:
    """A metric's value as the database holds it."""
    return NAN if math.isnan(value) else value


def missing(attempted: str, uuid: str) -> NotFound:
    """What is said of a run that there is not."""
    return NotFound(attempted, f"Run with id={shown(uuid)} not found")


class Standing(NamedTuple):
    """A run's row number, how it stands, when it was deleted, and when a registered version froze it."""

    number: int
    status: str
    deleted: int | None
    frozen: int | None


def find(connection: sqlite3.Connection, attempted: str, uuid: str) -> Standing:
    """Raises NotFound."""
    row = connection.execute("SELECT id, status, deleted, frozen FROM runs WHERE uuid = ?", (uuid,)).fetchone()
    if row is None:
        raise missing(attempted, uuid)
    return Standing(*row)


def active(connection: sqlite3.Connection, attempted: str, uuid: str) -> int:
    """The row number of a run that may be changed. Raises NotFound, Usage for one that was deleted, Frozen."""
    run = find(connection, attempted, uuid)
    if run.frozen is not None and run.status in ENDED:
        raise frozen(attempted, f"run {uuid}")
    if run.deleted is not None:
        raise Usage(
            attempted, f"The run {uuid} must be in the 'active' state. Current state is deleted", "Restore it first."
        )
    return run.number


def rename(connection: sqlite3.Connection, keys: Keys, run: int, name: str) -> None:
    """Give a run a name; the tag that clients look at says the same."""
    connection.execute("UPDATE runs SET name = ? WHERE id = ?", (name, run))
    connection.execute("INSERT OR REPLACE INTO tags VALUES (?, ?, ?)", (run, keys.id(connection, NAME_TAG), name))
