"""The contracts that a workspace has accepted: each version as it is now, when it came and when it last changed."""

import msgspec

from sampan.log.spec import ContractSpec
from sampan.store.database import Database


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one type. Times in microseconds; ``changed`` is None while it is as it was registered."""

    spec: ContractSpec
    digest: str
    registered: int
    changed: int | None


def registered(db: Database, type: str | None = None) -> dict[str, list[Registered]]:
    """The versions of each type, or of one, oldest first."""
    where, values = ("WHERE type = ? ", (type,)) if type is not None else ("", ())
    found: dict[str, list[Registered]] = {}
    for row in db.rows(f"SELECT * FROM contracts {where}ORDER BY type, version", values):
        spec = msgspec.json.decode(row["spec"], type=ContractSpec)
        one = Registered(spec=spec, digest=row["digest"], registered=row["registered"], changed=row["changed"])
        found.setdefault(row["type"], []).append(one)
    return found


def record(db: Database, specs: list[ContractSpec], now: int) -> None:
    """Write new and changed versions."""
    with db.transaction() as connection:
        for spec in specs:
            connection.execute(
                "INSERT INTO contracts (type, version, digest, spec, registered) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (type, version) DO UPDATE SET digest = excluded.digest, spec = excluded.spec, "
                "changed = excluded.registered",
                (spec.type, spec.version, spec.digest, msgspec.json.encode(spec).decode(), now),
            )
