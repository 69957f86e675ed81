"""Predictions over real processes: answered, recorded first, supervised, switched whole."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvloop
from serving_shop import body, record, told

from sampan.base.clock import SharedClock, to_micros
from sampan.base.errors import BadWorkspace, Damaged, NotFound, Usage


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(pid: int, patience: float = 5.0) -> bool:
    until = time.monotonic() + patience
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)


def test_an_answer_says_what_who_and_why_and_the_log_agrees(shop):
    async def ask():
        async with shop.serving("reorder") as serving:
            return await serving.predict("reorder", body(record(), record(orders=-2, customer_id=None)))

    answer = uvloop.run(ask())
    assert answer.status == 200
    likely, unlikely = told(answer)["predictions"]
    assert likely["prediction"] > 0.5 > unlikely["prediction"]
    assert (likely["action"], likely["rule"]) == ("reserve", "likely to return")
    assert (unlikely["action"], unlikely["rule"]) == ("wait", "not likely")
    deployed = shop.endpoints.get("reorder")
    assert likely["version"] == "reorder@1" and likely["bundle"] == deployed.bundle
    events = shop.predictions()
    assert [event.id for event in events] == [likely["id"], unlikely["id"]]
    data = json.loads(events[0].data)
    assert events[0].subject == "17850" and data["entity"] == "17850" and events[1].subject is None
    assert data["features"] == {"orders": 2, "recency": 0.5, "spend": 10.25} and data["context"] == {}
    assert data["action"] == "reserve" and data["prediction"] == likely["prediction"]
    p = likely["prediction"]
    assert data["value"]["outcomes"] == {"true": 2.0, "false": -1.2} and data["value"]["currency"] == "GBP"
    assert data["value"]["expected"] == pytest.approx(2 * p - 1.2 * (1 - p))
    assert data["latency_us"] > 0 and data["bundle"] == deployed.bundle


def test_one_record_a_bare_list_and_an_envelope_are_all_taken(shop):
    async def ask():
        async with shop.serving("reorder") as serving:
            one = await serving.predict("reorder", json.dumps(record()).encode())
            listed = await serving.predict("reorder", json.dumps([record(), record()]).encode())
            enveloped = await serving.predict("reorder", body(record(), ids=["order-1"]))
            return told(one), told(listed), told(enveloped)

    one, listed, enveloped = asyncio.run(ask())
    assert [len(answer["predictions"]) for answer in (one, listed, enveloped)] == [1, 2, 1]
    assert enveloped["predictions"][0]["id"] == "order-1"


def test_32_clients_at_once_each_get_their_own_answer(shop):
    async def client(serving, number):
        found = []
        for turn in range(12):
            answer = await serving.predict("reorder", body(record(orders=number - 16), ids=[f"{number}-{turn}"]))
            found.append(told(answer)["predictions"][0])
        return found

    async def ask():
        async with shop.serving("reorder") as serving:
            return await asyncio.gather(*(client(serving, number) for number in range(32)))

    answers = asyncio.run(ask())
    expected = shop.models.load("reorder")
    for number, found in enumerate(answers):
        assert [one["id"] for one in found] == [f"{number}-{turn}" for turn in range(12)]
        assert {one["prediction"] for one in found} == set(expected.predict([record(orders=number - 16)]))
    assert sorted(event.id for event in shop.predictions()) == sorted(one["id"] for found in answers for one in found)


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.night)])
def test_a_killed_process_gives_503_recovers_and_loses_nothing_acknowledged(shop, kills):
    acknowledged: list[dict] = []
    statuses: set[int] = set()

    async def client(serving, number, stop):
        turn = 0
        while not stop.is_set():
            turn += 1
            answer = await serving.predict("reorder", body(record(orders=number), ids=[f"{number}-{turn}"]))
            statuses.add(answer.status)
            if answer.status == 200:
                acknowledged.extend(told(answer)["predictions"])
            else:
                assert answer.retry_after == 1
                await asyncio.sleep(0.02)

    async def ask():
        async with shop.serving("reorder") as serving:
            stop = asyncio.Event()
            clients = [asyncio.create_task(client(serving, number, stop)) for number in range(4)]
            for _ in range(kills):
                pid = (await serving.ready("reorder")).pid
                await asyncio.sleep(0.15)
                os.kill(pid, signal.SIGKILL)
                while serving.status()[0].state == "serving":
                    await asyncio.sleep(0.01)
            state = await serving.ready("reorder")
            assert state.restarts == kills
            before = len(acknowledged)
            while len(acknowledged) < before + 4:
                await asyncio.sleep(0.01)
            stop.set()
            await asyncio.gather(*clients)

    asyncio.run(ask())
    assert statuses == {200, 503}
    assert {one["version"] for one in acknowledged} == {"reorder@1"}
    stored = {event.id: json.loads(event.data)["prediction"] for event in shop.predictions()}
    assert len(acknowledged) > kills
    for one in acknowledged:
        assert stored[one["id"]] == one["prediction"]


def test_an_answer_never_leaves_before_its_event_is_on_disk(shop):
    """Asked one by one, each acknowledged id is found by a reader at once, while the process is killed unsynced."""

    async def ask():
        async with shop.serving("reorder") as serving:
            for number in range(20):
                answer = await serving.predict("reorder", body(record(), ids=[f"o-{number}"]))
                assert answer.status == 200
                if number % 5 == 4:
                    os.kill(serving.status()[0].pid, signal.SIGKILL)
                    assert f"o-{number}" in {event.id for event in shop.predictions()}
                    await asyncio.sleep(0.1)
                    await serving.ready("reorder")

    asyncio.run(ask())
    assert [event.id for event in shop.predictions()] == [f"o-{number}" for number in range(20)]


def test_asking_again_with_the_same_id_gives_the_first_answer_even_after_a_kill(shop):
    async def ask():
        async with shop.serving("reorder") as serving:
            first = await serving.predict("reorder", body(record(), ids=["order-7"]))
            again = await serving.predict("reorder", body(record(), ids=["order-7"]))
            both = await asyncio.gather(*(serving.predict("reorder", body(record(), ids=["twin"])) for _ in range(5)))
            other = await serving.predict("reorder", body(record(spend=1), ids=["order-7"]))
            os.kill(serving.status()[0].pid, signal.SIGKILL)
            await asyncio.sleep(0.1)
            await serving.ready("reorder")
            late = await serving.predict("reorder", body(record(), ids=["order-7"]))
            late_other = await serving.predict("reorder", body(record(spend=1), ids=["order-7"]))
            return first, again, both, other, late, late_other

    first, again, both, other, late, late_other = asyncio.run(ask())
    assert told(first) == told(again) == told(late)
    assert other.status == late_other.status == 409
    assert "'order-7' already names another prediction" in told(other)["error"]["obstacle"]
    assert {one.status for one in both} <= {200, 503} and both[0].status == 200
    assert sorted(event.id for event in shop.predictions()) == ["order-7", "twin"]


def test_a_deploy_switches_model_and_rules_together_with_no_failed_request(shop, fitted):
    async def ask():
        async with shop.serving("reorder") as serving:
            stop = asyncio.Event()
            seen: list[tuple[int, str, str]] = []

            async def client():
                while not stop.is_set():
                    answer = await serving.predict("reorder", body(record()))
                    one = told(answer)["predictions"][0] if answer.status == 200 else {}
                    seen.append((answer.status, one.get("version"), one.get("rule")))
                    await asyncio.sleep(0.002)

            clients = [asyncio.create_task(client()) for _ in range(4)]
            await asyncio.sleep(0.2)
            (shop.root / "shop" / "words.py").write_text('LIKELY = "new words"\n')
            await asyncio.to_thread(shop.register, fitted(9))
            await asyncio.to_thread(shop.deploy, "reorder@2")
            await serving.refresh("reorder")
            await serving.ready("reorder")
            await asyncio.sleep(0.2)
            stop.set()
            await asyncio.gather(*clients)
            return seen

    seen = asyncio.run(ask())
    assert {status for status, _, _ in seen} == {200}
    pairs = [(version, rule) for _, version, rule in seen]
    assert set(pairs) == {("reorder@1", "likely to return"), ("reorder@2", "new words")}
    assert {json.loads(event.data)["version"] for event in shop.predictions()} == {"reorder@1", "reorder@2"}


def test_the_bundle_serves_its_own_rules_not_the_working_trees(shop):
    (shop.root / "decisions.py").write_text("raise SystemExit('the working tree was imported')\n")
    (shop.root / "shop" / "words.py").unlink()

    async def ask():
        async with shop.serving("reorder") as serving:
            return told(await serving.predict("reorder", body(record())))

    assert asyncio.run(ask())["predictions"][0]["rule"] == "likely to return"


def test_a_new_bundle_that_does_not_load_leaves_the_old_one_serving(shop, fitted):
    async def ask():
        async with shop.serving("reorder") as serving:
            version = await asyncio.to_thread(shop.register, fitted(9))
            await asyncio.to_thread(shop.deploy, version.ref)
            flip(shop.blobs.path(version.files["model.txt"]))
            with pytest.raises(Damaged, match="does not match its digest"):
                await serving.refresh("reorder")
            return told(await serving.predict("reorder", body(record())))

    assert asyncio.run(ask())["predictions"][0]["version"] == "reorder@1"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_damaged_model_is_not_served_says_so_and_comes_back_when_mended(shop):
    path = shop.blobs.path(shop.models.get("reorder").files["model.txt"])
    good = path.read_bytes()
    flip(path)

    async def ask():
        async with shop.serving() as serving:
            broken = await serving.predict("reorder", body(record()))
            path.write_bytes(good)
            await serving.ready("reorder")
            return broken, await serving.predict("reorder", body(record()))

    broken, mended = asyncio.run(ask())
    assert broken.status == 503 and "does not match its digest" in told(broken)["error"]["obstacle"]
    assert mended.status == 200


def test_a_file_swapped_while_it_is_loaded_is_never_what_is_loaded(shop, fitted):
    """A racing renamer: whatever is served predicts as the registered version does, or it is refused."""
    from sampan.models.formats import load

    version = shop.models.get("reorder")
    path = shop.blobs.path(version.files["model.txt"])
    good = path.read_bytes()
    other = fitted(9).estimator.booster_.model_to_string().encode()
    code = (
        "import os, sys, time\nbad, good, target = sys.argv[1:]\n"
        "while True:\n  for source in (bad, good):\n"
        "    os.link(source, target + '.x'); os.replace(target + '.x', target)\n"
    )
    (shop.root / "bad").write_bytes(other)
    (shop.root / "good").write_bytes(good)
    expected = load(version, shop.blobs).predict([record()])
    racer = subprocess.Popen([sys.executable, "-c", code, shop.root / "bad", shop.root / "good", path])
    refused = served = 0
    try:
        for _ in range(1000):
            try:
                assert load(version, shop.blobs).predict([record()]) == expected
                served += 1
            except Damaged:
                refused += 1
    finally:
        racer.kill()
        racer.wait()
    assert refused and served


def test_a_process_whose_hub_is_gone_ends_before_it_imports_anything():
    """It holds the socket of the endpoint: while it lived on, the next hub could not listen there."""
    command = [sys.executable, "-P", "-m", "sampan.serve.begin", "0", "1", "there.is.no.such.module"]
    assert subprocess.run(command, timeout=30, check=False).returncode == 0


@pytest.mark.slow
def test_when_nobody_is_left_to_ask_the_process_ends(shop):
    """The hub is killed with SIGKILL, once while the process idles and once while a rule keeps it busy."""
    code = (
        "import asyncio, sys, json\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[2])\n"
        "from serving_shop import body, record\nfrom sampan.app import App\n"
        "from sampan.serve.serving import Serving\n"
        "app = App(Path(sys.argv[1]))\n"
        "async def main():\n"
        "    serving = Serving(Path(sys.argv[1]), app.endpoints, app.settings)\n"
        "    await serving.start()\n"
        "    print((await serving.ready('reorder')).pid, flush=True)\n"
        "    if sys.argv[3] == 'busy':\n"
        "        await serving.predict('reorder', body(record(sleep=60)))\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    for mood in ("idle", "busy"):
        command = [sys.executable, "-c", code, str(shop.root), str(Path(__file__).parent), mood]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hub:
            pid = int(hub.stdout.readline())
            time.sleep(0.3)
            assert alive(pid)
            hub.kill()
        assert gone(pid), mood


def test_stopping_answers_what_was_asked_and_leaves_no_process(shop):
    async def ask():
        async with shop.serving("reorder") as serving:
            pid = serving.status()[0].pid
            asked = [asyncio.create_task(serving.predict("reorder", body(record(sleep=0.05)))) for _ in range(5)]
            await asyncio.sleep(0.02)
            await serving.stop()
            return pid, [answer.status for answer in await asyncio.gather(*asked)]

    pid, statuses = asyncio.run(ask())
    assert statuses == [200] * 5
    assert gone(pid, 0.5)


def test_more_requests_than_the_queue_takes_get_503_with_retry_after(make_shop):
    shop = make_shop(predict_queue=8)

    async def ask():
        async with shop.serving("reorder") as serving:
            return await asyncio.gather(*(serving.predict("reorder", body(record())) for _ in range(40)))

    answers = asyncio.run(ask())
    assert [answer.status for answer in answers].count(200) == 8
    assert {(answer.status, answer.retry_after) for answer in answers} == {(200, None), (503, 1)}


def test_a_process_that_kills_itself_is_down_for_a_moment_only(shop):
    async def ask():
        async with shop.serving("reorder") as serving:
            died = await serving.predict("reorder", body(record(die=True)))
            down = await serving.predict("reorder", body(record()))
            await serving.ready("reorder")
            return died, down, await serving.predict("reorder", body(record()))

    died, down, after = asyncio.run(ask())
    assert (died.status, down.status, after.status) == (503, 503, 200)
    assert "its serving process ended" in told(died)["error"]["obstacle"]
    assert "workspace's .sampan/tmp/serve-reorder.log" in told(died)["error"]["advice"], (
        "no client is told where it lies"
    )


def test_the_shared_clock_times_predictions_and_a_stated_time_is_kept(make_shop, tmp_path):
    SharedClock.create(tmp_path / "clock", datetime(2011, 4, 1, 8, 26, tzinfo=UTC))
    shop = make_shop(clock=str(tmp_path / "clock"))
    clock = SharedClock(tmp_path / "clock")

    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.predict("reorder", body(record(), ids=["now"]))
            clock.set(datetime(2011, 5, 1, tzinfo=UTC))
            await serving.predict("reorder", body(record(), ids=["later"]))
            await serving.predict("reorder", body(record(), ids=["stated"], time="2011-04-30T12:00:00+02:00"))
            return await serving.predict("reorder", body(record(), time="2011-05-02T00:00:00Z"))

    future = asyncio.run(ask())
    assert (
        future.status == 400 and "lies in the future; it is 2011-05-01T00:00:00Z" in told(future)["error"]["obstacle"]
    )
    stored = {event.id: event for event in shop.predictions()}
    may = to_micros(datetime(2011, 5, 1, tzinfo=UTC))
    assert stored["now"].time == stored["now"].received == to_micros(datetime(2011, 4, 1, 8, 26, tzinfo=UTC))
    assert stored["later"].time == stored["later"].received == may
    assert stored["stated"].received == may
    assert stored["stated"].time == may - timedelta(hours=14) // timedelta(microseconds=1)


def test_an_unknown_endpoint_is_404_and_names_those_there_are(shop):
    async def ask():
        async with shop.serving() as serving:
            return await serving.predict("reorders", body(record()))

    answer = asyncio.run(ask())
    assert answer.status == 404 and "Endpoints: reorder." in told(answer)["error"]["advice"]


def test_openmp_keeps_to_one_thread_and_nothing_listens(shop):
    async def ask():
        async with shop.serving("reorder") as serving:
            await serving.predict("reorder", body(*[record() for _ in range(500)]))
            pid = serving.status()[0].pid
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            sockets = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
            listening = [line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            return environment, sockets, listening

    environment, sockets, listening = asyncio.run(ask())
    assert b"OMP_NUM_THREADS=1\0" in environment
    assert not [link for link in sockets if link.removeprefix("socket:[").removesuffix("]") in listening]


def test_bad_names_unknown_versions_and_rules_that_do_not_load_are_not_deployed(shop):
    with pytest.raises(Usage, match="is no name"):
        shop.deploy(name="../up")
    with pytest.raises(NotFound, match="reorder@9"):
        shop.deploy("reorder@9")
    before = shop.endpoints.history("reorder")
    (shop.root / "decisions.py").write_text("import nothing_of_the_kind\n")
    with pytest.raises(BadWorkspace, match=r"decisions\.py:1: ModuleNotFoundError"):
        shop.deploy(reason="broken")
    assert shop.endpoints.history("reorder") == before


def test_an_endpoint_without_rules_predicts_and_takes_no_action(shop):
    (shop.root / "decisions.py").unlink()
    shop.deploy()

    async def ask():
        async with shop.serving("reorder") as serving:
            return told(await serving.predict("reorder", body(record())))

    one = asyncio.run(ask())["predictions"][0]
    assert one["action"] == one["rule"] == "" and 0 < one["prediction"] < 1


@pytest.mark.slow
def test_a_stream_held_by_somebody_else_is_waited_for(shop):
    from sampan.store.lock import FileLock

    async def ask():
        folder = shop.folder.data / "log" / "serve-reorder"
        with FileLock(folder / "lock", "Test", ""):
            async with shop.serving() as serving:
                await asyncio.sleep(1.0)
                assert serving.status()[0].state == "starting"
                return serving.status()[0].pid

    assert gone(asyncio.run(ask()))
