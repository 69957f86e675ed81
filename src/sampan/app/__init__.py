"""Where everything is wired together, and the entry points ``sampan`` and ``sampan.table``.

``App`` is one workspace as a process sees it. Its parts are made on first use, so that a command pays only for
what it touches. Nothing here knows how a part works; nothing below knows that the others exist.
"""

import gc
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sampan.base.errors import BadWorkspace, Busy, Damaged, NewerFormat, NotFound, Unreachable

if TYPE_CHECKING:
    from sampan.api.work import Work
    from sampan.app.hub import RunningHub
    from sampan.base.clock import Clock
    from sampan.base.settings import Folder, Settings
    from sampan.base.traces import Traces
    from sampan.cli.client import HubClient
    from sampan.flow.columns import Columns
    from sampan.flow.engine import Engine
    from sampan.hub.parts import Dependant
    from sampan.hub.pulse import Pulse
    from sampan.keep.pins import Pins
    from sampan.lake.lake import Lake
    from sampan.lake.query import Source
    from sampan.log.contracts import Contracts
    from sampan.log.log import Log
    from sampan.log.repairs import Told
    from sampan.log.writer import StreamWriter
    from sampan.models.registry import Models
    from sampan.runs.records import Runs
    from sampan.serve.endpoints import Endpoints
    from sampan.store.blobs import Blobs
    from sampan.store.database import Database
    from sampan.watch.alerts import Compose
    from sampan.watch.limits import Alerting

FORMAT: Final = 1
_RARELY: Final = (100_000, 20, 20)
T = TypeVar("T")


def main() -> None:
    """The ``sampan`` command. Ends the process with a documented exit code, never with a bare traceback."""
    gc.set_threshold(*_RARELY)  # most of what a command makes lasts as long as it does
    from sampan.cli.edge import run_command

    code = run_command(sys.argv[1:], App)
    gc.freeze()  # the process ends: what is still there need not be looked through once more
    sys.exit(code)


class App:
    """One workspace: the folder above ``start`` (default: above the current folder) that holds sampan.toml."""

    def __init__(self, start: Path | None = None) -> None:
        self.start = start
        self._parts: dict[str, Any] = {}
        self._db: Database | None = None
        self._threads = threading.local()
        self._hub: RunningHub | None = None
        self._one_run = threading.Lock()  # runs of one workspace wait for each other

    # -- folder, settings, clock

    @cached_property
    def folder(self) -> "Folder":
        """Where the workspace lies. Raises NotFound outside of one, NewerFormat for data of a newer Sampan."""
        from sampan.base.settings import find_folder

        folder = find_folder(self.start)
        _check_format(folder.data / "format")
        return folder

    @cached_property
    def settings(self) -> "Settings":
        """The settings in force; outside of a workspace, those of the environment."""
        from sampan.base.settings import Settings, find_folder

        try:
            folder = find_folder(self.start)
        except NotFound:
            return Settings()
        return folder.settings()

    @cached_property
    def alerting(self) -> "Alerting":
        """Whom to tell of what, as ``[alerts]`` says, to be shown: without secrets. Raises BadSetting."""
        from sampan.watch.limits import read_alerting

        return read_alerting(self.folder.config(), to_send=False)

    def tellers(self) -> "Alerting":
        """The same with the secrets that the environment holds, for who sends. Raises BadSetting."""
        from sampan.watch.limits import read_alerting

        return read_alerting(self.folder.config())

    @cached_property
    def clock(self) -> "Clock":
        from sampan.base.clock import SharedClock, SystemClock

        file = self.settings.get("clock")
        return SharedClock(self.folder.root / file) if file else SystemClock()

    # -- records and what lies on them

    @property
    def db(self) -> "Database":
        """The records; to read only, except within ``writing``."""
        if self._db is None:
            from sampan.store.database import Database

            self._db = Database(self.folder.data / "records.db", writable=False)
        return self._db

    @contextmanager
    def writing(self, attempted: str) -> Iterator[None]:
        """Be the one writer of this workspace's records. Raises Busy while a hub or a command is."""
        from sampan.store.database import Database
        from sampan.store.lock import FileLock

        advice = "Go through the running hub (SAMPAN_URL), or wait until that process ends."
        with FileLock(self.folder.data / "writer.lock", attempted, advice):
            self._prepare()
            self._forget()
            self._db = Database(self.folder.data / "records.db", writable=True)
            try:
                yield
            finally:
                self._forget()

    def _prepare(self) -> None:
        data = self.folder.data
        for name in ("tmp", "cache"):
            (data / name).mkdir(parents=True, exist_ok=True)
        if not (data / "format").exists():
            from sampan.base.files import write_durably

            write_durably(data / "format", f"{FORMAT}\n".encode())

    def _forget(self) -> None:
        """Close the records and drop the parts that hold them."""
        for part in self._parts.values():
            if callable(close := getattr(part, "close", None)):
                close()
        self._parts.clear()
        self._threads = threading.local()
        if self._db is not None:
            self._db.close()
            self._db = None

    def close(self) -> None:
        """Let go of files and connections."""
        self._forget()
        if "traces" in self.__dict__:
            self.traces.close()

    def _part(self, name: str, make: Callable[[], T]) -> T:
        if name not in self._parts:
            self._parts[name] = make()
        made: T = self._parts[name]
        return made

    @cached_property
    def contracts(self) -> "Contracts":
        """The workspace's contracts, and the built-in ones."""
        from sampan.log.contracts import Contracts

        return Contracts.load(self.folder.root / "contracts.py")

    @property
    def log(self) -> "Log":
        """The log; a reader of its own for each thread, since a reader remembers how far it has come."""
        made: Any = getattr(self._threads, "log", None)
        if made is None:
            from sampan.log.held import HeldItems
            from sampan.log.keys import SubjectKeys
            from sampan.log.log import Log
            from sampan.log.rates import Rates

            data = self.folder.data
            keys = self._part("keys", lambda: SubjectKeys(data / "keys.db"))
            held = self._part("held", lambda: HeldItems(data / "log", data / "cache" / "log"))
            rates = self._part("rates", lambda: Rates(data / "log", data / "cache" / "log" / "rates"))
            made = self._threads.log = Log(data / "log", self.contracts, self.clock, self.settings, keys, rates, held)
        found: Log = made
        return found

    def log_of(self, code: "Folder") -> "Log":
        """The log, read with the contracts of another state of the workspace's code."""
        if code == self.folder:
            return self.log
        from sampan.log.contracts import Contracts
        from sampan.log.log import Log

        log, contracts = self.log, Contracts.load(code.root / "contracts.py")
        return Log(log.folder, contracts, self.clock, self.settings, log.keys, log.rates, log.held)

    @property
    def blobs(self) -> "Blobs":
        from sampan.store.blobs import Blobs

        return self._part("blobs", lambda: Blobs(self.folder.data / "blobs"))

    @property
    def lake(self) -> "Lake":
        from sampan.lake.lake import Lake

        return self._part("lake", lambda: Lake(self.db, self.folder.data / "lake", self.clock))

    @property
    def models(self) -> "Models":
        from sampan.models.registry import Models

        return self._part("models", lambda: Models(self.db, self.blobs, self.clock, lambda: self.lake.versions()))

    @property
    def endpoints(self) -> "Endpoints":
        from sampan.serve.endpoints import Endpoints

        return self._part("endpoints", lambda: Endpoints(self.db, self.models, self.clock))

    @property
    def engine(self) -> "Engine":
        from sampan.flow.engine import Engine

        return self._part(
            "engine",
            lambda: Engine(self.folder, self.db, self.lake, self.log, self.models, self.clock, self.settings),
        )

    @property
    def runs(self) -> "Runs":
        from sampan.runs.records import Runs

        return self._part("runs", lambda: Runs(self.db))

    def dependants(self, type: str) -> "list[Dependant]":
        """Everything that is made of a type of event, directly or not. Raises what a flow that does not read raises."""
        from sampan.flow.graph import MODEL
        from sampan.flow.workspace import Workspace
        from sampan.hub.parts import Dependant

        nodes = Workspace(self.folder).graph.dependants(type)
        below = {type, *(node.name for node in nodes)}
        found = [
            Dependant(
                node.name,
                node.kind,
                node.path,
                () if type in node.needs else tuple(need for need in node.needs if need in below),
            )
            for node in nodes
        ]
        models = {node.name for node in nodes if node.kind == MODEL}
        for endpoint in self.endpoints.list():
            model = endpoint.spec.version.partition("@")[0]
            if model in models:
                found.append(Dependant(endpoint.name, "endpoint", "", (endpoint.spec.version,)))
        return found

    def columns(self, before: Mapping[str, Iterable[str]] | None = None) -> "Columns":
        """Where columns come from and what they reach. Raises what a flow that does not read raises.

        ``before``: fields that types of event had, which queries may still name.
        """
        from sampan.flow.columns import Columns
        from sampan.flow.workspace import Workspace
        from sampan.log.columns import SYSTEM

        system = [name for name, _ in SYSTEM]
        tables, registry = self.lake.tables(), self.models

        def fields(name: str) -> list[str] | None:
            return [field for field, _ in tables[name].fields] if name in tables else None

        def features(model: str) -> list[str] | None:
            newest = next(iter(registry.list(model)), None)
            return list(newest.signature.inputs) if newest is not None else None

        events = {one.type: [*(field.name for field in one.spec.fields), *system] for one in self.contracts}
        for type, names in (before or {}).items():
            events[type] = list(dict.fromkeys([*events.get(type, ()), *names]))
        endpoints = {one.name: one.spec.version for one in self.endpoints.list()}
        return Columns(Workspace(self.folder), events, fields, features, endpoints)

    # -- what commands and the hub's /v1 routes ask for (sampan.api.work.Work)

    def _as_writer(self, attempted: str) -> AbstractContextManager[None]:
        return nullcontext() if self.db.writable else self.writing(attempted)

    def stats(self) -> Any:
        """Figures of the log."""
        return self.log.stats()

    @contextmanager
    def _intake(self, attempted: str) -> Iterator["StreamWriter"]:
        """The writer of the intake stream: the hub's own in the hub, else one under the lock."""
        if self._hub is not None:
            yield self._hub.writer
            return
        with self.writing(attempted):
            self.contracts.register(self.db, self.clock)
            writer = self.log.writer("intake")
            try:
                yield writer
            finally:
                writer.close()

    @contextmanager
    def appending(self, attempted: str) -> Iterator[Callable[[bytes], dict[str, int]]]:
        """Append events (NDJSON) without a hub, as the one writer; gives the counts by verdict of each batch."""
        with self._intake(attempted) as writer:

            def append(body: bytes) -> dict[str, int]:
                batch = writer.alone(lambda: writer.checker.read(body, lines=True))
                answer = writer.append(batch, "command")
                counts = (answer.accepted, answer.duplicate, answer.quarantined)
                return dict(zip(("accepted", "duplicate", "quarantined"), counts, strict=True))

            yield append

    def own_types(self) -> list[str]:
        """The types of event that the workspace declares itself."""
        from sampan.log.builtin import BUILTIN

        builtin = {cls.__sampan_type__ for cls in BUILTIN}
        return [type for type in self.contracts.types() if type not in builtin]

    def conform(self, type: str, by: str = "source", since: int | None = None) -> Any:
        """Compare the sources of a type; what all of it shows is kept for pages, alerts and runs."""
        import msgspec

        from sampan.log.conform import conform, record

        found = conform(self.log, type, by=by, since=since, now=self.clock.micros())
        if by == "source" and since is None:
            with suppress(Busy), self._as_writer("Keep how sources compare"):
                record(self.db, found)
        return msgspec.to_builtins(found)

    def repair(self, proposals: list[Any], rule: str, author: str, told: "Told | None" = None) -> Any:
        """Re-enter quarantined events as a rule has repaired them; again is harmless. ``told`` goes to the history."""
        import msgspec

        from sampan.log.quarantine import Proposal, Quarantine
        from sampan.log.repairs import Repairs, Told

        told = told or Told()
        made = msgspec.convert(proposals, list[Proposal])
        with self._intake("Repair quarantined events") as writer:
            told.keep_text(self.blobs, rule)
            done = Quarantine(self.log).apply(made, writer, rule=rule, author=author)
            record = Repairs(self.db, self.clock).add(done, name=told.name, reason=told.reason) if done.events else None
        if self._hub is not None:
            self._hub.count_repaired()
        return {**msgspec.to_builtins(done), "repair": record.id if record else ""}

    def plan(self, target: str = "", sets: dict[str, Any] | None = None) -> Any:
        """What a run would do, and why."""
        self.contracts.check(self.db)
        return self.engine.plan(target or None, sets or {}).json()

    def why(self, step: str) -> Any:
        """What differs from the last result of a step."""
        return self.engine.why(step).json()

    def run(
        self, target: str, sets: dict[str, Any], actor: str, report: Callable[[Any], None], branch: str = "main"
    ) -> Any:
        """Run what has changed and publish it, on a branch, if its checks pass."""
        with self._one_run, self._as_writer("Run the flow"):
            self.contracts.check(self.db)
            facts = {"sampan.target": target, "sampan.actor": actor, "sampan.branch": branch}
            with self._traced("run", facts, report) as tell:
                made = self.engine.run(target or None, sets, on_event=tell, actor=actor, branch=branch)
            return {**made.json(), "exit_code": made.exit_code}

    def resume(self, run: str, rebase: bool, actor: str, report: Callable[[Any], None]) -> Any:
        """Go on with an interrupted run."""
        with self._one_run, self._as_writer("Resume a run"):
            with self._traced("resume", {"sampan.run": run, "sampan.actor": actor}, report) as tell:
                made = self.engine.resume(run, rebase, on_event=tell, actor=actor)
            return {**made.json(), "exit_code": made.exit_code}

    def new_branch(self, name: str, ref: str, reason: str, actor: str) -> Any:
        """Make a branch; no data is copied."""
        import msgspec

        with self._as_writer(f"Make the branch {name}"):
            return msgspec.to_builtins(self.lake.branch(name, ref, actor=actor, reason=reason))

    def delete_branch(self, name: str, actor: str) -> Any:
        """Take a branch's name away."""
        import msgspec

        with self._one_run, self._as_writer(f"Delete the branch {name}"):
            return msgspec.to_builtins(self.lake.delete_branch(name))

    def merge(self, branch: str, reason: str, actor: str, report: Callable[[Any], None]) -> Any:
        """Bring a branch's definitions to main: derived on the events of now, checked, published together."""
        with self._one_run, self._as_writer(f"Merge {branch}"):
            self.contracts.check(self.db)
            with self._traced("merge", {"sampan.branch": branch, "sampan.actor": actor}, report) as tell:
                made = self.engine.merge(branch, on_event=tell, actor=actor, reason=reason)
            return {**made.json(), "exit_code": made.exit_code}

    def revert(self, commit: str, reason: str, actor: str) -> Any:
        """Undo a commit of main by another one."""
        import msgspec

        with self._one_run, self._as_writer(f"Revert {commit}"):
            return msgspec.to_builtins(self.lake.revert(commit, actor=actor, reason=reason))

    def plan_replay(self, request: dict[str, Any]) -> Any:
        """What a replay would do, and what that would take."""
        import msgspec

        from sampan.app.replaying import Replaying
        from sampan.app.replays import checked_out
        from sampan.runs.replays import ReplayRequest

        asked = msgspec.convert(request, ReplayRequest)
        with checked_out(self, asked.code) as code:
            return msgspec.to_builtins(Replaying(self, asked, code).plan())

    def replay(self, request: dict[str, Any], actor: str, report: Callable[[Any], None], id: str = "") -> Any:
        """Derive everything again beside main, take past decisions again, and keep what would have been different."""
        import msgspec

        from sampan.app.replays import begin
        from sampan.runs.replays import ReplayRequest

        asked = msgspec.convert(request, ReplayRequest)
        with self._one_run, self._as_writer("Replay the log"):
            made = begin(self, asked, actor, lambda event: report(_plain(event)), id)
            return msgspec.to_builtins(made)

    def known_replay(self, id: str) -> Any:
        """A replay as it stands. Raises NotFound."""
        import msgspec

        from sampan.runs.replays import Replays

        return msgspec.to_builtins(Replays(self.db).get(id))

    def approve_replay(self, id: str, reason: str, actor: str, report: Callable[[Any], None]) -> Any:
        """Merge what was replayed into main."""
        from sampan.app.replays import approve

        with self._one_run, self._as_writer(f"Approve replay {id}"):
            self.contracts.check(self.db)
            _, made, deploy = approve(self, id, reason, actor, lambda event: report(_plain(event)))
            told: dict[str, Any] = {
                "run": "",
                "state": "succeeded",
                "steps": [],
                "versions": [],
                "commit": self.lake.head(),
            }
            merged = told if made is None else made.json()
            return {**merged, "exit_code": 0 if made is None else made.exit_code, "deploy": deploy}

    def discard_replay(self, id: str, actor: str) -> Any:
        """Drop what was replayed; the report stays."""
        import msgspec

        from sampan.app.replays import discard

        with self._one_run, self._as_writer(f"Discard replay {id}"):
            return msgspec.to_builtins(discard(self, id, actor))

    @property
    def pinned(self) -> "Pins":
        from sampan.keep.pins import Pins

        return Pins(self.db, self.lake, self.models, self.runs, self.clock)

    def pin(self, ref: str, reason: str, actor: str) -> Any:
        """Keep a commit, version or run whatever its age."""
        import msgspec

        with self._as_writer(f"Pin {ref}"):
            return msgspec.to_builtins(self.pinned.add(ref, actor=actor, reason=reason))

    def unpin(self, ref: str, actor: str) -> Any:
        """Let it go when it is old."""
        import msgspec

        with self._as_writer(f"Remove the pin of {ref}"):
            return msgspec.to_builtins(self.pinned.remove(ref))

    def pins(self) -> Any:
        """All pins."""
        import msgspec

        return msgspec.to_builtins(self.pinned.list())

    def clean(self, apply: bool, actor: str, report: Callable[[Any], None]) -> Any:
        """Remove what nothing keeps, or say what would go. Runs wait until it has ended, and it for them."""
        import msgspec

        from sampan.keep.clean import Cleaner
        from sampan.keep.retention import read_retention

        retention, data = read_retention(self.folder.config()), self.folder.data
        if not apply:
            return msgspec.to_builtins(Cleaner(self.db, data, self.clock, retention).preview())
        with self._one_run, self._as_writer("Clean up"), self._settled("Clean up"):
            done = Cleaner(self.db, data, self.clock, retention).apply(lambda step: report(_plain(step)))
            return msgspec.to_builtins(done)

    def backup(self, to: Path, keys: bool = True) -> Any:
        """Copy all that cannot be derived again, and what has been derived, while the hub goes on."""
        import msgspec

        from sampan.keep.backup import Backup
        from sampan.keep.retention import read_retention

        with self._settled("Back up"):
            made = Backup(self.folder, self.db, self.log, self.clock, read_retention(self.folder.config()), to)
            return msgspec.to_builtins(made.make(keys=keys))

    def restore(self, backup: Path, to: Path) -> Any:
        """Make a workspace of a backup in an empty folder."""
        import msgspec

        from sampan.keep.restore import restore

        return msgspec.to_builtins(restore(backup, to))

    def _settled(self, attempted: str) -> AbstractContextManager[Any]:
        """No file goes and no backup begins while this is held."""
        from sampan.store.lock import FileLock

        advice = "A clean-up or a backup is going on: try again when it has ended."
        return FileLock(self.folder.data / "settled.lock", attempted, advice)

    @contextmanager
    def _traced(
        self, name: str, facts: dict[str, str], report: Callable[[Any], None]
    ) -> Iterator[Callable[[Any], None]]:
        """Around a run: a span for it and one for each of its steps, and ``report`` told of all that happens."""
        with self.traces.span(name, facts) as span:

            def tell(event: Any) -> None:
                report(_plain(event))
                if span is not None:
                    _trace(self.traces, span, event)

            yield tell

    def deploy(self, name: str, model: str, decision: str, thresholds: dict[str, Any], reason: str, actor: str) -> Any:
        """Put a version, with the workspace's rules for it, in force under a name."""
        import msgspec

        root = self.folder.root
        with self._as_writer(f"Deploy {name}"):
            made = self.endpoints.deploy(
                name,
                model or name,
                workspace=root,
                decision=decision or None,
                thresholds=thresholds,
                actor=actor,
                reason=reason,
            )
        if self._hub is not None:
            self._hub.switch(name)
        found = msgspec.to_builtins(made)
        return {**found.pop("spec"), **found}

    def recompute(self, prediction: str) -> Any:
        """Make a prediction once more, as it was made, and say whether it comes out the same."""
        import msgspec

        from sampan.serve.recompute import recompute

        event = self.log.find(prediction, type="prediction")
        if event is None:
            raise NotFound(
                f"Recompute prediction {prediction[:100]!r}",
                "none has this id",
                "`sampan log tail --type prediction` shows the newest.",
            )
        return msgspec.to_builtins(recompute(event, self.endpoints, self.blobs, self.folder.data / "tmp"))

    def compose(self, url: str = "") -> "Compose":
        """Makes messages about alerts, with links to the hub at an address unless a public one is set."""
        from sampan.watch.alerts import Compose

        return Compose(self.folder.root.name, (self.settings.get("public_url") or url).rstrip("/"))

    def test_alerts(self, targets: list[str]) -> dict[str, str]:
        """Send a test to targets (all, if none are named); gives what went wrong with each, or nothing."""
        if self._hub is not None:
            return self._hub.watch.test(targets)
        from sampan.watch.watch import test

        return test(self.tellers(), self.compose(), self.clock.micros(), targets)

    def silence(self, what: str, seconds: float, reason: str, actor: str) -> Any:
        """Keep quiet about a kind of alert, or one alert's key, for a while."""
        import msgspec

        from sampan.watch.alerts import Alerts

        with self._as_writer("Silence alerts"):
            made = Alerts(self.db, self.clock).silence(what, seconds, actor=actor, reason=reason)
            return msgspec.to_builtins(made)

    def unsilence(self, silence: str, actor: str) -> Any:
        """Take a silence back before its time."""
        import msgspec

        from sampan.watch.alerts import Alerts

        with self._as_writer("Take back a silence"):
            return msgspec.to_builtins(Alerts(self.db, self.clock).unsilence(silence, actor=actor))

    def serving_state(self, name: str) -> str:
        """How an endpoint is doing, as far as this process knows."""
        return self._hub.state_of(name) if self._hub is not None else "unknown"

    @property
    def pulse(self) -> "Pulse | None":
        """How many events come in per second, which only a running hub knows."""
        return self._hub.pulse if self._hub is not None else None

    def sql(self, query: str, run: str = "", limit: int = 0, ref: str = "main", as_of: str = "") -> Any:
        """Answer a question of a branch or commit, or of a branch as of a time; at most ``limit`` rows (0: all)."""
        from sampan.base.clock import past
        from sampan.lake.read import query as ask

        extra: dict[str, Source] = {**self.engine.sources(run)} if run else {}
        known_by = past(as_of, self.clock.micros()) if as_of else None
        relation = ask(query, self.lake, self.log, ref, extra=extra, known_by=known_by)
        columns = [{"name": n, "type": str(t)} for n, t in zip(relation.columns, relation.types, strict=True)]
        rows = relation.fetchmany(limit + 1) if limit else relation.fetchall()
        more = bool(limit) and len(rows) > limit
        return {"columns": columns, "rows": [list(row) for row in (rows[:limit] if more else rows)], "more": more}

    # -- the hub, seen from a command

    def work(self) -> "Work":
        """Who does what a command asks for: the hub if one is up, else this process."""
        return self.hub() or self

    def hub(self) -> "HubClient | None":
        """The hub to go through: the one of SAMPAN_URL, else this workspace's if it is up, else None."""
        url = self.settings.get("url") or self._local_hub()
        if not url:
            return None
        from sampan.cli.client import HubClient

        token = self.settings.get("token") or self._token_file()
        return self._part("hub", lambda: HubClient(url, token))

    @cached_property
    def traces(self) -> "Traces":
        """Spans for whoever collects them, if the environment says where to."""
        from sampan.base.traces import from_environment

        return from_environment()

    @property
    def remote(self) -> bool:
        """Whether commands were sent to a hub by SAMPAN_URL, so that nothing is read from a folder here."""
        return bool(self.settings.get("url"))

    def view(self, path: str, query: dict[str, Any] | None = None, *, live: bool = False) -> Any:
        """What the page at a path says, as plain data: from the hub of SAMPAN_URL, else read here.

        ``live``: from this workspace's hub if it is up, for what only the hub knows.
        """
        if (self.remote or live) and (hub := self.hub()):
            return hub.get(path, {**(query or {}), "format": "json"})
        import msgspec

        from sampan.hub.sitemap import view

        return msgspec.to_builtins(view(self, path, query))

    def _token_file(self) -> str:
        try:
            return (self.folder.data / "token").read_text("utf-8").strip()
        except (OSError, NotFound):
            return ""

    def _local_hub(self) -> str:
        """Address of this workspace's hub. A file left behind by a hub that was killed is noticed and removed."""
        path = self.folder.data / "hub.json"
        try:
            note = json.loads(path.read_bytes())
            url, instance, pid = str(note["url"]), str(note["instance"]), int(note["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        from sampan.cli.client import HubClient

        with suppress(Unreachable, ProcessLookupError, PermissionError):
            os.kill(pid, 0)
            with closing(HubClient(url, "")) as client:
                if client.instance() == instance:
                    return url
        path.unlink(missing_ok=True)
        return ""

    # -- the hub itself

    def up(self, host: str, port: int, started: Callable[[str, str], None]) -> None:
        """Be the hub until told to stop. ``started`` gets the address and a one-time sign-in link."""
        from sampan.app.exposure import check_exposure
        from sampan.app.hub import RunningHub
        from sampan.base.arrow import forego_pandas
        from sampan.hub.server import bind, serve
        from sampan.runs.replays import Replays

        check_exposure(host, self.settings, self.db)
        from sampan.base.journal import set_up

        set_up(self.settings.get("log_level"), self.settings.get("log_format"))
        self.tellers()  # what is wrong in [alerts] is said before anything starts
        forego_pandas()
        with self.writing("Start the hub"):
            self.contracts.register(self.db, self.clock)
            self.runs.interrupt(())  # what the process before this one did not end, nobody carries on
            Replays(self.db).interrupt()
            listener = bind(host, port)
            try:
                hub = self._hub = RunningHub(self, host, listener.getsockname()[1])
                serve(hub.stack, listener, lambda: hub.announce(started), hub.stopping)
            finally:
                self._hub = None
                listener.close()
                (self.folder.data / "hub.json").unlink(missing_ok=True)

    def demo(self, *, workspace: Path | None, host: str, port: int, once: bool, as_json: bool) -> None:
        """Play the demo in a workspace of its own."""
        from sampan.demo.tell import tell

        tell(workspace=workspace, host=host, port=port, once=once, as_json=as_json)


def table(name: str, ref: str = "main", workspace: Path | str | None = None) -> Any:
    """A derived table, for notebooks and scripts: ``sampan.table("orders").df()``.

    Gives ``.df()``, ``.polars()``, ``.arrow()`` and ``.relation()``. ``ref`` is a branch or ``@COMMIT``.
    """
    from sampan.lake.read import Table

    app = App(Path(workspace) if workspace else None)
    try:
        return Table(app.lake.source(name, ref))
    finally:
        app.close()


def _plain(event: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(event)


def _trace(traces: "Traces", span: Any, event: Any) -> None:
    """What a run tells, as spans: one for each step (or part) that ended, the run's id and state on its own."""
    if not event.step:
        span.set_attribute("sampan.run", event.run)
        span.set_attribute("sampan.state", event.state)
        if event.state == "failed":
            traces.fail(span, event.message)
    elif event.state in ("ran", "cached", "failed"):
        facts = {"sampan.run": event.run, "sampan.step": event.step, "sampan.state": event.state}
        if event.part:
            facts["sampan.part"] = event.part
        error = (event.message or "it failed") if event.state == "failed" else ""
        traces.past(f"step {event.step}", event.seconds, facts, error)


def _check_format(path: Path) -> None:
    try:
        text = path.read_text("utf-8").strip()
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise BadWorkspace(
            "Open the workspace's data", f"{path.parent} is a file", "Move it away: the data's folder goes there."
        ) from None
    if not text.isdecimal():
        raise Damaged("Open the workspace's data", f"{path} says {text[:40]!r}", "It should hold a number. Restore it.")
    if int(text) > FORMAT:
        raise NewerFormat(
            "Open the workspace's data",
            f"it has format {text}, this Sampan knows up to {FORMAT}",
            "Upgrade Sampan (`uv add sampan --upgrade`); nothing was changed.",
        )
