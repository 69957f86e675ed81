"""The shop: its tills and its web shop, which send every line; its back end, which asks for a decision at every order.

All know only the source file and the workspace's own SQL. At home the tills send each line as an event; the web shop,
which sells abroad, speaks GA4's Measurement Protocol: a `purchase` or `refund` with the items of an order's minute.
Both upload once an hour, and the shop itself knew a line in the minute when it was entered (``known_at``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from heapq import merge
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import msgspec

from sampan.base.clock import iso

SOURCE: Final = Path("data/online_retail.parquet")
TILL: Final = "till"
STREAM: Final = "G-RETAIL"  # the web shop's GA4 data stream
HOME: Final = "United Kingdom"
ITEMS: Final = 200  # the most that a GA4 event takes
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
WHERE time >= $since AND time < $until AND country = $home
ORDER BY time, row
"""

# A refund tells how many pieces came back, not how many were sold the other way round. Where a customer did not sign
# in, the visitor is only known by the order.
_MESSAGES: Final = """
SELECT
    epoch_us(time) AS at,
    json_object(
        'client_id', coalesce(customer_id, order_id), 'user_id', customer_id, 'timestamp_micros', epoch_us(time),
        'events', [json_object(
            'name', if(type = 'order_line', 'purchase', 'refund'), 'params', json_object(
                'transaction_id', order_id, 'currency', 'GBP', 'country', country,
                'value', CAST(sum(CAST(abs(quantity) * unit_price AS DECIMAL(18, 2))) AS DOUBLE),
                'items', list(json_object(
                    'item_id', stock_code, 'item_name', description, 'price', unit_price,
                    'quantity', if(type = 'order_line', quantity, -quantity)
                ) ORDER BY row)
            )
        )]
    ) AS message,
    count(*) AS items
FROM (
    FROM line SELECT *, (row_number() OVER (PARTITION BY order_id, time ORDER BY row) - 1) // $most AS part
    WHERE time >= $since AND time < $until AND country <> $home
)
GROUP BY time, order_id, type, country, customer_id, part
ORDER BY time, min(row)
"""

_IN_PENCE: Final = """
SELECT json_object('id', id, 'type', type, 'source', $source, 'time', strftime(time, '%Y-%m-%dT%H:%M:%SZ'),
    'data', json_object(
        'order_id', order_id, 'stock_code', stock_code, 'quantity', quantity,
        'unit_price', CAST(unit_price * $factor AS DOUBLE), 'country', country, 'customer_id', customer_id,
        'description', description
    ))
FROM line WHERE (country = $home) = $at_home AND type = 'order_line' AND quantity >= 1 AND unit_price >= 0
ORDER BY time, row LIMIT $most
"""

# The log's view of the same lines: what breaks the contract is not in it.
_AS_IN_THE_LOG: Final = """
CREATE VIEW {name} AS
SELECT order_id, stock_code, quantity, unit_price, country, customer_id, description,
       time AS _time, time AS _known_at, id AS _id
FROM line
WHERE type = '{name}' AND unit_price >= 0 AND {bound}
"""


class Line(NamedTuple):
    """Something that the shop sends, at a moment in microseconds: an event, or a GA4 message of ``items`` events."""

    at: int
    body: bytes
    items: int = 0  # 0: a plain event


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

    def lines(self, since: datetime, until: datetime) -> Iterator[Line]:
        """Every line in the order of time: one by one from the tills, by order and minute from the web shop."""
        given = {"since": since, "until": until, "home": HOME}
        events = self._sent(_EVENTS, given | {"source": TILL})
        messages = self._sent(_MESSAGES, given | {"most": ITEMS})
        return merge(events, messages, key=lambda line: line.at)

    def in_pence(self, most: int = 2_000) -> Iterator[bytes]:
        """As many valid lines of each source, as events, but that the web shop gives its prices in pence."""
        for home, source, factor in ((True, TILL, 1), (False, STREAM, 100)):
            values = {"home": HOME, "at_home": home, "source": source, "factor": factor, "most": most}
            for (event,) in self._con.execute(_IN_PENCE, values).fetchall():
                yield event.encode()

    def _sent(self, query: str, values: dict[str, Any]) -> Iterator[Line]:
        cursor = self._con.cursor()
        cursor.execute(query, values)
        while rows := cursor.fetchmany(10_000):
            for at, body, *items in rows:
                yield Line(at, body.encode(), *items)

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
