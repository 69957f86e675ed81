"""What the shop does with the answer: keep a packing slot free for the order that is likely to come, or not.

The slot changes nothing about whether the customer returns, so what it earns can be read off the outcomes.
"""

from sampan import Action, decision


@decision(
    model="reorder",
    currency="GBP",
    entity="customer_id",
    context=("order_id",),
    features="features",
    key="order_id",
    default="wait",
    values={
        # A slot that is used saves an evening shift; one that stays empty costs its share of the bench.
        "reserve": {True: 2.00, False: -1.20},
        "wait": {True: 0.00, False: 0.00},
    },
)
def reorder(prediction: float, context: dict, likely: float = 0.45, first_order: float = 0.60) -> Action:
    """Thresholds are data: ``likely`` for customers we know, ``first_order`` for those we have just met."""
    if context["orders_before"] == 0:
        if prediction >= first_order:
            return Action("reserve", rule="first order, very likely to return")
        return Action("wait", rule="first order, too little known")
    # To see a rule replayed, make the next two lines part of it: who cancels often gets no slot.
    # if context["cancellations_before"] >= 5:
    #     return Action("wait", rule="cancels often")
    if prediction >= likely:
        return Action("reserve", rule="likely to return")
    return Action("wait", rule="not likely enough")
