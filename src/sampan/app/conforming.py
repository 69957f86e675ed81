"""Sources are compared by themselves while the hub is up: whenever enough has come since the last time."""

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from sampan.base.errors import SampanError
from sampan.log.conform import PATIENCE, Conformity, command, due, record, recorded, told

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
        # A full disk, a damaged segment: others tell of it, and it is tried again.
        with suppress(SampanError, TimeoutError, msgspec.MsgspecError):
            types = await asyncio.to_thread(lambda: due(app.log, recorded(app.db), app.own_types()))
            for found in await _compare(app, types) if types else ():
                await asyncio.to_thread(record, app.db, found)
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
