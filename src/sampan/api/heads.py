"""The head of an HTTP/1.1 request, and a body that comes in chunks: read by llhttp, as strictly as it can."""

from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import httptools

#: Bytes that a head may have.
LIMIT: Final = 65_536
Malformed = httptools.HttpParserError


class Head(NamedTuple):
    """``scope`` as ASGI has it; ``length``: bytes of the body, None where it comes in chunks; ``keep``: whether the
    connection may stay open; ``expects``: whether the client waits to be told to go on."""

    scope: dict[str, Any]
    length: int | None
    keep: bool
    expects: bool


class _Collected:
    """What llhttp finds."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.size = 0
        self.whole = False

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, part: bytes) -> None:
        self.parts.append(part)
        self.size += len(part)

    def on_message_complete(self) -> None:
        self.whole = True


def read_head(head: bytes) -> Head:
    """Read a head, blank line included. Raises Malformed."""
    found = _Collected()
    parser = httptools.HttpRequestParser(found)
    _feed(parser, head)
    headers, target = found.headers, found.target
    if not target.startswith((b"/", b"*")):
        # GET http://evil.example/ HTTP/1.1 overrules Host: one more of them, and the guard refuses a request with two
        headers.append((b"host", target.partition(b"://")[2].partition(b"/")[0] or target))
    try:
        url = httptools.parse_url(target)
        raw_path, query = url.path or b"/", url.query or b""
        path = raw_path.decode("ascii")
    except (httptools.HttpParserInvalidURLError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from None
    version = parser.get_http_version()
    scope = {
        "type": "http",
        "http_version": version,
        "method": parser.get_method().decode("ascii"),
        "path": unquote(path) if "%" in path else path,
        "raw_path": raw_path,
        "query_string": query,
        "headers": headers,
    }
    length: int | None = 0
    expects = False
    for name, value in headers:
        if name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            length = None
        elif name == b"expect":
            expects = value.lower() == b"100-continue"
    # What follows a body in chunks is not looked for: nobody need work out where it ends.
    keep = version == "1.1" and length is not None and parser.should_keep_alive()
    return Head(scope, length, keep, expects)


class Chunks:
    """The body of a request that comes in chunks; fed with the request from its first byte on."""

    def __init__(self) -> None:
        self._found = _Collected()
        self._parser = httptools.HttpRequestParser(self._found)

    def feed(self, data: bytes) -> None:
        """Raises Malformed."""
        _feed(self._parser, data)

    @property
    def size(self) -> int:
        """Bytes of the body so far."""
        return self._found.size

    @property
    def whole(self) -> bool:
        return self._found.whole

    @property
    def body(self) -> bytes:
        return b"".join(self._found.parts)


def _feed(parser: Any, data: bytes) -> None:
    with suppress(httptools.HttpParserUpgrade):  # nothing else is spoken here: as if it had not been asked for
        parser.feed_data(data)
