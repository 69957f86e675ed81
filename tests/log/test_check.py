"""Events against their contracts: what is accepted, what is quarantined, and the reason given."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.log.check import Checker, same_meaning
from sampan.log.identity import key_of
from sampan.log.items import split
from tests.log.conftest import Shop, line


@pytest.fixture
def checker(shop: Shop) -> Checker:
    return Checker(shop.contracts())


def reason(checker: Checker, event: Any) -> str | None:
    raw = event if isinstance(event, bytes) else json.dumps(event).encode()
    batch = checker.batch([raw])
    assert len(batch) == 1
    return batch.bads[0].complaint.text if batch.bads else None


ODD = json.dumps(line("a")).encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("event", "said"),
    [
        (line("a", quantity="six"), "invalid: Expected int, got str at $.data.quantity"),
        (line("a", price=-1.0), "$.data.price"),
        (line("a", country="Atlantis"), "$.data.country"),
        (line("a", tags=["x", 3]), "$.data.tags[1]"),
        (line(""), "$.id"),
        (line("x" * 201), "$.id"),
        (line("a") | {"source": ""}, "$.source"),
        (line("a") | {"time": "yesterday"}, "$.time"),
        (line("a", time="0001-01-01T00:00:00+14:00"), "in UTC it is before the year 1 or after 9999 at $.time"),
        (line("a", time="9999-12-31T23:30:00-01:00"), "in UTC it is before the year 1 or after 9999 at $.time"),
        (line("a") | {"known_at": "0001-01-01T00:59:00+01:00"}, "or after 9999 at $.known_at"),
        (json.dumps(line("a", time="TIME")).replace("TIME", "\\u0030001-01-01T00:00:00+14:00").encode(), "at $.time"),
        (line("a", pieces=6) | {"version": 1, "time": "0001-01-01T00:00:00+14:00"}, "at $.time"),
        (line("a") | {"type": "order"}, "unknown type: 'order' at $.type"),
        (line("a") | {"type": 7}, "unknown type: 7"),
        (line("a") | {"version": 3}, "unknown version: order_line has 1, 2, not 3"),
        (line("a") | {"version": "2"}, "unknown version"),
        ({"id": "a"}, "an event needs a type"),
        ({name: value for name, value in line("a").items() if name != "time"}, "missing required field time"),
        (["a"], "not an object"),
        (b"7", "not an object: 7"),
        (b'{"id": "a"', "not JSON"),
        (ODD.replace(b"6}", b"NaN}"), "not JSON"),
        (ODD.replace(b"6}", b"Infinity}"), "not JSON"),
        (ODD.replace(b"536365", b"\xff\xfe"), "not UTF-8: byte"),
        (ODD.replace(b'"invoice"', b'"x": "\xc3\x28", "invoice"'), "not UTF-8: byte"),
        (ODD.replace(b'"invoice"', b'"x":' + b"[" * 3000 + b"]" * 3000 + b',"invoice"'), "nested too deeply"),
        (ODD.replace(b'"invoice"', b'"quantity": 7, "invoice"'), "repeated key: 'quantity'"),
        (ODD.replace(b'"invoice"', b'"x": {"y": 1, "y" : 2}, "invoice"'), "repeated key: 'y'"),
        (ODD.replace(b'"id"', b'"i\\u0064": "b", "id"'), "repeated key: 'id'"),
        (ODD.replace(b'"id"', b'"id"\n:"b", "id"'), "repeated key: 'id'"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(checker: Checker, event: Any, said: str) -> None:
    assert said in (reason(checker, event) or "accepted")


@pytest.mark.parametrize(
    "event",
    [
        line("a"),
        line("a", customer="17850", price=2.55, country="France", tags=["gift"]),
        line("a", unheard_of={"x": [1, {"y": 2}]}),
        line("a", invoice='a ": b ": c'),
        line("a", invoice="na\u00efve \U0001f6a2"),
        line("a") | {"version": 2, "subject": "17850", "known_at": "2011-05-01T00:00:00Z", "extra": 1},
        line("a", time="2011-04-01T09:26:00+01:00"),
        line("a", time="2011-04-01T08:26:00"),
        line("a", time="0001-01-01T14:00:00+14:00"),
        line("a", time="9999-12-31T23:59:59.999999Z") | {"known_at": "0001-01-01T00:00:00"},
        json.dumps(line("a"), indent=2).encode(),
        json.dumps(line("a")).replace('": ', '" : ').encode(),
        {**line("a"), "version": 1, "data": {"invoice": "1", "pieces": 4}},
        {
            "id": "v",
            "type": "page_view",
            "source": "web",
            "time": "2026-01-01T00:00:00Z",
            "data": {"url": "/", "props": {"a": 1, "b": 2}},
        },
    ],
)
def test_odd_but_sound_events_are_accepted(checker: Checker, event: Any) -> None:
    assert reason(checker, event) is None


def test_every_event_of_a_large_batch_is_judged_as_it_is_alone(checker: Checker) -> None:
    events = [line(f"e{number}", quantity=number if number % 7 else "x") for number in range(100)]
    raws = [json.dumps(event).encode() for event in events]
    raws[3] = raws[3].replace(b'"id"', b'"id": "again", "id"')
    raws[5] = raws[5].replace(b'"id": ', b'"id" : ')
    raws[9] = raws[9].replace(b"536365", b"\xff")
    batch = checker.batch(raws)
    alone = [index for index, raw in enumerate(raws) if checker.batch([raw]).bads]
    assert [bad.index for bad in batch.bads] == alone
    assert {3, 9} <= set(alone)
    assert 5 not in alone
    assert batch.ids == [f"e{number}" for number in range(100) if number not in alone]


def test_of_our_own_events_only_keys_that_stand_twice_are_not_looked_for(checker: Checker) -> None:
    good = json.dumps(line("a", quantity=3)).encode()
    wrong = json.dumps(line("b", quantity="six")).encode()
    late = json.dumps(line("c", time="9999-12-31T23:30:00-01:00")).encode()
    latin = json.dumps(line("d")).encode().replace(b"536365", b"\xff\xfe")
    twice = good.replace(b'"quantity": 3', b'"quantity": 3, "quantity": 3').replace(b'"a"', b'"e"')
    asked, ours = (checker.batch([good, wrong, late, latin, twice], ours=one) for one in (False, True))
    assert [bad.index for bad in asked.bads] == [1, 2, 3, 4]
    assert [bad.index for bad in ours.bads] == [1, 2, 3]
    assert len(checker.batch([good], ours=True)) == len(checker.batch([good])) == 1


def test_events_that_came_alone_are_judged_together_as_they_are_alone(checker: Checker) -> None:
    events = [line(f"e{number}", quantity=number if number % 7 else "x") for number in range(50)]
    raws = [json.dumps(event).encode() for event in events]
    raws[3] = raws[3].replace(b'"id"', b'"id": "again", "id"')
    raws[9] = raws[9].replace(b"536365", b"\xff")
    raws[10] = json.dumps(line("größe"), ensure_ascii=False).encode()
    raws[11] = b"[1, 2"
    parts = ("raws", "keys", "codes", "ids", "bads", "size", "blobs", "timed")
    for together, raw in zip(checker.singles(raws), raws, strict=True):
        alone = checker.batch([raw])
        assert [getattr(together, part) for part in parts] == [getattr(alone, part) for part in parts]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


ITEMS = JSON.map(lambda value: json.dumps(value).encode()) | st.sampled_from([b'{"a": NaN}', b"[1, 2"])


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(extra=st.dictionaries(st.text(max_size=6).map("x".__add__), JSON, max_size=5), indent=st.sampled_from([None, 1]))
def test_unknown_fields_of_any_shape_are_kept_and_refuse_nothing(extra: dict[str, Any], indent: int | None) -> None:
    checker = _checker()
    raw = json.dumps(line("a", **extra), indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    batch = checker.batch([raw])
    if b"\xed" not in raw:  # a lone surrogate is not UTF-8
        assert batch.raws == [raw]


@settings(max_examples=150, deadline=None)
@given(items=st.lists(ITEMS, max_size=8))
def test_an_array_is_cut_into_the_bytes_of_its_items(items: list[bytes]) -> None:
    body = b"[" + b" , ".join(items) + b"]"
    if b"[1, 2" not in items:
        assert split(body) == items
    else:  # cut at least before the item that never ends, and nothing is lost but commas
        assert split(body)[: items.index(b"[1, 2")] == items[: items.index(b"[1, 2")]


GOOD = json.dumps(line("good")).encode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[" + GOOD + b',{"id": "' + b'\\"' * 500_000, "not JSON"),
        (b"[" + GOOD + b',{"id": "' + b'\\"' * 500_000 + b"\\", "not JSON"),
        (b"[" + GOOD + b',{"id": "' + b'x", "' * 200_000, "not JSON"),
        (b"[%b,{%b}]" % (GOOD, b",".join(b'"k%d":1' % (n % 99_999) for n in range(100_000))), "repeated key: 'k0'"),
        (b"[%b,%b]" % (GOOD, b",".join([ODD.replace(b"6}", b'6, "x": "\xff"}')] * 5_000)), "not UTF-8: byte"),
    ],
)
def test_a_large_broken_body_is_judged_in_no_time(checker: Checker, body: bytes, said: str) -> None:
    began = time.monotonic()
    batch = checker.read(body)
    assert time.monotonic() - began < 3
    assert batch.ids == ["good"]
    assert said in batch.bads[0].complaint.reason


def test_an_item_that_never_ends_is_cut_off_from_those_before_it() -> None:
    for rest in (b'{"a": "b', b'{"a": "\\', b'{"a": "\\"', b'{"a": ["b, ]}'):
        assert split(b'[{"a": "]"}, 7,' + rest) == [b'{"a": "]"}', b"7", rest]


def test_lines_are_recognised_without_being_announced(checker: Checker) -> None:
    raws = [json.dumps(line(id)).encode() for id in "abc"]
    assert checker.split(b"\n".join(raws)) == raws
    assert checker.split(b"\r\n".join(raws), lines=True) == raws
    assert checker.split(json.dumps(line("a"), indent=1).encode()) == [json.dumps(line("a"), indent=1).encode()]
    assert checker.split(b" \n") == []


def test_a_key_is_made_of_source_and_id_and_nothing_can_be_moved_between_them() -> None:
    assert key_of("ab", "c") != key_of("a", "bc")
    assert key_of("a", "b") == key_of("a", "b")


def test_two_texts_mean_the_same_if_only_their_writing_differs() -> None:
    one = json.dumps(line("a")).encode()
    assert same_meaning(one, json.dumps(line("a", time="2011-04-01T09:26:00+01:00"), indent=1).encode())
    assert not same_meaning(one, json.dumps(line("a", price=1.0)).encode())


def _checker() -> Checker:
    from sampan.log.contracts import Contracts
    from sampan.log.declare import Event

    class OrderLine(Event, version=2):
        invoice: str
        quantity: int

    return Checker(Contracts([OrderLine]))
