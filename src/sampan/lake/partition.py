"""What a table declares to be built bit by bit: by which stretch of time, and how far its rows look beyond it.

One comment line in the table's file says so::

    -- incremental: by month of placed_at, looking back 30 days

It promises that a row whose ``placed_at`` lies in a month is made of events (and of rows of other incremental tables)
of that month, or of at most 30 days before it. ``sampan.lake.increment`` builds by it and tries it out.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from sampan.base.errors import BadQuery
from sampan.lake.draft import TableDraft, TableFile

UNITS: Final = ("hour", "day", "week", "month", "year")
_SPANS: Final = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}
_LINE: Final = re.compile(r"^\s*--\s*incremental\b(.*)$", re.IGNORECASE)
_SAID: Final = re.compile(
    r"""^\s*:\s*by\s+(?P<by>\w+)\s+of\s+(?P<column>"[^"]+"|\w+)
        (?:\s*,\s*looking\s+back\s+(?P<back>\d+)\s+(?P<back_unit>\w+?)s?)?
        (?:\s*,\s*looking\s+ahead\s+(?P<ahead>\d+)\s+(?P<ahead_unit>\w+?)s?)?\s*\.?\s*$""",
    re.IGNORECASE | re.VERBOSE,
)
_ADVICE: Final = (
    "Write it so: `-- incremental: by month of placed_at, looking back 30 days`"
    f" (by {', '.join(UNITS[:-1])} or {UNITS[-1]}; looking back and looking ahead may be left out)."
)
_FARTHEST: Final = timedelta(days=36_500)
_MOST: Final = 10_000


class Stretch(msgspec.Struct, frozen=True, order=True):
    """A stretch of time: from ``start`` up to and without ``end``."""

    start: datetime
    end: datetime


class Partitioning(msgspec.Struct, frozen=True):
    """By which stretch of which column of time (UTC) a table is cut; ``back`` and ``ahead`` in seconds."""

    by: str
    column: str
    back: int = 0
    ahead: int = 0

    def __str__(self) -> str:
        beyond = "".join(
            f", looking {word} {_span(seconds)}"
            for word, seconds in (("back", self.back), ("ahead", self.ahead))
            if seconds
        )
        return f"by {self.by} of {self.column}{beyond}"

    # -- partitions by their label, which is the beginning of the stretch: 2011-03-01, or 2011-03-01T14 for hours

    def label(self, time: datetime) -> str:
        """The partition that a time lies in."""
        return self._start(time).isoformat()[: 13 if self.by == "hour" else 10]

    def stretch(self, label: str) -> Stretch:
        """What a partition covers."""
        start = datetime.fromisoformat(label if "T" not in label else f"{label}:00").replace(tzinfo=UTC)
        return Stretch(start, self._following(start))

    def touched(self, first: datetime, last: datetime) -> list[str]:
        """The partitions whose rows may be made of something between two times, both included."""
        at, end = self._start(_moved(first, -self.ahead)), _moved(last, self.back)
        found = []
        while at <= end:
            found.append(self.label(at))
            following = self._following(at)
            if following <= at:  # the last stretch that there is
                break
            at = following
        return found

    def read(self, stretch: Stretch) -> Stretch:
        """What the rows of a stretch may be made of."""
        return Stretch(_moved(stretch.start, -self.back), _moved(stretch.end, self.ahead))

    def stretches(self, labels: set[str]) -> list[Stretch]:
        """Partitions as stretches, neighbours made one."""
        found: list[Stretch] = []
        for one in sorted(self.stretch(label) for label in labels):
            if found and found[-1].end == one.start:
                found[-1] = Stretch(found[-1].start, one.end)
            else:
                found.append(one)
        return found

    def label_of(self, column: str) -> str:
        """SQL for the label of a column's value."""
        form = "%Y-%m-%dT%H" if self.by == "hour" else "%Y-%m-%d"
        return f"strftime(date_trunc('{self.by}', {column}), '{form}')"

    def _start(self, time: datetime) -> datetime:
        time = time.astimezone(UTC)
        if self.by == "hour":
            return time.replace(minute=0, second=0, microsecond=0)
        day = time.replace(hour=0, minute=0, second=0, microsecond=0)
        if self.by == "week":
            return _moved(day, -day.weekday() * 86_400)
        if self.by == "day":
            return day
        return day.replace(day=1) if self.by == "month" else day.replace(month=1, day=1)

    def _following(self, start: datetime) -> datetime:
        if self.by in ("hour", "day", "week"):
            return _moved(start, int(_SPANS[self.by].total_seconds()))
        # the 1st of the stretch plus more than its length, cut down again
        return self._start(_moved(start, (32 if self.by == "month" else 367) * 86_400))


class Feed(msgspec.Struct, frozen=True, omit_defaults=True):
    """An input that is itself built bit by bit: how it is cut, its files now, and those that the last result read."""

    how: Partitioning
    files: tuple[TableFile, ...]
    before: tuple[TableFile, ...] = ()


class Base(msgspec.Struct, frozen=True):
    """The last result to go on from: the events that it had read, and its files."""

    position: str
    draft: TableDraft


class Increment(msgspec.Struct, frozen=True, omit_defaults=True):
    """How to build a table bit by bit. ``events``: the inputs that are events; without a ``base`` it is built whole."""

    how: Partitioning
    events: tuple[str, ...] = ()
    feeds: dict[str, Feed] = {}
    base: Base | None = None


class Touched(msgspec.Struct, frozen=True):
    """A partition that has to be built again, and because of what: input to the number of its new events, or None for
    a table whose rows there have changed. ``there``: it has been built before, so this is late."""

    label: str
    because: dict[str, int | None]
    there: bool


class Unequal(msgspec.Struct, frozen=True):
    """A partition that is not what the whole query gives: rows of each, and a few that only one has."""

    label: str
    rows: int
    rows_whole: int
    only_here: tuple[str, ...]
    only_whole: tuple[str, ...]


def declared(text: str, shown: str) -> Partitioning | None:
    """What a table's file says about how it is built; None if it is built whole. Raises BadQuery."""
    found: list[tuple[int, Partitioning]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if match := _LINE.match(line):
            if ":" not in match[1] and not match[1].lower().startswith(" by "):  # a remark that begins with the word
                continue
            found.append((number, _declaration(match[1], f"{shown}:{number}")))
    if len(found) > 1:
        raise BadQuery(f"Read {shown}:{found[1][0]}", "it is declared incremental a second time", "Leave one of them.")
    return found[0][1] if found else None


def _declaration(said: str, shown: str) -> Partitioning:
    match = _SAID.match(said)
    if match is None:
        raise BadQuery(f"Read {shown}", f"`incremental{said.rstrip()[:100]}` cannot be read", _ADVICE)
    by = match["by"].lower()
    if by not in UNITS:
        raise BadQuery(f"Read {shown}", f"{by!r} is no stretch of time", _ADVICE)
    back, ahead = (_seconds(match[word], match[f"{word}_unit"], shown) for word in ("back", "ahead"))
    if (back + ahead) // int(_SPANS.get(by, timedelta(days=28)).total_seconds()) > _MOST:
        raise BadQuery(f"Read {shown}", f"it looks over more than {_MOST:,} {by}s", "Cut by a longer stretch.")
    return Partitioning(by, match["column"].strip('"'), back, ahead)


def _seconds(count: str | None, unit: str | None, shown: str) -> int:
    if count is None or unit is None:
        return 0
    span = _SPANS.get(unit.lower())
    if span is None:
        raise BadQuery(f"Read {shown}", f"{unit!r} has no fixed length", "Count in minutes, hours, days or weeks.")
    if int(count) > _FARTHEST / span:
        raise BadQuery(f"Read {shown}", f"{count} {unit}s are more than a hundred years", "Leave the line out.")
    return int(span.total_seconds()) * int(count)


def _moved(time: datetime, seconds: int) -> datetime:
    """A time some seconds later, or the first or last that there is."""
    try:
        return time + timedelta(seconds=seconds)
    except OverflowError:
        return (datetime.max if seconds > 0 else datetime.min).replace(tzinfo=UTC)


def _span(seconds: int) -> str:
    for unit, span in reversed(_SPANS.items()):
        length = int(span.total_seconds())
        if unit != "week" and seconds % length == 0:
            count = seconds // length
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds} seconds"
