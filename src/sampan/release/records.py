"""The records of rollouts: what was begun, every entry of its history, and incidents. Nothing is ever changed but the
end of an incident.

A rollout's state is not stored: ``stages.again`` makes it of its entries. What has been seen is an entry only where
it changes something, or once in a while, so that the evidence can be drawn over time.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import Conflict, Damaged, NotFound
from sampan.base.ids import new_id
from sampan.release.rehearsals import Rehearsal
from sampan.release.rollouts import Rollout
from sampan.release.stages import ENDS, Entry, Phase, Said, Seen, State, again, begin
from sampan.store.database import Database

_EVER: Final = 1 << 62


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout as it was begun: two bundles by their digests, with what readers want to know of them, and the plan
    as the file had it then (``file``: its digest). ``golden``: what came of the candidate's golden requests.
    ``rehearsal``: it was played over the past, and never in force."""

    id: str
    endpoint: str
    champion: str
    candidate: str
    champion_spec: dict[str, Any]
    candidate_spec: dict[str, Any]
    plan: Rollout
    file: str
    golden: str
    actor: str
    reason: str
    began: int
    rehearsal: Rehearsal | None = None

    @property
    def versions(self) -> tuple[str, str]:
        """Of champion and candidate."""
        return self.champion_spec["version"], self.candidate_spec["version"]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a history, and the state that it led to. The first, number 0, is the beginning."""

    number: int
    at: int
    entry: Entry | None
    phase: Phase
    stage: int
    why: str


class IncidentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong, with the predictions that show it. ``closed_by`` has said with ``finding`` what it was."""

    id: str
    rollout: str
    endpoint: str
    says: str
    predictions: tuple[str, ...]
    at: int
    closed: int | None = None
    closed_by: str = ""
    finding: str = ""


class RolloutRecords:
    """The rollouts of a workspace. Writing needs the records' lock; reading does not."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def new_id(self) -> str:
        return new_id(self._clock)

    def begin(self, begun: Begun) -> Begun:
        """Write a beginning down. Raises Conflict while another rollout of the endpoint goes on."""
        with self._db.transaction() as connection:
            if (other := self.active(begun.endpoint)) is not None:
                raise Conflict(
                    f"Begin a rollout of {begun.candidate_spec['version']} on {begun.endpoint}",
                    f"that of {other.versions[1]} goes on",
                    f"End it: `sampan rollout back {begun.endpoint} --reason …`.",
                )
            _insert(connection, begun)
        return begun

    def keep_rehearsal(self, begun: Begun, history: Sequence[tuple[Seen, State]]) -> Begun:
        """Write a rehearsal down with its whole history: what was seen, and the state that it led to."""
        with self._db.transaction() as connection:
            _insert(connection, begun)
            for number, (seen, state) in enumerate(history, start=1):
                connection.execute(
                    "INSERT INTO rollout_entries VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (begun.id, number, seen.at, _text(seen), state.phase, state.stage, state.why),
                )
        return begun

    def add(
        self,
        begun: Begun,
        after: int,
        entry: Seen | Said,
        state: State,
        incidents: Sequence[tuple[str, Sequence[str]]] = (),
    ) -> int:
        """Write an entry down, the state that it led to, and incidents (what went wrong, predictions that show it) in
        one; its number. ``after``: that of the entry which was last when the state was worked out. Raises Conflict if
        another has come in between."""
        with self._db.transaction() as connection:
            row = self._db.row("SELECT max(number) AS last FROM rollout_entries WHERE rollout = ?", (begun.id,))
            if row is None or row["last"] != after:
                obstacle = "something else has changed it meanwhile"
                raise Conflict(f"Change the rollout of {begun.endpoint}", obstacle, "Look, and try again.")
            connection.execute(
                "INSERT INTO rollout_entries VALUES (?, ?, ?, ?, ?, ?, ?)",
                (begun.id, after + 1, entry.at, _text(entry), state.phase, state.stage, state.why),
            )
            for says, predictions in incidents:
                connection.execute(
                    "INSERT INTO incidents VALUES (?, ?, ?, ?, ?, ?, NULL, '', '')",
                    (new_id(self._clock), begun.id, begun.endpoint, says, _text(predictions), entry.at),
                )
        return after + 1

    def get(self, id: str) -> Begun:
        """A rollout or rehearsal by its id; ``last``: the newest rollout. Raises NotFound."""
        last = "(? = 'last' AND rehearsal = '')"
        newest = f"SELECT * FROM rollouts WHERE id = ? OR {last} ORDER BY began DESC, rowid DESC LIMIT 1"
        row = self._db.row(newest, (id, id))
        if row is None:
            raise NotFound(f"Find the rollout {id[:80]!r}", "there is none of that id", "`sampan rollout list`.")
        return _begun(row)

    def list(self, endpoint: str = "", by: int | None = None) -> list[Begun]:
        """Rollouts, of one endpoint or of all, the newest first; ``by``: those begun by then."""
        where = "rehearsal = '' AND began <= ? AND (? = '' OR endpoint = ?)"
        sql = f"SELECT * FROM rollouts WHERE {where} ORDER BY began DESC, rowid DESC"
        return [_begun(row) for row in self._db.rows(sql, (_EVER if by is None else by, endpoint, endpoint))]

    def rehearsals(self, endpoint: str = "", by: int | None = None) -> Sequence[Begun]:
        """Rehearsals, of one endpoint or of all, the newest first; ``by``: those made by then."""
        sql = "SELECT * FROM rollouts WHERE rehearsal <> '' AND (? = '' OR endpoint = ?) ORDER BY rowid DESC"
        found = [_begun(row) for row in self._db.rows(sql, (endpoint, endpoint))]
        return [one for one in found if by is None or (one.rehearsal is not None and one.rehearsal.made <= by)]

    def active(self, endpoint: str) -> Begun | None:
        """The rollout of an endpoint that goes on."""
        newest = next(iter(self.list(endpoint)), None)
        return newest if newest is not None and self.lines(newest)[-1].phase not in ENDS else None

    def lines(self, begun: Begun, by: int | None = None) -> Sequence[Line]:
        """The history, the oldest first; ``by``: as it stood then."""
        sql = "SELECT * FROM rollout_entries WHERE rollout = ? AND at <= ? ORDER BY number"
        return [_line(row) for row in self._db.rows(sql, (begun.id, _EVER if by is None else by))]

    def state(self, begun: Begun, by: int | None = None) -> tuple[State, int]:
        """Where a rollout stands, or stood, and the number of its last entry."""
        lines = self.lines(begun, by)
        entries = [line.entry for line in lines if line.entry is not None]
        return again(begun.plan, begun.began, entries), lines[-1].number if lines else 0

    # -- incidents

    def close_incident(self, id: str, finding: str, actor: str) -> IncidentRecord:
        """Say what it was. Raises NotFound, and Conflict if somebody has said so before."""
        attempted = f"Close the incident {id[:80]!r}"
        with self._db.transaction() as connection:
            found = self.incident(id)
            if found.closed is not None:
                raise Conflict(attempted, f"{found.closed_by} has closed it: {found.finding}", "Open a comment on it.")
            connection.execute(
                "UPDATE incidents SET closed = ?, closed_by = ?, finding = ? WHERE id = ?",
                (self._clock.micros(), actor, finding, id),
            )
        return self.incident(id)

    def incident(self, id: str) -> IncidentRecord:
        """One incident; ``last``: the newest. Raises NotFound."""
        newest = "SELECT * FROM incidents WHERE id = ? OR ? = 'last' ORDER BY at DESC, rowid DESC LIMIT 1"
        row = self._db.row(newest, (id, id))
        if row is None:
            raise NotFound(f"Find the incident {id[:80]!r}", "there is none of that id", "`sampan incident list`.")
        return _incident(row)

    def incidents(self, rollout: str = "", by: int | None = None) -> Sequence[IncidentRecord]:
        """Incidents, of one rollout or of all, the newest first; ``by``: as they stood then."""
        sql = "SELECT * FROM incidents WHERE at <= ? AND (? = '' OR rollout = ?) ORDER BY at DESC, rowid DESC"
        found = [_incident(row) for row in self._db.rows(sql, (_EVER if by is None else by, rollout, rollout))]
        return [
            msgspec.structs.replace(one, closed=None, closed_by="", finding="")
            if by is not None and (one.closed or 0) > by
            else one
            for one in found
        ]


def _insert(connection: sqlite3.Connection, begun: Begun) -> None:
    connection.execute(
        "INSERT INTO rollouts (id, endpoint, champion, candidate, champion_spec, candidate_spec, plan, file,"
        " golden, actor, reason, began, rehearsal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(begun.id, begun.endpoint, begun.champion, begun.candidate, _text(begun.champion_spec)),
            *(_text(begun.candidate_spec), _text(begun.plan), begun.file, begun.golden, begun.actor),
            *(begun.reason, begun.began, _text(begun.rehearsal) if begun.rehearsal is not None else ""),
        ),
    )
    state = begin(begun.plan, begun.began).state
    connection.execute(
        "INSERT INTO rollout_entries VALUES (?, 0, ?, 'null', ?, ?, ?)",
        (begun.id, begun.began, state.phase, state.stage, state.why),
    )


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _begun(row: sqlite3.Row) -> Begun:
    try:
        return Begun(
            id=row["id"],
            endpoint=row["endpoint"],
            champion=row["champion"],
            candidate=row["candidate"],
            champion_spec=msgspec.json.decode(row["champion_spec"]),
            candidate_spec=msgspec.json.decode(row["candidate_spec"]),
            plan=msgspec.json.decode(row["plan"], type=Rollout),
            file=row["file"],
            golden=row["golden"],
            actor=row["actor"],
            reason=row["reason"],
            began=row["began"],
            rehearsal=msgspec.json.decode(row["rehearsal"], type=Rehearsal) if row["rehearsal"] else None,
        )
    except msgspec.DecodeError as error:
        raise Damaged(f"Read the rollout {row['id']}", f"its record does not parse: {error}") from error


def _line(row: sqlite3.Row) -> Line:
    try:
        entry = msgspec.json.decode(row["entry"], type=Seen | Said | None)
    except msgspec.DecodeError as error:
        raise Damaged(f"Read the rollout {row['rollout']}", f"entry {row['number']} does not parse: {error}") from error
    return Line(number=row["number"], at=row["at"], entry=entry, phase=row["phase"], stage=row["stage"], why=row["why"])


def _incident(row: sqlite3.Row) -> IncidentRecord:
    return IncidentRecord(
        id=row["id"],
        rollout=row["rollout"],
        endpoint=row["endpoint"],
        says=row["says"],
        predictions=tuple(msgspec.json.decode(row["predictions"])),
        at=row["at"],
        closed=row["closed"],
        closed_by=row["closed_by"],
        finding=row["finding"],
    )
