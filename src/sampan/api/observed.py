"""The outermost layer: how long requests took and what they were answered, a line of the log and a span for each.

Nothing here looks at a body or a query string: a sign-in link carries its code in one.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Final

from sampan.api.dispatch import INTAKES
from sampan.api.guard import Asgi, Receive, Response, Scope, Send
from sampan.api.mlflow_messages import LOGGED
from sampan.api.predict_paths import PREFIXES
from sampan.base.histogram import Histogram
from sampan.base.traces import Traces
from sampan.team.roles import PRINCIPAL

_LOG: Final = logging.getLogger("sampan.requests")
_GIVEN: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: The status of a request whose client went away before it was answered.
GONE: Final = 499
#: The key of a scope under which the id of its request lies.
REQUEST_ID: Final = "sampan.request_id"


class Kind:
    """How requests of one method to one route went."""

    __slots__ = ("seconds", "statuses")

    def __init__(self) -> None:
        self.seconds = Histogram()
        self.statuses: dict[int, int] = {}

    def add(self, status: int, seconds: float) -> None:
        self.seconds.add(seconds)
        self.statuses[status] = self.statuses.get(status, 0) + 1


class Requests:
    """How requests went, by method and route."""

    def __init__(self) -> None:
        self.kinds: dict[tuple[str, str], Kind] = {}

    def of(self, method: str, route: str) -> Kind:
        kind = self.kinds.get((method, route))
        if kind is None:
            kind = self.kinds[method, route] = Kind()
        return kind


class Observed:
    """``route`` gives the template of a path: a path has too many values to count by.

    Machines that send events, ask for predictions or log metrics are let through to ``bare``, and pay for a count and a
    duration: no header, no line of the log unless it failed. All else goes to ``app``. ``cut_off`` gives the answer to
    a request that the server ends before it is answered; None where it is not the hub that ends.
    """

    def __init__(
        self,
        app: Asgi,
        bare: Asgi,
        requests: Requests,
        route: Callable[[str], str],
        instance: str,
        traces: Traces,
        cut_off: Callable[[Scope], Response | None] = lambda scope: None,
    ) -> None:
        self._cut_off = cut_off
        self._app, self._bare, self._requests, self._route = app, bare, requests, route
        self._prefix = instance[:8]
        self._numbers = count(1)
        self._traces = traces
        self._machines = {path: requests.of("POST", path) for path in (*INTAKES, *LOGGED)}
        self._quick = not traces.on and not _LOG.isEnabledFor(logging.DEBUG)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        kind = self._machine(scope)
        if kind is None or not self._quick:
            await self._observe(scope, receive, send, hot=kind is not None)
            return
        start = time.perf_counter()
        status = GONE

        def noting(message: Any) -> Awaitable[None]:
            nonlocal status
            if "status" in message:
                status = message["status"]
            return send(message)

        try:
            await self._bare(scope, receive, noting)
        except asyncio.CancelledError:
            if status != GONE or (answer := self._cut_off(scope)) is None:
                raise
            await answer.give(noting)
        except Exception:
            status = 500
            _LOG.exception("a request failed", extra={"facts": self._facts(scope, status, start)})
            raise
        finally:
            kind.add(status, time.perf_counter() - start)
            if status >= 500:
                _LOG.error("answered", extra={"facts": self._facts(scope, status, start)})

    def _machine(self, scope: Scope) -> Kind | None:
        """The counts of a request to a path that machines use in great numbers; None for any other."""
        if scope["method"] != "POST":
            return None
        path = scope["path"]
        if (kind := self._machines.get(path)) is not None:
            return kind
        return self._requests.of("POST", self._route(path)) if path.startswith(PREFIXES) else None

    async def _observe(self, scope: Scope, receive: Receive, send: Send, *, hot: bool) -> None:
        start = time.perf_counter()
        status = GONE
        id = self._name(scope).encode()
        app = self._bare if hot else self._app

        def noting(message: Any) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if not hot:
                    message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", id)]}
            return send(message)

        try:
            if self._traces.on:
                await self._traced(app, scope, receive, noting, lambda: status)
            else:
                await app(scope, receive, noting)
        except asyncio.CancelledError:
            if status != GONE or (answer := self._cut_off(scope)) is None:
                raise
            await answer.give(noting)
        except Exception:
            status = 500
            _LOG.exception("a request failed", extra={"facts": self._facts(scope, status, start)})
            raise
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._requests.of(method, self._route(scope["path"])).add(status, time.perf_counter() - start)
            level = logging.ERROR if status >= 500 else logging.DEBUG if hot else logging.INFO
            if _LOG.isEnabledFor(level):
                _LOG.log(level, "answered", extra={"facts": self._facts(scope, status, start)})

    async def _traced(self, app: Asgi, scope: Scope, receive: Receive, send: Send, status: Callable[[], int]) -> None:
        route, method = self._route(scope["path"]), scope["method"]
        given = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
        facts = {"http.request.method": method, "http.route": route, "sampan.request_id": self._name(scope)}
        with self._traces.span(f"{method} {route}", facts, given.decode("latin-1")) as span:
            await app(scope, receive, send)
            span.set_attribute("http.response.status_code", status())
            if status() >= 500:
                self._traces.fail(span, str(status()))

    def _name(self, scope: Scope) -> str:
        """The id of a request: its sender's, if it is fit to be shown, else one of ours."""
        known: str | None = scope.get(REQUEST_ID)
        if known is None:
            given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
            known = given.decode() if _GIVEN.match(given) else f"{self._prefix}-{next(self._numbers):x}"
            scope[REQUEST_ID] = known
        return known

    def _facts(self, scope: Scope, status: int, start: float) -> dict[str, Any]:
        principal = scope.get(PRINCIPAL)
        return {
            "request_id": self._name(scope),
            "method": scope["method"],
            "path": scope["path"][:200],
            "status": status,
            "seconds": round(time.perf_counter() - start, 6),
            "who": principal.name if principal else "",
        }
