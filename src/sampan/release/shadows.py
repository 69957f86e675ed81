"""The records of shadows that follow an endpoint's log beside any rollout: what was begun, and when and why it ended.

Any number of them may go on. They lead nowhere by themselves: who has seen what one would have said begins a rollout of
it, or ends it.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import Conflict, NotFound, Usage
from sampan.release.evidence import Look
from sampan.release.looking import Looking, Sees
from sampan.release.records import Begun
from sampan.release.rollouts import Rollout, Stage
from sampan.release.stages import begin
from sampan.store.database import Database

_EVER: Final = 1 << 62


class ShadowRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A shadow as it was begun. ``bundle``: its digest, ``spec``: what readers want to know of it; ``sample``: of the
    entities, those whose requests it sees; ``stream``: what it writes; ``after``: the item of the endpoint's stream
    behind which it begins. ``ended_by`` is empty where it ended by itself."""

    id: str
    endpoint: str
    bundle: str
    spec: dict[str, Any]
    sample: float
    stream: str
    after: int
    actor: str
    reason: str
    began: int
    ended: int | None = None
    ended_by: str = ""
    ended_why: str = ""

    @property
    def version(self) -> str:
        found: str = self.spec["version"]
        return found


class ShadowRecords:
    """The shadows of a workspace. Writing needs the records' lock; reading does not."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def begin(self, one: ShadowRecord) -> ShadowRecord:
        """Write a beginning down. Raises Conflict while another of the same bundle goes on."""
        with self._db.transaction() as connection:
            if (other := next((o for o in self.active(one.endpoint) if o.bundle == one.bundle), None)) is not None:
                raise Conflict(
                    f"Begin a shadow of {one.version} on {one.endpoint}",
                    f"one of the same version, rules and thresholds goes on already: {other.id}",
                    f"See `sampan shadow show {other.id}`.",
                )
            connection.execute(
                "INSERT INTO shadows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, '', '')",
                (
                    *(one.id, one.endpoint, one.bundle, msgspec.json.encode(one.spec).decode(), one.sample),
                    *(one.stream, one.after, one.actor, one.reason, one.began),
                ),
            )
        return one

    def end(self, id: str, why: str, actor: str = "") -> ShadowRecord:
        """Write an end down; without ``actor`` it ends by itself. Raises NotFound, and Conflict if it has ended."""
        attempted = f"End the shadow {id[:80]!r}"
        if actor and not why.strip():
            raise Usage(attempted, "nothing is said of why", "Say why: --reason.")
        with self._db.transaction() as connection:
            found = self.get(id)
            if found.ended is not None:
                said = f"{found.ended_by} has ended it" if found.ended_by else "it has ended by itself"
                raise Conflict(attempted, f"{said}: {found.ended_why}", "`sampan shadow list` shows those that go on.")
            connection.execute(
                "UPDATE shadows SET ended = ?, ended_by = ?, ended_why = ? WHERE id = ?",
                (self._clock.micros(), actor, why.strip(), id),
            )
        return self.get(id)

    def get(self, id: str) -> ShadowRecord:
        """One shadow by its id. Raises NotFound."""
        row = self._db.row("SELECT * FROM shadows WHERE id = ?", (id,))
        if row is None:
            raise NotFound(
                f"Find the shadow {id[:80]!r}", "there is none of that id", "`sampan shadow list` shows all."
            )
        return _record(row)

    def list(self, endpoint: str = "", by: int | None = None) -> Sequence[ShadowRecord]:
        """Shadows, of one endpoint or of all, the newest first; ``by``: as they stood then."""
        sql = "SELECT * FROM shadows WHERE began <= ? AND (? = '' OR endpoint = ?) ORDER BY began DESC, rowid DESC"
        found = [_record(row) for row in self._db.rows(sql, (_EVER if by is None else by, endpoint, endpoint))]
        return [
            msgspec.structs.replace(one, ended=None, ended_by="", ended_why="")
            if by is not None and (one.ended or 0) > by
            else one
            for one in found
        ]

    def active(self, endpoint: str = "") -> Sequence[ShadowRecord]:
        """Those that go on."""
        return [one for one in self.list(endpoint) if one.ended is None]

    def free_stream(self, endpoint: str) -> str:
        """The name of a stream that no shadow of an endpoint writes that goes on: streams are used again."""
        taken, number = {one.stream for one in self.active(endpoint)}, 1
        while (name := f"shadow-{endpoint}-{number}") in taken:
            number += 1
        return name


def _record(row: sqlite3.Row) -> ShadowRecord:
    return ShadowRecord(
        id=row["id"],
        endpoint=row["endpoint"],
        bundle=row["bundle"],
        spec=msgspec.json.decode(row["spec"]),
        sample=row["sample"],
        stream=row["stream"],
        after=row["after"],
        actor=row["actor"],
        reason=row["reason"],
        began=row["began"],
        ended=row["ended"],
        ended_by=row["ended_by"],
        ended_why=row["ended_why"],
    )


def advantages(
    sees: Sees, shadows: Sequence[ShadowRecord], champion: str, plan: Rollout, rivals: int
) -> dict[str, Look]:
    """What the decisions of an endpoint's shadows would have gained, by their ids: request by request, beside those of
    the bundle ``champion``, by the KPI of the endpoint's plan.

    The errors that the plan declares are shared by ``rivals``, the shadows that are compared (Bonferroni): the best of
    many looks better than it is. Raises what the query fails with.
    """
    if not shadows:
        return {}
    one = shadows[0]
    alone = msgspec.structs.replace(
        plan,
        stage=(Stage(shadow=True, at_least="1 day"), Stage(share=1.0)),
        guardrail=(),
        false_promotions=plan.false_promotions / rivals,
        false_rollbacks=plan.false_rollbacks / rivals,
    )
    begun = Begun(
        id=one.id,
        endpoint=one.endpoint,
        champion=champion,
        candidate=one.bundle,
        champion_spec={},
        candidate_spec=one.spec,
        plan=alone,
        file="",
        golden="",
        actor="",
        reason="",
        began=one.began,
    )
    ids = [other.id for other in shadows]
    return Looking(sees, begun, begin(alone, one.began).state, shadows=ids).side_by_side()
