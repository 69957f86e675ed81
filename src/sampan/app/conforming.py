"""Sources are compared by themselves while the hub is up: whenever enough has come since the last time."""

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sampan.log.conform import PATIENCE, Conformity, command, due, record, recorded, told

if TYPE_CHECKING:
    from sampan.app import App

_LOG: Final = logging.getLogger("sampan.conform")
_PAUSE: Final = 20.0  # seconds between two looks at least …
_SHARE: Final = 20  # … and twenty times what the last one took: at most 5 % of one processor


async def keep_comparing(app: "App") -> None:
    """Until it is cancelled."""
    pause, complaint = _PAUSE / 4, ""
    while True:
        await asyncio.sleep(pause)
        began = time.monotonic()
        try:
            types = await asyncio.to_thread(lambda: due(app.log, recorded(app.db), app.own_types()))
            for found in await _compare(app, types) if types else ():
                await asyncio.to_thread(record, app.db, found)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is said once and tried again
            if (said := f"{type(error).__name__}: {error}") != complaint:
                complaint = said
                _LOG.error("sources could not be compared: %s", said)
        pause = max(_PAUSE, _SHARE * (time.monotonic() - began))


async def _compare(app: "App", types: list[str]) -> list[Conformity]:
    """In a process of its own, which does not outlive the hub."""
    pipe = asyncio.subprocess.PIPE
    arguments = command(app.folder.root, types, app.clock.micros())
    child = await asyncio.create_subprocess_exec(*arguments, stdout=pipe, stderr=asyncio.subprocess.DEVNULL)
    try:
        output, _ = await asyncio.wait_for(child.communicate(), PATIENCE)
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    return told(output)
