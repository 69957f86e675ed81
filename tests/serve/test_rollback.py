"""Going back to what was in force before: which bundle that is, and the process of it that stayed warm."""

import asyncio
import os
import signal
from itertools import count

import msgspec
import pytest
from serving_shop import body, record, told
from test_serving import alive, gone

from sampan.base.errors import Conflict, NotFound, Usage
from sampan.serve.endpoints import Endpoint, EndpointSpec, looks_like_a_digest
from sampan.serve.warm import left


@pytest.fixture
def history(shop):
    """Writes rows of an endpoint of which nothing is served, one after another; letters stand for bundles."""
    numbers = count()

    def write(steps: str):
        endpoints, now = shop.endpoints, shop.endpoints.find("told")
        for step in steps:
            if step == "<":
                made = endpoints.back(now, endpoints.before("told"), actor="ann")
            else:
                spec = msgspec.structs.replace(shop.endpoints.get("reorder").spec, version=f"reorder@{step}")
                made = endpoints.back(now, now, actor="ann") if now else endpoints.get("reorder")
                made = msgspec.structs.replace(
                    made, id=str(next(numbers)), name="told", bundle=step * 64, spec=spec, back_from=""
                )
            now = endpoints.add(made, now)
        return "".join(one.bundle[0] for one in reversed(endpoints.history("told")))

    return write


def test_going_back_leads_further_back_each_time_and_never_forward(history):
    assert history("abc<<") == "abcba"


def test_after_going_back_a_new_bundle_is_left_for_the_one_that_was_gone_back_to(history):
    assert history("abc<d<<") == "abcbdba"


def test_going_back_from_the_first_says_what_there_is(shop, history):
    history("ab<")
    with pytest.raises(NotFound, match="nothing was in force before it") as caught:
        shop.endpoints.before("told")
    assert "--to BUNDLE" in caught.value.advice


def test_a_row_names_the_bundle_that_was_left(shop, history):
    history("ab<")
    newest, *earlier = shop.endpoints.history("told")
    assert (newest.bundle[0], newest.back_from, newest.actor) == ("a", "b" * 64, "ann")
    assert {one.back_from for one in earlier} == {""}


def test_a_bundle_is_named_by_how_its_digest_begins(shop, history):
    history("abc")
    assert shop.endpoints.named("told", "aaaa").spec.version == "reorder@a"
    with pytest.raises(NotFound, match="none that it has served begins with 'dddd'") as caught:
        shop.endpoints.named("told", "dddd")
    assert "cccccccccccc" in caught.value.advice
    with pytest.raises(Usage, match="begins several"):
        shop.endpoints.named("told", "")
    assert looks_like_a_digest("aa00") and not looks_like_a_digest("2026-01-31")


def test_who_comes_second_does_not_write_over_the_first(shop, history):
    history("a")
    seen = shop.endpoints.get("told")
    history("b")
    with pytest.raises(Conflict, match="reorder@b has come into force meanwhile"):
        shop.endpoints.add(shop.endpoints.back(seen, seen, actor="bob"), seen)
    assert shop.endpoints.get("told").spec.version == "reorder@b"


def deploy_second(shop, fitted):
    (shop.root / "shop" / "words.py").write_text('LIKELY = "new words"\n')
    shop.register(fitted(9))
    shop.deploy("reorder@2")


def back(shop):
    now = shop.endpoints.get("reorder")
    return shop.endpoints.add(shop.endpoints.back(now, shop.endpoints.before("reorder"), actor="ann"), now)


def test_what_was_left_stays_loaded_answers_again_at_once_and_keeps_one_stream(shop, fitted):
    async def ask():
        async with shop.serving("reorder") as serving:
            first = serving.status()[0].pid
            await serving.predict("reorder", body(record(), ids=["before"]))
            await asyncio.to_thread(deploy_second, shop, fitted)
            second = (await serving.refresh("reorder")).pid
            assert serving.warm("reorder") == [shop.endpoints.history("reorder")[-1].bundle]
            await serving.predict("reorder", body(record(), ids=["between"]))
            back(shop)
            state = await serving.refresh("reorder")
            again = await serving.predict("reorder", body(record(), ids=["before"]))
            new = await serving.predict("reorder", body(record(), ids=["after"]))
            return first, second, state, told(again)["predictions"][0], told(new)["predictions"][0]

    first, second, state, again, new = asyncio.run(ask())
    assert state.pid == first != second and state.state == "serving"
    assert (new["version"], new["rule"]) == ("reorder@1", "likely to return") == (again["version"], again["rule"])
    assert [event.id for event in shop.predictions()] == ["before", "between", "after"]
    assert gone(first) and gone(second)


def test_a_warm_process_that_was_killed_is_started_anew(shop, fitted):
    async def ask():
        async with shop.serving("reorder") as serving:
            first = serving.status()[0].pid
            await asyncio.to_thread(deploy_second, shop, fitted)
            await serving.refresh("reorder")
            os.kill(first, signal.SIGKILL)
            while serving.warm("reorder"):
                await asyncio.sleep(0.01)
            back(shop)
            state = await serving.refresh("reorder")
            return first, state, await serving.predict("reorder", body(record()))

    first, state, answer = asyncio.run(ask())
    assert state.pid != first and answer.status == 200
    assert told(answer)["predictions"][0]["version"] == "reorder@1"


def test_what_crashes_is_left_for_what_was_warm(shop, fitted):
    """The new one dies at every request; the way back does not wait for it."""

    async def ask():
        async with shop.serving("reorder") as serving:
            await asyncio.to_thread(deploy_second, shop, fitted)
            await serving.refresh("reorder")
            died = await serving.predict("reorder", body(record(die=True)))
            back(shop)
            await serving.refresh("reorder")
            return died.status, await serving.predict("reorder", body(record())), serving.warm("reorder")

    died, answer, warm = asyncio.run(ask())
    assert (died, answer.status, warm) == (503, 200, [])
    assert told(answer)["predictions"][0]["rule"] == "likely to return"


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "stays"), [(0, False), (2, True)])
def test_a_process_stays_warm_for_as_long_as_the_setting_says(make_shop, fitted, seconds, stays):
    shop = make_shop(warm_for=seconds)

    async def ask():
        async with shop.serving("reorder") as serving:
            first = serving.status()[0].pid
            await asyncio.to_thread(deploy_second, shop, fitted)
            await serving.refresh("reorder")
            then = alive(first) and bool(serving.warm("reorder"))
            ended = await asyncio.to_thread(gone, first)
            return then, ended, serving.warm("reorder")

    assert asyncio.run(ask()) == (stays, True, [])


def test_of_a_history_what_was_left_lately_is_wanted_the_newest_last():
    def row(bundle, minute, back_from=""):
        return Endpoint(
            id=f"{bundle}{minute}",
            name="reorder",
            bundle=bundle,
            spec=EndpointSpec(version="reorder@1"),
            actor="ann",
            reason="",
            created=minute * 60_000_000,
            back_from=back_from,
        )

    served = [row("a", 0), row("b", 10), row("c", 20), row("b", 25, back_from="c"), row("d", 30)][::-1]
    now = 40 * 60_000_000
    assert left(served, now, 3_600) == [("a", 1_800.0), ("b", 3_000.0)]
    assert left(served, now, 1_200) == [("b", 600.0)]
    assert left(served, now, 0) == left(served[:1], now, 3_600) == left([], now, 3_600) == []


@pytest.mark.parametrize("ends", [True, False])
def test_a_process_that_is_loaded_to_be_kept_ready_is_not_left_behind_when_all_end(shop, ends):
    before = shop.endpoints.get("reorder").bundle
    (shop.root / "shop" / "words.py").write_text('LIKELY = "other words"\n')
    shop.deploy()

    async def ask():
        loaded = asyncio.get_running_loop().create_future()
        async with shop.serving("reorder") as serving:
            load = serving._load

            async def seen(*given, **how):
                loaded.set_result(await load(*given, **how))
                return loaded.result()

            serving._load = seen
            changing = serving._changing["reorder"]
            async with changing:  # somebody is switching
                serving.keep_warm("reorder", before, 60)
                pid = (await loaded).pid
                await asyncio.sleep(0.05)  # it waits for its turn
                assert alive(pid)
                ending = asyncio.create_task(serving.stop()) if ends else None
                await asyncio.sleep(0.05)
            if ending is not None:
                await ending
                return pid, alive(pid)
            async with asyncio.timeout(5):
                while serving.warm("reorder") != [before]:
                    await asyncio.sleep(0.01)
            return pid, not alive(pid)

    pid, left_behind = asyncio.run(ask())
    assert not left_behind and gone(pid)
