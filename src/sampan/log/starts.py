"""Where the frames of an unsealed segment begin, so that a few of its items are read without all before them."""

import os
import struct
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
        self._firsts = array("Q")
        self._offsets = array("Q")
        self._begin = self._next = begin

    def learn(self, fd: int, end: int | None) -> None:
        """Look at what was appended since, up to byte ``end``."""
        size = os.fstat(fd).st_size if end is None else end
        while self._next + _LEAD.size <= size:
            lead = os.pread(fd, _LEAD.size, self._next)
            if len(lead) < _LEAD.size:
                return
            length, _, first = _LEAD.unpack(lead)
            behind = self._next + FRAME.size + length
            if length < 8 or behind > size or (self._firsts and first < self._firsts[-1]):
                return
            self._firsts.append(first)
            self._offsets.append(self._next)
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
