"""A registered model: its versions, which of them is meant by which name, and what was in use when."""

from collections.abc import Sequence
from typing import Final

import msgspec

from sampan.hub.parts import Parts, Query, as_of, begun
from sampan.hub.remarks import Remarks, remarks
from sampan.hub.uses import about, code_of
from sampan.hub.views.models import ModelLine, lines
from sampan.models.aliases import Alias
from sampan.models.signatures import Signatures

_THIN: Final = 0.004  # of the whole width: a bar that can still be seen


class Use(msgspec.Struct, kw_only=True):
    """A stretch of time in which an alias named a version, or an endpoint served it. ``start`` and ``share`` are those
    of its bar, as shares of the time since the first."""

    kind: str
    name: str
    ref: str
    since: int
    until: int | None
    actor: str
    reason: str
    evidence: list[str] = []
    start: float = 0.0
    share: float = 0.0


class Moment(msgspec.Struct):
    """Something that happened to a model. ``refused`` says why an attempt changed nothing."""

    at: int
    what: str
    ref: str
    actor: str
    reason: str
    refused: str = ""
    evidence: list[str] = []


class ModelPage(msgspec.Struct, kw_only=True):
    """Context of ``model.html``. ``uses`` are newest first; ``rows`` the same by name, to be drawn."""

    name: str
    about: str
    line: ModelLine | None
    aliases: list[Alias]
    uses: list[Use]
    rows: dict[str, list[Use]]
    history: list[Moment]
    remarks: Remarks
    as_of: int | None = None


def model(parts: Parts, query: Query) -> ModelPage:
    """One model: its versions, aliases, tags, what was in use when and who decided it."""
    then = as_of(query)
    name = query["model"]
    known = parts.models.find(name) if then is None else None
    line = next((one for one in lines(parts, name, then)), None)
    if known is None and line is None:
        begun(f"the model {name}", parts.models.find(name).created, then)
    uses = _uses(parts, name, then)
    rows: dict[str, list[Use]] = {}
    for one in sorted(uses, key=lambda one: (one.kind, one.name, one.since)):
        rows.setdefault(f"{one.kind} {one.name}", []).append(one)
    return ModelPage(
        name=name,
        about=about(code_of(parts.folder.root, name)),
        line=line,
        aliases=parts.models.aliases.list(name, then),
        uses=uses,
        rows=rows,
        history=_history(parts, name, then, uses),
        remarks=remarks(parts, query, "model", name),
        as_of=then,
    )


def _uses(parts: Parts, name: str, then: int | None) -> list[Use]:
    """When which alias named and which endpoint served which version, newest first."""
    found: list[Use] = []
    current: dict[tuple[str, str], Use] = {}

    def turn(
        kind: str, key: str, ref: str | None, at: int, actor: str, reason: str, evidence: Sequence[str] = ()
    ) -> None:
        if (before := current.pop((kind, key), None)) is not None:
            before.until = at
        if ref is not None:
            one = Use(kind=kind, name=key, ref=ref, since=at, until=None, actor=actor, reason=reason)
            one.evidence = list(evidence)
            current[kind, key] = one
            found.append(one)

    for change in reversed(parts.models.aliases.history(name, then)):
        if not change.refused:
            ref = None if change.number is None else f"{name}@{change.number}"
            turn("alias", change.alias, ref, change.at, change.actor, change.reason, change.evidence)
    rows = parts.db.rows(
        "SELECT name, json_extract(spec, '$.version') AS ref, actor, reason, created FROM endpoints"
        " WHERE created <= ? ORDER BY created, rowid",
        (1 << 62 if then is None else then,),
    )
    for row in rows:
        ours = row["ref"].partition("@")[0] == name
        if ours or ("endpoint", row["name"]) in current:
            turn("endpoint", row["name"], row["ref"] if ours else None, row["created"], row["actor"], row["reason"])
    _place(found, parts.clock.micros() if then is None else then)
    return sorted(found, key=lambda one: one.since, reverse=True)


def _place(uses: list[Use], now: int) -> None:
    """Where the bar of each begins, and how long it is."""
    first = min((one.since for one in uses), default=now)
    whole = max(now - first, 1)
    for one in uses:
        one.start = round((one.since - first) / whole, 5)
        one.share = round(max(((one.until or now) - one.since) / whole, _THIN), 5)


def _history(parts: Parts, name: str, then: int | None, uses: list[Use]) -> list[Moment]:
    found = [
        Moment(one.created, "registered", one.ref, one.actor or (f"run {one.run}" if one.run else ""), "")
        for one in parts.models.list(name, then)
    ]
    for one in Signatures(parts.db, parts.clock).of_model(name, then):
        found.append(Moment(one.at, f"signed with the key {one.key}", f"{name}@{one.number}", one.actor, one.reason))
    for change in parts.models.aliases.history(name, then):
        ref = f"{name}@{change.number}" if change.number is not None else ""
        what = f"alias {change.alias}" if change.number is not None else f"alias {change.alias} removed"
        found.append(Moment(change.at, what, ref, change.actor, change.reason, change.refused, change.evidence))
    for use in uses:
        if use.kind == "endpoint":
            found.append(Moment(use.since, f"served by {use.name}", use.ref, use.actor, use.reason))
    return sorted(found, key=lambda one: one.at, reverse=True)
