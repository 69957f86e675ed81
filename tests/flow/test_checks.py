"""Checks hold back: what would be built on their inputs, and publication."""

from flow_bench import Bench, outcome

BASE = {
    "tables__orders": "SELECT * FROM (VALUES (1, 5), (2, -3)) t(id, price)",
    "tables__totals": "SELECT sum(price) AS total FROM orders",
    "tables__apart": "SELECT 1 AS x",
}


def test_rows_of_a_query_fail_its_check_and_are_shown(bench: Bench) -> None:
    bench.write(**BASE, checks__no_negative_price="SELECT * FROM orders WHERE price < 0")
    result = bench.run()
    check = outcome(result, "no_negative_price")
    assert (check.state, check.error) == ("failed", "1 offending row\n  id=2, price=-3")
    assert outcome(result, "totals").why == "blocked by no_negative_price"
    assert outcome(result, "apart").state == "ran"
    assert (result.state, result.exit_code, result.commit) == ("failed", 1, None)
    assert bench.lake.tables() == {}


def test_a_mended_table_passes_and_is_published(bench: Bench) -> None:
    bench.write(**BASE, checks__no_negative_price="SELECT * FROM orders WHERE price < 0")
    bench.run()
    bench.edit("tables/orders.sql", "-3", "3")
    assert bench.ran() == ["no_negative_price", "orders", "totals"]
    assert bench.rows("totals") == [{"total": 8}]
    assert bench.ran() == [], "a passed check is a result like any other"


ANSWERS = {
    "return None": ("ran", ""),
    "return True": ("ran", ""),
    "return orders.num_rows == 2": ("ran", ""),
    "return orders.slice(0, 0)": ("ran", ""),
    "return False": ("failed", "it returned False"),
    "return 'too cheap'": ("failed", "too cheap"),
    "return orders": ("failed", "2 offending rows\n  id=1, price=5"),
    "return ['one', 'two']": ("failed", "2 findings\n  'one'"),
    "assert orders.num_rows > 5, 'too few'": ("failed", "too few"),
    "return 3.5": ("failed", "it returned a float"),
}


def test_a_python_check_answers_in_several_ways(bench: Bench) -> None:
    bench.write(tables__orders=BASE["tables__orders"])
    checks = [f"@check\ndef check_{n}(orders: pa.Table):\n    {body}\n" for n, body in enumerate(ANSWERS)]
    bench.file("steps.py", "import pyarrow as pa\nfrom sampan import check\n" + "".join(checks))
    result = bench.run()
    for number, (body, (state, said)) in enumerate(ANSWERS.items()):
        found = outcome(result, f"check_{number}")
        assert found.state == state, body
        assert found.error.removeprefix("!").startswith(said), body


def test_a_check_does_not_hold_back_what_it_needs_itself(bench: Bench) -> None:
    bench.write(**BASE, checks__adds_up="SELECT * FROM totals, orders WHERE total > 100")
    assert "adds_up" in bench.ran()


def test_checks_that_would_wait_for_each_other_do_not(bench: Bench) -> None:
    bench.write(
        tables__a="SELECT 1 AS x",
        tables__b="SELECT 1 AS x",
        tables__from_a="SELECT x FROM a",
        tables__from_b="SELECT x FROM b",
        checks__one="SELECT * FROM a, from_b WHERE a.x <> from_b.x",
        checks__two="SELECT * FROM b, from_a WHERE b.x <> from_a.x",
    )
    assert len(bench.ran()) == 6
