"""The workspace and the events that the README shows: they are taken from its text and used."""

import contextlib
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sampan.app import App
from sampan.log.check import Checker

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
FILE = re.compile(r"^```(?:python|sql)\n(?:#|--) ([\w/.]+): .*?^```", re.MULTILINE | re.DOTALL)


def shown_files() -> dict[str, str]:
    return {match[1]: match[0].split("\n", 1)[1].removesuffix("```") for match in FILE.finditer(README)}


def shown_events() -> list[dict[str, Any]]:
    found = re.search(r"/v1/events -d '(\[.*?\])'", README, re.DOTALL)
    assert found
    events: list[dict[str, Any]] = json.loads(found[1])
    return events


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    (tmp_path / "sampan.toml").touch()
    for name, text in shown_files().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    app = App(tmp_path)
    yield app
    app.close()


def send(app: App, events: list[dict[str, Any]]) -> list[str]:
    with app.writing("Send events"):
        log = app.log
        with contextlib.closing(log.writer()) as writer:
            batch = Checker(app.contracts, log.keys).read(json.dumps(events).encode())
            return [one.verdict for one in writer.append(batch, "test").verdicts()]


def test_the_readme_shows_a_workspace_of_three_files() -> None:
    assert sorted(shown_files()) == ["contracts.py", "steps.py", "tables/orders.sql"]


def test_the_events_of_the_readme_are_accepted_and_its_flow_runs(app: App) -> None:
    first = shown_events()[0]
    large = first | {"id": "536366-1", "data": first["data"] | {"order_id": "536366", "pieces": 600}}
    assert send(app, [first, large, first]) == ["accepted", "accepted", "duplicate"]
    result = app.run("", {}, "test", lambda _: None)
    assert {step["name"]: step["state"] for step in result["steps"]} == {
        "orders": "ran",
        "large": "ran",
        "worth_is_known": "ran",
    }
    assert app.sql("SELECT order_id, worth FROM orders ORDER BY order_id")["rows"] == [
        ["536365", Decimal("15.30")],
        ["536366", Decimal("1530.00")],
    ]
