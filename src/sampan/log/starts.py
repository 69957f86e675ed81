"""Where the frames of an unsealed segment begin, so that a few of its items are read without all before them."""

import os
import struct
import threading
from array import array
from bisect import bisect_right
from typing import Final

from sampan.log.frames import FRAME

_LEAD: Final = struct.Struct("<IIQ")  # length and checksum of a frame, number of its first item
_RECEIVED: Final = struct.Struct("<q")  # what follows


class Starts:
    """The frames of one unsealed segment as far as they were looked at; only their first bytes are read.

    It is a hint: a torn end that a later writer replaced may stand in it. Whoever reads at an offset checks the frame
    that lies there, and begins anew if it is not the one that was meant.
    """

    def __init__(self, begin: int) -> None:
        self._lock = threading.Lock()
        self._firsts = array("Q")
        self._offsets = array("Q")
        self._begin = self._next = begin

    def learn(self, fd: int, end: int | None) -> None:
        """Look at what was appended since, up to byte ``end``."""
        with self._lock:
            self._learn(fd, os.fstat(fd).st_size if end is None else end)

    def _learn(self, fd: int, size: int) -> None:
        while self._next + _LEAD.size <= size:
            lead = os.pread(fd, _LEAD.size, self._next)
            if len(lead) < _LEAD.size:
                return
            length, _, first = _LEAD.unpack(lead)
            behind = self._next + FRAME.size + length
            if length < 8 or behind > size or (self._firsts and first < self._firsts[-1]):
                return
            self._offsets.append(self._next)  # before its number, by which it is found
            self._firsts.append(first)
            self._next = behind

    def offset(self, number: int) -> tuple[int, int | None]:
        """Where to begin reading for an item, and the number of the first item there if it is known."""
        at = bisect_right(self._firsts, number) - 1
        while at > 0 and self._firsts[at] == self._firsts[at - 1]:
            at -= 1  # frames without items stand before the one that has them
        return (self._offsets[at], self._firsts[at]) if at >= 0 else (self._begin, None)

    def number_at(self, fd: int, received: int) -> int | None:
        """Number of the last item in frames received by an instant, as far as was learnt; None: there is none."""

        def when(at: int) -> int:
            found: int = _RECEIVED.unpack(os.pread(fd, _RECEIVED.size, self._offsets[at] + _LEAD.size))[0]
            return found

        at = bisect_right(range(len(self._offsets)), received, key=when)
        if not at:
            return None
        return self._firsts[at] - 1 if at < len(self._firsts) else 1 << 62


_known: dict[tuple[str, int], tuple[str, Starts]] = {}  # by folder and number of the segment, with its chain's head
_keeping = threading.Lock()
_FOLDERS: Final = 256


def starts_of(folder: str, number: int, head: str, begin: int) -> Starts:
    """What is known of a segment, by whatever reader and thread: each frame is looked at once in a process."""
    with _keeping:
        before, found = _known.get((folder, number), ("", None))
        if found is None or before != head:
            found = Starts(begin)
            for one in [one for one in _known if one[0] == folder and one[1] < number - 1]:  # those are sealed
                del _known[one]
            while len(_known) >= _FOLDERS:
                del _known[next(iter(_known))]
            _known[folder, number] = head, found
        return found


def mistaken(folder: str, number: int) -> None:
    """Forget what is known of a segment, which is not as it was."""
    with _keeping:
        _known.pop((folder, number), None)
