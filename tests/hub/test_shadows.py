"""Several candidates beside one endpoint, through a hub: begun by command and page, compared, kept over a restart."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.browser.shop import Shop
from tests.hub.conftest import sampan
from tests.hub.test_rollouts import Yard, body

pytestmark = pytest.mark.slow
#: What each is worth stands in the decisions themselves; the one that is better here is that of the newer version.
BETTER = """
SELECT _id AS prediction_id, 1.0 + (hash(_id) % 100) / 100.0 AS value FROM prediction
UNION ALL
SELECT _id, (CASE WHEN version = 'stay@2' THEN 3.0 ELSE 1.0 END) + (hash(prediction_id) % 100) / 90.0 FROM shadow
"""


@pytest.fixture(scope="module")
def yard(two_versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    made = Yard(two_versions, tmp_path_factory.mktemp("yard") / "shop")
    yield made
    made.hub.stop()


def begin(yard: Yard, *words: str) -> dict[str, Any]:
    done = yard.command("shadow", "start", "stay", *words, "--json")
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def until_asked(yard: Yard, id: str, count: int) -> dict[str, Any]:
    end = time.monotonic() + 90
    while True:
        found = yard.hub.json(f"/shadows/{id}")
        if found["compared"]["asked"] >= count and found["shadow"]["behind"] == 0:
            return dict(found)
        assert time.monotonic() < end, found["shadow"]
        time.sleep(0.2)


def ask(yard: Yard, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        assert yard.hub.predict("stay", body(f"v{number}"))[0] == 200


def test_several_follow_are_compared_go_on_after_the_hub_was_killed_and_are_ended(yard: Yard) -> None:
    yard.plan(query=BETTER)
    newer = begin(yard, "--model", "stay@2", "--reason", "the newer one")
    other = begin(yard, "--model", "stay@1", "--set", "likely=0.99", "--sample", "0.5")
    assert (newer["version"], newer["champion"], newer["actor"] != "") == ("stay@2", "stay@1", True)
    done = yard.command("shadow", "start", "stay", "--model", "stay@2")
    assert done.returncode == 1 and "goes on already" in done.stderr, "the same twice says nothing new"
    done = yard.command("shadow", "start", "stay", "--model", "stay@1")
    assert done.returncode == 2 and "what the endpoint serves already" in done.stderr
    done = yard.command("shadow", "start", "stay", "--model", "stay@2", "--sample", "1.5")
    assert done.returncode == 2 and "1.5" in done.stderr
    ask(yard, 80)
    until_asked(yard, newer["id"], 80)
    yard.hub.stop(signal.SIGKILL)
    yard.restart()
    ask(yard, 20, first=80)
    found = until_asked(yard, newer["id"], 101)  # one of them was asked at the restart
    assert found["compared"]["asked"] == found["compared"]["answered"] == 101, "none is missing, none twice"
    assert found["shadow"]["gain"]["verdict"] == "better" and found["candidate"] == "stay@2"
    half = until_asked(yard, other["id"], 1)["compared"]["asked"]
    assert 20 < half < 80, "those of half the visitors"
    (of,) = yard.hub.json("/shadows")["endpoints"]
    assert [(one["version"], one["changed"], one["state"]) for one in of["shadows"]] == [
        ("stay@1", ["likely 0.5 → 0.99"], "following"),
        ("stay@2", [], "following"),
    ]
    assert yard.hub.json("/endpoints/stay")["endpoint"]["version"] == "stay@1"
    listed = yard.command("shadow", "list")
    assert listed.returncode == 0 and "stay@1 (likely 0.5 → 0.99)" in listed.stdout and "better" in listed.stdout
    shown = yard.command("shadow", "show", newer["id"])
    assert shown.returncode == 0 and "101 of 101" in shown.stdout and "better" in shown.stdout
    assert yard.command("shadow", "end", newer["id"], "--reason", "seen enough").returncode == 0
    done = yard.command("shadow", "end", newer["id"], "--reason", "again")
    assert done.returncode == 1 and "seen enough" in done.stderr
    ask(yard, 5, first=100)
    assert yard.hub.json(f"/shadows/{newer['id']}")["compared"]["asked"] == 101
    assert yard.hub.json(f"/shadows/{newer['id']}")["shadow"]["ended_why"] == "seen enough"


def test_a_page_begins_one_and_ends_it_and_what_comes_in_force_ends_by_itself(yard: Yard) -> None:
    known = {"content_type": "application/x-www-form-urlencoded"}

    def post(path: str, **fields: str) -> Any:
        return yard.hub.ask("POST", path, urlencode(fields).encode(), **known)[0]

    response = post("/shadows", name="stay", model="stay@2", sample="0.25", reason="by hand")
    assert response.status == 303 and response.headers["location"] == "/shadows?endpoint=stay"
    (of,) = yard.hub.json("/shadows?endpoint=stay")["endpoints"]
    one = of["shadows"][0]
    assert (one["sample"], one["reason"], one["ended"]) == (0.25, "by hand", None)
    assert post(f"/shadows/{one['id']}/end", reason="").status == 400, "somebody must say why"
    assert post(f"/shadows/{one['id']}/end", reason="enough").status == 303
    assert post("/shadows", name="stay", model="stay@2", sample="many").status == 400
    assert post("/shadows", name="nobody", model="stay@2").status == 404
    last = begin(yard, "--model", "stay@2")
    yard.command("endpoint", "deploy", "stay", "--model", "stay@2", "--reason", "it was better")
    end = time.monotonic() + 30
    while (found := yard.hub.json(f"/shadows/{last['id']}")["shadow"])["ended"] is None:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert (found["ended_by"], found["ended_why"]) == ("", "it is what the endpoint serves now")


def test_without_a_hub_one_is_written_down_and_begins_with_the_hub(tmp_path: Any) -> None:
    shop = Shop(tmp_path / "shop")
    shop.hub.stop()
    done = sampan(shop.folder, "shadow", "start", "stay", "--model", "stay@1")
    assert done.returncode == 1 and "stay" in done.stderr, "there is no endpoint"
    assert sampan(shop.folder, "shadow", "list").stdout.startswith("No shadow yet.")
