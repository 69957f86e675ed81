"""Which columns of its sources each column of a query comes from. Reads text only: no table is opened.

A fact has two halves: the columns that a value is made *of*, and those *by* which it is decided what rows it stands in
or is counted over (WHERE, ON, GROUP BY, QUALIFY, a window's PARTITION and ORDER). Together they are complete: a column
of a source that a fact does not name can change as it likes. Where the text does not tell, more is named rather than
less, and where it tells nothing the query is ``whole``: every column depends on all columns of all sources.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from sampan.lake.facts import ColumnFact, ColumnFacts, Ref, Refs
from sampan.lake.scope import (
    NONE,
    Column,
    Fact,
    Frame,
    Relation,
    Unclear,
    both,
    copy_of,
    frame_of,
    is_param,
    joined,
)

_ROUNDS: Final = 100
_MULTIPLY: Final = (exp.Explode, exp.Unnest, exp.Posexplode)  # one row in, many out
_SPREADING: Final = ("unnest", "generate_subscripts", "regexp_split_to_table")  # the same, by name


def column_facts(text: str, sources: Mapping[str, Sequence[str] | None]) -> ColumnFacts:
    """The facts of a query over sources whose columns are given; None where a source's columns are not known."""
    try:
        statement = sqlglot.parse_one(text, read="duckdb")
        found = _Reader(sources).query(statement, {}, None)
        columns = found.all()
    except Unclear as error:
        return ColumnFacts(whole=str(error))
    except SqlglotError:
        return ColumnFacts(whole="the query does not parse")
    except RecursionError:
        return ColumnFacts(whole="the query is nested too deeply")
    told = tuple(
        ColumnFact(one.name, tuple(sorted(one.fact.of)), tuple(sorted(one.fact.by | found.rows)), one.named)
        for one in columns
    )
    return ColumnFacts(told, tuple(sorted(found.rows)))


Env: TypeAlias = dict[str, Relation]


class _Reader:
    def __init__(self, sources: Mapping[str, Sequence[str] | None]) -> None:
        self._sources: Env = {}
        for name, columns in sources.items():
            known = None if columns is None else [Column(one, Fact(frozenset({(name, one)}))) for one in columns]
            self._sources[name.lower()] = Relation(known, open=name)
        self._env: Env = {}

    # -- queries

    def query(self, node: exp.Expr | None, env: Env, outer: Frame | None) -> Relation:
        env = self._common(node, env, outer)
        before, self._env = self._env, env
        try:
            if isinstance(node, exp.Select):
                return self._select(node, env, outer)
            if isinstance(node, exp.SetOperation):
                return self._set(node, env, outer)
            if isinstance(node, exp.Subquery) and not node.args.get("pivots") and not node.args.get("joins"):
                found = self.query(node.this, env, outer)
                return self._ended(node, found, frame_of(found, outer))
            if isinstance(node, exp.Values):
                return self._values(node, outer)
            if isinstance(node, exp.Table):
                frame = Frame(outer)
                rows = self._from(node, frame, env)
                return Relation(frame.columns_of(), rows)
        finally:
            self._env = before
        raise Unclear(f"{type(node).__name__.upper()} says nothing of its columns")

    def _common(self, node: exp.Expr | None, env: Env, outer: Frame | None) -> Env:
        with_ = node.args.get("with_") or node.args.get("with") if node is not None else None
        if not isinstance(with_, exp.With):
            return env
        env = dict(env)
        for one in with_.expressions:
            name, query = one.alias.lower(), one.this
            names = _names(one)
            if one.args.get("key_expressions"):
                raise Unclear("a recursion USING KEY replaces rows")
            if with_.recursive and isinstance(query, exp.SetOperation) and _mentions(query, name):
                env[name] = self._recursive(query, name, names, env, outer)
            else:
                env[name] = self.query(query, env, outer).renamed(names)
        return env

    def _recursive(
        self, query: exp.SetOperation, name: str, names: list[str], env: Env, outer: Frame | None
    ) -> Relation:
        found = self.query(query.left, env, outer).renamed(names)
        for _ in range(_ROUNDS):
            following = self._set(query, {**env, name: found}, outer).renamed(names)
            if (following.all(), following.rows) == (found.all(), found.rows):
                return found
            found = following
        raise Unclear("a recursion is too deep")

    def _set(self, node: exp.SetOperation, env: Env, outer: Frame | None) -> Relation:
        left, right = self.query(node.left, env, outer), self.query(node.right, env, outer)
        one, other = left.all(), right.all()
        union = isinstance(node, exp.Union)
        if node.args.get("by_name"):
            names = {column.name.lower(): column for column in (*other, *one)}
            order = [*one, *(column for column in other if left.find(column.name) is None)]
            columns = [Column(names[column.name.lower()].name, both(left, right, column.name)) for column in order]
        else:
            if len(one) != len(other):
                raise Unclear("the two sides of a UNION have not as many columns")
            columns = [
                Column(a.name, a.fact | b.fact if union else a.fact, a.named) for a, b in zip(one, other, strict=True)
            ]
        rows = left.rows | right.rows
        if node.args.get("distinct") or not union:
            rows |= joined(column.fact for column in (*one, *other)).every
        found = Relation(columns, rows)
        return self._ended(node, found, frame_of(found, outer))

    def _values(self, node: exp.Values, outer: Frame | None) -> Relation:
        frame = Frame(outer)
        rows = [one.expressions if isinstance(one, exp.Tuple) else [one] for one in node.expressions]
        columns = [Column(f"col{at}", joined(self._expr(row[at], frame) for row in rows)) for at in range(len(rows[0]))]
        return Relation(columns).renamed(_names(node))

    def _select(self, node: exp.Select, env: Env, outer: Frame | None) -> Relation:
        frame = Frame(outer)
        rows: set[Ref] = set()
        from_ = node.args.get("from_") or node.args.get("from")
        if from_ is not None:
            rows |= self._from(from_.this, frame, env)
        for join in node.args.get("joins") or ():
            rows |= self._join(join, frame, env)
        if node.args.get("laterals") or node.args.get("pivots"):
            raise Unclear("LATERAL VIEW and PIVOT make columns of the data")
        frame.windows = {one.name.lower(): one for one in node.args.get("windows") or ()}
        projections = list(self._projections(node, frame))
        columns = [column for column, _ in projections]
        if (where := node.args.get("where")) is not None:
            rows |= self._expr(where.this, frame).every
        frame.both = True
        rows |= self._group(node.args.get("group"), projections, frame)
        for name in ("having", "qualify"):
            if (clause := node.args.get(name)) is not None:
                rows |= self._expr(clause.this, frame).every
        found = Relation(columns, frozenset(rows) | frame.multiplied)
        if (distinct := node.args.get("distinct")) is not None:
            if (on := distinct.args.get("on")) is not None:
                rows |= self._keys(on.expressions if isinstance(on, exp.Tuple) else [on], columns, frame)
                rows |= self._order(node, columns, frame)
            else:
                rows |= joined(column.fact for column in columns).every
            found = Relation(columns, frozenset(rows) | frame.multiplied)
        return self._ended(node, found, frame)

    def _ended(self, node: exp.Expr, found: Relation, frame: Frame) -> Relation:
        """After ORDER BY and LIMIT, which together decide about rows."""
        limits = [node.args[name] for name in ("limit", "offset") if node.args.get(name) is not None]
        if not limits:
            return found
        frame.both = True
        rows = found.rows | self._order(node, found.all(), frame)
        for limit in limits:
            rows |= self._expr(limit, frame).every
        return Relation(found.columns, rows)

    def _order(self, node: exp.Expr, columns: Sequence[Column], frame: Frame) -> Refs:
        order = node.args.get("order")
        return self._keys([one.this for one in order.expressions], columns, frame) if order is not None else NONE

    def _keys(self, keys: Iterable[exp.Expr], columns: Sequence[Column], frame: Frame) -> Refs:
        """What keys of ORDER BY and the like read: a number is a place, ALL is everything."""
        refs: set[Ref] = set()
        for key in keys:
            if isinstance(key, exp.Literal) and not key.is_string and key.name.isdigit():
                refs |= columns[int(key.name) - 1].fact.every if 0 < int(key.name) <= len(columns) else set()
            elif key.name.upper() == "ALL" and isinstance(key, exp.Var | exp.Column):
                refs |= joined(column.fact for column in columns).every
            else:
                refs |= self._expr(key, frame).every
        return frozenset(refs)

    def _group(self, group: Any, projections: Sequence[tuple[Column, exp.Expr]], frame: Frame) -> Refs:
        if group is None:
            return NONE
        columns = [column for column, _ in projections]
        refs: set[Ref] = set()
        if group.args.get("all"):
            kept = [column.fact for column, written in projections if not _aggregates(written)]
            refs |= joined(kept).every
        for name, value in group.args.items():
            if name != "all" and value:
                keys = value if isinstance(value, list) else [value]
                refs |= self._keys([one for one in keys if isinstance(one, exp.Expr)], columns, frame)
        return frozenset(refs)

    # -- what is selected

    def _projections(self, node: exp.Select, frame: Frame) -> Iterator[tuple[Column, exp.Expr]]:
        for written in node.expressions:
            for column in self._projection(written, frame):
                if isinstance(written, exp.Alias):
                    frame.aliases.setdefault(column.name.lower(), column.fact)
                yield column, written

    def _projection(self, written: exp.Expr, frame: Frame) -> Iterator[Column]:
        value = written.this if isinstance(written, exp.Alias) else written
        if isinstance(written, exp.Aliases):
            raise Unclear("one value spreads over several columns")
        if isinstance(value, exp.Star) or (isinstance(value, exp.Column) and isinstance(value.this, exp.Star)):
            star: Any = value if isinstance(value, exp.Star) else value.this
            yield from self._star(star, value.table if isinstance(value, exp.Column) else "", frame)
            return
        if (chosen := value.find(exp.Columns)) is not None and _own(chosen, value):
            for column in self._chosen(chosen, frame):
                frame.columns = column.fact
                fact = self._expr(value, frame)
                alias = written.alias
                if "\\" in alias:
                    raise Unclear("COLUMNS makes names of names")
                yield Column(alias or column.name, fact, value is chosen)
            frame.columns = None
            return
        fact = self._expr(value, frame)
        for one in value.find_all(*_MULTIPLY, exp.Anonymous):
            if isinstance(one, exp.Anonymous) and one.name.lower() not in _SPREADING:
                continue
            if len(one.expressions) > 1 or one.find(exp.PropertyEQ, exp.Kwarg) is not None:
                raise Unclear("unnest spreads a value over several columns")
            frame.multiplied |= self._expr(one, frame).every
        spread = isinstance(value, _MULTIPLY) and isinstance(value.this, exp.Column | exp.Dot)  # a list, or a struct?
        named = not spread and (bool(written.alias) or isinstance(value, exp.Column))
        yield Column(written.alias or _name(value), fact, named)

    def _star(self, star: exp.Star, alias: str, frame: Frame) -> Iterator[Column]:
        left_out = {one.name.lower() for one in _listed(star, "except_", "except")}
        replaced = {one.alias.lower(): one.this for one in _listed(star, "replace")}
        names = {one.this.name.lower(): one.alias for one in _listed(star, "rename")}
        for column in frame.columns_of(alias):
            low = column.name.lower()
            if low in left_out:
                continue
            fact = self._expr(replaced[low], frame) if low in replaced else column.fact
            yield Column(names.get(low, column.name), fact, column.named)

    def _chosen(self, chosen: exp.Columns, frame: Frame) -> list[Column]:
        what = chosen.this
        if isinstance(what, exp.Star):
            return list(self._star(what, "", frame))
        if isinstance(what, exp.Literal) and what.is_string:
            try:
                wanted = re.compile(what.name)
            except re.error:
                raise Unclear("COLUMNS chooses by a pattern that does not read") from None
            return [one for one in frame.columns_of() if wanted.search(one.name)]
        if isinstance(what, exp.Array) and all(isinstance(one, exp.Literal) for one in what.expressions):
            names = {one.name.lower() for one in what.expressions}
            return [one for one in frame.columns_of() if one.name.lower() in names]
        raise Unclear("COLUMNS chooses by a function")

    # -- what is read

    def _from(self, node: exp.Expr, frame: Frame, env: Env) -> Refs:
        """Add what stands in FROM; gives what decides about its rows."""
        if node.args.get("pivots"):
            raise Unclear("PIVOT makes columns of the data")
        alias, names = node.alias, _names(node)
        rows: Refs = NONE
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table) and not alias:
            rows = self._from(node.this, frame, env)
        elif isinstance(node, exp.Lateral):
            inner: Any = node.this
            relation = self._made(inner, frame, env).renamed(names)
            frame.add(alias or inner.alias or "lateral", relation)
            rows = relation.rows
        elif isinstance(node, exp.Subquery):
            relation = self.query(node, env, frame).renamed(names)
            frame.add(alias or "subquery", relation)
            rows = relation.rows
        elif isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            relation = (
                env.get(node.name.lower()) or self._sources.get(node.name.lower()) or Relation(None, open=node.name)
            )
            frame.add(alias or node.name, relation.renamed(names))
            rows = relation.rows
        else:
            made = self._made(node, frame, env)
            relation = made.renamed(names) if not isinstance(node, exp.Values) else made
            frame.add(alias or "made", relation)
            rows = relation.rows
        for join in node.args.get("joins") or ():
            rows |= self._join(join, frame, env)
        return rows

    def _made(self, node: exp.Expr, frame: Frame, env: Env) -> Relation:
        """A relation that is computed: a subquery, VALUES, or a function, which may read what stands before it."""
        if isinstance(node, exp.Query) and not isinstance(node, exp.Table):
            return self.query(node, env, frame)
        if isinstance(node, exp.Values):
            return self._values(node, frame)
        function = node.this if isinstance(node, exp.Table) else node
        if isinstance(function, exp.Unnest | exp.Explode):
            if len(function.expressions) > 1 or function.args.get("offset"):
                raise Unclear("unnest spreads a value over several columns")
            name = "unnest"
        elif isinstance(function, exp.GenerateSeries):
            name = "range" if function.args.get("is_end_exclusive") else "generate_series"
        else:
            raise Unclear(f"{function.sql(dialect='duckdb')[:60]} says nothing of its columns")
        inner = [one for key, one in function.args.items() if key != "alias"]
        fact = joined(self._expr(one, frame) for value in inner for one in _expressions(value))
        return Relation([Column(name, fact)], fact.every)

    def _join(self, join: exp.Join, frame: Frame, env: Env) -> Refs:
        before = list(frame.sources)
        using = [one.name for one in join.args.get("using") or ()]
        method, side = str(join.args.get("method") or "").upper(), str(join.args.get("side") or "").upper()
        left = copy_of(frame)
        rows = self._from(join.this, frame, env)
        new = [name for name in frame.sources if name not in before]
        if method == "NATURAL":
            ours = {one.name.lower() for one in left.columns_of()}
            using = [one.name for name in new for one in frame.sources[name].all() if one.name.lower() in ours]
        right = Frame(None)
        right.sources = {name: frame.sources[name] for name in new}
        for name in using:
            one, other = left.find(name), right.find(name)
            if one is None or other is None:
                raise Unclear(f"{name} in USING is not on both sides")
            rows |= one.every | other.every
            frame.merged[name.lower()] = other if side == "RIGHT" else one | other if side == "FULL" else one
            frame.hidden |= {(source, name.lower()) for source in new}
        if (on := join.args.get("on")) is not None:
            rows |= self._expr(on, frame).every
        if str(join.args.get("kind") or "").upper() in ("SEMI", "ANTI") or side in ("SEMI", "ANTI"):
            for name in new:
                del frame.sources[name]
            frame.merged = left.merged
        return rows

    # -- values

    def _expr(self, node: Any, frame: Frame) -> Fact:
        if isinstance(node, exp.Column):
            return self._column(node, frame)
        if isinstance(node, exp.Columns) and frame.columns is not None:
            return frame.columns
        if isinstance(node, exp.Star):
            return joined(relation.whole() for relation in frame.sources.values())
        if isinstance(node, exp.Identifier):
            return Fact() if is_param(node.name, frame) else frame.find(node.name) or Fact()
        if isinstance(node, exp.Count) and isinstance(node.this, exp.Star):
            return Fact()
        if isinstance(node, exp.Exists):
            return Fact(NONE, self.query(node.this, self._env, frame).rows)
        if isinstance(node, exp.Query) and not isinstance(node, exp.Table):
            found = self.query(node, self._env, frame)
            return found.whole() | Fact(NONE, found.rows)
        if isinstance(node, exp.DataType | exp.Literal | exp.Var):
            return Fact()
        if isinstance(node, exp.Window):
            return self._window(node, frame)
        if isinstance(node, exp.Filter):
            return self._expr(node.this, frame) | self._expr(node.expression, frame).deciding()
        if isinstance(node, exp.WithinGroup):
            keys = [one.this for one in node.expression.expressions]
            return joined(self._expr(one, frame) for one in (node.this, *keys))
        if isinstance(node, exp.Order):
            decided = (self._expr(one, frame).deciding() for one in node.expressions)
            return joined([self._expr(node.this, frame), *decided])
        if isinstance(node, exp.PropertyEQ | exp.Kwarg):
            return self._expr(node.expression, frame)
        if isinstance(node, exp.Dot) and isinstance(node.expression, exp.Identifier):
            return self._expr(node.this, frame)
        if isinstance(node, exp.Lambda):
            return self._within({one.name.lower() for one in node.expressions}, [node.this], frame)
        if isinstance(node, exp.Comprehension):
            names = {one.name.lower() for one in node.expression.find_all(exp.Identifier)}
            inner = self._within(names, [node.this, node.args.get("condition")], frame)
            return inner | self._expr(node.args["iterator"], frame)
        if isinstance(node, exp.Expr):
            return joined(self._expr(one, frame) for value in node.args.values() for one in _expressions(value))
        return Fact()

    def _within(self, params: set[str], nodes: Iterable[Any], frame: Frame) -> Fact:
        frame.params.append(params)
        try:
            return joined(self._expr(one, frame) for one in nodes)
        finally:
            frame.params.pop()

    def _window(self, node: exp.Window, frame: Frame) -> Fact:
        inner = self._expr(node.this, frame) if not isinstance(node.this, exp.Identifier) else Fact()
        parts = [*(node.args.get("partition_by") or ()), node.args.get("order"), node.args.get("spec")]
        fact = inner | joined(self._expr(one, frame) for one in parts).deciding()
        name = node.alias or (node.args["alias"].name if node.args.get("alias") else "")
        if not name:
            return fact
        if (named := frame.windows.get(name.lower())) is None:
            raise Unclear(f"there is no window {name}")
        return fact | (self._window(named, frame) if isinstance(named, exp.Window) else Fact())

    def _column(self, node: exp.Column, frame: Frame) -> Fact:
        if isinstance(node.this, exp.Star):
            alias = node.table
            relation = frame.source(alias)
            if relation is None:
                raise Unclear(f"{alias}.* names no source")
            return relation.whole()
        if not isinstance(node.this, exp.Identifier):
            raise Unclear(f"{node.sql(dialect='duckdb')[:60]} is no plain column")
        parts = [part.name for part in node.parts]
        if is_param(parts[0], frame):
            return Fact()
        if len(parts) > 1 and (relation := frame.source(parts[0])) is not None:
            fact = relation.find(parts[1])
            if fact is not None:
                return fact
        row = frame.source(parts[0]) if len(parts) == 1 else None
        found = frame.find(parts[0]) if row is None or row.columns is not None else None
        if found is not None:
            return found
        if row is not None:
            return row.whole()
        raise Unclear(f"{'.'.join(parts)} is no column of what stands in FROM")


def _expressions(value: Any) -> list[exp.Expr]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, exp.Expr)]


def _listed(star: exp.Star, *names: str) -> list[exp.Expr]:
    return [one for name in names for one in star.args.get(name) or ()]


def _names(node: exp.Expr) -> list[str]:
    """The names of columns that follow an alias: ``t(a, b)``."""
    alias = node.args.get("alias")
    return [one.name for one in alias.args.get("columns") or ()] if isinstance(alias, exp.TableAlias) else []


def _name(value: exp.Expr) -> str:
    """What a value without an alias is called."""
    if isinstance(value, exp.Column):
        return value.name
    if isinstance(value, exp.Dot):
        return str(value.expression.name)
    if isinstance(value, exp.Count) and isinstance(value.this, exp.Star):
        return "count_star()"
    return str(value.sql(dialect="duckdb"))


def _mentions(query: exp.Expr, name: str) -> bool:
    return any(one.name.lower() == name for one in query.find_all(exp.Table))


def _own(node: exp.Expr, value: exp.Expr) -> bool:
    """Whether a node belongs to a value itself, not to a query inside it."""
    at: exp.Expr | None = node
    while at is not None and at is not value:
        if isinstance(at, exp.Select):
            return False
        at = at.parent
    return True


def _aggregates(written: exp.Expr) -> bool:
    """Whether a result is an aggregate, so that GROUP BY ALL does not group by it."""
    return any(_own(one, written) and not isinstance(one.parent, exp.Window) for one in written.find_all(exp.AggFunc))
