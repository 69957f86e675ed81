"""What docs/evidence.py says of guardrails and of shadows: how often a sound candidate is stopped, how soon a broken
one, and what pairs of answers to the same request are worth. Each reading is made by the functions that make real ones.

Stages begin as they do where nothing stops a candidate: 100 hours at 5 %, a day at 25 %, then half of the traffic.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from evidence import (
    PER_HOUR,
    PLAN,
    SHARES,
    SURE,
    WEEK,
    Ended,
    Floats,
    Looks,
    Row,
    Scenario,
    outcomes,
    path,
    requests,
    squared_variation,
    wilson,
)
from numpy.typing import NDArray

from sampan.release.boundary import reach
from sampan.release.evidence import OPEN, Contrast, Lines, judge
from sampan.release.guardrails import BREACHED, Reading, floor, metric, rate
from sampan.release.rollouts import ErrorRate, Floor, Latency, Metric, Rollout
from sampan.release.stages import FULL, REVERTED, Seen, begin, step

Places = NDArray[np.int64]
Flags = NDArray[np.bool_]
MEAN: Final = 12.0  # of the money that a decision of the champion's earns
GUARDED: Final = msgspec.structs.replace(
    PLAN,
    guardrail=(
        ErrorRate(at_most=0.01),
        Latency(at_most_ms=50.0),
        Metric(name="kept", query="SELECT prediction_id, kept AS value FROM kept", at_most_worse="10 %"),
        Floor(at_least=0.75 * MEAN),
    ),
)
STARTS: Final = [0, 100 * PER_HOUR, 124 * PER_HOUR]
# Standard errors that a guardrail's bound never lies below
SURER: Final = min(reach(v, 1.0, GUARDED.level) / v**0.5 for v in np.geomspace(1e-4, 1e6, 800).tolist()) * 0.999
#: Levels of what is allowed: a candidate that is just as good as it has to be.
LIMIT: Final = {"errors": 0.01, "slow": 0.01, "kept": -0.1, "money": -0.25}
SOUND: Final = {"errors": 0.002, "slow": 0.005, "kept": 0.0, "money": 0.0}


class Candidate(NamedTuple):
    """Shares of answers that fail or are slow; what is lost of the other figure, and of the KPI."""

    errors: float = SOUND["errors"]
    slow: float = SOUND["slow"]
    kept: float = SOUND["kept"]
    money: float = SOUND["money"]


class Stopped(NamedTuple):
    """When a guardrail stopped it: requests, answers of the candidate until then, which; None: none did."""

    requests: int
    answers: int
    rail: str


def guarded(one: Candidate, seed: int, weeks: int = 8) -> Stopped | None:
    """One candidate under four guardrails for eight weeks: errors and latency looked at after each of its answers, the
    others each hour."""
    chance = np.random.default_rng((seed, 77))
    money = requests(chance, Scenario("money", one.money, weeks=weeks))
    kept = requests(chance, Scenario("binary", one.kept, weeks=weeks))._replace(place=money.place, asked=money.asked)
    count = weeks * WEEK
    stage = np.searchsorted(STARTS, np.arange(count), side="right") - 1
    theirs = np.flatnonzero(money.place < np.array(SHARES)[stage])
    failed, slow = (chance.random(len(theirs)) < share for share in (one.errors, one.slow))
    state = begin(GUARDED, 0).state
    for answers, readings in _readings(theirs, failed, slow, path(kept, STARTS, theirs + 1), money.new[theirs]):
        asked = int(theirs[answers - 1]) + 1
        after = step(GUARDED, state, Seen(at=asked * 3_600_000_000 // PER_HOUR, measured=readings)).state
        if after.phase == REVERTED:
            return Stopped(asked, answers, next(one.name for one in readings if one.standing == BREACHED))
    return None


def _readings(
    theirs: Places, failed: Flags, slow: Flags, kept: Looks, own: Floats
) -> Iterator[tuple[int, tuple[Reading, ...]]]:
    """Answers so far and what guardrails read then, where one of them might be breached."""
    level, least = GUARDED.level, GUARDED.units
    many = np.arange(1, len(theirs) + 1)
    bad, late = failed.cumsum(), slow.cumsum()
    sums, squares = own.cumsum(), (own * own).cumsum()
    spread = np.maximum(squares - sums * sums / many, 0.0)
    rates = [counted > 0.01 * many + 2.0 * np.sqrt(0.01 * many) for counted in (bad, late)]
    hour = theirs // PER_HOUR
    enough = (many >= least) & np.append(hour[1:] != hour[:-1], True)
    figure = enough & (kept.gathered < 0) & (np.abs(kept.gathered) >= SURER * np.sqrt(kept.variance))
    below = enough & (sums + SURER * np.sqrt(spread) < 0.75 * MEAN * many)
    names = [one.name for one in GUARDED.guardrail]
    terms = GUARDED.terms_of(next(one for one in GUARDED.guardrail if isinstance(one, Metric)))
    for at in np.flatnonzero(rates[0] | rates[1] | figure | below).tolist():
        count = at + 1
        found = [
            rate(name, int(counted[at]), count, "bad", at_most=0.01, level=level, least=least)
            for name, counted, may in zip(names, (bad, late), rates, strict=False)
            if may[at]
        ]
        if figure[at]:
            found.append(metric(names[2], kept.contrast(at), terms))
        if below[at]:
            found.append(_floor(names[3], own[:count]))
        yield count, tuple(found)


def _floor(name: str, values: Floats) -> Reading:
    count = len(values)
    lines = Lines(
        unit=np.arange(count),
        candidate=np.ones(count, dtype=np.bool_),
        stage=np.zeros(count, dtype=np.int64),
        rows=np.ones(count),
        total=values,
    )
    return floor(name, lines, at_least=0.75 * MEAN, level=GUARDED.level, units=GUARDED.units)


# -- pairs


class Pair(NamedTuple):
    """A candidate in shadow that decides otherwise in a share of requests, and earns ``gain`` more over all."""

    differ: float
    gain: float
    weeks: int = 52


SHADOWED: Final[Rollout] = msgspec.structs.replace(
    PLAN, stage=(msgspec.convert({"shadow": True, "at_least": "2 days"}, type(PLAN.stage[0])), PLAN.stage[-1])
)


def shadow(one: Pair, seed: int) -> Ended:
    """One rollout on paired evidence alone, looked at each hour, to its end or to the end of its weeks."""
    chance = np.random.default_rng((seed, 55))
    count = one.weeks * WEEK
    old = outcomes(chance, "money", 0.0, count)
    other = outcomes(chance, "money", one.gain / one.differ, count)
    value = np.where(chance.random(count) < one.differ, other, old) - old
    many, sums, squares = np.arange(1, count + 1), value.cumsum(), (value * value).cumsum()
    champion, most = old.cumsum() / many, np.maximum.accumulate(np.abs(value))
    variance = np.maximum(squares - sums * sums / many, 0.0)
    looks = np.arange(PER_HOUR, count + 1, PER_HOUR)
    state = begin(SHADOWED, 0).state
    at = looks - 1
    for n in looks[(np.abs(sums[at]) >= SURE * np.sqrt(variance[at])) & (many[at] >= SHADOWED.units)].tolist():
        k, v = n - 1, float(variance[n - 1])
        heaviest = float(most[k] + abs(sums[k] / n)) ** 2 / v if v else 0.0
        found = Contrast(float(n), float(sums[k]), v * n / (n - 1), (n, n), heaviest, float(champion[k]))
        seen = Seen(at=n * 3_600_000_000 // PER_HOUR, look=judge(found, SHADOWED.terms))
        state = step(SHADOWED, state, seen).state
        if state.phase in (FULL, REVERTED):
            return Ended(state.phase, n)
    return Ended(OPEN, count)


def paired_optimum(one: Pair) -> float:
    """Requests of a paired test of fixed size, one-sided at 5 %, power 80 %."""
    ratio = squared_variation("money")
    lift = one.gain / one.differ
    noise = one.differ * (ratio + ratio * (1 + lift) ** 2 + lift * lift) - one.gain**2
    return (1.6449 + 0.8416) ** 2 * noise / one.gain**2


# -- figures


def many_of(work: Callable[[int], Any], count: int, seed: int) -> list[Any]:
    with ProcessPoolExecutor(2) as pool:
        return list(pool.map(work, range(seed * 100_000, seed * 100_000 + count), chunksize=5))


class Watched(NamedTuple):
    """``sound``: of candidates as good as they have to be, which were stopped; ``broken``: by what is wrong."""

    sound: dict[str, list[Stopped | None]]
    broken: dict[str, list[Stopped | None]]

    @property
    def lines(self) -> list[tuple[str, list[tuple[float, float]]]]:
        """Shares that were stopped by so many answers of the candidate."""
        found = []
        for name in ("errors 2 %", "errors 5 %", "errors 20 %"):
            answers = sorted(one.answers for one in self.broken[name] if one is not None and one.answers <= 600)
            count = len(self.broken[name])
            line = [(0.0, 0.0), *((float(at), n / count) for n, at in enumerate(answers, 1))]
            found.append((name, [*line, (600.0, len(answers) / count)]))
        return found


def guardrails(many: Callable[[int], int]) -> Watched:
    """All candidates under guardrails."""
    sound = {
        "sound: errors 0.2 %, slow 0.5 %, else equal": Candidate(),
        "at every limit: errors 1 %, slow 1 %, kept −10 %, money −25 %": Candidate(**LIMIT),
    }
    broken = {
        "errors 2 %": Candidate(errors=0.02),
        "errors 5 %": Candidate(errors=0.05),
        "errors 20 %": Candidate(errors=0.2),
        "every answer an error": Candidate(errors=1.0),
        "slow 2 %": Candidate(slow=0.02),
        "slow 20 %": Candidate(slow=0.2),
        "kept −30 %": Candidate(kept=-0.3),
        "kept −50 %": Candidate(kept=-0.5),
        "money −50 %": Candidate(money=-0.5),
        "money −80 %": Candidate(money=-0.8),
    }
    return Watched(
        {name: many_of(partial(guarded, one), many(1_000), 30 + n) for n, (name, one) in enumerate(sound.items())},
        {name: many_of(partial(guarded, one), many(200), 40 + n) for n, (name, one) in enumerate(broken.items())},
    )


class Pairs(NamedTuple):
    """Rollouts on paired evidence, by what was planted."""

    of: dict[Pair, list[Ended]]

    def lines(self, rows: Iterable[Row]) -> list[tuple[str, list[tuple[float, float]]]]:
        """Shares that were promoted by so many days, of a gain of 5 %: in shadow, and by the canary of ``rows``."""
        canary = next(one.ended for one in rows if one.says == "+5 %, money")
        found = [("canary", canary)]
        found += [(f"pairs, {one.differ:.0%}", ended) for one, ended in self.of.items() if one.gain > 0]
        return [(name, _grown(ended, 200)) for name, ended in found]


def shadows(many: Callable[[int], int]) -> Pairs:
    """All rollouts on paired evidence."""
    planted = [Pair(differ, gain, 8 if gain == 0 else 52) for gain in (0.0, 0.05, -0.05) for differ in (0.1, 0.3)]
    counts = [many(1_000 if one.gain == 0 else 200) for one in planted]
    work = zip(planted, counts, strict=True)
    return Pairs({one: many_of(partial(shadow, one), count, 60 + n) for n, (one, count) in enumerate(work)})


def _grown(ended: list[Ended], most: int) -> list[tuple[float, float]]:
    days = sorted(one.requests / PER_HOUR / 24 for one in ended if one.phase == FULL)
    inside = [day for day in days if day <= most]
    line = [(0.0, 0.0), *((day, n / len(ended)) for n, day in enumerate(inside, 1))]
    return [*line, (float(most), len(inside) / len(ended))]


def _middle(values: Iterable[float], count: int, share: float = 0.5) -> float:
    """A quantile of ``count`` values, those that are not there being infinite."""
    known = sorted(values)
    place = int(count * share)
    return known[place] if place < len(known) else float("inf")


def text(watched: Watched, pairs: Pairs, rows: Iterable[Row]) -> str:
    """The part of the page that is computed here."""
    parts = ["| sound candidates | rollouts | stopped by a guardrail within 8 weeks |", "| --- | --- | --- |"]
    for name, found in watched.sound.items():
        stopped = sum(one is not None for one in found) / len(found)
        parts.append(f"| {name} | {len(found):,} | {wilson(stopped, len(found))} |")
    last = [one for one in list(watched.sound.values())[-1] if one is not None]
    rails = Counter(one.rail for one in last)
    which = ", ".join(f"{name} {count}" for name, count in sorted(rails.items(), key=lambda one: (-one[1], one[0])))
    said = f"Of the {len(last)} at every limit: {which or 'none'}. Each guardrail may stop {GUARDED.level:.0%} of them."
    parts += [
        "",
        said,
        "",
        "| broken candidates | stopped within 8 weeks | median answers | median days | nine in ten by |",
    ]
    parts.append("| --- | --- | --- | --- | --- |")
    for name, found in watched.broken.items():
        caught = [one for one in found if one is not None]
        answers = _middle((one.answers for one in caught), len(found))
        days, late = (
            _middle((one.requests / PER_HOUR / 24 for one in caught), len(found), share) for share in (0.5, 0.9)
        )
        told = [
            f"{value:,.{digits}f}" if value < 1e9 else "–" for value, digits in ((answers, 0), (days, 1), (late, 1))
        ]
        parts.append(f"| {name} | {len(caught) / len(found):.0%} | {told[0]} | {told[1]} | {told[2]} days |")
    parts += [
        "",
        "| pairs: decide otherwise | planted | rollouts | promoted | rolled back | median days | fixed size |",
    ]
    parts.append("| --- | --- | --- | --- | --- | --- | --- |")
    for one, ended in pairs.of.items():
        shares = [sum(each.phase == phase for each in ended) / len(ended) for phase in (FULL, REVERTED)]
        right = FULL if one.gain > 0 else REVERTED
        days = _middle((each.requests / PER_HOUR / 24 for each in ended if each.phase == right), len(ended))
        optimum = f"{paired_optimum(one) / PER_HOUR / 24:.1f} days" if one.gain else ""
        shown = f"{days:.0f}" if one.gain and days < 1e9 else ""
        planted = f"{one.gain:+.0%}".replace("-", "−") if one.gain else "nothing"
        parts.append(
            f"| {one.differ:.0%} of requests | {planted} | {len(ended):,} | {wilson(shares[0], len(ended))} | "
            f"{wilson(shares[1], len(ended))} | {shown} | {optimum} |"
        )
    canary = {one.says: one.median() for one in rows if one.scenario.kpi == "money" and abs(one.scenario.gain) == 0.05}
    said = ", ".join(f"{days:.0f} ({name.partition(',')[0]})" for name, days in canary.items())
    parts += ["", f"Median days to the same verdicts by canary, from the first table: {said}."]
    return "\n".join(parts) + "\n"
