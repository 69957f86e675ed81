"""What is reachable: everything that a name, an age or a pin keeps, and what these need in turn.

Kept are the commits at which branches stand or began, young ones and pinned ones, and those that replays are compared
with which nobody has decided; the runs that made them, young ones, those of such replays, and each branch's newest run
of the whole flow; all versions and all that endpoints ever served, so that going back works; what the metadata of
published tables names. A kept run keeps its results, a kept commit its tables. Of what is
not kept the rows of commits and runs stay, as history; what they name may go.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from sampan.base.errors import Damaged
from sampan.flow.job import Stored
from sampan.keep.retention import Retention
from sampan.lake.draft import TableFile
from sampan.lake.publish import Publication
from sampan.release.stages import ENDS
from sampan.runs.records import RUNNING, SUCCEEDED
from sampan.runs.replays import DONE, FAILED
from sampan.runs.replays import RUNNING as REPLAY_RUNNING
from sampan.serve.bundle import decode
from sampan.store.blobs import Blobs
from sampan.store.database import Database

_SNAPSHOT: Final = "t1-"
_UNDECIDED: Final = """SELECT id, json_extract(plan, '$.base') AS base, json_extract(report, '$.run') AS run
    FROM replays WHERE state IN (?, ?, ?) ORDER BY started DESC"""
#: Bundles that have a process now: what is in force, both sides of a rollout that goes on, shadows.
_RUNNING: Final = """SELECT bundle FROM endpoints AS one
    WHERE NOT EXISTS (SELECT 1 FROM endpoints WHERE name = one.name AND created > one.created)
    UNION SELECT bundle FROM shadows WHERE ended IS NULL
    UNION SELECT candidate FROM rollouts AS one WHERE {goes_on}
    UNION SELECT champion FROM rollouts AS one WHERE {goes_on}""".format(
    goes_on=f"""rehearsal = '' AND (SELECT phase FROM rollout_entries WHERE rollout = one.id
        ORDER BY number DESC LIMIT 1) NOT IN ({", ".join(f"'{phase}'" for phase in ENDS)})"""
)


class Reach:
    """Identifier → what keeps it, in words, for each kind of thing."""

    def __init__(
        self, db: Database, blobs: Blobs, retention: Retention, now: int, published: Iterable[Publication] = ()
    ) -> None:
        self._db, self._blobs = db, blobs
        self._commits_since = now - retention.commits * 1_000_000
        self._runs_since = now - retention.runs * 1_000_000
        self.commits: dict[str, str] = {}
        self.runs: dict[str, str] = {}
        self.logs: dict[str, str] = {}  # runs whose logs and patches stay: those of versions, too
        self.results: dict[str, str] = {}
        self.snapshots: dict[str, str] = {}
        self.lake: dict[str, str] = {}
        self.bytes: dict[str, str] = {}  # of .sampan/blobs
        self.served_in: set[str] = set()  # the locks of what is in force
        self._pinned = {row["ref"]: f"pinned: {row['reason']}" for row in db.rows("SELECT ref, reason FROM pins")}
        marked = "SELECT id FROM commits WHERE cleaned IS NOT NULL UNION SELECT id FROM runs WHERE cleaned IS NOT NULL"
        self._cleaned = {row["id"] for row in db.rows(marked)}  # that they name what is gone is nothing new
        self._undecided = db.rows(_UNDECIDED, (REPLAY_RUNNING, FAILED, DONE))
        self._reach_published(published)
        self._reach_commits()
        self._reach_runs()
        self._reach_results()
        self._reach_snapshots()
        self._reach_bytes()

    def _reach_published(self, published: Iterable[Publication]) -> None:
        known = {row["id"] for row in self._db.rows("SELECT id FROM snapshots")}
        for one in published:
            why = f"table {one.table} is published in {one.folder}"
            for id, files in one.files.items():
                _keep_all(self.lake, files, why)
                if id in known:
                    _keep(self.snapshots, id, why)

    def _reach_commits(self) -> None:
        for row in self._db.rows("SELECT name, head, base FROM branches ORDER BY name <> 'main', name"):
            _keep(self.commits, row["head"], f"{row['name']} stands there")
            _keep(self.commits, row["base"], f"{row['name']} began there")
        for row in self._undecided:
            _keep(self.commits, row["base"], f"replay {row['id']} is compared with it, and not decided")
        for ref, why in self._pinned.items():
            if ref.startswith("@"):
                _keep(self.commits, ref[1:], why)
        for row in self._db.rows("SELECT id, branch FROM commits WHERE created >= ?", (self._commits_since,)):
            _keep(self.commits, row["id"], f"a young commit of {row['branch']}")

    def _reach_runs(self) -> None:
        for row in self._db.rows("SELECT id, run FROM commits WHERE run IS NOT NULL"):
            if row["id"] in self.commits:
                _keep(self.runs, row["run"], f"it made commit {row['id']} ({self.commits[row['id']]})")
        made = {f"{row['model']}@{row['number']}": row["run"] for row in self._db.rows("SELECT * FROM versions")}
        awaited = {row["name"] for row in self._db.rows("SELECT name FROM branches")}
        for row in self._db.rows("SELECT * FROM runs ORDER BY started DESC, rowid DESC"):
            if row["state"] == RUNNING:
                _keep(self.runs, row["id"], "it is going on")
            elif max(row["started"], row["finished"] or 0) >= self._runs_since:
                _keep(self.runs, row["id"], "a young run")
            if row["state"] == SUCCEEDED and not row["target"] and row["branch"] in awaited:
                awaited.remove(row["branch"])
                _keep(self.runs, row["id"], f"the newest run of everything on {row['branch']}")
        known = {row["id"] for row in self._db.rows("SELECT id FROM runs")}
        for row in self._undecided:
            if row["run"] in known:
                _keep(self.runs, row["run"], f"replay {row['id']} tells of it, and is not decided")
        for ref, why in self._pinned.items():
            if not ref.startswith("@"):
                _keep(self.runs, made.get(ref) if "@" in ref else ref, why)
        self.logs.update(self.runs)
        for ref, run in made.items():
            _keep(self.logs, run, f"{ref} came of it")

    def _reach_results(self) -> None:
        for row in self._db.rows("SELECT run, key FROM run_steps WHERE key <> ''"):
            if row["run"] in self.runs:
                _keep(self.results, row["key"], f"run {row['run']} ({self.runs[row['run']]})")
        tables = {id for commit in self._tables().values() for id in commit.values()}
        for row in self._db.rows("SELECT id, key FROM snapshots WHERE key IS NOT NULL"):
            if row["id"] in tables:
                _keep(self.results, row["key"], "a kept commit's table")
        for row in self._db.rows("SELECT key FROM results WHERE created >= ?", (self._runs_since,)):
            _keep(self.results, row["key"], "a young result")
        whole = "SELECT key, run, step FROM results WHERE part = ''"
        fanned = {(row["run"], row["step"]) for row in self._db.rows(whole) if row["key"] in self.results}
        for row in self._db.rows("SELECT run, name, key FROM run_steps WHERE part <> '' AND key <> ''"):
            if (row["run"], row["name"]) in fanned:
                _keep(self.results, row["key"], f"a part of {row['name']}")

    def _reach_snapshots(self) -> None:
        known = {row["id"] for row in self._db.rows("SELECT id FROM snapshots")}
        for commit, tables in self._tables().items():
            for name, id in tables.items():
                if commit in self._cleaned and id not in known:
                    continue
                _keep(self.snapshots, id, f"table {name} of commit {commit} ({self.commits[commit]})")
        for row in self._db.rows("SELECT run, name, digest FROM run_steps"):
            if row["run"] in self._cleaned and row["digest"] not in known:
                continue
            if row["run"] in self.runs and row["digest"].startswith(_SNAPSHOT):
                _keep(self.snapshots, row["digest"], f"table {row['name']} of run {row['run']}")
        for row in self._db.rows("SELECT id, name FROM snapshots WHERE created >= ?", (self._runs_since,)):
            _keep(self.snapshots, row["id"], f"a young table {row['name']}")

    def _reach_bytes(self) -> None:
        for row in self._db.rows("SELECT key, step, value FROM results"):
            if row["key"] not in self.results:
                continue
            stored = msgspec.msgpack.decode(row["value"] or b"", type=Stored)
            why = f"the result of {row['step']}: {self.results[row['key']]}"
            _keep(self.bytes, stored.blob, why)
            if stored.table is not None:
                _keep(self.snapshots, stored.table.id, why)
                _keep_all(self.lake, (file.sha256 for file in stored.table.files), why)
            if stored.model is not None:
                _keep_all(self.bytes, stored.model.held(), why)
        for row in self._db.rows("SELECT id, files FROM snapshots"):
            if row["id"] in self.snapshots:
                files = msgspec.json.decode(row["files"], type=tuple[TableFile, ...])
                _keep_all(self.lake, (file.sha256 for file in files), self.snapshots[row["id"]])
        derived = "json_extract(golden, '$.digest') AS golden, json_extract(onnx, '$.digest') AS onnx"
        for row in self._db.rows(f"SELECT model, number, files, {derived} FROM versions WHERE deleted IS NULL"):
            why = f"version {row['model']}@{row['number']}"
            _keep_all(self.bytes, _texts(row["files"]).values(), why)
            _keep(self.bytes, row["golden"], f"the golden requests of {why}")
            _keep(self.bytes, row["onnx"], f"the ONNX form of {why}")
        running = {row["bundle"] for row in self._db.rows(_RUNNING)}
        for row in self._db.rows("SELECT name, bundle FROM bundles ORDER BY created DESC"):
            why = f"endpoint {row['name']} serves it, or did"
            if row["bundle"] not in self.bytes or row["bundle"] in running:
                bundle = decode(self._get(row["bundle"], row["name"]))
                _keep_all(self.bytes, (*bundle.sources.values(), *bundle.model.held()), why)
                _keep(self.bytes, bundle.environment or None, why)
                if row["bundle"] in running and bundle.environment:
                    self.served_in.add(bundle.environment)
            _keep(self.bytes, row["bundle"], why)
        for row in self._db.rows("SELECT id, manifest FROM runs"):
            if row["id"] in self.logs:
                patch = msgspec.json.decode(row["manifest"]).get("patch")
                if row["id"] in self._cleaned and not (patch and self._blobs.has(patch)):
                    continue
                _keep(self.bytes, patch, f"the patch of run {row['id']} ({self.logs[row['id']]})")
        for row in self._db.rows("SELECT rule, name FROM repairs"):
            _keep(self.bytes, row["rule"], f"the repair rule {row['name']}")

    def _get(self, bundle: str, endpoint: str) -> bytes:
        try:
            return self._blobs.get(bundle)
        except Exception as error:
            raise Damaged(
                "Look for what is reachable",
                f"the bundle {bundle[:16]} of endpoint {endpoint} cannot be read: {error}",
                "Restore it from a backup. Until then nobody knows what it needs, and nothing is removed.",
            ) from error

    def _tables(self) -> dict[str, dict[str, str]]:
        rows = self._db.rows("SELECT id, tables FROM commits ORDER BY created DESC")
        return {row["id"]: _texts(row["tables"]) for row in rows if row["id"] in self.commits}


def _keep(kept: dict[str, str], id: str | None, why: str) -> None:
    if id:
        kept.setdefault(id, why)


def _keep_all(kept: dict[str, str], ids: Iterable[str], why: str) -> None:
    for id in ids:
        kept.setdefault(id, why)


def _texts(text: str) -> dict[str, str]:
    return msgspec.json.decode(text, type=dict[str, str])
