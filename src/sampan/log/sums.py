"""Checksums of a file's blocks, from which a changed byte can be named.

A CRC is linear: what a changed byte does to its block's CRC depends only on the change and on how far from the
block's end it lies. Running the CRC backwards from the difference therefore finds the byte (W. W. Peterson,
D. T. Brown, "Cyclic Codes for Error Detection", Proc. IRE 49, 1961).
"""

import zlib
from array import array
from pathlib import Path
from typing import Final

BLOCK: Final = 4096
_POLYNOMIAL: Final = 0xEDB88320


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_STEP: Final = _table()
_BACK: Final = {value >> 24: index for index, value in enumerate(_STEP)}
_SINGLE: Final = {value: change for change, value in enumerate(_STEP) if change}


def block_sums(path: Path) -> bytes:
    """CRC-32 of each block of a file, four bytes each, little-endian."""
    sums = array("I")
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            sums.append(zlib.crc32(block))
    return sums.tobytes()


def changed_bytes(path: Path, sums: bytes) -> list[tuple[int, bool]]:
    """Where a file differs from what was summed: offset, and whether it is the very byte (else the block's start)."""
    expected = array("I", sums)
    found: list[tuple[int, bool]] = []
    number = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            if number < len(expected) and (delta := zlib.crc32(block) ^ expected[number]):
                at = byte_at(delta, len(block))
                found.append((number * BLOCK + (at or 0), at is not None))
            number += 1
    return found


def byte_at(delta: int, length: int) -> int | None:
    """The offset in its block of the one changed byte that explains a difference of CRCs; None if more changed.

    ``delta`` is the exclusive or of the block's CRC-32 now and then.
    """
    for offset in range(length - 1, -1, -1):
        if delta in _SINGLE:
            return offset
        index = _BACK[delta >> 24]
        delta = ((delta ^ _STEP[index]) << 8 & 0xFFFFFFFF) | index
    return None
