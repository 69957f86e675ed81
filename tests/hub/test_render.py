"""What values look like on pages."""

from sampan.hub.render import money, show, total


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


def test_a_tensor_of_small_floats_has_the_digits_that_it_was_sent_with() -> None:
    assert "0.1," in "".join(show([[0.10000000149011612, 2]]).split()) and "0.100000001" not in show(
        [0.10000000149011612]
    )
    assert show(0.125) == "0.125"
