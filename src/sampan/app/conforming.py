"""Sources are compared by themselves while the hub is up: whenever enough has come since the last time."""

import asyncio
import time
from typing import TYPE_CHECKING, Final

from sampan.base.errors import SampanError

if TYPE_CHECKING:
    from sampan.app import App

_PAUSE: Final = 20.0  # seconds between two looks at least …
_SHARE: Final = 20  # … and twenty times what the last one took: at most 5 % of one processor


async def keep_comparing(app: "App") -> None:
    """Until it is cancelled."""
    pause = _PAUSE / 4
    while True:
        await asyncio.sleep(pause)
        began = time.monotonic()
        await asyncio.to_thread(compare_due, app)
        pause = max(_PAUSE, _SHARE * (time.monotonic() - began))


def compare_due(app: "App") -> list[str]:
    """Compare the types of which enough has come, in a process of its own, and keep the results. Returns the types."""
    from sampan.log.conform import apart, due, record, recorded

    try:
        types = due(app.log, recorded(app.db), app.own_types())
        for found in apart(app.folder.root, types, app.clock.micros()) if types else ():
            record(app.db, found)
    except SampanError:  # a full disk, a damaged segment: others tell of it, and it is tried again
        return []
    return types
