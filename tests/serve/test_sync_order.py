"""No prediction leaves its process before a sync that covers its event has returned: seen from outside, by strace."""

import asyncio
import re
import shutil
import subprocess

import pytest
from serving_shop import body, record, told

WRITE = re.compile(r'\\"id\\":\\"(o-\d+)\\",\\"type\\":\\"prediction\\"')
ANSWER = re.compile(r'\\"predictions\\":\[\{\\"id\\":\\"(o-\d+)\\"')
SYNC_BEGINS = re.compile(r"^(\d+)\s.*\b(?:fdatasync|fsync)\(")
SYNC_ENDS = re.compile(r"^(\d+)\s.*\b(?:fdatasync|fsync)(?:\(| resumed>).*= 0\b")


def violations(trace: str) -> tuple[int, list[str]]:
    """(answers seen, those that left before their event was synced)."""
    written: set[str] = set()
    covered: dict[str, set[str]] = {}
    synced: set[str] = set()
    seen, early = 0, []
    for line in trace.splitlines():
        if begins := SYNC_BEGINS.match(line):
            covered[begins[1]] = set(written)  # a sync covers what was written before it was called
        if ends := SYNC_ENDS.match(line):
            synced |= covered.pop(ends[1], set())
        for answered in ANSWER.findall(line):
            seen += 1
            if answered not in synced:
                early.append(answered)
        written.update(WRITE.findall(line))
    return seen, early


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_every_answer_leaves_after_the_sync_of_its_event(shop, tmp_path):
    trace = tmp_path / "trace"

    async def ask():
        async with shop.serving("reorder") as serving:
            pid = serving.status()[0].pid
            calls = "trace=write,writev,pwrite64,pwritev,sendto,sendmsg,fdatasync,fsync"
            command = ["strace", "-f", "-s", "100000", "-e", calls, "-o", str(trace), "-p", str(pid)]
            watcher = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            try:
                said = await asyncio.to_thread(watcher.stderr.readline)
                if "attached" not in said:
                    pytest.skip(f"strace may not attach here: {said.strip()}")
                for turn in range(12):
                    ids = [f"o-{turn * 4 + n}" for n in range(4)]
                    answers = await asyncio.gather(*(serving.predict("reorder", body(record(), ids=[i])) for i in ids))
                    assert [told(answer)["predictions"][0]["id"] for answer in answers] == ids
            finally:
                watcher.terminate()
                watcher.communicate()

    asyncio.run(ask())
    seen, early = violations(trace.read_text())
    assert seen == 48, trace.read_text()[:3000]
    assert early == []
