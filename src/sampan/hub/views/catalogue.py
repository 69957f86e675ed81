"""Tables and models: what the workspace has."""

from typing import Any, Final

import msgspec

from sampan.base.errors import NotFound
from sampan.hub.parts import Parts, Query

SAMPLE: Final = 20


class TableLine(msgspec.Struct):
    """A table in the list."""

    name: str
    rows: int
    bytes: int
    columns: int
    snapshot: str
    run: str | None
    created: int
    flags: tuple[str, ...]


class Tables(msgspec.Struct):
    """Context of ``tables.html``."""

    ref: str
    branches: list[str]
    commit: str | None
    tables: list[TableLine]


def tables(parts: Parts, query: Query) -> Tables:
    """All tables of a branch or commit."""
    ref = query.get("ref") or "main"
    lines = [
        TableLine(name, s.rows, s.bytes, len(s.fields), s.id, s.run, s.created, s.flags)
        for name, s in parts.lake.tables(ref).items()
    ]
    head = ref[1:] if ref.startswith("@") else parts.lake.head(ref)
    return Tables(ref, list(parts.lake.branches()), head, lines)


class Column(msgspec.Struct):
    name: str
    type: str


class State(msgspec.Struct):
    """What a table was after one commit that changed it."""

    commit: str
    snapshot: str
    rows: int
    bytes: int
    run: str | None
    actor: str
    reason: str
    created: int


class TablePage(msgspec.Struct):
    """Context of ``table.html``."""

    name: str
    ref: str
    snapshot: str
    rows: int
    bytes: int
    flags: tuple[str, ...]
    run: str | None
    created: int
    columns: list[Column]
    sample: list[list[Any]]
    history: list[State]
    files: list[str]
    trouble: str = ""


def table(parts: Parts, query: Query) -> TablePage:
    """One table: columns, a few rows, and what it was before."""
    name, ref = query["name"], query.get("ref") or "main"
    given = query.get("snapshot")
    snapshot = parts.lake.snapshot(given) if given else parts.lake.table(name, ref)
    sample, trouble = _sample(parts, snapshot)
    return TablePage(
        name=name,
        ref=ref,
        snapshot=snapshot.id,
        rows=snapshot.rows,
        bytes=snapshot.bytes,
        flags=snapshot.flags,
        run=snapshot.run,
        created=snapshot.created,
        columns=[Column(*field) for field in snapshot.fields],
        sample=sample,
        history=_history(parts, name, "main" if ref.startswith("@") else ref),
        files=[file.sha256 for file in snapshot.files],
        trouble=trouble,
    )


def _sample(parts: Parts, snapshot: Any) -> tuple[list[list[Any]], str]:
    from sampan.base.errors import SampanError
    from sampan.lake.query import open_sources

    try:
        connection = open_sources({"it": parts.lake.source_of(snapshot)}, threads=1)
        try:
            return [list(row) for row in connection.execute(f"SELECT * FROM it LIMIT {SAMPLE}").fetchall()], ""
        finally:
            connection.close()
    except SampanError as error:
        return [], str(error)


def _history(parts: Parts, name: str, branch: str) -> list[State]:
    """Commits of a branch in which this table became another, newest first."""
    states: list[State] = []
    commits = parts.lake.history(branch, 200)
    for at, commit in enumerate(commits):
        now = commit.tables.get(name)
        before = commits[at + 1].tables.get(name) if at + 1 < len(commits) else None
        if now is not None and now != before and len(states) < 20:
            then = parts.lake.snapshot(now)
            states.append(
                State(commit.id, now, then.rows, then.bytes, commit.run, commit.actor, commit.reason, commit.created)
            )
    return states


class VersionLine(msgspec.Struct):
    """A version in the list."""

    ref: str
    kind: str
    format: str
    metrics: dict[str, Any]
    run: str | None
    created: int
    digest: str
    serving: list[str]


class ModelLine(msgspec.Struct):
    """A model with its versions, newest first."""

    name: str
    versions: list[VersionLine]
    measures: list[str]
    count: int = 0


class Models(msgspec.Struct):
    """Context of ``models.html``."""

    models: list[ModelLine]


def models(parts: Parts, query: Query) -> Models:
    """All models and their versions."""
    found: dict[str, ModelLine] = {}
    for version in parts.models.list(query.get("model") or None):
        line = found.setdefault(version.model, ModelLine(version.model, [], _measures(version.metrics)))
        line.count += 1
        line.versions.append(
            VersionLine(
                version.ref,
                version.kind,
                version.format,
                version.metrics,
                version.run,
                version.created,
                version.digest,
                [name for name, ref in serving(parts).items() if ref == version.ref],
            )
        )
    return Models(list(found.values()))


def _measures(metrics: dict[str, Any]) -> list[str]:
    """The metrics worth a column: plain figures, the usual ones first."""
    usual = ["auc", "brier", "log_loss", "accuracy", "rmse", "mae", "r2", "ndcg"]
    plain = [name for name, value in metrics.items() if isinstance(value, int | float) and not isinstance(value, bool)]
    return sorted(plain, key=lambda name: (usual.index(name) if name in usual else len(usual), name))[:4]


def serving(parts: Parts) -> dict[str, str]:
    """Which version each endpoint serves."""
    rows = parts.db.rows("SELECT name, spec FROM endpoints ORDER BY created, id")
    found: dict[str, str] = {}
    for row in rows:
        spec = msgspec.json.decode(row["spec"])
        found[row["name"]] = str(spec.get("version", ""))
    return found


class VersionPage(msgspec.Struct):
    """Context of ``version.html``."""

    ref: str
    model: str
    number: int
    kind: str
    format: str
    digest: str
    signature: Any
    metrics: dict[str, Any]
    files: dict[str, str]
    made_with: dict[str, str]
    run: str | None
    created: int
    serving: list[str]
    others: list[int]


def version(parts: Parts, query: Query) -> VersionPage:
    """One frozen version: signature, metrics, what made it, where it is served."""
    if not str(query["number"]).isdecimal():
        raise NotFound("Open a version", f"{query['number']!r} is no version number", "Write /models/MODEL/NUMBER.")
    found = parts.models.get(f"{query['model']}@{int(query['number'])}")
    return VersionPage(
        ref=found.ref,
        model=found.model,
        number=found.number,
        kind=found.kind,
        format=found.format,
        digest=found.digest,
        signature=msgspec.to_builtins(found.signature),
        metrics=found.metrics,
        files=found.files,
        made_with=found.made_with,
        run=found.run,
        created=found.created,
        serving=[name for name, ref in serving(parts).items() if ref == found.ref],
        others=[one.number for one in parts.models.list(found.model)],
    )
