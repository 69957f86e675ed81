"""Two variants of an endpoint over real processes: who answers whom, and what happens when the candidate does not.

How its process comes and goes: test_beside.
"""

import asyncio
import json
import os
import signal

import pytest
from rollout_shop import (
    LONG,
    OURS,
    THEIR,
    candidate,
    connected,
    due,
    events,
    gate_of,
    predict,
    stage,
    standing,
    until_down,
)
from serving_shop import FEATURES, RULES, body, record, told

from sampan.base.errors import Damaged, NotFound, Usage
from sampan.serve.assignment import OTHERS, count
from sampan.serve.faces import INFERENCE, INVOCATIONS, pack, unpack


@pytest.fixture
def shop(make_shop):
    return make_shop(candidate_timeout=LONG)


def test_each_is_answered_by_the_same_variant_and_a_growing_share_takes_nobodys_candidate_away(shop, bundle):
    people = [str(number) for number in range(60)]

    async def ask():
        found = []
        async with shop.serving("reorder") as serving:
            for number, share in enumerate((0.25, 0.25, 0.75)):
                await serving.assign("reorder", stage(bundle, share, stage=number))
                pid = standing(serving).pid
                answers = [await predict(serving, record(customer_id=one)) for one in people]
                found.append({one: answer["version"] for one, [answer] in zip(people, answers, strict=True)})
                assert standing(serving).pid == pid, "another share restarted the candidate"
            return found

    first, again, more = asyncio.run(ask())
    assert first == again == {one: "reorder@2" if due(one, 0.25) else "reorder@1" for one in people}
    assert more == {one: "reorder@2" if due(one, 0.75) else "reorder@1" for one in people}
    assert set(first.values()) == {"reorder@1", "reorder@2"}
    kept = events(shop).values()
    assert {(one["variant"], one["version"]) for one in kept} == {
        ("champion", "reorder@1"),
        ("candidate", "reorder@2"),
    }
    assert {(one["rollout"], one["stage"], one["fallback"]) for one in kept} == {("r1", n, "") for n in range(3)}
    assert all(one["variant"] == "candidate" for one in kept if one["version"] == "reorder@2")


def test_a_request_of_several_is_split_and_answered_in_order(shop, bundle):
    records = [record(customer_id=number, orders=number - 6) for number in range(12)]

    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", stage(bundle))
            return await predict(serving, *records)

    answers = asyncio.run(ask())
    models = {f"reorder@{n}": shop.models.load(f"reorder@{n}") for n in (1, 2)}
    versions = [answer["version"] for answer in answers]
    assert versions == ["reorder@2" if due(number) else "reorder@1" for number in range(12)]
    for one, answer in zip(records, answers, strict=True):
        assert [answer["prediction"]] == models[answer["version"]].predict([one])
    assert {one["rule"] for one in answers} >= {"new words", "likely to return"}
    assert {one["bundle"] for one in answers if one["version"] == "reorder@2"} == {bundle}
    kept = events(shop)
    for one, answer in zip(records, answers, strict=True):
        data = kept[answer["id"]]
        assert (data["version"], data["bundle"], data["prediction"]) == (
            answer["version"],
            answer["bundle"],
            answer["prediction"],
        )
        assert data["entity"] == data["subject"] == str(one["customer_id"])
        assert data["features"] == {name: one[name] for name in FEATURES} and data["latency_us"] > 0


def test_without_an_entity_it_goes_by_the_predictions_id(shop, bundle):
    ids = [f"cart-{number}" for number in range(40)]

    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", stage(bundle))
            return await predict(serving, *[record(customer_id=None)] * 40, ids=ids)

    versions = [answer["version"] for answer in asyncio.run(ask())]
    assert versions == ["reorder@2" if due(one) else "reorder@1" for one in ids]


def test_records_of_numbers_without_rules_are_split_by_their_ids_too(shop, fitted):
    (shop.root / "decisions.py").unlink()
    shop.deploy()
    version = shop.register(fitted(9))
    bundle = shop.endpoints.draft("reorder", version.ref, workspace=shop.root, actor="tester").bundle
    records = [{"orders": number, "recency": 0.5, "spend": 2.5 * number} for number in range(40)]
    ids = [f"cart-{number}" for number in range(40)]

    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", stage(bundle))
            await connected(serving)
            return await predict(serving, *records, ids=ids)

    answers = asyncio.run(ask())
    kept = events(shop)
    models = {f"reorder@{n}": shop.models.load(f"reorder@{n}") for n in (1, 2)}
    for one, id, answer in zip(records, ids, answers, strict=True):
        version = "reorder@2" if due(id) else "reorder@1"
        variant = "candidate" if due(id) else "champion"
        assert (answer["id"], answer["version"], answer["variant"]) == (id, version, variant)
        assert [answer["prediction"]] == models[version].predict([one]) == [kept[id]["prediction"]]
        assert (kept[id]["version"], kept[id]["variant"], kept[id]["rollout"]) == (version, variant, "r1")
        assert kept[id]["features"] == one
    assert models["reorder@1"].predict(records) != models["reorder@2"].predict(records)


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [("raise", "error: decisions.py:10: RuntimeError: the new rule is wrong"), ("sleep1", "timeout"), ("die", "crash")],
)
def test_where_the_candidate_fails_the_champion_answers_and_the_event_says_why(make_shop, fitted, theirs, reason):
    shop = make_shop(candidate_timeout=200 if reason == "timeout" else LONG)
    bundle = candidate(shop, fitted)

    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", stage(bundle))
            [answer] = await predict(serving, record(customer_id=THEIR, theirs=theirs), ids=["it"])
            [other] = await predict(serving, record(customer_id=OURS, theirs=theirs))
            async with asyncio.timeout(5):
                while not standing(serving).fallbacks:
                    await asyncio.sleep(0.01)
            counted = standing(serving).fallbacks
            await connected(serving)
            while (await predict(serving, record(customer_id=THEIR)))[0]["version"] != "reorder@2":
                await asyncio.sleep(0.05)
            return answer, other, counted, standing(serving)

    answer, other, counted, state = asyncio.run(ask())
    assert (answer["version"], answer["rule"]) == (other["version"], other["rule"]) == ("reorder@1", "likely to return")
    assert "error" not in answer
    data = events(shop)["it"]
    assert (data["variant"], data["version"], data["fallback"]) == ("candidate", "reorder@1", reason)
    assert (data["rollout"], data["stage"], data["error"]) == ("r1", 1, "")
    assert counted == {reason.partition(":")[0]: 1}
    assert state.restarts == (theirs == "die")


def test_over_its_queue_and_while_it_is_down_the_champion_answers(make_shop, fitted):
    shop = make_shop(candidate_timeout=1_500, candidate_queue=3)
    bundle = candidate(shop, fitted)

    async def ask():
        async with shop.serving("reorder") as serving:
            gate = gate_of(serving, bundle)
            gate.set()
            await serving.assign("reorder", stage(bundle, 1.0))
            first = asyncio.create_task(predict(serving, record(theirs="sleep3"), ids=["hangs"]))
            await asyncio.sleep(0.1)
            asks = [predict(serving, record(), ids=[f"q{number}"]) for number in range(6)]
            answers = [one for [one] in await asyncio.gather(first, *asks)]
            gate.clear()
            os.kill(standing(serving).pid, signal.SIGKILL)
            return answers, await until_down(serving)

    answers, downs = asyncio.run(ask())
    assert {one["version"] for one in answers} == {"reorder@1"}
    kept = events(shop)
    assert {kept[id]["version"] for id in downs} == {"reorder@1"}
    reasons = {id: data["fallback"] for id, data in kept.items()}
    assert reasons["hangs"] == "timeout" and reasons[downs[-1]] == "down"
    queued = sorted(reason for id, reason in reasons.items() if id.startswith("q"))
    assert queued == ["queue"] * 4 + ["timeout"] * 2


def test_an_id_that_is_asked_again_has_the_answer_of_whoever_gave_it(shop, bundle):
    both = [record(customer_id=THEIR), record(customer_id=OURS)]

    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", stage(bundle))
            slow = body(record(customer_id=THEIR, theirs="sleep0.2"), ids=["slow"])
            at_once = await asyncio.gather(
                *(serving.predict("reorder", slow) for _ in range(2)), predict(serving, *both, ids=["a", "b"])
            )
            again = await predict(serving, *both, ids=["a", "b"])
            other = await serving.predict("reorder", body(record(customer_id=THEIR, orders=7), ids=["a"]))
            os.kill(serving.status()[0].pid, signal.SIGKILL)
            while serving.status()[0].state == "serving":
                await asyncio.sleep(0.005)
            await serving.ready("reorder")
            await serving.assign("reorder", None)
            later = await predict(serving, *both, ids=["a", "b"])
            return at_once, again, other.status, later

    (one, two, both_first), again, other, later = asyncio.run(ask())
    assert one.status in (200, 503) and 200 in (one.status, two.status)
    assert {told(answer)["predictions"][0]["version"] for answer in (one, two) if answer.status == 200} == {"reorder@2"}
    assert both_first == again == later
    assert [answer["version"] for answer in again] == ["reorder@2", "reorder@1"] and other == 409
    assert sorted(events(shop)) == ["a", "b", "slow"]


BAD = [
    {"orders": None, "spend": "x"},
    {"orders": "NaN"},
    {"recency": ...},
    {"customer_id": ...},
    {"customer_id": [1]},
    {"spend": 1e999},
]


def test_what_does_not_fit_is_refused_as_without_a_rollout(shop, bundle):
    sent = [body(record(), record(**{"customer_id": THEIR, **bad})) for bad in BAD]

    async def ask():
        async with shop.serving("reorder") as serving:
            before = [await serving.predict("reorder", one) for one in sent]
            await serving.assign("reorder", stage(bundle, 1.0))
            during = [await serving.predict("reorder", one) for one in sent]
            return before, during, await predict(serving, record())

    before, during, after = asyncio.run(ask())
    for bad, one, other in zip(BAD, before, during, strict=True):
        assert one == other and one.status == 400, bad
    assert after[0]["version"] == "reorder@2" and len(events(shop)) == 1


def test_every_face_answers_with_either_and_a_named_version_is_that_version(shop, bundle):
    numbers = [OURS, THEIR]
    records = [record(customer_id=number) for number in numbers]

    def tensors(chosen):
        columns = {**dict.fromkeys(FEATURES, "FP64"), "customer_id": "BYTES"}
        return {
            "inputs": [
                {
                    "name": name,
                    "datatype": kind,
                    "shape": [len(chosen)],
                    "data": [str(one[name]) if kind == "BYTES" else float(one[name]) for one in chosen],
                }
                for name, kind in columns.items()
            ]
        }

    async def through(serving, number, sent, **headers):
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await serving.predict("reorder", pack(given, json.dumps(sent).encode()), number)
        assert answer.status == 200, answer.body
        return json.loads(unpack(answer.body)[1])

    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", stage(bundle))
            own = [one["prediction"] for one in await predict(serving, *records)]
            invoked = await through(serving, INVOCATIONS, {"dataframe_records": records})
            inferred = await through(serving, INFERENCE, tensors(records))
            each = [await through(serving, INFERENCE, tensors([one])) for one in records]
            named = await through(serving, INFERENCE, tensors(records), sampan_version="1")
            return own, invoked, inferred, each, named

    own, invoked, inferred, each, named = asyncio.run(ask())
    assert own == [shop.models.load(f"reorder@{n}").predict([one])[0] for n, one in zip((1, 2), records, strict=True)]
    assert invoked["predictions"] == own
    assert [one["rule"] for one in invoked["decisions"]] == ["likely to return", "new words"]
    assert [one["variant"] for one in invoked["decisions"]] == ["champion", "candidate"]
    assert [one["parameters"]["variant"] for one in each] == ["champion", "candidate"]
    assert inferred["parameters"]["variant"] == "champion, candidate" and "variant" not in named["parameters"]
    assert inferred["outputs"][0]["data"] == own and "model_version" not in inferred
    assert [one["model_version"] for one in each] == ["1", "2"]
    assert named["model_version"] == "1" and named["outputs"][0]["data"] == shop.models.load("reorder@1").predict(
        records
    )
    kept = events(shop)
    ids = next(one["data"] for one in named["outputs"] if one["name"] == "id")
    assert {kept[id]["rollout"] for id in ids} == {""}


def test_what_clients_could_not_read_or_does_not_load_is_refused_and_the_champion_goes_on(shop, bundle, fitted):
    def drafted(rules):
        (shop.root / "decisions.py").write_text(rules)
        return shop.endpoints.draft("reorder", "reorder@2", workspace=shop.root, actor="tester").bundle

    other = drafted(RULES.replace("customer_id", "account"))
    without = drafted("")
    broken = candidate(shop, fitted, 7)
    model = shop.endpoints.bundle(broken).model

    async def ask():
        async with shop.serving("reorder") as serving:
            with pytest.raises(Usage, match="rules about customer_id, the other rules about account"):
                await serving.assign("reorder", stage(other))
            with pytest.raises(Usage, match="the other no rules"):
                await serving.assign("reorder", stage(without))
            with pytest.raises(Usage, match="serves already"):
                await serving.assign("reorder", stage(shop.endpoints.get("reorder").bundle))
            with pytest.raises(Usage, match=r"share 1\.5"):
                await serving.assign("reorder", stage(bundle, 1.5))
            with pytest.raises(NotFound, match="it is not served"):
                await serving.assign("nowhere", stage(bundle))
            await serving.assign("reorder", stage(bundle, 1.0))
            path = shop.blobs.path(next(iter(model.files.values())))
            data = path.read_bytes()
            path.chmod(0o600)
            path.write_bytes(b"x" + data[1:])
            with pytest.raises(Damaged):
                await serving.assign("reorder", stage(broken))
            return await predict(serving, record()), standing(serving)

    [answer], state = asyncio.run(ask())
    assert answer["version"] == "reorder@2" and state.bundle == bundle != broken


def test_reasons_are_counted_without_what_differs_and_of_too_many_the_later_ones_together() -> None:
    counts: dict[str, int] = {}
    for number in range(3):
        count(counts, f"the model raised KeyError: {number}")
    for number in range(10_000):
        count(counts, f"no row of customers has customer_id '{number}'")
    assert counts["the model raised KeyError"] == 3 and len(counts) == 51
    assert counts[OTHERS] == 10_003 - 3 - 49
