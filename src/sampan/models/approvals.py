"""Approvals: who has said yes or no to a version under an alias, and what there was to be seen then. Only added to."""

import sqlite3
from typing import Final, Literal, TypeAlias

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import NotFound, Usage
from sampan.base.ids import new_id
from sampan.models.aliases import check_alias
from sampan.store.database import Database

Verdict: TypeAlias = Literal["approved", "rejected", "withdrawn"]
APPROVED: Final[Verdict] = "approved"
REJECTED: Final[Verdict] = "rejected"
WITHDRAWN: Final[Verdict] = "withdrawn"
VERDICTS: Final[tuple[Verdict, ...]] = (APPROVED, REJECTED, WITHDRAWN)
_REASON: Final = 2_000
_EVER: Final = 1 << 62


class Seen(msgspec.Struct, frozen=True):
    """What there was to be seen: of each table that the version was made from the snapshot on main, and the id of the
    newest result of its tests (empty: it was not tested)."""

    data: dict[str, str] = {}
    tests: str = ""


class Approval(msgspec.Struct, frozen=True):
    """One verdict. ``at`` in microseconds."""

    id: str
    model: str
    number: int
    alias: str
    actor: str
    verdict: Verdict
    reason: str
    seen: Seen
    at: int


ApprovalList: TypeAlias = list[Approval]


class Approvals:
    """The approvals of a workspace's versions. Writing needs the records' lock; reading does not."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    def add(
        self, model: str, number: int, alias: str, verdict: str, *, actor: str, reason: str, seen: Seen
    ) -> Approval:
        """Write a verdict down. Raises Usage; NotFound for one to withdraw where its author has none."""
        attempted = f"Decide about {model}@{number} as {alias}"
        check_alias(attempted, alias)
        said = next((one for one in VERDICTS if one == verdict), None)
        if said is None:
            raise Usage(attempted, f"unknown verdict {verdict[:40]!r}", f"One of {', '.join(VERDICTS)}.")
        if len(reason) > _REASON:
            raise Usage(attempted, f"the reason has {len(reason):,} characters", f"It may have up to {_REASON:,}.")
        if verdict == REJECTED and not reason.strip():
            raise Usage(attempted, "no reason was given", "Say why not: whoever works on it has to know.")
        if verdict == WITHDRAWN and actor not in {one.actor for one in self.standing(model, number, alias)}:
            raise NotFound(f"Withdraw an approval of {model}@{number}", f"{actor} has none as {alias}")
        made = Approval(
            new_id(self._clock), model, number, alias, actor, said, reason.strip(), seen, self._clock.micros()
        )
        row = [msgspec.json.encode(v).decode() if v is seen else v for v in msgspec.structs.astuple(made)]
        with self._db.transaction() as records:
            records.execute(f"INSERT INTO approvals VALUES ({', '.join('?' * len(row))})", row)
        return made

    def list(self, model: str, number: int, by: int | None = None) -> ApprovalList:
        """All verdicts about a version, the newest first; ``by``: those that there were at that instant."""
        rows = self._db.rows(
            "SELECT * FROM approvals WHERE model = ? AND number = ? AND at <= ? ORDER BY at DESC, rowid DESC",
            (model, number, _EVER if by is None else by),
        )
        return [_approval(row) for row in rows]

    def standing(self, model: str, number: int, alias: str) -> ApprovalList:
        """What each person says of a version under an alias: his last word, unless it was taken back."""
        last: dict[str, Approval] = {}
        for one in reversed(self.list(model, number)):
            if one.alias == alias:
                last.pop(one.actor, None)
                last[one.actor] = one
        return [one for one in last.values() if one.verdict != WITHDRAWN]


def _approval(row: sqlite3.Row) -> Approval:
    values = {name: row[name] for name in Approval.__struct_fields__}
    values["seen"] = msgspec.json.decode(row["seen"], type=Seen)
    return Approval(**values)
