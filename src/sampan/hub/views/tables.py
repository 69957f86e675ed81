"""Tables: what there is, what is in one, what made it, who reads it, and what it was before."""

from contextlib import suppress
from typing import Any, Final

import msgspec

from sampan.base.errors import NotFound, SampanError
from sampan.flow.columns import shown
from sampan.hub import looks
from sampan.hub.parts import Parts, Query, as_of
from sampan.hub.remarks import Remarks, of_columns, remarks
from sampan.hub.served import serving
from sampan.hub.uses import Code, Use, Uses, about, code_of
from sampan.lake.lake import MAIN, Snapshot
from sampan.lake.partition import declared
from sampan.lake.profile import ColumnProfile
from sampan.runs.proofs import Proof, Proofs
from sampan.runs.records import FAILED, Run, Runs

_STATES: Final = 20
_COMMITS: Final = 200
_ALL: Final = 1 << 30


class Held(msgspec.Struct):
    """A candidate that a run made and did not publish, and why."""

    snapshot: str
    rows: int
    run: str
    why: str


class TableLine(msgspec.Struct, kw_only=True):
    """A table in the list. ``newer`` counts events that came since it was made, of the kinds that it is made of;
    ``readers`` names what reads it; ``path`` is where it is written."""

    name: str
    about: str
    path: str
    rows: int
    bytes: int
    columns: int
    snapshot: str
    run: str | None
    created: int
    flags: tuple[str, ...]
    newer: int
    held: Held | None
    checks: list[Use]
    readers: list[Use]


class Tables(msgspec.Struct):
    """Context of ``tables.html``. ``gone``: tables of an old commit that clean-up has removed."""

    ref: str
    branches: list[str]
    commit: str | None
    rows: int
    bytes: int
    tables: list[TableLine]
    as_of: int | None = None
    gone: list[str] = []


def tables(parts: Parts, query: Query) -> Tables:
    """All tables of a branch or commit, or of a branch as of a time."""
    ref, then = query.get("ref") or MAIN, as_of(query)
    at = parts.lake.ref_at(ref, then)
    uses, freshness, held = Uses(parts.db, then), _Freshness(parts), _held(parts) if then is None else {}
    lines, gone = [], []
    for name, id in parts.lake.names(at).items():
        snapshot = _known(parts, id)
        if snapshot is None:
            gone.append(name)
            continue
        code = code_of(parts.folder.root, name)
        readers = uses.readers(name)
        candidate = held.get(name)
        lines.append(
            TableLine(
                name=name,
                about=about(code),
                path=code.path if code else "",
                rows=snapshot.rows,
                bytes=snapshot.bytes,
                columns=len(snapshot.fields),
                snapshot=snapshot.id,
                run=snapshot.run,
                created=snapshot.created,
                flags=snapshot.flags,
                newer=freshness.newer(uses, name, snapshot) if then is None else 0,
                held=candidate if ref == MAIN and candidate and candidate.snapshot != snapshot.id else None,
                checks=[use for use in readers if use.kind == "check"],
                readers=[use for use in readers if use.kind != "check"],
            )
        )
    head = at[1:] if at.startswith("@") else parts.lake.head(ref)
    sizes = sum(line.rows for line in lines), sum(line.bytes for line in lines)
    return Tables(ref, list(parts.lake.branches()), head, *sizes, lines, then, gone)


def _known(parts: Parts, id: str) -> Snapshot | None:
    """A snapshot; None for one that clean-up has removed."""
    try:
        return parts.lake.snapshot(id)
    except NotFound:
        return None


class _Freshness:
    """How many events of each kind came since a run."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._runs = parts, Runs(parts.db)
        self._position = parts.log.position()
        self._types = set(parts.contracts.types())
        self._read: dict[str, dict[str, Any]] = {}

    def newer(self, uses: Uses, name: str, snapshot: Snapshot) -> int:
        """Events of the kinds that a table is made of, received since it was last found up to date."""
        step = uses.steps.get(name)
        then = self._then(step.run if step is not None and step.digest == snapshot.id else snapshot.run)
        count = 0
        for type in uses.above([name]) & self._types:
            now = self._parts.log.state(type, self._position).count
            count += max(0, now - then.get(type, {}).get("count", 0))
        return count

    def _then(self, run: str | None) -> dict[str, Any]:
        if run is None:
            return {}
        if run not in self._read:
            try:
                self._read[run] = self._runs.get(run).manifest.get("inputs", {})
            except NotFound:
                self._read[run] = {}
        return self._read[run]


def _held(parts: Parts) -> dict[str, Held]:
    """What the newest run made and did not publish, if it failed."""
    records = Runs(parts.db)
    last = next(iter(records.list(1, branch=MAIN)), None)
    if last is None or last.state != FAILED:
        return {}
    steps = records.steps(last.id)
    why = _why(last, [step.name for step in steps if step.state == FAILED])
    found = {}
    for step in steps:
        with suppress(NotFound):
            if step.kind == "table" and step.digest and step.state == "ran":
                found[step.name] = Held(step.digest, parts.lake.snapshot(step.digest).rows, last.id, why)
    return found


def _why(run: Run, failed: list[str]) -> str:
    return f"{', '.join(failed)} failed" if failed else (run.error.splitlines() or ["its run failed"])[0]


class Column(msgspec.Struct):
    """A column; ``profile`` where the snapshot has been looked through. ``made_of``: columns that its values are made
    of, as the workspace stands; None where that is not known. ``whole``: why it may be of any column. ``remarks``: what
    is said of it, where something is."""

    name: str
    type: str
    profile: ColumnProfile | None = None
    made_of: list[str] | None = None
    whole: str = ""
    remarks: Remarks | None = None


class State(msgspec.Struct):
    """What a table was after one commit that changed it. ``more``: rows more than before, None for the first, and where
    what was before has gone; ``rows`` is None where this state has gone itself."""

    commit: str
    snapshot: str
    rows: int | None
    more: int | None
    bytes: int | None
    run: str | None
    actor: str
    reason: str
    created: int


class Cut(msgspec.Struct):
    """How a table is built bit by bit, into how many partitions, and when it was last held against the whole query."""

    how: str
    partitions: int
    proof: Proof | None


class TablePage(msgspec.Struct, kw_only=True):
    """Context of ``table.html``. ``looking``: the profile of its columns is being worked out. ``cut``: None for a table
    that is built whole. ``gone``: what it held has been removed by clean-up, and nothing but its name is known."""

    name: str
    ref: str
    branches: list[str]
    snapshot: str
    rows: int
    bytes: int
    flags: tuple[str, ...]
    run: str | None
    created: int
    current: bool
    newer: int
    held: Held | None
    columns: list[Column]
    looking: bool
    sample: list[list[Any]]
    history: list[State]
    files: list[str]
    code: Code | None
    about: str
    needs: list[str]
    events: list[str]
    readers: list[Use]
    checks: list[Use]
    models: list[Use]
    endpoints: list[str]
    trouble: str = ""
    remarks: Remarks
    as_of: int | None = None
    cut: Cut | None = None
    gone: bool = False


def table(parts: Parts, query: Query) -> TablePage:
    """One table, or one state of it."""
    name, ref, then = query["name"], query.get("ref") or MAIN, as_of(query)
    given = query.get("snapshot")
    snapshot = _state(parts, name, given, ref, then)
    gone = _known(parts, snapshot.id) is None
    branch = MAIN if ref.startswith("@") else ref
    current = parts.lake.names(branch).get(name) == snapshot.id
    sample: list[list[Any]] = []
    trouble, looked = "", None
    if not gone:
        try:
            sample = looks.sample(parts, snapshot)
            looked = looks.profile(parts, snapshot)
        except SampanError as error:
            trouble = str(error)
    profiles = {one.name: one for one in looked.columns} if looked else {}
    uses = Uses(parts.db, then)
    readers = uses.readers(name)
    models = uses.below(name, "model")
    code = code_of(parts.folder.root, name)
    held = _held(parts).get(name) if then is None else None
    types = set(parts.contracts.types())
    return TablePage(
        name=name,
        ref=ref,
        branches=list(parts.lake.branches()),
        snapshot=snapshot.id,
        rows=snapshot.rows,
        bytes=snapshot.bytes,
        flags=snapshot.flags,
        run=snapshot.run,
        created=snapshot.created,
        current=current,
        newer=_Freshness(parts).newer(uses, name, snapshot) if current and then is None else 0,
        held=held if held and held.snapshot not in (snapshot.id, parts.lake.names().get(name)) else None,
        columns=_columns(
            parts, name, snapshot, profiles, of_columns(parts, query, name), told=current and then is None
        ),
        looking=looked is None and not trouble and not gone and parts.pulse is not None,
        sample=sample,
        history=_history(parts, name, branch, then),
        files=[file.sha256 for file in snapshot.files],
        code=code,
        about=about(code),
        needs=[one for one in uses.needs(name) if one not in types],
        events=[one for one in uses.needs(name) if one in types],
        readers=[use for use in readers if use.kind != "check"],
        checks=[use for use in readers if use.kind == "check"],
        models=models,
        endpoints=_endpoints(parts, {use.name for use in models}, then),
        trouble=trouble,
        remarks=remarks(parts, query, "table", name, there=name in parts.lake.names()),
        as_of=then,
        cut=_cut(parts, name, snapshot, code, then),
        gone=gone,
    )


def _state(parts: Parts, name: str, given: str | None, ref: str, then: int | None) -> Snapshot:
    """The state that is asked for; without files where clean-up has removed what a run has given. Raises NotFound."""
    try:
        return parts.lake.snapshot(given) if given else parts.lake.table(name, parts.lake.ref_at(ref, then))
    except NotFound:
        id = given or parts.lake.names(parts.lake.ref_at(ref, then)).get(name)
        row = parts.db.row(
            "SELECT runs.id, runs.started FROM run_steps JOIN runs ON runs.id = run_steps.run"
            " WHERE run_steps.name = ? AND run_steps.digest = ? ORDER BY runs.started LIMIT 1",
            (name, id),
        )
        if id is None or row is None:
            raise
        return Snapshot(id, name, (), (), 0, 0, (), row["id"], None, row["started"])


def _cut(parts: Parts, name: str, snapshot: Snapshot, code: Code | None, then: int | None) -> Cut | None:
    """How a table is cut, as its file says now."""
    partitions = len({file.partition for file in snapshot.files if file.partition})
    how = None
    if code is not None and code.language == "sql":
        with suppress(SampanError):  # a file that does not read is no reason not to show the table
            how = declared(code.text, code.path)
    if how is None and not partitions:
        return None
    said = str(how) if how is not None else "no longer, as its file says now"
    return Cut(said, partitions, Proofs(parts.db).latest(name, then))


def _columns(
    parts: Parts,
    name: str,
    snapshot: Snapshot,
    profiles: dict[str, ColumnProfile],
    said: dict[str, Remarks],
    *,
    told: bool,
) -> list[Column]:
    columns = None
    if told:
        with suppress(SampanError):  # a flow that does not read is no reason not to show the table
            columns = parts.columns()
    found = []
    for field, type in snapshot.fields:
        column = Column(field, type, profiles.get(field), remarks=said.get(field))
        if columns is not None and name in columns:
            column.whole = columns.whole(name)
            column.made_of = [] if column.whole else [shown(ref) for ref in columns.fact(name, field).of]
        found.append(column)
    return found


def _endpoints(parts: Parts, models: set[str], then: int | None) -> list[str]:
    """Endpoints that serve a version of one of these models."""
    return sorted(name for name, ref in serving(parts, then).items() if ref.partition("@")[0] in models)


def _history(parts: Parts, name: str, branch: str, then: int | None) -> list[State]:
    """Commits of a branch in which this table became another, newest first."""
    states: list[State] = []
    commits = parts.lake.history(branch, _COMMITS if then is None else _ALL)
    commits = [one for one in commits if then is None or one.created <= then]
    for at, commit in enumerate(commits):
        now = commit.tables.get(name)
        before = commits[at + 1].tables.get(name) if at + 1 < len(commits) else None
        if now is not None and now != before and len(states) < _STATES:
            state, old = _known(parts, now), _known(parts, before) if before else None
            states.append(
                State(
                    commit.id,
                    now,
                    state.rows if state else None,
                    state.rows - old.rows if state and old else None,
                    state.bytes if state else None,
                    commit.run,
                    commit.actor,
                    commit.reason,
                    commit.created,
                )
            )
    return states
