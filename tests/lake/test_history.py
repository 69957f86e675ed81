"""Branches: what they hold, what a reverted commit leaves, what was there at an instant."""

from datetime import timedelta

import pytest

from sampan.base.errors import Conflict, NotFound, Refused


def test_models_and_definitions_are_part_of_a_commit(workspace, lake):
    a = workspace.build("t", "SELECT 1 AS x")
    first = lake.commit("main", {"t": a.id}, expected=None, models={"m": 1}, code={"t": "aa", "m": "bb"})
    second = lake.commit("main", {}, expected=first.id, models={"m": 2})
    third = lake.commit("main", {}, expected=second.id, models={"m": None}, code={"t": "aa"})
    assert [lake.versions(f"@{one.id}") for one in (first, second, third)] == [{"m": 1}, {"m": 2}, {}]
    assert [lake.commit_of(one.id).code for one in (second, third)] == [{"t": "aa", "m": "bb"}, {"t": "aa"}]
    assert lake.names() == {"t": a.id}


def test_a_branch_remembers_where_on_main_it_began(workspace, lake):
    first = lake.commit("main", {"t": workspace.build("t", "SELECT 1 AS x").id}, expected=None)
    made = lake.branch("try", actor="ann", reason="an idea")
    assert (made.head, made.base, made.actor, made.reason) == (first.id, first.id, "ann", "an idea")
    lake.commit("try", {"t": workspace.build("t", "SELECT 2 AS x").id}, expected=first.id)
    assert lake.branch_of("try").base == first.id
    assert [one.name for one in lake.list_branches()] == ["main", "try"]


def test_a_deleted_branch_leaves_its_commits_and_main_cannot_go(workspace, lake):
    first = lake.commit("main", {"t": workspace.build("t", "SELECT 1 AS x").id}, expected=None)
    lake.branch("try")
    lake.delete_branch("try")
    assert list(lake.branches()) == ["main"]
    assert lake.names(f"@{first.id}") == lake.names()
    with pytest.raises(NotFound, match="no branch 'try'"):
        lake.delete_branch("try")
    with pytest.raises(Refused):
        lake.delete_branch("main")


def test_a_reverted_commit_gives_back_what_it_changed_and_nothing_else(workspace, lake):
    a, b, c = (workspace.build("t", f"SELECT {number} AS x").id for number in range(3))
    first = lake.commit("main", {"t": a, "u": a}, expected=None, models={"m": 1}, code={"t": "1"})
    second = lake.commit("main", {"t": b, "new": b}, expected=first.id, models={"m": 2}, code={"t": "2"})
    third = lake.commit("main", {"u": c}, expected=second.id)
    undone = lake.revert(second.id, actor="ann")
    assert undone.tables == {"t": a, "u": c}
    assert (undone.models, undone.code) == ({"m": 1}, {"t": "1"})
    assert second.id in undone.reason
    assert lake.revert(undone.id).tables == {"t": b, "u": c, "new": b}
    assert lake.commit_of(third.id).tables == {"t": b, "u": c, "new": b}


def test_what_was_changed_again_since_is_not_reverted(workspace, lake):
    a, b, c = (workspace.build("t", f"SELECT {number} AS x").id for number in range(3))
    first = lake.commit("main", {"t": a}, expected=None)
    second = lake.commit("main", {"t": b}, expected=first.id)
    third = lake.commit("main", {"t": c}, expected=second.id)
    with pytest.raises(Conflict, match="t changed again since"):
        lake.revert(second.id)
    assert lake.head() == third.id
    lake.branch("try")
    other = lake.commit("try", {"t": a}, expected=third.id)
    with pytest.raises(NotFound, match="no commit of main"):
        lake.revert(other.id)


def test_a_branch_as_of_an_instant_is_the_commit_that_it_stood_at(workspace, lake):
    made = []
    for number in range(4):
        workspace.clock.advance(timedelta(seconds=10))
        made.append(lake.commit("main", {"t": workspace.build("t", f"SELECT {number} AS x").id}, expected=lake.head()))
    for one in made:
        assert lake.at(one.created) == one.id
        assert lake.at(one.created + 9_999_999) == one.id
    lake.branch("try", f"@{made[1].id}")
    assert lake.at(made[3].created, "try") == made[1].id
    with pytest.raises(NotFound, match="its first commit was made at"):
        lake.at(made[0].created - 1)


def test_an_empty_main_has_no_commit_at_any_time(lake):
    assert lake.at(0) is None
    assert lake.branch("try").head is None


def test_a_commit_is_found_by_the_beginning_of_its_id(workspace, lake):
    first = lake.commit("main", {"t": workspace.build("t", "SELECT 1 AS x").id}, expected=None)
    assert lake.commit_of(first.id[:12]) == first
    with pytest.raises(NotFound):
        lake.commit_of(first.id[:3])
    with pytest.raises(NotFound):
        lake.commit_of("%%%%")
