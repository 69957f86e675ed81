"""Time-lapse and its connections, against a small real HTTP server that answers as a hub would."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from sampan.base.clock import SharedClock, to_micros
from sampan.base.errors import SampanError, Unreachable
from sampan.demo.shop import DAY, Line, Order
from sampan.demo.timelapse import HOUR, RESEND_EVERY, Timelapse
from sampan.demo.wire import Wire

START = to_micros(datetime(2011, 4, 1, 9, tzinfo=UTC))


class PaperHub:
    """Accepts every event once, answers every prediction with a half; can be told to be busy or broken."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.asked: list[dict] = []
        self.collected: list[str] = []
        self.order: list[str] = []
        self.statuses: list[int] = []
        self.chunked = False

    async def __aenter__(self) -> "PaperHub":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                size = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
                body = json.loads(await reader.readexactly(size))
                status, answer = self._answer(head.split(" ")[1], body)
                data = json.dumps(answer).encode()
                if self.chunked:
                    half = len(data) // 2
                    parts = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (data[:half], data[half:]))
                    payload = b"Transfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"
                else:
                    payload = b"Content-Length: %d\r\n\r\n%s" % (len(data), data)
                writer.write(b"HTTP/1.1 %d X\r\nRetry-After: 0\r\n%s" % (status, payload))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, path: str, body) -> tuple[int, dict]:
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            return status, {"error": "not now"}
        if path == "/v1/events":
            results = []
            for event in body:
                verdict = "duplicate" if event["id"] in self.seen else "accepted"
                if event["data"].get("quantity") == -1:
                    verdict = "quarantined"
                self.seen.add(event["id"])
                self.order.append(event["type"])
                results.append({"id": event["id"], "verdict": verdict, "reason": "Expected `int` >= 1"})
            return 200, {"results": results}
        if path.startswith("/mp/collect"):
            self.collected.append(path)
            return 204, {}
        self.asked.append(body)
        self.order.append("asked")
        made = {"id": body["ids"][0], "prediction": 0.5, "action": "wait", "rule": "r", "version": "reorder@1"}
        return 200, {"predictions": [made]}


def line(at: int, quantity: int = 2) -> Line:
    data = {"id": f"line-{at}", "type": "order_line", "data": {"quantity": quantity}}
    return Line(at, json.dumps(data).encode())


def order(number: int, at: int, returned: bool | None) -> Order:
    return Order(str(number), at, {"order_id": str(number)}, returned)


@pytest.fixture
def clock(tmp_path):
    return SharedClock.create(tmp_path / "clock", START - HOUR)


def play(clock, tell, hub=None):
    """Run a coroutine function of (timelapse, hub) with a connection to a paper hub."""

    async def run():
        async with hub or PaperHub() as paper:
            played = Timelapse(clock, "reorder")
            played.wire = Wire(paper.url, "smp_x", size=4)
            try:
                await tell(played, paper)
            finally:
                await played.wire.close()
            return played, paper

    return asyncio.run(run())


def test_sent_is_the_sum_of_the_verdicts_when_a_busy_hub_refuses_first(clock):
    async def tell(played, hub):
        hub.statuses = [503, 503]
        await played.history(iter([line(START), line(START + 1, quantity=-1)]), lambda n: None)

    played, _ = play(clock, tell)
    tally = played.tally
    assert tally.sent == 6 == sum(tally.verdicts.values())
    assert tally.verdicts == {"refused": 4, "accepted": 1, "quarantined": 1}
    assert tally.reasons == {"Expected `int` >= 1": 1}


def test_an_upload_whose_answer_is_lost_is_sent_again_and_counted_as_duplicate(clock):
    async def tell(played, hub):
        for number in range(RESEND_EVERY):
            await played.upload([line(START + number)])

    played, _ = play(clock, tell)
    assert played.tally.verdicts == {"accepted": RESEND_EVERY, "duplicate": 1}


def test_what_the_web_shop_collects_goes_by_its_own_protocol_and_is_counted_by_items(clock):
    async def tell(played, hub):
        await played.upload([line(START), Line(START, b'{"events": []}', 7)])
        assert hub.collected == ["/mp/collect?measurement_id=G-RETAIL&api_secret=smp_x"]

    tally = play(clock, tell)[0].tally
    assert (tally.sent, tally.untold, tally.verdicts) == (8, 7, {"accepted": 1})


def test_the_clock_goes_with_the_lines_and_never_back(clock):
    async def tell(played, hub):
        await played.history(iter([line(START), line(START + 5)]), lambda n: None)
        assert clock.micros() == START + 5
        played.move(START)
        assert clock.micros() == START + 5

    play(clock, tell)


def test_each_order_asks_once_and_its_outcome_comes_when_thirty_days_are_over(clock):
    orders = [order(1, START, True), order(2, START + HOUR, None), order(3, START + 2 * HOUR, False)]
    lines = [line(START + step * 12 * HOUR) for step in range(64)]
    over = []

    async def tell(played, hub):
        await played.year(iter(lines), orders, lambda n: None, over.append)
        assert len(hub.asked) == 3
        assert hub.asked[0]["time"] == "2011-04-01T09:00:00Z"
        told = hub.order.index("outcome")
        days = hub.order[:told].count("order_line") / 2
        assert 30 <= days <= 31

    played, hub = play(clock, tell)
    assert hub.order.count("outcome") == 2  # the year ended too early for the second
    assert [(case.month, case.returned) for case in played.decided] == [("2011-04", True), ("2011-04", False)]
    assert [f"{when:%Y-%m}" for when in over] == ["2011-05"]
    assert played.last_prediction == "order-3"
    assert clock.micros() - START > 30 * DAY


def test_an_answer_in_chunks_is_read(clock):
    hub = PaperHub()
    hub.chunked = True

    async def tell(played, hub):
        await played.upload([line(START)])

    assert play(clock, tell, hub)[0].tally.verdicts == {"accepted": 1}


def test_an_answer_that_nobody_expected_is_an_error_with_the_hub_s_words(clock):
    async def tell(played, hub):
        hub.statuses = [400]
        await played.upload([line(START)])

    with pytest.raises(SampanError, match=r"answered 400.*not now"):
        play(clock, tell)


def test_a_hub_that_is_gone_is_said_to_be_gone(clock):
    async def tell():
        wire = Wire("http://127.0.0.1:9", "smp_x", size=1)
        try:
            await wire.get("/health")
        finally:
            await wire.close()

    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
        asyncio.run(tell())
