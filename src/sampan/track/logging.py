"""What is logged into a run: metrics, parameters, tags, inputs, models that went in or came out.

Sent again, all of it is as it was: a point is kept once, a parameter may be said twice but not changed.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final

from sampan.base.errors import NotFound, Usage
from sampan.track import limits
from sampan.track.keys import Keys
from sampan.track.limits import check_count, check_key, check_length, check_whole, shown
from sampan.track.records import CONTEXT_TAG, INPUT, NAME_TAG, OUTPUT, Input, Link, Metric
from sampan.track.runs import active, rename, stored
from sampan.track.schema import NAN
from sampan.track.writer import Writer

_POINT: Final = "INSERT OR IGNORE INTO points (run, key, step, time, value) VALUES (?, ?, ?, ?, ?)"
_LATEST: Final = """INSERT INTO latest (run, key, step, time, value) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (run, key) DO UPDATE SET step = excluded.step, time = excluded.time, value = excluded.value
    WHERE (excluded.step, excluded.time, excluded.value) > (latest.step, latest.time, latest.value)"""
_MEASURED: Final = """INSERT OR IGNORE INTO model_metrics (model, key, run, dataset, digest, step, time, value)
    SELECT id, ?, ?, ?, ?, ?, ?, ? FROM models WHERE uuid = ?"""

#: Run, key, step, time and value of a point, as they are kept.
Row = tuple[int, int, int, int, float | str]


class Logging:
    """Takes what runs log. Futures are done once it is kept."""

    def __init__(self, writer: Writer, keys: Keys) -> None:
        self._writer, self._keys = writer, keys

    def log(
        self,
        run: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[tuple[str, str]] = (),
        tags: Sequence[tuple[str, str]] = (),
        *,
        attempted: str = "Log a batch",
    ) -> "Future[None]":
        """All of a batch, or nothing of it. Raises Usage at once; the future, NotFound and Usage."""
        _check_batch(attempted, metrics, params, tags)

        def job(connection: sqlite3.Connection) -> None:
            number = active(connection, attempted, run)
            if params:
                self._params(connection, attempted, number, run, params)
            if metrics:
                self._metrics(connection, number, run, metrics)
            for key, value in tags:
                if key == NAME_TAG:
                    rename(connection, self._keys, number, value)
                else:
                    row = (number, self._keys.id(connection, key), value)
                    connection.execute("INSERT OR REPLACE INTO tags VALUES (?, ?, ?)", row)

        return self._writer.submit(job, synced=False)

    def _metrics(self, connection: sqlite3.Connection, number: int, run: str, metrics: Sequence[Metric]) -> None:
        ids = {key: self._keys.id(connection, key) for key in {one.key for one in metrics}}
        rows: list[Row] = [
            (number, ids[one.key], one.step, one.time, one.value if one.value == one.value else NAN) for one in metrics
        ]
        newest: dict[int, Row] = {}
        for row in rows:
            known = newest.get(row[1])
            if known is None or row[2] > known[2] or (row[2] == known[2] and _order(row) > _order(known)):
                newest[row[1]] = row
        connection.executemany(_POINT, rows)
        connection.executemany(_LATEST, newest.values())
        measured = [
            (one.key, run, one.dataset, one.digest, one.step, one.time, stored(one.value), one.model)
            for one in metrics
            if one.model
        ]
        if measured:
            connection.executemany(_MEASURED, measured)

    def _params(
        self,
        connection: sqlite3.Connection,
        attempted: str,
        number: int,
        run: str,
        params: Sequence[tuple[str, str]],
    ) -> None:
        for key, value in params:
            id = self._keys.id(connection, key)
            known = connection.execute("SELECT value FROM params WHERE run = ? AND key = ?", (number, id)).fetchone()
            if known is None:
                connection.execute("INSERT INTO params VALUES (?, ?, ?)", (number, id, value))
            elif known[0] != value:
                raise Usage(
                    attempted,
                    f"Changing param values is not allowed. Param with key={shown(key)} was already logged with "
                    f"value={shown(known[0])} for run ID={run!r}, not {shown(value)}",
                    "Log it under another name, or into another run.",
                )

    def append(self, run: str, key: str, record: Mapping[str, Any]) -> None:
        """Add a record to those that a tag lists, as JSON. Raises Usage, NotFound."""
        attempted = f"Add to the tag {key} of run {shown(run)}"

        def job(connection: sqlite3.Connection) -> None:
            row = (active(connection, attempted, run), self._keys.id(connection, key))
            known = connection.execute("SELECT value FROM tags WHERE run = ? AND key = ?", row).fetchone()
            records = [*(json.loads(known[0]) if known else []), record]
            text = json.dumps(records)
            check_length(attempted, "the tag", text, limits.RECORDS)
            connection.execute("INSERT OR REPLACE INTO tags VALUES (?, ?, ?)", (*row, text))

        self._writer.submit(job).result()

    def delete_tag(self, run: str, key: str) -> None:
        """Raises NotFound."""
        attempted = f"Delete a tag of run {shown(run)}"

        def job(connection: sqlite3.Connection) -> None:
            number = active(connection, attempted, run)
            gone = connection.execute(
                "DELETE FROM tags WHERE run = ? AND key = (SELECT id FROM keys WHERE name = ?)", (number, key)
            )
            if not gone.rowcount:
                raise NotFound(attempted, f"no tag with name {shown(key)} in run with id {shown(run)}")

        self._writer.submit(job).result()

    def inputs(self, run: str, inputs: Sequence[Input], models: Sequence[Link] = ()) -> None:
        """Datasets that a run read, and models that went into it. Raises Usage, NotFound."""
        attempted = f"Log inputs of run {shown(run)}"
        check_count(attempted, "datasets", len(inputs), limits.DATASETS_PER_BATCH)
        for one in inputs:
            _check_input(attempted, one)

        def job(connection: sqlite3.Connection) -> None:
            number = active(connection, attempted, run)
            for one in inputs:
                _keep_input(connection, number, one)
            _keep_links(connection, attempted, number, INPUT, models)

        self._writer.submit(job).result()

    def outputs(self, run: str, models: Sequence[Link]) -> None:
        """Models that came out of a run. Raises NotFound."""
        attempted = f"Log outputs of run {shown(run)}"

        def job(connection: sqlite3.Connection) -> None:
            _keep_links(connection, attempted, active(connection, attempted, run), OUTPUT, models)

        self._writer.submit(job).result()


def _keep_input(connection: sqlite3.Connection, run: int, given: Input) -> None:
    dataset = given.dataset
    (experiment,) = connection.execute("SELECT experiment FROM runs WHERE id = ?", (run,)).fetchone()
    connection.execute(
        """INSERT INTO datasets (experiment, name, digest, source_type, source, schema, profile)
           VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING""",
        (
            experiment,
            dataset.name,
            dataset.digest,
            dataset.source_type,
            dataset.source,
            dataset.schema,
            dataset.profile,
        ),
    )
    connection.execute(
        """INSERT OR REPLACE INTO inputs (run, dataset, tags, context)
           SELECT ?, id, ?, ? FROM datasets WHERE experiment = ? AND name = ? AND digest = ?""",
        (run, json.dumps(given.tags), given.tags.get(CONTEXT_TAG), experiment, dataset.name, dataset.digest),
    )


def _keep_links(connection: sqlite3.Connection, attempted: str, run: int, role: str, models: Sequence[Link]) -> None:
    for one in models:
        if connection.execute("SELECT 1 FROM models WHERE uuid = ?", (one.model,)).fetchone() is None:
            raise NotFound(attempted, f"logged model with ID {shown(one.model)} not found")
        row = (run, one.model, role, one.step)
        connection.execute("INSERT OR IGNORE INTO run_models (run, model, role, step) VALUES (?, ?, ?, ?)", row)


def _order(row: Row) -> tuple[int, int, bool, float]:
    """As the database compares points: a text is more than any number."""
    value = row[4]
    return (row[2], row[3], True, 0.0) if isinstance(value, str) else (row[2], row[3], False, value)


def _check_batch(
    attempted: str,
    metrics: Sequence[Metric],
    params: Sequence[tuple[str, str]],
    tags: Sequence[tuple[str, str]],
) -> None:
    check_count(attempted, "metrics", len(metrics), limits.METRICS_PER_BATCH)
    check_count(attempted, "params", len(params), limits.PARAMS_PER_BATCH)
    check_count(attempted, "tags", len(tags), limits.TAGS_PER_BATCH)
    check_count(attempted, "metrics, params, and tags", len(metrics) + len(params) + len(tags), limits.VALUES_PER_BATCH)
    good: set[str] = set()
    for place, one in enumerate(metrics):
        if one.key not in good:
            check_key(_at(attempted, "metrics", place, len(metrics)), one.key)
            good.add(one.key)
        if not (0 <= one.time <= limits.LARGEST and -limits.LARGEST <= one.step <= limits.LARGEST):
            where = _at(attempted, "metrics", place, len(metrics))
            check_whole(where, "timestamp", one.time, 0)
            check_whole(where, "step", one.step)
    for place, (key, value) in enumerate(params):
        check_key(_at(attempted, "params", place, len(params)), key)
        check_length(
            _at(attempted, "params", place, len(params)), f"Param value of {shown(key)}", value, limits.PARAM_VALUE
        )
    for place, (key, value) in enumerate(tags):
        check_key(_at(attempted, "tags", place, len(tags)), key)
        check_length(_at(attempted, "tags", place, len(tags)), f"the value of {shown(key)}", value, limits.TAG_VALUE)


def _at(attempted: str, what: str, place: int, of: int) -> str:
    """What was attempted, and which of several was at fault."""
    return f"{attempted}, {what}[{place}]" if of > 1 else attempted


def _check_input(attempted: str, given: Input) -> None:
    dataset = given.dataset
    for what, value in (("name", dataset.name), ("digest", dataset.digest)):
        if not value:
            raise Usage(attempted, f"a dataset's {what} is empty", f"Give every dataset a {what}.")
    for what, text, limit in (
        ("the dataset's name", dataset.name, limits.DATASET_NAME),
        ("the dataset's digest", dataset.digest, limits.DATASET_DIGEST),
        ("the dataset's source", dataset.source, limits.DATASET_SOURCE),
        ("the dataset's schema", dataset.schema or "", limits.DATASET_SCHEMA),
        ("the dataset's profile", dataset.profile or "", limits.DATASET_PROFILE),
    ):
        check_length(attempted, what, text, limit)
    for key, value in given.tags.items():
        check_length(attempted, "an input tag's key", key, limits.INPUT_TAG_KEY)
        check_length(attempted, "an input tag's value", value, limits.INPUT_TAG_VALUE)
