"""Who sends how much of what, by the hour: exact whatever is sealed, killed or written by somebody else."""

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from sampan.log.rates import HOUR, ProducerRate, Rates, count, producer_rates
from sampan.log.tally import MINUTE
from tests.log.conftest import Shop, line


def send(writer: Any, producer: str, *events: Any) -> None:
    writer.append(writer.checker.read(json.dumps(list(events)).encode()), producer)


def view(id: str, source: str = "web") -> dict[str, Any]:
    data = {"url": "/", "props": {}}
    return {"id": id, "type": "page_view", "source": source, "time": "2026-01-01T00:00:00Z", "data": data}


def fill(shop: Shop) -> list[ProducerRate]:
    """Two producers, two sources, two hours, every verdict; gives what must be counted."""
    writer = shop.writer()
    first = shop.clock.micros()
    send(writer, "till", line("1"), line("2"), view("3"), line("1"))
    send(writer, "till", line("4") | {"data": {"invoice": "1", "quantity": "six"}}, {"no": "type"}, line("2"))
    send(writer, "site", view("5"), view("6", source="app"))
    shop.clock.advance(timedelta(minutes=61))
    send(writer, "site", view("7"))
    return [
        ProducerRate("site", "app", "page_view", first, 1),
        ProducerRate("site", "web", "page_view", first, 1),
        ProducerRate("till", "", "", first, 0, 2, 1),
        ProducerRate("till", "shop", "order_line", first, 2, 0, 1),
        ProducerRate("till", "web", "page_view", first, 1),
        ProducerRate("site", "web", "page_view", first + HOUR, 1),
    ]


def test_counts_by_producer_source_type_and_hour(shop: Shop) -> None:
    expected = fill(shop)
    assert producer_rates(shop.log()) == expected
    assert producer_rates(shop.log(), since=shop.clock.micros()) == expected[-1:]


def test_counts_until_an_instant_are_those_of_the_minutes_that_were_over(shop: Shop) -> None:
    expected = fill(shop)
    first = expected[0].hour
    for sealed in (False, True):
        if sealed:
            shop.close()
            shop.writer().seal()
        rates = shop.log().rates
        for until, most in ((first + MINUTE - 2, 0), (first + MINUTE - 1, 5), (first + HOUR, 5)):
            assert rates.by_hour(0, until) == expected[:most]
        assert rates.by_hour(0, first + HOUR + 2 * MINUTE - 1) == expected
        assert rates.by_hour(first + HOUR, first + 2 * HOUR) == expected[5:]


def test_sealing_changes_no_count_whoever_counts_and_whenever(shop: Shop) -> None:
    expected = fill(shop)
    watching = shop.log()
    assert producer_rates(watching) == expected
    shop.close()
    writer = shop.writer()
    send(writer, "site", view("8"))  # which nobody counts before it is sealed
    writer.seal()
    send(writer, "site", view("9"))
    expected[-1] = ProducerRate("site", "web", "page_view", expected[-1].hour, 3)
    assert producer_rates(watching) == expected, "one that has seen it grow"
    for path in (shop.root / ".sampan" / "cache" / "log" / "rates").rglob("*.json"):
        path.unlink()
    assert producer_rates(shop.log()) == expected, "one that counts it from Parquet"
    assert producer_rates(shop.log()) == expected, "one that finds it in the cache"


def test_a_window_is_exact_to_the_minute_and_reaches_into_sealed_segments(shop: Shop) -> None:
    writer = shop.writer()
    begin = shop.clock.micros()
    for minute in range(10):
        send(writer, "till", line(f"{minute}"), {"broken": minute})
        if minute == 4:
            writer.seal()
        shop.clock.advance(timedelta(minutes=1))
    rates = shop.log().rates
    told = Counter(
        {
            kind: sum(getattr(rate, kind) for rate in rates.window(begin + 3 * MINUTE))
            for kind in ("accepted", "quarantined")
        }
    )
    assert told == {"accepted": 7, "quarantined": 7}
    assert rates.last() == {"till": begin + 9 * MINUTE}


def test_the_cache_of_another_log_is_not_believed(shop: Shop, make_shop: Callable[..., Shop]) -> None:
    fill(shop)
    shop.close()
    shop.writer().seal()
    expected = producer_rates(shop.log())
    other = make_shop("other")
    send(other.writer(), "till", line("1"))
    other.close()
    other.writer().seal()
    producer_rates(other.log())
    mixed = Rates(shop.root / ".sampan" / "log", other.root / ".sampan" / "cache" / "log" / "rates")
    assert mixed.by_hour() == expected


def test_counts_equal_the_sums_of_the_log(shop: Shop) -> None:
    fill(shop)
    log = shop.log()
    stats = log.stats()
    for verdict in ("accepted", "duplicate", "quarantined"):
        assert sum(getattr(rate, verdict) for rate in producer_rates(log)) == stats[verdict]


def test_catching_up_counts_the_same_in_small_turns_and_lets_others_in(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fill(shop)
    log, turns = shop.log(), 0

    def rest(seconds: float) -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            assert log.rates._lock.acquire(blocking=False), "whoever waits for the counts gets in between"
            log.rates._lock.release()

    monkeypatch.setattr("sampan.log.rates._WORK", 0.0)
    monkeypatch.setattr("sampan.log.rates.time.sleep", rest)
    log.rates.catch_up()
    assert turns >= 2
    assert producer_rates(log) == expected


def test_catching_up_ends_where_more_comes_than_it_counts(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(shop)
    shop.close()
    log, writer, began, sent = shop.log(), shop.writer(), time.perf_counter(), itertools.count()

    def rest(seconds: float) -> None:
        assert time.perf_counter() - began < 10, "it goes on for as long as something comes"
        for _ in range(2):
            send(writer, "site", view(f"more{next(sent)}"))

    monkeypatch.setattr("sampan.log.rates._WORK", 0.0)
    monkeypatch.setattr("sampan.log.rates._GIVING_WAY", 0.1)
    with monkeypatch.context() as patched:
        patched.setattr("sampan.log.rates.time.sleep", rest)
        log.rates.catch_up()
    assert next(sent) > 2
    assert sum(rate.accepted for rate in producer_rates(log)) == log.stats()["accepted"]


def test_what_was_counted_of_an_unsealed_segment_is_not_counted_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sampan.log.rates._WORTH_KEEPING", 1)
    expected = fill(shop)
    assert producer_rates(shop.log()) == expected
    counted = 0

    def counting(counts: Any, frame: Any) -> None:
        nonlocal counted
        counted += 1
        count(counts, frame)

    monkeypatch.setattr("sampan.log.rates.count", counting)
    assert producer_rates(shop.log()) == expected
    assert counted == 0
    shop.close()
    send(shop.writer(), "site", view("8"))
    expected[-1] = ProducerRate("site", "web", "page_view", expected[-1].hour, 2)
    assert producer_rates(shop.log()) == expected
    assert counted == 1
    for path in (shop.root / ".sampan" / "cache" / "log" / "rates").rglob("*.growing.json"):
        path.write_bytes(path.read_bytes().replace(b'"offset":', b'"offset":9'))  # further than the segment goes
    assert producer_rates(shop.log()) == expected
