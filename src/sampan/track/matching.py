"""Filters and orders of the search grammar over objects in memory, for kinds that there are few of."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from sampan.track.filter import Comparison, Field
from sampan.track.order import Order

T = TypeVar("T")
#: What an object has in a field; None where it has not.
Value = Callable[[T, Field], Any]


def matching(objects: Iterable[T], comparisons: Sequence[Comparison], value: Value[T]) -> list[T]:
    """The objects that fulfil all comparisons."""
    return [one for one in objects if all(_fulfils(value(one, each.field), each) for each in comparisons)]


def ordered(objects: Iterable[T], orders: Sequence[Order], value: Value[T]) -> list[T]:
    """The objects in an order; equals stay as they came, what has no value comes last."""
    found = list(objects)
    for order in reversed(orders):
        found = _by(order, found, value)
    return found


def _by(order: Order, objects: Sequence[T], value: Value[T]) -> list[T]:
    have = [one for one in objects if value(one, order.field) is not None]
    lack = [one for one in objects if value(one, order.field) is None]
    return sorted(have, key=lambda one: value(one, order.field), reverse=not order.ascending) + lack


def _fulfils(value: Any, one: Comparison) -> bool:
    if one.comparator == "IS NULL":
        return value is None
    if value is None:
        return False
    match one.comparator, one.value:
        case "IS NOT NULL", _:
            return True
        case "IN", tuple(among):
            return value in among
        case "NOT IN", tuple(among):
            return value not in among
        case "LIKE" | "ILIKE", str(pattern):
            flags = re.DOTALL | (re.IGNORECASE | re.ASCII if one.comparator == "ILIKE" else 0)
            return re.fullmatch(_regular(pattern), value, flags) is not None
        case "=", other:
            return bool(value == other)
        case "!=", other:
            return bool(value != other)
        case "<", other:
            return bool(value < other)
        case "<=", other:
            return bool(value <= other)
        case ">", other:
            return bool(value > other)
        case _, other:
            return bool(value >= other)


def _regular(pattern: str) -> str:
    signs = {"%": ".*", "_": "."}
    return "".join(signs.get(sign) or re.escape(sign) for sign in pattern)
