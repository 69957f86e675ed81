"""``sampan data``, typed as one types it, with and without a hub; and the pages that show what was found."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sampan.app import App
from tests.cli.conftest import Here, Shell
from tests.hub.conftest import Hub
from tests.hub.test_pages import read

STEPS = """
import lightgbm
import numpy as np
import pyarrow as pa
from sampan import Fitted, model, step


@step
def visits(wrong: float = 0.4, bonus: int = 0) -> pa.Table:
    chance = np.random.default_rng(3)
    spent, hour = chance.normal(size=(2, 600))
    returned = spent + 0.3 * chance.normal(size=600) > 0
    broken = chance.random(600) < wrong
    return pa.table({
        "visit": np.arange(600), "shop": np.where(np.arange(600) < 20, "<i>kiosk</i>", "north"), "spent": spent,
        "hour": hour, "returned": np.where(broken, ~returned, returned),
        "day": np.datetime64("2026-01-01", "s") + np.arange(600).astype("timedelta64[h]"),
    })


@model(kind="binary", target="returned")
def comes_back(visits: pa.Table, trees: int = 20, told: float = 0.6) -> Fitted:
    x = np.column_stack([visits["spent"].to_numpy(), visits["hour"].to_numpy()])
    data = lightgbm.Dataset(x, visits["returned"].to_numpy(zero_copy_only=False).astype(float),
                            feature_name=["spent", "hour"])
    options = {"objective": "binary", "num_leaves": 4, "num_threads": 1, "verbose": -1}
    return Fitted(lightgbm.train(options, data, trees), features=["spent", "hour"], metrics={"auc": told},
                  sample=visits.select(["spent", "hour"]))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions on main, two fifths of whose labels are wrong, and a branch on which they are right."""
    folder = tmp_path_factory.mktemp("data") / "shop"
    folder.mkdir()
    (folder / "sampan.toml").write_text("[prices]\nthis_machine_per_hour = 3600.0\n")
    (folder / "contracts.py").write_text("")
    (folder / "steps.py").write_text(STEPS)
    shop = Here(folder)
    shop("run")
    shop("run", "--set", "comes_back.trees=25", "--set", "comes_back.told=0.65")
    shop("branch", "new", "mended", "--reason", "the till was repaired")
    shop("run", "visits", "--branch", "mended", "--set", "visits.wrong=0")
    shop("branch", "new", "like-main")
    return folder


@pytest.fixture
def shop(made: Path, tmp_path: Path) -> Here:
    """A copy of it."""
    shutil.copytree(made, tmp_path / "shop", symlinks=True)
    return Here(tmp_path / "shop")


@pytest.fixture
def up(shop: Here) -> Iterator[Hub]:
    running = Hub(shop.folder)
    yield running
    assert running.stop() == 0


def impact(shop: Shell, *more: str) -> Any:
    return shop.json("data", "impact", "comes_back", "--candidate", "mended", "--seeds", "2", *more)


def test_it_prints_differences_with_intervals_and_keeps_them(shop: Here) -> None:
    assert "Nothing was measured yet" not in shop("data", "list"), "two versions are there to compare"
    main = shop.json("branch", "log")["commits"][0]["id"]
    said = shop("data", "impact", "comes_back", "--candidate", "mended", "--seeds", "2")
    assert "held-out rows of mended per seed" in said and "held-out rows of main per seed" in said
    assert (
        "with another returned" in said and "95 % from" in said and "2 seeds; 25% held out, told apart by visit" in said
    )
    assert "<i>kiosk</i>" in said and "(few rows)" in said
    assert shop.json("branch", "log")["commits"][0]["id"] == main, "nothing was published"
    assert len(shop.json("model", "list")["models"][0]["versions"]) == 2, "nothing was registered"
    shown = shop("data", "show")
    assert shown.strip() == said.strip()
    found = shop.json("data", "show", "last")
    assert found["cost"] == pytest.approx(found["seconds"], rel=0.6), "a second of the whole machine costs 1"


def test_held_out_by_time_it_says_when_each_seed_was_judged(shop: Here) -> None:
    said = shop("data", "impact", "comes_back", "--candidate", "mended", "--seeds", "2", "--time", "day")
    judged = "was judged by day on 2026-01-19T17:00 to 2026-01-25T23:00; 2026-01-13T11:00 to 2026-01-19T17:00."
    assert judged in " ".join(said.split())
    with closing(App(shop.folder)) as app:
        report = app.view("/impact/last")["report"]
    assert (report["time"], len(report["periods"])) == ("day", 2)


def test_clean_up_keeps_what_is_young_and_lets_a_measurement_hold_nothing_else(shop: Here) -> None:
    impact(shop)
    assert shop.json("gc")["proof"]["agrees"]
    with (shop.folder / "sampan.toml").open("a") as file:
        file.write('[retention]\nruns = "0 days"\ncommits = "0 days"\ngrace = "0 days"\n')
    shop("branch", "delete", "mended")
    assert shop.json("gc", "--apply")["proof"]["agrees"]
    assert shop.json("data", "show")["candidate"] == "mended", "what was measured stays known"


@pytest.mark.slow
def test_changes_of_data_and_of_the_model_are_ranked_together(shop: Here) -> None:
    impact(shop)
    (model,) = shop.json("data", "list")["models"]
    assert model["name"] == "comes_back" and model["metric"] == "auc"
    changes = {one["kind"]: one for one in model["changes"]}
    assert changes["model"]["gain"] == pytest.approx(0.05) and changes["model"]["verdict"] == "not paired"
    assert changes["model"]["low"] is None
    assert changes["data"]["low"] < changes["data"]["gain"] < changes["data"]["high"]
    gains = [one["gain"] for one in model["changes"]]
    assert gains == sorted(gains, reverse=True)
    said = shop("data", "list")
    assert "main → mended" in said and "comes_back@1 → comes_back@2" in said


def test_where_nothing_differs_there_is_nothing_to_measure(shop: Here) -> None:
    said = shop("data", "impact", "comes_back", "--candidate", "like-main")
    assert said == "main and like-main hold the same of all that comes_back needs: there is nothing to measure.\n"
    assert shop.json("data", "impact", "comes_back", "--candidate", "like-main") is None


def test_what_it_cannot_do_is_said_in_one_message(shop: Here) -> None:
    assert "no branch 'lost'" in shop.complaint("data", "impact", "comes_back", "--candidate", "lost", code=1)
    assert "visits is a step" in shop.complaint("data", "impact", "visits", "--candidate", "mended", code=2)
    assert "no step 'goes'" in shop.complaint("data", "impact", "goes", "--candidate", "mended", code=1)
    assert "2<=x<=30" in shop.complaint("data", "impact", "comes_back", "--candidate", "x", "--seeds", "1", code=2)
    assert "there is none" in shop.complaint("data", "show", "nothing", code=1)
    asked = ("data", "impact", "comes_back", "--candidate", "mended", "--time", "spent")
    assert "spent is DOUBLE there" in shop.complaint(*asked, code=2)
    assert "exclude each other" in shop.complaint(*asked, "--at-random", code=2)


@pytest.mark.slow
def test_through_a_hub_it_is_the_same_and_its_pages_show_it(shop: Here, up: Hub) -> None:
    empty = " ".join(read(up, "/impact?model=other").text)
    assert "Nothing was measured yet." in empty and "sampan data impact" in empty
    made = impact(shop, "--reason", "<script>alert(1)</script>", "--slice", "shop")
    assert up.json("/impact/" + made["id"])["report"] == made["report"]
    assert impact(shop, "--reason", "<script>alert(1)</script>", "--slice", "shop")["id"] == made["id"]
    page = read(up, "/impact/" + made["id"])
    shown = " ".join(page.text)
    assert "<script>alert(1)</script>" in shown and "few rows" in shown and "Judged on the rows of mended" in shown
    assert "/branches/mended" in page.links and "/branches/main" in page.links
    listed = read(up, "/impact")
    assert f"/impact/{made['id']}" in listed.links and "/models/comes_back/2" in listed.links
    assert f"/tables/visits?ref=%40{made['candidate_commit']}" in listed.links
    assert up.ask("GET", f"/tables/visits?ref=%40{made['candidate_commit']}")[0].status == 200
    assert "no branch 'lost'" in shop.complaint("data", "impact", "comes_back", "--candidate", "lost", code=1)
    assert up.ask("GET", "/impact/nothing")[0].status == 404


def test_a_page_without_anything_says_how_to_begin(shell: Shell, hub: Hub) -> None:
    shown = " ".join(read(hub, "/impact").text)
    assert "Nothing was measured yet." in shown
    assert hub.json("/impact") == {"models": [], "as_of": None}
    assert "Nothing was measured yet" in Here(shell.folder)("data", "list")
