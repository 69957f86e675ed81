"""What the pages are made from: the parts of one workspace, as ``sampan.app.App`` holds them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from sampan.base.clock import iso
from sampan.base.errors import NotFound
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
    from sampan.models.tests import SuiteState
    from sampan.release.stages import Seen
    from sampan.serve.follower import FollowerState
    from sampan.store.database import Database
    from sampan.track.tracking import Tracking
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
    def tracking(self) -> "Tracking": ...
    @property
    def pulse(self) -> "Pulse | None": ...
    def instant(self, text: str) -> int: ...
    def plan(self, target: str = "", sets: dict[str, Any] | None = None) -> Any: ...
    def serving_state(self, name: str) -> str: ...
    def serving_address(self, name: str) -> str: ...
    def warm_bundles(self, name: str) -> Sequence[str]: ...
    def trials(self) -> Mapping[str, tuple[int, int]]: ...
    def followers(self) -> "Mapping[str, FollowerState]": ...
    def last_seen(self, rollout: str) -> "Seen | None": ...
    def test_state(self, ref: str) -> "SuiteState": ...
    def dependants(self, type: str) -> list[Dependant]: ...
    def columns(self, before: Mapping[str, Iterable[str]] | None = None) -> "Columns": ...


#: What a page was asked with: query and path, under ``PRINCIPAL`` who asks, under ``THEN`` as of when.
Query = dict[str, Any]
THEN: Final = "sampan.then"


def as_of(query: Query) -> int | None:
    """The past instant that a page is asked for, in microseconds; None: now. ``sampan.hub.sitemap.seen`` has read it
    from ``?as-of=``."""
    then: int | None = query.get(THEN)
    return then


def begun(what: str, since: int, then: int | None) -> None:
    """Raises NotFound where what a page is about was not there yet at the time that it is asked for."""
    if then is not None and since > then:
        raise NotFound(f"See {what} as of {iso(then)}", f"it is known since {iso(since)}", "Choose a later time.")


def who(query: Query) -> str:
    """The name of whoever asks for a page; empty for a command."""
    asks = query.get(PRINCIPAL)
    return asks.name if isinstance(asks, Principal) else ""


def may(query: Query, act: str) -> bool:
    """Whether whoever asks for a page may do something; nobody may for whom no guard has vouched."""
    asks = query.get(PRINCIPAL)
    return isinstance(asks, Principal) and asks.may(act)
