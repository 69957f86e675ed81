"""Outcomes by id whose prediction nobody has made: how many lately, and who sends them."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sampan.log.outcomes import UNKNOWN_SQL
from sampan.watch.straying import Strays

if TYPE_CHECKING:
    from sampan.lake.query import Source
    from sampan.log.log import Log

_HOUR: Final = 3_600_000_000
_LATE: Final = _HOUR  # microseconds that a prediction may come later than its outcome
_WINDOW: Final = 24 * _HOUR
_AGAIN: Final = 300.0  # seconds between two looks, as each asks for the ids of all predictions
_REST: Final = 50.0  # or so many times what the last look took


class Straying:
    """Looks for them every few minutes."""

    def __init__(self, log: "Callable[[], Log]") -> None:
        self._log = log
        self._due = 0.0
        self._found: Strays | None = None

    def look(self, now: int) -> Strays | None:
        """Of the outcomes that came within a day, but for the last hour; None where there are none."""
        if time.monotonic() < self._due:
            return self._found
        began = time.monotonic()
        self._found = look(self._log(), now)
        self._due = time.monotonic() + max(_AGAIN, _REST * (time.monotonic() - began))
        return self._found


def look(log: "Log", now: int) -> Strays | None:
    """As ``Straying.look``, at once."""
    position = log.position()
    if not log.state("outcome", position).count:
        return None
    from sampan.lake.query import open_sources  # not before there are outcomes: it takes memory of the hub

    sources: dict[str, Source] = {name: log.source(name, position) for name in ("prediction", "outcome")}
    connection = open_sources(sources, threads=1)
    lately = f"epoch_us(_received) BETWEEN {now - _LATE - _WINDOW} AND {now - _LATE}"
    try:
        ((of,),) = connection.execute(
            f"SELECT count(*) FILTER (prediction_id IS NOT NULL) FROM outcome WHERE {lately}"
        ).fetchall()
        if not of:
            return None
        rows = connection.execute(
            "SELECT _source, count(*), max_by(prediction_id, (_received, _position)),"
            f" max_by(_id, (_received, _position)) FROM ({UNKNOWN_SQL}) AS unknown"
            f" WHERE {lately} GROUP BY 1 ORDER BY 2 DESC, 1"
        ).fetchall()
    finally:
        connection.close()
    count = sum(row[1] for row in rows)
    source, _, named, example = rows[0] if rows else ("", 0, "", "")
    return Strays(count, of, str(source or ""), str(named), str(example))
