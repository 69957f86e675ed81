"""Writing: numbering, duplicates, conflicts, restarts, sealing, and one writer at a time."""

import json

import pytest

from sampan.base.errors import Busy
from sampan.log.index import Index
from sampan.log.writer import StreamWriter
from tests.log.conftest import Shop, line


def test_a_resent_batch_is_stored_once_and_answered_with_the_first_positions(shop: Shop) -> None:
    events = [line(f"e{number}", quantity=number) for number in range(5)]
    first, again = shop.send(*events), shop.send(*events)
    assert [verdict.verdict for verdict in first] == ["accepted"] * 5
    assert [verdict.verdict for verdict in again] == ["duplicate"] * 5
    assert [verdict.position for verdict in again] == [verdict.position for verdict in first]


def test_the_same_key_with_other_content_is_a_conflict(shop: Shop) -> None:
    verdicts = shop.send(line("a"), line("a", quantity=7), line("a"))
    assert [verdict.verdict for verdict in verdicts] == ["accepted", "quarantined", "duplicate"]
    assert (verdicts[1].reason or "").startswith("conflict: ")


@pytest.mark.parametrize("sealed", [False, True])
def test_history_counts_across_restarts_and_seals(shop: Shop, sealed: bool) -> None:
    shop.send(line("a"), line("b"))
    if sealed:
        writer = shop.writer()
        writer.seal()
        writer.close()
    reordered = dict(reversed(line("a").items()))
    verdicts = shop.send(reordered, line("b", quantity=9), line("c"))
    assert [verdict.verdict for verdict in verdicts] == ["duplicate", "quarantined", "accepted"]
    assert verdicts[0].position == "intake:1"


@pytest.mark.parametrize("sealed", [False, True])
def test_ids_drawn_at_random_are_not_looked_for_and_are_known_from_then_on(
    shop: Shop, sealed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(writer: StreamWriter, *names: str, drawn: bool) -> list[str]:
        batch = writer.checker.batch([json.dumps(line(name)).encode() for name in names])
        batch.drawn = drawn
        return [one.verdict for one in writer.append(batch, "test").verdicts()]

    writer = shop.writer()
    assert send(writer, "a", "b", drawn=True) == ["accepted"] * 2
    assert send(writer, "c", "c", drawn=True) == ["accepted", "duplicate"]  # the same frame is looked at whole
    if sealed:
        writer.seal()
    looked: list[bytes] = []
    find = Index.find
    monkeypatch.setattr(Index, "find", lambda self, keys: looked.extend(keys) or find(self, keys))
    assert send(writer, "d", "e", drawn=True) == ["accepted"] * 2
    assert not looked
    assert send(writer, "b", "f", "e", drawn=False) == ["duplicate", "accepted", "duplicate"]
    assert looked and writer.counts.accepted == 6
    writer.close()


def test_a_quarantined_key_does_not_block_its_correction(shop: Shop) -> None:
    verdicts = shop.send(line("a", quantity="six"), line("a"))
    assert [verdict.verdict for verdict in verdicts] == ["quarantined", "accepted"]


def test_counts_positions_and_root_are_the_same_after_a_restart_and_a_seal(shop: Shop) -> None:
    shop.send(line("a"), line("a"), line("b", quantity="x"))
    before = shop.log().stats()
    writer = shop.writer()
    assert (writer.counts.accepted, writer.counts.duplicate, writer.counts.quarantined) == (1, 1, 1)
    writer.seal()
    writer.close()
    after = shop.log().stats()
    assert after == before | {"segments": 1}
    assert before["position"] == "intake:2"


@pytest.mark.slow
def test_an_earlier_root_can_be_computed_later(shop: Shop) -> None:
    roots = {}
    for number in range(6):
        shop.send(line(f"e{number}"))
        log = shop.log()
        roots[log.position()] = log.root()
        if number == 2:
            writer = shop.writer()
            writer.seal()
            writer.close()
        shop.send(line("e0"))  # a duplicate moves the chain, not the position
    assert len(set(roots.values())) == 6
    assert {position: shop.log().root(position) for position in roots} == roots


def test_a_lost_index_is_made_again_from_the_segments(shop: Shop) -> None:
    shop.send(line("a"))
    writer = shop.writer()
    writer.seal()
    writer.close()
    for path in (shop.stream / "index").glob("run-*"):
        path.unlink()
    assert [verdict.verdict for verdict in shop.send(line("a"), line("b"))] == ["duplicate", "accepted"]


def test_a_stream_has_one_writer(shop: Shop) -> None:
    shop.writer()
    with pytest.raises(Busy, match="process"):
        shop.log().writer()


def test_a_seal_keeps_every_byte_as_sent(shop: Shop) -> None:
    raws = [
        json.dumps(line(f"e{number}", **{"unknown \u00e9": [1.50, {"b": None}]}), indent=number).encode()
        for number in range(3)
    ]
    raws.append(b'{"nonsense": \xff}')
    writer = shop.writer()
    writer.append(writer.checker.batch(raws), "test")
    writer.seal()
    items = [item.raw for item in shop.log().readers()["intake"].items()]
    assert items == raws
    assert [event.raw for event in shop.log().events()] == raws[:3]


@pytest.mark.slow
def test_segments_are_sealed_by_size_and_readers_see_one_log(make_shop) -> None:  # type: ignore[no-untyped-def]
    shop = make_shop(segment_events=7)
    writer = shop.writer()
    for start in range(0, 40, 4):
        events = [line(f"e{number}") for number in range(start, start + 4)]
        writer.append(writer.checker.read(json.dumps(events).encode()), "test")
    log = shop.log()
    assert [event.id for event in log.events(limit=1000)] == [f"e{number}" for number in range(40)]
    writer.seal()
    assert [event.id for event in log.events(limit=1000)] == [f"e{number}" for number in range(40)]
    assert [event.id for event in log.events(limit=3, newest_first=True)] == ["e39", "e38", "e37"]
    page = log.events(limit=10, after="intake:10")
    assert [event.id for event in page] == [f"e{number}" for number in range(10, 20)]
    assert log.stats()["segments"] >= 5
    assert log.find("e23") is not None and log.find("e99") is None
    assert log.at("intake:5").id == "e4"
    assert log.verify() == []
