"""What an endpoint's decisions are worth, sliced by what they were made from; asked of the log in SQL."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.errors import NotFound
from sampan.hub.judged import SUMS, Unnamed, judge, margin_of, unmatched, unnamed
from sampan.lake.query import Source, open_sources, quote_text

if TYPE_CHECKING:
    from sampan.log.log import Log

#: Slices by what stands in every prediction, with what each is.
OWN: Final = {"action": "action taken in the end", "rule": "rule that fired", "version": "version", "month": "month"}
_WHOLE: Final = "SELECT unit, sum(decisions), sum(known), sum(money), sum(hopes), sum(hoped) FROM units GROUP BY unit"
_FIELDS: Final = (
    "SELECT DISTINCT unnest(json_keys(context)) FROM (SELECT context FROM asked ORDER BY _received DESC LIMIT 1000)"
    " ORDER BY 1 LIMIT 100"
)
_MOST: Final = 20  # slices
_WIDE: Final = 8  # distinct numbers, from which on they are sliced by quarters
_COLUMNS: Final = {
    "action": "coalesce(p.settled, p.action)",
    "rule": "p.rule",
    "version": "p.version",
    "month": "strftime(p.moment, '%Y-%m')",
}


class Slice(msgspec.Struct):
    """Decisions that have something in common. Money per 1,000 decisions: ``value`` over those whose outcome is known,
    ``margin`` half of its 95 % interval, ``expected`` when they were decided, ``cost`` of the model, ``net`` what is
    left after it (``sampan.hub.costs``); ``total`` is the money itself."""

    name: str
    decisions: int
    known: int
    entities: int
    total: float
    value: float | None
    margin: float | None
    expected: float | None
    cost: float | None = None
    net: float | None = None

    @property
    def low(self) -> float | None:
        """The lower end of the interval."""
        return None if self.value is None or self.margin is None else self.value - self.margin

    @property
    def high(self) -> float | None:
        """The upper end of the interval."""
        return None if self.value is None or self.margin is None else self.value + self.margin


class Valued(msgspec.Struct):
    """All decisions of an endpoint; their slices by a field; how many there are besides (``more``); and which fields
    the newest records had beside the model's inputs (``fields``). ``unmatched``: outcomes by key that no prediction
    precedes; ``unnamed``: those whose value no action's values name."""

    whole: Slice
    slices: list[Slice] = []
    more: int = 0
    fields: list[str] = []
    unmatched: int = 0
    unnamed: Unnamed = Unnamed()


def valued(log: "Log", endpoint: str, field: str, by: int | None = None) -> Valued:
    """What an endpoint's decisions are worth; ``by``: of what was known at an instant. Raises NotFound for a field that
    no decision has."""
    position = log.position()
    empty = Slice("all", 0, 0, 0, 0.0, None, None, None)
    if not log.state("prediction", position).count:
        return Valued(empty)
    names = ("prediction", "outcome", "review")
    sources: dict[str, Source] = {name: log.source(name, position, by) for name in names}
    connection = open_sources(sources, threads=2)
    try:
        judge(connection, endpoint, () if field in _COLUMNS else ("p.features", "p.context"))
        column, order = _column(connection, field)
        connection.execute(
            f"""
            CREATE TEMP TABLE units AS
            SELECT {column} AS slice, min({order}) AS place, unit, count(*) AS decisions, count(earned) AS known,
                   coalesce(sum(earned), 0) AS money, count(expected) AS hopes, coalesce(sum(expected), 0) AS hoped
            FROM judged AS p GROUP BY slice, unit
            """
        )
        (whole,) = _slices(connection, _WHOLE)
        found = _slices(connection)
        fields = connection.execute(_FIELDS).fetchall()
        strays, said = unmatched(connection, endpoint), unnamed(connection)
    finally:
        connection.close()
    if not whole.decisions:
        return Valued(empty)
    return Valued(whole, found[:_MOST], len(found[_MOST:]), [row[0] for row in fields], strays, said)


def _slices(connection: Any, whole: str = "") -> list[Slice]:
    source = (
        f"SELECT 'all' AS slice, 0 AS place, * FROM ({whole}) AS w(unit, decisions, known, money, hopes, hoped)"
        if whole
        else "SELECT slice, place, unit, decisions, known, money, hopes, hoped FROM units"
    )
    rows = connection.execute(
        f"""
        SELECT coalesce(slice, ''), coalesce(sum(decisions), 0), sum(hopes), sum(hoped), {SUMS}
        FROM ({source}) GROUP BY slice ORDER BY min(place), 2 DESC, 1
        """
    ).fetchall()
    if whole and not rows:
        return [Slice("all", 0, 0, 0, 0.0, None, None, None)]
    return [_slice(row) for row in rows]


def _slice(row: tuple[Any, ...]) -> Slice:
    name, decisions, hopes, hoped, *sums = row
    known, entities, money = sums[:3]
    value = money / known * 1000 if known else None
    margin = margin_of(*sums)
    expected = hoped / hopes * 1000 if hopes else None
    return Slice(str(name), int(decisions), int(known), int(entities), float(money), value, margin, expected)


def _column(connection: Any, field: str) -> tuple[str, str]:
    """What slices by a field, and what puts them in order. Raises NotFound for a field that no decision has."""
    if field in _COLUMNS:
        return _COLUMNS[field], f"CASE WHEN {quote_text(field)} = 'month' THEN -epoch(p.moment) ELSE 0 END"
    key = quote_text('$."' + field.replace("\\", "\\\\").replace('"', '\\"') + '"')
    found = f"coalesce(p.features->>{key}, p.context->>{key})"
    count, numbers, distinct = connection.execute(
        f"SELECT count({found}), count(TRY_CAST({found} AS DOUBLE)), count(DISTINCT {found}) FROM judged AS p"
    ).fetchone()
    if not count:
        raise NotFound(f"Slice by {field[:60]!r}", "no decision was made from such a field", "The page lists those.")
    if numbers < count or distinct <= _WIDE:
        place = f"coalesce(TRY_CAST({found} AS DOUBLE), 0)" if numbers == count else "0"
        return found, place
    edges = connection.execute(
        f"SELECT quantile_cont(TRY_CAST({found} AS DOUBLE), [0.25, 0.5, 0.75]) FROM judged AS p"
    ).fetchone()[0]
    number, edges = f"CAST({found} AS DOUBLE)", sorted(set(edges))
    words = [f"up to {edges[0]:,.4g}", *(f"{a:,.4g} to {b:,.4g}" for a, b in pairwise(edges))]
    last = f"above {edges[-1]:,.4g}"
    named = "".join(
        f" WHEN {number} <= {edge!r} THEN {quote_text(word)}" for edge, word in zip(edges, words, strict=True)
    )
    placed = "".join(f" WHEN {number} <= {edge!r} THEN {place}" for place, edge in enumerate(edges))
    ends = f" WHEN {number} IS NULL THEN 'none' ELSE {quote_text(last)} END"
    return f"CASE{named}{ends}", f"CASE{placed} ELSE {len(edges)} END"
