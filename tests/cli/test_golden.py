"""Golden requests from the run that trains to the page: kept, asked again with a hub and without, and told."""

import json
import sqlite3
from collections.abc import Iterator

import pytest

from sampan.store.blobs import Blobs
from tests.cli.conftest import Here
from tests.hub.conftest import Hub, make_workspace

STEPS = """
import lightgbm
import numpy as np
import pyarrow as pa

from sampan import Fitted, model


@model(kind="regression", target="visits")
def busy(pages: pa.Table, trees: int = 5, keep: bool = True) -> Fitted:
    x, y = pages["length"].to_numpy().astype(float)[:, None], pages["visits"].to_numpy()
    data = lightgbm.Dataset(x, y, feature_name=["length"])
    options = {"min_data_in_leaf": 1, "min_data_in_bin": 1, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(options, data, trees)
    return Fitted(booster, features=["length"], sample=pages if keep else None)
"""
PAGES = "SELECT page, length(page) AS length, count(*) AS visits FROM visit GROUP BY page\n"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder = make_workspace(tmp_path_factory.mktemp("golden") / "shop")
    (folder / "tables" / "pages.sql").write_text(PAGES)
    (folder / "steps.py").write_text(STEPS)
    here = Here(folder)
    rows = [{"page": "/" + "a" * (i % 7), "visitor": str(i), "at": f"2026-03-01T10:00:{i % 60:02}Z"} for i in range(99)]
    visits = folder.parent / "visits.ndjson"
    visits.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    here("log", "load", str(visits), "--type", "visit", "--map", "visitor=visitor", "--time", "at")
    assert here.json("run")["versions"] == ["busy@1"]
    yield here


def test_a_run_keeps_them_and_nobody_has_asked_yet(shop: Here) -> None:
    assert "7, not asked again: `sampan model golden busy@1`" in shop("model", "show", "busy@1")
    page = shop.json("model", "show", "busy@1")
    assert (page["golden"]["requests"], page["golden"]["rows"], page["golden_checks"]) == (7, 7, [])


def test_the_same_answers_are_told_and_kept_with_the_version(shop: Here) -> None:
    assert "busy@1: 7 requests, same answers within 1e-06, at most 0 apart." in shop("model", "golden", "busy")
    (last, *_) = shop.json("model", "show", "busy@1")["golden_checks"]
    assert (last["cases"], last["different"], last["worst"]) == (7, 0, 0.0)
    assert "7, same answers, " in shop("model", "show", "busy@1")


def test_other_answers_are_a_no(shop: Here) -> None:
    altered(shop, by=0.5)
    said = shop("model", "golden", "busy@1", code=1)
    assert "7 requests, 7 other answers within 1e-06" in said
    assert said.count("instead of") == 7
    assert shop.json("model", "golden", "busy@1", "--tolerance", "0.9")["different"] == 0
    assert [one["different"] for one in shop.json("model", "show", "busy@1")["golden_checks"]][:2] == [0, 7]
    altered(shop, by=-0.5)


def test_a_hub_that_is_up_writes_it_down_and_shows_it(shop: Here) -> None:
    hub = Hub(shop.folder)
    try:
        shop("model", "golden", "busy@1")
        shown = hub.ask("GET", "/models/busy/1", accept="text/html")[1].decode()
        assert "Golden requests" in shown and "7, same answers when they were last asked" in shown
        assert hub.json("/models/busy/1?format=json")["golden_checks"][0]["actor"] != ""
        refused = hub.ask("POST", "/v1/golden-checks", b'{"ref": "busy@7", "cases": 1, "different": 0, "worst": 0}')
        assert refused[0].status == 404
    finally:
        assert hub.stop() == 0


@pytest.mark.slow
def test_what_cannot_be_asked_is_said(shop: Here) -> None:
    assert "the tolerance is 2.0" in shop.complaint("model", "golden", "busy@1", "--tolerance", "2", code=2)
    assert "there is none" in shop.complaint("model", "golden", "busy@9", code=1)
    fewer = STEPS.replace("trees: int = 5, keep: bool = True", "trees: int = 3, keep: bool = False")
    (shop.folder / "steps.py").write_text(fewer)
    assert shop.json("run")["versions"] == ["busy@2"]
    assert "busy@2 was registered without any" in shop.complaint("model", "golden", "busy@2", code=1)
    assert shop.json("model", "show", "busy@2")["golden"] is None


def altered(shop: Here, by: float) -> None:
    """Have the version's file say that all answers were higher."""
    blobs = Blobs(shop.folder / ".sampan" / "blobs")
    records = sqlite3.connect(shop.folder / ".sampan" / "records.db")
    file = json.loads(records.execute("SELECT golden FROM versions WHERE number = 1").fetchone()[0])
    golden = json.loads(blobs.get(file["digest"]))
    golden["answers"] = [answer + by for answer in golden["answers"]]
    file["digest"] = blobs.put(json.dumps(golden).encode())
    records.execute("UPDATE versions SET golden = ? WHERE number = 1", (json.dumps(file),))
    records.commit()
    records.close()
