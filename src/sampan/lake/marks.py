"""Four bytes for each row of a table's file, by which two states of a table are compared without reading either.

A row's mark is the upper half of what the digest makes of it (``lake/digest.py``). The marks of a file lie in the cache
under the file's SHA-256: the two sums of its rows (16 bytes), then the marks in the order of its rows, little-endian.
They are not synced and may go at any time: whoever compares checks what came out by the sums, and files without marks
are read once more. Small files have none; reading those costs nothing.
"""

import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sampan.base.files import make_folder, write_cache
from sampan.lake.arrow import open_ipc
from sampan.lake.digest import Keep, TableDigest, digest_parquet
from sampan.lake.query import PARQUET, TableSource

MarkArray: TypeAlias = npt.NDArray[np.uint32]
Flags: TypeAlias = npt.NDArray[np.bool_]
Places: TypeAlias = npt.NDArray[np.int64]

SMALL: Final = 1 << 17  # files of fewer rows keep no marks
_CHUNK: Final = 1 << 16  # rows whose intermediate columns stay in the second-level cache
_LEAST_BITS: Final = 10
_MOST_BITS: Final = 24
_SHARED_BITS: Final = 4  # about a dozen rows share a bucket; the buckets stay in the second-level cache
_ONE: Final = np.uint32(1)
_HEAD: Final = struct.Struct("<QQ")
_UPPER: Final = np.uint64(32)


class FileMarks(NamedTuple):
    """The marks of a file's rows, in their order, and what the rows add up to."""

    rows: MarkArray
    sums: tuple[int, int]


class MarkWriter:
    """A file of marks in the making. Threads that read a table's file hand over what they have read in any order."""

    def __init__(self, temporary: Path) -> None:
        self._path = temporary
        self._fd = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
        self._whole = True

    def write(self, start: int, states: npt.NDArray[np.uint64]) -> None:
        """Keep the marks of rows from number ``start`` on."""
        data = (states >> _UPPER).astype("<u4").tobytes()
        try:
            self._whole &= os.pwrite(self._fd, data, _HEAD.size + 4 * start) == len(data)
        except OSError:  # a full disk; the table itself may still fit
            self._whole = False

    def place(self, folder: Path, sha256: str, digest: TableDigest) -> None:
        """Give them their name beside those of other files, if they are worth it."""
        with suppress(OSError):
            if self._whole and digest.rows >= SMALL:
                os.pwrite(self._fd, _HEAD.pack(*digest.sums), 0)
                make_folder(folder)
                self._path.replace(folder / sha256)

    def close(self) -> None:
        """Leave nothing behind but what was placed."""
        os.close(self._fd)
        self._path.unlink(missing_ok=True)


def folder_of(lake: Path) -> Path:
    """Where the marks of a lake's files lie."""
    return lake.parent / "cache" / "marks"


def marks_of(source: TableSource, folder: Path | None, threads: int) -> list[FileMarks]:
    """The marks of each of a table's files, from the folder or by reading the file."""
    return [_marks(Path(file), source.format, folder, threads) for file in source.files]


def differing(a: Sequence[FileMarks], b: Sequence[FileMarks]) -> tuple[list[Places], list[Places]]:
    """The rows of each file of two sides whose mark does not occur equally often on both."""
    found = _suspects(a, b)
    near = [[_places(file.rows, found) for file in side] for side in (a, b)]
    marks = [
        np.concatenate([file.rows[rows] for file, rows in zip(side, places, strict=True)] or [np.empty(0, np.uint32)])
        for side, places in zip((a, b), near, strict=True)
    ]
    wanted = _uneven(*marks)
    one, other = (
        [rows[np.isin(file.rows[rows], wanted)] for file, rows in zip(side, places, strict=True)]
        for side, places in zip((a, b), near, strict=True)
    )
    return one, other


def _suspects(a: Sequence[FileMarks], b: Sequence[FileMarks]) -> Flags:
    """Rows of two sides are thrown into buckets by the lower bits of their marks: the buckets in which the marks of one
    side add up to something else than those of the other. So few rows are left to be looked at one by one."""
    rows = max(sum(len(file.rows) for file in side) for side in (a, b))
    buckets = 1 << min(_MOST_BITS, max(_LEAST_BITS, rows.bit_length() - _SHARED_BITS))
    sums = []
    for side in (a, b):
        sum_ = np.zeros(buckets, np.uint32)
        for file in side:
            for start in range(0, len(file.rows), _CHUNK):
                part = file.rows[start : start + _CHUNK]
                np.add.at(sum_, (part & np.uint32(buckets - 1)).astype(np.intp), part + _ONE)  # so that none is nought
        sums.append(sum_)
    found: Flags = sums[0] != sums[1]
    return found


def _places(marks: MarkArray, found: Flags) -> Places:
    """Which rows of a file lie in one of these buckets."""
    parts = []
    for start in range(0, len(marks), _CHUNK):
        part = marks[start : start + _CHUNK]
        parts.append(np.flatnonzero(found[(part & np.uint32(len(found) - 1)).astype(np.intp)]) + start)
    return np.concatenate(parts or [np.empty(0, np.int64)])


def _uneven(one: MarkArray, other: MarkArray) -> MarkArray:
    """The marks that do not occur equally often in both."""
    values, counts = np.unique(one, return_counts=True)
    others, their_counts = np.unique(other, return_counts=True)
    marks, which = np.unique(np.concatenate((values, others)), return_inverse=True)
    balance = np.bincount(which, np.concatenate((counts, -their_counts)), len(marks))
    found: MarkArray = marks[balance != 0]
    return found


def _marks(file: Path, format: str, folder: Path | None, threads: int) -> FileMarks:
    name = file.parent.name + file.name  # its SHA-256, see Blobs
    kept = _kept(folder / name) if folder else None
    if kept is not None:
        return kept
    if format == PARQUET:
        made = np.empty(pq.read_metadata(file).num_rows, np.uint32)
    else:
        table = open_ipc(file)
        made = np.empty(table.num_rows, np.uint32)

    def keep(start: int, states: npt.NDArray[np.uint64]) -> None:
        made[start : start + len(states)] = states >> _UPPER

    digest = digest_parquet([file], threads, keep) if format == PARQUET else _digest_frame(table, keep)
    if folder and len(made) >= SMALL:
        write_cache(folder / name, _HEAD.pack(*digest.sums) + made.astype("<u4").tobytes())
    return FileMarks(made, digest.sums)


def _digest_frame(table: pa.Table, keep: Keep) -> TableDigest:
    digest = TableDigest(table.schema)
    for batch in table.to_batches():
        digest.update(batch, keep, digest.rows)
    return digest


def _kept(path: Path) -> FileMarks | None:
    with suppress(OSError, struct.error, ValueError):
        data = np.fromfile(path, "<u4")
        sums = _HEAD.unpack(data[: _HEAD.size // 4].tobytes())
        if any(sums):
            return FileMarks(data[_HEAD.size // 4 :].astype(np.uint32, copy=False), sums)
    return None
