"""Requests for predictions, past all routing: the body goes to the endpoint's serving process, its answer comes back.

``POST /predict/{name}`` in our own words, ``POST /invocations/{name}`` in MLflow's and SageMaker's, ``/v2/...`` in
those of the Open Inference Protocol.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from sampan import __version__
from sampan.api.bodies import TooLarge
from sampan.api.guard import Receive, Scope, Send
from sampan.api.predict_paths import INVOKE, PREDICT, V2
from sampan.base.errors import NotFound, SampanError, Usage
from sampan.serve import inference
from sampan.serve.bundle import Bundle
from sampan.serve.faces import INFERENCE, INVOCATIONS, NATIVE, face, pack, unpack

#: Answers one request to an endpoint, in the words of a face: status, body, and in how many seconds to try again.
Ask = Callable[[str, bytes, int], Awaitable[tuple[int, bytes, int | None]]]
#: What an endpoint serves, and whether it answers now; None if there is no such endpoint.
Look = Callable[[str], tuple[Bundle, bool] | None]
_JSON: Final = (b"content-type", b"application/json")
_HEADERS: Final = {b"content-type", b"accept", inference.LENGTH.encode()}


class Predict:
    """A bare ASGI handler for every path of ``ROUTES``. ``ready``: whether the hub is."""

    def __init__(self, ask: Ask, look: Look, ready: Callable[[], bool], body_limit: int) -> None:
        self._ask = ask
        self._look = look
        self._ready = ready
        self._limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith(PREDICT):
            await self._predict(path.removeprefix(PREDICT), receive, send)
        elif path.startswith(INVOKE):
            await self._through(INVOCATIONS, path.removeprefix(INVOKE), {}, scope, receive, send)
        else:
            await self._inference(path, scope, receive, send)

    async def _predict(self, name: str, receive: Receive, send: Send) -> None:
        """The way of most requests, with nothing on it that they do not need."""
        try:
            body = await self._body(receive)
        except SampanError as error:
            await _answer(send, 413, msgspec.json.encode(error.body()), None)
            return
        if body is not None:
            status, answer, retry = await self._ask(name, body, NATIVE)
            await _answer(send, status, answer, retry)

    async def _through(
        self, number: int, name: str, more: Mapping[str, str], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """A request through another face: what it needs of the headers goes along."""
        try:
            headers = _read_headers(scope)
            body = await self._body(receive)
        except SampanError as error:
            await _refuse(send, number, error)
            return
        if body is not None:
            status, answer, retry = await self._ask(name, pack({**headers, **more}, body), number)
            said, rest = unpack(answer)
            await _answer(send, status, rest, retry, said)

    async def _inference(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        parts = path.removeprefix(V2).strip("/").split("/") if path != V2 else []
        if scope["method"] == "POST":
            name, version = _named(parts[:-1])
            await self._through(INFERENCE, name, {inference.VERSION: version}, scope, receive, send)
            return
        try:
            found = self._described(parts)
        except SampanError as error:
            await _refuse(send, INFERENCE, error)
            return
        status = 503 if found.get("ready") is False else 200
        await _answer(send, status, msgspec.json.encode(found), 1 if status == 503 else None)

    def _described(self, parts: list[str]) -> dict[str, Any]:
        if not parts:
            return {"name": "sampan", "version": __version__, "extensions": ["binary_tensor_data"]}
        if parts[0] == "health":
            return {"live": True} if parts[1:] == ["live"] else {"ready": self._ready()}
        asks_ready = parts[-1] == "ready" and len(parts) in (3, 5)
        name, version = _named(parts[:-1] if asks_ready else parts)
        if (found := self._look(name)) is None:
            raise NotFound(f"Find the model {name[:80]!r}", "there is no endpoint of that name", "See /endpoints.")
        bundle, serving = found
        inference.check_version(bundle, version)
        return {"name": name, "ready": serving} if asks_ready else inference.metadata(name, bundle)

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
            raise TooLarge("Predict", f"the body has more than {self._limit:,} bytes", "Send the records in parts.")


def _named(parts: list[str]) -> tuple[str, str]:
    """Name and version in ``models/NAME[/versions/VERSION]``."""
    return parts[1], parts[3] if len(parts) == 4 else ""


def _read_headers(scope: Scope) -> dict[str, str]:
    found = {}
    for name, value in scope["headers"]:
        if name in _HEADERS:
            found[name.decode()] = value.decode("latin-1")
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            said = f"the body is encoded as {value.decode('latin-1')[:40]!r}"
            raise Usage("Predict", said, "Send it as it is.", field="content-encoding")
    return found


def refusal(scope: Scope, status: int, error: SampanError) -> tuple[bytes, bytes] | None:
    """The guard's answer to a client of one of the protocols; None for everybody else."""
    path = scope["path"]
    number = INVOCATIONS if path.startswith(INVOKE) else INFERENCE if path == V2 or path.startswith(f"{V2}/") else None
    if number is None:
        return None
    del status
    return _JSON[1], face(number).refuse(error)[0]


async def _refuse(send: Send, number: int, error: SampanError) -> None:
    body, headers = face(number).refuse(error)
    await _answer(send, error.status, body, None, headers)


async def _answer(
    send: Send, status: int, body: bytes, retry: int | None, said: Mapping[str, str] | None = None
) -> None:
    headers = [(name.encode(), value.encode()) for name, value in said.items()] if said else [_JSON]
    headers.append((b"content-length", str(len(body)).encode()))
    if retry is not None:
        headers.append((b"retry-after", str(retry).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
