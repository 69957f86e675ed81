"""What is looked at: each kind of alert as one function from the workspace to the limits that are crossed in it.

A signal is ``over`` its limit (an alert opens, or stays open) or near it (an alert that is open stays open, none
opens). An open alert without a signal resolves. So a figure that swings around its limit makes one alert, not many.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Protocol

from sampan.log.conform import Conformity
from sampan.log.contracts import Contracts
from sampan.log.log import Log
from sampan.log.position import place
from sampan.log.rates import HOUR
from sampan.models.damages import Damage
from sampan.models.rebuilds import Rebuild
from sampan.runs.records import FAILED, RUNNING, SUCCEEDED, Runs, refusing
from sampan.watch.alerts import Breach
from sampan.watch.damaging import damaged
from sampan.watch.exposing import Holding, capped
from sampan.watch.limits import SECOND, Limits
from sampan.watch.look import Memory, Signal
from sampan.watch.rebuilding import failing
from sampan.watch.releasing import Trouble, waiting
from sampan.watch.reviewing import Unanswered, unanswered
from sampan.watch.shadowing import crashing
from sampan.watch.straying import Strays, straying

_LOOKED_AT: Final = 1_000  # quarantined items that are read to find the most frequent reason
_PEOPLE: Final = ("fix:", "command")  # producers that are not expected to go on


class Served(Protocol):
    """How one endpoint is doing."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def error(self) -> str: ...
    @property
    def silent(self) -> str: ...


class Sight(Protocol):
    """What a look sees. The hub makes it; it is asked from the watch's own thread."""

    @property
    def log(self) -> Log: ...
    @property
    def runs(self) -> Runs: ...
    @property
    def contracts(self) -> Contracts: ...
    @property
    def data(self) -> Path: ...
    def now(self) -> int: ...
    def conformities(self) -> Mapping[str, Conformity]: ...
    def endpoints(self) -> list[Any]: ...
    def log_fault(self) -> str: ...
    def sealing_fault(self) -> str: ...
    def rebuilds(self) -> Sequence[Rebuild]: ...
    def troubles(self) -> Sequence[Trouble]: ...
    def unanswered(self) -> Sequence[Unanswered]: ...
    def held(self) -> Sequence[Holding]: ...
    def damages(self) -> Sequence[Damage]: ...
    def strays(self) -> Strays | None: ...
    def followers(self) -> Sequence[Any]: ...


def quarantined(sight: Sight, limits: Limits, memory: Memory) -> Iterator[Signal]:
    """Producers of whose events too many break their contract."""
    since = sight.now() - round(limits.quarantined_window * SECOND)
    sent: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for rate in sight.log.rates.window(since):
        sent[rate.producer] += rate.accepted + rate.duplicate + rate.quarantined
        held[rate.producer] += rate.quarantined
    for producer, number in held.items():
        share = number / sent[producer] if number else 0.0
        if share > limits.quarantined_share / 2 and not producer.startswith(_PEOPLE[0]):
            over = share > limits.quarantined_share and sent[producer] >= limits.quarantined_events
            minutes = limits.quarantined_window / 60
            reason = f"{number:,} of {sent[producer]:,} events within {minutes:.3g} minutes ({_percent(share)})"
            yield Signal(
                "quarantined",
                producer,
                over,
                share,
                reason,
                _quarantined(sight, limits, producer, since, reason, share),
            )


def _quarantined(
    sight: Sight, limits: Limits, producer: str, since: int, reason: str, share: float
) -> Callable[[], Breach]:
    def make() -> Breach:
        faults: Counter[tuple[str, str, str]] = Counter()
        examples: dict[tuple[str, str, str], str] = {}
        for name, reader in sight.log.readers().items():
            for looked, item in enumerate(reader.held(newest_first=True)):
                if item.received < since or looked >= _LOOKED_AT:
                    break
                if item.producer == producer and (said := item.complaint) is not None:
                    fault = (said.reason, said.path, said.type or "")
                    faults[fault] += 1
                    examples.setdefault(fault, place(name, item.number))
        most = faults.most_common(1)
        (why, path, kind), number = most[0] if most else (("its contract", "$", ""), 0)
        what = f"{kind} events" if kind else "what it sends"
        others = len(faults) - 1
        more = f"; {others} other reasons" if others > 1 else "; one other reason" if others else ""
        example = examples.get((why, path, kind), "")
        return Breach(
            kind="quarantined",
            about=producer,
            title=f"{_percent(share)} of what {producer} sends is quarantined",
            reason=reason,
            cause=f"{why} at {path} in {what} ({number:,} of those looked at{more})",
            evidence=f"/quarantine/{example}" if example else "/quarantine",
            action=f"Compare the example with its contract and mend {producer}; `sampan quarantine fix` does the rest.",
            owner=owner_of(sight.contracts, kind),
            producer=producer,
            type=kind,
            field=path,
            example=example,
            value=share,
            bound=limits.quarantined_share,
        )

    return make


def silent(sight: Sight, limits: Limits, memory: Memory) -> Iterator[Signal]:
    """Producers that used to send and do not any more: silent for longer than ever, given how regular they were."""
    if not limits.silence:
        return
    now = sight.now()
    hours: dict[str, set[int]] = {}
    sent: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {}
    for rate in sight.log.rates.by_hour(now - round(limits.silence_baseline * SECOND)):
        hours.setdefault(rate.producer, set()).add(rate.hour)
        sent[rate.producer] += rate.accepted + rate.duplicate + rate.quarantined
        kinds.setdefault(rate.producer, Counter())[rate.type] += rate.accepted
    for producer, last in sight.log.rates.last().items():
        times = sorted(hours.get(producer, ()))
        if len(times) < 3 or sent[producer] < limits.silence_events or producer.startswith(_PEOPLE):
            continue
        longest = max(b - a - HOUR for a, b in pairwise(times))
        allowed = max(round(limits.silence * SECOND), round(limits.silence_gaps * longest))
        quiet = now - last
        regular = times[-1] - times[0] >= allowed  # it was at it for longer than we would let it be silent
        if regular and quiet > allowed:
            reason = f"nothing for {_span(quiet)}; its longest pause before was {_span(longest)}"
            kind = kinds[producer].most_common(1)[0][0]
            breach = Breach(
                kind="silent",
                about=producer,
                title=f"{producer} has stopped sending",
                reason=reason,
                cause="the producer is down, cannot reach the hub, or its token has expired",
                evidence="/contracts",
                action=f"See whether {producer} runs and what it says of the hub; `sampan token list` shows its token.",
                owner=owner_of(sight.contracts, kind),
                producer=producer,
                type=kind,
                value=quiet / SECOND,
                bound=allowed / SECOND,
            )
            yield Signal.of(breach)


def failed_runs(sight: Sight, limits: Limits, memory: Memory) -> Iterator[Signal]:
    """Targets whose newest finished run failed."""
    seen: set[str] = set()
    going: set[str] = set()
    for run in sight.runs.newest() if limits.failed_runs else ():
        if run.target in seen:
            continue
        if run.state == RUNNING:
            going.add(run.target)
            continue
        seen.add(run.target)
        if run.state == FAILED:
            about = run.target or "everything"
            yield Signal(
                "run_failed", about, run.target not in going, 1.0, run.error[:300], _failed_run(sight, run, about)
            )
        if run.state == SUCCEEDED and not run.target:
            return  # a run of everything made good whatever failed before


def _failed_run(sight: Sight, run: Any, about: str) -> Callable[[], Breach]:
    def make() -> Breach:
        broken = [step for step in sight.runs.steps(run.id) if step.state == FAILED]
        names = ", ".join(step.name for step in broken)
        checks = refusing(broken)
        title = f"A run of {about} failed" + (f" at {names}" if names else "")
        action = f"Read the log of {broken[0].name if broken else 'the run'}, mend it, and `sampan run` again."
        if checks:
            title = f"The check{'s' if len(checks) > 1 else ''} {names} refused a run of {about}"
            action = "Nothing was published. Mend what was refused or undo the change, then `sampan run` again."
        said = next((step.error.strip().splitlines()[-1] for step in broken if step.error.strip()), run.error)
        return Breach(
            kind="run_failed",
            about=about,
            title=title,
            reason=(run.error.strip().splitlines() or ["it failed"])[0][:300],
            cause=said[:300] or "its log says more",
            evidence=f"/runs/{run.id}",
            action=action,
            owner=run.actor,
            field=broken[0].name if broken else "",
            example=run.id,
            value=1.0,
        )

    return make


def endpoints(sight: Sight, limits: Limits, memory: Memory) -> Iterator[Signal]:
    """Endpoints that do not answer, or whose model does not."""
    served: list[Served] = sight.endpoints() if limits.endpoint_down >= 0 else []
    now = time.monotonic()
    memory.down = {one.name: memory.down.get(one.name, now) for one in served if one.state == "down"}
    for one in served:
        if one.silent:
            yield _silent(one)
        elif one.state in ("down", "starting"):
            lasted = now - memory.down.get(one.name, now)
            over = one.state == "down" and lasted >= limits.endpoint_down
            said = (one.error.strip().splitlines() or ["its serving process ended"])[-1][:300]
            breach = Breach(
                kind="endpoint_down",
                about=one.name,
                title=f"The endpoint {one.name} does not answer",
                reason=f"down for {lasted:.0f} s and started again without success",
                cause=said,
                evidence="/endpoints",
                action=f"Deploy what served before: `sampan endpoint show {one.name}` lists it.",
                example=one.name,
                value=lasted,
                bound=limits.endpoint_down,
            )
            yield Signal.of(breach, over)


def _silent(one: Served) -> Signal:
    breach = Breach(
        kind="endpoint_down",
        about=one.name,
        title=f"The model of the endpoint {one.name} does not answer",
        reason="what its rules declare for that answers in its place, and every answer says so",
        cause=one.silent.strip().splitlines()[-1][:300],
        evidence=f"/endpoints/{one.name}",
        action=f"Deploy another version, or go back: `sampan rollback {one.name}`.",
        example=one.name,
        value=1.0,
    )
    return Signal.of(breach)


def disk(sight: Sight, limits: Limits, memory: Memory) -> Iterator[Signal]:
    """A disk that is nearly full."""
    usage = shutil.disk_usage(sight.data)
    share = usage.free / usage.total if usage.total else 1.0
    if share < limits.disk_free * 1.2:
        reason = f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.0f} GB are free ({share:.1%})"
        breach = Breach(
            kind="disk",
            about="data",
            title="The disk of the workspace is nearly full",
            reason=reason,
            cause="the log, the tables or something else on the same disk has grown",
            evidence="/tables",
            action="Free space or move the workspace; when the disk is full, events are refused.",
            value=share,
            bound=limits.disk_free,
        )
        yield Signal.of(breach, share < limits.disk_free)


def log_faults(sight: Sight, limits: Limits, memory: Memory) -> Iterator[Signal]:
    """A log that takes no events, or that cannot be read."""
    if fault := sight.log_fault():
        breach = Breach(
            kind="log_fault",
            about="intake",
            title="The log takes no events",
            reason=fault[:300],
            cause="the disk failed or is full, and nothing is acknowledged that might be lost",
            evidence="/settings",
            action="Check the disk (its messages, its space), then restart the hub; clients send again by themselves.",
            example=fault[:100],
            value=1.0,
        )
        yield Signal.of(breach)
    if memory.damage:
        damaged = Breach(
            kind="log_fault",
            about="damage",
            title="The log is damaged",
            reason=memory.damage[:300],
            cause="bytes on the disk are not those that were written",
            evidence="/log",
            action="Run `sampan log verify`: it names the file and the byte; restore that file from a backup.",
            example=memory.damage.partition(":")[0],
            value=1.0,
        )
        yield Signal.of(damaged)


def sealing(sight: Sight, limits: Limits, memory: Memory) -> Iterator[Signal]:
    """A segment that cannot be sealed."""
    if limits.sealing and (fault := sight.sealing_fault()):
        breach = Breach(
            kind="sealing",
            about="intake",
            title="A segment of the log cannot be sealed",
            reason=fault.splitlines()[0][:300],
            cause=fault.splitlines()[-1][:300],
            evidence="/settings",
            action="Run `sampan log verify`. Nothing is lost: sealing is tried again at the next start.",
            example=fault.partition(":")[0],
            value=1.0,
        )
        yield Signal.of(breach)


def differing(sight: Sight, limits: Limits, memory: Memory) -> Iterator[Signal]:
    """Types of event whose sources do not mean the same by it."""
    for type, found in sight.conformities().items() if limits.conform else ():
        if found.differs:
            first, more = found.differs[0], len(found.differs) - 1
            who = ", ".join(first.sources)
            reason = f"{first.field} from {who} {first.text}"
            breach = Breach(
                kind="differs",
                about=type,
                title=f"{type} from {who} differs from what the others send",
                reason=reason[:300],
                cause="its producer has another unit, spelling or clock" + (f"; {more} more differ" if more else ""),
                evidence=f"/contracts/{type}",
                action=f"Look at the example, mend {who}; then `sampan log conform {type}`.",
                owner=owner_of(sight.contracts, type),
                producer=who,
                type=type,
                field=first.field,
                example=first.example,
                value=float(len(found.differs)),
            )
            yield Signal.of(breach)


Look = Callable[[Sight, Limits, Memory], Iterator[Signal]]

#: The kinds of alerts, each with what finds it.
LOOKS: Final[Mapping[str, Look]] = {
    "quarantined": quarantined,
    "silent": silent,
    "differs": differing,
    "run_failed": failed_runs,
    "endpoint_down": endpoints,
    "disk": disk,
    "log_fault": log_faults,
    "sealing": sealing,
    "rebuild_failed": failing,
    "rollout": waiting,
    "review": unanswered,
    "exposure": capped,
    "damaged": damaged,
    "outcomes": straying,
    "shadow": crashing,
}


def owner_of(contracts: Contracts, type: str) -> str:
    """Who answers for a type of event, as its contract says."""
    if type not in contracts:
        return ""
    return str(getattr(contracts.contract(type).spec, "owner", "") or "")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _span(micros: float) -> str:
    minutes = micros / 60 / SECOND
    if minutes < 100:
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.0f} hours" if minutes < 4_320 else f"{minutes / 1_440:.0f} days"
