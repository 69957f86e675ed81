"""Bodies of requests that bring events: read and unpacked within the limit; and how such a request is refused."""

import zlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from sampan.api.guard import Receive, Send
from sampan.base.errors import Busy, DiskFull, Refused, SampanError, Usage
from sampan.log.writer import Poisoned

_PIECE: Final = 256  # bytes of zstd that are unpacked at a time; they become 8 MiB at most
JSON: Final = (b"content-type", b"application/json")
_RETRY: Final[dict[type[SampanError], bytes]] = {Busy: b"1", DiskFull: b"10", Poisoned: b"60"}


class TooLarge(Usage):
    """A body beyond the documented size."""

    status = 413


class SignIn(Refused):
    """No valid token."""

    status = 401


class NotAllowed(Usage):
    """A method other than POST."""

    status = 405


class Unpackable(ValueError):
    """A body that is not what its encoding says: for quarantine, whole."""


class Bodies:
    """Reads bodies of up to ``limit`` bytes; ``refused`` is told how many events were refused."""

    def __init__(self, limit: int, refused: Callable[[int], None]) -> None:
        self._limit = limit
        self._refused = refused

    def expect(self, announced: int) -> None:
        """Raises TooLarge for a body of so many bytes."""
        if announced > self._limit:
            raise self._too_large(announced)

    async def rest(self, message: Any, receive: Receive) -> bytes | None:
        """The whole body, of which a message is the first; None if the client went away. Raises TooLarge."""
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

    def unpack(self, body: bytes, encoding: bytes) -> bytes:
        """The body without its compression, if it has one. Raises TooLarge, Unpackable."""
        if not encoding or encoding == b"identity":
            return body
        try:
            unpacked = _unpack(body, encoding, self._limit)
        except (zlib.error, EOFError, ValueError) as error:
            raise Unpackable(f"not {encoding.decode(errors='replace')[:40]}: {error}") from None
        if unpacked is None:
            raise self._too_large(self._limit + 1)
        return unpacked

    def _too_large(self, size: int) -> TooLarge:
        self._refused(1)  # how many events there were, nobody has read
        return TooLarge(
            "Send events",
            f"the body has more than {self._limit} bytes ({size} so far)",
            "Send them in smaller requests, or raise the setting body_limit.",
        )


def _unpack(body: bytes, encoding: bytes, limit: int) -> bytes | None:
    """The body without its compression; None if that is larger than ``limit``. Never holds much more than that."""
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

        expand = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        parts, size = [], 0
        try:
            for at in range(0, len(body), _PIECE):
                parts.append(expand.decompress(body[at : at + _PIECE]))
                size += len(parts[-1])
                if size > limit:
                    return None
                if expand.eof:
                    break
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
        if not expand.eof or expand.unused_data or at + _PIECE < len(body):
            raise ValueError("it ends too soon" if not expand.eof else "bytes follow its end")
        return b"".join(parts)
    raise ValueError("only gzip and zstd are known")


async def refuse(send: Send, error: SampanError) -> None:
    """Answer with an error, and when to try again."""
    body = msgspec.json.encode(error.body())
    headers = [JSON, (b"content-length", str(len(body)).encode())]
    if retry := _RETRY.get(type(error)):
        headers.append((b"retry-after", retry))
    if error.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="sampan"'))
    if error.status == 405:
        headers.append((b"allow", b"POST"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
