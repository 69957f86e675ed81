"""One step, many parts: over a list, over a one-column table, over the values of a column."""

# ruff: noqa: E501 - source text

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
from flow_bench import Bench, outcome

from sampan.flow.fan import split
from sampan.flow.job import SPLIT, Input, Job, Slice
from sampan.flow.values import store_table
from sampan.lake.arrow import open_ipc
from sampan.lake.query import ARROW, TableSource

SQUARES = {
    "steps": """
        import os
        from sampan import step

        @step
        def numbers() -> list[int]:
            return [1, 2, 3, 4]

        @step(each="numbers")
        def square(numbers: int, offset: int = 0) -> int:
            print("part", numbers)
            return numbers * numbers + offset

        @step
        def total(square: list[int]) -> int:
            return sum(square)
        """
}


def test_a_list_fans_out_and_joins_in_order(bench: Bench) -> None:
    bench.write(**SQUARES)
    result = bench.run()
    assert bench.value("square") == [1, 4, 9, 16]
    assert bench.value("total") == 30
    assert (outcome(result, "square").parts, outcome(result, "square").parts_ran) == (4, 4)
    assert bench.log(result, "square", "3") == "part 3\n"
    parts = [step.part for step in bench.engine.runs.steps(result.run, parts=True) if step.part]
    assert sorted(parts) == ["1", "2", "3", "4"]


def test_a_new_element_costs_one_part(bench: Bench) -> None:
    bench.write(**SQUARES)
    bench.ran()
    bench.edit("steps.py", "[1, 2, 3, 4]", "[5, 1, 2, 3, 4]")
    result = bench.run()
    assert outcome(result, "square").parts_ran == 1
    assert bench.value("square") == [25, 1, 4, 9, 16]


def test_a_failed_part_fails_the_step_and_the_others_are_kept(bench: Bench) -> None:
    bench.write(**SQUARES)
    bench.edit("steps.py", 'print("part", numbers)', "assert numbers != 3, 'not three'")
    result = bench.run()
    assert "part '3': AssertionError: not three (steps.py:10)" in outcome(result, "square").error
    assert outcome(result, "total").state == "blocked"
    again = bench.run()
    assert outcome(again, "square").parts_ran == 0, "the three that passed are not run again"


def test_a_part_that_crashes_takes_none_with_it(bench: Bench) -> None:
    bench.write(**SQUARES)
    bench.edit("steps.py", 'print("part", numbers)', "if numbers == 2: os._exit(3)")
    result = bench.run()
    assert "part '2': its process ended by itself with exit code 3" in outcome(result, "square").error
    assert outcome(result, "square").parts_ran == 3


def test_parts_of_a_step_that_changes_globals_do_not_see_each_other(bench: Bench) -> None:
    bench.write(
        steps="""
        from sampan import step
        SEEN = []

        @step
        def numbers() -> list[int]:
            return [1, 2, 3, 4, 5]

        @step(each="numbers")
        def count(numbers: int) -> int:
            SEEN.append(numbers)
            return len(SEEN)
        """
    )
    bench.ran()
    assert bench.value("count") == [1, 1, 1, 1, 1]


def test_a_column_fans_out_and_frames_are_joined(bench: Bench) -> None:
    bench.write(
        tables__orders="SELECT * FROM (VALUES ('FR', 1), ('UK', 2), ('FR', 3), (NULL, 9)) t(country, price)",
        tables__rates="SELECT 2 AS rate",
        steps="""
        import pyarrow as pa
        from sampan import step

        @step(each="country")
        def summary(orders: pa.Table, rates: pa.Table, country: str) -> pa.Table:
            total = sum(orders["price"].to_pylist()) * rates["rate"][0].as_py()
            return pa.table({"country": [country], "total": [total]})
        """,
    )
    result = bench.run()
    assert result.state == "succeeded", [step.error for step in result.steps]
    assert bench.rows("summary") == [{"country": "FR", "total": 8}, {"country": "UK", "total": 4}]
    bench.edit("tables/orders.sql", "('UK', 2)", "('UK', 5)")
    assert outcome(bench.run(), "summary").parts_ran == 1, "only the country whose rows changed"
    assert bench.rows("summary") == [{"country": "FR", "total": 8}, {"country": "UK", "total": 10}]
    bench.edit("tables/rates.sql", "2 AS", "3 AS")
    assert outcome(bench.run(), "summary").parts_ran == 2


def test_a_table_of_one_column_fans_out(bench: Bench) -> None:
    bench.write(
        tables__cities="SELECT * FROM (VALUES ('York'), ('Leeds')) t(city)",
        steps="""
        from sampan import step

        @step(each="cities")
        def greeting(cities: str) -> str:
            return f"Hello {cities}"
        """,
    )
    assert bench.run().state == "succeeded"
    assert bench.value("greeting") == ["Hello Leeds", "Hello York"]


def test_retries_count_per_part(bench: Bench) -> None:
    bench.write(**SQUARES)
    bench.edit("steps.py", '@step(each="numbers")', '@step(each="numbers", retries=1)')
    bench.edit("steps.py", 'print("part", numbers)', "once(f'.sampan/{numbers}')")
    bench.edit(
        "steps.py",
        "import os",
        "import os\n\ndef once(mark):\n    if not os.path.exists(mark):\n        open(mark, 'w').close()\n        raise OSError('once')",
    )
    result = bench.run()
    assert result.state == "succeeded", outcome(result, "square").error


def test_no_elements_are_no_parts(bench: Bench) -> None:
    bench.write(**SQUARES)
    bench.edit("steps.py", "return [1, 2, 3, 4]", "return []")
    bench.ran()
    assert bench.value("total") == 0


def test_threads_that_split_the_same_table_at_once_all_get_it_whole(tmp_path: Path) -> None:
    visits = pa.table({"shop": [number % 7 for number in range(700_000)], "spend": range(700_000)})
    table = store_table(visits, "visits", tmp_path).table
    assert table is not None
    files = tuple(str(tmp_path / "lake" / one.sha256[:2] / one.sha256[2:]) for one in table.files)
    given = Input("visits", table=TableSource("visits", files, ARROW, table.fields))
    job = Job(SPLIT, "per_shop", "", "", str(tmp_path), str(tmp_path), "", inputs=[given], options={"each": "shop"})
    together = threading.Barrier(4)

    def ask(_: int) -> dict[str, Slice]:
        together.wait()
        return {label: slices["visits"] for label, _, slices in split(job)}

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(ask, range(4))
    assert others == [first] * 3 and len(first) == 7
    (path,) = {Path(one.file) for one in first.values()}
    assert sum(open_ipc(path)["spend"].to_pylist()) == sum(range(700_000))
    assert list(path.parent.iterdir()) == [path]
