"""The tests call the functions of the workspace directly; Sampan need not run."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

WORKSPACE = Path(__file__).parent.parent
sys.path.insert(0, str(WORKSPACE))

COLUMNS = {
    "order_id": "VARCHAR",
    "stock_code": "VARCHAR",
    "quantity": "BIGINT",
    "unit_price": "DOUBLE",
    "country": "VARCHAR",
    "customer_id": "VARCHAR",
    "description": "VARCHAR",
    "_time": "TIMESTAMPTZ",
    "_known_at": "TIMESTAMPTZ",
}
MONDAY = datetime(2011, 1, 3, 9, tzinfo=UTC)


class Till:
    """Events as the queries see them, made by hand."""

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        self.db = db
        for name in ("order_line", "order_cancelled"):
            columns = ", ".join(f"{column} {kind}" for column, kind in COLUMNS.items())
            db.execute(f"CREATE TABLE {name} ({columns})")

    def sell(
        self, order: str, customer: str | None, day: float, price: float = 2.5, quantity: int = 4, code: str = "85123A"
    ) -> None:
        self._add("order_line", order, customer, day, price, quantity, code)

    def cancel(self, order: str, customer: str, day: float, price: float = 2.5, quantity: int = -4) -> None:
        self._add("order_cancelled", order, customer, day, price, quantity, "85123A")

    def _add(
        self, table: str, order: str, customer: str | None, day: float, price: float, quantity: int, code: str
    ) -> None:
        at = MONDAY + timedelta(days=day)
        row = [order, code, quantity, price, "United Kingdom", customer, "A HEART", at, at]
        self.db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)

    def build(self, *tables: str) -> None:
        for name in tables:
            query = (WORKSPACE / "tables" / f"{name}.sql").read_text("utf-8")
            self.db.execute(f"CREATE OR REPLACE TABLE {name} AS {query}")

    def rows(self, query: str) -> list[tuple]:
        return self.db.execute(query).fetchall()


@pytest.fixture
def till(monkeypatch: pytest.MonkeyPatch) -> Iterator[Till]:
    monkeypatch.chdir(WORKSPACE)
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        yield Till(db)
