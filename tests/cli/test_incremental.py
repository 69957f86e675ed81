"""`sampan late` and `sampan verify incremental`, with no hub and through one, and what the table's page says of it."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sampan.app import App
from tests.cli.conftest import Here
from tests.hub.conftest import Hub, make_workspace

TABLE = """-- incremental: by day of day
SELECT date_trunc('day', _time) AS day, page, count(*) AS visits FROM visit GROUP BY ALL
"""
TOTAL = """-- incremental: by day of day
SELECT day, page, sum(visits) OVER (PARTITION BY page ORDER BY day)::BIGINT AS visits FROM daily
"""


def visits(here: Here, *days: str, page: str = "/") -> None:
    lines = [
        json.dumps(
            {"id": f"{day}{page}", "type": "visit", "source": "web", "time": f"{day}T09:00:00Z", "data": {"page": page}}
        )
        for day in days
    ]
    (here.folder / "some.ndjson").write_text("\n".join(lines))
    here("log", "load", "some.ndjson")


def page(here: Here, table: str = "daily") -> Any:
    """What the table's page says."""
    with closing(App(here.folder)) as app:
        return app.view(f"/tables/{table}")


@pytest.fixture
def here(tmp_path: Path) -> Here:
    folder = make_workspace(tmp_path / "shop")
    (folder / "tables" / "daily.sql").write_text(TABLE)
    here = Here(folder)
    visits(here, "2026-01-01", "2026-01-02", "2026-01-03")
    assert here.json("run")["state"] == "succeeded"
    return here


def test_late_says_which_partitions_the_next_run_builds(here: Here) -> None:
    assert "sampan late --explain" not in here("late")
    visits(here, "2026-01-02", "2026-01-04", page="/late")
    (found,) = here.json("late")
    assert (found["table"], found["built"], found["late"]) == ("daily", 3, 1)
    assert [(one["label"], one["there"]) for one in found["partitions"]] == [
        ("2026-01-02", True),
        ("2026-01-04", False),
    ]
    assert "sampan late --explain" in here("late")
    said = here("late", "--explain")
    assert "2026-01-02  late  1 visit event" in said
    step = next(one for one in here.json("run")["steps"] if one["name"] == "daily")
    assert step["why"].endswith("built 2 of 4 partitions: 2026-01-02, 2026-01-04")
    assert here.json("late")[0]["partitions"] == []


@pytest.mark.slow
def test_verifying_keeps_what_it_found_for_the_tables_page(here: Here) -> None:
    assert page(here)["cut"] == {"how": "by day of day", "partitions": 3, "proof": None}
    (found,) = here.json("verify", "incremental", "--partitions", "2", "--seed", "7")
    assert (found["partitions"], len(found["compared"]), found["unequal"]) == (3, 2, [])
    said = here("verify", "incremental", "daily", "--partitions", "2", "--seed", "7")
    assert "daily           3         2  equal" in said
    assert "--seed 7" in said
    proof = page(here)["cut"]["proof"]
    assert list(proof["compared"]) == found["compared"]
    assert page(here, "pages")["cut"] is None


@pytest.mark.slow
def test_what_differs_is_shown_row_by_row_and_exits_with_1(here: Here) -> None:
    (here.folder / "tables" / "total.sql").write_text(
        TOTAL.replace("by day of day", "by day of day, looking back 9 days")
    )
    here.json("run")
    visits(here, "2025-06-01")
    here.json("run")
    said = here("verify", "incremental", "total", "--all", code=1)
    assert "only in the table: day=2026-01-03 00:00:00+00:00, page=/, visits=3" in said
    assert "only by the query: day=2026-01-03 00:00:00+00:00, page=/, visits=4" in said
    assert page(here, "total")["cut"]["proof"]["unequal"]


@pytest.mark.slow
def test_a_table_that_is_built_whole_is_not_verified(here: Here) -> None:
    assert "These are: daily" in here.complaint("verify", "incremental", "pages", code=2)
    assert "no table 'nothing'" in here.complaint("verify", "incremental", "nothing", code=1)


@pytest.mark.slow
def test_through_a_hub_it_is_the_same(here: Here) -> None:
    hub = Hub(here.folder)
    try:
        visits(here, "2026-01-02", page="/late")
        (found,) = hub.json("/v1/late")
        assert [one["label"] for one in found["partitions"]] == ["2026-01-02"]
        (proven,) = here.json("verify", "incremental", "--all")
        assert len(proven["compared"]) == 3
        shown = hub.ask("GET", "/tables/daily", accept="text/html")[1].decode()
        assert "Last proven equal" in shown
        assert "3 of 3 partitions" in shown
    finally:
        hub.stop()
