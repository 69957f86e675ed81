"""Frames between the hub and a serving process, and between the champion's and the candidate's process of a rollout.

    u32 length of the payload | u32 request | u8 kind | u16 status | payload

Several requests are under way at once; ``request`` tells their answers apart. They go over a socket pair that nobody
else can reach; from process to process over a Unix socket in a private folder, which is gone once they are connected.
"""

import asyncio
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Final, NamedTuple, cast

_HEADER: Final = struct.Struct("!IIBH")
PAYLOAD_LIMIT: Final = 256 << 20


class Kind(IntEnum):
    # from the hub
    OPEN = 1  # payload: what to serve
    TAKE = 2  # take the stream and answer from now on
    ASK = 3  # status: the face's number; payload: the request's body (with its headers, unless the face is our own)
    STOP = 4
    GIVE = 5  # answer what was asked, let go of the stream, and stay loaded
    TRY = 6  # payload: records to be answered, in an ANSWER, without being kept
    LISTEN = 7  # payload: the path of a socket on which the champion's process will connect
    ASSIGN = 8  # payload: whom to ask beside oneself, and for what (``Assigned``, or null)
    ADMIT = 10  # payload: whose tokens are let in (``team.tokens.Pass``)
    LOOK = 20  # is anybody there?
    FOLLOW = 22  # say what one would have said to the predictions in the log; payload: ``Followed``
    STIR = 23  # there are more of them
    # from the champion's process to the candidate's
    WEIGH = 9  # payload: records to be answered, in an ANSWER, without being kept (``Errand``)
    # from the serving process
    READY = 11  # model and rules are loaded
    TAKEN = 12
    ANSWER = 13  # status and body
    FAILED = 14  # payload: the error; the process ends
    GIVEN = 15
    LISTENING = 16
    ASSIGNED = 17  # status: 1 if the candidate's process is connected
    NEWS = 18  # payload: how the candidate does (``News``)
    SEEN = 19
    FOLLOWING = 24
    TOLD = 21  # payload: what it has kept and answered (``Report``)


class Frame(NamedTuple):
    kind: Kind
    request: int
    status: int
    payload: bytes


class Frames(asyncio.Protocol):
    """Splits what arrives into frames; ``on_frame`` gets each, ``on_lost`` is called once at the end."""

    def __init__(self, on_frame: Callable[[Frame], None], on_lost: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        place = 0
        while len(self._buffer) - place >= _HEADER.size:
            length, request, kind, status = _HEADER.unpack_from(self._buffer, place)
            if length > PAYLOAD_LIMIT:
                self.close()
                return
            end = place + _HEADER.size + length
            if len(self._buffer) < end:
                break
            payload = bytes(memoryview(self._buffer)[place + _HEADER.size : end])
            place = end
            self._on_frame(Frame(Kind(kind), request, status, payload))
        if place:
            del self._buffer[:place]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_lost()

    def send(self, kind: Kind, request: int = 0, payload: bytes = b"", status: int = 0) -> None:
        """Queue a frame; nothing happens if the other end is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_HEADER.pack(len(payload), request, kind, status) + payload)

    @property
    def waiting(self) -> int:
        """Bytes that the other end has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
