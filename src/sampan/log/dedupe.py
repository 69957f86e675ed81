"""What a writer knows of events that it has seen: exact over all history, in bounded memory.

Keys of unsealed segments are in dictionaries, one per segment, about 200 bytes a key; sealed ones are in the index.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import xxhash

from sampan.base.files import write_durably
from sampan.log.check import key_of
from sampan.log.frames import Frame
from sampan.log.index import Index, tidy
from sampan.log.stream import Stream

if TYPE_CHECKING:
    from sampan.log.sealing import Sealing


class Named(msgspec.Struct, gc=False):
    """As much of an event as its key needs."""

    id: str
    source: str


NAMED: Final = msgspec.json.Decoder(Named)


def content_seed(folder: Path) -> int:
    """The secret with which a stream digests contents, so that no producer can aim at a collision."""
    path = folder / "index" / "seed"
    try:
        return int.from_bytes(path.read_bytes()[:8], "little")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, os.urandom(8), 0o600)
        return int.from_bytes(path.read_bytes()[:8], "little")


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
        self._generations: dict[int, dict[bytes, int]] = {}
        self._seen = 0
        self.active: dict[bytes, int] = {}

    def begin(self, segment: int) -> None:
        """Keys learnt from now on belong to this segment."""
        self.active = self._generations[segment] = {}

    def learn(self, frame: Frame) -> None:
        """Take up the accepted items of a frame that was read back."""
        active, first = self.active, frame.first
        for index, raw in enumerate(frame.raws()[: frame.accepted]):
            named = NAMED.decode(raw)
            active[key_of(named.source, named.id)] = first + index

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

    def sealed(self, keys: list[bytes]) -> dict[bytes, tuple[int, int]]:
        """Number and content digest of each of these keys that is sealed."""
        return self._index.find(keys)

    def take_new(self, keys: list[bytes], first: int, known: dict[bytes, tuple[int, int]]) -> bool:
        """Number these keys from ``first`` on, if none was seen and none stands twice among them; else do nothing."""
        if known and not known.keys().isdisjoint(keys):
            return False
        fresh = dict(zip(keys, range(first, first + len(keys)), strict=True))
        if len(fresh) != len(keys):
            return False
        for generation in self._generations.values():
            if not generation.keys().isdisjoint(fresh):
                return False
        self.active.update(fresh)
        return True

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
