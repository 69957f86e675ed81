"""The history of repairs: which rule, by whom, why, what it did, and which events came of which items.

The log itself says that an item was re-entered, by whose rule. Here stand the reason and the counts, and the rule's
text lies among the blobs under its digest.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from sampan.base.clock import Clock
from sampan.base.digests import digest_bytes
from sampan.base.errors import NotFound, Usage
from sampan.base.ids import new_id
from sampan.log.quarantine import Repaired
from sampan.store.blobs import Blobs
from sampan.store.database import Database


class Told(msgspec.Struct, frozen=True):
    """What whoever applies a rule says of it. The text is kept to be read, and never run."""

    text: str = ""
    name: str = ""
    reason: str = ""

    def keep_text(self, blobs: Blobs, digest: str) -> None:
        """Put the rule's text where its digest finds it. Raises Usage if it is another's."""
        raw = self.text.encode()
        if raw and digest_bytes(raw) != digest:
            raise Usage(
                "Keep a repair rule", f"its text does not have the digest {digest[:16]}", "Send both of one file."
            )
        if raw:
            blobs.put(raw)


class RepairRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One application of a rule."""

    id: str
    rule: str  # SHA-256 of its text
    name: str  # the file it was read from
    author: str
    reason: str
    accepted: int
    duplicate: int
    left: int
    wrong: int
    created: int


_EVER: Final = 1 << 62
_COLUMNS: Final = RepairRecord.__struct_fields__
_NAMES: Final = ", ".join(f'"{name}"' for name in _COLUMNS)  # "left" is a word of SQL


class Repairs:
    """The records of repairs. Writing needs the writable records."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    def add(self, done: Repaired, *, name: str, reason: str) -> RepairRecord:
        """Keep what a repair did."""
        made = RepairRecord(
            id=new_id(self._clock),
            rule=done.rule,
            name=name,
            author=done.author,
            reason=reason,
            accepted=done.accepted,
            duplicate=done.duplicate,
            left=done.left,
            wrong=done.wrong,
            created=self._clock.micros(),
        )
        marks = ", ".join("?" * len(_COLUMNS))
        with self._db.transaction() as records:
            records.execute(f"INSERT INTO repairs ({_NAMES}) VALUES ({marks})", msgspec.structs.astuple(made))
            records.executemany(
                "INSERT OR IGNORE INTO repaired (item, event, repair) VALUES (?, ?, ?)",
                [(item, event, made.id) for item, event in done.events.items()],
            )
        return made

    def list(self, limit: int = 100, by: int | None = None) -> Sequence[RepairRecord]:
        """The newest first; ``by``: of those that there were at that instant."""
        sql = "SELECT * FROM repairs WHERE created <= ? ORDER BY created DESC, id DESC LIMIT ?"
        return [RepairRecord(**dict(row)) for row in self._db.rows(sql, (_EVER if by is None else by, limit))]

    def repaired(self, by: int) -> set[str]:
        """The items that had been re-entered at an instant."""
        sql = "SELECT item FROM repaired JOIN repairs ON repairs.id = repaired.repair WHERE created <= ?"
        return {row["item"] for row in self._db.rows(sql, (by,))}

    def get(self, id: str) -> RepairRecord:
        """A repair by its id. Raises NotFound."""
        row = self._db.row("SELECT * FROM repairs WHERE id = ?", (id,))
        if row is None:
            raise NotFound(f"Open the repair {id[:60]!r}", "there is none of that id", "/quarantine lists them.")
        return RepairRecord(**dict(row))

    def events(self, id: str, limit: int = 100) -> dict[str, str]:
        """The events that came of items, item → event."""
        rows = self._db.rows("SELECT item, event FROM repaired WHERE repair = ? ORDER BY rowid LIMIT ?", (id, limit))
        return {row["item"]: row["event"] for row in rows}

    def of(self, position: str) -> tuple[str, str, RepairRecord] | None:
        """Item, event and repair that a position has to do with, as the one or the other."""
        row = self._db.row("SELECT * FROM repaired WHERE item = ? OR event = ?", (position, position))
        return None if row is None else (row["item"], row["event"], self.get(row["repair"]))
