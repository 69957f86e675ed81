"""``POST /predict/{name}``: hands the body to the endpoint's serving process and its answer back, past all routing."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from sampan.api.guard import Receive, Scope, Send
from sampan.base.errors import SampanError, Usage

#: Answers one request to an endpoint: status, body, and in how many seconds to try again.
Ask = Callable[[str, bytes], Awaitable[tuple[int, bytes, int | None]]]
_PREFIX = "/predict/"


class Predict:
    """A bare ASGI handler."""

    def __init__(self, ask: Ask, body_limit: int) -> None:
        self._ask = ask
        self._limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await self._body(receive)
        except SampanError as error:
            await _answer(send, 413, msgspec.json.encode(error.body()), None)
            return
        if body is None:
            return
        status, answer, retry = await self._ask(scope["path"][len(_PREFIX) :], body)
        await _answer(send, status, answer, retry)

    async def _body(self, receive: Receive) -> bytes | None:
        message: dict[str, Any] = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            whole: bytes = message.get("body", b"")
            self._check(len(whole))
            return whole
        parts: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            self._check(size)
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)
            message = await receive()

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise Usage("Predict", f"the body has more than {self._limit:,} bytes", "Send the records in parts.")


async def _answer(send: Send, status: int, body: bytes, retry: int | None) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if retry is not None:
        headers.append((b"retry-after", str(retry).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
