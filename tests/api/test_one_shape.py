"""The same action, whichever protocol says it, is one shape in the log; and every event is accounted for."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.api.conftest import CONTRACTS
from tests.log.conftest import Shop

from sampan.base.clock import iso
from sampan.log.check import Batch, Checker
from sampan.log.contracts import Contracts
from sampan.log.from_cloudevents import CloudEventMessages
from sampan.log.from_ga4 import Ga4Messages, findings
from sampan.log.from_segment import SegmentMessages
from sampan.log.reread import reread
from sampan.log.translate import Translator
from sampan.log.writer import StreamWriter

NOW = 1_767_225_600_000_000

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LINES = st.lists(
    st.fixed_dictionaries(
        {"sku": TEXT, "quantity": st.integers(-1, 10**6), "price": st.floats(-1, 1e9, allow_nan=False)},
        optional={"note": TEXT, "nested": st.fixed_dictionaries({"order_id": TEXT})},
    ),
    min_size=1,
    max_size=4,
)
MICROS = st.integers(1_600_000_000_000_000, NOW)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    shop = Shop(tmp_path_factory.mktemp("one") / "shop", CONTRACTS)
    yield shop.writer()
    shop.close()


@pytest.fixture(scope="module")
def contracts(tmp_path_factory: pytest.TempPathFactory) -> Contracts:
    path = tmp_path_factory.mktemp("renaming") / "contracts.py"
    path.write_text(
        "from sampan import Event, adapt\nclass Sale(Event):\n    invoice: str\n"
        'adapt("segment", "Sold", Sale, rename={"order_id": "invoice"})\n'
    )
    return Contracts.load(path)


def order(checked: Batch) -> list[dict[str, Any]]:
    """What is in a batch but for what names its sender."""
    events = [json.loads(raw) for raw in checked.raws]
    return [{name: event[name] for name in ("type", "time", "subject", "data")} for event in events]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES, invoice=TEXT, user=st.text("abc0", min_size=1, max_size=9), micros=MICROS, flat=st.booleans())
def test_what_four_protocols_say_of_an_order_is_one_shape(
    writer: StreamWriter, lines: list[dict[str, Any]], invoice: str, user: str, micros: int, flat: bool
) -> None:
    checker = writer.checker
    translator = Translator(checker.contracts)
    time = iso(micros)
    plain = [
        {"id": str(n), "source": "s", "type": "order_line", "time": time, "subject": user}
        | {"data": line | {"invoice": invoice}}
        for n, line in enumerate(lines)
    ]
    escaped = flat  # JSON with and without escapes takes different ways
    call = {"type": "track", "event": "Order Completed", "messageId": "m", "userId": user, "timestamp": time}
    call["properties"] = {"order_id": invoice, "products": lines}
    items = [{("item_id" if name == "sku" else name): value for name, value in line.items()} for line in lines]
    purchase = {"name": "purchase", "params": {"transaction_id": invoice, "items": items}}
    message = {"client_id": "c", "user_id": user, "timestamp_micros": micros, "events": [purchase]}
    cloud = {"specversion": "1.0", "id": "c", "source": "s", "type": "order_line", "time": time, "subject": user}
    clouds = [cloud | {"id": str(n), "data": line["data"]} for n, line in enumerate(plain)]

    def encoded(value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=escaped).encode()

    said = [("mode", "batch"), ("content-type", "application/cloudevents-batch+json")]
    ways = {
        "plain": checker.read(encoded(plain)),
        "segment": translator.batch(SegmentMessages("batch", encoded({"batch": [call]}), "s", NOW), checker),
        "ga4": translator.batch(Ga4Messages(encoded(message), "G", "s", NOW), checker),
        "cloudevents": translator.batch(CloudEventMessages(encoded(clouds), said, NOW), checker),
    }
    expected = order(ways["plain"])
    for name, checked in ways.items():
        assert len(checked) == len(lines), name
        found = order(checked)
        for event in found:
            event["data"].pop("known_at", None)
        assert found == expected, name
        assert [bad.index for bad in checked.bads] == [bad.index for bad in ways["plain"].bads], name
        assert [bad.complaint.path for bad in checked.bads] == [bad.complaint.path for bad in ways["plain"].bads], name


NAMES = TEXT | st.sampled_from(["order_id", "invoice", "sku"])
VALUES = TEXT | st.integers(0, 9) | st.sampled_from(['order_id":', '"order_id"'])
DATA = st.dictionaries(
    NAMES, VALUES | st.dictionaries(NAMES, VALUES, max_size=2) | st.lists(VALUES, max_size=2), max_size=6
)


@settings(max_examples=200, deadline=None)
@given(data=DATA, compact=st.booleans(), escaped=st.booleans())
def test_a_name_exchanged_in_the_text_is_the_name_exchanged_in_the_object(
    contracts: Contracts, data: dict[str, Any], compact: bool, escaped: bool
) -> None:
    call = {
        "type": "track",
        "event": "Sold",
        "messageId": "m",
        "userId": "u",
        "timestamp": iso(NOW),
        "properties": data,
    }
    separators = (",", ":") if compact else (", ", " : ")
    body = json.dumps({"batch": [call]}, separators=separators, ensure_ascii=escaped).encode()
    batch = Translator(contracts).batch(SegmentMessages("batch", body, "s", NOW), Checker(contracts))
    expected = dict(data)
    if "order_id" in data:
        del expected["order_id"]
        expected["invoice"] = data["order_id"]
    made = [json.loads(raw)["data"] for raw in batch.raws] or [None]
    fits = isinstance(expected.get("invoice"), str)
    assert made == ([expected] if fits else [None])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=st.lists(
        st.sampled_from(["good", "bad", "unknown", "lines", "empty", "nameless", "text", "twice", "same"]), max_size=12
    ),
    spoiled=st.booleans(),
)
def test_sent_is_accepted_duplicate_and_quarantined_for_any_mixed_batch(
    writer: StreamWriter, calls: list[str], spoiled: bool
) -> None:
    unique = f"{writer._next}-"
    made, expected = [], 0
    for number, kind in enumerate(calls):
        call = {"type": "track", "event": "Item Purchased", "messageId": f"{unique}{number}", "userId": "u"}
        call |= {"timestamp": iso(NOW), "properties": {"item": "tea", "price": 1}}  # type: ignore[dict-item]
        expected += 1
        if kind == "bad":
            call["properties"] = {"item": 7}  # type: ignore[assignment]
        elif kind == "unknown":
            call["event"] = "Nobody Knows"
        elif kind == "lines":
            call["event"] = "Order Completed"
            line = {"sku": "a", "quantity": 1, "price": 1}
            call["properties"] = {"order_id": "o", "products": [line, {"sku": "b"}, line]}  # type: ignore[assignment]
            expected += 2
        elif kind == "empty":
            call |= {"event": "Order Completed", "properties": {"products": []}}  # type: ignore[dict-item]
        elif kind == "nameless":
            del call["event"]
        elif kind == "same":
            call["messageId"] = f"{unique}same"
        text = "7" if kind == "text" else json.dumps(call)
        made.append(text.replace('"userId"', '"userId": "x", "userId"') if kind == "twice" else text)
    if spoiled and made:
        made.insert(0, '{"type": "track", "price": NaN}')
        expected += 1
    body = ('{"batch": [' + ", ".join(made) + "]}").encode()
    before = (writer.counts.accepted, writer.counts.duplicate, writer.counts.quarantined)
    batch = Translator(writer.checker.contracts).batch(SegmentMessages("batch", body, "s", NOW), writer.checker)
    answer = writer.append(batch, "s")
    after = (writer.counts.accepted, writer.counts.duplicate, writer.counts.quarantined)
    assert len(answer) == len(batch) == expected
    assert sum(after) - sum(before) == expected
    assert answer.duplicate == max(0, calls.count("same") - 1)
    wrong = ("bad", "unknown", "lines", "empty", "nameless", "text", "twice")
    assert answer.quarantined == sum(kind in wrong for kind in calls) + (1 if spoiled and calls else 0)


CALL = {"type": "track", "event": "Order Completed", "messageId": "m", "userId": "u", "timestamp": iso(NOW)}
CALLS = [
    CALL | {"properties": {"order_id": "o", "products": [{"sku": "a", "quantity": 1, "price": 1}, {"sku": "b"}]}},
    {"type": "page", "anonymousId": "a", "name": "Home", "properties": {"url": "/"}},
    {"type": "group", "userId": "u", "groupId": "g", "traits": {"name": "n"}},
]
PURCHASE = {
    "name": "purchase",
    "params": {"transaction_id": "t", "items": [{"item_id": "a", "quantity": 1, "price": 1}]},
}
CLOUD = {"specversion": "1.0", "id": "1", "source": "s", "type": "item_purchased", "data": {"item": "a", "price": 1}}
BODIES = [
    ("segment", json.dumps({"batch": CALLS, "sentAt": "2020-01-01T00:00:00Z", "writeKey": "k"}).encode()),
    ("ga4", json.dumps({"client_id": "c", "timestamp_micros": NOW, "events": [PURCHASE, PURCHASE]}).encode()),
    ("cloudevents", json.dumps([CLOUD, CLOUD | {"id": "2", "data": "text"}]).encode()),
]
PIECES = [b'"', *(b"{ } [ ] , : null NaN 1e999 \\ud800".split()), b"\xff", b"\x00", b'{"a":1,"a":2}', b""]
CUTS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 20), st.sampled_from(PIECES)), min_size=1, max_size=4)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.sampled_from(BODIES), cuts=CUTS)
def test_a_spoiled_request_is_held_whole_or_in_part_and_can_be_read_again(
    writer: StreamWriter, sent: tuple[str, bytes], cuts: list[tuple[int, int, bytes]]
) -> None:
    protocol, body = sent
    for at, length, piece in cuts:
        at %= len(body) or 1
        body = body[:at] + piece + body[at + length :]
    said = [("mode", "batch"), ("content-type", "application/cloudevents-batch+json")]
    requests = {
        "segment": lambda: SegmentMessages("batch", body, "s", NOW),
        "ga4": lambda: Ga4Messages(body, "G", "s", NOW),
        "cloudevents": lambda: CloudEventMessages(body, said, NOW),
    }
    if protocol == "ga4":
        findings(body)
    translator = Translator(writer.checker.contracts)
    batch = translator.batch(requests[protocol](), writer.checker)
    for bad in batch.bads:
        origin = bad.complaint.origin
        assert origin is not None
        if bad.complaint.sealed_for is None:
            assert b"".join(bad.raw.split(b"*")[:1]) in body
            again = reread(bad.raw, origin, "s")
            assert again is not None
            translator.again(again, origin.part)
