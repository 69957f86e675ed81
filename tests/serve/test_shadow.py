"""A shadow sees what has been answered, says what it would have, and nobody waits for it or notices it."""

import asyncio
import json
import os
import signal
import time

import pytest
from rollout_shop import OURS, THEIR, candidate, due, events, predict, stage
from serving_shop import body, record, told


def shadow(bundle, **more):
    return stage(bundle, **{"share": 0.0, "shadow": True, "stage": 0, **more})


async def seen(serving, count, patience=10.0):
    """Wait until the hub knows of as many records, seen or missed."""
    async with asyncio.timeout(patience):
        while (now := serving.status()[0].candidate).shadowed + sum(now.missed.values()) < count:
            await asyncio.sleep(0.02)
    return now


def test_each_prediction_has_what_the_shadow_would_have_said_and_is_the_champions(shop, bundle):
    async def client(serving, number):
        for turn in range(10):
            several = [record(customer_id=number), record(customer_id=None, orders=turn)]
            await predict(serving, *several, ids=[f"{number}-{turn}-a", f"{number}-{turn}-b"])

    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", shadow(bundle))
            await asyncio.gather(*(client(serving, number) for number in range(4)))
            return await seen(serving, 80)

    state = asyncio.run(ask())
    assert (state.shadowed, state.missed, state.answered, state.fallbacks) == (80, {}, 0, {})
    predictions, shadows = events(shop), events(shop, "shadow")
    assert predictions.keys() == shadows.keys() and len(predictions) == 80
    model = shop.models.load("reorder@2")
    for id, data in predictions.items():
        assert (data["variant"], data["version"], data["rollout"], data["stage"]) == ("champion", "reorder@1", "r1", 0)
        other = shadows[id]
        assert (other["version"], other["bundle"], other["rollout"]) == ("reorder@2", bundle, "r1")
        assert other["prediction"] == model.predict([data["features"]])[0] != data["prediction"]
        assert other["rule"] in ("new words", "not likely") and other["error"] == "" and other["latency_us"] > 0
        assert other["value"]["currency"] == "GBP" and other["subject"] == data["subject"]


def test_a_sampled_shadow_sees_the_requests_of_a_part_of_the_entities_always_the_same_ones(shop, bundle):
    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", shadow(bundle, sample=0.25))
            for turn in range(2):
                several = [record(customer_id=number) for number in range(40)]
                await predict(serving, *several, ids=[f"{turn}-{number}" for number in range(40)])
                await predict(serving, *[record(customer_id=None)] * 40, ids=[f"{turn}-nobody-{n}" for n in range(40)])
            return await seen(serving, len(sampled))

    sampled = {f"{turn}-{number}" for turn in range(2) for number in range(40) if due(number, 0.25)}
    sampled |= {one for turn in range(2) for n in range(40) if due(one := f"{turn}-nobody-{n}", 0.25)}
    state = asyncio.run(ask())
    assert events(shop, "shadow").keys() == sampled and 0 < len(sampled) < 80
    assert (state.shadowed, state.missed) == (len(sampled), {})
    assert len(events(shop)) == 160 and {one["version"] for one in events(shop).values()} == {"reorder@1"}


def test_a_shadow_whose_rule_raises_says_so_in_its_event_alone(shop, bundle):
    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", shadow(bundle))
            answers = await predict(serving, record(theirs="raise"), record(), ids=["a", "b"])
            await seen(serving, 2)
            return answers

    answers = asyncio.run(ask())
    assert [one["version"] for one in answers] == ["reorder@1"] * 2 and not any("error" in one for one in answers)
    assert "RuntimeError: the new rule is wrong" in events(shop, "shadow")["a"]["error"]
    assert events(shop, "shadow")["b"]["error"] == "" and {one["fallback"] for one in events(shop).values()} == {""}


def test_whom_a_shadows_rules_would_call_is_named_and_not_called(shop, bundle):
    came: list[int] = []

    async def ask():
        listener = await asyncio.start_server(lambda reader, writer: came.append(writer.close() or 1), "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        async with listener, shop.serving("reorder") as serving:
            await serving.assign("reorder", shadow(bundle))
            await predict(
                serving, record(theirs=f"call{port}"), record(theirs="program"), record(), ids=["a", "b", "c"]
            )
            await seen(serving, 3)
            await asyncio.sleep(0.1)
            assert came == [], "something came of what nobody was told"
            await serving.assign("reorder", stage(bundle, share=1.0, rollout="r2"))
            (answer,) = await predict(serving, record(theirs=f"call{port}"))
            await asyncio.sleep(0.1)
            return port, answer

    port, answer = asyncio.run(ask())
    shadows = events(shop, "shadow")
    assert {id: one.get("calls", []) for id, one in shadows.items()} == {
        "a": [f"localhost:{port}"],
        "b": ["program true"],
        "c": [],
    }
    assert "a shadow calls nobody" in shadows["a"]["error"]
    assert answer["version"] == "reorder@2" and came == [1], "whoever answers may call"


def test_a_shadow_that_sleeps_or_dies_makes_nobody_wait_and_what_it_missed_is_known(make_shop, fitted):
    shop = make_shop(candidate_queue=4, candidate_timeout=2_000)
    bundle = candidate(shop, fitted)
    longest = 0.0

    async def timed(serving, **more):
        nonlocal longest
        begun = time.perf_counter()
        await predict(serving, record(**more))
        longest = max(longest, time.perf_counter() - begun)

    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", shadow(bundle))
            await predict(serving, record())
            await seen(serving, 1)
            await timed(serving, theirs="sleep10")
            for _ in range(30):
                await timed(serving)
            assert (await seen(serving, 32)).missed.keys() == {"timeout", "queue"}
            os.kill(serving.status()[0].candidate.pid, signal.SIGKILL)
            downs = 0
            async with asyncio.timeout(20):  # until the champion's process, too, has noticed
                while "down" not in serving.status()[0].candidate.missed:
                    await timed(serving)
                    downs += 1
                    await asyncio.sleep(0.05)
            return await seen(serving, 32 + downs), downs

    state, downs = asyncio.run(ask())
    assert longest < 2, "somebody waited for the shadow"
    late = state.missed["timeout"]
    assert 1 <= late <= 4, "more than its queue holds, or it was asked though it hangs"
    assert state.shadowed == 1 and state.missed.keys() == {"timeout", "queue", "down"}
    assert sum(state.missed.values()) == 31 + downs
    shadows = events(shop, "shadow")
    assert len(events(shop)) == 32 + downs and len(shadows) == 1 + late
    assert sorted(one["error"] for one in shadows.values()) == [""] + ["timeout"] * late
    assert all(one["prediction"] is None for one in shadows.values() if one["error"])


@pytest.mark.slow
@pytest.mark.parametrize("theirs", ["", "raise", "sleep60", "large", "crash"])
def test_whatever_a_shadow_does_status_and_body_are_as_without_it(make_shop, fitted, theirs):
    """R19: it raises, hangs for a minute, gives back 50 MB, or crashes in native code."""
    shop = make_shop(candidate_timeout=200)
    bundle = candidate(shop, fitted)

    async def ask(serving, at):
        begun = time.perf_counter()
        answer = await serving.predict("reorder", body(record(theirs=theirs), ids=[at]))
        assert time.perf_counter() - begun < 2, "somebody waited for the shadow"
        (one,) = told(answer)["predictions"]
        assert one.pop("id") == at and one.pop("variant", "champion") == "champion"  # which is all that may be new
        return answer.status, json.dumps(one)

    async def go():
        async with shop.serving("reorder") as serving:
            alone = [await ask(serving, f"a{number}") for number in range(3)]
            await serving.assign("reorder", shadow(bundle))
            beside = []
            for number in range(20):
                beside.append(await ask(serving, f"b{number}"))
                await asyncio.sleep(0.05)
            state = await seen(serving, 20)
            return alone, beside, state

    alone, beside, state = asyncio.run(go())
    assert set(alone) == set(beside) and {status for status, _ in beside} == {200}
    assert state.shadowed + sum(state.missed.values()) == 20
    if theirs in ("sleep60", "crash"):
        assert state.missed, "it was not asked at all"


def test_what_a_dying_shadow_was_asked_is_an_event_that_says_so(shop, bundle):
    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", shadow(bundle))
            await predict(serving, record(theirs="die"), ids=["last"])
            return await seen(serving, 1)

    assert asyncio.run(ask()).missed == {"crash": 1}
    assert events(shop, "shadow")["last"]["error"] == "crash"


def test_what_is_under_way_when_the_endpoint_stops_is_written_as_not_answered(shop, bundle):
    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", shadow(bundle))
            await predict(serving, record(theirs="sleep1"), record(), ids=["a", "b"])
            await asyncio.sleep(0.02)

    asyncio.run(ask())
    assert {id: one["error"] for id, one in events(shop, "shadow").items()} == {"a": "ended", "b": "ended"}


def test_a_shadow_sees_only_what_the_candidate_does_not_answer_itself(shop, bundle):
    people = [str(number) for number in range(20)]

    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", shadow(bundle, share=0.5))
            await predict(serving, *[record(customer_id=one) for one in people], ids=people)
            await seen(serving, sum(not due(one) for one in people))

    asyncio.run(ask())
    assert set(events(shop, "shadow")) == {one for one in people if not due(one)}
    assert {one for one, data in events(shop).items() if data["version"] == "reorder@2"} == {
        o for o in people if due(o)
    }


def test_an_id_that_looks_like_a_shadows_and_a_very_long_one_name_their_own_predictions(shop, bundle):
    odd = ["a", "a~r1", "x" * 200]

    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", shadow(bundle))
            first = [await predict(serving, record(orders=n), ids=[id]) for n, id in enumerate(odd)]
            await seen(serving, 3)
            os.kill(serving.status()[0].pid, signal.SIGKILL)
            while serving.status()[0].state == "serving":
                await asyncio.sleep(0.005)
            await serving.ready("reorder")
            again = [await predict(serving, record(orders=n), ids=[id]) for n, id in enumerate(odd)]
            new = await serving.predict("reorder", body(record(orders=1), ids=["b~r1"]))
            return first, again, told(new)["predictions"][0]["version"]

    first, again, version = asyncio.run(ask())
    assert first == again and version == "reorder@1"
    assert {*odd} <= set(events(shop, "shadow"))


def test_a_stage_after_the_shadow_restarts_nothing(shop, bundle):
    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", shadow(bundle))
            pid = serving.status()[0].candidate.pid
            await predict(serving, record(customer_id=THEIR), ids=["before"])
            await seen(serving, 1)
            await serving.assign("reorder", stage(bundle, stage=1))
            answers = await predict(serving, record(customer_id=THEIR), record(customer_id=OURS))
            return pid, serving.status()[0].candidate, [one["version"] for one in answers]

    pid, state, versions = asyncio.run(ask())
    assert (state.pid, state.restarts, state.stage, state.shadow) == (pid, 0, 1, False)
    assert versions == ["reorder@2", "reorder@1"] and set(events(shop, "shadow")) == {"before"}
