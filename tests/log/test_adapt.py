"""What ``adapt`` declares: messages of other protocols become events, and what does not is kept and told of."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sampan.base.errors import BadContract
from sampan.log.check import Checker
from sampan.log.contracts import Contracts
from sampan.log.from_ga4 import Ga4Messages
from sampan.log.from_segment import SegmentMessages
from sampan.log.items import TooMany
from sampan.log.quarantine import Quarantine
from sampan.log.translate import Translator
from tests.log.conftest import SHOP, Shop

ADAPTED = (
    SHOP
    + """
from sampan import adapt

class OrderCompleted(Event, version=1):
    order_id: str
    total: float

places = {"order_id": "invoice", "$.context.locale": "country"}
adapt("segment", "Order Placed", OrderLine, each="products", rename=places)
adapt("segment", "Line Sold", OrderLine, rename={"order_id": "invoice", "cost.each": "price"}, id="line", time="when")
adapt("segment", "identify", Signup)

@adapt("segment", "Basket", OrderLine)
def basket(message: dict) -> list[dict] | None:
    if message["properties"].get("test"):
        return None
    return [{"invoice": "b", "quantity": n} for n in message["properties"]["pieces"]]

@adapt("segment", "Registered", Signup)
def registered(message: dict) -> dict:
    raise ValueError(message["properties"]["email"])
"""
)
GA4 = """
adapt("ga4", "sold", OrderLine, each="products", rename={"$.client_id": "invoice"})

@adapt("ga4", "made", OrderLine)
def made(message: dict) -> dict:
    user = message["user_properties"]
    invoice = f"{message['measurement_id']} {user['level']} {user.pop('seen', None)}"
    user["seen"] = True
    return {"invoice": invoice, "quantity": message["params"]["n"]}
"""
NOW = 1767225600_000_000  # 2026-01-01, the clock of Shop


def call(id: str = "m1", event: str = "Order Completed", **properties: Any) -> dict[str, Any]:
    return {
        "type": "track",
        "messageId": id,
        "userId": "u1",
        "event": event,
        "timestamp": "2025-12-31T23:59:00Z",
        "properties": properties,
    }


def sell(shop: Shop, *calls: Any, path: str = "batch", now: int = NOW, **beside: Any) -> list[Any]:
    """Send calls as one request and give the verdicts."""
    body = json.dumps({"batch": list(calls), **beside} if path == "batch" else calls[0]).encode()
    return sell_bytes(shop, body, path, now)


def sell_bytes(shop: Shop, body: bytes, path: str = "batch", now: int = NOW) -> list[Any]:
    writer = shop.writer()
    messages = SegmentMessages(path, body, "till", now)
    try:
        batch = Translator(writer.checker.contracts).batch(messages, writer.checker)
        return writer.append(batch, "till").verdicts()
    finally:
        writer.close()


@pytest.fixture
def adapted(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop(contracts=ADAPTED)


def stored(shop: Shop) -> list[dict[str, Any]]:
    return [json.loads(event.raw) for event in shop.log().events()]


def test_without_a_mapping_properties_go_to_the_contract_that_has_the_name(adapted: Shop) -> None:
    sell(adapted, call(order_id="o1", total=12.5, coupon="X"))
    assert stored(adapted) == [
        {
            "id": "m1",
            "source": "till",
            "type": "order_completed",
            "time": "2025-12-31T23:59:00Z",
            "subject": "u1",
            "data": {"order_id": "o1", "total": 12.5, "coupon": "X"},
        }
    ]


def test_a_message_with_a_list_becomes_an_event_for_each_item_with_an_id_of_its_own(adapted: Shop) -> None:
    products = [{"quantity": 1, "price": 2.5, "sku": "a"}, {"quantity": 2, "tags": ["x"]}, {"quantity": "many"}]
    placed = call(event="Order Placed", order_id="o1", total=9, products=products) | {"context": {"locale": "France"}}
    verdicts = sell(adapted, placed)
    assert [(one.id, one.verdict) for one in verdicts] == [
        ("m1/0", "accepted"),
        ("m1/1", "accepted"),
        ("m1/2", "quarantined"),
    ]
    assert [event["data"] for event in stored(adapted)] == [
        {"quantity": 1, "price": 2.5, "sku": "a", "invoice": "o1", "country": "France"},
        {"quantity": 2, "tags": ["x"], "invoice": "o1", "country": "France"},
    ]
    assert [one.verdict for one in sell(adapted, placed)] == ["duplicate", "duplicate", "quarantined"]


def test_places_below_properties_and_options_say_where_a_value_is_taken_from(adapted: Shop) -> None:
    sold = call(event="Line Sold", order_id="o1", quantity=3, cost={"each": 1.5}, line=77, when=1764547200)
    sell(adapted, sold)
    [event] = stored(adapted)
    assert (event["id"], event["time"]) == ("77", "2025-12-01T00:00:00Z")
    assert (event["data"]["invoice"], event["data"]["price"]) == ("o1", 1.5)


def test_a_function_makes_one_event_several_or_none(adapted: Shop) -> None:
    sell(adapted, call("b1", "Basket", pieces=[1, 2]), call("b2", "Basket", test=True))
    assert [(event["id"], event["data"]["quantity"]) for event in stored(adapted)] == [("b1/0", 1), ("b1/1", 2)]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (
            call(event="Nobody Knows"),
            "unknown type: segment 'Nobody Knows' (no adapt for it, no contract 'nobody_knows')",
        ),
        (call(event="Order Placed", order_id="o1"), "no events: it has no list 'products'"),
        (call(event="Order Placed", products=[]), "no events: 'products' is empty"),
        (call(event="Order Placed", products={"a": 1}), "no events: 'products' is no list"),
        (call(event="Order Placed", products=[7]), "no events: an item of 'products' is no object"),
        (call(event="Basket"), "mapping failed: KeyError: 'pieces'"),
        (call(total=1), "invalid: Object missing required field order_id"),
        (call(order_id="o", total=1) | {"userId": 7}, "invalid: Expected str | null, got int"),
        (
            call() | {"type": "delete"},
            "invalid: a call has one of the types track, page, screen, identify, group, alias, not 'delete'",
        ),
        ({"type": "track", "messageId": "m"}, "invalid: a track call names its event"),
        (call(order_id="o", total=1) | {"timestamp": "yesterday"}, "invalid: Invalid RFC3339 encoded datetime"),
        ("text", "not an object: 'text'"),
    ],
)
def test_what_does_not_become_an_event_is_kept_as_it_was_sent(adapted: Shop, sent: Any, reason: str) -> None:
    verdicts = sell(adapted, call("good", order_id="o", total=1), sent)
    assert [one.verdict for one in verdicts] == ["accepted", "quarantined"]
    [held] = Quarantine(adapted.log()).items()
    assert (held.reason, held.raw) == (reason, json.dumps(sent).encode())
    assert held.origin is not None
    assert held.origin.protocol == "segment"


def test_a_rule_gets_the_event_that_a_message_was_to_become_and_its_repair_enters_once(
    adapted: Shop, tmp_path: Path
) -> None:
    placed = call(event="Order Placed", order_id="o1", products=[{"quantity": 1}, {"quantity": "two"}])
    placed["timestamp"] = None  # so its time is when we received it
    sell(adapted, placed, call("x", "Nobody Knows"), sentAt="2020-01-01T00:00:00Z")
    sell(adapted, placed, now=NOW + 1_000_000)
    rule = tmp_path / "fix.py"
    rule.write_text(
        "def fix(event, reason):\n"
        "    if event.get('type') != 'order_line':\n"
        "        assert event['event'] == 'Nobody Knows'\n"
        "        return None\n"
        "    assert event['id'] == 'm1/1'\n"
        "    event['data']['quantity'] = 2\n"
        "    return event\n"
    )
    quarantine, writer = Quarantine(adapted.log()), adapted.writer()
    done = quarantine.fix(rule, writer, author="ann")
    assert (done.accepted, done.duplicate, done.left, done.wrong) == (1, 1, 1, 0)
    assert quarantine.fix(rule, writer, author="ann").accepted == 0
    assert [event["id"] for event in stored(adapted)] == ["m1/0", "m1/1"]
    assert stored(adapted)[1]["data"] == {"invoice": "o1", "quantity": 2}


def test_personal_values_are_sealed_in_events_and_in_quarantine(adapted: Shop) -> None:
    good = {
        "type": "identify",
        "messageId": "a",
        "userId": "u9",
        "traits": {"customer": "u9", "email": "ann@example.org"},
    }
    bad = {"type": "identify", "messageId": "b", "userId": "u9", "traits": {"email": "ann@example.org"}}
    verdicts = sell(adapted, good, bad, call("c", "Registered", email="ann@example.org"))
    assert [one.verdict for one in verdicts] == ["accepted", "quarantined", "quarantined"]
    assert [
        one.verdict for one in sell(adapted, good | {"traits": {"customer": "u9", "email": "x@ann@example.org"}})
    ] == ["quarantined"]
    files = b"".join(path.read_bytes() for path in (adapted.root / ".sampan" / "log").rglob("*.log"))
    assert b"messageId" not in files
    assert b"ann@example.org" not in files
    log = adapted.log()
    assert json.loads(Quarantine(log).items()[0].raw) == bad
    log.keys.destroy("u9")
    assert Quarantine(log).items()[0].raw == b""


def test_the_clock_of_a_client_that_is_wrong_is_corrected_and_that_of_one_that_is_slow_is_not(adapted: Shop) -> None:
    def time_of(id: str, sent_at: str | None, **more: Any) -> str:
        sell(adapted, call(id, order_id="o", total=1) | more, **({"sentAt": sent_at} if sent_at else {}))
        return next(event["time"] for event in stored(adapted) if event["id"] == id)

    assert time_of("a", None) == "2025-12-31T23:59:00Z"
    assert time_of("b", "2025-12-31T23:59:56Z") == "2025-12-31T23:59:00Z"
    assert time_of("c", "2026-01-01T01:00:00Z") == "2025-12-31T22:59:00Z"
    assert time_of("d", "nonsense") == "2025-12-31T23:59:00Z"
    # somebody has corrected it already
    assert time_of("e", "2026-01-01T01:00:00Z", originalTimestamp="2026-01-01T00:59:00Z") == "2025-12-31T23:59:00Z"
    assert time_of("f", "2026-01-01T01:00:00Z", timestamp=None) == "2026-01-01T00:00:00Z"
    # sent again it is received later, and is still the same call
    again = call("c", order_id="o", total=1)
    assert [one.verdict for one in sell(adapted, again, now=NOW + 777, sentAt="2026-01-01T01:00:00Z")] == ["duplicate"]


def test_a_call_without_an_id_is_the_same_when_the_same_bytes_come_again(adapted: Shop) -> None:
    sent = call(order_id="o", total=1)
    del sent["messageId"]
    assert [one.verdict for one in sell(adapted, sent, path="track")] == ["accepted"]
    assert [one.verdict for one in sell(adapted, sent, path="track", now=NOW + 5)] == ["duplicate"]
    del sent["timestamp"]
    assert [one.verdict for one in sell(adapted, sent, sent)] == ["accepted", "accepted"]


def test_a_key_that_stands_twice_and_bytes_that_are_no_text_are_refused_wherever_they_stand(adapted: Shop) -> None:
    good = json.dumps(call("g", order_id="o", total=1)).encode()
    twice = good.replace(b'"messageId": "g"', b'"messageId": "a", "messageId": "b"')
    within = good.replace(b'"g"', b'"h"').replace(b'"total": 1', b'"total": 1, "total": 2')
    renamed = (
        json.dumps(call("r", "Line Sold", order_id="o", quantity=1))
        .encode()
        .replace(b'"quantity": 1', b'"quantity": 1, "quantity": 2')
    )
    latin = good.replace(b'"properties"', b'"context": {"city": "\xe9"}, "properties"').replace(b'"g"', b'"l"')
    body = b'{"batch": [' + b",".join((good, twice, within, renamed, latin)) + b"]}"
    verdicts = sell_bytes(adapted, body)
    assert [(one.verdict, (one.reason or "")[:12]) for one in verdicts] == [
        ("accepted", ""),
        ("quarantined", "repeated key"),
        ("quarantined", "repeated key"),
        ("quarantined", "repeated key"),
        ("quarantined", "not UTF-8: b"),
    ]


def test_one_bad_message_does_not_keep_a_batch_from_the_log_and_no_key_is_kept(adapted: Shop) -> None:
    good = json.dumps(call("g", order_id="o", total=1)).encode()
    infinite = good.replace(b'"total": 1', b'"total": NaN').replace(b"{", b'{"writeKey": "smp_secret", ', 1)
    body = b'{"batch": [' + good + b", " + infinite + b'], "sentAt": "2026-01-01T00:00:00Z", "writeKey": "smp_secret"}'
    assert [one.verdict for one in sell_bytes(adapted, body)] == ["accepted", "quarantined"]
    assert [one.verdict for one in sell_bytes(adapted, b'{"writeKey": "smp_secret", "batch": 7}')] == ["quarantined"]
    held = [one.raw for one in Quarantine(adapted.log()).items()]
    assert held == [infinite.replace(b"smp_secret", b"**********"), b'{"writeKey": "**********", "batch": 7}']
    assert [one.verdict for one in sell_bytes(adapted, b'{"batch": [{"a": NaN}], "\xa1": 1}')] == ["quarantined"] * 2
    stray = b'{"batch": [{"a": ]}, ' + good + b"]}"
    assert [one.verdict for one in sell_bytes(adapted, stray)] == ["quarantined", "quarantined"]
    assert good in Quarantine(adapted.log()).items()[-1].raw


def test_a_message_with_very_many_bad_events_does_not_fill_the_disk(adapted: Shop) -> None:
    products = [{"quantity": "bad", "note": "x" * 200}] * 2_000
    verdicts = sell(adapted, call(event="Order Placed", order_id="o", products=products))
    assert {one.verdict for one in verdicts} == {"quarantined"}
    held = Quarantine(adapted.log()).items(limit=None)
    assert len(held) == 2_000
    assert sum(len(one.raw) for one in held) < 5_000_000
    assert held[0].origin is not None
    assert json.loads(held[-1].raw)["data"]["note"] == "x" * 200


def test_a_message_of_many_events_is_not_read_again_for_each_of_them(make_shop: Callable[..., Shop]) -> None:
    adapted = make_shop(contracts=ADAPTED + GA4)
    product, user = {"quantity": 1, "note": "x" * 300}, {"level": 7, "events": [1]}
    sold = {"name": "sold", "params": {"products": [product] * 2, "where": "shop"}}
    sent = {"client_id": "c", "user_properties": user, "timestamp_micros": NOW, "events": [sold] * 1_500}
    sent["events"] += [{"name": "made", "params": {"n": number}} for number in range(1_500)]
    translator, checker = Translator(adapted.contracts()), Checker(adapted.contracts())
    began = time.monotonic()
    batch = translator.batch(Ga4Messages(json.dumps(sent).encode(), "G-1", "site", NOW), checker)
    assert time.monotonic() - began < 4
    assert not batch.bads
    data = [json.loads(raw)["data"] for raw in batch.raws]
    assert data[:3_000] == [{**product, "invoice": "c"}] * 3_000
    assert data[3_000:] == [{"invoice": "G-1 7 None", "quantity": number} for number in range(1_500)]


@pytest.mark.parametrize(("calls", "products"), [(1, 500_000), (60, 1_000)])
def test_messages_that_become_too_many_events_are_refused_early(adapted: Shop, calls: int, products: int) -> None:
    sent = [call(event="Order Placed", products=[{"quantity": 1}] * products)] * calls
    body = json.dumps({"batch": sent}).encode()
    translator, checker = Translator(adapted.contracts()), Checker(adapted.contracts())
    with pytest.raises(TooMany) as error:
        translator.batch(SegmentMessages("batch", body, "till", NOW), checker)
    assert error.value.count == (products if calls == 1 else 51_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("event", "rest"),
    [
        ({"name": "order_line", "params": {"invoice": "i", "quantity": "bad"}}, {"invoice": "i", "quantity": "bad"}),
        ({"name": "not_known", "params": {"invoice": "i", "quantity": 1}}, {"invoice": "i", "quantity": 1}),
        (7, {}),
    ],
)
def test_a_message_of_very_many_events_of_which_none_is_good_is_not_held_as_often(
    adapted: Shop, tmp_path: Path, event: Any, rest: dict[str, Any]
) -> None:
    body = json.dumps({"client_id": "c", "timestamp_micros": NOW, "events": [event] * 2_000}).encode()
    writer = adapted.writer()
    batch = Translator(writer.checker.contracts).batch(Ga4Messages(body, "G-1", "site", NOW), writer.checker)
    assert {one.verdict for one in writer.append(batch, "site").verdicts()} == {"quarantined"}
    held = Quarantine(adapted.log()).items(limit=None)
    assert len(held) == 2_000
    assert sum(len(one.raw) for one in held) < 2_000_000
    assert held[0].raw == body
    assert {one.reason for one in held} == {held[0].reason}
    assert json.loads(held[-1].raw)["data"] == rest
    rule = tmp_path / "fix.py"
    rule.write_text(
        "def fix(event, reason):\n"
        "    if 'quantity' not in event.get('data', {}): return None\n"
        "    return event | {'type': 'order_line', 'data': {'invoice': 'i', 'quantity': 2}}\n"
    )
    (adapted.root / "contracts.py").write_text(ADAPTED + 'adapt("ga4", "not_known", OrderLine)\n')
    assert Quarantine(adapted.log()).fix(rule, writer, author="ann").accepted == (2_000 if rest else 0)
    ids = {(event.id or "").partition("/")[2] for event in adapted.log().events(limit=10_000)}
    assert ids == {str(number) for number in range(2_000 if rest else 0)}
    writer.close()


@pytest.mark.parametrize(
    ("declared", "line", "obstacle"),
    [
        ('adapt("smoke", "x", Sale)', 5, "there is no protocol 'smoke'"),
        ('adapt("segment", "x", Sale, rename={"a": "nope"})', 5, "Sale has no field 'nope'"),
        ('adapt("segment", "x", Sale, rename={"a": "item", "b": "item"})', 5, "two places are renamed to 'item'"),
        ('adapt("segment", "x", dict)', 5, "is no contract"),
        ('adapt("segment", "x", Sale, each=7)', 5, "each=7 is no place"),
        ('adapt("segment", "", Sale)', 5, "cannot name a message"),
        ('adapt("segment", "x", Sale)\n\nadapt("segment", "x", Sale)', 7, "line 5 makes events of type sale"),
        ('@adapt("segment", "x", Sale, each="a")\ndef f(m): ...', 5, "a function makes the data"),
    ],
)
def test_a_declaration_that_makes_no_sense_names_its_line(
    tmp_path: Path, declared: str, line: int, obstacle: str
) -> None:
    path = tmp_path / "contracts.py"
    path.write_text(f"from sampan import Event, adapt\nclass Sale(Event):\n    item: str\n\n{declared}\n")
    with pytest.raises(BadContract) as error:
        Contracts.load(path)
    assert obstacle in error.value.obstacle
    assert f"line {line}" in error.value.attempted


def test_a_batch_that_repeats_one_of_very_many_keys_is_judged_at_once() -> None:
    keys = ",".join(f'"k{number}":1' for number in range(60_000))
    began = time.monotonic()
    request = SegmentMessages("batch", f'{{{keys},"batch":[],"k59999":2}}'.encode(), "till", 0)
    assert [message.wrong for message in request.messages] == [("repeated key: 'k59999'", "$")]
    assert time.monotonic() - began < 5
