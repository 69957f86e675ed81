"""Records that are numbers alone go a shorter way from a request to its events; what comes of it is the same."""

import asyncio
import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_shop import FEATURES, body

from sampan.base.clock import ManualClock
from sampan.base.errors import Usage
from sampan.log.check import Checker
from sampan.log.contracts import Contracts
from sampan.models.formats import load
from sampan.models.inputs import Inputs, Numbers
from sampan.models.version import Signature
from sampan.serve.answer import Answerer
from sampan.serve.bundle import OpenBundle
from sampan.serve.native import read_numbers
from sampan.serve.reader import RECORDS_LIMIT
from sampan.serve.service import Service
from sampan.serve.verdict import Arm, Author, Verdict

NUMBER = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**25), 10**25)


def record(**more):
    return {"orders": 2, "recency": 0.5, "spend": 10.25, **more}


def without_rules(shop, form=""):
    bundle = msgspec.structs.replace(shop.endpoints.bundle(shop.endpoints.get("reorder").bundle), decision=None)
    opened = OpenBundle(bundle, load(bundle.model, shop.blobs), None, form=form)
    return Answerer("reorder", opened, ManualClock(1_300_000_000_000_000))


def the_long_way(shop, form=""):
    answerer = without_rules(shop, form)
    answerer._unread = False
    return answerer


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(("a", 'né "b"'.replace('"', ""), "f1"), NUMBER)), min_size=1))
def test_what_is_read_is_what_was_sent(records):
    inputs = Inputs(Signature(inputs=dict.fromkeys(records[0], "number"), output="number"))
    found = inputs.numbers([msgspec.Raw(json.dumps(one).encode()) for one in records])
    assert found is not None and len(found) == len(records)
    assert np.array_equal(found.matrix, inputs.matrix(records))
    assert list(found) == records and found[0] == records[0] and found[:1] == records[:1]
    assert found.matrix.flags.writeable  # models may work in it


@pytest.mark.parametrize(
    "sent",
    [
        b'{"orders":1,"orders":2,"recency":1,"spend":1}',
        b'{"orders":1,"recency":1}',
        b'{"orders":1,"recency":1,"spend":1,"more":1}',
        b'{"orders":null,"recency":1,"spend":1}',
        b'{"orders":true,"recency":1,"spend":1}',
        b'{"orders":"1","recency":1,"spend":1}',
        b'{"orders":[1],"recency":1,"spend":1}',
        b'{"orders":1e999,"recency":1,"spend":1}',
        b'{"orders":1,"recency":1,\n"spend":1}',
        b'{"orders":1,"recency":1,\r"spend":1}',
        b'{"order\xff":1,"recency":1,"spend":1}',
        b"[1, 2, 3]",
        b"3",
    ],
)
def test_what_is_not_surely_plain_is_left_to_the_long_way(shop, sent):
    inputs = Inputs(without_rules(shop).signature)
    plain = msgspec.Raw(json.dumps(record()).encode())
    assert inputs.numbers([plain]) is not None
    assert inputs.numbers([plain, msgspec.Raw(sent)]) is None


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"records": []}',
        b'{"records": {"orders": 1}}',
        b'{"records": [{"orders": 1}], "id": "x"}',
        body({"orders": 1, "recency": True, "spend": 2}),
        body(record(), {"recency": 1, "spend": 2}),
        body(*[record()] * (RECORDS_LIMIT + 1)),
        body(record(), ids=["a", "b"]),
        body(record(), time="yesterday"),
    ],
)
def test_what_is_wrong_is_said_in_the_same_words(shop, sent):
    said = []
    for answerer in (without_rules(shop), the_long_way(shop)):
        with pytest.raises(Usage) as caught:
            answerer.predict(answerer.read(sent).records)
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("form", ["", "onnx"])
def test_events_and_answers_are_those_of_the_long_way(shop, form):
    checker = Checker(Contracts())

    @given(st.lists(st.fixed_dictionaries(dict.fromkeys(FEATURES, NUMBER)), min_size=1, max_size=4), st.text('né"\\'))
    def each(records, name):
        sent = msgspec.json.encode({"records": records, "ids": [f"{place}{name}" for place in range(len(records))]})
        told = []
        for answerer in (without_rules(shop, form), the_long_way(shop, form)):
            asked = answerer.read(sent)
            told.append((asked, answerer.tell(asked, answerer.judge(asked.records, answerer.predict(asked.records)))))
        (quick, short), (slow, long) = told
        assert isinstance(quick.records, Numbers) and not isinstance(slow.records, Numbers)
        assert short.answers == long.answers and short.sure == long.sure
        assert list(map(timeless, short.events)) == list(map(timeless, long.events))
        assert not checker.batch(short.events).bads  # as if they came from outside

    each()


def timeless(event):
    made = json.loads(event)
    assert made["data"].pop("latency_us") >= 0
    return made


def test_an_event_without_blanks_is_the_same_byte_for_byte(shop):
    events = []
    for answerer in (without_rules(shop), the_long_way(shop)):
        asked = answerer.read(b'{"records":[{"orders":2.0,"recency":0.5,"spend":10.25}],"ids":["a"]}')
        (event,) = answerer.tell(asked, [Verdict(0.25)]).events
        took = msgspec.json.decode(event)["data"]["latency_us"]
        events.append(event.replace(b'"latency_us":%d' % took, b'"latency_us":1'))
    assert events[0] == events[1]


def test_a_key_that_came_twice_is_in_no_event_twice(shop):
    answerer = without_rules(shop)
    asked = answerer.read(b'[{"orders":1,"orders":2,"recency":1,"spend":1}]')
    again = answerer.read(b'{"records":[{"orders":1,"orders":2,"recency":1,"spend":1}]}')
    for one in (asked, again):
        (event,) = answerer.tell(one, [Verdict(0.25)]).events
        assert event.count(b'"orders"') == 1 and msgspec.json.decode(event)["data"]["features"]["orders"] == 2


def test_what_a_fallback_or_a_candidate_says_is_told_as_such(shop):
    candidate = Author("reorder@2", "b" * 64, tuple(FEATURES))
    other = Author("reorder@3", "c" * 64, ("spend", "orders"))
    stage = {"rollout": "r", "stage": 1}
    theirs = Arm(candidate, {"variant": "candidate", **stage})
    arms = [theirs, Arm(other, {"variant": "candidate"})]
    quick, slow = without_rules(shop), the_long_way(shop)
    sent = body(record(), record(spend=3), ids=["a", "b"])
    for verdicts, whose in [
        ([Verdict(0.5, fallback="it hangs")] * 2, None),
        ([Verdict(0.5), Verdict(0.25)], arms),
        ([Verdict(0.5), Verdict(0.25, form="onnx")], [Arm(quick.author, {"variant": "champion", **stage}), theirs]),
        ([Verdict(0.5, form="onnx"), Verdict(0.25, form="onnx")], [theirs, theirs]),
        ([Verdict(0.5), Verdict(0.25)], [theirs, Arm(quick.author, {**theirs.told, "fallback": "timeout"})]),
        ([Verdict(0.5), Verdict(None, error="it raised")], [theirs, theirs]),
        ([Verdict(math.nan), Verdict("many")], None),
    ]:
        told = [answerer.tell(answerer.read(sent), verdicts, whose) for answerer in (quick, slow)]
        assert str(told[0].answers) == str(told[1].answers) and told[0].sure == told[1].sure
        assert [timeless(one) for one in told[0].events] == [timeless(one) for one in told[1].events]


def test_requests_of_numbers_are_predicted_together_and_known_by_their_ids(shop):
    kept, said = [], {}

    class Sink:
        broken = False

        async def keep(self, events, ids=(), blobs=None, *, drawn=False):
            kept.extend(events)

        def stored(self, identity):
            return next((json.loads(one)["data"] for one in kept if json.loads(one)["id"] == identity), None)

    async def main():
        answerer = without_rules(shop)
        service = Service(answerer, Sink(), lambda request, status, answer: said.update({request: (status, answer)}))
        service.ask(1, body(record(), record(spend=900)))
        service.ask(2, body(record(orders=7), ids=["mine"]))
        service.ask(3, body(record(orders=True)))
        service.ask(4, json.dumps(record(spend=1)).encode())
        await service.finish()
        service.ask(5, body(record(orders=7.0), ids=["mine"]))
        service.ask(6, body(record(orders=8), ids=["mine"]))
        await service.finish()
        fresh = Service(answerer, Sink(), lambda request, status, answer: said.update({request: (status, answer)}))
        fresh.ask(7, body(record(orders=7), ids=["mine"]))  # found in the stream
        await fresh.finish()

    asyncio.run(main())
    assert [said[n][0] for n in range(1, 8)] == [200, 200, 400, 200, 409, 409, 200]
    assert len(kept) == 4
    assert json.loads(said[7][1]) == json.loads(said[2][1])
    alone = {}
    for n, asked in ((1, [record(), record(spend=900)]), (2, [record(orders=7)])):
        answerer = the_long_way(shop)
        alone[n] = answerer.predict(asked)
        assert [one["prediction"] for one in json.loads(said[n][1])["predictions"]] == pytest.approx(alone[n])


@pytest.mark.parametrize("name", ['a "b"', "a\\b", "a\nb"])
def test_names_that_json_escapes_go_the_long_way(name):
    inputs = Inputs(Signature(inputs={name: "number", "c": "number"}, output="number"))
    assert inputs.numbers([msgspec.Raw(msgspec.json.encode({name: 1, "c": 2}))]) is None
    assert inputs.matrix([{name: 1, "c": 2}]).tolist() == [[1, 2]]


def test_the_envelope_may_hold_its_records_alone(shop):
    inputs = Inputs(without_rules(shop).signature)
    call = read_numbers(body(record(), ids=["a"], time="2011-03-13T00:00:00Z"), inputs)
    assert call is not None and (call.ids, call.time) == (["a"], "2011-03-13T00:00:00Z")
    assert read_numbers(json.dumps([record()]).encode(), inputs) is None
