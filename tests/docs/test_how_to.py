"""The how-to pages: their files make a workspace, and what they say of it happens."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Shell
from tests.hub.conftest import Hub

PAGES = Path(__file__).parent.parent.parent / "docs" / "how-to"
FILE = re.compile(r"^```(?:python|sql)\n(?:#|--) ([\w/.]+): .*?^```", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text("utf-8")


def blocks(name: str, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page(name)) if kind == language]


@pytest.fixture
def plant(tmp_path: Path) -> Shell:
    """The workspace of all three pages."""
    folder = tmp_path / "plant"
    folder.mkdir()
    (folder / "sampan.toml").touch()
    for name in ("events", "steps", "model"):
        for found in FILE.finditer(page(name)):
            path = folder / found[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(found[0].split("\n", 1)[1].removesuffix("```"), "utf-8")
    (folder / "readings.csv").write_text(blocks("events", "text")[0], "utf-8")
    (folder / "limits.csv").write_text(blocks("steps", "text")[0], "utf-8")
    return Shell(folder)


def load_shown(plant: Shell) -> None:
    """Load and repair as the page on events shows it."""
    maps = ["machine=Machine-Name", "temp_c=temp °C", "operator_id=Operator-ID"]
    options = [part for one in maps for part in ("--map", one)]
    said = plant("log", "load", "readings.csv", "--type", "reading", "--time", "Time (UTC)", *options)
    assert "4 sent: 1 accepted, 0 duplicate, 3 quarantined." in said
    assert "No field" not in said
    said = "2 entered the log, 0 were there already, 0 were left, 1 still do not fit."
    assert said in page("events")
    assert said in plant("quarantine", "fix", "--rule", "fix.py")
    (plant.folder / "old.ndjson").write_text(blocks("events", "json")[0], "utf-8")
    assert "1 accepted" in plant("log", "load", "old.ndjson")


def load_many(plant: Shell) -> None:
    """As many more readings as a model needs."""
    chance = random.Random(7)
    lines = []
    for number in range(300):
        vibration = chance.uniform(0.5, 4)
        data = {
            "machine": chance.choice(["Fräse-1", "Press-3"]),
            "temp_c": 40 + 10 * vibration,
            "vibration": vibration,
            "state": "ok" if vibration < 2 else "warn" if vibration < 3 else "fail",
        }
        time = f"2026-01-02T{number // 60:02}:{number % 60:02}:00Z"
        event = {"id": str(number), "type": "reading", "version": 2, "source": "test", "time": time, "data": data}
        lines.append(json.dumps(event))
    (plant.folder / "many.ndjson").write_text("\n".join(lines), "utf-8")
    assert "300 accepted" in plant("log", "load", "many.ndjson")


def rows(plant: Shell, query: str) -> Any:
    return plant.json("sql", query)["rows"]


def test_what_the_pages_on_events_and_steps_show_works(plant: Shell) -> None:
    for name in ("tables/features.sql", "models.py", "decisions.py"):
        (plant.folder / name).unlink()
    load_shown(plant)
    assert rows(plant, "SELECT temp_c FROM reading ORDER BY _time") == [[60.0], [58.87], [72.96], [65.22]]
    plant.extra["PLANT"] = "north"
    done = plant.json("run", "--set", "hottest.top=1")
    assert {step["state"] for step in done["steps"]} == {"ran"}
    assert rows(plant, "SELECT machine FROM hottest") == [["Fräse-1"]]
    assert rows(plant, "SELECT machine, n FROM counted ORDER BY machine") == [["Fräse-1", 2], ["Press-3", 2]]
    assert rows(plant, "SELECT plant, worst FROM over_limit") == [["north", 3.48]] * 2
    assert rows(plant, "SELECT count(*) FROM per_machine") == [[2]]
    assert rows(plant, "SELECT count(*) FROM first_ten") == [[4]]
    with (plant.folder / "limits.csv").open("a") as limits:
        limits.write("Press-4,1.0\n")
    plan = {
        step["name"]: step["why"] for step in plant.json("plan", "over_limit")["steps"] if step["state"] != "cached"
    }
    assert "file limits.csv changed" in plan["over_limit"]


@pytest.mark.slow
def test_what_the_page_on_models_shows_works(plant: Shell) -> None:
    load_shown(plant)
    load_many(plant)
    plant("run")
    versions = plant.json("model", "list")
    assert "temperature@1" in json.dumps(versions)
    plant("endpoint", "deploy", "condition", "--set", "likely=0.3", "--reason", "fewer false alarms")
    plant("endpoint", "deploy", "heat", "--model", "temperature@1")
    plant("endpoint", "deploy", "next", "--model", "inspection")
    ask, outcome = blocks("model", "json")
    hub = Hub(plant.folder)
    try:
        said = {}
        for name in ("condition", "heat", "next"):
            body = ask.replace("check-1", "check-1" if name == "condition" else name)
            status, answer = hub.predict(name, body.encode())
            assert status == 200, answer
            said[name] = json.loads(answer)["predictions"][0]
        assert said["condition"]["id"] == "check-1"
        assert set(said["condition"]["prediction"]) == {"fail", "ok", "warn"}
        assert said["condition"]["action"] in ("inspect", "go on")
        assert "error" not in said["condition"]
        assert 50 < said["heat"]["prediction"] < 80
        assert isinstance(said["next"]["prediction"], float)
        assert [one["verdict"] for one in hub.send(json.loads(outcome))] == ["accepted"]
        joined = "SELECT p._id, o.value FROM prediction p JOIN outcome o ON o.prediction_id = p._id"
        assert rows(plant, joined) == [["check-1", "fail"]]
        assert "fail, ok, warn" in plant("model", "show", "condition")
        assert "version condition@1" in plant("lineage", "check-1")
    finally:
        hub.stop()


@pytest.mark.parametrize("name", ["events", "steps", "model"])
def test_every_page_is_linked_from_the_first(name: str) -> None:
    assert f"(how-to/{name}.md)" in (PAGES.parent / "README.md").read_text("utf-8")
