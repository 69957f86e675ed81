"""Tables built bit by bit: equal to the whole query, and no more is built than what is late or new."""

# ruff: noqa: E501 - source text

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_events import LogBench

from sampan.base.errors import BadQuery, NotFound, Usage
from sampan.lake.lake import apart

CONTRACTS = """
from typing import Annotated
from sampan import Event, Field

class Sale(Event, version=1):
    shop: str
    pence: Annotated[int, Field(ge=0)]

class Rate(Event, version=1):
    name: str
"""

SALES = """
    -- Sales of a day and shop.
    -- incremental: by day of day
    SELECT date_trunc('day', _time) AS day, shop, sum(pence)::BIGINT AS pence, count(*) AS sales
    FROM sale GROUP BY ALL"""

WEEKLY = """
    -- incremental: by month of day, looking back 7 days
    SELECT day, shop, sum(pence) OVER (PARTITION BY shop ORDER BY day RANGE BETWEEN INTERVAL 6 DAYS PRECEDING AND CURRENT ROW)::BIGINT AS pence
    FROM by_day"""

WHOLE = {
    "tables__whole_by_day": SALES.replace("-- incremental: by day of day", ""),
    "tables__whole_weekly": WEEKLY.replace("-- incremental: by month of day, looking back 7 days", "").replace(
        "by_day", "whole_by_day"
    ),
}


class Shop(LogBench):
    """Sales, day by day and week by week."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.file("contracts.py", CONTRACTS)
        self.reopen()
        self.write(tables__by_day=SALES, tables__weekly=WEEKLY)

    def files(self, table: str) -> dict[str, str]:
        """Partition to file."""
        return {file.partition: file.sha256 for file in self.lake.table(table).files}

    def rewritten(self, table: str, before: dict[str, str]) -> set[str]:
        after = self.files(table)
        return {label for label in {*before, *after} if before.get(label) != after.get(label)}

    def listed(self, table: str) -> set[str]:
        return next({part.label for part in one.partitions} for one in self.engine.late() if one.table == table)

    def succeed(self) -> dict[str, str]:
        """Run; the digest of each table, and as its reason says how much was built."""
        made = self.run()
        assert made.state == "succeeded", [(step.name, step.error) for step in made.steps if step.error]
        return {step.name: step.why for step in made.steps}

    def close(self) -> None:
        self.event_log.keys.close()
        self.db.close()


def sale(number: int, day: str, pence: int = 100, shop: str = "north") -> dict[str, Any]:
    time = day if "T" in day else f"{day}T10:00:00Z"
    return {"id": f"s{number}", "type": "sale", "source": "till", "time": time, "data": {"shop": shop, "pence": pence}}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.close()


DAYS = [f"2011-{month:02}-{day:02}" for month in (1, 2, 3) for day in (1, 9, 20, 28)]


def test_new_events_build_their_own_partitions_and_no_others(shop: Shop) -> None:
    shop.send(*(sale(number, day) for number, day in enumerate(DAYS)))
    shop.succeed()
    before = shop.files("by_day")
    assert len(before) == 12
    shop.send(sale(100, "2011-03-29"), sale(101, "2011-03-29", shop="south"))
    why = shop.succeed()
    assert shop.rewritten("by_day", before) == {"2011-03-29"}
    assert "built 1 of 13 partitions: 2011-03-29" in why["by_day"]


def test_a_late_event_rewrites_exactly_the_partitions_that_late_lists(shop: Shop) -> None:
    shop.send(*(sale(number, day) for number, day in enumerate([*DAYS, "2011-04-03", "2011-05-05"])))
    shop.succeed()
    by_day, weekly = shop.files("by_day"), shop.files("weekly")
    shop.send(sale(100, "2011-01-28", 5))  # its week reaches into February
    assert shop.listed("by_day") == {"2011-01-28"}
    assert shop.listed("weekly") == {"2011-01-01", "2011-02-01"}
    assert [part.because for one in shop.engine.late() if one.table == "by_day" for part in one.partitions] == [
        {"sale": 1}
    ]
    assert all(part.there for one in shop.engine.late() for part in one.partitions)
    shop.succeed()
    assert shop.rewritten("by_day", by_day) == {"2011-01-28"}
    assert shop.rewritten("weekly", weekly) == {"2011-01-01", "2011-02-01"}
    assert shop.listed("by_day") == set()


@pytest.mark.slow
def test_an_event_sent_twice_rewrites_nothing(shop: Shop) -> None:
    shop.send(*(sale(number, day) for number, day in enumerate(DAYS)))
    shop.succeed()
    before = shop.files("by_day")
    shop.send(sale(3, DAYS[3]))
    assert shop.listed("by_day") == set()
    shop.succeed()
    assert shop.files("by_day") == before


def test_nothing_is_late_before_the_first_run_and_all_is_built(shop: Shop) -> None:
    shop.send(*(sale(number, day) for number, day in enumerate(DAYS)))
    assert [(one.table, bool(one.whole), one.built) for one in shop.engine.late()] == [
        ("by_day", True, 0),
        ("weekly", True, 0),
    ]


@pytest.mark.slow
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 120), st.sampled_from(["north", "south"]), st.integers(0, 999)),
            min_size=1,
            max_size=12,
        ),
        min_size=2,
        max_size=4,
    )
)
def test_whatever_comes_in_whatever_order_it_is_equal_to_the_whole_query(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[int, str, int]]]
) -> None:
    shop = Shop(tmp_path_factory.mktemp("shop"))
    try:
        number = 0
        for batch in batches:
            for day, name, pence in batch:
                number += 1
                at = f"2011-{1 + day // 28:02}-{1 + day % 28:02}"
                # the fifth of the events is resent
                shop.send(*[sale(number, at, pence, name)] * (2 if number % 5 == 0 else 1))
            shop.succeed()
        shop.write(**WHOLE)
        shop.succeed()
        assert shop.lake.table("by_day").id == shop.lake.table("whole_by_day").id
        assert shop.lake.table("weekly").id == shop.lake.table("whole_weekly").id
        assert not any(one.unequal or one.skipped for one in shop.engine.prove())
    finally:
        shop.close()


@pytest.mark.slow
def test_another_query_and_another_contract_build_it_whole(shop: Shop) -> None:
    shop.send(*(sale(number, day) for number, day in enumerate(DAYS)))
    shop.succeed()
    shop.edit("tables/by_day.sql", "sum(pence)::BIGINT", "(2 * sum(pence))::BIGINT")
    assert "built all 12 partitions" in shop.succeed()["by_day"]
    shop.edit("contracts.py", "shop: str", "shop: str\n    note: str | None = None")
    shop.reopen()
    shop.send(sale(100, "2011-03-29"))
    assert "built all 13 partitions" in shop.succeed()["by_day"]


@pytest.mark.slow
def test_a_comment_elsewhere_builds_nothing_and_another_cut_builds_it_whole(shop: Shop) -> None:
    shop.send(sale(1, "2011-01-01"))
    shop.succeed()
    shop.edit("tables/by_day.sql", "-- Sales of a day and shop.", "-- The sales of a day.")
    assert shop.ran() == []
    shop.edit("tables/by_day.sql", "by day of day", "by week of day")
    assert "by_day" in shop.ran()
    assert set(shop.files("by_day")) == {"2010-12-27"}


@pytest.mark.slow
def test_a_table_that_is_read_whole_builds_it_whole_when_it_changes(shop: Shop) -> None:
    shop.write(
        tables__rates="SELECT count(*) AS factor FROM rate",
        tables__by_day=SALES.replace("sum(pence)::BIGINT", "(sum(pence) * max(factor))::BIGINT").replace(
            "FROM sale", "FROM sale, rates"
        ),
    )
    rate = {"type": "rate", "source": "till", "time": "2011-01-01T00:00:00Z", "data": {"name": "x"}}
    shop.send({"id": "r1", **rate}, *(sale(number, day) for number, day in enumerate(DAYS)))
    shop.succeed()
    shop.send({"id": "r2", **rate})
    assert [one.whole for one in shop.engine.late() if one.table == "by_day"] == ["rates may change"]
    assert "built all 12 partitions" in shop.succeed()["by_day"]
    assert shop.lake.sample(shop.lake.table("by_day").id)[0]["pence"] == 200


@pytest.mark.slow
def test_what_was_made_of_a_missing_file_is_built_whole(shop: Shop) -> None:
    shop.send(*(sale(number, day) for number, day in enumerate(DAYS)))
    shop.succeed()
    shop.lake.paths(shop.lake.table("by_day"))[0].unlink()
    shop.send(sale(100, "2011-03-29"))
    assert "built all 13 partitions" in shop.succeed()["by_day"]


@pytest.mark.slow
def test_a_table_that_loses_all_its_rows_of_a_day_loses_the_partition(shop: Shop) -> None:
    shop.write(
        tables__few="""
        -- incremental: by day of day
        SELECT day, count(*) AS shops FROM by_day GROUP BY day HAVING count(*) < 2"""
    )
    shop.send(sale(1, "2011-01-01"), sale(2, "2011-01-02"), sale(3, "2011-01-03"))
    shop.succeed()
    assert set(shop.files("few")) == {"2011-01-01", "2011-01-02", "2011-01-03"}
    shop.send(sale(4, "2011-01-02", shop="south"))
    shop.succeed()
    assert set(shop.files("few")) == {"2011-01-01", "2011-01-03"}
    shop.send(sale(5, "2011-01-01", shop="south"), sale(6, "2011-01-03", shop="south"))
    shop.succeed()
    assert shop.lake.table("few").rows == 0
    assert [name for name, _ in shop.lake.table("few").fields] == ["day", "shops"]


@pytest.mark.slow
def test_no_event_at_all_makes_an_empty_table(shop: Shop) -> None:
    shop.succeed()
    assert shop.lake.table("by_day").rows == 0
    shop.send(sale(1, "2011-01-01"))
    shop.succeed()
    assert shop.lake.table("weekly").rows == 1


@pytest.mark.slow
def test_a_branch_that_replays_less_of_the_log_does_not_go_on_from_more(shop: Shop) -> None:
    shop.send(sale(1, "2011-01-01"))
    early = shop.event_log.position()
    shop.send(sale(2, "2011-01-02"))
    shop.succeed()
    shop.lake.branch("then", "main", actor="me", reason="")
    made = shop.engine.run(position=early, branch="then")
    assert made.state == "succeeded"
    assert [file.partition for file in shop.lake.table("by_day", "then").files] == ["2011-01-01"]


# -- what does not hold


@pytest.mark.slow
def test_a_promise_that_the_query_does_not_keep_is_refused_when_it_is_built(shop: Shop) -> None:
    shop.edit("tables/weekly.sql", ", looking back 7 days", "")
    shop.send(
        *(
            sale(number, f"2011-{month:02}-{day:02}")
            for number, (month, day) in enumerate((m, d) for m in (1, 2, 3) for d in (1, 2, 26, 27))
        )
    )
    made = shop.run()
    error = next(step.error for step in made.steps if step.name == "weekly")
    assert made.state == "failed"
    assert "`incremental: by month of day` does not hold" in error
    assert "Look farther back" in error


@pytest.mark.slow
def test_verifying_finds_what_building_did_not(shop: Shop) -> None:
    """A running total of all days so far: true of what was built whole, no longer of what late events add to."""
    shop.write(
        tables__weekly="""
        -- incremental: by day of day, looking back 100 days
        SELECT day, shop, sum(pence) OVER (PARTITION BY shop ORDER BY day)::BIGINT AS pence FROM by_day"""
    )
    shop.send(*(sale(number, day) for number, day in enumerate(DAYS)))
    shop.succeed()
    shop.send(sale(50, "2010-06-01", 7))
    shop.succeed()
    assert not any(one.unequal for one in shop.engine.prove("by_day"))
    (found,) = shop.engine.prove("weekly")
    assert len(found.compared) == 13
    assert "2011-01-09" in [part.label for part in found.unequal]
    worst = found.unequal[-1]
    assert worst.rows == worst.rows_whole == 1
    assert "pence=1207" in worst.only_whole[0]
    assert "pence=1200" in worst.only_here[0]


@pytest.mark.slow
def test_a_draw_is_repeated_by_its_seed(shop: Shop) -> None:
    shop.send(*(sale(number, day) for number, day in enumerate(DAYS)))
    shop.succeed()
    first, again, other = (shop.engine.prove("by_day", 4, seed)[0].compared for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len(first) == 4


@pytest.mark.slow
def test_what_has_changed_since_it_was_built_is_not_compared(shop: Shop) -> None:
    shop.send(sale(1, "2011-01-01"))
    shop.succeed()
    shop.edit("tables/by_day.sql", "count(*) AS sales", "count(*) + 1 AS sales")
    (found,) = shop.engine.prove("by_day")
    assert "changed since it was built" in found.skipped


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-- incremental: by fortnight of day", "'fortnight' is no stretch of time"),
        ("-- incremental: by day of day, looking back 2 months", "'month' has no fixed length"),
        ("-- incremental: day", "`incremental: day` cannot be read"),
        ("-- incremental: by hour of day, looking back 99999 days", "more than a hundred years"),
        ("-- incremental: by day of day\n-- incremental: by day of day", "a second time"),
        ("-- incremental by day of day", "`incremental by day of day` cannot be read"),
    ],
)
def test_a_declaration_that_cannot_be_read_says_how_to_write_it(shop: Shop, line: str, said: str) -> None:
    shop.file("tables/by_day.sql", f"{line}\nSELECT date_trunc('day', _time) AS day FROM sale")
    with pytest.raises(BadQuery, match=said):
        shop.plan()


def test_a_remark_that_begins_with_the_word_declares_nothing(shop: Shop) -> None:
    shop.file("tables/by_day.sql", "-- incremental it is not\nSELECT date_trunc('day', _time) AS day FROM sale")
    shop.file("tables/weekly.sql", "SELECT 1 AS one FROM by_day")
    assert shop.engine.late() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT shop FROM sale", "needs a column 'day' with a time or a date, and there is none"),
        ("SELECT shop AS day FROM sale", "it holds VARCHAR"),
        ("SELECT CASE WHEN pence > 1 THEN _time END AS day FROM sale", "rows have no day"),
        ("SELECT _time AS day, 1 AS __partition FROM sale", "a column is called '__partition'"),
        ("SELECT CAST(_time AS TIMESTAMP_NS) AS day FROM sale", "it holds TIMESTAMP_NS"),
        (
            "SELECT CASE WHEN pence > 1 THEN 'infinity'::TIMESTAMPTZ ELSE _time END AS day FROM sale",
            "a day of infinity",
        ),
        ("SELECT _time + INTERVAL 10000 YEAR AS day FROM sale", "which is in no year from 1 to 9999"),
    ],
)
def test_rows_that_belong_nowhere_fail_the_step(shop: Shop, query: str, said: str) -> None:
    shop.file("tables/by_day.sql", f"-- incremental: by day of day\n{query}")
    (shop.root / "tables" / "weekly.sql").unlink()
    shop.send(sale(1, "2011-01-01", 0), sale(2, "2011-01-01", 5))
    made = shop.run()
    assert made.state == "failed"
    assert said in made.steps[0].error


def test_a_check_and_a_table_of_other_tables_are_not_built_bit_by_bit(shop: Shop) -> None:
    shop.write(checks__none="-- incremental: by day of day\nSELECT * FROM by_day WHERE pence < 0")
    with pytest.raises(BadQuery, match="a check is not built bit by bit"):
        shop.plan()
    (shop.root / "checks" / "none.sql").unlink()
    shop.write(
        tables__plain="SELECT day FROM by_day", tables__odd="-- incremental: by day of day\nSELECT day FROM plain"
    )
    with pytest.raises(BadQuery, match="reads neither events nor a table that is"):
        shop.plan()


def test_only_what_is_built_bit_by_bit_can_be_verified(shop: Shop) -> None:
    shop.write(tables__plain="SELECT day FROM by_day")
    with pytest.raises(NotFound, match="Did you mean by_day"):
        shop.engine.prove("by_days")
    with pytest.raises(Usage, match="These are: by_day, weekly"):
        shop.engine.prove("plain")
    with pytest.raises(NotFound, match="Build it first"):
        shop.engine.prove("by_day")


@pytest.mark.slow
def test_two_states_are_compared_by_the_partitions_that_differ(shop: Shop) -> None:
    shop.send(*(sale(number, day) for number, day in enumerate(DAYS)))
    shop.succeed()
    before = shop.lake.table("by_day")
    shop.send(sale(100, DAYS[4], 5), sale(101, "2011-04-01"))
    shop.succeed()
    after = shop.lake.table("by_day")
    one, other, alike = apart(before, after)
    assert ([file.partition for file in one.files], alike) == ([DAYS[4]], 11)
    assert [file.partition for file in other.files] == [DAYS[4], "2011-04-01"]
    found = shop.lake.diff("by_day", before.id, after.id)
    assert (found.rows_before, found.rows_after) == (12, 13)
    assert (found.added, found.removed, found.changed) == (1, 0, 1)
    more = shop.lake.diff("by_day", after.id, before.id)
    assert (more.rows_before, more.rows_after, more.removed) == (13, 12, 1)


@pytest.mark.slow
def test_a_state_that_only_has_more_partitions_is_compared_all_the_same(shop: Shop) -> None:
    shop.send(*(sale(number, day) for number, day in enumerate(DAYS)))
    shop.succeed()
    before = shop.lake.table("by_day").id
    shop.send(sale(101, "2011-04-01"))
    shop.succeed()
    found = shop.lake.diff("by_day", before, shop.lake.table("by_day").id)
    assert (found.rows_before, found.rows_after, found.added, found.removed) == (12, 13, 1, 0)


# -- what a review found


@pytest.mark.slow
@pytest.mark.parametrize("time", ["0001-01-02T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_time_at_the_end_of_all_times_is_a_partition_like_others(shop: Shop, time: str) -> None:
    shop.send(*(sale(number, day) for number, day in enumerate(DAYS)))
    shop.succeed()
    shop.send(sale(100, time))
    assert time[:10] in shop.listed("by_day")
    shop.succeed()
    assert time[:10] in shop.files("by_day")
    found = shop.engine.prove(count=3, seed=1)
    assert [(len(one.compared), one.unequal) for one in found] == [(3, ()), (3, ())]


def test_rows_that_lose_their_time_are_refused_however_little_is_built(shop: Shop) -> None:
    query = "SELECT CASE WHEN shop = 'x' THEN NULL ELSE date_trunc('day', _time) END AS day FROM sale"
    shop.file("tables/by_day.sql", f"-- incremental: by day of day\n{query}")
    (shop.root / "tables" / "weekly.sql").unlink()
    shop.send(*(sale(number, day) for number, day in enumerate(DAYS)))
    shop.succeed()
    shop.send(sale(100, "2011-03-29", shop="x"))
    made = shop.run()
    assert "rows have no day" in made.steps[0].error


@pytest.mark.slow
def test_verifying_looks_where_the_table_has_no_partition(shop: Shop) -> None:
    """A row lands forty days after its event, which the declaration does not say."""
    query = "SELECT date_trunc('day', _time) + INTERVAL (CASE WHEN shop = 'x' THEN 40 ELSE 0 END) DAY AS day FROM sale"
    shop.file("tables/by_day.sql", f"-- incremental: by day of day\n{query}")
    (shop.root / "tables" / "weekly.sql").unlink()
    shop.send(*(sale(number, day) for number, day in enumerate(DAYS)))
    shop.succeed()
    shop.send(sale(100, "2011-03-29", shop="x"))
    shop.succeed()
    (found,) = shop.engine.prove()
    assert [(one.label, one.rows, one.rows_whole) for one in found.unequal] == [("2011-05-08", 0, 1)]


@pytest.mark.slow
def test_an_input_that_is_cut_anew_is_read_whole(shop: Shop) -> None:
    shop.edit("tables/by_day.sql", "-- incremental: by day of day", "")
    shop.file(
        "tables/weekly.sql",
        "-- incremental: by day of day\nSELECT date_trunc('day', _time) AS day FROM sale, (SELECT count(*) FROM by_day)",
    )
    shop.send(*(sale(number, day) for number, day in enumerate(DAYS)))
    shop.succeed()
    shop.file("tables/by_day.sql", SALES.replace("FROM sale", "FROM sale WHERE month(_time) > 1"))
    shop.file("tables/weekly.sql", "-- incremental: by day of day\nSELECT day FROM by_day")
    shop.succeed()
    assert shop.lake.table("weekly").rows == 8
    shop.edit("tables/by_day.sql", "by day of day", "by month of day")
    shop.edit("tables/by_day.sql", "> 1", "> 2")
    shop.succeed()
    assert shop.lake.table("weekly").rows == 4


@pytest.mark.slow
def test_columns_that_depend_on_all_rows_cannot_be_built_bit_by_bit(shop: Shop) -> None:
    pivot = "-- incremental: by day of day\nPIVOT (SELECT day, shop, pence FROM by_day) ON shop{} USING max(pence)"
    shop.file("tables/weekly.sql", pivot.format(""))
    with pytest.raises(BadQuery, match="depends on all rows"):
        shop.plan()
    shop.file("tables/weekly.sql", pivot.format(" IN ('north', 'south')"))
    shop.send(*(sale(number, day) for number, day in enumerate(DAYS)))
    shop.succeed()
    shop.send(sale(100, "2011-03-29", shop="south"))
    assert "built 1 of 13 partitions" in shop.succeed()["weekly"]
    assert not any(one.unequal for one in shop.engine.prove())


@pytest.mark.slow
@pytest.mark.parametrize("end", ["ORDER BY day LIMIT 5", "ORDER BY day OFFSET 2"])
def test_a_choice_among_all_rows_cannot_be_built_bit_by_bit(shop: Shop, end: str) -> None:
    shop.file("tables/weekly.sql", f"-- incremental: by day of day\nSELECT day FROM by_day {end}")
    with pytest.raises(BadQuery, match="picks among all rows"):
        shop.plan()


@pytest.mark.slow
def test_what_would_change_too_much_is_said_to_be_built_whole(shop: Shop) -> None:
    shop.send(*(sale(number, day) for number, day in enumerate(DAYS)))
    shop.succeed()
    shop.send(*(sale(100 + number, day) for number, day in enumerate(DAYS[:7])))
    (found,) = [one for one in shop.engine.late() if one.table == "by_day"]
    assert (found.whole, found.partitions) == ("more than half of its partitions change", ())
    assert "built all 12 partitions" in shop.succeed()["by_day"]


@pytest.mark.slow
def test_events_that_are_read_otherwise_now_are_not_held_against_a_table(shop: Shop) -> None:
    shop.send(*(sale(number, day) for number, day in enumerate(DAYS)))
    shop.succeed()
    shop.edit("contracts.py", "ge=0", "ge=-1")
    shop.reopen()
    (found,) = shop.engine.prove("by_day")
    assert "have changed since it was built" in found.skipped
