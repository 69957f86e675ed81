"""Logged runs and experiments by a word, for a search field: at any volume, and no more of them than are shown."""

from typing import NamedTuple

from sampan.store.database import Database, sql_holding


class Found(NamedTuple):
    """A run, or an experiment where ``run`` is empty."""

    experiment: int
    run: str
    name: str
    of: str


class Lookup:
    """Looks through ids and names."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def find(self, word: str, limit: int) -> list[Found]:
        """Experiments whose name holds a word, and runs whose id begins with it or whose name holds it, the newest
        first; of each at most ``limit``."""
        like = sql_holding(word)
        experiments = self._db.rows(
            "SELECT id, '', name, '' FROM experiments WHERE deleted IS NULL AND name LIKE ? ESCAPE '\\'"
            " ORDER BY updated DESC LIMIT ?",
            (like, limit),
        )
        columns = "SELECT experiments.id, uuid, runs.name, experiments.name FROM runs"
        joined = "JOIN experiments ON experiments.id = experiment WHERE runs.deleted IS NULL"
        by_id = self._db.rows(
            f"{columns} {joined} AND uuid >= ? AND uuid < ? LIMIT ?", (word, f"{word}\U0010ffff", limit)
        )
        by_name = self._db.rows(
            f"{columns} {joined} AND runs.name LIKE ? ESCAPE '\\' ORDER BY runs.id DESC LIMIT ?", (like, limit)
        )
        return [Found(*row) for row in (*experiments, *by_id, *by_name)]
