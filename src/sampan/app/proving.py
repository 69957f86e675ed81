"""Versions in use are made anew by themselves while the hub is up, if ``[reproduce] every`` asks for it."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sampan.app.repeating import repeat, when_busy
from sampan.base.errors import NotFound
from sampan.keep.rebuilding import read_often
from sampan.keep.retention import NEVER
from sampan.models.rebuilds import SCHEDULE, Rebuild, Rebuilds
from sampan.models.version import Version

if TYPE_CHECKING:
    from sampan.app.hub import RunningHub
    from sampan.app.workplace import Workplace

_LOG: Final = logging.getLogger("sampan.reproduce")
_FIRST: Final = 10.0  # seconds after the start until it is first asked whether a version is due …
_PAUSE: Final = 60.0  # … and between two questions


async def keep_proving(hub: "RunningHub") -> None:
    """Until it is cancelled. sampan.toml is read each time, so a change of it needs no start of the hub."""

    def done(made: dict[str, Any] | None) -> None:
        if made is not None:
            _LOG.info("made a version anew", extra={"facts": {"version": made["ref"], "level": made["level"]}})

    await repeat(
        partial(prove_if_due, hub),
        _LOG,
        "a version could not be made anew",
        first=_FIRST,
        pause=_PAUSE,
        done=done,
        quiet=lambda error: hub.ending or when_busy(error),
    )


def prove_if_due(hub: "RunningHub") -> dict[str, Any] | None:
    """Make the version anew that has waited longest, if one has waited long enough; None if not, or beside a run."""
    app = hub.app
    often = read_often(app.folder.config())
    if often.every == NEVER or app.busy or hub.ending:
        return None
    now = app.clock.micros()
    waiting = [(_tried(app, one), one) for one in in_use(app)]
    due = [(at, one.ref) for at, one in waiting if now - at >= often.every * 1_000_000]
    if not due:
        return None
    found = app.reproduce(min(due)[1], None, False, often.tolerance, lambda said: None, ended=lambda: hub.ending)
    app.keep_rebuild(found, SCHEDULE)
    return found


def in_use(app: "Workplace") -> Sequence[Version]:
    """Versions on main or served by an endpoint, as far as a run made them."""
    refs = {f"{model}@{number}" for model, number in app.lake.versions().items()}
    refs |= {one.spec.version for one in app.endpoints.list()}
    found = {}
    for ref in sorted(refs):
        with suppress(NotFound):
            version = app.models.get(ref)
            if version.run is not None:
                found[version.ref] = version
    return list(found.values())


def newest(app: "Workplace") -> Sequence[Rebuild]:
    """Of each version in use the newest attempt by the schedule, or by anybody if it succeeded."""
    attempts = (Rebuilds(app.db).list(one.model, one.number) for one in in_use(app))
    told = (next((one for one in tried if one.good or one.actor == SCHEDULE), None) for tried in attempts)
    return [one for one in told if one is not None]


def _tried(app: "Workplace", version: Version) -> int:
    """When the schedule last tried a version; 0 if it never has."""
    tried = Rebuilds(app.db).list(version.model, version.number)
    return next((one.created for one in tried if one.actor == SCHEDULE), 0)
