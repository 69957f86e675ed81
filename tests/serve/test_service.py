"""No answer before its event is kept; what one request does wrong stays its own."""

import asyncio
import json
import threading

import msgspec
from serving_shop import body, record

from sampan.base.clock import ManualClock
from sampan.base.errors import DiskFull
from sampan.models.formats import load
from sampan.serve.answer import Answerer
from sampan.serve.bundle import OpenBundle, facts_of
from sampan.serve.decisions import Action, decision
from sampan.serve.fallback import substitute
from sampan.serve.service import Service


class Disk:
    """A sink whose sync ends when the test says so, or fails."""

    def __init__(self):
        self.kept: list[bytes] = []
        self.groups = 0
        self.turning = asyncio.Event()
        self.fault = None
        self.broken = False

    async def keep(self, events, ids=(), blobs=None, *, drawn=False):
        self.groups += 1
        await self.turning.wait()
        if self.fault:
            raise self.fault
        self.kept.extend(events)

    def stored(self, identity):
        return next((json.loads(one)["data"] for one in self.kept if json.loads(one)["id"] == identity), None)

    def close(self):
        pass


class Counting:
    """The shop's predictor, counting its calls; it fails on one customer's record."""

    def __init__(self, predictor):
        self.signature, self._predictor, self.calls = predictor.signature, predictor, 0
        self.threads: set[str] = set()

    def predict(self, records):
        self.calls += 1
        self.threads.add(threading.current_thread().name)
        if any(one.get("customer_id") == "poison" for one in records):
            raise ZeroDivisionError("in the model")
        return self._predictor.predict(records)


def run(shop, story, **declared):
    async def main():
        rules = decision(model="reorder", entity="customer_id", **declared)(lambda p, c: Action("wait"))
        bundle = shop.endpoints.bundle(shop.endpoints.get("reorder").bundle)
        bundle = msgspec.structs.replace(bundle, decision=facts_of(rules))
        predictor = Counting(load(bundle.model, shop.blobs))
        disk, answers = Disk(), {}

        def send(request, status, sent):
            assert request not in answers, "answered twice"
            answers[request] = (status, json.loads(sent))

        opened = OpenBundle(bundle, predictor, rules, substitute(rules, bundle.model.signature))
        service = Service(Answerer("reorder", opened, ManualClock(0)), disk, send)
        await story(service, disk, answers, predictor)
        await service.finish()

    asyncio.run(main())


def test_no_answer_leaves_before_its_event_is_kept(shop):
    async def story(service, disk, answers, predictor):
        service.ask(1, body(record()))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not answers
        disk.turning.set()
        await service.finish()
        assert answers[1][0] == 200 and len(disk.kept) == 1

    run(shop, story)


def test_where_the_model_raises_on_one_record_its_fallback_answers_that_one_alone(shop):
    async def story(service, disk, answers, predictor):
        disk.turning.set()
        service.ask(1, body(record()))
        service.ask(2, body(record(), record(customer_id="poison")))
        service.ask(3, body(record(orders="many")))
        await service.finish()
        assert {request: status for request, (status, _) in answers.items()} == {1: 200, 2: 200, 3: 400}
        assert "fallback" not in answers[1][1]["predictions"][0]
        said = "the model raised ZeroDivisionError: in the model"
        assert [(one["prediction"], one["fallback"]) for one in answers[2][1]["predictions"]] == [(0.25, said)] * 2
        assert sorted(json.loads(one)["data"].get("fallback", "") for one in disk.kept) == ["", said, said]

    run(shop, story, fallback=0.25)


def test_requests_of_one_moment_are_predicted_together(shop):
    async def story(service, disk, answers, predictor):
        disk.turning.set()
        for request in range(10):
            service.ask(request, body(record(orders=request), record()))
        await service.finish()
        assert predictor.calls == 1 and [status for status, _ in answers.values()] == [200] * 10
        first = {answers[n][1]["predictions"][0]["prediction"] for n in range(10)}
        assert first == set(load(shop.models.get("reorder"), shop.blobs).predict([record(orders=n) for n in range(10)]))

    run(shop, story)


def test_many_records_are_predicted_in_a_thread_where_the_model_lets_go(shop):
    async def story(service, disk, answers, predictor):
        disk.turning.set()
        service.ask(1, body(*[record(orders=n) for n in range(40)]))
        await service.finish()
        assert predictor.threads == {threading.current_thread().name}  # it does not say that it does
        service._answerer.free = True
        service.ask(2, body(*[record(orders=n) for n in range(40)]))
        service.ask(3, body(record()))
        service.ask(4, body(record(orders="many")))
        service.ask(5, body(record(customer_id="poison")))
        await service.finish()
        assert [answers[n][0] for n in range(1, 6)] == [200, 200, 200, 400, 500]
        told = [[one["prediction"] for one in answers[n][1]["predictions"]] for n in (1, 2)]
        assert told[0] == told[1] and len(disk.kept) == 81
        assert any(name.startswith("predict") for name in predictor.threads)
        predictor.threads.clear()
        service.ask(6, body(record()))  # few are not worth it
        await service.finish()
        assert predictor.threads == {threading.current_thread().name}

    run(shop, story)


def test_what_one_request_does_wrong_stays_its_own(shop):
    async def story(service, disk, answers, predictor):
        disk.turning.set()
        service.ask(1, body(record()))
        service.ask(2, b"nonsense")
        service.ask(3, body(record(spend=None, orders="x")))
        service.ask(4, body(record(customer_id="poison")))
        service.ask(5, body(record()))
        await service.finish()
        assert {request: status for request, (status, _) in answers.items()} == {1: 200, 2: 400, 3: 400, 4: 500, 5: 200}
        assert answers[3][1]["error"]["field"] == "orders"
        assert "ZeroDivisionError: in the model" in answers[4][1]["error"]["obstacle"]
        assert len(disk.kept) == 2

    run(shop, story)


def test_a_full_disk_is_said_and_the_id_can_be_asked_again(shop):
    async def story(service, disk, answers, predictor):
        disk.fault = DiskFull("Append", "the disk is full", "Free some space.")
        disk.turning.set()
        service.ask(1, body(record(), ids=["order-1"]))
        await service.finish()
        service.ask(2, body(record(), ids=["order-1"]))
        await service.finish()
        disk.fault = None
        service.ask(3, body(record(), ids=["order-1"]))
        await service.finish()
        service.ask(4, body(record(), ids=["order-1"]))
        await service.finish()
        assert [answers[n][0] for n in (1, 2, 3, 4)] == [507, 507, 200, 200]
        assert answers[3][1] == answers[4][1] and len(disk.kept) == 1

    run(shop, story)


def test_a_repeated_id_waits_for_the_first_requests_sync(shop):
    async def story(service, disk, answers, predictor):
        service.ask(1, body(record(), ids=["order-1"]))
        await asyncio.sleep(0.01)
        service.ask(2, body(record(), ids=["order-1"]))
        await asyncio.sleep(0.01)
        assert not answers
        disk.turning.set()
        await service.finish()
        assert answers[1] == answers[2] and disk.groups == 1

    run(shop, story)


def test_some_old_and_some_new_ids_in_one_request_are_refused(shop):
    async def story(service, disk, answers, predictor):
        disk.turning.set()
        service.ask(1, body(record(), ids=["a"]))
        await service.finish()
        service.ask(2, body(record(), record(), ids=["a", "b"]))
        await service.finish()
        assert answers[2][0] == 409 and "1 of the 2 ids" in answers[2][1]["error"]["obstacle"]
        assert len(disk.kept) == 1

    run(shop, story)
