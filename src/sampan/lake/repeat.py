"""Making a query repeat itself, where its text alone would not.

Two things differ between runs of one query over equal rows. Floats: their sum depends on the order in which they
are added, and that on threads and files; here they are sorted before they are added. Ties: ``first(x ORDER BY t)``
takes any of several rows with the same t; here x itself breaks the tie. Both are small edits of the text, each
kept only if the engine, asked for its plan, agrees that it helps. What cannot be mended is flagged on the table.

Why sorted lists: ``docs/decisions/lake-floats.md``.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from sampan.lake.functions import FLOATS, FLOATS_OF_TWO, ORDERED
from sampan.lake.query import quote_text

if TYPE_CHECKING:
    import duckdb

_CALLS: Final = re.compile(rf"\b({'|'.join(sorted(ORDERED - {'mode'}))})\s*\(", re.IGNORECASE)
_CONSTANT: Final = re.compile(r"['\d]")
_REAL: Final = frozenset({"DOUBLE", "FLOAT"})
_ADVICE: Final = "its last digits may differ from run to run; aggregate DECIMAL instead, or round the result"


def repeatable(
    connection: "duckdb.DuckDBPyConnection", sql: str, fields: Sequence[tuple[str, str]]
) -> tuple[str, tuple[str, ...]]:
    """The query with its float aggregates sorted and its ties broken, and flags for what is left.

    The connection must have the query's sources attached; ``fields`` are the names and types of its result.
    """
    if _CALLS.search(sql):
        sql = _break_ties(connection, sql)
    found = _unordered(connection, sql)
    if found is None:  # a statement that the engine cannot plan on its own, such as PIVOT with columns from the data
        if not any(type_ in _REAL for _, type_ in fields):
            return sql, ()
        doubtful = sorted({call.name for call in _calls(sql) if call.name in FLOATS | FLOATS_OF_TWO})
        return sql, tuple(f"float: {name}() could not be checked; over DOUBLE {_ADVICE}" for name in doubtful)
    if found.aggregates:
        sql, found = _sort_floats(connection, sql, found)
    flags = [f"float: {name}() over DOUBLE: {_ADVICE}" for name in dict.fromkeys(found.aggregates)]
    flags += [f"float: {name}() OVER (…) without ORDER BY: {_ADVICE}" for name in dict.fromkeys(found.windows)]
    return sql, tuple(flags)


class _Unordered(NamedTuple):
    """Aggregates over floats in a plan that take their rows as they come."""

    aggregates: tuple[str, ...]
    windows: tuple[str, ...]


class _Call(NamedTuple):
    """A function call in the text: where it starts, its brackets, its arguments and what follows."""

    name: str
    start: int
    opened: int  # after the opening bracket
    closed: int  # at the closing bracket
    end: int  # after the closing bracket of FILTER (…), if there is one
    arguments: tuple[str, ...]
    distinct: bool
    ordered: bool
    over: bool


def _break_ties(connection: "duckdb.DuckDBPyConnection", sql: str) -> str:
    changed = sql
    for call in reversed(_calls(sql)):
        if call.name in ORDERED and call.ordered and not call.distinct and not call.over and call.arguments:
            columns = ", ".join(f"({one})" for one in call.arguments if not _CONSTANT.match(one))
            changed = f"{changed[: call.closed]}, {columns}{changed[call.closed :]}" if columns else changed
    return changed if changed == sql or _plans(connection, changed) else sql


def _sort_floats(connection: "duckdb.DuckDBPyConnection", sql: str, found: _Unordered) -> tuple[str, _Unordered]:
    """Sort those float aggregates where it helps, one by one; at last all together (QUALIFY repeats a column)."""
    for number in range(len(_calls(sql)) - 1, -1, -1):  # from the end: earlier positions stay
        tried = _sorted(sql, _calls(sql)[number])
        left = _unordered(connection, tried) if tried != sql else None
        if left is not None and len(left.aggregates) < len(found.aggregates):
            sql, found = tried, left
            if not found.aggregates:
                return sql, found
    tried = sql
    for call in reversed(_calls(sql)):
        tried = _sorted(tried, call)
    left = _unordered(connection, tried) if tried != sql else None
    if left is not None and len(left.aggregates) < len(found.aggregates):
        return tried, left
    return sql, found


def _sorted(sql: str, call: _Call) -> str:
    """The text with one aggregate told to take its rows in order."""
    if call.ordered or call.over:
        return sql
    if call.name in FLOATS and len(call.arguments) == 1:
        inner = sql[call.opened : call.end]  # with its closing bracket, and FILTER
        edited = f"list_aggregate(list_sort(list({inner}), '{call.name}')"
    elif call.name in FLOATS_OF_TWO and len(call.arguments) == 2 and not call.distinct:
        columns = ", ".join(f"({one})" for one in call.arguments)
        edited = f"{call.name}({sql[call.opened : call.closed]} ORDER BY {columns}{sql[call.closed : call.end]}"
    else:
        return sql
    return sql[: call.start] + edited + sql[call.end :]


def _calls(sql: str) -> list[_Call]:
    """Calls of the functions that matter here, in the order of the text."""
    from sqlglot import TokenType, tokenize

    tokens = tokenize(sql, read="duckdb")
    kinds = [token.token_type for token in tokens]
    opening = {TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE}
    ending = {TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE}

    def closing(at: int) -> int:
        depth = 0
        for place in range(at, len(tokens)):
            if kinds[place] in opening:
                depth += 1
            elif kinds[place] in ending:
                depth -= 1
                if depth == 0:
                    return place
        return len(tokens) - 1

    calls = []
    for at in range(len(tokens) - 1):
        name = tokens[at].text.lower()
        if name not in _KNOWN or kinds[at + 1] != TokenType.L_PAREN or (at and kinds[at - 1] == TokenType.DOT):
            continue
        close = closing(at + 1)
        first, arguments, ordered, place = at + 2, [], False, at + 2
        distinct = kinds[first] == TokenType.DISTINCT
        first += distinct
        begin = place = first
        while place < close:
            if kinds[place] in opening:
                place = closing(place)
            elif kinds[place] == TokenType.ORDER_BY:
                ordered = True
                break
            elif kinds[place] == TokenType.COMMA:
                arguments.append(sql[tokens[begin].start : tokens[place - 1].end + 1])
                begin = place + 1
            place += 1
        if begin < place:
            arguments.append(sql[tokens[begin].start : tokens[place - 1].end + 1])
        after, end = close + 1, tokens[close].end + 1
        if after < len(tokens) and kinds[after] == TokenType.FILTER:
            filtered = closing(after + 1)
            after, end = filtered + 1, tokens[filtered].end + 1
        over = after < len(tokens) and tokens[after].text.upper().split()[0] in ("OVER", "WITHIN")
        calls.append(
            _Call(
                name,
                tokens[at].start,
                tokens[at + 1].end + 1,
                tokens[close].start,
                end,
                tuple(arguments),
                distinct,
                ordered,
                over,
            )
        )
    return calls


_KNOWN: Final = FLOATS | FLOATS_OF_TWO | ORDERED


def _plan(connection: "duckdb.DuckDBPyConnection", sql: str) -> Any:
    # no parameter: to bind one, DuckDB's Python client imports pandas, which takes 0.3 s
    row = connection.execute(f"SELECT json_serialize_plan({quote_text(sql)}, optimize := false)").fetchone()
    return msgspec.json.decode(row[0]) if row else {"error": True}


def _plans(connection: "duckdb.DuckDBPyConnection", sql: str) -> bool:
    return not _plan(connection, sql).get("error")


def _unordered(connection: "duckdb.DuckDBPyConnection", sql: str) -> _Unordered | None:
    plan = _plan(connection, sql)
    if plan.get("error"):
        return None
    aggregates: list[str] = []
    windows: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, list):
            for one in node:
                walk(one)
        elif isinstance(node, dict):
            kind = node.get("type")
            for one in node.get("expressions") or () if isinstance(kind, str) else ():
                if kind == "LOGICAL_AGGREGATE_AND_GROUP_BY" and _depends(one) and not one.get("order_bys"):
                    aggregates.append(one["name"])
                elif kind == "LOGICAL_WINDOW" and _depends(one) and not one.get("orders"):
                    windows.append(one["name"])
            for value in node.values():
                walk(value)

    walk(plan.get("plans"))
    return _Unordered(tuple(aggregates), tuple(windows))


def _depends(expression: Any) -> bool:
    """Whether an aggregate adds up floats."""
    if expression.get("name") not in FLOATS | FLOATS_OF_TWO:
        return False
    types = [(child.get("return_type") or {}).get("id") for child in expression.get("children") or ()]
    return any(type_ in _REAL for type_ in types)
