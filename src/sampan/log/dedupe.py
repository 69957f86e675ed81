"""What a writer knows of events that it has seen: exact over all history, in bounded memory.

Keys of unsealed segments are in dictionaries, one per segment, about 200 bytes a key; sealed ones are in the index.
"""

from typing import TYPE_CHECKING

import xxhash

from sampan.log.frames import Frame
from sampan.log.identity import Keyer, content_seed, names
from sampan.log.index import Index, tidy
from sampan.log.stream import Stream

if TYPE_CHECKING:
    from sampan.log.sealing import Sealing

Known = dict[bytes, tuple[int, int]]  # of sealed events: key → number, content digest


class Dedupe:
    """Keys of one stream."""

    def __init__(self, stream: Stream) -> None:
        self._folder = stream.folder / "index"
        self._seed = content_seed(stream.folder)
        tidy(self._folder)
        self._index = Index(self._folder)
        if missing := [m.number for m in stream.manifests() if not self._index.covers(m.number)]:
            from sampan.log.seal import reindex

            self._index.close()
            for number in missing:
                reindex(stream.folder, number)
            self._index = Index(self._folder)
        self._keyer = Keyer()
        self._generations: dict[int, dict[bytes, int]] = {}
        self._seen = 0
        self.active: dict[bytes, int] = {}

    def begin(self, segment: int) -> None:
        """Keys learnt from now on belong to this segment."""
        self.active = self._generations[segment] = {}

    def learn(self, frame: Frame) -> None:
        """Take up the accepted items of a frame that was read back."""
        first = frame.first
        keys = self._keyer.keys(names(frame.raws()[: frame.accepted]))
        self.active.update(zip(keys, range(first, first + len(keys)), strict=True))

    def refresh(self, sealing: "Sealing") -> None:
        """After a seal: look in the index for what the dictionaries held until now."""
        if sealing.sealed == self._seen:
            return
        self._seen = sealing.sealed
        index = Index(self._folder)
        self._index.close()
        self._index = index
        active = self.active
        self._generations = {
            number: keys
            for number, keys in self._generations.items()
            if keys is active or not (index.covers(number) and sealing.is_sealed(number))
        }

    def sealed(self, keys: list[bytes]) -> Known:
        """Number and content digest of each of these keys that is sealed."""
        return self._index.find(keys)

    def take_new(self, keys: list[bytes], doubtful: list[bytes], first: int, known: Known) -> bool:
        """Number these keys from ``first`` on, if none of the doubtful ones was seen and none stands twice among them
        all; else do nothing."""
        if known and not known.keys().isdisjoint(doubtful):
            return False
        for generation in self._generations.values() if doubtful else ():
            if not generation.keys().isdisjoint(doubtful):
                return False
        active = self.active
        before = len(active)
        active.update(zip(keys, range(first, first + len(keys)), strict=True))
        if len(active) == before + len(keys):
            return True
        for key in set(keys):  # one of them stands twice among them
            del active[key]
        return False

    def recent(self, key: bytes) -> int | None:
        """The number of an unsealed event."""
        for generation in self._generations.values():
            if (number := generation.get(key)) is not None:
                return number
        return None

    def same_content(self, raw: bytes, content: int | None) -> bool:
        return content is not None and xxhash.xxh3_64_intdigest(raw, self._seed) == content

    def close(self) -> None:
        self._index.close()
        self._generations.clear()
