"""Scored rows as a table of the lake: committed to main, with a run that says from what and by which version."""

import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.app.workplace import Workplace
from sampan.base.digests import digest_value
from sampan.base.errors import Usage
from sampan.base.ids import is_name, new_id
from sampan.lake.history import MAIN
from sampan.runs.records import SCORED

if TYPE_CHECKING:
    from sampan.lake.draft import TableDraft

_LIMIT: Final = 80


class ScoredTable:
    """Takes rows in their order; ``finish`` commits them as a table, ``drop`` leaves nothing behind. Needs the records'
    lock. Raises Usage for a name that is taken by something else."""

    def __init__(self, app: Workplace, name: str, actor: str, reason: str) -> None:
        from sampan.serve.scored import writer

        self._app, self._name, self._actor, self._reason = app, name, actor, reason
        self._attempted = f"Score into the table {name[:100]!r}"
        self._check()
        self._started, self._began = app.clock.micros(), time.perf_counter()
        self._scratch = tempfile.TemporaryDirectory(dir=app.folder.data / "tmp", prefix="score-")
        self._file = Path(self._scratch.name) / "rows.parquet"
        self._rows = writer(self._file)
        self._any = False
        self.made: dict[str, str] = {}
        """Run, commit and snapshot, once it is finished."""

    def add(self, rows: list[dict[str, Any]]) -> None:
        self._any = self._any or bool(rows)
        self._rows.add(rows)

    def finish(self, about: Mapping[str, Any]) -> None:
        """``about``: what was read, and what answered."""
        from sampan.lake.query import TableSource
        from sampan.lake.write import write_query

        if not self._any:
            raise Usage(self._attempted, "there is not one row to score", "A table has at least one.")
        self._rows.finish(about)
        source = TableSource(self._name, (str(self._file),))
        draft = write_query("\nSELECT * FROM it", {"it": source}, self._app.lake.folder, name=self._name)
        self._commit(draft, about)
        self._scratch.cleanup()

    def drop(self) -> None:
        with suppress(OSError):
            self._rows.drop()
        self._scratch.cleanup()

    def _check(self) -> None:
        from sampan.flow.workspace import Workspace

        app, name = self._app, self._name
        if not is_name(name) or len(name) > _LIMIT:
            advice = "Letters, digits, _ and -; a file ends in .parquet or .csv."
            raise Usage(self._attempted, "it is no table's name", advice)
        if name in Workspace(app.folder).graph.nodes:
            raise Usage(self._attempted, "the flow makes something of this name", "Choose another.")
        if name in app.contracts.types():
            raise Usage(self._attempted, "events of this type are read by that name", "Choose another.")

    def _commit(self, draft: "TableDraft", about: Mapping[str, Any]) -> None:
        """Snapshot, run, result and commit in one transaction: the table is there with where it came from, or not."""
        from sampan.flow.job import Stored
        from sampan.flow.manifest import opening
        from sampan.flow.workspace import Workspace
        from sampan.money.prices import read_prices
        from sampan.runs.records import SUCCEEDED, Result, Run, StepRun

        app, name, id = self._app, self._name, new_id(self._app.clock)
        read = {about["table"]: about["snapshot"]} if "table" in about else {}
        files = {about["file"]: about["sha256"]} if "file" in about else {}
        parts = {
            "node": f"table {name}",
            SCORED: True,
            "inputs": read,
            "files": files,
            "code": {},
            "parameters": {one: about[one] for one in ("version", "bundle", "digest")},
        }
        key, seconds, now = digest_value(parts), time.perf_counter() - self._began, app.clock.micros()
        prices, position = read_prices(app.folder.config()), app.log.position()
        step = {
            "state": "ran",
            "key": key,
            "code": "",
            "inputs": read,
            "parameters": parts["parameters"],
            "seed": None,
            "output": draft.id,
            "seconds": seconds,
            "memory": 0,
            "warnings": [],
            "flags": [],
        }
        workspace = Workspace(app.folder)
        facts = {"sets": {}, "recipes": {}, "inputs": {}, "patch": None, "prefix": "", "scored": about}
        manifest = opening(workspace, [], prices, **facts, steps={name: step}, seconds=seconds)
        reason = self._reason or f"scored {about.get('table') or about.get('file')} with {about['version']}"
        with app.db.transaction():
            head = app.lake.head()
            app.lake.add(draft, name, id, key)
            made = app.lake.commit(MAIN, {name: draft.id}, expected=head, run=id, actor=self._actor, reason=reason)
            app.runs.start(
                Run(
                    id=id,
                    state="running",
                    target=name,
                    branch=MAIN,
                    position=str(position),
                    root=app.log.root(position),
                    commit_id=None,
                    git=None,
                    actor=self._actor,
                    manifest=manifest,
                    error="",
                    cost=0.0,
                    started=self._started,
                )
            )
            app.runs.put_steps(
                [
                    StepRun(
                        run=id,
                        name=name,
                        part="",
                        kind="table",
                        state="ran",
                        why=reason,
                        key=key,
                        digest=draft.id,
                        seconds=seconds,
                        cost=prices.cost(seconds),
                        needs=tuple(read),
                        started=self._started,
                        ended=now,
                    )
                ]
            )
            stored = msgspec.msgpack.encode(Stored("table", draft.id, table=draft))
            app.runs.put_results([Result(key, name, "", id, "table", draft.id, stored, parts, {}, seconds, 0, now)])
            cost = prices.cost(seconds)
            app.runs.finish(id, SUCCEEDED, commit=made.id, error="", cost=cost, manifest=manifest, at=now)
        self.made = {"run": id, "commit": made.id, "into": draft.id}
