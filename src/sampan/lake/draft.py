"""A table that has been made but not recorded yet: plain data, handed from workers to the one who writes records."""

import msgspec

from sampan.lake.query import PARQUET


class TableFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """One immutable file; ``sha256`` is its name in the lake too. Of a table that is built bit by bit: which
    ``partition`` its rows are of, and the ``sums`` of its rows that make up the table's digest."""

    sha256: str
    bytes: int
    rows: int
    format: str = PARQUET
    partition: str = ""
    sums: tuple[int, int] | None = None


class TableDraft(msgspec.Struct, frozen=True):
    """A table that exists as durable files but has no record yet. ``id`` is its digest."""

    id: str
    fields: tuple[tuple[str, str], ...]
    files: tuple[TableFile, ...]
    rows: int
    bytes: int
    flags: tuple[str, ...] = ()
