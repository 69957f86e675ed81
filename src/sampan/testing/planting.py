"""Histories that nobody sent: so that a test or a benchmark can stand at the end of a long one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sampan.log.index import Entries, write_run


def plant_sealed_ids(folder: Path, count: int, *, seed: int = 1) -> None:
    """Put ``count`` keys into the index of a stream that has none yet (``.sampan/log/intake``), as if that many
    events had been sealed. About 10 million a second; 32 bytes of disk each.
    """
    write_run(folder / "index", 0, 0, count, _keys(count, seed))


def _keys(count: int, seed: int) -> Iterator[Entries]:
    """Random keys in order: each part of the key space gets its share and is sorted by itself."""
    random = np.random.default_rng(seed)
    parts = max(1, count // 1_000_000)
    width = (1 << 64) // parts
    done = 0
    for part in range(parts):
        size = count // parts + (1 if part < count % parts else 0)
        high = random.integers(0, width, size, dtype=np.uint64) + np.uint64(part * width)
        high.sort()
        low, content = random.integers(0, 1 << 63, (2, size), dtype=np.uint64)
        yield high, low, content, np.arange(done + 1, done + size + 1, dtype=np.uint64)
        done += size
