"""Small pictures as SVG paths: a line of values, drawn on the server and by attributes alone."""

from collections.abc import Sequence
from typing import Final

WIDTH: Final = 200
HEIGHT: Final = 34
_ROOM: Final = 2  # above the highest value, so that its line is not cut


def spark(values: Sequence[float], most: float = 0.0) -> str:
    """The line through ``values`` in a picture of 200 by 34, zero at its foot, ``most`` or the greatest at its head."""
    top = max(most, *values, 1e-9) if values else 1.0
    step = WIDTH / max(len(values) - 1, 1)
    places = [(at * step, HEIGHT - 1 - value / top * (HEIGHT - 1 - _ROOM)) for at, value in enumerate(values)]
    return "M" + "L".join(f"{x:.3g} {y:.3g}" for x, y in places) if places else ""


def filled(values: Sequence[float], most: float = 0.0) -> str:
    """The same line closed to an area."""
    line = spark(values, most)
    return f"{line}V{HEIGHT}H0z" if line else ""
