"""``POST /v1/events``: a bare ASGI handler, called before any router, because single events go four times faster so.

The body is a JSON array of events, one event, or one event a line (NDJSON); plain, gzip or zstd. By its content type
or ``ce-`` headers it is taken as CloudEvents. Every item is answered for, in the order sent: ``{"results": [{"id",
"verdict", "position", "reason"}]}``. What is wrong with an item sends it to quarantine; only authentication (401), size
(413), overload or a failed disk (503) and a full disk (507) refuse a request, and then nothing of it is kept.
"""

import gc
from collections.abc import Callable
from typing import Any, Final

from sampan.api.bodies import ITEM_LIMIT, JSON, Bodies, NotAllowed, SignIn, TooLarge, Unpackable, refuse
from sampan.api.guard import Receive, Scope, Send
from sampan.base.clock import Clock
from sampan.base.errors import SampanError
from sampan.base.settings import Settings
from sampan.log.check import Batch
from sampan.log.from_cloudevents import HEADERS, CloudEventMessages, beside, mode_of
from sampan.log.translate import Translator
from sampan.log.writer import StreamWriter

_LINES: Final = (b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/x-jsonlines")


class Intake:
    """Takes events into one stream. ``authorize`` gives whoever asks, or None."""

    def __init__(
        self, writer: StreamWriter, settings: Settings, clock: Clock, authorize: Callable[[Scope], Any | None]
    ) -> None:
        self._writer, self._clock = writer, clock
        self._translator = Translator(writer.checker.contracts)
        self._authorize = authorize
        self._bodies = Bodies(settings.get("body_limit"), writer.refuse)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._take(scope, receive)
        except SampanError as error:
            await refuse(send, error)
            return
        if answer is None:
            return
        length = str(len(answer)).encode()
        await send({"type": "http.response.start", "status": 202, "headers": [JSON, (b"content-length", length)]})
        await send({"type": "http.response.body", "body": answer})

    async def _take(self, scope: Scope, receive: Receive) -> bytes | None:
        if scope["method"] != "POST":
            raise NotAllowed("Send events", f"{scope['method']} is not possible here", "Use POST.")
        who = self._authorize(scope)
        if who is None:
            raise SignIn("Send events", "no valid token came with them", "Send `Authorization: Bearer TOKEN`.")
        kind, encoding, announced, binary = b"", b"", 0, False
        for name, value in scope["headers"]:
            if name == b"content-type":
                kind = value
            elif name == b"content-encoding":
                encoding = value.strip().lower()
            elif name == b"content-length" and value.isdigit():
                announced = int(value)
            elif name in HEADERS:
                binary = True
        body = await self._bodies.read(receive, announced)
        if body is None:
            return None  # the client went away: nobody waits for an answer, nothing was promised
        batch = self._read(scope, body, kind, encoding, cloudevents=binary or b"cloudevents" in kind.lower())
        answer = await self._writer.submit(batch, who.name)
        return answer.json()

    def _read(self, scope: Scope, body: bytes, kind: bytes, encoding: bytes, *, cloudevents: bool) -> Batch:
        checker = self._writer.checker
        try:
            body = self._bodies.unpack(body, encoding)
        except Unpackable as reason:
            return checker.unreadable(body, str(reason))
        if cloudevents and (mode := mode_of(kind, scope["headers"])):
            said = beside(mode, kind, scope["headers"])
            batch = self._translator.batch(CloudEventMessages(body, said, self._clock.micros()), checker)
            self._not_too_many(len(batch))
            return batch
        lines = kind.split(b";", 1)[0].strip().lower() in _LINES
        items = checker.split(body, lines=lines)
        self._not_too_many(len(items))
        return checker.batch(items)

    def _not_too_many(self, count: int) -> None:
        if count > ITEM_LIMIT:
            self._writer.refuse(count)
            raise TooLarge("Send events", f"{count} in one request are too many", f"Send up to {ITEM_LIMIT}.")


def quieten_collector() -> None:
    """Keep garbage collection from pausing a server: what lives at start is never looked at again, and full
    collections, of which a log of live keys makes long ones, come seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)
