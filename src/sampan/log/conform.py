"""Whether sources that send the same type of event mean the same by it: structure, units, habits, clocks.

What each source sent last is compared with what all others sent last, and with what it sent itself before: up to
20,000 events of each source out of the newest 200,000, read as they were sent. So the answer is the same whenever it is
asked at the same position, costs the same however long the log is, and speaks of the present. ``habits.py`` and
``scales.py`` say by which statistics.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.clock import iso, to_micros
from sampan.base.errors import SampanError, Usage
from sampan.log.contracts import Contract
from sampan.log.position import Position
from sampan.log.read import Item
from sampan.log.spec import FieldSpec
from sampan.store.database import Database

if TYPE_CHECKING:
    from sampan.log.log import Log
    from sampan.log.scales import Numbers

SCAN: Final = 200_000  # newest events looked at
REACH: Final = 2_000_000  # newest items of a stream among which they are looked for
KEEP: Final = 20_000  # of each source
LEAST: Final = 100  # events that a source must have to be compared
SOURCES: Final = 20  # compared with each other, those with the most events
NEWEST: Final = 200  # events of a source that are held against those before them
PATIENCE: Final = 120
_ABSENT: Final = object()

CONFORMS: Final = "conforms"
DIFFERS: Final = "differs"
UNKNOWN: Final = "not enough to compare"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """How a source differs. ``kind``: presence, type, placeholder, spelling, form, scale, sign, shift, zone, extra.
    ``severity``: ``finding`` where two events that mean the same would differ, ``note`` where it is only worth
    knowing."""

    field: str
    sources: tuple[str, ...]
    kind: str
    text: str
    severity: str = "finding"
    example: str = ""  # position of an event that shows it


class SourceCount(msgspec.Struct, frozen=True):
    """A source and how many of its events were compared; ``enough`` says whether they were."""

    source: str
    events: int
    enough: bool


class Conformity(msgspec.Struct, frozen=True, kw_only=True):
    """What came of comparing the sources of a type at a position."""

    type: str
    by: str
    verdict: str
    sources: tuple[SourceCount, ...]
    findings: tuple[Finding, ...]
    position: str
    events: int  # of the type in the log, at that position
    since: int | None
    checked: int
    seconds: float = 0.0

    @property
    def differs(self) -> tuple[Finding, ...]:
        """The findings that are more than notes."""
        return tuple(one for one in self.findings if one.severity == "finding")


class _Told(msgspec.Struct, gc=False):
    source: str
    time: str
    data: dict[str, Any]


class _Source(msgspec.Struct, gc=False):
    source: str


class _Event(msgspec.Struct, gc=False):
    """One event of the sample; the newest come first."""

    position: str
    received: int
    time: str
    data: dict[str, Any]


def conform(log: "Log", type: str, *, by: str = "source", since: int | None = None, now: int = 0) -> Conformity:
    """Compare the sources of a type. ``by``: ``source`` as events name it, or ``producer`` as the token does;
    ``since``: only what was received from then on, in microseconds.

    Raises NotFound for an unknown type, Usage for another ``by``.
    """
    began = time.perf_counter()
    if by not in ("source", "producer"):
        raise Usage("Compare sources", f"by {by!r} is not possible", "Compare by source or by producer.")
    contract = log.contracts.contract(type)
    position = log.position()
    samples = _samples(log, contract, position, by, since)
    named = sorted(samples, key=lambda name: (-len(samples[name]), name))
    chosen = [name for name in named if len(samples[name]) >= LEAST][:SOURCES]
    findings: list[Finding] = []
    if chosen:
        findings = _Comparison(contract, {name: samples[name] for name in chosen}).findings()
    verdict = CONFORMS if len(chosen) > 1 else UNKNOWN
    if any(one.severity == "finding" for one in findings):
        verdict = DIFFERS
    return Conformity(
        type=type,
        by=by,
        verdict=verdict,
        sources=tuple(SourceCount(name, len(samples[name]), name in chosen) for name in named[:50]),
        findings=tuple(findings),
        position=str(position),
        events=log.state(type, position).count,
        since=since,
        checked=now,
        seconds=round(time.perf_counter() - began, 3),
    )


def _samples(log: "Log", contract: Contract, position: Position, by: str, since: int | None) -> dict[str, list[_Event]]:
    """The newest events of each source, newest first."""
    source_of = msgspec.json.Decoder(_Source).decode
    read = msgspec.json.Decoder(_Told).decode
    found: dict[str, list[_Event]] = {}
    for name, reader in log.readers().items():
        if not position[name]:
            continue
        last = position[name]
        for number, item in enumerate(reader.newest(last, labels=contract.labels, first=last - REACH + 1)):
            if number >= SCAN or (since is not None and item.received < since):
                break
            source = item.producer if by == "producer" else source_of(item.raw).source
            kept = found.setdefault(source, [])
            if len(kept) < KEEP and (event := _event(contract, name, item, read)) is not None:
                kept.append(event)
    if len(log.readers()) > 1:
        for kept in found.values():
            kept.sort(key=lambda event: -event.received)
    return found


def _event(contract: Contract, stream: str, item: Item, read: Callable[[bytes], _Told]) -> _Event | None:
    told = read(item.raw)
    data = told.data
    if item.label != contract.label:
        try:
            data = contract.upcast(data, int((item.label or "").rpartition("@")[2]))
        except Exception:  # noqa: BLE001 - the workspace's own upcast; whoever reads the event hears of it
            return None
    return _Event(f"{stream}:{item.number}", item.received, told.time, data)


class _Comparison:
    """The fields of a contract, one after the other, over the samples of all sources that have enough."""

    def __init__(self, contract: Contract, samples: dict[str, list[_Event]]) -> None:
        self._contract, self._samples = contract, samples

    def findings(self) -> list[Finding]:
        """All that differs, findings first."""
        found: list[Finding] = []
        for field in self._contract.spec.fields:
            found += self._field(field)
        found += self._clocks("", [])
        found += self._extra()
        return sorted(found, key=lambda one: one.severity)

    def _values(self, source: str, field: str) -> list[Any]:
        return [event.data.get(field, _ABSENT) for event in self._samples[source]]

    def _field(self, field: FieldSpec) -> list[Finding]:
        from sampan.log.habits import Column, judge, pooled
        from sampan.log.scales import difference, numbers, together

        columns = {source: Column(self._values(source, field.name)) for source in self._samples}
        if field.personal:  # only whether it is there: what it says is nobody's business here
            for column in columns.values():
                column.texts.clear()
                column.numbers.clear()
        found = self._suspects(field.name, columns, lambda one, rest: judge(one, pooled(rest)))
        if "datetime" in field.type:
            return found + self._clocks(field.name, self._lags(field.name))
        told = {source for one in found for source in one.sources}
        sized = {
            source: made
            for source, column in columns.items()
            if source not in told and (made := numbers(column.numbers)) is not None
        }
        if field.subject or not sized or all(_is_name(one, field) for one in sized.values()):
            return found
        degrees = "temp" in field.name.casefold()

        def scale(one: "Numbers", rest: "list[Numbers]") -> Any:
            other = together(rest)
            return difference(one, other, field.unit, degrees=degrees) if other is not None else None

        scaled = self._suspects(field.name, sized, scale)
        told = {source for one in scaled for source in one.sources}
        return found + scaled + self._turned(field, {s: one for s, one in sized.items() if s not in told}, degrees)

    def _turned(self, field: FieldSpec, sized: "dict[str, Numbers]", degrees: bool) -> list[Finding]:
        """Sources whose newest numbers differ from those that they sent before."""
        from sampan.log.scales import difference, numbers

        found = []
        for source, whole in sized.items():
            newest, before = numbers(whole.values[:NEWEST]), numbers(whole.values[NEWEST:])
            if newest is None or before is None or len(before.values) < NEWEST:
                continue
            if (seen := difference(newest, before, field.unit, degrees=degrees)) is not None:
                events = [event for event in self._samples[source] if field.name in event.data][:NEWEST]
                since = iso(events[-1].received)[:16].replace("T", " ")
                text = (
                    f"{seen.text}, in its newest {len(newest.values)} events (since about {since}) against those before"
                )
                found.append(self._finding(field.name, source, seen.kind, text))
        return found

    def _suspects(self, field: str, parts: dict[str, Any], differs: Callable[[Any, Any], Any]) -> list[Finding]:
        """Each source against all others, the most striking one set aside, then again: one odd source must not make
        the others look odd. Of two, the one with fewer events is the odd one."""
        left = dict(parts)
        found = []
        while len(left) > 1:
            seen = []
            for source, part in left.items():
                difference = differs(part, [other for name, other in left.items() if name != source])
                if difference is not None:
                    seen.append((round(difference.size, 1), -len(self._samples[source]), source, difference))
            if not seen:
                break
            _, _, source, difference = max(seen, key=lambda one: one[:3])
            found.append(self._finding(field, source, difference.kind, difference.text))
            del left[source]
        return found

    def _finding(self, field: str, source: str, kind: str, text: str, severity: str = "finding") -> Finding:
        sample = self._samples[source]
        example = next((event.position for event in sample if field in event.data), sample[0].position)
        return Finding(field=field, sources=(source,), kind=kind, text=text, severity=severity, example=example)

    # -- clocks

    def _lags(self, field: str) -> list[tuple[str, list[float]]]:
        found = []
        for source, events in self._samples.items():
            lags = []
            for event in events:
                value, when = _instant(event.data.get(field)), _instant(event.time)
                if value is not None and when is not None:
                    lags.append((value - when) / 1e6)
            found.append((source, lags))
        return found

    def _clocks(self, field: str, lags: list[tuple[str, list[float]]]) -> list[Finding]:
        """Sources whose instants lie whole hours beside those of others: of a field against the event's time, or of
        the event's time against the moment of receipt."""
        from sampan.log.habits import Habit
        from sampan.log.scales import zone

        if not field:
            lags = [
                (
                    source,
                    [(when - event.received) / 1e6 for event in events if (when := _instant(event.time)) is not None],
                )
                for source, events in self._samples.items()
            ]

        def differs(one: list[float], rest: list[list[float]]) -> Habit | None:
            hours = zone(one, [lag for part in rest for lag in part[:1_000]])
            if hours is None:
                return None
            what = "is" if field else "the event's time is"
            way = "ahead of" if hours > 0 else "behind"
            return Habit("zone", f"{what} {abs(hours):g} h {way} the others': local time sent as UTC?", abs(hours))

        return self._suspects(field or "time", dict(lags), differs)

    # -- fields that no contract names

    def _extra(self) -> list[Finding]:
        known = {field.name for field in self._contract.spec.fields}
        found = []
        shares: dict[str, dict[str, float]] = {}
        for source, events in self._samples.items():
            counts: dict[str, int] = {}
            for event in events:
                for key in event.data.keys() - known:
                    counts[key] = counts.get(key, 0) + 1
            shares[source] = {key: count / len(events) for key, count in counts.items()}
        for source, mine in shares.items():
            for key in sorted(mine):
                if mine[key] >= 0.5 and all(
                    other.get(key, 0) < 0.01 for name, other in shares.items() if name != source
                ):
                    text = f"only it sends this field, which the contract does not name ({mine[key]:.0%} of its events)"
                    found.append(self._finding(key[:100], source, "extra", text, "note"))
        return found[:20]


def _is_name(one: "Numbers", field: FieldSpec) -> bool:
    """Whether numbers are names of things: whole, without a unit, nearly all different."""
    return field.unit is None and one.whole and one.distinct > 0.9 * len(one.values)


def _instant(value: Any) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return to_micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


# -- in a process of its own


def apart(root: Path, types: list[str], now: int) -> list[Conformity]:
    """Compare in a process of its own, so that whoever asks goes on meanwhile. Raises SampanError if it fails."""
    try:
        done = subprocess.run(command(root, types, now), capture_output=True, timeout=PATIENCE, check=False)
        return told(done.stdout)
    except (subprocess.TimeoutExpired, msgspec.MsgspecError) as error:
        raise SampanError("Compare sources", f"{type(error).__name__}: {error}"[:500]) from None


def command(root: Path, types: list[str], now: int) -> list[str]:
    """What such a process is started with."""
    return [sys.executable, "-m", "sampan.log.conform", str(root.resolve()), str(now), *types]


def told(output: bytes) -> list[Conformity]:
    """What such a process said. Raises msgspec.MsgspecError."""
    return [msgspec.json.decode(line, type=Conformity) for line in output.splitlines()]


def main(arguments: list[str]) -> int:
    """``python -m sampan.log.conform ROOT NOW TYPE…``: a line of JSON for each type that could be compared."""
    from sampan.base.clock import SystemClock
    from sampan.base.settings import Folder
    from sampan.log.contracts import Contracts
    from sampan.log.log import Log

    os.nice(10)
    folder, now = Folder(Path(arguments[0])), int(arguments[1])
    contracts = Contracts.load(folder.root / "contracts.py")
    log = Log(folder.data / "log", contracts, SystemClock(), folder.settings())
    for name in arguments[2:]:
        try:
            found = conform(log, name, now=now)
        except SampanError as error:
            sys.stderr.write(f"{error}\n")
            continue
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    return 0


# -- what was found last, kept in the records


def record(db: Database, found: Conformity) -> None:
    """Keep the latest result of a type."""
    with db.transaction() as connection:
        connection.execute(
            "INSERT INTO conformity (type, verdict, result, checked) VALUES (?, ?, ?, ?) ON CONFLICT (type) "
            "DO UPDATE SET verdict = excluded.verdict, result = excluded.result, checked = excluded.checked",
            (found.type, found.verdict, msgspec.json.encode(found).decode(), found.checked),
        )


def recorded(db: Database) -> dict[str, Conformity]:
    """The latest result of each type."""
    rows = db.rows("SELECT type, result FROM conformity ORDER BY type")
    return {row["type"]: msgspec.json.decode(row["result"], type=Conformity) for row in rows}


def due(log: "Log", known: dict[str, Conformity], types: list[str]) -> list[str]:
    """The types of which enough has come since they were last compared."""
    log.rates.catch_up()
    counts: Counter[str] = Counter()
    for rate in log.rates.by_hour():
        counts[rate.type] += rate.accepted
    found = []
    for type in types:
        count = counts[type]
        before = known.get(type)
        if count >= LEAST and (before is None or count >= before.events + LEAST // 2):
            found.append(type)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
