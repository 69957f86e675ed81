"""The bytes of an unsealed segment: a header, then frames, each the outcome of one or more requests of a producer.

A frame is ``u32 length, u32 crc32(payload), payload``. Its payload holds the accepted events as sent and the
quarantined bytes with their reasons, so that one sync covers whole requests. Heads chain over payloads:
``head = sha256(previous head ‖ payload)``; a segment's header carries the head before it. ``docs/design/log.md``
draws this; changing it means a new FORMAT.
"""

import os
import struct
import zlib
from array import array
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.errors import Damaged, NewerFormat

FORMAT: Final = 1
MAGIC: Final = b"SAMPANLG"
FRAME: Final = struct.Struct("<II")
FRAME_LIMIT: Final = 1 << 30
_FILE: Final = struct.Struct("<8sII")
_PAYLOAD: Final = struct.Struct("<QqIIIIHHI")
_U32: Final = "I" if array("I").itemsize == 4 else "L"
_ENCODE: Final = msgspec.json.Encoder().encode


class SegmentHeader(msgspec.Struct, frozen=True):
    """First bytes of a segment."""

    stream: str
    number: int
    first: int  # number of the first item in it
    head: str  # chain head before its first frame
    anchor: str  # chain head after the last frame before it that has items
    created: int  # microseconds


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """Where an item comes from that was not sent as an event: the bytes are those of a message of that protocol."""

    protocol: str
    part: str = ""  # which of the events that the message becomes, as at the end of its id
    beside: dict[str, str] = {}  # what the protocol says outside of the message's bytes


class Complaint(msgspec.Struct, frozen=True, array_like=True):
    """Why an item is in quarantine, and what could be read of it."""

    reason: str
    path: str = "$"
    type: str | None = None
    id: str | None = None
    source: str | None = None
    sealed_for: str | None = None  # the subject whose key encrypts the bytes, where a contract says they are personal
    origin: Origin | None = None  # of a message of another protocol

    @property
    def text(self) -> str:
        """Reason and place in one line."""
        return self.reason if self.path == "$" else f"{self.reason} at {self.path}"


class Repair(msgspec.Struct, frozen=True):
    """Which quarantined item a frame re-enters, by whose rule."""

    of: str
    author: str
    rule: str
    verdicts: dict[str, str] = {}


class Notes(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a frame says beyond its items."""

    complaints: tuple[Complaint, ...] = ()
    repairs: tuple[Repair, ...] = ()


_NOTES: Final = msgspec.json.Decoder(Notes)
NO_NOTES: Final = Notes()


def genesis(stream: str) -> bytes:
    """The head before a stream's first frame."""
    return sha256(b"sampan log 1 " + stream.encode()).digest()


class Frame:
    """What one frame says, read back from its payload."""

    __slots__ = (
        "_lengths",
        "codes",
        "duplicate",
        "first",
        "labels",
        "notes",
        "payload",
        "producer",
        "received",
        "refused",
    )

    def __init__(self, payload: bytes) -> None:
        try:
            first, received, duplicate, refused, accepted, held, n_producer, n_labels, n_notes = _PAYLOAD.unpack_from(
                payload
            )
            at = _PAYLOAD.size
            self.payload = payload
            self.first: int = first
            self.received: int = received
            self.duplicate: int = duplicate
            self.refused: int = refused
            self.producer = payload[at : at + n_producer].decode()
            at += n_producer
            self.labels = payload[at : at + n_labels].decode().split("\n") if n_labels else []
            at += n_labels
            notes = payload[at : at + n_notes]
            self.notes = _NOTES.decode(notes) if n_notes else NO_NOTES
            at += n_notes
            self.codes = array("H", payload[at : at + 2 * accepted])
            at += 2 * accepted
            self._lengths = array(_U32, payload[at : at + 4 * (accepted + held)])
        except (struct.error, UnicodeDecodeError, msgspec.MsgspecError, ValueError) as error:
            raise Damaged("Read a frame of the log", str(error), "Run `sampan log verify`.") from error

    @property
    def accepted(self) -> int:
        return len(self.codes)

    @property
    def held(self) -> int:
        """Number of quarantined items; they follow the accepted ones."""
        return len(self._lengths) - len(self.codes)

    @property
    def items(self) -> int:
        return len(self._lengths)

    @property
    def last(self) -> int:
        """Number of the last item; ``first - 1`` for a frame without items."""
        return self.first + len(self._lengths) - 1

    def raws(self) -> list[bytes]:
        """Bytes of every item, accepted ones first."""
        payload = self.payload
        start = len(payload) - sum(self._lengths)
        ends = list(accumulate(self._lengths, initial=start))
        return [payload[a:b] for a, b in pairwise(ends)]

    def raw(self, index: int) -> bytes:
        """Bytes of one item."""
        tail = sum(self._lengths[index:])
        start = len(self.payload) - tail
        return self.payload[start : start + self._lengths[index]]

    def label(self, index: int) -> str:
        """``type@version`` of an accepted item."""
        return self.labels[self.codes[index]]


def encode(
    first: int,
    received: int,
    producer: str,
    raws: Sequence[bytes],
    labels: Sequence[str],
    codes: "array[int]",
    *,
    held: Sequence[bytes] = (),
    notes: Notes | None = None,
    duplicate: int = 0,
    refused: int = 0,
) -> bytes:
    """A payload. ``codes`` says for each accepted item which of ``labels`` it has."""
    who = producer.encode()[:1000]
    kinds = "\n".join(labels).encode()
    note = _ENCODE(notes) if notes is not None and notes != NO_NOTES else b""
    lengths = array(_U32, map(len, raws))
    if held:
        lengths.extend(map(len, held))
    head = _PAYLOAD.pack(first, received, duplicate, refused, len(raws), len(held), len(who), len(kinds), len(note))
    return b"".join((head, who, kinds, note, codes.tobytes(), lengths.tobytes(), *raws, *held))


def file_header(header: SegmentHeader) -> bytes:
    body = _ENCODE(header)
    return _FILE.pack(MAGIC, FORMAT, len(body)) + body + struct.pack("<I", zlib.crc32(body))


def read_file_header(fd: int, path: Path) -> tuple[SegmentHeader, int] | None:
    """A segment's header and where its frames start; None if the file ends inside it. Raises Damaged, NewerFormat."""
    lead = os.pread(fd, _FILE.size, 0)
    if len(lead) < _FILE.size:
        return None
    magic, version, size = _FILE.unpack(lead)
    if magic != MAGIC:
        raise Damaged(f"Read segment {path}", "it does not start as a segment does", "Run `sampan log verify`.")
    if version > FORMAT:
        raise NewerFormat(
            f"Read segment {path}", f"it has format {version}, this Sampan knows {FORMAT}", "Upgrade Sampan."
        )
    rest = os.pread(fd, size + 4, _FILE.size)
    if len(rest) < size + 4:
        return None
    if zlib.crc32(rest[:size]) != struct.unpack("<I", rest[size:])[0]:
        raise Damaged(f"Read segment {path}", "its header does not match its checksum", "Run `sampan log verify`.")
    return msgspec.json.decode(rest[:size], type=SegmentHeader), _FILE.size + size + 4


def payloads(fd: int, offset: int, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Offset and payload of each whole frame from ``offset``; stops at the first that is torn or does not match."""
    buffered, start = b"", offset  # ``buffered`` are the file's bytes from ``start``
    while end is None or offset < end:
        lead = offset - start
        if len(buffered) < lead + FRAME.size:
            buffered, start, lead = os.pread(fd, 1 << 20, offset), offset, 0
            if len(buffered) < FRAME.size:
                return
        length, crc = FRAME.unpack_from(buffered, lead)
        if length < _PAYLOAD.size or length > FRAME_LIMIT:
            return
        if len(buffered) < lead + FRAME.size + length:
            buffered, start, lead = _pread(fd, max(1 << 20, FRAME.size + length), offset), offset, 0
        payload = buffered[lead + FRAME.size : lead + FRAME.size + length]
        if len(payload) < length or zlib.crc32(payload) != crc:
            return
        yield offset, payload
        offset += FRAME.size + length


def _pread(fd: int, size: int, offset: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (part := os.pread(fd, size, offset)):
        parts.append(part)
        size -= len(part)
        offset += len(part)
    return b"".join(parts)


def number_of(payload: bytes) -> int:
    """The number of a frame's first item, without looking at the rest of it."""
    return int.from_bytes(payload[:8], "little")


def read_payload(fd: int, offset: int) -> bytes:
    """The payload at an offset that is known to start a frame. Raises Damaged."""
    found: Any = next(payloads(fd, offset, offset + 1), None)
    if found is None:
        raise Damaged("Read a frame of the log", f"no whole frame at byte {offset}", "Run `sampan log verify`.")
    payload: bytes = found[1]
    return payload
