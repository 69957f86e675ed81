"""The process of a candidate: loaded, introduced, kept alive, switched to, left warm. Who answers: test_variants."""

import asyncio
import os
import signal
import tempfile
from pathlib import Path

import msgspec
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
from serving_shop import body, record, told
from test_serving import alive, gone

from sampan.base.errors import Busy, Damaged


@pytest.fixture
def shop(make_shop):
    return make_shop(candidate_timeout=LONG)


@pytest.mark.parametrize("shadow", [False, True])
def test_once_a_candidate_is_assigned_it_is_asked_however_late_it_listens(shop, bundle, shadow):
    async def ask():
        async with shop.serving("reorder") as serving:
            load = serving._load

            async def busy(name, wanted, **how):
                worker = await load(name, wanted, **how)
                os.kill(worker.pid, signal.SIGSTOP)  # others have the processors
                asyncio.get_running_loop().call_later(1.5, os.kill, worker.pid, signal.SIGCONT)
                return worker

            serving._load = busy
            await serving.assign("reorder", stage(bundle, 0.0 if shadow else 1.0, shadow=shadow))
            await predict(serving, record(), ids=["first"])

    asyncio.run(ask())
    if shadow:
        assert events(shop, "shadow")["first"]["error"] in ("", "ended")
    else:
        assert events(shop)["first"]["fallback"] == ""


def test_a_candidate_that_hangs_is_ended_and_another_takes_its_place(make_shop, fitted):
    shop = make_shop(candidate_timeout=100, predict_timeout=3)
    bundle = candidate(shop, fitted)

    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", stage(bundle, 1.0))
            pid = standing(serving).pid
            await predict(serving, record(theirs="sleep60"))
            async with asyncio.timeout(20):
                while (await predict(serving, record()))[0]["version"] != "reorder@2":
                    await asyncio.sleep(0.05)
            return pid, standing(serving).pid

    first, second = asyncio.run(ask())
    assert first != second and gone(first)


@pytest.mark.parametrize("kills", [2, pytest.param(30, marks=pytest.mark.night)])
def test_no_request_fails_while_the_candidate_is_killed_and_none_is_lost_when_the_champion_is(shop, bundle, kills):
    acknowledged: list[dict] = []
    statuses: list[int] = []

    async def client(serving, number, stop):
        turn = 0
        while not stop.is_set():
            turn += 1
            sent = body(record(customer_id=number * 1000 + turn), ids=[f"{number}-{turn}"])
            answer = await serving.predict("reorder", sent)
            statuses.append(answer.status)
            if answer.status == 200:
                acknowledged.extend(told(answer)["predictions"])
            await asyncio.sleep(0.002)

    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", stage(bundle))
            stop = asyncio.Event()
            clients = [asyncio.create_task(client(serving, number, stop)) for number in range(4)]
            for _ in range(candidates := min(kills, 4)):  # with more in a row, the next is long in coming
                state = await connected(serving)
                await asyncio.sleep(0.2)
                os.kill(state.pid, signal.SIGKILL)
                while standing(serving).state == "serving":
                    await asyncio.sleep(0.005)
            await connected(serving)
            assert set(statuses) == {200}, "a candidate that died made requests fail"
            for _ in range(kills):
                pid = (await serving.ready("reorder")).pid
                await asyncio.sleep(0.2)
                os.kill(pid, signal.SIGKILL)
                while serving.status()[0].state == "serving":
                    await asyncio.sleep(0.005)
                await serving.ready("reorder")
                await connected(serving)
            candidate_pid = standing(serving).pid
            before = len([one for one in acknowledged if one["version"] == "reorder@2"])
            while len([one for one in acknowledged if one["version"] == "reorder@2"]) < before + 4:
                await asyncio.sleep(0.01)
            assert standing(serving).pid == candidate_pid and standing(serving).restarts == candidates
            stop.set()
            await asyncio.gather(*clients)

    asyncio.run(ask())
    assert set(statuses) <= {200, 503}
    kept = events(shop)
    for one in acknowledged:
        assert (kept[one["id"]]["version"], kept[one["id"]]["prediction"]) == (one["version"], one["prediction"])
    for data in kept.values():
        assert data["rollout"] == "r1", "answered as if there were no rollout"
        assert data["variant"] == ("candidate" if due(data["entity"]) else "champion")
        assert (data["version"] == "reorder@2") == (data["variant"] == "candidate" and not data["fallback"])


def test_promoting_switches_to_the_very_process_of_the_candidate_and_no_request_fails(shop, bundle):
    async def ask():
        versions = []
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", stage(bundle))
            champion, pid = serving.status()[0].pid, standing(serving).pid
            stop = asyncio.Event()

            async def client(number):
                turn = 0
                while not stop.is_set():
                    turn += 1
                    versions.append((await predict(serving, record(customer_id=number * 1000 + turn)))[0]["version"])

            clients = [asyncio.create_task(client(number)) for number in range(4)]
            await asyncio.sleep(0.1)
            loaded = await serving.prepare("reorder", bundle)
            assert loaded.pid == pid
            tried = await loaded.try_out([record()])
            assert tried.answers[0]["version"] == "reorder@2"
            assert (await predict(serving, record(customer_id=THEIR)))[0]["version"] == "reorder@2"
            now = shop.endpoints.get("reorder")
            spec = msgspec.structs.replace(now.spec, version="reorder@2")
            made = shop.endpoints.add(msgspec.structs.replace(now, id="next", bundle=bundle, spec=spec), now)
            state = await serving.switch(made, loaded)
            warm = serving.warm("reorder")
            switched = len(versions)
            while len(versions) < switched + 8:  # four may have been under way
                await asyncio.sleep(0.01)
            stop.set()
            await asyncio.gather(*clients)
            later = versions[switched + 4 :]
            # and back, to the champion's process
            shop.endpoints.add(shop.endpoints.back(made, now, actor="ann"), made)
            back = await serving.refresh("reorder")
            [last] = await predict(serving, record(customer_id=THEIR), ids=["last"])
            return champion, pid, state, warm, set(later), back, last

    champion, pid, state, warm, later, back, last = asyncio.run(ask())
    assert (state.pid, state.state, state.candidate) == (pid, "serving", None)
    assert warm == [shop.endpoints.get("reorder").bundle] and later == {"reorder@2"}
    assert (back.pid, last["version"]) == (champion, "reorder@1")
    data = events(shop)["last"]
    assert (data["variant"], data["rollout"], data["fallback"]) == ("champion", "", "")


def test_a_process_that_was_prepared_and_not_switched_to_stays_the_candidates(shop, bundle):
    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", stage(bundle, 1.0))
            loaded = await serving.prepare("reorder", bundle)
            await serving.spare("reorder", bundle, loaded)
            [answer] = await predict(serving, record())
            return loaded.pid, standing(serving).pid, answer["version"], serving.warm("reorder")

    assert (found := asyncio.run(ask()))[0] == found[1] and found[2:] == ("reorder@2", [])


def test_ending_an_assignment_leaves_the_process_warm_and_a_deploy_ends_it(shop, bundle, fitted):
    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", stage(bundle, 1.0))
            pid = standing(serving).pid
            await serving.assign("reorder", None)
            ended = standing(serving), serving.warm("reorder"), alive(pid)
            [answer] = await predict(serving, record(), ids=["after"])
            await serving.assign("reorder", stage(bundle, 1.0, rollout="r2"))
            again = standing(serving)
            (shop.root / "shop" / "words.py").write_text('LIKELY = "third words"\n')
            shop.register(fitted(7))
            await asyncio.to_thread(shop.deploy, "reorder@3")
            state = await serving.refresh("reorder")
            [third] = await predict(serving, record())
            return pid, ended, answer, again, state, third

    pid, ended, answer, again, state, third = asyncio.run(ask())
    assert ended == (None, [bundle], True) and answer["version"] == "reorder@1"
    assert (again.pid, again.rollout, again.restarts) == (pid, "r2", 0)
    assert state.candidate is None and (third["version"], third["rule"]) == ("reorder@3", "third words")
    assert events(shop)["after"]["rollout"] == ""
    assert gone(pid)


def test_what_a_hub_starts_with_is_gone_by_from_the_first_answer(shop, bundle):
    async def ask():
        async with shop.serving() as serving:
            await serving.stop()
            await serving.start({"reorder": stage(bundle, 1.0), "gone": stage(bundle)})
            first = await predict(serving, record(), ids=["first"])
            await connected(serving)
            second = await predict(serving, record())
            return first + second

    first, second = asyncio.run(ask())
    assert second["version"] == "reorder@2"
    data = events(shop)["first"]
    assert (data["rollout"], data["variant"]) == ("r1", "candidate")
    late = "" if first["version"] == "reorder@2" else "loading"
    assert (data["fallback"], data["aside"]) == (late, late)


def test_while_a_candidate_loads_after_a_start_no_decision_is_evidence(shop, bundle):
    async def ask():
        async with shop.serving() as serving:
            await serving.stop()
            gate = gate_of(serving, bundle)
            await serving.start({"reorder": stage(bundle, 0.5)})
            await serving.ready("reorder")
            await predict(serving, record(customer_id=THEIR), ids=["theirs"])
            await predict(serving, record(customer_id=OURS), ids=["ours"])
            states = [standing(serving).state]
            gate.set()
            await connected(serving)
            await predict(serving, record(customer_id=THEIR), ids=["theirs then"])
            await predict(serving, record(customer_id=OURS), ids=["ours then"])
            gate.clear()
            os.kill(standing(serving).pid, signal.SIGKILL)
            downs = await until_down(serving)
            return [*states, standing(serving).fallbacks, downs]

    state, fallbacks, downs = asyncio.run(ask())
    assert state == "starting" and fallbacks["loading"] == 1
    said = {name: (one["variant"], one["fallback"], one["aside"]) for name, one in events(shop).items()}
    assert said.pop(downs[-1]) == ("candidate", "down", "")
    for one in downs[:-1]:  # it may have been asked while it died
        assert said.pop(one) in (("candidate", "down", ""), ("candidate", "crash", ""))
    assert said == {
        "theirs": ("candidate", "loading", "loading"),
        "ours": ("champion", "", "loading"),
        "theirs then": ("candidate", "", ""),
        "ours then": ("champion", "", ""),
    }


@pytest.mark.slow
@pytest.mark.parametrize("fails", [True, False])
def test_a_candidate_that_does_not_come_up_is_down_and_at_last_crashes(make_shop, fitted, fails, monkeypatch):
    shop = make_shop()
    bundle = candidate(shop, fitted)
    monkeypatch.setattr("sampan.serve.beside._BACK_OFF", (0.05,))

    async def ask():
        async with shop.serving() as serving:
            await serving.stop()
            load = serving._load

            async def never(name, wanted, **how):
                if wanted.digest != bundle:
                    return await load(name, wanted, **how)
                if not fails:
                    await asyncio.sleep(1)
                raise Damaged("Load", "a byte of it is another")

            serving._load = never
            serving._limits = serving._limits._replace(loading=0.5)
            await serving.start({"reorder": stage(bundle, 1.0)})
            await serving.ready("reorder")
            async with asyncio.timeout(20):
                while standing(serving).state == "starting":
                    await asyncio.sleep(0.01)
            await predict(serving, record(), ids=["after"])
            async with asyncio.timeout(20):
                while fails and not serving.crashing("reorder", bundle):
                    await asyncio.sleep(0.01)
            return serving.crashing("reorder", bundle)

    said = asyncio.run(ask())
    assert ("a byte of it is another" in said) is fails
    assert (events(shop)["after"]["fallback"], events(shop)["after"]["aside"]) == ("down", "")


@pytest.mark.parametrize("waits", [True, False])
def test_a_candidate_that_is_loaded_as_the_hub_ends_is_not_left_behind(shop, bundle, waits):
    async def ask():
        go_on, loaded = asyncio.Event(), asyncio.get_running_loop().create_future()
        async with shop.serving("reorder") as serving:
            load = serving._load

            async def late(*given, **how):
                worker = await load(*given, **how)
                loaded.set_result(worker.pid)
                await go_on.wait()
                return worker

            serving._load = late
            assigning = asyncio.create_task(serving.assign("reorder", stage(bundle)))
            pid = await loaded
            stopping = asyncio.create_task(serving.stop())
            while not serving._changing["reorder"].locked():
                await asyncio.sleep(0)
            if not waits:
                await stopping
            go_on.set()
            with pytest.raises(Busy, match="the hub is ending"):
                await assigning
            await stopping
            return pid, alive(pid)

    pid, left_behind = asyncio.run(ask())
    assert not left_behind and gone(pid)


def test_a_process_that_was_prepared_before_the_hub_ended_serves_no_more(shop, bundle):
    async def ask(spared):
        async with shop.serving("reorder") as serving:
            now = shop.endpoints.get("reorder")
            loaded = await serving.prepare("reorder", bundle)
            await serving.stop()
            if spared:
                await serving.spare("reorder", bundle, loaded)
            else:
                await serving.switch(msgspec.structs.replace(now, id="next", bundle=bundle), loaded)
            return loaded.pid, alive(loaded.pid), serving.status()

    for spared in (True, False):
        pid, left_behind, status = asyncio.run(ask(spared))
        assert not left_behind and gone(pid) and status == []


def test_nothing_is_left_of_the_socket(shop, bundle, monkeypatch):
    async def ask(folder):
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", stage(bundle, 1.0))
            [answer] = await predict(serving, record())
            return list(Path(folder).iterdir()), answer["version"]

    with tempfile.TemporaryDirectory() as folder:  # one of its own: others connect processes at the same time
        monkeypatch.setattr(tempfile, "tempdir", folder)
        assert asyncio.run(ask(folder)) == ([], "reorder@2")
