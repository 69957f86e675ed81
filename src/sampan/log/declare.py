"""What a workspace's ``contracts.py`` is written with: ``Event``, ``Field`` and ``upcast``.

Loading and comparing contracts lives in ``sampan.log.contracts``; checking events against them in ``sampan.log.check``.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, TypeVar, dataclass_transform

import msgspec

from sampan.base.errors import BadContract
from sampan.base.ids import is_name

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
_F = TypeVar("_F", bound=Upcast)

_OWNER = 200
LONG = "sampan-text"  # where a Text says that it is one; a key of its own, since the outer annotation's wins
EXTRA = "sampan"  # where Field keeps what msgspec does not know: unit, personal, subject


def snake_case(name: str) -> str:
    """``OrderLine`` → ``order_line``; ``HTTPCall`` → ``http_call``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class EventMeta(msgspec.StructMeta):
    """Adds ``version=``, ``type=`` and ``owner=`` to a msgspec struct's class line."""

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        version: int | None = None,
        type: str | None = None,
        owner: str | None = None,
        **config: Any,
    ) -> Any:
        attempted = f"Declare contract {name}"
        for field, value in namespace.items():
            if isinstance(value, msgspec.Meta):
                raise BadContract(
                    attempted,
                    f"field {field!r} has a Field(...) as its default",
                    f"Write it into the annotation: {field}: Annotated[<type>, Field(...)].",
                )
        config.setdefault("kw_only", True)
        config.setdefault("frozen", True)
        config.setdefault("gc", False)
        made: Any = super().__new__(mcls, name, bases, namespace, **config)
        if version is not None and (not isinstance(version, int) or isinstance(version, bool) or version < 1):
            raise BadContract(attempted, f"version={version!r} is not a whole number from 1", "Count versions 1, 2, 3.")
        name_of_type = type or snake_case(name)
        if not is_name(name_of_type):
            raise BadContract(attempted, f"{name_of_type!r} cannot name a type", "Use letters, digits, _ and -.")
        if owner is not None and not (isinstance(owner, str) and owner.isprintable() and 0 < len(owner) <= _OWNER):
            raise BadContract(attempted, f"owner={owner!r} names nobody", 'Write who answers for it: "sales@shop".')
        made.__sampan_type__ = name_of_type
        made.__sampan_owner__ = owner or ""
        made.__sampan_version__ = version or 1
        made.__sampan_upcasts__ = {}
        return made


class Event(msgspec.Struct, metaclass=EventMeta):
    """The data of one type of event: a msgspec struct with a version, and somebody who answers for it.

    >>> from typing import Annotated
    >>> class OrderLine(Event, version=1, owner="sales@shop"):
    ...     invoice: str
    ...     price: Annotated[float, Field(unit="GBP", ge=0)]
    >>> OrderLine.__sampan_type__
    'order_line'
    """

    __sampan_type__: ClassVar[str]
    __sampan_version__: ClassVar[int]
    __sampan_owner__: ClassVar[str]
    __sampan_upcasts__: ClassVar[dict[int, Upcast]]


class Blob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bytes with a media type: a picture, a document, a recording.

    A producer sends ``{"media_type": …, "base64": …}``, or ``{"digest": …}`` of what it has uploaded to ``/v1/blobs``.
    The log has ``{"digest", "media_type", "size"}``, and so has SQL; the bytes lie beside it under their SHA-256.
    """

    media_type: str | None = None
    base64: str | None = None
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] | None = None
    size: int | None = None


#: A long text. Its field says how long at most, and may say in which language:
#: ``body: Annotated[Text, Field(max_length=20_000, language="en")]``.
Text = Annotated[str, msgspec.Meta(extra={LONG: True})]


def Field(  # noqa: N802 - reads as a noun where it is used
    *,
    unit: str | None = None,
    personal: bool = False,
    subject: bool = False,
    description: str | None = None,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
    multiple_of: float | None = None,
    min_length: int | None = None,
    max_length: int | None = None,
    pattern: str | None = None,
    language: str | None = None,
    max_bytes: int | None = None,
    media_types: list[str] | None = None,
    examples: list[Any] | None = None,
) -> msgspec.Meta:
    """What a field's annotation says beyond its type: unit, bounds, description.

    ``personal``: the value is encrypted with its subject's key before it is written. ``subject``: the value names
    the subject when the event itself does not. ``language``: of a Text. ``max_bytes``, ``media_types``: what a Blob
    may be.
    """
    extra = {
        "unit": unit,
        "personal": personal or None,
        "subject": subject or None,
        "language": language,
        "max_bytes": max_bytes,
        "media_types": media_types,
    }
    bounds: dict[str, Any] = {
        "gt": gt,
        "ge": ge,
        "lt": lt,
        "le": le,
        "multiple_of": multiple_of,
        "min_length": min_length,
        "max_length": max_length,
        "pattern": pattern,
    }
    said = {name: value for name, value in extra.items() if value is not None}
    return msgspec.Meta(description=description, examples=examples, extra={EXTRA: said}, **bounds)


def upcast(contract: type[Event], since: int) -> Callable[[_F], _F]:
    """Declare how data of version ``since`` becomes data of version ``since + 1``.

    >>> class Paid(Event, version=2):
    ...     pence: int
    >>> @upcast(Paid, since=1)
    ... def _(data: dict) -> dict:
    ...     return {"pence": round(data["pounds"] * 100)}
    """

    def declare(function: _F) -> _F:
        steps = contract.__sampan_upcasts__
        attempted = f"Declare an upcast of {contract.__sampan_type__}"
        newest: int = contract.__sampan_version__
        if not 1 <= since < newest:
            raise BadContract(attempted, f"since={since!r}, but the contract has version {newest}")
        if since in steps:
            raise BadContract(attempted, f"two functions upcast version {since}", "Keep one of them.")
        steps[since] = function
        return function

    return declare
