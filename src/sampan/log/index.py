"""The keys of all sealed events, on disk: sorted runs, mapped into memory, searched many at a time.

A run holds for each event its key (128 bits), a digest of its content and its number, sorted by key. A directory
over the key's top bits leaves a handful of candidates per look-up. An entry takes 32 bytes of disk; looking up keys
that are new touches the directory and the keys' upper halves only, about 9 bytes an entry of page cache. Runs are
merged so that each is at least four times the next: 50 million events lie in two or three.
"""

import math
import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from sampan.base.errors import Damaged, NewerFormat
from sampan.base.files import publish, unfinished

FORMAT: Final = 1
_LEAD: Final = 4096
_RATIO: Final = 4
_BUCKET: Final = 6  # entries that share a directory slot, on average
_CHUNK: Final = 1 << 20
_FEW: Final = (
    40  # keys from which searching them together pays (measured: 1.4 µs each alone, 52 µs for any few together)
)
_KEY: Final = struct.Struct(">QQ")

U64 = NDArray[np.uint64]
Entries = tuple[U64, U64, U64, U64]  # high, low, content, number; in this order everywhere


class _Header(msgspec.Struct, frozen=True):
    format: int
    first: int  # segments that the run covers
    last: int
    count: int
    bits: int
    deepest: int  # most entries in one slot


class Run:
    """One sorted file of entries."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self.header = msgspec.json.decode(file.read(_LEAD).rstrip(b"\0"), type=_Header)
        except msgspec.MsgspecError as error:
            raise Damaged(f"Open index {path}", str(error), "Delete it: it is made again from the segments.") from error
        if self.header.format > FORMAT:
            raise NewerFormat(f"Open index {path}", f"it has format {self.header.format}", "Upgrade Sampan.")
        count, slots = self.header.count, (1 << self.header.bits) + 1
        expected = _LEAD + 8 * slots + 32 * count
        if path.stat().st_size != expected:
            raise Damaged(
                f"Open index {path}", f"it has not the {expected} bytes that it should", "Delete it; it is made again."
            )
        self._map = np.memmap(path, np.uint64, "r")
        words = np.asarray(self._map)
        at = _LEAD // 8
        self.directory: U64 = words[at : at + slots]
        at += slots
        self.columns: list[U64] = [words[at + index * count : at + (index + 1) * count] for index in range(4)]
        self._views = [memoryview(self.directory), *(memoryview(column) for column in self.columns)]  # type: ignore[arg-type]
        self._steps = max(1, math.ceil(math.log2(self.header.deepest + 1))) if count else 0

    def find(self, high: U64, low: U64) -> Iterator[tuple[int, int, int]]:
        """Index of each sought key that is there, with its number and content digest."""
        if not self.header.count:
            return
        keys = self.columns[0]
        slot = high >> np.uint64(64 - self.header.bits) if self.header.bits else np.zeros(len(high), np.uint64)
        left = self.directory[slot].astype(np.int64)
        right = self.directory[slot + np.uint64(1)].astype(np.int64)
        end = right
        last = len(keys) - 1
        for _ in range(self._steps):
            middle = (left + right) >> 1
            less = keys[np.minimum(middle, last)] < high
            searching = left < right
            left = np.where(searching & less, middle + 1, left)
            right = np.where(searching & ~less, middle, right)
        hits = np.flatnonzero((left < end) & (keys[np.minimum(left, last)] == high))
        for index in hits.tolist():
            at = int(left[index])
            while at <= last and keys[at] == high[index]:
                if self.columns[1][at] == low[index]:
                    yield index, int(self.columns[3][at]), int(self.columns[2][at])
                    break
                at += 1

    def find_one(self, key: bytes) -> tuple[int, int] | None:
        """Number and content digest of one key. For a few keys quicker than ``find``."""
        directory, highs, lows, contents, numbers = self._views
        high, low = _KEY.unpack(key)
        slot = high >> (64 - self.header.bits)
        at, end = directory[slot], directory[slot + 1]
        at = bisect_left(highs, high, at, end)
        while at < end and highs[at] == high:
            if lows[at] == low:
                return numbers[at], contents[at]
            at += 1
        return None

    def chunks(self) -> Iterator[Entries]:
        for start in range(0, self.header.count, _CHUNK):
            high, low, content, number = (column[start : start + _CHUNK] for column in self.columns)
            yield high, low, content, number

    def close(self) -> None:
        self._views = []
        self.directory = np.empty(0, np.uint64)
        self.columns = []
        del self._map


class Index:
    """All runs of a stream."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: list[Run] = []
        for path in _current(folder):
            self.runs.append(Run(path))

    def find(self, keys: list[bytes]) -> dict[bytes, tuple[int, int]]:
        """Number and content digest of each key that is sealed."""
        found: dict[bytes, tuple[int, int]] = {}
        if not self.runs or not keys:
            return found
        if len(keys) < _FEW:
            for run in self.runs:
                for key in keys:
                    if (entry := run.find_one(key)) is not None:
                        found[key] = entry
            return found
        words = np.frombuffer(b"".join(keys), ">u8").astype(np.uint64).reshape(-1, 2)
        high, low = np.ascontiguousarray(words[:, 0]), np.ascontiguousarray(words[:, 1])
        for run in self.runs:
            for index, number, content in run.find(high, low):
                found[keys[index]] = (number, content)
        return found

    def covers(self, segment: int) -> bool:
        return any(run.header.first <= segment <= run.header.last for run in self.runs)

    @property
    def count(self) -> int:
        return sum(run.header.count for run in self.runs)

    def close(self) -> None:
        for run in self.runs:
            run.close()
        self.runs = []


def _current(folder: Path) -> list[Path]:
    """Runs that no other covers, oldest first."""
    spans = []
    if folder.is_dir():
        for path in folder.glob("run-*-*.idx"):
            _, first, last = path.stem.split("-")
            spans.append((int(first), -int(last), path))
    found: list[Path] = []
    covered = -1
    for _, minus_last, path in sorted(spans):
        if -minus_last > covered:
            found.append(path)
            covered = -minus_last
    return found


def tidy(folder: Path) -> None:
    """Remove what a kill left behind: unfinished files, and runs that a merged one covers."""
    current = set(_current(folder))
    for path in (*folder.glob(".*.tmp"), *folder.glob("run-*-*.idx")):
        if path not in current:
            path.unlink(missing_ok=True)


def run_path(folder: Path, first: int, last: int) -> Path:
    return folder / f"run-{first:08d}-{last:08d}.idx"


def write_run(folder: Path, first: int, last: int, count: int, chunks: Iterable[Entries]) -> Path:
    """Write a run from chunks that are sorted by key, each following the one before; durable when it returns."""
    folder.mkdir(parents=True, exist_ok=True)
    bits = max(0, min(28, math.ceil(math.log2(count / _BUCKET)))) if count > _BUCKET else 0
    slots = (1 << bits) + 1
    path = run_path(folder, first, last)
    temporary = unfinished(path)
    with temporary.open("wb") as file:
        file.truncate(_LEAD + 8 * slots + 32 * count)
    words: Any = np.memmap(temporary, np.uint64, "r+")
    at = _LEAD // 8 + slots
    sizes = np.zeros(1 << bits, np.int64)
    start = 0
    for entries in chunks:
        size = len(entries[0])
        for section, column in enumerate(entries):
            begin = at + section * count + start
            words[begin : begin + size] = column
        if bits:
            slot = (entries[0] >> np.uint64(64 - bits)).astype(np.int64)
            if size:
                low = int(slot[0])
                counted = np.bincount(slot - low)
                sizes[low : low + len(counted)] += counted
        else:
            sizes[0] += size
        start += size
    assert start == count, f"{start} entries came, {count} were announced"
    words[_LEAD // 8] = 0
    words[_LEAD // 8 + 1 : at] = np.cumsum(sizes)
    words.flush()
    del words
    header = _Header(FORMAT, first, last, count, bits, int(sizes.max(initial=0)))
    with temporary.open("r+b") as file:
        file.write(msgspec.json.encode(header).ljust(_LEAD, b"\0"))
    publish(temporary, path)
    return path


def sort_entries(entries: Entries) -> Entries:
    """Entries in the order of their keys."""
    order = np.lexsort((entries[1], entries[0]))
    high, low, content, number = (column[order] for column in entries)
    return high, low, content, number


def add_run(folder: Path, segment: int, entries: Entries) -> None:
    """Index one sealed segment, then merge runs until each is at least four times the next."""
    write_run(folder, segment, segment, len(entries[0]), iter([sort_entries(entries)]))
    while True:
        paths = _current(folder)
        if len(paths) < 2:
            break
        older, newer = Run(paths[-2]), Run(paths[-1])
        try:
            if older.header.count > _RATIO * newer.header.count:
                break
            count = older.header.count + newer.header.count
            write_run(folder, older.header.first, newer.header.last, count, _merged(older, newer))
        finally:
            older.close()
            newer.close()
        for path in (paths[-2], paths[-1]):
            path.unlink()


def _merged(one: Run, other: Run) -> Iterator[Entries]:
    """Both runs as one sorted sequence, a stretch of keys at a time."""
    parts = max(1, (one.header.count + other.header.count) // _CHUNK)
    fences = [(part * (1 << 64)) // parts for part in range(1, parts)]
    starts = [0, 0]
    for fence in [*fences, None]:
        pieces = []
        for which, run in enumerate((one, other)):
            count = run.header.count
            end = count if fence is None else int(np.searchsorted(run.columns[0], np.uint64(fence)))
            pieces.append([column[starts[which] : end] for column in run.columns])
            starts[which] = end
        high, low, content, number = (np.concatenate(pair) for pair in zip(*pieces, strict=True))
        yield sort_entries((high, low, content, number))
