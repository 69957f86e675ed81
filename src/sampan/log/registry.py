"""The contracts that a workspace has accepted: each version as it is now, when it came and when it last changed."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from sampan.log.compare import Change, compare
from sampan.log.spec import ContractSpec
from sampan.store.database import Database
from sampan.store.states import States

if TYPE_CHECKING:
    from sampan.log.contracts import Contract


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one type. Times in microseconds; ``changed`` is None while it is as it was registered."""

    spec: ContractSpec
    digest: str
    registered: int
    changed: int | None


def registered(db: Database, type: str | None = None, by: int | None = None) -> dict[str, list[Registered]]:
    """The versions of each type, or of one, oldest first; ``by``: as they were registered at that instant."""
    where, values = ("WHERE type = ? ", (type,)) if type is not None else ("", ())
    found: dict[str, list[Registered]] = {}
    for row in db.rows(f"SELECT * FROM contracts {where}ORDER BY type, version", values):
        if by is not None and row["registered"] > by:
            continue
        spec = msgspec.json.decode(row["spec"], type=ContractSpec)
        one = Registered(spec=spec, digest=row["digest"], registered=row["registered"], changed=row["changed"])
        if by is not None and one.changed is not None and one.changed > by:
            one = _then(db, one, by)
        found.setdefault(row["type"], []).append(one)
    return found


def _then(db: Database, one: Registered, by: int) -> Registered:
    """A version as it was before it last changed; as it is now, if what it was is not written down."""
    state = States(db, "contract").at(_name(one.spec), by)
    if state is None:
        return one
    spec = msgspec.convert(state.value, ContractSpec)
    changed = state.since if state.since > one.registered else None
    return Registered(spec=spec, digest=spec.digest, registered=one.registered, changed=changed)


def _name(spec: ContractSpec) -> str:
    return f"{spec.type}@{spec.version}"


def record(db: Database, specs: list[ContractSpec], now: int) -> None:
    """Write new and changed versions, and what those that change were before."""
    states = States(db, "contract")
    known = {(type, one.spec.version): one for type, every in registered(db).items() for one in every}
    with db.transaction() as connection:
        for spec in specs:
            before = known.get((spec.type, spec.version))
            if before is not None:
                states.put(_name(spec), before.spec, before.changed or before.registered)
                states.put(_name(spec), spec, now)
            connection.execute(
                "INSERT INTO contracts (type, version, digest, spec, registered) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (type, version) DO UPDATE SET digest = excluded.digest, spec = excluded.spec, "
                "changed = excluded.registered",
                (spec.type, spec.version, spec.digest, msgspec.json.encode(spec).decode(), now),
            )


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """What is declared of one type against what is registered. ``state``: new, unchanged, changed (nobody breaks),
    raised (a new version), breaking (refused), unreadable (events of an older version can no longer be read)."""

    type: str
    version: int
    before: int | None
    state: str
    changes: list[Change] = []
    advice: str = ""

    @property
    def fine(self) -> bool:
        return self.state not in ("breaking", "unreadable")


def review(contract: "Contract", before: ContractSpec | None, stored: Collection[str]) -> Review:
    """Compare what a type declares with what is registered of it. ``stored``: each ``type@version`` in the log."""
    spec = contract.spec
    if before is None:
        return Review(type=spec.type, version=spec.version, before=None, state="new")
    changes = compare(before, spec)
    broken = any(change.breaks for change in changes)
    lost = [v for v in range(1, spec.version) if v not in contract.versions and f"{spec.type}@{v}" in stored]
    state, advice = "changed" if changes else "unchanged", ""
    if spec.version < before.version:
        state, advice = "breaking", f"Version {before.version} was in force, and versions only go up."
    elif spec.version == before.version and broken:
        call = f"@upcast({contract.cls.__name__}, since={spec.version})"
        state, advice = "breaking", f"Write version={spec.version + 1} and declare {call}, or take the change back."
    elif lost:
        call = f"@upcast({contract.cls.__name__}, since={lost[-1]})"
        state, advice = "unreadable", f"The log has events of version {lost[-1]}: declare {call}."
    elif spec.version > before.version:
        state = "raised"
    told = {"state": state, "advice": advice}
    return Review(type=spec.type, version=spec.version, before=before.version, changes=changes, **told)
