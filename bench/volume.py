"""Rows about tracking at volume: 100,000 runs with 200 values each, and one run with a million points of a metric.

They are written straight into ``tracking.db``, in the form in which the hub keeps them, once (some minutes and GB); the
hub then answers over HTTP. Each round asks a hub that has just started, and asks every question once.
"""

import json
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.hub import Hub
from bench.measure import Result, WentWrong
from bench.place import ROOT
from bench.table import OURS, Row, at_most
from sampan.track.schema import FORMAT
from sampan.track.tracking import DATABASE, open_database

RUNS = int(os.environ.get("BENCH_TRACK_RUNS") or 100_000)
PARAMS, METRICS, TAGS = 50, 100, 50
POINTS = 1_000_000
_SEARCH = "/api/2.0/mlflow/runs/search"
_BEGAN = 1_760_000_000_000
_FIND = "metrics.m7 < 0.001"
_BROAD = "metrics.m7 < 0.5"
#: What is asked for: 100 runs of all, each with its 200 values.
_SEARCHES: dict[str, dict[str, object]] = {
    "list": {},
    "filter on a metric, a thousandth fits": {"filter": _FIND},
    "filter on a metric, half fits": {"filter": _BROAD},
    "filter on a param and a tag": {"filter": "params.p3 = 'v5' AND tags.t9 LIKE 'v1%'"},
    "sort on a metric": {"order_by": ["metrics.m3 DESC"]},
    "sort on a param": {"order_by": ["params.p3"]},
    "filter and sort": {"filter": _BROAD, "order_by": ["metrics.m3 DESC"]},
    "filter with != and sort": {"filter": "params.p3 != 'v5' AND metrics.m7 > 0.1", "order_by": ["metrics.m3"]},
}


def volume(rounds: int, only: Sequence[str]) -> list[Row]:
    """The slowest of several questions, the slowest page, the run with a million points, bytes of a run."""
    del only
    found, pages, drawn, bytes_ = Result(OURS), Result(OURS), Result(OURS), Result(OURS)
    try:
        folder = _workspace()
        bytes_.values.append(int((folder / "size").read_text()) / RUNS / 1000)
        for _ in range(rounds):
            with Hub(folder) as hub:
                _figure(found, {name: _searched(hub, asked) for name, asked in _SEARCHES.items()})
                _figure(pages, {name: _page(hub, f"/experiments{rest}") for name, rest in _PAGES.items()})
                uuid = (folder / "million").read_text().strip()
                _figure(drawn, {"curve": _page(hub, f"/experiments/2/runs/{uuid}")})
    except WentWrong as reason:
        found.note = pages.note = drawn.note = str(reason)
    title = f"{RUNS:,} runs × {PARAMS + METRICS + TAGS} values"
    return [
        Row("volume", f"{title}: slowest search of 100 runs", "s", [found], [at_most(1, "s")]),
        Row("volume-page", f"{title}: slowest page of runs", "s", [pages], [at_most(1, "s")]),
        Row("volume-curve", f"page of a run with {POINTS:,} points of a metric", "s", [drawn], [at_most(1, "s")]),
        Row("volume-size", f"{title}: room of a run", "kB", [bytes_]),
    ]


_PAGES = {
    "experiments": "",
    "runs": "/1",
    "runs, filtered and sorted": "/1?filter=metrics.m7+%3C+0.5&order=metrics.m3+DESC",
}


def _figure(result: Result, seconds: dict[str, float]) -> None:
    """Keep the slowest, and all of them among the facts."""
    worst = max(seconds, key=lambda name: seconds[name])
    result.values.append(seconds[worst])
    result.note = f"the slowest: {worst}" if len(seconds) > 1 else ""
    result.facts = {"seconds": {name: round(each, 3) for name, each in seconds.items()}}


def _searched(hub: Hub, asked: dict[str, object]) -> float:
    began = time.perf_counter()
    answer = hub.post(_SEARCH, {"experiment_ids": ["1"], "max_results": 100, **asked})
    seconds = time.perf_counter() - began
    runs = json.loads(answer)["runs"]
    if not runs or len(runs[0]["data"]["metrics"]) != METRICS:
        raise WentWrong(f"{asked} found {len(runs)} runs, or not all of their metrics")
    return seconds


def _page(hub: Hub, address: str) -> float:
    began = time.perf_counter()
    status, _ = hub.get(address)
    if status != 200:
        raise WentWrong(f"{address} answered {status}")
    return time.perf_counter() - began


def _workspace() -> Path:
    """A workspace whose ``tracking.db`` is full."""
    folder = ROOT / f"tracked-{RUNS}-{FORMAT}"
    if (folder / "million").exists():
        return folder
    print(f"writing {RUNS:,} runs once", file=sys.stderr, flush=True)
    for old in ROOT.glob(f"tracked-{RUNS}-*"):
        shutil.rmtree(old)
    (folder / ".sampan").mkdir(parents=True)
    (folder / "sampan.toml").touch()
    open_database(folder / ".sampan", writable=True).close()
    connection = sqlite3.connect(folder / ".sampan" / DATABASE, isolation_level=None)
    try:
        _fill(connection)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (folder / "size").write_text(str((folder / ".sampan" / DATABASE).stat().st_size))
        uuid = _million(connection)
    finally:
        connection.close()
    (folder / "million").write_text(uuid)
    return folder


def _fill(connection: sqlite3.Connection) -> None:
    """Indexes go and come back, as for any bulk load; values are the hub's own kinds, drawn at random."""
    connection.execute("PRAGMA synchronous=0")
    connection.execute("BEGIN")
    kept = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN "
        "('params', 'tags', 'latest')"
    ).fetchall()
    for name, _ in kept:
        connection.execute(f"DROP INDEX {name}")
    connection.execute(
        "INSERT INTO experiments (id, name, created, updated) VALUES (1, 'many', ?, ?), (2, 'long', ?, ?)",
        [_BEGAN] * 4,
    )
    names = [f"{kind}{one}" for kind, count in (("p", PARAMS), ("m", METRICS), ("t", TAGS)) for one in range(count)]
    connection.executemany("INSERT INTO keys (name) VALUES (?)", [(name,) for name in names])
    connection.execute(
        """WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?)
           INSERT INTO runs (uuid, experiment, name, user, status, started, ended)
           SELECT lower(hex(randomblob(16))), 1, 'run-' || n, 'ann', 'FINISHED', ? + n * 1000, ? + n * 1000 + 500
           FROM number""",
        (RUNS, _BEGAN, _BEGAN),
    )
    for table, kind in (("params", "p"), ("tags", "t")):
        connection.execute(
            f"""INSERT INTO {table} SELECT runs.id, keys.id, 'v' || abs(random() % 20)
                FROM runs CROSS JOIN keys WHERE keys.name GLOB ? ORDER BY runs.id, keys.id""",
            (f"{kind}[0-9]*",),
        )
    connection.execute(
        """INSERT INTO latest SELECT runs.id, keys.id, 0, runs.started, abs(random() % 1000000007) / 1000000007.0
           FROM runs CROSS JOIN keys WHERE keys.name GLOB 'm[0-9]*' ORDER BY runs.id, keys.id"""
    )
    connection.execute("INSERT INTO points SELECT * FROM latest ORDER BY run, key, step, time, value")
    for _, sql in kept:
        connection.execute(sql)
    connection.execute("COMMIT")


def _million(connection: sqlite3.Connection) -> str:
    """A run with a metric of a million points; gives its id."""
    uuid = "0" * 32
    connection.execute("BEGIN")
    run = connection.execute(
        "INSERT INTO runs (uuid, experiment, name, user, status, started, ended) VALUES (?, 2, 'long', 'ann', ?, ?, ?)",
        (uuid, "FINISHED", _BEGAN, _BEGAN + POINTS),
    ).lastrowid
    key = connection.execute("INSERT INTO keys (name) VALUES ('loss')").lastrowid
    connection.execute(
        """WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < ? - 1)
           INSERT INTO points SELECT ?, ?, n, ? + n, abs(random() % 1000000007) / 1000000007.0 FROM number""",
        (POINTS, run, key, _BEGAN),
    )
    connection.execute(
        """INSERT INTO latest SELECT run, key, step, time, value FROM points
           WHERE run = ? AND key = ? ORDER BY step DESC LIMIT 1""",
        (run, key),
    )
    connection.execute("COMMIT")
    return uuid
