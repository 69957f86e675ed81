"""The floor of tracking: the same figures as ``client.py`` from plain SQLite in one process, no server, no protocol.

Every call is a commit, unsynced as the hub's (WAL, ``synchronous=NORMAL``); what it does not do: check, sync soon after,
keep every point only once, answer anybody else.
"""

import json
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable

CALLS, BATCHES, CREATED, SEARCHES, PRESENT = 3000, 20, 300, 11, 2000
_MADE = """
CREATE TABLE runs (id INTEGER PRIMARY KEY, started INTEGER, ended INTEGER);
CREATE TABLE params (run INTEGER, key TEXT, value TEXT, PRIMARY KEY (run, key));
CREATE TABLE metrics (run INTEGER, key TEXT, step INTEGER, time INTEGER, value REAL);
CREATE TABLE latest (run INTEGER, key TEXT, value REAL, PRIMARY KEY (run, key));
CREATE INDEX latest_by_value ON latest (key, value);
"""
_POINT = "INSERT INTO metrics VALUES (?, ?, ?, ?, ?)"
_LATEST = "INSERT OR REPLACE INTO latest VALUES (?, ?, ?)"


def log(db: sqlite3.Connection) -> float:
    run = db.execute("INSERT INTO runs (started) VALUES (1)").lastrowid
    began = time.perf_counter()
    for step in range(CALLS):
        with db:
            db.execute("BEGIN")
            db.execute(_POINT, (run, "loss", step, 1, step / 7))
            db.execute(_LATEST, (run, "loss", step / 7))
    return CALLS / (time.perf_counter() - began)


def batch(db: sqlite3.Connection) -> float:
    run = db.execute("INSERT INTO runs (started) VALUES (1)").lastrowid
    began = time.perf_counter()
    for number in range(BATCHES):
        rows = [
            (run, f"m{name}", number * 50 + step, 1, step / 7 + number) for name in range(20) for step in range(50)
        ]
        with db:
            db.execute("BEGIN")
            db.executemany(_POINT, rows)
            db.executemany(_LATEST, [(row[0], row[1], row[4]) for row in rows[49::50]])
    return BATCHES * 1000 / (time.perf_counter() - began)


def create(db: sqlite3.Connection, count: int = CREATED) -> float:
    began = time.perf_counter()
    for number in range(count):
        with db:
            db.execute("BEGIN")
            run = db.execute("INSERT INTO runs (started) VALUES (1)").lastrowid
        metrics = [(run, f"m{name}", 0, 1, float((number * 37 + name) % 2003)) for name in range(20)]
        with db:
            db.execute("BEGIN")
            db.executemany(_POINT, metrics)
            db.executemany(_LATEST, [(row[0], row[1], row[4]) for row in metrics])
            params = [(run, f"p{name}", f"v{number % (name + 2)}") for name in range(10)]
            db.executemany("INSERT INTO params VALUES (?, ?, ?)", params)
        with db:
            db.execute("BEGIN")
            db.execute("UPDATE runs SET ended = 2 WHERE id = ?", (run,))
    return count / (time.perf_counter() - began)


def search(db: sqlite3.Connection) -> float:
    taken = []
    for _ in range(SEARCHES):
        began = time.perf_counter()
        found = db.execute(
            """SELECT runs.id FROM runs JOIN latest AS f ON f.run = runs.id AND f.key = 'm3' AND f.value > 500
               JOIN params AS p ON p.run = runs.id AND p.key = 'p1' AND p.value = 'v1'
               LEFT JOIN latest AS o ON o.run = runs.id AND o.key = 'm5' ORDER BY o.value DESC LIMIT 100"""
        ).fetchall()
        ids = json.dumps([row[0] for row in found])
        for table in ("params", "latest"):
            db.execute(f"SELECT * FROM {table} WHERE run IN (SELECT value FROM json_each(?))", (ids,)).fetchall()
        taken.append((time.perf_counter() - began) * 1000)
        if len(found) != 100:
            raise SystemExit(f"found {len(found)} runs")
    return statistics.median(taken)


PARTS: dict[str, Callable[[sqlite3.Connection], float]] = {
    "log": log,
    "batch": batch,
    "create": create,
    "search": search,
}


if __name__ == "__main__":
    path, *parts = sys.argv[1:]
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.executescript(_MADE)
    create(connection, PRESENT)
    print(json.dumps({part: PARTS[part](connection) for part in parts}))
