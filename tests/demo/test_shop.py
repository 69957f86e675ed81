"""What the shop sends, and what its back end knows."""

import json
from datetime import UTC, datetime
from importlib.resources import files
from itertools import islice
from pathlib import Path

import pytest

from sampan.demo.shop import DAY, Shop, due, outcome

RETAIL = Path(str(files("sampan") / "examples" / "retail"))
FIRST = datetime(2010, 12, 1, tzinfo=UTC)
LAST = datetime(2012, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def shop():
    opened = Shop(RETAIL)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def orders(shop):
    return shop.orders(datetime(2011, 4, 1, tzinfo=UTC), LAST)


def test_every_line_is_one_event_in_the_order_of_time(shop):
    moments, ids = [], set()
    for at, event in shop.lines(FIRST, LAST):
        moments.append(at)
        ids.add(event[: event.index(b",")])
    assert len(moments) == len(ids) == shop.count(LAST) == 541_909
    assert moments == sorted(moments)


def test_an_event_has_the_attributes_that_intake_knows(shop):
    at, raw = next(shop.lines(FIRST, LAST))
    event = json.loads(raw)
    assert event == {
        "id": "536365-1",
        "type": "order_line",
        "source": "till",
        "time": "2010-12-01T08:26:00Z",
        "known_at": "2010-12-01T08:26:00Z",
        "data": {
            "order_id": "536365",
            "stock_code": "85123A",
            "quantity": 6,
            "unit_price": 2.55,
            "country": "United Kingdom",
            "customer_id": "17850",
            "description": "WHITE HANGING HEART T-LIGHT HOLDER",
        },
    }
    assert at == int(datetime(2010, 12, 1, 8, 26, tzinfo=UTC).timestamp()) * 1_000_000


def test_cancellations_are_events_of_their_own_type(shop):
    kinds = {
        (e["type"], e["data"]["order_id"][0])
        for _, raw in islice(shop.lines(FIRST, LAST), 20_000)
        for e in [json.loads(raw)]
    }
    assert kinds == {("order_line", "5"), ("order_cancelled", "C")}


def test_the_back_end_asks_for_every_order_with_the_features_of_its_moment(orders):
    assert len(orders) == 13_721
    assert [order.at for order in orders] == sorted(order.at for order in orders)
    assert set(orders[0].record) >= {"order_id", "customer_id", "orders_before", "goods"}
    assert "returned" not in orders[0].record and "label_known_at" not in orders[0].record


def test_an_order_of_the_last_thirty_days_has_no_outcome(shop, orders):
    assert all((order.returned is None) == (due(order) > shop.last) for order in orders)


def test_an_outcome_is_told_thirty_days_after_the_order(orders):
    event = json.loads(outcome("p-1", orders[0]))
    assert event["data"] == {"prediction_id": "p-1", "value": orders[0].returned}
    assert due(orders[0]) - orders[0].at == 30 * DAY
    assert event["time"].startswith("2011-05-01")
