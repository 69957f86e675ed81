"""Sealed segments: Parquet that keeps every item as sent, and enough of each frame to make its bytes again.

``N.events.parquet`` has a row per item, accepted or quarantined; ``N.frames.parquet`` a row per frame with its
chain head. From both, each frame's payload is rebuilt byte by byte, which is how ``verify`` proves them.
"""

from array import array
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from sampan.base.errors import Damaged
from sampan.log.frames import Frame, Notes, encode
from sampan.log.stream import Manifest, Stream

EVENTS: Final = pa.schema(
    [
        ("number", pa.int64()),
        ("frame", pa.int32()),
        ("label", pa.dictionary(pa.int32(), pa.string())),  # type@version; null: quarantined
        ("id", pa.string()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("raw", pa.binary()),
    ]
)
FRAMES: Final = pa.schema(
    [
        ("frame", pa.int32()),
        ("first", pa.int64()),
        ("received", pa.int64()),
        ("producer", pa.dictionary(pa.int32(), pa.string())),
        ("labels", pa.dictionary(pa.int32(), pa.string())),
        ("accepted", pa.int32()),
        ("held", pa.int32()),
        ("duplicate", pa.int64()),
        ("refused", pa.int64()),
        ("notes", pa.string()),
        ("head", pa.binary(32)),
    ]
)
ROWS: Final = 65_536  # rows in a row group: one is read to show one event
_NOTES: Final = msgspec.json.Decoder(Notes)


def item(stream: Stream, manifest: Manifest, number: int) -> bytes:
    """The bytes of one item of a sealed segment."""
    group, index = divmod(number - manifest.first, ROWS)
    with pq.ParquetFile(stream.path(manifest.number, "events.parquet")) as file:
        raw: bytes = file.read_row_group(group, columns=["raw"])["raw"][index].as_py()
    return raw


def frames(stream: Stream, manifest: Manifest) -> Iterator[tuple[Frame, bytes]]:
    """Each frame of a sealed segment, rebuilt, with the chain head that was recorded after it. Raises Damaged."""
    try:
        heads = pq.read_table(stream.path(manifest.number, "frames.parquet"), schema=FRAMES).to_pylist()
        with pq.ParquetFile(stream.path(manifest.number, "events.parquet")) as file:
            items = _items(file)
            for row in heads:
                yield _rebuild(row, items), row["head"]
    except (pa.ArrowException, OSError, StopIteration, ValueError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        name = f"{manifest.number:08d}"
        raise Damaged(f"Read sealed segment {name} of {stream.name}", str(error), "Run `sampan log verify`.") from error


def _items(file: Any) -> Iterator[tuple[str | None, bytes]]:
    for batch in file.iter_batches(columns=["label", "raw"], batch_size=16_384):
        yield from zip(batch.column("label").to_pylist(), batch.column("raw").to_pylist(), strict=True)


def _rebuild(row: dict[str, Any], items: Iterator[tuple[str | None, bytes]]) -> Frame:
    labels = row["labels"].split("\n") if row["labels"] else []
    codes = array("H")
    raws, held = [], []
    for _ in range(row["accepted"]):
        label, raw = _next(items)
        codes.append(labels.index(label or ""))
        raws.append(raw)
    held = [_next(items)[1] for _ in range(row["held"])]
    notes = _NOTES.decode(row["notes"]) if row["notes"] else None
    return Frame(
        encode(
            row["first"],
            row["received"],
            row["producer"],
            raws,
            labels,
            codes,
            held=held,
            notes=notes,
            duplicate=row["duplicate"],
            refused=row["refused"],
        )
    )


def _next(items: Iterator[tuple[str | None, bytes]]) -> tuple[str | None, bytes]:
    got = next(items, None)
    if got is None:
        raise ValueError("it has fewer rows than its frames say")
    return got


def anchor(stream: Stream, manifest: Manifest, last: int) -> str:
    """Chain head after the frame that ends with item ``last`` (or the last one before it that has items)."""
    table = pq.read_table(stream.path(manifest.number, "frames.parquet"), columns=["first", "accepted", "held", "head"])
    found = manifest.previous
    for row in table.to_pylist():
        items = row["accepted"] + row["held"]
        if items and row["first"] + items - 1 <= last:
            found = row["head"].hex()
    return found


def numbers_of(stream: Stream, manifest: Manifest, id: str) -> list[int]:
    """Numbers of the accepted items of an id."""
    path = stream.path(manifest.number, "events.parquet")
    table = pq.read_table(path, columns=["number", "label"], filters=[("id", "==", id)])
    rows = zip(table["number"].to_pylist(), table["label"].to_pylist(), strict=True)
    return [number for number, label in rows if label is not None]
