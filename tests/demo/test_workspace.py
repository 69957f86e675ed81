"""The packaged example: its files, its data, its own tests."""

import subprocess
import sys
from hashlib import sha256
from importlib.resources import files

import duckdb
import pytest

RETAIL = files("sampan") / "examples" / "retail"


@pytest.fixture
def workspace(tmp_path):
    from shutil import copytree, ignore_patterns

    return copytree(str(RETAIL), tmp_path / "shop", ignore=ignore_patterns("__pycache__"))


@pytest.mark.slow
def test_the_workspace_s_own_tests_pass_with_plain_pytest(workspace):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "--rootdir", str(workspace)],
        cwd=workspace,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def test_the_data_is_the_file_that_its_readme_describes():
    data = RETAIL / "data" / "online_retail.parquet"
    readme = (RETAIL / "data" / "README.md").read_text("utf-8")
    assert sha256(data.read_bytes()).hexdigest() in readme
    assert "Dr. Daqing Chen" in readme and "CC0" in readme and "10.1057/dbm.2012.17" in readme
    count, total = duckdb.sql(f"SELECT count(*), round(sum(Quantity * UnitPrice), 2) FROM '{data}'").fetchone()
    assert (count, total) == (541_909, 9_747_747.93)


def test_every_query_of_the_example_can_be_repeated():
    from sampan.lake.sql import analyse

    for folder in ("tables", "checks"):
        for query in (RETAIL / folder).iterdir():
            facts = analyse(query.read_text("utf-8"), query.name)
            assert not facts.refusals and not facts.flags, query.name


def test_the_line_that_leaks_is_there_and_hidden():
    from sampan.demo.story import HIDDEN

    assert (RETAIL / "tables" / "features.sql").read_text("utf-8").count(HIDDEN) == 1
