"""Comparing logged runs over real HTTP: from ticks on the run list to differences, plots, and views that are saved."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.hub.conftest import Hub, make_workspace
from tests.hub.test_experiment_pages import post
from tests.hub.test_pages import NASTY, read


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, str, list[str]]]:
    """A hub, an experiment in it, and the runs of that."""
    hub = Hub(make_workspace(tmp_path_factory.mktemp("compared") / "shop"))
    experiment = post(hub, "/experiments/create", {"name": NASTY})["experiment_id"]
    runs = []
    for number in range(30):
        made = {"experiment_id": experiment, "run_name": f"r{number} {NASTY}", "start_time": 1000 + number}
        runs.append(post(hub, "/runs/create", made)["run"]["info"]["run_id"])
        points = [{"key": "loss", "value": number + 1 / step, "timestamp": 1, "step": step} for step in range(1, 9)]
        points.append({"key": "rmse", "value": number / 8, "timestamp": 1})
        params = [{"key": "depth", "value": str(number % 3)}, {"key": "same", "value": NASTY}]
        post(hub, "/runs/log-batch", {"run_id": runs[-1], "metrics": points, "params": params})
    yield hub, experiment, runs
    assert hub.stop() == 0


def form(hub: Hub, path: str, **fields: str) -> tuple[int, str, str]:
    body = urlencode(fields).encode()
    kind = "application/x-www-form-urlencoded"
    response, answer = hub.ask("POST", path, body, content_type=kind, accept="text/html")
    return response.status, response.headers.get("location", ""), answer.decode()


def test_ticked_runs_are_compared_and_only_what_differs_is_shown(logged: tuple[Hub, str, list[str]]) -> None:
    hub, experiment, runs = logged
    ticked = f"/experiments/{experiment}/compare?run={runs[4]}&run={runs[2]}"
    page = hub.json(ticked)
    assert [run["id"] for run in page["runs"]] == [runs[4], runs[2]]
    assert [(row["name"], row["values"]) for row in page["rows"]] == [
        ("depth", ["1", "2"]),
        ("loss", [4.125, 2.125]),
        ("rmse", [0.5, 0.25]),
    ]
    assert page["alike"] == 1
    everything = hub.json(f"/experiments/{experiment}/{page['other']}")
    assert [row["name"] for row in everything["rows"]] == ["depth", "same", "loss", "rmse"]
    assert "Left out is what is the same everywhere, 1 name" in " ".join(" ".join(read(hub, ticked).text).split())


def test_a_filter_chooses_runs_and_many_are_summed_up(logged: tuple[Hub, str, list[str]]) -> None:
    hub, experiment, runs = logged
    asked = f"/experiments/{experiment}/compare?filter=metrics.rmse+%3E+0.2&columns=params.depth,+metrics.rmse"
    page = hub.json(asked)
    assert (len(page["runs"]), page["beside"], page["picked"]) == (28, False, [])
    assert page["runs"][0]["values"] == ["2", 29 / 8]
    (loss,) = [row for row in page["rows"] if row["name"] == "loss"]
    assert (loss["lowest"], loss["highest"]) == (27, 0)
    shown = read(hub, asked)
    assert f"/experiments/{experiment}/runs/{runs[2]}" in shown.links


def test_the_metric_with_steps_is_drawn_and_others_if_they_are_asked_for(logged: tuple[Hub, str, list[str]]) -> None:
    hub, experiment, _ = logged
    page = hub.json(f"/experiments/{experiment}/compare")
    assert [plot["title"] for plot in page["plots"]] == [
        *("loss", "loss by depth", "Parallel coordinates", "loss per depth"),
    ]
    assert len(page["plots"][0]["traces"]) == 30
    chosen = hub.json(f"/experiments/{experiment}/compare?metric=rmse&x=metrics.loss&by=same")
    assert [plot["title"] for plot in chosen["plots"]] == ["rmse by loss", "Parallel coordinates", "rmse per same"]
    none = hub.json(f"/experiments/{experiment}/compare?metric=none")
    assert [plot["says"] for plot in none["plots"]] == ["None of the runs has a metric 'none'."]


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("run={0}", 400, "Choose 2 to 500."),
        ("run=", 200, "30 runs"),
        ("run={0}&run=x", 404, "Run with id='x' not found"),
        ("run=" + ",".join(map(str, range(501))), 400, "at most 500 can be compared"),
        ("filter=metrics.rmse+%3C+x", 400, "at character 16"),
        ("filter=metrics.rmse+%3C+-1", 400, "Choose 2 to 500."),
    ],
)
def test_what_cannot_be_compared_is_said(
    logged: tuple[Hub, str, list[str]], query: str, status: int, said: str
) -> None:
    hub, experiment, runs = logged
    address = f"/experiments/{experiment}/compare?{query.format(runs[0])}"
    response, body = hub.ask("GET", address, accept="text/html")
    assert (response.status, said in body.decode().replace("&#39;", "'")) == (status, True)


def test_runs_of_another_experiment_are_named(logged: tuple[Hub, str, list[str]]) -> None:
    hub, experiment, runs = logged
    response, body = hub.ask("GET", f"/experiments/0/compare?run={runs[0]},{runs[1]}", accept="text/html")
    assert response.status == 404
    assert f"is of experiment {experiment}" in body.decode()


def test_a_view_is_saved_under_a_name_followed_and_removed(logged: tuple[Hub, str, list[str]]) -> None:
    hub, experiment, runs = logged
    here = f"/experiments/{experiment}"
    listed = hub.json(f"{here}?filter=metrics.rmse+%3C+1&columns=params.depth,+metrics.rmse&order=metrics.rmse+ASC")
    status, where, _ = form(hub, f"{here}/views", name="low ones", view=listed["here"])
    assert status == 303
    assert hub.json(where)["runs"] == listed["runs"]
    compared = hub.json(f"{here}/compare?run={runs[1]}&run={runs[2]}&metric=rmse&all=1")
    assert "sampan.view" not in hub.ask("GET", "/experiments", accept="text/html")[1].decode()
    status, where, _ = form(hub, f"{here}/views", name="two", view=compared["here"])
    assert status == 303
    assert {k: v for k, v in hub.json(where).items() if k != "views"} == {
        k: v for k, v in compared.items() if k != "views"
    }
    assert [view["name"] for view in hub.json(here)["views"]] == ["low ones", "two"]
    assert where in read(hub, here).links
    tags = post_get(hub, experiment)
    assert tags["sampan.view.two"] == compared["here"]
    assert form(hub, f"{here}/views/remove", name="two")[:2] == (303, here)
    assert [view["name"] for view in hub.json(here)["views"]] == ["low ones"]
    assert form(hub, f"{here}/views/remove", name="two")[0] == 404


def post_get(hub: Hub, experiment: str) -> dict[str, str]:
    response, body = hub.ask("GET", f"/api/2.0/mlflow/experiments/get?experiment_id={experiment}")
    assert response.status == 200
    tags: list[dict[str, Any]] = json.loads(body)["experiment"]["tags"]
    return {tag["key"]: tag["value"] for tag in tags}


@pytest.mark.parametrize(
    ("name", "view", "said"),
    [
        ("", "?filter=", "its name has 0 characters"),
        ("x" * 81, "?filter=", "its name has 81 characters"),
        (NASTY, "?filter=", "invalid name"),
        ("a", "//example.com/?filter=", "there is no page"),
        ("a", "compare?next=//example.com", "takes no 'next'"),
        ("a", "compare?" + "&".join(["run=1"] * 30), "more than 20 parts"),
        ("a", "compare?run=" + "1," * 12_000, "exceeds the maximum length"),
    ],
)
def test_what_cannot_be_saved_is_said_and_nothing_changes(
    logged: tuple[Hub, str, list[str]], name: str, view: str, said: str
) -> None:
    hub, experiment, _ = logged
    before = post_get(hub, experiment)
    status, _, body = form(hub, f"/experiments/{experiment}/views", name=name, view=view)
    assert (status, said in body.replace("&#39;", "'")) == (400, True)
    assert post_get(hub, experiment) == before


def test_a_tag_that_only_looks_like_a_view_leads_nowhere(logged: tuple[Hub, str, list[str]]) -> None:
    hub, experiment, _ = logged
    for at, value in enumerate((NASTY, "//example.com", "?filter=a&as-of=b", "javascript:alert(1)")):
        tag = {"experiment_id": experiment, "key": f"sampan.view.bad {at}", "value": value}
        post(hub, "/experiments/set-experiment-tag", tag)
    assert not [one for one in hub.json(f"/experiments/{experiment}")["views"] if one["name"].startswith("bad")]
    assert not [link for link in read(hub, f"/experiments/{experiment}").links if "example.com" in link]


def test_the_columns_that_are_chosen_go_along(logged: tuple[Hub, str, list[str]]) -> None:
    hub, experiment, _ = logged
    page = read(hub, f"/experiments/{experiment}?columns=params.depth&filter=metrics.rmse+%3C+1")
    address = f"/experiments/{experiment}/compare?filter={quote('metrics.rmse < 1', safe='').replace('%20', '+')}"
    assert f"{address}&columns=params.depth" in page.links
    assert hub.json(f"{address}&columns=params.depth")["columns"] == ["params.depth"]
    text = hub.ask("GET", f"/experiments/{experiment}?filter=metrics.rmse+%3C+1", accept="text/html")[1].decode()
    ticks = text.split(f'action="/experiments/{experiment}/compare"')[1]
    assert '<input type="hidden" name="filter" value="metrics.rmse &lt; 1">' in ticks, "without a tick, what is listed"


def test_two_runs_stand_on_a_page_of_their_own_with_what_was_not_logged(logged: tuple[Hub, str, list[str]]) -> None:
    hub, experiment, runs = logged
    compared = f"/experiments/{experiment}/compare?run={runs[4]},{runs[2]}"
    address = f"/diff?before={runs[4]}&after={runs[2]}"
    assert address in read(hub, compared).links
    text = " ".join(read(hub, address).text)
    assert "Neither run has a requirements.txt." in text
    found = hub.json(address)["found"]
    assert found["metrics"][1] == {"name": "rmse", "before": 0.5, "after": 0.25, "difference": -0.25}
    assert hub.json(compared)["made_from"] == found
    assert "Nothing differs" in " ".join(read(hub, f"/diff?before={runs[4]}&after={runs[4]}").text)


def test_without_two_runs_the_page_asks_for_them(logged: tuple[Hub, str, list[str]]) -> None:
    hub, _, runs = logged
    assert "form" in read(hub, f"/diff?before={quote(NASTY)}").tags
    response, body = hub.ask("GET", f"/diff?before={runs[0]}&after={quote(NASTY)}", accept="text/html")
    assert response.status == 404
    assert "there is none" in body.decode()
