"""What a workspace says about messages of other protocols: ``adapt``, and the mappings that it declares.

Turning messages into events lives in ``sampan.log.translate``; reading each protocol in ``sampan.log.from_segment``,
``from_ga4`` and ``from_cloudevents``.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

import msgspec

from sampan.base.errors import BadContract
from sampan.log.declare import Event, snake_case

#: Protocols whose messages become events, by the names that ``adapt`` takes.
PROTOCOLS: Final = ("segment", "ga4", "cloudevents")

Make = Callable[[dict[str, Any]], dict[str, Any] | list[dict[str, Any]] | None]
_F = TypeVar("_F", bound=Make)
_ADVICE: Final = (
    'Write: adapt("segment", "Order Completed", OrderLine, each="products", rename={"order_id": "invoice"}).'
)


class Mapping(msgspec.Struct, kw_only=True):
    """One ``adapt``: which messages become events of which contract, and how."""

    protocol: str
    name: str
    contract: type[Event]
    each: str | None = None
    rename: dict[str, str] = {}
    id: str | None = None
    time: str | None = None
    subject: str | None = None
    source: str | None = None
    known_at: str | None = None
    make: Make | None = None
    line: int = 0


_declared: ContextVar[list[Mapping] | None] = ContextVar("declared", default=None)


@contextmanager
def declarations() -> Iterator[list[Mapping]]:
    """Collects what ``adapt`` declares meanwhile: a module of contracts is being read."""
    found: list[Mapping] = []
    token = _declared.set(found)
    try:
        yield found
    finally:
        _declared.reset(token)


def adapt(
    protocol: str,
    name: str,
    contract: type[Event],
    *,
    each: str | None = None,
    rename: dict[str, str] | None = None,
    id: str | None = None,
    time: str | None = None,
    subject: str | None = None,
    source: str | None = None,
    known_at: str | None = None,
) -> Callable[[_F], _F]:
    """Declare how messages of another protocol become events of a contract; in a workspace's ``contracts.py``.

    Properties go to fields of the same name, or of the name that ``rename`` gives them. With ``each``, a message
    becomes one event for each item of that list; an item's own properties come first, then those of the message that
    the contract knows. ``id``, ``time``, ``subject``, ``source`` and ``known_at`` say where those are taken from, if
    not from where the protocol has them. Every place is a name among the properties (``order_id``), a path below them
    (``address.city``), or a path from the message (``$.context.ip``).

    Used as a decorator it declares a function that is given the message and makes the data: a mapping for one event,
    a list for several, None for none.

    >>> class OrderLine(Event):
    ...     invoice: str
    ...     pieces: int
    >>> _ = adapt("segment", "Order Completed", OrderLine, each="products", rename={"order_id": "invoice"})
    >>> @adapt("ga4", "purchase", OrderLine)
    ... def lines(message: dict) -> list[dict]:
    ...     order = message["params"]
    ...     return [{"invoice": order["transaction_id"], "pieces": item["quantity"]} for item in order["items"]]
    """
    attempted = f"Adapt {protocol} {name!r}"
    if protocol not in PROTOCOLS:
        raise BadContract(attempted, f"there is no protocol {protocol!r}", f"Known: {', '.join(PROTOCOLS)}.")
    if not isinstance(name, str) or not name:
        raise BadContract(attempted, f"{name!r} cannot name a message", _ADVICE)
    if not (isinstance(contract, type) and issubclass(contract, Event) and contract is not Event):
        raise BadContract(attempted, f"{contract!r} is no contract", _ADVICE)
    rename = dict(rename or {})
    places = {"each": each, "id": id, "time": time, "subject": subject, "source": source, "known_at": known_at}
    for option, place in places.items():
        if place is not None and (not isinstance(place, str) or not place):
            raise BadContract(attempted, f"{option}={place!r} is no place in a message", _ADVICE)
    fields = contract.__struct_encode_fields__
    for place, field in rename.items():
        if not isinstance(place, str) or not place:
            raise BadContract(attempted, f"{place!r} is no place in a message", _ADVICE)
        if field not in fields:
            known = ", ".join(fields)
            raise BadContract(attempted, f"{contract.__name__} has no field {field!r}", f"It has: {known}.")
    if len(set(rename.values())) < len(rename):
        twice = next(field for field in rename.values() if list(rename.values()).count(field) > 1)
        raise BadContract(attempted, f"two places are renamed to {twice!r}", "Keep one, or write a function.")
    mapping = Mapping(
        protocol=protocol,
        name=name,
        contract=contract,
        each=each,
        rename=rename,
        id=id,
        time=time,
        subject=subject,
        source=source,
        known_at=known_at,
        line=sys._getframe(1).f_lineno,
    )
    declared = _declared.get()
    if declared is not None:
        declared.append(mapping)

    def declare(function: _F) -> _F:
        if mapping.each is not None or mapping.rename:
            raise BadContract(attempted, "a function makes the data, so each and rename say nothing", "Take them out.")
        if not callable(function):
            raise BadContract(attempted, f"{function!r} is no function", "Write it below @adapt(…).")
        mapping.make = function
        return function

    return declare


def type_named(name: str) -> str:
    """The type whose contract takes a message that no mapping is about: ``Order Completed`` → ``order_completed``."""
    return snake_case(re.sub(r"\W+", "_", name).strip("_"))


def refuse_clashes(mappings: list[Mapping]) -> None:
    """Raises BadContract, with the line, where two mappings make the same events of the same messages."""
    seen: dict[tuple[str, str, str], Mapping] = {}
    for mapping in mappings:
        key = (mapping.protocol, mapping.name, mapping.contract.__sampan_type__)
        if (other := seen.setdefault(key, mapping)) is not mapping:
            raise BadContract(
                f"Adapt {mapping.protocol} {mapping.name!r}, line {mapping.line}",
                f"line {other.line} makes events of type {key[2]} of the same messages already",
                "Keep one of them.",
            )
