"""MLflow's orders: ``metrics.rmse DESC``, ``attribute.start_time``, ``params.`learning rate` ASC``."""

from collections.abc import Sequence

import msgspec

from sampan.base.errors import Usage
from sampan.track.filter import Attributes, Field, read_field
from sampan.track.limits import check_count
from sampan.track.words import Words


class Order(msgspec.Struct, frozen=True):
    """What is sorted by. What has no value comes last either way, NaN before it."""

    field: Field
    ascending: bool = True


def parse_orders(given: Sequence[str], attributes: Attributes) -> list[Order]:
    """Raises Usage, which names the place of what is wrong."""
    attempted = "Sort by order_by"
    check_count(attempted, "orders", len(given), 20)
    found = []
    for text in given:
        words = Words(text, attempted, "metrics.rmse DESC")
        field = read_field(words, attributes)
        descending = words.took("DESC")
        if not descending:
            words.took("ASC")
        if words.next.kind != "end":
            raise words.wrong("ASC, DESC or the end")
        if field.entity == "dataset":
            raise Usage(attempted, "runs cannot be sorted by their datasets", "Sort by something else.")
        found.append(Order(field, not descending))
    return found
