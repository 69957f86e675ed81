"""Headers that keep a browser from doing more with an answer than the hub means.

They go on everything that a browser may show. Intake and predictions answer machines, in JSON and a header or two:
six more made a single event cost twice as much, most of it in the client.
"""

from collections.abc import Awaitable
from typing import Any, Final

from sampan.api.guard import Asgi, Receive, Scope, Send

HEADERS: Final = [
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


class SecurityHeaders:
    """Around the guard, whose refusals carry the headers too."""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._app(scope, receive, _with_headers(send) if scope["type"] == "http" else send)


def _with_headers(send: Send) -> Send:
    def hardened(message: dict[str, Any]) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*HEADERS, *message.get("headers", ())]}
        return send(message)

    return hardened
