"""The bytes of segments: what goes in comes out, and a torn or changed frame ends the reading."""

import os
from array import array
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.log.frames import Complaint, Frame, Notes, encode, payloads
from sampan.log.segment import pack
from sampan.log.sums import BLOCK, block_sums, changed_bytes

RAWS = st.lists(st.binary(max_size=50), max_size=6)


@st.composite
def payload(draw: st.DrawFn) -> bytes:
    raws, held = draw(RAWS), draw(RAWS)
    labels = draw(
        st.lists(st.text(st.characters(codec="ascii", exclude_characters="\n"), min_size=1), min_size=1, max_size=3)
    )
    codes = array("H", [draw(st.integers(0, len(labels) - 1)) for _ in raws])
    notes = Notes(tuple(Complaint(draw(st.text()), id=draw(st.none() | st.text())) for _ in held))
    first, received = draw(st.integers(1, 2**40)), draw(st.integers(0, 2**50))
    made = encode(first, received, draw(st.text(max_size=20)), raws, labels, codes, held=held, notes=notes, duplicate=3)
    frame = Frame(made)
    assert frame.raws() == raws + held
    assert [frame.raw(index) for index in range(frame.items)] == raws + held
    assert [frame.label(index) for index in range(frame.accepted)] == [labels[code] for code in codes]
    assert (frame.first, frame.received, frame.notes, frame.duplicate) == (first, received, notes, 3)
    return made


@settings(max_examples=100, deadline=None)
@given(frames=st.lists(payload(), min_size=1, max_size=4), data=st.data())
def test_a_cut_or_changed_file_gives_its_sound_beginning(frames: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(pack(frame) + frame for frame in frames)
    cut = data.draw(st.integers(0, len(whole)))
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    ends = [sum(8 + len(frame) for frame in frames[:count]) for count in range(len(frames) + 1)]
    assert _read(whole) == frames
    assert _read(whole[:cut]) == frames[: sum(end <= cut for end in ends) - 1]
    assert _read(bytes(changed)) == frames[: sum(end <= at for end in ends) - 1]


def _read(data: bytes) -> list[bytes]:
    fd = os.memfd_create("segment") if hasattr(os, "memfd_create") else os.open("/tmp", os.O_TMPFILE | os.O_RDWR)
    try:
        os.write(fd, data)
        return [found for _, found in payloads(fd, 0)]
    finally:
        os.close(fd)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(min_size=1, max_size=3 * BLOCK), where=st.integers(0), change=st.integers(1, 255))
def test_one_changed_byte_is_named(tmp_path_factory, data: bytes, where: int, change: int) -> None:  # type: ignore[no-untyped-def]
    path: Path = tmp_path_factory.mktemp("sums") / "file"
    path.write_bytes(data)
    sums = block_sums(path)
    assert changed_bytes(path, sums) == []
    changed = bytearray(data)
    changed[where % len(data)] ^= change
    path.write_bytes(changed)
    assert changed_bytes(path, sums) == [(where % len(data), True)]
