"""One system call for what a server writes in one go: the head of an answer and its body.

uvicorn writes them apart, and uvloop hands each write to the system at once; for a single event that was a tenth of
all its time.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

_MOST: Final = 65_536  # bytes that wait for the end of a turn


class Joined(asyncio.Transport):
    """A transport whose writes within one turn of the loop go out as one, at the turn's end or once they are many."""

    def __init__(self, transport: asyncio.Transport, soon: Callable[[Callable[[], None]], Any]) -> None:
        super().__init__()
        self._transport, self._soon = transport, soon
        self._parts: list[bytes] = []
        self._size = 0
        # what the server asks for with every request goes straight to the transport
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._parts:
            self._soon(self._flush)
        self._parts.append(bytes(data))
        self._size += len(data)
        if self._size >= _MOST:
            self._flush()

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts, self._size = self._parts, [], 0
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._parts.clear()
        self._transport.abort()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)
