"""A planted unit change turns the contract's page red before the next publication, by itself."""

import asyncio
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sampan.app import conforming
from tests.cli.conftest import Shell
from tests.hub.conftest import Hub, make_workspace, sampan
from tests.hub.test_pages import read

CONTRACT = """
from typing import Annotated
from sampan import Event, Field

class Sale(Event, version=1, owner="sales@shop"):
    price: Annotated[float, Field(unit="GBP", ge=0)]
"""


def workspace(folder: Path) -> Path:
    made = make_workspace(folder)
    (made / "contracts.py").write_text(CONTRACT)
    (made / "tables" / "pages.sql").write_text("SELECT count(*) AS sales FROM sale\n")
    return made


def sales(source: str, count: int, factor: float = 1) -> list[dict[str, Any]]:
    return [
        {
            "id": str(number),
            "type": "sale",
            "source": source,
            "time": "2026-01-01T00:00:00Z",
            "data": {"price": round((1 + number % 37) / 7 * factor, 2)},
        }
        for number in range(count)
    ]


@pytest.mark.slow
def test_the_page_turns_red_by_itself_and_the_next_run_warns(tmp_path: Path) -> None:
    hub = Hub(workspace(tmp_path / "shop"))
    try:
        hub.send(*sales("north", 400), *sales("south", 200, factor=100))
        until = time.monotonic() + 60
        while (found := hub.json("/contracts/sale")["conformity"]) is None and time.monotonic() < until:
            time.sleep(0.5)
        assert found["verdict"] == "differs"
        assert found["findings"][0]["sources"] == ["south"]
        text = " ".join(read(hub, "/contracts/sale").text)
        assert "looks like pence instead of GBP" in text
        line = hub.json("/contracts")["contracts"][0]
        assert (line["type"], line["differs"], line["attention"]) == ("sale", True, "south differs")
        while not (alerts := hub.json("/alerts").get("open")) and time.monotonic() < until:
            time.sleep(0.5)
        assert alerts
        ran = sampan(hub.folder, "run")
        assert ran.returncode == 0
        assert "warning: sale.price from south looks like pence instead of GBP (x100)" in ran.stderr
    finally:
        assert hub.stop() == 0


def test_what_goes_wrong_while_comparing_is_said_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd:
        looks = 0

        @property
        def log(self) -> Any:
            self.looks += 1
            raise ValueError("nobody foresaw this")

    async def for_a_moment(odd: Any) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(conforming.keep_comparing(odd), 1)

    monkeypatch.setattr(conforming, "_PAUSE", 0.02)
    asyncio.run(for_a_moment(odd := Odd()))
    assert odd.looks > 1
    said = [line.getMessage() for line in caplog.records]
    assert said == ["sources could not be compared: ValueError: nobody foresaw this"]


@pytest.mark.slow
def test_a_run_without_a_hub_looks_before_it_publishes(tmp_path: Path) -> None:
    shell = Shell(workspace(tmp_path / "shop"))
    file = shell.folder / "sales.ndjson"
    lines = [*sales("north", 400), *sales("south", 200, factor=100)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    shell("log", "load", str(file))
    done = shell.run("run")
    assert done.returncode == 0
    assert "pence instead of GBP" in done.stderr
    assert shell.json("contract", "show", "sale")["conformity"]["verdict"] == "differs"
    assert "pence" in str(shell.json("runs", "show", "last"))


def test_the_command_exits_with_1_on_a_finding_and_with_0_without(tmp_path: Path) -> None:
    hub = Hub(workspace(tmp_path / "shop"))
    shell = Shell(hub.folder)
    try:
        hub.send(*sales("north", 400), *sales("east", 300))
        assert "sale: conforms. north (400), east (300)." in shell("log", "conform", "sale")
        hub.send(*sales("south", 40, factor=100))
        assert "south (40, too few)" in shell("log", "conform", "sale", "--since", "1h")
        hub.send(*sales("west", 200, factor=100))
        said = shell("log", "conform", "sale", code=1)
        assert "✕ price from west looks like pence instead of GBP (x100): median" in said
        assert shell.json("log", "conform", "sale", code=1)["verdict"] == "differs"
        assert "is no time" in shell.complaint("log", "conform", "sale", "--since", "soon", code=2)
    finally:
        assert hub.stop() == 0
