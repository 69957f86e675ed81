"""The shop: its tills, which send every line; its back end, which asks for a decision at every order.

Both know only the source file and the workspace's own SQL. The tills upload once an hour and state when the shop
itself knew a line (``known_at``), which for a till is the minute of the line.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec

from sampan.base.clock import iso

SOURCE: Final = Path("data/online_retail.parquet")
TILL: Final = "till"
RETURN_DAYS: Final = 30
DAY: Final = 86_400_000_000  # microseconds

_LINES: Final = """
CREATE TABLE line AS
SELECT
    InvoiceDate::TIMESTAMPTZ AS time,
    InvoiceNo || '-' || row_number() OVER (PARTITION BY InvoiceNo ORDER BY file_row_number) AS id,
    if(starts_with(InvoiceNo, 'C'), 'order_cancelled', 'order_line') AS type,
    InvoiceNo AS order_id,
    StockCode AS stock_code,
    Quantity::BIGINT AS quantity,
    UnitPrice AS unit_price,
    Country AS country,
    CustomerID::VARCHAR AS customer_id,
    Description AS description,
    file_row_number AS row
FROM read_parquet($source, file_row_number = true)
ORDER BY InvoiceDate, file_row_number
"""

_EVENTS: Final = """
SELECT
    epoch_us(time) AS at,
    json_object(
        'id', id, 'type', type, 'source', $source, 'time', stamp, 'known_at', stamp, 'data', json_object(
            'order_id', order_id, 'stock_code', stock_code, 'quantity', quantity, 'unit_price', unit_price,
            'country', country, 'customer_id', customer_id, 'description', description
        )
    ) AS event
FROM (FROM line SELECT *, strftime(time, '%Y-%m-%dT%H:%M:%SZ') AS stamp)
WHERE time >= $since AND time < $until
ORDER BY time, row
"""

# The log's view of the same lines: what breaks the contract is not in it.
_AS_IN_THE_LOG: Final = """
CREATE VIEW {name} AS
SELECT order_id, stock_code, quantity, unit_price, country, customer_id, description,
       time AS _time, time AS _known_at, id AS _id
FROM line
WHERE type = '{name}' AND unit_price >= 0 AND {bound}
"""


@dataclass(frozen=True)
class Order:
    """A moment at which the shop asks for a decision, and what became of it (None: the year ended too early)."""

    order_id: str
    at: int
    record: dict[str, Any]
    returned: bool | None


class Shop:
    """A year of the shop. ``workspace`` holds the source file and the SQL that both sides share."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self._con = duckdb.connect()
        self._con.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        self._con.execute(_LINES, {"source": str(workspace / SOURCE)})

    def close(self) -> None:
        self._con.close()

    @cached_property
    def last(self) -> int:
        """The moment of the last line, in microseconds."""
        return int(self._one("SELECT epoch_us(max(time)) FROM line"))

    def lines(self, since: datetime, until: datetime) -> Iterator[tuple[int, bytes]]:
        """(moment, event as JSON) of every line in the order of time."""
        cursor = self._con.cursor()
        cursor.execute(_EVENTS, {"source": TILL, "since": since, "until": until})
        while rows := cursor.fetchmany(10_000):
            for at, event in rows:
                yield at, event.encode()

    def count(self, until: datetime) -> int:
        return int(self._one("SELECT count(*) FROM line WHERE time < $until", until=until))

    def orders(self, since: datetime, until: datetime) -> list[Order]:
        """The orders of a stretch of time, with the features of their moments, computed by the workspace's own SQL."""
        for name, bound in (("order_line", "quantity >= 1"), ("order_cancelled", "quantity <= -1")):
            self._con.execute(_AS_IN_THE_LOG.format(name=name, bound=bound))
        for table in ("lines", "orders", "features", "labels"):
            query = (self.workspace / "tables" / f"{table}.sql").read_text("utf-8")
            self._con.execute(f"CREATE TABLE {table} AS {query}")
        found = self._con.execute(
            """
            SELECT features.* EXCLUDE (ordered_at), epoch_us(features.ordered_at) AS at, labels.returned
            FROM features LEFT JOIN labels USING (order_id)
            WHERE features.ordered_at >= $since AND features.ordered_at < $until
            ORDER BY features.ordered_at, order_id
            """,
            {"since": since, "until": until},
        )
        names = [column[0] for column in found.description]
        orders = []
        for row in found.fetchall():
            record = dict(zip(names, row, strict=True))
            at, returned = record.pop("at"), record.pop("returned")
            orders.append(Order(record["order_id"], at, record, returned))
        return orders

    def _one(self, query: str, **values: Any) -> Any:
        row = self._con.execute(query, values).fetchone()
        assert row is not None
        return row[0]


def due(order: Order) -> int:
    """When the outcome of an order is known, in microseconds."""
    return order.at + RETURN_DAYS * DAY


def outcome(prediction: str, order: Order) -> bytes:
    """The event that tells how an order's prediction turned out."""
    data = {"prediction_id": prediction, "value": order.returned}
    event = {"id": f"outcome-{order.order_id}", "type": "outcome", "source": "shop", "time": iso(due(order))}
    return msgspec.json.encode(event | {"data": data})
