"""Frames between the hub and a serving process, over a socket pair that nobody else can reach.

    u32 length of the payload | u32 request | u8 kind | u16 status | payload

Several requests are under way at once; ``request`` tells their answers apart.
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
    # from the serving process
    READY = 11  # model and rules are loaded
    TAKEN = 12
    ANSWER = 13  # status and body
    FAILED = 14  # payload: the error; the process ends
    GIVEN = 15


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

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
