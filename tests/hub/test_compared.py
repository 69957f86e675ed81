"""Rows and plots of runs that are compared: what differs, what lies where; nothing is lost and nothing is mark-up."""

import json
import math

import pytest

from sampan.hub.compared import boxes, curves, numbers, parallel, rows_of, scatter
from sampan.hub.plots import Plot
from sampan.track.records import Curve, Dataset, Input, Metric, Run

NASTY = "<a href='https://example.com'>%{y}</a>"


def run(name: str, *, digest: str = "", tags: dict[str, str] | None = None, **values: float | str) -> Run:
    return Run(
        id=name,
        experiment=1,
        name=name,
        user="",
        status="FINISHED",
        started=0,
        ended=None,
        deleted=None,
        metrics=[Metric(key, value, 1) for key, value in values.items() if isinstance(value, float)],
        params={key: value for key, value in values.items() if isinstance(value, str)},
        tags=tags or {},
        inputs=[Input(Dataset("orders", digest, "local", ""), {"mlflow.data.context": "train"})] if digest else [],
    )


RUNS = [
    run("a", depth="2", lr="0.1", booster="dart", rmse=0.5, auc=math.nan, digest="one"),
    run("b", depth="4", lr="0.1", booster="tree", rmse=0.25, auc=math.nan, digest="two"),
    run("c", depth="2", lr="0.1", booster=NASTY, rmse=0.75, auc=math.nan, tags={"mlflow.user": "x", "t": "1"}),
]
ROWS = {row.column: row for row in rows_of(RUNS)}


def test_each_name_is_a_row_with_a_value_of_each_run() -> None:
    assert list(ROWS) == [
        *("params.booster", "params.depth", "params.lr", "metrics.auc", "metrics.rmse"),
        *("inputs.orders (train)", "tags.t"),
    ]
    assert ROWS["inputs.orders (train)"].values == ["one", "two", None]
    assert ROWS["metrics.rmse"].values == [0.5, 0.25, 0.75]
    assert (ROWS["metrics.rmse"].lowest, ROWS["metrics.rmse"].highest, ROWS["metrics.rmse"].median) == (1, 2, 0.5)
    assert ROWS["params.depth"].most == [("2", 2), ("4", 1)]


def test_what_is_the_same_everywhere_does_not_differ_and_what_one_lacks_does() -> None:
    assert [name for name, row in ROWS.items() if not row.differs] == ["params.lr", "metrics.auc"]
    assert ROWS["tags.t"].distinct == 1


def test_values_are_numbers_if_all_of_them_are() -> None:
    assert numbers(["1", None, "2e3", math.inf]) == [1.0, None, 2000.0, None]
    assert numbers(["1", "two"]) is None


def test_a_scatter_has_a_point_for_each_run_with_both() -> None:
    by_depth = scatter(ROWS["params.depth"], ROWS["metrics.rmse"], RUNS)
    assert (by_depth.traces[0].x, by_depth.traces[0].y) == ([2.0, 4.0, 2.0], [0.5, 0.25, 0.75])
    assert by_depth.cells == [["a", 2.0, 0.5], ["b", 4.0, 0.25], ["c", 2.0, 0.75]]
    by_word = scatter(ROWS["params.booster"], ROWS["metrics.rmse"], RUNS)
    assert by_word.categories == sorted(["dart", "tree", NASTY])
    nothing = scatter(ROWS["params.depth"], ROWS["metrics.auc"], RUNS)
    assert nothing.empty
    assert nothing.says == "No run has both."


def test_boxes_tell_how_a_metric_lies_for_each_value_in_order_of_the_values() -> None:
    values = [run(f"{depth}{at}", depth=str(depth), rmse=float(depth + at)) for depth in (10, 9) for at in range(5)]
    rows = {row.column: row for row in rows_of(values)}
    found = boxes(rows["params.depth"], rows["metrics.rmse"]).boxes
    told = [(box.name, box.values, box.low, box.lower, box.median, box.upper, box.high) for box in found]
    assert told == [("9", 5, 9, 10, 11, 12, 13), ("10", 5, 10, 11, 12, 13, 14)]


def test_parallel_axes_hold_every_run_once_and_tell_its_third() -> None:
    chosen = [ROWS["params.depth"], ROWS["params.booster"]]
    plot = parallel(chosen, ROWS["metrics.rmse"], RUNS)
    assert [(axis.name, axis.low, axis.high) for axis in plot.axes] == [
        ("depth", "2", "4"),
        ("booster", NASTY, "tree"),
        ("rmse", "0.25", "0.75"),
    ]
    assert {trace.name: trace.text[0] for trace in plot.traces} == {
        "rmse: lowest third": "b: depth 4",
        "rmse: middle third": "a: depth 2",
        "rmse: highest third": "c: depth 2",
    }
    assert plot.traces[0].y == [1.0, 1.0, 0.0, None]
    assert parallel([], ROWS["metrics.rmse"], RUNS).empty


def test_curves_of_steps_and_of_time_are_not_drawn_on_one_axis() -> None:
    stepped, timed = Curve([(0, 1.0), (5, 2.0)], False, 2, 0), Curve([(0, 1.0), (5000, 2.0)], True, 2, 0)
    plot = curves("rmse", RUNS, {"a": stepped, "b": timed})
    assert (plot.x_name, [trace.name for trace in plot.traces]) == ("step", ["a"])
    assert "1 others were logged without steps" in plot.says
    alone = curves("rmse", RUNS, {"b": timed})
    assert (alone.x_name, alone.traces[0].x) == ("seconds", [0.0, 5.0])


def all_plots() -> list[Plot]:
    metric, word = ROWS["metrics.rmse"], ROWS["params.booster"]
    curve = Curve([(0, 1.0), (5, 2.0)], False, 2, 0)
    named = [run(NASTY), *RUNS]
    return [
        curves(NASTY, named, {NASTY: curve, "a": curve}),
        scatter(word, metric, RUNS),
        boxes(word, metric),
        parallel([word], metric, RUNS),
    ]


@pytest.mark.parametrize("at", range(4))
def test_a_name_that_looks_like_markup_is_shown_letter_by_letter(at: int) -> None:
    plot = all_plots()[at]
    figure = json.dumps(plot.figure())
    assert "&lt;a" in figure
    assert "<a" not in figure
    assert "%{y}<" not in figure


@pytest.mark.parametrize("at", range(4))
def test_each_plot_is_drawn_plainly_within_its_picture(at: int) -> None:
    picture = all_plots()[at].drawing()
    assert picture.lines or picture.dots
    assert all(56 <= x <= 708 and 12 <= y <= 214 for _, x, y in picture.dots)
    assert all(x >= 0 and x + width <= 720 and height >= 0 for x, _, width, height in picture.bars)
    assert "nan" not in str(picture)
