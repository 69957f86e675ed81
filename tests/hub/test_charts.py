"""Charts: one struct gives Plotly's figure, a sentence, a table and a drawing; the script comes from its package."""

import gzip
import json
import re
from datetime import datetime
from html import unescape

import pytest

from sampan.base.clock import to_micros
from sampan.hub import plotly
from sampan.hub.charts import Band, Chart, Level, Mark, Series
from sampan.hub.views.endpoint import Served, _marks
from tests.hub.conftest import Hub

NASTY = "<a href='https://example.com'>%{y}</a>"


def chart(**given: object) -> Chart:
    fields = {
        "title": "Measured",
        "says": "It rises.",
        "x": ["1", "2", "3"],
        "x_name": "Version",
        "series": [Series(name="auc", y=[0.5, None, 0.75])],
    }
    return Chart(**(fields | given))  # type: ignore[arg-type]


def test_what_is_missing_is_a_gap_in_the_figure_the_drawing_and_the_table() -> None:
    one = chart()
    assert one.figure()["data"][0]["y"] == [0.5, None, 0.75]
    ((_, path),) = one.drawing().lines
    assert path.count("M") == 2
    assert one.rows() == [["1", 0.5], ["2", None], ["3", 0.75]]


def test_a_name_that_looks_like_markup_is_shown_letter_by_letter() -> None:
    figure = json.dumps(chart(series=[Series(name=NASTY, y=[1, 2, 3])], x=[NASTY, "b", "c"], unit=NASTY).figure())
    assert "<a" not in figure
    assert "%{y}<" not in figure


def test_bars_on_top_of_each_other_reach_as_high_as_their_sum() -> None:
    both = [Series(name="a", y=[1, 2, 3], kind="bar"), Series(name="b", y=[3, 2, 1], kind="bar", colour="good")]
    picture = chart(series=both, stacked=True).drawing()
    assert picture.ticks[-1][1] == 4
    assert len(picture.bars) == 6
    tops = {x: min(top for _, at, top, _, _ in picture.bars if at == x) for _, x, _, _, _ in picture.bars}
    assert len(set(tops.values())) == 1


def test_axes_say_what_they_are_and_times_of_which_zone() -> None:
    layout = chart(unit="EUR a decision").figure()["layout"]
    assert (layout["xaxis"]["title"]["text"], layout["yaxis"]["title"]["text"]) == ("Version", "EUR a decision")
    dated = chart(x=["2026-01-01", "2026-01-02", "2026-01-03"], x_name="Looked", dated=True)
    assert dated.figure()["layout"]["xaxis"]["title"]["text"] == dated.across == "Looked, UTC"


def test_no_values_are_no_chart() -> None:
    assert chart(series=[Series(name="a", y=[None, None, None])]).empty
    assert not chart().empty


def test_two_lines_differ_in_more_than_colour() -> None:
    first, second = chart(series=[Series(name="a", y=[1, 2, 3]), Series(name="b", y=[1, 2, 3])]).figure()["data"]
    assert first["line"]["dash"] != second["line"]["dash"]
    assert first["marker"]["symbol"] != second["marker"]["symbol"]


def banded() -> Chart:
    band = Band(low=[-90.0, None, 1.0], high=[90.0, None, 4.0], names=("at least", "at most"))
    levels = [Level(0.0, "no gain", below=True), Level(2.0, "least"), Level(50.0, "out of sight")]
    return chart(series=[Series(name="gain", y=[0.0, None, 2.5])], bands=[band], levels=levels, within=(-5.0, 10.0))


def test_a_band_is_filled_between_its_lines_and_a_table_has_both() -> None:
    one = banded()
    low, high, gain = one.figure()["data"]
    assert (low["name"], low["fill"], high["name"], high["fill"]) == ("at least", "none", "at most", "tonexty")
    assert high["fillcolor"] == "$water-wash" and gain["y"] == [0.0, None, 2.5]
    assert one.columns == ["gain", "at least", "at most"]
    assert one.rows() == [["1", 0.0, -90.0, 90.0], ["2", None, None, None], ["3", 2.5, 1.0, 4.0]]
    ((colour, path),) = one.drawing().areas
    assert colour == "water" and path.startswith("M") and path.endswith("Z") and path.count("L") == 3


def test_what_is_compared_with_lies_straight_across_and_what_is_out_of_sight_is_cut() -> None:
    one = banded()
    layout = one.figure()["layout"]
    assert [(shape["y0"], shape["y1"]) for shape in layout["shapes"]] == [(0.0, 0.0), (2.0, 2.0), (50.0, 50.0)]
    assert [note["yanchor"] for note in layout["annotations"]] == ["top", "bottom", "bottom"]
    assert layout["yaxis"]["range"] == [-5.0, 10.0]
    picture = one.drawing()
    assert [label for _, label, _ in picture.levels] == ["no gain", "least"]
    assert [value for _, value in picture.ticks] == [-5.0, 2.5, 10.0]
    heights = [float(place.split()[1]) for place in re.split("[ML]", picture.areas[0][1].rstrip("Z"))[1:]]
    assert min(heights) == picture.ticks[2][0] and max(heights) == picture.ticks[0][0]


def test_what_happened_is_marked() -> None:
    layout = chart(marks=[Mark("2", "deployed")]).figure()["layout"]
    assert [shape["x0"] for shape in layout["shapes"]] == [1]
    assert [note["text"] for note in layout["annotations"]] == ["deployed"]


def test_what_happened_at_one_place_has_one_label() -> None:
    marks = [Mark("1", "stay@1"), Mark("2", "stay@1"), Mark("2", "stay@2"), *(Mark("3", f"stay@{n}") for n in range(4))]
    layout = chart(marks=marks).figure()["layout"]
    labels = [one["text"] for one in layout["annotations"]]
    assert labels == ["stay@1", "stay@1 → stay@2", "stay@0 … stay@3"]


def test_the_script_is_that_of_the_package_and_kept_for_ever_under_its_digest(hub: Hub) -> None:
    page = hub.ask("GET", "/patterns", accept="text/html")[1].decode()
    (address,) = re.findall(r'<script src="(/charts/[^"]+)" defer>', page)
    response, body = hub.ask("GET", address, accept_encoding="gzip")
    assert response.headers["content-encoding"] == "gzip"
    assert "immutable" in response.headers["cache-control"]
    path = plotly.script()
    assert path is not None
    assert gzip.decompress(body) == path.read_bytes() == hub.ask("GET", address)[1]
    assert hub.ask("GET", address, token=False)[0].status == 401


@pytest.mark.parametrize("name", ["plotly.js", "plotly-0000000000000000.js", "..%2fapp.css"])
def test_no_other_script_has_an_address(hub: Hub, name: str) -> None:
    assert hub.ask("GET", f"/charts/{name}")[0].status == 404


def test_only_pages_with_a_chart_load_the_script(hub: Hub) -> None:
    for path in ("/", "/log", "/runs"):
        assert "/charts/" not in hub.ask("GET", path, accept="text/html")[1].decode()


def test_a_page_holds_the_figure_the_sentence_and_the_table(hub: Hub) -> None:
    page = hub.ask("GET", "/patterns", accept="text/html")[1].decode()
    (figure,) = re.findall(r'data-chart="([^"]+)"', page)
    assert json.loads(unescape(figure))["data"][0]["name"] == "auc"
    assert 'role="img" aria-label="Two made-up measures' in page
    assert "As a table" in page
    assert hub.json("/patterns")["chart"]["series"][0]["y"] == [0.7, 0.74, None, 0.81]
    for id in plotly.sheets():
        assert f'id="{id}"' in page


def test_a_switch_is_marked_in_the_stretch_in_which_it_fell() -> None:
    def served(version: str, at: str) -> Served:
        return Served(version, "", {}, "", "", "", to_micros(datetime.fromisoformat(at)), None, [])

    history = [served("stay@2", "2026-11-27T08:10:00Z"), served("stay@1", "2026-11-27T07:55:00Z")]
    history.append(served("stay@0", "2026-11-01T00:00:00Z"))
    hours, days = ["2026-11-27 07:00", "2026-11-27 08:00"], ["2026-11-26", "2026-11-27"]
    assert [(one.x, one.label) for one in _marks(hours, history)] == [(hours[0], "stay@1"), (hours[1], "stay@2")]
    assert [(one.x, one.label) for one in _marks(days, history)] == [(days[1], "stay@1"), (days[1], "stay@2")]
