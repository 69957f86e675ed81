"""Filters and orders as SQL with parameters, over one table of objects and the tables of their values."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from sampan.track.filter import Comparison, Field
from sampan.track.order import Order

#: Larger than every number, and smaller than the text that stands for NaN.
_INFINITY: Final = "9e999"
_VALUES: Final = {"metric": "latest", "param": "params", "tag": "tags"}


class Shape(msgspec.Struct, frozen=True):
    """How a kind of object lies in the database: its table, called ``o``, and where its values are.

    ``columns``: SQL by attribute. ``values``: per entity the table of values, whose first column is the object.
    ``key``: what a name is meant by in those tables; None where no object has it.
    """

    columns: Mapping[str, str]
    values: Mapping[str, str]
    owner: str
    key: Callable[[str], Any]


class Sql(msgspec.Struct):
    """A piece of SQL with what its question marks stand for."""

    text: str
    given: list[Any] = []


def where(comparisons: Iterable[Comparison], shape: Shape) -> Sql:
    """What the objects fulfil."""
    parts = [_condition(one, shape) for one in comparisons]
    return Sql(" AND ".join(["1", *(one.text for one in parts)]), [value for one in parts for value in one.given])


def _condition(one: Comparison, shape: Shape) -> Sql:
    entity, key = one.field.entity, one.field.key
    if entity == "attribute":
        return _compare(shape.columns[key], one)
    if entity == "dataset":
        inside = _compare("context" if key == "context" else f"datasets.{key}", one)
        return Sql(
            f"o.id IN (SELECT run FROM inputs JOIN datasets ON datasets.id = dataset WHERE {inside.text})", inside.given
        )
    table, id = shape.values[entity], shape.key(key)
    among = f"SELECT {shape.owner} FROM {table} WHERE key = ?"
    if one.comparator == "IS NULL":
        return Sql("1") if id is None else Sql(f"o.id NOT IN ({among})", [id])
    if id is None:
        return Sql("0")
    if one.comparator == "IS NOT NULL":
        return Sql(f"o.id IN ({among})", [id])
    inside = _compare("value", one)
    return Sql(f"o.id IN ({among} AND {inside.text})", [id, *inside.given])


def _compare(column: str, one: Comparison) -> Sql:
    comparator, value = one.comparator, one.value
    if isinstance(value, tuple):
        return Sql(f"{column} {comparator} ({', '.join('?' * len(value))})", list(value))
    if comparator == "LIKE":
        return Sql(f"{column} GLOB ?", [_glob(str(value))])
    if comparator == "ILIKE":
        return Sql(f"{column} LIKE ?", [value])
    if comparator in (">", ">=") and one.field.entity == "metric":
        return Sql(f"({column} {comparator} ? AND {column} <= {_INFINITY})", [value])
    return Sql(f"{column} {comparator} ?", [value])


def _glob(pattern: str) -> str:
    """A pattern of LIKE as one of GLOB, which tells A from a."""
    signs = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return "".join(signs.get(sign, sign) for sign in pattern)


def order_by(orders: Sequence[Order], shape: Shape, last: Sequence[str]) -> tuple[Sql, str]:
    """The joins that the orders need, and what stands after ORDER BY; ``last`` decides between equals."""
    joins, given, terms = [], [], []
    for place, one in enumerate(orders):
        column = _column(one.field, shape, place)
        if one.field.entity != "attribute":
            table, id = shape.values[one.field.entity], shape.key(one.field.key)
            if id is None:
                continue  # nobody has it: all are alike
            alias = f"v{place}"
            joins.append(f"LEFT JOIN {table} AS {alias} ON {alias}.{shape.owner} = o.id AND {alias}.key = ?")
            given.append(id)
        terms.append(f"{column} IS NULL")
        if one.field.entity == "metric":
            terms.append(f"typeof({column}) = 'text'")
        terms.append(f"{column} {'ASC' if one.ascending else 'DESC'}")
    return Sql(" ".join(joins), given), ", ".join([*terms, *last])


def walk(orders: Sequence[Order], shape: Shape, last: Sequence[str]) -> tuple[str, Sql, Sql, str] | None:
    """Objects along the index of the value that they are sorted by first: the table of values, called ``w``, the joins
    of further orders, a condition, and what stands after ORDER BY. None where there is no such index.

    Only objects with such a value are found, and of metrics only numbers: in any order they come before all others. A
    page of them is read without sorting the rest.
    """
    if not orders or orders[0].field.entity == "attribute":
        return None
    first = orders[0]
    table, id = shape.values[first.field.entity], shape.key(first.field.key)
    if id is None:
        return None
    joins, order = order_by(orders[1:], shape, last)
    among = f" AND w.value <= {_INFINITY}" if first.field.entity == "metric" else ""
    return (
        f"{table} AS w INDEXED BY {table}_by_value",
        joins,
        Sql(f"o.id = w.{shape.owner} AND w.key = ?{among}", [id]),
        f"w.value {'ASC' if first.ascending else 'DESC'}, {order}",
    )


def _column(field: Field, shape: Shape, place: int) -> str:
    return shape.columns[field.key] if field.entity == "attribute" else f"v{place}.value"
