"""Everything but the hot paths as one Litestar application, and the list of the routes that it really has."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin
from litestar.routes import ASGIRoute, HTTPRoute

from sampan.api import slashes
from sampan.base.errors import NotFound, SampanError, Usage

Ask = Request[Any, Any, Any]


class _Site(Litestar):
    """Litestar without its plugins for pydantic and attrs: no handler takes such a class, and to import them where they
    happen to be installed took a fifth of the hub's start.
    """

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return [*plugins, MsgspecDIPlugin()]


def site(handlers: Sequence[BaseRouteHandler], body_limit: int = 16_777_216) -> Litestar:
    """The application. No handler sees a path that the guard has not let through."""
    return _Site(
        route_handlers=list(handlers),
        before_request=_whole,
        openapi_config=None,  # sampan.api.openapi describes every route, those before the router too
        exception_handlers={
            SampanError: _foreseen,
            HTTPException: _http,
            RecursionError: _deep,
            Exception: _unforeseen,
        },
        request_max_body_size=body_limit,
        logging_config=None,
        debug=False,
    )


async def _whole(request: Ask) -> None:
    slashes.restore(request.scope)


def live_routes(site: Litestar) -> Iterable[tuple[str, str]]:
    """Method and path template of every route that the application answers, however it came there."""
    for route in site.routes:
        path = route.path_format
        if isinstance(route, HTTPRoute):
            # OPTIONS is answered by the guard, for every path alike
            yield from ((method, path) for method in route.methods if method != "OPTIONS")
        else:
            yield "ANY" if isinstance(route, ASGIRoute) else "WEBSOCKET", path


def _json(status: int, error: SampanError) -> Response[bytes]:
    headers = {"cache-control": "no-store"}
    if status == 503:
        headers["retry-after"] = "1"
    return Response(
        msgspec.json.encode(error.body()), status_code=status, media_type="application/json", headers=headers
    )


def _foreseen(request: Ask, error: SampanError) -> Response[bytes]:
    return _json(error.status, error)


def _http(request: Ask, error: HTTPException) -> Response[bytes]:
    if error.status_code == 404:
        return _json(
            404, NotFound("Answer a request", f"there is nothing at {slashes.shown(request.url.path)[:200]!r}")
        )
    extra = getattr(error, "extra", None)
    text = f"{error.detail}: {extra}" if extra else error.detail
    return _json(error.status_code, Usage("Read a request", text[:500], "/v1/openapi describes every route."))


def _deep(request: Ask, error: RecursionError) -> Response[bytes]:
    if "deserializing" not in str(error):  # it is our own code that went too deep, not what was sent
        return _unforeseen(request, error)
    return _json(400, Usage("Read a request", "its JSON is nested too deeply", "/v1/openapi describes every route."))


def _unforeseen(request: Ask, error: Exception) -> Response[bytes]:
    from sampan.base.reports import report

    return _json(500, SampanError("Answer a request", f"{type(error).__name__}", f"Details: {report(error)}"))
