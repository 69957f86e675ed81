"""Turn one closed segment into Parquet, as ``python -m sampan.log.seal FOLDER NUMBER [--no-index] [--gently]``.

Everything that names the result (the manifest) is written last and as a whole.
"""

import os
import sys
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
from sampan.base.files import publish, write_durably
from sampan.log.frames import FORMAT, NO_NOTES, Frame, payloads, read_file_header
from sampan.log.identity import Keyer, content_seed, names
from sampan.log.index import Entries, add_run
from sampan.log.sealed import EVENTS, FRAMES, ROWS, frames
from sampan.log.states import States
from sampan.log.stream import Manifest, Stream, write_manifest
from sampan.log.sums import block_sums

_PARQUET: Final = {"compression": "zstd", "compression_level": 3, "write_page_checksum": True, "version": "2.6"}
_REPEATING: Final = [field.name for field in (*EVENTS, *FRAMES) if pa.types.is_dictionary(field.type)]


class _Columns:
    """The rows of both Parquet files while a segment is read, and what the manifest and the index need."""

    def __init__(self, folder: Path) -> None:
        self.frames: list[list[Any]] = [[] for _ in FRAMES]
        self.states = States()
        self.repaired: list[str] = []
        self._sizes: list[int] = []  # items of each frame
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

    def events(self, first: int) -> pa.Table:
        """A row per item, ``first`` being the number of the segment's first."""
        sizes = np.array(self._sizes, np.int64)
        numbers = np.arange(first, first + len(self._raws), dtype=np.int64)
        columns = [numbers, np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)]
        arrays = [
            pa.Array.from_buffers(field.type, len(numbers), [None, pa.py_buffer(column)])  # pa.array() imports pandas
            for column, field in zip(columns, EVENTS, strict=False)
        ]
        for values, field in zip((self._labels, self._ids, self._sources, self._raws), list(EVENTS)[2:], strict=True):
            arrays.append(pa.array(values, field.type))
        return pa.Table.from_arrays(arrays, schema=EVENTS)

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
        self._sizes.append(len(raws))
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
        columns = _Columns(folder)
        head, last = bytes.fromhex(header.head), header.first - 1
        anchor = bytes.fromhex(header.anchor)
        counts = [0, 0, 0, 0]
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
    finally:
        os.close(fd)
    files, sizes, sums = {}, {}, b""
    told = [pa.array(values, field.type) for values, field in zip(columns.frames, FRAMES, strict=True)]
    tables = {
        "events.parquet": columns.events(header.first),
        "frames.parquet": pa.Table.from_arrays(told, schema=FRAMES),
    }
    for kind, table in tables.items():
        final = stream.path(number, kind)
        temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
        pq.write_table(table, temporary, row_group_size=ROWS, use_dictionary=_REPEATING, **_PARQUET)
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


def reindex(folder: Path, number: int) -> None:
    """Make a sealed segment's index run again from its Parquet: the index is derived and may be deleted."""
    stream = Stream(folder)
    manifest = next(manifest for manifest in stream.manifests() if manifest.number == number)
    columns = _Columns(folder)
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
