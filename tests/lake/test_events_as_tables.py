"""A type of event is a table to a query: at a position, the unsealed tail included."""

import json

import pytest

from sampan.base.clock import ManualClock
from sampan.base.settings import Settings
from sampan.lake import read
from sampan.lake.sql import analyse
from sampan.lake.write import write_query
from sampan.log.check import Checker
from sampan.log.contracts import Contracts
from sampan.log.keys import SubjectKeys
from sampan.log.log import Log

CONTRACTS = """
import sampan

class OrderLine(sampan.Event, version=1):
    product: str
    quantity: int
"""


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "contracts.py"
    path.write_text(CONTRACTS)
    keys = SubjectKeys(tmp_path / "keys.db")
    made = Log(tmp_path / "log", Contracts.load(path), ManualClock(1_300_000_000_000_000), Settings({}, {}), keys)
    yield made
    keys.close()


def send(log, writer, ids):
    events = [
        {
            "id": str(id),
            "type": "order_line",
            "source": "shop",
            "time": "2011-04-01T08:26:00Z",
            "data": {"product": f"p{id % 3}", "quantity": id},
        }
        for id in ids
    ]
    writer.append(Checker(log.contracts, log.keys).read(json.dumps(events).encode()), "test")


def test_from_order_line_is_that_type_at_the_position(workspace, log):
    writer = log.writer()
    send(log, writer, range(10))
    early = log.position()
    send(log, writer, range(10, 25))
    sql = "SELECT product, sum(quantity) AS q FROM order_line GROUP BY product"
    assert analyse(sql).depends == ("order_line",)
    for position, wanted in ((early, 45), (log.position(), 300)):
        draft = write_query(sql, {"order_line": log.source("order_line", position)}, workspace.lake.folder)
        table = read.arrow(workspace.lake.source_of(workspace.lake.add(draft, "q")))
        assert sum(table["q"].to_pylist()) == wanted
    answer = read.query('SELECT count(*), min("_id") FROM Order_Line', workspace.lake, log, position=early)
    assert answer.fetchall() == [(10, "0")]
    answer.close()
    writer.close()


@pytest.mark.slow
def test_the_unsealed_part_is_read_further_not_again_and_an_earlier_position_still_means_less(workspace, log):
    writer = log.writer()
    seen = []
    for round in range(40):
        send(log, writer, range(10 * round, 10 * round + 10))
        seen.append(log.position())
        assert read.arrow(log.source("order_line", seen[-1])).num_rows == 10 * (round + 1)
    for round in (0, 17, 39, 3):
        table = read.arrow(log.source("order_line", seen[round]))
        assert sorted(table["quantity"].to_pylist()) == list(range(10 * round + 10))
