"""CloudEvents 1.0 over HTTP: binary (attributes in headers), structured and batched (JSON), read into messages.

Their attributes are those of a plain event: id, source, type, time, subject; further ones are kept beside the data.
``knownat`` and ``version`` become what those are of a plain event. Data that is no JSON object is offered to a contract
as its field ``data`` or, where it is no text, ``data_base64``.
"""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Raw

from sampan.base.clock import iso
from sampan.log.explain import Wrong, not_json, not_utf8, short
from sampan.log.items import ITEM_LIMIT, split
from sampan.log.translate import ABSENT, Message, Piece

STRUCTURED: Final = "application/cloudevents"
BATCH: Final = "application/cloudevents-batch"
PREFIX: Final = "ce-"
#: Headers that say that a request is a CloudEvent in binary mode.
HEADERS: Final = frozenset({b"ce-specversion", b"ce-id", b"ce-type", b"ce-source"})

_ENCODE: Final = msgspec.json.Encoder().encode
_ANY: Final = msgspec.json.Decoder()
_FIELDS: Final = msgspec.json.Decoder(dict[str, Raw])
_ATTRIBUTE: Final = re.compile(r"[a-z0-9]+\Z")
_JSON: Final = re.compile(r"[^/]+/([^/;]+\+)?json\Z")
_OWN: Final = frozenset({"specversion", "id", "source", "type", "time", "subject", "data", "data_base64", "knownat"})
_REQUIRED: Final = ("id", "source", "type")

Headers = Iterable[tuple[bytes, bytes]]


def mode_of(content_type: bytes, headers: Headers) -> str:
    """How a request carries CloudEvents: binary, structured or batch; empty if it carries none."""
    kind = content_type.split(b";", 1)[0].strip().lower().decode("latin-1")
    if kind.startswith(BATCH):
        return "batch"
    if kind.startswith(STRUCTURED):
        return "structured"
    return "binary" if any(name in HEADERS for name, _ in headers) else ""


def beside(mode: str, content_type: bytes, headers: Headers) -> list[tuple[str, str]]:
    """What a request says outside of its body."""
    said = [("mode", mode), ("content-type", content_type.decode("latin-1"))]
    if mode == "binary":
        own = PREFIX.encode()
        said += [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers if name.startswith(own)]
    return said


class CloudEventMessages:
    """One request: its body, what ``beside`` gave, and when it was received, in microseconds."""

    protocol = "cloudevents"
    sound = False

    def __init__(self, body: bytes, said: Sequence[tuple[str, str]], received: int) -> None:
        self.beside = {"received": str(received), **dict(said)}
        self.timed = True
        self._received = received
        self._binary = self.beside["mode"] == "binary"
        self._kind = self.beside["content-type"]
        wrong = self._readable()
        if self._binary:
            self._raws = [body]
            counts = Counter(name for name, _ in said)
            twice = next((name for name, count in counts.items() if count > 1), None)
            wrong = (f"repeated key: {short(twice)}", "$") if twice is not None else wrong
            self.messages: Sequence[Message] = [self._wrong(wrong) if wrong else self._of_headers(body)]
        else:
            whole = bool(wrong) or self.beside["mode"] != "batch"
            self._raws = [body] if whole else split(body, most=ITEM_LIMIT)
            self.messages = [self._wrong(wrong) if wrong else self._of_json(raw) for raw in self._raws]

    @classmethod
    def again(cls, raw: bytes, beside: dict[str, str]) -> "CloudEventMessages":
        """One event that was held, with what was said beside it."""
        said = {name: value for name, value in beside.items() if name != "received"}
        if said.get("mode") == "batch":
            said["mode"] = "structured"
        return cls(raw, list(said.items()), int(beside.get("received", "0")))

    def raw(self, index: int) -> bytes:
        """One event as received; in binary mode, its data."""
        return self._raws[index]

    def whole(self, index: int) -> dict[str, Any]:
        """One event as its JSON form has it."""
        if not self._binary:
            value = _ANY.decode(self._raws[index])
            if not isinstance(value, dict):
                raise msgspec.ValidationError("an event is an object")
            return {name: said for name, said in value.items() if said is not None}
        attributes = self._attributes()
        assert isinstance(attributes, dict)
        return {name: _ANY.decode(value) for name, value in attributes.items()}

    # -- reading

    def _readable(self) -> Wrong | None:
        if self._binary:
            return None
        kind = self._kind.split(";", 1)[0].strip().lower()
        base = BATCH if self.beside["mode"] == "batch" else STRUCTURED
        return None if kind in (base, f"{base}+json") else (f"not JSON: the format {short(kind)} is not known", "$")

    def _of_json(self, raw: bytes) -> Message:
        wrong = not_utf8(raw) or not_json(raw, {})
        if wrong is not None:
            return self._wrong(wrong)
        return self._message({name: value for name, value in _FIELDS.decode(raw).items() if bytes(value) != b"null"})

    def _of_headers(self, body: bytes) -> Message:
        attributes = self._attributes()
        if isinstance(attributes, tuple):
            return self._wrong(attributes)
        return self._message(attributes)

    def _attributes(self) -> dict[str, Piece] | Wrong:
        """The attributes that headers say, and the data, as in the JSON form."""
        found: dict[str, Piece] = {}
        for name, value in self.beside.items():
            if not name.startswith(PREFIX):
                continue
            text = _unescaped(value)
            if text is None:
                return f"invalid: header {name} is no UTF-8", "$"
            attribute = name.removeprefix(PREFIX)
            if attribute in ("datacontenttype", "data", "data_base64"):
                return f"invalid: there is no header {name} in binary mode", "$"
            number = attribute == "version" and text.isdigit()
            found[attribute] = text.encode() if number else _ENCODE(text)
        body = self._raws[0]
        if self._kind:
            found["datacontenttype"] = _ENCODE(self._kind)
        if not body:
            return found
        if _is_json(self._kind):
            if (wrong := not_utf8(body) or _no_json(body)) is not None:
                return wrong
            found["data"] = body
        elif not_utf8(body):
            found["data_base64"] = _ENCODE(base64.b64encode(body).decode())
        else:
            found["data"] = _ENCODE(body.decode())
        return found

    # -- what it says

    def _message(self, said: dict[str, Any]) -> Message:
        if (wrong := _invalid(said)) is not None:
            return self._wrong(wrong, said)
        time = said.get("time")
        if time is None:
            self.timed = False
            time = _ENCODE(iso(self._received))
        data, odd = self._data(said)
        if data is None:
            return self._wrong((odd, "$.data_base64"), said)
        also = [b",%b:%b" % (_ENCODE(name), value) for name, value in said.items() if self._kept(name, value)]
        if (known_at := said.get("knownat")) is not None:
            also.append(b',"known_at":%b' % known_at)
        name = _ANY.decode(said["type"])
        subject = said.get("subject", ABSENT)
        return Message(name, said["id"], said["source"], time, subject, data, also=b"".join(also), odd=odd)

    @staticmethod
    def _kept(name: str, value: Piece) -> bool:
        if name == "datacontenttype":
            return not _is_json(_ANY.decode(value))
        return name not in _OWN

    def _data(self, said: dict[str, Any]) -> tuple[Piece | None, str]:
        """The data as an object, and, if it is none, what it is; None if it cannot be read."""
        kind = _ANY.decode(said["datacontenttype"]) if "datacontenttype" in said else ""
        value = said.get("data")
        coded = said.get("data_base64")
        if coded is not None:
            try:
                plain = base64.b64decode(_ANY.decode(coded), validate=True)
            except (binascii.Error, ValueError, TypeError):
                return None, "invalid: data_base64 is not base64"
            if not (kind and _is_json(kind) and not (not_utf8(plain) or _no_json(plain))):
                return b'{"data_base64":%b}' % coded, f"its data is bytes of {short(kind or 'no type')}"
            value = plain.strip()
        if value is None:
            return ABSENT, ""
        if bytes(value)[:1] == b"{" and _is_json(kind):
            return value, ""
        what = "no object" if _is_json(kind) else short(kind)
        return b'{"data":%b}' % value, f"its data is {what}"

    def _wrong(self, wrong: Wrong, said: dict[str, Any] | None = None) -> Message:
        said = said or {}
        get = said.get
        return Message("", get("id", ABSENT), get("source", ABSENT), b"", get("subject", ABSENT), b"", wrong=wrong)


def _invalid(said: dict[str, Any]) -> Wrong | None:
    """What of an event's attributes the specification does not allow."""
    version = said.get("specversion")
    if version is None:
        return "invalid: a CloudEvent has a specversion", "$.specversion"
    if bytes(version) != b'"1.0"':
        return f"invalid: specversion is 1.0, not {short(_ANY.decode(version))}", "$.specversion"
    for name in _REQUIRED:
        value = said.get(name)
        if value is None or bytes(value)[:1] != b'"' or bytes(value) == b'""':
            return f"invalid: a CloudEvent has a text as its {name}", f"$.{name}"
    for name, value in said.items():
        if name in ("data", "data_base64"):
            continue
        if not _ATTRIBUTE.match(name):
            return f"invalid: attributes are named by small letters and digits, not {short(name)}", "$"
        if bytes(value)[:1] in b"{[":
            return f"invalid: the attribute {name} is neither text, number nor true or false", f"$.{name}"
    kind = said.get("datacontenttype")
    if kind is not None and bytes(kind)[:1] != b'"':
        return "invalid: datacontenttype is a text", "$.datacontenttype"
    if "data" in said and "data_base64" in said:
        return "invalid: an event has data or data_base64, not both", "$.data_base64"
    return None


def _is_json(kind: str) -> bool:
    """Whether a media type says that it is JSON, or says nothing."""
    return not kind or _JSON.match(kind.split(";", 1)[0].strip().lower()) is not None


def _no_json(raw: bytes) -> Wrong | None:
    """What is wrong with any JSON value: it is none, or a key stands twice in it."""
    try:
        _ANY.decode(raw)
    except RecursionError:
        return "not JSON: nested too deeply", "$"
    except msgspec.MsgspecError as error:
        return f"not JSON: {error}", "$"
    return not_json(b'{"data":%b}' % raw, {})


def _unescaped(value: str) -> str | None:
    """A header's value as the HTTP binding says: double quotes taken off, then percent-decoded once."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote_to_bytes(value.encode("latin-1")).decode()
    except UnicodeDecodeError:
        return None
