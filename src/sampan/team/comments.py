"""What people say of anything that has a name: comments, in the order in which they were made, with who made them."""

from typing import Any, Final

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import NotFound, Refused, Usage
from sampan.base.ids import new_id
from sampan.store.database import Database, sql_holding

#: Characters that a comment may have.
LONGEST: Final = 10_000
_EVER: Final = 2**62
_COLUMNS: Final = "id, object, text, actor, at, withdrawn IS NOT NULL"


class Comment(msgspec.Struct, frozen=True):
    """``object``: a kind and a name, ``table orders``; ``at`` in microseconds. ``text`` is empty where the comment is
    ``withdrawn``."""

    id: str
    object: str
    text: str
    actor: str
    at: int
    withdrawn: bool = False


class Comments:
    """The comments on each object. None is changed; one that its author withdraws keeps its place without its text.

    Writing needs the records' lock; reading does not.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    def add(self, object: str, text: str, *, actor: str) -> Comment:
        """Say something of an object. Raises Usage for an empty text, one that is too long, or one that is no text."""
        attempted = f"Comment on {object[:100]}"
        text = text.replace("\r\n", "\n").strip()
        if not 0 < len(text) <= LONGEST:
            raise Usage(attempted, f"the text has {len(text)} characters", f"It may have 1 to {LONGEST}.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            where = f"its character {error.start + 1} is no character of Unicode"
            raise Usage(attempted, where, "Write it as UTF-8.") from None
        made = Comment(new_id(self._clock), object, text, actor, self._clock.micros())
        with self._db.transaction() as records:
            records.execute(
                "INSERT INTO comments (id, object, text, actor, at) VALUES (?, ?, ?, ?, ?)",
                (made.id, made.object, made.text, made.actor, made.at),
            )
        return made

    def withdraw(self, id: str, *, actor: str) -> Comment:
        """Put one's own comment out of sight. Raises NotFound, and Refused for a comment of somebody else's."""
        attempted = f"Withdraw the comment {id[:40]}"
        row = self._db.row(f"SELECT {_COLUMNS} FROM comments WHERE id = ?", (id,))
        if row is None:
            raise NotFound(attempted, "there is none with this id", "`sampan comment KIND NAME` shows the ids.")
        found = _comment(row)
        if found.actor != actor:
            raise Refused(attempted, f"it is by {found.actor}, you are {actor}", "Only who made it can withdraw it.")
        with self._db.transaction() as records:
            records.execute(
                "UPDATE comments SET withdrawn = ? WHERE id = ? AND withdrawn IS NULL", (self._clock.micros(), id)
            )
        return msgspec.structs.replace(found, text="", withdrawn=True)

    def of(self, object: str, by: int | None = None) -> list[Comment]:
        """The comments on an object, the oldest first; ``by``: those that there were at an instant. What has been
        withdrawn since is out of sight then, too."""
        rows = self._db.rows(
            f"SELECT {_COLUMNS} FROM comments WHERE object = ? AND at <= ? ORDER BY at, rowid",
            (object, _EVER if by is None else by),
        )
        return [_comment(row) for row in rows]

    def all(self, kind: str, by: int | None = None) -> dict[str, list[Comment]]:
        """The comments on every object of a kind (``column``), by the object's name, the oldest first."""
        rows = self._db.rows(
            f"SELECT {_COLUMNS} FROM comments WHERE object > ? AND object < ? AND at <= ? ORDER BY at, rowid",
            (f"{kind} ", f"{kind}!", _EVER if by is None else by),
        )
        found: dict[str, list[Comment]] = {}
        for one in map(_comment, rows):
            found.setdefault(one.object.partition(" ")[2], []).append(one)
        return found

    def holding(self, word: str, limit: int) -> list[Comment]:
        """Comments that hold a word, the newest first; at most ``limit``."""
        rows = self._db.rows(
            f"SELECT {_COLUMNS} FROM comments WHERE withdrawn IS NULL AND text LIKE ? ESCAPE '\\'"
            " ORDER BY at DESC, rowid DESC LIMIT ?",
            (sql_holding(word), limit),
        )
        return [_comment(row) for row in rows]


def _comment(row: Any) -> Comment:
    id, object, text, actor, at, withdrawn = row
    return Comment(id, object, "" if withdrawn else text, actor, at, bool(withdrawn))
