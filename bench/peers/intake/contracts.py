from typing import Annotated, Literal

from sampan import Event, Field, adapt


class Click(Event, version=1, type="click"):
    customer: Annotated[int, Field(ge=0)]
    kind: Literal["view", "search", "add", "buy"]
    session: str
    url: str
    price: Annotated[float, Field(ge=0, unit="GBP")]


adapt("segment", "Clicked", Click, rename={"buyer": "customer"})
