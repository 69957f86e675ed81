"""Turn one closed segment into Parquet, as ``python -m sampan.log.seal FOLDER NUMBER [--no-index] [--gently]``.

Everything that names the result (the manifest) is written last and as a whole.
"""

import os
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from sampan.base.digests import digest_bytes, digest_file
from sampan.base.errors import Damaged, SampanError
from sampan.base.files import publish, write_durably
from sampan.log.check import key_of
from sampan.log.dedupe import NAMED, content_seed
from sampan.log.frames import FORMAT, NO_NOTES, Frame, payloads, read_file_header
from sampan.log.index import Entries, add_run
from sampan.log.sealed import EVENTS, FRAMES, ROWS, frames
from sampan.log.stream import Manifest, Stream, TypeState, content_digest, write_manifest
from sampan.log.sums import block_sums

_PARQUET: Final = {"compression": "zstd", "compression_level": 3, "write_page_checksum": True, "version": "2.6"}


class _Columns:
    """The rows of both Parquet files while a segment is read, and what the manifest and the index need."""

    def __init__(self, folder: Path) -> None:
        self.events: list[list[Any]] = [[] for _ in EVENTS]
        self.frames: list[list[Any]] = [[] for _ in FRAMES]
        self.keys: list[bytes] = []
        self.contents: list[int] = []
        self.numbers: list[int] = []
        self.states: dict[str, list[int]] = {}
        self.repaired: list[str] = []
        self._seed = content_seed(folder)

    def entries(self) -> Entries:
        """The accepted events as the index keeps them."""
        words = np.frombuffer(b"".join(self.keys), ">u8").astype(np.uint64).reshape(-1, 2)
        high, low = np.ascontiguousarray(words[:, 0]), np.ascontiguousarray(words[:, 1])
        return high, low, np.array(self.contents, np.uint64), np.array(self.numbers, np.uint64)

    def add(self, frame: Frame, head: bytes) -> None:
        at = len(self.frames[0])
        notes = msgspec.json.encode(frame.notes).decode() if frame.notes != NO_NOTES else None
        row = (
            at,
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
        numbers, places, labels, ids, sources, texts = self.events
        texts.extend(raws)
        numbers.extend(range(frame.first, frame.first + len(raws)))
        places.extend([at] * len(raws))
        for index, raw in enumerate(raws[: frame.accepted]):
            named = NAMED.decode(raw)
            label = frame.label(index)
            labels.append(label)
            ids.append(named.id)
            sources.append(named.source)
            self.keys.append(key_of(named.source, named.id))
            self.contents.append(xxhash.xxh3_64_intdigest(raw, self._seed))
            self.numbers.append(frame.first + index)
            state = self.states.setdefault(label, [0, 0])
            state[0] += 1
            state[1] += content_digest(raw)
        for complaint in frame.notes.complaints:
            labels.append(None)
            ids.append(complaint.id)
            sources.append(complaint.source)


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
    for kind, schema, rows in (("events.parquet", EVENTS, columns.events), ("frames.parquet", FRAMES, columns.frames)):
        final = stream.path(number, kind)
        temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
        arrays = [pa.array(values, field.type) for values, field in zip(rows, schema, strict=True)]
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), temporary, row_group_size=ROWS, **_PARQUET)
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
        types={label: TypeState.of(count, total) for label, (count, total) in columns.states.items()},
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
