"""What the pages are made from: the parts of one workspace, as ``sampan.app.App`` holds them."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from sampan.base.clock import past
from sampan.team.roles import PRINCIPAL, Principal

if TYPE_CHECKING:
    from sampan.base.clock import Clock
    from sampan.base.settings import Folder, Settings
    from sampan.flow.columns import Columns
    from sampan.hub.pulse import Pulse
    from sampan.lake.lake import Lake
    from sampan.log.contracts import Contracts
    from sampan.log.log import Log
    from sampan.models.registry import Models
    from sampan.store.database import Database
    from sampan.watch.limits import Alerting


class Dependant(msgspec.Struct, frozen=True):
    """Something that would not be the same without a type of event. ``kind``: table, step, model, check, endpoint;
    ``via``: what of its needs leads there, empty if it needs the type itself."""

    name: str
    kind: str
    path: str
    via: tuple[str, ...] = ()


class Parts(Protocol):
    """Only reading is done with them here."""

    @property
    def folder(self) -> "Folder": ...
    @property
    def settings(self) -> "Settings": ...
    @property
    def clock(self) -> "Clock": ...
    @property
    def alerting(self) -> "Alerting": ...
    @property
    def db(self) -> "Database": ...
    @property
    def contracts(self) -> "Contracts": ...
    @property
    def log(self) -> "Log": ...
    @property
    def lake(self) -> "Lake": ...
    @property
    def models(self) -> "Models": ...
    @property
    def pulse(self) -> "Pulse | None": ...
    def plan(self, target: str = "", sets: dict[str, Any] | None = None) -> Any: ...
    def serving_state(self, name: str) -> str: ...
    def dependants(self, type: str) -> list[Dependant]: ...
    def columns(self, before: Mapping[str, Iterable[str]] | None = None) -> "Columns": ...


#: What a page was asked with: query and path, and under ``PRINCIPAL`` who asks.
Query = dict[str, Any]


def as_of(parts: Parts, query: Query) -> int | None:
    """The past instant that a page is asked for (``?as-of=TIME``), in microseconds; None: now. Raises Usage."""
    text = str(query.get("as-of") or "").strip()
    return past(text, parts.clock.micros()) if text else None


def may(query: Query, act: str) -> bool:
    """Whether whoever asks for a page may do something; nobody may for whom no guard has vouched."""
    who = query.get(PRINCIPAL)
    return isinstance(who, Principal) and who.may(act)
