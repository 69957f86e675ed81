"""Counts of events by minute, producer, source and type: what rates are made of."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from sampan.log.frames import Complaint

MINUTE: Final = 60_000_000
Key = tuple[int, str, str, str]  # first microsecond of a minute or an hour, producer, source, type
Counts = dict[Key, list[int]]  # accepted, duplicate, quarantined


class Span(msgspec.Struct, frozen=True):
    """Where frames lie: in which segment, from which byte to which."""

    segment: int
    start: int
    end: int


def tally(
    counts: Counts,
    received: int,
    producer: str,
    labels: Sequence[str],
    codes: Sequence[int],
    sources: Sequence[str],
    complaints: Iterable[Complaint],
    duplicate: int,
) -> None:
    """Take up a frame: ``codes`` (into ``labels``, which are ``type@version``) and ``sources`` of its accepted events,
    one each; why others are quarantined; how many were duplicates."""
    minute = received - received % MINUTE
    if codes:
        first, source = codes[0], sources[0]
        if sources.count(source) == len(codes) == codes.count(first):  # as most are
            found = {(first, source): len(codes)}
        else:
            found = Counter(zip(codes, sources, strict=True))
        for (code, source), number in found.items():
            add(counts, (minute, producer, source, labels[code].rpartition("@")[0]), (number, 0, 0))
    for complaint in complaints:
        add(counts, (minute, producer, complaint.source or "", complaint.type or ""), (0, 0, 1))
    if duplicate:
        add(counts, (minute, producer, "", ""), (0, duplicate, 0))


def add(counts: Counts, key: Key, row: Iterable[int]) -> None:
    total = counts.setdefault(key, [0, 0, 0])
    for at, value in enumerate(row):
        total[at] += value
