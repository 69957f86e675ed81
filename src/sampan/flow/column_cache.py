"""Column facts of queries, cached by their text and by the columns of what they read.

They are worked out when somebody asks where a column comes from, never for a plan or a run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from sampan.base.digests import digest_bytes, digest_value
from sampan.base.files import write_cache
from sampan.lake.facts import ColumnFacts

_VERSION: Final = 1


class ColumnCache:
    """``parser``: the version of the parser that gave the facts."""

    def __init__(self, file: Path | None, parser: str) -> None:
        self._file = file
        self._stamp = f"{_VERSION} {parser}"
        self._known = self._load()
        self._used: dict[str, ColumnFacts] = {}

    def read(self, text: str, sources: Mapping[str, Sequence[str] | None]) -> ColumnFacts:
        """The facts of a query over these columns."""
        schemas = {name: None if columns is None else list(columns) for name, columns in sorted(sources.items())}
        key = digest_bytes(f"{digest_bytes(text.encode())} {digest_value(schemas)}".encode())[:32]
        facts = self._used.get(key) or self._known.get(key)
        if facts is None:
            from sampan.lake.columns import column_facts

            facts = column_facts(text, sources)
        self._used[key] = facts
        return facts

    def save(self) -> None:
        """Keep what was used; a cache that cannot be written is no reason to fail."""
        if self._file is None or self._used.keys() <= self._known.keys():
            return
        write_cache(self._file, msgspec.msgpack.encode((self._stamp, self._used)))

    def _load(self) -> dict[str, ColumnFacts]:
        if self._file is None:
            return {}
        try:
            stamp, known = msgspec.msgpack.decode(self._file.read_bytes(), type=tuple[str, dict[str, ColumnFacts]])
        except (OSError, msgspec.DecodeError):
            return {}
        return known if stamp == self._stamp else {}
