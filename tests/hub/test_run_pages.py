"""Runs as pages: planned before they begin, begun by a form, followed while they go on, and their failure first."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.hub.timeline import timeline
from sampan.runs.records import StepRun
from tests.hub.conftest import Hub, make_workspace, visit
from tests.hub.test_pages import read

STEPS = """
import time
from pathlib import Path
from sampan import check, step


@step
def slow(pages: list, factor: int = 2) -> int:
    print("counting", flush=True)
    while Path(WAIT).exists():
        time.sleep(0.05)
    print("counted", flush=True)
    return factor * len(pages)
"""
BROKEN = """

@step
def sad() -> int:
    raise ValueError("no luck today")


@check
def enough(pages: list) -> str | None:
    return "fewer than ten pages" if len(pages) < 10 else None


@step
def never(sad: int) -> int:
    return sad
"""
FORM = {"content_type": "application/x-www-form-urlencoded"}


class Flow:
    """A workspace whose step waits for a file to go away, and its hub."""

    def __init__(self, folder: Path) -> None:
        make_workspace(folder)
        self.folder = folder
        self.wait = folder.parent / "wait"
        (folder / "steps.py").write_text(STEPS.replace("WAIT", repr(str(self.wait))))
        self.hub = Hub(folder)
        self.hub.send(*[visit(str(n), f"/{n % 4}") for n in range(8)])

    def post(self, path: str, body: str, **headers: str) -> tuple[int, str]:
        given = {"cookie": self.hub.sign_in(), "origin": self.hub.url, **FORM, **headers}
        response, _ = self.hub.ask("POST", path, body.encode(), **given)
        return response.status, str(response.headers["location"] or "")

    def ask_log(self, run: str) -> Any:
        response, body = self.hub.ask("GET", f"{run}/logs/slow.log", accept="application/json")
        return json.loads(body) if response.status == 200 else {"text": ""}

    def ended(self, run: str) -> Any:
        until = time.monotonic() + 30
        while (page := self.hub.json(run))["state"] == "running" and time.monotonic() < until:
            time.sleep(0.05)
        return page


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    made = Flow(tmp_path_factory.mktemp("runs") / "shop")
    yield made
    assert made.hub.stop() == 0


def test_a_run_is_planned_begun_by_a_form_and_followed_to_its_end(flow: Flow) -> None:
    plan = flow.hub.json("/plan")
    assert {step["name"]: (step["state"], step["why"]) for step in plan["steps"]} == {
        "pages": ("ran", "it has no result yet"),
        "slow": ("ran", "it has no result yet"),
    }
    assert plan["would_run"] == 2
    flow.wait.touch()
    status, run = flow.post("/plan/go", "target=")
    assert status == 303
    assert run.startswith("/runs/")
    until = time.monotonic() + 20
    while "counting" not in (log := flow.ask_log(run))["text"] and time.monotonic() < until:
        time.sleep(0.05)
    assert log["going"]
    page = flow.hub.ask("GET", f"{run}/logs/slow.log", accept="text/html")[1].decode()
    assert f'data-output="slow.log" data-size="{log["bytes"]}"' in page
    assert f'data-live="run:{log["run"]}"' in page
    assert f'data-live="run:{log["run"]}"' in flow.hub.ask("GET", run, accept="text/html")[1].decode()
    flow.wait.unlink()
    done = flow.ended(run)
    assert done["state"] == "succeeded"
    assert done["actor"] == "owner"
    assert "counted" in flow.ask_log(run)["text"]
    assert "data-live" not in flow.hub.ask("GET", run, accept="text/html")[1].decode().partition('id="run"')[2][:30]
    assert flow.hub.json("/plan")["would_run"] == 0
    assert "Nothing has changed." in " ".join(read(flow.hub, "/plan").text)


def test_what_a_run_read_gave_and_was_made_with_is_on_its_page(flow: Flow) -> None:
    page = flow.hub.json("/runs/last")
    assert [(one["type"], one["count"]) for one in page["inputs"]] == [("visit", 8)]
    assert [(one["name"], one["rows"], one["held"]) for one in page["outputs"]] == [("pages", 4, False)]
    assert page["parameters"] == {"slow": {"factor": 2}}
    assert {span["name"] for span in page["timeline"]["spans"]} == {"pages", "slow"}
    assert page["changed"] == ["pages is new"]
    assert flow.hub.json("/runs")["runs"][0]["changed"] == ["pages is new"]
    assert f"/tables/pages?snapshot={page['outputs'][0]['digest']}" in read(flow.hub, "/runs/last").links


def test_a_form_of_another_site_begins_nothing(flow: Flow) -> None:
    before = len(flow.hub.json("/runs")["runs"])
    assert flow.post("/plan/go", "target=", origin="https://evil.example")[0] == 403
    assert flow.hub.ask("POST", "/plan/go", b"target=", token=False)[0].status == 401
    assert len(flow.hub.json("/runs")["runs"]) == before


def test_a_target_that_is_not_there_is_said_on_a_page(flow: Flow) -> None:
    given = {"cookie": flow.hub.sign_in(), "origin": flow.hub.url, "accept": "text/html", **FORM}
    response, body = flow.hub.ask("POST", "/plan/go", b"target=none", **given)
    assert response.status == 404
    assert b"no table, step, model or check" in body
    assert flow.hub.ask("GET", "/plan?target=none")[0].status == 404


def test_a_step_that_failed_stands_first_with_what_to_do(flow: Flow) -> None:
    with (flow.folder / "steps.py").open("a") as file:
        file.write(BROKEN)
    page = flow.ended(flow.post("/plan/go", "target=")[1])
    troubles = {one["name"]: one for one in page["troubles"]}
    assert troubles["sad"]["said"].startswith("ValueError: no luck today")
    assert troubles["sad"]["where"].startswith("steps.py:")
    assert troubles["enough"]["said"] == "fewer than ten pages"
    assert troubles["enough"]["advice"][0].endswith('select … from pages"')
    html = flow.hub.ask("GET", "/runs/last", accept="text/html")[1].decode()
    assert html.index("no luck today") < html.index("The flow")
    assert "Failed." in html


def test_a_run_that_succeeded_cannot_be_gone_on_with(flow: Flow) -> None:
    first = flow.hub.json("/runs")["runs"][-1]
    assert first["state"] == "succeeded"
    assert flow.post(f"/runs/{first['run']}/go-on", "")[0] == 403


def test_a_run_that_failed_goes_on_once_it_is_mended(flow: Flow) -> None:
    run = flow.hub.json("/runs/last")["run"]
    text = (flow.folder / "steps.py").read_text()
    (flow.folder / "steps.py").write_text(
        text.replace('raise ValueError("no luck today")', "return 1").replace("< 10", "< 1")
    )
    assert flow.post(f"/runs/{run}/go-on", "")[0] == 403  # the code is not as it was
    status, where = flow.post(f"/runs/{run}/go-on", "rebase=yes")
    assert (status, where) == (303, f"/runs/{run}")
    assert flow.ended(where)["state"] == "succeeded"


def test_what_a_check_refused_is_told_as_that(flow: Flow) -> None:
    file = flow.folder / "steps.py"
    file.write_text(file.read_text().replace("< 1 else", "< 10 else"))
    page = flow.ended(flow.post("/plan/go", "target=")[1])
    assert [one["name"] for one in page["troubles"]] == ["enough"]
    assert "Refused." in flow.hub.ask("GET", "/runs/last", accept="text/html")[1].decode()
    assert flow.hub.json("/runs")["runs"][0]["refused"] == ["enough"]
    (concern,) = [one for one in flow.hub.json("/")["concerns"] if page["run"] in one["address"]]
    assert concern["kind"] == "refused"


def step(name: str, started: int, seconds: float, *needs: str) -> StepRun:
    return StepRun("r", name, "", "step", "ran", "", seconds=seconds, needs=needs, started=started)


def test_a_timeline_begins_each_bar_where_its_step_began() -> None:
    line = timeline([step("a", 0, 1.0), step("b", 500_000, 1.5)])
    assert line is not None
    assert (line.seconds, line.measured) == (2.0, True)
    assert [(span.start, span.share) for span in line.spans] == [(0.0, 0.5), (0.25, 0.75)]


def test_under_a_clock_that_stands_still_a_bar_begins_where_its_needs_were_done() -> None:
    line = timeline([step("a", 7, 1.0), step("b", 7, 1.0, "a"), step("c", 7, 2.0, "b", "a")])
    assert line is not None
    assert not line.measured
    assert [span.start for span in line.spans] == [0.0, 0.25, 0.5]
    assert timeline([]) is None


def test_a_plan_as_json_is_that_of_the_command(flow: Flow) -> None:
    body = json.dumps({"target": "pages"}).encode()
    command = json.loads(flow.hub.ask("POST", "/v1/plan", body, content_type="application/json")[1])
    assert [one["name"] for one in flow.hub.json("/plan?target=pages")["steps"]] == [
        s["name"] for s in command["steps"]
    ]
