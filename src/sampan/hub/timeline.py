"""The steps of a run on one line of time, as bars to draw."""

from collections.abc import Sequence
from typing import Final

import msgspec

from sampan.runs.records import StepRun

_THIN: Final = 0.004  # of the whole width: a bar that can still be seen


class Span(msgspec.Struct):
    """One step: where its bar begins and how long it is, as shares of the whole, and what it took in seconds."""

    name: str
    state: str
    start: float
    share: float
    seconds: float


class Timeline(msgspec.Struct):
    """``measured``: bars begin when their steps did. A time-lapse's clock stands still; then each begins when what it
    needs was done."""

    seconds: float
    measured: bool
    spans: list[Span]


def timeline(steps: Sequence[StepRun], now: int | None = None) -> Timeline | None:
    """Steps that ran, in the order in which they began; None if none did. ``now``: where those end that still run."""
    ran = [step for step in steps if step.started is not None and (step.seconds > 0 or step.state == "running")]
    if not ran:
        return None
    first = min(step.started or 0 for step in ran)
    measured = len(ran) == 1 or any(step.started != first for step in ran)
    ends: dict[str, float] = {}
    rows = []
    for step in ran:
        took = step.seconds
        if not took and now is not None:
            took = max(0.0, (now - (step.started or now)) / 1e6)
        begin = ((step.started or first) - first) / 1e6
        if not measured:
            begin = max((ends.get(need, 0.0) for need in step.needs), default=0.0)
        ends[step.name] = begin + took
        rows.append((step, begin, took))
    whole = max(ends.values()) or 1.0
    rows.sort(key=lambda row: row[1])
    spans = [
        Span(step.name, step.state, round(begin / whole, 5), round(max(took / whole, _THIN), 5), took)
        for step, begin, took in rows
    ]
    return Timeline(whole, measured, spans)
