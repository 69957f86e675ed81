"""What values look like on pages."""

from sampan.hub.render import money


def test_an_amount_that_rounds_to_nothing_has_no_sign() -> None:
    assert [money(amount) for amount in (-0.001, -0.0, -0.01, 1234.5, None)] == [
        "0.00",
        "0.00",
        "−0.01",
        "1,234.50",
        "–",
    ]
