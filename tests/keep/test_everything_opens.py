"""After a clean-up that keeps no more than it must, whatever a page or a command still names can be opened."""

import re
import shutil
import subprocess
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from sampan.app import App
from sampan.base.clock import iso
from tests.cli.conftest import Here
from tests.cli.test_replay import played
from tests.hub.conftest import Hub
from tests.keep.test_with_the_flow import AT_ONCE

__all__ = ["played"]  # a fixture

DAILY = """-- incremental: by day of day
SELECT date_trunc('day', _time) AS day, count(*) AS visits FROM visit GROUP BY ALL
"""


def edit(here: Here, path: str, old: str, new: str) -> None:
    text = (here.folder / path).read_text()
    assert old in text
    (here.folder / path).write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def cleaned(played: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A shop with replays, a measurement, a proof and a past, of which everything has gone that may go."""
    folder = tmp_path_factory.mktemp("cleaned") / "shop"
    shutil.copytree(played, folder)
    here = Here(folder)
    subprocess.run(["git", "-C", str(folder), "add", "."], check=True)
    commits = here.json("branch", "log")["commits"]
    early = iso(commits[-1]["created"] + 1)
    (folder / "tables" / "daily.sql").write_text(DAILY)
    here("run")
    here("verify", "incremental", "--seed", "1")
    edit(here, "tables/daily.sql", "count(*) AS", "count(*) + 1 AS")
    here("run")
    ids = {}
    edit(here, "models.py", "C=strength", "C=strength / 10")
    ids["open"] = here.json("replay", "--until", early, "--reason", "waits for an answer")["id"]
    ids["dropped"] = here.json("replay")["id"]
    here("replay", "discard", ids["dropped"])
    edit(here, "models.py", "C=strength / 10", "C=strength")
    here("branch", "new", "mended")
    edit(here, "tables/training.sql", "sold_before, bought", "sold_before + minutes AS sold_before, bought")
    here("run", "--branch", "mended")
    ids["impact"] = here.json("data", "impact", "buys", "--candidate", "mended", "--seeds", "2", "--key", "minutes")[
        "id"
    ]
    edit(here, "tables/training.sql", "sold_before + minutes AS sold_before, bought", "sold_before, bought")
    here("branch", "delete", "mended")
    edit(here, "tables/visits.sql", "SELECT visit,", "SELECT upper(visit) AS visit,")
    here("run")
    (folder / "sampan.toml").write_text(AT_ONCE)
    done = here.json("gc", "--apply")
    assert done["proof"]["agrees"] and done["missing"] == {} and done["gone"] > 10
    return folder, ids


def links(hub: Hub) -> tuple[dict[str, str], dict[str, int]]:
    """Every address that is linked from any page, with where it was found first; and what each answers."""
    found, answers = {"/": "", "/settings": ""}, dict[str, int]()
    waiting = list(found)
    while waiting:
        path = waiting.pop()
        response, body = hub.ask("GET", path, accept="text/html")
        answers[path] = response.status
        for link in re.findall(r'<a [^>]*?href="(/[^"#]*)', body.decode()):
            if (address := unescape(link)) not in found and not address.startswith("/static"):
                found[address] = path
                waiting.append(address)
    return found, answers


pytestmark = pytest.mark.night  # a minute, most of it for the past


def test_every_link_of_every_page_leads_to_a_page(cleaned: tuple[Path, dict[str, Any]]) -> None:
    hub = Hub(cleaned[0])
    try:
        found, answers = links(hub)
    finally:
        assert hub.stop() == 0
    assert len(answers) > 100
    assert {path: (status, found[path]) for path, status in answers.items() if status != 200} == {}


def test_commands_open_what_they_list(cleaned: tuple[Path, dict[str, Any]]) -> None:
    here, ids = Here(cleaned[0]), cleaned[1]
    for replay in here.json("replay", "list")["replays"]:
        assert here.json("replay", "show", replay["id"])["report"]["state"] == "succeeded"
    assert here.json("data", "show", ids["impact"])["report"]["tables"]
    for branch in here.json("branch", "list")["branches"]:
        here("branch", "diff", branch["name"])
        for table in here.json("table", "list", "--ref", branch["name"])["tables"]:
            here("sql", f'FROM "{table["name"]}"', "--ref", branch["name"])
    for run in here.json("runs", "list")["runs"]:
        here("runs", "show", run["run"])
    assert "`sampan gc`" in here.complaint("sql", "FROM training", "--ref", f"@{_lost(here)}", code=1)


def _lost(here: Here) -> str:
    with closing(App(here.folder)) as app:
        row = app.db.row("SELECT id FROM commits WHERE cleaned IS NOT NULL ORDER BY created DESC LIMIT 1")
    assert row is not None
    return str(row["id"])


def test_a_replay_that_waited_longer_than_anything_is_kept_can_still_be_approved(
    cleaned: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, ids = tmp_path / "shop", cleaned[1]
    shutil.copytree(cleaned[0], folder)
    here = Here(folder)
    edit(here, "models.py", "C=strength", "C=strength / 10")
    base = here.json("replay", "show", ids["open"])["plan"]["base"]
    assert here.json("sql", "SELECT count(*) FROM training", "--ref", f"@{base}")["rows"] == [[80]]
    here("replay", "approve", ids["open"])
    assert here.json("replay", "show", ids["open"])["state"] == "approved"
