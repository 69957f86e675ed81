"""Runs side by side: what each has of every parameter, metric, tag and input, and plots over all of them."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median, quantiles
from typing import Any, Final

import msgspec

from sampan.hub.plots import COLOURS, Axis, Box, Plot, Trace, cut
from sampan.track.comparing import CURVES
from sampan.track.records import CONTEXT_TAG, Curve, Input, Run

PARAMS: Final = "params"
METRICS: Final = "metrics"
TAGS: Final = "tags"
INPUTS: Final = "inputs"
SYSTEM: Final = "system/"
#: Of the tags that clients set by themselves, those that tell what a run was made from.
_TOLD: Final = frozenset({"mlflow.source.git.commit", "mlflow.source.name", "mlflow.docker.image.id"})
_MILLIS: Final = 1000
_AXES: Final = 12
_BOXES: Final = 30
_CATEGORIES: Final = 60
_LONGEST: Final = 60
_NONE: Final = "(none)"
Cell = float | str | None


class Row(msgspec.Struct, kw_only=True):
    """What each run has under one name, in the order of the runs; None where it has nothing.

    ``kind``: params, metrics, tags or inputs (by dataset and use; the value is the digest). ``lowest`` and ``highest``
    are places in ``values``, of metrics; ``most`` has the most frequent other values with their counts.
    """

    kind: str
    name: str
    values: list[Cell]
    distinct: int
    missing: int
    lowest: int | None = None
    highest: int | None = None
    median: float | None = None
    most: list[tuple[str, int]] = []

    @property
    def differs(self) -> bool:
        return self.distinct > 1 or 0 < self.missing < len(self.values)

    @property
    def column(self) -> str:
        """The name as filters, orders and choices of columns have it."""
        return f"{self.kind}.{self.name}"


def rows_of(runs: Sequence[Run]) -> list[Row]:
    """A row for each name that one of the runs has: parameters, metrics, inputs, tags; system metrics last."""
    found: dict[tuple[str, str], list[Cell]] = {}

    def put(at: int, kind: str, values: Iterable[tuple[str, Cell]]) -> None:
        for name, value in values:
            found.setdefault((kind, name), [None] * len(runs))[at] = value

    for at, run in enumerate(runs):
        put(at, PARAMS, run.params.items())
        put(at, METRICS, ((one.key, one.value) for one in run.metrics))
        put(at, INPUTS, inputs_of(run).items())
        put(
            at, TAGS, ((name, one) for name, one in run.tags.items() if name in _TOLD or not name.startswith("mlflow."))
        )
    order = {PARAMS: 0, METRICS: 1, INPUTS: 2, TAGS: 3}
    keys = sorted(found, key=lambda key: (order[key[0]] + 3 * (key[0] == METRICS and key[1].startswith(SYSTEM)), key))
    return [_row(kind, name, found[kind, name]) for kind, name in keys]


def inputs_of(run: Run) -> dict[str, str]:
    """The digests of the datasets that a run read, by name and use."""
    found: dict[str, str] = {}
    for one in run.inputs:
        name = _used(one)
        found[name] = f"{found[name]}, {one.dataset.digest}" if name in found else one.dataset.digest
    return found


def input_rows(run: Run) -> dict[str, int]:
    """How many rows those datasets had, as far as clients told."""
    found: dict[str, int] = {}
    for one in run.inputs:
        try:
            rows = json.loads(one.dataset.profile or "{}")["num_rows"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(rows, int):
            found[_used(one)] = rows
    return found


def _used(one: Input) -> str:
    use = one.tags.get(CONTEXT_TAG, "")
    return f"{one.dataset.name} ({use})" if use else one.dataset.name


def _row(kind: str, name: str, values: list[Cell]) -> Row:
    there = [value for value in values if value is not None]
    counts = Counter(map(str, there))  # NaN is like NaN
    row = Row(kind=kind, name=name, values=values, distinct=len(counts), missing=len(values) - len(there))
    if kind == METRICS:
        finite = [at for at, value in enumerate(values) if isinstance(value, float) and math.isfinite(value)]
        if finite:
            row.lowest = min(finite, key=lambda at: values[at])  # type: ignore[return-value, arg-type]
            row.highest = max(finite, key=lambda at: values[at])  # type: ignore[return-value, arg-type]
            row.median = median(float(values[at] or 0.0) for at in finite)
    else:
        row.most = counts.most_common(3)
    return row


def numbers(values: Iterable[Cell]) -> list[float | None] | None:
    """Values as numbers, None where there is none that can be drawn; None if one of them is a word."""
    found: list[float | None] = []
    for value in values:
        try:
            one = None if value is None else float(value)
        except ValueError:
            return None
        found.append(one if one is not None and math.isfinite(one) else None)
    return found


def _words(values: Iterable[Cell]) -> list[str]:
    return [_NONE if value is None else cut(str(value), _LONGEST) for value in values]


# -- plots


def curves(metric: str, runs: Sequence[Run], found: Mapping[str, Curve]) -> Plot:
    """A metric of several runs over its steps, or over time if none of them has steps."""
    drawn = {one.id: found[one.id] for one in runs if one.id in found and found[one.id].drawn}
    timed = bool(drawn) and all(curve.timed or curve.points == 1 for curve in drawn.values())
    timed = timed and any(curve.timed for curve in drawn.values())
    shown = {id: curve for id, curve in drawn.items() if curve.timed == timed or curve.points == 1}
    names = {run.id: run.name for run in runs}
    says = f"{len(shown):,} runs." if len(shown) != 1 else "One run has it."
    if len(shown) == CURVES and len(runs) > CURVES:
        says = f"The first {CURVES} of {len(runs):,} runs."
    if not shown:
        says = "None of the runs has a value of it that can be drawn."
    if len(drawn) > len(shown):
        says += f" {len(drawn) - len(shown):,} others were logged without steps, and are not drawn."
    if any(curve.points > len(curve.drawn) for curve in shown.values()):
        says += " Of each stretch the lowest and the highest value are drawn."
    traces = [
        Trace(
            name=names[id],
            x=[place / _MILLIS if timed else float(place) for place, _ in curve.drawn],
            y=[value for _, value in curve.drawn],
            colour=COLOURS[at % len(COLOURS)],
        )
        for at, (id, curve) in enumerate(shown.items())
    ]
    cells: list[list[Cell]] = [
        [
            one.name,
            curve.points,
            min(v for v in one.y if v is not None),
            max(v for v in one.y if v is not None),
            one.y[-1],
        ]
        for one, curve in zip(traces, shown.values(), strict=True)
    ]
    heads = ["Run", "Values", "Lowest", "Highest", "Last"]
    x_name = "seconds" if timed else "step"
    return Plot(title=metric, says=says, x_name=x_name, y_name=metric, traces=traces, heads=heads, cells=cells)


def scatter(x: Row, y: Row, runs: Sequence[Run]) -> Plot:
    """A point for each run that has both."""
    up, across = numbers(y.values) or [], numbers(x.values)
    words = None if across is not None else _words(x.values)
    points: list[tuple[Any, float, str]] = [
        (place, height, run.name)
        for place, height, run in zip(across or words or [], up, runs, strict=True)
        if place is not None and height is not None
    ]
    categories = list(dict.fromkeys(sorted(place for place, _, _ in points))) if words else []
    kept = set(categories[:_CATEGORIES])
    points = [one for one in points if not words or one[0] in kept]
    says = f"{len(points):,} runs have both." if points else "No run has both."
    if len(categories) > len(kept):
        says += f" Those with the first {_CATEGORIES} of {len(categories):,} values are drawn."
    names = [name for _, _, name in points]
    trace = Trace(name=y.name, x=[x for x, _, _ in points], y=[y for _, y, _ in points], mode="markers", text=names)
    return Plot(
        title=f"{y.name} by {x.name}",
        says=says,
        x_name=x.name,
        y_name=y.name,
        traces=[trace],
        categories=categories[:_CATEGORIES],
        heads=["Run", x.name, y.name],
        cells=[[name, place, height] for place, height, name in points],
    )


def boxes(by: Row, metric: Row) -> Plot:
    """How a metric lies for each value of a parameter."""
    groups: dict[str, list[float]] = {}
    order = numbers(by.values)
    places: dict[str, float] = {}
    for at, (name, height) in enumerate(zip(_words(by.values), numbers(metric.values) or [], strict=True)):
        if height is not None:
            groups.setdefault(name, []).append(height)
            places[name] = (order[at] if order else None) or (0.0 if order else math.inf)
    names = sorted(groups, key=lambda name: (name == _NONE, places[name], name))
    most = sorted(names, key=lambda name: -len(groups[name]))[:_BOXES]
    found = [_box(name, groups[name]) for name in names if name in most]
    says = f"{metric.name} for each of {len(names):,} values of {by.name}: quartiles, lowest and highest."
    if len(names) > len(found):
        says += f" The {_BOXES} that most runs have are drawn."
    if not found:
        says = f"No run has a value of {metric.name}."
    return Plot(
        title=f"{metric.name} per {by.name}",
        says=says,
        x_name=by.name,
        y_name=metric.name,
        boxes=found,
        heads=[by.name, "Runs", "Lowest", "Lower quartile", "Median", "Upper quartile", "Highest"],
        cells=[[one.name, one.values, one.low, one.lower, one.median, one.upper, one.high] for one in found],
    )


def _box(name: str, values: list[float]) -> Box:
    lower, middle, upper = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return Box(name, len(values), min(values), lower, middle, upper, max(values))


def parallel(chosen: Sequence[Row], metric: Row | None, runs: Sequence[Run]) -> Plot:
    """A line for each run over an axis for each row; its colour tells in which third of the metric it lies."""
    rows = [one for one in chosen if one.kind in (PARAMS, METRICS)][: _AXES - 1]
    if metric is not None:
        rows = [*(one for one in rows if one.column != metric.column), metric]
    axes, heights = [], []
    for row in rows:
        axis, levels = _axis(row)
        axes.append(axis)
        heights.append(levels)
    ranked = numbers(metric.values) if metric is not None else None
    thirds = _thirds(ranked or [None] * len(runs))
    kinds = (("lowest third", "water"), ("middle third", "mute"), ("highest third", "wait"), ("without it", "violet"))
    traces = []
    for third, (word, colour) in enumerate(kinds):
        mine = [at for at, one in enumerate(thirds) if one == third]
        if not mine:
            continue
        trace = Trace(name=f"{metric.name}: {word}" if metric else "runs", x=[], y=[], colour=colour)
        for at in mine:
            trace.x += [*(float(place) for place in range(len(axes))), None]
            trace.y += [*(levels[at] for levels in heights), None]
            trace.text += [*(f"{runs[at].name}: {row.name} {_said(row.values[at])}" for row in rows), ""]
        traces.append(trace)
    says = f"A line for each of {len(runs):,} runs, an axis for each column that is chosen."
    if len(rows) < 2:
        axes, traces, says = [], [], "It takes two columns with parameters or metrics."
    return Plot(title="Parallel coordinates", says=says, axes=axes, traces=traces)


def _said(value: Cell) -> str:
    return "–" if value is None else f"{value:.6g}" if isinstance(value, float) else cut(value)


def _axis(row: Row) -> tuple[Axis, list[float | None]]:
    """An axis, and where on it, from 0 to 1, each run's value lies."""
    given = numbers(row.values)
    if given is not None:
        there = [value for value in given if value is not None]
        low, high = min(there, default=0.0), max(there, default=0.0)
        wide = high - low
        if not math.isfinite(wide):  # farther apart than a number can say
            return Axis(row.name, f"{low:.4g}", f"{high:.4g}"), [None] * len(given)
        levels = [None if value is None else (value - low) / wide if wide else 0.5 for value in given]
        return Axis(row.name, f"{low:.4g}", f"{high:.4g}" if wide else ""), levels
    words = _words(row.values)
    order = {word: at for at, word in enumerate(sorted(set(words)))}
    last = len(order) - 1
    names = list(order)
    return Axis(row.name, names[0], names[-1] if last else ""), [order[word] / last if last else 0.5 for word in words]


def _thirds(values: Sequence[float | None]) -> list[int]:
    """In which third of all each value lies: 0, 1 or 2; 3 for those that are missing."""
    there = sorted(value for value in values if value is not None)
    if not there:
        return [3] * len(values)
    lower, upper = there[(len(there) - 1) // 3], there[2 * (len(there) - 1) // 3]
    return [3 if one is None else 0 if one <= lower else 1 if one <= upper else 2 for one in values]
