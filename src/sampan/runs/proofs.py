"""Records of comparisons: when a table that is built bit by bit was last held against what its whole query gives."""

from collections.abc import Sequence

import msgspec

from sampan.base.clock import Clock
from sampan.base.ids import new_id
from sampan.store.database import Database


class Proof(msgspec.Struct, frozen=True):
    """One comparison of a table's snapshot: which of its partitions were looked at, and which were not equal."""

    id: str
    name: str
    snapshot: str
    partitions: int
    compared: tuple[str, ...]
    unequal: tuple[str, ...]
    seed: int
    actor: str
    created: int


class Proofs:
    """The comparisons of a workspace's tables."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(
        self,
        name: str,
        snapshot: str,
        partitions: int,
        compared: Sequence[str],
        unequal: Sequence[str],
        *,
        seed: int,
        actor: str,
        clock: Clock,
    ) -> Proof:
        made = Proof(
            new_id(clock), name, snapshot, partitions, tuple(compared), tuple(unequal), seed, actor, clock.micros()
        )
        row = [msgspec.json.encode(v).decode() if isinstance(v, tuple) else v for v in msgspec.structs.astuple(made)]
        with self._db.transaction() as records:
            records.execute(f"INSERT INTO proofs VALUES ({', '.join('?' * len(row))})", row)
        return made

    def latest(self, name: str, by: int | None = None) -> Proof | None:
        """The newest comparison of a table; ``by``: of those that there were at that instant."""
        row = self._db.row(
            "SELECT * FROM proofs WHERE name = ? AND created <= ? ORDER BY created DESC, rowid DESC LIMIT 1",
            (name, 1 << 62 if by is None else by),
        )
        if row is None:
            return None
        values = {field: row[field] for field in Proof.__struct_fields__}
        for field in ("compared", "unequal"):
            values[field] = tuple(msgspec.json.decode(row[field]))
        return Proof(**values)
