"""What the shop's tills send. A line that does not fit goes to quarantine with the reason; nothing is thrown away."""

from typing import Annotated

from sampan import Event, Field

Customer = Annotated[str | None, Field(subject=True, description="The customer's number; absent for a guest")]
Price = Annotated[float, Field(unit="GBP", ge=0, description="Price of one piece")]


class OrderLine(Event, version=1):
    """One line of an order, at the moment it was entered."""

    order_id: str
    stock_code: Annotated[str, Field(description="Article; also POST, DOT, M and other codes that are no goods")]
    quantity: Annotated[int, Field(unit="pieces", ge=1)]
    unit_price: Price
    country: str
    customer_id: Customer = None
    description: str | None = None


class OrderCancelled(Event, version=1):
    """One line of a cancellation or return."""

    order_id: Annotated[str, Field(description="Number of the cancellation, beginning with C; it names no order")]
    stock_code: str
    quantity: Annotated[int, Field(unit="pieces", le=-1)]
    unit_price: Price
    country: str
    customer_id: Customer = None
    description: str | None = None
