"""The outermost layer: how long requests took and what they were answered, a line of the log and a span for each.

Nothing here looks at a body or a query string: a sign-in link carries its code in one.
"""

import logging
import re
import time
from collections.abc import Callable
from itertools import count
from typing import Any, Final

from sampan.api.dispatch import EVENTS, PREDICT
from sampan.api.guard import Asgi, Receive, Scope, Send
from sampan.base.histogram import Histogram
from sampan.base.traces import Traces
from sampan.team.roles import PRINCIPAL

_LOG: Final = logging.getLogger("sampan.requests")
_GIVEN: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: The key of a scope under which the id of its request lies.
REQUEST_ID: Final = "sampan.request_id"


class Requests:
    """How requests went, by method and route: counts by status, and how long they took."""

    def __init__(self) -> None:
        self.statuses: dict[tuple[str, str, int], int] = {}
        self.seconds: dict[tuple[str, str], Histogram] = {}

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        key = (method, route)
        histogram = self.seconds.get(key)
        if histogram is None:
            histogram = self.seconds[key] = Histogram()
        histogram.add(seconds)
        told = (method, route, status)
        self.statuses[told] = self.statuses.get(told, 0) + 1


class Observed:
    """``route`` gives the template of a path: a path has too many values to count by."""

    def __init__(
        self, app: Asgi, requests: Requests, route: Callable[[str], str], instance: str, traces: Traces
    ) -> None:
        self._app, self._requests, self._route = app, requests, route
        self._prefix = instance[:8]
        self._numbers = count(1)
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0
        hot = scope["method"] == "POST" and (scope["path"] == EVENTS or scope["path"].startswith(PREDICT))
        id = self._id(scope)
        tell = not hot or id is not None
        name = id or f"{self._prefix}-{next(self._numbers):x}".encode()
        scope[REQUEST_ID] = name.decode()

        async def noting(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if tell:  # machines that send events and did not name their request have no use for one more header
                    message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", name)]}
            await send(message)

        try:
            if self._traces.on:
                await self._traced(scope, receive, noting, lambda: status)
            else:
                await self._app(scope, receive, noting)
        except Exception:
            status = status or 500
            _LOG.exception("a request failed", extra={"facts": self._facts(scope, status, start)})
            raise
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._requests.add(method, self._route(scope["path"]), status, time.perf_counter() - start)
            level = logging.ERROR if status >= 500 else logging.DEBUG if hot else logging.INFO
            if _LOG.isEnabledFor(level):
                _LOG.log(level, "answered", extra={"facts": self._facts(scope, status, start)})

    async def _traced(self, scope: Scope, receive: Receive, send: Send, status: Callable[[], int]) -> None:
        route, method = self._route(scope["path"]), scope["method"]
        given = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
        facts = {"http.request.method": method, "http.route": route, "sampan.request_id": scope[REQUEST_ID]}
        with self._traces.span(f"{method} {route}", facts, given.decode("latin-1")) as span:
            await self._app(scope, receive, send)
            span.set_attribute("http.response.status_code", status())
            if status() >= 500:
                self._traces.fail(span, str(status()))

    @staticmethod
    def _id(scope: Scope) -> bytes | None:
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                return value if _GIVEN.match(value) else None
        return None

    def _facts(self, scope: Scope, status: int, start: float) -> dict[str, Any]:
        principal = scope.get(PRINCIPAL)
        return {
            "request_id": scope[REQUEST_ID],
            "method": scope["method"],
            "path": scope["path"][:200],
            "status": status,
            "seconds": round(time.perf_counter() - start, 6),
            "who": principal.name if principal else "",
        }
