"""Rows about intake: batches of 100 over 16 connections, single events over 64, every id fresh, everybody deduplicates.

Sampan's hub is the real `sampan up` with every setting at its default and 50 million ids already sealed; the others
start empty, which favours them. What was acknowledged is compared with what was stored after each round.
"""

import contextlib
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench.collectors import COLLECTORS, Collector
from bench.measure import Result, WentWrong
from bench.place import ROOT, Unavailable
from bench.table import OURS, Row, at_most, times

SECONDS, QUICK_SECONDS = 6, 2
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


def _measure(size: int, connections: int, rounds: int, only: Sequence[str]) -> tuple[list[Result], list[Result]]:
    """Throughput and p99 of every collector, in alternation."""
    if shutil.which("wrk") is None:
        reason = Result(OURS, note="wrk is not installed (Debian: apt-get install wrk)")
        return [reason], [reason]
    bodies = _bodies(size)
    chosen = [each for each in COLLECTORS if not only or any(word.lower() in each.name.lower() for word in only)]
    speed = {each.name: Result(each.name) for each in chosen}
    middle: dict[str, list[float]] = {each.name: [] for each in chosen}
    ledger: dict[str, list[tuple[int, int]]] = {each.name: [] for each in chosen}
    slowest = {each.name: Result(each.name) for each in chosen}
    with contextlib.ExitStack() as stack:
        up: list[Collector] = []
        for kind in chosen:
            try:
                collector = stack.enter_context(kind())
                _load(collector, bodies, connections, 1)  # warms it up
                _stores_once(collector)
                up.append(collector)
            except (Unavailable, WentWrong) as reason:
                speed[kind.name].note = str(reason)
        for number in range(rounds):
            turn = number % len(up) if up else 0
            for collector in up[turn:] + up[:turn]:
                result = speed[collector.name]
                if result.note:
                    continue
                try:
                    collector.settle()
                    before = collector.stored()
                    seen = _load(collector, bodies, connections, SECONDS)
                    after = collector.stored()
                except WentWrong as reason:
                    result.note = str(reason)
                    result.values.clear()
                    slowest[collector.name].values.clear()
                    continue
                acknowledged, stored = int(seen["requests"]) * size, after - before
                # Requests still under way when wrk stopped may have been stored without being counted.
                if not acknowledged <= stored <= acknowledged + connections * size or seen["errors"]:
                    result.note = f"acknowledged {acknowledged:,}, stored {stored:,}, {seen['errors']:.0f} errors"
                    continue
                result.values.append(acknowledged / seen["seconds"])
                slowest[collector.name].values.append(seen["p99"])
                middle[collector.name].append(seen["p50"])
                ledger[collector.name].append((acknowledged, stored))
    for name, result in speed.items():
        result.facts |= {"p50": middle[name], "p99": slowest[name].values, "acknowledged_stored": ledger[name]}
        if result.values:
            result.note = f"p50 {statistics.median(middle[name]):.1f} ms, p99 {slowest[name].median:.1f} ms"
    return list(speed.values()), list(slowest.values())


def _load(collector: Collector, bodies: Path, connections: int, seconds: int) -> dict[str, float]:
    environ = os.environ | {"BODIES": str(bodies), "AUTHORIZATION": f"Bearer {collector.token}"}
    script = str(Path(__file__).with_name("fresh.lua"))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", script, collector.url]
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
