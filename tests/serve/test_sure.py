"""What serving keeps without reading it again would pass if it were read again."""

import json
import math

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from serving_shop import FEATURES, body, record

from sampan.base.clock import SystemClock
from sampan.log.check import Checker
from sampan.log.contracts import Contracts
from sampan.models.formats import load
from sampan.serve.answer import SOURCE, Answerer
from sampan.serve.bundle import OpenBundle, facts_of
from sampan.serve.decisions import Action, decision
from sampan.serve.verdict import Arm, Author, Verdict

TEXT = st.text(st.characters(codec="utf-8"))
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OUTPUT = st.floats() | TEXT | st.lists(st.floats(), min_size=2, max_size=2) | st.integers() | st.none()


def answerer_of(shop) -> Answerer:
    rules = decision(model="reorder", entity="customer_id")(lambda p, c: Action("wait"))
    bundle = shop.endpoints.bundle(shop.endpoints.get("reorder").bundle)
    bundle = msgspec.structs.replace(bundle, decision=facts_of(rules))
    return Answerer("reorder", OpenBundle(bundle, load(bundle.model, shop.blobs), rules), SystemClock())


def test_events_that_are_sure_are_those_that_the_contract_takes(shop):
    answerer, checker = answerer_of(shop), Checker(Contracts())
    author = Author("reorder@2", "b" * 64, tuple(FEATURES))
    arms = st.none() | st.sampled_from(
        [[Arm(author, {"variant": "candidate", "rollout": "r", "stage": 1, "fallback": "timeout"})]]
    )

    @given(st.dictionaries(TEXT, VALUE, max_size=4), OUTPUT, TEXT | st.integers(), TEXT | st.none(), TEXT, arms)
    def each(more, output, action, rule, who, arms):
        asked = answerer.read(body(record(**{**more, "customer_id": who[:200] or None})))
        verdict = Verdict(output, action, rule, None, "", None)
        told = answerer.tell(asked, [verdict], arms)
        read = checker.batch(told.events)
        if told.sure:
            assert not read.bads
            made = checker.made("prediction@1", SOURCE + "reorder", asked.ids, told.events)
            for part in ("raws", "keys", "codes", "ids", "sources", "size"):
                assert getattr(made, part) == getattr(read, part)
        good = isinstance(output, float) and math.isfinite(output) and isinstance(action, str) and isinstance(rule, str)
        assert told.sure or not good

    each()


def test_an_entity_that_no_event_can_be_about_is_refused_by_name(shop):
    answerer = answerer_of(shop)
    try:
        answerer.read(body(record(customer_id="x" * 201)))
    except Exception as error:  # noqa: BLE001 - looked at below
        said = str(error)
    assert "'customer_id': 201 characters" in said and "at most 200" in said
    assert answerer.read(json.dumps(record(customer_id="x" * 200)).encode())


def test_plain_numbers_are_read_as_one_by_one(shop):
    """The quick way gives what the slow one gives, and leaves to it whatever it is not sure of."""
    inputs = load(shop.endpoints.bundle(shop.endpoints.get("reorder").bundle).model, shop.blobs)._inputs
    odd = st.none() | st.booleans() | st.text(max_size=3) | st.floats() | st.integers() | st.just(10**400)

    def asked(records):
        try:
            return inputs.matrix(records).tolist()
        except Exception as error:  # noqa: BLE001 - compared
            return str(error)

    @given(st.lists(st.fixed_dictionaries(dict.fromkeys(FEATURES, odd)), min_size=1, max_size=3), st.booleans())
    def each(records, lacking):
        if lacking:
            del records[-1]["recency"]
        quick = asked(records)
        pick, inputs._pick = inputs._pick, None
        try:
            assert json.dumps(quick) == json.dumps(asked(records))
        finally:
            inputs._pick = pick

    assert inputs._pick is not None
    each()
