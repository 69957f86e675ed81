"""Two versions of what a contract says, compared field by field: what changes, for whom it breaks, what to do.

A change breaks *producers* if events that were right are refused, and *readers* if a value that they read is gone,
has another type or means something else.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from sampan.log.spec import BOUNDS, ContractSpec, FieldSpec

PRODUCER: Final = "producer"
READER: Final = "reader"
_LOWER: Final = ("gt", "ge", "min_length")
_UPPER: Final = ("lt", "le", "max_length", "max_bytes")
_VERSION: Final = "Raise the version and declare an @upcast that makes the new value of the old one"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference. ``field`` is empty where it concerns the contract as a whole; ``breaks`` names nobody where the
    change is a compatible one."""

    field: str
    text: str
    breaks: tuple[str, ...] = ()
    advice: str = ""


def compare(old: ContractSpec, new: ContractSpec) -> list[Change]:
    """Every difference between two descriptions of one type, breaking ones first."""
    found = [*_whole(old, new)]
    for field in old.fields:
        now = new.field(field.name)
        found += [_gone(field)] if now is None else _field(field, now)
    found += [_new(field) for field in new.fields if old.field(field.name) is None]
    return sorted(found, key=lambda change: not change.breaks)


def breaking(old: ContractSpec, new: ContractSpec) -> list[str]:
    """What of ``new`` refuses or changes an event that ``old`` took, one sentence each, naming the field."""
    return [change.text for change in compare(old, new) if change.breaks]


def _whole(old: ContractSpec, new: ContractSpec) -> Iterator[Change]:
    if old.owner != new.owner:
        yield Change(field="", text=f"the owner was {old.owner or 'nobody'}, is {new.owner or 'nobody'}")
    if old.description != new.description:
        yield Change(field="", text="the description is another")


def _gone(field: FieldSpec) -> Change:
    return Change(
        field=field.name,
        text=f"field {field.name!r} is gone",
        breaks=(READER,),
        advice="Producers may still send it: it is kept with the event, and no table has it. "
        f"{_VERSION}, or keep the field.",
    )


def _new(field: FieldSpec) -> Change:
    if field.required:
        return Change(
            field=field.name,
            text=f"field {field.name!r} is new and required",
            breaks=(PRODUCER,),
            advice="Give it a default, or raise the version and declare an @upcast that fills it.",
        )
    return Change(field=field.name, text=f"field {field.name!r} is new and optional")


def _field(old: FieldSpec, new: FieldSpec) -> Iterator[Change]:
    name = old.name
    if new.type != old.type:
        text = f"field {name!r} was {old.type}, is {new.type}"
        if _wider(old.type, new.type):
            yield Change(field=name, text=text, advice="Every old value is one still; readers may see new ones.")
        else:
            breaks = (PRODUCER,) if _wider(new.type, old.type) else (PRODUCER, READER)
            yield Change(field=name, text=text, breaks=breaks, advice=f"{_VERSION}.")
    if new.required != old.required:
        if new.required:
            text = f"field {name!r} was optional, is required"
            advice = "Keep the default, or raise the version and declare an @upcast that fills it."
            yield Change(field=name, text=text, breaks=(PRODUCER,), advice=advice)
        else:
            yield Change(field=name, text=f"field {name!r} was required, is optional")
    elif new.default != old.default:
        text = f"field {name!r} has the default {new.default}, had {old.default}"
        yield Change(field=name, text=text, advice="Events that leave it out are read with the new default.")
    if new.unit != old.unit:
        text = f"field {name!r} was in {old.unit or 'no unit'}, is in {new.unit or 'no unit'}"
        advice = f"{_VERSION}; or add a field of another name and keep this one."
        yield Change(field=name, text=text, breaks=(PRODUCER, READER), advice=advice)
    if new.personal != old.personal or new.subject != old.subject:
        text = f"field {name!r} is no longer handled as the same personal or subject value"
        advice = "Values written before stay as they were: raise the version, so that it shows which are which."
        yield Change(field=name, text=text, breaks=(READER,), advice=advice)
    if new.description != old.description:
        yield Change(field=name, text=f"field {name!r} has another description")
    if new.language != old.language:
        yield Change(field=name, text=f"field {name!r} is in {new.language or 'no language'}, was {old.language}")
    if new.media_types != old.media_types:
        text = f"field {name!r} takes {', '.join(new.media_types) or 'any media type'}"
        fewer = bool(new.media_types) and not set(old.media_types or ("any",)) <= set(new.media_types)
        advice = "Blobs of other media types are refused." if fewer else ""
        yield Change(field=name, text=text, breaks=(PRODUCER,) if fewer else (), advice=advice)
    yield from _bounds(old, new)


def _bounds(old: FieldSpec, new: FieldSpec) -> Iterator[Change]:
    for name in (*BOUNDS, "max_bytes"):
        before, now = old.bounds.get(name), new.bounds.get(name)
        if now == before:
            continue
        said = "none" if before is None else repr(before)
        loosened = now is None or (
            before is not None
            and ((name in _LOWER and float(now) < float(before)) or (name in _UPPER and float(now) > float(before)))
        )
        text = (
            f"field {old.name!r} has {name}={now!r}, had {said}"
            if now is not None
            else (f"field {old.name!r} has no {name}, had {said}")
        )
        if loosened:
            yield Change(field=old.name, text=text, advice="Every old value is one still; readers may see new ones.")
        else:
            advice = "Values outside of it are refused: widen it, or raise the version and declare an @upcast."
            yield Change(field=old.name, text=text, breaks=(PRODUCER,), advice=advice)


def _wider(old: str, new: str) -> bool:
    """Whether every value of the old type is one of the new: a union that gained a part, a longer list of literals."""
    if old.startswith("one of ") and new.startswith("one of "):
        return set(old[7:].split(", ")) <= set(new[7:].split(", "))
    return set(old.split(" | ")) < set(new.split(" | "))
