"""Events against their contracts: fast for the many that are right, thorough in saying why for the few that are not.

The fast path decodes an event straight into the struct of its newest contract, then counts the tokens that look
like keys. If there are exactly as many as fields are known to be present, no key was sent twice: a JSON text with a
repeated key means different things to different readers. What the count cannot decide is parsed and looked at.
"""

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import blake2b
from operator import attrgetter, is_not
from typing import Annotated, Any, Final, Literal, Union

import msgspec
from msgspec import inspect

from sampan.base.clock import to_micros
from sampan.log.contracts import Contract, Contracts
from sampan.log.frames import Complaint
from sampan.log.keys import Sealer, SubjectKeys

ID_LIMIT: Final = 200
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_LIMIT)]
_TOKEN: Final = re.compile(rb'"[ \t\r\n]*:')
_RAW_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ANY: Final = msgspec.json.Decoder()
_AT: Final = re.compile(r"(?P<reason>.*?)(?: - at `(?P<path>.*)`)?\Z", re.DOTALL)
_VECTOR: Final = 16  # events in a batch from which counting with numpy pays


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


class Batch:
    """One request's items after checking. The lists ``raws keys codes ids`` run in parallel over the good ones."""

    __slots__ = ("bads", "codes", "ids", "keys", "labels", "raws", "size")

    def __init__(self, labels: list[str]) -> None:
        self.labels = labels
        self.raws: list[bytes] = []
        self.keys: list[bytes] = []
        self.codes: list[int] = []
        self.ids: list[str] = []
        self.bads: list[Bad] = []
        self.size = 0

    def __len__(self) -> int:
        return len(self.raws) + len(self.bads)


class _Shape:
    """How to count an event's keys, for one contract."""

    __slots__ = ("code", "contract", "label", "mappings", "maybe", "nothing", "required", "sealer")

    def __init__(self, contract: Contract, code: int, sealer: Sealer | None) -> None:
        self.contract, self.code, self.label, self.sealer = contract, code, contract.label, sealer
        self.required = 5  # id, source, time, type, data
        maybe, nothing, mappings = ["version", "subject", "known_at"], [msgspec.UNSET, None, None], []
        info = inspect.type_info(contract.cls)
        assert isinstance(info, inspect.StructType)
        for field in info.fields:
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

    def fewest(self, event: Any) -> int:
        """A number of distinct keys that the event's text certainly has."""
        count = self.required + sum(map(is_not, self.maybe(event), self.nothing))
        for mapping in self.mappings:
            count += len(mapping(event))
        return count


_Good = tuple[Any, bytes, _Shape, int]  # event, its bytes, its contract, its place in the request


class Checker:
    """Compiled contracts. Not shared between threads."""

    def __init__(self, contracts: Contracts, keys: SubjectKeys | None = None) -> None:
        self.contracts = contracts
        self.labels: list[str] = []
        self._codes: dict[str, int] = {}
        self._shapes: dict[type, _Shape] = {}
        self._hashers: dict[str, Any] = {}
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
            self._shapes[envelope] = _Shape(contract, self._code(contract.label), sealer)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(Union[tuple(envelopes)]).decode  # noqa: UP007

    def _code(self, label: str) -> int:
        if label not in self._codes:
            self._codes[label] = len(self.labels)
            self.labels.append(label)
        return self._codes[label]

    def read(self, body: bytes, *, lines: bool = False) -> Batch:
        """Check a request's body: a JSON array, one object, or one object a line (``lines``, else recognised)."""
        return self.batch(split(body, lines=lines))

    def split(self, body: bytes, *, lines: bool = False) -> list[bytes]:
        """A body's items, unchecked. See ``split``."""
        return split(body, lines=lines)

    def unreadable(self, body: bytes, reason: str) -> Batch:
        """A body that cannot even be unpacked: one item for quarantine, whole."""
        batch = Batch(self.labels)
        batch.size = len(body)
        batch.bads.append(Bad(0, body, Complaint(reason)))
        return batch

    def batch(self, items: Sequence[bytes]) -> Batch:
        """Check events given as JSON, one by one."""
        batch = Batch(self.labels)
        batch.size = sum(map(len, items))
        decode, shapes = self._decode, self._shapes
        good: list[_Good] = []
        for index, raw in enumerate(items):
            try:
                event = decode(raw)
            except (msgspec.MsgspecError, RecursionError) as error:
                event, shape = self._second_look(batch, index, raw, error)
                if shape is None:
                    continue
            else:
                shape = shapes[type(event)]
            good.append((event, raw, shape, index))
        if good:
            self._fill(batch, good)
        return batch

    def _fill(self, batch: Batch, good: list[_Good]) -> None:
        doubtful = self._doubtful(good)
        if doubtful:
            good = self._drop(batch, good, doubtful)
        raws, keys, codes, ids, hashers = batch.raws, batch.keys, batch.codes, batch.ids, self._hashers
        for event, raw, shape, _ in good:
            source = event.source
            hasher = hashers.get(source)
            if hasher is None:
                hasher = self._hasher(source)
            hasher = hasher.copy()
            hasher.update(event.id.encode())
            keys.append(hasher.digest())
            ids.append(event.id)
            codes.append(shape.code)
            raws.append(raw if shape.sealer is None else shape.sealer.seal(event, raw))

    def _hasher(self, source: str) -> Any:
        """The state of a key's hash after its source. See ``key_of``."""
        if len(self._hashers) > 10_000:
            self._hashers.clear()
        name = source.encode()
        hasher = self._hashers[source] = blake2b(len(name).to_bytes(2, "little") + name, digest_size=16)
        return hasher

    def _doubtful(self, good: list[_Good]) -> list[int]:
        """Indexes of events in which a key may stand twice, or whose bytes may not be UTF-8."""
        joined = b"".join([entry[1] for entry in good])
        counts = _count_keys(joined, good)
        found = [
            index
            for index, ((event, raw, shape, _), count) in enumerate(zip(good, counts, strict=True))
            if count != shape.required
            and (shape.required < 0 or count != shape.fewest(event))
            and count != _distinct(_ANY.decode(raw))
        ]
        if not joined.isascii():
            try:
                joined.decode()
            except UnicodeDecodeError:
                found += [index for index, entry in enumerate(good) if not entry[1].isascii()]
        return sorted(set(found))

    def _drop(self, batch: Batch, good: list[_Good], doubtful: list[int]) -> list[_Good]:
        """Look at the doubtful ones and keep the rest."""
        dropped = set()
        for index in doubtful:
            event, raw, shape, place = good[index]
            wrong = _not_utf8(raw) or _repeated_key(raw)
            if wrong is not None:
                dropped.add(index)
                complaint = Complaint(wrong[0], wrong[1], shape.contract.type, event.id, event.source)
                batch.bads.append(Bad(place, raw, complaint))
        if dropped:
            batch.bads.sort(key=lambda bad: bad.index)
        return [entry for index, entry in enumerate(good) if index not in dropped]

    def _second_look(self, batch: Batch, index: int, raw: bytes, error: Exception) -> tuple[Any, Any]:
        """An event that its newest contract does not take: an older version, or something for quarantine."""
        legible: dict[str, Any] = {}
        wrong = _not_utf8(raw) or _not_json(raw, legible)
        if wrong is None:
            event, shape, wrong = self._older(raw, legible)
            if event is not None:
                return event, shape
        if wrong is None:
            wrong = _explain(error)
        known = {name: value for name in ("type", "id", "source") if isinstance(value := legible.get(name), str)}
        batch.bads.append(Bad(index, raw, Complaint(wrong[0], wrong[1], **known)))
        return None, None

    def _older(self, raw: bytes, legible: dict[str, Any]) -> tuple[Any, Any, tuple[str, str] | None]:
        """The event by an older version of its contract, if it is one and upcasts lead to the newest."""
        kind, version = legible.get("type"), legible.get("version")
        if "type" not in legible:
            return None, None, ("invalid: an event needs a type", "$.type")
        if not isinstance(kind, str) or kind not in self.contracts:
            return None, None, (f"unknown type: {_short(kind)}", "$.type")
        contract = self.contracts.contract(kind)
        if version is None or version == contract.version:
            return None, None, None
        if version not in contract.versions or isinstance(version, bool | float):
            known = ", ".join(map(str, contract.versions))
            return None, None, (f"unknown version: {kind} has {known}, not {_short(version)}", "$.version")
        try:
            event = msgspec.json.decode(raw, type=AnyEvent)
            older = contract.older.get(version)
            if older is not None:
                msgspec.convert(event.data, older)
            contract.read(event.data, version)
        except msgspec.ValidationError as error:
            return None, None, _explain(error, "$.data" if "event" in locals() else "$")
        except Exception as error:  # noqa: BLE001 - the workspace's own upcast raised
            said = f"{type(error).__name__}: {error}"
            return None, None, (f"upcast failed: from version {version}: {said}", "$.data")
        newest = next(shape for shape in self._shapes.values() if shape.contract is contract)
        shape = _Shape(contract, self._code(f"{kind}@{version}"), newest.sealer)
        shape.required = -1  # not counted: always looked at
        return event, shape, None


def key_of(source: str, id: str) -> bytes:
    """The 128-bit key by which an event is known: BLAKE2b of source (with its length) and id."""
    name = source.encode()
    return blake2b(len(name).to_bytes(2, "little") + name + id.encode(), digest_size=16).digest()


def same_meaning(one: bytes, other: bytes) -> bool:
    """Whether two texts with one key say the same: type, version, time, subject and data."""
    if one == other:
        return True
    try:
        a, b = msgspec.json.decode(one, type=AnyEvent), msgspec.json.decode(other, type=AnyEvent)
    except (msgspec.MsgspecError, RecursionError):
        return False
    when = to_micros(a.time) == to_micros(b.time)
    return when and (a.type, a.version, a.subject, a.data) == (b.type, b.version, b.subject, b.data)


def split(body: bytes, *, lines: bool = False) -> list[bytes]:
    """The items of a body. One that cannot be told apart is one item, whole."""
    body = body.strip(b" \t\r\n")
    if not lines and body[:1] == b"[":
        try:
            return list(map(bytes, _RAW_LIST.decode(body)))
        except (msgspec.MsgspecError, RecursionError):
            return _split_broken_array(body)
    if not lines and b"\n" in body:
        try:
            _ANY.decode(body)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            lines = body[:1] == b"{" and body.split(b"\n", 1)[0].strip()[-1:] == b"}"
    if lines:
        return [item for line in body.split(b"\n") if (item := line.strip(b" \t\r"))]
    return [body] if body else []


_STRUCTURE: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]', re.DOTALL)


def _split_broken_array(body: bytes) -> list[bytes]:
    """Items of an array that does not parse as a whole: cut at its own commas, so that the sound ones go on."""
    items, depth, start = [], 0, 1
    for match in _STRUCTURE.finditer(body):
        token = match.group()
        if token in (b"[", b"{"):
            depth += 1
        elif token in (b"]", b"}"):
            depth -= 1
            if depth == 0:
                items.append(body[start : match.start()])
                start = match.end()
                break
        elif token == b"," and depth == 1:
            items.append(body[start : match.start()])
            start = match.end()
    items.append(body[start:])
    return [item for piece in items if (item := piece.strip(b" \t\r\n"))]


def _count_keys(joined: bytes, good: list[_Good]) -> Sequence[int]:
    """For each event the number of places that look like the end of a key; never fewer than there are keys."""
    if len(good) < _VECTOR:
        return [len(_TOKEN.findall(raw)) if b" :" in raw or _odd(raw) else raw.count(b'":') for _, raw, _, _ in good]
    import numpy as np  # here: commands that read no events need no numpy

    text = np.frombuffer(joined, np.uint8)
    colon = text[1:] == 58
    if ((text[:-1] <= 32) & colon).any():
        return [len(_TOKEN.findall(raw)) for _, raw, _, _ in good]
    starts = np.zeros(len(good), np.intp)
    lengths = np.fromiter((len(raw) for _, raw, _, _ in good), np.intp, len(good))
    np.cumsum(lengths[:-1], out=starts[1:])
    ends = ((text[:-1] == 34) & colon).view(np.uint8)
    counts: list[int] = np.add.reduceat(ends, starts, dtype=np.uint32).tolist()
    return counts


def _distinct(value: Any) -> int:
    """How many keys a parsed JSON value has."""
    if isinstance(value, dict):
        return len(value) + sum(_distinct(part) for part in value.values() if isinstance(part, dict | list))
    return sum(_distinct(part) for part in value if isinstance(part, dict | list))


def _odd(raw: bytes) -> bool:
    return b"\n:" in raw or b"\t:" in raw or b"\r:" in raw


def _not_utf8(raw: bytes) -> tuple[str, str] | None:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}", "$"
    return None


def _not_json(raw: bytes, legible: dict[str, Any]) -> tuple[str, str] | None:
    try:
        value = _ANY.decode(raw)
    except msgspec.MsgspecError as error:
        return f"not JSON: {error}", "$"
    except RecursionError:
        return "not JSON: nested too deeply", "$"
    if not isinstance(value, dict):
        return f"not an object: {_short(value)}", "$"
    legible.update(value)
    return _repeated_key(raw)


def _repeated_key(raw: bytes) -> tuple[str, str] | None:
    """The key that stands twice in one object, if one does. Raises nothing: the text has been parsed before."""
    repeated: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            names = [name for name, _ in pairs]
            repeated.extend(name for name in made if names.count(name) > 1)
        return made

    try:
        json.loads(raw, object_pairs_hook=note)
    except RecursionError:
        return "not JSON: nested too deeply", "$"
    except ValueError as error:
        return f"not JSON: {error}", "$"
    return (f"repeated key: {_short(repeated[0])}", "$") if repeated else None


def _explain(error: Exception, base: str = "$") -> tuple[str, str]:
    if isinstance(error, RecursionError):
        return "not JSON: nested too deeply", "$"
    match = _AT.match(str(error))
    assert match is not None
    path = match["path"] or "$"
    return f"invalid: {match['reason'].replace('`', '')}", base + path[1:]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
