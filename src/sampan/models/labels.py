"""Tags and notes of anything that has a name, with who wrote them and when: appended, never changed."""

from typing import Final, Literal

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import NotFound, Usage
from sampan.store.database import Database, sql_holding

Kind = Literal["tag", "note"]
TAG: Final[Kind] = "tag"
NOTE: Final[Kind] = "note"
_EVER: Final = 2**62
_KEY, _VALUE, _NOTE = 250, 5000, 50_000


class Label(msgspec.Struct, frozen=True):
    """A tag (``key`` and ``value``) or the note (``key`` empty) of an object, since when and by whom."""

    object: str
    kind: Kind
    key: str
    value: str
    actor: str
    since: int


class Labels:
    """The tags and the note of each object. An object is a kind and a name: ``model reorder``, ``version reorder@3``.

    Writing needs the records' lock; reading does not.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    def tag(self, object: str, key: str, value: str | None, *, actor: str) -> None:
        """Set a tag, or take it away (None). Raises Usage, NotFound for one to take away that is none."""
        attempted = f"Tag {object}"
        if not key or len(key) > _KEY:
            raise Usage(attempted, f"the key {key[:60]!r} has {len(key)} characters", f"It may have 1 to {_KEY}.")
        _check(attempted, value or "", _VALUE)
        if value is None and key not in self.tags(object):
            raise NotFound(f"Take a tag of {object} away", f"it has none with key {key[:100]!r}")
        self._put(object, TAG, key, value, actor)

    def note(self, object: str, text: str, *, actor: str) -> None:
        """Say what it is, in the place of what was said before; an empty text takes the note away. Raises Usage."""
        _check(f"Describe {object}", text, _NOTE)
        self._put(object, NOTE, "", text or None, actor)

    def tags(self, object: str, by: int | None = None) -> dict[str, str]:
        """Its tags, or those that it had at an instant."""
        return {one.key: one.value for one in self.of(object, by) if one.kind == TAG}

    def of(self, object: str, by: int | None = None) -> "list[Label]":
        """Its tags by key, and its note, each with who wrote it."""
        return self._in_force("object = ?", (object,), by)

    def all(self, kind: str, by: int | None = None) -> dict[str, list[Label]]:
        """The labels of every object of a kind (``version``), by the object's name (``reorder@3``)."""
        found: dict[str, list[Label]] = {}
        for one in self._in_force("object > ? AND object < ?", (f"{kind} ", f"{kind}!"), by):
            found.setdefault(one.object.partition(" ")[2], []).append(one)
        return found

    def holding(self, word: str, limit: int) -> "list[Label]":
        """The tags and notes in force that hold a word, the newest first; at most ``limit``."""
        like = sql_holding(word)
        rows = self._db.rows(
            """SELECT object, kind, key, value, actor, at FROM labels WHERE id IN (
                   SELECT max(id) FROM labels GROUP BY object, kind, key)
               AND (key LIKE ?1 ESCAPE '\\' OR value LIKE ?1 ESCAPE '\\') ORDER BY id DESC LIMIT ?2""",
            (like, limit),
        )
        return [Label(*row) for row in rows]

    def _in_force(self, which: str, given: tuple[str, ...], by: int | None) -> "list[Label]":
        rows = self._db.rows(
            f"""SELECT object, kind, key, value, actor, at FROM labels WHERE id IN (
                    SELECT max(id) FROM labels WHERE {which} AND at <= ? GROUP BY object, kind, key)
                AND value IS NOT NULL ORDER BY object, kind, key""",
            (*given, _EVER if by is None else by),
        )
        return [Label(*row) for row in rows]

    def _put(self, object: str, kind: Kind, key: str, value: str | None, actor: str) -> None:
        with self._db.transaction() as records:
            held = records.execute(
                "SELECT value FROM labels WHERE object = ? AND kind = ? AND key = ? ORDER BY id DESC LIMIT 1",
                (object, kind, key),
            ).fetchone()
            if (held["value"] if held is not None else None) != value:
                records.execute(
                    "INSERT INTO labels (object, kind, key, value, actor, at) VALUES (?, ?, ?, ?, ?, ?)",
                    (object, kind, key, value, actor, self._clock.micros()),
                )


def _check(attempted: str, text: str, limit: int) -> None:
    if len(text) > limit:
        raise Usage(attempted, f"the text has {len(text)} characters", f"It may have up to {limit}.")
