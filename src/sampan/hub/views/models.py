"""Models and their versions."""

from typing import Any

import msgspec

from sampan.base.errors import NotFound
from sampan.hub.parts import Parts, Query


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
