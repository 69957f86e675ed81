"""Any number of shadows follow what an endpoint has predicted: none misses a request, and nobody notices them."""

import asyncio
import os
import signal

import pytest
from rollout_shop import SALT, candidate, due, events, predict
from serving_shop import record

from sampan.base.errors import Damaged, NotFound
from sampan.serve.assignment import Assignment
from sampan.serve.follower import Followers
from sampan.serve.following import Followed


def followed(bundle, id="s1", after=0, **more):
    one = Assignment(rollout=id, stage=0, bundle=bundle, salt=SALT, shadow=True, **more)
    return Followed(endpoint="reorder", assignment=one, stream=f"shadow-{id}", after=after)


def said(shop, id="s1"):
    """What a shadow said, by the prediction's id."""
    return {at: one for at, one in shadows(shop) if one["rollout"] == id}


def shadows(shop):
    import json

    from sampan.base.clock import SystemClock
    from sampan.log.contracts import Contracts
    from sampan.log.log import Log

    log = Log(shop.folder.data / "log", Contracts(), SystemClock(), shop.settings)
    try:
        found = [json.loads(one.data) | {"subject": one.subject} for one in log.events(type="shadow", limit=100_000)]
    finally:
        log.keys.close()
    assert len({(one["prediction_id"], one["rollout"]) for one in found}) == len(found), "one was said twice"
    return [(one["prediction_id"], one) for one in found]


async def come_to(shop, serving, count, id="s1", patience=60.0):
    """Wait until a shadow has said something to so many."""
    async with asyncio.timeout(patience):
        while len(said(shop, id)) < count:
            await asyncio.sleep(0.3)
        while (now := next(one for one in serving.followers.status() if one.shadow == id)).behind or now.error:
            await asyncio.sleep(0.3)
    return now


def test_each_of_several_says_something_to_every_prediction_also_to_those_before_it_was_there(shop, fitted):
    one, other = candidate(shop, fitted), candidate(shop, fitted, trees=3)

    async def ask():
        async with shop.serving("reorder") as serving:
            await predict(serving, *[record(customer_id=n) for n in range(20)], ids=[f"a{n}" for n in range(20)])
            await serving.followers.follow([followed(one), followed(other, "s2", after=10)])
            for n in range(30):
                await predict(serving, record(customer_id=None if n % 2 else n, orders=n), ids=[f"b{n}"])
            return [await come_to(shop, serving, 50), await come_to(shop, serving, 40, "s2")]

    first, second = asyncio.run(ask())
    assert (first.answered, second.answered, first.missed, second.missed) == (50, 40, {}, {})
    predictions = events(shop)
    assert len(predictions) == 50 and {one["version"] for one in predictions.values()} == {"reorder@1"}
    assert {one["rollout"] for one in predictions.values()} == {""}, "no rollout goes on"
    assert said(shop).keys() == predictions.keys()
    assert said(shop, "s2").keys() == predictions.keys() - {f"a{n}" for n in range(10)}
    for id, version in (("s1", "reorder@2"), ("s2", "reorder@3")):
        model = shop.models.load(version)
        for at, data in said(shop, id).items():
            assert data["prediction"] == model.predict([predictions[at]["features"]])[0]
            assert (data["version"], data["subject"]) == (version, predictions[at]["subject"])
            assert data["rule"] in ("new words", "not likely") and data["error"] == "" and data["latency_us"] > 0


@pytest.mark.slow
def test_one_that_is_sampled_sees_a_part_of_the_entities_always_the_same(shop, fitted):
    bundle = candidate(shop, fitted)

    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.followers.follow([followed(bundle, sample=0.25)])
            for turn in range(2):
                ids = [f"{turn}-{n}" for n in range(40)]
                await predict(serving, *[record(customer_id=n) for n in range(40)], ids=ids)
            return await come_to(shop, serving, len(sampled))

    sampled = {f"{turn}-{n}" for turn in range(2) for n in range(40) if due(n, 0.25)}
    assert asyncio.run(ask()).answered == len(sampled)
    assert said(shop).keys() == sampled and 0 < len(sampled) < 80


@pytest.mark.slow
def test_it_goes_on_where_it_was_once_its_process_or_the_hub_has_ended(shop, fitted):
    bundle = candidate(shop, fitted)

    async def ask(turn, restart):
        async with shop.serving("reorder") as serving:
            await serving.followers.follow([followed(bundle)])
            await predict(serving, *[record()] * 300, ids=[f"{turn}-{n}" for n in range(300)])
            if restart:
                await come_to(shop, serving, 600)
                os.kill(serving.followers.status()[0].pid, signal.SIGKILL)
                await predict(serving, record(), ids=["after"])
                return await come_to(shop, serving, 601)
            return None

    asyncio.run(ask(0, restart=False))  # it may not even have been loaded
    state = asyncio.run(ask(1, restart=True))
    assert (state.restarts, state.missed, state.state) == (1, {}, "following")
    assert said(shop).keys() == events(shop).keys() and len(events(shop)) == 601
    assert all(one["error"] == "" for one in said(shop).values())


@pytest.mark.slow
def test_what_its_process_dies_over_or_hangs_at_is_named_and_all_others_are_answered(make_shop, fitted):
    shop = make_shop(predict_timeout=2)
    bundle = candidate(shop, fitted)

    async def ask():
        async with shop.serving("reorder") as serving:
            for n in range(12):
                more = {4: {"theirs": "die"}, 8: {"theirs": "sleep20"}, 10: {"theirs": "raise"}}.get(n, {})
                await predict(serving, record(**more), ids=[f"p{n}"])
            await serving.followers.follow([followed(bundle)])
            return await come_to(shop, serving, 12, patience=150)

    state = asyncio.run(ask())
    found = said(shop)
    assert found.keys() == {f"p{n}" for n in range(12)}
    assert found["p4"]["error"] == "its process ended by signal 9 (SIGKILL)" and found["p4"]["prediction"] is None
    assert "no answer in" in found["p8"]["error"]
    assert "RuntimeError: the new rule is wrong" in found["p10"]["error"]
    assert not any(found[f"p{n}"]["error"] for n in (0, 1, 2, 3, 5, 6, 7, 9, 11))
    assert state.restarts >= 2 and len(events(shop)) == 12


@pytest.mark.slow
def test_that_its_process_ends_over_and_over_is_said_until_one_lasts(shop, fitted, monkeypatch):
    monkeypatch.setattr("sampan.serve.follower._BACK_OFF", (0.05,))
    monkeypatch.setattr("sampan.serve.follower.STEADY", 4.0)
    bundle = candidate(shop, fitted)

    async def ask():
        async with shop.serving("reorder") as serving:
            await predict(serving, *[record(theirs="die")] * 5, ids=[f"p{n}" for n in range(5)])
            await serving.followers.follow([followed(bundle)])
            async with asyncio.timeout(120):
                while not (crashing := serving.followers.status()[0]).crashing:
                    await asyncio.sleep(0.05)
                while not (now := serving.followers.status()[0]).steady:
                    await asyncio.sleep(0.2)
            return crashing, now

    crashing, now = asyncio.run(ask())
    assert not crashing.steady and "5 processes in a row ended" in crashing.crashing and "SIGKILL" in crashing.crashing
    assert (now.crashing, now.state, now.behind) == ("", "following", 0) and now.restarts >= 5


def test_one_that_cannot_be_loaded_over_and_over_says_why(shop, fitted, monkeypatch):
    monkeypatch.setattr("sampan.serve.follower._BACK_OFF", (0.01,))
    bundle = candidate(shop, fitted)

    async def load(_):
        raise Damaged("Load reorder@2", "a byte of model.txt is another")

    async def ask():
        followers = Followers(shop.endpoints.bundle, load, 5)
        await followers.follow([followed(bundle)])
        async with asyncio.timeout(20):
            while not followers.status()[0].crashing:
                await asyncio.sleep(0.01)
        try:
            return followers.status()[0]
        finally:
            await followers.end()

    state = asyncio.run(ask())
    assert "a byte of model.txt is another" in state.crashing and not state.steady


@pytest.mark.slow
def test_whom_its_rules_would_call_is_named_and_not_called(shop, fitted):
    bundle = candidate(shop, fitted)
    came: list[int] = []

    async def ask():
        listener = await asyncio.start_server(lambda reader, writer: came.append(writer.close() or 1), "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        async with listener, shop.serving("reorder") as serving:
            await predict(serving, record(theirs=f"call{port}"), record(theirs="program"), ids=["a", "b"])
            await serving.followers.follow([followed(bundle)])
            await come_to(shop, serving, 2)
            return port

    port = asyncio.run(ask())
    assert said(shop)["a"]["calls"] == [f"localhost:{port}"] and said(shop)["b"]["calls"] == ["program true"]
    assert came == []


def test_one_that_is_wanted_no_more_ends_and_another_bundle_that_is_not_there_hinders_nobody(shop, fitted):
    bundle = candidate(shop, fitted)

    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.followers.follow([followed(bundle)])
            await predict(serving, record(), ids=["a"])
            pid = (await come_to(shop, serving, 1)).pid
            with pytest.raises(NotFound):
                await serving.followers.follow([followed("0" * 64, "s0"), followed(bundle, "s2")])
            await predict(serving, record(), ids=["b"])
            await come_to(shop, serving, 2, "s2")
            assert [one.shadow for one in serving.followers.status()] == ["s2"]
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        await serving.followers.follow([followed(bundle, "s3")])
        assert serving.followers.status() == [], "whoever asks when all has ended was late"

    asyncio.run(ask())
    assert said(shop).keys() == {"a"} and said(shop, "s2").keys() == {"a", "b"}
