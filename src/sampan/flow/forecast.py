"""How long a run will take, learned from the runs on record: what each step took, and what runs cost beside them."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Final

from sampan.flow.plan import RAN, Plan
from sampan.runs.records import SUCCEEDED, Runs, StepRun

_LEARNED_FROM: Final = 20
_UNKNOWN: Final = 1.0  # seconds of a step that never ran
_BESIDE: Final = 1.0  # seconds of a run beside its steps, where none is on record


def forecast(plan: Plan, runs: Runs, workers: int) -> float:
    """Seconds until the end of a run: its steps as long as they took last time, side by side as far as they may."""
    would = [step for step in plan.steps if step.state == RAN]
    if not would:
        return 0.0
    seconds = {step.name: step.seconds or _UNKNOWN for step in would}
    return span(seconds, {step.name: step.needs for step in would}, workers) + beside(runs, workers)


def beside(runs: Runs, workers: int) -> float:
    """What runs took beside their steps: starting workers, looking at sources, publishing. The median of the newest."""
    found = []
    for run in runs.list(_LEARNED_FROM):
        steps = [step for step in runs.steps(run.id) if step.state == RAN]
        if run.state == SUCCEEDED and steps and not run.manifest.get("resumed"):
            found.append(max(0.0, float(run.manifest.get("seconds", 0.0)) - _took(steps, workers)))
    return median(found) if found else _BESIDE


def _took(steps: Sequence[StepRun], workers: int) -> float:
    return span({step.name: step.seconds for step in steps}, {step.name: step.needs for step in steps}, workers)


def span(seconds: Mapping[str, float], needs: Mapping[str, Iterable[str]], workers: int) -> float:
    """When the last of some steps ends, if so many may run at once and each waits for what it needs."""
    waits = {name: {need for need in needs[name] if need in seconds} for name in seconds}
    ready = [name for name in seconds if not waits[name]]
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            name = ready.pop(0)
            heapq.heappush(running, (now + seconds[name], name))
        now, done = heapq.heappop(running)
        for name, left in waits.items():
            if done in left:
                left.discard(done)
                if not left:
                    ready.append(name)
    return now
