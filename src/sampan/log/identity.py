"""By what an event is known: a key of 128 bits from source and id, and a seeded digest that tells contents apart."""

import os
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from sampan.base.files import write_durably

_KEPT: Final = 10_000  # sources whose part of the hash is kept


class Known(Protocol):
    """Whatever has an event's source and id."""

    id: str
    source: str


class Named(msgspec.Struct, gc=False):
    """As much of an event as its key needs."""

    id: str
    source: str


_NAMES: Final = msgspec.json.Decoder(list[Named])


def names(raws: Iterable[bytes]) -> list[Named]:
    """Source and id of events that have been checked before."""
    return _NAMES.decode(b"[" + b",".join(raws) + b"]")


def key_of(source: str, id: str) -> bytes:
    """The 128-bit key by which an event is known: BLAKE2b of source (with its length) and id."""
    hasher = _of_source(source)
    hasher.update(id.encode())
    key: bytes = hasher.digest()
    return key


def _of_source(source: str) -> Any:
    name = source.encode()
    return blake2b(len(name).to_bytes(2, "little") + name, digest_size=16)


class Keyer:
    """``key_of`` for many events: what a source adds to the hash is worked out once."""

    def __init__(self) -> None:
        self._sources: dict[str, Any] = {}

    def keys(self, events: Iterable[Known]) -> list[bytes]:
        """The key of each event, in order."""
        found: list[bytes] = []
        append = found.append
        last, copy = None, None
        for event in events:
            if event.source is not last:
                last = event.source
                copy = (self._sources.get(last) or self._keep(last)).copy
            hasher = copy()  # type: ignore[misc]
            hasher.update(event.id.encode())
            append(hasher.digest())
        return found

    def of(self, source: str, ids: Iterable[str]) -> list[bytes]:
        """The keys of events of one source, by their ids."""
        copy = (self._sources.get(source) or self._keep(source)).copy
        found = []
        for id in ids:
            hasher = copy()
            hasher.update(id.encode())
            found.append(hasher.digest())
        return found

    def _keep(self, source: str) -> Any:
        if len(self._sources) > _KEPT:
            self._sources.clear()
        hasher = self._sources[source] = _of_source(source)
        return hasher


def content_seed(folder: Path) -> int:
    """The secret with which a stream digests contents, so that no producer can aim at a collision."""
    path = folder / "index" / "seed"
    try:
        return int.from_bytes(path.read_bytes()[:8], "little")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, os.urandom(8), 0o600)
        return int.from_bytes(path.read_bytes()[:8], "little")
