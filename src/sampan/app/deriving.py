"""What commands and the hub ask about deriving: runs, branches, replays, the worth of a change of data."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sampan.app.workplace import Workplace

if TYPE_CHECKING:
    from sampan.base.traces import Traces


class Deriving(Workplace):
    """Plans and runs the flow, on main, on branches and in replays."""

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

    def plan_explanation(self, request: dict[str, Any]) -> Any:
        """What it would take to say why metrics differ between two runs."""
        import msgspec

        from sampan.app.explaining import Explaining
        from sampan.runs.explanations import ExplainRequest

        asked = msgspec.convert(request, ExplainRequest)
        with Explaining(self, asked).opened() as explaining:
            return msgspec.to_builtins(explaining.plan())

    def explain(self, request: dict[str, Any], actor: str, report: Callable[[Any], None]) -> Any:
        """Say why metrics differ between two runs, and keep it; None where no metric of a model differs."""
        import msgspec

        from sampan.app.explaining import Explaining
        from sampan.runs.explanations import ExplainRequest

        asked = msgspec.convert(request, ExplainRequest)
        with self._running(f"Explain what differs from run {asked.before} to {asked.after}"):
            explaining = Explaining(self, asked)
            if not explaining.models:
                return None
            with explaining.opened():
                return msgspec.to_builtins(explaining.run(actor, report))

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
