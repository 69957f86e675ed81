"""Rows about intake: batches of 100 over 16 connections, single events over 64, every id fresh, everybody deduplicates.

Sampan's hub is the real `sampan up` with every setting at its default and 50 million ids already sealed; the others
start empty, which favours them. What was acknowledged is compared with what was stored after each round.
"""

import base64
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.collectors import COLLECTORS, Collector, Sampan
from bench.measure import Result, WentWrong
from bench.place import ROOT, Unavailable
from bench.table import OURS, Row, at_most, times

SECONDS, QUICK_SECONDS = 6, 2
NOTHING: Mapping[str, str] = {}
SPOILED = 50  # one event in fifty breaks its contract


def batches(rounds: int, only: Sequence[str]) -> list[Row]:
    """100 events to a request, 16 connections."""
    speed, _ = _measure(100, 16, rounds, only)
    title = "intake, batches of 100, 16 connections"
    goals = [times("floor", 0.6, least=True), times("FastAPI + Postgres", 3, least=True)]
    return [Row("batches", title, "events/s", speed, goals)]


def singles(rounds: int, only: Sequence[str]) -> list[Row]:
    """One event to a request, 64 connections."""
    speed, slowest = _measure(1, 64, rounds, only)
    title = "intake, single events, 64 connections"
    return [
        Row("singles", title, "events/s", speed, [times("floor", 0.7, least=True)]),
        Row("singles-p99", f"{title}: p99", "ms", slowest, [at_most(15, "ms")]),
    ]


def segment(rounds: int, only: Sequence[str]) -> list[Row]:
    """The same events as Segment's client sends them, 100 to a request, beside plain ones of the same hub."""
    title = "Segment's calls through a mapping that renames, batches of 100, 16 connections"
    results = _side_by_side(rounds)
    return [Row("segment", title, "events/s", results, [times("plain", 0.6, least=True)])]


def _side_by_side(rounds: int) -> list[Result]:
    if shutil.which("wrk") is None:
        return [Result(OURS, note="wrk is not installed (Debian: apt-get install wrk)")]
    basic = base64.b64encode(f"{Sampan.token}:".encode()).decode()
    called = {"TARGET": "/v1/batch", "AUTHORIZATION": f"Basic {basic}"}
    ways = {
        OURS: (_calls("Clicked", {"customer": "buyer"}), called),
        "Segment, same names": (_calls("click", {}), called),
        "plain": (_bodies(100), {}),
    }
    seen = {name: _Seen(name) for name in ways}
    with Sampan() as hub:
        for bodies, said in ways.values():  # warms it up
            with contextlib.suppress(WentWrong):
                _load(hub, bodies, 16, 1, said)
        for number in range(rounds):
            for name in [*ways][number % 3 :] + [*ways][: number % 3]:
                if not seen[name].wrong:
                    try:
                        _round(hub, seen[name], ways[name][0], 100, 16, ways[name][1])
                    except (Unavailable, WentWrong) as reason:
                        seen[name].wrong = str(reason)
    return [each.results()[0] for each in seen.values()]


def _calls(name: str, rename: dict[str, str]) -> Path:
    """The request bodies of ``_bodies`` as analytics-python writes them."""
    path = ROOT / "data" / f"calls-{name}.txt"
    lines = []
    for line in _bodies(100).read_text().splitlines():
        calls = [
            {
                "integrations": {},
                "anonymousId": None,
                "properties": {rename.get(field, field): value for field, value in event["data"].items()},
                "timestamp": event["time"],
                "context": {"library": {"name": "analytics-python", "version": "2.4.0"}},
                "userId": f"user-{event['data']['session'][:6]}",
                "type": "track",
                "event": name,
                "messageId": event["id"],
            }
            for event in json.loads(line)
        ]
        lines.append(json.dumps({"batch": calls}))
    path.write_text("\n".join(lines) + "\n")
    return path


@dataclass
class _Seen:
    """What the rounds of one collector gave."""

    name: str
    speed: list[float] = field(default_factory=list)
    middle: list[float] = field(default_factory=list)
    slowest: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)  # its own processes, microseconds an event
    ledger: list[tuple[int, int]] = field(default_factory=list)  # acknowledged, stored
    wrong: str = ""

    def results(self) -> tuple[Result, Result]:
        if self.wrong or not self.speed:
            return Result(self.name, note=self.wrong), Result(self.name)
        words = f"p50 {median(self.middle):.1f} ms, p99 {median(self.slowest):.1f} ms"
        if any(self.processor):
            words += f", {median(self.processor):.1f} µs of processor an event"
        facts = {
            "p50": self.middle,
            "p99": self.slowest,
            "processor_us": self.processor,
            "acknowledged_stored": self.ledger,
        }
        return Result(self.name, self.speed, words, facts), Result(self.name, self.slowest)


def _measure(size: int, connections: int, rounds: int, only: Sequence[str]) -> tuple[list[Result], list[Result]]:
    """Throughput and p99 of every collector, in alternation."""
    if shutil.which("wrk") is None:
        reason = Result(OURS, note="wrk is not installed (Debian: apt-get install wrk)")
        return [reason], [reason]
    bodies = _bodies(size)
    chosen = [each for each in COLLECTORS if not only or any(word.lower() in each.name.lower() for word in only)]
    seen = {each.name: _Seen(each.name) for each in chosen}
    with contextlib.ExitStack() as stack:
        up: list[Collector] = []
        for kind in chosen:
            try:
                collector = stack.enter_context(kind())
                _load(collector, bodies, connections, 4)  # warms it up: its index may still lie on the disk
                _stores_once(collector)
                up.append(collector)
            except (Unavailable, WentWrong) as reason:
                seen[kind.name].wrong = str(reason)
        for number in range(rounds):
            turn = number % len(up) if up else 0
            for collector in up[turn:] + up[:turn]:
                if not seen[collector.name].wrong:
                    try:
                        _round(collector, seen[collector.name], bodies, size, connections)
                    except (Unavailable, WentWrong) as reason:
                        seen[collector.name].wrong = str(reason)
    results = [each.results() for each in seen.values()]
    return [speed for speed, _ in results], [slowest for _, slowest in results]


def _round(
    collector: Collector, seen: _Seen, bodies: Path, size: int, connections: int, said: Mapping[str, str] = NOTHING
) -> None:
    """One round. Raises WentWrong if what was acknowledged is not what was stored."""
    collector.settle()
    before, used = collector.stored(), collector.used()
    answered = _load(collector, bodies, connections, SECONDS, said)
    used = collector.used() - used
    acknowledged, stored = int(answered["requests"]) * size, collector.stored() - before
    # Requests still under way when wrk stopped may have been stored without being counted.
    if not acknowledged <= stored <= acknowledged + connections * size or answered["errors"]:
        raise WentWrong(f"acknowledged {acknowledged:,}, stored {stored:,}, {answered['errors']:.0f} errors")
    seen.speed.append(acknowledged / answered["seconds"])
    seen.middle.append(answered["p50"])
    seen.slowest.append(answered["p99"])
    seen.processor.append(used / acknowledged * 1e6)
    seen.ledger.append((acknowledged, stored))


def _load(
    collector: Collector,
    bodies: Path,
    connections: int,
    seconds: int,
    said: Mapping[str, str] = NOTHING,
    script: str = "fresh.lua",
) -> dict[str, float]:
    environ = os.environ | {"BODIES": str(bodies), "AUTHORIZATION": f"Bearer {collector.token}"} | said
    path = str(Path(__file__).with_name(script))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", path, collector.url]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    found = re.search(r"JSON (.*)", done.stdout)
    if not found:
        raise WentWrong(f"wrk said {(done.stderr or done.stdout).strip()[-200:]!r}")
    seen: dict[str, float] = json.loads(found[1])
    time.sleep(0.3)  # for what was under way when wrk stopped
    if not seen["requests"]:
        raise WentWrong("no request was answered")
    return seen


def _stores_once(collector: Collector) -> None:
    """The same batch twice must be stored once, or the figure is of another job."""
    before = collector.stored()
    keys = (f"0b5e55ed-0000-4000-a000-0000{place:08x}" for place in range(40))
    body = json.dumps([_event(random.Random(7), key, True) for key in keys])
    collector.send(body.encode())
    collector.send(body.encode())
    if (stored := collector.stored() - before) != 40:
        raise WentWrong(f"a batch of 40 sent twice was stored as {stored}")


def _bodies(size: int) -> Path:
    """Request bodies, one to a line, with @@ where each id gets the request's own part."""
    chance = random.Random(9)
    path = ROOT / "data" / f"bodies-{size}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines, made = [], 0
    for _ in range(2000 if size == 1 else 100):
        events = []
        for place in range(size):
            made += 1
            events.append(_event(chance, f"@@{place:08x}", made % SPOILED != 0))
        lines.append(json.dumps(events[0] if size == 1 else events, separators=(",", ":")))
    path.write_text("\n".join(lines) + "\n")
    return path


def _event(chance: random.Random, key: str, good: bool) -> dict[str, object]:
    data = {
        "customer": chance.randrange(10**6) if good else "nobody",
        "kind": chance.choice(("view", "search", "add", "buy")),
        "session": f"{chance.getrandbits(64):016x}",
        "url": f"/items/{chance.randrange(10_000)}",
        "price": round(chance.random() * 100, 2),
    }
    minute = f"2026-10-{chance.randrange(1, 29):02d}T12:{chance.randrange(60):02d}:00Z"
    return {"id": key, "source": "shop", "type": "click", "time": minute, "data": data}
