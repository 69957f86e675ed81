"""The bench's own arithmetic: a table that flatters would be worse than none."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.engines import ENGINES, Place
from bench.measure import Result, Timed, WentWrong, alternate
from bench.place import Unavailable
from bench.table import Row, at_most, times

from sampan.app import App


def row(ours: list[float], theirs: list[float]) -> Row:
    results = [Result("Sampan", ours), Result("floor", theirs)]
    return Row("row", "a figure", "s", results, [at_most(2, "s"), times("floor", 1.5, least=False)])


def test_the_median_and_not_the_best_round_is_compared() -> None:
    assert row([0.1, 1.9, 9.0], [1.0, 1.0, 1.0]).verdicts() == ["≤ 2 s: met", "≤ 1.5× floor: MISSED"]


def test_a_goal_beside_a_contender_that_is_missing_is_not_called_met() -> None:
    assert row([1.0], []).verdicts() == ["≤ 2 s: met", "≤ 1.5× floor: not measured"]
    assert row([], [1.0]).verdicts() == ["≤ 2 s: not measured", "≤ 1.5× floor: not measured"]


def test_the_table_gives_the_ratio_and_a_missing_contender_its_reason() -> None:
    shown = row([2.0], [1.0])
    shown.results[1].note = "one\nline | please"
    assert "2.00×" in shown.markdown()[1]
    assert shown.markdown()[1].endswith("| one line / please |")
    assert [json.loads(line)["median"] for line in shown.json()] == [2.0, 1.0]


def test_contenders_take_turns_and_one_that_goes_wrong_has_no_figure() -> None:
    order: list[str] = []

    def contender(name: str, wrong_in: int = -1) -> Callable[[], Timed]:
        def timed(number: int) -> float:
            order.append(name)
            if number == wrong_in:
                raise WentWrong("it skipped a step")
            return 1.0

        return lambda: timed

    def absent() -> Timed:
        raise Unavailable("it is not installed")

    results = alternate({"a": contender("a"), "b": contender("b", wrong_in=1), "c": absent}, rounds=3)
    assert order == ["a", "b", "b", "a", "a"]
    assert [(each.values, each.note) for each in results] == [
        ([1.0, 1.0, 1.0], ""),
        ([], "it skipped a step"),
        ([], "it is not installed"),
    ]


@pytest.mark.parametrize("job", ["linear", "long", "fan", "frame"])
def test_a_workspace_of_the_bench_can_be_planned(job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.place.ROOT", tmp_path)
    app = App(Place(ENGINES["Sampan"], job).folder)
    try:
        steps = {step["name"] for step in app.plan()["steps"]}
    finally:
        app.close()
    assert (
        steps
        == {
            "linear": set("abcde"),
            "long": {f"s{place:02d}" for place in range(20)},
            "fan": {"item", "work", "total"},
            "frame": {"made", "used"},
        }[job]
    )
