"""The files of one stream: where they lie, which are sealed, how far they are durable.

``00000007.log`` is an unsealed segment; ``00000007.json`` (the manifest) with ``.events.parquet`` and
``.frames.parquet`` a sealed one. ``durable`` says up to where the writer has synced; it is only ever behind.
"""

import fcntl
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from sampan.base.errors import Damaged, NewerFormat, NotFound
from sampan.base.files import write_durably
from sampan.log.frames import FORMAT, FRAME, Frame, genesis, payloads, read_file_header
from sampan.log.position import place
from sampan.log.starts import mistaken, starts_of
from sampan.log.states import TypeState
from sampan.log.sums import byte_at

_MARK: Final = struct.Struct("<QQQ32sI")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a sealed segment holds."""

    format: int
    stream: str
    number: int
    first: int
    last: int
    previous: str  # chain head before it
    head: str  # chain head after it
    anchor: str  # chain head after the last frame up to its end that has items
    created: int
    files: dict[str, str]  # file name → SHA-256
    sizes: dict[str, int]  # file name → bytes
    types: dict[str, TypeState]  # per type@version
    accepted: int
    duplicate: int
    quarantined: int
    refused: int
    repaired: tuple[str, ...] = ()  # positions of quarantined items that its frames re-enter


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Keep a manifest durably: one line of JSON, then SHA-256 and CRC-32 of that line."""
    text = msgspec.json.encode(manifest)
    write_durably(path, b"%s\n%s %08x\n" % (text, sha256(text).hexdigest().encode(), zlib.crc32(text)))


def read_manifest(path: Path) -> Manifest:
    """Raises Damaged for a manifest that is not as it was written, NewerFormat for one of a newer Sampan."""
    text, _, trailer = path.read_bytes().partition(b"\n")
    if b"%s %08x\n" % (sha256(text).hexdigest().encode(), zlib.crc32(text)) != trailer:
        crc = trailer.strip()[-8:]
        told = int(crc, 16) if len(crc) == 8 and set(crc) <= set(b"0123456789abcdef") else 0
        at = byte_at(zlib.crc32(text) ^ told, len(text))
        raise Damaged(
            f"Read manifest {path}",
            "it does not match its own digest",
            "Run `sampan log verify`, then restore the file from a backup.",
            segment=path.name,
            offset=len(text) if at is None else at,
        )
    manifest = msgspec.json.decode(text, type=Manifest)
    if manifest.format > FORMAT:
        raise NewerFormat(
            f"Read manifest {path}", f"it has format {manifest.format}, this Sampan knows {FORMAT}", "Upgrade Sampan."
        )
    return manifest


class Mark(msgspec.Struct, frozen=True):
    """Up to where a stream is durable."""

    number: int  # segment
    offset: int
    last: int  # item
    anchor: bytes  # chain head after the frame that holds it


def packed(mark: Mark) -> bytes:
    """A mark as its file holds it."""
    body = struct.pack("<QQQ32s", mark.number, mark.offset, mark.last, mark.anchor)
    return body + zlib.crc32(body).to_bytes(4, "little")


class Durable:
    """The file in which the writer tells readers how far it has synced."""

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / "durable", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._fd, fcntl.LOCK_EX)  # readers try it for an instant to see whether a writer lives
        os.ftruncate(self._fd, _MARK.size)
        self._map = mmap.mmap(self._fd, _MARK.size)

    def tell(self, mark: Mark) -> None:
        self._map[:] = packed(mark)

    def close(self) -> None:
        self._map.close()
        os.close(self._fd)


def read_mark(folder: Path) -> tuple[Mark | None, bool]:
    """What the writer told last, and whether a writer lives."""
    try:
        fd = os.open(folder / "durable", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None, False
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            alive = False
        except OSError:
            alive = True
        for _ in range(100):  # a mark read while it changes does not match its checksum
            body = os.pread(fd, _MARK.size, 0)
            if len(body) == _MARK.size and zlib.crc32(body[:-4]) == int.from_bytes(body[-4:], "little"):
                return Mark(*_MARK.unpack(body)[:4]), alive
            if not alive:
                break
        return None, alive
    finally:
        os.close(fd)


def check_reached(path: Path, reached: int, known: int) -> None:
    """Raises Damaged if a segment's whole frames end before what was synced: to read on as if there were no more
    would pass off a damaged log as a short one."""
    if reached < known:
        raise Damaged(
            f"Read segment {path}",
            f"the frame at byte {reached} is damaged, though it was synced",
            "Nothing was changed. Run `sampan log verify`, then restore the file from a backup.",
            segment=path.name,
            offset=reached,
        )


class Stream:
    """Names and manifests of one stream's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self._manifests: dict[int, Manifest] = {}

    def log_path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.log"

    def path(self, number: int, kind: str) -> Path:
        return self.folder / f"{number:08d}.{kind}"

    def manifests(self) -> list[Manifest]:
        """Manifests of the sealed segments, in order. Raises Damaged for one that cannot be read or does not fit."""
        try:
            numbers = sorted(int(path.name[:8]) for path in self.folder.iterdir() if path.suffix == ".json")
        except FileNotFoundError:
            return []
        found = []
        for number in numbers:
            if number not in self._manifests:
                self._manifests[number] = read_manifest(self.path(number, "json"))
            found.append(self._manifests[number])
        return found

    def unsealed(self) -> list[int]:
        """Numbers of the segments that are not sealed, in order."""
        try:
            names = [path.name for path in self.folder.iterdir()]
        except FileNotFoundError:
            return []
        sealed = {name[:8] for name in names if name.endswith(".json")}
        return sorted(int(name[:8]) for name in names if name.endswith(".log") and name[:8] not in sealed)

    def head(self) -> tuple[bytes, bytes]:
        """Chain head and anchor after the sealed segments."""
        manifests = self.manifests()
        if not manifests:
            return genesis(self.name), genesis(self.name)
        return bytes.fromhex(manifests[-1].head), bytes.fromhex(manifests[-1].anchor)

    def frames(
        self, number: int, end: int | None = None, *, first: int = 0, holding: Callable[[bytes], bool] | None = None
    ) -> Iterator[Frame]:
        """Frames of an unsealed segment from item ``first``, up to byte ``end``; only those whose bytes are
        ``holding`` what is wanted. Raises FileNotFoundError if it was sealed meanwhile."""
        path = self.log_path(number)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = read_file_header(fd, path)
            if found is not None:
                header, begin = found
                known = self.synced(fd, number)
                if first > header.first:
                    begin = self._start(fd, number, header.head, begin, end, first)
                reached = begin
                for offset, payload in payloads(fd, begin, end):
                    reached = offset + FRAME.size + len(payload)
                    if holding is None or holding(payload):
                        yield Frame(payload)
                check_reached(path, reached, known if end is None else min(known, end))
        finally:
            os.close(fd)

    def number_at(self, number: int, received: int) -> int | None:
        """The last item of an unsealed segment that was received by an instant (microseconds); None: not even its
        first. Of its frames only the first bytes are read, and few of them."""
        path = self.log_path(number)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = read_file_header(fd, path)
            if found is None:
                return None
            header, begin = found
            self._start(fd, number, header.head, begin, None, header.first)
            known = starts_of(str(self.folder), number, header.head, begin)
            known.learn(fd, None)
            return known.number_at(fd, received)
        finally:
            os.close(fd)

    def synced(self, fd: int, number: int) -> int:
        """Up to which byte an unsealed segment is known to have been synced; whole frames must reach as far."""
        mark, _ = read_mark(self.folder)
        if mark is None or mark.number < number:
            return 0
        return mark.offset if mark.number == number else os.fstat(fd).st_size

    def _start(self, fd: int, number: int, head: str, begin: int, end: int | None, first: int) -> int:
        """The offset of the frame with item ``first``, or one before it."""
        known = starts_of(str(self.folder), number, head, begin)
        known.learn(fd, end)
        offset, meant = known.offset(first)
        if end is not None and offset >= end:  # another thread knows of more than is to be read here
            return offset
        there = next(payloads(fd, offset, end), None)
        if meant is not None and (there is None or Frame(there[1]).first != meant):
            mistaken(str(self.folder), number)
            return begin
        return offset

    def sealed_item(self, number: int) -> bytes:
        """The bytes of a sealed item. Raises NotFound."""
        from sampan.log.sealed import item

        for manifest in self.manifests():
            if manifest.first <= number <= manifest.last:
                return item(self, manifest, number)
        raise NotFound("Read an event", f"{place(self.name, number)} is not in the log")
