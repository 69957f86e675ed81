"""What nobody waits for gives way to what somebody does, and no longer once somebody waits for it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rollout_shop import candidate, stage

from sampan.serve.priority import lower, restore

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there is a policy that can be taken back")
THREADS = """
import threading, time
for _ in range(3):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print(flush=True)
time.sleep(60)
"""


def policies(pid: int) -> set[int]:
    return {os.sched_getscheduler(int(one.name)) for one in Path(f"/proc/{pid}/task").iterdir()}


def weight(pid: int) -> str:
    group = Path(f"/proc/{pid}/autogroup")
    try:
        return (group.read_text().split() or ["0"])[-1]  # empty, where it is switched off or the group is another's
    except OSError:  # a system without
        return "0"


@pytest.fixture
def child():
    process = subprocess.Popen(
        [sys.executable, "-c", THREADS],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_all_threads_of_a_process_are_lowered_and_restored(child):
    assert len(list(Path(f"/proc/{child.pid}/task").iterdir())) == 4
    assert lower(child.pid) and policies(child.pid) == {os.SCHED_BATCH}
    assert weight(child.pid) in ("10", "0")
    assert restore(child.pid) and policies(child.pid) == {os.SCHED_OTHER} and weight(child.pid) == "0"


def test_a_process_that_is_gone_is_no_failure(child):
    child.kill()
    child.wait()
    assert lower(child.pid) and restore(child.pid)


def test_a_session_that_others_share_keeps_its_weight():
    before = weight(os.getpid())
    process = subprocess.Popen(["sleep", "60"])
    try:
        assert lower(process.pid) and policies(process.pid) == {os.SCHED_BATCH}
        assert weight(os.getpid()) == weight(process.pid) == before
    finally:
        process.kill()
        process.wait()


def test_a_shadow_gives_way_and_who_answers_does_not(shop, fitted):
    bundle = candidate(shop, fitted)

    async def go():
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", stage(bundle, share=0.0, shadow=True, stage=0))
            now = serving.status()[0]
            assert now.pid and now.candidate and now.candidate.pid
            assert (policies(now.pid), policies(now.candidate.pid)) == ({os.SCHED_OTHER}, {os.SCHED_BATCH})
            await serving.assign("reorder", stage(bundle, share=0.05))
            assert policies(now.candidate.pid) == {os.SCHED_OTHER}
            await serving.assign("reorder", stage(bundle, share=0.0, shadow=True, stage=2))
            assert policies(now.candidate.pid) == {os.SCHED_BATCH}
            shop.endpoints.add(
                shop.endpoints.of_bundle("reorder", shop.endpoints.bundle(bundle), actor="tester"),
                shop.endpoints.get("reorder"),
            )
            promoted = await serving.refresh("reorder")
            assert promoted.pid == now.candidate.pid and policies(promoted.pid) == {os.SCHED_OTHER}
            assert weight(promoted.pid) == "0"

    asyncio.run(go())
