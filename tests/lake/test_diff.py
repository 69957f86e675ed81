"""What differs between two states of a table, against a plain count in Python."""

import datetime
from collections import Counter
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.lake import diff as diffing
from sampan.lake import marks as marking
from sampan.lake.diff import diff
from sampan.lake.query import TableSource
from sampan.lake.write import write_arrow

ROWS = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(["a", "b", None]), st.sampled_from([0.5, None])), max_size=30
)


def values(rows):
    """A query that gives these rows."""
    if not rows:
        return "SELECT 0 AS n, '' AS t, 0.0::DOUBLE AS f WHERE false"
    shown = ", ".join(
        f"({n}, {'NULL' if t is None else repr(t)}::VARCHAR, {'NULL' if f is None else f}::DOUBLE)" for n, t, f in rows
    )
    return f"SELECT * FROM (VALUES {shown}) AS it (n, t, f)"


@pytest.mark.slow
@given(before=ROWS, after=ROWS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_that_only_one_side_has_are_those_of_a_plain_count(workspace, before, after):
    found = diff("t", workspace.source(values(before)), workspace.source(values(after)), shown=100)
    gone, come = Counter(before) - Counter(after), Counter(after) - Counter(before)
    assert found.removed + found.changed == gone.total()
    assert found.added + found.changed == come.total()
    assert (found.rows_before, found.rows_after) == (len(before), len(after))
    shown = [tuple(row.values()) for row in found.sample_removed]
    assert Counter(shown) <= gone


def test_changed_rows_are_paired_by_a_column_that_names_them(workspace):
    before = workspace.source("SELECT i AS id, i * 2 AS v, 'x' AS same FROM range(1000) AS r (i)")
    after = workspace.source(
        "SELECT i AS id, CASE WHEN i % 100 = 7 THEN 0 ELSE i * 2 END AS v, 'x' AS same FROM range(5, 1003) AS r (i)"
    )
    found = diff("t", before, after)
    assert found.key == ("id",)
    assert (found.removed, found.added, found.changed) == (5, 3, 10)
    assert [(one.name, one.rows, one.before, one.after) for one in found.columns] == [("v", 10, 914.0, 0.0)]
    assert [row["id"] for row in found.sample_added] == [1000, 1001, 1002]
    assert found.sample_changed[0].key == {"id": 7}
    assert found.sample_changed[0].values == {"v": (14, 0)}


def test_two_columns_can_name_a_row_together(workspace):
    rows = "SELECT 'o' || (i // 3) AS \"order\", i % 3 AS line, {} AS v FROM range(300) AS r (i)"
    found = diff(
        "t", workspace.source(rows.format("i")), workspace.source(rows.format("CASE i WHEN 4 THEN 99 ELSE i END"))
    )
    assert found.changed == 1
    found = diff(
        "t", workspace.source(rows.format("0")), workspace.source(rows.format("CASE WHEN i < 9 THEN 1 ELSE 0 END"))
    )
    assert found.key == ("order", "line")
    assert (found.changed, found.added, found.removed) == (9, 0, 0)


def test_a_column_that_is_unique_only_among_what_changed_is_no_key(workspace):
    before = workspace.source("SELECT i % 2 AS side, 0 AS v FROM range(100) AS r (i)")
    after = workspace.source("SELECT i % 2 AS side, CASE WHEN i < 2 THEN 1 ELSE 0 END AS v FROM range(100) AS r (i)")
    found = diff("t", before, after)
    assert found.key == ()
    assert (found.removed, found.added, found.changed) == (2, 2, 0)


def test_columns_that_came_went_and_changed_type_are_told_and_the_rest_compared(workspace):
    before = workspace.source("SELECT i AS id, i AS n, 1 AS old FROM range(10) AS r (i)")
    after = workspace.source("SELECT i AS id, i::VARCHAR AS n, 2 AS new FROM range(10) AS r (i)")
    found = diff("t", before, after)
    assert found.new_columns == (("new", "INTEGER"),)
    assert found.lost_columns == (("old", "INTEGER"),)
    assert found.retyped == (("n", "BIGINT", "VARCHAR"),)
    assert (found.removed, found.added, found.changed) == (0, 0, 0)
    nothing = diff("t", before, workspace.source("SELECT 'x' AS other"))
    assert (nothing.removed, nothing.added) == (10, 1)


def test_every_type_can_be_compared(workspace):
    made = """SELECT 1::TINYINT AS a, 2::UBIGINT AS b, 1.5::DECIMAL(9, 2) AS c, DATE '2020-01-02' AS d,
        TIMESTAMPTZ '2020-01-02 03:04:05Z' AS e, [1, 2] AS f, {'x': 1} AS g, MAP {'k': 'v'} AS h, 'x'::BLOB AS i,
        true AS j, 'nan'::DOUBLE AS k, INTERVAL 1 DAY AS l"""
    assert diff("t", workspace.source(made), workspace.source(made)).changed == 0
    found = diff(
        "t", workspace.source(made), workspace.source(f"FROM ({made}) SELECT * REPLACE (2.25::DECIMAL(9, 2) AS c)")
    )
    assert found.key == ("a",)
    assert found.sample_changed[0].values == {"c": (Decimal("1.50"), Decimal("2.25"))}
    assert found.sample_changed[0].key == {"a": 1}
    assert datetime.date(2020, 1, 2) not in found.sample_changed[0].values


@pytest.mark.parametrize("buckets", [1, 1 << 20])
def test_how_many_buckets_there_are_changes_nothing(workspace, monkeypatch, buckets):
    monkeypatch.setattr(diffing, "_MOST_BUCKETS", buckets)
    monkeypatch.setattr(diffing, "_BATCH", 1000)
    before = workspace.source("SELECT i AS id, i % 7 AS v FROM range(5000) AS r (i)")
    after = workspace.source(
        "SELECT i AS id, CASE WHEN i % 1000 = 0 THEN -1 ELSE i % 7 END AS v FROM range(5000) AS r (i)"
    )
    assert diff("t", before, after).changed == 5


class TestMarks:
    """Four bytes for each row, from which states are compared without reading them."""

    @pytest.fixture(autouse=True)
    def _all_files_keep_marks(self, monkeypatch):
        monkeypatch.setattr(marking, "SMALL", 0)

    BEFORE = "SELECT i AS id, i % 7 AS v, 'text ' || i AS t FROM range(5000) AS r (i)"
    AFTER = (
        "SELECT i AS id, CASE WHEN i IN (7, 4000) THEN -1 ELSE i % 7 END AS v, 'text ' || i AS t"
        " FROM range(1, 5001) AS r (i) ORDER BY hash(id)"
    )

    def test_a_built_table_has_them_and_a_comparison_reads_only_rows_near_a_difference(self, workspace):
        before, after = workspace.build("t", self.BEFORE), workspace.build("t", self.AFTER)
        kept = {path.name: path.stat().st_size for path in marking.folder_of(workspace.lake.folder).iterdir()}
        assert kept == {file.sha256: 16 + 4 * 5000 for one in (before, after) for file in one.files}
        found = workspace.lake.diff("t", before.id, after.id)
        assert (found.key, found.changed, found.added, found.removed) == (("id",), 2, 1, 1)

    def test_they_agree_with_reading_both_tables(self, workspace):
        before, after = workspace.source(self.BEFORE), workspace.source(self.AFTER)
        by_marks = diff("t", before, after, marks=marking.folder_of(workspace.lake.folder))
        assert diff("t", before, after) == by_marks

    @pytest.mark.parametrize("damage", [b"", b"\0" * 20016, b"\1" * 20016, b"short"], ids=["empty", "0", "1", "short"])
    def test_marks_that_are_not_those_of_the_file_change_nothing(self, workspace, damage):
        before, after = workspace.build("t", self.BEFORE), workspace.build("t", self.AFTER)
        right = diff("t", workspace.lake.source_of(before), workspace.lake.source_of(after))
        folder = marking.folder_of(workspace.lake.folder)
        (folder / before.files[0].sha256).write_bytes(damage)
        assert diff("t", workspace.lake.source_of(before), workspace.lake.source_of(after), marks=folder) == right

    def test_rows_with_equal_marks_by_chance_are_found_by_reading_all(self, workspace, monkeypatch):
        before, after = workspace.source(self.BEFORE), workspace.source(self.AFTER)
        right = diff("t", before, after)
        nothing = [np.empty(0, np.int64)]
        monkeypatch.setattr(marking, "differing", lambda a, b: (nothing, nothing))
        assert diff("t", before, after) == right

    def test_frames_have_rows_too(self, workspace):
        one = pa.table({"id": range(3000), "v": [0.5] * 3000})
        other = pa.table({"id": range(3000), "v": [0.5] * 2999 + [1.5]})
        ids = [workspace.lake.add(write_arrow(each, workspace.lake.folder), "f").id for each in (one, other)]
        found = workspace.lake.diff("f", *ids)
        assert (found.changed, found.key) == (1, ("id",))
        assert found.sample_changed[0].values == {"v": (0.5, 1.5)}

    def test_tables_of_several_files(self, workspace):
        parts = [
            workspace.source(f"SELECT i AS id, i AS v FROM range({n}, {n + 1000}) AS r (i)").files
            for n in (0, 1000, 2000)
        ]
        last = workspace.source(
            "SELECT i AS id, CASE i WHEN 2500 THEN 0 ELSE i END AS v FROM range(2000, 3000) AS r (i)"
        ).files
        whole = TableSource("t", sum(parts, ()))
        other = TableSource("t", (*last, *parts[1], *parts[0]))
        found = diff("t", whole, other)
        assert (found.changed, found.added, found.removed) == (1, 0, 0)
        assert found.sample_changed[0].values == {"v": (2500, 0)}

    TYPES = (
        "md5(i::VARCHAR)::UUID",
        "TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_seconds(i)",
        "(TIMESTAMP '2026-01-01' + to_seconds(i))::TIMESTAMP_NS",
        "DATE '2026-01-01' + i::INTEGER",
        "(i / 100)::DECIMAL(38, 5)",
        "CASE WHEN i % 3 = 0 THEN 'nan'::DOUBLE WHEN i % 3 = 1 THEN -0.0 ELSE i END",
        "encode(i::VARCHAR)",
        "[{'a': [i], 'b': 'x' || i}]",
        "MAP {'k': i}",
        "(CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END)::ENUM ('a', 'b')",
        "CASE WHEN i % 3 = 0 THEN NULL ELSE repeat('long ', 30) || i END",
    )

    @pytest.mark.parametrize("value", TYPES)
    def test_values_of_every_type_are_compared_in_one_reading(self, workspace, monkeypatch, value):
        sides = [workspace.source(f"SELECT i AS id, {value} AS v FROM range({n}, {n + 300}) AS r (i)") for n in (0, 3)]
        monkeypatch.setattr(diffing._Compared, "_near_by_hash", lambda *_: pytest.fail("it was read twice"))
        found = diff("t", *sides)
        assert (found.added, found.removed, found.changed) == (3, 3, 0)
