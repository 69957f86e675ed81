"""The price book: ``[prices]`` in ``sampan.toml``, and what seconds on this machine cost by it."""

from collections.abc import Mapping
from typing import Any

import msgspec

from sampan.base.errors import BadSetting


class Prices(msgspec.Struct, frozen=True):
    """``currency = "EUR"``, ``this_machine_per_hour = 0.20``, ``endpoint_per_hour = 0.01``: what keeping an endpoint's
    process costs. Without a price nothing costs anything."""

    currency: str = "EUR"
    this_machine_per_hour: float = 0.0
    endpoint_per_hour: float = 0.0

    def cost(self, seconds: float, share: float = 1.0) -> float:
        """What a share of this machine costs for some seconds."""
        return self.this_machine_per_hour * seconds / 3600 * share


def read_prices(config: Mapping[str, Any]) -> Prices:
    """The price book of a parsed ``sampan.toml``. Raises BadSetting for what is no price."""
    section = config.get("prices", {})
    attempted = "Read [prices] in sampan.toml"
    if not isinstance(section, Mapping):
        raise BadSetting(attempted, f"it is {section!r}", "Write it as a table of names and prices.")
    for name in section:
        if name not in Prices.__struct_fields__:
            raise BadSetting(attempted, f"unknown price {name!r}", f"Known: {', '.join(Prices.__struct_fields__)}.")
    prices = {name: section.get(name, 0.0) for name in ("this_machine_per_hour", "endpoint_per_hour")}
    for name, price in prices.items():
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < float("inf"):
            raise BadSetting(attempted, f"{name} is {price!r}", "Give a number of 0 or more.")
    currency = section.get("currency", "EUR")
    if not isinstance(currency, str) or not currency:
        raise BadSetting(attempted, f"currency is {currency!r}", 'Give a code such as "EUR".')
    return Prices(currency, **{name: float(price) for name, price in prices.items()})
