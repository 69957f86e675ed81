"""What a run would do now, and why, before anybody sets it going."""

import msgspec

from sampan.hub.parts import Parts, Query
from sampan.runs.records import Runs


class PlanLine(msgspec.Struct):
    """A step and what would become of it: ``ran`` or ``cached``. ``seconds`` is what it took last time; ``certain`` is
    false where an equal input may still spare it."""

    name: str
    kind: str
    state: str
    why: str
    seconds: float
    certain: bool
    needs: tuple[str, ...]
    flags: list[str]


class PlanPage(msgspec.Struct):
    """Context of ``plan.html``. ``seconds`` and ``cost`` go by what the steps took last time, one after the other."""

    target: str
    targets: list[str]
    steps: list[PlanLine]
    would_run: int
    seconds: float
    cost: float
    currency: str
    running: str
    publishes: list[str]


def plan(parts: Parts, query: Query) -> PlanPage:
    """The plan for a target, or for everything."""
    target = str(query.get("target", "")).strip()
    found = parts.plan(target, {})
    steps = [
        PlanLine(s["name"], s["kind"], s["state"], s["why"], s["seconds"], s["certain"], tuple(s["needs"]), s["flags"])
        for s in found["steps"]
    ]
    records = Runs(parts.db)
    last = next(iter(records.list(1)), None)
    prices = last.manifest.get("prices", {}) if last is not None else {}
    busy = [step for step in steps if step.state != "cached"]
    seconds = sum(step.seconds for step in busy)
    return PlanPage(
        target=target,
        targets=[step.name for step in steps] if not target else [target],
        steps=steps,
        would_run=len(busy),
        seconds=seconds,
        cost=seconds / 3600 * float(prices.get("this_machine_per_hour") or 0.0),
        currency=str(prices.get("currency", "")),
        running=last.id if last is not None and last.state == "running" else "",
        publishes=found["publishes"],
    )
