"""Tables and values arrive as annotations ask, in an order that does not depend on how they were stored."""

# ruff: noqa: E501 - source text

from flow_bench import Bench

MADE = """
import pandas as pd
from sampan import step

@step
def made() -> pd.DataFrame:
    return pd.DataFrame({"id": [3, 1, 2], "name": ["c", "a", None]})
"""


def test_each_annotation_gets_its_kind_of_table(bench: Bench) -> None:
    bench.file("made.py", MADE)
    bench.write(
        tables__numbers="SELECT id, name FROM made",
        steps="""
        import duckdb, msgspec, pandas as pd, polars as pl, pyarrow as pa
        from sampan import step

        class Row(msgspec.Struct):
            id: int
            name: str | None

        @step
        def kinds(made: pd.DataFrame) -> list:
            return [type(made).__module__.split(".")[0], made["id"].tolist()]

        @step
        def arrow(numbers: pa.Table) -> list:
            return numbers["id"].to_pylist()

        @step
        def polar(numbers: pl.DataFrame) -> list:
            return numbers["id"].to_list()

        @step
        def lazy(numbers: pl.LazyFrame) -> list:
            return numbers.collect()["id"].to_list()

        @step
        def rows(numbers: list[Row]) -> list:
            return [row.name for row in numbers]

        @step
        def relation(numbers: duckdb.DuckDBPyRelation) -> list:
            return numbers.aggregate("sum(id)").fetchone()[0]

        @step
        def plain(numbers) -> str:
            return type(numbers).__name__

        @step(order_by="name")
        def ordered(made: pa.Table) -> list:
            return made["name"].to_pylist()

        @step
        def back(numbers: pl.DataFrame) -> pl.DataFrame:
            return numbers.head(1)
        """,
    )
    bench.ran()
    assert bench.value("kinds") == ["pandas", [3, 1, 2]], "a frame keeps its own order"
    assert bench.value("arrow") == [1, 2, 3], "a query's table comes sorted"
    assert bench.value("polar") == [1, 2, 3]
    assert bench.value("lazy") == [1, 2, 3]
    assert bench.value("rows") == ["a", None, "c"]
    assert bench.value("relation") == 6
    assert bench.value("plain") == "Table"
    assert bench.value("ordered") == ["a", "c", None]
    assert bench.rows("back") == [{"id": 1, "name": "a"}]


def test_the_order_of_a_frame_is_part_of_what_depends_on_it(bench: Bench) -> None:
    bench.file("made.py", MADE)
    bench.write(
        tables__total="SELECT sum(id) AS total FROM made",
        steps="from sampan import step\n@step\ndef first(made) -> int:\n    return made['id'][0].as_py()\n",
    )
    bench.ran()
    before = bench.lake.table("made").id
    bench.edit("made.py", '[3, 1, 2], "name": ["c", "a", None]', '[1, 2, 3], "name": ["a", None, "c"]')
    assert bench.ran() == ["first", "made", "total"]
    assert bench.value("first") == 1
    assert bench.lake.table("made").id == before, "as a table it is the same"


def test_values_keep_their_types_on_the_way(bench: Bench) -> None:
    bench.write(
        steps="""
        import datetime as dt, decimal
        from dataclasses import dataclass
        import numpy as np
        from sampan import step

        @dataclass
        class Shop:
            name: str
            opened: dt.date

        @step
        def shop() -> Shop:
            return Shop("corner", dt.date(2011, 1, 4))

        @step
        def array() -> np.ndarray:
            return np.arange(6.0).reshape(2, 3)

        @step
        def price() -> decimal.Decimal:
            return decimal.Decimal("1.10")

        @step
        def raw() -> bytes:
            return bytes(range(256)) * 400

        @step
        def all(shop: Shop, array: np.ndarray, price: decimal.Decimal, raw: bytes, shop_again: int = 1) -> list:
            assert isinstance(shop, Shop) and shop.opened.year == 2011
            assert array.shape == (2, 3) and price + price == decimal.Decimal("2.20")
            return [shop.name, float(array.sum()), str(price), len(raw)]
        """
    )
    bench.ran()
    assert bench.value("all") == ["corner", 15.0, "1.10", 102400]


def test_a_value_of_another_type_than_the_annotation_is_one_message(bench: Bench) -> None:
    bench.write(
        steps="""
        from sampan import step

        @step
        def text() -> str:
            return "x"

        @step
        def number(text: int) -> int:
            return text
        """
    )
    result = bench.run()
    assert "it is no int" in result.steps[0].error + result.steps[1].error


def test_a_list_of_mappings_is_a_table_to_a_query(bench: Bench) -> None:
    bench.write(
        steps="from sampan import step\n@step\ndef cities() -> list:\n    return [{'name': 'Leeds', 'n': 2}, {'name': 'York', 'n': 1}]\n",
        tables__big="SELECT name FROM cities WHERE n > 1",
    )
    bench.ran()
    assert bench.rows("big") == [{"name": "Leeds"}]


def test_an_order_by_that_names_no_column_is_refused(bench: Bench) -> None:
    bench.file("made.py", MADE)
    bench.write(
        steps="from sampan import step\n@step(order_by='nmae')\ndef first(made) -> int:\n    return made.num_rows\n"
    )
    (first,) = [step for step in bench.run().steps if step.name == "first"]
    assert "no table that it needs has a column 'nmae'" in first.error


def test_a_pandas_frame_may_be_changed_by_the_step_that_gets_it(bench: Bench) -> None:
    bench.file("made.py", MADE)
    bench.write(
        steps="""
        import pandas as pd
        from sampan import step

        @step
        def zeroed(made: pd.DataFrame) -> int:
            made.loc[made["id"] > 1, "id"] = 0
            return int(made["id"].sum())

        @step
        def whole(made: pd.DataFrame, zeroed: int) -> int:
            return int(made["id"].sum())
        """
    )
    bench.ran()
    assert (bench.value("zeroed"), bench.value("whole")) == (1, 6)
