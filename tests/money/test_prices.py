"""The price book, and what it refuses."""

from typing import Any

import pytest

from sampan.base.errors import BadSetting
from sampan.money.prices import read_prices


def test_an_hour_costs_what_the_price_book_says() -> None:
    prices = read_prices({"prices": {"currency": "GBP", "this_machine_per_hour": 0.2}})
    assert prices.cost(1800) == pytest.approx(0.1)
    assert prices.cost(3600, share=0.5) == pytest.approx(0.1)
    assert prices.currency == "GBP"


def test_without_a_price_nothing_costs_anything() -> None:
    assert read_prices({}).cost(1e6) == 0


@pytest.mark.parametrize(
    "section",
    [3, {"this_machine_per_hour": -1}, {"this_machine_per_hour": "cheap"}, {"this_machine_per_hour": True},
     {"this_machine_per_hour": float("nan")}, {"currency": 3}, {"gpu": 1},
     {"endpoint_per_hour": -0.1}],
)  # fmt: skip
def test_what_is_no_price_is_refused(section: Any) -> None:
    with pytest.raises(BadSetting):
        read_prices({"prices": section})
