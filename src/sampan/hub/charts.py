"""Charts as plain data: what a page shows with Plotly, what it draws without, what it says in words and as a table.

A chart is part of a page's context, so its JSON twin has it too. Colours are names of the look ("water", "good"), with
a ``$`` before them in Plotly's figure: ``static/charts.js`` puts in what the page's style sheet means by them, light or
dark. Nothing here imports Plotly.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import msgspec

Kind = Literal["line", "bar", "area"]
Value = float | int | None
#: Plain drawing: a picture of this size, with room for the axes.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 240, 56, 12, 12, 26
_DASHES: Final = ("solid", "dash", "dot", "dashdot")
_SYMBOLS: Final = ("circle", "diamond", "square", "triangle-up")


class Series(msgspec.Struct, kw_only=True):
    """One line or row of bars. ``y`` has a value, or None, for each place of the chart's ``x``."""

    name: str
    y: list[Value]
    kind: Kind = "line"
    colour: str = "water"
    text: list[str] = []


class Band(msgspec.Struct, kw_only=True):
    """What lies between two lines, filled. Both have a value, or None, for each place of the chart's ``x``; ``names``
    are those of the lower and the upper one."""

    low: list[Value]
    high: list[Value]
    names: tuple[str, str]
    colour: str = "water"


class Level(msgspec.Struct):
    """A line straight across, to compare with; its label stands above it, or ``below``."""

    y: float
    label: str
    below: bool = False


class Mark(msgspec.Struct):
    """Something that happened at one place of the x axis."""

    x: str
    label: str


class Chart(msgspec.Struct, kw_only=True):
    """A chart. ``says`` tells in a sentence what it shows, for those who do not see it. ``within``: the part of the y
    axis that is drawn, where all of it would hide what matters."""

    title: str
    says: str
    x: list[str]
    x_name: str
    series: list[Series]
    unit: str = ""
    dated: bool = False
    numbered: bool = False
    """Whether ``x`` holds numbers, which lie as far apart as they are."""
    stacked: bool = False
    bands: list[Band] = []
    levels: list[Level] = []
    within: tuple[float, float] | None = None
    marks: list[Mark] = []
    digits: int = 3

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(value is not None for row in self.rows() for value in row[1:])

    @property
    def columns(self) -> list[str]:
        """The names of the table's columns but the first."""
        return [*(one.name for one in self.series), *(name for one in self.bands for name in one.names)]

    @property
    def across(self) -> str:
        """What stands below the x axis."""
        return f"{self.x_name}, UTC" if self.dated else self.x_name

    def rows(self) -> list[list[Any]]:
        """The same as a table: x, then a value per series, then the bounds of bands."""
        bounds = [side for one in self.bands for side in (one.low, one.high)]
        return [[x, *(one.y[at] for one in self.series), *(one[at] for one in bounds)] for at, x in enumerate(self.x)]

    def figure(self) -> dict[str, Any]:
        """What Plotly draws."""
        soft = {"color": "$soft", "size": 12}
        several, marks = len(self.series) + len(self.bands) > 1, self._merged()
        axis = {"gridcolor": "$line", "zerolinecolor": "$line", "linecolor": "$line", "tickfont": soft}
        layout = {
            "autosize": True,
            "margin": {"l": 56, "r": 14, "t": 14 if not self.marks else 30, "b": 80 if several else 56},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": soft,
            "hovermode": "x unified",
            "hoverlabel": {"bgcolor": "$sheet", "bordercolor": "$line", "font": {"color": "$ink", "size": 12}},
            "dragmode": False,
            "showlegend": several,
            "legend": {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom", "font": soft},
            "barmode": "stack" if self.stacked else "group",
            "bargap": 0.25,
            "xaxis": {
                **axis,
                "title": {"text": literal(self.across), "font": soft, "standoff": 6},
                "type": "date" if self.dated else "linear" if self.numbered else "category",
                "showgrid": False,
                "automargin": True,
                "fixedrange": True,
                "tickangle": 0,
            },
            "yaxis": {
                **axis,
                "title": {"text": literal(self.unit), "font": soft},
                "automargin": True,
                "fixedrange": True,
                "rangemode": "tozero" if any(one.kind != "line" for one in self.series) else "normal",
                "separatethousands": True,
                **({"range": list(self.within)} if self.within else {}),
            },
            "shapes": [
                {
                    "type": "line",
                    "xref": "x",
                    "yref": "paper",
                    "x0": self._at(mark),
                    "x1": self._at(mark),
                    "y0": 0,
                    "y1": 1,
                    "line": {"color": "$mute", "width": 1, "dash": "dot"},
                }
                for mark in marks
            ]
            + [
                {
                    "type": "line",
                    "xref": "paper",
                    "yref": "y",
                    "x0": 0,
                    "x1": 1,
                    "y0": level.y,
                    "y1": level.y,
                    "line": {"color": "$soft", "width": 1, "dash": _DASHES[at % len(_DASHES)]},
                }
                for at, level in enumerate(self.levels)
            ],
            "annotations": [
                {
                    "x": self._at(mark),
                    "y": 1,
                    "yref": "paper",
                    "yanchor": "bottom",
                    "text": literal(mark.label),
                    "showarrow": False,
                    "font": {"color": "$soft", "size": 11},
                }
                for mark in marks
            ]
            + [
                {
                    "x": 0,
                    "xref": "paper",
                    "xanchor": "left",
                    "y": level.y,
                    "yanchor": "top" if level.below else "bottom",
                    "text": literal(level.label),
                    "showarrow": False,
                    "font": {"color": "$soft", "size": 11},
                }
                for level in self.levels
            ],
        }
        filled = [trace for one in self.bands for trace in self._filled(one)]
        return {"data": [*filled, *(self._trace(at, one) for at, one in enumerate(self.series))], "layout": layout}

    def _filled(self, one: Band) -> Iterator[dict[str, Any]]:
        """The lower line, and the upper one with what lies between them."""
        for name, values, fill in zip(one.names, (one.low, one.high), ("none", "tonexty"), strict=True):
            yield {
                **self._shared(name, values),
                "type": "scatter",
                "mode": "lines",
                "line": {"color": f"${one.colour}", "width": 1},
                "fill": fill,
                "fillcolor": f"${one.colour}-wash",
            }

    def _merged(self) -> list[Mark]:
        """Marks, of which those at one place are one."""
        labels: dict[str, list[str]] = {}
        for mark in self.marks:
            labels.setdefault(mark.x, []).append(mark.label)
        return [Mark(x, " → ".join(some) if len(some) < 3 else f"{some[0]} … {some[-1]}") for x, some in labels.items()]

    def _at(self, mark: Mark) -> str | int:
        """Where a mark stands: on an axis of names Plotly counts places, and takes "2" for the third."""
        return mark.x if self.dated or mark.x not in self.x else self.x.index(mark.x)

    def _trace(self, at: int, one: Series) -> dict[str, Any]:
        trace = self._shared(one.name, one.y, one.text)
        if one.kind == "bar":
            return {**trace, "type": "bar", "textposition": "none", "marker": {"color": f"${one.colour}"}}
        few = sum(value is not None for value in one.y) <= 60
        line = {"color": f"${one.colour}", "width": 2, "dash": _DASHES[at % len(_DASHES)]}
        trace |= {
            "type": "scatter",
            "mode": "lines+markers" if few else "lines",
            "line": line,
            "marker": {"size": 6, "symbol": _SYMBOLS[at % len(_SYMBOLS)], "color": f"${one.colour}"},
        }
        if one.kind == "area":
            trace |= {"fill": "tozeroy", "fillcolor": f"${one.colour}-wash"}
        return trace

    def _shared(self, name: str, values: list[Value], texts: Sequence[str] = ()) -> dict[str, Any]:
        return {
            "name": literal(name),
            "x": [literal(x) for x in self.x],
            "y": values,
            "hovertemplate": f"%{{y:,.{self.digits}~f}} {literal(self.unit)}%{{text}}",
            "text": [f" {literal(text)}" if text else "" for text in texts] or [""] * len(values),
        }

    # -- the same drawn plainly, for a page whose scripts do not run or have not come yet

    def drawing(self) -> "Plain":
        """Paths, bars and a few numbers at the axes."""
        low, high = self._range()
        span = high - low or 1.0
        wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        count = max(len(self.x), 1)
        step = wide / count

        def down(value: float) -> float:
            return round(TOP + tall * (1 - (min(max(value, low), high) - low) / span), 1)

        places = [LEFT + step * (at + 0.5) for at in range(count)]
        lines: list[tuple[str, str]] = []
        bars: list[tuple[str, float, float, float, float]] = []
        rows = [one for one in self.series if one.kind == "bar"]
        base = [0.0] * count
        for one in self.series:
            if one.kind != "bar":
                lines.append((one.colour, _path(places, one.y, down)))
                continue
            share = 1 if self.stacked else len(rows)
            thick = step * 0.75 / share
            for at, value in enumerate(one.y):
                if value is None:
                    continue
                start = base[at] if self.stacked else 0.0
                x = LEFT + step * at + step * 0.125 + (0 if self.stacked else rows.index(one) * thick)
                top, foot = down(max(start, start + value)), down(min(start, start + value))
                bars.append((one.colour, round(x, 1), top, round(max(thick, 0.5), 1), round(foot - top, 1)))
                base[at] += float(value) if self.stacked else 0.0
        return Plain(
            lines,
            bars,
            [(down(value), value) for value in (low, (low + high) / 2, high)],
            [(one.colour, _area(places, one, down)) for one in self.bands],
            [(down(one.y), one.label, one.below) for one in self.levels if low <= one.y <= high],
        )

    def _range(self) -> tuple[float, float]:
        if self.stacked:
            sums = [sum(one.y[at] or 0 for one in self.series) for at in range(len(self.x))]
            return min([0.0, *sums]), max([0.0, *sums])
        if self.within:
            return self.within
        drawn = [*(one.y for one in self.series), *(side for one in self.bands for side in (one.low, one.high))]
        values = [float(value) for row in drawn for value in row if value is not None] or [0.0]
        values += [one.y for one in self.levels]
        low, high = min(values), max(values)
        if any(one.kind != "line" for one in self.series):
            low, high = min(low, 0.0), max(high, 0.0)
        return (low - 0.5, high + 0.5) if low == high else (low, high)


class Plain(msgspec.Struct):
    """Coloured paths, coloured bars (x, y, width, height), marks of the y axis (y, value), coloured areas, and lines
    straight across (y, label, whether that stands below)."""

    lines: list[tuple[str, str]]
    bars: list[tuple[str, float, float, float, float]]
    ticks: list[tuple[float, float]]
    areas: list[tuple[str, str]] = []
    levels: list[tuple[float, str, bool]] = []


def _path(places: Sequence[float], values: Sequence[Value], down: Any) -> str:
    """A path through the values that there are; a gap where one is missing."""
    parts, drawing = [], False
    for x, value in zip(places, values, strict=True):
        if value is not None:
            parts.append(f"{'L' if drawing else 'M'}{round(x, 1):g} {down(float(value)):g}")
        drawing = value is not None
    return "".join(parts)


def _area(places: Sequence[float], one: Band, down: Any) -> str:
    """A path around what lies between two lines, where both have values."""
    both = [
        (round(x, 1), down(float(low)), down(float(high)))
        for x, low, high in zip(places, one.low, one.high, strict=True)
        if low is not None and high is not None
    ]
    there = [f"{x:g} {high:g}" for x, _, high in both]
    back = [f"{x:g} {low:g}" for x, low, _ in reversed(both)]
    return f"M{'L'.join([*there, *back])}Z" if both else ""


def literal(text: str) -> str:
    """A text as Plotly shows it letter by letter: it takes some tags for mark-up."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "%&#123;")
