"""Measures over the versions of a model, each on a scale of its own, marked where a version serves."""

from sampan.hub.charts import Chart, Mark, Series
from sampan.hub.views.models import VersionLine, _charts


def version(number: int, metrics: dict[str, object], *serving: str) -> VersionLine:
    return VersionLine(f"m@{number}", "binary", "lightgbm", metrics, None, number, "d", list(serving))


def test_a_measure_is_drawn_from_the_oldest_version_on_where_two_have_it() -> None:
    newest_first = [version(3, {"auc": 0.8}), version(2, {"rows": 7}, "shop"), version(1, {"auc": 0.7, "rows": 5})]
    auc, rows = _charts(newest_first, ["auc", "rows", "brier"])
    assert (auc.x, auc.series[0].y) == (["1", "2", "3"], [0.7, None, 0.8])
    assert auc.says == "auc rises from 0.7 to 0.8 over 2 versions."
    assert rows.says == "rows rises from 5 to 7 over 2 versions."
    assert [mark.x for mark in auc.marks] == ["2"]


def test_what_is_no_figure_is_no_measure() -> None:
    odd = [version(2, {"auc": float("nan"), "ok": True}), version(1, {"auc": 0.5, "ok": True})]
    assert _charts(odd, ["auc", "ok"]) == []


def test_a_mark_stands_at_its_name_not_at_its_number() -> None:
    chart = Chart(title="", says="", x=["1", "2", "3"], x_name="", series=[Series(name="a", y=[1, 2, 3])])
    chart.marks = [Mark("2", "served")]
    assert chart.figure()["layout"]["shapes"][0]["x0"] == 1
    chart.dated = True
    assert chart.figure()["layout"]["shapes"][0]["x0"] == "2"
