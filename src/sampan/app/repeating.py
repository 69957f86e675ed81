"""What the hub does again and again while it is up, in a thread, so that nobody waits for it."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from sampan.base.errors import Busy

#: Whether a failure is nothing to speak of.
Quiet = Callable[[Exception], bool]


def when_busy(error: Exception) -> bool:
    """Somebody else is at it: the next time will do."""
    return isinstance(error, Busy)


async def repeat(
    doing: Callable[[], Any],
    log: logging.Logger,
    complaint: str,
    *,
    first: float,
    pause: float,
    done: Callable[[Any], None] = lambda made: None,
    quiet: Quiet = lambda error: False,
) -> None:
    """Do it ``first`` seconds from now and then every ``pause`` seconds, until it is cancelled.

    ``done`` gets what came of it. What goes wrong is said once and tried again; ``complaint`` begins the sentence.
    """
    wait, said = first, ""
    while True:
        await asyncio.sleep(wait)
        wait = pause
        try:
            made = await asyncio.to_thread(doing)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is said once and tried again
            if not quiet(error) and (now := f"{type(error).__name__}: {error}") != said:
                said = now
                log.error(f"{complaint}: %s", said)
        else:
            said = ""
            done(made)
