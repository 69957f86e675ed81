"""Sealed segments: Parquet that keeps every item as sent, and enough of each frame to make its bytes again.

``N.events.parquet`` has a row per item, accepted or quarantined; ``N.frames.parquet`` a row per frame with its
chain head. From both, each frame's payload is rebuilt byte by byte, which is how ``verify`` proves them.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sampan.base.errors import Damaged
from sampan.log.frames import Frame, Notes, encode
from sampan.log.read import ESCAPE, Item, Mark
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
_BROKEN: Final = (
    pa.ArrowException,
    OSError,
    StopIteration,
    ValueError,
    IndexError,
    UnicodeDecodeError,
    msgspec.MsgspecError,
)


def _open(path: Path) -> Any:
    """A Parquet file whose pages are checked as they are read: a flipped bit may decompress into another value."""
    return pq.ParquetFile(path, page_checksum_verification=True)


def item(stream: Stream, manifest: Manifest, number: int) -> bytes:
    """The bytes of one item of a sealed segment."""
    group, index = divmod(number - manifest.first, ROWS)
    with _open(stream.path(manifest.number, "events.parquet")) as file:
        raw: bytes = file.read_row_group(group, columns=["raw"])["raw"][index].as_py()
    return raw


@contextmanager
def _reading(stream: Stream, manifest: Manifest) -> Iterator[None]:
    """Whatever is wrong with a segment's files becomes Damaged."""
    try:
        yield
    except _BROKEN as error:
        name = f"{manifest.number:08d}"
        raise Damaged(f"Read sealed segment {name} of {stream.name}", str(error), "Run `sampan log verify`.") from error


class _Heads:
    """What the frames of one segment say besides their items."""

    def __init__(self, path: Path) -> None:
        names = ["first", "received", "producer", "accepted", "held", "notes"]
        self._table = _table(path, names)
        firsts = self._table["first"].combine_chunks()  # not by to_numpy(), which imports pandas
        self._firsts = memoryview(firsts.buffers()[1]).cast("B").cast("q")[firsts.offset : firsts.offset + len(firsts)]
        self._notes: dict[int, Notes] = {}

    def of(self, number: int) -> int:
        """Which frame holds an item. A frame without items begins where the next one does, hence the last of them."""
        return bisect_right(self._firsts, number) - 1

    def rows(self, first: int, last: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """The frames that hold the items from ``first`` to ``last``."""
        at, end = max(self.of(first), 0), self.of(last) + 1
        for start in range(at, end, 10_000):
            yield from enumerate(self._table.slice(start, min(10_000, end - start)).to_pylist(), start)

    def item(self, frame: int, row: dict[str, Any], number: int, label: str | None, raw: bytes) -> Item:
        complaint = None
        if label is None:
            if frame not in self._notes:
                self._notes[frame] = _NOTES.decode(row["notes"] or "{}")
            complaint = self._notes[frame].complaints[number - row["first"] - row["accepted"]]
        return Item(number, row["received"], row["producer"], label, raw, complaint)

    def number_at(self, received: int, manifest: Manifest) -> int:
        count = pc.sum(pc.less_equal(self._table["received"], received)).as_py() or 0
        return int(self._firsts[count]) - 1 if count < len(self._firsts) else manifest.last

    def held(self) -> list[tuple[int, dict[str, Any]]]:
        """The frames that hold quarantined items."""
        where = pc.indices_nonzero(pc.greater(self._table["held"], 0))
        return list(zip(where.to_pylist(), self._table.take(where).to_pylist(), strict=True))


@lru_cache(maxsize=8)
def _heads(path: Path, digest: str) -> _Heads:
    return _Heads(path)


def _heads_of(stream: Stream, manifest: Manifest) -> _Heads:
    path = stream.path(manifest.number, "frames.parquet")
    return _heads(path, manifest.files.get(path.name, manifest.head))


def items(
    stream: Stream, manifest: Manifest, first: int, last: int, labels: frozenset[str] | None = None
) -> Iterator[Item]:
    """Items of a segment from number ``first`` to ``last``, with ``labels`` only accepted ones of these. Of its file
    only the row groups are read that hold them. Raises Damaged."""
    first, last = max(first, manifest.first), min(last, manifest.last)
    if first > last:
        return
    with _reading(stream, manifest):
        heads = _heads_of(stream, manifest)
        rows = heads.rows(first, last)
        frame, row = next(rows)
        with _open(stream.path(manifest.number, "events.parquet")) as file:
            for number, label, raw in _rows(file, first - manifest.first, last - manifest.first, labels):
                while manifest.first + number >= row["first"] + row["accepted"] + row["held"]:
                    frame, row = next(rows)
                yield heads.item(frame, row, manifest.first + number, label, raw)


def _rows(file: Any, first: int, last: int, labels: frozenset[str] | None) -> Iterator[tuple[int, str | None, bytes]]:
    """Row number, label and bytes of a stretch of a segment's rows."""
    groups = range(first // ROWS, last // ROWS + 1)
    at = groups.start * ROWS
    for batch in file.iter_batches(columns=["label", "raw"], batch_size=16_384, row_groups=list(groups)):
        begin, end = max(first - at, 0), min(last - at + 1, batch.num_rows)
        if begin < end:
            kinds, raws = (batch.column(name).slice(begin, end - begin) for name in ("label", "raw"))
            numbers: Sequence[int] = range(at + begin, at + end)
            if labels is not None:
                keep = pc.indices_nonzero(_is_one_of(kinds, labels))
                if len(keep) < len(kinds):
                    kinds, raws, numbers = kinds.take(keep), raws.take(keep), pc.add(keep, at + begin).to_pylist()
            yield from zip(numbers, kinds.to_pylist(), raws.to_pylist(), strict=True)
        at += batch.num_rows


def _is_one_of(kinds: Any, labels: frozenset[str]) -> Any:
    """Which rows have one of the labels. By their codes: a list made an Arrow array would import pandas."""
    found = pc.less(kinds.indices, 0)
    for code, label in enumerate(kinds.dictionary.to_pylist()):
        if label in labels:
            found = pc.or_(found, pc.equal(kinds.indices, code))
    return found


def some(stream: Stream, manifest: Manifest, numbers: Sequence[int]) -> Iterator[Item]:
    """The items of these numbers, which are in order. Raises Damaged."""
    with _reading(stream, manifest), _open(stream.path(manifest.number, "events.parquet")) as file:
        heads = _heads_of(stream, manifest)
        for group, mine in groupby(numbers, lambda number: (number - manifest.first) // ROWS):
            yield from _picked(heads, _group(file, group), manifest.first + group * ROWS, mine)


def _group(file: Any, group: int) -> Any:
    return file.read_row_group(group, columns=["label", "raw"], use_threads=False)


def _picked(heads: _Heads, table: Any, first: int, numbers: Iterable[int]) -> Iterator[Item]:
    """Items of one row group, whose first item is ``first``."""
    for number in numbers:
        label, raw = (table[name][number - first].as_py() for name in ("label", "raw"))
        frame, row = next(heads.rows(number, number))
        yield heads.item(frame, row, number, label, raw)


def held(stream: Stream, manifest: Manifest) -> Iterator[Item]:
    """The quarantined items of a segment without their bytes, of which nothing is read. Raises Damaged."""
    with _reading(stream, manifest):
        heads = _heads_of(stream, manifest)
        for frame, row in heads.held():
            begin = row["first"] + row["accepted"]
            for number in range(begin, begin + row["held"]):
                yield heads.item(frame, row, number, None, b"")


def counted(stream: Stream, manifest: Manifest, width: int) -> Iterator[tuple[int, str, str, str, int, int, int]]:
    """Counts of a segment: when it was received (rounded down to ``width`` microseconds), by whom, source and type,
    then accepted, duplicate, quarantined. Rows may come in parts. Raises Damaged."""
    with _reading(stream, manifest):
        names = ["received", "producer", "accepted", "held", "duplicate", "notes"]
        frames = _table(stream.path(manifest.number, "frames.parquet"), names)
        received = frames["received"].combine_chunks()
        begins = pc.multiply(pc.divide(received, width), width)
        producers = _texts(frames["producer"])
        with _open(stream.path(manifest.number, "events.parquet")) as file:
            for group in range(file.metadata.num_row_groups):
                rows = file.read_row_group(group, columns=["frame", "label", "source"], use_threads=False)
                rows = rows.filter(pc.is_valid(rows["label"]))
                at = rows["frame"].combine_chunks()
                columns = [begins.take(at), producers.take(at), _texts(rows["label"]), _texts(rows["source"])]
                table = pa.Table.from_arrays(columns, ["begin", "producer", "label", "source"])
                found = table.group_by(table.column_names, use_threads=False).aggregate([([], "count_all")])
                for row in found.to_pylist():
                    kind = row["label"].rpartition("@")[0]
                    yield row["begin"], row["producer"], row["source"] or "", kind, row["count_all"], 0, 0
        for at in pc.indices_nonzero(pc.greater(frames["duplicate"], 0)).to_pylist():
            yield begins[at].as_py(), producers[at].as_py(), "", "", 0, frames["duplicate"][at].as_py(), 0
        for at in pc.indices_nonzero(pc.greater(frames["held"], 0)).to_pylist():
            for one in _NOTES.decode(frames["notes"][at].as_py() or "{}").complaints:
                yield begins[at].as_py(), producers[at].as_py(), one.source or "", one.type or "", 0, 0, 1


def _texts(column: Any) -> Any:
    """A column of repeating texts, each written out."""
    whole = column.combine_chunks()
    return whole.dictionary.take(whole.indices) if pa.types.is_dictionary(whole.type) else whole


def number_at(stream: Stream, manifest: Manifest, received: int) -> int:
    """The last item of a segment that was received by an instant; before its first, if none was. Raises Damaged."""
    with _reading(stream, manifest):
        return _heads_of(stream, manifest).number_at(received, manifest)


def containing(stream: Stream, manifest: Manifest, text: bytes, last: int, marks: bool = False) -> Iterator[Item]:
    """Items up to number ``last`` in whose bytes ``text`` stands, or may stand behind an escape; the newest first."""
    with _reading(stream, manifest), _open(stream.path(manifest.number, "events.parquet")) as file:
        for group in reversed(range(file.metadata.num_row_groups)):
            first = manifest.first + group * ROWS
            if first > last:
                continue
            table = _group(file, group)
            found: set[int] = set()
            at = 0
            for chunk in table["raw"].chunks:
                found.update(at + row for needle in (text, ESCAPE) for row in _rows_with(chunk, needle))
                at += len(chunk)
            numbers = sorted((first + row for row in found if first + row <= last), reverse=True)
            if numbers:
                yield from _picked(_heads_of(stream, manifest), table, first, numbers)
            if marks:
                _, row = next(_heads_of(stream, manifest).rows(first, first))
                yield Mark(first, row["received"], row["producer"], None, b"")


def _rows_with(column: Any, needle: bytes) -> Iterator[int]:
    """The rows of a binary column in which a text stands: searched as one stretch of bytes."""
    _, ends, data = column.buffers()
    if data is None or not needle:
        yield from range(len(column) if not needle else 0)
        return
    places = memoryview(ends).cast("B").cast("i")[column.offset : column.offset + len(column) + 1]
    blob = data.to_pybytes()
    if needle[:1] not in blob:  # far quicker than a search for two letters, where there is no escape at all
        return
    at = blob.find(needle, places[0], places[-1])
    while at >= 0:
        row = bisect_right(places, at) - 1
        if at + len(needle) <= places[row + 1]:
            yield row
            at = blob.find(needle, places[row + 1], places[-1])
        else:
            at = blob.find(needle, at + 1, places[-1])


def _table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A small Parquet file. Not by ``pq.read_table``, which imports pandas: most of a second."""
    with _open(path) as file:
        return file.read(columns=columns, use_threads=False)


def frames(stream: Stream, manifest: Manifest) -> Iterator[tuple[Frame, bytes]]:
    """Each frame of a sealed segment, rebuilt, with the chain head that was recorded after it. Raises Damaged."""
    try:
        heads = _table(stream.path(manifest.number, "frames.parquet")).to_pylist()
        with _open(stream.path(manifest.number, "events.parquet")) as file:
            items = _items(file)
            for row in heads:
                yield _rebuild(row, items), row["head"]
    except _BROKEN as error:
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
    table = _table(stream.path(manifest.number, "frames.parquet"), ["first", "accepted", "held", "head"])
    found = manifest.previous
    for row in table.to_pylist():
        items = row["accepted"] + row["held"]
        if items and row["first"] + items - 1 <= last:
            found = row["head"].hex()
    return found


def numbers_of(stream: Stream, manifest: Manifest, id: str) -> list[int]:
    """Numbers of the accepted items of an id. Raises Damaged."""
    found: list[int] = []
    with _reading(stream, manifest), _open(stream.path(manifest.number, "events.parquet")) as file:
        for group in range(file.metadata.num_row_groups):
            ids = file.read_row_group(group, columns=["id"], use_threads=False)["id"]
            hits = pc.indices_nonzero(pc.equal(ids, id)).to_pylist()
            if hits:
                labels = file.read_row_group(group, columns=["label"], use_threads=False)["label"]
                found += [manifest.first + group * ROWS + at for at in hits if labels[at].as_py() is not None]
    return found
