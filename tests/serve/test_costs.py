"""What an endpoint's model costs, as far as anybody has said it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from serving_shop import Shop

from sampan.flow.declare import Fitted
from sampan.hub.costs import Costs, costs_of
from sampan.models.formats import freeze

HOUR = 3_600_000_000


def costs(shop: Shop, currency: str = "GBP", hours: float = 10.0) -> Costs:
    history = shop.endpoints.history("reorder")
    return costs_of(shop, history, currency, history[-1].created + round(hours * HOUR))  # type: ignore[arg-type]


def deploy(shop: Shop, fitted: Fitted, cost: Any) -> None:
    """A version that says what it cost."""
    draft = freeze(fitted, "binary", shop.blobs)
    draft = msgspec.structs.replace(draft, metrics={"cost": cost})
    shop.deploy(shop.models.register(draft, "reorder").ref)


@pytest.mark.parametrize(("cost", "known"), [(12.5, 12.5), (0, 0.0), (-1, None), (float("nan"), None), (True, None)])
def test_a_version_says_what_it_cost(
    shop: Shop, fitted: Callable[[int], Fitted], cost: Any, known: float | None
) -> None:
    (shop.root / "sampan.toml").write_text("[prices]\ncurrency = 'GBP'\n")
    deploy(shop, fitted(9), cost)
    found = costs(shop)
    assert [(one.version, one.amount) for one in found.lines] == ([] if known is None else [("reorder@2", known)])
    assert found.unknown == ["reorder@1", *(["reorder@2"] if known is None else [])]


def test_serving_costs_by_the_hour_since_it_was_first_deployed(shop: Shop) -> None:
    (shop.root / "sampan.toml").write_text("[prices]\ncurrency = 'EUR'\nendpoint_per_hour = 0.02\n")
    (line,) = costs(shop).lines
    assert (line.version, line.currency, line.how) == ("", "EUR", "10.0 hours at 0.02")
    assert line.amount == pytest.approx(0.2)
    assert costs(shop).of("") == 0.0, "euros are not subtracted from pounds"
    assert costs(shop, "EUR").of("") == costs(shop, "").of("") == pytest.approx(0.2)


def test_without_a_price_nothing_is_known(shop: Shop) -> None:
    found = costs(shop)
    assert found.lines == [] and found.unknown == ["reorder@1"]
