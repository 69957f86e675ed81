"""The segment that is being written: append, sync, cut back. The only place that writes frames."""

import os
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from sampan.base.errors import Damaged
from sampan.base.files import sync, sync_folder
from sampan.log.frames import FRAME, Frame, SegmentHeader, file_header, payloads, read_file_header, read_payload


class Segment:
    """An open ``.log`` file. ``size`` is the durable length; bytes beyond it are nobody's promise."""

    def __init__(self, path: Path, fd: int, header: SegmentHeader, size: int) -> None:
        self.path, self.fd, self.header, self.size = path, fd, header, size
        self.head, self.anchor = bytes.fromhex(header.head), bytes.fromhex(header.anchor)
        self.last = header.first - 1
        self.firsts = array("Q")  # first item of each frame that has items, and where the frame lies
        self.offsets = array("Q")

    @property
    def number(self) -> int:
        return self.header.number

    @property
    def items(self) -> int:
        return self.last - self.header.first + 1

    @classmethod
    def create(cls, path: Path, header: SegmentHeader) -> "Segment":
        """Make an empty segment, durable with its name. Raises OSError and leaves nothing behind."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_APPEND, 0o644)
        try:
            lead = file_header(header)
            write_all(fd, lead)
            sync(fd)
            sync_folder(path.parent)
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return cls(path, fd, header, len(lead))

    @classmethod
    def recover(cls, path: Path, durable: int) -> "Segment | None":
        """Open a segment after a stop of any kind: read every frame back, cut a torn tail off.

        None if not even the header was finished. Raises Damaged if bytes before ``durable``, which had been synced,
        are not those that were written.
        """
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_APPEND)
        try:
            if hasattr(os, "posix_fadvise"):  # judge the disk's bytes, not those that the kernel remembers
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            found = read_file_header(fd, path)
            if found is None:
                if durable:
                    raise Damaged(f"Open segment {path}", "it ends inside its header", "Run `sampan log verify`.")
                os.close(fd)
                return None
            header, start = found
            segment = cls(path, fd, header, start)
            for offset, payload in payloads(fd, start):
                segment._took(Frame(payload), payload, offset)
                segment.size = offset + FRAME.size + len(payload)
            if segment.size < durable:
                raise Damaged(
                    f"Open segment {path}",
                    f"the frame at byte {segment.size} is damaged, though it was synced",
                    "Nothing was changed. Run `sampan log verify`, then restore the file from a backup.",
                    segment=path.name,
                    offset=segment.size,
                )
            if os.fstat(fd).st_size > segment.size:
                os.ftruncate(fd, segment.size)
            sync(fd)
        except BaseException:
            os.close(fd)
            raise
        return segment

    def _took(self, frame: Frame, payload: bytes, offset: int) -> None:
        self.head = sha256(self.head + payload).digest()
        if frame.items:
            self.anchor = self.head
            self.firsts.append(frame.first)
            self.offsets.append(offset)
            self.last = frame.last

    def write(self, frames: Sequence[bytes]) -> int:
        """Append frames, given as payloads, and return how many bytes that took. Not durable until ``sync``.

        If the write fails the file is cut back to what it durably held, and OSError goes on.
        """
        blob = b"".join([part for payload in frames for part in (pack(payload), payload)])
        try:
            write_all(self.fd, blob)
        except OSError:
            os.ftruncate(self.fd, self.size)
            raise
        return len(blob)

    def sync(self) -> None:
        """Make what was written durable."""
        sync(self.fd)

    def commit(self, frames: Sequence[bytes], firsts: Sequence[int], last: int) -> None:
        """Account for frames that are durable now. ``firsts`` has 0 for a frame without items."""
        head, offset = self.head, self.size
        for payload, first in zip(frames, firsts, strict=True):
            chain = sha256(head)
            chain.update(payload)  # not a sum of both: that would copy the payload
            head = chain.digest()
            if first:
                self.anchor = head
                self.firsts.append(first)
                self.offsets.append(offset)
            offset += FRAME.size + len(payload)
        self.head, self.size, self.last = head, offset, last

    def frame_with(self, number: int) -> Frame:
        """The frame that holds an item."""
        index = bisect_right(self.firsts, number) - 1
        return Frame(read_payload(self.fd, self.offsets[index]))

    def holds(self, number: int) -> bool:
        return self.header.first <= number <= self.last

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def pack(payload: bytes) -> bytes:
    """What stands before a payload: its length and checksum."""
    return FRAME.pack(len(payload), zlib.crc32(payload))


def write_all(fd: int, data: bytes) -> None:
    """Write every byte, however many calls the kernel makes of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
