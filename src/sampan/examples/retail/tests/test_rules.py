from decisions import reorder


def decide(probability, orders_before, **thresholds):
    return reorder(probability, {"order_id": "1", "orders_before": orders_before}, **thresholds)


def test_a_slot_is_kept_for_a_customer_who_is_likely_to_return():
    assert decide(0.5, orders_before=3) == ("reserve", "likely to return")
    assert decide(0.4, orders_before=3) == ("wait", "not likely enough")


def test_a_first_order_needs_more():
    assert decide(0.5, orders_before=0) == ("wait", "first order, too little known")
    assert decide(0.7, orders_before=0) == ("reserve", "first order, very likely to return")


def test_thresholds_are_data():
    assert decide(0.5, orders_before=3, likely=0.55).name == "wait"
