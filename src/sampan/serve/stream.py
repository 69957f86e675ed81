"""The endpoint's own stream of the log, as the serving process sees it."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import Damaged
from sampan.base.settings import Folder, Settings
from sampan.log.contracts import Contracts
from sampan.log.log import Log
from sampan.log.tally import Counts, Span
from sampan.serve.answer import SOURCE

PREFIX = "serve-"  # followed by the endpoint's name: the stream of its predictions
#: Takes what lies in frames that are durable now.
Told = Callable[[str, Span, Counts], None] | None


class Stream:
    """Keeps prediction events. Only built-in contracts are needed: no module of the user's is imported for it."""

    def __init__(self, endpoint: str, folder: Folder, settings: Settings, clock: Clock, told: Told = None) -> None:
        self.name = PREFIX + endpoint
        self._source = SOURCE + endpoint
        self._log = Log(folder.data / "log", Contracts(), clock, settings)
        self._writer = self._log.writer(self.name, told=told)

    async def keep(self, events: Sequence[bytes]) -> None:
        """Return when the events are durable. Raises Busy, DiskFull, or Damaged if one was not taken."""
        answer = await self._writer.submit(self._writer.checker.batch(events, ours=True), self.name)
        if answer.accepted < len(events):
            odd = next(one for one in answer.verdicts() if one.verdict != "accepted")
            raise Damaged("Keep a prediction", f"its event {odd.id} was {odd.verdict}: {odd.reason}", "Ask again.")

    def stored(self, identity: str) -> dict[str, Any] | None:
        """The data of a prediction that the stream already holds."""
        raw = self._writer.find(self._source, identity)
        if raw is None:
            return None
        data: dict[str, Any] = msgspec.json.decode(raw)["data"]
        return data

    @property
    def broken(self) -> bool:
        return bool(self._writer.poisoned)

    def close(self) -> None:
        self._writer.close()
        self._log.keys.close()
