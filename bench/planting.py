"""A deduplication index of many sealed ids, without the events they would belong to: what a log is like years later."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sampan.log.index import Entries, write_run

_SLICES = 64


def plant(workspace: Path, count: int) -> None:
    """Give the intake stream an index of ``count`` random keys, filed under a segment before its first."""
    folder = workspace / ".sampan" / "log" / "intake" / "index"
    write_run(folder, 0, 0, count // _SLICES * _SLICES, _entries(count // _SLICES))


def _entries(size: int) -> Iterator[Entries]:
    """Random entries in the order of their keys, a slice of the key space at a time."""
    chance = np.random.default_rng(50)
    width = (1 << 64) // _SLICES
    for place in range(_SLICES):
        high = chance.integers(0, width, size, np.uint64) + np.uint64(place * width)
        high.sort()
        low, content = (chance.integers(0, 1 << 63, size, np.uint64) for _ in range(2))
        yield high, low, content, np.arange(place * size, (place + 1) * size, dtype=np.uint64)
