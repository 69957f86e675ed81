"""R10 and refusals: hostile requests, a full disk, overload, sizes.

Everywhere sent = accepted + duplicate + quarantined + refused.
"""

import gzip
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from sampan.log.quarantine import Quarantine
from tests.robustness.oracles import check_log, keys_of_the_acknowledged
from tests.robustness.server import Client, Server, needs_strace, sale, the_log, workspace

Maker = Callable[[random.Random, str], bytes]


def _text(event: Any) -> bytes:
    return json.dumps(event).encode()


MALFORMED: dict[str, Maker] = {
    "bad UTF-8": lambda chance, id: _text(sale(id)).replace(b"teapot", bytes([chance.randrange(128, 256), 0x20])),
    "bad UTF-8 in a key": lambda chance, id: _text(sale(id)).replace(b'"item"', b'"\xfe": 1, "item"'),
    "wrong type": lambda chance, id: _text(sale(id, pieces="many")),
    "out of bounds": lambda chance, id: _text(sale(id, pieces=-chance.randrange(1, 9))),
    "NaN": lambda chance, id: _text(sale(id, x=0)).replace(b'"x": 0', b'"x": NaN'),
    "depth 1,000": lambda chance, id: _text(sale(id, x=0)).replace(b'"x": 0', b'"x": ' + b"[" * 1000 + b"]" * 1000),
    "repeated key": lambda chance, id: _text(sale(id)).replace(b'"item"', b'"item": "cup", "item"'),
    "unknown type": lambda chance, id: _text(sale(id) | {"type": "sail"}),
    "unknown version": lambda chance, id: _text(sale(id) | {"version": 9}),
    "no id": lambda chance, id: _text({name: value for name, value in sale(id).items() if name != "id"}),
    "not an object": lambda chance, id: _text(chance.choice([None, True, 3.5, "text", [1, [2]]])),
    "a control character": lambda chance, id: _text(sale(id)).replace(b"teapot", b"tea\x01pot"),
}


def _request(chance: random.Random, number: int, ledger: "Ledger") -> tuple[bytes, dict[str, str]]:
    items = []
    for part in range(chance.choice([1, 1, 2, 5, 12])):
        id = f"{number}-{part}"
        kind = chance.random()
        if kind < 0.3:
            raw = MALFORMED[chance.choice(list(MALFORMED))](chance, id)
            if chance.random() < 0.002:
                raw = _text(sale(id, pieces="x" * 5_000_000))
            ledger.malformed.append(raw)
        elif kind < 0.4 and ledger.good:
            raw = chance.choice(ledger.good)
            ledger.resent += 1
        else:
            raw = _text(sale(id, note=chance.choice([None, "\u00fc", 'a ": b']), x={"y": chance.random()}))
            ledger.good.append(raw)
        items.append(raw)
    ledger.sent += len(items)
    headers: dict[str, str] = {}
    if chance.random() < 0.5:
        body = b"\n".join(items)
        headers["Content-Type"] = "application/x-ndjson"
    else:
        body = b"[" + b",".join(items) + b"]"
    packed = chance.random()
    if packed < 0.15:
        body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
    elif packed < 0.3:
        body, headers["Content-Encoding"] = zstandard.compress(body), "zstd"
    return body, headers


class Ledger:
    """What was sent."""

    def __init__(self) -> None:
        self.sent = self.resent = 0
        self.malformed: list[bytes] = []
        self.good: list[bytes] = []


def hostile(folder: Path, requests: int, sabotage: str | None = None) -> None:
    """R10: every item sent is accounted for, and the quarantined bytes are those received."""
    workspace(folder)
    chance = random.Random(10)
    ledger = Ledger()
    verdicts: Counter[str] = Counter()
    with Server(folder, segment_events=4_000, sabotage=sabotage) as server, Client(server.port) as client:
        for number in range(requests):
            before = ledger.sent
            body, headers = _request(chance, number, ledger)
            status, answer, _ = client.post(body, **{name.replace("-", "_"): value for name, value in headers.items()})
            assert status == 202
            assert len(answer["results"]) == ledger.sent - before
            verdicts.update(result["verdict"] for result in answer["results"])
            assert all(result["reason"] for result in answer["results"] if result["verdict"] == "quarantined")
        _, stats = client.get("/stats")
    assert sum(verdicts.values()) == ledger.sent
    assert verdicts == {
        "accepted": len(ledger.good),
        "duplicate": ledger.resent,
        "quarantined": len(ledger.malformed),
    }
    assert {name: stats[name] for name in verdicts} == verdicts
    log = the_log(folder)
    held = Quarantine(log).items(limit=None)
    assert Counter(event.raw for event in held) == Counter(ledger.malformed)
    assert all(event.reason and event.producer == "test" for event in held)
    assert [event.raw for event in log.events(limit=10**9)] == ledger.good
    assert log.verify() == []


@pytest.mark.slow
def test_two_thousand_hostile_requests_conserve_every_item(tmp_path: Path) -> None:
    hostile(tmp_path, 2_000)


@pytest.mark.night
def test_twenty_thousand_hostile_requests_conserve_every_item(tmp_path: Path) -> None:
    hostile(tmp_path, 20_000)


def test_authentication_method_and_size_are_refused_and_nothing_of_it_is_kept(tmp_path: Path) -> None:
    workspace(tmp_path)
    with Server(tmp_path, body_limit=100_000) as server, Client(server.port) as client:
        assert client.post(sale("a"), Authorization="Bearer wrong")[0] == 401
        status, answer, _ = client.post(b"[" + b" " * 100_001 + b"]")
        assert (status, answer["error"]["kind"]) == (413, "TooLarge")
        bomb = json.dumps([sale("b", note="x" * 10_000_000)]).encode()
        assert client.post(gzip.compress(bomb), Content_Encoding="gzip")[0] == 413
        assert client.post(zstandard.compress(bomb), Content_Encoding="zstd")[0] == 413
        assert (
            client.post(
                b"[" + b"1," * 50_001 + b"1]",
            )[0]
            == 413
        )
        status, answer, _ = client.post(b"\x1f\x8bnonsense", Content_Encoding="gzip")
        assert (status, answer["results"][0]["verdict"]) == (202, "quarantined")
        assert client.post([])[1] == {"results": []}
        assert client.post(sale("fine"))[1]["results"][0]["verdict"] == "accepted"
        _, stats = client.get("/stats")
        assert (stats["accepted"], stats["quarantined"]) == (1, 1)
    assert check_log(tmp_path, ["fine"], sent={"fine"}) == []


BATCH = {"Content_Type": "application/cloudevents-batch+json"}
MANY: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "array": ("/v1/events", b"[%b]", {}),
    "broken array": ("/v1/events", b"[%b,", {}),
    "lines": ("/v1/events", b"%b", {"Content_Type": "application/x-ndjson"}),
    "cloudevents": ("/v1/events", b"[%b]", BATCH),
    "broken cloudevents": ("/v1/events", b"[%b,", BATCH),
    "segment": ("/v1/batch", b'{"batch": [%b]}', {}),
    "broken segment": ("/v1/batch", b'{"batch": [%b,', {}),
    "ga4": ("/mp/collect", b'{"client_id": "c", "events": [%b]}', {}),
    "validation": ("/debug/mp/collect", b'{"client_id": "c", "events": [%b]}', {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MANY)
@pytest.mark.parametrize("item", [b"1", b"{}"])
def test_far_too_many_items_are_refused_before_anything_is_made_of_them(tmp_path: Path, kind: str, item: bytes) -> None:
    path, form, headers = MANY[kind]
    between = b"\n" if kind == "lines" else b","
    count = 1_000_000
    workspace(tmp_path)
    with Server(tmp_path) as server, Client(server.port) as client:
        began = time.monotonic()
        status, answer, _ = client.post(form % between.join([item] * count), path, **headers)
        assert time.monotonic() - began < 4
        if kind == "validation":
            assert [one["validationCode"] for one in answer["validationMessages"]] == ["EXCEEDED_MAX_ENTITIES"]
            count = 0
        else:
            assert (status, answer["error"]["kind"]) == (413, "TooLarge")
            count = 50_001 if kind.startswith("broken") else count
        fitting = form.removesuffix(b",") % between.join([item] * 300)
        assert client.post(fitting, path, **headers)[0] in (200, 202, 204)
        _, stats = client.get("/stats")  # a refusal is recorded with the next frame
        assert (stats["refused"], stats["accepted"]) == (count, 0)
        assert stats["quarantined"] in ((0,) if kind == "validation" else (300, 301))


def test_an_answer_stands_in_the_order_sent(tmp_path: Path) -> None:
    workspace(tmp_path)
    with Server(tmp_path) as server, Client(server.port) as client:
        results = client.post([sale("a"), sale("b", pieces=-1), sale("a"), 7, sale('q"\\')])[1]["results"]
    assert [(result["id"], result["verdict"]) for result in results] == [
        ("a", "accepted"),
        ("b", "quarantined"),
        ("a", "duplicate"),
        (None, "quarantined"),
        ('q"\\', "accepted"),
    ]
    assert all(set(result) == {"id", "verdict", "position", "reason"} for result in results)
    assert results[0]["position"] == results[2]["position"] == "intake:1"


@needs_strace
def test_a_full_disk_refuses_and_recovers_without_a_restart(tmp_path: Path) -> None:
    workspace(tmp_path)
    segment = tmp_path / ".sampan" / "log" / "intake" / "00000001.log"
    inject = "inject=write:error=ENOSPC:when=3..5"  # strace counts the calls of each thread
    aim = ["strace", "-f", "-q", "-o", os.devnull, "-e", "trace=write", "-P", str(segment), "-e", inject]
    statuses = []
    with Server(tmp_path, strace=aim) as server, Client(server.port) as client:
        for number in range(6):
            status, answer, headers = client.post([sale(f"{number}-{part}") for part in range(3)])
            statuses.append(status)
            if status == 507:
                assert headers["retry-after"] == "10"
                assert answer["error"]["kind"] == "DiskFull"
                assert client.get("/health")[0] == 503
        assert client.get("/health")[0] == 200
        _, stats = client.get("/stats")
        again = [client.post([sale(f"{number}-{part}") for part in range(3)])[1] for number in range(6)]
    assert statuses == [202, 202, 507, 507, 507, 202]
    assert stats["refused"] == 9
    verdicts = [result["verdict"] for answer in again for result in answer["results"]]
    assert verdicts == ["duplicate"] * 6 + ["accepted"] * 9 + ["duplicate"] * 3
    assert check_log(tmp_path, [f"{number}-{part}" for number in range(6) for part in range(3)]) == []


@needs_strace
def test_too_much_waiting_for_a_slow_disk_is_refused_and_the_rest_is_kept(tmp_path: Path) -> None:
    workspace(tmp_path)
    slow = ["strace", "-f", "-q", "-o", os.devnull, "-e", "trace=fdatasync", "-e"]
    slow += ["inject=fdatasync:delay_enter=300000:when=4+"]
    answers: list[tuple[int, Any, dict[str, str]]] = []
    with Server(tmp_path, strace=slow, queue_limit=20_000) as server:

        def send(number: int) -> None:
            with Client(server.port) as client:
                for part in range(3):
                    answers.append(client.post([sale(f"{number}-{part}-{item}") for item in range(30)]))

        threads = [threading.Thread(target=send, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(0.1)
    statuses = Counter(status for status, _, _ in answers)
    assert set(statuses) == {202, 503}
    assert all(headers["retry-after"] == "1" for status, _, headers in answers if status == 503)
    kept = [result["id"] for status, answer, _ in answers if status == 202 for result in answer["results"]]
    assert check_log(tmp_path, kept, sent=set(kept)) == []


def test_a_killed_server_has_the_keys_of_whoever_it_acknowledged(tmp_path: Path) -> None:
    assert keys_of_the_acknowledged(tmp_path) == []
