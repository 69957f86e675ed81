"""What a serving process tells the hub of its stream: the rates then need not read it."""

import asyncio

from serving_shop import Shop, body, record

from sampan.base.clock import SystemClock
from sampan.log import rates as module
from sampan.log.contracts import Contracts
from sampan.log.log import Log
from sampan.log.tally import Span
from sampan.serve.report import Reporter, read_report


def test_stretches_that_follow_each_other_are_one_and_statuses_are_summed() -> None:
    async def story() -> list[bytes]:
        sent: list[bytes] = []
        reporter = Reporter(sent.append)
        key = (0, "serve-a", "serve/a", "prediction")
        for start, end in ((10, 20), (20, 30), (50, 60)):
            reporter.kept("serve-a", Span(1, start, end), {key: [2, 0, 0]})
        for status in (200, 200, 503):
            reporter.answered(status)
        assert not sent
        await asyncio.sleep(0.3)
        reporter.flush()
        return sent

    (one,) = asyncio.run(story())
    report = read_report(one)
    assert [(each.span, list(each.counts.values())) for each in report.stretches] == [
        (Span(1, 10, 30), [[4, 0, 0]]),
        (Span(1, 50, 60), [[2, 0, 0]]),
    ]
    assert report.statuses == {200: 2, 503: 1}


def test_the_hub_counts_predictions_without_reading_their_frames(shop: Shop, monkeypatch) -> None:
    log = Log(shop.folder.data / "log", Contracts(), SystemClock(), shop.settings)
    read: list[int] = []

    def noting(fd: int, begin: int, end: int | None = None):
        for offset, payload in payloads(fd, begin, end):
            read.append(len(payload))
            yield offset, payload

    payloads = module.payloads
    monkeypatch.setattr(module, "payloads", noting)

    def counted() -> int:
        return sum(one.accepted for one in log.rates.by_hour() if one.type == "prediction")

    async def story() -> tuple[int, int, int]:
        async with shop.serving("reorder") as serving:
            serving.on_kept = log.rates.told
            await serving.predict("reorder", body(record()))
            await asyncio.sleep(0.3)
            first = counted()
            before = sum(read)
            for _ in range(20):
                await serving.predict("reorder", body(record(), record()))
            await asyncio.sleep(0.3)
            return first, counted(), sum(read) - before

    try:
        assert asyncio.run(story()) == (1, 41, 0)
    finally:
        log.keys.close()
