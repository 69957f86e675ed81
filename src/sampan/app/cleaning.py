"""Clean-up by itself while the hub is up, if ``[retention] every`` asks for it."""

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sampan.app.repeating import repeat, when_busy
from sampan.base.errors import Refused
from sampan.keep.cleanups import SCHEDULE, Cleanups
from sampan.keep.retention import NEVER, read_retention

if TYPE_CHECKING:
    from sampan.app.hub import RunningHub

_LOG: Final = logging.getLogger("sampan.clean")
_FIRST: Final = 5.0  # seconds after the start until it is first asked whether a clean-up is due …
_PAUSE: Final = 30.0  # … and between two questions


async def keep_clean(hub: "RunningHub") -> None:
    """Until it is cancelled. sampan.toml is read each time, so a change of it needs no start of the hub."""

    def done(made: Any) -> None:
        if made is not None:
            _LOG.info("cleaned up", extra={"facts": {"files": made["gone"], "bytes": made["gone_bytes"]}})

    doing = partial(clean_if_due, hub)
    await repeat(doing, _LOG, "it could not be cleaned up", first=_FIRST, pause=_PAUSE, done=done, quiet=when_busy)


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
