"""What a query depends on, and whether it can repeat itself. Reads text only: no table is opened.

A table is one SELECT over tables and events of its workspace. What would give another answer tomorrow, in another
row order or on another machine is refused with the line, the text and what to write instead. Types are unknown
here, so floats are left to ``sampan.lake.repeat``, which asks the engine when the table is built.
"""

import logging
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError

from sampan.base.errors import BadQuery
from sampan.lake.functions import CLOCK, NAMES, NEVER, OF_TWO, ORDERED, TABLE_FUNCTIONS, WINDOWED

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of statements that are refused here anyway


class Refusal(msgspec.Struct, frozen=True):
    """Why a query is refused: the reason, where, the offending text, and what to write instead."""

    reason: str
    line: int
    text: str = ""
    advice: str = ""


class QueryFacts(msgspec.Struct, frozen=True):
    """What the text of a query tells. ``flags`` are doubts that need no refusal."""

    depends: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    flags: tuple[str, ...] = ()

    def check(self, path: Path | str) -> None:
        """Raise BadQuery with every refusal, if there are any."""
        if not self.refusals:
            return
        first = self.refusals[0]
        where = [f"{path}:{one.line}: {one.reason}{f' in `{one.text}`' if one.text else ''}" for one in self.refusals]
        advice = [one.advice for one in self.refusals if one.advice]
        obstacle = where[0] if len(where) == 1 else "\n  " + "\n  ".join(where)
        raise BadQuery(
            f"Read {path}", obstacle, "\n  ".join(dict.fromkeys(advice)), line=first.line, refusals=self.refusals
        )


@lru_cache(maxsize=64)  # a rollout asks the same again and again, a page whenever it is opened
def analyse(text: str, path: Path | str = "query", *, asked: bool = False) -> QueryFacts:
    """The names that a query reads and the reasons to refuse it.

    ``path`` is for messages only. ``asked`` is for a question that a person asks once: it need not repeat itself,
    and may DESCRIBE or SUMMARIZE; what reaches outside the workspace is refused all the same.
    """
    try:
        statements = [one for one in sqlglot.parse(text, read="duckdb") if one is not None]
    except ParseError as error:
        return QueryFacts(refusals=(_syntax(error, text),))
    except TokenError:
        return QueryFacts(refusals=(_unclosed(text),))
    except RecursionError:
        return QueryFacts(refusals=(Refusal("it is nested too deeply", 1),))
    if not statements:
        return QueryFacts(refusals=(Refusal("there is no query in it", 1, "", "Write one SELECT."),))
    reader = _Reader(text, asked)
    if len(statements) > 1:
        line = reader.line(statements[1])
        reader.refuse(None, "a second statement follows the first", "Write one SELECT per file.", line=line)
    else:
        reader.read(statements[0])
    return QueryFacts(tuple(reader.depends), tuple(reader.refusals), tuple(reader.flags))


_SELECTS: Final = (exp.Select, exp.SetOperation, exp.Subquery, exp.Values, exp.Pivot, exp.Summarize, exp.Table)


class _Reader:
    """Walks one statement."""

    def __init__(self, text: str, asked: bool) -> None:
        self.text = text
        self._asked = asked
        self.depends: dict[str, None] = {}
        self.refusals: list[Refusal] = []
        self.flags: list[str] = []
        self._seen: set[str] = set()

    def refuse(self, node: exp.Expr | None, reason: str, advice: str, *, line: int = 0, text: str = "") -> None:
        line = line or (self.line(node) if node is not None else 1)
        text = text or (self.shown(node) if node is not None else "")
        refusal = Refusal(reason, line, text, advice)
        if refusal not in self.refusals:
            self.refusals.append(refusal)

    def shown(self, node: exp.Expr) -> str:
        """The text of a node: as it was written where that is known, else as sqlglot would write it."""
        start = node.meta.get("start") if isinstance(node, exp.Func) else None
        if start is None:
            return _short(node.sql(dialect="duckdb"))
        return _short(self.text[start : _closing(self.text, node.meta["end"] + 1)])

    def written(self, node: exp.Func) -> str:
        """A function's name as it was written."""
        start = node.meta.get("start")
        name = _function_name(node) if start is None else self.text[start : node.meta["end"] + 1].lower()
        return name if name.replace("_", "").isalnum() else _function_name(node)

    def line(self, node: exp.Expr) -> int:
        """The line of a node, or of the first thing inside it or around it that has one."""
        at: Any = node
        while at is not None:
            lines = [self._line_of(inner) for inner in at.walk()]
            if found := [line for line in lines if line]:
                return min(found)
            at = at.parent
        return 1

    def _line_of(self, node: exp.Expr) -> int:
        start = node.meta.get("start")
        return self.text.count("\n", 0, start) + 1 if start is not None else 0

    def read(self, statement: exp.Expr) -> None:
        if not isinstance(statement, _SELECTS) and not (self._asked and isinstance(statement, exp.Describe)):
            word = (self.text.split() or [""])[0].upper()
            self.refuse(None, f"{word} is not a query", "Write one SELECT.", line=self.line(statement))
            return
        for node in statement.walk():
            if isinstance(node, exp.Table):
                self._table(node)
            elif self._asked:
                continue
            elif isinstance(node, exp.Summarize):
                self.refuse(
                    None,
                    "SUMMARIZE shows approximations, which depend on the order of the rows",
                    "Compute the figures that you need, or ask `sampan sql`.",
                    line=self.line(node),
                )
            elif isinstance(node, exp.Window):
                self._window(node)
            elif isinstance(node, exp.TableSample):
                self.refuse(node.parent, "a sample is drawn anew each time", _SAMPLE_ADVICE)
            elif isinstance(node, exp.Limit | exp.Offset | exp.Fetch):
                self._limit(node)
            elif isinstance(node, exp.Distinct) and node.args.get("on"):
                self._distinct_on(node)
            elif isinstance(node, exp.Join) and (node.args.get("method") or "").upper() == "POSITIONAL":
                self.refuse(node, "a positional join depends on the order of the rows", "Join on a key.")
            elif isinstance(node, exp.Func):
                self._function(node)

    # -- what is read

    def _table(self, node: exp.Table) -> None:
        if isinstance(node.this, exp.Func):
            name = _function_name(node.this)
            if name not in TABLE_FUNCTIONS and name not in NEVER:
                self.refuse(
                    node.this,
                    "it reads something that is no table of this workspace",
                    'Declare the file in a step (`sampan.File("…")`), or load it as events (`sampan log load`).',
                )
            return
        if not isinstance(node.this, exp.Identifier):
            return
        name = node.name
        if node.args.get("when") or node.args.get("version"):
            self.refuse(node, "a table has no versions inside a query", "Leave out AT.")
        if node.db or node.catalog:
            self.refuse(node, "a name in FROM has no schema", f"Write `{name}`.")
        elif _is_common(node):
            return
        elif _looks_like_file(name):
            self.refuse(
                node,
                f"{name!r} is a file, not a table",
                'Declare it in a step (`sampan.File("…")`), or load it as events (`sampan log load`).',
            )
        elif name.lower() not in self._seen:
            self._seen.add(name.lower())
            self.depends[name] = None

    # -- what does not repeat itself

    def _function(self, node: exp.Func) -> None:
        name = _function_name(node)
        if name in NEVER:
            reason, advice = NEVER[name]
            self.refuse(node, f"{self.written(node)}() {reason}", advice)
        elif name == "age" and len(node.args.get("expressions") or []) == 1:
            self.refuse(node, f"age() of one time {CLOCK}", "Give both times: `age(later, earlier)`.")
        elif isinstance(node, exp.Array) and any(
            isinstance(one, exp.Select | exp.SetOperation) and not one.args.get("order") for one in node.expressions
        ):
            self.refuse(node, "ARRAY(SELECT …) depends on the order of the rows", "Add ORDER BY to that SELECT.")
        elif name in ORDERED and not isinstance(_over(node), exp.Window) and not _has_order(node):
            called = self.written(node)
            self.refuse(node, f"{called}() depends on the order of the rows", _ordered_advice(called, name, node))

    def _window(self, node: exp.Window) -> None:
        inner: Any = node.this
        while isinstance(inner, exp.Filter | exp.IgnoreNulls | exp.RespectNulls | exp.WithinGroup):
            inner = inner.this
        if not isinstance(inner, exp.Func):
            return
        name = _function_name(inner)
        if name not in WINDOWED and name not in ORDERED:
            return
        name = self.written(inner)
        order = node.args.get("order") or _named_order(node)
        if order is None and not _has_order(inner):
            self.refuse(node, f"{name}() has no order to go by", "Add ORDER BY inside OVER (…).")
        elif order is not None:
            self.flags.append(f"line {self.line(node)}: {name}() repeats only if its ORDER BY leaves no ties")

    def _limit(self, node: exp.Expr) -> None:
        select = node.parent
        if select is None or select.args.get("order"):
            if select is not None:
                self.flags.append(f"line {self.line(node)}: LIMIT repeats only if its ORDER BY leaves no ties")
            return
        if isinstance(node.expression, exp.Literal) and node.expression.name == "0":
            return
        self.refuse(node, "LIMIT without ORDER BY picks any rows", "Add ORDER BY over columns that name a row.")

    def _distinct_on(self, node: exp.Distinct) -> None:
        select = node.parent
        if select is not None and not select.args.get("order"):
            self.refuse(node, "DISTINCT ON without ORDER BY picks any row", "Add ORDER BY.")
        else:
            self.flags.append(f"line {self.line(node)}: DISTINCT ON repeats only if its ORDER BY leaves no ties")


_SAMPLE_ADVICE: Final = "Sample by a key instead: `WHERE md5_number_lower(id) % 100 < 5`."


def _function_name(node: exp.Func) -> str:
    if isinstance(node, exp.Anonymous):
        return node.name.lower()
    return NAMES.get(type(node).__name__) or node.sql_name().lower()


def _ordered_advice(called: str, name: str, node: exp.Func) -> str:
    if name in OF_TWO:
        return f"Write `{called}(x, y ORDER BY x)`: of equal y, the first x."
    of = node.this
    distinct = "DISTINCT " if isinstance(of, exp.Distinct) else ""
    while isinstance(of, exp.Distinct):
        of = of.expressions[0] if of.expressions else None
    column = _short(of.sql(dialect="duckdb")) if isinstance(of, exp.Expr) else "x"
    separator = ", ','" if name == "string_agg" else ""
    other = " or use `min` or `max`" if name in ("first", "last", "any_value", "arbitrary") else ""
    return f"Write `{called}({distinct}{column}{separator} ORDER BY {column})`{other}."


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:59] + "…"


def _closing(text: str, at: int) -> int:
    """Where the brackets that open at ``at`` are closed again."""
    depth, quote = 0, ""
    for place in range(at, len(text)):
        char = text[place]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if depth == 0:
                return place + 1
        elif depth == 0 and not char.isspace():
            return at
    return len(text)


def _over(node: exp.Expr) -> exp.Expr | None:
    """What stands around an aggregate once FILTER and the like are taken off."""
    around = node.parent
    while isinstance(around, exp.Filter | exp.IgnoreNulls | exp.RespectNulls):
        around = around.parent
    return around


def _has_order(node: exp.Expr) -> bool:
    if any(isinstance(one, exp.WithinGroup) for one in (node.parent, node.parent and node.parent.parent)):
        return True
    for value in node.args.values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, exp.Order):
                return True
            if isinstance(one, exp.Distinct | exp.Limit | exp.IgnoreNulls) and _has_order(one):
                return True
    return False


def _named_order(node: exp.Window) -> exp.Expr | None:
    """ORDER BY of the window that OVER names."""
    name = node.alias or (node.args["alias"].name if node.args.get("alias") else "")
    select = node.find_ancestor(exp.Select)
    for window in (select.args.get("windows") or []) if select is not None and name else []:
        if window.name.lower() == name.lower():
            order: exp.Expr | None = window.args.get("order")
            return order
    return None


def _is_common(node: exp.Table) -> bool:
    """Whether a name in FROM is a WITH name in force there, rather than a table."""
    name = node.name.lower()
    below: exp.Expr | None = node
    at: exp.Expr | None = node.parent
    while at is not None:
        if isinstance(at, exp.With):
            for common in at.expressions:  # those before it, and itself if it may be recursive
                if common is below and not at.recursive:
                    break
                if common.alias.lower() == name:
                    return True
                if common is below:
                    break
            below, at = at.parent, (at.parent.parent if at.parent is not None else None)
            continue
        with_ = at.args.get("with_") or at.args.get("with")
        visible = with_.expressions if isinstance(with_, exp.With) and with_ is not below else ()
        if any(common.alias.lower() == name for common in visible):
            return True
        below, at = at, at.parent
    return False


def _looks_like_file(name: str) -> bool:
    return "/" in name or "\\" in name or "*" in name or "." in name


def _syntax(error: ParseError, text: str) -> Refusal:
    first: dict[str, Any] = error.errors[0] if error.errors else {}
    line = int(first.get("line") or 1)
    lines = text.split("\n")
    shown = lines[line - 1] if line <= len(lines) else ""
    highlight = str(first.get("highlight") or "")
    column = shown.find(highlight) if highlight else max(0, int(first.get("col") or 1) - 1)
    caret = f"\n    {shown}\n    {' ' * max(column, 0)}^" if shown else ""
    reason = str(first.get("description") or error).split("\n")[0]
    if reason.startswith("Required keyword"):
        reason = "something is missing"
    word = f' A name that is a word of SQL, too, stands in quotes: "{highlight}".' if highlight.isidentifier() else ""
    said = f"syntax error near {highlight!r}: {reason.rstrip('.')}{caret}"
    return Refusal(said, line, "", f"Mend that line.{word}")


def _unclosed(text: str) -> Refusal:
    """A text or comment that never ends: find the line it starts on."""
    line, at = 1, 0
    quote = ""
    while at < len(text):
        char = text[at]
        if char == "\n" and not quote:
            line += 1
        elif quote and char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote, start = char, text.count("\n", 0, at) + 1
            line = start
        at += 1
    return Refusal("syntax error: a quote or comment is never closed", line, "", "Close it.")
