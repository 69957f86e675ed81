"""A candidate with features from a table of its own: what it answered is explained, and replayed, with those."""

import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.test_replay import FILES, Shop, visits
from tests.hub.conftest import Hub

OTHERS = "SELECT visit, 19 - minutes AS minutes, sold_before FROM features\n"
PLAN = """
[buys]

[buys.kpi]
query = '''
SELECT prediction._id AS prediction_id, CAST(outcome.value = 'true' AS INTEGER) AS value
FROM prediction JOIN outcome ON outcome.prediction_id = prediction._id
'''
minimum_effect = "2 %"

[[buys.stage]]
share = 0.5
at_least = "2 days"

[[buys.stage]]
share = 1.0
"""


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Thirty decisions, some by the candidate, of visits that were named alone; the hub has ended."""
    folder = tmp_path_factory.mktemp("canary") / "shop"
    for name, text in {**FILES, "tables/others.sql": OTHERS, "rollouts.toml": PLAN}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.lstrip("\n"))
    shop, hub = Shop(folder), Hub(folder)
    try:
        hub.send(*visits(0, 80))
        shop("run")
        shop("endpoint", "deploy", "buys")
        rules = folder / "decisions.py"
        rules.write_text(rules.read_text().replace('features="features"', 'features="others"'))
        shop("rollout", "start", "buys", "--reason", "other features", "--without-golden")
        until, first = time.monotonic() + 60, 0
        while not any(one["variant"] == "candidate" for one in asked(hub, first)):  # until its process is there
            assert time.monotonic() < until
            first += 1
        for n in range(first + 1, first + 30):
            asked(hub, n)
    finally:
        assert hub.stop() == 0
    yield shop
    shutil.rmtree(folder, ignore_errors=True)


def asked(hub: Hub, n: int) -> list[dict[str, Any]]:
    body = {"records": [{"visit": f"v{n % 80}"}], "ids": [f"p{n}"]}
    status, answer = hub.predict("buys", json.dumps(body).encode())
    assert status == 200, answer
    found: list[dict[str, Any]] = json.loads(answer)["predictions"]
    return [{"variant": "", **one, "fallback": one.get("fallback", "")} for one in found]


def decided(shop: Shop) -> list[dict[str, Any]]:
    names = ("_id", "variant", "fallback", "features", "context", "looked_up", "prediction", "action")
    rows = shop.json("sql", f"SELECT {', '.join(names)} FROM prediction ORDER BY _id", "--limit", "1000")["rows"]
    found = [dict(zip(names, row, strict=True)) for row in rows]
    for one in found:
        for name in ("features", "context", "prediction"):
            one[name] = json.loads(one[name]) if isinstance(one[name], str) else one[name]
    return found


def theirs(shop: Shop) -> list[dict[str, Any]]:
    return [one for one in decided(shop) if one["variant"] == "candidate" and not one["fallback"]]


@pytest.mark.slow
def test_what_a_canary_answered_is_explained_and_made_once_more_with_its_own_features(canary: Shop) -> None:
    rows = {row[0]: row[1:] for row in canary.json("sql", "SELECT visit, minutes, sold_before FROM others")["rows"]}
    found = theirs(canary)
    assert found
    for one in found:
        assert list(one["features"].values()) == rows[one["context"]["visit"]]
    one = found[0]
    table, _, snapshot = one["looked_up"].partition(" ")
    origin = canary.json("lineage", one["_id"])
    tables = {made["name"]: made["facts"] for made in origin["made_from"] if made["kind"] == "table"}
    assert table == "others" and {name: facts["snapshot"] for name, facts in tables.items()} == {table: snapshot}
    again = canary.json("lineage", one["_id"], "--recompute")
    assert again["differs"] == [] and again["now"]["prediction"] == one["prediction"]


@pytest.mark.slow
def test_what_a_canary_answered_is_replayed_with_its_own_features(canary: Shop) -> None:
    """The champion's were looked up in another table than these rules name: what was kept of them would be wrong, and
    no model was derived with that table before, so that nobody knows whether it uses the future."""
    past, own = decided(canary), theirs(canary)
    (found,) = canary.json("replay")["report"]["decisions"]
    assert (found["answered"], found["differ"]) == (len(own), 0)
    ((why, count),) = found["unanswered"].items()
    assert count == len(past) - len(own) and why.startswith("others gives other features")
    bar = sorted(one["prediction"] for one in own)[-1]
    moved = [one for one in own if 0.5 <= one["prediction"] < bar]
    (found,) = canary.json("replay", "--set", f"buys.likely={bar!r}")["report"]["decisions"]
    assert (found["answered"], found["differ"]) == (len(own), len(moved)) and moved
