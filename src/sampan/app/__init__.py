"""Where everything is wired together, and the entry points ``sampan`` and ``sampan.table``.

``App`` does what commands and the hub ask of a workspace, with the parts of ``Workplace``. Nothing here knows how a
part works; nothing below knows that the others exist.
"""

import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sampan.app.workplace import Workplace
from sampan.base.errors import Busy, Damaged, NotFound, SampanError, Unreachable

if TYPE_CHECKING:
    from sampan.api.work import Work
    from sampan.base.traces import Traces
    from sampan.cli.client import HubClient
    from sampan.hub.pulse import Pulse
    from sampan.keep.pins import Pins
    from sampan.lake.query import Source
    from sampan.log.repairs import Told
    from sampan.log.writer import StreamWriter
    from sampan.watch.alerts import Compose

_RARELY: Final = (100_000, 20, 20)
_WORTH_SEALING: Final = 20_000  # events; reading them unsealed takes a tenth of a second, each time


def main() -> None:
    """The ``sampan`` command. Ends the process with a documented exit code, never with a bare traceback."""
    gc.set_threshold(*_RARELY)  # most of what a command makes lasts as long as it does
    from sampan.base.arrow import spare_pandas
    from sampan.cli.edge import run_command

    spare_pandas()
    code = run_command(sys.argv[1:], App)
    gc.freeze()  # the process ends: what is still there need not be looked through once more
    sys.exit(code)


class App(Workplace):
    """What commands and the hub ask of the workspace that holds ``start`` (default: the current folder)."""

    # -- what commands and the hub's /v1 routes ask for (sampan.api.work.Work)

    def _as_writer(self, attempted: str) -> AbstractContextManager[None]:
        return nullcontext() if self.db.writable else self.writing(attempted)

    @contextmanager
    def _running(self, attempted: str) -> Iterator[None]:
        """One at a time, as the writer, with what is in force written down."""
        from sampan.hub.in_force import keep

        with self._one_run, self._as_writer(attempted):
            keep(self, hub=False)
            yield

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
    def appending(
        self, attempted: str, waiting: Callable[[int], None] = lambda _: None
    ) -> Iterator[Callable[[bytes], dict[str, int]]]:
        """Append events (NDJSON) without a hub, as the one writer; gives the counts by verdict of each batch.

        At the end it waits until the segments that are full have been sealed, and the last one if there is much in it:
        each reading of one that is not sealed costs as much again. ``waiting`` is told how many there are.
        """
        with self._intake(attempted) as writer:

            def append(body: bytes) -> dict[str, int]:
                batch = writer.alone(lambda: writer.checker.read(body, lines=True))
                answer = writer.append(batch, "command")
                counts = (answer.accepted, answer.duplicate, answer.quarantined)
                return dict(zip(("accepted", "duplicate", "quarantined"), counts, strict=True))

            yield append
            last = writer.unsealed >= _WORTH_SEALING
            if backlog := writer.sealing.backlog + last:
                waiting(backlog)
                with suppress(SampanError):  # what is not sealed is not lost: it is tried again later
                    writer.seal() if last else writer.sealing.wait()

    def own_types(self) -> list[str]:
        """The types of event that the workspace declares itself."""
        return [one.type for one in self.contracts.own()]

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

    def late(self) -> Any:
        """What the next run builds of each table that is built bit by bit."""
        import msgspec

        self.contracts.check(self.db)
        return [{**msgspec.to_builtins(one), "late": len(one.late)} for one in self.engine.late()]

    def prove(self, table: str, count: int, seed: int, actor: str) -> Any:
        """Hold partitions of tables that are built bit by bit against their whole queries, and keep what came out."""
        import msgspec

        from sampan.runs.proofs import Proofs

        self.contracts.check(self.db)
        found = self.engine.prove(table, count, seed)
        with self._as_writer("Keep what a verification found"):
            for one in found:
                if not one.skipped:
                    Proofs(self.db).add(
                        one.table,
                        one.snapshot,
                        one.partitions,
                        one.compared,
                        [part.label for part in one.unequal],
                        seed=seed,
                        actor=actor,
                        clock=self.clock,
                    )
        return msgspec.to_builtins(found)

    def run(
        self,
        target: str,
        sets: dict[str, Any],
        actor: str,
        report: Callable[[Any], None],
        branch: str = "main",
        as_of: str = "",
    ) -> Any:
        """Run what has changed and publish it, on a branch, if its checks pass; ``as_of``: on what was known then."""
        known_by = self.instant(as_of) if as_of else None
        with self._running("Run the flow"):
            self.contracts.check(self.db)
            facts = {"sampan.target": target, "sampan.actor": actor, "sampan.branch": branch}
            with self._traced("run", facts, report) as tell:
                made = self.engine.run(
                    target or None, sets, on_event=tell, actor=actor, branch=branch, known_by=known_by
                )
            return {**made.json(), "exit_code": made.exit_code}

    def resume(self, run: str, rebase: bool, actor: str, report: Callable[[Any], None]) -> Any:
        """Go on with an interrupted run."""
        with self._running("Resume a run"):
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

        with self._running(f"Delete the branch {name}"):
            return msgspec.to_builtins(self.lake.delete_branch(name))

    def merge(self, branch: str, reason: str, actor: str, report: Callable[[Any], None]) -> Any:
        """Bring a branch's definitions to main: derived on the events of now, checked, published together."""
        with self._running(f"Merge {branch}"):
            self.contracts.check(self.db)
            with self._traced("merge", {"sampan.branch": branch, "sampan.actor": actor}, report) as tell:
                made = self.engine.merge(branch, on_event=tell, actor=actor, reason=reason)
            return {**made.json(), "exit_code": made.exit_code}

    def revert(self, commit: str, reason: str, actor: str) -> Any:
        """Undo a commit of main by another one."""
        import msgspec

        with self._running(f"Revert {commit}"):
            return msgspec.to_builtins(self.lake.revert(commit, actor=actor, reason=reason))

    def plan_replay(self, request: dict[str, Any]) -> Any:
        """What a replay would do, and what that would take."""
        import msgspec

        from sampan.app.replaying import Replaying
        from sampan.app.worktrees import checked_out
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
        with self._running("Replay the log"):
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

        with self._running(f"Approve replay {id}"):
            self.contracts.check(self.db)
            with self._traced("merge", {"sampan.replay": id, "sampan.actor": actor}, report) as tell:
                _, made, deploy = approve(self, id, reason, actor, tell)
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

        with self._running(f"Discard replay {id}"):
            return msgspec.to_builtins(discard(self, id, actor))

    def impact(self, request: dict[str, Any], actor: str, report: Callable[[Any], None]) -> Any:
        """Measure what a change of data is worth to a model; None where there is nothing to measure."""
        import msgspec

        from sampan.runs.impacts import ImpactRequest

        asked = msgspec.convert(request, ImpactRequest)
        attempted = f"Measure what {asked.candidate} is worth to {asked.step}"
        with self._running(attempted):
            self.contracts.check(self.db)
            facts = {"sampan.target": asked.step, "sampan.branch": asked.candidate, "sampan.actor": actor}
            with self._traced("impact", facts, report) as tell:
                return msgspec.to_builtins(self.engine.measure(asked, on_event=tell, actor=actor))

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
        """Remove what nothing keeps, or say what would go. Runs wait until it has ended, and it for them. One that
        removed something, or could not, is written down."""
        import msgspec

        from sampan.keep.clean import Cleaner
        from sampan.keep.cleanups import Cleanups
        from sampan.keep.retention import read_retention

        retention, data = read_retention(self.folder.config()), self.folder.data
        if not apply:
            return msgspec.to_builtins(Cleaner(self.db, data, self.clock, retention).preview())
        with self._running("Clean up"), self._settled("Clean up"):
            try:
                done = Cleaner(self.db, data, self.clock, retention).apply(lambda step: report(_plain(step)), actor)
            except Damaged as error:
                Cleanups(self.db, self.clock).failed(actor, f"{error.obstacle}. {error.advice}")
                raise
            return msgspec.to_builtins(done)

    @property
    def busy(self) -> bool:
        """Whether a run, a merge, a replay or a clean-up is going on in this process."""
        return self._one_run.locked()

    def backup(self, to: Path, keys: bool = True) -> Any:
        """Copy all that cannot be derived again, and what has been derived, while the hub goes on."""
        import msgspec

        from sampan.keep.backup import Backup
        from sampan.keep.retention import read_retention

        with self._settled("Back up"):
            made = Backup(self.folder, self.db, self.log, self.clock, read_retention(self.folder.config()), to)
            return msgspec.to_builtins(made.make(keys=keys))

    def publish_tables(self, names: list[str], ref: str, to: Path | None, told: Callable[[Any], None]) -> list[str]:
        """Publish tables (all of the ref, if none is named) as Apache Iceberg. It writes files and no records.

        ``told`` hears of each. Of all those that Iceberg cannot hold are left out; gives why. Raises for one by name.
        """
        import msgspec

        from sampan.base.errors import Refused
        from sampan.keep.retention import read_retention
        from sampan.lake.publish import Publications

        publications, retention = Publications(self.folder.data), read_retention(self.folder.config())
        left_out = []
        with self._settled("Publish tables"):
            for name in names or sorted(self.lake.names(ref)):
                try:
                    made = publications.publish(self.lake, name, ref, to, clock=self.clock, retention=retention.commits)
                except Refused as error:
                    if names:
                        raise
                    left_out.append(str(error))
                else:
                    told(msgspec.to_builtins(made))
        return left_out

    def unpublish_table(self, name: str, to: Path | None) -> list[str]:
        """Take a table's publications away; gives their folders."""
        from sampan.lake.publish import Publications

        with self._settled(f"Unpublish {name}"):
            return list(Publications(self.folder.data).remove(name, to))

    def publications(self) -> Any:
        """What is published as Apache Iceberg, and where."""
        from sampan.lake.publish import Publications

        known = Publications(self.folder.data)
        return [
            {"table": one.table, "branch": one.branch, "folder": str(known.folder(one)), "snapshots": list(one.files)}
            for one in known.list()
        ]

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
        """Around a run: a span for it and one for each of its steps, its lineage, and ``report`` told of all of it."""
        from sampan.app.lineage import telling

        with self.traces.span(name, facts) as span, telling(self, report) as lineage:

            def tell(event: Any) -> None:
                report(_plain(event))
                if span is not None:
                    _trace(self.traces, span, event)
                lineage(event)

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

    def tokens(self, as_of: str = "") -> Any:
        """Tokens without their secrets, as they are or as they were at a time."""
        import msgspec

        from sampan.base.clock import SystemClock
        from sampan.team.tokens import Tokens

        then = self.instant(as_of) if as_of else None
        return {"tokens": msgspec.to_builtins(Tokens(self.db, SystemClock()).list(then)), "as_of": then}

    def serving_state(self, name: str) -> str:
        """How an endpoint is doing, as far as this process knows."""
        return self._hub.state_of(name) if self._hub is not None else "unknown"

    @property
    def pulse(self) -> "Pulse | None":
        """How many events come in per second, which only a running hub knows."""
        return self._hub.pulse if self._hub is not None else None

    def sql(self, query: str, run: str = "", limit: int = 0, ref: str = "main", as_of: str = "") -> Any:
        """Answer a question of a branch or commit, or of a branch as of a time; at most ``limit`` rows (0: all)."""
        from sampan.lake.read import query as ask

        extra: dict[str, Source] = {**self.engine.sources(run)} if run else {}
        known_by = self.instant(as_of) if as_of else None
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

    def page_file(self, path: str, as_of: str = "") -> str:
        """The page at a path as a file that stands alone: HTML with its look in it; ``as_of``: as it was then."""
        if self.remote and (hub := self.hub()):
            return str(hub.text(path, {"format": "file", "as-of": as_of}))
        from sampan.hub.render import Frame, saved
        from sampan.hub.sitemap import find, seen

        page, named = find(path)
        context = seen(self, page, {**named, "as-of": as_of})
        frame = Frame(workspace=self.folder.root.name, then=as_of)
        address = self.settings.get("public_url").rstrip("/")
        return saved(page.template, context, frame, self.clock.micros(), address)

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
        from sampan.hub.in_force import keep
        from sampan.hub.server import bind, serve
        from sampan.keep.retention import read_retention
        from sampan.runs.replays import Replays

        check_exposure(host, self.settings, self.db)
        from sampan.base.journal import set_up

        set_up(self.settings.get("log_level"), self.settings.get("log_format"))
        self.tellers()  # what is wrong in [alerts], or in where lineage goes, is said before anything starts
        self.lineage_events  # noqa: B018
        read_retention(self.folder.config())
        forego_pandas()
        with self.writing("Start the hub"):
            self.contracts.register(self.db, self.clock)
            keep(self, hub=True)
            self.runs.interrupt(
                (), self.clock.micros()
            )  # what the process before this one did not end, nobody carries on
            Replays(self.db).interrupt(self.clock.micros())
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
    elif event.state in ("ran", "cached", "warned", "failed"):
        facts = {"sampan.run": event.run, "sampan.step": event.step, "sampan.state": event.state}
        if event.part:
            facts["sampan.part"] = event.part
        error = (event.message or "it failed") if event.state == "failed" else ""
        traces.past(f"step {event.step}", event.seconds, facts, error)
