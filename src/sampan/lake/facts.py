"""What is known of the columns of a query, as data. Nothing here needs the parser."""

from typing import TypeAlias

import msgspec

Ref: TypeAlias = tuple[str, str]
"""A source and one of its columns."""
Refs: TypeAlias = frozenset[Ref]


class ColumnFact(msgspec.Struct, frozen=True):
    """One column of a query. ``named``: the text gives its name, else the engine makes one up."""

    name: str
    of: tuple[Ref, ...] = msgspec.field(default=(), name="from")
    by: tuple[Ref, ...] = ()
    named: bool = True


class ColumnFacts(msgspec.Struct, frozen=True):
    """All columns of a query; ``rows``: what decides which rows there are. ``whole``: why columns cannot be told."""

    columns: tuple[ColumnFact, ...] = ()
    rows: tuple[Ref, ...] = ()
    whole: str = ""
