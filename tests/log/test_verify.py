"""R8: a truncated last segment is recovered to the record before; any changed bit of a segment is named."""

import json
import random
import shutil
from pathlib import Path

import pytest

from sampan.base.errors import Damaged
from tests.log.conftest import Shop, line


@pytest.fixture
def sealed(shop: Shop) -> Shop:
    writer = shop.writer()
    for part in range(3):
        events = [line(f"e{part}-{number}", quantity=number) for number in range(200)]
        events.append(line(f"bad{part}", quantity="x"))
        writer.append(writer.checker.read(json.dumps(events).encode()), "test")
    writer.seal()
    writer.append(writer.checker.read(json.dumps([line("tail"), line("tail2")]).encode()), "test")
    writer.close()
    return shop


def test_a_sound_log_has_no_faults(sealed: Shop) -> None:
    assert sealed.log().verify() == []


@pytest.mark.slow
@pytest.mark.parametrize("bits", [40, pytest.param(400, marks=pytest.mark.night)])
def test_flipping_any_bit_of_a_segment_is_reported_with_segment_and_byte(sealed: Shop, bits: int) -> None:
    chance = random.Random(8)
    files = [path for path in sorted(sealed.stream.iterdir()) if path.name.startswith("0")]
    assert {path.suffix for path in files} == {".parquet", ".json", ".sums", ".log"}
    for _ in range(bits):
        path = chance.choice(files)
        sound = path.read_bytes()
        at = chance.randrange(len(sound))
        changed = bytearray(sound)
        changed[at] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        faults = sealed.log().verify()
        assert [fault.segment for fault in faults] == [path.name], f"byte {at} of {path.name}"
        if path.suffix == ".parquet":
            assert faults[0].offset == at
        path.write_bytes(sound)
    assert sealed.log().verify() == []


def test_a_missing_file_or_segment_is_named(sealed: Shop) -> None:
    path = sealed.stream / "00000001.events.parquet"
    path.rename(path.with_suffix(".gone"))
    assert [(fault.segment, fault.what) for fault in sealed.log().verify()] == [(path.name, "the file is gone")]
    for name in ("json", "frames.parquet", "sums"):
        (sealed.stream / f"00000001.{name}").unlink()
    assert "missing" in sealed.log().verify()[0].what


@pytest.mark.slow
@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.night)])
def test_truncating_the_last_segment_anywhere_recovers_to_the_record_before(make_shop, every: int) -> None:  # type: ignore[no-untyped-def]
    shop = make_shop()
    shop.send(line("a"), line("b"))
    segment = shop.stream / "00000001.log"
    before = segment.stat().st_size
    shop.send(line("c"))
    sound = segment.read_bytes()
    for size in (*range(before, len(sound), every), len(sound) - 1):
        segment.write_bytes(sound[:size])
        (shop.stream / "durable").unlink()  # what was promised is unknown, as after a power cut
        verdicts = shop.send(line("a"), line("b"))
        assert [verdict.verdict for verdict in verdicts] == ["duplicate"] * 2, f"cut at {size}"
        log = shop.log()
        assert [event.id for event in log.events()] == ["a", "b"]
        assert log.verify() == []
        shutil.rmtree(shop.root / ".sampan" / "cache", ignore_errors=True)


def test_a_start_refuses_to_cut_off_what_was_synced(shop: Shop) -> None:
    shop.send(line("a"), line("b"))
    segment = shop.stream / "00000001.log"
    changed = bytearray(segment.read_bytes())
    changed[-3] ^= 1
    segment.write_bytes(changed)
    with pytest.raises(Damaged, match="synced"):
        shop.writer()
    assert segment.read_bytes() == bytes(changed)
    assert [fault.offset for fault in shop.log().verify()] == [len(changed) - 3]


def test_a_rewritten_history_breaks_the_chain(sealed: Shop, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other")
    writer = other.writer()
    events = [line(f"e{number}") for number in range(603)]
    writer.append(writer.checker.read(json.dumps(events).encode()), "test")
    writer.seal()
    writer.close()
    other.close()
    for path in other.stream.glob("00000001.*"):
        shutil.copy(path, sealed.stream / path.name)  # whole and sound in itself
    assert "does not continue the chain" in sealed.log().verify()[0].what
