"""One field that finds everything: columns, tables, steps, customers, events, runs, commits, models, notes, people."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from sampan.base.errors import SampanError
from sampan.hub.parts import Parts, Query, may
from sampan.hub.remarks import address, named
from sampan.hub.urls import Urls
from sampan.lake.history import MAIN
from sampan.log.builtin import BUILTIN
from sampan.log.position import Position
from sampan.log.seek import Wanted, seek
from sampan.models.version import Version
from sampan.runs.records import Runs
from sampan.team.comments import Comments
from sampan.team.roles import ADMINISTER
from sampan.track.lookup import Lookup

_OWN: Final = frozenset(cls.__sampan_type__ for cls in BUILTIN)
_EACH: Final = 8  # of a kind
_EVENTS_SECONDS: Final = 0.08


class Hit(msgspec.Struct):
    """Something found: what it is, how it is called, why it is here, and where its page is."""

    kind: str
    name: str
    says: str
    address: str
    exact: bool = False


class SearchPage(msgspec.Struct):
    """Context of ``search.html``. ``partly``: older events were not looked at, for lack of time."""

    q: str
    hits: list[Hit]
    partly: bool
    examples: list[str] = []
    """Words that lead somewhere, while none is asked for."""


def search(parts: Parts, query: Query) -> SearchPage:
    """Everything that has to do with a word."""
    q = str(query.get("q", "")).strip()[:200]
    if not q:
        return SearchPage("", [], False, _examples(parts))
    word = q.casefold()
    hits = [*_tables(parts, word), *_steps(parts, word), *_types(parts, word), *_models(parts, word)]
    hits += [
        *_endpoints(parts, word),
        *_logged(parts, word),
        *_labels(parts, word),
        *_runs(parts, q),
        *_commits(parts, q),
        *_people(parts, word, tokens=may(query, ADMINISTER)),
    ]
    events, partly = _events(parts, q)
    kept: list[Hit] = []
    for hit in sorted([*events, *hits], key=lambda hit: not hit.exact):
        if sum(one.kind == hit.kind for one in kept) < _EACH and all(one.address != hit.address for one in kept):
            kept.append(hit)
    return SearchPage(q, kept, partly)


def _examples(parts: Parts) -> list[str]:
    """One of each that there is: a table, a kind of event, a customer, a version, a run."""
    customers = (parts.log.subject(event) for event in parts.log.events(newest_first=True, limit=1))
    each: list[Iterable[str | None]] = [
        parts.lake.tables(),
        (type for type in parts.contracts.types() if type not in _OWN),
        customers,
        (version.ref for version in parts.models.list()),
        (run.id for run in Runs(parts.db).list(1, branch=MAIN)),
    ]
    return [word for words in each if (word := next(iter(words), None))]


def _tables(parts: Parts, word: str) -> Iterator[Hit]:
    for name, snapshot in parts.lake.tables().items():
        columns = [(column, type) for column, type in snapshot.fields if word in column.casefold()]
        if word in name.casefold() or snapshot.id.startswith(word):
            says = f"{snapshot.rows:,} rows in {len(snapshot.fields)} columns"
            yield Hit("table", name, says, Urls.table(name), word in (name.casefold(), snapshot.id))
        for column, type in columns:
            yield Hit(
                "column",
                f"{name}.{column}",
                f"{type.lower()}, in the table {name}",
                f"{Urls.table(name)}#{column}",
                column.casefold() == word,
            )


def _steps(parts: Parts, word: str) -> Iterator[Hit]:
    """Steps by name, those that read or make what was asked for too."""
    runs = Runs(parts.db)
    for run in runs.list(1, branch=MAIN):
        for step in runs.steps(run.id):
            address = f"{Urls.run(run.id)}#step-{step.name}"
            if word in step.name.casefold():
                yield Hit("step", step.name, f"{step.kind}, {step.state}", address, step.name.casefold() == word)
            elif word in (need.casefold() for need in step.needs):
                yield Hit("step", step.name, f"{step.kind}, reads it", address)


def _types(parts: Parts, word: str) -> Iterator[Hit]:
    for type in parts.contracts.types():
        spec = parts.contracts.get(type)
        if word in type.casefold():
            yield Hit("contract", type, f"version {spec.version}", Urls.contract(type), type.casefold() == word)
        for field in spec.fields:
            if word in field.name.casefold():
                says = "field of its events"
                yield Hit("field", f"{type}.{field.name}", says, Urls.contract(type), field.name.casefold() == word)


def _models(parts: Parts, word: str) -> Iterator[Hit]:
    for model in parts.models.registered():
        if word in model.name.casefold():
            yield Hit("model", model.name, "a model", Urls.model(model.name), model.name.casefold() == word)
    for alias in parts.models.aliases.list():
        if word in alias.alias.casefold():
            says = f"names {alias.ref}"
            name = f"{alias.model}@{alias.alias}"
            yield Hit("alias", name, says, Urls.model(alias.model), alias.alias.casefold() == word)
    for version in parts.models.list():
        if word in version.ref.casefold() or version.digest.startswith(word) or version.run == word:
            yield Hit("version", version.ref, _made(version), Urls.version(version.ref), version.ref.casefold() == word)


def _logged(parts: Parts, word: str) -> Iterator[Hit]:
    for one in Lookup(parts.tracking.db).find(word, _EACH):
        exact = word in (one.name.casefold(), one.run)
        if one.run:
            says = f"logged in {one.of}, {one.run}"
            yield Hit("logged run", one.name, says, Urls.logged_run(one.experiment, one.run), exact)
        else:
            yield Hit("experiment", one.name, "logged runs", Urls.experiment(one.experiment), exact)


def _labels(parts: Parts, word: str) -> Iterator[Hit]:
    """What people say of things: tags, notes and comments; of what is no more, nothing."""
    for one in parts.models.labels.holding(word, _EACH):
        said = _brief(one.value)
        if page := address(parts, one.object):
            yield Hit(one.kind, named(one.object), f"{one.key}: {said}" if one.key else said, page)
    for comment in Comments(parts.db, parts.clock).holding(word, _EACH):
        if page := address(parts, comment.object):
            says = f"{comment.actor}: {_brief(comment.text)}"
            yield Hit("comment", named(comment.object), says, f"{page}#comment-{comment.id}")


def _brief(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}…"


def _made(version: Version) -> str:
    return f"{version.kind}, {version.format}"


def _endpoints(parts: Parts, word: str) -> Iterator[Hit]:
    seen: set[str] = set()
    for row in parts.db.rows("SELECT name, actor, spec FROM endpoints ORDER BY created DESC, rowid DESC"):
        name = row["name"]
        if name not in seen and (word in name.casefold() or word in row["spec"].casefold()):
            yield Hit("endpoint", name, parts.serving_state(name), "/endpoints", name.casefold() == word)
        seen.add(name)


def _runs(parts: Parts, q: str) -> Iterator[Hit]:
    like = f"{q.replace('%', '').replace('_', '')}%"
    rows = parts.db.rows(
        "SELECT id, state, target, actor FROM runs WHERE id LIKE ? OR commit_id LIKE ? OR git LIKE ? OR target = ?"
        " ORDER BY started DESC LIMIT ?",
        (like, like, like, q, _EACH),
    )
    for row in rows if len(like) > 3 else ():
        says = f"{row['state']}, {row['target'] or 'everything'}, by {row['actor'] or 'somebody'}"
        yield Hit("run", row["id"], says, Urls.run(row["id"]), row["id"] == q)


def _commits(parts: Parts, q: str) -> Iterator[Hit]:
    like = f"{q.replace('%', '').replace('_', '')}%"
    rows = parts.db.rows(
        "SELECT id, branch, actor, reason FROM commits WHERE id LIKE ? OR reason LIKE ? ORDER BY created DESC LIMIT ?",
        (like, f"%{like}", _EACH),
    )
    for row in rows if len(like) > 4 else ():
        says = f"on {row['branch']}, {row['reason'] or row['actor'] or 'published by a run'}"
        yield Hit("commit", row["id"], says, f"/tables?ref=@{row['id']}", row["id"] == q)


def _people(parts: Parts, word: str, *, tokens: bool) -> Iterator[Hit]:
    """Who ran, deployed or repaired something, by name; with ``tokens`` whoever has one too."""
    sql = "SELECT actor AS name FROM runs UNION SELECT actor FROM endpoints UNION SELECT author FROM repairs"
    names = {row["name"] for row in parts.db.rows(sql + (" UNION SELECT name FROM tokens" if tokens else ""))}
    for name in sorted(name for name in names if name and word in name.casefold()):
        count = parts.db.rows("SELECT count(*) AS n FROM runs WHERE actor = ?", (name,))[0]["n"]
        runs = f"{count:,} run{'' if count == 1 else 's'}"
        newest = parts.db.row("SELECT id FROM runs WHERE actor = ? ORDER BY started DESC LIMIT 1", (name,))
        address = Urls.run(newest["id"]) if newest else "/endpoints"
        yield Hit(
            "person",
            name,
            f"{runs}, the last one here" if newest else "deployed or repaired",
            address,
            name.casefold() == word,
        )


def _events(parts: Parts, q: str) -> tuple[list[Hit], bool]:
    """An event by position or id; a customer by events and predictions about them."""
    hits: list[Hit] = []
    if ":" in q:
        try:
            Position.parse(q)
            event = parts.log.at(q)
        except SampanError:
            pass
        else:
            page = Urls.item(q) if event.verdict == "quarantined" else Urls.event(q)
            hits.append(Hit("event", q, f"{event.type or 'unknown'} {event.id or ''}", page, True))
    for one in parts.log.held.waiting():
        if one.complaint.id == q:
            hits.append(Hit("quarantined", one.position, one.complaint.text, Urls.item(one.position), True))
            if len(hits) >= _EACH:
                break
    found = seek(parts.log, Wanted(text=q), limit=200, seconds=_EVENTS_SECONDS)
    about = 0
    for event in found.events:
        if event.id == q:
            if event.type == "prediction":
                hits.append(Hit("prediction", q, "what was said, and why", Urls.prediction(q), True))
            hits.append(Hit("event", event.position, f"{event.type} {event.id}", Urls.event(event.position), True))
        elif parts.log.subject(event) == q:
            about += 1
    if about:
        more = " or more" if len(found.events) >= 200 or found.looked_to else ""
        says = f"{about:,}{more} of the newest events are about it"
        hits.append(Hit("customer", q, says, Urls.log(subject=q), True))
        hits.append(Hit("predictions", q, "what was predicted about it", Urls.predictions(entity=q), True))
    elif found.events and not hits:
        hits.append(Hit("events", q, "events that say this", Urls.log(text=q)))
    return hits, found.looked_to is not None and not hits
