"""What every intake shares: who sends, the body, the log behind it, and how a request is answered or refused."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from sampan.api.bodies import Bodies, NotAllowed, SignIn, TooLarge, refuse
from sampan.api.guard import Receive, Scope, Send
from sampan.base.clock import Clock
from sampan.base.errors import SampanError
from sampan.base.settings import Settings
from sampan.log.items import ITEM_LIMIT, TooMany
from sampan.log.translate import Translator
from sampan.log.writer import StreamWriter

#: Who asks, or None.
Authorize = Callable[[Scope], Any | None]
#: Status, content type and body of an answer.
Reply = tuple[int, bytes, bytes]


class Taker(ABC):
    """A bare ASGI handler, called before any router, because single events go four times faster so."""

    def __init__(self, writer: StreamWriter, settings: Settings, clock: Clock, authorize: Authorize) -> None:
        self._writer, self._clock, self._authorize = writer, clock, authorize
        self._translator = Translator(writer.checker.contracts)
        self._bodies = Bodies(settings.get("body_limit"), writer.refuse)

    @abstractmethod
    async def take(self, scope: Scope, body: bytes, kind: bytes, encoding: bytes, producer: str) -> Reply:
        """Do what a request asks for. ``kind`` and ``encoding`` are the headers of its content. Raises what it is
        refused with; nothing of it is kept then."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["method"] != "POST":
                raise NotAllowed("Send events", f"{scope['method']} is not possible here", "Use POST.")
            who = self._authorize(scope)
            if who is None:
                raise SignIn("Send events", "no valid token came with them", "`sampan token create` makes one.")
            kind = encoding = b""
            for name, value in scope["headers"]:
                if name == b"content-type":
                    kind = value
                elif name == b"content-encoding":
                    encoding = value.strip().lower()
                elif name == b"content-length" and value.isdigit():
                    self._bodies.expect(int(value))
            message = await receive()
            body: bytes | None = message.get("body", b"")
            if message.get("more_body") or message["type"] != "http.request":
                body = await self._bodies.rest(message, receive)
            if body is None:
                return  # the client went away: nobody waits for an answer, nothing was promised
            status, said, answer = await self.take(scope, body, kind, encoding, who.name)
        except TooMany as many:
            self._writer.refuse(many.count)
            await refuse(send, TooLarge("Send events", str(many), f"Send up to {ITEM_LIMIT}."))
            return
        except SampanError as error:
            await refuse(send, error)
            return
        headers = [(b"content-type", said), (b"content-length", str(len(answer)).encode())] if said else []
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
