"""Building a table bit by bit: only the partitions that new events, late ones included, may have changed.

A table that declares ``Partitioning`` is kept in files of one partition each, with the sums of their rows, so that the
digest of the whole is known without reading what has not changed. What is built here must be, to the row, what the
whole query gives; that is tried out on some partitions whenever the table is built whole, and on any by ``proven``.
Runs in worker processes.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from sampan.base.words import some
from sampan.lake.cut import EVENT_TIME, Builder, summed
from sampan.lake.draft import TableDraft, TableFile
from sampan.lake.partition import Base, Feed, Increment, Partitioning, Touched
from sampan.lake.query import Source, open_sources, quote_name
from sampan.lake.write import disk_full

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def touched(
    increment: Increment,
    sources: Mapping[str, Source],
    *,
    threads: int = 0,
    pending: Mapping[str, Sequence[str]] | None = None,
) -> list[Touched]:
    """The partitions that what changed since the base may change, in their order; none without a base. ``pending``:
    partitions of inputs that have not been built again yet."""
    how, base = increment.how, increment.base
    if base is None:
        return []
    found: dict[str, dict[str, int | None]] = {}
    for name in increment.events:
        source = msgspec.structs.replace(sources[name], after=base.position)
        for first, last, count in _times(name, source, how, threads):
            for label in how.touched(first, last):
                because = found.setdefault(label, {})
                because[name] = (because.get(name) or 0) + count
    for name, feed in increment.feeds.items():
        for label in sorted(_changed(feed).union((pending or {}).get(name, ()))):
            stretch = feed.how.stretch(label)
            for mine in how.touched(stretch.start, stretch.end - timedelta(microseconds=1)):
                found.setdefault(mine, {})[name] = None
    there = {file.partition for file in base.draft.files}
    return [Touched(label, found[label], label in there) for label in sorted(found)]


def build(
    sql: str,
    sources: dict[str, Source],
    out_dir: Path,
    increment: Increment,
    *,
    threads: int = 0,
    memory: int = 0,
    name: str = "query",
) -> tuple[TableDraft, str]:
    """A table's files and, in words, how much of it was built. Raises as ``write_query``; BadQuery too for rows
    without a time and for a declaration that does not hold."""
    builder = Builder(sql, sources, out_dir, increment, threads=threads, memory=memory, name=name)
    with disk_full(f"Build {name}"):
        base = increment.base
        fresh = {one.label for one in touched(increment, sources, threads=threads)}
        files: list[TableFile] = []
        flags: tuple[str, ...] = ()
        if base is not None and not too_many(base, fresh):
            files, flags = builder.stretches(increment.how.stretches(fresh)) if fresh else ([], ())
        if base is None or too_many(base, fresh) or builder.fields not in ((), base.draft.fields):
            draft = builder.whole()
            builder.try_out(draft)
            return draft, f"all {_counted(draft)}"
        kept = [file for file in base.draft.files if file.partition not in fresh and file.partition]
        draft = builder.draft([*kept, *files], tuple(dict.fromkeys((*base.draft.flags, *flags))))
        shown = some(sorted(fresh), 3)
        return draft, f"{len(fresh)} of {_counted(draft)}{f': {shown}' if fresh else ''}"


def too_many(base: Base, fresh: set[str]) -> bool:
    """Whether so many of the partitions that there are have changed that all of the table is built: more than half."""
    there = {file.partition for file in base.draft.files}
    return len(fresh & there) * 2 > len(there)


def _times(name: str, source: Source, how: Partitioning, threads: int) -> list[tuple[datetime, datetime, int]]:
    """First and last time and number of a source's events in each partition that they lie in."""
    connection = open_sources({name: source}, threads=threads)
    try:
        time = quote_name(EVENT_TIME)
        rows = connection.execute(
            f"SELECT epoch_us(min({time})), epoch_us(max({time})), count(*) FROM {quote_name(name)}"
            f" GROUP BY date_trunc('{how.by}', {time})"
        ).fetchall()
    finally:
        connection.close()
    return [(_at(first), _at(last), count) for first, last, count in rows]


def _at(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def _changed(feed: Feed) -> set[str]:
    """The partitions of an input that are not as they were."""
    labels = {file.partition for file in (*feed.files, *feed.before) if file.partition}
    return {label for label in labels if summed(feed.files, label) != summed(feed.before, label)}


def _counted(draft: TableDraft) -> str:
    count = len({file.partition for file in draft.files if file.partition})
    return f"{count} partition{'' if count == 1 else 's'}"
