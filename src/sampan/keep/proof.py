"""The second opinion on what may go: start from the files, and ask every row that stays whether it names them.

Nothing here knows the shape of a record. Every row of every table is searched as text for names of files and of
snapshots, so a table that came later and that ``reach`` has never heard of is asked, too. Which commits, runs and
results stay is asked once more, in SQL. What is published to other engines is searched as text as well. Two ways that
know nothing of each other have to agree before anything goes.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from sampan.keep.retention import Retention
from sampan.store.blobs import Blobs
from sampan.store.database import Database

_NAME: Final = re.compile(rb"(?<![0-9a-f])(?:[0-9a-f]{64}|t1-[0-9a-f]{32})(?![0-9a-f])")
_TEXT: Final = b"{"  # a blob that begins so may name others: a bundle does
_MOST: Final = 4_194_304

_COMMITS: Final = """
kept_commits AS (
    SELECT id, tables, run FROM commits WHERE created >= :commits
    OR id IN (SELECT head FROM branches UNION SELECT base FROM branches)
    OR '@' || id IN (SELECT ref FROM pins)
    OR id IN (SELECT json_extract(plan, '$.base') FROM replays WHERE state NOT IN ('approved', 'discarded')))"""
_RUNS: Final = f"""{_COMMITS},
kept_runs AS (
    SELECT id FROM runs WHERE state = 'running' OR started >= :runs OR finished >= :runs
    OR id IN (SELECT ref FROM pins) OR id IN (SELECT run FROM kept_commits)
    OR id IN (SELECT run FROM versions WHERE model || '@' || number IN (SELECT ref FROM pins))
    OR id IN (SELECT json_extract(report, '$.run') FROM replays WHERE state NOT IN ('approved', 'discarded'))
    OR id IN (SELECT (SELECT id FROM runs AS last WHERE last.branch = runs.branch AND last.state = 'succeeded'
        AND last.target = '' ORDER BY started DESC, rowid DESC LIMIT 1) FROM runs
        WHERE branch IN (SELECT name FROM branches) GROUP BY branch))"""
_RESULTS: Final = f"""{_RUNS},
first_results AS (
    SELECT key, run, step, part, value FROM results WHERE created >= :runs
    OR key IN (SELECT key FROM run_steps WHERE run IN (SELECT id FROM kept_runs))
    OR key IN (SELECT snapshots.key FROM kept_commits, json_each(tables) JOIN snapshots ON snapshots.id = value)),
kept_results AS (
    SELECT key, value FROM first_results UNION
    SELECT key, value FROM results WHERE key IN (SELECT run_steps.key FROM run_steps JOIN first_results AS whole
        ON whole.run = run_steps.run AND whole.step = run_steps.name AND whole.part = ''
        WHERE run_steps.part <> ''))"""

#: What is asked of the tables whose rows may go, or may stay without what they name.
_ASKED: Final = {
    "commits": f"WITH {_COMMITS} SELECT id, tables FROM kept_commits",
    "runs": f"""WITH {_RUNS} SELECT id, json_extract(manifest, '$.patch') FROM runs
        WHERE id IN (SELECT id FROM kept_runs) OR id IN (SELECT run FROM versions)""",
    "run_steps": f"""WITH {_RUNS} SELECT run || '/' || name, digest FROM run_steps
        WHERE run IN (SELECT id FROM kept_runs)""",
    "results": f"WITH {_RESULTS} SELECT key, value FROM kept_results",
    "versions": "SELECT model, files, golden, onnx FROM versions WHERE deleted IS NULL",  # out of sight: no files
    "replays": "SELECT id, branch FROM replays",  # a report tells of tables; the commits above keep them
    "impacts": "SELECT id, step FROM impacts",  # a measurement tells of tables, and keeps none
    "explanations": "SELECT id, before, after FROM explanations",  # nor does an explanation
    "proofs": "SELECT id, name FROM proofs",  # nor does a comparison
    "states": "SELECT kind, name FROM states",  # nor what records were, whose errors may name a table
    "cleanups": "SELECT id, actor FROM cleanups",  # nor the history of clean-ups, whose errors may name a file
}
_LAST: Final = "snapshots"


class Witnesses:
    """Everything that rows which stay name, with the row that does."""

    def __init__(
        self, db: Database, blobs: Blobs, retention: Retention, now: int, published: Iterable[Path] = ()
    ) -> None:
        self._db, self._blobs = db, blobs
        self.named: dict[str, str] = {}
        since = {"commits": now - retention.commits * 1_000_000, "runs": now - retention.runs * 1_000_000}
        for table in self._tables():
            if table in _ASKED:
                self._hear(table, db.rows(_ASKED[table], since if ":runs" in _ASKED[table] else _only(since)))
            elif table != _LAST:
                self._hear(table, db.rows(f'SELECT * FROM "{table}"'))
        for path in published:
            for name in _NAME.findall(path.read_bytes()):
                self.named.setdefault(name.decode(), f"the published {path.parent.parent.name}/{path.name}")
        self._follow()
        for row in db.rows("SELECT * FROM snapshots"):
            if row["id"] in self.named or row["created"] >= since["runs"]:
                self._hear(_LAST, [row])

    def of(self, names: Iterable[str]) -> dict[str, str]:
        """Those of some names that somebody knows, each with who."""
        return {name: self.named[name] for name in names if name in self.named}

    def _tables(self) -> list[str]:
        rows = self._db.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        return [row["name"] for row in rows]

    def _hear(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        for row in rows:
            for name in _names(row):
                self.named.setdefault(name, f"{table} {row[0]}")

    def _follow(self) -> None:
        """What the texts name that were named: bundles name rules and models."""
        for name, who in list(self.named.items()):
            if not name.startswith("t1-"):
                path = self._blobs.path(name)
                if path.is_file() and path.stat().st_size <= _MOST and (data := path.read_bytes()).startswith(_TEXT):
                    for found in _NAME.findall(data):
                        self.named.setdefault(found.decode(), f"{who}, by {name[:16]}")


def _names(row: Sequence[Any]) -> Iterator[str]:
    for value in row:
        if isinstance(value, str):
            value = value.encode("utf-8", "replace")
        if isinstance(value, bytes):
            yield from (name.decode() for name in _NAME.findall(value))


def _only(since: dict[str, int]) -> dict[str, int]:
    return {"commits": since["commits"]}
