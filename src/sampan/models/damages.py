"""Records of damage: each time that something was refused because a file of a version is not as it was kept, or that
this was seen of what serves.

Rows are added; that the file was found whole again is written to them once, and nothing else of them changes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sampan.base.clock import Clock
from sampan.base.ids import new_id
from sampan.store.blobs import Blobs
from sampan.store.database import Database


class Damage(msgspec.Struct, frozen=True):
    """What was refused, for the sake of which file of which version. ``says``: where the file lies, and what is wrong
    with it; ``over``: when it was seen whole again, or that nobody needs it any more."""

    id: str
    version: str
    file: str
    digest: str
    says: str
    attempted: str
    actor: str
    at: int
    over: int | None = None


class Damages:
    """The damage of a workspace's versions. Writing needs the writable records."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(
        self, version: str, faults: Mapping[str, tuple[str, str]], attempted: str, actor: str, clock: Clock
    ) -> None:
        """Write down that something was refused. ``faults``: by file its digest, and what is wrong with it."""
        with self._db.transaction() as records:
            for file, (digest, says) in faults.items():
                made = Damage(new_id(clock), version, file, digest, says, attempted, actor, clock.micros())
                row = msgspec.structs.astuple(made)
                records.execute(f"INSERT INTO damages VALUES ({', '.join('?' * len(row))})", row)

    def list(self, version: str, by: int | None = None, limit: int = 100) -> Sequence[Damage]:
        """What was refused for damage of a version, the newest first; ``by``: as it was known at that instant."""
        rows = self._db.rows(
            "SELECT * FROM damages WHERE version = ? AND at <= ? ORDER BY at DESC, rowid DESC LIMIT ?",
            (version, 1 << 62 if by is None else by, limit),
        )
        found = [_damage(row) for row in rows]
        return [
            msgspec.structs.replace(one, over=None)
            if by is not None and one.over is not None and one.over > by
            else one
            for one in found
        ]

    def open(self) -> Sequence[Damage]:
        """Of each damaged file the newest record, as far as it is not known to be whole again."""
        rows = self._db.rows("SELECT * FROM damages WHERE over IS NULL ORDER BY at, rowid")
        return list({(one.version, one.digest): one for one in map(_damage, rows)}.values())

    def over(self, damage: Damage, clock: Clock) -> None:
        """A file is whole again, or no longer needed."""
        with self._db.transaction() as records:
            records.execute(
                "UPDATE damages SET over = ? WHERE version = ? AND digest = ? AND over IS NULL",
                (clock.micros(), damage.version, damage.digest),
            )


def faults(blobs: Blobs, files: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Of files by name and digest those that are not as they were kept: what is wrong with each."""
    found = {}
    for name, digest in files.items():
        if said := blobs.fault(digest):
            found[name] = (digest, said)
    return found


def _damage(row: Any) -> Damage:
    return Damage(**{name: row[name] for name in Damage.__struct_fields__})
