"""GA4's Measurement Protocol: one message with several events of one visitor, read into a message for each.

The protocol has no ids. The same bytes sent again are the same events if they say when it was (``timestamp_micros``, of
the event or the message); else they count again, as they do at Google. A timestamp of too few digits for microseconds
is taken as the milli- or plain seconds that it is.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Raw

from sampan.base.clock import iso
from sampan.log.explain import BROKEN, Wrong, not_json, not_utf8
from sampan.log.items import ITEM_LIMIT, not_more
from sampan.log.translate import ABSENT, Message, instant_of

_ENCODE: Final = msgspec.json.Encoder().encode
_ANY: Final = msgspec.json.Decoder()
_SHORT: Final = 200

EVENTS, PARAMS = 25, 25  # the most that the protocol allows in a message, and of an event
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}\Z")
#: Names that the protocol keeps for itself.
RESERVED: Final = frozenset(
    [
        "ad_activeview",
        "ad_click",
        "ad_exposure",
        "ad_query",
        "ad_reward",
        "adunit_exposure",
        "app_clear_data",
        "app_exception",
        "app_install",
        "app_remove",
        "app_store_refund",
        "app_update",
        "app_upgrade",
        "dynamic_link_app_open",
        "dynamic_link_app_update",
        "dynamic_link_first_open",
        "error",
        "firebase_campaign",
        "firebase_in_app_message_action",
        "firebase_in_app_message_dismiss",
        "firebase_in_app_message_impression",
        "first_open",
        "first_visit",
        "notification_dismiss",
        "notification_foreground",
        "notification_open",
        "notification_receive",
        "notification_send",
        "os_update",
        "session_start",
        "user_engagement",
    ]
)


class _Event(msgspec.Struct, gc=False):
    name: Raw = ABSENT
    params: Raw = ABSENT
    timestamp_micros: Raw = ABSENT


class _Payload(msgspec.Struct, gc=False):
    events: Raw = ABSENT
    client_id: Raw = ABSENT
    app_instance_id: Raw = ABSENT
    user_id: Raw = ABSENT
    timestamp_micros: Raw = ABSENT


_PAYLOAD: Final = msgspec.json.Decoder(_Payload)
_EVENT: Final = msgspec.json.Decoder(_Event)
_FIELDS: Final = msgspec.json.Decoder(dict[str, Raw])
_LIST: Final = msgspec.json.Decoder(list[Raw])


class Ga4Messages:
    """One request. ``stream`` is its measurement_id or firebase_app_id, ``producer`` who sent it, ``received`` when."""

    protocol = "ga4"
    sound = True

    def __init__(self, body: bytes, stream: str, producer: str, received: int) -> None:
        self._body, self._received = body.strip(b" \t\r\n"), received
        self.beside = {"stream": stream[: _SHORT + 1], "received": str(received)}
        self.timed = True
        self._stream = stream
        self._source = _ENCODE(stream[: _SHORT + 1] or producer)
        self._subject: Raw = ABSENT
        self._events: list[Raw] = []
        self.messages: Sequence[Message] = self._read()

    @classmethod
    def again(cls, raw: bytes, beside: dict[str, str], producer: str) -> "Ga4Messages":
        """A message that was held, with what was said beside it."""
        return cls(raw, beside.get("stream", ""), producer, int(beside.get("received", "0")))

    def raw(self, index: int) -> bytes:
        """The message, with all of its events."""
        return self._body

    def whole(self, index: int) -> dict[str, Any]:
        """One event as a mapping function is given it: what the message says, then what the event says."""
        return {**_ANY.decode(self._rest), "measurement_id": self._stream, **_ANY.decode(self._events[index])}

    @cached_property
    def _rest(self) -> bytes:
        """The message without its events."""
        return _ENCODE({name: value for name, value in _FIELDS.decode(self._body).items() if name != "events"})

    def _read(self) -> Sequence[Message]:
        body = self._body
        if not body:
            return []
        not_more(_count(body))
        wrong = not_utf8(body) or not_json(body, {})
        if wrong is not None:
            return [self._wrong(wrong)]
        payload = _PAYLOAD.decode(body)
        self._subject = _said(payload.user_id) or _said(payload.client_id) or _said(payload.app_instance_id)
        if not (_said(payload.client_id) or _said(payload.app_instance_id)):
            return [self._wrong(("invalid: a message has a client_id or an app_instance_id", "$.client_id"))]
        try:
            events = self._events = _LIST.decode(payload.events)
        except BROKEN:
            return [self._wrong(("invalid: a message has a list of events", "$.events"))]
        if not events:
            return [self._wrong(("no events: the list of events is empty", "$.events"))]
        digest = blake2b(body, digest_size=16).hexdigest()
        return [self._message(index, event, payload, digest) for index, event in enumerate(events)]

    def _message(self, index: int, raw: Raw, payload: _Payload, digest: str) -> Message:
        part = str(index)
        try:
            event = _EVENT.decode(raw)
        except BROKEN:
            return self._wrong(("invalid: an event is an object", f"$.events[{index}]"), part)
        try:
            name = _ANY.decode(event.name)
        except BROKEN:
            name = None
        if not isinstance(name, str) or not name:
            return self._wrong(("invalid: an event has a name", f"$.events[{index}].name"), part)
        said = _said(event.timestamp_micros) or _said(payload.timestamp_micros)
        if said:
            number = bytes(said)
            time = instant_of(number.strip(b'"')) or number
            id = f"{digest}/{index}"
        else:
            self.timed = False
            time = _ENCODE(iso(self._received))
            id = f"{digest}-{self._received:x}/{index}"
        return Message(name, _ENCODE(id), self._source, time, self._subject, _said(event.params), part)

    def _wrong(self, wrong: Wrong, part: str = "") -> Message:
        return Message("", ABSENT, self._source, b"", self._subject, b"", part, wrong=wrong)


def _count(body: bytes) -> int:
    """How many events a message has, if they may be too many to look at."""
    if body.count(b",") < ITEM_LIMIT:
        return 0
    try:
        return len(_LIST.decode(_PAYLOAD.decode(body).events))
    except BROKEN:
        return 0


def _said(piece: Raw) -> Raw:
    """A piece unless it is null."""
    return ABSENT if len(piece) == 4 and bytes(piece) == b"null" else piece


class Finding(msgspec.Struct, frozen=True, rename="camel"):
    """What the protocol's validation says about a message."""

    field_path: str
    description: str
    validation_code: str


def findings(body: bytes) -> list[Finding]:
    """What of a message the protocol itself does not allow, in the words and codes of its validation."""
    if (count := _count(body)) > ITEM_LIMIT:
        return [_too_many(count)]
    wrong = not_utf8(body) or not_json(body, {})
    if wrong is not None:
        return [Finding("", f"Unable to parse the JSON payload: {wrong[0]}", "VALUE_INVALID")]
    value = _ANY.decode(body)
    found = []
    if not (value.get("client_id") or value.get("app_instance_id")):
        found.append(Finding("client_id", "A client_id or an app_instance_id is required", "VALUE_REQUIRED"))
    found += _timestamp(value, "timestamp_micros")
    events = value.get("events")
    if not isinstance(events, list) or not events:
        return [*found, Finding("events", "A list of events is required", "VALUE_REQUIRED")]
    if len(events) > EVENTS:
        found.append(_too_many(len(events)))
    for index, event in enumerate(events):
        found += _event(event, index)
    return found


def _too_many(count: int) -> Finding:
    said = f"A message has at most {EVENTS} events, this one has {count}"
    return Finding("events", said, "EXCEEDED_MAX_ENTITIES")


def _timestamp(value: dict[str, Any], path: str) -> list[Finding]:
    said = value.get("timestamp_micros")
    if said is None or instant_of(str(said).encode()) is not None:
        return []
    return [Finding(path, "timestamp_micros counts the microseconds since 1970", "VALUE_INVALID")]


def _event(event: Any, index: int) -> list[Finding]:
    if not isinstance(event, dict):
        return [Finding("events", f"Event at index: [{index}] is no object", "VALUE_INVALID")]
    path = f"events[{index}]"
    found = _timestamp(event, f"{path}.timestamp_micros")
    name = event.get("name")
    at = f"Event at index: [{index}]"
    if not isinstance(name, str) or not name:
        found.append(Finding("events", f"{at} has no name", "VALUE_REQUIRED"))
    elif not _NAME.match(name):
        said = "Names begin with a letter and have up to 40 letters, digits and underscores"
        found.append(Finding("events", f"{at} has invalid name [{name[:100]}]. {said}.", "NAME_INVALID"))
    elif name in RESERVED:
        found.append(Finding("events", f"{at} has name [{name}], which is reserved.", "NAME_RESERVED"))
    params = event.get("params", {})
    if not isinstance(params, dict):
        found.append(Finding(f"{path}.params", "params is an object", "VALUE_INVALID"))
    elif len(params) > PARAMS:
        said = f"An event has at most {PARAMS} params, this one has {len(params)}"
        found.append(Finding(f"{path}.params", said, "EXCEEDED_MAX_ENTITIES"))
    return found
