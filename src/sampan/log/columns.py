"""From events to columns: how a contract's fields look in Arrow, and so in SQL."""

import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

import msgspec
import pyarrow as pa
from msgspec import inspect

from sampan.base.clock import from_micros
from sampan.base.errors import BadContract
from sampan.log.check import AnyEvent
from sampan.log.contracts import Blob, Contract
from sampan.log.keys import Sealer, SubjectKeys
from sampan.log.position import place
from sampan.log.read import Item

INSTANT: Final = pa.timestamp("us", tz="UTC")
BLOB: Final = pa.struct([("digest", pa.string()), ("media_type", pa.string()), ("size", pa.int64())])
SYSTEM: Final = (
    ("_id", pa.string()),
    ("_time", INSTANT),
    ("_received", INSTANT),
    ("_known_at", INSTANT),
    ("_source", pa.string()),
    ("_version", pa.int32()),
    ("_position", pa.string()),
)
_NATIVE: Final = (datetime, date, time, timedelta, Decimal, bytes)  # what Arrow takes as it is
_JSON: Final = msgspec.json.Encoder(order="sorted", decimal_format="number").encode


def schema_of(contract: Contract) -> pa.Schema:
    """The columns of a type: its newest version's fields, then those of the system."""
    info = inspect.type_info(contract.cls)
    assert isinstance(info, inspect.StructType)
    fields = [(field.encode_name, _arrow(field.type)) for field in info.fields]
    return pa.schema([*fields, *SYSTEM])


def _arrow(kind: inspect.Type) -> pa.DataType:
    """The Arrow type of an annotation; whatever has no plain column is JSON text."""
    match kind:
        case inspect.Metadata():
            return _arrow(kind.type)
        case inspect.UnionType():
            parts = [part for part in kind.types if not isinstance(part, inspect.NoneType)]
            found = {_arrow(part) for part in parts}
            if found == {pa.int64(), pa.float64()}:
                return pa.float64()
            return found.pop() if len(found) == 1 else pa.string()
        case inspect.BoolType():
            return pa.bool_()
        case inspect.IntType():
            return pa.int64()
        case inspect.FloatType():
            return pa.float64()
        case inspect.DateTimeType():
            return INSTANT
        case inspect.DateType():
            return pa.date32()
        case inspect.TimeType():
            return pa.time64("us")
        case inspect.TimeDeltaType():
            return pa.duration("us")
        case inspect.DecimalType():
            return pa.decimal128(38, 9)
        case inspect.BytesType() | inspect.ByteArrayType():
            return pa.binary()
        case inspect.LiteralType():
            kinds = {type(value) for value in kind.values}
            return pa.int64() if kinds == {int} else pa.string()
        case inspect.EnumType():
            kinds = {type(member.value) for member in kind.cls}
            return pa.int64() if kinds == {int} else pa.string()
        case inspect.ListType() | inspect.SetType() | inspect.FrozenSetType() | inspect.VarTupleType():
            return pa.list_(_arrow(kind.item_type))
        case inspect.StructType() if kind.cls is Blob:
            return BLOB
        case inspect.StructType():
            return pa.struct([(field.encode_name, _arrow(field.type)) for field in kind.fields])
        case _:
            return pa.string()


def table_of(contract: Contract, stream: str, items: Sequence[Item], keys: SubjectKeys | None) -> pa.Table:
    """Accepted items of one type as a table. Raises BadContract if an older version can no longer be read."""
    schema = schema_of(contract)
    events, data = _read(contract, items, keys)
    columns: list[pa.Array] = []
    names = schema.names[: -len(SYSTEM)]
    for field in schema:
        if field.name in names:
            value_of = attrgetter(_attribute(contract, field.name))
            columns.append(_column(list(map(value_of, data)), field.type))
    received: list[Any] = [item.received for item in items]
    known_at = received
    if any(event.known_at is not None for event in events):
        known_at = [event.known_at or from_micros(when) for event, when in zip(events, received, strict=True)]
    columns += [
        pa.array([event.id for event in events], pa.string()),
        pa.array([event.time for event in events], INSTANT),
        pa.array(received, INSTANT),
        pa.array(known_at, INSTANT),
        pa.array([event.source for event in events], pa.string()),
        pa.array([int((item.label or "@0").rpartition("@")[2]) for item in items], pa.int32()),
        pa.array([place(stream, item.number) for item in items], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _attribute(contract: Contract, name: str) -> str:
    """The attribute that a field's JSON name stands for."""
    fields = contract.cls.__struct_fields__
    return fields[contract.cls.__struct_encode_fields__.index(name)]


def _read(contract: Contract, items: Sequence[Item], keys: SubjectKeys | None) -> tuple[list[Any], list[Any]]:
    envelope = msgspec.defstruct(
        "Whole",
        [("id", str), ("source", str), ("time", datetime), ("data", contract.cls), ("known_at", datetime | None, None)],
        gc=False,
    )
    decode = msgspec.json.Decoder(envelope).decode
    sealer = Sealer(contract, keys) if contract.personal and keys is not None else None
    events: list[Any] = []
    data: list[Any] = []
    for item in items:
        try:
            if item.label == contract.label and sealer is None:
                event: Any = decode(item.raw)
                events.append(event)
                data.append(event.data)
                continue
            whole = msgspec.json.decode(item.raw)
            if sealer is not None:
                whole = sealer.open(whole)
            event = msgspec.convert(whole, AnyEvent)
            events.append(event)
            version = int((item.label or "").rpartition("@")[2])
            data.append(_forgiving(contract, event.data, version, sealer))
        except (msgspec.MsgspecError, KeyError) as error:
            raise _unreadable(contract, item, error) from error
    return events, data


def _unreadable(contract: Contract, item: Item, error: Exception) -> BadContract:
    attempted = f"Read {item.label} from the log"
    version = int((item.label or "").rpartition("@")[2])
    if version < min(contract.versions):
        since = min(contract.versions) - 1
        return BadContract(
            attempted,
            f"no @upcast leads from version {since} of {contract.type} to version {since + 1}",
            f"Declare one in contracts.py: @upcast({contract.cls.__name__}, since={since}).",
        )
    what = f"the upcast finds no {error}" if isinstance(error, KeyError) else str(error)
    return BadContract(
        attempted,
        f"item {item.number} does not fit contract {contract.label}: {what}",
        f"Declare @upcast functions from each older version, or widen the contract of {contract.type}.",
    )


def _forgiving(contract: Contract, data: dict[str, Any], version: int, sealer: Sealer | None) -> Any:
    """Data as the newest class, personal fields set aside: a forgotten person's values are absent, whatever the
    contract asks for."""
    if sealer is None:
        return contract.read(data, version)
    data = contract.upcast(data, version)
    gone = [name for name in sealer.fields if name in data and data[name] is None]
    if not gone:
        return msgspec.convert(data, contract.cls)
    return _Forgotten(contract, data, gone)


class _Forgotten:
    """An event's data of which some values cannot be read any more."""

    def __init__(self, contract: Contract, data: dict[str, Any], gone: list[str]) -> None:
        cls = contract.cls
        names = dict(zip(cls.__struct_encode_fields__, cls.__struct_fields__, strict=True))
        info = inspect.type_info(cls)
        assert isinstance(info, inspect.StructType)
        for field in info.fields:
            name = field.encode_name
            if name in gone:
                value = None
            elif name in data:
                value = data[name]
            else:
                value = None if field.default is msgspec.NODEFAULT else field.default
            setattr(self, names[name], value)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        with suppress(pa.ArrowTypeError):  # all texts already, which is the common case
            return pa.array(values, kind)
        return pa.array([_text(value) for value in values], kind)
    if pa.types.is_nested(kind):
        return pa.array([msgspec.to_builtins(value, builtin_types=_NATIVE) for value in values], kind)
    if pa.types.is_timestamp(kind):
        times = [datetime.fromisoformat(value) if isinstance(value, str) else value for value in values]
        return pa.array(times, kind)
    if pa.types.is_integer(kind):
        return pa.array([getattr(value, "value", value) for value in values], kind)
    return pa.array(values, kind)


def _text(value: Any) -> str | None:
    if value is None or type(value) is str:
        return value
    if isinstance(value, uuid.UUID):
        return str(value)
    value = getattr(value, "value", value)  # an enum
    return value if isinstance(value, str) else _JSON(value).decode()
