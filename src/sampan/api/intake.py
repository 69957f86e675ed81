"""``POST /v1/events``: a bare ASGI handler, called before any router, because single events go four times faster so.

The body is a JSON array of events, one event, or one event a line (NDJSON); plain, gzip or zstd. Every item is
answered for, in the order sent: ``{"results": [{"id", "verdict", "position", "reason"}]}``. What is wrong with an
item sends it to quarantine; only authentication (401), size (413), overload or a failed disk (503) and a full disk
(507) refuse a request, and then nothing of it is kept.
"""

import gc
import zlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from sampan.api.guard import Receive, Scope, Send
from sampan.base.errors import Busy, DiskFull, Refused, SampanError, Usage
from sampan.base.settings import Settings
from sampan.log.check import Batch
from sampan.log.writer import Poisoned, StreamWriter

ITEM_LIMIT: Final = 50_000  # events in one request
_LINES: Final = (b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/x-jsonlines")
_JSON: Final = (b"content-type", b"application/json")
_RETRY: Final[dict[type[SampanError], bytes]] = {Busy: b"1", DiskFull: b"10", Poisoned: b"60"}


class TooLarge(Usage):
    """A body beyond the documented size."""

    status = 413


class Intake:
    """Takes events into one stream. ``authorize`` gives whoever asks, or None."""

    def __init__(self, writer: StreamWriter, settings: Settings, authorize: Callable[[Scope], Any | None]) -> None:
        self._writer = writer
        self._authorize = authorize
        self._limit: int = settings.get("body_limit")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._take(scope, receive)
        except SampanError as error:
            await _refuse(send, error)
            return
        if answer is None:
            return
        length = str(len(answer)).encode()
        await send({"type": "http.response.start", "status": 202, "headers": [_JSON, (b"content-length", length)]})
        await send({"type": "http.response.body", "body": answer})

    async def _take(self, scope: Scope, receive: Receive) -> bytes | None:
        if scope["method"] != "POST":
            raise _NotAllowed("Send events", f"{scope['method']} is not possible here", "Use POST.")
        who = self._authorize(scope)
        if who is None:
            raise _SignIn("Send events", "no valid token came with them", "Send `Authorization: Bearer TOKEN`.")
        lines, encoding, announced = False, b"", 0
        for name, value in scope["headers"]:
            if name == b"content-type":
                lines = value.split(b";", 1)[0].strip().lower() in _LINES
            elif name == b"content-encoding":
                encoding = value.strip().lower()
            elif name == b"content-length" and value.isdigit():
                announced = int(value)
        if announced > self._limit:
            raise self._too_large(announced)
        message = await receive()
        body: bytes | None = message.get("body", b"")
        if message.get("more_body") or message["type"] != "http.request":
            body = await self._rest(message, receive)
        if body is None:
            return None  # the client went away: nobody waits for an answer, nothing was promised
        batch = self._read(body, lines, encoding)
        answer = await self._writer.submit(batch, who.name)
        return answer.json()

    async def _rest(self, message: Any, receive: Receive) -> bytes | None:
        parts, size = [], 0
        while True:
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size > self._limit:
                raise self._too_large(size)
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)
            message = await receive()

    def _read(self, body: bytes, lines: bool, encoding: bytes) -> Batch:
        checker = self._writer.checker
        if encoding and encoding != b"identity":
            try:
                unpacked = _unpack(body, encoding, self._limit)
            except (zlib.error, EOFError, ValueError) as error:
                return checker.unreadable(body, f"not {encoding.decode(errors='replace')[:40]}: {error}")
            if unpacked is None:
                raise self._too_large(self._limit + 1)
            body = unpacked
        items = checker.split(body, lines=lines)
        if len(items) > ITEM_LIMIT:
            self._writer.refuse(len(items))
            raise TooLarge("Send events", f"{len(items)} in one request are too many", f"Send up to {ITEM_LIMIT}.")
        return checker.batch(items)

    def _too_large(self, size: int) -> TooLarge:
        self._writer.refuse(1)  # how many events there were, nobody has read
        return TooLarge(
            "Send events",
            f"the body has more than {self._limit} bytes ({size} so far)",
            "Send them in smaller requests, or raise the setting body_limit.",
        )


class _SignIn(Refused):
    status = 401


class _NotAllowed(Usage):
    status = 405


def _unpack(body: bytes, encoding: bytes, limit: int) -> bytes | None:
    """The body without its compression; None if that is larger than ``limit``. Never holds more than that."""
    if encoding in (b"gzip", b"x-gzip"):
        engine = zlib.decompressobj(wbits=31)
        whole = engine.decompress(body, limit + 1)
        if len(whole) > limit:
            return None
        if not engine.eof or engine.unused_data:
            raise ValueError("it ends too soon" if not engine.eof else "bytes follow its end")
        return whole
    if encoding == b"zstd":
        import zstandard

        try:
            with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(body) as reader:
                whole = reader.read(limit + 1)
                if len(whole) <= limit and reader.read(1):
                    return None
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
        if body and not whole and body[:4] != b"\x28\xb5\x2f\xfd":
            raise ValueError("it does not start as zstd does")
        return None if len(whole) > limit else whole
    raise ValueError("only gzip and zstd are known")


async def _refuse(send: Send, error: SampanError) -> None:
    body = msgspec.json.encode(error.body())
    headers = [_JSON, (b"content-length", str(len(body)).encode())]
    if retry := _RETRY.get(type(error)):
        headers.append((b"retry-after", retry))
    if error.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="sampan"'))
    if error.status == 405:
        headers.append((b"allow", b"POST"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def quieten_collector() -> None:
    """Keep garbage collection from pausing a server: what lives at start is never looked at again, and full
    collections, of which a log of live keys makes long ones, come seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)
