"""Messages of other protocols become events: by the workspace's mappings, else by the contract that has their name.

A protocol's module reads a request into ``Message``s, whose values are pieces of its JSON. Here those pieces are put
together as the JSON of plain events, which are then checked as if they had been sent so. What does not translate, and
what breaks its contract, goes to quarantine as the message's own bytes.
"""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from typing import Any, Final, Protocol

import msgspec

from sampan.base.clock import iso
from sampan.log.adapt import Mapping, type_named
from sampan.log.check import Bad, Batch, Checker
from sampan.log.contracts import Contracts
from sampan.log.explain import BROKEN, Wrong, not_json, not_utf8, repeated_key, short, tokens
from sampan.log.frames import Complaint, Origin
from sampan.log.items import not_more

Piece = bytes | msgspec.Raw  # of JSON, as it stands in a message
Fields = dict[str, Any]  # name → Piece

ABSENT: Final = msgspec.Raw()
_KEPT: Final = 10_000  # names whose plans are kept
_COPIES: Final = 1 << 20  # bytes of one request's messages that are held again and again, once for each bad event
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ENCODE: Final = msgspec.json.Encoder().encode


class Message(msgspec.Struct, gc=False):
    """One message as every protocol says it. What it does not say is empty."""

    name: str  # of what happened
    id: Piece
    source: Piece
    time: Piece
    subject: Piece
    data: Piece  # the object with its properties
    part: str = ""  # which event of a message that has several
    also: bytes = b""  # further members of the event: `,"name":value`
    wrong: Wrong | None = None  # why it can be no event at all
    odd: str = ""  # what its data was before it was put into a field of an object


class Messages(Protocol):
    """A request as its protocol's module has read it."""

    protocol: str
    sound: bool  # whether every message is known to be UTF-8, and JSON that means one thing
    beside: dict[str, str]  # what is said outside of the messages' bytes and is needed to read them again
    timed: bool  # whether every time is the producer's own
    messages: Sequence[Message]

    def raw(self, index: int) -> bytes:
        """The bytes of a message as received."""
        ...

    def whole(self, index: int) -> dict[str, Any]:
        """A message as a mapping function is given it. Raises ValueError or what decoding raises."""
        ...


class Untranslated(Exception):
    """A message that becomes no event. Carries the reason, the place and, if one was meant, the type."""

    def __init__(self, reason: str, path: str = "$", type: str | None = None) -> None:
        super().__init__(reason)
        self.wrong: Wrong = (reason, path)
        self.type = type


class Event(msgspec.Struct, gc=False):
    """JSON of an event that was made of a message, and which of its events it is."""

    raw: bytes
    part: str


class Translator:
    """The mappings of a workspace, compiled. Not shared between threads."""

    def __init__(self, contracts: Contracts) -> None:
        self.contracts = contracts
        self._mappings: dict[tuple[str, str], list[_Plan]] = {}
        for mapping in contracts.mappings:
            plans = self._mappings.setdefault((mapping.protocol, mapping.name), [])
            plans.append(_Plan(mapping, contracts, first=not plans))
        self._plans: dict[tuple[str, str], list[_Plan]] = {}
        self._alone: dict[str, dict[str, _Plan]] = {}  # by protocol and name: those that need no look at the message

    def batch(self, request: Messages, checker: Checker) -> Batch:
        """A request's events, checked. Raises TooMany if its messages become more than a request may have."""
        raws: list[bytes] = []
        origins: list[tuple[int, str]] = []
        bads: list[Bad] = []
        subjects = bytearray()  # whether each has a subject beside what it must have
        alone = self._alone.setdefault(request.protocol, {})
        for index, message in enumerate(request.messages):
            plan = alone.get(message.name)
            if plan is not None and not message.odd:
                data = message.data if plan.simple else plan.renamed(message.data)
                if data is not None:
                    raws.append(plan.event(message.id, message, data))
                    origins.append((index, message.part))
                    subjects.append(1 if message.subject else 0)
                    continue
            try:
                for plan in self._plans_of(request.protocol, message):
                    for event in plan.events(message, request, index):
                        raws.append(event.raw)
                        origins.append((index, event.part))
                        subjects.append(0)
                    not_more(len(origins))
            except Untranslated as reason:
                complaint = Complaint(*reason.wrong, reason.type, _text(message.id), _text(message.source))
                bads.append(Bad(len(origins), _as_event(message), complaint))
                origins.append((index, message.part))
        return self._checked(request, checker.batch(raws, subjects), origins, bads, checker)

    def _checked(
        self, request: Messages, batch: Batch, origins: list[tuple[int, str]], bads: list[Bad], checker: Checker
    ) -> Batch:
        batch.timed = request.timed
        batch.sent = sent = _Held(request, origins)
        if bads or batch.bads:
            failed = {bad.index for bad in bads}
            places = [index for index in range(len(origins)) if index not in failed] if bads else None
            found = []
            for bad in batch.bads:
                batch.size -= len(bad.raw)
                at = bad.index if places is None else places[bad.index]
                found.append(checker.as_sent(sent, Bad(at, bad.raw, bad.complaint)))
            for bad in bads:
                # Sealed before they get their origin, as it says whose the bytes are.
                raw, origin = sent.bytes_of(bad.index, bad.raw)
                legible = {"subject": _text(request.messages[origins[bad.index][0]].subject)}
                held = checker.held(Bad(bad.index, raw, bad.complaint), legible)
                held.complaint = msgspec.structs.replace(held.complaint, origin=origin)
                found.append(held)
            batch.bads = sorted(found, key=lambda bad: bad.index)
            batch.size += sum(len(bad.raw) for bad in found)
        return batch

    def again(self, request: Messages, part: str) -> bytes | None:
        """JSON of the event that a held message makes now, if it makes one."""
        for index, message in enumerate(request.messages):
            try:
                for plan in self._plans_of(request.protocol, message):
                    for event in plan.events(message, request, index):
                        if event.part == part:
                            return event.raw
            except Untranslated:
                continue
        return None

    def _plans_of(self, protocol: str, message: Message) -> "list[_Plan]":
        """How a message becomes events. Raises Untranslated if it does not, or nobody said."""
        if message.wrong is not None:
            raise Untranslated(*message.wrong)
        return self._plans.get((protocol, message.name)) or self._find(protocol, message.name)

    def _find(self, protocol: str, name: str) -> "list[_Plan]":
        """How messages of this name become events. Raises Untranslated if nobody said."""
        plans = self._mappings.get((protocol, name))
        if plans is None:
            kind = name if name in self.contracts else type_named(name)
            if kind not in self.contracts:
                said = f"no adapt for it, no contract {short(kind)}"
                raise Untranslated(f"unknown type: {protocol} {short(name)} ({said})")
            contract = self.contracts.contract(kind).cls
            plans = [_Plan(Mapping(protocol=protocol, name=name, contract=contract), self.contracts)]
        if len(self._plans) >= _KEPT:
            self._plans.clear()
            self._alone.clear()
        self._plans[protocol, name] = plans
        if len(plans) == 1 and (plans[0].simple or plans[0].quick):
            self._alone.setdefault(protocol, {})[name] = plans[0]
        return plans


class _Held:
    """Which message each item of a batch was made of."""

    def __init__(self, request: Messages, origins: list[tuple[int, str]]) -> None:
        self._request, self._origins = request, origins
        self._seen: set[int] = set()
        self._last: bytes | None = None
        self._copied = 0

    def origin(self, index: int) -> Origin:
        return Origin(self._request.protocol, self._origins[index][1], self._request.beside)

    def bytes_of(self, index: int, made: bytes) -> tuple[bytes, Origin | None]:
        """The message's bytes. One with very many bad events is not held so often that it fills the disk: then the
        events themselves are."""
        at = self._origins[index][0]
        raw = self._request.raw(at)
        if at in self._seen or raw is self._last:  # GA4's events have all of their message
            self._copied += len(raw)
            if self._copied > _COPIES:
                return made, None
        self._seen.add(at)
        self._last = raw
        return raw, self.origin(index)


class _Plan:
    """One mapping, compiled."""

    def __init__(self, mapping: Mapping, contracts: Contracts, *, first: bool = True) -> None:
        kind: str = mapping.contract.__sampan_type__
        version: int = mapping.contract.__sampan_version__
        contract = contracts.contract(kind)
        self._mapping, self._kind = mapping, kind
        self._secret = bool(contract.personal)
        self._infix = "" if first else f"{kind}/"  # a second mapping of the same messages makes ids of its own
        self._fields = frozenset(mapping.contract.__struct_encode_fields__)
        self._rename = [(_steps(place), place, field) for place, field in mapping.rename.items()]
        self._targets = frozenset(mapping.rename.values())
        self._each = _steps(mapping.each) if mapping.each is not None else None
        self._places = [(name, _steps(place)) for name in _PLACES if (place := getattr(mapping, name)) is not None]
        self._type = _ENCODE(kind) + (b"" if version == contract.version else b',"version":%d' % version)
        self._middle = b',"type":%b,"time":' % self._type
        plain = first and not (mapping.make or self._each or self._places)
        self.simple = plain and not self._rename
        flat = all(len(steps) == 1 and place not in self._targets for steps, place, _ in self._rename)
        #: Of each renamed property, how it stands in the text of a flat object, and what becomes of it.
        self.quick = [(_key(old)[:-1], _key(old), _key(new)) for _, old, new in self._rename] if plain and flat else []

    def event(self, id: Piece, message: Message, data: Piece) -> bytes:
        """A plain event's JSON, with everything as the message has it."""
        source, time, subject = message.source, message.time, message.subject
        if not subject:
            return b"".join((_ID, id, _SOURCE, source, self._middle, time, message.also, _DATA, data or b"{}", b"}"))
        return b"".join(
            (_ID, id, _SOURCE, source, self._middle, time, _SUBJECT, subject, message.also, _DATA, data or b"{}", b"}")
        )

    def renamed(self, properties: Piece) -> bytes | None:
        """The properties with their names exchanged in the text; None where that might change anything else.

        A flat object without escapes has a name in quotes before a colon only where it is a key.
        """
        data = bytes(properties)
        if data.find(b"\\") >= 0 or data.find(b"{", 1) >= 0:
            return None
        for quoted, old, new in self.quick:
            pieces = data.split(old)
            if len(pieces) == 2 and data.find(new) < 0:
                data = pieces[0] + new + pieces[1]
            elif len(pieces) != 1 or data.find(quoted) >= 0:
                return None
        return data

    def events(self, message: Message, request: Messages, index: int) -> list[Event]:
        """Every event that a message becomes. Raises Untranslated."""
        if message.odd and self._mapping.make is None and not self._takes(message):
            raise Untranslated(f"not JSON: {message.odd}, and {self._kind} has no field for it", "$.data", self._kind)
        if self.simple:
            return [Event(self.event(message.id, message, message.data), message.part)]
        try:
            if self._mapping.make is not None:
                return self._made(message, request, index)
            return self._mapped(message, request, index)
        except BROKEN:
            raise Untranslated(*_unreadable(request.raw(index)), self._kind) from None

    def _takes(self, message: Message) -> bool:
        """Whether the contract has the field into which data that is no object was put."""
        return not self._fields.isdisjoint(_FIELDS.decode(message.data))

    # -- by places

    def _mapped(self, message: Message, request: Messages, index: int) -> list[Event]:
        properties: Fields = _FIELDS.decode(message.data or b"{}")
        whole = cache(partial(request.whole, index))
        look = _Look(properties, None, whole)
        if self._each is None:
            data = self._renamed(dict(properties), look)
            self._unrepeated(message.data, data, request, index)
            return [self._event(message, look, data, None)]
        found = look.at(self._each)
        path = f"$.{self._mapping.each}"
        if found is None:
            raise Untranslated(f"no events: it has no list {short(self._mapping.each)}", path, self._kind)
        try:
            items = _ITEMS.decode(found)
        except msgspec.ValidationError:
            raise Untranslated(f"no events: {short(self._mapping.each)} is no list", path, self._kind) from None
        if not items:
            raise Untranslated(f"no events: {short(self._mapping.each)} is empty", path, self._kind)
        not_more(len(items))
        self._sound(request, index)
        outer = {name: value for name, value in properties.items() if name in self._fields}
        events = []
        for number, item in enumerate(items):
            try:
                own: Fields = _FIELDS.decode(item)
            except msgspec.ValidationError:
                reason = f"no events: an item of {short(self._mapping.each)} is no object"
                raise Untranslated(reason, f"{path}[{number}]", self._kind) from None
            look = _Look(properties, own, whole)
            events.append(self._event(message, look, self._renamed({**outer, **own}, look), number))
        return events

    def _renamed(self, data: Fields, look: "_Look") -> Fields:
        for steps, place, field in self._rename:
            if (value := look.at(steps)) is not None:
                if len(steps) == 1 and place not in self._targets:
                    data.pop(place, None)
                data[field] = value
        return data

    def _sound(self, request: Messages, index: int) -> None:
        if not request.sound:
            raw = request.raw(index)
            if (wrong := not_utf8(raw) or not_json(raw, {})) is not None:
                raise Untranslated(*wrong, self._kind)

    def _unrepeated(self, properties: Piece, data: Fields, request: Messages, index: int) -> None:
        """Taking properties apart keeps one of two that have the same name, which nobody would be told of."""
        if request.sound or not properties or tokens(bytes(properties)) == tokens(_object(data)):
            return
        raw = request.raw(index)
        if (wrong := not_utf8(raw) or repeated_key(raw)) is not None:
            raise Untranslated(*wrong, self._kind)

    def _event(self, message: Message, look: "_Look", data: Fields, number: int | None) -> Event:
        said: dict[str, Piece] = {}
        for name, steps in self._places:
            if (value := look.at(steps)) is not None:
                said[name] = _instant(value) if name in ("time", "known_at") else _name(value)
        part = message.part if number is None else f"{message.part}/{number}" if message.part else str(number)
        id = said.get("id", message.id)
        if number is not None and not ("id" in said and look.own("id", self._places)):
            id = _behind(id, f"/{self._infix}{number}")
        elif number is None and self._infix:
            id = _behind(id, f"/{self._infix[:-1]}")
        return Event(self._put(message, said, id, _object(data)), self._infix + part)

    def _put(self, message: Message, said: dict[str, Piece], id: Piece, data: bytes) -> bytes:
        known_at = said.get("known_at")
        also = message.also + (b',"known_at":%b' % known_at if known_at is not None else b"")
        whole = msgspec.structs.replace(
            message,
            source=said.get("source", message.source),
            time=said.get("time", message.time),
            subject=said.get("subject", message.subject),
            also=also,
        )
        return self.event(id, whole, data)

    # -- by a function

    def _made(self, message: Message, request: Messages, index: int) -> list[Event]:
        self._sound(request, index)
        whole = cache(partial(request.whole, index))
        make = self._mapping.make
        assert make is not None
        try:
            made = make(request.whole(index))
        except Exception as error:  # noqa: BLE001 - the workspace's own mapping raised
            raise Untranslated(self._raised(error), "$", self._kind) from None
        if made is None:
            return []
        if isinstance(made, dict):
            look = _Look(self._encoded(made), None, whole)
            return [self._event(message, look, look.properties, None)]
        if not isinstance(made, list) or not all(isinstance(data, dict) for data in made):
            raise Untranslated(f"mapping failed: it returned {type(made).__name__}", "$", self._kind)
        events = []
        for number, data in enumerate(made):
            fields = self._encoded(data)
            events.append(self._event(message, _Look({}, fields, whole), fields, number))
        return events

    def _encoded(self, data: dict[str, Any]) -> Fields:
        try:
            return {name: _ENCODE(value) for name, value in data.items()}
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise Untranslated(self._raised(error), "$", self._kind) from None

    def _raised(self, error: Exception) -> str:
        """What a mapping raised; of messages with personal values, not the words, which may repeat one."""
        said = type(error).__name__ if self._secret else f"{type(error).__name__}: {error}"
        return f"mapping failed: {said[:300]}"


_ID: Final = b'{"id":'
_SOURCE: Final = b',"source":'
_SUBJECT: Final = b',"subject":'
_DATA: Final = b',"data":'
_PLACES: Final = ("id", "time", "subject", "source", "known_at")


class _Look:
    """Finds what stands at a place: in an item, among the properties, or from the message on."""

    def __init__(self, properties: Fields, item: Fields | None, whole: Callable[[], dict[str, Any]]) -> None:
        self.properties, self._item, self._whole = properties, item, whole

    def at(self, steps: tuple[str, ...]) -> Piece | None:
        """The piece of JSON at a place; None where there is nothing, or null."""
        if steps[0] == "$":
            value: Any = self._whole()
            for step in steps[1:]:
                value = value.get(step) if isinstance(value, dict) else None
            return None if value is None else _ENCODE(value)
        for fields in (self._item, self.properties):
            if fields is not None and (found := _below(fields, steps)) is not None:
                return found
        return None

    def own(self, name: str, places: list[tuple[str, tuple[str, ...]]]) -> bool:
        """Whether the place of ``name`` is in the item itself."""
        steps = next(steps for other, steps in places if other == name)
        return self._item is not None and steps[0] != "$" and _below(self._item, steps) is not None


def _below(fields: Fields, steps: tuple[str, ...]) -> Piece | None:
    value = fields.get(steps[0])
    for step in steps[1:]:
        if value is None or bytes(value)[:1] != b"{":
            return None
        value = _FIELDS.decode(value).get(step)
    return None if value is None or bytes(value) == b"null" else value


def _steps(place: str) -> tuple[str, ...]:
    return tuple(place.split("."))


@lru_cache(maxsize=4096)
def _key(name: str) -> bytes:
    return _ENCODE(name) + b":"


def _object(fields: Fields) -> bytes:
    return b"{" + b",".join([b"%b%b" % (_key(name), value) for name, value in fields.items()]) + b"}"


def _as_event(message: Message) -> bytes:
    """What there is of an event in a message that becomes none."""
    said: Fields = {name: value for name in _PLACES[:4] if (value := getattr(message, name))}
    return _object(said | {"type": _ENCODE(message.name), "data": message.data or b"{}"})[:-1] + message.also + b"}"


def _name(value: Piece) -> Piece:
    """An id, source or subject: a number counts as the text that it is written as."""
    raw = bytes(value)
    return b'"%b"' % raw if raw[:1] in b"-0123456789" else value


def _behind(id: Piece, more: str) -> bytes:
    """An id with something behind it. What is no text stays as it is; the contract says so."""
    raw = bytes(id)
    return raw[:-1] + more.encode() + b'"' if raw[:1] == b'"' else raw


def _instant(value: Piece) -> Piece:
    """A time: text as it stands; a number counts the seconds since 1970, or milli- or microseconds if it is large."""
    raw = bytes(value)
    if raw[:1] == b'"':
        if not raw[1:-1].isdigit():
            return value
        raw = raw[1:-1]
    return instant_of(raw) or value


def instant_of(number: bytes) -> bytes | None:
    """JSON of the time that a number means; None if it means none."""
    try:
        count = float(number)
        micros = int(number) if number.isdigit() else int(count)
        if count < 1e11:
            micros = round(count * 1e6)
        elif count < 1e14:
            micros = round(count * 1e3)
        return b'"%b"' % iso(micros).encode()
    except (ValueError, OverflowError):
        return None


def _text(piece: Piece) -> str | None:
    """An id or source for a complaint, if it is a text of sane length."""
    try:
        text = msgspec.json.decode(piece)
    except BROKEN:
        return None
    return text if isinstance(text, str) and len(text) <= 200 else None


def _unreadable(raw: bytes) -> Wrong:
    return not_utf8(raw) or not_json(raw, {}) or ("invalid: the properties are no object", "$")
