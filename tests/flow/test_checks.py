"""Checks hold back: what would be built on their inputs, and publication."""

import pytest
from flow_bench import Bench, outcome

from sampan.base.errors import BadStep
from sampan.flow.outcome import Progress

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


WARNS = """
    import pyarrow as pa
    from sampan import check

    @check(severity="warn")
    def no_negative_price(orders: pa.Table):
        return orders.filter(pa.compute.less(orders["price"], 0))
"""


def test_a_check_that_only_warns_is_told_each_time_and_holds_nothing_back(bench: Bench) -> None:
    bench.write(**BASE, steps=WARNS.replace("import pyarrow as pa", "import pyarrow as pa\n    import pyarrow.compute"))
    told: list[Progress] = []
    first = bench.engine.run(on_event=told.append)
    found = outcome(first, "no_negative_price")
    assert (found.state, found.error) == ("warned", "1 offending row\n  id=2, price=-3")
    assert (first.state, first.exit_code) == ("succeeded", 0)
    assert bench.rows("totals") == [{"total": 2}]
    assert [one.message for one in told if one.state == "warned"] == [found.error]
    rows = {one.name: (one.state, one.error) for one in bench.engine.runs.steps(first.run)}
    assert rows["no_negative_price"] == ("warned", found.error)
    second = outcome(bench.run(), "no_negative_price")
    assert (second.state, second.why, second.error) == ("warned", "nothing changed", found.error), (
        "without running again"
    )
    bench.edit("steps.py", 'severity="warn"', 'severity="error"')
    third = bench.run()
    assert (outcome(third, "no_negative_price").state, third.exit_code) == ("failed", 1), "its verdict counts again"
    bench.edit("steps.py", 'severity="error"', 'severity="warn"')
    bench.edit("tables/orders.sql", "-3", "3")
    assert outcome(bench.run(), "no_negative_price").state == "ran"


def test_a_severity_that_there_is_not_is_refused(bench: Bench) -> None:
    bench.write(**BASE, steps=WARNS.replace('"warn"', '"loud"'))
    with pytest.raises(BadStep, match=r"(?s)severity is 'loud'.*'error' or 'warn'"):
        bench.run()
