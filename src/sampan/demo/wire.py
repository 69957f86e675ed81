"""A few kept-alive HTTP connections to the hub, for a client that sends many small requests.

Only what the demo needs: JSON bodies, bearer token, Content-Length answers. Chunked answers are understood, redirects
and TLS are not.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

from sampan.base.errors import Unreachable


class Answer(msgspec.Struct, frozen=True):
    """Status, headers in lower case, and the body's bytes."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Wire:
    """Connections to one hub; at most ``size`` requests are under way at a time."""

    def __init__(self, url: str, token: str, size: int = 16) -> None:
        parts = urlsplit(url)
        self.url, self.token = url, token
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._fixed = f"Host: {parts.netloc}\r\nAuthorization: Bearer {token}\r\nAccept: application/json\r\n"
        self._free: asyncio.LifoQueue[_Line | None] = asyncio.LifoQueue()
        for _ in range(size):
            self._free.put_nowait(None)
        self._size = size

    async def post(self, path: str, body: bytes) -> Answer:
        return await self._ask("POST", path, body)

    async def get(self, path: str) -> Answer:
        return await self._ask("GET", path, b"")

    async def close(self) -> None:
        for _ in range(self._size):
            line = await self._free.get()
            if line is not None:
                await line.close()

    async def _ask(self, method: str, path: str, body: bytes) -> Answer:
        head = f"{method} {path} HTTP/1.1\r\n{self._fixed}"
        if method == "POST":
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        request = head.encode() + b"\r\n" + body
        async with self._line() as line:
            return await line.ask(request)

    @asynccontextmanager
    async def _line(self) -> AsyncIterator["_Line"]:
        line = await self._free.get()
        try:
            if line is None or line.closed:
                line = await _Line.open(self._host, self._port)
            yield line
        except (OSError, asyncio.IncompleteReadError) as error:
            if line is not None:
                await line.close()
            line = None
            raise Unreachable(
                f"Ask the hub at {self.url}", f"the connection broke ({error})", "See the hub's own messages."
            ) from error
        finally:
            self._free.put_nowait(line)


class _Line:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.closed = False

    @classmethod
    async def open(cls, host: str, port: int) -> "_Line":
        return cls(*await asyncio.open_connection(host, port, limit=1 << 22))

    async def ask(self, request: bytes) -> Answer:
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {}
        for row in head[1:-2]:
            name, _, value = row.partition(":")
            headers[name.strip().lower()] = value.strip()
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = await self._chunks()
        else:
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection", "").lower() == "close":
            await self.close()
        return Answer(int(head[0].split(" ", 2)[1]), headers, body)

    async def _chunks(self) -> bytes:
        parts = []
        while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
            parts.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        await self._reader.readuntil(b"\r\n")
        return b"".join(parts)

    async def close(self) -> None:
        self.closed = True
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:  # the other side was faster
            return
