"""Is the log what was written? Every file against its digest, every frame rebuilt, the chain computed anew."""

import os
import zlib
from collections.abc import Iterator
from hashlib import sha256

import msgspec

from sampan.base.digests import digest_file
from sampan.base.errors import SampanError
from sampan.log.frames import FRAME, FRAME_LIMIT, Frame, genesis, payloads, read_file_header
from sampan.log.read import StreamReader
from sampan.log.states import States
from sampan.log.stream import Manifest, read_mark
from sampan.log.sums import BLOCK, byte_at, changed_bytes


class Fault(msgspec.Struct, frozen=True):
    """Something in the log that is not as it was written."""

    stream: str
    segment: str  # file
    offset: int | None  # byte in the file; None where it cannot be told
    what: str

    def __str__(self) -> str:
        where = "" if self.offset is None else f" at byte {self.offset}"
        return f"{self.stream}/{self.segment}{where}: {self.what}"


class _Chain:
    """Where the chain stands while a stream is walked."""

    def __init__(self, stream: str) -> None:
        self.head = self.anchor = genesis(stream)
        self.last = 0
        self.number = 0

    def take(self, frame: Frame) -> None:
        self.head = sha256(self.head + frame.payload).digest()
        if frame.items:
            self.anchor, self.last = self.head, frame.last


def verify_stream(reader: StreamReader) -> Iterator[Fault]:
    """The faults of one stream, in order; none if every byte is as it was written."""
    chain = _Chain(reader.name)
    try:
        manifests = reader.stream.manifests()
    except SampanError as error:
        yield Fault(reader.name, str(error.about.get("segment", "?")), error.about.get("offset"), error.obstacle)
        return
    for manifest in manifests:
        yield from _sealed(reader, manifest, chain)
    for number in reader.stream.unsealed():
        yield from _unsealed(reader, number, chain)


def _sealed(reader: StreamReader, manifest: Manifest, chain: _Chain) -> Iterator[Fault]:
    name = f"{manifest.number:08d}"
    faults = list(_files(reader, manifest))
    yield from faults
    yield from _continuity(reader.name, f"{name}.json", manifest.number, manifest.first, manifest.previous, chain)
    if not faults:
        yield from _contents(reader, manifest, chain)
    chain.number, chain.last = manifest.number, manifest.last
    chain.head, chain.anchor = bytes.fromhex(manifest.head), bytes.fromhex(manifest.anchor)


def _continuity(stream: str, segment: str, number: int, first: int, previous: str, chain: _Chain) -> Iterator[Fault]:
    if number != chain.number + 1:
        yield Fault(stream, segment, None, f"segment {chain.number + 1:08d} before it is missing")
    elif first != chain.last + 1:
        yield Fault(stream, segment, None, f"it starts with item {first}, the one before it ends with {chain.last}")
    elif previous != chain.head.hex():
        yield Fault(stream, segment, None, "it does not continue the chain of the segment before it")


def _files(reader: StreamReader, manifest: Manifest) -> Iterator[Fault]:
    folder = reader.stream.folder
    for name, digest in manifest.files.items():
        path = folder / name
        if not path.exists():
            yield Fault(reader.name, name, None, "the file is gone")
        elif digest_file(path) != digest:
            yield from _where(reader, manifest, name)


def _where(reader: StreamReader, manifest: Manifest, name: str) -> Iterator[Fault]:
    path = reader.stream.folder / name
    size = path.stat().st_size
    expected = manifest.sizes[name]
    if size != expected:
        yield Fault(reader.name, name, min(size, expected), f"it has {size} bytes, {expected} were written")
        return
    found = changed_bytes(path, _sums_of(reader, manifest, name)) if path.suffix == ".parquet" else []
    if not found:
        yield Fault(reader.name, name, None, "its bytes have changed")
    for offset, exact in found:
        yield Fault(reader.name, name, offset, "this byte has changed" if exact else "bytes have changed from here on")


def _sums_of(reader: StreamReader, manifest: Manifest, name: str) -> bytes:
    """The block checksums of one file; they lie in one file per segment, in the order of the manifest."""
    try:
        sums = reader.stream.path(manifest.number, "sums").read_bytes()
    except FileNotFoundError:
        return b""
    at = 0
    for other, size in manifest.sizes.items():
        length = 4 * -(-size // BLOCK)
        if other == name:
            return sums[at : at + length]
        at += length
    return b""


def _contents(reader: StreamReader, manifest: Manifest, chain: _Chain) -> Iterator[Fault]:
    """Rebuild every frame and compare chain, counts and states with the manifest."""
    from sampan.log.sealed import frames

    name = f"{manifest.number:08d}"
    mine = _Chain(reader.name)
    mine.head, mine.anchor, mine.last = bytes.fromhex(manifest.previous), chain.anchor, manifest.first - 1
    counts = [0, 0, 0, 0]
    states = States()
    try:
        for frame, head in frames(reader.stream, manifest):
            mine.take(frame)
            if mine.head != head:
                yield Fault(reader.name, f"{name}.frames.parquet", None, f"the chain breaks at item {frame.first}")
                return
            for at, value in enumerate((frame.accepted, frame.duplicate, frame.held, frame.refused)):
                counts[at] += value
            states.add(frame, frame.raws())
    except SampanError as error:
        yield Fault(reader.name, f"{name}.events.parquet", None, error.obstacle)
        return
    if mine.head.hex() != manifest.head or mine.last != manifest.last:
        yield Fault(reader.name, f"{name}.json", None, "its head is not the one that its frames give")
    told = [manifest.accepted, manifest.duplicate, manifest.quarantined, manifest.refused]
    if told != counts or manifest.types != states.of():
        yield Fault(reader.name, f"{name}.json", None, "its counts are not those of its frames")


def _unsealed(reader: StreamReader, number: int, chain: _Chain) -> Iterator[Fault]:
    path = reader.stream.log_path(number)
    mark, alive = read_mark(reader.stream.folder)
    durable = mark.offset if mark is not None and mark.number == number else None
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            found = read_file_header(fd, path)
        except SampanError as error:
            yield Fault(reader.name, path.name, 0, error.obstacle)
            return
        if found is None:
            if durable:
                yield Fault(reader.name, path.name, 0, "it ends inside its header")
            return
        header, end = found
        yield from _continuity(reader.name, path.name, header.number, header.first, header.head, chain)
        chain.number = number
        for offset, payload in payloads(fd, end, durable if alive else None):
            frame = Frame(payload)
            if frame.items and frame.first != chain.last + 1:
                yield Fault(reader.name, path.name, offset, f"item {chain.last + 1} is missing before this frame")
            chain.take(frame)
            end = offset + 8 + len(payload)
        size = os.fstat(fd).st_size
        newest = number == reader.stream.unsealed()[-1]
        if durable is not None and end < durable:
            yield Fault(reader.name, path.name, _changed(fd, end), "its frame is damaged, though it was synced")
        elif not newest and end < size:
            yield Fault(reader.name, path.name, _changed(fd, end), "its frame is damaged")
        elif durable is not None and not alive and mark is not None and end == durable and mark.anchor != chain.anchor:
            yield Fault(reader.name, path.name, None, "its chain does not end as its writer said")
    finally:
        os.close(fd)


def _changed(fd: int, start: int) -> int:
    """The byte of a damaged frame that has changed, if it is one of the payload; else where the frame starts."""
    length, crc = FRAME.unpack(os.pread(fd, FRAME.size, start).ljust(FRAME.size, b"\0"))
    payload = os.pread(fd, length, start + FRAME.size) if length <= FRAME_LIMIT else b""
    at = byte_at(zlib.crc32(payload) ^ crc, length) if len(payload) == length else None
    return start if at is None else start + FRAME.size + at
