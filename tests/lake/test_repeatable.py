"""A query over equal rows gives an equal table: whatever the threads, the files and the order of rows in them."""

from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow as pa
import pytest

from sampan.lake import read
from sampan.lake.repeat import repeatable
from sampan.lake.write import write_query

ROWS = 150_000
# Floats whose sums depend on the order: thirteen powers of ten, plus and minus
MESSY = f"""
    SELECT i, i % 7 AS k, (hash(i) % 1000)::DOUBLE * pow(10, (hash(i + 1) % 13)::INTEGER - 6) AS x,
           ((hash(i + 2) % 2000)::INTEGER - 1000)::FLOAT AS f, i % 50 AS tie, 'c' || (hash(i + 3) % 90) AS s
    FROM range({ROWS}) r(i)"""
FLOATS = """
    SELECT k, sum(x) AS s, avg(x) AS a, stddev(x) AS d, corr(x, f) AS c, sum(f) FILTER (WHERE i > 9) AS f
    FROM t GROUP BY k"""


@pytest.fixture
def messy(workspace):
    """The same rows twice: in files of another order."""
    first = workspace.source(MESSY)
    other = workspace.folder / "other"
    draft = write_query(f"{MESSY} ORDER BY hash(i)", {}, other, threads=1)
    second = read.TableSource("t", tuple(str(other / f.sha256[:2] / f.sha256[2:]) for f in draft.files))
    assert draft.id == workspace.lake.snapshot(draft.id).id
    return first, second


def digests(workspace, sql, messy, times=2):
    def build(number):
        source = messy[number % 2]
        return write_query(sql, {"t": source}, workspace.folder / "lake", threads=2 + number % 3)

    with ThreadPoolExecutor(4) as pool:
        drafts = list(pool.map(build, range(2 * times)))
    return {draft.id for draft in drafts}, drafts[0].flags


def test_float_sums_of_one_query_run_four_times_at_once_give_one_digest(workspace, messy):
    found, flags = digests(workspace, FLOATS, messy)
    assert len(found) == 1
    assert flags == ()


def test_without_it_they_do_not(messy):
    """The engine left to itself: the reason for all this."""

    def ask(source, threads):
        connection = read.open_sources({"t": source}, threads=threads)
        try:
            return connection.execute("SELECT sum(x) FROM t").fetchone()[0]
        finally:
            connection.close()

    assert ask(messy[0], 1) != ask(messy[1], 1), "sums no longer depend on the order of rows: sort them no more"


def test_ties_in_ordered_aggregates_are_broken_alike(workspace, messy):
    sql = """
        SELECT k, first(s ORDER BY tie) AS a, list(s ORDER BY tie)[:50] AS b, mode(s ORDER BY s) AS m,
               string_agg(s, ',' ORDER BY tie)[:50] AS c, arg_max(s, tie ORDER BY s) AS d,
               last(s ORDER BY tie DESC) AS e
        FROM t GROUP BY k"""
    found, flags = digests(workspace, sql, messy)
    assert len(found) == 1
    assert flags == ()


def test_decimals_are_added_exactly_and_need_nothing(workspace, messy):
    sql = "SELECT k, sum(x::DECIMAL(30, 6)) AS s, avg(i) AS a FROM t GROUP BY k"
    found, flags = digests(workspace, sql, messy)
    assert len(found) == 1
    assert flags == ()


def test_what_cannot_be_mended_is_flagged_with_the_advice_to_use_decimal(workspace, messy):
    for sql in (
        "SELECT i, sum(x) OVER (PARTITION BY k) AS s FROM t",
        "PIVOT t ON k USING sum(x) GROUP BY tie",
        "SELECT weighted_avg(x, i) AS w FROM t",
    ):
        draft = write_query(sql, {"t": messy[0]}, workspace.folder / "lake")
        assert any("use" in flag or "DECIMAL" in flag for flag in draft.flags), sql
        assert all(flag.startswith("float: ") and "aggregate DECIMAL instead" in flag for flag in draft.flags)
    snapshot = workspace.lake.add(draft, "w")
    assert workspace.lake.snapshot(snapshot.id).flags == draft.flags


def test_a_pivot_over_decimals_is_not_flagged(workspace):
    source = workspace.source("SELECT i % 3 AS k, i::DECIMAL(9, 2) AS d FROM range(9) r(i)")
    assert write_query("PIVOT t ON k USING sum(d)", {"t": source}, workspace.folder / "lake").flags == ()


@pytest.fixture
def connection():
    made = duckdb.connect()
    made.register(
        "t",
        pa.table({"i": [1, 2, 3], "x": [0.1, 0.2, None], "f": pa.array([1, 2, 3], pa.float32()), "s": ["a", "b", "a"]}),
    )
    yield made
    made.close()


SAME_ANSWER = [
    "SELECT sum(x), avg(x), mean(x), stddev(x), var_pop(x), skewness(x), product(x) FROM t",
    "SELECT s, sum(x) FILTER (WHERE i > 1) + sum(i) AS q FROM t GROUP BY s HAVING sum(f) > 2 ORDER BY sum(x)",
    "SELECT avg( /* a ) */ x * 2 -- it is :)\n ) AS a FROM t",
    "SELECT sum(DISTINCT x), corr(x, f), regr_slope(x, f) FROM t",
    "SELECT sum(CASE WHEN s = ')' THEN 1.5 ELSE x END), sum(x) FILTER (s = 'a') FROM t",
    "WITH w AS (SELECT s, sum(x) AS y FROM t GROUP BY s) FROM w WHERE y > (SELECT avg(f) FROM t) - 9",
    "SELECT sum(COLUMNS('x|f')) FROM t",
    'SELECT "sum"(x), SUM (x) FROM t',
    "FROM t SELECT avg(x) GROUP BY CUBE (s, i)",
    "SELECT sum(x) FROM t GROUP BY s QUALIFY row_number() OVER (ORDER BY sum(x)) = 1",
    "SELECT * FROM (PIVOT t ON s IN ('a', 'b') USING sum(x) GROUP BY i)",
    "SELECT sum(x) FROM t WHERE false",
    "SELECT s, first(i ORDER BY x), list(i ORDER BY s DESC), arg_max(i, x ORDER BY i) FROM t GROUP BY s",
]


@pytest.mark.parametrize("sql", SAME_ANSWER, ids=lambda sql: sql[:50])
def test_the_edited_query_has_the_same_answer_and_no_float_is_added_as_it_comes(connection, sql):
    edited, flags = repeatable(connection, sql, [("x", "DOUBLE")])
    assert edited != sql
    assert flags == ()

    def answer(text):
        return sorted(connection.sql(text).fetchall(), key=repr)

    for got, wanted in zip(answer(edited), answer(sql), strict=True):
        for one, other in zip(got, wanted, strict=True):
            assert one == (pytest.approx(other, nan_ok=True) if isinstance(other, float) else other)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sum(i), count(x), max(x), median(x), quantile_cont(x, 0.5) FROM t",
        "SELECT avg(i), sum(i::DECIMAL(9, 2)) FROM t",
        "SELECT list_sum([x, f]), l.list_sum() FROM (SELECT *, [x] AS l FROM t)",
        "SELECT sum(x) OVER (ORDER BY i) FROM t",
        "SELECT 'sum(x)', sum FROM (SELECT x AS sum FROM t)",
    ],
)
def test_a_query_that_repeats_itself_is_left_alone(connection, sql):
    assert repeatable(connection, sql, [("x", "DOUBLE")]) == (sql, ())


def test_columns_without_a_name_keep_the_one_that_the_user_sees(workspace):
    source = workspace.source("SELECT 0.5::DOUBLE AS x FROM range(3)")
    draft = write_query("SELECT sum(x), avg(x) FROM t", {"t": source}, workspace.folder / "lake")
    assert [name for name, _ in draft.fields] == ["sum(x)", "avg(x)"]
