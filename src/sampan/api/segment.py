"""``POST /v1/track``, ``page``, ``screen``, ``identify``, ``group``, ``alias``, ``batch``, ``import``: Segment's API.

The write key is a token of Sampan's, as the user name of basic authentication. As at Segment, the answer is
``{"success": true}`` for whatever was taken, the malformed included: those are in quarantine, and ``sampan quarantine
list`` shows why. What was not kept is answered otherwise, so that a client tries again.
"""

from collections.abc import Callable
from typing import Any, Final

from sampan.api.bodies import ITEM_LIMIT, JSON, Bodies, NotAllowed, SignIn, TooLarge, Unpackable, refuse
from sampan.api.guard import Receive, Scope, Send
from sampan.base.clock import Clock
from sampan.base.errors import SampanError
from sampan.base.settings import Settings
from sampan.log.check import Batch
from sampan.log.from_segment import BATCHES, CALLS, SegmentMessages
from sampan.log.translate import Translator
from sampan.log.writer import StreamWriter

#: Path of each call → its name.
PATHS: Final = {f"/v1/{call}": call for call in (*CALLS, *BATCHES)}
_SUCCESS: Final = b'{"success": true}'


class Segment:
    """Takes Segment's calls into one stream. ``authorize`` gives whoever asks, or None."""

    def __init__(
        self, writer: StreamWriter, settings: Settings, clock: Clock, authorize: Callable[[Scope], Any | None]
    ) -> None:
        self._writer, self._clock, self._authorize = writer, clock, authorize
        self._translator = Translator(writer.checker.contracts)
        self._bodies = Bodies(settings.get("body_limit"), writer.refuse)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if not await self._take(scope, receive):
                return
        except SampanError as error:
            await refuse(send, error)
            return
        headers = [JSON, (b"content-length", str(len(_SUCCESS)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": _SUCCESS})

    async def _take(self, scope: Scope, receive: Receive) -> bool:
        """Whether it was kept; not if the client went away."""
        if scope["method"] != "POST":
            raise NotAllowed("Send events", f"{scope['method']} is not possible here", "Use POST.")
        who = self._authorize(scope)
        if who is None:
            raise SignIn("Send events", "no valid write key came with them", "A write key is a token of Sampan's.")
        encoding, announced = b"", 0
        for name, value in scope["headers"]:
            if name == b"content-encoding":
                encoding = value.strip().lower()
            elif name == b"content-length" and value.isdigit():
                announced = int(value)
        body = await self._bodies.read(receive, announced)
        if body is None:
            return False
        await self._writer.submit(self._read(PATHS[scope["path"]], body, encoding, who.name), who.name)
        return True

    def _read(self, call: str, body: bytes, encoding: bytes, producer: str) -> Batch:
        checker = self._writer.checker
        if encoding and encoding != b"identity":
            try:
                body = self._bodies.unpack(body, encoding)
            except Unpackable as reason:
                return checker.unreadable(body, str(reason))
        messages = SegmentMessages(call, body, producer, self._clock.micros())
        batch = self._translator.batch(messages, checker)
        if len(batch) > ITEM_LIMIT:
            self._writer.refuse(len(batch))
            raise TooLarge("Send events", f"{len(batch)} in one request are too many", f"Send up to {ITEM_LIMIT}.")
        return batch
