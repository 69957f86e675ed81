"""Records of replays: what was asked, what was expected, what came out, and whether it was approved."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from sampan.base.errors import NotFound
from sampan.store.database import Database

RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"
APPROVED: Final = "approved"
DISCARDED: Final = "discarded"


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

    def put(self, replay: Replay) -> Replay:
        """Record a replay as it stands."""
        names = Replay.__struct_fields__
        row = [_text(v) if isinstance(v, dict | ReplayRequest) else v for v in msgspec.structs.astuple(replay)]
        with self.db.transaction() as records:
            records.execute(
                f"INSERT OR REPLACE INTO replays ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", row
            )
        return replay

    def interrupt(self) -> None:
        """Mark replays that no living process carries on. The caller is the one writer."""
        for row in self.db.rows("SELECT * FROM replays WHERE state = ?", (RUNNING,)):
            error = f"its process ended before it did; `sampan replay resume {row['id']}` goes on"
            self.put(msgspec.structs.replace(_replay(row), state=FAILED, error=error))

    def get(self, id: str) -> Replay:
        """A replay by its id, a beginning of it that no other has, or ``last``. Raises NotFound."""
        if id == "last":
            rows = self.db.rows("SELECT * FROM replays ORDER BY started DESC, rowid DESC LIMIT 1")
        else:
            rows = self.db.rows("SELECT * FROM replays WHERE id = ? OR branch = ?", (id, id))
            if not rows and len(id) >= 4 and id.isalnum():
                rows = self.db.rows("SELECT * FROM replays WHERE id LIKE ? LIMIT 2", (id + "%",))
        if len(rows) != 1:
            problem = "more than one begins so" if rows else "there is none"
            raise NotFound(f"Find the replay {id!r}", problem, "`sampan replay list` shows them.")
        return _replay(rows[0])

    def list(self, limit: int = 50) -> Sequence[Replay]:
        """Newest first."""
        return [
            _replay(row)
            for row in self.db.rows("SELECT * FROM replays ORDER BY started DESC, rowid DESC LIMIT ?", (limit,))
        ]


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _replay(row: Any) -> Replay:
    values = {name: row[name] for name in Replay.__struct_fields__}
    values["request"] = msgspec.json.decode(row["request"], type=ReplayRequest)
    for name in ("plan", "report"):
        values[name] = msgspec.json.decode(row[name])
    return Replay(**values)
