"""Reading a few items is reading the same items that a walk through everything finds."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sampan.log import starts
from sampan.log.log import Log
from sampan.log.position import Position
from sampan.log.quarantine import Quarantine
from sampan.log.read import Item, StreamReader
from sampan.log.sealed import ROWS, frames
from sampan.log.seek import Wanted, seek
from tests.log.conftest import Shop, line
from tests.slow import mostly_slow

MANY = ROWS + 3_000  # so that the first sealed segment has two row groups


def event(n: int) -> bytes:
    """Mostly plain lines; some are wrong, some name their subject in the envelope, some write it with an escape."""
    data = {"invoice": str(n), "quantity": 1, "customer": f"c{n % 997}"}
    made = line(str(n), **data)
    if n % 500 == 7:
        made["data"]["quantity"] = "many"
    if n % 900 == 11:
        made["subject"] = "ann"
    raw = json.dumps(made).encode()
    return raw.replace(b'"c5"', b'"\\u00635"') if n % 2 else raw


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    """Two sealed segments and an unsealed one, in frames of one to 2,000 items."""
    shop = Shop(tmp_path_factory.mktemp("many"))
    writer = shop.writer()
    for start, stop, step in ((0, MANY, 2_000), (MANY, MANY + 40, 1), (MANY + 40, MANY + 900, 50)):
        if start:
            writer.seal()
        for first in range(start, stop, step):
            shop.clock.advance(timedelta(seconds=1))
            writer.append(writer.checker.batch([event(n) for n in range(first, min(first + step, stop))]), "test")
    yield shop.log()
    shop.close()


def test_the_log_of_these_tests_has_every_kind_of_place(log: Log) -> None:
    stream = log.readers()["intake"].stream
    assert len(stream.manifests()) == 2
    assert stream.unsealed() == [3]


@pytest.fixture(scope="module")
def reader(log: Log) -> StreamReader:
    return log.readers()["intake"]


@pytest.fixture(scope="module")
def everything(reader: StreamReader) -> list[Item]:
    """All items by the way that ``verify`` goes: frame by frame, rebuilt byte by byte."""
    found = []
    stream = reader.stream
    sealed = [frame for manifest in stream.manifests() for frame, _ in frames(stream, manifest)]
    for frame in [*sealed, *stream.frames(3)]:
        for at, raw in enumerate(frame.raws()):
            label = frame.label(at) if at < frame.accepted else None
            complaint = None if label else frame.notes.complaints[at - frame.accepted]
            found.append(Item(frame.first + at, frame.received, frame.producer, label, raw, complaint))
    assert len(found) == MANY + 900
    return found


def test_any_stretch_is_the_same_stretch_of_the_whole(reader: StreamReader, everything: list[Item]) -> None:
    chance = random.Random(5)
    edges = [1, 2, ROWS, ROWS + 1, MANY, MANY + 1, MANY + 40, MANY + 41, len(everything)]
    edges += chance.sample(range(1, len(everything)), 15)
    for first in edges:
        for last in (first, first + 70, first + 2_500):
            assert list(reader.items(first, last)) == everything[first - 1 : last], (first, last)
    assert list(reader.items()) == everything


def test_the_newest_are_the_last_backwards(reader: StreamReader, everything: list[Item]) -> None:
    assert list(reader.newest()) == everything[::-1]
    assert next(reader.newest(MANY - 5)) == everything[MANY - 6]
    wanted = frozenset({"order_line@2"})
    assert list(reader.newest(labels=wanted)) == [item for item in everything[::-1] if item.label in wanted]


def test_going_backwards_from_beyond_the_end_begins_at_the_end(
    log: Log, reader: StreamReader, everything: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    stretches = []
    whole = StreamReader.items

    def watched(self: StreamReader, first: int = 1, last: int | None = None, **given: Any) -> Iterator[Item]:
        stretches.append((first, last))
        assert len(stretches) < 50, "it walks down through numbers that no item has"
        return whole(self, first, last, **given)

    monkeypatch.setattr(StreamReader, "items", watched)
    beyond = f"intake:{10**18 - 1}"
    for found in (seek(log, Wanted(), after=beyond, limit=3).events, log.events(after=beyond, newest_first=True)[:3]):
        assert [event.raw for event in found] == [item.raw for item in everything[::-1] if item.label][:3]
    assert next(reader.containing(event(MANY + 899).decode(), 10**18)).number == MANY + 900


def test_a_few_are_read_where_they_lie(reader: StreamReader, everything: list[Item]) -> None:
    numbers = sorted(random.Random(6).sample(range(1, len(everything) + 1), 60))
    assert list(reader.some(numbers)) == [everything[number - 1] for number in numbers]


def test_quarantine_is_found_without_reading_what_is_not_in_it(log: Log, everything: list[Item]) -> None:
    held = [item for item in everything if item.label is None]
    assert len(held) > 100
    listed = Quarantine(log).items(limit=None)
    assert [(one.position, one.raw, one.path) for one in listed] == [
        (f"intake:{item.number}", item.raw, item.complaint.path if item.complaint else "") for item in held
    ]
    newest = Quarantine(log).items(limit=30, newest_first=True)
    assert [one.position for one in newest] == [f"intake:{item.number}" for item in held[:-31:-1]]
    assert [one.raw for one in Quarantine(log).these([newest[0].position, newest[29].position])] == [
        newest[29].raw,
        newest[0].raw,
    ]
    brief = Quarantine(log).items(limit=None, whole=False)
    assert [(one.position, one.reason) for one in brief] == [(one.position, one.reason) for one in listed]


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["c5", "c996", "ann", "c", "nobody"])
def test_events_about_somebody_are_found_by_envelope_or_field_whatever_their_spelling(
    log: Log, everything: list[Item], subject: str
) -> None:
    def about(item: Item) -> str:
        event = json.loads(item.raw)
        return str(event.get("subject") or event["data"]["customer"])

    told = [item.number for item in everything[::-1] if item.label and about(item) == subject]
    found = log.events(subject=subject, newest_first=True, limit=10_000)
    assert [int(one.position.partition(":")[2]) for one in found] == told
    assert bool(told) == (subject not in ("c", "nobody"))


def test_an_event_is_found_by_its_id_wherever_it_lies(log: Log, everything: list[Item]) -> None:
    for number in (1, ROWS + 5, MANY + 3, MANY + 700):
        item = everything[number - 1]
        found = log.find(json.loads(item.raw)["id"])
        assert found is not None
        assert found.raw == item.raw
    assert log.find("7") is None, "it is in quarantine"


def test_a_frame_that_replaced_a_torn_one_is_read_as_it_is_now(shop: Shop) -> None:
    shop.send(*(line(str(n)) for n in range(5)))
    shop.send(line("torn", invoice="x" * 200))
    log = shop.log()
    assert [event.id for event in log.events(newest_first=True, limit=1)] == ["torn"]
    (shop.stream / "durable").unlink()  # the frame had not been synced when the power went
    path = shop.stream / "00000001.log"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    shop.send(*(line(f"later {n}") for n in range(3)))
    newest = [event.id for event in log.events(newest_first=True, limit=4)]
    assert newest == ["later 2", "later 1", "later 0", "4"]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log whose second segment lies there twice: as it is written, and (in ``sealed``) as it is sealed."""
    shop = Shop(tmp_path_factory.mktemp("three"))
    writer = shop.writer()
    for start in (0, 20):
        for first in range(start, start + 20, 5):
            shop.clock.advance(timedelta(seconds=1))
            events = [line(str(n), customer=f"c{n % 2}") for n in range(first, first + 5)]
            events += [{**line("7"), "source": f"s{first}"}]
            writer.append(writer.checker.read(json.dumps(events).encode()), "test")
        written = shop.stream / f"{start // 20 + 1:08d}.log"
        shutil.copy(written, kept := shop.root / written.name)
        writer.seal()
    writer.append(writer.checker.read(json.dumps([line("last")]).encode()), "test")
    shop.close()
    (shop.root / "sealed").mkdir()
    for path in shop.stream.glob("00000002.*"):
        path.rename(shop.root / "sealed" / path.name)
    kept.rename(shop.stream / kept.name)
    return shop.root


READS: dict[str, Callable[[StreamReader, Log], object]] = {
    "items": lambda reader, log: [item.number for item in reader.items()],
    "newest": lambda reader, log: [item.number for item in reader.newest()],
    "containing": lambda reader, log: [item.number for item in reader.containing("c1")],
    "with_id": lambda reader, log: [item.number for item in reader.with_id("7")],
    "number_at": lambda reader, log: reader.number_at(next(reader.items(40, 40)).received),
    "number_of_the_last": lambda reader, log: reader.number_at(1 << 60),
    "anchor": lambda reader, log: [reader.anchor(number) for number in (24, 30, 48, 49)],
    "last": lambda reader, log: reader.last(),
    "labels": lambda reader, log: log.labels(),
    "state": lambda reader, log: [log.state("order_line", Position({"intake": n})) for n in (10, 30, 48, 49)],
    "has": lambda reader, log: reader.has(frozenset({"order_line@2"})),
}


@pytest.mark.parametrize("read", mostly_slow(READS, "items"))
@pytest.mark.parametrize("listing", ["unsealed", "manifests"])
def test_a_segment_that_is_sealed_between_two_steps_of_a_reading_does_not_vanish(
    three: Path, make_shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch, read: str, listing: str
) -> None:
    """Sealed right after the first, second … time that the reading lists the segments."""
    monkeypatch.setattr("sampan.log.read._SEARCHED", 7)
    for at in range(6):
        shop = make_shop(str(at))
        shutil.copytree(three, shop.root, dirs_exist_ok=True)
        reader = (log := shop.log()).readers()["intake"]
        expected = READS[read](reader, log)
        shutil.rmtree(shop.root / ".sampan" / "cache", ignore_errors=True)
        reader = (log := shop.log()).readers()["intake"]
        monkeypatch.setattr(reader.stream, listing, _sealing(shop, getattr(reader.stream, listing), at))
        assert READS[read](reader, log) == expected, at


def _sealing(shop: Shop, listing: Callable[[], Any], at: int) -> Callable[[], Any]:
    calls = iter(range(1_000))

    def listed() -> Any:
        found = listing()
        if next(calls) == at:
            for path in sorted((shop.root / "sealed").iterdir(), key=lambda path: path.suffix == ".json"):
                path.rename(shop.stream / path.name)
            (shop.stream / "00000002.log").unlink()
        return found

    return listed


def test_where_frames_begin_is_learnt_once_by_all_readers_of_a_process(shop: Shop) -> None:
    for id in ("a", "b", "c"):
        shop.send(line(id))
    numbers = [[item.number for item in shop.log().readers()["intake"].items(at, at)] for at in (3, 2)]
    assert numbers == [[3], [2]]
    _, known = starts._known[str(shop.stream), 1]
    shop.send(line("d"))
    assert [item.number for item in shop.log().readers()["intake"].items(4, 4)] == [4]
    assert starts._known[str(shop.stream), 1][1] is known
    starts.mistaken(str(shop.stream), 1)
    assert [item.number for item in shop.log().readers()["intake"].items(4, 4)] == [4]
