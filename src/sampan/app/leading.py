"""Rollouts are led by themselves while the hub is up: looked at every few seconds, and what follows is done."""

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from sampan.app.repeating import repeat, when_busy

if TYPE_CHECKING:
    from sampan.app.hub import RunningHub

_LOG: Final = logging.getLogger("sampan.rollout")
_PAUSE: Final = 2.0  # seconds between two looks at how candidates answer: a breach is to be acted on within ten
#: Times what a look at the KPI took, it rests before the next, which guardrails with a query wait for: no more than
#: leaves the machine to others.
_REST: Final = 2.0


async def keep_leading(hub: "RunningHub") -> None:
    """Until it is cancelled."""
    due: dict[str, float] = {}
    doing = partial(lead_all, hub, due)
    quiet = partial(_quiet, hub)
    await repeat(doing, _LOG, "a rollout could not be looked at", first=0.0, pause=_PAUSE, quiet=quiet)


def lead_all(hub: "RunningHub", due: dict[str, float]) -> None:
    """Look at each rollout that goes on. ``due``: when its KPI is to be asked for next; empty at a hub's start, which
    puts in force what was written down, until it succeeds. Raises what the first failed with, after all were seen."""
    app = hub.app
    failures: list[Exception] = []
    if "" not in due:
        try:
            app.settle_all()
            due[""] = 0.0
        except Exception as error:  # noqa: BLE001 - it is tried again; meanwhile candidates are looked at
            failures.append(error)
    for name in [one.name for one in app.endpoints.list()]:
        begun = app.rollouts.active(name)
        if hub.ending:
            continue
        if begun is None:
            if name in app.stuck:
                try:
                    app.lead_back(name)
                except Exception as error:  # noqa: BLE001 - another endpoint's rollout goes on
                    failures.append(error)
            continue
        started = time.monotonic()
        whole = started >= due.get(begun.id, 0.0)
        try:
            app.lead(begun, whole)
        except Exception as error:  # noqa: BLE001 - another endpoint's rollout goes on
            failures.append(error)
        if whole:
            ended = time.monotonic()
            due[begun.id] = ended + max(app.settings.get("rollout_every"), _REST * (ended - started))
    if failures:
        raise failures[0]


def _quiet(hub: "RunningHub", error: Exception) -> bool:
    return hub.ending or when_busy(error)
