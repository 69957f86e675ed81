"""What becomes of a replay: begun or gone on with, approved or discarded."""

from typing import TYPE_CHECKING

import msgspec

from sampan.app.replaying import Replaying, Told
from sampan.app.worktrees import checked_out
from sampan.base.errors import Refused, SampanError, Usage
from sampan.base.ids import new_id
from sampan.lake.history import MAIN
from sampan.runs.records import SUCCEEDED
from sampan.runs.replays import APPROVED, DISCARDED, DONE, FAILED, RUNNING, Replay, ReplayRequest, Replays

if TYPE_CHECKING:
    from sampan.app.workplace import Workplace
    from sampan.flow.outcome import RunResult


def begin(app: "Workplace", request: ReplayRequest, actor: str, told: Told, id: str = "") -> Replay:
    """Replay, on a branch of its own, and keep the report; with the ``id`` of one that was interrupted, go on."""
    replays = Replays(app.db)
    before = replays.get(id) if id else None
    if before is not None and before.state not in (RUNNING, FAILED):
        raise Usage(f"Resume replay {before.id}", f"it is {before.state}", "`sampan replay` begins a new one.")
    request = before.request if before else request
    with checked_out(app, request.code) as code:
        replaying = Replaying(app, request, code, before.plan if before else None)
        plan = replaying.plan()
        if before is not None and before.plan["definition"] != plan.definition:
            raise Refused(
                f"Resume replay {before.id}",
                "the code is not the one that it began with",
                "Put it back, or begin a new one: `sampan replay`.",
            )
        made = before or Replay(
            new_id(app.clock), "", RUNNING, request, msgspec.to_builtins(plan), {}, "", actor, app.clock.micros()
        )
        branch = made.branch or f"replay-{made.id}"
        with app.db.transaction():
            if not before:
                app.lake.branch(branch, actor=actor, reason=request.reason or f"replay with {plan.code}")
            made = replays.put(
                msgspec.structs.replace(made, branch=branch, state=RUNNING, error=""), app.clock.micros()
            )
        told({"run": made.id, "step": "", "state": "started", "message": f"replay {made.id} on {branch}"})
        try:
            report = replaying.run(made.id, branch, plan, actor, told)
        except BaseException as error:
            said = error.obstacle if isinstance(error, SampanError) else type(error).__name__
            now = app.clock.micros()
            replays.put(msgspec.structs.replace(made, state=FAILED, error=said, finished=now), now)
            raise
    state = DONE if report.state == SUCCEEDED else FAILED
    found = msgspec.to_builtins(report)
    now = app.clock.micros()
    return replays.put(msgspec.structs.replace(made, state=state, report=found, error=report.error, finished=now), now)


def approve(
    app: "Workplace", id: str, reason: str, actor: str, told: Told
) -> tuple[Replay, "RunResult | None", list[str]]:
    """Merge a replay's branch into main; gives the run that did (None if rules alone changed), and the commands which
    put changed rules in force, a release of its own.

    Raises Usage for a replay that has no report, Refused for a workspace that is not as it was replayed, and what a
    merge raises.
    """
    replays = Replays(app.db)
    found = replays.get(id)
    attempted = f"Approve replay {found.id}"
    if found.state != DONE:
        raise Usage(attempted, f"it is {found.state}", "Only one that is done can be approved.")
    now = Replaying(app, found.request, app.folder)
    rules = [name for name in found.plan["changed"] if name.endswith(".py")]
    thresholds = [name for name in found.request.sets if name not in now._sets]
    merging = app.engine.merging(found.branch)
    result = None
    own = merging.tables or merging.models or any(one.where != MAIN for one in merging.definitions)
    if own or not (rules or thresholds):
        result = app.engine.merge(found.branch, on_event=told, actor=actor, reason=reason or f"replay {found.id}")
        if result.state != SUCCEEDED:
            return found, result, []
    elif found.plan["definition"] != now.definition():
        raise Refused(attempted, "the rules in the workspace are not those that were replayed", "Put them in place.")
    with app.db.transaction():
        app.lake.delete_branch(found.branch)
        found = replays.put(msgspec.structs.replace(found, state=APPROVED), app.clock.micros())
    sets = "".join(f" --set {name.rpartition('.')[2]}={found.request.sets[name]}" for name in thresholds)
    endpoints = [one["endpoint"] for one in found.report["decisions"]] if rules or thresholds else []
    return found, result, [f"sampan endpoint deploy {name}{sets}" for name in endpoints]


def discard(app: "Workplace", id: str, actor: str) -> Replay:
    """Drop a replay's branch; its report stays. Raises Usage for one that was approved."""
    replays = Replays(app.db)
    found = replays.get(id)
    if found.state in (APPROVED, DISCARDED):
        raise Usage(f"Discard replay {found.id}", f"it is {found.state}", "`sampan replay list` shows the others.")
    if found.branch in app.lake.branches():
        app.lake.delete_branch(found.branch)
    return replays.put(msgspec.structs.replace(found, state=DISCARDED), app.clock.micros())
