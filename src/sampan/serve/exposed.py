"""What endpoints have put at risk by the day, and what their caps held back, asked of the log.

The sums were made by the processes that answered (``sampan.serve.exposure``); here they are only read.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from sampan.base.clock import iso
from sampan.lake.query import open_sources, quote_text

if TYPE_CHECKING:
    from sampan.log.log import Log
    from sampan.serve.bundle import DecisionFacts

_DAY: Final = 86_400_000_000
_REST: Final = 5.0  # times what a look took, it rests before the next


class Held(msgspec.Struct, frozen=True):
    """What the cap of an endpoint held back today: how many decisions, the newest of them, the total that stands."""

    endpoint: str
    count: int
    newest: str
    total: float
    cap: float
    currency: str
    over: str


class Day(msgspec.Struct, frozen=True):
    """One day of an endpoint: what was put at risk, and how many decisions the cap held back; the cap that its newest
    decision was held against, and how many that one would hold back, too: ``holding``."""

    day: str
    total: float
    held: int
    newest: str = ""
    cap: float | None = None
    holding: int = 0


def days(log: "Log", endpoint: str, since: int, by: int | None = None) -> list[Day]:
    """An endpoint's days from an instant on, the newest first; ``by``: as known at an instant."""
    position = log.position()
    if not log.state("prediction", position).count:
        return []
    connection = open_sources({"prediction": log.source("prediction", position, by)}, threads=1)
    try:
        rows = connection.execute(
            "WITH told AS (SELECT exposure->>'day' AS day, CAST(exposure->>'total' AS DOUBLE) AS total,"
            " (exposure->>'held') <> '' AS held, CAST(exposure->>'cap' AS DOUBLE) AS cap, _id, _received"
            f" FROM prediction WHERE exposure IS NOT NULL AND endpoint = {quote_text(endpoint)}"
            f" AND epoch_us(_received) >= {since} AND starts_with(_position, 'serve-')),"
            " newest AS (SELECT day, max_by(cap, _received) AS last FROM told GROUP BY day)"
            " SELECT day, max(total), count(*) FILTER (held), coalesce(max_by(_id, _received) FILTER (held), ''),"
            " any_value(last), count(*) FILTER (held AND cap >= last)"
            " FROM told JOIN newest USING (day) GROUP BY day ORDER BY day DESC"
        ).fetchall()
    finally:
        connection.close()
    return [Day(*row) for row in rows]


class Capped:
    """Knows what caps hold back today without asking again and again: only where the log has grown, and it rests."""

    def __init__(self, log: Callable[[], "Log"], rules: Callable[[], Mapping[str, Sequence["DecisionFacts"]]]) -> None:
        """``rules``: by endpoint, those with a cap of the bundles that answer."""
        self._log, self._rules = log, rules
        self._seen = ""
        self._next = 0.0
        self._turn = threading.Lock()
        self._held: list[Held] = []

    def look(self, now: int) -> list[Held]:
        """Endpoints whose cap held something back on the day of an instant."""
        with self._turn:
            capped = self._rules()
            began = time.monotonic()
            if not capped:
                self._held = []
            elif began >= self._next:
                log, day = self._log(), iso(now)[:10]
                seen = f"{day} {sorted(log.position().items())} {sorted(capped)}"
                if seen != self._seen:
                    found = {name: next(iter(days(log, name, now - now % _DAY)), None) for name in capped}
                    self._held = [
                        _held(name, one, rules)
                        for name, rules in capped.items()
                        if (one := found[name]) and one.day == day and one.holding
                    ]
                    self._seen = seen
                    self._next = time.monotonic() + _REST * (time.monotonic() - began)
            return self._held


def _held(name: str, day: Day, rules: Sequence["DecisionFacts"]) -> Held:
    """What was held back on a day, by the cap that did it: of a rollout's two, the lower."""
    facts = next((one for one in rules if one.cap is not None and one.cap.amount == day.cap), rules[0])
    assert facts.cap is not None
    amount = facts.cap.amount if day.cap is None else day.cap
    return Held(name, day.holding, day.newest, day.total, amount, facts.currency, facts.cap.over)
