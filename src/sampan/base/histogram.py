"""How long things take: counts per bucket of seconds, cheap enough for what happens a thousand times a second."""

from bisect import bisect_left
from typing import Final

#: Upper ends of the buckets, in seconds.
BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Histogram:
    """Counts of durations. One thread adds; any thread may read, and may miss what is being added."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, int]]:
        """How many took up to so many seconds, the last of them without end."""
        found, sum = [], 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self.counts, strict=True):
            sum += count
            found.append((bound, sum))
        return found
