"""Building tables: types kept whole, errors at the user's line, files that are durable before they are named."""

import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from tests.store.tracing import needs_strace, run, traced

from sampan.base.clock import SystemClock
from sampan.base.digests import digest_file
from sampan.base.errors import BadQuery, StepFailed
from sampan.lake import read
from sampan.lake.lake import Lake
from sampan.lake.write import write_arrow, write_query
from sampan.store.database import Database


def rows(draft, folder):
    files = tuple(str(folder / file.sha256[:2] / file.sha256[2:]) for file in draft.files)
    return read.arrow(read.TableSource("t", files, draft.files[0].format)).to_pylist()


def test_a_file_is_named_by_its_sha256_and_cannot_be_written(tmp_path):
    draft = write_query("SELECT i FROM range(10) r(i)", {}, tmp_path)
    (file,) = draft.files
    path = tmp_path / file.sha256[:2] / file.sha256[2:]
    assert digest_file(path) == file.sha256
    assert path.stat().st_size == file.bytes == draft.bytes
    assert path.stat().st_mode & 0o222 == 0
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_sum_of_integers_is_an_integer_not_a_float(tmp_path):
    draft = write_query("SELECT sum(i) AS s, max(i)::UHUGEINT AS u FROM range(3) r(i)", {}, tmp_path)
    assert draft.fields == (("s", "BIGINT"), ("u", "UBIGINT"))
    assert rows(draft, tmp_path) == [{"s": 3, "u": 2}]
    big = write_query("SELECT sum(9007199254740993::BIGINT) AS s", {}, tmp_path)
    assert rows(big, tmp_path) == [{"s": 9007199254740993}]


def test_an_integer_wider_than_a_bigint_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(BadQuery, match=r"cast it to DECIMAL\(38, 0\)"):
        write_query("SELECT sum(i) * 10000000000000000000 AS s FROM range(1000) r(i)", {}, tmp_path)
    draft = write_query("SELECT (sum(i) * 10000000000000000)::DECIMAL(38, 0) AS s FROM range(1000) r(i)", {}, tmp_path)
    assert rows(draft, tmp_path) == [{"s": Decimal(499500) * 10**16}]


def test_an_empty_table_keeps_its_columns(tmp_path):
    draft = write_query("SELECT i AS a, 'x' AS b FROM range(0) r(i)", {}, tmp_path)
    assert (draft.rows, draft.fields) == (0, (("a", "BIGINT"), ("b", "VARCHAR")))
    assert rows(draft, tmp_path) == []


def test_order_by_sorts_the_file_and_not_the_digest(tmp_path):
    sql = "SELECT i * 7919 % 1009 AS x FROM range(1000) r(i)"
    plain, ordered = write_query(sql, {}, tmp_path), write_query(sql, {}, tmp_path, order_by=["x"])
    assert plain.id == ordered.id
    found = [row["x"] for row in rows(ordered, tmp_path)]
    assert found == sorted(found)


BROKEN = {
    "SELECT a,\n  nope\nFROM t": (2, 'Referenced column "nope" not found'),
    "SELECT *\nFROM missing": (2, "Table with name missing does not exist"),
    "SELECT a,\n\n  s::INTEGER\nFROM t": (3, "Could not convert string 'x' to INT32"),
    "SELECT a\nFROM t\nWHERE sum(a) > 1": (3, "WHERE clause cannot contain aggregates"),
    "SELECT a\nFRM t x y": (2, "syntax error"),
}


@pytest.mark.parametrize("sql", BROKEN)
def test_a_mistake_is_shown_at_the_users_line(workspace, sql):
    line, reason = BROKEN[sql]
    source = workspace.source("SELECT 1 AS a, 'x' AS s")
    with pytest.raises(BadQuery) as caught:
        write_query(sql, {"t": source}, workspace.folder / "lake", name="x", path="tables/x.sql")
    message = str(caught.value)
    assert message.startswith(f"Build x: tables/x.sql:{line}: ")
    assert reason in message
    assert "COPY" not in message
    assert "DESCRIBE" not in message
    shown = sql.split("\n")[line - 1]
    assert f"    {shown}\n" in message, message


def test_two_columns_of_one_name_are_refused(tmp_path):
    with pytest.raises(BadQuery, match="two of its columns are called 'A'\n  Rename one with AS"):
        write_query("SELECT 1 AS a, 2 AS A", {}, tmp_path)


def test_a_query_out_of_memory_fails_with_what_to_do_and_leaves_nothing(tmp_path):
    sql = "SELECT list(md5(i::VARCHAR) ORDER BY i) AS l FROM range(1000000) r(i)"
    with pytest.raises(StepFailed, match="Give the step more memory"):
        write_query(sql, {}, tmp_path, memory=20_000_000, threads=1)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@needs_strace
@pytest.mark.parametrize(
    ("make", "call"),
    [
        ("write_query('SELECT i, md5(i::VARCHAR) AS m FROM range(100000) r(i)', {}, folder)", "write"),
        ("write_arrow(pyarrow.table({'x': list(range(100000))}), folder)", "write"),
    ],
)
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, make, call):
    code = f"""
import sys
from pathlib import Path
import pyarrow, duckdb, sampan.lake.digest
from sampan.base.errors import DiskFull
from sampan.lake.write import write_arrow, write_query
folder = Path({str(tmp_path)!r})
try:
    {make}
except DiskFull as error:
    sys.exit(42)
"""
    done = run(code, "-e", f"trace={call}", "-e", f"inject={call}:error=ENOSPC:when=1+", "-o", "/dev/null")
    assert done.returncode == 42, done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@needs_strace
def test_bytes_are_synced_before_the_file_gets_its_name_and_the_name_before_the_commit(tmp_path):
    """fsync of the file, rename, fsync of the folder, and only then the records' commit (R3 for tables)."""
    code = f"""
from pathlib import Path
from sampan.base.clock import SystemClock
from sampan.lake.lake import Lake
from sampan.lake.write import write_arrow, write_query
from sampan.store.database import Database
import pyarrow
folder = Path({str(tmp_path)!r})
lake = Lake(Database(folder / "records.db", writable=True), folder / "lake", SystemClock())
a = lake.add(write_query("SELECT i FROM range(1000) r(i)", {{}}, folder / "lake"), "a")
b = lake.add(write_arrow(pyarrow.table({{"x": [1, 2]}}), folder / "lake"), "b")
lake.commit("main", {{"a": a.id, "b": b.id}}, expected=None)
"""
    calls = "write,pwrite64,writev,rename,renameat,renameat2,fsync,fdatasync,ftruncate"
    lines = [line.split(maxsplit=1)[1] for line in traced(code, calls, tmp_path / "trace")]
    dirty: set[str] = set()
    renamed, unsynced_names, commits = 0, set(), 0
    for line in lines:
        kind = line.split("(")[0]
        if ".marks" in line:  # a cache, which is held against the table's sums whenever it is used
            continue
        if "/lake/tmp/" in line and kind in ("write", "pwrite64", "writev", "ftruncate"):
            dirty.add(line.split("<")[1].split(">")[0])
        elif kind in ("fsync", "fdatasync"):
            path = line.split("<")[1].split(">")[0]
            dirty.discard(path)
            unsynced_names.discard(path)
            if path.endswith("records.db-wal"):
                commits += 1
                assert not dirty, "records were committed while a table's bytes were not synced"
                assert not unsynced_names, "records were committed while a table's name was not synced"
        elif kind.startswith("rename") and "/lake/tmp/" in line:
            old, new = line.split('"')[1], line.split('"')[3]
            assert old not in dirty, "a file got its name before its bytes were synced"
            unsynced_names.add(str(Path(new).parent))
            renamed += 1
    assert renamed == 2
    assert commits >= 3


KILLED = """
import os, signal, sys
from pathlib import Path
from sampan.base.clock import SystemClock
from sampan.lake.lake import Lake
from sampan.lake.write import write_query
from sampan.store.database import Database

folder, place = Path(sys.argv[1]), sys.argv[2]
db = Database(folder / "records.db", writable=True)
lake = Lake(db, folder / "lake", SystemClock())
drafts = {name: write_query(f"SELECT '{name}' AS x, 2 AS v", {}, folder / "lake") for name in "abc"}
snapshots = {name: lake.add(draft, name).id for name, draft in drafts.items()}
if place == "before":
    os.kill(os.getpid(), signal.SIGKILL)
if place == "inside":
    with db.transaction():
        lake.commit("main", snapshots, expected=lake.head(), request="run-2")
        os.kill(os.getpid(), signal.SIGKILL)
made = lake.commit("main", snapshots, expected=lake.head(), request="run-2")
print(made.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["before", "inside", "after"])
def test_a_kill_around_the_commit_publishes_all_tables_or_none(tmp_path, place):
    folder = tmp_path / "lake"
    db = Database(tmp_path / "records.db", writable=True)
    lake = Lake(db, folder, SystemClock())
    old = {name: lake.add(write_query(f"SELECT '{name}' AS x, 1 AS v", {}, folder), name).id for name in "abc"}
    first = lake.commit("main", old, expected=None, request="run-1")
    db.close()

    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), place], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr

    db = Database(tmp_path / "records.db", writable=True)
    lake = Lake(db, folder, SystemClock())
    values = {read.arrow(lake.source(name)).to_pylist()[0]["v"] for name in "abc"}
    if place == "after":
        assert values == {2}
        assert lake.head() == done.stdout.strip()
    else:
        assert values == {1}
        assert lake.head() == first.id
    # the run goes on: the same request publishes once, whether or not its answer was ever seen
    new = {name: lake.add(write_query(f"SELECT '{name}' AS x, 2 AS v", {}, folder), name).id for name in "abc"}
    made = lake.commit("main", new, expected=lake.head() if place != "after" else first.id, request="run-2")
    assert lake.head() == made.id
    assert len(lake.history()) == 2
    assert all(lake.verify(id) == [] for id in new.values())
    db.close()


@pytest.mark.slow
@needs_strace
@pytest.mark.parametrize("call", ["fdatasync", "fsync", "rename"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_kill_at_a_sync_or_rename_leaves_no_half_table_under_a_name(tmp_path, call, nth):
    code = f"""
from pathlib import Path
from sampan.lake.write import write_query
write_query("SELECT i, md5(i::VARCHAR) AS m FROM range(50000) r(i)", {{}}, Path({str(tmp_path)!r}))
"""
    run(code, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={nth}", "-o", "/dev/null")
    for path in tmp_path.glob("??/*"):
        assert digest_file(path) == path.parent.name + path.name
    draft = write_query("SELECT i, md5(i::VARCHAR) AS m FROM range(50000) r(i)", {}, tmp_path)
    assert draft.rows == 50_000


def test_frames_of_any_library_are_kept_with_one_digest(tmp_path):
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    columns = {"n": [3, 1, 2], "x": [0.5, 1.5, 2.5]}
    frames = [pa.table(columns), pl.DataFrame(columns), pd.DataFrame(columns), pa.table(columns).to_reader()]
    drafts = [write_arrow(frame, tmp_path) for frame in frames]
    assert len({draft.id for draft in drafts}) == 1
    assert {draft.fields for draft in drafts} == {(("n", "BIGINT"), ("x", "DOUBLE"))}
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_build_imports_no_library_that_it_does_not_need(tmp_path):
    code = f"""
import sys
from pathlib import Path
from sampan.lake.write import write_query
write_query("SELECT sum(i) AS s FROM range(10) r(i)", {{}}, Path({str(tmp_path)!r}))
print([name for name in ("pandas", "polars", "sqlglot", "sqlalchemy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("kind", ["INTEGER", "UINTEGER"])
def test_numbers_of_32_bits_that_lie_far_apart_can_be_written(tmp_path, kind):
    """Version 2 of the format, as DuckDB writes it, is then beyond Arrow: the table is written once more."""
    import pyarrow.parquet as pq

    bounds = {"INTEGER": (-(2**31), 2**31 - 1), "UINTEGER": (0, 2**32 - 1)}[kind]
    values = ", ".join(f"({bounds[number % 2]})" for number in range(40))
    draft = write_query(f"SELECT x::{kind} AS x FROM (VALUES {values}) AS v(x)", {}, tmp_path)
    (file,) = draft.files
    found = pq.read_table(tmp_path / file.sha256[:2] / file.sha256[2:])["x"].to_pylist()
    assert sorted(found) == sorted(bounds[number % 2] for number in range(40))
    assert draft.fields == (("x", kind),)
    assert list((tmp_path / "tmp").iterdir()) == []
