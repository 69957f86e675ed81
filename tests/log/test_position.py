"""Positions are opaque to users and exact to us."""

import pytest

from sampan.base.errors import Usage
from sampan.log.position import Position


def test_a_position_is_its_text() -> None:
    position = Position({"serve-reorder": 88, "intake": 12345, "empty": 0})
    assert str(position) == "intake:12345,serve-reorder:88"
    assert Position.parse(str(position)) == position
    assert (position["intake"], position["unknown"], "unknown" in position) == (12345, 0, False)
    assert str(Position.parse("")) == ""


@pytest.mark.parametrize(
    "text", ["intake", "intake:x", "intake:1,intake:2", "a b:1", "intake:-1", ":3", "intake:" + "9" * 5_000]
)
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(Usage, match="is not one"):
        Position.parse(text)
