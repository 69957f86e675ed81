"""Events against their contracts: fast for the many that are right, thorough in saying why for the few that are not.

The fast path decodes an event straight into the struct of its newest contract, then counts the tokens that look
like keys. If there are exactly as many as fields are known to be present, no key was sent twice: a JSON text with a
repeated key means different things to different readers. What the count cannot decide is parsed and looked at.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from operator import attrgetter, is_not
from typing import Annotated, Any, Final, Literal, Protocol, Union

import msgspec
from msgspec import inspect

from sampan.base.clock import from_micros, to_micros
from sampan.log.attachments import Attached, Attachments, attach
from sampan.log.contracts import Contract, Contracts
from sampan.log.explain import BROKEN, Wrong, distinct, explain, not_json, not_utf8, repeated_key, short, tokens
from sampan.log.frames import Complaint, Origin
from sampan.log.identity import Keyer
from sampan.log.items import split
from sampan.log.keys import Sealer, SubjectKeys, seal_bytes
from sampan.log.spec import FieldSpec

ID_LIMIT: Final = 200
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_LIMIT)]
_ANY: Final = msgspec.json.Decoder()
_RAWS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODE: Final = msgspec.json.Encoder().encode
_NAMES: Final = ("type", "id", "source")
_VECTOR: Final = 4_000  # bytes of a batch from which counting with numpy pays


class Envelope(msgspec.Struct, gc=False):
    """What every event carries around its data."""

    id: _Id
    source: _Id
    time: datetime
    version: int | msgspec.UnsetType = msgspec.UNSET
    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=ID_LIMIT)] | None = None
    known_at: datetime | None = None


class AnyEvent(Envelope, gc=False, kw_only=True):
    """An event whose data is looked at later."""

    type: str
    data: dict[str, Any]


class Bad(msgspec.Struct, gc=False):
    """An item for quarantine: its place in the request, its bytes, what is wrong."""

    index: int
    raw: bytes
    complaint: Complaint


class Sent(Protocol):
    """The messages of another protocol that a batch's items were made of."""

    def bytes_of(self, index: int, made: bytes) -> tuple[bytes, Origin | None]:
        """What goes to quarantine for an item: the message that it was made of, or the event that was made."""
        ...


class Batch:
    """One request's items after checking. The lists ``raws keys codes ids sources`` run in parallel over the good."""

    __slots__ = (
        "bads",
        "blobs",
        "codes",
        "drawn",
        "ids",
        "keys",
        "labels",
        "plain",
        "raws",
        "sent",
        "size",
        "sources",
        "timed",
    )

    def __init__(self, labels: list[str]) -> None:
        self.labels = labels
        self.raws: list[bytes] = []
        self.keys: list[bytes] = []
        self.codes: list[int] = []
        self.ids: list[str] = []
        self.sources: list[str] = []
        self.bads: list[Bad] = []
        self.blobs: dict[str, tuple[bytes, str]] = {}  # bytes that must be durable before the events are
        self.size = 0
        self.plain = False  # whether JSON shows the ids as they are
        self.timed = True  # whether the times are the producer's own, the same if it sends again
        self.drawn = False  # whether the ids were drawn at random just now: no event before has one of them
        self.sent: Sent | None = None  # the messages that the events were made of, if they came as such

    def __len__(self) -> int:
        return len(self.raws) + len(self.bads)


class _Shape:
    """How many different keys an event certainly has, for one version of one contract: those required, those in
    required mappings, and those whose value is not the default that an absent one would have."""

    __slots__ = ("blobs", "code", "contract", "mappings", "maybe", "nothing", "required", "sealer")

    def __init__(self, contract: Contract, code: int, sealer: Sealer | None, *, newest: bool = True) -> None:
        self.contract, self.code, self.sealer = contract, code, sealer
        self.blobs = contract.blobs
        self.required = 5  # id, source, time, type, data
        maybe, nothing, mappings = ["version", "subject", "known_at"], [msgspec.UNSET, None, None], []
        info = inspect.type_info(contract.cls)
        assert isinstance(info, inspect.StructType)
        for field in info.fields if newest else ():
            kind = field.type
            while isinstance(kind, inspect.Metadata):
                kind = kind.type
            if field.required:
                self.required += 1
                if isinstance(kind, inspect.DictType):
                    mappings.append(f"data.{field.name}")
            elif field.default is not msgspec.NODEFAULT:
                maybe.append(f"data.{field.name}")
                nothing.append(field.default)
        self.maybe: Callable[[Any], tuple[Any, ...]] = attrgetter(*maybe)
        self.nothing = tuple(nothing)
        self.mappings = [attrgetter(path) for path in mappings]


class Checker:
    """Compiled contracts. Not shared between threads."""

    def __init__(
        self, contracts: Contracts, keys: SubjectKeys | None = None, attachments: Attachments | None = None
    ) -> None:
        self.contracts = contracts
        self.labels: list[str] = []
        self._codes: dict[str, int] = {}
        self._shapes: dict[type, _Shape] = {}
        self._keyer = Keyer()
        self._older_envelopes: dict[str, Any] = {}
        self._keys = keys
        self._attachments = attachments
        self._blobs = any(contract.blobs for contract in contracts)
        self._mappings = False
        self._personal = keys is not None and any(contract.personal for contract in contracts)
        envelopes = []
        for contract in contracts:
            envelope = msgspec.defstruct(
                f"{contract.cls.__name__}Event",
                [
                    ("id", _Id),
                    ("source", _Id),
                    ("time", datetime),
                    ("data", contract.cls),
                    ("version", Literal[contract.version] | msgspec.UnsetType, msgspec.UNSET),
                    ("subject", Envelope.__annotations__["subject"], None),
                    ("known_at", datetime | None, None),
                ],
                tag_field="type",
                tag=contract.type,
                gc=False,
            )
            envelopes.append(envelope)
            sealer = Sealer(contract, keys) if contract.personal and keys is not None else None
            shape = self._shapes[envelope] = _Shape(contract, self._code(contract.label), sealer)
            self._mappings = self._mappings or bool(shape.mappings)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(Union[tuple(envelopes)]).decode  # noqa: UP007

    def _code(self, label: str) -> int:
        if label not in self._codes:
            self._codes[label] = len(self.labels)
            self.labels.append(label)
        return self._codes[label]

    def read(self, body: bytes, *, lines: bool = False) -> Batch:
        """Check a request's body: a JSON array, one object, or one object a line (``lines``, else recognised)."""
        return self.batch(split(body, lines=lines))

    def split(self, body: bytes, *, lines: bool = False, most: int | None = None) -> list[bytes]:
        """A body's items, unchecked. See ``split``."""
        return split(body, lines=lines, most=most)

    def unreadable(self, body: bytes, reason: str) -> Batch:
        """A body that cannot even be unpacked: one item for quarantine, whole."""
        batch = Batch(self.labels)
        batch.size = len(body)
        batch.bads.append(Bad(0, body, Complaint(reason)))
        return batch

    def batch(self, items: Sequence[bytes], also: bytearray | None = None, *, ours: bool = False) -> Batch:
        """Check events given as JSON, one by one. ``also``: how many optional members each of them certainly has;
        ``ours``: this process has just encoded them from objects, so that no key of them stands twice."""
        batch = Batch(self.labels)
        decode = self._decode
        events: list[Any] = []
        raws = list(items)
        dropped: list[int] = []
        feed = iter(items)
        while True:
            try:
                events.extend(map(decode, feed))  # keeps what it has got when an item is refused
                break
            except BROKEN as error:
                index = len(events) + len(dropped)
                if (event := self._second_look(batch, index, items[index], error)) is None:
                    dropped.append(index)
                else:
                    events.append(event)
        for index in reversed(dropped):
            del raws[index]
            if also:
                del also[index]
        if events:
            shapes = list(map(self._shapes.__getitem__, map(type, events)))
            joined = b"".join(raws)
            batch.size = len(joined)
            batch.plain = joined.isascii() and b"\\" not in joined
            if doubtful := self._doubtful(joined, raws, events, shapes, None if ours else sum(also or ())):
                self._drop(batch, items, doubtful, raws, events, shapes)
            if self._blobs:
                self._attach(batch, items, raws, events, shapes)
            self._fill(batch, raws, events, shapes)
        for bad in batch.bads:
            batch.size += len(bad.raw)
        return batch

    def made(self, label: str, source: str, ids: Sequence[str], raws: Sequence[bytes]) -> Batch:
        """A batch of events of one type and source that this process has just encoded from values that fit their
        contract: they are not read again. Not for contracts with personal fields or attachments."""
        batch = Batch(self.labels)
        batch.raws, batch.ids = list(raws), list(ids)
        batch.keys = self._keyer.of(source, ids)
        batch.sources = [source] * len(ids)
        batch.codes = [self._code(label)] * len(ids)
        batch.size = sum(map(len, raws))
        return batch

    def singles(self, items: Sequence[bytes]) -> list[Batch]:
        """A batch for each of some events that came alone. Checked in one go they cost a third."""
        whole = self.batch(items)
        if whole.blobs:
            return [self.batch([item]) for item in items]
        bads = {bad.index: bad for bad in whole.bads}
        good = iter(zip(whole.raws, whole.keys, whole.codes, whole.ids, whole.sources, strict=True))
        batches = []
        for index, item in enumerate(items):
            batch = Batch(self.labels)
            batch.size, batch.plain = len(item), whole.plain
            if (bad := bads.get(index)) is None:
                raw, key, code, id, source = next(good)
                batch.raws, batch.keys, batch.codes, batch.ids, batch.sources = [raw], [key], [code], [id], [source]
            else:
                bad.index = 0
                batch.bads = [bad]
            batches.append(batch)
        return batches

    def _fill(self, batch: Batch, raws: list[bytes], events: list[Any], shapes: list[_Shape]) -> None:
        batch.keys = self._keyer.keys(events)
        batch.ids = [event.id for event in events]
        batch.sources = [event.source for event in events]
        batch.codes = [shape.code for shape in shapes]
        batch.raws = raws
        if self._personal:
            for index, shape in enumerate(shapes):
                if shape.sealer is not None:
                    raws[index] = shape.sealer.seal(raws[index])

    def _doubtful(
        self, joined: bytes, raws: list[bytes], events: list[Any], shapes: list[_Shape], also: int | None
    ) -> list[int]:
        """Indexes of events in which a key may stand twice, whose bytes may not be UTF-8, or that UTC may have no time
        for.

        No event has fewer key tokens than keys. So if all events together have as many tokens as keys for certain,
        each of them has, and none of them repeats a key. With None for ``also`` none does.
        """
        surplus = 0 if also is None else tokens_of(joined) - sum([shape.required for shape in shapes])
        if surplus == also:
            surplus = 0
        if surplus and self._mappings:
            for event, shape in zip(events, shapes, strict=True):
                for mapping in shape.mappings:
                    surplus -= len(mapping(event))
        if surplus:
            for event, shape in zip(events, shapes, strict=True):
                surplus -= sum(map(is_not, shape.maybe(event), shape.nothing))
        found: set[int] = set()
        if not joined.isascii():
            try:
                joined.decode()
            except UnicodeDecodeError:
                found = {index for index, raw in enumerate(raws) if not_utf8(raw)}
        if surplus:
            for index, raw in enumerate(raws):
                if index not in found and tokens(raw) != distinct(_ANY.decode(raw)):
                    found.add(index)
        first, last = b"+" in joined and b"0001-01-01" in joined, b"9999-12-31" in joined
        if first or last or b"\\" in joined:  # which may hide the digits
            found.update(index for index, event in enumerate(events) if _beyond(event))
        return sorted(found)

    def _attach(
        self, batch: Batch, items: Sequence[bytes], raws: list[bytes], events: list[Any], shapes: list[_Shape]
    ) -> None:
        """Take the bytes out of events that carry some, and leave their digests; all else stays byte for byte."""
        bad_at = {bad.index for bad in batch.bads}
        places = [index for index in range(len(items)) if index not in bad_at]
        wrongs: list[tuple[int, Wrong]] = []
        for index, shape in enumerate(shapes):
            if shape.blobs:
                made = self._attached(raws[index], shape.blobs, batch.blobs)
                if isinstance(made, bytes):
                    raws[index] = made
                else:
                    wrongs.append((index, made))
        for index, wrong in reversed(wrongs):
            event, raw = events[index], raws[index]
            complaint = Complaint(*wrong, shapes[index].contract.type, event.id, event.source)
            batch.bads.append(self.held(Bad(places[index], raw, complaint), {"subject": event.subject}))
            batch.size -= len(raw)
            del events[index], raws[index], shapes[index]
        batch.bads.sort(key=lambda bad: bad.index)

    def _attached(
        self, raw: bytes, fields: Sequence[FieldSpec], waiting: dict[str, tuple[bytes, str]]
    ) -> bytes | Wrong:
        event = _RAWS.decode(raw)
        data = _RAWS.decode(event["data"])
        changed = False
        for field in fields:
            if field.name not in data or not isinstance(value := _ANY.decode(data[field.name]), dict):
                continue
            found = attach(value, field, self._attachments, waiting)
            if not isinstance(found, Attached):
                return found
            data[field.name] = msgspec.Raw(_ENCODE(found))
            changed = True
        if not changed:
            return raw
        event["data"] = msgspec.Raw(_ENCODE(data))
        return _ENCODE(event)

    def _drop(
        self,
        batch: Batch,
        items: Sequence[bytes],
        doubtful: list[int],
        raws: list[bytes],
        events: list[Any],
        shapes: list[_Shape],
    ) -> None:
        """Look at the doubtful ones and take out those that are bad indeed."""
        bad_at = {bad.index for bad in batch.bads}
        places = [index for index in range(len(items)) if index not in bad_at]
        for index in reversed(doubtful):
            event, raw = events[index], raws[index]
            wrong = not_utf8(raw) or repeated_key(raw) or _beyond(event)
            if wrong is not None:
                complaint = Complaint(wrong[0], wrong[1], shapes[index].contract.type, event.id, event.source)
                legible = {"subject": event.subject}
                batch.bads.append(self.held(Bad(places[index], raw, complaint), legible))
                batch.size -= len(raw)
                del events[index], raws[index], shapes[index]
        batch.bads.sort(key=lambda bad: bad.index)

    def _second_look(self, batch: Batch, index: int, raw: bytes, error: Exception) -> Any:
        """An event that its newest contract does not take: an older version, or something for quarantine."""
        legible: dict[str, Any] = {}
        wrong = not_utf8(raw) or not_json(raw, legible)
        if wrong is None:
            event, wrong = self._older(raw, legible)
            if event is not None:
                return event
        if wrong is None:
            wrong = explain(error)
        kind, id, source = (said if isinstance(said := legible.get(name), str) else None for name in _NAMES)
        batch.bads.append(self.held(Bad(index, raw, Complaint(*wrong, kind, id, source)), legible))
        return None

    def conflict(self, batch: Batch, index: int, raw: bytes, complaint: Complaint) -> Bad:
        """A checked event for quarantine: the log has another by its name. Its personal values are encrypted."""
        if batch.sent is None:
            return Bad(index, raw, complaint)
        kind, sealed = complaint.type, complaint
        if self._keys is not None and kind is not None and (contract := self.contracts.contract(kind)).personal:
            subject = Sealer(contract, self._keys).subject(msgspec.json.decode(raw))
            sealed = msgspec.structs.replace(complaint, sealed_for=subject)
        bad = self.as_sent(batch.sent, Bad(index, raw, sealed))
        return bad if bad.complaint.origin is not None else Bad(index, raw, complaint)

    def as_sent(self, sent: Sent, bad: Bad) -> Bad:
        """The same with the bytes of the message that the item was made of."""
        raw, origin = sent.bytes_of(bad.index, bad.raw)
        if origin is None:
            return bad
        if (subject := bad.complaint.sealed_for) is not None and self._keys is not None:
            raw = seal_bytes(self._keys, subject, raw)
        return Bad(bad.index, raw, msgspec.structs.replace(bad.complaint, origin=origin))

    def held(self, bad: Bad, legible: dict[str, Any]) -> Bad:
        """An item for quarantine; encrypted as a whole if its contract knows personal fields."""
        kind = bad.complaint.type
        if not self._personal or kind is None or kind not in self.contracts:
            return bad
        contract = self.contracts.contract(kind)
        if not contract.personal or self._keys is None:
            return bad
        data = legible.get("data")
        named = data.get(contract.subject_field) if isinstance(data, dict) and contract.subject_field else None
        said = legible.get("subject") or named
        subject = said if isinstance(said, str) else f"item:{sha256(bad.raw).hexdigest()}"
        complaint = msgspec.structs.replace(bad.complaint, sealed_for=subject)
        return Bad(bad.index, seal_bytes(self._keys, subject, bad.raw), complaint)

    def _older(self, raw: bytes, legible: dict[str, Any]) -> tuple[Any, Wrong | None]:
        """The event by an older version of its contract, if it is one and upcasts lead to the newest."""
        kind, version = legible.get("type"), legible.get("version")
        if "type" not in legible:
            return None, ("invalid: an event needs a type", "$.type")
        if not isinstance(kind, str) or kind not in self.contracts:
            return None, (f"unknown type: {short(kind)}", "$.type")
        contract = self.contracts.contract(kind)
        if version is None or version == contract.version:
            return None, None
        if version not in contract.versions or isinstance(version, bool | float):
            known = ", ".join(map(str, contract.versions))
            return None, (f"unknown version: {kind} has {known}, not {short(version)}", "$.version")
        try:
            event = msgspec.json.decode(raw, type=self._envelope_of(contract, version))
            older = contract.older.get(version)
            if older is not None:
                msgspec.convert(event.data, older)
            contract.read(event.data, version)
        except msgspec.ValidationError as error:
            return None, explain(error, "$.data" if "event" in locals() else "$")
        except Exception as error:  # noqa: BLE001 - the workspace's own upcast raised
            said = f"{type(error).__name__}: {error}"
            return None, (f"upcast failed: from version {version}: {said}", "$.data")
        return event, None

    def _envelope_of(self, contract: Contract, version: int) -> Any:
        """An envelope for one older version, by which its shape is found."""
        label = f"{contract.type}@{version}"
        envelope = self._older_envelopes.get(label)
        if envelope is None:
            made: Any = msgspec.defstruct(f"{contract.cls.__name__}{version}Event", [], bases=(AnyEvent,))
            envelope = self._older_envelopes[label] = made
            sealer = Sealer(contract, self._keys) if contract.personal and self._keys is not None else None
            self._shapes[envelope] = _Shape(contract, self._code(label), sealer, newest=False)
        return envelope


def _beyond(event: Envelope) -> Wrong | None:
    """Which time of an event is in none of the years 1 to 9999 once its offset is taken off."""
    for name, moment in (("time", event.time), ("known_at", event.known_at)):
        if moment is not None and moment.year in (1, 9999):
            try:
                from_micros(to_micros(moment))
            except OverflowError:
                return "invalid: in UTC it is before the year 1 or after 9999", f"$.{name}"
    return None


def same_meaning(one: bytes, other: bytes, *, timed: bool = True) -> bool:
    """Whether two texts with one key say the same: type, version, time (unless it is ours), subject and data."""
    if one == other:
        return True
    try:
        a, b = msgspec.json.decode(one, type=AnyEvent), msgspec.json.decode(other, type=AnyEvent)
    except BROKEN:
        return False
    when = not timed or to_micros(a.time) == to_micros(b.time)
    return when and (a.type, a.version, a.subject, a.data) == (b.type, b.version, b.subject, b.data)


def tokens_of(joined: bytes) -> int:
    """``tokens`` of many events at once."""
    if len(joined) < _VECTOR:
        return tokens(joined)
    import numpy as np  # here: commands that read no events need no numpy

    text = np.frombuffer(joined, np.uint8)
    colon, before = text[1:] == 58, text[:-1]
    if ((before <= 32) & colon).any():  # a colon after a blank: in a text, or pretty-printed
        return tokens(joined)
    return int(np.count_nonzero((before == 34) & colon))
