"""Requests for predictions, past all routing: the body goes to the endpoint's serving process, its answer comes back.

``POST /predict/{name}`` in our own words, ``POST /invocations/{name}`` in MLflow's and SageMaker's, ``/v2/...`` in
those of the Open Inference Protocol.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from sampan import __version__
from sampan.api.bodies import TooLarge
from sampan.api.guard import Receive, Response, Scope, Send
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


class Asked(NamedTuple):
    """A request for predictions: which endpoint is asked, in the words of which face, and what goes before the body on
    its way to the serving process."""

    name: str
    number: int
    before: bytes


class Reader:
    """Every path of ``ROUTES``: what is asked there, and what is answered at once. ``ready``: whether the hub is."""

    def __init__(self, look: Look, ready: Callable[[], bool]) -> None:
        self._look = look
        self._ready = ready

    def read(self, scope: Scope) -> Asked | Response:
        """What a request asks, but for its body; or its answer, where it wants no prediction or cannot have one."""
        path: str = scope["path"]
        if path.startswith(PREDICT):
            return Asked(path.removeprefix(PREDICT), NATIVE, b"")
        if path.startswith(INVOKE):
            return _through(INVOCATIONS, path.removeprefix(INVOKE), {}, scope)
        parts = path.removeprefix(V2).strip("/").split("/") if path != V2 else []
        if scope["method"] == "POST":
            name, version = _named(parts[:-1])
            return _through(INFERENCE, name, {inference.VERSION: version}, scope)
        try:
            found = self._described(parts)
        except SampanError as error:
            return refused(INFERENCE, error)
        status = 503 if found.get("ready") is False else 200
        return _response(status, msgspec.json.encode(found), 1 if status == 503 else None)

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


class Predict(Reader):
    """A bare ASGI handler for these paths."""

    def __init__(self, ask: Ask, look: Look, ready: Callable[[], bool], body_limit: int) -> None:
        super().__init__(look, ready)
        self._ask = ask
        self._limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = self.read(scope)
        if isinstance(asked, Response):
            await asked.give(send)
            return
        try:
            said = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
            check_size(int(said) if said.isdigit() else 0, self._limit)
            body = await self._body(receive)
        except TooLarge as error:
            await refused(asked.number, error).give(send)
            return
        if body is not None:
            answer = await self._ask(asked.name, asked.before + body if asked.before else body, asked.number)
            await answered(asked.number, *answer).give(send)

    async def _body(self, receive: Receive) -> bytes | None:
        message: dict[str, Any] = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            whole: bytes = message.get("body", b"")
            check_size(len(whole), self._limit)
            return whole
        parts: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            check_size(size, self._limit)
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)
            message = await receive()


def check_size(size: int, limit: int) -> None:
    """Raises TooLarge for a body of more bytes than that."""
    if size > limit:
        raise TooLarge("Predict", f"the body has more than {limit:,} bytes", "Send the records in parts.")


def answered(number: int, status: int, answer: bytes, retry: int | None = None) -> Response:
    """What a serving process has answered through a face, as its client gets it."""
    if number == NATIVE:
        return _response(status, answer, retry)
    said, rest = unpack(answer)
    return _response(status, rest, retry, said)


def refused(number: int, error: SampanError, retry: int | None = None) -> Response:
    """A failure in the words of a face."""
    body, headers = face(number).refuse(error)
    return _response(error.status, body, retry, headers)


def _through(number: int, name: str, more: Mapping[str, str], scope: Scope) -> Asked | Response:
    """A request through another face: what it needs of the headers goes along."""
    try:
        return Asked(name, number, pack({**_read_headers(scope), **more}, b""))
    except SampanError as error:
        return refused(number, error)


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


def _response(status: int, body: bytes, retry: int | None, said: Mapping[str, str] | None = None) -> Response:
    headers = [(name.encode(), value.encode()) for name, value in said.items()] if said else [_JSON]
    headers.append((b"content-length", str(len(body)).encode()))
    if retry is not None:
        headers.append((b"retry-after", str(retry).encode()))
    return Response(status, headers, body)
