"""R3 for events that carry bytes: the bytes are on the disk before the event is, and the event before the answer."""

import base64
import re
from pathlib import Path
from typing import Any

from tests.robustness.server import Client, Server, needs_strace, the_log

CALLS = "write,pwrite64,openat,mkdir,fsync,fdatasync,sendto,sendmsg,rename,renameat,renameat2"
CONTRACTS = """
from sampan import Blob, Event

class Photo(Event):
    picture: Blob
"""


def photo(number: int) -> dict[str, Any]:
    data = base64.b64encode(f"picture {number}".encode()).decode()
    return {
        "id": f"{number}",
        "type": "photo",
        "source": "camera",
        "time": "2026-01-01T00:00:00Z",
        "data": {"picture": {"media_type": "text/plain", "base64": data}},
    }


def judge(trace: str, attachments: Path) -> tuple[list[str], int, int]:
    """Faults in a trace: a segment synced, or an answer sent, while a file of bytes, its name or its folder was not.
    Also how many answers and how many files were seen."""
    faults: list[str] = []
    dirty: dict[str, str] = {}
    unfinished: dict[str, str] = {}
    answers = files = 0
    for line in trace.splitlines():
        thread, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            unfinished[thread] = call.removesuffix("<unfinished ...>").strip()
            if "HTTP/1.1 2" not in call:
                continue
        elif match := re.match(r"<\.\.\. (\w+) resumed>(.*)", call):
            begun = unfinished.pop(thread, f"{match[1]}(")
            if "HTTP/1.1 2" in begun:
                continue
            call = begun + match[2]
        if "HTTP/1.1 2" in call:
            answers += 1
            faults += [f"answer {answers} left while {name} {why}" for name, why in dirty.items()]
            continue
        opened, quoted = re.findall(r"<([^<>]*)>", call), re.findall(r'"([^"]*)"', call)
        file = opened[-1 if call.startswith("openat") else 0] if opened else ""
        if call.startswith(("fsync", "fdatasync")) and re.search(r"= 0\b", call):
            if file.endswith(".log"):
                faults += [f"a segment was synced while {name} {why}" for name, why in dirty.items()]
            dirty.pop(file, None)
        elif call.startswith("mkdir") and quoted and quoted[0].startswith(str(attachments)) and "= 0" in call:
            dirty[str(Path(quoted[0]).parent)] = "had a new folder that was not synced"
        elif call.startswith(("write", "pwrite")) and file.startswith(str(attachments)):
            dirty[file] = "had bytes that were not synced"
        elif call.startswith("rename") and len(quoted) > 1 and quoted[1].startswith(str(attachments)):
            files += 1
            dirty[str(Path(quoted[1]).parent)] = "had a new name that was not synced"
    return faults, answers, files


@needs_strace
def test_bytes_are_durable_before_their_event_and_their_event_before_the_answer(tmp_path: Path) -> None:
    (tmp_path / "contracts.py").write_text(CONTRACTS)
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-q", "-y", "-s", "40", "-e", f"trace={CALLS}", "-o", str(trace)]
    with Server(tmp_path, strace=strace) as server:
        with Client(server.port) as client:
            for number in range(40):
                status, answer, _ = client.post(photo(number))
                assert (status, answer["results"][0]["verdict"]) == (202, "accepted")
        server.stop()
    faults, answers, files = judge(trace.read_text(errors="replace"), tmp_path / ".sampan" / "attachments")
    assert faults == []
    assert (answers, files) == (40, 40)
    assert len(the_log(tmp_path).events(limit=100)) == 40
