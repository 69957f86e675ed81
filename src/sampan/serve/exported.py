"""A bundle that has left its workspace: a folder that answers ``/ping`` and ``/invocations``, as platforms ask it.

It goes the way of an endpoint: the same check of the records, the same model, the same rules, the same answers. There
is no log beside it: predictions are not recorded, unless ``SAMPAN_EVENTS=stdout`` has their events written where the
platform collects what a container says.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.clock import SystemClock
from sampan.base.digests import digest_bytes
from sampan.base.errors import Damaged, NotFound, SampanError, Usage
from sampan.serve.answer import Answerer
from sampan.serve.bundle import Bundle, decode, open_bundle
from sampan.serve.faces import INVOCATIONS, face, unpack
from sampan.store.blobs import Blobs

BUNDLE: Final = "bundle.json"
MODEL: Final = "model"
RULES: Final = "rules"
PORT: Final = 8080
_LIMIT: Final = 16 << 20  # bytes of a request
_JSON: Final = {"content-type": "application/json"}

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


def laid_out(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Where each file of a bundle lies in the folder, and its digest."""
    yield from ((f"{MODEL}/{name}", digest) for name, digest in sorted(bundle.model.files.items()))
    if bundle.model.onnx is not None:
        yield f"{MODEL}/form.onnx", bundle.model.onnx.digest
    yield from ((f"{RULES}/{path}", digest) for path, digest in sorted(bundle.sources.items()))


class Beside(Blobs):
    """The files of a bundle by their digests, where they lie under names that people can read."""

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        super().__init__(folder)
        self._paths = {digest: folder / path for path, digest in laid_out(bundle)}

    def path(self, digest: str) -> Path:
        """Raises NotFound for what is no file of the bundle."""
        if digest not in self._paths:
            raise NotFound("Open a file of the bundle", f"it has none of the digest {digest[:64]}")
        return self._paths[digest]

    def get(self, digest: str) -> bytes:
        """Raises Damaged for a file that is not there, or is not as it was exported."""
        path = self.path(digest)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise Damaged("Open a file of the bundle", f"{path}: {error.strerror}", "Export it again.") from error
        if digest_bytes(data) != digest:
            raise Damaged("Open a file of the bundle", f"{path} is not as it was exported", "Export it again.")
        return data


def open_exported(folder: Path) -> Answerer:
    """What answers from an exported folder. Raises what is wrong with it."""
    try:
        bundle = decode((folder / BUNDLE).read_bytes())
    except OSError as error:
        raise Damaged("Open an exported bundle", f"{folder / BUNDLE}: {error.strerror}", "Export it again.") from error
    return Answerer("exported", open_bundle(bundle, Beside(folder, bundle)), SystemClock())


class Exported:
    """The ASGI application."""

    def __init__(self, answerer: Answerer, events: Callable[[bytes], Any] | None = None) -> None:
        self._answerer = answerer
        self._events = events

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, headers, body = await self._answered(scope, receive)
        named = [(name.encode(), value.encode()) for name, value in headers.items()]
        named.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": named})
        await send({"type": "http.response.body", "body": body})

    async def _answered(self, scope: Mapping[str, Any], receive: Receive) -> tuple[int, Mapping[str, str], bytes]:
        asked = (scope["method"], scope["path"])
        if asked == ("GET", "/ping"):
            author = self._answerer.author
            return 200, _JSON, msgspec.json.encode({"version": author.version, "bundle": author.bundle})
        if asked != ("POST", "/invocations"):
            known = asked[1] in ("/ping", "/invocations")
            return 405 if known else 404, _JSON, b'{"message":"GET /ping and POST /invocations are answered"}'
        body = await _read(receive)
        if body is None:
            return 413, _JSON, msgspec.json.encode({"message": f"the body has more than {_LIMIT} bytes"})
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            return self._predicted(body, headers)
        except Exception as error:  # noqa: BLE001 - the edge: one request's fault ends nothing
            fault = error if isinstance(error, SampanError) else Damaged("Predict", f"{type(error).__name__}: {error}")
            said, told = face(INVOCATIONS).refuse(fault)
            return fault.status, told, said

    def _predicted(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        given = self._answerer.read(body, INVOCATIONS, headers)
        told = self._answerer.decide(given, self._answerer.predict(given.records))
        if self._events is not None:
            for event in told.events:
                self._events(event)
        status, packed = self._answerer.say(given, told.answers)
        return status, *unpack(packed)


async def _read(receive: Receive) -> bytes | None:
    """The body of a request; None for one that is too long."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size <= _LIMIT:
            parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts) if size <= _LIMIT else None


def _to_stdout(event: bytes) -> None:
    sys.stdout.buffer.write(event + b"\n")
    sys.stdout.flush()


def main(folder: Path) -> None:
    """Answer until told to stop. ``PORT`` names another port; what platforms give as arguments is of no matter."""
    import uvicorn

    text = os.environ.get("PORT", str(PORT))
    try:
        if not text.isdigit() or not 0 < int(text) < 65_536:
            raise Usage("Serve", f"PORT is {text[:20]!r}", "It is a number from 1 to 65535.")
        answerer = open_exported(folder)
    except SampanError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(error.exit_code)
    events = _to_stdout if os.environ.get("SAMPAN_EVENTS") == "stdout" else None
    config = uvicorn.Config(
        Exported(answerer, events), host=os.environ.get("HOST", "0.0.0.0"), port=int(text), log_level="warning",  # noqa: S104
        lifespan="off",
    )  # fmt: skip
    asyncio.run(uvicorn.Server(config).serve())
