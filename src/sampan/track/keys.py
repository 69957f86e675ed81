"""Names of metrics, parameters and tags, by number: written once, however many runs use them."""

import sqlite3
from typing import Final

from sampan.store.database import Database

_KEPT: Final = 100_000


class Keys:
    """Numbers of names; those that the writer used are kept in memory."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._ids: dict[str, int] = {}  # of the writer: those of a change that is taken back go

    def id(self, connection: sqlite3.Connection, name: str) -> int:
        """The number of a name, which it gets if it has none; for the writer."""
        found = self._ids.get(name)
        if found is None:
            connection.execute("INSERT INTO keys (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
            found = connection.execute("SELECT id FROM keys WHERE name = ?", (name,)).fetchone()[0]
            if len(self._ids) >= _KEPT:
                self._ids.clear()
            self._ids[name] = found
        return found

    def forget(self) -> None:
        """A change was taken back: numbers that it gave may be given to others."""
        self._ids.clear()

    def find(self, name: str) -> int | None:
        """The number of a name; None if nothing has it."""
        row = self._db.row("SELECT id FROM keys WHERE name = ?", (name,))
        return None if row is None else row[0]
