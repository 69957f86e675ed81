"""No feature may know the future: compute the features again from the log as it was, and compare."""

from datetime import datetime

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from sampan import File, check

# The queries between the log and the features, in the order in which they build on each other.
QUERIES = (
    ("lines", File("tables/lines.sql")),
    ("orders", File("tables/orders.sql")),
    ("features", File("tables/features.sql")),
)


@check
def features_know_no_future(
    order_line: pa.Table, order_cancelled: pa.Table, features: pa.Table, evaluation: pa.Table, moments: int = 4
) -> str | None:
    """Go back to some moments, see only what was known by then, and compute the features of every order so far.

    Each must come out as it stands in ``features``. One that does not has used what came later, and would promise
    in the evaluation what no one can keep in service.
    """
    placed = sorted(features["ordered_at"].to_pylist())
    for number in range(moments):
        moment = placed[(2 * number + 1) * len(placed) // (2 * moments)]
        then = features_as_of(moment, order_line, order_cancelled)
        now = features.filter(pc.less_equal(features["ordered_at"], pa.scalar(moment, features["ordered_at"].type)))
        if differing := differences(now, then):
            promised = evaluation.filter(pc.equal(evaluation["month"], "all"))["auc"][0].as_py()
            listed = ", ".join(f"{name} ({count:,} of {now.num_rows:,} orders)" for name, count in differing.items())
            return (
                f"features use the future. With the log as it was at {moment:%Y-%m-%d %H:%M}, these columns had other "
                f"values: {listed}. The AUC of {promised:.3f} in `evaluation` would not be reached in service."
            )
    return None


def features_as_of(moment: datetime, order_line: pa.Table, order_cancelled: pa.Table) -> pa.Table:
    """The features as the same queries give them from what was known at a moment."""
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        for name, events in (("order_line", order_line), ("order_cancelled", order_cancelled)):
            db.register(f"all_{name}", events)
            db.execute(f"CREATE VIEW {name} AS FROM all_{name} WHERE _known_at <= TIMESTAMPTZ '{moment.isoformat()}'")
        for name, query in QUERIES:
            db.execute(f"CREATE TABLE {name} AS {query.read_text()}")
        return db.execute("FROM features").to_arrow_table()


def differences(now: pa.Table, then: pa.Table) -> dict[str, int]:
    """How many orders differ, by column; orders that only one side has count under ``order_id``."""
    with duckdb.connect() as db:
        db.register("now_side", now)
        db.register("then_side", then)
        counted = ", ".join(
            f'count(*) FILTER (now_side."{name}" IS DISTINCT FROM then_side."{name}") AS "{name}"'
            for name in now.column_names
        )
        joined = "now_side FULL JOIN then_side ON now_side.order_id = then_side.order_id"
        found = db.execute(f"SELECT {counted} FROM {joined}").to_arrow_table().to_pylist()[0]
    return {name: count for name, count in found.items() if count}
