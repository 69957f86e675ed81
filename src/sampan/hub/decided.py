"""What an endpoint decided over time, and what came of it: counts, rules, latency and money, asked of the log in SQL.

A prediction carries what its action earns under each outcome, so the sums are those of ``sampan.serve.value``.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.arrow import give_back
from sampan.hub.judged import Unnamed, judge, margin, unmatched, unnamed
from sampan.hub.kept import Kept
from sampan.lake.query import Source, open_sources
from sampan.log.outcomes import UNKNOWN_SQL

if TYPE_CHECKING:
    from sampan.log.log import Log

#: Longest span in days that is told by the hour, day and week; a longer one is told by the month.
_SPANS: Final = ((3, "hour"), (60, "day"), (800, "week"))
_READ: Final = ("prediction", "outcome", "review")


class RuleLine(msgspec.Struct):
    """A rule and the action it led to. ``over`` counts it per stretch of time; ``value`` is money per 1,000 decisions
    whose outcome is known."""

    action: str
    rule: str
    count: int
    share: float
    known: int
    value: float | None
    over: list[int]


class Stretch(msgspec.Struct):
    """One hour, day, week or month (``start``: an ISO date). ``latency`` in microseconds at the 50th and 99th
    percentile; ``value`` and ``expected`` in money per 1,000 decisions."""

    start: str
    decisions: int
    known: int
    actions: dict[str, int]
    value: float | None
    expected: float | None
    latency: tuple[float, float] | None


class Decided(msgspec.Struct):
    """All of an endpoint's decisions. ``margin``: half of the 95 % interval of ``value``, as on the page of its value;
    ``failed`` counts decisions whose rule failed; ``unmatched`` outcomes by key that no prediction precedes;
    ``unknown`` those of the whole workspace that name a prediction which is not in the log, or not yet; ``unnamed``
    those whose value no action's values name."""

    decisions: int = 0
    known: int = 0
    failed: int = 0
    value: float | None = None
    margin: float | None = None
    expected: float | None = None
    latency: tuple[float, float] | None = None
    first: int | None = None
    last: int | None = None
    newest_outcome: int | None = None
    unmatched: int = 0
    unknown: int = 0
    unnamed: Unnamed = Unnamed()
    by: str = "day"
    rules: list[RuleLine] = []
    stretches: list[Stretch] = []
    versions: dict[str, int] = {}


_kept: Kept[Decided] = Kept()


def decided(log: "Log", endpoint: str, by: int | None = None) -> Decided:
    """The figures as of now, or of a moment ago if they cost much and events keep coming. ``by``: of what was known
    at an instant."""
    return _kept.ask(log, (endpoint, by), lambda: _decided(log, endpoint, by))


def _decided(log: "Log", endpoint: str, by: int | None) -> Decided:
    position = log.position()
    if not log.state("prediction", position).count:
        return Decided()
    sources: dict[str, Source] = {name: log.source(name, position, by) for name in _READ}
    connection = open_sources(sources, threads=2)
    try:
        return _ask(connection, endpoint)
    finally:
        connection.close()
        give_back()


def _ask(connection: Any, endpoint: str) -> Decided:
    judge(connection, endpoint)
    whole = connection.execute(
        "SELECT count(*), count(*) FILTER (failed), quantile_cont(latency_us, [0.5, 0.99]),"
        " epoch_us(min(moment)), epoch_us(max(moment)), epoch_us(max(newest)) FROM judged"
    ).fetchone()
    if not whole[0]:
        return Decided()
    days = (whole[4] - whole[3]) / 86_400_000_000
    by = next((word for most, word in _SPANS if days <= most), "month")
    shown = f"strftime(start, '%Y-%m-%d{' %H:00' if by == 'hour' else ''}')"
    rows = connection.execute(
        f"SELECT {shown}, * EXCLUDE (start) FROM (SELECT date_trunc('{by}', moment) AS start, version, action, rule,"
        " count(*), count(outcome), count(earned), sum(earned), count(expected), sum(expected)"
        " FROM judged GROUP BY ALL) ORDER BY ALL"
    ).fetchall()
    latency = connection.execute(
        f"SELECT {shown}, took FROM (SELECT date_trunc('{by}', moment) AS start, quantile_cont(latency_us, [0.5, 0.99])"
        " AS took FROM judged GROUP BY 1)"
    ).fetchall()
    found = _figures(rows, dict(latency))
    found.decisions, found.failed, found.first, found.last, found.by = whole[0], whole[1], whole[3], whole[4], by
    found.latency = tuple(whole[2]) if whole[2] else None
    found.newest_outcome, found.margin = whole[5], margin(connection)
    found.unmatched, found.unnamed = unmatched(connection, endpoint), unnamed(connection)
    ((found.unknown,),) = connection.execute(f"SELECT count(*) FROM ({UNKNOWN_SQL}) AS unknown").fetchall()
    return found


class _Sum:
    """Decisions added up."""

    def __init__(self) -> None:
        self.count = self.known = self.valued = self.hoped = 0
        self.earned = self.expected = 0.0

    def add(self, row: tuple[Any, ...]) -> None:
        count, known, valued, earned, hoped, expected = row
        self.count += count
        self.known += known
        self.valued += valued
        self.earned += earned or 0.0
        self.hoped += hoped
        self.expected += expected or 0.0

    @property
    def value(self) -> float | None:
        return self.earned / self.valued * 1000 if self.valued else None

    @property
    def hope(self) -> float | None:
        return self.expected / self.hoped * 1000 if self.hoped else None


def _figures(rows: list[tuple[Any, ...]], latency: dict[str, Any]) -> Decided:
    whole = _Sum()
    starts = sorted({row[0] for row in rows})
    stretches: dict[str, _Sum] = {start: _Sum() for start in starts}
    actions: dict[str, dict[str, int]] = {start: {} for start in starts}
    rules: dict[tuple[str, str], _Sum] = {}
    over: dict[tuple[str, str], dict[str, int]] = {}
    versions: dict[str, int] = {}
    for start, version, action, rule, *sums in rows:
        for one in (whole, stretches[start], rules.setdefault((action, rule), _Sum())):
            one.add(tuple(sums))
        actions[start][action] = actions[start].get(action, 0) + sums[0]
        fired = over.setdefault((action, rule), {})
        fired[start] = fired.get(start, 0) + sums[0]
        versions[version] = versions.get(version, 0) + sums[0]
    lines = [
        RuleLine(*key, one.count, one.count / whole.count, one.known, one.value, [over[key].get(s, 0) for s in starts])
        for key, one in sorted(rules.items(), key=lambda pair: -pair[1].count)
    ]
    return Decided(
        known=whole.known,
        value=whole.value,
        expected=whole.hope,
        rules=lines,
        versions=versions,
        stretches=[
            Stretch(
                start,
                one.count,
                one.known,
                dict(sorted(actions[start].items())),
                one.value,
                one.hope,
                tuple(latency[start]) if latency.get(start) else None,
            )
            for start, one in stretches.items()
        ],
    )
