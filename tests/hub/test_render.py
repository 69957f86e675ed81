"""What values look like on pages."""

from sampan.hub.render import money, total


def test_an_amount_that_rounds_to_nothing_has_no_sign() -> None:
    assert [money(amount) for amount in (-0.001, -0.0, -0.01, 1234.5, None)] == [
        "0.00",
        "0.00",
        "−0.01",
        "1,234.50",
        "–",
    ]


def test_a_large_amount_by_itself_has_no_cents() -> None:
    assert [total(amount) for amount in (9_999.5, -12_345.6, 1_333_985.77, None)] == [
        "9,999.50",
        "−12,346",
        "1,333,986",
        "–",
    ]
