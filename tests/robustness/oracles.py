"""Judges of a server's promises. Each runs a server, sound or sabotaged, and gives the faults it saw.

They look from outside: at answers, at the order of system calls, at what the log holds afterwards.
"""

import json
import os
import random
import re
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.robustness.server import GONE, Client, Server, ids_in, sale, the_log, workspace

CALLS = "write,pwrite64,writev,openat,fsync,fdatasync,sendto,sendmsg,rename,renameat,renameat2"


def check_log(folder: Path, acknowledged: list[str], *, sent: set[str] | None = None) -> list[str]:
    """Every acknowledged event is there exactly once, and nothing that nobody sent."""
    faults = [str(fault) for fault in the_log(folder).verify()]
    stored = Counter(ids_in(folder))
    faults += [f"{id} was acknowledged and is not in the log" for id in acknowledged if not stored[id]]
    faults += [f"{id} is {count} times in the log" for id, count in stored.items() if count > 1]
    if sent is not None:
        faults += [f"{id} is in the log and was never sent" for id in stored if id not in sent]
    return faults


def order_of_calls(folder: Path, *, requests: int = 1_000, sabotage: str | None = None) -> list[str]:
    """R3: no 2xx leaves before its events are synced, nor while the log has bytes or names that are not.

    One connection, one request at a time, so that whatever is unsynced when an answer leaves belongs to it.
    """
    workspace(folder)
    trace = folder / "trace"
    strace = ["strace", "-f", "-q", "-y", "-s", "40", "-e", f"trace={CALLS}", "-o", str(trace)]
    with Server(folder, strace=strace, sabotage=sabotage, segment_events=requests * 3) as server:
        with Client(server.port) as client:
            for number in range(requests):
                batch = [sale(f"{number}-{part}") for part in range(1 if number % 2 else 20)]
                client.post(batch[0] if number % 2 else batch)
        server.stop()
    return judge_calls(trace.read_text(errors="replace"), folder / ".sampan" / "log", requests)


def judge_calls(trace: str, log: Path, requests: int) -> list[str]:
    """The faults in a trace of system calls: one request at a time, each with one write of its events."""
    faults = []
    dirty: dict[str, str] = {}  # file or folder → why it is not durable
    unfinished: dict[str, str] = {}
    answers = waiting = synced = 0  # answers sent; writes of events, not synced and synced
    for line in trace.splitlines():
        thread, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            call = unfinished[thread] = call.removesuffix("<unfinished ...>").strip() + ") = ?"
            if not call.startswith(("write", "pwrite", "send")):
                continue  # what it did is known when it resumes; a write counts from its beginning
        elif match := re.match(r"<\.\.\. (\w+) resumed>(.*)", call):
            call = unfinished.pop(thread, f"{match[1]}() = ?").removesuffix(") = ?") + match[2]
            if call.startswith(("write", "pwrite", "send")):
                continue
        if "HTTP/1.1 2" in call and call.startswith(("write", "send")):
            answers += 1
            faults += [f"answer {answers} left while {file} {why}" for file, why in dirty.items()]
            if synced < answers:
                faults.append(f"answer {answers} left before its events were written and synced")
            continue
        paths = re.findall(r"<([^<>]*)>", call)
        file = paths[-1 if call.startswith("openat") else 0] if paths else ""
        if not file.startswith(str(log)):
            continue
        if call.startswith("openat") and "O_CREAT" in call and file.endswith(".log"):
            dirty[str(Path(file).parent)] = "had a new name that was not synced"
        elif call.startswith(("write", "pwrite")) and file.endswith(".log"):
            dirty[file] = "had bytes that were not synced"
            waiting += "SAMPANLG" not in call  # the header of a segment holds no events
        elif call.startswith(("fdatasync", "fsync")) and re.search(r"= 0\b", call):
            dirty.pop(file, None)
            if file.endswith(".log"):
                synced, waiting = synced + waiting, 0
    if answers < requests:
        faults.append(f"only {answers} answers were seen")
    return faults


def aimed_kill(
    folder: Path, call: str, when: int, *, sabotage: str | None = None, rounds: int = 12
) -> tuple[list[str], bool]:
    """R2: kill the process at the ``when``-th ``call``, restart, resend; the faults, and whether the kill hit."""
    workspace(folder)
    stream = folder / ".sampan" / "log" / "intake"
    aim = ["strace", "-f", "--seccomp-bpf", "-q", "-o", os.devnull, "-e", f"trace={call}"]
    if call == "write":
        for number in range(1, 6):
            aim += ["-P", str(stream / f"{number:08d}.log")]
    aim += ["-e", f"inject={call}:signal=KILL:when={when}"]
    acknowledged: list[str] = []
    sent: set[str] = set()
    small = {"segment_events": 40}
    hit = False
    with Server(folder, strace=aim, sabotage=sabotage, wait=False, **small) as server:
        if server.ready():
            try:
                with Client(server.port) as client:
                    for number in range(rounds):
                        acknowledged += _send(client, number, sent)
                time.sleep(0.3)  # a seal may be under way
            except GONE:
                hit = True
        else:
            hit = True
        hit = hit or server.process.poll() is not None
    faults = []
    with Server(folder, sabotage=sabotage, **small) as server, Client(server.port) as client:
        if server.process.poll() is not None:
            return ["it did not start again"], hit
        for number in range(rounds + 2):  # everything once more: what is there already must be a duplicate
            acknowledged += _send(client, number, sent)
    faults += check_log(folder, acknowledged, sent=sent)
    return faults, hit


def _send(client: Client, number: int, sent: set[str]) -> list[str]:
    batch = [sale(f"{number}-{part}") for part in range(10)]
    sent.update(event["id"] for event in batch)
    status, answer, _ = client.post(batch)
    if status != 202:
        return []
    return [result["id"] for result in answer["results"] if result["verdict"] in ("accepted", "duplicate")]


class Producer(threading.Thread):
    """Sends numbered events and keeps what was acknowledged; sends a batch again until it is."""

    def __init__(self, name: str, server: "list[Server]", size: int = 20) -> None:
        super().__init__(name=name, daemon=True)
        self._server, self._size = server, size
        self.acknowledged: list[str] = []
        self.places: list[int] = []
        self.offered = 0
        self.enough = threading.Event()

    def run(self) -> None:
        number = 0
        client: Client | None = None
        while not self.enough.is_set():
            batch = [sale(f"{self.name}-{number + part}", source=self.name) for part in range(self._size)]
            try:
                if client is None:
                    client = Client(self._server[0].port)
                self.offered += len(batch)
                status, answer, _ = client.post(batch)
            except GONE:
                if client is not None:
                    client.close()
                client = None
                time.sleep(0.02)
                continue
            if status == 202:
                self.acknowledged += [result["id"] for result in answer["results"]]
                self.places += [int(result["position"].partition(":")[2]) for result in answer["results"]]
                number += self._size
        if client is not None:
            client.close()


def random_kills(folder: Path, kills: int, *, sabotage: str | None = None, seed: int = 7) -> tuple[list[str], float]:
    """R1: kill -9 at random under load; the faults, and the slowest restart in seconds."""
    workspace(folder)
    chance = random.Random(seed)
    settings = {"segment_events": 3_000}
    servers = [Server(folder, sabotage=sabotage, **settings)]
    producers = [Producer(f"p{number}", servers) for number in range(4)]
    slowest = 0.0
    for producer in producers:
        producer.start()
    try:
        for _ in range(kills):
            time.sleep(chance.uniform(0.1, 0.5))
            servers[0].stop()
            begun = time.monotonic()
            servers[0] = Server(folder, sabotage=sabotage, **settings)
            slowest = max(slowest, time.monotonic() - begun)
        time.sleep(0.3)
    finally:
        for producer in producers:
            producer.enough.set()
        for producer in producers:
            producer.join(30)
        servers[0].stop()
    acknowledged = [id for producer in producers for id in producer.acknowledged]
    faults = check_log(folder, acknowledged)
    faults += [
        f"{producer.name}: events out of order" for producer in producers if producer.places != sorted(producer.places)
    ]
    if len(acknowledged) < kills * 20:
        faults.append(f"only {len(acknowledged)} events were acknowledged")
    return faults, slowest


def sync_error(folder: Path, when: int, *, sabotage: str | None = None) -> list[str]:
    """R6: after one EIO of fdatasync nothing is acknowledged until a restart; health says so."""
    workspace(folder)
    inject = f"inject=fdatasync:error=EIO:when={when}"
    aim = ["strace", "-f", "-q", "-o", os.devnull, "-e", "trace=fdatasync", "-e", inject]
    acknowledged: list[str] = []
    sent = {f"{number}-{part}" for number in range(when + 3) for part in range(5)}
    faults = []
    with Server(folder, strace=aim, sabotage=sabotage, wait=False) as server:
        if server.ready():
            with Client(server.port) as client:
                failed = 0
                for number in range(when + 3):
                    batch = [sale(f"{number}-{part}") for part in range(5)]
                    status, answer, _ = client.post(batch)
                    if status == 202:
                        acknowledged += [result["id"] for result in answer["results"]]
                        if failed:
                            faults.append(f"batch {number} was acknowledged after a failed sync")
                    else:
                        failed += 1
                        if not 500 <= status < 600:
                            faults.append(f"a failed batch got {status}")
                health, _ = client.get("/health")
                if failed and health != 503:
                    faults.append("health says ready after a failed sync")
                if not failed:
                    faults.append("a sync failed, and every batch was acknowledged")
        else:
            status, said = server.stop()
            if "Traceback" in said or not said.strip():
                faults.append(f"it ended at the start without saying why: {said[-200:]!r}")
    with Server(folder, sabotage=sabotage) as server, Client(server.port) as client:
        for number in range(when + 3):
            client.post([sale(f"{number}-{part}") for part in range(5)])
        health, _ = client.get("/health")
        if health != 200:
            faults.append("health says not ready after a restart")
    return faults + check_log(folder, [*acknowledged, *sent], sent=sent)


def _at_once(client: Client, id: str, barrier: threading.Barrier, results: list[Any]) -> None:
    barrier.wait()
    results.append(client.post(sale(id))[1]["results"][0])


def same_id_at_once(folder: Path, *, sabotage: str | None = None, rounds: int = 20) -> list[str]:
    """R9: one event over five connections at once, and again after a kill: stored once, one position."""
    workspace(folder)
    answers: dict[str, list[Any]] = {}
    with Server(folder, sabotage=sabotage) as server:
        clients = [Client(server.port) for _ in range(5)]
        for number in range(rounds):
            barrier = threading.Barrier(5)
            results: list[Any] = []

            def send(
                client: Client, number: int = number, barrier: Any = barrier, results: list[Any] = results
            ) -> None:
                barrier.wait()
                results.append(client.post(sale(f"e{number}"))[1]["results"][0])

            threads = [threading.Thread(target=send, args=(client,)) for client in clients]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            answers[f"e{number}"] = results
        for client in clients:
            client.close()
        server.stop()
    with Server(folder, sabotage=sabotage) as server, Client(server.port) as client:
        for id, results in answers.items():
            results.append(client.post(sale(id))[1]["results"][0])
    faults = check_log(folder, list(answers))
    for id, results in answers.items():
        if len({result["position"] for result in results}) != 1:
            faults.append(f"{id} was answered with several positions: {json.dumps(results)}")
        if [result["verdict"] for result in results].count("accepted") != 1:
            faults.append(f"{id} was accepted more or less than once")
    return faults


def torn_tail(folder: Path, *, sabotage: str | None = None, cuts: int = 3) -> list[str]:
    """A last frame that reached the disk in part, or changed, is not believed; everything before it is kept."""
    workspace(folder)
    with Server(folder) as server, Client(server.port) as client:
        acknowledged = [result["id"] for result in client.post([sale(f"a{part}") for part in range(5)])[1]["results"]]
        server.stop()
    segment = folder / ".sampan" / "log" / "intake" / "00000001.log"
    sound = segment.read_bytes()
    faults = []
    with Server(folder) as server, Client(server.port) as client:
        client.post([sale(f"b{part}") for part in range(5)])
        server.stop()
    last = segment.read_bytes()[len(sound) :]
    for cut in range(cuts):
        torn = bytearray(last if cut % 2 else last[: len(last) * (cut + 1) // (cuts + 1)])
        torn[-1] ^= 1
        segment.write_bytes(sound + bytes(torn))
        (segment.parent / "durable").unlink(missing_ok=True)  # as after a power cut: the frame was never promised
        with Server(folder, sabotage=sabotage, wait=False) as server:
            if not server.ready():
                faults.append(f"it did not start: {server.stop()[1][-300:]}")
                continue
            with Client(server.port) as client:
                if client.post(sale(f"c{cut}"))[0] != 202:
                    faults.append("it takes no events")
        faults += check_log(folder, [*acknowledged, f"c{cut}"])
        raws = [event.raw for event in the_log(folder).events(limit=10**6)]
        faults += ["an event changed" for raw in raws if b"teapot" not in raw]
    return faults


def keys_of_the_acknowledged(folder: Path, *, sabotage: str | None = None) -> list[str]:
    """A subject's key is durable before an event that it encrypts is acknowledged."""
    workspace(folder)
    contracts = folder / "contracts.py"
    personal = "note: Annotated[str | None, Field(personal=True)]"
    contracts.write_text(contracts.read_text().replace("note: str | None", personal))
    sent = [sale(f"e{number}", note=f"secret {number}") | {"subject": f"s{number}"} for number in range(20)]
    with Server(folder, sabotage=sabotage) as server, Client(server.port) as client:
        faults = [f"{event['id']} was refused" for event in sent if client.post(event)[0] != 202]
        server.stop()
    events = {event.id: event for event in the_log(folder).events()}
    for event in sent:
        stored = events[event["id"]]
        if json.loads(stored.data)["note"] != event["data"]["note"]:
            faults.append(f"the personal value of {stored.id} cannot be read")
        if b"secret" in stored.raw:
            faults.append(f"the personal value of {stored.id} stands in the log")
    return faults
