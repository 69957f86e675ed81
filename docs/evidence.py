"""Simulates rollouts and writes the figures of docs/design/evidence.md: ``uv run python docs/evidence.py``.

Every rollout goes through the functions that decide real ones: ``judge`` says what the KPI shows, ``mismatch`` looks at
the arms, ``step`` moves the stages. Sums are gathered for all looks of a stage at once, and the functions are asked at
those looks where they could say anything else than "not enough evidence". One seed per rollout; the same command gives
the same page. ``--quick`` is a tenth of it, written nowhere.
"""

import math
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from sampan.release.boundary import reach
from sampan.release.counts import Split, above, mismatch
from sampan.release.evidence import OPEN, Contrast, Lines, Look, Terms, between_arms, judge
from sampan.release.rollouts import Rollout
from sampan.release.stages import FULL, REVERTED, STOPPED, Seen, State, begin, step

PAGE: Final = Path(__file__).parent / "design" / "evidence.md"
IMAGES: Final = Path(__file__).parent / "images"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

HOUR: Final = 3_600_000_000
PER_HOUR: Final = 20
WEEK: Final = 7 * 24 * PER_HOUR  # requests
# Standard errors that the bound never lies below, at the largest level in use
SURE: Final = min(reach(v, 1.0, 0.05) / math.sqrt(v) for v in np.geomspace(1e-4, 1e6, 800).tolist()) * 0.999

PLAN: Final = msgspec.convert(
    {
        "kpi": {"query": "SELECT prediction_id, earned AS value FROM earned", "minimum_effect": "5 %"},
        "stage": [
            {"share": 0.05, "at_least": "2 days", "units": 100},
            {"share": 0.25, "at_least": "1 day"},
            {"share": 0.5},
            {"share": 1.0},
        ],
        "units": 100,
    },
    Rollout,
)
SHARES: Final = [stage.share or 0.0 for stage in PLAN.stage]

Floats = NDArray[np.float64]


class Scenario(NamedTuple):
    """What is simulated. ``gain``: planted, of the champion's mean; ``delay``: mean days until an outcome is known;
    ``every``: requests between two looks; ``customers``: who send all requests, 0 where each comes once; ``returned``:
    of what was earned, the share that is taken back, two weeks later on average."""

    kpi: str
    gain: float = 0.0
    weeks: int = 8
    delay: float = 0.0
    every: int = PER_HOUR
    customers: int = 0
    returned: float = 0.0


class Ended(NamedTuple):
    phase: str
    requests: int


def outcomes(chance: np.random.Generator, kpi: str, gain: float, count: int) -> Floats:
    """``money``: three decisions in ten earn, a lognormal amount with mean 40 and deviation 40; ``binary``: two in ten
    succeed. A gain makes amounts larger, or successes more frequent."""
    if kpi == "binary":
        return (chance.random(count) < 0.2 * (1 + gain)).astype(np.float64)
    spread = math.sqrt(math.log(2.0))
    amounts = np.exp(chance.normal(math.log(40.0) - spread**2 / 2, spread, count))
    return np.where(chance.random(count) < 0.3, amounts * (1 + gain), 0.0)


def squared_variation(kpi: str) -> float:
    """The variance over the squared mean, of one decision."""
    return 0.16 / 0.04 if kpi == "binary" else 2.0 / 0.3 - 1


class Rows(NamedTuple):
    """All requests of one rollout in the order in which their outcomes become known, and the sums over them."""

    known: Floats  # when, in requests
    asked: NDArray[np.int64]
    place: Floats  # the entity's point in [0, 1)
    old: Floats
    new: Floats
    unit: NDArray[np.int64]
    entered: Floats  # the points in the order of the requests
    sign: Floats  # -1 where an amount is taken back


def requests(chance: np.random.Generator, one: Scenario) -> Rows:
    count = one.weeks * WEEK
    asked = np.arange(count)
    old, new = (outcomes(chance, one.kpi, gain, count) for gain in (0.0, one.gain))
    if one.customers:
        unit = chance.choice(one.customers, count, p=chance.dirichlet(np.full(one.customers, 0.5)))
        level = chance.gamma(1.0, 1.0, one.customers)[unit] if one.kpi == "money" else np.ones(count)
        old, new, place = old * level, new * level, chance.random(one.customers)[unit]
    else:
        unit, place = asked, chance.random(count)
    known: Floats = (asked + 1).astype(np.float64)
    if one.delay:
        known = known + chance.exponential(one.delay * 24 * PER_HOUR, count)
    again, sign = asked, np.ones(count)
    if one.returned:
        back = np.flatnonzero(chance.random(count) < one.returned)
        known = np.concatenate((known, known[back] + chance.exponential(14 * 24 * PER_HOUR, len(back))))
        again, sign = np.concatenate((asked, back)), np.concatenate((sign, -np.ones(len(back))))
    order = np.argsort(known, kind="stable")
    row = again[order]
    return Rows(known[order], asked[row], place[row], old[row], new[row], unit[row], place, sign[order])


class Looks(NamedTuple):
    """D, M, V, champion's part, the units of the arms and the heaviest, at each look."""

    information: Floats
    gathered: Floats
    variance: Floats
    champion: Floats
    units: NDArray[np.int64]
    heaviest: Floats

    def contrast(self, at: int) -> Contrast:
        few = int(self.units[:, at].min())
        variance = float(self.variance[at]) * (few / (few - 1) if few > 1 else 1.0)
        both = (int(self.units[1, at]), int(self.units[0, at]))
        information = float(self.information[at])
        champion = float(self.champion[at]) / information if information else math.nan
        return Contrast(information, float(self.gathered[at]), variance, both, float(self.heaviest[at]), champion)


def path(rows: Rows, starts: list[int], looks: NDArray[np.int64]) -> Looks:
    """Of entities that come once: what ``between_arms`` gives at each look; ``starts`` are those of the stages."""
    stage = np.searchsorted(starts, rows.asked, side="right") - 1
    arm = rows.place < np.array(SHARES)[stage]
    value = np.where(arm, rows.new, rows.old)
    shape = len(looks)
    information, gathered, robust, alike, champion, heaviest = np.zeros((6, shape))
    units = np.zeros((2, shape), dtype=np.int64)
    cell = stage * 2 + arm
    order = np.argsort(cell, kind="stable")
    edges = np.searchsorted(cell[order], np.arange(2 * len(starts) + 1))
    for number in range(len(starts)):
        sums = np.zeros((2, 4, shape))
        for side in (0, 1):
            at = 2 * number + side
            mine = order[edges[at] : edges[at + 1]]
            own, sign = value[mine], rows.sign[mine]
            ends = np.searchsorted(rows.known[mine], looks, side="right")
            for power, column in enumerate((sign > 0, own * sign, own * own * sign)):
                sums[side, power] = np.concatenate(([0.0], np.cumsum(column)))[ends]
            sums[side, 3] = np.concatenate(([0.0], np.maximum.accumulate(own)))[ends]
        counts, totals, squares, most = (sums[:, part] for part in range(4))
        both = (counts > 0).all(axis=0)
        whole = np.maximum(counts.sum(axis=0), 1)
        share = counts[1] / whole
        means = totals / np.maximum(counts, 1)
        within = squares - means * totals
        weight = np.where(both, counts[1] * (1 - share), 0.0)
        level = totals.sum(axis=0) / whole
        information += weight
        gathered += weight * (means[1] - means[0])
        champion += weight * means[0]
        robust += np.where(both, (1 - share) ** 2 * within[1] + share**2 * within[0], 0.0)
        alike += np.where(both, share * (1 - share) * (squares.sum(axis=0) - whole * level**2), 0.0)
        parts = ((1 - share) * (most[1] - means[1])) ** 2, (share * (most[0] - means[0])) ** 2
        heaviest = np.maximum(heaviest, np.where(both, np.maximum(*parts), 0.0))
        units += np.where(both, counts, 0).astype(np.int64)
    variance = np.maximum(robust, alike)
    return Looks(information, gathered, variance, champion, units, heaviest / np.maximum(variance, 1e-300))


def clustered(rows: Rows, starts: list[int], look: int) -> Contrast:
    """The same of customers who come again, by ``between_arms`` itself."""
    end = int(np.searchsorted(rows.known, look, side="right"))
    stage = np.searchsorted(starts, rows.asked[:end], side="right") - 1
    arm = rows.place[:end] < np.array(SHARES)[stage]
    value = np.where(arm, rows.new[:end], rows.old[:end])
    keys = (rows.unit[:end] * len(SHARES) + stage) * 2 + arm
    counts, totals = np.bincount(keys), np.bincount(keys, weights=value)
    there = np.flatnonzero(counts)
    return between_arms(
        Lines(
            unit=there // 2 // len(SHARES),
            candidate=there % 2 == 1,
            stage=there // 2 % len(SHARES),
            rows=counts[there].astype(np.float64),
            total=totals[there].astype(np.float64),
        )
    )


def splits(rows: Rows, starts: list[int], look: int) -> Iterator[Split]:
    """How entities that come once fell into the arms: known when they ask, whenever their outcome is."""
    for number, start in enumerate(starts):
        end = starts[number + 1] if number + 1 < len(starts) else look
        mine = rows.entered[start:end] < SHARES[number]
        yield Split(SHARES[number], int(mine.sum()), len(mine) - int(mine.sum()))


def rollout(one: Scenario, seed: int, plan: Rollout = PLAN) -> Ended:
    """One rollout to its end, or to the end of its weeks."""
    rows = requests(np.random.default_rng((seed, one.weeks, one.customers)), one)
    state, starts, last = begin(plan, 0).state, [0], one.weeks * WEEK
    look = one.every
    while look <= last:
        looks = np.arange(look, last + 1, one.every)
        found = None if one.customers else path(rows, starts, looks)
        for at in _worth(found, looks, state, plan):
            look = int(looks[at])
            contrast = found.contrast(at) if found is not None else clustered(rows, starts, look)
            wrong = "" if one.customers or mismatch(splits(rows, starts, look)) < -math.log(plan.mismatch) else "wrong"
            seen = Seen(at=look * HOUR // PER_HOUR, look=judge(contrast, plan.terms), mismatch=wrong)
            before, state = state.stage, step(plan, state, seen).state
            if state.phase in (FULL, REVERTED, STOPPED):
                return Ended(state.phase, look)
            if state.stage != before:
                starts = [*starts, look]
                look += one.every
                break
        else:
            break
    return Ended(OPEN, last)


def _worth(found: Looks | None, looks: NDArray[np.int64], state: State, plan: Rollout) -> Iterator[int]:
    """The looks at which something may happen: all, where they are not summed beforehand."""
    if found is None:
        yield from range(len(looks))
        return
    may = np.abs(found.gathered) >= SURE * np.sqrt(found.variance)
    if state.stage < len(plan.stage) - 2:
        stage = plan.stage[state.stage]
        old = looks * (HOUR // PER_HOUR) - state.since >= stage.micros
        may |= old & (found.units.min(axis=0) >= (stage.units or plan.units))
    yield from np.flatnonzero(may).tolist()


# -- figures


class Row(NamedTuple):
    """One scenario's line of the table."""

    says: str
    scenario: Scenario
    ended: list[Ended]

    def share(self, phase: str) -> float:
        return sum(one.phase == phase for one in self.ended) / len(self.ended)

    def median(self) -> float:
        """Days until the right verdict, of all rollouts; infinite where fewer than half came to it."""
        right = FULL if self.scenario.gain > 0 else REVERTED
        days = sorted(one.requests / PER_HOUR / 24 if one.phase == right else math.inf for one in self.ended)
        return days[len(days) // 2]


def run(says: str, scenario: Scenario, count: int, seed: int) -> Row:
    begun = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        seeds = range(seed * 100_000, seed * 100_000 + count)
        row = Row(says, scenario, list(pool.map(partial(rollout, scenario), seeds, chunksize=10)))
    print(f"{says}: {row.share(FULL):.3f} {row.share(REVERTED):.3f} in {time.perf_counter() - begun:.0f} s", flush=True)
    return row


def fixed(kpi: str, gain: float, power: float = 0.8416) -> float:
    """Requests of a test of fixed size with halves of the traffic, one-sided at 5 %, power 80 %."""
    return 4 * (1.6449 + power) ** 2 * squared_variation(kpi) / gain**2


def wilson(share: float, count: int) -> str:
    """A share with its 95 % interval: Wilson, Journal of the American Statistical Association 22 (1927)."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return f"{share:.1%} ({max(0.0, middle - half):.1%}–{middle + half:.1%})"


def table(rows: list[Row]) -> str:
    lines = [
        "| scenario | rollouts | weeks | promoted | rolled back | stopped | open | median days to the verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        days = row.median() if row.scenario.gain else math.nan
        shown = "" if math.isnan(days) else f"over {row.scenario.weeks * 7}" if math.isinf(days) else f"{days:.0f}"
        count = len(row.ended)
        lines.append(
            f"| {row.says} | {count:,} | {row.scenario.weeks} | {wilson(row.share(FULL), count)} | "
            f"{wilson(row.share(REVERTED), count)} | {row.share(STOPPED):.1%} | {row.share(OPEN):.1%} | {shown} |"
        )
    return "\n".join(lines)


def false_alarms(count: int) -> float:
    """Rollouts of 2,000 answers with an error rate exactly at its limit in which the guardrail is called breached."""
    wrong, chance = 0, np.random.default_rng(11)
    for _ in range(count):
        bad = (chance.random(2_000) < 0.01).cumsum()
        likely = np.flatnonzero(bad > 0.01 * np.arange(1, 2_001) + 2 * np.sqrt(0.01 * np.arange(1, 2_001)))
        wrong += any(above(int(bad[at]), int(at) + 1, 0.01) >= math.log(20) for at in likely)
    return wrong / count


def naive(count: int) -> float:
    """Rollouts without a gain in which a test of fixed size, at 5 %, looked at each hour of eight weeks, shows one."""
    wrong, one = 0, Scenario("money")
    looks = np.arange(PER_HOUR, one.weeks * WEEK + 1, PER_HOUR)
    for number in range(count):
        found = path(requests(np.random.default_rng((99, number)), one), [0, 960, 1440], looks)
        passed = found.gathered > 1.645 * np.sqrt(found.variance)
        wrong += bool((passed & (found.units.min(axis=0) >= PLAN.units)).any())
    return wrong / count


def needed(plan: Terms, kpi: str, gain: float) -> float:
    """Requests at half the traffic until the bound is where the expected gain is: about the median of the delay."""
    low, high = 100.0, 1e9
    for _ in range(80):
        middle = math.sqrt(low * high)
        contrast = Contrast(middle / 4, gain * middle / 4, squared_variation(kpi) * middle / 4, (1000, 1000), 0.0, 1.0)
        low, high = (low, middle) if judge(contrast, plan).verdict != OPEN else (middle, high)
    return high


def band() -> list[tuple[float, Look]]:
    """The interval of one rollout over time, a gain of 20 % in money."""
    one = Scenario("money", 0.2, weeks=4)
    rows = requests(np.random.default_rng(4), one)
    starts = [0, 2 * 24 * PER_HOUR, 3 * 24 * PER_HOUR]
    looks = np.arange(WEEK, one.weeks * WEEK + 1, PER_HOUR * 6)
    found = path(rows, starts, looks)
    said = [(float(look) / PER_HOUR / 24, judge(found.contrast(at), PLAN.terms)) for at, look in enumerate(looks)]
    return [(day, look) for day, look in said if look.gain is not None]


def picture(
    name: str, across: str, up: str, lines: list[tuple[str, list[tuple[float, float]]]], log: bool = False
) -> str:
    """A chart of lines as SVG: legible on light and on dark, without script."""
    wide, high, left, foot = 720, 320, 64, 44
    xs = [x for _, line in lines for x, _ in line]
    ys = [y for _, line in lines for _, y in line]
    put = math.log10 if log else float
    x0, x1, y0, y1 = put(min(xs)), put(max(xs)), min(0.0, *ys), max(ys)
    y1 += (y1 - y0) * 0.05

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + (put(x) - x0) / (x1 - x0) * (wide - left - 150),
            high - foot - (y - y0) / (y1 - y0) * (high - foot - 14),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" role="img" aria-label="{name}">',
        "<style>text{font:13px system-ui,sans-serif;fill:#334}.g{stroke:#8886}path{fill:none;stroke-width:2}"
        ".l0{stroke:#1668b8}.l1{stroke:#b4540a}.l2{stroke:#3b7d23}.l3{stroke:#777;stroke-dasharray:5 4}"
        ".t0{fill:#1668b8}.t1{fill:#b4540a}.t2{fill:#3b7d23}"
        "@media(prefers-color-scheme:dark){text{fill:#dde}.l0{stroke:#6fb3f2}.l1{stroke:#f0a05a}"
        ".l2{stroke:#8fce72}.l3{stroke:#aaa}.t0{fill:#6fb3f2}.t1{fill:#f0a05a}.t2{fill:#8fce72}}</style>",
    ]
    for y in _ticks(y0, y1):
        _, down = at(min(xs), y)
        parts.append(f'<path class="g" d="M{left} {down:.1f}H{wide - 150}" style="stroke-width:1"/>')
        parts.append(f'<text x="{left - 8}" y="{down + 4:.1f}" text-anchor="end">{y:.0%}</text>')
    ticks = sorted({float(x) for _, line in lines for x, _ in line}) if len(set(xs)) <= 8 else _ticks(x0, x1)
    for x in ticks:
        along, _ = at(x, y0)
        parts.append(f'<text x="{along:.1f}" y="{high - foot + 18}" text-anchor="middle">{x:g}</text>')
    lowest = -math.inf
    for number, (label, line) in sorted(enumerate(lines), key=lambda one: at(*one[1][1][-1])[1]):
        places = [at(x, y) for x, y in line]
        drawn = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path class="l{number % 4}" d="M{drawn}"/>')
        below = lowest = max(places[-1][1] + 4, lowest + 16)
        parts.append(f'<text class="t{number % 4}" x="{places[-1][0] + 6:.1f}" y="{below:.1f}">{label}</text>')
    parts.append(f'<text x="{(left + wide - 150) / 2}" y="{high - 6}" text-anchor="middle">{across}</text>')
    parts.append(f'<text x="{left}" y="11">{up}</text></svg>')
    return "\n".join(parts) + "\n"


def _ticks(low: float, high: float) -> list[float]:
    step_ = 10.0 ** math.floor(math.log10(high - low))
    step_ = step_ / 5 if (high - low) / step_ < 2 else step_ / 2 if (high - low) / step_ < 4 else step_
    return [round(one * step_, 9) for one in range(math.ceil(low / step_), math.floor(high / step_) + 1)]


def main(arguments: list[str]) -> None:
    quick = "--quick" in arguments
    scale = 0.1 if quick else 1.0

    def many(count: int) -> int:
        return max(10, round(count * scale))

    rows = [
        run("A/A, binary", Scenario("binary"), many(1_000), 1),
        run("A/A, money", Scenario("money"), many(1_000), 2),
        run("A/A, money, a look after every request", Scenario("money", every=1), many(500), 2),
        run("A/A, money, outcomes 7 days late on average", Scenario("money", delay=7), many(500), 3),
        run("A/A, money, a tenth returned", Scenario("money", returned=0.1), many(500), 12),
        run("A/A, money, 1,000 customers who come again", Scenario("money", customers=1_000, every=480), many(200), 4),
        run("+40 %, money, 1,000 customers", Scenario("money", 0.4, customers=1_000, every=480), many(100), 13),
        run("+5 %, binary", Scenario("binary", 0.05, weeks=52), many(100), 5),
        run("−5 %, binary", Scenario("binary", -0.05, weeks=52), many(100), 6),
        run("+5 %, money", Scenario("money", 0.05, weeks=52), many(100), 7),
        run("−5 %, money", Scenario("money", -0.05, weeks=52), many(100), 8),
        run("+20 %, money", Scenario("money", 0.2), many(200), 9),
        run("−20 %, money", Scenario("money", -0.2), many(200), 10),
        run("+20 %, money, outcomes 7 days late on average", Scenario("money", 0.2, delay=7), many(200), 11),
    ]
    gains = [0.1, 0.15, 0.2, 0.25, 0.3, 0.4]
    within: dict[str, list[tuple[float, float]]] = {}
    for kpi in ("binary", "money"):
        found = [run(f"{kpi} {gain:+.0%} in 4 weeks", Scenario(kpi, gain, weeks=4), many(200), 20) for gain in gains]
        within[kpi] = [(gain * 100, one.share(FULL)) for gain, one in zip(gains, found, strict=True)]
    alarms = false_alarms(many(1_000))
    sys.path.insert(0, str(Path(__file__).parent))
    import evidence_beside as beside

    watched, pairs = beside.guardrails(many), beside.shadows(many)
    text = figures(rows, within, alarms, naive(many(300))) + "\n" + beside.text(watched, pairs, rows)
    print(text)
    if quick:
        return
    shown = band()
    rather = [
        ("at most", [(day, look.high / look.champion) for day, look in shown if look.high and look.champion]),
        ("gain", [(day, look.gain / look.champion) for day, look in shown if look.gain and look.champion]),
        ("at least", [(day, look.low / look.champion) for day, look in shown if look.low and look.champion]),
    ]
    chart = picture("The interval of one rollout over time", "days", "gain, of the champion's mean", rather)
    (IMAGES / "evidence-band.svg").write_text(chart, "utf-8")
    lines = list(within.items())
    chart = picture("Rollouts promoted within four weeks", "planted gain, %", "promoted", lines)
    (IMAGES / "evidence-weeks.svg").write_text(chart, "utf-8")
    chart = picture(
        "Broken candidates that a guardrail has stopped", "answers of the candidate", "stopped", watched.lines
    )
    (IMAGES / "evidence-guardrails.svg").write_text(chart, "utf-8")
    chart = picture("A gain of 5 %: rollouts with a verdict", "days", "promoted", pairs.lines(rows))
    (IMAGES / "evidence-shadow.svg").write_text(chart, "utf-8")
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}", "utf-8")


def figures(rows: list[Row], within: dict[str, list[tuple[float, float]]], alarms: float, peeked: float) -> str:
    """The part of the page that is computed."""
    per_day = PER_HOUR * 24
    parts = [table(rows), ""]
    parts.append("| planted | fixed size, 80 % power | bound meets the gain | promoted or rolled back: median |")
    parts.append("| --- | --- | --- | --- |")
    for row in rows:
        if not row.scenario.gain or row.scenario.delay or row.scenario.customers:
            continue
        optimum = fixed(row.scenario.kpi, row.scenario.gain)
        meets = needed(PLAN.terms, row.scenario.kpi, row.scenario.gain)
        median = row.median()
        parts.append(
            f"| {row.says} | {optimum:,.0f} requests, {optimum / per_day:.0f} days | "
            f"{meets:,.0f} requests, {meets / per_day:.0f} days | {median * per_day:,.0f} requests, {median:.0f} days, "
            f"{median * per_day / optimum:.1f} times |"
        )
    parts += [
        "",
        "| promoted within four weeks | " + " | ".join(f"+{gain:.0f} %" for gain, _ in within["money"]) + " |",
    ]
    parts.append("| --- |" + " --- |" * len(within["money"]))
    for kpi, line in within.items():
        parts.append(f"| {kpi} | " + " | ".join(f"{share:.0%}" for _, share in line) + " |")
    parts += [
        "",
        f"A test of fixed size at 5 %, looked at each hour, would have promoted {peeked:.0%} of candidates without a",
        "gain in eight weeks.",
        "",
        f"An error rate exactly at its limit of 1 % was called a breach in {alarms:.1%} of series of 2,000 answers,",
        "looked at after each, at a level of 5 %.",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
