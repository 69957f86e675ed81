"""Fanning out: the elements of a step's parts, and their results put together again. Runs in the worker.

Where ``each`` names a column, every table that has it is sorted by it once into a mapped file, and a part gets its
stretch of rows. A part's key holds the digest of that stretch only, so new rows for one value rerun one part.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.digests import digest_bytes, digest_value
from sampan.base.errors import BadStep
from sampan.base.files import unfinished
from sampan.flow.deliver import Desk, rows_as_arrow
from sampan.flow.job import Input, Job, Slice, Stored
from sampan.flow.values import decode, encode, store_table
from sampan.lake.query import ARROW, Source, TableSource

_PARTS_LIMIT: Final = 100_000


def source_of(given: Input, job: Job) -> "Source":
    """An input as something that SQL can read. A list of mappings is written as a table first."""
    if given.table is not None:
        return given.table
    if given.stored is None:
        from sampan.log.log import LogSource

        return msgspec.msgpack.decode(given.log, type=LogSource)
    desk = Desk(job.step, Path(job.data), [], job.threads, job.memory)
    if given.stored.kind != "value":
        raise BadStep(f"Hand {given.name} to {job.step}", f"it is a {given.stored.kind}, and SQL reads tables")
    table = rows_as_arrow(given.name, job.step, decode(desk.content(given)))
    stored = store_table(table, given.name, Path(job.data))
    assert stored.table is not None
    lake = Path(job.data) / "lake"
    files = tuple(str(lake / file.sha256[:2] / file.sha256[2:]) for file in stored.table.files)
    return TableSource(given.name, files, ARROW, stored.table.fields)


def split(job: Job) -> list[tuple[str, bytes, dict[str, Slice]]]:
    """The elements of a fan-out: label, encoded value, and each table's stretch of rows for it."""
    each = job.options["each"]
    desk = Desk(job.step, Path(job.data), [], job.threads, job.memory)
    source = next((given for given in job.inputs if given.name == each), None)
    if source is not None:
        return _elements(job, each, desk.arrow(source_of(source, job)))
    slices: dict[str, dict[str, Slice]] = {}
    values: dict[str, Any] = {}
    for given in job.inputs:
        table = desk.arrow(source_of(given, job))
        if each not in table.column_names:
            continue
        ordered = given.table is not None and given.table.format == ARROW
        for label, value, found in _stretches(job, given.name, table, each, ordered):
            values[label] = value
            slices.setdefault(label, {})[given.name] = found
    if not slices:
        raise BadStep(
            f"Fan out {job.step}",
            f"no table that it needs has a column {each!r}",
            "each= names a dependency that gives a list, or a column of the tables.",
        )
    labels = sorted(slices, key=lambda label: (str(type(values[label])), values[label]))
    _limit(job, len(labels))
    return [(label, encode(values[label], job.step)[0], slices[label]) for label in labels]


def _elements(job: Job, each: str, table: Any) -> list[tuple[str, bytes, dict[str, Slice]]]:
    if table.num_columns != 1:
        raise BadStep(
            f"Fan out {job.step}",
            f"{each!r} has {table.num_columns} columns",
            "A table to fan out over has exactly one column.",
        )
    values = table.column(0).to_pylist()
    _limit(job, len(values))
    return [(label, encode(value, job.step)[0], {}) for label, value in labelled(values)]


def _limit(job: Job, count: int) -> None:
    if count > _PARTS_LIMIT:
        raise BadStep(f"Fan out {job.step}", f"{count:,} parts", f"At most {_PARTS_LIMIT:,}: fan out over less.")


def labelled(values: list[Any]) -> list[tuple[str, Any]]:
    """A short, unique label for each element: its text where that is short, else its number."""
    found: dict[str, Any] = {}
    for number, value in enumerate(values):
        label = str(value) if not isinstance(value, list | dict | bytes) and len(str(value)) <= 60 else str(number)
        while not label or label in found:
            label = f"{label}#{number}"
        found[label] = value
    return list(found.items())


def _stretches(job: Job, name: str, table: Any, column: str, ordered: bool) -> list[tuple[str, Any, Slice]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    from sampan.lake.digest import digest_arrow

    table = table.filter(pc.is_valid(table[column]))
    indices = pc.sort_indices(table, sort_keys=[(column, "ascending")])  # stable: rows keep their order within a value
    table = table.take(indices).combine_chunks()
    folder = Path(job.data) / "cache" / "slices"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{digest_value([job.part, name, column])[:32]}.arrow"
    temporary = unfinished(path)
    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    temporary.replace(path)
    found = []
    counts = pc.value_counts(table[column]).to_pylist()  # in order of first appearance, which is sorted
    start = 0
    for (label, value), count in zip(labelled([one["values"] for one in counts]), counts, strict=True):
        length = count["counts"]
        rows = table.slice(start, length)
        digest = digest_arrow(rows)
        if ordered:  # a frame's own order counts, see values.store_table
            digest = digest_bytes(b"".join(batch.serialize() for batch in rows.to_batches()))[:32]
        found.append((label, value, Slice(str(path), start, length, digest)))
        start += length
    return found


def join(job: Job) -> Stored:
    """The tables of a step's parts, in the order of the parts, as one table."""
    import pyarrow as pa

    from sampan.lake.arrow import open_ipc

    tables = [open_ipc(Path(file)) for given in job.inputs if given.table for file in given.table.files]
    try:
        joined = pa.concat_tables(tables, promote_options="default")
    except pa.ArrowInvalid as error:
        raise BadStep(
            f"Join the parts of {job.step}", f"their columns do not fit together: {error}", "Return equal columns."
        ) from None
    return store_table(joined, job.step, Path(job.data))
