"""Drawing a flow: steps in ranks from top to bottom, each below all that it needs, lines crossing as little as can be.

Layered drawing after Sugiyama, Tagawa and Toda (1981): ranks by longest path, long lines led through empty places in
the ranks that they pass, order within a rank by the mean place of the neighbours.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

WIDTH, HEIGHT, GAP_X, GAP_Y, EDGE = 176, 44, 16, 36, 6
_SWEEPS: Final = 8


class Box(msgspec.Struct):
    """A step as it is drawn; ``x`` and ``y`` are its upper left corner."""

    name: str
    x: float
    y: float


class Drawing(msgspec.Struct):
    """Boxes and the lines between them, in a picture of ``width`` by ``height``."""

    width: float
    height: float
    boxes: list[Box]
    lines: list[str]


def draw(needs: Mapping[str, Sequence[str]]) -> Drawing:
    """Lay out a flow given what each step needs. What is needed but is no step is drawn as well, as an input."""
    graph = {name: [one for one in dict.fromkeys(needs[name]) if one != name] for name in needs}
    for name in [one for wanted in needs.values() for one in wanted]:
        graph.setdefault(name, [])
    rank = _ranks(graph)
    rows: list[list[Any]] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
    for name in graph:
        rows[rank[name]].append(name)
    above: dict[Any, list[Any]] = {name: [] for name in graph}
    ways: list[list[Any]] = []
    for name, wanted in graph.items():
        for source in wanted:
            way: list[Any] = [source]
            for between in range(rank[source] + 1, rank[name]):
                bend = (source, name, between)
                rows[between].append(bend)
                above[bend] = [way[-1]]
                way.append(bend)
            above[name].append(way[-1])
            ways.append([*way, name])
    _untangle(rows, above)
    place = _places(rows, above)
    left = min(place.values(), default=0)
    place = {node: x - left + EDGE for node, x in place.items()}
    wide = max(place.values(), default=0) + WIDTH + EDGE
    level = [EDGE + number * (HEIGHT + GAP_Y) for number in range(len(rows))]
    boxes = [Box(name, round(place[name], 1), level[rank[name]]) for name in graph]
    return Drawing(
        wide, len(rows) * (HEIGHT + GAP_Y) - GAP_Y + 2 * EDGE, boxes, [_line(w, place, rank, level) for w in ways]
    )


def _ranks(graph: Mapping[str, Sequence[str]]) -> dict[str, int]:
    rank: dict[str, int] = {}

    def of(name: str, trail: tuple[str, ...]) -> int:
        if name not in rank:
            below = [of(one, (*trail, name)) for one in graph[name] if one not in trail]
            rank[name] = max(below, default=-1) + 1
        return rank[name]

    for name in graph:
        of(name, ())
    for name in graph:  # an input stands right above its first user, not at the very top
        users = [rank[user] for user, wanted in graph.items() if name in wanted]
        if not graph[name] and users:
            rank[name] = max(0, min(users) - 1)
    return rank


def _untangle(rows: list[list[Any]], above: Mapping[Any, Sequence[Any]]) -> None:
    below: dict[Any, list[Any]] = {}
    for node, sources in above.items():
        for source in sources:
            below.setdefault(source, []).append(node)
    for sweep in range(_SWEEPS):
        downward = sweep % 2 == 0
        for number in range(len(rows)) if downward else reversed(range(len(rows))):
            other = (
                rows[number - 1]
                if downward and number
                else rows[number + 1]
                if not downward and number + 1 < len(rows)
                else []
            )
            where = {node: at for at, node in enumerate(other)}
            near = above if downward else below
            own = {node: at for at, node in enumerate(rows[number])}

            def middle(node: Any, near: Any = near, where: Any = where, own: Any = own) -> float:
                found = [where[one] for one in near.get(node, ()) if one in where]
                return sum(found) / len(found) if found else float(own[node])

            rows[number].sort(key=middle)


def _places(rows: list[list[Any]], above: Mapping[Any, Sequence[Any]]) -> dict[Any, float]:
    """Horizontal places: every node as near to its neighbours as order and distance within its row allow."""
    below: dict[Any, list[Any]] = {}
    for node, sources in above.items():
        for source in sources:
            below.setdefault(source, []).append(node)
    pulls: dict[Any, list[tuple[Any, float]]] = {}
    for node, sources in above.items():
        for source in sources:
            pull = _pull(source, node, len(below[source]) == 1 == len(sources))
            pulls.setdefault(node, []).append((source, pull))
            pulls.setdefault(source, []).append((node, pull))
    place: dict[Any, float] = {}
    for row in rows:
        at = 0.0
        for node in row:
            place[node] = at
            at += _room(node)
        for node in row:
            place[node] -= at / 2
    for sweep in range(12 * _SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = []
            for node in row:
                found = pulls.get(node, ())
                mass = sum(pull for _, pull in found)
                middle = sum((place[one] + _half(one)) * pull for one, pull in found) / mass if mass else 0.0
                wanted.append(middle - _half(node) if mass else place[node])
            weights = [sum(pull for _, pull in pulls.get(node, ())) + 0.1 for node in row]
            for node, x in zip(row, _spread(row, wanted, weights), strict=True):
                place[node] = x
    return place


def _pull(source: Any, node: Any, only: bool) -> float:
    """How strongly a line wants to be straight: the more, the farther from boxes it runs (after Gansner et al., 1993),
    and between two things that have only each other."""
    bends = (not isinstance(source, str)) + (not isinstance(node, str))
    return 8.0 if bends == 2 or (only and not bends) else 2.0 if bends else 1.0


def _half(node: Any) -> float:
    return WIDTH / 2 if isinstance(node, str) else 0.0


def _room(node: Any) -> float:
    """How much of a row a node takes: a box, or the place where a line passes."""
    return WIDTH + GAP_X if isinstance(node, str) else GAP_X


def _spread(row: Sequence[Any], wanted: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The places nearest to the wanted ones that keep order and distance.

    With the distances taken off, this is isotonic regression: neighbours that would overlap are pooled at their
    weighted mean (Ayer et al., 1955).
    """
    offsets = [0.0]
    for node in row[:-1]:
        offsets.append(offsets[-1] + _room(node))
    pools: list[tuple[float, float, int]] = []
    for want, offset, weight in zip(wanted, offsets, weights, strict=True):
        mean, mass, count = want - offset, weight, 1
        while pools and pools[-1][0] > mean:
            other, heavy, many = pools.pop()
            mean = (mean * mass + other * heavy) / (mass + heavy)
            mass, count = mass + heavy, count + many
        pools.append((mean, mass, count))
    flat = [mean for mean, _, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(flat, offsets, strict=True)]


def _line(way: Sequence[Any], place: Mapping[Any, float], rank: Mapping[str, int], level: Sequence[float]) -> str:
    start, end = way[0], way[-1]
    x, y = place[start] + WIDTH / 2, level[rank[start]] + HEIGHT
    parts = [f"M{x:.0f} {y:.0f}"]
    for step in range(1, len(way)):
        node = way[step]
        number = rank[start] + step
        to_x = place[node] + (WIDTH / 2 if node == end else 0)
        to_y = level[number]
        middle = (y + to_y) / 2
        parts.append(f"C{x:.0f} {middle:.0f} {to_x:.0f} {middle:.0f} {to_x:.0f} {to_y:.0f}")
        x, y = to_x, to_y
        if node != end:
            y = to_y + HEIGHT
            parts.append(f"L{x:.0f} {y:.0f}")
    return "".join(parts)
