"""What waits in quarantine, known without reading the log again: each call takes up only what came since the last.

A reader's items of sealed segments are read once, of the unsealed part frame by frame as it grows. Bytes are not kept:
``Quarantine.these`` reads those that somebody looks at.
"""

import threading
from collections.abc import Collection
from pathlib import Path
from typing import Final

import msgspec

from sampan.log.frames import Complaint
from sampan.log.position import place
from sampan.log.read import StreamReader

_RETRIES: Final = 20  # a segment may be sealed while it is being read


class Held(msgspec.Struct, frozen=True):
    """One quarantined item without its bytes."""

    stream: str
    number: int
    received: int
    producer: str
    complaint: Complaint

    @property
    def position(self) -> str:
        return place(self.stream, self.number)


class _StreamHeld:
    """The items of one stream, up to number ``last``."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        self._last = 0
        self._sealed_to = 0  # segment up to which the sealed ones are taken up
        self.items: list[Held] = []
        self.repaired: set[str] = set()

    def refresh(self) -> None:
        """Take up what came since the last call."""
        for _ in range(_RETRIES):
            try:
                unsealed = self._reader.stream.unsealed()  # before the sealed ones: none is missed in between
                self._sealed()
                self._unsealed(unsealed)
            except FileNotFoundError:
                continue  # sealed while it was read: go on from there
            return

    def _sealed(self) -> None:
        from sampan.log.sealed import held

        for manifest in self._reader.stream.manifests():
            if manifest.number > self._sealed_to:
                found = held(self._reader.stream, manifest) if manifest.quarantined else ()
                for item in found:
                    if item.number > self._last:
                        self._take(item.number, item.received, item.producer, item.complaint)
                self.repaired.update(manifest.repaired)
                self._last, self._sealed_to = max(self._last, manifest.last), manifest.number

    def _unsealed(self, numbers: list[int]) -> None:
        reader = self._reader
        for number in numbers:
            for frame in reader.stream.frames(number, reader.end(number), first=self._last + 1):
                self.repaired.update(repair.of for repair in frame.notes.repairs)  # of duplicates: without an item
                if frame.last <= self._last:
                    continue
                first = frame.first + frame.accepted
                for at, complaint in enumerate(frame.notes.complaints):
                    self._take(first + at, frame.received, frame.producer, complaint)
                self._last = frame.last

    def _take(self, number: int, received: int, producer: str, complaint: Complaint | None) -> None:
        self.items.append(Held(self._reader.name, number, received, producer, complaint or Complaint("unknown")))


class HeldItems:
    """The quarantined items of a log. One object serves all threads of a process."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self._folder, self._cache = folder, cache
        self._streams: dict[str, _StreamHeld] = {}
        self._lock = threading.Lock()

    def waiting(self, by: int | None = None, repaired: Collection[str] = ()) -> list[Held]:
        """What has not been re-entered, the newest first; ``by``: what waited at that instant, when ``repaired`` had
        been re-entered."""
        with self._lock:
            self._refresh()
            found = [one for stream in self._streams.values() for one in stream.items]
            gone = set(repaired)
            if by is None:
                gone = gone.union(*(stream.repaired for stream in self._streams.values()))
        found = [one for one in found if one.position not in gone and (by is None or one.received <= by)]
        found.sort(key=lambda one: (-one.received, one.stream, -one.number))
        return found

    def count(self) -> tuple[int, int]:
        """How many items there are, and how many of them have been re-entered."""
        with self._lock:
            self._refresh()
            held = sum(len(stream.items) for stream in self._streams.values())
            return held, len(set().union(*(stream.repaired for stream in self._streams.values())))

    def _refresh(self) -> None:
        if self._folder.is_dir():
            for path in sorted(self._folder.iterdir()):
                if path.is_dir() and path.name not in self._streams:
                    self._streams[path.name] = _StreamHeld(StreamReader(path, self._cache))
        for stream in self._streams.values():
            stream.refresh()
