"""Plots of many runs: curves over each other, points, parallel axes, boxes. Plain data, like ``sampan.hub.charts``.

What is worked out is worked out here; Plotly only draws it, and without Plotly the page draws the same plainly.
"""

from typing import Any, Final, Literal

import msgspec

from sampan.hub.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, literal

COLOURS: Final = ("water", "wait", "good", "violet", "bad", "mute")
_DASHES: Final = ("solid", "dash", "dot", "dashdot")
_SYMBOLS: Final = ("circle", "diamond", "square", "triangle-up")
_LEGEND: Final = 24
_LONGEST: Final = 28
_MANY: Final = 500  # points of lines that lie over each other
Place = float | str | None


class Trace(msgspec.Struct, kw_only=True):
    """A line or points. A None breaks a line. ``text`` says of each point what it is."""

    name: str
    x: list[Place]
    y: list[float | None]
    mode: Literal["lines", "markers"] = "lines"
    colour: str = "water"
    text: list[str] = []


class Box(msgspec.Struct):
    """How values lie: lowest, quartiles, highest, and how many they are."""

    name: str
    values: int
    low: float
    lower: float
    median: float
    upper: float
    high: float


class Axis(msgspec.Struct):
    """One of several parallel axes: its name, and what stands at its foot and at its head."""

    name: str
    low: str
    high: str


class Plot(msgspec.Struct, kw_only=True):
    """A plot of traces, or of boxes, or of traces over parallel ``axes`` (places 0, 1, …; heights from 0 to 1).

    ``says`` tells in a sentence what it shows. ``categories``: the values of x in order, if they are no numbers.
    ``heads`` and ``cells`` are the same as a table, if it is not on the page anyway.
    """

    title: str
    says: str
    x_name: str = ""
    y_name: str = ""
    traces: list[Trace] = []
    boxes: list[Box] = []
    axes: list[Axis] = []
    categories: list[str] = []
    heads: list[str] = []
    cells: list[list[float | str | None]] = []

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.boxes and not any(value is not None for one in self.traces for value in one.y)

    # -- drawn by Plotly

    def figure(self) -> dict[str, Any]:
        """What Plotly draws."""
        soft = {"color": "$soft", "size": 12}
        axis: dict[str, Any] = {"gridcolor": "$line", "zerolinecolor": "$line", "linecolor": "$line", "tickfont": soft}
        axis |= {"automargin": True, "fixedrange": True}
        across: dict[str, Any] = {**axis, "showgrid": False, "title": {"text": literal(self.x_name), "font": soft}}
        up: dict[str, Any] = {**axis, "title": {"text": literal(self.y_name), "font": soft}}
        notes: list[dict[str, Any]] = []
        if self.axes:
            names = [literal(cut(one.name)) for one in self.axes]
            across |= {"tickvals": list(range(len(names))), "ticktext": names, "showgrid": True, "title": {"text": ""}}
            across |= {"range": [-0.35, len(names) - 0.65]}
            up |= {"visible": False, "range": [-0.12, 1.12]}
            for at, one in enumerate(self.axes):
                ends = ((0, one.low, "top"), (1, one.high, "bottom"))
                notes += [
                    {"x": at, "y": y, "text": literal(cut(text)), "yanchor": anchor, "showarrow": False, "font": soft}
                    for y, text, anchor in ends
                ]
        elif self.categories or self.boxes:
            order = self.categories or [one.name for one in self.boxes]
            across |= {"type": "category", "categoryorder": "array", "categoryarray": [literal(one) for one in order]}
        layout = {
            "autosize": True,
            "margin": {"l": 56, "r": 14, "t": 14, "b": 44},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": soft,
            "hovermode": "closest",
            "hoverlabel": {"bgcolor": "$sheet", "bordercolor": "$line", "font": {"color": "$ink", "size": 12}},
            "dragmode": False,
            "showlegend": 1 < len(self.traces) <= _LEGEND,
            "legend": {"orientation": "h", "x": 0, "y": 1.04, "yanchor": "bottom", "font": soft},
            "xaxis": across,
            "yaxis": up,
            "annotations": notes,
        }
        drawn = [self._boxes()] if self.boxes else [self._trace(at, one) for at, one in enumerate(self.traces)]
        return {"data": drawn, "layout": layout}

    def _trace(self, at: int, one: Trace) -> dict[str, Any]:
        colour = f"${one.colour}"
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines+markers" if one.mode == "lines" and len(one.x) == 1 else one.mode,
            "name": literal(cut(one.name)),
            "x": [literal(x) if isinstance(x, str) else x for x in one.x],
            "y": one.y,
            "text": [literal(text) for text in one.text] or literal(one.name),
            "hovertemplate": "%{text}<br>%{x}, %{y:.6~g}<extra></extra>",
            "marker": {"size": 8, "symbol": _SYMBOLS[at % len(_SYMBOLS)], "color": colour, "opacity": 0.8},
            "line": {"color": colour, "width": 1.6, "dash": _DASHES[at // len(COLOURS) % len(_DASHES)]},
        }
        if self.axes:
            trace |= {
                "hovertemplate": "%{text}<extra></extra>",
                "line": {"color": colour, "width": 1.2},
                "opacity": 0.7,
            }
        return trace

    def _boxes(self) -> dict[str, Any]:
        return {
            "type": "box",
            "x": [literal(one.name) for one in self.boxes],
            "q1": [one.lower for one in self.boxes],
            "median": [one.median for one in self.boxes],
            "q3": [one.upper for one in self.boxes],
            "lowerfence": [one.low for one in self.boxes],
            "upperfence": [one.high for one in self.boxes],
            "line": {"color": "$water", "width": 1.6},
            "fillcolor": "$water-wash",
            "name": literal(self.y_name),
        }

    # -- the same drawn plainly

    def drawing(self) -> "Plain":
        """Paths, points, boxes, and what stands at the axes."""
        low, high = self._heights()
        span = high - low or 1.0
        tall, wide = HEIGHT - TOP - BOTTOM, WIDTH - LEFT - RIGHT

        def down(value: float) -> float:
            return round(TOP + tall * (1 - (value - low) / span), 1)

        ticks = [] if self.axes else [(down(value), value) for value in (low, (low + high) / 2, high)]
        if self.boxes:
            return self._plain_boxes(down, wide, ticks)
        order = {name: at for at, name in enumerate(self.categories)}
        places = [_number(x, order) for one in self.traces for x in one.x]
        known = [x for x in places if x is not None]
        first, last = (0, len(self.axes) - 1) if self.axes else (min(known, default=0.0), max(known, default=1.0))

        def right(place: float) -> float:
            return round(LEFT + wide * ((place - first) / (last - first) if last > first else 0.5), 1)

        picture = Plain(ticks=ticks)
        for one in self.traces:
            path, drawing = "", False
            for x, y in zip(one.x, one.y, strict=True):
                at = _number(x, order)
                if at is None or y is None:
                    drawing = False
                elif one.mode == "markers" or len(one.x) == 1:
                    picture.dots.append((one.colour, right(at), down(y)))
                else:
                    path += f"{'L' if drawing else 'M'}{right(at):g} {down(y):g}"
                    drawing = True
            if path:
                picture.lines.append((one.colour, path))
        if self.axes:
            names = [(right(at), cut(one.name, 90 // len(self.axes) + 4)) for at, one in enumerate(self.axes)]
            picture.upright = [right(at) for at in range(len(self.axes))]
        elif self.categories:
            names = [(right(at), cut(name, 12)) for name, at in order.items()][:10]
        else:
            names = [(right(place), f"{place:.6g}") for place in dict.fromkeys((first, last))]
        picture.names = [(x, text, _anchor(x)) for x, text in names]
        return picture

    def _plain_boxes(self, down: Any, wide: int, ticks: list[tuple[float, float]]) -> "Plain":
        picture, step = Plain(ticks=ticks), wide / len(self.boxes)
        half = min(step * 0.3, 30)
        for at, one in enumerate(self.boxes):
            x = LEFT + step * (at + 0.5)
            top, foot = down(one.upper), down(one.lower)
            picture.bars.append((round(x - half, 1), top, round(2 * half, 1), round(foot - top, 1)))
            whiskers = f"M{x:.1f} {down(one.low)}V{foot}M{x:.1f} {top}V{down(one.high)}"
            picture.lines.append(("water", f"{whiskers}M{x - half:.1f} {down(one.median)}h{2 * half:.1f}"))
            picture.names.append((round(x, 1), cut(one.name, max(int(step // 7), 4)), "middle"))
        return picture

    def _heights(self) -> tuple[float, float]:
        if self.axes:
            return 0.0, 1.0
        values = [value for one in self.boxes for value in (one.low, one.high)]
        values += [value for one in self.traces for value in one.y if value is not None]
        low, high = min(values, default=0.0), max(values, default=1.0)
        return (low - 0.5, high + 0.5) if low == high else (low, high)


class Plain(msgspec.Struct, kw_only=True):
    """Coloured paths; points (x, y); boxes (x, y, width, height); marks of y; names below x; uprights."""

    lines: list[tuple[str, str]] = []
    dots: list[tuple[str, float, float]] = []
    bars: list[tuple[float, float, float, float]] = []
    ticks: list[tuple[float, float]] = []
    names: list[tuple[float, str, str]] = []
    upright: list[float] = []


def _number(place: Place, order: dict[str, int]) -> float | None:
    return float(order[place]) if isinstance(place, str) else place


def _anchor(x: float) -> str:
    return "start" if x < LEFT + 30 else "end" if x > WIDTH - RIGHT - 30 else "middle"


def cut(text: str, most: int = _LONGEST) -> str:
    """A name as there is room for it."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
