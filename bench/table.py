"""Rows of figures with their goals, printed as Markdown and kept as JSON lines."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Result

OURS = "Sampan"


@dataclass(frozen=True)
class Goal:
    """A stated aim: ``holds`` gets the medians by contender (Sampan's is never missing)."""

    text: str
    holds: Callable[[dict[str, float]], bool | None]


def at_most(limit: float, unit: str) -> Goal:
    return Goal(f"≤ {limit:g} {unit}", lambda medians: medians[OURS] <= limit)


def at_least(limit: float, unit: str) -> Goal:
    return Goal(f"≥ {limit:g} {unit}", lambda medians: medians[OURS] >= limit)


def times(contender: str, factor: float, *, least: bool) -> Goal:
    """Sampan's figure over another contender's."""

    def holds(medians: dict[str, float]) -> bool | None:
        if not medians.get(contender):
            return None
        ratio = medians[OURS] / medians[contender]
        return ratio >= factor if least else ratio <= factor

    return Goal(f"{'≥' if least else '≤'} {factor:g}× {contender}", holds)


@dataclass
class Row:
    """One line of the issue's table: a figure, everybody's values, the goals."""

    name: str
    title: str
    unit: str
    results: Sequence[Result]
    goals: Sequence[Goal] = ()

    def medians(self) -> dict[str, float]:
        return {each.contender: each.median for each in self.results if each.median is not None}

    def verdicts(self) -> list[str]:
        medians = self.medians()
        if OURS not in medians:
            return [f"{goal.text}: not measured" for goal in self.goals]
        words = {True: "met", False: "MISSED", None: "not measured"}
        return [f"{goal.text}: {words[goal.holds(medians)]}" for goal in self.goals]

    def markdown(self) -> list[str]:
        ours = self.medians().get(OURS)
        lines = []
        for result in self.results:
            median = result.median
            if median is None:
                lines.append(f"| {self.title} | {result.contender} | – | | | {_one_line(result.note)} |")
                continue
            spread = f"{_short(min(result.values))}–{_short(max(result.values))}"
            is_ours = result.contender == OURS
            ratio = "" if is_ours or not ours or not median else f"{ours / median:.2f}×"
            last = "; ".join(
                [*(self.verdicts() if is_ours else ()), *([_one_line(result.note)] if result.note else ())]
            )
            lines.append(
                f"| {self.title} | {result.contender} | {_short(median)} {self.unit} "
                f"| {spread} ({len(result.values)}) | {ratio} | {last} |"
            )
        return lines

    def json(self) -> list[str]:
        return [
            json.dumps(
                {
                    "row": self.name,
                    "contender": result.contender,
                    "median": result.median,
                    "unit": self.unit,
                    "values": [float(f"{value:.5g}") for value in result.values],
                    "note": result.note,
                    **result.facts,
                    **({"goals": self.verdicts()} if result.contender == OURS else {}),
                }
            )
            for result in self.results
        ]


HEAD = (
    "| figure | contender | median | spread (rounds) | Sampan ÷ it | goals and notes |",
    "| --- | --- | --- | --- | --- | --- |",
)


def _short(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:,.0f} k"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "/").split())[:240]


def append_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.writelines(line + "\n" for line in lines)
