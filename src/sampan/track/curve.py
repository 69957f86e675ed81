"""A metric to be drawn, of a million points in a fraction of a second: few are drawn, its extremes among them."""

from typing import Any, Final

from sampan.store.database import Database
from sampan.track.records import Curve

#: Stretches that a curve is drawn of.
PLACES: Final = 300
_OF: Final = "FROM points WHERE run = ? AND key = ?"
_DRAWABLE: Final = "value > -9e999 AND value < 9e999"
_IN_ORDER: Final = "ORDER BY step, time, value LIMIT"
_BACKWARDS: Final = "ORDER BY step DESC, time DESC, value DESC LIMIT"


def draw(db: Database, run: int, key: int | None, places: int) -> Curve:
    """The first and last point of a run's metric, and the lowest and highest of each of so many stretches.

    Every point is looked at once, along the key: grouping by an expression would sort them. The step of an extreme
    is then sought in its stretch.
    """
    of = (run, key)
    few = db.rows(f"SELECT step, time, value {_OF} {_IN_ORDER} ?", (*of, 2 * places + 1))
    if not few:
        return Curve([], False, 0, 0)
    ((low, first, _), (high, last, _)) = few[0], db.rows(f"SELECT step, time, value {_OF} {_BACKWARDS} 1", of)[0]
    timed = low == high and first < last
    at, start, end = ("time", first, last) if timed else ("step", low, high)
    if len(few) <= 2 * places:
        found = [(row[at], row["value"]) for row in few]
        drawn = [point for point in found if _drawable(point[1])]
        return Curve(_placed(drawn, first, timed), timed, len(few), len(few) - len(drawn))
    kept, points, odd = [], 0, 0
    for place in range(places):
        bounds = (start + (end - start + 1) * part // places for part in (place, place + 1))
        given = (*of, *((low,) if timed else ()), *bounds)
        stretch = f"{_OF} {'AND step = ?' if timed else ''} AND {at} >= ? AND {at} < ?"
        count, lowest, highest = db.rows(f"SELECT count(*), min(value), max(value) {stretch}", given)[0]
        points += count
        if count and not (_drawable(lowest) and _drawable(highest)):
            stretch += f" AND {_DRAWABLE}"
            all_, (count, lowest, highest) = (
                count,
                db.rows(f"SELECT count(*), min(value), max(value) {stretch}", given)[0],
            )
            odd += all_ - count
        if count:
            ends = {lowest, highest}
            kept += sorted(
                (db.rows(f"SELECT {at} {stretch} AND value = ? LIMIT 1", (*given, value))[0][0], value)
                for value in ends
            )
    edges = [
        [(row[0], row[1]) for row in db.rows(f"SELECT {at}, value {_OF} AND {_DRAWABLE} {order} 1", of)]
        for order in (_IN_ORDER, _BACKWARDS)
    ]
    return Curve(_placed([*edges[0], *kept, *edges[1]], first, timed), timed, points, odd)


def _drawable(value: Any) -> bool:
    """Whether it is a number that is finite: NaN is kept as a text."""
    return isinstance(value, float) and abs(value) != float("inf")


def _placed(found: list[tuple[int, float]], first: int, timed: bool) -> list[tuple[int, float]]:
    return [(place - first, value) for place, value in found] if timed else found
