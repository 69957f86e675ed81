"""One workspace as a process sees it: its folder, its records, and the parts that lie on them.

A part is made on first use, so that a command pays only for what it touches. Nothing here knows how a part works.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sampan.base.errors import BadWorkspace, Damaged, NewerFormat, NotFound, SampanError

if TYPE_CHECKING:
    from sampan.app.hub import RunningHub
    from sampan.app.step_tracking import Door
    from sampan.base.clock import Clock
    from sampan.base.openlineage import Emitter
    from sampan.base.settings import Folder, Settings
    from sampan.base.traces import Traces
    from sampan.flow.columns import Columns
    from sampan.flow.engine import Engine
    from sampan.hub.parts import Dependant
    from sampan.lake.lake import Lake
    from sampan.log.contracts import Contracts
    from sampan.log.log import Log
    from sampan.models.registry import Models
    from sampan.release.proposals import Proposals
    from sampan.release.records import RolloutRecords
    from sampan.runs.records import Runs
    from sampan.serve.endpoints import Endpoints
    from sampan.store.blobs import Blobs
    from sampan.store.database import Database
    from sampan.track.tracking import Tracking
    from sampan.watch.limits import Alerting

FORMAT: Final = 1
T = TypeVar("T")


class Workplace:
    """One workspace: the folder above ``start`` (default: above the current folder) that holds sampan.toml."""

    def __init__(self, start: Path | None = None) -> None:
        self.start = start
        self._parts: dict[str, Any] = {}
        self._db: Database | None = None
        self._threads = threading.local()
        self._hub: RunningHub | None = None
        self._door: Door | None = None
        self._one_run = threading.Lock()  # runs of one workspace wait for each other

    @property
    def is_hub(self) -> bool:
        """Whether this process is the running hub."""
        return self._hub is not None

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

    def instant(self, text: str) -> int:
        """The instant that ``--as-of`` names: a time, or ``@COMMIT``. Raises Usage, NotFound."""
        from sampan.app.instant import instant

        return instant(self, text)

    @cached_property
    def traces(self) -> "Traces":
        """Spans for whoever collects them, if the environment says where to."""
        from sampan.base.traces import from_environment

        return from_environment()

    @cached_property
    def lineage_events(self) -> "Emitter | None":
        """Whoever takes OpenLineage events, if the environment says so. Raises Usage for what is no address."""
        if not os.environ.get("OPENLINEAGE_URL"):
            return None
        from sampan.base.openlineage import from_environment

        return from_environment()

    # -- records and what lies on them

    @property
    def db(self) -> "Database":
        """The records; to read only, except within ``writing``."""
        if self._db is None:
            from sampan.store.database import Database

            self._db = Database(self.folder.data / "records.db", writable=False)
            if version := self._db.behind():
                self._db.close()
                self._bring_up_to_date(version)
        return self._db

    def _bring_up_to_date(self, version: int) -> None:
        """Migrate records that an older Sampan wrote, before they are read. Raises Busy while a process holds them."""
        from sampan.store.database import Database
        from sampan.store.lock import FileLock

        attempted = f"Bring the records from format {version} up to date"
        advice = "It is of an older Sampan: end it, and try again."
        with FileLock(self.folder.data / "writer.lock", attempted, advice):
            Database(self.folder.data / "records.db", writable=True).close()

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

    def _as_writer(self, attempted: str) -> AbstractContextManager[None]:
        return nullcontext() if self.db.writable else self.writing(attempted)

    @contextmanager
    def _running(self, attempted: str) -> Iterator[None]:
        """One at a time, as the writer, with what is in force written down."""
        from sampan.hub.in_force import keep

        with self._one_run, self._as_writer(attempted):
            keep(self, hub=False)
            try:
                yield
            finally:
                if self._door is not None:
                    self._door.close()
                    self._door = None
                if not self.is_hub:  # which takes by itself what steps log
                    from sampan.app.spooled import take

                    with suppress(SampanError):  # it stays in the spool, for the next one
                        take(self)

    def _prepare(self) -> None:
        data = self.folder.data
        for name in ("tmp", "cache"):
            (data / name).mkdir(parents=True, exist_ok=True)
        if not (data / "format").exists():
            from sampan.base.files import write_durably

            write_durably(data / "format", f"{FORMAT}\n".encode())
        if any((data / "tmp").glob("code-*")):
            from sampan.app.worktrees import sweep

            sweep(self.folder)

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
        if (emitter := self.__dict__.get("lineage_events")) is not None:
            emitter.close()

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
    def tracking(self) -> "Tracking":
        """What runs have logged: the hub's own, to write; in any other process, to read."""
        if self._hub is not None:
            return self._hub.tracking
        from sampan.track.tracking import Tracking

        return self._part("tracking", lambda: Tracking(self.folder.data, self.clock, writable=False))

    @property
    def endpoints(self) -> "Endpoints":
        from sampan.serve.endpoints import Endpoints

        return self._part(
            "endpoints", lambda: Endpoints(self.db, self.models, self.clock, self.settings.get("load_timeout"))
        )

    @property
    def rollouts(self) -> "RolloutRecords":
        from sampan.release.records import RolloutRecords

        return self._part("rollouts", lambda: RolloutRecords(self.db, self.clock))

    @property
    def proposals(self) -> "Proposals":
        from sampan.release.proposals import Proposals

        return self._part("proposals", lambda: Proposals(self.db, self.clock))

    @property
    def engine(self) -> "Engine":
        from sampan.flow.engine import Engine

        return self._part(
            "engine",
            lambda: Engine(
                self.folder, self.db, self.lake, self.log, self.models, self.clock, self.settings, self.tells
            ),
        )

    def tells(self, uses: bool) -> Mapping[str, str]:
        """What MLflow's client in a step is told: the hub's address, or that of a door for as long as the command runs,
        which is opened for a step that is known to use it."""
        if self._hub is None and self._door is None and not uses:
            return {}
        from sampan.app.step_tracking import Door, said

        if self._hub is not None:
            return said(self._hub.url, self._hub.gate.step_secret)
        if self._door is None:
            self._door = Door(self)
        return said(self._door.url, self._door.secret)

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
