"""SQL files of a workspace: what each depends on and a digest that comments and layout do not change.

The parser is imported only for a file whose text was not seen before.
"""

from pathlib import Path
from typing import Final

import msgspec

from sampan.base.digests import digest_bytes
from sampan.base.errors import BadQuery
from sampan.base.files import write_cache
from sampan.flow.source import decode, read_bytes
from sampan.lake.partition import Partitioning, declared

_VERSION: Final = 2


class Query(msgspec.Struct, frozen=True):
    depends: tuple[str, ...]
    flags: tuple[str, ...]
    digest: str
    incremental: Partitioning | None = None


class Queries:
    """Facts of SQL files, cached by their text. ``parser``: the version of the parser that gave them."""

    def __init__(self, cache: Path | None, parser: str) -> None:
        self._cache = cache
        self._stamp = f"{_VERSION} {parser}"
        self._known = self._load()
        self._used: dict[str, Query] = {}

    def read(self, path: Path, shown: str) -> Query:
        """The facts of one file. Raises BadQuery for what is refused, with line and reason."""
        data = read_bytes(path, shown)
        return self._read(data, shown)

    def text(self, text: str, shown: str) -> Query:
        """The facts of a query that no file of the workspace holds as it is. Raises BadQuery."""
        return self._read(text.encode(), shown)

    def _read(self, data: bytes, shown: str) -> Query:
        key = digest_bytes(data)
        query = self._known.get(key)
        if query is None:
            query = _analyse(decode(data, shown), shown)
        self._used[key] = query
        return query

    def save(self) -> None:
        if self._cache is None or self._used.keys() == self._known.keys():
            return
        write_cache(self._cache, msgspec.msgpack.encode((self._stamp, self._used)))

    def _load(self) -> dict[str, Query]:
        if self._cache is None:
            return {}
        try:
            stamp, known = msgspec.msgpack.decode(self._cache.read_bytes(), type=tuple[str, dict[str, Query]])
        except (OSError, msgspec.DecodeError):
            return {}
        return known if stamp == self._stamp else {}


def _analyse(text: str, shown: str) -> Query:
    from sampan.lake.sql import analyse

    facts = analyse(text, shown)
    facts.check(shown)
    cut = declared(text, shown)
    if cut is not None:
        _check_parts(text, shown)
    return Query(tuple(facts.depends), tuple(facts.flags), _digest(text, shown), cut)


def _check_parts(text: str, shown: str) -> None:
    """Raise BadQuery for what picks among all rows, and so cannot be told from some of them."""
    import sqlglot
    from sqlglot import exp

    whole = sqlglot.parse_one(text, read="duckdb")
    for pivot in whole.find_all(exp.Pivot):
        if not pivot.args.get("unpivot") and pivot.find(exp.In) is None:
            raise BadQuery(
                f"Read {shown}",
                "it is declared incremental, and what columns its PIVOT makes depends on all rows",
                "Name the values: PIVOT … ON shop IN ('north', 'south').",
            )
    if (found := whole.find(exp.Limit, exp.Offset, exp.Fetch)) is not None:
        raise BadQuery(
            f"Read {shown}",
            f"it is declared incremental, and `{found.sql(dialect='duckdb').strip()[:60]}` picks among all rows",
            "Rank within a stretch of time instead, or leave the line `-- incremental:` out.",
        )


def _digest(text: str, shown: str) -> str:
    """A digest over the tokens: comments, layout and the case of keywords do not count."""
    import sqlglot
    from sqlglot.errors import SqlglotError
    from sqlglot.tokens import TokenType  # type: ignore[attr-defined]

    exact = {TokenType.STRING, TokenType.NATIONAL_STRING, TokenType.RAW_STRING, TokenType.HEREDOC_STRING}
    exact |= {TokenType.IDENTIFIER, TokenType.VAR, TokenType.BYTE_STRING}
    try:
        tokens = list(sqlglot.tokenize(text, read="duckdb"))
    except SqlglotError as error:
        raise BadQuery(f"Read {shown}", str(error)) from None
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    parts = [
        f"{token.token_type.name} {token.text if token.token_type in exact else token.text.upper()}" for token in tokens
    ]
    return digest_bytes("\0".join(parts).encode())[:16]
