"""The pages of experiments and logged runs: what was logged is shown, filtered, sorted, drawn; nothing of it runs."""

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from sampan.hub.render import measure
from sampan.track.curve import PLACES
from sampan.track.records import Metric
from sampan.track.tracking import Tracking
from tests.hub.conftest import Hub, make_workspace
from tests.hub.test_pages import NASTY, read
from tests.track.conftest import clock, tracking

__all__ = ["clock", "tracking"]  # fixtures
API = "/api/2.0/mlflow"


def post(hub: Hub, path: str, body: Any) -> Any:
    response, answer = hub.ask("POST", API + path, json.dumps(body).encode())
    assert response.status == 200, answer
    return json.loads(answer)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, str, list[str]]]:
    """A hub, an experiment in it, and the runs of that."""
    hub = Hub(make_workspace(tmp_path_factory.mktemp("logged") / "shop"))
    experiment = post(hub, "/experiments/create", {"name": NASTY})["experiment_id"]
    runs = []
    for number in range(120):
        made = {"experiment_id": experiment, "run_name": f"r{number}", "start_time": 1000 + number}
        runs.append(post(hub, "/runs/create", made)["run"]["info"]["run_id"])
        metrics = [{"key": "rmse", "value": number / 8, "timestamp": 1}]
        params = [{"key": "depth", "value": str(number % 3)}, {"key": "same", "value": "1"}]
        post(hub, "/runs/log-batch", {"run_id": runs[-1], "metrics": metrics, "params": params})
    points = [{"key": "val loss", "value": math.sin(step), "timestamp": step, "step": step} for step in range(900)]
    odd = [{"key": "odd", "value": value, "timestamp": 1} for value in ("NaN", "Infinity", 3)]
    tags = [{"key": "mlflow.note.content", "value": NASTY}]
    params = [{"key": "text", "value": NASTY}]
    batch = {"run_id": runs[0], "metrics": points + odd, "tags": tags, "params": params}
    post(hub, "/runs/log-batch", batch)
    hub.ask("PUT", f"{API}-artifacts/artifacts/{experiment}/{runs[0]}/artifacts/a/page.html", NASTY.encode())
    yield hub, experiment, runs
    assert hub.stop() == 0


def test_experiments_are_listed_with_their_runs(logged: tuple[Hub, str, list[str]]) -> None:
    hub, experiment, _ = logged
    found = hub.json("/experiments")["experiments"]
    assert [(one["id"], one["runs"]) for one in found] == [(int(experiment), 120), (0, 0)]
    assert "120 logged runs." in " ".join(read(hub, "/experiments").text)


def test_runs_are_shown_page_by_page_with_what_differs(logged: tuple[Hub, str, list[str]]) -> None:
    hub, experiment, runs = logged
    first = hub.json(f"/experiments/{experiment}")
    assert first["columns"] == ["metrics.rmse", "params.depth"]
    rest = hub.json(f"/experiments/{experiment}?after={first['next']}")
    assert [run["id"] for run in first["runs"] + rest["runs"]] == runs[::-1]
    assert rest["next"] == ""
    assert f"/experiments/{experiment}/runs/{runs[-1]}" in read(hub, f"/experiments/{experiment}").links


def test_a_filter_an_order_and_columns_are_those_of_the_address(logged: tuple[Hub, str, list[str]]) -> None:
    hub, experiment, _ = logged
    asked = f"/experiments/{experiment}?filter=metrics.rmse+%3C+1+AND+params.depth+%3D+'1'&order=metrics.rmse+ASC"
    page = hub.json(f"{asked}&columns=params.same,+metrics.rmse,+tags.none")
    assert [run["values"] for run in page["runs"]] == [["1", 0.125, None], ["1", 0.5, None], ["1", 0.875, None]]
    names = hub.json(f"/experiments/{experiment}?columns=same,+rmse,+none,+metrics.rmse")["columns"]
    assert names == ["params.same", "metrics.rmse", "none"]
    response, body = hub.ask("GET", f"/experiments/{experiment}?order=rmse+DESC", accept="text/html")
    assert response.status == 400 and "Of a metric write metrics.rmse, of a parameter params.rmse." in body.decode()
    text = " ".join(read(hub, asked).text)
    assert "Runs that the filter finds, sorted by metrics.rmse ASC." in text
    response, body = hub.ask("GET", f"/experiments/{experiment}?filter=metrics.rmse+%3C+x", accept="text/html")
    assert response.status == 400
    assert "at character 16" in body.decode()
    assert 'name="filter" value="metrics.rmse &lt; x"' in body.decode(), "what was typed is there to be mended"
    assert "No run fits." in " ".join(read(hub, f"/experiments/{experiment}?filter=metrics.rmse+%3C+-1").text)


def test_a_run_shows_its_curves_artifacts_and_note_and_nothing_of_them_runs(logged: tuple[Hub, str, list[str]]) -> None:
    hub, experiment, runs = logged
    address = f"/experiments/{experiment}/runs/{runs[0]}"
    page = hub.json(address)
    assert page["note"] == page["params"]["text"] == NASTY
    assert [chart["title"] for chart in page["charts"]] == ["odd", "val loss"]
    assert page["charts"][0]["says"] == "3 values, from 3 to 3, the last 3. 2 are infinite or no number, and not drawn."
    shown = read(hub, address)
    assert "NaN" in shown.text
    assert page["artifacts"] == [{"path": "a", "bytes": None, "address": ""}]
    (file,) = hub.json(f"{address}?path=a")["artifacts"]
    assert file["address"] in read(hub, f"{address}?path=a").links
    response, body = hub.ask("GET", file["address"], token=False, cookie=hub.sign_in())
    assert (response.status, body) == (200, NASTY.encode())
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in str(response.headers.get_all("content-security-policy"))


@pytest.mark.parametrize("path", ["99", "x", "0/runs/none", "99999999999999999999"])
def test_what_is_not_there_is_said(logged: tuple[Hub, str, list[str]], path: str) -> None:
    hub, _, runs = logged
    for address in (f"/experiments/{path}", f"/experiments/0/runs/{runs[0]}"):
        response, _ = hub.ask("GET", address, accept="text/html")
        assert response.status == 404, address


def test_a_curve_keeps_its_ends_and_its_extremes(tracking: Tracking) -> None:
    run = tracking.runs.create(0, tags={}).id
    values = [math.sin(step / 50) for step in range(5000)]
    values[1234], values[4321] = 9.0, -9.0
    values[77], values[4322], values[1235] = math.nan, math.inf, -math.inf
    for first in range(0, 5000, 1000):
        batch = [Metric("m", values[step], 1, step * 3) for step in range(first, first + 1000)]
        tracking.logging.log(run, batch).result()
    curve = tracking.runs.curve(run, "m")
    assert len(curve.drawn) <= 2 * PLACES + 2
    assert (curve.points, curve.odd, curve.timed) == (5000, 3, False)
    assert {(0, values[0]), (1234 * 3, 9.0), (4321 * 3, -9.0), (4999 * 3, values[4999])} <= set(curve.drawn)
    assert curve.drawn[-1] == (4999 * 3, values[4999])
    places = [place for place, _ in curve.drawn]
    assert places == sorted(places)
    assert all(values[place // 3] == value for place, value in curve.drawn)
    few = tracking.runs.curve(run, "m", places=5000)
    assert few.drawn == [(step * 3, value) for step, value in enumerate(values) if math.isfinite(value)]


def test_a_metric_without_steps_is_drawn_over_time(tracking: Tracking) -> None:
    run = tracking.runs.create(0, tags={}).id
    for first in (0, 1000):
        batch = [Metric("m", float(at), 1_800_000_000_000 + at * 10) for at in range(first, first + 1000)]
        tracking.logging.log(run, batch).result()
    curve = tracking.runs.curve(run, "m", places=10)
    assert curve.timed
    assert (curve.drawn[0], curve.drawn[-1]) == ((0, 0.0), (19_990, 1999.0))
    assert all(place == value * 10 for place, value in curve.drawn)


def test_measured_values_of_any_magnitude_can_be_read() -> None:
    given = [None, 0.0, -1.5, 1 / 3, 1.23456789e-7, 123456.789, 1e300, math.nan, math.inf, -math.inf]
    read = ["–", "0", "−1.5", "0.333333", "1.23457e−07", "123,457", "1e+300", "NaN", "∞", "−∞"]
    assert [measure(value) for value in given] == read
