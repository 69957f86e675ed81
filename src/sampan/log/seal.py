"""Turn one closed segment into Parquet, as ``python -m sampan.log.seal FOLDER NUMBER [--no-index] [--gently]``.

Everything that names the result (the manifest) is written last and as a whole.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from sampan.base.arrow import forego_pandas
from sampan.base.digests import digest_bytes, digest_file
from sampan.base.errors import Damaged, SampanError
from sampan.base.files import publish, unfinished, write_durably
from sampan.log.frames import FORMAT, NO_NOTES, Frame, payloads, read_file_header
from sampan.log.identity import Keyer, content_seed, names
from sampan.log.index import Entries, add_run
from sampan.log.sealed import EVENTS, FRAMES, ROWS, frames
from sampan.log.states import States
from sampan.log.stream import Manifest, Stream, write_manifest
from sampan.log.sums import block_sums

_PARQUET: Final = {"compression": "zstd", "compression_level": 3, "write_page_checksum": True, "version": "2.6"}
_LARGEST: Final = (1 << 31) - 1  # bytes of one array
_REPEATING: Final = [field.name for field in (*EVENTS, *FRAMES) if pa.types.is_dictionary(field.type)]


class _Columns:
    """The rows of both Parquet files while a segment is read, and what the manifest and the index need."""

    def __init__(self, folder: Path, first: int, write: Callable[[pa.Table], object] | None = None) -> None:
        """``first``: the number of the segment's first item. ``write`` takes the events, as many at a time as lie
        together in their file: all of a segment would take several times its size."""
        self.frames: list[list[Any]] = [[] for _ in FRAMES]
        self.states = States()
        self.repaired: list[str] = []
        self._next, self._write, self._written = first, write, False
        self._of: list[int] = []  # which frame each item that waits is of; its label, id, source, bytes
        self._labels: list[str | None] = []
        self._ids: list[str | None] = []
        self._sources: list[str | None] = []
        self._raws: list[bytes] = []
        self._keys: list[bytes] = []
        self._contents: list[int] = []
        self._accepted: list[range] = []  # numbers of the accepted items of each frame
        self._keyer = Keyer()
        self._digest = partial(xxhash.xxh3_64_intdigest, seed=content_seed(folder))

    def entries(self) -> Entries:
        """The accepted events as the index keeps them."""
        words = np.frombuffer(b"".join(self._keys), ">u8").astype(np.uint64).reshape(-1, 2)
        high, low = np.ascontiguousarray(words[:, 0]), np.ascontiguousarray(words[:, 1])
        numbers = np.fromiter(chain.from_iterable(self._accepted), np.uint64, len(self._keys))
        return high, low, np.array(self._contents, np.uint64), numbers

    def finish(self) -> None:
        """Write what waits; if there is nothing at all, that."""
        if self._raws or not self._written:
            self._flush()

    def _flush(self) -> None:
        count = min(len(self._raws), ROWS)
        numbers = np.arange(self._next, self._next + count, dtype=np.int64)
        columns = [numbers, np.array(self._of[:count], np.int32)]
        arrays = [
            pa.Array.from_buffers(field.type, count, [None, pa.py_buffer(column)])  # pa.array() imports pandas
            for column, field in zip(columns, EVENTS, strict=False)
        ]
        for values, field in zip((self._labels, self._ids, self._sources), list(EVENTS)[2:], strict=False):
            arrays.append(pa.array(values[:count], field.type))
        arrays.append(_joined(self._raws[:count]))
        for waiting in (self._of, self._labels, self._ids, self._sources, self._raws):
            del waiting[:count]
        self._next += count
        self._written = True
        if self._write is not None:
            self._write(pa.Table.from_arrays(arrays, schema=EVENTS))

    def add(self, frame: Frame, head: bytes) -> None:
        notes = msgspec.json.encode(frame.notes).decode() if frame.notes != NO_NOTES else None
        row = (
            len(self.frames[0]),
            frame.first,
            frame.received,
            frame.producer,
            "\n".join(frame.labels),
            frame.accepted,
            frame.held,
            frame.duplicate,
            frame.refused,
            notes,
            head,
        )
        for column, value in zip(self.frames, row, strict=True):
            column.append(value)
        self.repaired.extend(repair.of for repair in frame.notes.repairs)
        raws = frame.raws()
        accepted = raws[: frame.accepted]
        named = names(accepted)
        self.states.add(frame, raws)
        self._of += [len(self.frames[0]) - 1] * len(raws)
        self._raws += raws
        self._labels += map(frame.labels.__getitem__, frame.codes)
        self._ids += [event.id for event in named]
        self._sources += [event.source for event in named]
        self._keys += self._keyer.keys(named)
        self._contents += map(self._digest, accepted)
        self._accepted.append(range(frame.first, frame.first + frame.accepted))
        for complaint in frame.notes.complaints:
            self._labels.append(None)
            self._ids.append(complaint.id)
            self._sources.append(complaint.source)
        while len(self._raws) >= ROWS:
            self._flush()


def _joined(raws: list[bytes]) -> pa.Array:
    """An array of texts of bytes. ``pa.array`` makes it, too, and takes twice its size meanwhile."""
    ends = np.zeros(len(raws) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, raws), np.int64, len(raws)), out=ends[1:])
    if ends[-1] > _LARGEST:
        return pa.array(raws, pa.binary())
    buffers = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(raws))]
    return pa.Array.from_buffers(pa.binary(), len(raws), buffers)


def seal(folder: Path, number: int, *, index: bool = True) -> None:
    """Write a segment's Parquet files, its index run and, last, its manifest. Raises Damaged for a bad segment."""
    stream = Stream(folder)
    path = stream.log_path(number)
    fd = os.open(path, os.O_RDONLY)
    try:
        found = read_file_header(fd, path)
        if found is None:
            raise Damaged(f"Seal {path}", "it ends inside its header")
        header, start = found
        end = start
        head, last = bytes.fromhex(header.head), header.first - 1
        anchor = bytes.fromhex(header.anchor)
        counts = [0, 0, 0, 0]
        events, told = (unfinished(stream.path(number, kind)) for kind in ("events.parquet", "frames.parquet"))
        with _writer(events, EVENTS) as writer:
            columns = _Columns(folder, header.first, writer.write_table)
            for offset, payload in payloads(fd, start):
                frame = Frame(payload)
                head = sha256(head + payload).digest()
                columns.add(frame, head)
                if frame.items:
                    last, anchor = frame.last, head
                for at, value in enumerate((frame.accepted, frame.duplicate, frame.held, frame.refused)):
                    counts[at] += value
                end = offset + 8 + len(payload)
            if end != os.fstat(fd).st_size:
                raise Damaged(f"Seal {path}", f"the frame at byte {end} is damaged", "Run `sampan log verify`.")
            columns.finish()
    finally:
        os.close(fd)
    with _writer(told, FRAMES) as writer:
        arrays = [pa.array(values, field.type) for values, field in zip(columns.frames, FRAMES, strict=True)]
        writer.write_table(pa.Table.from_arrays(arrays, schema=FRAMES), ROWS)
    files, sizes, sums = {}, {}, b""
    for temporary, kind in ((events, "events.parquet"), (told, "frames.parquet")):
        final = stream.path(number, kind)
        files[final.name], sizes[final.name] = digest_file(temporary), temporary.stat().st_size
        sums += block_sums(temporary)
        publish(temporary, final)
    final = stream.path(number, "sums")
    write_durably(final, sums)
    files[final.name], sizes[final.name] = digest_bytes(sums), len(sums)
    if index:
        add_run(folder / "index", number, columns.entries())
    manifest = Manifest(
        format=FORMAT,
        stream=stream.name,
        number=number,
        first=header.first,
        last=last,
        previous=header.head,
        head=head.hex(),
        anchor=anchor.hex(),
        created=header.created,
        files=files,
        sizes=sizes,
        types=columns.states.of(),
        accepted=counts[0],
        duplicate=counts[1],
        quarantined=counts[2],
        refused=counts[3],
        repaired=tuple(columns.repaired),
    )
    write_manifest(stream.path(number, "json"), manifest)


@contextmanager
def _writer(temporary: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Writes a Parquet file; it is gone again where that fails."""
    try:
        with pq.ParquetWriter(temporary, schema, use_dictionary=_REPEATING, **_PARQUET) as writer:
            yield writer
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def reindex(folder: Path, number: int) -> None:
    """Make a sealed segment's index run again from its Parquet: the index is derived and may be deleted."""
    stream = Stream(folder)
    manifest = next(manifest for manifest in stream.manifests() if manifest.number == number)
    columns = _Columns(folder, manifest.first)
    for frame, head in frames(stream, manifest):
        columns.add(frame, head)
    add_run(folder / "index", number, columns.entries())


def main() -> int:
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    forego_pandas()
    try:
        if "--gently" in sys.argv:
            os.nice(19)
        seal(folder, number, index="--no-index" not in sys.argv)
    except SampanError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
