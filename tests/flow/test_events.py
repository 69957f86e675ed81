"""Types of event as inputs: at the run's position, keyed by content and contract, in an order of their own."""

# ruff: noqa: E501 - source text

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flow_bench import Bench, outcome

from sampan.base.clock import SystemClock
from sampan.flow.engine import Engine
from sampan.log.check import Checker
from sampan.log.contracts import Contracts
from sampan.log.log import Log

CONTRACTS = """
from typing import Annotated
from sampan import Event, Field

class OrderLine(Event, version=1):
    order: str
    price: Annotated[float, Field(unit="GBP", ge=0)]

class PageView(Event, version=1):
    url: str
"""

FLOW = {
    "tables__orders": 'SELECT "order", CAST(sum(CAST(price AS DECIMAL(18, 2))) AS DECIMAL(18, 2)) AS total FROM order_line GROUP BY ALL',
    "tables__views": "SELECT count(*) AS n FROM page_view",
    "steps": """
        import pyarrow as pa
        from sampan import step

        @step
        def lines(order_line: pa.Table) -> list:
            return order_line["_id"].to_pylist()
        """,
}


class LogBench(Bench):
    """A workspace with contracts and a log."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.file("contracts.py", CONTRACTS)
        self.reopen()

    def reopen(self) -> None:
        contracts = Contracts.load(self.root / "contracts.py")
        clock = SystemClock()
        settings = self.folder.settings()
        self.event_log = Log(self.folder.data / "log", contracts, clock, settings)
        self.engine = Engine(self.folder, self.db, self.lake, self.event_log, self.models, clock, settings)

    def send(self, *events: dict[str, Any]) -> None:
        writer = self.event_log.writer("intake")
        try:
            batch = Checker(self.event_log.contracts, self.event_log.keys).read(json.dumps(events).encode())
            writer.append(batch, "test")
        finally:
            writer.close()


def line(number: int, price: float = 1.0) -> dict[str, Any]:
    return {
        "id": f"l{number}",
        "type": "order_line",
        "source": "till",
        "time": f"2011-01-{number % 28 + 1:02}T10:00:00Z",
        "data": {"order": f"o{number % 3}", "price": price},
    }


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[LogBench]:
    root = tmp_path / "shop"
    root.mkdir()
    made = LogBench(root)
    yield made
    made.event_log.keys.close()
    made.db.close()


@pytest.mark.slow
def test_new_events_of_a_type_rerun_what_reads_it_and_nothing_else(shop: LogBench) -> None:
    shop.write(**FLOW)
    shop.send(*(line(n) for n in range(6)))
    assert shop.ran() == ["lines", "orders", "views"]
    assert shop.rows("orders")[0]["order"] == "o0"
    assert shop.rows("views") == [{"n": 0}], "a type without events is an empty table"
    assert shop.ran() == []
    shop.send(line(7))
    assert shop.why("orders") == "input order_line changed"
    assert shop.ran() == ["lines", "orders"]
    shop.send(line(7))
    assert shop.ran() == [], "a duplicate is no new event"


def test_a_run_names_the_position_root_and_counts_that_it_read(shop: LogBench) -> None:
    shop.write(**FLOW)
    shop.send(*(line(n) for n in range(6)))
    run = shop.engine.runs.get(shop.run().run)
    assert run.position == "intake:6"
    assert run.root == shop.event_log.root()
    assert run.manifest["inputs"]["order_line"]["count"] == 6
    assert run.manifest["inputs"]["page_view"]["count"] == 0


def test_a_changed_contract_reruns_and_a_comment_in_it_does_not(shop: LogBench) -> None:
    shop.write(**FLOW)
    shop.send(*(line(n) for n in range(3)))
    shop.ran()
    shop.edit("contracts.py", "    url: str", "    url: str  # where")
    assert shop.ran() == []
    shop.edit("contracts.py", 'unit="GBP", ge=0', 'unit="GBP", ge=0.0, description="of one piece"')
    shop.reopen()
    assert shop.why("orders") == "input order_line changed"


@pytest.mark.slow
def test_events_arrive_in_an_order_that_does_not_depend_on_their_arrival(tmp_path: Path) -> None:
    found = set()
    digests = set()
    for seed in range(3):
        root = tmp_path / str(seed)
        root.mkdir()
        shop = LogBench(root)
        shop.write(**FLOW)
        events = [line(n, n / 7) for n in range(30)]
        events += events[:2]
        random.Random(seed).shuffle(events)
        shop.send(*events[:15])
        shop.send(*events[15:])
        result = shop.run()
        found.add(tuple(shop.value("lines")))
        digests.add(outcome(result, "orders").digest)
        shop.event_log.keys.close()
        shop.db.close()
    assert len(found) == 1
    assert len(digests) == 1


def test_resuming_reads_the_log_where_the_run_began(shop: LogBench) -> None:
    shop.write(**FLOW)
    shop.edit(
        "steps.py",
        'return order_line["_id"].to_pylist()',
        "return order_line['_id'].to_pylist() if __import__('os').path.exists('go') else 1 // 0",
    )
    shop.send(*(line(n) for n in range(3)))
    failed = shop.run()
    assert failed.state == "failed"
    shop.send(line(9))
    shop.file("go", "")
    again = shop.engine.resume(failed.run)
    assert again.state == "succeeded"
    assert again.position == "intake:3"
    assert shop.value("lines") == ["l0", "l1", "l2"]


def test_lineage_walks_from_a_prediction_to_the_raw_events(shop: LogBench) -> None:
    shop.write(**FLOW)
    shop.edit("contracts.py", "order: str", "order: Annotated[str, Field(subject=True)]")
    shop.write(
        models="""
        import numpy as np
        import pyarrow as pa
        from lightgbm import Dataset, train
        from sampan import Fitted, model

        @model(kind="regression")
        def price(orders: pa.Table) -> Fitted:
            x = np.arange(40.0).reshape(-1, 1)
            booster = train({"verbose": -1, "num_threads": 1}, Dataset(x, x[:, 0], feature_name=["n"]), 2)
            return Fitted(booster, ["n"], metrics={"rows": orders.num_rows})
        """
    )
    shop.reopen()
    shop.send(*({**line(n), "subject": f"o{n % 3}"} for n in range(6)))
    first = shop.run()
    assert first.state == "succeeded", [step.error for step in first.steps]
    assert first.versions == ("price@1",)
    shop.edit("steps.py", "def lines", "def lines_again")
    shop.run()
    shop.send(
        {
            "id": "p1",
            "type": "prediction",
            "source": "serve",
            "time": "2099-01-01T00:00:00Z",
            "subject": "o1",
            "data": {
                "endpoint": "price", "version": "price@1", "bundle": "b", "entity": "o1", "features": {"n": 1},
                "prediction": 0.5, "action": "wait", "rule": "too little", "value": None,
            },
        }
    )  # fmt: skip
    tree = shop.engine.lineage("p1")
    assert (tree.kind, tree.facts["prediction"]) == ("prediction", 0.5)
    decision, version, entity = tree.made_from
    assert (decision.name, decision.facts["rule"]) == ("wait", "too little")
    (model,) = version.made_from
    assert (version.name, model.kind) == ("price@1", "model")
    run, orders = model.made_from
    assert run.name == first.run, "a result is traced to the run that made it, not to the last one that used it"
    assert "models.price" in model.facts["code"]
    assert (orders.kind, orders.facts["snapshot"]) == ("table", shop.lake.table("orders").id)
    events = orders.made_from[-1]
    assert (events.name, events.facts["events"], events.facts["position"]) == ("order_line", 6, "intake:6")
    assert sorted(one.name for one in entity.made_from) == ["l1", "l4"]
    assert any("price@1" in text for text in tree.lines())
