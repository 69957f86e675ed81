"""Who takes what ``sampan.log`` left in the spool: the hub while it is up, else the command that holds the records."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.track.spool import SPOOL
from sampan.track.sync import Sync, waiting
from sampan.track.tracking import Tracking

if TYPE_CHECKING:
    from sampan.app.workplace import Workplace

_LOG: Final = logging.getLogger("sampan.track")
_PAUSE: Final = 1.0  # seconds between two looks


async def keep_taking(data: Path, tracking: Tracking) -> None:
    """Until it is cancelled."""
    from sampan.app.repeating import repeat

    taking = Sync(data, tracking).take
    await repeat(taking, _LOG, "what sampan.log logged could not be taken", first=0.0, pause=_PAUSE)


def take(place: "Workplace") -> int:
    """Take what waits, as the process that writes the records; gives how many runs it was of."""
    data = place.folder.data
    if not (data / SPOOL).is_dir() or not waiting(data):
        return 0
    tracking = Tracking(data, place.clock)
    try:
        return Sync(data, tracking).take()
    finally:
        tracking.close()
