"""Quarantine: nothing is lost in it, and a rule brings events back exactly once."""

import json
from pathlib import Path

import pytest

from sampan.base.errors import BadWorkspace
from sampan.log.quarantine import Proposal, Quarantine
from sampan.log.sealed import frames
from tests.log.conftest import Shop, line

RULE = """
def fix(event, reason):
    if "quantity" in reason:
        event["data"]["quantity"] = int(event["data"]["quantity"].removeprefix("about "))
        return event
"""


@pytest.fixture
def rule(tmp_path: Path) -> Path:
    path = tmp_path / "fix.py"
    path.write_text(RULE)
    return path


def test_a_rule_repairs_what_it_is_about_and_again_changes_nothing(shop: Shop, rule: Path) -> None:
    shop.send(line("good"), line("a", quantity="about 6"), line("b", quantity="about 7"), {"odd": 1})
    quarantine = Quarantine(shop.log())
    proposals = quarantine.propose(rule)
    assert [(json.loads(one.after)["data"]["quantity"] if one.after else None) for one in proposals] == [6, 7, None]
    assert shop.log().stats()["accepted"] == 1  # a dry run changes nothing
    writer = shop.writer()
    first = quarantine.fix(rule, writer, author="ann")
    again = quarantine.fix(rule, writer, author="ann")
    assert (first.accepted, first.left, again.accepted, again.duplicate) == (2, 1, 0, 0)
    assert [event.id for event in shop.log().events()] == ["good", "a", "b"]
    assert [event.raw for event in quarantine.items()] == [b'{"odd": 1}']
    as_sent = json.dumps(line("a", quantity="about 6")).encode()
    assert quarantine.items(waiting=False)[0].raw == as_sent
    writer.seal()
    assert len(Quarantine(shop.log()).items()) == 1
    assert quarantine.fix(rule, writer, author="ann").accepted == 0
    stream = shop.log().readers()["intake"].stream
    sealed = [frame for manifest in stream.manifests() for frame, _ in frames(stream, manifest)]
    told = [(repair.of, repair.author) for frame in sealed for repair in frame.notes.repairs]
    assert told == [("intake:2", "ann"), ("intake:3", "ann")]


def test_a_repair_of_an_event_that_is_already_there_ends_its_waiting(shop: Shop, rule: Path) -> None:
    """Its frame has no item, the first time; the second, it is sealed before anybody looks."""
    log, writer = shop.log(), shop.writer()
    for id, seal in (("a", False), ("b", True)):
        events = [line(id), line(id, quantity="about 6")]
        writer.append(writer.checker.read(json.dumps(events).encode()), "test")
        assert [one.complaint.id for one in log.held.waiting()] == [id]
        done = Quarantine(shop.log()).fix(rule, writer, author="ann")
        assert (done.accepted, done.duplicate) == (0, 1)
        if seal:
            writer.seal()
        assert log.held.waiting() == []
    assert log.held.count() == (2, 2)


def test_a_repair_that_conflicts_or_still_breaks_the_contract_stays_where_it_is(shop: Shop, rule: Path) -> None:
    shop.send(line("a"), line("a", quantity="about 9"), line("b", quantity="about -999999"))
    writer = shop.writer()
    done = Quarantine(shop.log()).fix(rule, writer, author="ann")
    assert (done.accepted, done.wrong) == (0, 2)
    assert len(Quarantine(shop.log()).items()) == 2
    assert shop.log().stats()["quarantined"] == 2


def test_a_proposal_that_names_nothing_in_quarantine_or_brings_no_event_is_wrong(shop: Shop) -> None:
    shop.send(line("good"), line("a", quantity="about 6"), line("b", quantity="about 7"))
    fine = json.dumps(line("a", quantity=6))
    asked = [("intake:2", fine), ("intake:2", fine), ("intake:1", json.dumps(line("c")))]
    asked += [(place, fine) for place in ("", "intake:99", "none:1", "intake:", "\ud800")]
    asked += [("intake:3", after) for after in ("", "7", "{}", "[", json.dumps(line("b", quantity="x")), "\ud800")]
    writer = shop.writer()
    proposals = [Proposal(position=place, reason="", before="", after=after) for place, after in asked]
    done = Quarantine(shop.log()).apply(proposals, writer, rule="r", author="ann")
    assert (done.accepted, done.duplicate, done.wrong) == (1, 0, len(asked) - 2)
    assert [event.id for event in shop.log().events()] == ["good", "a"]
    assert [event.position for event in Quarantine(shop.log()).items()] == ["intake:3"]
    assert shop.log().stats()["quarantined"] == 2


def test_a_rule_that_fails_gets_its_line_named(shop: Shop, tmp_path: Path) -> None:
    shop.send({"odd": 1})
    path = tmp_path / "fix.py"
    for text, said in (
        ("def fix(event, reason):\n    return event['nothing']\n", "line 2"),
        ("def fix(event, reason)\n", "line 1"),
        ("x = 1\n", "no function `fix`"),
        ("def fix(event, reason):\n    return {'a': object()}\n", "not JSON"),
    ):
        path.write_text(text)
        with pytest.raises(BadWorkspace, match=said):
            Quarantine(shop.log()).propose(path)


def test_what_was_not_json_comes_to_the_rule_as_text(shop: Shop, tmp_path: Path) -> None:
    writer = shop.writer()
    writer.append(writer.checker.read(b"[" + json.dumps(line("a")).encode()[:-1] + b", oops}]"), "test")
    path = tmp_path / "fix.py"
    path.write_text("import json\ndef fix(event, reason):\n    return json.loads(event['raw'].replace(', oops', ''))\n")
    assert Quarantine(shop.log()).fix(path, writer, author="ann").accepted == 1
    assert [event.id for event in shop.log().events()] == ["a"]
