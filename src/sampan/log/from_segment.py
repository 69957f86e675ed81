"""Segment's HTTP tracking API: its calls, one to a request or in a batch, read into messages.

Every value is kept as the piece of JSON that it is. Times follow Segment's "Spec: Common Fields": if the clock of the
client that sent (``sentAt``) differs from ours, ``timestamp`` is moved by the difference. What a request takes on its
way is no such difference, so up to five seconds are let be.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from itertools import chain
from typing import Any, Final

import msgspec
from msgspec import Raw

from sampan.base.clock import iso, to_micros
from sampan.log.check import tokens_of
from sampan.log.explain import BROKEN, Wrong, not_json, not_utf8, short
from sampan.log.items import ITEM_LIMIT, not_more, split, split_broken_array
from sampan.log.translate import ABSENT, Message

#: The calls, by their name in the path.
CALLS: Final = ("track", "page", "screen", "identify", "group", "alias")
BATCHES: Final = ("batch", "import")

TOLERANCE: Final = 5_000_000  # microseconds
_TRACK: Final = Raw(b'"track"')
_NULL: Final = len("null")
_TRAITS: Final = frozenset({"identify", "group"})
_ENCODE: Final = msgspec.json.Encoder().encode
_FIELDS: Final = msgspec.json.Decoder(dict[str, Raw])
_ARRAY: Final = re.compile(rb'"batch"\s*:\s*(?=\[)')
_SENT_AT: Final = re.compile(rb'"sentAt"\s*:\s*"([^"\\]{1,40})"')
_KEY: Final = re.compile(rb'("writeKey"\s*:\s*")([^"\\]+)')


class _Call(msgspec.Struct, gc=False, rename="camel"):
    """A call as it is sent."""

    type: Raw = ABSENT
    event: Raw = ABSENT
    message_id: Raw = ABSENT
    user_id: Raw = ABSENT
    anonymous_id: Raw = ABSENT
    timestamp: Raw = ABSENT
    original_timestamp: Raw = ABSENT
    sent_at: Raw = ABSENT
    properties: Raw = ABSENT
    traits: Raw = ABSENT
    name: Raw = ABSENT
    category: Raw = ABSENT
    group_id: Raw = ABSENT
    previous_id: Raw = ABSENT
    context: Raw = ABSENT
    integrations: Raw = ABSENT
    write_key: Raw = ABSENT


class _Batch(msgspec.Struct, gc=False, rename="camel"):
    batch: list[_Call]
    sent_at: Raw = ABSENT
    context: Raw = ABSENT
    integrations: Raw = ABSENT
    write_key: Raw = ABSENT
    timestamp: Raw = ABSENT
    message_id: Raw = ABSENT


class _Raws(msgspec.Struct, gc=False):
    batch: list[Raw]


class _Wrapper(msgspec.Struct, gc=False, rename="camel"):
    batch: Raw
    sent_at: Raw = ABSENT
    context: Raw = ABSENT


_BATCH: Final = msgspec.json.Decoder(_Batch)
_CALL: Final = msgspec.json.Decoder(_Call)
_RAWS: Final = msgspec.json.Decoder(_Raws)
_WRAPPER: Final = msgspec.json.Decoder(_Wrapper)
_ANY: Final = msgspec.json.Decoder()


class SegmentMessages:
    """One request. ``call`` is the last part of its path, empty for one call that says what it is; ``source`` is who
    sent it, ``received`` when, in microseconds."""

    protocol = "segment"
    sound = False

    def __init__(self, call: str, body: bytes, source: str, received: int, sent_at: str = "") -> None:
        self._call, self._body, self._received = call, body, received
        self.beside = {"call": call, "received": str(received)}
        self.timed = True
        self._source = _ENCODE(source)
        self._context: Raw = ABSENT  # a batch's, for its messages that have none
        self._raws: Sequence[bytes | Raw] | None = None  # each call; of a sound batch, only if one is asked for
        self._names: dict[bytes, str] = {}
        self._sent_at = sent_at
        self._skews: dict[bytes, int] = {}
        calls = self._read()
        if self._sent_at:
            self.beside["sentAt"] = self._sent_at
        self._skew = self._skew_of(_ENCODE(self._sent_at)) if self._sent_at else 0
        usual = self._usual
        self.messages: Sequence[Message] = [
            usual(call) or self._message(index, call) if isinstance(call, _Call) else self._wrong(index, call)
            for index, call in enumerate(calls)
        ]

    @classmethod
    def again(cls, raw: bytes, beside: dict[str, str], source: str) -> "SegmentMessages":
        """One call that was held, with what was said beside it."""
        call = beside.get("call", "")
        alone = call if call in CALLS else ""
        return cls(alone, raw, source, int(beside.get("received", "0")), beside.get("sentAt", ""))

    # -- what was sent

    def raw(self, index: int) -> bytes:
        """The bytes of one call; a key in it, which is a secret, in asterisks."""
        if self._raws is None:
            self._raws = _RAWS.decode(self._body).batch
        return _KEY.sub(lambda found: found[1] + b"*" * len(found[2]), bytes(self._raws[index]))

    def whole(self, index: int) -> dict[str, Any]:
        """A call as it was sent, without its key; with the batch's context if it has none."""
        value = _ANY.decode(self.raw(index))
        if not isinstance(value, dict):
            raise msgspec.ValidationError("a call is an object")
        value.pop("writeKey", None)
        if self._context and not value.get("context"):
            value["context"] = _ANY.decode(self._context)
        if self._call in CALLS:
            value["type"] = self._call
        return value

    def _read(self) -> Sequence[_Call | Wrong]:
        if self._call not in BATCHES:
            self._body = self._body.strip()
            self._raws = [self._body]
            return [self._one(self._body)]
        try:
            if self._body.count(b"{") > ITEM_LIMIT:  # else there are not as many calls
                not_more(len(_RAWS.decode(self._body).batch))
            batch = _BATCH.decode(self._body)
        except BROKEN:
            return self._one_by_one()
        self._told(batch.sent_at, batch.context)
        if self._sound(batch):
            return batch.batch
        if (wrong := _said_twice(self._body)) is not None:
            self._raws = [self._body]
            return [wrong]
        return [self._one(self.raw(index)) for index in range(len(batch.batch))]

    def _told(self, sent_at: Raw, context: Raw) -> None:
        if bytes(context)[:1] == b"{":
            self._context = context
        if sent_at and not self._sent_at:
            said = _text(sent_at)
            self._sent_at = said[:40] if said is not None else ""

    def _sound(self, batch: _Batch) -> bool:
        """Whether all of a batch is UTF-8 and no call in it repeats a key: as many tokens as look like keys as calls
        have members, but for those that are within members."""
        body = self._body
        if not body.isascii():
            try:
                body.decode()
            except UnicodeDecodeError:
                return False
        pieces = list(filter(None, chain.from_iterable(map(msgspec.structs.astuple, batch.batch))))
        own = list(filter(None, msgspec.structs.astuple(batch)[1:]))
        members = len(pieces) + len(own) + 1
        return tokens_of(body) == members + tokens_of(b"".join(pieces)) + tokens_of(b"".join(own))

    def _one_by_one(self) -> Sequence[_Call | Wrong]:
        """The calls of a batch that does not parse as a whole."""
        try:
            wrapper = _WRAPPER.decode(self._body)
        except BROKEN:
            array = _ARRAY.search(self._body)
            if array is None or _faulty(self._body) is None:
                self._raws = [self._body]
                wrong = _faulty(self._body)
                return [wrong or ("invalid: a batch has a list named batch", "$.batch")]
            items, rest = split_broken_array(self._body[array.end() :], ITEM_LIMIT)
            if _faulty(b'{"batch":[]' + rest) is not None:  # not what follows a batch: it may hold calls
                items.append(rest)
            not_more(len(items))
            self._raws = items
            if said := _SENT_AT.search(self._body):
                self._sent_at = said[1].decode("latin-1")
        else:
            self._told(wrapper.sent_at, wrapper.context)
            inner = bytes(wrapper.batch)
            wrong = _said_twice(self._body)
            if wrong is not None or inner[:1] != b"[":
                self._raws = [self._body]
                return [wrong or ("invalid: a batch has a list named batch", "$.batch")]
            self._raws = split(inner, most=ITEM_LIMIT)
        return [self._one(bytes(raw)) for raw in self._raws]

    def _one(self, raw: bytes) -> _Call | Wrong:
        wrong = _faulty(raw)
        return _CALL.decode(raw) if wrong is None else wrong

    # -- what it says

    def _usual(self, call: _Call) -> Message | None:
        """A call as clients send most, without ado: track, complete, from a clock that is right. None: look closer."""
        if self._skew or call.type != _TRACK:
            return None
        id, time, data, user = call.message_id, call.timestamp, call.properties, call.user_id
        if len(id) <= _NULL or len(time) <= _NULL or len(data) <= _NULL or len(user) <= _NULL or call.sent_at:
            return None
        name = self._names.get(bytes(call.event)) or self._name(call.event)
        return Message(name, id, self._source, time, user, data) if name else None

    def _message(self, index: int, call: _Call) -> Message:
        kind = self._call if self._call in CALLS else self._name(call.type)
        if kind == "track":
            name = self._name(call.event)
            data = call.properties
        else:
            name = kind if kind in CALLS else ""
            data = _beside_properties(kind, call)
        if not name:
            return self._wrong(index, _nameless(kind, call))
        user = call.user_id
        if not user or (len(user) == 4 and bytes(user) == b"null"):
            user = call.anonymous_id
            if len(user) == 4 and bytes(user) == b"null":
                user = ABSENT
        if not user:
            return self._wrong(index, ("invalid: a call has a userId or an anonymousId", "$.userId"))
        time = call.timestamp or call.original_timestamp
        skew = self._skew_of(call.sent_at) if call.sent_at and not self._sent_at else self._skew
        timed = bool(time)
        if not time or (len(time) == 4 and bytes(time) == b"null"):
            timed, time = False, self._now()
        elif skew and not (call.timestamp and call.original_timestamp):
            time = self._moved(time, skew)
        if len(data) == 4 and bytes(data) == b"null":
            data = ABSENT
        id = call.message_id
        if not id or (len(id) == 4 and bytes(id) == b"null"):
            id = self._id(index, timed=timed)
        return Message(name, id, self._source, time, user, data)

    def _wrong(self, index: int, wrong: Wrong) -> Message:
        id, user = ABSENT, ABSENT
        try:
            call = _CALL.decode(self.raw(index))
            id, user = call.message_id, call.user_id
        except BROKEN:
            pass
        return Message("", id, self._source, b"", user, b"", wrong=wrong)

    def _name(self, piece: Raw) -> str:
        raw = bytes(piece)
        name = self._names.get(raw)
        if name is None:
            name = self._names[raw] = _text(piece) or ""
        return name

    def _now(self) -> Raw:
        self.timed = False
        return Raw(_ENCODE(iso(self._received)))

    def _id(self, index: int, *, timed: bool) -> Raw:
        """The id of a call without one: the same bytes sent again are the same call, if they say when it was."""
        hasher = blake2b(self.raw(index), digest_size=16)
        if not timed:
            hasher.update(f"{self._received} {index}".encode())
        return Raw(f'"{hasher.hexdigest()}"'.encode())

    def _skew_of(self, sent_at: bytes | Raw) -> int:
        """By how much our clock is ahead of the client's, in microseconds; 0 if that is not much."""
        raw = bytes(sent_at)
        if raw not in self._skews:
            micros = _micros(raw)
            skew = self._received - micros if micros is not None else 0
            self._skews[raw] = skew if abs(skew) > TOLERANCE else 0
        return self._skews[raw]

    def _moved(self, time: Raw, skew: int) -> Raw:
        micros = _micros(bytes(time))
        if micros is None:
            return time  # the contract says what is wrong with it
        try:
            moved = iso(micros + skew)
        except OverflowError:
            return time
        self.timed = False
        return Raw(_ENCODE(moved))


def _beside_properties(kind: str, call: _Call) -> Raw:
    """The properties of a call other than track, with what such calls say beside them."""
    data = call.traits if kind in _TRAITS else call.properties
    also = {"name": call.name, "category": call.category} if kind in ("page", "screen") else {}
    if kind == "group":
        also = {"group_id": call.group_id}
    elif kind == "alias":
        also = {"previous_id": call.previous_id}
    said = {name: bytes(value) for name, value in also.items() if value and bytes(value) != b"null"}
    if not said or (data and bytes(data)[:1] != b"{"):
        return data
    inner = bytes(data)[1:-1].strip() if data else b""
    known = _FIELDS.decode(data) if data else {}
    more = [_ENCODE(name) + b":" + value for name, value in said.items() if name not in known]
    return Raw(b"{" + b",".join(filter(None, (inner, *more))) + b"}")


def _faulty(raw: bytes) -> Wrong | None:
    """Why bytes are no JSON object that means one thing."""
    return not_utf8(raw) or not_json(raw, {})


def _said_twice(body: bytes) -> Wrong | None:
    """The key that a batch repeats, whatever its calls do: of two lists of calls, one would be lost."""
    names: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        names[:] = [name for name, _ in pairs]  # of the outermost object at last

    try:
        json.loads(body.decode(errors="replace"), object_pairs_hook=note)
    except (ValueError, RecursionError):
        return None  # the calls that are wrong say so themselves
    name = next((name for name, times in Counter(names).items() if times > 1), None)
    return None if name is None else (f"repeated key: {short(name)}", "$")


def _nameless(kind: str, call: _Call) -> Wrong:
    if kind == "track":
        return "invalid: a track call names its event", "$.event"
    said = f", not {kind!r:.40}" if call.type else ""
    return f"invalid: a call has one of the types {', '.join(CALLS)}{said}", "$.type"


def _text(piece: bytes | Raw) -> str | None:
    try:
        value = _ANY.decode(piece)
    except BROKEN:
        return None
    return value if isinstance(value, str) else None


def _micros(raw: bytes) -> int | None:
    try:
        return to_micros(msgspec.json.decode(raw, type=datetime))
    except (*BROKEN, OverflowError):
        return None
