"""Logged models, as far as MLflow 3's clients make and read them: what a run logged, before anybody registers it."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from sampan.base.clock import Clock
from sampan.base.errors import NotFound, Usage
from sampan.store.database import Database
from sampan.track import page
from sampan.track.experiments import living, millis, new_uuid
from sampan.track.filter import MODELS, parse
from sampan.track.freezing import REGISTERED_TAG, check_free
from sampan.track.limits import EXPERIMENT_NAME, PARAM_VALUE, TAG_VALUE, check_count, check_key, check_length, shown
from sampan.track.order import parse_orders
from sampan.track.records import LoggedModel, Metric
from sampan.track.search import WITHIN, Page, check_limit
from sampan.track.sql import Shape, order_by, where
from sampan.track.writer import Writer

PENDING: Final = "LOGGED_MODEL_PENDING"
STATUSES: Final = ("LOGGED_MODEL_STATUS_UNSPECIFIED", PENDING, "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED")
PER_PAGE: Final = 50_000
_COLUMNS: Final = "id, uuid, experiment, name, kind, run, status, created, updated, deleted"
_STATUS: Final = "replace(o.status, 'LOGGED_MODEL_', '')"
_SHAPE: Final = Shape(
    columns={
        "name": "o.name",
        "model_id": "o.uuid",
        "model_type": "o.kind",
        "status": _STATUS,
        "source_run_id": "o.run",
        **dict.fromkeys(("creation_timestamp", "creation_time"), "o.created"),
        **dict.fromkeys(("last_updated_timestamp", "last_updated_time"), "o.updated"),
    },
    values={
        "metric": "(SELECT model, key, max(value) AS value FROM model_metrics GROUP BY model, key)",
        "param": "model_params",
        "tag": "model_tags",
    },
    owner="model",
    key=lambda name: name,
)


class LoggedModels:
    """The logged models of a workspace."""

    def __init__(self, db: Database, writer: Writer, clock: Clock) -> None:
        self._db, self._writer, self._clock = db, writer, clock

    def create(
        self, experiment: int, name: str, kind: str, run: str, params: Mapping[str, str], tags: Mapping[str, str]
    ) -> LoggedModel:
        """Raises Usage, NotFound."""
        attempted = f"Create the logged model {shown(name)}"
        check_length(attempted, "name", name, EXPERIMENT_NAME)
        if bad := sorted(set(name) & set("/:.%\"'")):
            raise Usage(
                attempted, f"invalid name: {bad[0]!r} in it", "Leave out slashes, colons, periods, % and quotes."
            )
        check_length(attempted, "model_type", kind, EXPERIMENT_NAME)
        _check(attempted, params, tags)
        uuid, now = f"m-{new_uuid(self._clock)}", millis(self._clock)

        def job(connection: sqlite3.Connection) -> None:
            living(connection, attempted, experiment)
            id = connection.execute(
                """INSERT INTO models (uuid, experiment, name, kind, run, status, created, updated)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
                (uuid, experiment, name or uuid, kind, run, PENDING, now, now),
            ).lastrowid
            _keep(connection, "model_params", id, params)
            _keep(connection, "model_tags", id, tags)

        self._writer.submit(job).result()
        return self.get(uuid)

    def change(
        self,
        uuid: str,
        *,
        status: str = "",
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> LoggedModel:
        """Say how it stands, add parameters, set tags. Raises Usage, NotFound."""
        attempted = f"Change the logged model {shown(uuid)}"
        if status and status not in STATUSES:
            raise Usage(attempted, f"invalid status {shown(status)}", f"Valid are {', '.join(STATUSES)}.")
        _check(attempted, params or {}, tags or {})
        now = millis(self._clock)

        def job(connection: sqlite3.Connection) -> None:
            id = _living(connection, attempted, uuid)
            if params or set(tags or {}) - {REGISTERED_TAG} or (status and not _stands(connection, id, status)):
                check_free(connection, attempted, uuid)
            if status:
                connection.execute("UPDATE models SET status = ? WHERE id = ?", (status, id))
            _keep(connection, "model_params", id, params or {})
            _keep(connection, "model_tags", id, tags or {})
            connection.execute("UPDATE models SET updated = ? WHERE id = ?", (now, id))

        self._writer.submit(job).result()
        return self.get(uuid)

    def delete_tag(self, uuid: str, key: str) -> None:
        """Raises NotFound."""
        attempted = f"Delete a tag of the logged model {shown(uuid)}"

        def job(connection: sqlite3.Connection) -> None:
            id = _living(connection, attempted, uuid)
            check_free(connection, attempted, uuid)
            if not connection.execute("DELETE FROM model_tags WHERE model = ? AND key = ?", (id, key)).rowcount:
                raise NotFound(attempted, f"it has no tag with key {shown(key)}")

        self._writer.submit(job).result()

    def delete(self, uuid: str) -> None:
        """Put it out of sight. Raises NotFound."""
        attempted, now = f"Delete the logged model {shown(uuid)}", millis(self._clock)

        def job(connection: sqlite3.Connection) -> None:
            id = _living(connection, attempted, uuid)
            check_free(connection, attempted, uuid)
            connection.execute("UPDATE models SET deleted = ?, updated = ? WHERE id = ?", (now, now, id))

        self._writer.submit(job).result()

    def get(self, uuid: str, *, deleted: bool = False) -> LoggedModel:
        """Raises NotFound; for one that was deleted, too, unless ``deleted``."""
        row = self._db.row(f"SELECT {_COLUMNS} FROM models WHERE uuid = ?", (uuid,))
        if row is None or (row["deleted"] is not None and not deleted):
            raise _missing("Read a logged model", uuid)
        return self._whole([row])[0]

    def search(
        self,
        experiments: Sequence[int],
        filter: str = "",
        *,
        orders: Sequence[tuple[str, bool]] = (),
        limit: int = 50,
        token: str = "",
    ) -> Page:
        """Logged models of experiments, newest first unless ordered. Raises Usage."""
        check_limit(limit, PER_PAGE)
        found = where(parse(filter, MODELS, "Search logged models"), _SHAPE)
        written = [f"{name} {'ASC' if ascending else 'DESC'}" for name, ascending in orders]
        joins, order = order_by(parse_orders(written, MODELS), _SHAPE, ("o.created DESC", "o.uuid"))
        asked = page.question("models", sorted(experiments), filter, written)
        place = page.place_of(token, asked) or page.Place(asked, [0])
        start = page.number(place.after[0] if place.after else None)
        columns = ", ".join(f"o.{name}" for name in _COLUMNS.split(", "))
        given: list[Any] = [*joins.given, json.dumps(list(experiments)), *found.given, limit + 1, start]
        rows = self._db.rows(
            f"SELECT {columns} FROM models AS o {joins.text} WHERE o.deleted IS NULL AND {WITHIN} AND {found.text} "
            f"ORDER BY {order} LIMIT ? OFFSET ?",
            given,
        )
        more = page.token(page.Place(asked, [start + limit])) if len(rows) > limit else ""
        return Page(self._whole(rows[:limit]), more)

    def _whole(self, rows: Sequence[sqlite3.Row]) -> list[LoggedModel]:
        made = {
            row["id"]: LoggedModel(
                id=row["uuid"],
                experiment=row["experiment"],
                name=row["name"],
                kind=row["kind"],
                run=row["run"],
                status=row["status"],
                created=row["created"],
                updated=row["updated"],
                deleted=row["deleted"],
                params={},
                tags={},
                metrics=[],
            )
            for row in rows
        }
        within = "WHERE model IN (SELECT value FROM json_each(?))"
        ids = (json.dumps(list(made)),)
        for model, key, value in self._db.rows(f"SELECT model, key, value FROM model_params {within}", ids):
            made[model].params[key] = value
        for model, key, value in self._db.rows(f"SELECT model, key, value FROM model_tags {within}", ids):
            made[model].tags[key] = value
        for model, *fields in self._db.rows(
            f"SELECT model, key, value, time, step, run, dataset, digest FROM model_metrics {within}", ids
        ):
            key, value, time, step, run, dataset, digest = fields
            uuid = made[model].id
            made[model].metrics.append(Metric(key, float(value), time, step, uuid, dataset, digest, run))
        return list(made.values())


def _keep(
    connection: sqlite3.Connection,
    table: Literal["model_params", "model_tags"],
    model: int | None,
    values: Mapping[str, str],
) -> None:
    rows = [(model, key, value) for key, value in values.items()]
    connection.executemany(f"INSERT OR REPLACE INTO {table} (model, key, value) VALUES (?, ?, ?)", rows)


def _check(attempted: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
    for what, given, limit in (("params", params, PARAM_VALUE), ("tags", tags, TAG_VALUE)):
        check_count(attempted, what, len(given), 1000)
        for key, value in given.items():
            check_key(attempted, key)
            check_length(attempted, f"the value of {shown(key)}", value, limit)


def _stands(connection: sqlite3.Connection, id: int, status: str) -> bool:
    row = connection.execute("SELECT status FROM models WHERE id = ?", (id,)).fetchone()
    return row is not None and row[0] == status


def _missing(attempted: str, uuid: str) -> NotFound:
    return NotFound(attempted, f"Logged model with ID {shown(uuid)} not found")


def _living(connection: sqlite3.Connection, attempted: str, uuid: str) -> int:
    row = connection.execute("SELECT id, deleted FROM models WHERE uuid = ?", (uuid,)).fetchone()
    if row is None or row[1] is not None:
        raise _missing(attempted, uuid)
    number: int = row[0]
    return number
