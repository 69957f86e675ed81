"""The endpoint's own stream of the log, as the serving process sees it."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from sampan.base.clock import Clock, iso
from sampan.base.errors import Damaged
from sampan.base.settings import Folder, Settings
from sampan.log.contracts import Contracts
from sampan.log.log import Log
from sampan.log.tally import Counts, Span
from sampan.serve.answer import SOURCE
from sampan.serve.noted import Blobs

_PAGE = 500  # predictions that are read at once
_LABEL: Final = "prediction@1"
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

    async def keep(
        self, events: Sequence[bytes], ids: Sequence[str] = (), blobs: Blobs | None = None, *, drawn: bool = False
    ) -> None:
        """Return when the events are durable. Raises Busy, DiskFull, or Damaged if one was not taken.

        ``ids``: theirs, where all are predictions that surely fit their contract, so that they need not be read again;
        ``drawn``: all at random just now, so that they need not be looked for among all that there have been.
        ``blobs``: content that they name by digest; it is durable before they are.
        """
        checker = self._writer.checker
        batch = checker.made(_LABEL, self._source, ids, events) if ids else checker.batch(events, ours=True)
        batch.drawn = drawn and bool(ids)
        if blobs:
            batch.blobs = blobs
        answer = await self._writer.submit(batch, self.name)
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

    def exposed(self, day: str) -> float:
        """What the newest prediction of a day says has been put at risk in it; 0 if none does."""
        after = None
        while True:
            found = self._log.events(type="prediction", stream=self.name, newest_first=True, limit=_PAGE, after=after)
            told = [msgspec.json.decode(event.data).get("exposure") for event in found]
            if totals := [float(one["total"]) for one in told if one and one["day"] == day]:
                return max(totals)
            if len(found) < _PAGE or iso(found[-1].received)[:10] < day:
                return 0.0
            after = found[-1].position

    @property
    def broken(self) -> bool:
        return bool(self._writer.poisoned)

    def close(self) -> None:
        self._writer.close()
        self._log.keys.close()
