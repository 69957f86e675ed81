"""Published tables beside clean-up and backups, as one types it."""

from pathlib import Path

import pytest
from pyiceberg.table import StaticTable

from tests.cli.conftest import Here, Shell, here, hub, shell, visits
from tests.hub.conftest import Hub

__all__ = ["here", "hub", "shell", "visits"]  # fixtures

AT_ONCE = '[retention]\nruns = "0 days"\ngrace = "0 days"\n'
STEPS = """
import polars as pl
from sampan import step

@step
def framed(pages: pl.DataFrame) -> pl.DataFrame:
    return pages.with_columns(twice=pl.col("visits") * 2)
"""


@pytest.fixture
def shop(here: Here, visits: Path) -> Here:
    """A workspace with a table of SQL and one of Python, where nothing is kept for its age but what is published."""
    keep(here, "0 days")
    (here.folder / "steps.py").write_text(STEPS)
    here("log", "load", str(visits), "--type", "visit", "--map", "visitor=visitor")
    here("run")
    return here


def keep(here: Here, commits: str) -> None:
    (here.folder / "sampan.toml").write_text(f'{AT_ONCE}commits = "{commits}"\n')


def change(here: Here, by: int) -> None:
    query = f"SELECT page, count(*) + {by} AS visits FROM visit GROUP BY page\n"
    (here.folder / "tables" / "pages.sql").write_text(query)
    here("run")


def pages(folder: str, snapshot: int | None = None) -> list[tuple[str, int]]:
    found = StaticTable.from_metadata(folder).scan(snapshot_id=snapshot).to_arrow()
    return sorted(zip(found["page"].to_pylist(), found["visits"].to_pylist(), strict=True))


@pytest.mark.slow
def test_clean_up_keeps_every_file_that_published_metadata_names_until_it_is_unpublished(shop: Here) -> None:
    keep(shop, "10 days")
    folder = shop.json("table", "publish", "pages")["tables"][0]["folder"]
    first = pages(folder)
    change(shop, 1)
    shop("table", "publish", "pages")
    change(shop, 2)
    keep(shop, "0 days")
    cleaned = shop.json("gc", "--apply")
    assert cleaned["gone"] > 0
    assert cleaned["proof"]["agrees"]
    assert not cleaned["missing"]
    one, two = StaticTable.from_metadata(folder).snapshots()
    assert pages(folder, one.snapshot_id) == first
    assert pages(folder, two.snapshot_id) == [(page, count + 1) for page, count in first]
    assert shop.json("table", "published")["tables"][0]["folder"] == folder
    assert f"{folder} is gone" in shop("table", "unpublish", "pages")
    assert not Path(folder).exists()
    assert "Nothing is published" in shop("table", "published")
    again = shop.json("gc", "--apply")
    assert next(kind["gone"] for kind in again["kinds"] if kind["kind"] == "table files") == 2
    assert "not published" in shop.complaint("table", "unpublish", "pages", code=1)


def test_what_metadata_names_is_not_removed_even_if_the_note_of_it_is_lost(shop: Here) -> None:
    shop("table", "publish", "pages")
    change(shop, 1)
    (shop.folder / ".sampan" / "iceberg" / "published.json").unlink()
    found = shop.json("gc", code=1)
    assert not found["proof"]["agrees"]
    assert any("the published pages" in who for who in found["proof"]["objections"].values())
    assert "Nothing was removed" in shop.complaint("gc", "--apply", code=3)


def test_all_tables_are_published_and_a_frame_as_a_copy_which_is_said(shop: Here) -> None:
    said = shop("table", "publish", "--all")
    assert "pages: 2 rows; it now has 1 snapshot." in said
    assert "A Parquet copy was written: it is kept as Arrow, since a step in Python made it." in said
    assert "was published already, with 1 snapshot" in shop("table", "publish", "pages")
    listed = shop.json("table", "published")["tables"]
    assert [one["table"] for one in listed] == ["framed", "pages"]
    framed = StaticTable.from_metadata(listed[0]["folder"]).scan().to_arrow()
    assert sorted(framed["twice"].to_pylist()) == [2, 2]


@pytest.mark.slow
def test_all_leaves_out_what_iceberg_cannot_hold_and_says_so(shop: Here) -> None:
    (shop.folder / "tables" / "spans.sql").write_text("SELECT page, INTERVAL 1 DAY AS span FROM pages")
    shop("run")
    found = shop.json("table", "publish", "--all", code=1)
    assert [one["table"] for one in found["tables"]] == ["framed", "pages"]
    assert "column span is INTERVAL" in found["left_out"][0]
    assert "Cast it in the table" in shop.complaint("table", "publish", "spans", code=1)


@pytest.mark.slow
def test_a_folder_that_cannot_be_made_is_said(shop: Here, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = shop.complaint("table", "publish", "pages", "--to", str(tmp_path / "file" / "below"), code=1)
    assert "the folder cannot be made" in said
    assert "Nothing is published" in shop("table", "published")


@pytest.mark.slow
def test_one_s_own_files_are_neither_published_over_nor_unpublished(shop: Here, tmp_path: Path) -> None:
    mine = tmp_path / "exports" / "framed" / "data" / "mine.parquet"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    to = ("--to", str(tmp_path / "exports"))
    assert "such as data/mine.parquet" in shop.complaint("table", "publish", "framed", *to, code=2)
    mine.unlink()
    shop("table", "publish", "framed", *to)
    mine.write_text("mine")
    assert f"{mine.parent.parent} stays" in shop("table", "unpublish", "framed", *to)
    assert [path for path in (tmp_path / "exports").rglob("*") if path.is_file()] == [mine]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("pages", "--all")])
def test_one_table_or_all_of_them(shop: Here, arguments: tuple[str, ...]) -> None:
    assert "name one table, or say --all" in shop.complaint("table", "publish", *arguments, code=2)


def test_a_table_is_published_while_the_hub_is_up_and_in_the_workspace_itself(
    shell: Shell, hub: Hub, here: Here, visits: Path
) -> None:
    here("log", "load", str(visits), "--type", "visit", "--map", "visitor=visitor")
    here("run")
    assert here.json("table", "publish", "pages")["tables"][0]["changed"]
    here.extra = {"SAMPAN_URL": hub.url}
    assert "SAMPAN_URL" in here.complaint("table", "publish", "pages", code=2)


@pytest.mark.slow
def test_a_restored_workspace_says_what_is_to_be_published_once_more(shop: Here, tmp_path: Path) -> None:
    shop("table", "publish", "pages")
    shop("branch", "new", "try")
    shop("table", "publish", "pages", "--ref", "try", "--to", str(tmp_path / "open tables"))
    shop("backup", str(tmp_path / "backup"))
    said = shop("restore", str(tmp_path / "backup"), str(tmp_path / "restored"))
    assert "`sampan table publish pages`" in said
    assert f"`sampan table publish pages --ref try --to '{tmp_path / 'open tables'}'`" in said
    restored = Here(tmp_path / "restored")
    folder = restored.json("table", "publish", "pages")["tables"][0]["folder"]
    assert folder.startswith(str(tmp_path / "restored"))
    assert len(pages(folder)) == 2


def test_a_workspace_that_was_moved_publishes_anew_after_one_command(shop: Here, tmp_path: Path) -> None:
    shop("table", "publish", "pages")
    moved = Here(shop.folder.rename(tmp_path / "moved"))
    assert "table unpublish" in moved.complaint("table", "publish", "pages", code=1)
    moved("table", "unpublish", "pages")
    assert len(pages(moved.json("table", "publish", "pages")["tables"][0]["folder"])) == 2
