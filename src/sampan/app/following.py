"""While the hub is up, shadows follow that the records say."""

import logging
from typing import TYPE_CHECKING, Final

from sampan.app.repeating import repeat, when_busy

if TYPE_CHECKING:
    from sampan.app.hub import RunningHub

_LOG: Final = logging.getLogger("sampan.shadow")
_PAUSE: Final = 2.0


async def keep_following(hub: "RunningHub") -> None:
    """Until it is cancelled."""

    def quiet(error: Exception) -> bool:
        return hub.ending or when_busy(error)

    said = "a shadow cannot follow"
    await repeat(hub.app.settle_shadows, _LOG, said, first=0.0, pause=_PAUSE, quiet=quiet)
