"""What intakes of other protocols share: who sends, the body, its messages as checked events, and the log."""

from collections.abc import Callable
from typing import Any

from sampan.api.bodies import ITEM_LIMIT, Bodies, NotAllowed, SignIn, TooLarge, Unpackable, refuse
from sampan.api.guard import Receive, Scope, Send
from sampan.base.clock import Clock
from sampan.base.errors import SampanError
from sampan.base.settings import Settings
from sampan.log.check import Batch
from sampan.log.translate import Messages, Translator
from sampan.log.writer import StreamWriter

Authorize = Callable[[Scope], Any | None]


class MessageIntake:
    """A bare ASGI handler that takes one protocol's messages into one stream. ``authorize`` gives whoever asks."""

    def __init__(self, writer: StreamWriter, settings: Settings, clock: Clock, authorize: Authorize) -> None:
        self._writer, self._clock, self._authorize = writer, clock, authorize
        self._translator = Translator(writer.checker.contracts)
        self._bodies = Bodies(settings.get("body_limit"), writer.refuse)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._take(scope, receive)
        except SampanError as error:
            await refuse(send, error)
            return
        if answer is None:
            return  # the client went away: nobody waits for an answer, nothing was promised
        status, kind, body = answer
        headers = [(b"content-length", str(len(body)).encode())] if status != 204 else []
        if kind:
            headers.append((b"content-type", kind))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def read(self, scope: Scope, body: bytes, producer: str) -> Messages:
        """The messages of a request."""
        raise NotImplementedError

    async def answer(self, scope: Scope, batch: Batch, producer: str) -> tuple[int, bytes, bytes]:
        """Keep a request's events; status, content type and body of the answer."""
        raise NotImplementedError

    async def _take(self, scope: Scope, receive: Receive) -> tuple[int, bytes, bytes] | None:
        came = await self.receive(scope, receive)
        if came is None:
            return None
        body, encoding, producer = came
        return await self.answer(scope, self._batch(scope, body, encoding, producer), producer)

    async def receive(self, scope: Scope, receive: Receive) -> tuple[bytes, bytes, str] | None:
        """Body, its encoding and who sent it. Raises what such a request is refused with."""
        if scope["method"] != "POST":
            raise NotAllowed("Send events", f"{scope['method']} is not possible here", "Use POST.")
        who = self._authorize(scope)
        if who is None:
            raise SignIn("Send events", "no valid token came with them", "`sampan token create` makes one.")
        encoding, announced = b"", 0
        for name, value in scope["headers"]:
            if name == b"content-encoding":
                encoding = value.strip().lower()
            elif name == b"content-length" and value.isdigit():
                announced = int(value)
        body = await self._bodies.read(receive, announced)
        return None if body is None else (body, encoding, who.name)

    def _batch(self, scope: Scope, body: bytes, encoding: bytes, producer: str) -> Batch:
        checker = self._writer.checker
        try:
            body = self._bodies.unpack(body, encoding)
        except Unpackable as reason:
            return checker.unreadable(body, str(reason))
        batch = self._translator.batch(self.read(scope, body, producer), checker)
        if len(batch) > ITEM_LIMIT:
            self._writer.refuse(len(batch))
            raise TooLarge("Send events", f"{len(batch)} in one request are too many", f"Send up to {ITEM_LIMIT}.")
        return batch
