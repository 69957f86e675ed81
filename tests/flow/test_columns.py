"""Where a column comes from and what it reaches: through queries, Python steps, models, endpoints and rules."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from sampan.base.errors import NotFound
from sampan.base.settings import Folder
from sampan.flow.columns import Columns, Reached, brief, sentences
from sampan.flow.rules import read_rules
from sampan.flow.workspace import Workspace
from sampan.lake import columns as lake_columns

RETAIL = Path(__file__).parents[2] / "src" / "sampan" / "examples" / "retail"
FIELDS = ["order_id", "stock_code", "quantity", "unit_price", "country", "customer_id", "description"]
EVENTS = {"order_line": [*FIELDS, "_time", "_known_at"], "order_cancelled": [*FIELDS, "_time", "_known_at"]}
EVENTS |= {
    "prediction": ["entity", "prediction", "features", "context", "version", "endpoint", "action", "rule", "value"],
    "outcome": ["prediction_id", "value"],
}
EVENTS["prediction"] += ["_id", "_time"]


def columns(
    root: Path,
    events: Mapping[str, Sequence[str]] = EVENTS,
    fields: Callable[[str], Sequence[str] | None] = lambda name: None,
    features: Mapping[str, Sequence[str]] | None = None,
    endpoints: Mapping[str, str] | None = None,
) -> Columns:
    return Columns(Workspace(Folder(root)), events, fields, (features or {}).get, endpoints or {})


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    shutil.copytree(RETAIL, tmp_path / "shop", ignore=shutil.ignore_patterns("data", "__pycache__"))
    return tmp_path / "shop"


def reached(found: Columns, *start: tuple[str, str]) -> dict[tuple[str, str, str], str]:
    return {(one.kind, one.name, one.how): " ".join(one.columns) for one in found.reached(start)}


def test_a_feature_of_the_example_goes_back_to_the_fields_that_it_is_made_of(shop: Path) -> None:
    found = columns(shop)
    origin = found.origin("features", "mean_basket")
    assert [line.strip("│└├─ ") for line in origin.lines() if "rows decided" not in line] == [
        "column features.mean_basket",
        "tables/features.sql",
        "column orders.goods",
        "tables/orders.sql",
        "column lines.value",
        "tables/lines.sql",
        "field order_cancelled.quantity",
        "field order_cancelled.unit_price",
        "field order_line.quantity",
        "field order_line.unit_price",
    ]
    assert origin.facts["fields"] == [
        "order_cancelled.quantity",
        "order_cancelled.unit_price",
        "order_line.quantity",
        "order_line.unit_price",
    ]
    assert "order_line.customer_id" in origin.facts["deciding"]
    assert {name for name in found.names("lines") or () if found.whole(name)} == set()


def test_a_field_of_the_example_reaches_tables_checks_the_model_its_endpoint_and_its_rule(shop: Path) -> None:
    features = {"reorder": ["orders_before", "goods", "export"]}
    found = columns(shop, features=features, endpoints={"shop": "reorder@3", "other": "churn@1"})
    price = reached(found, ("order_line", "unit_price"))
    assert price["table", "lines", "value"] == "price value"
    assert price["table", "orders", "value"] == "goods charges"
    assert price["table", "features", "value"] == "spent_before mean_basket goods charges"
    assert price["table", "labels", "rows"] == "order_id label_known_at returned"
    assert {key for key in price if key[0] not in ("table", "check")} == {
        ("step", "evaluation", "value"),
        ("model", "reorder", "value"),
        ("endpoint", "shop", "value"),
        ("rule", "reorder", "value"),
    }
    assert ("check", "the_money_adds_up", "value") in price


def test_what_only_decides_about_rows_is_told_apart(shop: Path) -> None:
    found = columns(shop, features={"reorder": ["goods"]}, endpoints={"shop": "reorder@3"})
    text = reached(found, ("order_line", "description"))
    assert text["table", "lines", "value"] == "description"
    assert text["table", "orders", "rows"].split() == found.names("orders")
    assert ("model", "reorder", "rows") in text and ("endpoint", "shop", "rows") in text
    assert ("model", "reorder", "value") not in text


def test_a_model_without_a_version_depends_on_all_columns_that_it_takes(shop: Path) -> None:
    with_version = columns(shop, features={"reorder": ["goods"]})
    without = columns(shop)
    assert ("model", "reorder", "value") not in reached(with_version, ("training_set", "hour"))
    assert ("model", "reorder", "value") in reached(with_version, ("training_set", "goods"))
    assert ("model", "reorder", "value") in reached(with_version, ("training_set", "returned")), "its target"
    assert ("model", "reorder", "value") in reached(without, ("training_set", "hour"))
    made_itself = columns(shop, features={"reorder": ["goods", "log_goods"]})
    assert ("model", "reorder", "value") in reached(made_itself, ("training_set", "hour"))


def test_a_rule_is_reached_by_the_fields_that_it_names(shop: Path) -> None:
    (rule,) = read_rules(shop / "decisions.py")
    assert (rule.name, rule.model, sorted(rule.reads), rule.whole) == (
        "reorder",
        "reorder",
        ["customer_id", "order_id", "orders_before"],
        False,
    )
    found = columns(shop, features={"reorder": ["goods"]})
    assert reached(found, ("training_set", "orders_before"))["rule", "reorder", "value"] == ""
    assert ("rule", "reorder", "value") not in reached(found, ("training_set", "hour"))


def test_a_rule_that_hands_the_record_on_may_read_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "decisions.py").write_text(
        "import sampan\n@sampan.decision(model='m')\ndef d(prediction, record, high=0.5):\n"
        "    return act(record) if record.get('a') or record['b'] else None\n"
    )
    assert [(one.reads, one.whole) for one in read_rules(tmp_path / "decisions.py")] == [(("a", "b"), True)]
    assert read_rules(tmp_path / "missing.py") == []
    (tmp_path / "broken.py").write_text("def (")
    assert read_rules(tmp_path / "broken.py") == []


PYTHON = """
import pyarrow as pa
from sampan import step, check

@step
def scored(orders: pa.Table) -> pa.Table:
    return orders

@check
def fine(scored: pa.Table) -> None: ...
"""


def small(root: Path, **tables: str) -> Path:
    (root / "tables").mkdir(parents=True)
    (root / "sampan.toml").write_text("")
    (root / "contracts.py").write_text("import sampan\nclass Sale(sampan.Event, version=1):\n    a: int\n    b: int\n")
    (root / "steps.py").write_text(PYTHON)
    for name, text in {"orders": "SELECT a, b FROM sale", **tables}.items():
        (root / "tables" / f"{name}.sql").write_text(text)
    return root


SALE = {"sale": ["a", "b", "_time"]}


def test_a_frame_depends_on_every_column_of_its_inputs_and_is_flagged(tmp_path: Path) -> None:
    root = small(tmp_path / "w", late="SELECT s.x FROM scored AS s", all="FROM scored")
    found = columns(root, SALE)
    assert found.names("scored") is None
    assert found.fact("late", "x").of == (("scored", "x"),)
    assert found.fields_of(("late", "x")) == ([("sale", "a"), ("sale", "b")], [("sale", "a"), ("sale", "b")])
    assert found.whole("scored") == "it is Python, which may read every column that it is given"
    assert found.whole("all") == "the columns of scored are not known"
    assert reached(found, ("sale", "b"))["table", "late", "value"] == "x"
    assert ("check", "fine", "value") in reached(found, ("sale", "b"))

    known = columns(root, SALE, {"scored": ["x", "y"], "all": ["x", "y"]}.get)
    assert known.names("all") == ["x", "y"]
    assert known.fact("all", "x").of == (("scored", "x"),)
    assert reached(known, ("scored", "x"))["table", "all", "value"] == "x"


def test_a_query_that_cannot_be_told_is_whole_and_breaks_nothing(tmp_path: Path) -> None:
    root = small(tmp_path / "w", wide="PIVOT orders ON a IN (1, 2) USING sum(b)", last='SELECT "1" AS one FROM wide')
    found = columns(root, SALE, {"wide": ["1", "2"]}.get)
    assert found.whole("wide") == "PIVOT says nothing of its columns"
    assert found.fact("wide", "1").of == (("orders", "a"), ("orders", "b"))
    assert found.fields_of(("last", "one"))[0] == [("sale", "a"), ("sale", "b")]
    assert any("taken whole: PIVOT says nothing" in line for line in found.origin("last", "one").lines())


def test_columns_that_the_engine_names_are_found_by_their_place(tmp_path: Path) -> None:
    root = small(
        tmp_path / "w", sums="SELECT a, max(b) FROM orders GROUP BY a", spread="SELECT unnest({'k': a}) FROM sale"
    )
    known = columns(root, SALE, {"sums": ["a", "max(b)"], "spread": ["k"]}.get)
    assert known.fact("sums", "max(b)").of == (("orders", "b"),)
    assert known.names("spread") == ["k"]


def test_what_is_not_there_is_said_with_what_might_be_meant(tmp_path: Path) -> None:
    found = columns(small(tmp_path / "w", sales="SELECT amount FROM (SELECT a AS amount FROM sale)"), SALE)
    for name, column, said in (
        ("sales", "amont", "Did you mean amount?"),
        ("sales", "q", "It has: amount."),
        ("saless", "amount", "Did you mean sales"),
        ("fine", "a", "it is a check"),
        ("scored", "a", "its columns are not known: it is Python"),
    ):
        with pytest.raises(NotFound) as error:
            found.origin(name, column)
        assert said in str(error.value)
    assert found.ref("sales", "AMOUNT") == ("sales", "amount")


def test_facts_are_read_once_and_again_when_a_source_changes(tmp_path: Path, monkeypatch: Any) -> None:
    root = small(tmp_path / "w", most="SELECT * FROM orders")
    asked: list[str] = []
    real = lake_columns.column_facts

    def counted(text: str, sources: Mapping[str, Sequence[str] | None]) -> Any:
        asked.append(text)
        return real(text, sources)

    monkeypatch.setattr(lake_columns, "column_facts", counted)
    assert columns(root, SALE).names("most") == ["a", "b"]
    assert len(asked) == 2
    columns(root, SALE)
    assert len(asked) == 2
    (root / "tables" / "orders.sql").write_text("SELECT a, b AS c FROM sale")
    assert columns(root, SALE).names("most") == ["a", "c"]
    assert len(asked) == 4
    (root / ".sampan" / "cache" / "source" / "columns").write_bytes(b"torn")
    assert columns(root, SALE).names("most") == ["a", "c"]


def test_a_plan_works_out_no_column_facts(tmp_path: Path) -> None:
    root = small(tmp_path / "w")
    Workspace(Folder(root))
    assert not (root / ".sampan" / "cache" / "source" / "columns").exists()


def test_what_is_reached_is_told_in_sentences_and_in_a_line(shop: Path) -> None:
    found = columns(shop, features={"reorder": ["goods"]}, endpoints={"shop": "reorder@3"})
    price = found.reached([("order_line", "unit_price")])
    assert sentences(price)[0] == (
        "goes into lines.price, lines.value, orders.goods, orders.charges, customers.goods, features.spent_before"
        " and 7 more"
    )
    assert sentences(price)[1].endswith("model reorder, endpoint shop, rule reorder")
    assert sentences(price)[2] == "decides about rows of labels"
    assert brief(price) == (
        "13 columns of 5 tables, step evaluation, model reorder, endpoint shop, rule reorder, 5 checks"
    )
    assert brief(found.reached([("lines", "cancelled")])) == (
        "only rows, of orders, customers, features, labels, training_set, evaluation and 3 more"
    )
    assert brief(found.reached([("labels", "label_known_at")])).startswith("1 column of 1 table, step evaluation")
    assert brief([Reached("orders", "table", "rows", ("a",))]) == "only rows, of orders"
    assert (brief([]), sentences([])) == ("", [])
