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


@pytest.mark.slow
def test_every_line_is_sent_once_in_the_order_of_time(shop):
    moments, ids, items = [], set(), 0
    for line in shop.lines(FIRST, LAST):
        moments.append(line.at)
        items += line.items
        if not line.items:
            ids.add(line.body[: line.body.index(b",")])
    assert len(ids) + items == shop.count(LAST) == 541_909
    assert len(ids) == 495_478  # at home
    assert moments == sorted(moments)


def test_what_is_sold_abroad_is_a_purchase_with_its_items_and_what_comes_back_a_refund(shop):
    found = [(line, json.loads(line.body)) for line in shop.lines(FIRST, LAST) if line.items]
    line, message = found[0]
    assert message["timestamp_micros"] == line.at and message["user_id"] == message["client_id"] == "12583"
    (event,) = message["events"]
    assert event["name"] == "purchase" and event["params"]["transaction_id"] == "536370"
    assert event["params"]["country"] == "France" and event["params"]["value"] == 855.86
    assert len(event["params"]["items"]) == line.items == 20
    assert event["params"]["items"][0] == {
        "item_id": "22728",
        "item_name": "ALARM CLOCK BAKELIKE PINK",
        "price": 3.75,
        "quantity": 24,
    }
    refunds = [event for _, message in found for event in message["events"] if event["name"] == "refund"]
    assert refunds and all(item["quantity"] > 0 for event in refunds for item in event["params"]["items"])
    assert max(line.items for line, _ in found) <= 200


def test_an_event_has_the_attributes_that_intake_knows(shop):
    at, raw, _ = next(shop.lines(FIRST, LAST))
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
        for line in islice(shop.lines(FIRST, LAST), 20_000)
        if not line.items
        for e in [json.loads(line.body)]
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
