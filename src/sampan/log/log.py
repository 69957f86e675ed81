"""The log as readers see it: every stream together, at a position. The files are the truth; no records are needed."""

from collections.abc import Iterator
from functools import cached_property
from hashlib import sha256
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import NotFound
from sampan.base.ids import is_name
from sampan.base.settings import Settings
from sampan.log.contracts import Contracts
from sampan.log.held import HeldItems
from sampan.log.keys import Sealer, SubjectKeys, open_bytes
from sampan.log.position import Position, place
from sampan.log.rates import Rates
from sampan.log.read import Item, StoredEvent, StreamReader, stored
from sampan.log.states import TypeState, content_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.log.tally import Counts, Span
    from sampan.log.verify import Fault
    from sampan.log.writer import StreamWriter


class LogSource(msgspec.Struct, frozen=True):
    """What a worker process needs to open one type of event at one position: plain values only. ``known_by``: of
    these only what could be used at that instant (microseconds). ``after``: only those beyond that position."""

    type: str
    position: str
    folder: str  # .sampan/log
    contracts: str  # the workspace's contracts.py
    keys: str  # .sampan/keys.db
    known_by: int | None = None
    after: str = ""


class Log:
    """All streams under one folder (``.sampan/log``)."""

    def __init__(
        self,
        folder: Path,
        contracts: Contracts,
        clock: Clock,
        settings: Settings,
        keys: SubjectKeys | None = None,
        rates: Rates | None = None,
        held: HeldItems | None = None,
    ) -> None:
        self.folder, self.contracts = folder, contracts
        self.keys = SubjectKeys(folder.parent / "keys.db") if keys is None else keys
        self._clock, self._settings = clock, settings
        self._readers: dict[str, StreamReader] = {}
        self.rates = Rates(folder, self._cache / "rates") if rates is None else rates
        self.held = HeldItems(folder, self._cache) if held is None else held

    def writer(
        self,
        stream: str = "intake",
        *,
        dedupe: bool = True,
        told: "Callable[[str, Span, Counts], None] | None" = None,
    ) -> "StreamWriter":
        """The one writer of a stream. Raises Busy if another process is it, Damaged if synced bytes are gone.

        ``told`` takes what frames hold that are durable now, instead of the rates of this process.
        """
        if not is_name(stream):
            raise NotFound("Write to the log", f"{stream!r} cannot name a stream", "Use letters, digits, _ and -.")
        from sampan.log.writer import StreamWriter  # with NumPy and asyncio, which a reader does not need

        parts = (self.folder / stream, self.contracts, self._clock, self._settings, self.keys)
        return StreamWriter(*parts, dedupe=dedupe, told=told or self.rates.told)

    @cached_property
    def _cache(self) -> Path:
        return self.folder.parent / "cache" / "log"

    def readers(self) -> dict[str, StreamReader]:
        """A reader for each stream there is."""
        if self.folder.is_dir():
            for path in sorted(self.folder.iterdir()):
                if path.is_dir() and path.name not in self._readers:
                    self._readers[path.name] = StreamReader(path, self._cache)
        return self._readers

    # -- where the log is

    def position(self) -> Position:
        """How far the log is durable now."""
        return Position({name: reader.last() for name, reader in self.readers().items()})

    def position_at(self, received: int) -> Position:
        """How far the log was at an instant (microseconds): everything received by then."""
        found = {name: min(reader.number_at(received), reader.last()) for name, reader in self.readers().items()}
        return Position(found)

    def root(self, position: Position | None = None) -> str:
        """SHA-256 over the chain heads of all streams at a position (default: now)."""
        position = self.position() if position is None else position
        readers = self.readers()
        lines = []
        for name, last in position.items():
            if name not in readers:
                raise NotFound("Read the log's root", f"there is no stream {name!r}", "The position is of another log.")
            lines.append(f"{name}:{last}:{readers[name].anchor(last)}\n")
        return sha256("".join(lines).encode()).hexdigest()

    def stats(self) -> dict[str, Any]:
        """Counts by verdict, number of sealed segments, root and position."""
        counts = [0, 0, 0, 0]
        segments = 0
        position = self.position()
        for reader in self.readers().values():
            for manifest in reader.stream.manifests():
                segments += 1
                mine = (manifest.accepted, manifest.duplicate, manifest.quarantined, manifest.refused)
                counts = [a + b for a, b in zip(counts, mine, strict=True)]
            counts = [a + b for a, b in zip(counts, reader.tail().counts, strict=True)]
        names = ("accepted", "duplicate", "quarantined", "refused")
        return {
            **dict(zip(names, counts, strict=True)),
            "segments": segments,
            "root": self.root(position),
            "position": str(position),
        }

    # -- what is in it

    def labels(self) -> frozenset[str]:
        """``type@version`` of everything that is in it."""
        found: set[str] = set()
        for reader in self.readers().values():
            found.update(reader.tail().states, *(manifest.types for manifest in reader.stream.manifests()))
        return frozenset(found)

    def state(self, type: str, position: Position) -> TypeState:
        """How many events of a type lie before a position, and a digest of them in any order."""
        contract = self.contracts.contract(type)
        total = TypeState()
        for name, reader in self.readers().items():
            last = position[name]
            tail = reader.tail(last)  # before the manifests: what is sealed in between is in it
            for manifest in reader.stream.manifests():
                if manifest.number >= tail.begun:
                    break
                if manifest.last <= last:
                    for label, state in manifest.types.items():
                        if label.rpartition("@")[0] == type:
                            total += state
                elif manifest.first <= last:
                    total += self._counted(reader, type, manifest.first, last)
            for label, state in tail.states.items():
                if label.rpartition("@")[0] == type:
                    total += state
        if contract.personal and (gone := self.keys.destroyed()):
            total += TypeState.of(0, int.from_bytes(sha256(f"destroyed {gone}".encode()).digest()[:16], "little"))
        return total

    def _counted(self, reader: StreamReader, type: str, first: int, last: int) -> TypeState:
        total = TypeState()
        for item in reader.items(first, last):
            if item.label is not None and item.label.rpartition("@")[0] == type:
                total += TypeState.of(1, content_digest(item.raw))
        return total

    def source(self, type: str, position: Position, known_by: int | None = None) -> LogSource:
        """A description of one type's events at a position, for ``sampan.lake.query``. ``known_by``: of these only
        what could be used at that instant, which is when it was received unless an import states it."""
        self.contracts.contract(type)
        path = self.contracts.path
        places = str(self.folder), str(path) if path else "", str(self.keys.path)
        return LogSource(type, str(position), *places, known_by)

    def events(
        self,
        *,
        type: str | None = None,
        after: str | None = None,
        limit: int = 100,
        newest_first: bool = False,
        subject: str | None = None,
        known_by: int | None = None,
        ids: set[str] | None = None,
        verdict: str = "accepted",
        stream: str | None = None,
    ) -> list[StoredEvent]:
        """Events in the order received, or the newest first. ``after``: the position of the last one seen;
        ``subject``: whom they are about, as the event says or the field that its contract marks; ``known_by``: what
        could be used at that instant."""
        found: list[StoredEvent] = []
        walks = [
            self._walk(reader, type, after, newest_first, subject)
            for name, reader in self.readers().items()
            if stream in (None, name)
        ]
        order = (lambda pair: -pair[1].received) if newest_first else (lambda pair: pair[1].received)
        for name, item in merge(*walks, key=order):
            if (item.label is None) != (verdict == "quarantined"):
                continue
            event = self.stored(name, item)
            if (
                (subject is None or self.subject(event) == subject)
                and (ids is None or event.id in ids)
                and (known_by is None or (event.known_at or event.received) <= known_by)
            ):
                found.append(event)
                if len(found) >= limit:
                    break
        return found

    def subject(self, event: StoredEvent) -> str | None:
        """Whom an event is about: as it says, else by the field that its contract marks."""
        if event.subject is not None or event.type is None or event.type not in self.contracts:
            return event.subject
        field = self.contracts.contract(event.type).subject_field
        # What is in quarantine has no data that can be trusted to be read.
        value = msgspec.json.decode(event.data).get(field) if field and event.data else None
        return None if value is None else str(value)

    def _walk(
        self, reader: StreamReader, type: str | None, after: str | None, newest_first: bool, subject: str | None
    ) -> Iterator[tuple[str, Item]]:
        labels = self.contracts.contract(type).labels if type is not None else None
        if labels is not None and not reader.has(labels):
            return iter(())
        walk: Iterator[Item]
        seen = Position.parse(after)[reader.name] if after else 0
        if newest_first and subject:
            found = reader.containing(subject, seen - 1 if seen else None, labels=labels)
            walk = (item for item in found if labels is None or item.label in labels)
        elif newest_first:
            walk = reader.newest(seen - 1 if seen else None, labels=labels)
        else:
            walk = reader.items(seen + 1, labels=labels)
        return ((reader.name, item) for item in walk)

    def stored(self, stream: str, item: Item) -> StoredEvent:
        """An item as pages show it, personal values readable where their key exists."""
        opened = None
        if item.label is not None:
            kind = item.label.rpartition("@")[0]
            if kind in self.contracts and self.contracts.contract(kind).personal:
                sealer = Sealer(self.contracts.contract(kind), self.keys)
                opened = msgspec.json.encode(sealer.open(msgspec.json.decode(item.raw))["data"])
        event = stored(stream, item, opened)
        if item.complaint is not None and (subject := item.complaint.sealed_for) is not None:
            raw = open_bytes(self.keys, subject, item.raw)
            gone = f"{event.reason}; its bytes were forgotten with their subject's key"
            event = msgspec.structs.replace(event, raw=raw or b"", reason=event.reason if raw is not None else gone)
        return event

    def find(self, id: str, type: str | None = None, source: str | None = None) -> StoredEvent | None:
        """The accepted event of an id, or None."""
        labels = self.contracts.contract(type).labels if type is not None and type in self.contracts else None
        for name, reader in self.readers().items():
            if labels is not None and not reader.has(labels):
                continue
            for item in reader.with_id(id, labels=labels):
                event = self.stored(name, item)
                if type in (None, event.type) and source in (None, event.source):
                    return event
        return None

    def verify(self) -> "list[Fault]":
        """Everything in the log that is not as it was written; empty if all is well."""
        from sampan.log.verify import verify_stream

        return [fault for reader in self.readers().values() for fault in verify_stream(reader)]

    def at(self, position: str) -> StoredEvent:
        """The item at a place such as ``intake:12345``. Raises NotFound."""
        for name, number in Position.parse(position).items():
            if (reader := self.readers().get(name)) is not None:
                for item in reader.items(number, number):
                    return self.stored(name, item)
        raise NotFound("Read an event", f"{position} is not in the log", "See `sampan log stats` for how far it goes.")


__all__ = ["Log", "LogSource", "StoredEvent", "place"]
