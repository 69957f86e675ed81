"""What people say of a version: the last word of each counts, and nothing that was said goes away."""

import pytest

from sampan.base.clock import ManualClock
from sampan.base.errors import NotFound, Usage
from sampan.models.approvals import APPROVED, REJECTED, WITHDRAWN, Approvals, Seen
from sampan.store.database import Database

SEEN = Seen({"orders": "t1-a"}, "r1")


@pytest.fixture
def approvals(tmp_path):
    db = Database(tmp_path / "records.db", writable=True)
    yield Approvals(db, ManualClock(1_700_000_000_000_000))
    db.close()


def say(approvals, actor, verdict, reason="because", number=1, alias="champion"):
    return approvals.add("m", number, alias, verdict, actor=actor, reason=reason, seen=SEEN)


def test_the_last_word_of_each_person_stands(approvals):
    say(approvals, "ann", APPROVED)
    say(approvals, "bob", REJECTED, "too early")
    say(approvals, "ann", REJECTED, "seen the tail")
    assert [(one.actor, one.verdict, one.reason) for one in approvals.standing("m", 1, "champion")] == [
        ("bob", REJECTED, "too early"),
        ("ann", REJECTED, "seen the tail"),
    ]
    assert [one.verdict for one in approvals.list("m", 1)] == [REJECTED, REJECTED, APPROVED]
    assert approvals.list("m", 1)[0].seen == SEEN


def test_what_is_said_of_one_version_and_alias_says_nothing_of_another(approvals):
    say(approvals, "ann", APPROVED)
    assert approvals.standing("m", 2, "champion") == []
    assert approvals.standing("m", 1, "challenger") == []


def test_what_was_taken_back_does_not_stand(approvals):
    say(approvals, "ann", APPROVED)
    say(approvals, "ann", WITHDRAWN, "")
    assert approvals.standing("m", 1, "champion") == []
    with pytest.raises(NotFound, match="ann has none"):
        say(approvals, "ann", WITHDRAWN, "")


@pytest.mark.parametrize(
    ("verdict", "reason", "alias", "said"),
    [
        (REJECTED, "  ", "champion", "no reason was given"),
        ("maybe", "x", "champion", "unknown verdict 'maybe'"),
        (APPROVED, "x" * 2001, "champion", "2,001 characters"),
        (APPROVED, "x", "v3", "reserved"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_not_kept(approvals, verdict, reason, alias, said):
    with pytest.raises(Usage, match=said):
        say(approvals, "ann", verdict, reason, alias=alias)
    assert approvals.list("m", 1) == []
