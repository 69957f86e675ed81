"""Tables as Apache Iceberg, read back by PyIceberg: the same rows, the past at hand, old or new and nothing between."""

import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table import StaticTable
from tests.lake.conftest import Workspace

from sampan.base.errors import Damaged, NotFound, Refused, Usage
from sampan.lake import read
from sampan.lake.draft import TableDraft
from sampan.lake.publish import Publications, Published
from sampan.lake.write import write_arrow, write_query

DAY = 86_400
SECOND = timedelta(seconds=1)


class Shop(Workspace):
    """A workspace whose tables are published."""

    def put(self, sql: str, name: str = "orders", branch: str = "main") -> str:
        """A table's next state on a branch; gives its digest."""
        return self.commit(name, self.build(name, sql).id, branch)

    def commit(self, name: str, id: str, branch: str = "main") -> str:
        self.lake.commit(branch, {name: id}, expected=self.lake.head(branch))
        self.clock.advance(SECOND)
        return id

    def publish(
        self, name: str = "orders", ref: str = "main", to: Path | None = None, retention: int = 90 * DAY
    ) -> Published:
        publications = Publications(self.folder)
        return publications.publish(self.lake, name, ref, to, clock=self.clock, retention=retention)

    def rows(self, name: str = "orders", ref: str = "main") -> list[tuple[Any, ...]]:
        return sorted(read.relation(self.lake.source(name, ref)).fetchall(), key=repr)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    folder = tmp_path / "a shop #1, 100%"  # what a path may hold
    folder.mkdir()
    made = Shop(folder)
    yield made
    made.close()


def opened(where: str | Path) -> StaticTable:
    return StaticTable.from_metadata(str(where))


def rows(table: StaticTable, snapshot: int | None = None) -> list[tuple[Any, ...]]:
    found = table.scan(snapshot_id=snapshot).to_arrow()
    return sorted((tuple(row.values()) for row in found.to_pylist()), key=repr)


def ids(table: StaticTable) -> dict[str, int]:
    return {field.name: field.field_id for field in table.schema().fields}


def snapshot_of(table: StaticTable, content: str) -> int:
    found = [one for one in table.snapshots() if one.summary and one.summary["sampan.snapshot"] == content]
    return found[-1].snapshot_id


def test_a_published_table_is_read_from_the_lakes_own_files(shop: Shop) -> None:
    content = shop.put("SELECT i AS id, 'sku ' || i AS sku, i * 1.5::DOUBLE AS price FROM range(1000) r(i)")
    made = shop.publish()
    assert (made.changed, made.snapshots, made.copied, made.snapshot) == (True, 1, "", content)
    table = opened(made.metadata)
    assert [(field.name, str(field.field_type)) for field in table.schema().fields] == [
        ("id", "long"),
        ("sku", "string"),
        ("price", "double"),
    ]
    assert rows(table) == shop.rows()
    (task,) = table.scan().plan_files()
    assert [task.file.file_path] == [str(path) for path in shop.lake.paths(shop.lake.table("orders"))]
    assert not list(Path(made.folder).rglob("*.parquet"))
    assert rows(opened(made.folder)) == shop.rows()  # by the folder, whose hint names the newest metadata


def test_only_the_columns_and_rows_that_a_reader_asks_for_come_back(shop: Shop) -> None:
    shop.put("SELECT i AS id, i % 7 AS shop FROM range(100) r(i)")
    found = opened(shop.publish().metadata).scan("shop = 3", selected_fields=("id",)).to_arrow()
    assert sorted(found["id"].to_pylist()) == list(range(3, 100, 7))


def test_the_same_content_again_changes_nothing(shop: Shop) -> None:
    shop.put("SELECT 1 AS x")
    first = shop.publish()
    before = {path: path.stat().st_mtime_ns for path in shop.folder.rglob("*") if path.is_file()}
    shop.put("SELECT 2 AS x", "another")
    again = shop.publish()
    assert not again.changed
    assert again.metadata == first.metadata
    after = {path: path.stat().st_mtime_ns for path in (shop.folder / "iceberg").rglob("*") if path.is_file()}
    assert after == {path: at for path, at in before.items() if "iceberg" in path.parts}


def test_a_publication_after_a_run_adds_a_snapshot_and_the_past_stays_at_hand(shop: Shop) -> None:
    first = shop.put("SELECT i AS id FROM range(3) r(i)")
    shop.publish()
    old_rows = shop.rows()
    second = shop.put("SELECT i AS id FROM range(5) r(i)")
    made = shop.publish()
    assert (made.changed, made.snapshots, made.left) == (True, 2, 0)
    table = opened(made.metadata)
    assert rows(table) == shop.rows() != old_rows
    assert rows(table, snapshot_of(table, first)) == old_rows
    current = table.current_snapshot()
    assert current is not None and current.summary is not None
    assert current.snapshot_id == snapshot_of(table, second)
    assert current.parent_snapshot_id == snapshot_of(table, first)
    assert current.summary["total-records"] == "5"
    assert current.summary["deleted-records"] == "3"
    assert current.summary["sampan.commit"] == shop.lake.head()
    back = shop.commit("orders", first)
    assert rows(opened(shop.publish().metadata)) == old_rows
    assert back == first


def test_columns_keep_their_ids_by_name_and_new_ones_get_new_ids(shop: Shop) -> None:
    first = shop.put("SELECT 1 AS a, 2 AS b, {'x': 1, 'y': 'why'} AS s")
    before = opened(shop.publish().metadata)
    shop.put("SELECT 'new' AS c, {'y': 'why', 'z': 3.0::DOUBLE} AS s, 1 AS a")
    after = opened(shop.publish().metadata)
    assert rows(after) == shop.rows()
    old, new = ids(before), ids(after)
    assert (new["a"], new["s"]) == (old["a"], old["s"])
    assert new["c"] not in old.values()
    assert after.schema().find_field("s.y").field_id == before.schema().find_field("s.y").field_id
    assert rows(after, snapshot_of(after, first)) == [(1, 2, {"x": 1, "y": "why"})]  # b and s.x are found there still


def test_a_column_that_was_dropped_and_comes_back_is_another_column(shop: Shop) -> None:
    shop.put("SELECT 1 AS a, 2 AS b")
    old = ids(opened(shop.publish().metadata))
    dropped = shop.put("SELECT 3 AS a")
    shop.publish()
    shop.put("SELECT 4 AS a, 5 AS b")
    made = shop.publish()
    table = opened(made.metadata)
    assert ids(table)["a"] == old["a"]
    assert ids(table)["b"] not in old.values()
    assert rows(table) == [(4, 5)]
    # where b was the other one, a reader who goes by names would find nothing: that snapshot is no longer offered
    assert (made.left, made.snapshots) == (1, 2)
    assert rows(table, snapshot_of(table, dropped)) == [(3,)]


def test_a_wider_type_is_the_same_column_and_another_type_is_another(shop: Shop) -> None:
    first = shop.put("SELECT 1::INTEGER AS n, 1.5::FLOAT AS f, 1.5::DECIMAL(4,1) AS d, [1::INTEGER] AS l, 1 AS t")
    old = ids(opened(shop.publish().metadata))
    shop.put("SELECT 2::BIGINT AS n, 2.5::DOUBLE AS f, 2.5::DECIMAL(9,1) AS d, [2::BIGINT] AS l, 1 AS t")
    made = shop.publish()
    table = opened(made.metadata)
    assert ids(table) == old
    assert made.left == 0
    assert rows(table, snapshot_of(table, first))[0][0] == 1
    shop.put("SELECT 2::BIGINT AS n, 2.5::DOUBLE AS f, 2.5::DECIMAL(9,1) AS d, [2::BIGINT] AS l, 'text' AS t")
    made = shop.publish()
    table = opened(made.metadata)
    assert rows(table) == shop.rows()
    assert ids(table)["t"] not in old.values()
    assert {name: id for name, id in ids(table).items() if name != "t"} == {n: i for n, i in old.items() if n != "t"}
    assert (made.left, made.snapshots) == (2, 1)


EVERY_TYPE = """SELECT true AS "boolean", 1::TINYINT AS "tinyint", 2::SMALLINT AS "smallint", 3::INTEGER AS "integer",
    -4::BIGINT AS "bigint", 5::HUGEINT AS "hugeint", 255::UTINYINT AS "utinyint", 65535::USMALLINT AS "usmallint",
    1.5::FLOAT AS "float", 'nan'::DOUBLE AS "double", 12.3::DECIMAL(4, 1) AS "decimal4",
    123456789012.3::DECIMAL(18, 1) AS "decimal18", -1.234::DECIMAL(38, 3) AS "decimal38", 'text' AS "varchar",
    'b'::ENUM('a', 'b') AS "enum", '\\xAA\\x00'::BLOB AS "blob", '101'::BIT AS "bit",
    '5b9f3bfa-2b2e-4a9d-9d0a-0c2a3f0e9a11'::UUID AS "uuid", DATE '1969-12-31' AS "date",
    TIME '23:59:59.999999' AS "time",
    TIMESTAMP '1970-01-01 00:00:00.000001' AS "timestamp", TIMESTAMPTZ '2020-02-29 12:00:00+02' AS "timestamptz",
    [1, NULL, 3] AS "list", [['a'], []] AS "lists", {'a': 1, 'b c': [DATE '2020-01-01']} AS "struct",
    MAP {'k': {'v': 1}} AS "map", [1.5, 2.5]::DOUBLE[2] AS "array", NULL AS "nothing" """


def test_every_type_that_iceberg_has_comes_back_as_it_was(shop: Shop) -> None:
    names = [name for name, _ in _described(shop, EVERY_TYPE) if name != "map"]
    # PyIceberg gives a map that is null as an empty one
    nothing = "SELECT MAP {} AS map, " + ", ".join(f'NULL AS "{name}"' for name in names)
    shop.put(f"{EVERY_TYPE} UNION ALL BY NAME {nothing}")
    made = shop.publish()
    assert made.copied == ""
    ours = read.arrow(shop.lake.source("orders"), "all")
    theirs = opened(made.metadata).scan().to_arrow()
    assert theirs.column_names == ours.column_names
    assert _plain(theirs) == _plain(ours)
    kinds = {field.name: str(field.field_type) for field in opened(made.metadata).schema().fields}
    assert kinds["uuid"] == "uuid"
    assert kinds["timestamptz"] == "timestamptz"
    assert kinds["decimal38"] == "decimal(38, 3)"


def test_a_type_that_the_file_has_otherwise_is_copied_and_that_is_said(shop: Shop) -> None:
    sql = """SELECT 4000000000::UINTEGER AS u, 18446744073709551615::UBIGINT AS w, '{"a": 1}'::JSON AS j,
        TIMESTAMP_MS '2020-01-01 00:00:00.123' AS ms, TIMESTAMP_NS '2020-01-01 00:00:00.000001' AS ns,
        {'w': 7::UBIGINT} AS s, 1 AS plain"""
    shop.put(sql)
    made = shop.publish()
    assert "u became BIGINT; w became DECIMAL(20,0); j became VARCHAR" in made.copied
    assert "plain" not in made.copied
    (found,) = opened(made.metadata).scan().to_arrow().to_pylist()
    assert (found["u"], int(found["w"]), found["j"]) == (4_000_000_000, 18_446_744_073_709_551_615, '{"a": 1}')
    assert found["ms"].isoformat() == "2020-01-01T00:00:00.123000"
    assert found["ns"].microsecond == 1
    assert int(found["s"]["w"]) == 7
    assert not shop.publish().changed


@pytest.mark.parametrize(
    ("sql", "column", "type_"),
    [
        ("SELECT INTERVAL 1 DAY AS late", "late", "INTERVAL"),
        ("SELECT [{'at': '10:00:00+02'::TIMETZ}] AS a", "a.element.at", "TIME WITH TIME ZONE"),
        ("SELECT [TIMESTAMP_NS '2020-01-01'] AS l", "l.element", "TIMESTAMP_NS"),
    ],
)
def test_a_type_that_iceberg_cannot_hold_is_refused_by_column(shop: Shop, sql: str, column: str, type_: str) -> None:
    shop.put(sql)
    with pytest.raises(Refused, match=f"column {column} is {type_}"):
        shop.publish()
    assert not (shop.folder / "iceberg").exists()


def test_a_nanosecond_that_would_be_lost_is_refused(shop: Shop) -> None:
    shop.put("SELECT TIMESTAMP_NS '2020-01-01 00:00:00.000000001' AS precise")
    with pytest.raises(Refused, match="column precise has nanoseconds"):
        shop.publish()
    assert Publications(shop.folder).list() == ()


def test_a_frame_of_a_python_step_is_published_as_a_copy(shop: Shop) -> None:
    frame = pa.table({"name": pa.array(["a", "b", "a"]).dictionary_encode(), "n": pa.array([1, None, 3], pa.uint64())})
    shop.commit("orders", shop.lake.add(write_arrow(frame, shop.lake.folder), "orders").id)
    made = shop.publish()
    assert "kept as Arrow" in made.copied
    assert sorted(opened(made.metadata).scan().to_arrow()["name"].to_pylist()) == ["a", "a", "b"]
    assert [path.parent.name for path in Path(made.folder).rglob("*.parquet")] == ["data"]
    assert not shop.publish().changed


def test_threads_that_copy_a_table_at_once_leave_it_whole(shop: Shop) -> None:
    shop.put("SELECT i::UINTEGER AS number FROM range(300000) r(i)")
    (copy,) = Path(shop.publish().folder).rglob("*.parquet")
    copy.unlink()
    together = threading.Barrier(4)

    def publish(_: int) -> bool:
        together.wait()
        return shop.publish().changed

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(publish, range(4))) == [False] * 4
    assert pq.read_table(copy).num_rows == 300_000
    assert list(copy.parent.iterdir()) == [copy]


def test_of_a_table_in_several_files_those_that_stay_are_not_added_again(shop: Shop) -> None:
    parts = [shop.lake.folder for _ in range(3)]
    drafts = [write_query(f"SELECT {n} AS part, 'x' AS y", {}, folder, threads=1) for n, folder in enumerate(parts)]

    def put(*numbers: int) -> None:
        chosen = [drafts[number] for number in numbers]
        files = tuple(file for draft in chosen for file in draft.files)
        id = f"t1-{''.join(map(str, numbers)):0>32}"
        draft = TableDraft(id, drafts[0].fields, files, len(files), sum(file.bytes for file in files))
        shop.commit("orders", shop.lake.add(draft, "orders").id)

    put(0, 1)
    first = opened(shop.publish().metadata)
    assert rows(first) == [(0, "x"), (1, "x")]
    put(1, 2)
    table = opened(shop.publish().metadata)
    assert rows(table) == [(1, "x"), (2, "x")]
    assert table.snapshots()[0].snapshot_id == first.snapshots()[0].snapshot_id
    assert rows(table, first.snapshots()[0].snapshot_id) == rows(first)
    summary = table.snapshots()[-1].summary
    assert summary is not None
    told = [summary[name] for name in ("added-data-files", "deleted-data-files", "total-data-files", "total-records")]
    assert told == ["1", "1", "2", "2"]
    assert not shop.publish().changed


def test_an_empty_table_has_its_columns(shop: Shop) -> None:
    shop.put("SELECT 1 AS id, 'x' AS sku WHERE false")
    table = opened(shop.publish().metadata)
    assert list(ids(table)) == ["id", "sku"]
    assert rows(table) == []


def test_a_branch_is_a_table_of_its_own_and_a_folder_of_ones_own_will_do(shop: Shop, tmp_path: Path) -> None:
    shop.put("SELECT 1 AS x")
    shop.lake.branch("try")
    shop.put("SELECT 2 AS x", branch="try")
    mine, theirs = shop.publish(), shop.publish(ref="try")
    assert (rows(opened(mine.metadata)), rows(opened(theirs.metadata))) == ([(1,)], [(2,)])
    other = shop.publish(to=tmp_path / "open")
    assert Path(other.folder) == tmp_path / "open" / "orders"
    assert rows(opened(other.folder)) == [(1,)]
    with pytest.raises(NotFound, match="no branch 'tyr'"):
        shop.publish(ref="tyr")
    with pytest.raises(NotFound, match="no table 'order'"):
        shop.publish("order")


def test_a_folder_with_another_table_is_left_alone(shop: Shop, tmp_path: Path) -> None:
    shop.put("SELECT 1 AS x")
    made = shop.publish(to=tmp_path)
    text = json.loads(Path(made.metadata).read_text())
    text["properties"] = {}
    Path(made.metadata).write_text(json.dumps(text))
    with pytest.raises(Refused, match="somebody else's Iceberg"):
        shop.publish(to=tmp_path)
    shutil.move(tmp_path / "orders", tmp_path / "moved" / "orders")
    Path(tmp_path / "moved/orders/metadata/v1.metadata.json").write_text(
        json.dumps({**text, "properties": {"sampan.table": "orders"}})
    )
    with pytest.raises(Refused, match="was published as"):
        shop.publish(to=tmp_path / "moved")


FRAME = "SELECT 1::UBIGINT AS x"  # published as a copy


@pytest.mark.parametrize("name", ["data/mine.parquet", "metadata/7.avro", "notes.txt"])
@pytest.mark.parametrize("sql", ["SELECT 1 AS x", FRAME])
def test_a_folder_with_files_of_somebody_else_is_refused_and_left_as_it_was(
    shop: Shop, tmp_path: Path, name: str, sql: str
) -> None:
    shop.put(sql)
    mine = tmp_path / "exports" / "orders" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(Usage, match=f"such as {name}") as refused:
        shop.publish(to=tmp_path / "exports")
    assert "--to" in refused.value.advice
    assert mine.read_text() == "mine"
    assert [path for path in (tmp_path / "exports").rglob("*") if path.is_file()] == [mine]
    assert Publications(shop.folder).list() == ()


def test_what_another_workspace_published_is_not_taken_over(shop: Shop, tmp_path: Path) -> None:
    shop.put("SELECT 1 AS x")
    made = shop.publish(to=tmp_path / "exports")
    (shop.folder / "iceberg" / "published.json").unlink()  # as a workspace that never published there
    shop.put("SELECT 2 AS x")
    with pytest.raises(Usage, match="not published from here"):
        shop.publish(to=tmp_path / "exports")
    assert rows(opened(made.metadata)) == [(1,)]


def test_files_that_were_put_beside_a_publication_outlive_it_and_its_end(shop: Shop, tmp_path: Path) -> None:
    shop.put(FRAME)
    folder = Path(shop.publish(to=tmp_path, retention=0).folder)
    mine = [folder / name for name in ("data/mine.parquet", "metadata/7.avro", "metadata/mine.json", "notes.txt")]
    for path in mine:
        path.write_text("mine")
    for number in range(2, 14):  # until the first copy is swept away
        shop.put(f"SELECT {number}::UBIGINT AS x")
        made = shop.publish(to=tmp_path, retention=0)
    assert rows(opened(made.metadata)) == [(13,)]
    assert len(list((folder / "data").glob("t1-*.parquet"))) == 10
    Publications(shop.folder).remove("orders", None)
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(mine)
    with pytest.raises(Usage, match=r"such as data/mine\.parquet"):
        shop.publish(to=tmp_path)
    for path in mine:
        path.unlink()
    assert rows(opened(shop.publish(to=tmp_path).metadata)) == [(13,)]


def test_a_first_publication_that_was_killed_after_its_copy_is_gone_on_with(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sampan.lake.iceberg import IcebergTable

    class Killed(BaseException):
        pass

    def dying(*args: Any, **more: Any) -> int:
        raise Killed

    shop.put(FRAME)
    with monkeypatch.context() as patched:
        patched.setattr(IcebergTable, "current", dying)
        with pytest.raises(Killed):
            shop.publish()
    assert len(list((shop.folder / "iceberg" / "orders").rglob("t1-*.parquet"))) == 1
    assert rows(opened(shop.publish().metadata)) == [(1,)]


def test_metadata_that_does_not_read_is_said_with_a_way_out(shop: Shop) -> None:
    shop.put("SELECT 1 AS x")
    made = shop.publish()
    Path(made.metadata).write_text("{}")
    with pytest.raises(Damaged, match="table unpublish"):
        shop.publish()
    assert Publications(shop.folder).remove("orders", None) == (made.folder,)
    assert rows(opened(shop.publish().metadata)) == [(1,)]


def test_a_kill_at_any_write_leaves_the_old_table_or_the_new(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from sampan.lake import iceberg, publish

    class Killed(BaseException):
        pass

    shop.put("SELECT 0 AS x")
    folder = shop.publish().folder
    for number in range(1, 12):
        shop.put(f"SELECT {number} AS x")
        left = number

        def dying(original: Any) -> Any:
            def write(*args: Any, **more: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    raise Killed
                return original(*args, **more)

            return write

        with monkeypatch.context() as patch:
            for module, name in (
                (iceberg, "write_durably"),
                (iceberg, "sync"),
                (iceberg, "sync_folder"),
                (publish, "write_durably"),
            ):
                patch.setattr(module, name, dying(getattr(module, name)))
            before = rows(opened(folder))
            try:
                shop.publish()
            except Killed:
                assert rows(opened(folder)) in (before, shop.rows())
        shop.publish()
        assert rows(opened(folder)) == shop.rows()
        hint = (Path(folder) / "metadata" / "version-hint.text").read_text()
        assert hint == str(max(int(path.name[1:].split(".")[0]) for path in Path(folder).glob("metadata/v*.json")))


def test_snapshots_leave_the_history_when_they_are_old_and_metadata_does_not_pile_up(shop: Shop) -> None:
    shop.put("SELECT -1 AS x")
    shop.publish()
    shop.clock.advance(timedelta(days=100))
    for number in range(12):
        shop.put(f"SELECT {number} AS x")
        made = shop.publish()
    table = opened(made.metadata)
    assert made.snapshots == 12
    metadata = Path(made.folder) / "metadata"
    assert len(list(metadata.glob("*.metadata.json"))) == 10
    assert len(list(metadata.glob("*.avro"))) == 2 * 12  # nothing of the snapshot that is too old
    assert [rows(table, one.snapshot_id) for one in table.snapshots()] == [[(n,)] for n in range(12)]
    for one in table.metadata.metadata_log:
        assert rows(opened(one.metadata_file))
    assert len(table.metadata.metadata_log) == 9


def _described(shop: Shop, sql: str) -> list[tuple[str, str]]:
    return list(shop.build("described", sql).fields)


def _plain(table: pa.Table) -> list[str]:
    """Rows as text, in an order of their own: a NaN as itself, an instant whoever's UTC it is in."""
    as_text = {"timestamptz": lambda at: at.isoformat(), "uuid": str}
    return sorted(
        repr({name: as_text[name](value) if value and name in as_text else value for name, value in row.items()})
        for row in table.to_pylist()
    )


def test_the_files_have_no_field_ids_and_are_found_by_the_name_mapping(shop: Shop) -> None:
    shop.put("SELECT 1 AS a, [{'b': 2}] AS l")
    made = shop.publish()
    (file,) = shop.lake.paths(shop.lake.table("orders"))
    assert all(field.metadata is None for field in pq.read_schema(file))
    mapping = opened(made.metadata).name_mapping()
    assert mapping is not None
    assert [field.names for field in mapping.root] == [["a"], ["l"]]
    assert mapping.root[1].fields[0].names == ["element"]
    assert mapping.root[1].fields[0].fields[0].names == ["b"]
