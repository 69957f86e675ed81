"""What things were, and from when on: appended, never changed.

Most records say by themselves what held at a time. Those that are written over (a run's state, a branch, what a
contract says, the settings) leave here what they were, so that a question as of a time has its answer.
"""

from typing import Any, Final

import msgspec

from sampan.store.database import Database

_TEXT: Final = msgspec.json.Encoder(order="sorted")


class State(msgspec.Struct, frozen=True):
    """What a thing was from an instant on (microseconds); None: it was gone."""

    value: Any
    since: int


class States:
    """The states of one kind of thing, by name."""

    def __init__(self, db: Database, kind: str) -> None:
        self._db, self._kind = db, kind

    def put(self, name: str, value: Any, at: int) -> bool:
        """Append what a thing is from an instant on; False, and nothing is written, if that is what it was."""
        text = _TEXT.encode(value).decode()
        with self._db.transaction() as records:
            last = records.execute(
                "SELECT value FROM states WHERE kind = ? AND name = ? ORDER BY rowid DESC LIMIT 1", (self._kind, name)
            ).fetchone()
            if last is not None and last["value"] == text:
                return False
            records.execute(
                "INSERT INTO states (kind, name, value, since) VALUES (?, ?, ?, ?)", (self._kind, name, text, at)
            )
        return True

    def at(self, name: str, by: int) -> State | None:
        """What a thing was at an instant; None where that was not written down."""
        row = self._db.row(
            "SELECT value, since FROM states WHERE kind = ? AND name = ? AND since <= ? ORDER BY rowid DESC LIMIT 1",
            (self._kind, name, by),
        )
        return None if row is None else _state(row)

    def all(self, by: int) -> dict[str, State]:
        """What each thing was at an instant, as far as that was written down."""
        rows = self._db.rows(
            "SELECT name, value, since FROM states WHERE kind = ? AND since <= ? ORDER BY rowid", (self._kind, by)
        )
        return {row["name"]: _state(row) for row in rows}

    def first(self, name: str) -> int | None:
        """From when on a thing's states were written down."""
        row = self._db.row("SELECT min(since) AS at FROM states WHERE kind = ? AND name = ?", (self._kind, name))
        return None if row is None else row["at"]


def _state(row: Any) -> State:
    return State(msgspec.json.decode(row["value"]), row["since"])
