"""Which columns of its sources each column of a query comes from, and which decide about its rows."""

import random
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.lake.columns import column_facts
from sampan.lake.facts import ColumnFacts

T = ["a", "b", "c", "s", "l"]
SOURCES = {"t": T, "u": ["a", "d", "e"], "Orders": ["orderId", "Amount"], "frame": None}

#: query: its columns as ``name: what it is made of | what decides about rows``
SHAPES = {
    "SELECT a, b + c AS x FROM t": "a: t.a | ; x: t.b t.c | ",
    "FROM t SELECT b": "b: t.b | ",
    "FROM u": "a: u.a | ; d: u.d | ; e: u.e | ",
    "SELECT * EXCLUDE (s, l) REPLACE (a + b AS a) RENAME (c AS z) FROM t": "a: t.a t.b | ; b: t.b | ; z: t.c | ",
    "SELECT u.* FROM t JOIN u USING (a)": "a: u.a | t.a u.a; d: u.d | t.a u.a; e: u.e | t.a u.a",
    "SELECT a FROM t RIGHT JOIN u USING (a)": "a: u.a | t.a u.a",
    "SELECT a FROM t FULL JOIN u USING (a)": "a: t.a u.a | t.a u.a",
    "SELECT b, d FROM t NATURAL JOIN u": "b: t.b | t.a u.a; d: u.d | t.a u.a",
    "SELECT b FROM t SEMI JOIN u ON t.a = u.d": "b: t.b | t.a u.d",
    "SELECT b FROM t WHERE c > 1": "b: t.b | t.c",
    "SELECT b AS x FROM t WHERE x > 1": "x: t.b | t.b",
    "SELECT a AS x, x + b AS y FROM t": "x: t.a | ; y: t.a t.b | ",
    "SELECT a, sum(b) AS n FROM t GROUP BY ALL": "a: t.a | t.a; n: t.b | t.a",
    "SELECT a, count(*) AS n FROM t GROUP BY 1 HAVING max(c) > 1": "a: t.a | t.a t.c; n:  | t.a t.c",
    "SELECT sum(b) FILTER (c > 1) AS n, first(a ORDER BY c) AS f FROM t": "n: t.b | t.c; f: t.a | t.c",
    "SELECT quantile_disc(0.5) WITHIN GROUP (ORDER BY b) AS q FROM t": "q: t.b | ",
    "SELECT sum(a) OVER (PARTITION BY b ORDER BY c) AS n, a FROM t": "n: t.a | t.b t.c; a: t.a | ",
    "SELECT rank() OVER w AS n FROM t WINDOW w AS (PARTITION BY b ORDER BY c)": "n:  | t.b t.c",
    "SELECT a FROM t QUALIFY row_number() OVER (PARTITION BY b ORDER BY c) = 1": "a: t.a | t.b t.c",
    "SELECT a FROM t ORDER BY b": "a: t.a | ",
    "SELECT a FROM t ORDER BY b LIMIT 3": "a: t.a | t.b",
    "SELECT DISTINCT a, b FROM t": "a: t.a | t.a t.b; b: t.b | t.a t.b",
    "SELECT DISTINCT ON (a) a, b FROM t ORDER BY c": "a: t.a | t.a t.c; b: t.b | t.a t.c",
    "SELECT a FROM t UNION ALL SELECT d FROM u": "a: t.a u.d | ",
    "SELECT a FROM t UNION SELECT d FROM u": "a: t.a u.d | t.a u.d",
    "SELECT a FROM t EXCEPT SELECT d FROM u": "a: t.a | t.a u.d",
    "SELECT a, b FROM t UNION ALL BY NAME SELECT d AS b FROM u": "a: t.a | ; b: t.b u.d | ",
    "WITH w(x) AS (SELECT a FROM t WHERE b > 1) SELECT x FROM w": "x: t.a | t.b",
    "WITH RECURSIVE r AS (SELECT a AS n, b FROM t UNION ALL SELECT n + 1, d FROM r JOIN u USING (a)"
    " WHERE n < 3) SELECT n FROM (SELECT n, b AS a FROM r)": None,
    "WITH RECURSIVE r AS (SELECT a AS n FROM t UNION ALL SELECT n + d FROM r, u WHERE n < 3) FROM r": (
        "n: t.a u.d | t.a u.d"
    ),
    "SELECT COLUMNS('a|b') FROM t": "a: t.a | ; b: t.b | ",
    "SELECT max(COLUMNS(* EXCLUDE (s, l))) FROM t": "a: t.a | ; b: t.b | ; c: t.c | ",
    "SELECT s.x, t.s.y AS y, s.x.z.w AS w FROM t": "x: t.s | ; y: t.s | ; w: t.s | ",
    "SELECT t AS row FROM u AS t": "row: u.a u.d u.e | ",
    "SELECT a, (SELECT max(d) FROM u WHERE u.a = t.a) AS m FROM t": "a: t.a | ; m: u.d | t.a u.a",
    "SELECT a FROM t WHERE EXISTS (SELECT d FROM u WHERE u.a = t.b)": "a: t.a | t.b u.a",
    "SELECT a FROM t WHERE b IN (FROM u SELECT d)": "a: t.a | t.b u.d",
    "SELECT a, i FROM t, unnest(l) AS x(i)": "a: t.a | t.l; i: t.l | t.l",
    "SELECT a, unnest(l) AS i FROM t": "a: t.a | t.l; i: t.l | t.l",
    "SELECT q.m FROM t, LATERAL (SELECT d AS m FROM u WHERE u.a = t.b) q": "m: u.d | t.b u.a",
    "SELECT a, n FROM t, range(t.b) r(n)": "a: t.a | t.b; n: t.b | t.b",
    "SELECT list_transform(l, lambda b: b + a) AS x, [c + a FOR c IN l IF c > b] AS y FROM t": (
        "x: t.a t.l | ; y: t.a t.b t.l | "
    ),
    "SELECT {'k': a} AS x, struct_pack(k := b) AS y FROM t": "x: t.a | ; y: t.b | ",
    "SELECT CASE WHEN a > 1 THEN b ELSE 0 END AS x FROM t": "x: t.a t.b | ",
    "SELECT t.a FROM t ASOF JOIN u ON t.b = u.d AND t.c >= u.e": "a: t.a | t.b t.c u.d u.e",
    "SELECT t.b, x.d FROM (t JOIN u ON t.a = u.a) JOIN u AS x ON x.e = t.c": "b: t.b | t.a t.c u.a u.e; d: u.d | "
    "t.a t.c u.a u.e",
    "SELECT y FROM (VALUES (1, 2)) v(x, y)": "y:  | ",
    "SELECT 1 AS one": "one:  | ",
    "SELECT ORDERID, amount AS paid FROM orders": "ORDERID: Orders.orderId | ; paid: Orders.Amount | ",
    "SELECT x, t.a FROM frame JOIN t ON frame.k = t.a": "x: frame.x | frame.k t.a; a: t.a | frame.k t.a",
    "SELECT f FROM frame AS f": "f: frame.* | ",
    "SELECT a, a FROM t": "a: t.a | ; a_1: t.a | ",
}


def told(facts: ColumnFacts) -> str:
    return "; ".join(
        f"{one.name}: {' '.join('.'.join(ref) for ref in one.of)} | {' '.join('.'.join(ref) for ref in one.by)}"
        for one in facts.columns
    )


@pytest.mark.parametrize("query", SHAPES, ids=lambda query: query[:60])
def test_each_column_is_made_of_what_the_text_says(query):
    facts = column_facts(query, SOURCES)
    if SHAPES[query] is None:
        assert facts.whole
    else:
        assert (facts.whole, told(facts)) == ("", SHAPES[query])


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELECT * FROM frame", "the columns of frame are not known"),
        ("PIVOT t ON a USING sum(b)", "PIVOT says nothing of its columns"),
        ("FROM t PIVOT (sum(b) FOR c IN (1, 2))", "PIVOT makes columns of the data"),
        ("SELECT nothing FROM t", "nothing is no column of what stands in FROM"),
        ("SELECT s.* FROM t", "s.* names no source, so it spreads a value"),
        ("SELECT COLUMNS(c -> c LIKE 'a%') FROM t", "COLUMNS chooses by a function"),
        ("SELECT COLUMNS('(') FROM t", "COLUMNS chooses by a pattern that does not read"),
        (r"SELECT COLUMNS('a') AS 'x_\0' FROM t", "COLUMNS makes names of names"),
        ("SELECT unnest(s, recursive := true) FROM t", "unnest spreads a value over several columns"),
        ("SUMMARIZE t", "SUMMARIZE says nothing of its columns"),
        ("SELECT a FROM t UNION SELECT a, d FROM u", "the two sides of a UNION have not as many columns"),
        ("SELECT a FROM (", "the query does not parse"),
        ("SELECT " + "(" * 3000 + "a" + ")" * 3000 + " FROM t", "the query is nested too deeply"),
    ],
)
def test_what_the_text_does_not_tell_is_whole(query, reason):
    assert column_facts(query, SOURCES) == ColumnFacts(whole=reason)


def test_a_name_that_only_the_engine_gives_is_marked():
    facts = column_facts("SELECT a, s.x, count(*), a + 1, unnest(s), b AS d FROM t", SOURCES)
    assert [one.named for one in facts.columns] == [True, True, False, False, False, True]


RETAIL = Path(__file__).parents[2] / "src" / "sampan" / "examples" / "retail" / "tables"
EVENT = ["order_id", "stock_code", "quantity", "unit_price", "country", "customer_id", "description", "_time"]
EVENTS = {"order_line": [*EVENT, "_known_at"], "order_cancelled": [*EVENT, "_known_at"]}
LINES = (
    "order_id cancelled customer_id country stock_code description kind quantity price value entered_at known_at"
    " recorded"
)
ORDERS = "order_id customer_id country ordered_at known_at lines pieces goods charges"


def facts_of(name: str, **sources: str) -> dict[str, tuple[str, str]]:
    known = {**EVENTS, **{name: listed.split() for name, listed in sources.items()}}
    facts = column_facts((RETAIL / f"{name}.sql").read_text(), known)
    assert facts.whole == ""
    return {
        one.name: (" ".join(".".join(ref) for ref in one.of), " ".join(".".join(ref) for ref in one.by))
        for one in facts.columns
    }


def test_the_lines_of_the_example_are_of_both_kinds_of_event():
    facts = facts_of("lines")
    keys = [name for name in EVENT if name != "_known_at"]
    by = " ".join(f"{event}.{name}" for event in ("order_cancelled", "order_line") for name in sorted(keys))
    assert facts["kind"] == ("order_cancelled.stock_code order_line.stock_code", by)
    assert facts["value"][0] == (
        "order_cancelled.quantity order_cancelled.unit_price order_line.quantity order_line.unit_price"
    )
    assert facts["known_at"][0] == "order_cancelled._known_at order_line._known_at"
    assert facts["cancelled"] == ("", by)
    assert facts["recorded"] == ("", by)
    assert list(facts) == LINES.split()


def test_the_orders_of_the_example_count_what_stands_in_their_lines():
    facts = facts_of("orders", lines=LINES)
    by = "lines.cancelled lines.customer_id lines.kind lines.order_id lines.value"
    assert facts == {
        "order_id": ("lines.order_id", by),
        "customer_id": ("lines.customer_id", by),
        "country": ("lines.country", by),
        "ordered_at": ("lines.entered_at", by),
        "known_at": ("lines.known_at", by),
        "lines": ("", by),
        "pieces": ("lines.quantity", by),
        "goods": ("lines.value", by),
        "charges": ("lines.value", by),
    }


def test_the_features_of_the_example_follow_windows_and_common_tables():
    facts = facts_of("features", lines=LINES, orders=ORDERS)
    by = "lines.cancelled lines.customer_id lines.entered_at orders.customer_id orders.order_id orders.ordered_at"
    assert {decided for _, decided in facts.values()} == {by}
    assert {name: of for name, (of, _) in facts.items() if of != f"orders.{name}"} == {
        "orders_before": "",
        "orders_90_days": "",
        "spent_before": "orders.goods",
        "mean_basket": "orders.goods",
        "days_since_last": "orders.ordered_at",
        "days_known": "orders.ordered_at",
        "mean_gap_days": "orders.ordered_at",
        "cancellations_before": "lines.order_id",
        "hour": "orders.ordered_at",
        "weekday": "orders.ordered_at",
        "export": "orders.country",
    }


def test_a_label_of_the_example_is_decided_by_whose_orders_they_are():
    facts = facts_of("labels", lines=LINES, orders=ORDERS)
    assert facts == {
        "order_id": ("orders.order_id", "lines.known_at orders.ordered_at"),
        "label_known_at": ("orders.ordered_at", "lines.known_at orders.ordered_at"),
        "returned": ("", "lines.known_at orders.customer_id orders.ordered_at"),
    }


# -- a fact is complete: what it does not name can change as it likes

NUMBERS = {"t": ("a", "b", "c"), "u": ("a", "d", "e")}
_of_t = st.sampled_from(["t.a", "t.b", "t.c"])
_of_both = st.sampled_from(["t.a", "t.b", "t.c", "u.a", "u.d", "u.e"])


@st.composite
def queries(draw: st.DrawFn) -> str:
    """A small query over t and u."""
    joined = draw(st.sampled_from(["", "JOIN u ON {} = {}", "LEFT JOIN u USING (a)", ", u", "FULL JOIN u ON {} = {}"]))
    column = _of_both if joined else _of_t
    joined = joined.format(draw(_of_t), draw(st.sampled_from(["u.a", "u.d", "u.e"])))

    def value(deep: int = 2) -> str:
        shape = draw(st.integers(0, 6 if deep else 0))
        if shape <= 1:
            return draw(column)
        if shape == 2:
            return f"({value(deep - 1)} + {value(deep - 1)})"
        if shape == 3:
            return f"CASE WHEN {value(deep - 1)} > 1 THEN {value(deep - 1)} ELSE {value(deep - 1)} END"
        if shape == 4:
            inner = draw(st.sampled_from(["max(x.d)", "count(*)", "sum(x.e)"]))
            return f"(SELECT {inner} FROM u AS x WHERE x.a = {draw(column)})"
        if shape == 5:
            return f"coalesce({value(deep - 1)}, 7)"
        return f"list_sum(list_transform([{value(deep - 1)}], lambda b: b + {draw(column)}))"

    def condition() -> str:
        return draw(
            st.sampled_from(
                [
                    f"{value()} > 1",
                    f"{draw(column)} IN (SELECT d FROM u AS y WHERE y.e > 0)",
                    f"EXISTS (FROM u AS z WHERE z.d = {draw(column)})",
                    f"NOT ({value()} = {value()})",
                ]
            )
        )

    where = f" WHERE {condition()}" if draw(st.booleans()) else ""
    kind = draw(st.sampled_from(["plain", "grouped", "all", "windows", "distinct"]))
    tail = ""
    if kind == "grouped":
        keys = draw(st.lists(column, min_size=1, max_size=2, unique=True))
        results = [*keys, f"sum({value()}) FILTER ({condition()})", "count(*)", f"max({value(1)})"]
        tail = f" GROUP BY {', '.join(keys)}" + (f" HAVING min({value()}) > 0" if draw(st.booleans()) else "")
    elif kind == "all":
        results, tail = [draw(column), f"min({value()})", "count(*)"], " GROUP BY ALL"
    elif kind == "windows":
        over = f"(PARTITION BY {draw(column)} ORDER BY {value(1)}, {draw(column)})"
        results = [draw(column), f"sum({value(1)}) OVER (PARTITION BY {draw(column)})", f"dense_rank() OVER {over}"]
        tail = f" QUALIFY rank() OVER {over} = 1" if draw(st.booleans()) else ""
    else:
        results = [value(), value(1)]
    named = ", ".join(f"{one} AS r{at}" for at, one in enumerate(results))
    query = f"SELECT {'DISTINCT ' if kind == 'distinct' else ''}{named} FROM t {joined}{where}{tail}"
    shape = draw(st.integers(0, 4))
    if shape == 1:
        query = f"WITH w AS ({query}) SELECT r1 AS x, r0 FROM w WHERE r0 > 0 OR r1 IS NULL"
    elif shape == 2:
        rest = ", ".join("d" for _ in results[1:])
        query = (
            f"{query} {draw(st.sampled_from(['UNION', 'UNION ALL', 'EXCEPT', 'INTERSECT']))} SELECT a, {rest} FROM u"
        )
    elif shape == 3:
        query = f"SELECT * REPLACE (r0 + 1 AS r0), COLUMNS('r1') AS again FROM ({query}) AS q"
    elif shape == 4:
        query = f"SELECT q.r1, t.b FROM t JOIN ({query}) AS q ON q.r0 = t.c ORDER BY ALL LIMIT 3"
    return query


def answer(db: duckdb.DuckDBPyConnection, query: str) -> tuple[list[str], list[list[str]]]:
    done = db.execute(query)
    names = [one[0] for one in done.description or ()]
    rows = done.fetchall()
    return names, [sorted(map(repr, (row[at] for row in rows))) for at in range(len(names))]


def fill(db: duckdb.DuckDBPyConnection, data: dict[str, list[list[int | None]]]) -> None:
    for table, columns in NUMBERS.items():
        db.execute(f"CREATE OR REPLACE TABLE {table} ({', '.join(f'{one} INTEGER' for one in columns)})")
        db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", data[table])


@given(query=queries(), seed=st.integers(0, 1 << 30))
def test_what_a_fact_does_not_name_never_changes_the_column(query, seed):
    dice = random.Random(seed)

    def some() -> int | None:
        return dice.choice([None, 0, 1, 1, 2, 3])

    data = {table: [[some() for _ in columns] for _ in range(6)] for table, columns in NUMBERS.items()}
    facts = column_facts(query, NUMBERS)
    assert facts.whole == ""
    with duckdb.connect(config={"threads": 1}) as db:
        fill(db, data)
        names, before = answer(db, query)
        assert names == [one.name for one in facts.columns]
        for table, columns in NUMBERS.items():
            for at, column in enumerate(columns):
                changed = [[*row[:at], some(), *row[at + 1 :]] for row in data[table]]
                fill(db, {**data, table: changed})
                _, after = answer(db, query)
                for number, fact in enumerate(facts.columns):
                    if (table, column) not in {*fact.of, *fact.by}:
                        assert after[number] == before[number], (fact.name, table, column)
