"""A writer that a loop serves and that threads ask, too: nothing is numbered twice, nobody pays for another's event."""

import asyncio
import json
import random
import threading
import time
from typing import Any

import pytest

from sampan.log.check import Checker
from sampan.log.rates import Rates, producer_rates
from sampan.log.segment import Segment
from sampan.log.verify import verify_stream
from tests.log.conftest import Shop, line


def body(*events: Any) -> bytes:
    return json.dumps(list(events)).encode()


def test_the_first_event_waits_for_a_repair_that_began_before_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = shop.writer()
    syncing, sync = threading.Event(), Segment.sync

    def slow(segment: Segment) -> None:
        syncing.set()
        time.sleep(0.3)
        sync(segment)

    monkeypatch.setattr(Segment, "sync", slow)
    answers: list[Any] = []

    def repair() -> None:
        answers.extend(writer.append(writer.checker.read(body(line("a"), line("b"))), "fix:me").verdicts())

    async def send() -> None:
        thread = threading.Thread(target=repair)
        thread.start()
        await asyncio.to_thread(syncing.wait)
        answers.extend((await writer.submit(json.dumps(line("c")).encode(), "till")).verdicts())
        await asyncio.to_thread(thread.join)

    asyncio.run(send())
    assert sorted((one.id, one.position) for one in answers) == [
        ("a", "intake:1"),
        ("b", "intake:2"),
        ("c", "intake:3"),
    ]
    shop.close()
    log = shop.log()
    assert list(verify_stream(log.readers()["intake"])) == []
    assert [event.id for event in log.events()] == ["a", "b", "c"]


def test_an_event_that_cannot_be_checked_fails_alone(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = shop.writer()
    check = Checker.batch

    def fragile(self: Checker, items: Any, also: Any = None) -> Any:
        if any(b"poison" in item for item in items):
            raise TypeError("a mistake of ours")
        return check(self, items, also)

    monkeypatch.setattr(Checker, "batch", fragile)

    async def send() -> list[Any]:
        raws = [json.dumps(line(id)).encode() for id in ("a", "poison", "b")]
        return await asyncio.gather(*(writer.submit(raw, "till") for raw in raws), return_exceptions=True)

    first, culprit, last = asyncio.run(send())
    assert isinstance(culprit, TypeError)
    assert [answer.verdicts()[0].verdict for answer in (first, last)] == ["accepted", "accepted"]
    assert (writer.counts.accepted, writer.counts.refused) == (2, 1)


def test_what_a_writer_tells_of_its_frames_is_what_the_file_says(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    log = shop.log()
    writer = log.writer()
    chance = random.Random(5)
    read = 0
    count = Rates.catch_up.__globals__["count"]

    def counting(counts: Any, frame: Any) -> None:
        nonlocal read
        read += 1
        count(counts, frame)

    monkeypatch.setattr("sampan.log.rates.count", counting)
    try:
        log.rates.catch_up()
        for number in range(60):
            ids = [f"e{chance.randrange(200)}" for _ in range(chance.randrange(1, 6))]
            events = [line(id, quantity=chance.choice([6, 6, "six"])) | {"source": f"s{number % 3}"} for id in ids]
            writer.append(writer.checker.read(body(*events)), f"p{number % 2}")
            if number == 30:
                writer.seal()
            if not chance.randrange(7):
                log.rates.catch_up()
        assert read == 0, "nothing had to be read again"
        told = producer_rates(log)
    finally:
        writer.close()
    assert told == producer_rates(shop.log())
    assert read > 0
    counts = {name: sum(getattr(rate, name) for rate in told) for name in ("accepted", "duplicate", "quarantined")}
    assert counts == {name: log.stats()[name] for name in counts}


@pytest.mark.slow
def test_what_another_process_writes_afterwards_is_counted_too(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sampan.log.rates._FOLLOWED", 0.0)
    log = shop.log()
    writer = log.writer()
    log.rates.catch_up()
    for number in range(3):
        writer.append(writer.checker.read(body(line(f"e{number}"))), "till")
        assert sum(rate.accepted for rate in producer_rates(log)) == number + 1
    writer.close()
    shop.send(line("elsewhere"))
    assert sum(rate.accepted for rate in producer_rates(log)) == 4
