"""How many events come in per second, over the last minutes: the counts of intake, looked at once a second."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from sampan.log.group import Counts

MINUTES: Final = 5
_SHOWN: Final = 10  # seconds that "now" means


class Pulse:
    """The rates of one running hub. ``counts`` gives what intake has counted since the log began."""

    def __init__(self, counts: Callable[[], Counts]) -> None:
        self._counts = counts
        self._last = self._sent()
        self.seconds: deque[int] = deque(maxlen=60 * MINUTES)  # events that came in each second, the newest last

    def _sent(self) -> int:
        now = self._counts()
        return now.accepted + now.duplicate + now.quarantined

    def beat(self) -> None:
        """A second has gone by."""
        sent = self._sent()
        self.seconds.append(sent - self._last)
        self._last = sent

    async def keep_beating(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(1)
            self.beat()

    def now(self) -> float:
        """Events per second, over the last ten of them."""
        last = list(self.seconds)[-_SHOWN:]
        return sum(last) / len(last) if last else 0.0

    def most(self) -> int:
        """The busiest second of the last minutes."""
        return max(self.seconds, default=0)

    def bars(self, count: int = 60) -> list[float]:
        """Events per second in ``count`` equal stretches of the last minutes, the newest last."""
        each = 60 * MINUTES // count
        all = [0] * (each * count - len(self.seconds)) + list(self.seconds)
        return [sum(all[at : at + each]) / each for at in range(0, each * count, each)]
