"""What a registered version came from stays as it was: its run, and the logged model in it.

A run that still goes on may finish what it logs; from its end on nothing of it changes. A logged model is fast at once.
"""

import sqlite3
from collections.abc import Mapping
from typing import Final

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import Frozen, NotFound, Usage
from sampan.track.experiments import millis
from sampan.track.limits import shown
from sampan.track.records import ENDED
from sampan.track.writer import Writer

#: What clients write on a logged model when a version was registered from it.
REGISTERED_TAG: Final = "mlflow.modelVersions"


class Taken(msgspec.Struct, frozen=True):
    """What is frozen: the digests of its files by path, and how it was measured and made, as far as was logged."""

    run: str
    model: str
    files: Mapping[str, str]
    metrics: Mapping[str, float]


def frozen(attempted: str, what: str) -> Frozen:
    """What is said of a change to what a registered version came from."""
    return Frozen(attempted, f"a version was registered from the {what}, which nothing changes since", "Log anew.")


def check_free(connection: sqlite3.Connection, attempted: str, owner: str) -> None:
    """Raises Frozen for a run or a logged model whose artifacts are fast."""
    run = connection.execute("SELECT status, frozen FROM runs WHERE uuid = ?", (owner,)).fetchone()
    if run is not None and run[1] is not None and run[0] in ENDED:
        raise frozen(attempted, f"run {owner}")
    model = connection.execute("SELECT frozen FROM models WHERE uuid = ?", (owner,)).fetchone()
    if model is not None and model[0] is not None:
        raise frozen(attempted, f"logged model {owner}")


class Freezer:
    """Freezes what a version is about to be registered from, and says what that is, as one act."""

    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer, self._clock = writer, clock

    def take(self, attempted: str, *, run: str = "", model: str = "", path: str = "") -> Taken:
        """The files below a path of a logged model or, where none is named, of a run.

        Of a run, a path that names no files may be the name of a logged model that it made; without a path the only
        one. Raises NotFound where there are no files, Usage where it is not clear which.
        """
        now = millis(self._clock)

        def job(connection: sqlite3.Connection) -> Taken:
            owner, below = (model, path) if model else _owner(connection, attempted, run, path)
            first = f"{below}/" if below else ""
            files = {
                place[len(first) :]: digest
                for place, digest in connection.execute(
                    "SELECT path, sha256 FROM artifacts WHERE owner = ? AND path >= ? ORDER BY path", (owner, first)
                )
                if place.startswith(first)
            }
            if not files:
                raise NotFound(
                    attempted,
                    f"there are no artifacts {'below ' + shown(below) + ' ' if below else ''}of {shown(owner)}",
                    "Log the model first: its files are what a version is.",
                )
            made_by = run
            if owner != run:
                made_by = _source(connection, attempted, owner, run)
                connection.execute("UPDATE models SET frozen = ? WHERE uuid = ? AND frozen IS NULL", (now, owner))
            connection.execute("UPDATE runs SET frozen = ? WHERE uuid = ? AND frozen IS NULL", (now, made_by))
            metrics = connection.execute(
                """SELECT keys.name, value FROM latest JOIN keys ON keys.id = key
                   JOIN runs ON runs.id = run WHERE uuid = ?""",
                (made_by,),
            )
            found = {name: value for name, value in metrics if isinstance(value, float)}
            return Taken(made_by, owner if owner != run else "", files, found)

        return self._writer.submit(job).result()


def _owner(connection: sqlite3.Connection, attempted: str, run: str, path: str) -> tuple[str, str]:
    """Whose artifacts a path of a run means, and the path among them."""
    if connection.execute("SELECT 1 FROM runs WHERE uuid = ?", (run,)).fetchone() is None:
        raise NotFound(attempted, f"Run with id={shown(run)} not found")
    if path:
        within = (run, path, f"{path}/", f"{path}0")
        query = "SELECT 1 FROM artifacts WHERE owner = ? AND (path = ? OR (path > ? AND path < ?)) LIMIT 1"
        if connection.execute(query, within).fetchone() is not None:
            return run, path
    made = [
        (uuid, name)
        for uuid, name in connection.execute(
            "SELECT uuid, name FROM models WHERE run = ? AND deleted IS NULL ORDER BY id", (run,)
        )
        if not path or name == path
    ]
    if path and made:
        return made[-1][0], ""
    if len(made) == 1:
        return made[0][0], ""
    if made:
        raise Usage(attempted, f"run {run} made {len(made)} models", f"Say which: {', '.join(n for _, n in made[:9])}.")
    return run, path


def _source(connection: sqlite3.Connection, attempted: str, model: str, run: str) -> str:
    """The run that made a logged model. Raises NotFound, Usage for another than was named."""
    row = connection.execute("SELECT run FROM models WHERE uuid = ? AND deleted IS NULL", (model,)).fetchone()
    if row is None:
        raise NotFound(attempted, f"Logged model with ID {shown(model)} not found")
    source: str = row[0]
    if run and source and run != source:
        raise Usage(attempted, f"the logged model {model} is of run {source}, not of {shown(run)}", "Name one of them.")
    return source or run
