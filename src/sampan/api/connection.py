"""One client's connection to a serving process: HTTP/1.1, one request after the other, nothing waited for.

A server of its own, and not uvicorn: between bytes and model there is no task, no routing and no copy, which is half of
what a prediction cost. The connection can be left to another process between any two bytes, and go on there.
"""

import asyncio
import os
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, cast

from sampan.api.guard import Response
from sampan.api.heads import LIMIT, Chunks, Malformed

if TYPE_CHECKING:
    from sampan.api.entrance import Entrance, Way

_BLANK: Final = b"\r\n\r\n"
_AHEAD: Final = 1 << 18  # bytes of further requests that are read before the one under way is answered
_IDLE: Final = 75.0  # seconds without a byte between requests
_STALLED: Final = 30.0  # and within one
_SILENT: Final = 2.0  # and of what is thrown away, so that its sender gets to read the answer
_LINGER: Final = 60.0  # seconds in which it may go on sending that
_GO_ON: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_ODD: Final = Response(400, [(b"content-type", b"text/plain"), (b"content-length", b"17")], b"This is not HTTP.")
_LINES: Final = {one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\n".encode() for one in HTTPStatus}


class Connection(asyncio.Protocol):
    """``found``: bytes that another process has read and not answered."""

    __slots__ = (
        "_buffer",
        "_busy",
        "_chunks",
        "_deaf",
        "_ended",
        "_entrance",
        "_fed",
        "_full",
        "_paused",
        "_start",
        "_told",
        "_transport",
        "_way",
        "seen",
    )

    def __init__(self, entrance: "Entrance", found: bytes = b"") -> None:
        self._entrance = entrance
        self._transport: asyncio.Transport | None = None
        self._buffer: bytes | bytearray = found
        self._way: Way | None = None
        self._start = 0  # where the body begins
        self._chunks: Chunks | None = None
        self._fed = 0
        self._busy = self._full = self._deaf = self._ended = self._paused = self._told = False
        self.seen = entrance.now

    # -- the transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._entrance.came(self)

    def data_received(self, data: bytes) -> None:
        self.seen = self._entrance.now
        if self._deaf:
            return
        if not self._buffer:
            self._buffer = data
        else:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer)
            self._buffer += data
        if not self._busy:
            self.go_on()
        if (self._busy or self._full) and len(self._buffer) > _AHEAD:
            self.pause()

    def eof_received(self) -> bool:
        self._ended = True
        return self._busy  # who has said all may still want the answer

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._entrance.went(self)

    # -- the entrance's

    def pause(self) -> None:
        """Read no further."""
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def answer(self, response: Response) -> None:
        """Answer the request that is under way, and go on to the next."""
        if self._transport is not None and self._way is not None:
            self._busy = False
            self._say(response, self._way.keep, mute=self._way.mute)
            self._way = None
            self.go_on()

    def stale(self, now: float) -> bool:
        """Whether its client has been silent for too long."""
        patience = _SILENT if self._deaf else _STALLED if self._buffer else _IDLE
        return not self._busy and now - self.seen > patience

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    @property
    def unsent(self) -> bool:
        """Whether answers wait for the client to read."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    @property
    def file(self) -> int | None:
        """Its file descriptor; None if it is closed, or about to be."""
        if self._transport is None or self._transport.is_closing() or self._deaf:
            return None
        found: int = self._transport.get_extra_info("socket").fileno()
        return found

    @property
    def read(self) -> bytes:
        """What was read of it and not answered."""
        return bytes(self._buffer)

    def last(self, response: Response) -> bytes:
        """An answer after which it is closed, to be written past this connection."""
        return self._written(response, False, False)

    def leave(self) -> tuple[int, bytes] | None:
        """Be done with it here without closing it: a file descriptor of it, and what was read and not answered. None
        if it ends here."""
        file = self.file
        if file is None or self._transport is None:
            return None
        if self.unsent:
            self._transport.close()
            return None
        file = os.dup(file)
        self._transport.abort()  # closes this process's end; what a second descriptor holds open stays open
        return file, self.read

    # -- reading

    def go_on(self) -> None:
        """Ask what has been read, one request at a time."""
        while self._buffer and not (self._busy or self._full or self._deaf) and self._transport is not None:
            if self._way is None and not self._begin():
                break
            if not self._end():
                break
        waits = self._busy or self._full or self._entrance.resting
        if self._paused and not waits and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def _begin(self) -> bool:
        """Read the head of the next request, if it is there."""
        end = self._buffer.find(_BLANK)
        if end < 0 or end > LIMIT:
            if len(self._buffer) > LIMIT:
                self._refuse(_ODD)
            return False
        self._start = end + len(_BLANK)
        return self._decide()

    def _decide(self) -> bool:
        try:
            self._way = self._entrance.way(bytes(self._buffer[: self._start]))
        except Malformed:
            self._refuse(_ODD)
            return False
        self._told = False
        return True

    def _end(self) -> bool:
        """Ask for what has been read, if all of it is there."""
        way = self._way
        assert way is not None
        if way.length is None:
            body = self._unchunked()
        elif len(self._buffer) >= (end := self._start + way.length):
            body = bytes(self._buffer[self._start : end])
        else:
            body = None
        if body is None:
            if self._deaf:
                return False
            if way.response is not None:
                self._refuse(way.response, mute=way.mute)
            elif way.expects and not self._told and self._transport is not None:
                self._told = True
                self._transport.write(_GO_ON)
            return False
        if not self._entrance.holds(way):
            if not self._decide():
                return False
            assert self._way is not None
            way = self._way
        self._buffer = self._buffer[end:] if way.length is not None else b""
        self._chunks, self._fed = None, 0
        if way.response is not None:
            self._way = None
            self._say(way.response, way.keep, mute=way.mute)
        elif way.asked is not None:
            self._busy = True
            at_once = self._entrance.ask(self, way.asked, body)
            if at_once is not None:
                self._busy, self._way = False, None
                self._say(at_once, way.keep)
        return True

    def _unchunked(self) -> bytes | None:
        """The body of a request that comes in chunks, once it is whole."""
        chunks = self._chunks = self._chunks or Chunks()
        try:
            chunks.feed(bytes(self._buffer[self._fed :]))
        except Malformed:
            self._refuse(_ODD)
            return None
        self._fed = len(self._buffer)
        assert self._way is not None
        if (too_large := self._entrance.too_large(self._way, chunks.size)) is not None:
            self._refuse(too_large)
            return None
        return chunks.body if chunks.whole else None

    # -- writing

    def _say(self, response: Response, keep: bool, *, mute: bool = False) -> None:
        if self._transport is not None:
            self._transport.write(self._written(response, keep, mute))
            self._entrance.count(response.status)
            if not keep or self._ended:
                self._transport.close()

    def _refuse(self, response: Response, *, mute: bool = False) -> None:
        """Answer before all has been read: what still comes is thrown away, and then the connection is closed."""
        if self._transport is not None:
            self._transport.write(self._written(response, False, mute))
            self._entrance.count(response.status)
            self._deaf, self._way, self._buffer = True, None, b""
            if self._transport.can_write_eof():
                self._transport.write_eof()
            asyncio.get_running_loop().call_later(_LINGER, self.close)

    def _written(self, response: Response, keep: bool, mute: bool) -> bytes:
        lines = b"".join([b"%b: %b\r\n" % one for one in response.headers])
        end = b"\r\n" if keep else b"connection: close\r\n\r\n"
        body = b"" if mute else response.body
        return b"".join((_LINES[response.status], lines, self._entrance.date, end, body))
