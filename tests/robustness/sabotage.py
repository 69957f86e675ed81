"""The faults that the durability tests must see. A server process imports this and calls ``apply``.

Each function breaks one promise of the log in the way that a careless change would. ``test_sabotage.py`` (marked
``night``) runs the oracles against each and asserts that they turn red.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

from sampan.base.errors import SampanError


def no_fsync() -> None:
    """Bytes are written and never synced."""
    from sampan.log import segment

    segment.sync = lambda fd: None  # type: ignore[assignment]


def ack_before_write() -> None:
    """Answers leave before the bytes are written."""
    from sampan.log.writer import StreamWriter

    async def drain(self: Any) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                requests, self._waiting = self._checked(self._waiting), []
                group = self._prepare(requests)
                for request in requests:
                    self._settle(request, None)
                await asyncio.sleep(0.002)
                await loop.run_in_executor(self._pool, self._flush, group)
                self._count(group)
        finally:
            self._task = None

    StreamWriter._drain = drain  # type: ignore[method-assign]


def write_later() -> None:
    """Answers leave at once; the bytes wait in memory for a fifth of a second."""
    from sampan.log.writer import StreamWriter

    async def drain(self: Any) -> None:
        try:
            while self._waiting:
                requests, self._waiting = self._checked(self._waiting), []
                group = self._prepare(requests)
                for request in requests:
                    self._settle(request, None)
                await asyncio.sleep(0.2)
                self._flush(group)
                self._count(group)
        finally:
            self._task = None

    StreamWriter._drain = drain  # type: ignore[method-assign]


def tidy_bytes() -> None:
    """Quarantined bytes are kept as readable text instead of as they came."""
    from sampan.log import numbering

    encode = numbering.encode

    def tidied(*args: Any, held: Any = (), **more: Any) -> bytes:
        return encode(*args, held=[raw.decode(errors="replace").encode() for raw in held], **more)

    numbering.encode = tidied  # type: ignore[assignment]


def deaf_to_signals() -> None:
    """Nobody handles SIGTERM: it ends the process where it stands."""
    import signal

    signal.signal = lambda number, handler: signal.SIG_DFL  # type: ignore[assignment]


def no_folder_sync() -> None:
    """A new segment's name is not made durable."""
    from sampan.log import segment

    segment.sync_folder = lambda folder: None  # type: ignore[assignment]


def no_tail_check() -> None:
    """Frames are believed whatever their checksum says."""
    from sampan.log import frames, read, segment, stream

    def payloads(fd: int, offset: int, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        while True:
            lead = os.pread(fd, frames.FRAME.size, offset)
            if len(lead) < frames.FRAME.size:
                return
            length, _ = frames.FRAME.unpack(lead)
            payload = os.pread(fd, length, offset + frames.FRAME.size)
            if not payload:
                return
            yield offset, payload
            offset += frames.FRAME.size + len(payload)

    for module in (frames, read, segment, stream):
        module.payloads = payloads  # type: ignore[attr-defined]


def no_dedupe() -> None:
    """Every event counts as new."""
    from sampan.log.dedupe import Dedupe

    Dedupe.take_new = lambda self, keys, doubtful, first, known: True  # type: ignore[method-assign]


def continue_after_fsync_error() -> None:
    """A failed sync is tried once more, "succeeds", and everything goes on."""
    from sampan.log import segment

    sync = segment.sync

    def again(fd: int) -> None:
        try:
            sync(fd)
        except OSError:
            sync(fd)

    segment.sync = again  # type: ignore[assignment]


def keys_after_events() -> None:
    """A subject's key is made durable after the events that it encrypts."""
    from sampan.log.keys import SubjectKeys

    SubjectKeys.flush = lambda self: None  # type: ignore[method-assign]


SABOTAGES: dict[str, Callable[[], None]] = {
    function.__name__: function
    for function in (
        no_fsync,
        ack_before_write,
        write_later,
        tidy_bytes,
        deaf_to_signals,
        no_folder_sync,
        no_tail_check,
        no_dedupe,
        continue_after_fsync_error,
        keys_after_events,
    )
}


def apply() -> None:
    """Break the server as the environment says."""
    name = os.environ["SABOTAGE"]
    if name not in SABOTAGES:
        raise SampanError("Sabotage a server", f"there is no {name!r}")
    SABOTAGES[name]()
