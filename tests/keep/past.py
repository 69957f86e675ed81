"""A workspace with a past of runs, commits, versions and endpoints, made without running any of it."""

import os
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from sampan.base.clock import ManualClock
from sampan.base.digests import digest_value
from sampan.base.errors import Damaged, NotFound
from sampan.base.ids import new_id
from sampan.flow.job import Stored
from sampan.keep.clean import Cleaner
from sampan.keep.pins import Pins
from sampan.keep.retention import Retention
from sampan.lake.draft import TableDraft, TableFile
from sampan.lake.lake import Lake
from sampan.models.registry import Models
from sampan.models.version import GoldenFile, Signature, VersionDraft, version_digest
from sampan.runs.records import Result, Run, Runs, StepRun
from sampan.serve.bundle import Bundle
from sampan.store.blobs import Blobs
from sampan.store.database import Database

DAY = 86_400
AT_ONCE = Retention(commits=0, runs=0, grace=0)


class Past:
    """Records and files as the real ones have them."""

    def __init__(self, data: Path, now: int = 1_300_000_000_000_000) -> None:
        self.data, self.clock = data, ManualClock(now)
        self.db = Database(data / "records.db", writable=True)
        self.lake = Lake(self.db, data / "lake", self.clock)
        self.blobs, self.runs = Blobs(data / "blobs"), Runs(self.db)
        self.models = Models(self.db, self.blobs, self.clock)
        self.pins = Pins(self.db, self.lake, self.models, self.runs, self.clock)

    def table(self, content: str) -> TableDraft:
        """Files of a table, as a worker leaves them; its content decides its name."""
        data = f"table {content}".encode() * 10
        sha = Blobs(self.data / "lake").put(data)
        file = TableFile(sha, len(data), 1)
        return TableDraft(f"t1-{digest_value(content)[:32]}", (("x", "BIGINT"),), (file,), 1, len(data))

    def run(self, tables: dict[str, str], branch: str = "main", *, target: str = "", publish: bool = True) -> str:
        """A run that gives tables with some contents, a large value and a patch; publishes them if its checks pass."""
        id = new_id(self.clock)
        now, patch = self.clock.micros(), self.blobs.put(f"patch {id}".encode())
        manifest: dict[str, Any] = {"patch": patch, "steps": {}}
        self.runs.start(Run(id, "running", target, branch, "", "", None, None, "ann", manifest, "", 0.0, now))
        stored = {
            name: Stored("table", (made := self.table(content)).id, table=made) for name, content in tables.items()
        }
        value = f"value {sorted(tables.items())}".encode()
        stored["value"] = Stored("value", f"v1-{sha256(value).hexdigest()[:32]}", blob=self.blobs.put(value))
        for name, one in stored.items():
            key = digest_value([name, one.digest])
            if one.table is not None:
                self.lake.add(one.table, name, id, key)
            raw = msgspec.msgpack.encode(one)
            self.runs.put_results([Result(key, name, "", id, one.kind, one.digest, raw, {}, {}, 0.1, 0, now)])
            self.runs.put_steps([StepRun(id, name, "", "table", "ran", "", key, one.digest)])
        commit = None
        if publish:
            changes = {name: one.digest for name, one in stored.items() if one.table is not None}
            head = self.lake.head(branch)
            commit = self.lake.commit(branch, changes, expected=head, run=id, request=f"run {id}").id
        state = "succeeded" if publish else "failed"
        self.runs.finish(id, state, commit=commit, error="", cost=0.0, manifest=manifest, at=self.clock.micros())
        folder = self.data / "runs" / id
        folder.mkdir(parents=True)
        (folder / "step.log").write_text("said")
        return id

    def version(self, content: str, run: str | None = None) -> str:
        """A registered version."""
        files = {"model.txt": self.blobs.put(f"model {content}".encode())}
        signature = Signature(inputs={"x": "number"}, output="number")
        digest = version_digest("regression", "lightgbm", files, signature)
        draft = VersionDraft(
            digest=digest,
            kind="regression",
            format="lightgbm",
            files=files,
            signature=signature,
            metrics={},
            made_with={},
            golden=GoldenFile(self.blobs.put(f"golden {content}".encode()), 50, 50),
        )
        return self.models.register(draft, "reorder", run).ref

    def deploy(self, ref: str, rules: str, environment: str = "") -> str:
        """An endpoint's next bundle."""
        version = self.models.get(ref)
        draft = VersionDraft(
            digest=version.digest,
            kind=version.kind,
            format=version.format,
            files=version.files,
            signature=version.signature,
            metrics={},
            made_with={},
        )
        bundle = Bundle(
            version=ref, model=draft, sources={"decisions.py": self.blobs.put(rules.encode())}, environment=environment
        )
        digest = self.blobs.put(bundle.encode())
        with self.db.transaction() as records:
            records.execute(
                "INSERT INTO endpoints (id, name, bundle, spec, actor, reason, created) VALUES (?,?,?,?,?,?,?)",
                (new_id(self.clock), "reorder", digest, '{"version":"x"}', "ann", "", self.clock.micros()),
            )
        return digest

    def pass_by(self, days: float) -> None:
        self.clock.advance(timedelta(days=days))

    def cleaner(self, retention: Retention = AT_ONCE) -> Cleaner:
        return Cleaner(self.db, self.data, self.clock, retention)

    # -- looking

    def files(self) -> set[str]:
        """Tables, blobs and logs that are there."""
        found = set()
        for kind in ("lake", "blobs", "runs"):
            for folder, _, names in os.walk(self.data / kind):
                found |= {f"{kind}/{Path(folder).name}{name}" for name in names}
        return found

    def faults(self) -> list[str]:
        """Everything that is named and not there, or not as it was: of branches, commits, versions, endpoints, pins,
        and of all results that are offered to runs."""
        faults: list[str] = []
        for row in self.db.rows("SELECT id, tables FROM commits WHERE cleaned IS NULL"):
            for id in msgspec.json.decode(row["tables"]).values():
                faults += self._table(f"commit {row['id']}", id)
        for row in self.db.rows("SELECT id FROM snapshots"):
            faults += self._table("snapshot", row["id"])
        for version in self.models.list():
            faults += [f"{version.ref}: {d}" for d in version.draft().held() if not self._good(d)]
        for row in self.db.rows("SELECT bundle FROM endpoints"):
            if not self._good(row["bundle"]):
                faults.append(f"bundle {row['bundle']}")
                continue
            bundle = msgspec.json.decode(self.blobs.get(row["bundle"]), type=Bundle)
            named = [*bundle.sources.values(), *bundle.model.files.values()]
            faults += [f"bundle {row['bundle']}: {digest}" for digest in named if not self._good(digest)]
        for row in self.db.rows("SELECT key, value FROM results"):
            stored = msgspec.msgpack.decode(row["value"], type=Stored)
            if stored.blob is not None and not self._good(stored.blob):
                faults.append(f"result {row['key']}: {stored.blob}")
            if stored.table is not None:
                faults += self._table(f"result {row['key']}", stored.table.id)
        for run in self.runs.list(1000):
            cleaned = self.db.row("SELECT cleaned FROM runs WHERE id = ?", (run.id,))
            if cleaned is not None and cleaned["cleaned"] is None and not self._good(run.manifest["patch"]):
                faults.append(f"run {run.id}")
        return faults

    def _table(self, who: str, id: str) -> list[str]:
        if not self.lake.present(id):
            return [f"{who}: {id} is gone"]
        return [f"{who}: {fault}" for fault in self.lake.verify(id)]

    def _good(self, digest: str) -> bool:
        try:
            self.blobs.get(digest)
        except (Damaged, NotFound):
            return False
        return True

    def close(self) -> None:
        self.db.close()
