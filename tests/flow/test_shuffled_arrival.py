"""Events that arrive in any order, some of them twice, make the same tables to the last bit."""

import random

import pytest
from test_events import LogBench, line

pytestmark = pytest.mark.slow

FLOW = {
    "tables__orders": """
        SELECT "order", count(*) AS lines, sum(price) AS total, avg(price) AS mean,
            CAST(sum(CAST(price AS DECIMAL(18, 2))) AS DECIMAL(18, 2)) AS exact, max(_time) AS newest
        FROM order_line GROUP BY ALL""",
    "tables__daily": """
        -- incremental: by day of day
        SELECT date_trunc('day', _time) AS day, "order", count(*) AS lines, sum(price) AS total
        FROM order_line GROUP BY ALL""",
    "tables__latest": """
        SELECT _id, "order", price, _time, row_number() OVER (PARTITION BY "order" ORDER BY _time, _id) AS number
        FROM order_line""",
    "steps": """
        import pandas as pd
        from sampan import step

        @step
        def running(order_line: pd.DataFrame) -> pd.DataFrame:
            # a sum of floats that depends on the order of its rows
            return pd.DataFrame({"id": order_line["_id"], "sum": order_line.groupby("order")["price"].cumsum()})

        @step
        def whole(running: pd.DataFrame, orders: pd.DataFrame) -> float:
            return float(running["sum"].sum() * orders["mean"].mean())
        """,
}


def test_ten_shuffled_arrivals_with_resent_events_give_ten_equal_digests(tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    events = [line(number, round(1.1 ** (number % 97), 3)) for number in range(400)]
    found = []
    for seed in range(10):
        chance = random.Random(seed)
        arriving = [*events, *chance.sample(events, len(events) // 20)]
        chance.shuffle(arriving)
        shop = LogBench(tmp_path_factory.mktemp("shop"))
        try:
            shop.write(**FLOW)
            half = len(arriving) // 2
            while arriving:
                shop.send(*(arriving.pop() for _ in range(min(len(arriving), chance.randint(1, 200)))))
                if len(arriving) < half:  # so that one table is built bit by bit, and events come late to it
                    half = 0
                    assert shop.run("daily").state == "succeeded"
            assert shop.event_log.stats()["accepted"] == 400
            assert shop.event_log.stats()["duplicate"] == 20
            result = shop.run()
            assert result.state == "succeeded", [step.error for step in result.steps]
            found.append({step.name: step.digest for step in result.steps})
        finally:
            shop.event_log.keys.close()
            shop.db.close()
    assert set(found[0]) == {"orders", "daily", "latest", "running", "whole"}
    assert all(digests == found[0] for digests in found[1:])
