"""A contract as a record: its owner, its fields with types, units, bounds. What a change breaks: ``compare.py``."""

from typing import Any, Final

import msgspec
from msgspec import inspect

from sampan.base.digests import digest_value
from sampan.base.errors import BadContract
from sampan.log.declare import EXTRA, LONG, Blob, Event

_ADVICE: Final = (
    "Use types that JSON can carry: int, float, str, bool, datetime, list; bounds of an optional field stand inside: "
    "Annotated[float, Field(ge=0)] | None."
)
BOUNDS: Final = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern")


class FieldSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One field of a contract."""

    name: str
    type: str
    required: bool
    default: str | None = None
    unit: str | None = None
    personal: bool = False
    subject: bool = False
    description: str | None = None
    bounds: dict[str, float | str] = {}
    language: str | None = None
    media_types: tuple[str, ...] = ()


class ContractSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one type of event."""

    type: str
    version: int
    description: str
    fields: tuple[FieldSpec, ...]
    upcasts: tuple[int, ...] = ()
    owner: str = ""

    def field(self, name: str) -> FieldSpec | None:
        return next((field for field in self.fields if field.name == name), None)

    @property
    def digest(self) -> str:
        """SHA-256 of what the contract says."""
        return digest_value(self)


def describe(contract: type[Event]) -> ContractSpec:
    """The record of a contract's class. Raises BadContract for an annotation that cannot be checked."""
    name: str = contract.__sampan_type__
    try:
        info = inspect.type_info(contract)
        assert isinstance(info, inspect.StructType)
        fields = tuple(_field(field) for field in info.fields)
    except (TypeError, NameError, ValueError) as error:
        raise BadContract(f"Read contract {name}", str(error), _ADVICE) from error
    _one_subject(name, fields)
    lines = (contract.__doc__ or "").strip()
    return ContractSpec(
        type=name,
        version=contract.__sampan_version__,
        description=lines,
        fields=fields,
        upcasts=tuple(sorted(contract.__sampan_upcasts__)),
        owner=contract.__sampan_owner__,
    )


def _one_subject(name: str, fields: tuple[FieldSpec, ...]) -> None:
    subjects = [field.name for field in fields if field.subject]
    if len(subjects) > 1:
        raise BadContract(f"Read contract {name}", f"{' and '.join(subjects)} are both the subject", "Keep one.")
    if any(field.subject and field.personal for field in fields):
        raise BadContract(
            f"Read contract {name}",
            f"field {subjects[0]!r} is personal and names the subject, so its key could not be found again",
            "Name the subject by an opaque id, such as a customer number, and mark only the rest as personal.",
        )


def _field(field: inspect.Field) -> FieldSpec:
    kind, extra, bounds, description = _peel(field.type)
    if "max_bytes" in extra:
        bounds["max_bytes"] = extra["max_bytes"]
    _long_or_binary(field.name, kind, extra, bounds)
    default = None
    if field.default is not msgspec.NODEFAULT:
        default = msgspec.json.encode(field.default).decode()
    elif field.default_factory is not msgspec.NODEFAULT:
        default = msgspec.json.encode(field.default_factory()).decode()
    return FieldSpec(
        name=field.encode_name,
        type=_text(kind) if not extra.get("text") or isinstance(kind, inspect.UnionType) else "text",
        required=field.required,
        default=default,
        unit=extra.get("unit"),
        personal=bool(extra.get("personal")),
        subject=bool(extra.get("subject")),
        description=description,
        bounds=bounds,
        language=extra.get("language"),
        media_types=tuple(extra.get("media_types") or ()),
    )


def _long_or_binary(name: str, kind: inspect.Type, extra: dict[str, Any], bounds: dict[str, float | str]) -> None:
    """What a Text must say, and where a Blob may stand. Raises BadContract."""
    blob = _is_blob(kind)
    if extra.get("text") and "max_length" not in bounds:
        raise BadContract(
            f"Read field {name!r}", "it is a Text without a limit", "Write Annotated[Text, Field(max_length=20_000)]."
        )
    if blob and extra.get("personal"):
        raise BadContract(
            f"Read field {name!r}",
            "a Blob is personal, and its bytes lie under their digest for whoever sends the same",
            "Keep them out of the log, or send an opaque reference.",
        )
    if not blob and _has_blob(kind):
        raise BadContract(
            f"Read field {name!r}", "a Blob stands within something else", "Give it a field of its own: photo: Blob."
        )
    for option in ("max_bytes", "media_types"):
        if option in extra and not blob:
            raise BadContract(f"Read field {name!r}", f"{option} without a Blob", "It bounds the bytes of a Blob.")


def _is_blob(kind: inspect.Type) -> bool:
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        parts = [part for part in kind.types if not isinstance(part, inspect.NoneType)]
        return len(parts) == 1 and _is_blob(parts[0])
    return isinstance(kind, inspect.StructType) and kind.cls is Blob


def _has_blob(kind: inspect.Type) -> bool:
    return any(
        _is_blob(part) or _has_blob(part)
        for name in ("type", "types", "item_type", "item_types", "key_type", "value_type")
        if (found := getattr(kind, name, None)) is not None
        for part in (found if isinstance(found, tuple) else (found,))
    ) or (
        isinstance(kind, inspect.StructType)
        and kind.cls is not Blob
        and any(_is_blob(field.type) for field in kind.fields)
    )


def _peel(kind: inspect.Type) -> tuple[inspect.Type, dict[str, Any], dict[str, float | str], str | None]:
    """The type below its annotations, with what Field said about it."""
    extra: dict[str, Any] = {}
    description = None
    while isinstance(kind, inspect.Metadata):
        extra |= _said(kind)
        description = description or (kind.extra_json_schema or {}).get("description")
        kind = kind.type
    bounds: dict[str, float | str] = {}
    inner = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    for part in inner:
        while isinstance(part, inspect.Metadata):
            extra |= _said(part)
            description = description or (part.extra_json_schema or {}).get("description")
            part = part.type
        bounds |= {name: got for name in BOUNDS if (got := getattr(part, name, None)) is not None}
    return kind, extra, bounds, description


def _said(kind: inspect.Metadata) -> dict[str, Any]:
    extra = kind.extra or {}
    return {**extra.get(EXTRA, {}), **({"text": True} if extra.get(LONG) else {})}


def _text(kind: inspect.Type) -> str:
    """A type's name without its bounds: ``int``, ``list[str]``, ``float | None``."""
    match kind:
        case inspect.Metadata():
            return "text" if (kind.extra or {}).get(LONG) else _text(kind.type)
        case inspect.UnionType():
            return " | ".join(sorted((_text(part) for part in kind.types), key=lambda text: (text == "None", text)))
        case inspect.ListType() | inspect.SetType() | inspect.FrozenSetType() | inspect.VarTupleType():
            return f"list[{_text(kind.item_type)}]"
        case inspect.TupleType():
            return f"tuple[{', '.join(_text(part) for part in kind.item_types)}]"
        case inspect.DictType():
            return f"dict[{_text(kind.key_type)}, {_text(kind.value_type)}]"
        case inspect.LiteralType():
            return f"one of {', '.join(sorted(map(repr, kind.values)))}"
        case inspect.EnumType():
            return f"one of {', '.join(sorted(repr(member.value) for member in kind.cls))}"
        case inspect.StructType() if kind.cls is Blob:
            return "blob"
        case inspect.StructType():
            inner = ", ".join(f"{f.encode_name}{'' if f.required else '?'}: {_text(f.type)}" for f in kind.fields)
            return f"{{{inner}}}"
        case inspect.NoneType():
            return "None"
        case _:
            return type(kind).__name__.removesuffix("Type").lower()
