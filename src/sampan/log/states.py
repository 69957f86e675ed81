"""How many events of each type there are, and a digest of them that does not depend on their order."""

from collections.abc import Sequence
from hashlib import blake2b
from itertools import groupby
from typing import Final

import msgspec

from sampan.log.frames import Frame

_BITS: Final = (1 << 128) - 1


class TypeState(msgspec.Struct, frozen=True):
    """Count and digest of some events of one type."""

    count: int = 0
    digest: str = "0" * 32

    @classmethod
    def of(cls, count: int, total: int) -> "TypeState":
        """From a count and a sum of content digests."""
        return cls(count, f"{total & _BITS:032x}")

    def __add__(self, other: "TypeState") -> "TypeState":
        return TypeState.of(self.count + other.count, int(self.digest, 16) + int(other.digest, 16))


def content_digest(raw: bytes) -> int:
    """What one event adds to its type's state: a digest of its JSON, which holds source and id."""
    return int.from_bytes(blake2b(raw, digest_size=16).digest(), "little")


class States:
    """The states of all types while frames go by."""

    def __init__(self) -> None:
        self._sums: dict[str, list[int]] = {}

    def add(self, frame: Frame, raws: Sequence[bytes]) -> None:
        """Take up the accepted items of a frame. ``raws``: its items, as ``frame.raws()`` gives them."""
        if not frame.codes:
            return
        if frame.codes.count(frame.codes[0]) == len(frame.codes):  # of one type, as most are
            self._take(frame.label(0), raws[: frame.accepted])
            return
        order = sorted(range(frame.accepted), key=frame.codes.__getitem__)
        for _, indexes in groupby(order, key=frame.codes.__getitem__):
            places = list(indexes)
            self._take(frame.label(places[0]), [raws[place] for place in places])

    def _take(self, label: str, raws: Sequence[bytes]) -> None:
        entry = self._sums.setdefault(label, [0, 0])
        entry[0] += len(raws)
        entry[1] += sum(map(content_digest, raws))

    def of(self) -> dict[str, TypeState]:
        """The state of each ``type@version``."""
        return {label: TypeState.of(count, total) for label, (count, total) in self._sums.items()}
