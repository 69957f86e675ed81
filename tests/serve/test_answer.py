"""What a request may look like, and the one clear message for what it may not."""

import json
import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_shop import body, record

from sampan.base.clock import ManualClock
from sampan.base.errors import SampanError, Usage
from sampan.serve.answer import Answerer
from sampan.serve.bundle import OpenBundle, facts_of
from sampan.serve.decisions import Action, decision
from sampan.serve.reader import RECORDS_LIMIT


@pytest.fixture
def answerer(shop):
    return make(shop)


def make(shop, rules=None):
    """An answerer in this process, with rules of the test's own if given."""
    import msgspec

    from sampan.models.formats import load

    bundle = shop.endpoints.bundle(shop.endpoints.get("reorder").bundle)
    rules = rules or decision(model="reorder", entity="customer_id")(lambda p, c: Action("wait"))
    bundle = msgspec.structs.replace(bundle, decision=facts_of(rules))
    opened = OpenBundle(bundle, load(bundle.model, shop.blobs), rules)
    return Answerer("reorder", opened, ManualClock(1_300_000_000_000_000))


def answer(answerer, sent):
    asked = answerer.read(sent)
    answered = answerer.decide(asked, answerer.predict(asked.records))
    status, said = answerer.say(asked, answered.answers)
    return SimpleNamespace(status=status, body=json.loads(said), events=answered.events)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON|nested too deep"),
        (body(record(orders=math.nan)), "NaN in field 'orders' is no number in it"),
        (body(record(), record(spend=-math.inf)), "-Infinity in field 'spend' is no number in it"),
        (body(record()).replace(b"10.25", b"1e999"), "1e999 in field 'spend' is no number in it"),
        (b"[[NaN]]", "NaN is no number in it"),
        (body(record(orders=[[1.0], [math.nan]])), "NaN in field 'orders' is no number in it"),
        (b'{"NaN": }', "JSON is malformed"),
        (b"[]", "the list of records is empty"),
        (b'{"records": []}', "the list of records is empty"),
        (b'{"records": {"orders": 1}, "id": "x"}', "unknown field 'id' beside records"),
        (b"3", "record 0: expected an object, got 3"),
        (b'[{"orders": 1, "recency": 1, "spend": 1, "customer_id": 1}, "x"]', 'record 1: expected an object, got "x"'),
        (body(record(orders=...)), "field 'orders' is missing; expected a number or null"),
        (body(record(orders="many")), "field 'orders': expected a number or null, got \"many\""),
        (body(record(orders={"n": 1})), "field 'orders': expected a number or null, got {\"n\":1}"),
        (body(record(), record(spend=False)), "record 1, field 'spend': expected a number or null, got false"),
        (body(record(customer_id=...)), "field 'customer_id' is missing; it names whom"),
        (body(record(customer_id=[1])), "field 'customer_id': expected a text, a whole number or null, got \\[1\\]"),
        (body(record(customer_id=True)), "got true"),
        (body(record(), ids=["a", "b"]), "expected a list of 1 texts, one per record, got 2 of them"),
        (body(record(), ids="a"), 'expected a list of 1 texts, one per record, got "a"'),
        (body(record(), ids=[1]), "expected texts of 1 to 200 characters, got 1"),
        (body(record(), ids=[""]), 'expected texts of 1 to 200 characters, got ""'),
        (body(record(), record(), ids=["a", "a"]), "the same id stands for two records"),
        (body(record(), time="yesterday"), 'expected ISO text such as 2011-04-01T08:26:00Z, got "yesterday"'),
        (body(record(), time=12), "expected ISO text such as 2011-04-01T08:26:00Z, got 12"),
        (body(record(), time="2011-03-14T00:00:00Z"), "lies in the future"),
        (body(*[record()] * (RECORDS_LIMIT + 1)), "10001 records at once"),
        (body(record(spend="x" * 5000)), r'got "x{50,}\.\.\.'),
    ],
)
def test_bad_input_gets_one_message_with_field_expectation_and_value(answerer, sent, said):
    with pytest.raises(Usage, match=said) as caught:
        answer(answerer, sent)
    assert caught.value.status == 400
    assert len(str(caught.value)) < 500


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_json_at_all_is_more_than_a_400(data):
    leaves = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
    names = st.sampled_from(["orders", "recency", "spend", "customer_id", "records", "ids", "time", "x"])
    value = st.recursive(
        leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(names, v, max_size=6), max_leaves=12
    )
    sent = json.dumps(data.draw(value)).encode()
    try:
        found = answer(ANSWERER[0], sent)
    except Usage:
        return
    assert found.status == 200


ANSWERER = []


@pytest.fixture(autouse=True)
def shared(answerer):
    """hypothesis wants no function-scoped fixture; one answerer does for all examples."""
    ANSWERER[:] = [answerer]


def test_declared_context_refuses_other_fields(shop):
    rules = decision(model="reorder", entity="customer_id", context=["country"])(lambda p, c: Action(c["country"]))
    answerer = make(shop, rules)
    assert answer(answerer, body(record(country="UK"))).body["predictions"][0]["action"] == "UK"
    with pytest.raises(Usage, match="unknown field 'coutry' with the value \"UK\"") as caught:
        answer(answerer, body(record(coutry="UK")))
    assert "Known: country, customer_id, orders" in str(caught.value)


def crashing(default):
    @decision(model="reorder", values={"wait": {True: 1.0, False: 0.0}}, default=default)
    def rule(prediction, context):
        if context["spend"] > 100:
            raise KeyError("tier")
        return Action("wait", rule="fine")

    return rule


def test_a_rule_that_raises_takes_the_safe_default_and_the_event_says_why(shop):
    found = answer(make(shop, crashing("wait")), body(record(), record(spend=500)))
    good, bad = found.body["predictions"]
    assert found.status == 200 and "error" not in good
    assert (bad["action"], bad["rule"], bad["error"]) == ("wait", "safe default: the rule failed", "KeyError: 'tier'")
    data = [json.loads(event)["data"] for event in found.events]
    assert [one["error"] for one in data] == ["", "KeyError: 'tier'"]
    assert data[1]["action"] == "wait" and data[1]["value"]["outcomes"] == {"true": 1.0, "false": 0.0}


def test_without_a_default_it_is_a_500_and_both_events_are_recorded(shop):
    found = answer(make(shop, crashing(None)), body(record(), record(spend=500)))
    assert found.status == 500
    assert "record 1: KeyError: 'tier'" in found.body["error"]["obstacle"]
    assert "@decision(default=...)" in found.body["error"]["advice"]
    assert [one["action"] for one in found.body["predictions"]] == ["wait", ""]
    assert len(found.events) == 2 and json.loads(found.events[1])["data"]["action"] == ""


def test_an_undeclared_action_counts_as_a_failed_rule(shop):
    rules = decision(model="reorder", values={"wait": {}, "go": {}}, default="wait")(lambda p, c: Action("sell"))
    one = answer(make(shop, rules), body(record())).body["predictions"][0]
    assert one["action"] == "wait" and "'sell' is not in its values" in one["error"]


def test_a_rule_cannot_change_what_is_recorded(shop):
    def rule(prediction, context):
        context["orders"] = 99
        return Action("wait")

    found = answer(make(shop, decision(model="reorder")(rule)), body(record()))
    assert json.loads(found.events[0])["data"]["features"]["orders"] == 2


def test_the_events_fit_the_built_in_contract(shop, answerer):
    from sampan.log.check import Checker
    from sampan.log.contracts import Contracts

    found = answer(answerer, body(record(customer_id=None), record(customer_id="c-1"), record(customer_id=17850.0)))
    batch = Checker(Contracts()).batch(found.events)
    assert not batch.bads and len(batch.raws) == 3
    assert [json.loads(event).get("subject") for event in found.events] == [None, "c-1", "17850"]


def test_every_error_that_can_be_sent_has_three_parts(answerer):
    with pytest.raises(SampanError) as caught:
        answer(answerer, b"[]")
    assert set(caught.value.body()["error"]) == {"kind", "attempted", "obstacle", "advice"}


@pytest.mark.parametrize(("output", "expected"), [("probability", True), ("number", False), ("score", False)])
def test_an_action_has_an_expected_value_only_where_the_model_gives_probabilities(shop, output, expected):
    import msgspec

    from sampan.models.formats import load

    bundle = shop.endpoints.bundle(shop.endpoints.get("reorder").bundle)
    rules = decision(model="reorder", values={"wait": {True: 1.0, False: 2.0}})(lambda p, c: Action("wait"))
    predictor = load(bundle.model, shop.blobs)
    signature = msgspec.structs.replace(bundle.model.signature, output=output)
    model = msgspec.structs.replace(bundle.model, signature=signature)
    bundle = msgspec.structs.replace(bundle, decision=facts_of(rules), model=model)
    answered = answer(
        Answerer("reorder", OpenBundle(bundle, predictor, rules), ManualClock(1_300_000_000_000_000)), body(record())
    )
    value = json.loads(answered.events[0])["data"]["value"]
    assert (value["expected"] is not None) == expected
