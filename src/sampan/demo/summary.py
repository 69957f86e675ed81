"""What the demo came to: for people as text, for machines as one line of JSON."""

from collections.abc import Iterable
from typing import Any

import msgspec

from sampan.demo.figures import Month


class Leak(msgspec.Struct):
    """The attempt to train on a feature that knows the future."""

    refused: bool
    auc: float
    honest_auc: float
    reason: str


class WhatIf(msgspec.Struct):
    """The replay of another rule over the year: decisions that would have been others, and what they are worth."""

    replay: str
    decisions: int
    differ: int
    difference: float
    low: float
    high: float
    currency: str


class Figure(msgspec.Struct):
    """A figure of the model of spring, and how much better one that is trained anew is, between bounds that hold at all
    looks at once; None where that is not known."""

    verdict: str
    before: float | None
    gain: float | None
    low: float | None
    high: float | None


class Rehearsed(msgspec.Struct):
    """A rollout over a span of the past. ``phase``, ``why``, ``at``: what its plan would have come to, and when;
    ``figures``: over all decisions of the span."""

    id: str
    span: str
    decisions: int
    phase: str
    why: str
    at: str
    figures: dict[str, Figure]

    @staticmethod
    def figure(look: dict[str, Any]) -> Figure:
        """A figure as a hub tells it."""
        return Figure(look["verdict"], look["champion"], look["gain"], look["low"], look["high"])


class Summary(msgspec.Struct):
    """``--json`` prints this as its last line.

    ``sent`` counts every event offered to intake: order lines, cancelled lines, repeated uploads and outcomes. It is
    the sum of the four verdicts. ``value_by_month`` is money per 1,000 decisions. ``planted`` is what was
    said of prices in pence. ``seconds`` is the whole demo.
    """

    sent: int
    accepted: int
    duplicate: int
    quarantined: int
    refused: int
    auc_by_month: dict[str, float | None]
    brier_by_month: dict[str, float]
    value_by_month: dict[str, float]
    versions: list[str]
    root: str
    seconds: float
    workspace: str
    decisions: int = 0
    rows: dict[str, int] = {}
    quarantine: dict[str, int] = {}
    rules: dict[str, int] = {}
    planted: str = ""
    leak: Leak | None = None
    what_if: WhatIf | None = None
    rehearsals: list[Rehearsed] = []
    prediction: str = ""
    stages: dict[str, float] = {}
    latency_ms: dict[str, float] = {}
    url: str = ""


def month_line(month: str, found: Month, currency: str) -> str:
    auc = "  –  " if found.auc is None else f"{found.auc:.3f}"
    return (
        f"  {month}  {found.decisions:>9,}  {found.returned:>8.0%}  {auc:>5}  {found.brier:>5.3f}  "
        f"{currency} {found.value:>7,.0f}"
    )


def heading() -> str:
    return "  month    decisions  returned    AUC  Brier  per 1,000 decisions"


def told(found: WhatIf) -> str:
    """A replay in one line."""
    return (
        f"{found.differ:,} of {found.decisions:,} decisions would have been others, worth {found.difference:+,.0f}"
        f" {found.currency} (95 % between {found.low:+,.0f} and {found.high:+,.0f})"
    )


def rehearsed_lines(one: Rehearsed) -> Iterable[str]:
    """A rehearsal: what its plan would have come to, then its figures."""
    ended = {"full": "would have been promoted", "reverted": "would have been taken back"}.get(
        one.phase, "would not have been promoted"
    )
    yield f"  {one.span}: {ended} ({one.at}): {one.why}"
    for name, found in one.figures.items():
        label, unit, scale = ("value", " GBP per 1,000", 1000.0) if name == "KPI" else (name, "", 1.0)
        if found.gain is None or found.before is None or found.low is None or found.high is None:
            yield f"    all {one.decisions:,} decisions, {label}: {found.verdict}"
            continue
        sign = 1.0 if name == "KPI" else -1.0
        shares = [100 * part / found.before for part in (found.gain, found.low, found.high)]
        yield (
            f"    all {one.decisions:,} decisions, {label}: {found.before * scale:,.3g} →"
            f" {(found.before + sign * found.gain) * scale:,.3g}{unit}, better by {shares[0]:+.1f} %"
            f" ({shares[1]:+.1f} to {shares[2]:+.1f}): {found.verdict}"
        )


def lines(found: Summary) -> Iterable[str]:
    """The summary as text."""
    yield "Events"
    for name in ("sent", "accepted", "duplicate", "quarantined", "refused"):
        yield f"  {name:<12} {getattr(found, name):>9,}"
    for reason, count in found.quarantine.items():
        yield f"    {count:>7,}  {reason}"
    yield "Tables"
    for name, rows in found.rows.items():
        yield f"  {name:<16} {rows:>9,} rows"
    yield f"Decisions: {found.decisions:,}; 99 of 100 answered within {found.latency_ms.get('p99', 0):.0f} ms"
    for rule, count in found.rules.items():
        yield f"    {count:>7,}  {rule}"
    yield "Month       AUC  Brier  per 1,000 decisions"
    for month, auc in found.auc_by_month.items():
        brier, value = found.brier_by_month[month], found.value_by_month[month]
        yield f"  {month}  {'  –  ' if auc is None else f'{auc:.3f}'}  {brier:.3f}  GBP {value:,.0f}"
    if found.planted:
        yield f"Units: {found.planted}"
    if found.what_if:
        yield f"Replay: {told(found.what_if)}"
    for one in found.rehearsals:
        yield "Rollout over the past, a new model each month"
        yield from rehearsed_lines(one)
    if found.leak:
        yield f"Leak: AUC {found.leak.auc:.3f} was refused; the honest figure is {found.leak.honest_auc:.3f}"
    yield f"Versions: {', '.join(found.versions)}"
    yield f"Log root: {found.root}"
    yield "Seconds:  " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in found.stages.items())
    yield f"          {found.seconds:.1f} in all"
    yield f"Hub:      {found.url}"
    yield f"Folder:   {found.workspace}"


def to_json(found: Summary) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return round(value, 4)
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        if isinstance(value, list):
            return [plain(part) for part in value]
        return value

    return msgspec.json.encode(plain(msgspec.to_builtins(found))).decode()
