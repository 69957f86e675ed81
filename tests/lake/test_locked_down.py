"""A query reads the sources that it was given and nothing else (C6, R23 for SQL)."""

import duckdb
import pytest

from sampan.base.errors import BadQuery
from sampan.lake.query import connect, open_sources
from sampan.lake.write import write_query

OUTSIDE = [
    "FROM read_csv('/etc/passwd')",
    "FROM read_text('/etc/passwd')",
    "FROM read_blob('/proc/self/environ')",
    "FROM glob('/etc/*')",
    "FROM read_parquet('{secret}')",
    "FROM '{secret}'",
    "FROM parquet_metadata('{secret}')",
    "COPY (SELECT 1) TO '{folder}/out.parquet'",
    "COPY (SELECT 1) TO '{folder}/../out.csv'",
    "ATTACH '{folder}/other.db' AS other",
    "EXPORT DATABASE '{folder}'",
    "INSTALL httpfs",
    "LOAD '{folder}/x.duckdb_extension'",
    "FROM 'https://example.com/x.parquet'",
    "SET enable_external_access = true",
    "SET allowed_paths = ['/etc/passwd']",
    "SET threads = 64",
    "SET memory_limit = '1TB'",
    "RESET lock_configuration",
    "FROM python_variable",
]


@pytest.mark.parametrize("sql", OUTSIDE)
def test_nothing_outside_can_be_read_written_or_changed(tmp_path, sql):
    python_variable = [1, 2, 3]
    secret = tmp_path / "secret.parquet"
    duckdb.execute(f"COPY (SELECT 42 AS secret) TO '{secret}'")
    before = sorted(tmp_path.rglob("*"))
    connection = connect(threads=1)
    with pytest.raises(duckdb.Error):
        connection.execute(sql.format(secret=secret, folder=tmp_path)).fetchall()
    connection.close()
    assert sorted(tmp_path.rglob("*")) == before
    assert python_variable


def test_a_named_file_may_be_read_and_its_neighbour_may_not(tmp_path):
    for name in ("mine", "other"):
        duckdb.execute(f"COPY (SELECT '{name}' AS x) TO '{tmp_path}/{name}.parquet'")
    connection = connect(files=[tmp_path / "mine.parquet"])
    assert connection.execute(f"FROM read_parquet('{tmp_path}/mine.parquet')").fetchall() == [("mine",)]
    for path in (f"{tmp_path}/other.parquet", f"{tmp_path}/mine.parquet/../other.parquet", f"{tmp_path}/*.parquet"):
        with pytest.raises(duckdb.Error):
            connection.execute(f"FROM read_parquet('{path}')").fetchall()
    connection.close()


def test_a_worker_refuses_too_what_the_analysis_would_have_refused(tmp_path):
    with pytest.raises(BadQuery, match="nothing else"):
        write_query("FROM read_text('/etc/hostname')", {}, tmp_path / "lake", name="t")
    assert [path for path in (tmp_path / "lake").rglob("*") if path.is_file()] == []


def test_times_are_utc_and_names_are_only_names(workspace, monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    source = workspace.source('SELECT TIMESTAMPTZ \'2020-06-01 00:00:00+00\' AS at, 1 AS "odd "" name"')
    connection = open_sources({'a "quoted" name': source})
    row = connection.execute('SELECT "at"::VARCHAR, "odd "" name" FROM "a ""quoted"" name"').fetchall()
    assert row == [("2020-06-01 00:00:00+00", 1)]
    connection.close()


def test_what_does_not_fit_in_memory_goes_to_a_folder_of_its_own_and_is_removed(tmp_path):
    connections = [connect(threads=1, memory=20_000_000, spill=tmp_path) for _ in range(2)]
    for connection in connections:
        connection.execute("CREATE TEMP TABLE big AS SELECT i, md5(i::VARCHAR) AS m FROM range(400_000) r(i)")
    folders = list(tmp_path.iterdir())
    assert len(folders) == 2, "two processes would have written to the same files"
    for connection in connections:
        assert connection.execute("SELECT count(m) FROM big").fetchone() == (400_000,)
        connection.close()
    assert list(tmp_path.iterdir()) == []
