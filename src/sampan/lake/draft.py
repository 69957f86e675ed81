"""A table that has been made but not recorded yet: plain data, handed from workers to the one who writes records."""

import msgspec

from sampan.lake.query import PARQUET


class TableFile(msgspec.Struct, frozen=True):
    """One immutable file; ``sha256`` is its name in the lake too."""

    sha256: str
    bytes: int
    rows: int
    format: str = PARQUET


class TableDraft(msgspec.Struct, frozen=True):
    """A table that exists as durable files but has no record yet. ``id`` is its digest."""

    id: str
    fields: tuple[tuple[str, str], ...]
    files: tuple[TableFile, ...]
    rows: int
    bytes: int
    flags: tuple[str, ...] = ()
