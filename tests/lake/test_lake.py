"""Snapshots, branches, commits: content has one name, a commit is whole, one winner per version."""

import threading
from datetime import timedelta

import pytest

from sampan.base.errors import Conflict, Damaged, NotFound
from sampan.lake import read
from sampan.lake.lake import Lake
from sampan.lake.write import write_arrow, write_query


def test_equal_content_is_one_snapshot_however_it_was_built(workspace, lake):
    one = workspace.build("a", "SELECT i, i * 2 AS d FROM range(1000) r(i)")
    workspace.clock.advance(timedelta(hours=1))
    two = workspace.build("b", "SELECT i, i + i AS d FROM range(1000) r(i) ORDER BY i DESC")
    frame = lake.add(write_arrow(read.arrow(lake.source_of(one)), lake.folder), "c")
    assert one == two == frame
    assert one.rows == 1000
    assert one.fields == (("i", "BIGINT"), ("d", "BIGINT"))


def test_a_snapshot_without_a_branch_can_be_inspected(workspace, lake):
    """What a failed check holds back: it exists, it can be asked and sampled, and no branch knows it."""
    held = workspace.build("orders", "SELECT i AS id, -i AS amount FROM range(5) r(i)")
    assert lake.tables() == {}
    answer = read.query("SELECT min(amount) FROM orders", lake, extra={"orders": lake.source_of(held)})
    assert answer.fetchall() == [(-4,)]
    answer.close()
    assert lake.sample(held.id, 2) == [{"id": 0, "amount": 0}, {"id": 1, "amount": -1}]
    assert lake.profile(held.id).columns[1].min == "-4"


def test_a_held_candidate_wins_over_the_published_table_when_it_is_asked_for(workspace, lake):
    old, new = workspace.build("t", "SELECT 1 AS x"), workspace.build("t", "SELECT 2 AS x")
    lake.commit("main", {"t": old.id}, expected=None)
    assert read.query("FROM t", lake).fetchall() == [(1,)]
    assert read.query("FROM T", lake, extra={"t": lake.source_of(new)}).fetchall() == [(2,)]


def test_all_tables_of_a_commit_appear_together(workspace, lake):
    a, b = workspace.build("a", "SELECT 1 AS x"), workspace.build("b", "SELECT 2 AS x")
    made = lake.commit("main", {"a": a.id, "b": b.id}, expected=None, run="r1", actor="ann", reason="first")
    assert lake.head() == made.id
    assert {name: snapshot.id for name, snapshot in lake.tables().items()} == {"a": a.id, "b": b.id}
    assert (made.run, made.actor, made.reason, made.parent) == ("r1", "ann", "first", None)


def test_tables_that_a_commit_does_not_name_stay_and_none_takes_one_off(workspace, lake):
    a, b = workspace.build("a", "SELECT 1 AS x"), workspace.build("b", "SELECT 2 AS x")
    first = lake.commit("main", {"a": a.id, "b": b.id}, expected=None)
    second = lake.commit("main", {"b": None, "c": a.id}, expected=first.id)
    assert second.tables == {"a": a.id, "c": a.id}
    assert lake.commit_of(first.id).tables == {"a": a.id, "b": b.id}


def test_a_commit_that_expects_an_older_head_changes_nothing(workspace, lake):
    a, b = workspace.build("a", "SELECT 1 AS x"), workspace.build("b", "SELECT 2 AS x")
    first = lake.commit("main", {"t": a.id}, expected=None)
    with pytest.raises(Conflict, match="not at its beginning"):
        lake.commit("main", {"t": b.id}, expected=None)
    with pytest.raises(Conflict, match="read it again"):
        lake.commit("main", {"t": b.id}, expected="another")
    assert lake.head() == first.id
    assert len(lake.history()) == 1


def test_a_commit_of_something_that_is_not_there_changes_nothing(workspace, lake):
    a = workspace.build("a", "SELECT 1 AS x")
    gone = workspace.build("b", "SELECT 2 AS x")
    lake.paths(gone)[0].unlink()
    for missing in ("t1-unknown", gone.id):
        with pytest.raises(NotFound, match="is missing"):
            lake.commit("main", {"a": a.id, "b": missing}, expected=None)
    assert lake.head() is None
    assert lake.tables() == {}


def test_a_repeated_request_gives_the_commit_that_it_made_the_first_time(workspace, lake):
    a, b = workspace.build("a", "SELECT 1 AS x"), workspace.build("b", "SELECT 2 AS x")
    first = lake.commit("main", {"t": a.id}, expected=None, request="run-1")
    lake.commit("main", {"t": b.id}, expected=first.id)
    assert lake.commit("main", {"t": a.id}, expected=None, request="run-1") == first
    assert len(lake.history()) == 2
    with pytest.raises(Conflict, match="was used for commit"):
        lake.commit("main", {"t": b.id}, expected=first.id, request="run-1")


def test_history_goes_back_through_the_branch_to_where_it_began(workspace, lake):
    ids = [workspace.build("t", f"SELECT {number} AS x").id for number in range(4)]
    first = lake.commit("main", {"t": ids[0]}, expected=None)
    second = lake.commit("main", {"t": ids[1]}, expected=first.id)
    lake.branch("try", f"@{first.id}")
    tried = lake.commit("try", {"t": ids[2]}, expected=first.id)
    assert [commit.id for commit in lake.history("main")] == [second.id, first.id]
    assert [commit.id for commit in lake.history("try")] == [tried.id, first.id]
    assert [commit.id for commit in lake.history("main", limit=1)] == [second.id]
    assert lake.branches() == {"main": second.id, "try": tried.id}
    assert lake.table("t", "main").id == ids[1]
    assert lake.table("t", "try").id == ids[2]
    assert lake.table("t", f"@{first.id}").id == ids[0]
    assert read.query("FROM t", lake, ref=f"@{first.id}").fetchall() == [(0,)]


def test_a_branch_copies_no_data_and_its_name_is_taken_once(workspace, lake):
    a = workspace.build("t", "SELECT 1 AS x")
    lake.commit("main", {"t": a.id}, expected=None)
    files = sorted(lake.folder.rglob("*"))
    lake.branch("try")
    assert sorted(lake.folder.rglob("*")) == files
    assert lake.table("t", "try") == a
    with pytest.raises(Conflict, match="exists"):
        lake.branch("try")
    with pytest.raises(Conflict, match="is no name"):
        lake.branch("../try")


def test_what_is_not_there_is_told_with_what_is(workspace, lake):
    lake.commit("main", {"orders": workspace.build("orders", "SELECT 1 AS x").id}, expected=None)
    with pytest.raises(NotFound, match="no table 'order' on main\n  There are: orders"):
        lake.table("order")
    with pytest.raises(NotFound, match="no branch 'dev'\n  There are: main"):
        lake.tables("dev")
    with pytest.raises(NotFound, match="no commit 'x'"):
        lake.tables("@x")
    with pytest.raises(NotFound, match="no snapshot 't1-x'"):
        lake.snapshot("t1-x")
    with pytest.raises(NotFound, match="no table or event 'order'\n  There are: orders"):
        read.query("FROM order_ JOIN orders ON true".replace("order_", '"order"'), lake)


def test_a_changed_byte_a_cut_file_and_a_missing_file_are_named(workspace, lake):
    snapshot = workspace.build("t", "SELECT i FROM range(1000) r(i)")
    (path,) = lake.paths(snapshot)
    whole = path.read_bytes()
    assert lake.verify(snapshot.id) == []
    path.chmod(0o644)
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert lake.verify(snapshot.id) == [f"{path} does not match its SHA-256"]
    path.write_bytes(whole[:-1])
    assert lake.verify(snapshot.id) == [f"{path} has {len(whole) - 1} bytes instead of {len(whole)}"]
    assert not lake.present(snapshot.id)
    path.unlink()
    assert lake.verify(snapshot.id) == [f"{path} is missing"]
    with pytest.raises(Damaged, match="is missing\n  Run the flow again"):
        read.arrow(lake.source_of(snapshot))


def test_a_snapshot_whose_file_is_gone_is_mended_by_building_it_again(workspace, lake):
    snapshot = workspace.build("t", "SELECT 1 AS x")
    lake.paths(snapshot)[0].unlink()
    again = workspace.build("t", "SELECT 1 AS x")
    assert again.id == snapshot.id
    assert lake.present(snapshot.id)
    assert read.arrow(lake.source_of(lake.snapshot(snapshot.id))).to_pylist() == [{"x": 1}]


def test_a_draft_whose_files_are_not_there_is_not_recorded(workspace, lake):
    draft = write_query("SELECT 1 AS x", {}, workspace.folder / "elsewhere")
    with pytest.raises(Damaged, match="is not in"):
        lake.add(draft, "t")


def test_what_a_killed_worker_left_behind_is_swept_away(workspace):
    left = workspace.lake.folder / "tmp" / "999999999-abc.parquet"
    mine = workspace.lake.folder / "tmp" / "1-abc.parquet"  # process 1 lives
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a table")
    spilled = workspace.lake.folder / "tmp" / "999999999-def.spill"
    spilled.mkdir()
    (spilled / "duckdb_temp_storage_DEFAULT-0.tmp").write_bytes(b"x")
    mine.write_bytes(b"being written")
    Lake(workspace.db, workspace.lake.folder, workspace.clock)
    assert not left.exists()
    assert not spilled.exists()
    assert mine.exists()


@pytest.mark.slow
def test_of_fifty_commits_at_once_one_wins_each_version_and_no_reader_sees_a_mix(workspace, lake):
    """Each writer changes two tables to the same snapshot: at no commit may they differ (R17 for tables)."""
    ids = [workspace.build("t", f"SELECT {number} AS x").id for number in range(50)]
    wins: list[str] = []
    losses: list[str | None] = []
    mixes: list[dict[str, str]] = []
    done = threading.Event()
    start = threading.Barrier(50)

    def write(number: int) -> None:
        start.wait()
        for _ in range(2):
            head = lake.head()
            try:
                made = lake.commit("main", {"a": ids[number], "b": ids[number]}, expected=head, actor=str(number))
                wins.append(made.id)
            except Conflict:
                losses.append(head)

    def watch() -> None:
        while not done.is_set():
            tables = lake.names()
            if tables.get("a") != tables.get("b"):
                mixes.append(tables)

    watcher = threading.Thread(target=watch)
    watcher.start()
    threads = [threading.Thread(target=write, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    assert mixes == []
    assert len(wins) + len(losses) == 100
    assert losses, "nobody ever met anybody: the test shows nothing"
    history = lake.history(limit=1000)
    assert sorted(commit.id for commit in history) == sorted(wins)
    parents = [commit.parent for commit in history]
    assert len(set(parents)) == len(parents), "two commits won the same version"


def test_rows_come_in_the_declared_order_and_ties_are_broken_by_the_other_columns(workspace, lake):
    source = workspace.source("SELECT i % 3 AS k, 9 - i AS v FROM range(9) r(i)")
    keyed = read.arrow(source, ["k"]).to_pylist()
    assert keyed == sorted(keyed, key=lambda row: (row["k"], row["v"]))
    assert read.arrow(source, "all").to_pylist() == keyed
    assert read.relation(source, ["v"]).fetchall()[0] == (2, 1)
    assert read.df(source, "v")["v"].tolist() == list(range(1, 10))
    assert read.polars(source, ["v"])["v"].to_list() == list(range(1, 10))


def test_a_frame_is_mapped_not_copied(workspace, lake):
    import pyarrow as pa

    frame = pa.table({"x": pa.array(range(100_000))})
    snapshot = lake.add(write_arrow(frame, lake.folder), "frame")
    assert snapshot.files[0].format == "arrow"
    before = pa.total_allocated_bytes()
    table = read.arrow(lake.source_of(snapshot))
    assert pa.total_allocated_bytes() - before < 100_000
    assert table.equals(frame)
    built = write_query("SELECT sum(x) AS s FROM frame", {"frame": lake.source_of(snapshot)}, lake.folder)
    assert read.arrow(lake.source_of(lake.add(built, "s"))).to_pylist() == [{"s": 4_999_950_000}]


def test_values_that_are_there_once_are_counted_and_not_estimated(workspace, lake):
    snapshot = workspace.build("t", "SELECT 'id-' || i AS id, 'c' || i % 3000 AS c FROM range(5000) r(i)")
    id, c = lake.profile(snapshot.id).columns
    assert (id.distinct, id.exact, id.bars[0].count) == (5000, True, 1)
    assert not c.exact


def test_a_profile_tells_nulls_range_and_shape_and_is_kept(workspace, lake):
    snapshot = workspace.build(
        "t",
        "SELECT i AS n, CASE WHEN i < 25 THEN NULL ELSE 'c' || i % 3 END AS c, i % 2 = 0 AS b, [i] AS l,"
        " TIMESTAMPTZ '2020-01-01' + to_days(i::INTEGER) AS at, 'nan'::DOUBLE AS x, NULL AS nothing"
        " FROM range(100) r(i)",
    )
    profile = lake.profile(snapshot.id)
    columns = {column.name: column for column in profile.columns}
    assert profile.rows == 100
    assert (columns["n"].min, columns["n"].max, columns["n"].nulls) == ("0", "99", 0.0)
    assert sum(bar.count for bar in columns["n"].bars) == 100
    assert columns["c"].nulls == 0.25
    assert sorted((bar.label, bar.count) for bar in columns["c"].bars) == [("c0", 25), ("c1", 25), ("c2", 25)]
    assert columns["at"].bars[0].label.startswith("2020-01-01")
    assert columns["nothing"].nulls == 1.0
    assert columns["l"].bars == columns["x"].bars == ()
    assert (columns["c"].distinct, columns["c"].exact, columns["n"].exact, columns["x"].exact) == (
        3,
        True,
        False,
        False,
    )
    kept = workspace.folder / "cache" / "profiles" / f"{snapshot.id}.json"
    assert kept.exists()
    lake.paths(snapshot)[0].unlink()
    assert lake.profile(snapshot.id) == profile
    kept.write_bytes(b"{}")
    with pytest.raises(Damaged):
        lake.profile(snapshot.id)
