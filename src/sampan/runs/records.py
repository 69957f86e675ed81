"""Records of runs: what ran when, step by step, and results by key. The engine writes, the faces read."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from sampan.base.clock import iso
from sampan.base.errors import NotFound
from sampan.lake.history import MAIN
from sampan.store.database import Database
from sampan.store.states import States

RUNNING: Final = "running"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
INTERRUPTED: Final = "interrupted"
SCORED: Final = "scored"
"""Among the parts of a result: it holds what a version answered, and no step of the flow made it."""


class Run(msgspec.Struct, frozen=True, rename={"commit_id": "commit"}):
    """One execution of a flow. ``manifest`` holds all that it was made from (``sampan.flow.manifest``)."""

    id: str
    state: str
    target: str
    branch: str
    position: str
    root: str
    commit_id: str | None
    git: str | None
    actor: str
    manifest: dict[str, Any]
    error: str
    cost: float
    started: int
    finished: int | None = None


class Outcome(msgspec.Struct, frozen=True):
    """How a run is doing, in short."""

    id: str
    state: str
    target: str
    actor: str
    error: str
    started: int


class StepRun(msgspec.Struct, frozen=True):
    """One step of a run, or one part of a step that fans out."""

    run: str
    name: str
    part: str
    kind: str
    state: str
    why: str
    key: str = ""
    digest: str = ""
    seconds: float = 0.0
    memory: int = 0
    cost: float = 0.0
    error: str = ""
    needs: tuple[str, ...] = ()
    started: int | None = None
    ended: int | None = None


def refusing(steps: Iterable[StepRun]) -> Sequence[str]:
    """The checks that refused what a run had made; none if anything else failed too."""
    failed = [step for step in steps if step.state == FAILED]
    return [step.name for step in failed] if all(step.kind == "check" for step in failed) else []


class Result(msgspec.Struct, frozen=True):
    """What a step gave for exactly one key. ``parts`` explains the key, ``seen`` the reads nobody declared."""

    key: str
    step: str
    part: str
    run: str
    kind: str
    digest: str
    value: bytes | None
    parts: dict[str, Any]
    seen: dict[str, str]
    seconds: float
    memory: int
    created: int


_EVER: Final = 1 << 62
_TEXT = msgspec.json.Encoder(order="sorted")
_STEP_COLUMNS: Final = StepRun.__struct_fields__
_RUN_COLUMNS: Final = Run.__struct_fields__


class Runs:
    """The records of a workspace's runs."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._states = States(db, "run")

    # -- runs

    def start(self, run: Run, at: int | None = None) -> None:
        """Record a run that begins, or goes on at ``at``."""
        row = [_text(v) if isinstance(v, dict) else v for v in msgspec.structs.astuple(run)]
        marks = ", ".join("?" * len(row))
        with self.db.transaction() as records:
            records.execute(
                f"INSERT INTO runs ({', '.join(_RUN_COLUMNS)}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET"
                " state = excluded.state, manifest = excluded.manifest, error = '', finished = NULL",
                row,
            )
            self._states.put(run.id, _Then(RUNNING), run.started if at is None else at)

    def finish(
        self, id: str, state: str, *, commit: str | None, error: str, cost: float, manifest: Any, at: int
    ) -> None:
        with self.db.transaction() as records:
            records.execute(
                "UPDATE runs SET state = ?, commit_id = ?, error = ?, cost = cost + ?, manifest = ?, finished = ?"
                " WHERE id = ?",
                (state, commit, error, cost, _text(manifest), at, id),
            )
            (row,) = records.execute("SELECT cost FROM runs WHERE id = ?", (id,)).fetchall() or [{"cost": cost}]
            self._states.put(id, _Then(state, commit, error, row["cost"], at), at)

    def interrupt(self, active: Iterable[str], at: int) -> Sequence[str]:
        """Mark runs that no living process carries on. The caller is the one writer, so it knows the living."""
        alive = set(active)
        dead = [row["id"] for row in self.db.rows("SELECT id FROM runs WHERE state = ?", (RUNNING,))]
        dead = [id for id in dead if id not in alive]
        if dead:
            with self.db.transaction() as records:
                for id in dead:
                    error = f"its process ended before it did; `sampan resume {id}` goes on"
                    records.execute("UPDATE runs SET state = ?, error = ? WHERE id = ?", (INTERRUPTED, error, id))
                    self._states.put(id, _Then(INTERRUPTED, None, error), at)
        return dead

    def get(self, id: str, by: int | None = None) -> Run:
        """A run by its id, a beginning of it that no other has, or ``last``; ``by``: as it was at that instant.

        Raises NotFound, for one that began later too.
        """
        if id == "last":
            sql = "SELECT * FROM runs WHERE started <= ? ORDER BY started DESC, rowid DESC LIMIT 1"
            rows = self.db.rows(sql, (_EVER if by is None else by,))
        else:
            rows = self.db.rows("SELECT * FROM runs WHERE id = ?", (id,))
            if not rows and len(id) >= 4 and id.isalnum():
                rows = self.db.rows("SELECT * FROM runs WHERE id LIKE ? LIMIT 2", (id + "%",))
        if len(rows) != 1:
            problem = "more than one run begins so" if rows else "there is none"
            raise NotFound(f"Find the run {id!r}", problem, "`sampan runs list` shows them.")
        found = _run(rows[0])
        if by is not None and found.started > by:
            attempted = f"See the run {found.id} as of {iso(by)}"
            raise NotFound(attempted, f"it began at {iso(found.started)}", "Choose a later time.")
        return self._then(found, by)

    def list(
        self, limit: int = 50, target: str | None = None, branch: str | None = None, by: int | None = None
    ) -> Sequence[Run]:
        """Newest first; only those that were asked for a target, only those on a branch; ``by``: as at that instant."""
        sql = (
            "SELECT * FROM runs WHERE (?1 IS NULL OR target = ?1) AND (?2 IS NULL OR branch = ?2) AND started <= ?3"
            " ORDER BY started DESC, rowid DESC LIMIT ?4"
        )
        rows = self.db.rows(sql, (target, branch, _EVER if by is None else by, limit))
        return [self._then(_run(row), by) for row in rows]

    def _then(self, run: Run, by: int | None) -> Run:
        """A run as it was at an instant: what its end told was not known before."""
        if by is None or (run.finished is not None and run.finished <= by):
            return run
        state = self._states.at(run.id, by)
        then = _Then(RUNNING) if state is None else msgspec.convert(state.value, _Then)
        known = {name: value for name, value in run.manifest.items() if name not in _AT_ITS_END}
        return msgspec.structs.replace(
            run,
            state=then.state,
            commit_id=then.commit,
            error=then.error,
            cost=then.cost,
            finished=then.finished,
            manifest=known,
        )

    def newest(self, limit: int = 50, branch: str = MAIN) -> Sequence[Outcome]:
        """How the newest runs on a branch are doing, without what they were made from."""
        sql = (
            "SELECT id, state, target, actor, error, started FROM runs WHERE branch = ?"
            " ORDER BY started DESC, rowid DESC LIMIT ?"
        )
        return [Outcome(**dict(row)) for row in self.db.rows(sql, (branch, limit))]

    # -- steps

    def steps(self, run: str, parts: bool = False, by: int | None = None) -> Sequence[StepRun]:
        """The steps of a run in the order in which they were planned; ``parts``: those of fan-outs too.

        ``by``: as they were at that instant.
        """
        sql = "SELECT * FROM run_steps WHERE run = ?" + ("" if parts else " AND part = ''") + " ORDER BY rowid"
        found = [_step(row) for row in self.db.rows(sql, (run,))]
        if by is None:
            return found
        row = self.db.row("SELECT finished FROM runs WHERE id = ?", (run,))
        ended = row is not None and row["finished"] is not None and row["finished"] <= by
        return found if ended else [step_then(step, by) for step in found]

    def put_steps(self, steps: Sequence[StepRun]) -> None:
        rows = [[_text(v) if isinstance(v, tuple) else v for v in msgspec.structs.astuple(one)] for one in steps]
        names = ", ".join(_STEP_COLUMNS)
        fresh = ", ".join(f"{name} = excluded.{name}" for name in _STEP_COLUMNS if name not in ("run", "name", "part"))
        with self.db.transaction() as records:
            records.executemany(
                f"INSERT INTO run_steps ({names}) VALUES ({', '.join('?' * len(_STEP_COLUMNS))})"
                f" ON CONFLICT (run, name, part) DO UPDATE SET {fresh}",
                rows,
            )

    # -- results

    def result(self, key: str) -> Result | None:
        row = self.db.row("SELECT * FROM results WHERE key = ?", (key,))
        return None if row is None else _result(row)

    def results(self, keys: Sequence[str]) -> dict[str, Result]:
        """Results of many keys at once."""
        found: dict[str, Result] = {}
        for start in range(0, len(keys), 500):
            chunk = keys[start : start + 500]
            marks = ", ".join("?" * len(chunk))
            rows = self.db.rows(f"SELECT * FROM results WHERE key IN ({marks})", list(chunk))
            found.update({row["key"]: _result(row) for row in rows})
        return found

    def latest(self, step: str, part: str = "", by: int | None = None) -> Result | None:
        """A step's newest result, whatever its key; ``by``: of those that there were at that instant."""
        sql = (
            "SELECT * FROM results WHERE step = ? AND part = ? AND created <= ?"
            " ORDER BY created DESC, rowid DESC LIMIT 1"
        )
        row = self.db.row(sql, (step, part, _EVER if by is None else by))
        return None if row is None else _result(row)

    def recent(self, step: str, limit: int) -> Sequence[Result]:
        """A step's newest results, whatever their keys; the newest first."""
        sql = "SELECT * FROM results WHERE step = ? AND part = '' ORDER BY created DESC, rowid DESC LIMIT ?"
        return [_result(row) for row in self.db.rows(sql, (step, limit))]

    def with_digest(self, step: str, digest: str) -> Result | None:
        """A step's newest result with an output digest."""
        sql = "SELECT * FROM results WHERE step = ? AND part = '' AND digest = ? ORDER BY created DESC LIMIT 1"
        row = self.db.row(sql, (step, digest))
        return None if row is None else _result(row)

    def put_results(self, results: Sequence[Result]) -> None:
        rows = [[_text(v) if isinstance(v, dict) else v for v in msgspec.structs.astuple(one)] for one in results]
        with self.db.transaction() as records:
            records.executemany(
                f"INSERT OR REPLACE INTO results ({', '.join(Result.__struct_fields__)})"
                f" VALUES ({', '.join('?' * len(Result.__struct_fields__))})",
                rows,
            )


class _Then(msgspec.Struct, frozen=True):
    """What a run's record said of its state at a time."""

    state: str
    commit: str | None = None
    error: str = ""
    cost: float = 0.0
    finished: int | None = None


#: What a manifest is completed with when a run ends.
_AT_ITS_END: Final = frozenset({"steps", "seconds", "differs"})


def step_then(step: StepRun, by: int) -> StepRun:
    """A step as it was at an instant. Records of older versions do not say when one ended."""
    ended = step.ended
    if ended is None and step.started is not None and step.state != RUNNING:
        ended = step.started + round(step.seconds * 1e6)
    if ended is not None and ended <= by:
        return step
    if step.started is None or step.started > by:
        state, started = "planned", None
    else:
        state, started = RUNNING, step.started
    then = StepRun(step.run, step.name, step.part, step.kind, state, step.why, needs=step.needs, started=started)
    return then if state == RUNNING else msgspec.structs.replace(then, why="")


def _text(value: Any) -> str:
    return _TEXT.encode(value).decode()


def _run(row: Any) -> Run:
    values = {name: row[name] for name in _RUN_COLUMNS}
    values["manifest"] = msgspec.json.decode(row["manifest"])
    return Run(**values)


def _step(row: Any) -> StepRun:
    values = {name: row[name] for name in _STEP_COLUMNS}
    values["needs"] = tuple(msgspec.json.decode(row["needs"]))
    return StepRun(**values)


def _result(row: Any) -> Result:
    values = {name: row[name] for name in Result.__struct_fields__}
    values["parts"] = msgspec.json.decode(row["parts"])
    values["seen"] = msgspec.json.decode(row["seen"])
    return Result(**values)
