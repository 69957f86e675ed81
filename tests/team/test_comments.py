"""Comments say who made them and when; none is changed, and one that is withdrawn keeps its place without its text."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from sampan.base.clock import ManualClock
from sampan.base.errors import NotFound, Refused, Usage
from sampan.store.database import Database
from sampan.team.comments import LONGEST, Comments

MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_300_000_000_000_000)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "records.db", writable=True)
    yield made
    made.close()


@pytest.fixture
def comments(db: Database, clock: ManualClock) -> Comments:
    return Comments(db, clock)


def test_comments_are_kept_in_their_order_each_with_its_author_and_time(comments: Comments, clock: ManualClock) -> None:
    comments.add("table orders", "Looks short.", actor="ann")
    then = clock.micros()
    clock.advance(MINUTE)
    comments.add("table orders", "  It was a holiday.\r\nLook.  ", actor="bob")
    comments.add("table orders2", "Another.", actor="bob")
    assert [(one.text, one.actor, one.at) for one in comments.of("table orders")] == [
        ("Looks short.", "ann", then),
        ("It was a holiday.\nLook.", "bob", then + 60_000_000),
    ]
    assert [one.text for one in comments.of("table orders", then)] == ["Looks short."]


def test_of_a_withdrawn_comment_the_row_stays_and_the_text_is_out_of_sight(
    comments: Comments, clock: ManualClock
) -> None:
    made = comments.add("run 1", "My password is 1234.", actor="ann")
    then = clock.micros()
    clock.advance(MINUTE)
    assert comments.withdraw(made.id, actor="ann").withdrawn
    assert comments.withdraw(made.id, actor="ann").text == ""
    for by in (None, then):
        assert [(one.id, one.text, one.actor, one.withdrawn) for one in comments.of("run 1", by)] == [
            (made.id, "", "ann", True)
        ]
    assert comments.holding("password", 9) == []


def test_only_its_author_withdraws_a_comment(comments: Comments) -> None:
    made = comments.add("run 1", "Mine.", actor="ann")
    with pytest.raises(Refused, match="by ann, you are bob"):
        comments.withdraw(made.id, actor="bob")
    with pytest.raises(NotFound, match="none with this id"):
        comments.withdraw("nothing", actor="ann")
    assert comments.of("run 1") == [made]


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "0 characters"), (" \r\n\t", "0 characters"), ("a" * (LONGEST + 1), "10001"), ("a\udcff", "character 2")],
)
def test_what_is_no_comment_is_refused(comments: Comments, text: str, why: str) -> None:
    with pytest.raises(Usage, match=why):
        comments.add("run 1", text, actor="ann")
    assert comments.of("run 1") == []


def test_a_word_is_found_as_it_is_written_the_newest_first(comments: Comments, clock: ManualClock) -> None:
    for text in ("100 % sure", "100 of them", "a_b", "axb"):
        comments.add("run 1", text, actor="ann")
        clock.advance(MINUTE)
    assert [one.text for one in comments.holding("100", 9)] == ["100 of them", "100 % sure"]
    assert [one.text for one in comments.holding("100 %", 9)] == ["100 % sure"]
    assert [one.text for one in comments.holding("a_b", 9)] == ["a_b"]
    assert len(comments.holding("a", 1)) == 1
