"""What the shop's tills and its web shop send. A line that does not fit goes to quarantine with the reason; nothing is
thrown away. Whoever sends it, a line has one shape.
"""

from typing import Annotated, Any

from sampan import Event, Field, adapt

Customer = Annotated[str | None, Field(subject=True, description="The customer's number; absent for a guest")]
Price = Annotated[float, Field(unit="GBP", ge=0, description="Price of one piece")]


class OrderLine(Event, version=1, owner="sales"):
    """One line of an order, at the moment it was entered."""

    order_id: str
    stock_code: Annotated[str, Field(description="Article; also POST, DOT, M and other codes that are no goods")]
    quantity: Annotated[int, Field(unit="pieces", ge=1)]
    unit_price: Price
    country: str
    customer_id: Customer = None
    description: str | None = None


class OrderCancelled(Event, version=1, owner="sales"):
    """One line of a cancellation or return."""

    order_id: Annotated[str, Field(description="Number of the cancellation, beginning with C; it names no order")]
    stock_code: str
    quantity: Annotated[int, Field(unit="pieces", le=-1)]
    unit_price: Price
    country: str
    customer_id: Customer = None
    description: str | None = None


# The web shop speaks GA4's Measurement Protocol: a purchase or a refund has the lines of an order as its items.
adapt(
    "ga4",
    "purchase",
    OrderLine,
    each="items",
    rename={
        "transaction_id": "order_id",
        "item_id": "stock_code",
        "price": "unit_price",
        "item_name": "description",
        "$.user_id": "customer_id",
    },
    known_at="$.timestamp_micros",
)


@adapt("ga4", "refund", OrderCancelled, known_at="$.timestamp_micros")
def cancelled(message: dict[str, Any]) -> list[dict[str, Any]]:
    """A refund says how many pieces came back; a till says the same with a minus."""
    refund = message["params"]
    return [
        {
            "order_id": refund["transaction_id"],
            "stock_code": item["item_id"],
            "quantity": -item["quantity"],
            "unit_price": item["price"],
            "country": refund["country"],
            "customer_id": message.get("user_id"),
            "description": item.get("item_name"),
        }
        for item in refund["items"]
    ]
