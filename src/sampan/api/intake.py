"""``POST /v1/events``: plain events, and CloudEvents.

The body is a JSON array of events, one event, or one event a line (NDJSON); plain, gzip or zstd. By its content type
or ``ce-`` headers it is taken as CloudEvents. Every item is answered for, in the order sent: ``{"results": [{"id",
"verdict", "position", "reason"}]}``. What is wrong with an item sends it to quarantine; only authentication (401), size
(413), overload or a failed disk (503) and a full disk (507) refuse a request, and then nothing of it is kept.
"""

from typing import Final

from sampan.api.bodies import Unpackable
from sampan.api.guard import Scope
from sampan.api.taker import Reply, Taker
from sampan.log.check import Batch
from sampan.log.from_cloudevents import HEADERS, CloudEventMessages, beside, mode_of
from sampan.log.items import ITEM_LIMIT

_LINES: Final = (b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/x-jsonlines")


class Intake(Taker):
    """Takes events into one stream."""

    async def take(self, scope: Scope, body: bytes, kind: bytes, encoding: bytes, producer: str) -> Reply:
        answer = await self._writer.submit(self._read(scope, body, kind, encoding), producer)
        return 202, b"application/json", answer.json()

    def _read(self, scope: Scope, body: bytes, kind: bytes, encoding: bytes) -> Batch | bytes:
        """What came, checked; one event alone is left to the writer, which checks those of many requests together."""
        checker = self._writer.checker
        try:
            body = self._bodies.unpack(body, encoding)
        except Unpackable as reason:
            return checker.unreadable(body, str(reason))
        headers = scope["headers"]
        cloudevents = b"cloudevents" in kind.lower() or not HEADERS.isdisjoint([name for name, _ in headers])
        if cloudevents and (mode := mode_of(kind, headers)):
            said = beside(mode, kind, headers)
            return self._translator.batch(CloudEventMessages(body, said, self._clock.micros()), checker)
        items = checker.split(body, lines=kind.split(b";", 1)[0].strip().lower() in _LINES, most=ITEM_LIMIT)
        if len(items) == 1:
            return items[0]
        return checker.batch(items)
