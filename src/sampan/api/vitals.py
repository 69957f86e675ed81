"""Whether the hub lives, whether it is ready, and its figures: for whoever operates it."""

import asyncio
from collections.abc import Callable

import msgspec
from litestar import Response, get
from litestar.handlers import BaseRouteHandler

from sampan.api.exposition import TYPE
from sampan.api.readiness import Alive, Check, Readiness


def vitals(instance: str, checks: Callable[[], list[Check]], metrics: Callable[[], bytes]) -> list[BaseRouteHandler]:
    """The routes. ``checks`` and ``metrics`` may read files and records."""
    plain = {"cache-control": "no-store"}

    @get("/healthz")
    async def healthz() -> Response[bytes]:
        body = msgspec.json.encode(Alive("alive", instance))
        return Response(body, media_type="application/json", headers=plain)

    @get("/readyz")
    async def readyz() -> Response[bytes]:
        found = await asyncio.to_thread(checks)
        ready = all(check.ready for check in found)
        body = msgspec.json.encode(Readiness(ready, instance, found))
        return Response(body, status_code=200 if ready else 503, media_type="application/json", headers=plain)

    @get("/metrics")
    async def figures() -> Response[bytes]:
        body = await asyncio.to_thread(metrics)
        return Response(body, media_type=TYPE, headers=plain)

    return [healthz, readyz, figures]
