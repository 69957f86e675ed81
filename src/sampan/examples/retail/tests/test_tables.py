def test_a_line_that_a_till_recorded_twice_counts_once(till):
    till.sell("1", "ann", 0)
    till.sell("1", "ann", 0)
    till.build("lines", "orders")
    assert till.rows("SELECT recorded, value FROM lines") == [(2, 10)]
    assert till.rows("SELECT goods FROM orders") == [(10,)]


def test_guests_cancellations_and_orders_without_goods_are_no_orders(till):
    till.sell("1", None, 0)
    till.sell("2", "ann", 0, code="POST")
    till.sell("3", "ann", 0, price=0)
    till.cancel("C4", "ann", 1)
    till.sell("5", "ann", 2)
    till.build("lines", "orders")
    assert till.rows("SELECT order_id FROM orders") == [("5",)]


def test_postage_is_a_charge_and_no_goods(till):
    till.sell("1", "ann", 0)
    till.sell("1", "ann", 0, code="POST", price=4, quantity=1)
    till.build("lines", "orders")
    assert till.rows("SELECT goods, charges FROM orders") == [(10, 4)]


def test_features_see_what_came_before_an_order_and_nothing_else(till):
    till.sell("1", "ann", 0)
    till.sell("2", "ann", 10, price=5)
    till.cancel("C3", "ann", 12)
    till.sell("4", "ann", 20)
    till.sell("5", "ann", 20)  # in the same minute: neither sees the other
    till.sell("6", "bob", 15)
    till.build("lines", "orders", "features")
    seen = till.rows(
        """SELECT order_id, orders_before, spent_before, days_since_last, mean_gap_days, cancellations_before
           FROM features ORDER BY order_id"""
    )
    assert seen == [
        ("1", 0, 0, None, None, 0),
        ("2", 1, 10, 10, None, 0),
        ("4", 2, 30, 10, 10, 1),
        ("5", 2, 30, 10, 10, 1),
        ("6", 0, 0, None, None, 0),
    ]


def test_a_label_exists_only_when_its_thirty_days_are_over(till):
    till.sell("1", "ann", 0)
    till.sell("2", "ann", 30)
    till.sell("3", "bob", 0)
    till.sell("4", "eve", 45)
    till.build("lines", "orders", "labels")
    assert till.rows("SELECT order_id, returned FROM labels ORDER BY order_id") == [("1", True), ("3", False)]
