"""Numbers of one source against those of others: another scale, sign or zero point. Formulas, no reading.

Everything is robust: medians and quantiles, of logarithms where a factor is looked for. Different goods are normal (a
wholesaler's prices lie a factor of three apart), so only a factor of 30 and more counts (of nine, where the unit is
known to have parts of that size), and only if the whole distribution has moved by it: at each of five quantiles the
same, give or take a factor of 3.5.
"""

from collections.abc import Mapping
from math import log10
from typing import Any, Final, NamedTuple

import numpy as np

LEAST: Final = 50  # numbers that a source must have
_DISTINCT: Final = 5  # different ones: a constant says nothing about a scale
_QUANTILES: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
_FACTOR: Final = log10(9)  # where the unit has parts of that size, else …
_FAR: Final = log10(30)
_SHAPE: Final = log10(3.5)
_NEAR: Final = log10(3.3)  # of a known factor: goods may differ besides
_SIGNED: Final = 0.95
_CURRENCIES: Final = (
    "EUR", "USD", "CHF", "AUD", "CAD", "NZD", "SGD", "HKD", "BRL", "MXN", "PLN", "CZK", "SEK", "NOK", "DKK", "INR",
    "CNY", "ZAR",
)  # fmt: skip
_PARTS: Final[Mapping[str, Mapping[float, str]]] = {
    "GBP": {100: "pence", 1e-3: "thousands of GBP"},
    "GBX": {1e-2: "pounds"},
    **{code: {100: "cents", 1e-3: f"thousands of {code}"} for code in _CURRENCIES},
    "ct": {1e-2: "whole units"},
    "kg": {1e3: "grams", 1e-3: "tonnes"},
    "g": {1e-3: "kilograms", 1e3: "milligrams"},
    "km": {1e3: "metres"},
    "m": {1e3: "millimetres", 100: "centimetres", 1e-3: "kilometres"},
    "cm": {10: "millimetres", 1e-2: "metres"},
    "mm": {1e-3: "metres", 0.1: "centimetres"},
    "s": {1e3: "milliseconds", 1e6: "microseconds", 1 / 60: "minutes", 1 / 3600: "hours"},
    "ms": {1e-3: "seconds", 1e3: "microseconds"},
    "min": {60: "seconds", 1 / 60: "hours"},
    "h": {60: "minutes", 3600: "seconds"},
    "l": {1e3: "millilitres"},
    "kWh": {1e3: "watt-hours"},
    "%": {1e-2: "shares of one"},
}
_ANY: Final[Mapping[float, str]] = dict.fromkeys((10, 100, 1000.0, 1000000.0, 0.1, 0.01, 0.001, 1e-06), "")
_DEGREES: Final[Mapping[str, str]] = {
    "°C": "C", "C": "C", "celsius": "C", "degC": "C", "°F": "F", "F": "F", "fahrenheit": "F", "K": "K", "kelvin": "K",
}  # fmt: skip
_TO: Final[Mapping[str, tuple[tuple[str, float, float], ...]]] = {
    "C": (("degrees Fahrenheit", 1.8, 32.0), ("kelvins", 1.0, 273.15)),
    "F": (("degrees Celsius", 5 / 9, -160 / 9), ("kelvins", 5 / 9, 459.67 * 5 / 9)),
    "K": (("degrees Celsius", 1.0, -273.15), ("degrees Fahrenheit", 1.8, -459.67)),
}


class Numbers(NamedTuple):
    """What is kept of one source's numbers: as they are, and sorted logarithms of their sizes."""

    values: Any
    sizes: Any
    positive: float
    whole: bool
    distinct: int


class Difference(NamedTuple):
    """How one source's numbers differ. ``size`` orders differences by how striking they are."""

    kind: str
    text: str
    size: float


def numbers(values: Any) -> Numbers | None:
    """Finite numbers made ready to be compared; None if there are too few to say anything."""
    kept = np.asarray(values, np.float64)
    kept = kept[np.isfinite(kept)]
    if len(kept) < LEAST:
        return None
    other = kept[kept != 0]
    positive = float(np.mean(other > 0)) if len(other) else 0.5
    whole = bool(np.all(kept == np.floor(kept)))
    return Numbers(kept, np.sort(np.log10(np.abs(other))), positive, whole, len(np.unique(kept)))


def together(parts: list[Numbers], most: int = 1_000) -> Numbers | None:
    """Several sources as one, none of them with more than ``most`` numbers, evenly taken."""
    return numbers(np.concatenate([part.values[:: max(1, len(part.values) // most)] for part in parts]))


def difference(one: Numbers, rest: Numbers, unit: str | None, *, degrees: bool = False) -> Difference | None:
    """How ``one`` differs from ``rest`` in sign, scale or zero point; None if it does not, or if that cannot be said.

    ``degrees``: these are temperatures, whatever the unit says.
    """
    if one.distinct < _DISTINCT or rest.distinct < _DISTINCT:
        return None
    return _turned(one, rest) or _moved(one, rest, unit, degrees=degrees) or _scaled(one, rest, unit)


def _turned(one: Numbers, rest: Numbers) -> Difference | None:
    if min(len(one.sizes), len(rest.sizes)) < LEAST:
        return None
    for mine, theirs, word in ((one.positive, rest.positive, "above"), (1 - one.positive, 1 - rest.positive, "below")):
        if mine >= _SIGNED and theirs <= 1 - _SIGNED:
            other = "below" if word == "above" else "above"
            return Difference("sign", f"lies {word} zero where others lie {other}: the sign looks turned", 9.0)
    return None


def _scaled(one: Numbers, rest: Numbers, unit: str | None) -> Difference | None:
    if min(len(one.sizes), len(rest.sizes)) < LEAST:
        return None
    moves = np.quantile(one.sizes, _QUANTILES) - np.quantile(rest.sizes, _QUANTILES)
    middle = float(np.median(moves))
    if abs(middle) < _FACTOR or float(np.max(np.abs(moves - middle))) > _SHAPE:
        return None
    here, there = float(np.median(one.values)), float(np.median(rest.values))
    said = f"median {here:.4g} against {there:.4g}{f' {unit}' if unit else ''}"
    part = _nearest(_PARTS.get(unit or "", {}), middle)
    if abs(middle) < (_FACTOR if part else _FAR):
        return None
    if part is not None:
        text = f"looks like {part[1]} instead of {unit} ({_times(part[0])}): {said}"
    elif (any_ := _nearest(_ANY, middle)) is not None:
        text = f"looks like another unit ({_times(any_[0])}): {said}"
    else:
        text = f"is on another scale, by a factor of about {10**middle:.3g}: {said}"
    return Difference("scale", text, abs(middle))


def _nearest(known: Mapping[float, str], middle: float) -> tuple[float, str] | None:
    """The known factor that a move of the median is near to."""
    near = min(known, key=lambda factor: abs(log10(factor) - middle), default=1.0)
    return (near, known[near]) if near in known and abs(log10(near) - middle) <= _NEAR else None


def _times(factor: float) -> str:
    return f"x{factor:g}" if factor > 1 else f"1/{round(1 / factor):g}"


def _moved(one: Numbers, rest: Numbers, unit: str | None, *, degrees: bool) -> Difference | None:
    """Temperatures in degrees of another scale: the distribution fits after the conversion, and by far not before."""
    scale = _DEGREES.get(unit or "", "C" if degrees else "")
    low, here, high = np.quantile(one.values, (0.25, 0.5, 0.75))
    below, there, above = np.quantile(rest.values, (0.25, 0.5, 0.75))
    for name, factor, shift in _TO.get(scale, ()):
        width = max((above - below) * factor, high - low, 1e-9)
        before, after = abs(here - there), abs(here - (factor * there + shift))
        if before > 1.5 * width and after < 0.75 * width and after * 4 < before:
            what = f"instead of {unit}" if unit else "where others are in another scale"
            said = f"median {here:.4g} against {there:.4g}{f' {unit}' if unit else ''}"
            return Difference("shift", f"looks like {name} {what}: {said}", 5.0)
    return None


def zone(one: Any, rest: Any) -> float | None:
    """Hours by which one source's clock differs from the others', if that looks like a time zone; else None.

    Both are differences in seconds between two instants of each event. They must be narrow (half of them within five
    minutes), and their medians lie a multiple of 30 minutes apart, give or take two.
    """
    if min(len(one), len(rest)) < LEAST:
        return None
    quarters = [np.quantile(np.asarray(part, np.float64), (0.25, 0.5, 0.75)) for part in (one, rest)]
    if any(high - low > 300 for low, _, high in quarters):
        return None
    apart = float(quarters[0][1] - quarters[1][1])
    steps = round(apart / 1800)
    if steps == 0 or abs(steps) > 28 or abs(apart - steps * 1800) > 120:
        return None
    return steps / 2
