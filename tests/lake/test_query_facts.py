"""What the text of a query tells: its dependencies, and why it is refused."""

import pytest

from sampan.base.errors import BadQuery
from sampan.lake.sql import analyse

DEPENDS = {
    "FROM orders": ["orders"],
    "FROM orders SELECT customer, sum(amount) GROUP BY ALL": ["orders"],
    "TABLE orders": ["orders"],
    "SELECT 1": [],
    "VALUES (1), (2)": [],
    "SELECT * FROM a ASOF JOIN b ON a.k = b.k AND a.t >= b.t": ["a", "b"],
    "SELECT * FROM a LEFT JOIN b USING (k) SEMI JOIN c USING (k)": ["a", "b", "c"],
    "SELECT x FROM t QUALIFY row_number() OVER (PARTITION BY x ORDER BY y) = 1": ["t"],
    "PIVOT cities ON year USING sum(population)": ["cities"],
    "FROM (PIVOT cities ON year USING sum(population))": ["cities"],
    "SELECT * FROM cities PIVOT (sum(population) FOR year IN (2000, 2010))": ["cities"],
    "UNPIVOT months ON jan, feb INTO NAME month VALUE sales": ["months"],
    "SUMMARIZE orders": ["orders"],
    "SELECT * FROM t UNION BY NAME SELECT * FROM u": ["t", "u"],
    "SELECT * FROM t EXCEPT SELECT * FROM u INTERSECT SELECT * FROM v": ["t", "u", "v"],
    "SELECT list_transform(l, lambda x: x + 1), [y * 2 for y in l if y > 1] FROM t": ["t"],
    "SELECT t.* EXCLUDE (a) REPLACE (b + 1 AS b), COLUMNS('c.*') FROM t": ["t"],
    "SELECT * FROM t WHERE EXISTS (FROM u WHERE u.k = t.k)": ["t", "u"],
    "SELECT (SELECT max(x) FROM u WHERE u.k = t.k) FROM t": ["t", "u"],
    "SELECT * FROM t, LATERAL (SELECT * FROM u WHERE u.k = t.k)": ["t", "u"],
    "SELECT * FROM t WHERE k IN (FROM u SELECT k)": ["t", "u"],
    "SELECT x FROM t, unnest(t.items) AS i(x)": ["t"],
    "SELECT * FROM range(3), generate_series(1, 2) s(y)": [],
    "SELECT * FROM (VALUES (1)) v(a)": [],
    # names from WITH are no dependencies, wherever they are in force
    "WITH w AS (FROM t) FROM w": ["t"],
    "WITH orders AS (SELECT * FROM orders WHERE x) SELECT * FROM orders": ["orders"],
    "WITH a AS (FROM b), b AS (SELECT 1) SELECT * FROM a, b": ["b"],
    "WITH a AS (WITH c AS (FROM d) FROM c) SELECT * FROM a, c": ["c", "d"],
    "WITH a AS (FROM t), b AS (FROM a) SELECT * FROM b WHERE x IN (FROM a SELECT x)": ["t"],
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) FROM r": [],
    "WITH w AS MATERIALIZED (FROM t) SELECT * FROM w PIVOT (sum(x) FOR y IN (1))": ["t"],
    'WITH W AS (FROM t) FROM w, "Orders", ORDERS': ["Orders", "t"],
    # text and comments are no names
    "SELECT 'FROM nothing' FROM t -- FROM nothing\n/* FROM nothing */": ["t"],
    "SELECT $$ FROM nothing $$ FROM t;": ["t"],
}


@pytest.mark.parametrize("text", DEPENDS, ids=lambda text: text[:60])
def test_the_names_in_from_are_the_dependencies(text):
    facts = analyse(text)
    assert sorted(facts.depends) == DEPENDS[text]
    if "SUMMARIZE" not in text:
        assert facts.refusals == ()


REFUSED = {
    "SELECT now() FROM t": "now() depends on when it runs",
    "SELECT current_date, x FROM t": "current_date() depends on when it runs",
    "SELECT x FROM t WHERE at > current_timestamp - INTERVAL 1 DAY": "now() depends on when it runs",
    "SELECT today() FROM t": "depends on when it runs",
    "SELECT age(at) FROM t": "age() of one time depends on when it runs",
    "SELECT random() FROM t": "random() is drawn anew each time",
    "SELECT uuid() FROM t": "is drawn anew each time",
    "SELECT gen_random_uuid() FROM t": "is drawn anew each time",
    "SELECT * FROM t WHERE x < random()": "random() is drawn anew each time",
    "SELECT nextval('s')": "nextval() is drawn anew each time",
    "SELECT current_setting('threads')": "depends on the session that runs it",
    "SELECT getvariable('x')": "depends on the session that runs it",
    "SELECT first(x) FROM t": "first() depends on the order of the rows",
    "SELECT last(x) FROM t": "last() depends on the order of the rows",
    "SELECT any_value(x) FROM t GROUP BY y": "any_value() depends on the order of the rows",
    "SELECT list(x) FROM t": "list() depends on the order of the rows",
    "SELECT list(DISTINCT x) FROM t": "list() depends on the order of the rows",
    "SELECT array_agg(x) FROM t": "array_agg() depends on the order of the rows",
    "SELECT string_agg(x, ',') FROM t": "string_agg() depends on the order of the rows",
    "SELECT mode(x) FROM t": "mode() depends on the order of the rows",
    "SELECT arg_max(x, y) FROM t": "arg_max() depends on the order of the rows",
    "SELECT min_by(x, y) FROM t": "depends on the order of the rows",
    "SELECT json_group_array(x) FROM t": "depends on the order of the rows",
    "SELECT approx_quantile(x, 0.5) FROM t": "approx_quantile() depends on the order of the rows",
    "SELECT first(x) FILTER (WHERE y) FROM t": "first() depends on the order of the rows",
    "SELECT x FROM t GROUP BY ALL HAVING any_value(y) > 1": "any_value() depends on the order of the rows",
    "SELECT row_number() OVER () FROM t": "row_number() has no order to go by",
    "SELECT lag(x) OVER (PARTITION BY y) FROM t": "lag() has no order to go by",
    "SELECT first_value(x) OVER w FROM t WINDOW w AS (PARTITION BY y)": "first_value() has no order to go by",
    "SELECT ARRAY(SELECT x FROM t)": "ARRAY(SELECT …) depends on the order of the rows",
    "SELECT x FROM t LIMIT 3": "LIMIT without ORDER BY picks any rows",
    "SELECT x FROM t OFFSET 3": "LIMIT without ORDER BY picks any rows",
    "SELECT * FROM (FROM t LIMIT 3)": "LIMIT without ORDER BY picks any rows",
    "SELECT DISTINCT ON (x) y FROM t": "DISTINCT ON without ORDER BY picks any row",
    "FROM a POSITIONAL JOIN b": "a positional join depends on the order of the rows",
    "SELECT * FROM t TABLESAMPLE 10%": "a sample is drawn anew each time",
    "SELECT * FROM t USING SAMPLE 10 ROWS": "a sample is drawn anew each time",
    "SUMMARIZE t": "SUMMARIZE shows approximations",
    "FROM 'orders.parquet'": "'orders.parquet' is a file, not a table",
    "SELECT * FROM 's3://bucket/orders/*.parquet'": "is a file, not a table",
    "SELECT * FROM read_csv('a.csv')": "it reads something that is no table of this workspace",
    "SELECT * FROM read_parquet(['a', 'b'])": "it reads something that is no table of this workspace",
    "SELECT * FROM glob('*')": "it reads something that is no table of this workspace",
    "SELECT * FROM duckdb_settings()": "it reads something that is no table of this workspace",
    "SELECT * FROM query_table('orders')": "query_table() hides which tables are read",
    "SELECT * FROM query('FROM orders')": "query() hides which tables are read",
    "SELECT * FROM other.orders": "a name in FROM has no schema",
    "FROM information_schema.tables": "a name in FROM has no schema",
    "FROM t AT (VERSION => 3)": "a table has no versions inside a query",
    "SELECT 1; SELECT 2": "a second statement follows the first",
    "ATTACH 'x.db' AS x": "ATTACH is not a query",
    "COPY t TO 'x.csv'": "COPY is not a query",
    "CREATE TABLE x AS FROM t": "CREATE is not a query",
    "INSERT INTO t VALUES (1)": "INSERT is not a query",
    "DELETE FROM t": "DELETE is not a query",
    "SET threads = 1": "SET is not a query",
    "PRAGMA version": "PRAGMA is not a query",
    "INSTALL httpfs": "INSTALL is not a query",
    "CALL pragma_version()": "is not a query",
    "-- only a comment": "there is no query in it",
    "": "there is no query in it",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:60] or "nothing")
def test_what_cannot_repeat_itself_or_reaches_outside_is_refused(text):
    reasons = [refusal.reason for refusal in analyse(text).refusals]
    assert any(REFUSED[text] in reason for reason in reasons), reasons


ALLOWED = [
    "SELECT first(x ORDER BY t), list(x ORDER BY t DESC), string_agg(x, ',' ORDER BY x) FROM t",
    "SELECT arg_max(x, y ORDER BY x), mode(x ORDER BY x), list(DISTINCT x ORDER BY x) FROM t",
    "SELECT mode() WITHIN GROUP (ORDER BY x), quantile_cont(x, 0.5) FROM t",
    "SELECT row_number() OVER (ORDER BY x), rank() OVER (PARTITION BY y) FROM t",
    "SELECT first_value(x) OVER w FROM t WINDOW w AS (PARTITION BY y ORDER BY z)",
    "SELECT sum(x) OVER (PARTITION BY y), count(*) OVER () FROM t",
    "SELECT x FROM t ORDER BY x LIMIT 3 OFFSET 2",
    "SELECT DISTINCT ON (x) x, y FROM t ORDER BY x, y",
    "SELECT ARRAY(SELECT x FROM t ORDER BY x)",
    "SELECT age(a, b), date_trunc('day', a) FROM t",
    'SELECT now, random, "uuid" FROM t',
    "SELECT max(x, 3), histogram(x), median(x), approx_count_distinct(x) FROM t",
    "SELECT x FROM t LIMIT 0",
]


@pytest.mark.parametrize("text", ALLOWED, ids=lambda text: text[:60])
def test_what_repeats_itself_is_allowed(text):
    assert analyse(text).refusals == ()


def test_a_refusal_names_file_line_text_and_what_to_write_instead():
    text = "SELECT customer,\n  -- the first is as good as any\n  first(country),\n  now() AS at\nFROM orders"
    with pytest.raises(BadQuery) as caught:
        analyse(text).check("tables/customers.sql")
    message = str(caught.value)
    assert "tables/customers.sql:3: first() depends on the order of the rows in `first(country)`" in message
    assert "tables/customers.sql:4: now() depends on when it runs in `now()`" in message
    assert "Write `first(country ORDER BY country)` or use `min` or `max`." in message
    assert caught.value.exit_code == 2


def test_a_syntax_error_shows_its_line_with_a_caret():
    with pytest.raises(BadQuery) as caught:
        analyse("SELECT a,\n  b\nFRM orders WHERE\n").check("tables/x.sql")
    message = str(caught.value)
    assert "tables/x.sql:3: syntax error" in message
    assert "FRM orders WHERE" in message
    assert "^" in message.split("FRM orders WHERE")[1]


@pytest.mark.parametrize("text", ["SELECT 'abc\nFROM t", "SELECT 1 /* and so on", 'SELECT "a FROM t'])
def test_what_is_never_closed_is_refused_without_a_traceback(text):
    with pytest.raises(BadQuery, match="syntax error"):
        analyse(text).check("tables/x.sql")


def test_the_line_of_a_second_statement_is_told():
    (refusal,) = analyse("SELECT 1;\n\n\nSELECT 2").refusals
    assert refusal.line == 4


def test_doubts_about_ties_are_flagged_not_refused():
    facts = analyse("SELECT x,\n row_number() OVER (ORDER BY y) FROM t")
    assert facts.refusals == ()
    assert facts.flags == ("line 2: row_number() repeats only if its ORDER BY leaves no ties",)


def test_a_person_may_ask_what_a_table_may_not():
    for text in ("SELECT now()", "FROM t LIMIT 3", "DESCRIBE t", "SUMMARIZE t", "FROM t USING SAMPLE 3"):
        assert analyse(text, asked=True).refusals == ()
    for text in ("COPY t TO 'x'", "FROM read_csv('/etc/passwd')", "FROM '/etc/passwd'", "SELECT 1; SELECT 2", "SELEC"):
        assert analyse(text, asked=True).refusals != ()
    assert analyse("DESCRIBE t", asked=True).depends == ("t",)


def test_a_long_query_is_read_in_well_under_a_second():
    wide = ", ".join(f"sum(CASE WHEN x = {number} THEN y END) AS c{number}" for number in range(300))
    assert analyse(f"SELECT k, {wide} FROM t GROUP BY ALL").depends == ("t",)


def test_a_name_that_is_a_word_of_sql_is_said_to_stand_in_quotes() -> None:
    (refusal,) = analyse("SELECT betrag, alter FROM kunden").refusals
    assert refusal.line == 1 and '"alter"' in refusal.advice
    assert analyse('SELECT betrag, "alter" FROM kunden').refusals == ()
    (refusal,) = analyse("SELECT (1 FROM kunden").refusals
    assert refusal.advice.startswith("Mend that line.")
