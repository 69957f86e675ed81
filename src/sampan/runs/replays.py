"""Records of replays: what was asked, what was expected, what came out, and whether it was approved."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from sampan.base.clock import iso
from sampan.base.errors import NotFound
from sampan.store.database import Database
from sampan.store.states import States

RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"
APPROVED: Final = "approved"
DISCARDED: Final = "discarded"
_EVER: Final = 1 << 62


class ReplayRequest(msgspec.Struct, frozen=True):
    """What is replayed. ``since``: the first decision to be compared (microseconds; None: the first there is);
    ``until``: the log as it was then (None: all of it); ``code``: a git ref, empty for the working tree."""

    since: Annotated[int, msgspec.Meta(ge=0, lt=1 << 57)] | None = None
    until: Annotated[int, msgspec.Meta(ge=0, lt=1 << 57)] | None = None
    code: str = ""
    sets: dict[str, Any] = {}
    reason: str = ""


class Replay(msgspec.Struct, frozen=True):
    """One replay. ``plan`` and ``report`` as they were told."""

    id: str
    branch: str
    state: str
    request: ReplayRequest
    plan: dict[str, Any]
    report: dict[str, Any]
    error: str
    actor: str
    started: int
    finished: int | None = None


class Replays:
    """The replays of a workspace. The one writer writes, the faces read."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._states = States(db, "replay")

    def put(self, replay: Replay, at: int) -> Replay:
        """Record a replay as it stands from an instant on."""
        names = Replay.__struct_fields__
        row = [_text(v) if isinstance(v, dict | ReplayRequest) else v for v in msgspec.structs.astuple(replay)]
        with self.db.transaction() as records:
            records.execute(
                f"INSERT OR REPLACE INTO replays ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", row
            )
            self._states.put(replay.id, [replay.state, replay.error, replay.finished], at)
        return replay

    def interrupt(self, at: int) -> None:
        """Mark replays that no living process carries on. The caller is the one writer."""
        for row in self.db.rows("SELECT * FROM replays WHERE state = ?", (RUNNING,)):
            error = f"its process ended before it did; `sampan replay resume {row['id']}` goes on"
            self.put(msgspec.structs.replace(_replay(row), state=FAILED, error=error), at)

    def get(self, id: str, by: int | None = None) -> Replay:
        """A replay by its id, a beginning of it that no other has, or ``last``; ``by``: as it was at that instant.

        Raises NotFound, for one that began later too.
        """
        if id == "last":
            sql = "SELECT * FROM replays WHERE started <= ? ORDER BY started DESC, rowid DESC LIMIT 1"
            rows = self.db.rows(sql, (_EVER if by is None else by,))
        else:
            rows = self.db.rows("SELECT * FROM replays WHERE id = ? OR branch = ?", (id, id))
            if not rows and len(id) >= 4 and id.isalnum():
                rows = self.db.rows("SELECT * FROM replays WHERE id LIKE ? LIMIT 2", (id + "%",))
        if len(rows) != 1:
            problem = "more than one begins so" if rows else "there is none"
            raise NotFound(f"Find the replay {id!r}", problem, "`sampan replay list` shows them.")
        found = _replay(rows[0])
        if by is not None and found.started > by:
            attempted = f"See the replay {found.id} as of {iso(by)}"
            raise NotFound(attempted, f"it began at {iso(found.started)}", "Choose a later time.")
        return self._then(found, by)

    def list(self, limit: int = 50, by: int | None = None) -> Sequence[Replay]:
        """Newest first; ``by``: as they were at that instant."""
        sql = "SELECT * FROM replays WHERE started <= ? ORDER BY started DESC, rowid DESC LIMIT ?"
        return [self._then(_replay(row), by) for row in self.db.rows(sql, (_EVER if by is None else by, limit))]

    def _then(self, replay: Replay, by: int | None) -> Replay:
        """A replay as it was at an instant: without its report before it ended."""
        if by is None:
            return replay
        ended = replay.finished is not None and replay.finished <= by
        state = self._states.at(replay.id, by)
        if state is not None:
            now, error, finished = state.value
        elif ended:  # when it was decided about was not written down
            now, error, finished = replay.state, replay.error, replay.finished
        else:
            now, error, finished = RUNNING, "", None
        report = replay.report if ended else {}
        return msgspec.structs.replace(replay, state=now, error=error, finished=finished, report=report)


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _replay(row: Any) -> Replay:
    values = {name: row[name] for name in Replay.__struct_fields__}
    values["request"] = msgspec.json.decode(row["request"], type=ReplayRequest)
    for name in ("plan", "report"):
        values[name] = msgspec.json.decode(row[name])
    return Replay(**values)
