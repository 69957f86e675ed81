"""Tags, a note and comments: what people say of anything that has a page of its own.

Logged runs and experiments are not among these: what is said of them are MLflow's own tags and notes.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec

from sampan.base.errors import NotFound, Usage
from sampan.hub.parts import Parts, Query, as_of, may, who
from sampan.hub.urls import Urls
from sampan.models.labels import NOTE, TAG, Label
from sampan.release.records import RolloutRecords
from sampan.runs.impacts import Impacts
from sampan.runs.records import Runs
from sampan.runs.replays import Replays
from sampan.serve.endpoints import Endpoints
from sampan.team.comments import Comment, Comments
from sampan.team.roles import LOG
from sampan.watch.alerts import Alerts

if TYPE_CHECKING:
    from sampan.base.clock import Clock
    from sampan.lake.lake import Lake
    from sampan.log.contracts import Contracts
    from sampan.log.log import Log, StoredEvent
    from sampan.models.registry import Models
    from sampan.store.database import Database

_SHOWN: Final = 200


class Things(Protocol):
    """Where objects are looked up."""

    @property
    def clock(self) -> "Clock": ...
    @property
    def db(self) -> "Database": ...
    @property
    def contracts(self) -> "Contracts": ...
    @property
    def lake(self) -> "Lake": ...
    @property
    def log(self) -> "Log": ...
    @property
    def models(self) -> "Models": ...


class Kind(NamedTuple):
    """How an object of a kind is found, which gives its whole name, and where its page is."""

    find: Callable[[Things, str], str]
    address: Callable[[str], str]


def _table(parts: Things, name: str) -> str:
    if name not in parts.lake.names():
        raise NotFound(f"Find the table {name[:100]!r}", "main has none", "`sampan table list` shows those it has.")
    return name


def _column(parts: Things, name: str) -> str:
    table, _, column = name.partition(".")
    if column not in dict(parts.lake.table(_table(parts, table)).fields):
        advice = f"`sampan table show {table}` shows those it has; write {table}.COLUMN."
        raise NotFound(f"Find the column {name[:100]!r}", f"the table {table!r} has none of that name", advice)
    return name


def _event(parts: Things, name: str) -> str:
    """An event by its position or its id."""
    event = _at(parts, name) or parts.log.find(name)
    if event is None or event.verdict != "accepted":
        attempted = f"Find the event {name[:100]!r}"
        if event is not None:
            raise NotFound(attempted, "it is in quarantine", f"There it is called `item {event.position}`.")
        raise NotFound(attempted, "the log has none with this position or id", "`sampan log tail` shows the newest.")
    return event.position


def _item(parts: Things, name: str) -> str:
    """A quarantined event by its position."""
    event = _at(parts, name)
    if event is None or event.verdict != "quarantined":
        attempted, advice = f"Find {name[:100]!r} in quarantine", "`sampan quarantine list` shows positions."
        raise NotFound(attempted, "nothing waits, or waited, at this position", advice)
    return event.position


def _at(parts: Things, position: str) -> "StoredEvent | None":
    try:
        return parts.log.at(position)
    except (NotFound, Usage):
        return None


def _prediction(parts: Things, name: str) -> str:
    event = parts.log.find(name, type="prediction")
    if event is None or event.id is None:
        raise NotFound(f"Find the prediction {name[:100]!r}", "none has this id", "/predictions lists the newest.")
    return event.id


def _endpoint(parts: Things, name: str) -> str:
    return Endpoints(parts.db, parts.models, parts.clock).get(name).name


#: What can be tagged, described and commented on.
KINDS: Final[Mapping[str, Kind]] = {
    "model": Kind(lambda parts, name: parts.models.find(name).name, Urls.model),
    "version": Kind(lambda parts, name: parts.models.get(name).ref, Urls.version),
    "table": Kind(_table, Urls.table),
    "column": Kind(_column, lambda name: Urls.table(name.partition(".")[0])),
    "contract": Kind(lambda parts, name: parts.contracts.contract(name).spec.type, Urls.contract),
    "run": Kind(lambda parts, name: Runs(parts.db).get(name).id, Urls.run),
    "endpoint": Kind(_endpoint, Urls.endpoint),
    "replay": Kind(lambda parts, name: Replays(parts.db).get(name).id, Urls.replay),
    "branch": Kind(lambda parts, name: parts.lake.branch_of(name).name, Urls.branch),
    "impact": Kind(lambda parts, name: Impacts(parts.db).get(name).id, Urls.impact),
    "rollout": Kind(lambda parts, name: RolloutRecords(parts.db, parts.clock).get(name).id, Urls.rollout),
    "incident": Kind(lambda parts, name: RolloutRecords(parts.db, parts.clock).incident(name).id, Urls.incident),
    "alert": Kind(lambda parts, name: Alerts(parts.db, parts.clock).get(name).id, Urls.alert),
    "event": Kind(_event, Urls.event),
    "item": Kind(_item, Urls.item),
    "prediction": Kind(_prediction, Urls.prediction),
}


def found(parts: Things, kind: str, name: str) -> str:
    """An object as records name it: its kind and its whole name. Raises NotFound for a kind or a name that is none."""
    return f"{kind} {kind_of(kind).find(parts, name)}"


def kind_of(kind: str) -> Kind:
    """Raises NotFound for a kind that is none."""
    if kind not in KINDS:
        raise NotFound(f"Find a {kind[:40]}", "nothing of this kind can be described", f"Kinds: {', '.join(KINDS)}.")
    return KINDS[kind]


def address(parts: Things, object: str) -> str:
    """Where the page of an object is; empty for one that is no more."""
    kind, _, name = object.partition(" ")
    try:
        found(parts, kind, name)
    except NotFound:
        return ""
    return KINDS[kind].address(name)


def named(object: str) -> str:
    """How an object is called where things of all kinds stand together: ``table orders``, but ``reorder@3``."""
    kind, _, name = object.partition(" ")
    return name if kind in ("model", "version") else object


class Tag(msgspec.Struct):
    """A tag, with who set it when."""

    key: str
    value: str
    actor: str
    since: int


class Remark(msgspec.Struct):
    """A comment; without its text if it was withdrawn. ``mine``: whoever looks may withdraw it."""

    id: str
    text: str
    actor: str
    at: int
    withdrawn: bool
    mine: bool


class Remarks(msgspec.Struct):
    """What is said of an object: a part of its page's context. ``earlier`` counts comments before those shown, the
    oldest of which comes first; ``open``: whoever looks may add one."""

    kind: str
    name: str
    tags: list[Tag]
    note: str
    comments: list[Remark]
    earlier: int
    open: bool


def remarks(parts: Parts, query: Query, kind: str, name: str, *, there: bool = True) -> Remarks:
    """What is said of an object, or was by the time that the page is asked for. ``there``: it can be commented on."""
    then = as_of(query)
    labels = parts.models.labels.of(f"{kind} {name}", then)
    comments = Comments(parts.db, parts.clock).of(f"{kind} {name}", then)
    return _said(kind, name, labels, comments, who(query), there and then is None and may(query, LOG))


def of_columns(parts: Parts, query: Query, table: str) -> dict[str, Remarks]:
    """What is said of columns of a table, by their names; of one of which nothing is said, nothing."""
    then = as_of(query)
    labels = parts.models.labels.all("column", then)
    comments = Comments(parts.db, parts.clock).all("column", then)
    me, open = who(query), then is None and may(query, LOG)
    return {
        name.partition(".")[2]: _said("column", name, labels.get(name, []), comments.get(name, []), me, open)
        for name in {*labels, *comments}
        if name.partition(".")[0] == table
    }


def _said(kind: str, name: str, labels: list[Label], comments: list[Comment], me: str, open: bool) -> Remarks:
    return Remarks(
        kind,
        name,
        [Tag(one.key, one.value, one.actor, one.since) for one in labels if one.kind == TAG],
        "".join(one.value for one in labels if one.kind == NOTE),
        [
            Remark(one.id, one.text, one.actor, one.at, one.withdrawn, open and one.actor == me and not one.withdrawn)
            for one in comments[-_SHOWN:]
        ],
        max(len(comments) - _SHOWN, 0),
        open,
    )
