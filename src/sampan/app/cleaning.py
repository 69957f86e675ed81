"""Clean-up by itself while the hub is up, if ``[retention] every`` asks for it."""

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from sampan.base.errors import Busy, Refused
from sampan.keep.cleanups import SCHEDULE, Cleanups
from sampan.keep.retention import NEVER, read_retention

if TYPE_CHECKING:
    from sampan.app.hub import RunningHub

_LOG: Final = logging.getLogger("sampan.clean")
_FIRST: Final = 5.0  # seconds after the start until it is first asked whether a clean-up is due …
_PAUSE: Final = 30.0  # … and between two questions


async def keep_clean(hub: "RunningHub") -> None:
    """Until it is cancelled. sampan.toml is read each time, so a change of it needs no start of the hub."""
    pause, complaint = _FIRST, ""
    while True:
        await asyncio.sleep(pause)
        pause = _PAUSE
        try:
            done = await asyncio.to_thread(clean_if_due, hub)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is said once and tried again
            if not isinstance(error, Busy) and (said := f"{type(error).__name__}: {error}") != complaint:
                complaint = said
                _LOG.error("it could not be cleaned up: %s", said)
        else:
            complaint = ""
            if done is not None:
                facts = {"files": done["gone"], "bytes": done["gone_bytes"]}
                _LOG.info("cleaned up", extra={"facts": facts})


def clean_if_due(hub: "RunningHub") -> Any:
    """Clean up if it is time and nothing else is going on; None if not. Raises what a clean-up raises."""
    app = hub.app
    every = read_retention(app.folder.config()).every
    if every == NEVER or app.busy or hub.ending or not Cleanups(app.db, app.clock).due(every):
        return None

    def going_on(step: Any) -> None:
        if hub.ending:
            raise Refused("Clean up", "the hub is being stopped", "The next clean-up goes on with what is left.")

    return app.clean(True, SCHEDULE, going_on)
